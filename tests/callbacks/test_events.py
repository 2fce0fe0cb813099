"""The run's own plugin manager."""

import pytest

from tests.callbacks.events import evaluated
from zoo.callbacks import make_events
from zoo.errors import PluginError
from zoo.registry.events import Evaluated
from zoo.registry.hookspecs import hookimpl


class Noting:
    """Notes its name, and perhaps stops the run."""

    def __init__(self, name: str, notes: list[str], reason: str | None = None) -> None:
        self.name, self.notes, self.reason = name, notes, reason

    @hookimpl
    def evaluated(self, event: Evaluated) -> None:
        self.notes.append(self.name)

    @hookimpl
    def should_stop(self) -> str | None:
        self.notes.append(self.name)
        return self.reason


def test_callbacks_are_called_in_the_recipe_s_order() -> None:
    notes: list[str] = []
    events = make_events({name: Noting(name, notes) for name in "cab"})
    events.evaluated(event=evaluated(0))
    assert notes == ["c", "a", "b"]


def test_the_first_reason_to_stop_counts() -> None:
    notes: list[str] = []
    events = make_events({name: Noting(name, notes, reason) for name, reason in (("a", None), ("b", "x"), ("c", "y"))})
    assert events.should_stop(history=()) == "x"
    assert notes == ["a", "b"]


def test_without_callbacks_nothing_happens() -> None:
    events = make_events({})
    assert events.evaluated(event=evaluated(0)) == []
    assert events.should_stop(history=()) is None


def test_each_run_has_its_own_callbacks() -> None:
    notes: list[str] = []
    make_events({"a": Noting("a", notes)})
    make_events({}).evaluated(event=evaluated(0))
    assert notes == []


def test_a_misspelt_event() -> None:
    class Bell:
        @hookimpl
        def run_over(self, event: object) -> None: ...

    bell = Bell()
    with pytest.raises(PluginError) as caught:
        make_events({"bell": bell})
    assert str(caught.value) == (
        f"callback 'bell' does not fit the events of a run: unknown hook 'run_over' in plugin {bell!r}"
    )


def test_an_argument_that_the_event_does_not_have() -> None:
    class Bell:
        @hookimpl
        def run_ended(self, happening: object) -> None: ...

    with pytest.raises(PluginError) as caught:
        make_events({"bell": Bell()})
    assert str(caught.value) == (
        "callback 'bell' does not fit the events of a run: Plugin 'bell' for hook 'run_ended'\n"
        "hookimpl definition: run_ended(happening: object) -> None\n"
        "Argument(s) {'happening'} are declared in the hookimpl but can not be found in the hookspec"
    )
