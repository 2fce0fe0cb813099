import pytest

from zoo.cli.main import run


@pytest.fixture
def zoo(capsys):
    """Call the command in this process; return (exit status, standard output, standard error)."""

    def call(*arguments):
        status = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call
