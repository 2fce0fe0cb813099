"""What the audit costs: its share of the whole time of `recipes/resnet50_cls.toml`.

AMD EPYC, 2 cores; torch 2.14.1, timm 1.0.31: 0.31 s of 135.9 s, 0.23 %.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from machine import describe

import zoo
from zoo.freeze.audit import Audit

BAR = 0.01
ROOT = Path(__file__).resolve().parents[1]
PARTS = ("leave", "enter", "before_step", "after_step", "check_still", "note_heads", "report")


def timed(method: Callable[..., Any], spent: list[float], depth: list[int]) -> Callable[..., Any]:
    """Return the method, its outermost calls added up in `spent`."""

    def call(*given: Any, **named: Any) -> Any:
        depth[0] += 1
        started = time.perf_counter()
        try:
            return method(*given, **named)
        finally:
            depth[0] -= 1
            if not depth[0]:
                spent[0] += time.perf_counter() - started

    return call


def main() -> int:
    print(describe())
    spent, depth = [0.0], [0]
    for name in PARTS:
        setattr(Audit, name, timed(getattr(Audit, name), spent, depth))
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        zoo.finetune(zoo.load_recipe(ROOT / "recipes/resnet50_cls.toml"), Path(folder) / "run")
        whole = time.perf_counter() - started
    print(f"audit {spent[0]:.2f} s of {whole:.1f} s: {100 * spent[0] / whole:.2f} % (bar {100 * BAR:.0f} %)")
    return int(spent[0] / whole > BAR)


if __name__ == "__main__":
    sys.exit(main())
