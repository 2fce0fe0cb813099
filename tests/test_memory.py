import subprocess
import sys

import pytest

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
