"""Checks of a plugin as a whole: what every zoo command pays for it, and what it says of itself."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from zoo.installed import named
from zoo.registry.deadline import HEAVY
from zoo.registry.discovery import GROUP, Plugin
from zoo.registry.registry import load_registry
from zoo.testing.kit import ConformanceError, NotTriedError

SECONDS = 0.5
"""What importing a plugin may take."""

ALONE = "processes that a run starts import it by its name, and nothing of zoo's beforehand"

PROBE = """
import contextlib, importlib, io, json, os, signal, sys, time, warnings
module, heavy, sys.path[:] = json.loads(sys.argv.pop())
import zoo.registry, zoo.registry.builtin.plugin
def world():
    handlers = [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    return {"os.environ": dict(os.environ), "the working directory": os.getcwd(), "sys.argv": list(sys.argv),
            "sys.path": list(sys.path), "the signal handlers": handlers, "the warnings' filters": str(warnings.filters)}
before, printed, started = world(), io.StringIO(), time.perf_counter()
with contextlib.redirect_stdout(printed):
    importlib.import_module(module)
seconds, after = time.perf_counter() - started, world()
print(json.dumps({"seconds": seconds, "printed": printed.getvalue(),
    "heavy": [name for name in heavy if name in sys.modules],
    "changed": [name for name in before if before[name] != after[name]]}))
"""


@dataclass(frozen=True)
class Probed:
    """What importing a plugin's module did to a new process."""

    seconds: float
    printed: str
    heavy: list[str]
    changed: list[str]


def probe(plugin: Plugin) -> Probed:
    """Import a plugin's module in a new process. ConformanceError: it cannot be; NotTriedError: it is a file."""
    module = _module(plugin)
    given = json.dumps([module, HEAVY, sys.path])
    done = subprocess.run([sys.executable, "-c", PROBE, given], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConformanceError("light import", f"{module} imported alone", done.stderr.strip().splitlines()[-1], ALONE)
    return Probed(**json.loads(done.stdout.splitlines()[-1]))


def _module(plugin: Plugin) -> str:
    owner = plugin.owner
    if owner.is_zoo:
        return "zoo.registry.builtin.plugin"
    for one in named(GROUP):
        if (one.distribution, one.point.name) == (owner.distribution, owner.plugin):
            return one.point.value.partition(":")[0].strip()
    raise NotTriedError("it is a file, not an installed distribution")


@dataclass(frozen=True)
class PluginCase:
    """One check of a plugin as a whole."""

    plugin: Plugin
    name: str
    expected: str
    why: str
    came: Callable[[Plugin], str]
    slow: bool = False

    def __str__(self) -> str:
        return f"plugin {self.plugin.owner.plugin}: {self.name}"

    def run(self) -> None:
        """Try it. ConformanceError: it fails. NotTriedError: there is nothing to try."""
        came = self.came(self.plugin)
        if came:
            raise ConformanceError(self.name, self.expected, came, self.why)


def _loads(plugin: Plugin) -> str:
    if plugin.state == "blocked":
        raise NotTriedError("it is left out")
    return "" if plugin.state == "ok" else f"{plugin.state}: {plugin.reason}"


def _imports(plugin: Plugin) -> str:
    if plugin.state != "ok":
        raise NotTriedError("it does not load")
    found = probe(plugin)
    if found.seconds > SECONDS:  # what is slow is slow twice; a busy machine is not
        found = min(found, probe(plugin), key=attrgetter("seconds"))
    faults = [
        f"{found.seconds:.2f} s" if found.seconds > SECONDS else "",
        f"it imports {', '.join(found.heavy)}" if found.heavy else "",
        f"it changes {', '.join(found.changed)}" if found.changed else "",
        f"it prints {found.printed[:60]!r}" if found.printed else "",
    ]
    return "; ".join(filter(None, faults))


def _own_names(plugin: Plugin) -> str:
    if plugin.owner.is_zoo:
        raise NotTriedError("they are zoo's own")
    own = {(part.kind, part.name) for part in load_registry(candidates=()).plugins[0].parts}
    return ", ".join(f"{part.kind.name} {part.name}" for part in plugin.parts if (part.kind, part.name) in own)


def _says_api(plugin: Plugin) -> str:
    return "" if plugin.api is not None else "nothing"


def plugin_cases(plugin: Plugin) -> tuple[PluginCase, ...]:
    """Return the checks of a plugin as a whole."""
    return (
        PluginCase(plugin, "loads", "a plugin that loads", "a broken one offers nothing", _loads),
        PluginCase(
            plugin,
            "light import",
            f"an import within {SECONDS} s, of nothing heavy, that prints and changes nothing",
            "every zoo command imports it, `zoo list` and `zoo check` included",
            _imports,
        ),
        PluginCase(
            plugin,
            "names",
            "names of parts that none of zoo's own has",
            "whoever installs the plugin could not use zoo's own part of that name any more",
            _own_names,
        ),
        PluginCase(
            plugin,
            "api version",
            "the version of zoo's plugin API that it was built for, in the entry-point group zoo.api",
            "a zoo that is too old or too new says so in a line, instead of failing in the middle of a run",
            _says_api,
        ),
    )
