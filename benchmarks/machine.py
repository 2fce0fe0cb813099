"""What a figure was measured on."""

import os
import platform
from importlib.metadata import version


def describe() -> str:
    """Return processor, cores, Python and the versions of torch and timm, in a line."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), name)
    return (
        f"{name}, {os.cpu_count()} cores; Python {platform.python_version()}, torch {version('torch')}, "
        f"timm {version('timm')}"
    )
