"""The command line: ``fastent demo``, ``score``, ``compare`` and ``info``."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from fastent.cli.arguments import UsageError, commands, parser
from fastent.cli.outputs import named_errors
from fastent.cli.signals import Interrupted, Signals
from fastent.report.printable import printable

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
    _take_standard_places()
    with Signals() as signals:
        try:
            return _run(words, signals)
        except Interrupted as interrupted:
            return interrupted.exit_code
        except BrokenPipeError:  # whoever read our output has seen enough
            return 0
        except Exception as error:  # whatever a file makes a library raise
            complain(_in_words(error))
            return BAD_INPUT
        finally:
            for stream in (sys.stdout, sys.stderr):
                _settle(stream)


def _run(words: Sequence[str] | None, signals: Signals) -> int:
    code = 0
    try:
        with named_errors("standard output"):
            options = parser().parse_args(words)
            if options.command is None:
                print(commands())
        if options.command is not None:
            command = importlib.import_module(f"fastent.cli.{options.command}")
            code = int(command.run(options, signals))
    except SystemExit as leaving:  # --help and --version have printed what they were asked for
        code = int(leaving.code or 0)
    if sys.stdout is not None:
        with named_errors("standard output"):
            sys.stdout.flush()
    return code


def _in_words(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    text = " ".join(text.splitlines())
    expected = isinstance(error, ValueError | TypeError | OSError) or type(error) is UsageError
    return text if text and expected else f"{type(error).__name__}: {text}".rstrip(": ")


def complain(text: str) -> None:
    """One line on stderr, if anybody listens there."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"fastent: {printable(text, sys.stderr)}", file=sys.stderr)


def _take_standard_places() -> None:
    """Where a standard stream was closed, its number would become that of a file of ours, and what
    a library writes to it would end up there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)


def _settle(stream: TextIO | None) -> None:
    """Keep Python from writing at its end what could not be written before."""
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
