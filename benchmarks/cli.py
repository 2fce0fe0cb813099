"""How long the light verbs take, as whole processes.

Medians of 15, AMD EPYC, 2 cores; Python 3.11.7: `zoo --help` 0.120 s, `zoo check RECIPE` 0.314 s.
"""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from machine import describe

ROOT = Path(__file__).resolve().parents[1]
ZOO = str(Path(sys.executable).with_name("zoo"))
REPEATS = 15
BARS = {  # seconds
    ("--help",): 0.35,
    ("check", "recipes/resnet50_cls.toml"): 0.8,
}


def seconds(arguments: tuple[str, ...]) -> float:
    """Return the wall time of one call."""
    started = time.perf_counter()
    subprocess.run([ZOO, *arguments], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> int:
    print(describe())
    missed = 0
    for arguments, bar in BARS.items():
        seconds(arguments)  # the first call writes .pyc files
        times = [seconds(arguments) for _ in range(REPEATS)]
        missed += median(times) > bar
        name = " ".join(("zoo", *arguments))
        print(f"{name:<40} median {median(times):.3f} s  (min {min(times):.3f}, max {max(times):.3f}; bar {bar} s)")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
