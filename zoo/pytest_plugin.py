"""pytest's part: a test that takes `zoo_case` runs once for every check of a plugin's parts.

@pytest.mark.zoo_plugin("my_plugin")
def test_it_conforms(zoo_case):
    zoo_case.run()
"""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from zoo.testing.cases import AnyCase

FIXTURE = "zoo_case"
MARK = "zoo_plugin"


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", f"{MARK}(name): the installed plugin of zoo that `{FIXTURE}` is about")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that takes `zoo_case` every case of the plugin that its mark names. PluginError: there is none."""
    if FIXTURE not in metafunc.fixturenames:
        return
    mark = metafunc.definition.get_closest_marker(MARK)
    if mark is None or len(mark.args) != 1:
        raise pytest.UsageError(f'{metafunc.definition.nodeid}: say which plugin: @pytest.mark.{MARK}("my_plugin")')
    metafunc.parametrize(FIXTURE, [_parameter(case) for case in _cases(str(mark.args[0]))])


def _cases(name: str) -> "list[AnyCase]":
    from zoo.registry import load_registry
    from zoo.testing import cases

    return list(cases(name, load_registry()))


def _parameter(case: "AnyCase") -> Any:
    marks = [pytest.mark.slow] if case.slow else []
    return pytest.param(case, id=str(case).replace(": ", "-").replace(" ", "_"), marks=marks)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    """Skip, with its reason, a check that has nothing to try."""
    if not isinstance(item, pytest.Function) or FIXTURE not in item.fixturenames:
        return (yield)
    from zoo.testing.kit import NotTriedError

    try:
        return (yield)
    except NotTriedError as reason:
        pytest.skip(str(reason))
