"""New plugins: a whole project for a part of any kind, which passes its own tests."""

from zoo.scaffold.project import Project, describe, write

__all__ = ["Project", "describe", "write"]
