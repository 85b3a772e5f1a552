"""The words of the command line. Bad usage is told in one line, without the usage text."""

from __future__ import annotations

import argparse
import csv
import os
import re
from typing import Any, NoReturn

import fastent

KINDS = ("probs", "logprobs", "logits")
SCORED_TASKS = ("sparse", "categorical", "binary", "logprob")
MOST_THREADS = 1024
DESCRIPTION = "Cross-entropy, divergences, entropy and calibration of predictions on disk."
COMMANDS = {
    "demo": "write fastent-demo/ with a digits classifier's logits and score them",
    "score": "score predictions against labels",
    "compare": "how far predictions Q are from predictions P, row by row",
    "paired": "two runs over the same documents, from the logs that they left",
    "metrics": "names, definitions, ranges and units of all metrics",
    "info": "version, backend, SIMD level, threads and libraries",
}
EXAMPLES = {
    "score": """examples:
  fastent score logits.npy --labels labels.npy --kind logits
  fastent score 'out/part-*.parquet' --kind probs --groups lang --json report.json
  fastent score submission.csv --labels truth.csv --kind probs --id id --classes cat,dog,bird
  fastent score preds.parquet:score --labels :clicked --task binary --kind probs
  fastent score log.parquet:logprob --task logprob --bytes bytes
""",
    "compare": """examples:
  fastent compare teacher.npy student.npy --kind logits
  fastent compare old/ new/ --kind logprobs,logits --labels labels.npy --html page.html
  fastent compare base.bin quantised.bin
  fastent compare teacher-topk.npz student.npy --kind logits
  fastent compare prompts.jsonl student.npy --kind logits --format vllm
""",
    "paired": """examples:
  fastent paired runs/base/ runs/tuned/
  fastent paired samples_wikitext_a.jsonl samples_wikitext_b.jsonl --clusters doc.page
  fastent paired a.parquet b.parquet --value bits --denominator bytes --id page
""",
}


