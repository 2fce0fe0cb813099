import subprocess
import sys

import pytest

from zoo.memory import GARBAGE, start_method

FREE_AND_ASK_AGAIN = """
import resource
from zoo.memory import settle

settle()
bytearray(64 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    bytearray(64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(monkeypatch, **environment):
    """Page faults of ten allocations of 64 MiB, each freed before the next."""
    for name in ("MALLOC_MMAP_MAX_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", FREE_AND_ASK_AGAIN], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_memory_is_used_again_unless_the_environment_says_otherwise(monkeypatch):
    settled = faults(monkeypatch)
    assert settled < faults(monkeypatch, MALLOC_ARENA_MAX="8") / 5
    assert settled < faults(monkeypatch, GLIBC_TUNABLES="glibc.malloc.arena_max=8") / 5


def test_python_looks_for_cycles_less_often():
    asked = "import gc; from zoo.memory import settle; print(*gc.get_threshold()); settle(); print(*gc.get_threshold())"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    before, after = ([int(number) for number in line.split()] for line in done.stdout.splitlines())
    assert after == [GARBAGE, *before[1:]]
    assert before[0] < GARBAGE


def test_how_processes_that_train_are_started():
    assert start_method() == ("spawn" if sys.platform == "win32" else "forkserver")


PRELOADED = """
import multiprocessing, sys
from multiprocessing.forkserver import _forkserver as server
from time import perf_counter
from zoo.memory import preload, start_method


def look(connection):
    connection.send(("zoo.run" in sys.modules, "torch" in sys.modules))


if __name__ == "__main__":
    began = perf_counter()
    preload()
    waited = perf_counter() - began
    begun = server._forkserver_pid is not None
    context = multiprocessing.get_context(start_method())
    mine, theirs = context.Pipe()
    process = context.Process(target=look, args=(theirs,))
    process.start()
    print(begun, mine.recv(), "torch" in sys.modules, waited < perf_counter() - began - waited)
    process.join()
"""


@pytest.mark.slow
@pytest.mark.skipif(start_method() != "forkserver", reason="there is no server to import anything")
def test_processes_that_train_begin_with_their_imports(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(PRELOADED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True (True, True) False True\n", "")
