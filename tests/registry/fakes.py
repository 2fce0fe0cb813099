"""Distributions that exist for a test alone: a folder on the path with dist-info and modules."""

from pathlib import Path

HEAD = """\
import zoo

@zoo.hookimpl
def zoo_heads():
    return [zoo.HeadPart({name!r}, build="a:b", metrics=dict(accuracy="max"))]
"""
"""A plugin that offers one head."""


def head(name: str) -> str:
    """The source of a plugin that offers the head `name`."""
    return HEAD.format(name=name)


def install(
    folder: Path,
    distribution: str,
    points: dict[str, str],
    version: str = "1.0",
    api: dict[str, str] | None = None,
    verbs: dict[str, str] | None = None,
    **modules: str,
) -> None:
    """Put a distribution with entry points into `folder`. `api` is what each plugin says, "v1_0" when None."""
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    groups = {"zoo": points, "zoo.api": dict.fromkeys(points, "v1_0") if api is None else api, "zoo.commands": verbs}
    text = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in (found or {}).items())
        for group, found in groups.items()
    )
    (info / "entry_points.txt").write_text(text)
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)


BROKEN = {
    "no-module": "import no_such_module_at_all",
    "no-syntax": "def",
    "misspelt": "import zoo\n@zoo.hookimpl\ndef zoo_haeds():\n    return []\n",
    "wrong-argument": "import zoo\n@zoo.hookimpl\ndef zoo_heads(recipe):\n    return []\n",
    "raises": "import zoo\n@zoo.hookimpl\ndef zoo_heads():\n    raise RuntimeError('no')\n",
    "raises-late": (
        "import zoo\n@zoo.hookimpl\ndef zoo_heads():\n    yield zoo.HeadPart('mine', build='a:b')\n    1 / 0\n"
    ),
    "wrong-type": "import zoo\n@zoo.hookimpl\ndef zoo_heads():\n    return ['linear']\n",
    "twice": "import zoo\n@zoo.hookimpl\ndef zoo_heads():\n    return [zoo.HeadPart('mine', build='a:b')] * 2\n",
    "exits": "import sys\nprint('spoilt')\nsys.exit(3)\n",
    "zz-sleeps": "import time\nimport warnings\nprint('spoilt')\nwarnings.warn('old')\ntime.sleep(30)\n",
}
"""A broken plugin each, by the distribution's name; the slow one last, for those after it have less time."""


def install_broken(folder: Path) -> None:
    """Install all that is broken."""
    for name, source in BROKEN.items():
        module = f"broken_{name.replace('-', '_')}"
        install(folder, name, {name: module}, **{module: source})
