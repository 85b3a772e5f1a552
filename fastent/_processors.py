"""How many processors this process may use: its affinity, then the quota of its control groups."""

from __future__ import annotations

import functools
import math
import os
import re


def usable() -> int:
    """At least 1; the affinity may change, the quota is that of the first time."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, min(count, quota()))


@functools.cache
def quota(proc: str = "/proc/self") -> int:
    """Processors that the control groups, of version 2 or 1, allow at one time, rounded up; a great
    many where they set no limit. Containers are given half a processor, or all of 64 for a share of
    the time: more threads than that are put to sleep in the middle of their work."""
    least = math.inf
    for group, root, place, names in _groups(proc):
        inside = os.path.relpath(group, root) if _within(group, root) else "."
        while True:
            least = min(least, _limit(os.path.join(place, inside), names))
            if inside == ".":
                break
            inside = os.path.dirname(inside) or "."
    return 1 << 20 if least == math.inf else max(1, math.ceil(least))


def _within(group: str, root: str) -> bool:
    return root == "/" or group == root or group.startswith(root + "/")


def _groups(proc: str) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Path of this process's group, and root and place of the mount it is in, and its files."""
    own: dict[str, str] = {}
    for line in _lines(f"{proc}/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            own["cgroup" if controllers else "cgroup2"] = path
    found: list[tuple[str, str, str, tuple[str, ...]]] = []
    for line in _lines(f"{proc}/mountinfo"):
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, place = (re.sub(r"\\(\d{3})", _octal, word) for word in before.split(" ")[3:5])
        if kind == "cgroup2" and kind in own:
            found.append((own[kind], root, place, ("cpu.max",)))
        elif kind == "cgroup" and kind in own and "cpu" in options.split(","):
            found.append((own[kind], root, place, ("cpu.cfs_quota_us", "cpu.cfs_period_us")))
    return found


def _octal(found: re.Match[str]) -> str:
    return chr(int(found[1], 8))


def _limit(place: str, names: tuple[str, ...]) -> float:
    """Quota over period of one group; inf if it has none, or says what we do not know."""
    words = [word for name in names for line in _lines(f"{place}/{name}") for word in line.split()]
    try:
        quota, period = (int(word) for word in words)
    except ValueError:  # "max", or no such files
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read().splitlines()
    except OSError:  # another system, or not for us to see
        return []