class UsageError(Exception):
    """Bad usage; the message is one line."""


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of printing its usage and leaving."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self._negative_number_matcher = re.compile(r"-\d.*")  # -1,0,1 is a value too

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Help and version; where they cannot be written that is said, and not passed over."""
        if file is not None:
            file.write(message)


def parser() -> Parser:
    top = Parser(
        prog="fastent",
        usage="fastent COMMAND ...",
        description=DESCRIPTION,
        epilog="fastent COMMAND --help tells more.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"fastent {fastent.__version__}")
    commands = top.add_subparsers(
        dest="command", metavar="COMMAND", parser_class=Parser, title="commands"
    )
    for name, what in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            epilog=EXAMPLES.get(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            usage=f"fastent {name} {USAGES.get(name, '')}".rstrip(),
            allow_abbrev=False,
        )
        if name == "score":
            _add_score(command)
        elif name == "compare":
            _add_compare(command)
        elif name == "paired":
            _add_paired(command)
    return top


USAGES = {
    "score": "PRED... --labels LABELS... --kind KIND [options]",
    "compare": "P Q --kind KIND [options]",
    "paired": "A B [options]",
}


def commands() -> str:
    """The commands with a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  fastent {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    more = "fastent COMMAND --help tells the options of a command."
    return "\n".join([DESCRIPTION, "", *lines, "", more])


def _add_score(score: Parser) -> None:
    inputs = score.add_argument_group("inputs")
    inputs.add_argument(
        "predictions",
        metavar="PRED",
        nargs="+",
        help="files, directories or quoted globs; file:part picks an array, a column, or columns "
        "file:prefix* or file:0..9",
    )
    _files(inputs, "--labels", "files in step with PRED, or :column of PRED itself")
    _add_inputs(inputs)
    _add_more_inputs(inputs)
    _add_heads(inputs, ("",))
    what = score.add_argument_group("what to compute")
    _add_numbers(what)
    what.add_argument(
        "--task", choices=SCORED_TASKS, default="sparse", help="what labels are (sparse: classes)"
    )
    what.add_argument("--metrics", metavar="A,B,C", help="names that `fastent metrics` lists")
    _add_ignored(what)
    what.add_argument(
        "--eps", type=float, default=0.0, metavar="E", help="clip probabilities to [E, 1-E]"
    )
    what.add_argument(
        "--class-weight", type=_numbers, metavar="W", help="a,b,c or @FILE: a weight per class"
    )
    what.add_argument(
        "--label-smoothing", type=float, default=0.0, metavar="E", help="share of uniform targets"
    )
    what.add_argument("--base", type=float, metavar="B", help="of the logarithm (nats)")
    what.add_argument(
        "--fit-temperature",
        action="store_true",
        help="also fit the temperature of the logits, by group too; further passes over the rows",
    )
    what.add_argument("--bins", type=int, default=15, metavar="N", help="calibration bins (15)")
    outputs = score.add_argument_group("outputs")
    _add_outputs(outputs)
    outputs.add_argument(
        "--worst", type=int, default=0, metavar="K", help="show the K rows of highest loss"
    )
    _add_running(score.add_argument_group("running"))


def _add_compare(compare: Parser) -> None:
    inputs = compare.add_argument_group("inputs")
    inputs.add_argument("p", metavar="P", help="a file, a directory or a quoted glob")
    inputs.add_argument("q", metavar="Q", help="a file, a directory or a quoted glob")
    _files(inputs, "--labels", "adds the paired difference of cross-entropies")
    _add_inputs(inputs)
    _add_more_inputs(inputs)
    _add_heads(inputs, ("", "-p", "-q"))
    inputs.add_argument(
        "--token-table", metavar="FILE", help="texts of the tokens, for lists that name them so"
    )
    what = compare.add_argument_group("what to compute")
    _add_numbers(what)
    what.add_argument("--metrics", metavar="A,B,C", help="names that `fastent metrics` lists")
    _add_ignored(what)
    what.add_argument(
        "--skip-first", type=_count, default=0, metavar="K", help="of each window K rows count not"
    )
    what.add_argument("--window", type=_rows, metavar="N", help="rows of a window")
    what.add_argument(
        "--cap",
        type=_cap,
        default="smallest",
        metavar="C",
        help="of lists: no other class has more than the smallest, a number or none",
    )
    what.add_argument(
        "--ranks", type=_rows, metavar="K", help="of lists: the K largest are the largest of all"
    )
    what.add_argument(
        "--vocabulary", type=_rows, metavar="V", help="how many classes two lists are about"
    )
    what.add_argument(
        "--llama",
        action="store_true",
        help="the table of llama.cpp's perplexity program, of a dump P and float32 logits Q",
    )
    outputs = compare.add_argument_group("outputs")
    _add_outputs(outputs)
    outputs.add_argument(
        "--worst", type=int, default=0, metavar="K", help="show the K rows of highest divergence"
    )
    outputs.add_argument(
        "--by", default="kl_divergence", metavar="METRIC", help="or of highest row value of another"
    )
    _add_running(compare.add_argument_group("running"))
    compare.set_defaults(task="divergence", bins=15)


def _add_paired(paired: Parser) -> None:
    inputs = paired.add_argument_group("inputs")
    what = "lm-eval's samples_TASK_*.jsonl, a directory of them, or a table"
    inputs.add_argument("a", metavar="A", help=what)
    inputs.add_argument("b", metavar="B", help="the same documents by another model")
    for name, meaning in (
        ("--value", "of a table: the column of values"),
        ("--denominator", "the column that they are divided by, sum by sum"),
        ("--id", "the column by which rows are joined (their order)"),
        ("--clusters", "a column, or a field as doc.page, of dependent documents"),
    ):
        inputs.add_argument(name, metavar="COLUMN", help=meaning)
    inputs.add_argument("--metrics", metavar="A,B,C", help="of the samples (all)")
    inputs.add_argument(
        "--unmatched",
        choices=("error", "list"),
        default="error",
        help="documents of one run only stop the run, or are left out and listed",
    )
    outputs = paired.add_argument_group("outputs")
    outputs.add_argument("--json", metavar="FILE", help="write the report; - is standard output")
    outputs.add_argument("--quiet", action="store_true", help="no table")


def _add_inputs(inputs: Any) -> None:
    for name, what in (
        ("--groups", "names of groups to report apart; several options combine"),
        ("--clusters", "ids of dependent rows, for cluster-robust standard errors"),
        ("--weights", "weights of rows"),
    ):
        _files(inputs, name, f"{what}: files or a column")
    inputs.add_argument(
        "--classes",
        type=_names,
        metavar="A,B,C",
        help="names of the classes in order, or @FILE with one a line: picks columns, reads labels",
    )
    inputs.add_argument(
        "--header", choices=("yes", "no"), help="whether text files begin with column names"
    )
    inputs.add_argument(
        "--separator", type=_separator, metavar="C", help="between columns of text files (TAB)"
    )
    inputs.add_argument(
        "--axis", type=int, default=-1, metavar="K", help="class axis of arrays (the last)"
    )
    inputs.add_argument(
        "--format",
        type=_format,
        metavar="SUFFIX",
        help="read files as csv, parquet, npy, ...; lists of vllm, sglang, openai",
    )


def _add_more_inputs(inputs: Any) -> None:
    _files(inputs, "--bytes", "bytes of text behind each row; adds bits_per_byte")
    inputs.add_argument(
        "--token-bytes", metavar="FILE", help="instead: bytes of text behind each token id"
    )
    inputs.add_argument("--id", metavar="COLUMN", help="rows must agree in it, file by file")


def _add_heads(inputs: Any, sides: tuple[str, ...]) -> None:
    """Of hidden states; where there are two sides, of both or of one."""
    for side in sides:
        of = {"": "", "-p": " of P", "-q": " of Q"}[side]
        inputs.add_argument(
            f"--head{side}", metavar="FILE", help=f"files hold hidden states: their head{of}"
        )
        inputs.add_argument(
            f"--norm{side}", metavar="FILE[,EPS]", help=f"weights of an RMS norm before it{of}"
        )
        inputs.add_argument(
            f"--softcap{side}", type=float, metavar="C", help=f"logits become C tanh(z/C){of}"
        )
        inputs.add_argument(
            f"--scale{side}", type=float, metavar="S", help=f"of the products, before that{of}"
        )


def _files(group: Any, name: str, what: str) -> None:
    group.add_argument(name, nargs="+", action="append", metavar="FILE", help=what)


def _add_numbers(group: Any) -> None:
    group.add_argument(
        "--kind",
        type=_kind,
        metavar="KIND",
        help="probs, logprobs or logits (a pair a,b for two operands); dumps say it themselves",
    )
    group.add_argument(
        "--row-sums",
        choices=("check", "rescale", "as_is"),
        default="check",
        dest="row_sums",
        help="rows of probabilities must sum to 1, are scaled to it, or are taken as they are",
    )
    group.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="divides logits (1)"
    )
    group.add_argument(
        "--nan-policy",
        choices=("raise", "omit", "propagate"),
        default="raise",
        help="what a row with NaN does: stop the run, count for nothing, or spread",
    )


