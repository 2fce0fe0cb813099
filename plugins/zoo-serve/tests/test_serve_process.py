"""The verb: what it prints, how it ends, and what it refuses."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
import zoo
from serving import picture, predictor, until
from zoo.cli.main import run

from zoo_serve.command import name_of, size_of
from zoo_serve.server import address, listen

MODEL = ("--artefact", "model.onnx", "--device", "cpu")
SERVE = """
import sys, time
sys.path.insert(0, {tests!r})
import zoo
from serving import colours, predictor
def slowly(images):
    time.sleep({seconds})
    return colours(images)
zoo.load = lambda path, **options: predictor(slowly)
from zoo.cli.main import run
status = run(["serve", "runs/flowers/export", "--port", "0", "--timeout", "20"])
print("ended", status)
sys.exit(status)
"""


@pytest.fixture
def started():
    """Start `zoo serve` in a process whose network takes some seconds; return the process and its URL."""
    processes = []

    def start(seconds):
        code = SERVE.format(tests=str(Path(__file__).parent), seconds=seconds)
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        processes.append(process)
        line = process.stdout.readline()
        words = line.split()
        assert words[:3] == ["serving", "flowers", "at"], process.stderr.read()
        return process, words[3]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_signal_finishes_what_is_under_way_and_ends_with_status_0(started):
    process, url = started(3.0)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(httpx.post(f"{url}predict", content=picture(), timeout=20)))
    asking.start()
    assert until(lambda: "zoo_queue_length 1.0" in httpx.get(f"{url}metrics").text)
    process.send_signal(signal.SIGTERM)
    asking.join()
    out, err = process.communicate(timeout=20)
    assert (answers[0].status_code, process.returncode, out, err) == (200, 0, "ended 0\n", "")
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


@pytest.mark.slow
def test_ctrl_c_ends_it_and_a_second_one_does_not_wait(started):
    process, url = started(0.0)
    with socket.create_connection(("127.0.0.1", httpx.URL(url).port)) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n")  # and no body
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.7)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=15)
    assert (process.returncode, out, err) == (0, "ended 0\n", "")


@pytest.fixture
def serve(capsys, monkeypatch):
    """Call `zoo serve` in this process with a stand-in for zoo.load; return (status, output, errors)."""

    def call(*arguments, load=None):
        monkeypatch.setattr(zoo, "load", load, raising=False)
        status = run(["serve", *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def test_a_port_in_use_is_refused(serve):
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert serve("x", "--port", port) == (
            2,
            "",
            f"error: port {port} of 127.0.0.1 cannot be had: Address already in use\n"
            "  mend:  --port 0 takes a free one\n",
        )


def test_a_host_that_is_not_this_computer_is_refused(serve):
    status, out, err = serve("x", "--host", "192.0.2.1", "--port", "0")
    assert (status, out) == (2, "")
    assert err.startswith("error: port 0 of 192.0.2.1 cannot be had: Cannot assign requested address\n")
    status, _, err = serve("x", "--host", "no such host")
    assert (status, err.startswith("error: the host 'no such host' is not known: ")) == (2, True)


def test_a_bundle_that_cannot_be_loaded_is_refused(serve):
    def load(path, device, **options):
        raise zoo.ZooError(f"there is no {str(path)!r} on {device}", hint="look again")

    assert serve("nothing", "--port", "0", "--device", "cpu", load=load) == (
        2,
        "",
        "error: there is no 'nothing' on cpu\n  mend:  look again\n",
    )


def test_a_fault_while_loading_is_a_traceback(serve):
    def load(path, **options):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        serve("nothing", "--port", "0", load=load)


@pytest.mark.parametrize(
    ("text", "size"), [("20MB", 20_000_000), ("500 kB", 500_000), ("1.5mb", 1_500_000), ("1GB", 10**9), ("77", 77)]
)
def test_sizes(text, size):
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "MB", "0", "-1MB", "20MiB", "many"])
def test_what_is_no_size(serve, text):
    assert serve("x", f"--max-bytes={text}") == (
        2,
        "",
        f"error: --max-bytes {text} is no size\n  mend:  write 500kB, 20MB or a number of bytes\n",
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [("runs/a/export", "a"), ("models/flowers", "flowers"), ("flowers.zip", "flowers"), ("v1.5/", "v1.5")],
)
def test_a_bundles_name(path, name):
    assert name_of(Path(path)) == name


def test_ipv6_addresses_are_written_as_such():
    try:
        bound = listen("::1", 0)
    except zoo.ZooError as error:
        pytest.skip(str(error))
    with bound:
        assert address(bound) == f"http://[::1]:{bound.getsockname()[1]}/"


def test_help_shows_an_example_and_imports_nothing_heavy():
    code = (
        "import json, sys; from zoo.cli.main import run; run(['serve', '--help']);"
        "print(json.dumps([n for n in ('torch', 'PIL', 'fastapi', 'uvicorn') if n in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Example: zoo serve runs/" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_what_the_loaded_model_is_told(monkeypatch, capsys):
    """The verb passes bundle and device to zoo.load, and its options to the server."""
    told = {}

    def load(path, device, artefact, registry):
        told["load"] = (path, device, artefact, registry.blocked)
        return predictor()

    def serve(load, name, settings, host, port):
        told["run"] = (load().classes, name, settings.max_bytes, settings.batch, settings.wait, host, port)

    monkeypatch.setattr(zoo, "load", load, raising=False)
    monkeypatch.setattr("zoo_serve.server.run", serve)
    assert run(["serve", "b", "--name", "n", "--max-bytes", "1MB", "--batch", "4", "--wait-ms", "2", *MODEL]) == 0
    assert told == {
        "load": (Path("b"), "cpu", "model.onnx", ()),
        "run": (("red", "green", "blue"), "n", 1_000_000, 4, 0.002, "127.0.0.1", 8000),
    }
