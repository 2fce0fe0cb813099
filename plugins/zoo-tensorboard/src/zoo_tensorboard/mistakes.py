"""Mistakes for people: the image over its caption, and a table that names the images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import zoo
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIDE = 224
"""The longer side of a shown image in pixels: smaller ones are enlarged without smoothing, larger ones reduced."""
LINE = 18
"""The height of a line of the caption in pixels."""


def captioned(mistake: zoo.Mistake, classes: Sequence[str]) -> NDArray[np.uint8] | None:
    """Return the image over its caption, uint8 (H, W, 3); None when it cannot be read any more."""
    try:
        image = mistake.image()
    except (OSError, ValueError):
        return None
    scale = SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    sized = image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
    lines = caption(mistake, classes)
    page = Image.new("RGB", (SIDE, sized.height + LINE * len(lines)), "white")
    page.paste(sized, ((SIDE - sized.width) // 2, 0))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for place, line in enumerate(lines):
        draw.text((4, sized.height + place * LINE), line, fill="black", font=font)
    found: Any = np.asarray(page)
    return found  # type: ignore[no-any-return]


def caption(mistake: zoo.Mistake, classes: Sequence[str]) -> tuple[str, str]:
    """Return the two lines below an image: what it is, and what it was taken for."""
    taken = f"taken for {classes[mistake.predicted]}, {100 * mistake.probability:.1f} %"
    return f"is {classes[mistake.target]}", taken


def table(mistakes: Sequence[zoo.Mistake], classes: Sequence[str]) -> str:
    """Return the mistakes as a Markdown table."""
    rows = [
        (str(place), one.identity, classes[one.target], classes[one.predicted], f"{100 * one.probability:.1f} %")
        for place, one in enumerate(mistakes, start=1)
    ]
    head = ("", "image", "is", "taken for", "probability"), ("---",) * 5
    return "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in (*head, *rows))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
