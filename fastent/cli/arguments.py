"""The words of the command line. Bad usage is told in one line, without the usage text."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

import fastent

KINDS = ("probs", "logprobs", "logits")
SCORED_TASKS = ("sparse", "categorical", "binary")
MOST_THREADS = 1024


class UsageError(Exception):
    """Bad usage; the message is one line."""


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of printing its usage and leaving."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Help and version; where they cannot be written that is said, and not passed over."""
        if file is not None:
            file.write(message)


def parser() -> Parser:
    top = Parser(
        prog="fastent",
        description="Cross-entropy, divergences, entropy and calibration of predictions on disk.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"fastent {fastent.__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    _add_demo(commands)
    _add_score(commands)
    _add_compare(commands)
    commands.add_parser(
        "info", help="version, backend, SIMD level, threads and libraries", allow_abbrev=False
    )
    return top


def commands() -> str:
    """The commands with a line each."""
    top = parser()
    (found,) = (a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    helps = {choice.dest: choice.help for choice in found._choices_actions}
    width = max(map(len, helps))
    lines = [f"  fastent {name:<{width}}  {what}" for name, what in helps.items()]
    more = "fastent COMMAND --help tells the options of a command."
    return "\n".join([top.description or "", "", *lines, "", more])


def _add_demo(commands: argparse._SubParsersAction[Parser]) -> None:
    commands.add_parser(
        "demo",
        help="write fastent-demo/ with a digits classifier's logits and score them",
        allow_abbrev=False,
    )


def _add_score(commands: argparse._SubParsersAction[Parser]) -> None:
    score = commands.add_parser(
        "score", help="score predictions against labels", allow_abbrev=False
    )
    score.add_argument(
        "predictions",
        metavar="PRED",
        nargs="+",
        help=".npy .npz .parquet .arrow .feather .safetensors .csv files, directories, quoted "
        "globs; file:part picks an array or a column",
    )
    score.add_argument(
        "--labels",
        nargs="+",
        action="extend",
        metavar="LABELS",
        help="files in step with PRED, or :column of the prediction files themselves "
        "(default: their part called labels)",
    )
    _add_numbers(score)
    score.add_argument("--task", choices=SCORED_TASKS, default="sparse")
    score.add_argument("--metrics", metavar="A,B,C", help="names of metrics, comma-separated")
    _add_sides(score)
    score.add_argument(
        "--bytes",
        nargs="+",
        action="extend",
        metavar="B",
        help="bytes of text behind each row: files or a column; adds bits_per_byte",
    )
    score.add_argument(
        "--ignore-index", type=_label, metavar="I", help="label of rows that do not count"
    )
    score.add_argument("--bins", type=int, default=15, metavar="N", help="calibration bins (15)")
    score.add_argument("--rows", metavar="FILE", help="write the row values, as Parquet")
    score.add_argument(
        "--worst", type=int, default=0, metavar="K", help="show the K rows of highest loss"
    )
    score.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="score on the workers of this scheduler, or local:N for N processes here",
    )
    score.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="raise",
        help="with --dask: a file that fails stops the run, or is left out and listed",
    )
    _add_outputs(score)


def _add_compare(commands: argparse._SubParsersAction[Parser]) -> None:
    compare = commands.add_parser(
        "compare",
        help="how far predictions Q are from predictions P, row by row",
        allow_abbrev=False,
    )
    compare.add_argument("p", metavar="P", help="a file, a directory or a quoted glob")
    compare.add_argument("q", metavar="Q", help="a file, a directory or a quoted glob")
    compare.add_argument(
        "--labels",
        nargs="+",
        action="extend",
        metavar="LABELS",
        help="adds the paired difference of cross-entropies",
    )
    _add_numbers(compare)
    _add_sides(compare)
    compare.add_argument(
        "--ignore-index", type=_label, metavar="I", help="label of rows that do not count"
    )
    compare.set_defaults(
        task="divergence", metrics=None, bytes=None, bins=15, rows=None, worst=0, dask=None
    )
    _add_outputs(compare)


def _add_numbers(command: Parser) -> None:
    command.add_argument(
        "--kind",
        required=True,
        type=_kind,
        metavar="KIND",
        help="what the numbers are: probs, logprobs or logits (a pair a,b for two operands)",
    )
    command.add_argument(
        "--row-sums", choices=("check", "rescale", "as_is"), default="check", dest="row_sums"
    )
    command.add_argument("--temperature", type=float, default=1.0, metavar="T")
    command.add_argument(
        "--nan-policy",
        choices=("raise", "omit", "propagate"),
        default="raise",
        help="what a row with NaN does: stop the run, count for nothing, or spread",
    )


def _add_sides(command: Parser) -> None:
    for name, what in (
        ("--groups", "names or codes of groups to report apart: files or a column"),
        ("--clusters", "ids of dependent rows, for cluster-robust standard errors"),
        ("--weights", "weights of rows"),
    ):
        command.add_argument(name, nargs="+", action="extend", metavar="FILE", help=what)


def _add_outputs(command: Parser) -> None:
    command.add_argument("--json", metavar="FILE", help="write the report; - is standard output")
    command.add_argument("--html", metavar="FILE", help="write a page with table and plots")
    command.add_argument(
        "--checkpoint", metavar="FILE", help="save progress here and go on from it"
    )
    command.add_argument("--num-threads", type=_threads, metavar="N")
    command.add_argument("--quiet", action="store_true", help="no table and no progress")


def _kind(text: str) -> str | tuple[str, str]:
    names = text.split(",")
    if len(names) > 2 or any(name not in KINDS for name in names):
        raise argparse.ArgumentTypeError(f"expected {', '.join(KINDS)}, got {text!r}")
    return names[0] if len(names) == 1 else (names[0], names[1])


def _whole(text: str, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from {least} to {most}, got {text!r}"
        )
    return number


def _threads(text: str) -> int:
    return _whole(text, 1, MOST_THREADS)


def _label(text: str) -> int:
    return _whole(text, -(1 << 63), (1 << 63) - 1)
