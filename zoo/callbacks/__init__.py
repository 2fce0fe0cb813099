"""Callbacks: objects whose hookimpls observe a run."""

from zoo.callbacks.events import make_events

__all__ = ["make_events"]
