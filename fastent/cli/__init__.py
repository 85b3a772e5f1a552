"""The command line: ``fastent demo``, ``score``, ``compare`` and ``info``."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from fastent.cli.arguments import UsageError, parser
from fastent.cli.signals import Interrupted, Signals

BAD_INPUT = 2


def main(words: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    words : sequence of str, optional
        The command line without the program's name; that of the process by default.

    Returns
    -------
    int
        0; 2 after bad usage or input, told in one line on stderr; 130 after Ctrl-C and 143 after
        SIGTERM.
    """
    with Signals() as signals:
        try:
            options = parser().parse_args(words)
            command = importlib.import_module(f"fastent.cli.{options.command}")
            return int(command.run(options, signals))
        except SystemExit as leaving:  # --help and --version have printed what they were asked for
            return int(leaving.code or 0)
        except Interrupted as interrupted:
            return interrupted.exit_code
        except BrokenPipeError:
            # Whoever read our output has seen enough; keep Python from flushing into the pipe.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (UsageError, ValueError, TypeError, OSError, MemoryError) as error:
            return _complain(error)


def _complain(error: Exception) -> int:
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    text = " ".join(text.split()) or type(error).__name__
    if sys.stderr is not None:  # closed by the caller; print would take standard output
        print(f"fastent: {text}", file=sys.stderr)
    return BAD_INPUT
