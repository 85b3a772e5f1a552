"""Ctrl-C while the command is still importing ends it as later on: quietly, with exit code 130.

Only in a process that was started as the command; elsewhere importing fastent touches no signal.
"""

from __future__ import annotations

import os
import sys


def started_as_command() -> bool:
    """Whether this process is ``fastent ...`` or ``python -m fastent ...``."""
    script = sys.argv[0] if sys.argv else ""
    if script == "-m":  # what it is called until the module is found
        return not {"fastent", "-mfastent"}.isdisjoint(sys.orig_argv)
    # The helpers of a Dask cluster have the arguments of the command, but were not started so.
    return os.path.basename(script) == "fastent" and script in sys.orig_argv


def _leave(number: int, frame: object) -> None:
    os._exit(128 + number)  # nothing has begun that would have to be undone


if started_as_command():
    import signal

    for _number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(_number) != signal.SIG_IGN:  # as nohup and & want it
            signal.signal(_number, _leave)
