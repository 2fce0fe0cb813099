"""A store on a server: what is asked of it, what is printed, and one that does not answer."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import zoo
from test_mlflow_events import begun, step

from zoo_mlflow import store
from zoo_mlflow.store import connect

REFUSED = """\
MLflow cannot track the run: {}
  where: {}
  mend:  mend the store, then go on with --resume; or leave the callback out: --set callback=[]"""


class Tracking(BaseHTTPRequestHandler):
    """As much of MLflow's REST interface as a run needs, for one run; it keeps what it is told."""

    told: dict[str, Any]

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].removeprefix("/api/2.0/mlflow/")
        if name == "experiments/get-by-name":
            self._answer({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}, 404)
        elif name == "runs/get":
            self._answer({"run": self.told["run"]})
        else:
            self._answer({}, 404)

    def do_POST(self) -> None:
        name = self.path.removeprefix("/api/2.0/mlflow/")
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        run = self.told["run"]
        if name == "runs/log-batch":
            run["data"]["params"] += said.get("params", [])
            run["data"]["metrics"] += said.get("metrics", [])
        elif name == "runs/set-tag":
            run["data"]["tags"].append({"key": said["key"], "value": said["value"]})
        elif name == "runs/update":
            run["info"]["status"] = said["status"]
        self._answer({"experiment_id": "1", "run": run, "run_info": run["info"]})

    def _answer(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[tuple[str, dict[str, Any]]]:
    """The URL of a server, and what it is told."""
    info = {"run_id": "r1", "run_uuid": "r1", "experiment_id": "1", "status": "RUNNING", "artifact_uri": "file:///a"}
    told: dict[str, Any] = {"run": {"info": info, "data": {"params": [], "metrics": [], "tags": []}}}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Tracking,), {"told": told}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_server_is_told_all_and_nothing_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`zoo finetune --json` prints JSON; MLflow would add where its pages are."""
    with serving() as (url, told):
        callback = begun(tmp_path, url)
        callback.step_ended(step(1))
        callback.run_ended(zoo.RunEnded("finished", 1.0, None))
        data = told["run"]["data"]
    assert told["run"]["info"]["status"] == "FINISHED"
    assert {metric["key"] for metric in data["metrics"]} == {"train/step_loss", "rate/x1", "rate/x0.1"}
    assert {"key": "run.epochs", "value": "2"} in data["params"]
    assert {"key": "zoo.reason", "value": "finished"} in data["tags"]
    assert capsys.readouterr() == ("", "")


def test_a_server_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    began = monotonic()
    with pytest.raises(zoo.ZooError) as refused:
        begun(tmp_path, "http://127.0.0.1:9")
    what = "the server does not answer: [Errno 111] Connection refused"
    assert str(refused.value) == REFUSED.format(what, "http://127.0.0.1:9")
    assert monotonic() - began < 30, "MLflow alone asks for four minutes"


def test_a_server_that_says_nothing_is_refused_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PATIENCE", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(zoo.ZooError) as refused:
            begun(tmp_path, url)
    assert str(refused.value) == REFUSED.format("the server does not answer: timed out", url)


def test_what_answers_is_for_mlflow_to_judge(tmp_path: Path) -> None:
    with serving() as (url, _):
        assert connect(tmp_path, f"{url}/no/such/page", "") is not None
