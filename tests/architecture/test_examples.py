"""Every verb's help shows an example, and its arguments are ones that the verb takes."""

import shlex

import pytest
from typer.main import get_command

from zoo.cli.main import app

VERBS = get_command(app).commands


@pytest.mark.parametrize("name", VERBS)
def test_the_example_in_a_verbs_help_parses(name):
    verb = VERBS[name]
    (example,) = [line for line in verb.help.splitlines() if line.startswith("Example: zoo ")]
    command, *arguments = shlex.split(example.removeprefix("Example: zoo ").partition(">")[0])
    assert command == name
    with verb.make_context(name, list(arguments)) as context:
        assert context.info_name == name
