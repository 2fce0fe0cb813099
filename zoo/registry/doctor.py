"""What is not plainly well with the plugins, and how to mend each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from zoo.registry.api import API
from zoo.registry.clashes import Clash, find_clashes
from zoo.registry.discovery import Plugin
from zoo.registry.owner import Owner
from zoo.registry.registry import ways_out


@dataclass(frozen=True)
class Finding:
    """One thing about a plugin: what, where (FILE:LINE), and how to mend it. `fails` says that something is wrong."""

    owner: Owner
    trouble: str
    mend: str
    where: str = ""
    fails: bool = True


def examine(plugins: Sequence[Plugin]) -> list[Finding]:
    """Return everything about the plugins that is not plainly well, in their order."""
    clashes = find_clashes(plugins)
    return [finding for plugin in plugins for finding in _look_at(plugin, clashes.get(plugin.owner, ()))]


def _look_at(plugin: Plugin, clashes: Sequence[Clash]) -> Iterator[Finding]:
    owner = plugin.owner
    if plugin.state != "ok":
        trouble = f"{plugin.state}: {plugin.reason}"
        yield Finding(owner, trouble, plugin.mend, plugin.where, fails=plugin.state != "blocked")
    for clash in clashes:
        both = [owner, *clash.others]
        uninstall = _uninstall(both)
        mend = ways_out(both) + (f", or uninstall one: {uninstall}" if uninstall else "")
        yield Finding(owner, f"clash: {clash}; its other parts work", mend)
    for place in plugin.shadowed:
        mend = f"pip uninstall {owner.distribution}, until none is left, then install one"
        yield Finding(owner, f"lies twice on the path: not used is {place}", mend)
    if plugin.api is None:
        minor = API.replace(".", "_")
        mend = f'its author adds [project.entry-points."zoo.api"] with {owner.plugin} = "v{minor}"'
        yield Finding(owner, "does not say which plugin API it was built for; it is used", mend, fails=False)


def _uninstall(owners: Sequence[Owner]) -> str:
    names = {owner.distribution for owner in owners if not owner.is_zoo and owner.file is None}
    return " or ".join(f"pip uninstall {name}" for name in sorted(names))
