"""Every verb's help shows an example, and its arguments are ones that the verb takes."""

import shlex

import pytest
from typer.main import get_command

from zoo.cli.main import app

COMMANDS = get_command(app).commands
VERBS = {(name,): command for name, command in COMMANDS.items() if name != "weights"}
VERBS |= {("weights", name): command for name, command in COMMANDS["weights"].commands.items()}


@pytest.mark.parametrize("name", VERBS, ids=" ".join)
def test_the_example_in_a_verbs_help_parses(name):
    verb = VERBS[name]
    (example,) = [line for line in verb.help.splitlines() if line.startswith("Example: zoo ")]
    words = shlex.split(example.removeprefix("Example: zoo ").partition(">")[0])
    arguments = words[len(name) :]
    assert tuple(words[: len(name)]) == name
    with verb.make_context(name[-1], arguments) as context:
        assert context.info_name == name[-1]
