import subprocess
import sys

AT_EXIT = """
import atexit, threading, time
from zoo.cli.process import leave

atexit.register(print, "handled")
threading.Thread(target=lambda: (time.sleep(0.2), print("joined"))).start()
leave(3)
"""


def test_leaving_waits_for_threads_runs_exit_handlers_and_loses_no_output(monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    done = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "joined\nhandled\n", "")
