"""What the figures were measured on: processor, cores, memory, versions, fastent's settings."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from bench.rivals import RIVALS


def cores() -> int:
    """CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def available_memory() -> float:
    """Bytes that can be used without swapping; half the memory where the system does not say."""
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable"):
                return float(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2


def versions() -> dict[str, str | None]:
    """Version of Python and of each rival's library, None for those not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for rival in RIVALS:
        found[rival.library] = rival.version()
    return found


def describe(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "fastent": config,
        "versions": versions(),
        "command": ["python", "-m", "bench", *sys.argv[1:]],
    }
