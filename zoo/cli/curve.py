"""A curve as lines of text, in the block characters that every terminal's fonts have."""

from collections.abc import Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"
ROWS = 8
LABELS = 12
"""Columns left of the plot: as wide as the labels of lines."""


def draw(values: Sequence[float], marks: Sequence[int], ends: tuple[str, str]) -> list[str]:
    """Return the area under `values` (none negative), a column each, ROWS rows high, with its largest value labelled.

    `marks` are columns to mark from top to bottom; `ends` are written below the first column and the last one.
    """
    top = max(values)
    steps = len(BLOCKS) - 1
    heights = [round(value / top * ROWS * steps) if top else 0 for value in values]
    lines = []
    for row in reversed(range(ROWS)):
        cells = [BLOCKS[min(max(height - row * steps, 0), steps)] for height in heights]
        marked = ["┊" if column in marks and cell == " " else cell for column, cell in enumerate(cells)]
        label = f"{top:.3g} ┤" if row == ROWS - 1 else "│"
        lines.append(f"{label:>{LABELS + 1}}{''.join(marked)}".rstrip())
    axis = "".join("┴" if column in marks else "─" for column in range(len(values)))
    first, last = ends
    below = f"{first}{last:>{len(values) - len(first)}}"
    return [*lines, f"{'0 └':>{LABELS + 1}}{axis} {values[-1]:.3g}", f"{'':{LABELS + 1}}{below}"]