def _add_ignored(group: Any) -> None:
    group.add_argument(
        "--ignore-index", type=_label, metavar="I", help="label of rows that do not count"
    )


def _add_outputs(group: Any) -> None:
    group.add_argument(
        "--rows", metavar="FILE", help="write file, row and every metric of each row, as Parquet"
    )
    group.add_argument(
        "--keep",
        type=_names,
        default=(),
        metavar="COLUMNS",
        help="columns to carry into --rows and --worst; label and predicted too",
    )
    group.add_argument("--json", metavar="FILE", help="write the report; - is standard output")
    group.add_argument("--html", metavar="FILE", help="write a page with table and plots")
    group.add_argument("--quiet", action="store_true", help="no table and no progress")


def _add_running(group: Any) -> None:
    group.add_argument("--checkpoint", metavar="FILE", help="save progress here and go on from it")
    group.add_argument("--num-threads", type=_threads, metavar="N", help="threads (all CPUs)")
    group.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="raise",
        help="a file that fails stops the run, or is left out and listed",
    )
    group.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="score on the workers of this scheduler, or local:N for N processes here",
    )


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


def _count(text: str) -> int:
    return _whole(text, 0, 1 << 62)


def _rows(text: str) -> int:
    return _whole(text, 1, 1 << 62)


def _label(text: str) -> int | str:
    """A number, or the name of a class."""
    if text.lstrip("+-").isdigit():
        return _whole(text, -(1 << 63), (1 << 63) - 1)
    return text


def _listed(text: str) -> list[str]:
    """a,b,c with quotes where a name has a comma, or @FILE with a line each."""
    if not text.startswith("@"):
        return [name.strip() for name in next(csv.reader([text], skipinitialspace=True))]
    try:
        with open(text[1:], encoding="utf-8-sig") as stream:
            return [line.rstrip("\r\n") for line in stream if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "no UTF-8 text"
        raise argparse.ArgumentTypeError(f"{text[1:]}: {why}") from None


def _names(text: str) -> tuple[str, ...]:
    names = _listed(text)
    for k, name in enumerate(names):
        if name in names[:k]:
            raise argparse.ArgumentTypeError(f"expected different names, got {name!r} twice")
    return tuple(names)


def _numbers(text: str) -> list[float]:
    if os.path.isfile(text) and not text.startswith("@"):
        text = "@" + text
    try:
        return [float(number) for number in _listed(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers, got {text!r}") from None


def _cap(text: str) -> float | str | None:
    if text == "none":
        return None
    if text == "smallest":
        return text
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected smallest, none or a probability, got {text!r}")
    return number


def _separator(text: str) -> str:
    if text in ("TAB", "tab", "\\t"):
        return "\t"
    if len(text) != 1 or text in '"\r\n':
        raise argparse.ArgumentTypeError(f"expected one character or TAB, got {text!r}")
    return text


def _format(text: str) -> str:
    from fastent.io.references import SUFFIXES
    from fastent.io.topk_lists import SERVERS

    if text.lower() in SERVERS:
        return text.lower()
    suffix = "." + text.lower().lstrip(".")
    if suffix not in SUFFIXES:
        raise argparse.ArgumentTypeError(
            f"expected one of {', '.join(s[1:] for s in SUFFIXES if s.count('.') == 1)}, "
            f"got {text!r}"
        )
    return suffix
