"""Keywords that several functions share: their types and what `help` says of them, in one place.

A public function is decorated with `explained`, and its docstring describes what is its own: the
entries of shared keywords are put in from `TEXTS`. Where a function has nothing to add to a list of
keywords, it takes ``**keywords: Unpack[...]`` of one of the lists below, which `inspect.signature`
and type checkers see as real keywords.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Kind = Literal["probs", "logprobs", "logits"]
Kinds = Kind | tuple[Kind, Kind]
RowSums = Literal["check", "rescale", "as_is"]
Reduction = Literal["none", "sum", "mean"]
Each = Literal["none"]
Reduced = Literal["sum", "mean"]
Backend = Literal["cython", "numba", "numpy"]
Task = Literal["sparse", "categorical", "binary", "divergence", "logprob", "topk"]
Array = NDArray[np.float64]


class ElementKeywords(TypedDict, total=False):
    """Of all losses and divergences; `reduction`, which decides the type of the result, apart."""

    temperature: float
    sample_weight: ArrayLike | None
    out: Array | None
    num_threads: int | None


class RowKeywords(ElementKeywords, total=False):
    row_sums: RowSums
    axis: int | None
    keepdims: bool


class PairKeywords(RowKeywords, total=False):
    kind: Kinds


class NatsKeywords(PairKeywords, total=False):
    base: float | None


class DivergenceKeywords(NatsKeywords, total=False):
    eps: float
    backend: Backend | None


class CategoricalKeywords(DivergenceKeywords, total=False):
    label_smoothing: float
    class_weight: ArrayLike | None


class EntropyKeywords(RowKeywords, total=False):
    kind: Kind
    base: float | None
    backend: Backend | None


class PlainOrderKeywords(RowKeywords, total=False):
    kind: Kind


class OrderKeywords(PlainOrderKeywords, total=False):
    base: float | None


class SparseKeywords(EntropyKeywords, total=False):
    eps: float
    label_smoothing: float
    class_weight: ArrayLike | None
    ignore_index: int | str | None
    classes: Sequence[Any] | None
    lengths: ArrayLike | None


class FocalKeywords(RowKeywords, total=False):
    kind: Kind
    base: float | None
    class_weight: ArrayLike | None
    ignore_index: int | None


class BinaryFocalKeywords(ElementKeywords, total=False):
    kind: Kind
    base: float | None


class BinaryKeywords(BinaryFocalKeywords, total=False):
    eps: float
    label_smoothing: float
    backend: Backend | None


class _ProductKeywords(ElementKeywords, total=False):
    base: float | None


class LinearKeywords(_ProductKeywords, total=False):
    bias: ArrayLike | None
    norm: Any
    softcap: float | None
    scale: float
    ignore_index: int | None


class LinearPairKeywords(_ProductKeywords, total=False):
    bias_p: ArrayLike | None
    bias_q: ArrayLike | None
    norm_p: Any
    norm_q: Any
    softcap_p: float | None
    softcap_q: float | None
    scale_p: float
    scale_q: float


class GradientKeywords(TypedDict, total=False):
    sample_weight: ArrayLike | None
    label_smoothing: float
    out: NDArray[Any] | None
    hessian_out: NDArray[Any] | None
    num_threads: int | None


class ClassGradientKeywords(GradientKeywords, total=False):
    temperature: float
    class_weight: ArrayLike | None
    ignore_index: int | None
    reduction: Reduced
    axis: int | None


class FitKeywords(TypedDict, total=False):
    sample_weight: ArrayLike | None
    class_weight: ArrayLike | None
    ignore_index: int | str | None
    classes: Any
    axis: int
    num_threads: int | None


class AccumulatorKeywords(TypedDict, total=False):
    task: Task
    kind: Kinds
    row_sums: RowSums
    eps: float
    temperature: float
    label_smoothing: float
    class_weight: ArrayLike | None
    ignore_index: int | str | None
    classes: Sequence[Any] | None
    base: float | None
    axis: int | None
    bins: int
    topk_options: dict[str, Any] | None
    num_threads: int | None
    backend: Backend | None


DEFAULTS = {"task": "sparse", "bins": 15, "kind": "probs", "row_sums": "check", "temperature": 1.0,
            "eps": 0.0, "label_smoothing": 0.0, "axis": -1, "keepdims": False,
            "reduction": "none"}  # fmt: skip

CHOICES = '{"probs", "logprobs", "logits"}'
TEXTS = {  # in the order of signatures
    "task": (
        '{"sparse", "categorical", "binary", "divergence", "logprob", "topk"}',
        "What is compared: labels, target distributions or targets in [0, 1] with predictions,\n"
        "two distributions, or a list of the largest classes of one with the other.",
    ),
    "kind": (CHOICES, "What the operand holds: probabilities, their logarithms or logits."),
    "kinds": (
        f"{CHOICES} or a pair of them",
        "What the operands hold: one name for both, or a pair in the order of the arguments.",
    ),
    "row_sums": (
        '{"check", "rescale", "as_is"}',
        'Of probabilities and log-probabilities. "check" demands rows that sum to 1 within 1e-3\n'
        '(2e-2 for 16-bit inputs), "rescale" takes any positive sum; both give the value of the\n'
        'normalised rows. "as_is" takes the numbers as they are.',
    ),
    "eps": (
        "float",
        "0 is exact: no probability for what is true costs infinity. Otherwise, 0 < eps < ½,\n"
        "predicted probabilities (of a pair, q) are clipped to [eps, 1 − eps] and not normalised\n"
        "again.",
    ),
    "temperature": ("float", "Logits are divided by it; it applies to nothing else."),
    "label_smoothing": (
        "float",
        "The target becomes (1 − ε)·t + ε/C, with C = 2 for binary targets.",
    ),
    "class_weight": ("array_like, shape (C,)", "Weighs the terms of the sum over classes."),
    "sample_weight": (
        "array_like",
        "Of the leading shape: weighs rows. Of the full shape (…, C), where targets are classes:\n"
        "weighs terms.",
    ),
    "ignore_index": ("int", "Rows with this label get value 0 and weight 0."),
    "classes": (
        "sequence of str or of numbers",
        "Different names in the order of the columns; labels are then such names, compared as\n"
        "text or by value, and `ignore_index` is a name too.",
    ),
    "lengths": (
        "array_like of whole numbers",
        "Of rows of unequal length, as of candidates: `pred` is then their values one after\n"
        "another, and a label counts within its row. A column of lists has its lengths already.",
    ),
    "reduction": (
        '{"none", "sum", "mean"}',
        "Weighted values of the leading shape (a scalar for one row), their correctly rounded\n"
        "sum, or sum / Σ W, where W is the row's weight times the weighted sum of its target; nan\n"
        "if ΣW is 0.",
    ),
    "base": ("float", "Base of the logarithm; nats by default."),
    "axis": (
        "int or None",
        "The class axis of each operand. None takes the whole array as one row.",
    ),
    "keepdims": ("bool", "Whether the class axis stays in row values, with length 1."),
    "bins": ("int", "Equal-width calibration bins of ece and mce."),
    "topk_options": (
        "dict",
        "Of the task topk: `cap`, `ranks` (one number) and `classes`, as in `topk_divergence`.",
    ),
    "out": ("ndarray of float64", "Where the result goes."),
    "num_threads": ("int", "Threads to use; see `get_num_threads`."),
    "backend": ('{"cython", "numba", "numpy"}', "What computes it; see `set_backend`."),
}

Explained = TypeVar("Explained", bound=Callable[..., Any])


def explained(function: Explained) -> Explained:
    """The function or class, its shared keywords in its signature and in its docstring."""
    told: Any = function
    signature = inspect.signature(function)
    *others, last = signature.parameters.values()
    if last.kind == last.VAR_KEYWORD and str(last.annotation).startswith("Unpack["):
        listed = globals()[last.annotation[len("Unpack[") : -1]]
        told.__signature__ = signature = signature.replace(
            parameters=[*others, *keywords_of(listed, {p.name for p in others})]
        )
    if function.__doc__ is not None:  # python -OO
        told.__doc__ = _with_entries(inspect.cleandoc(function.__doc__), signature)
    return function


def keywords_of(listed: Any, known: set[str] | frozenset[str] = frozenset()) -> list[Any]:
    """The parameters of a list of keywords, without those that are known, in their usual order."""
    order = list(TEXTS)
    names = [name for name in listed.__annotations__ if name not in known]
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=DEFAULTS.get(name),
            annotation=listed.__annotations__[name].__forward_arg__,
        )
        for name in sorted(names, key=order.index)
    ]


UNDERLINE = re.compile(r"-{3,}")


def described(doc: str) -> list[str]:
    """The names that the section of parameters of a dedented docstring describes."""
    lines = doc.splitlines()
    first, last = _section(lines)
    entries = (line for line in lines[first:last] if line and not line.startswith(" "))
    return [name.strip() for entry in entries for name in entry.split(" : ")[0].split(",")]


def _section(lines: list[str]) -> tuple[int, int]:
    """Where the entries of the parameters are."""
    heads = [i for i, line in enumerate(lines[1:]) if UNDERLINE.fullmatch(line)]
    for head, following in zip(heads, [*heads[1:], len(lines)], strict=False):
        if lines[head] == "Parameters":
            return head + 2, following
    raise ValueError(f"no parameters in the docstring {lines[0]!r}")


def _with_entries(doc: str, signature: inspect.Signature) -> str:
    lines = doc.splitlines()
    known = set(described(doc))
    _, last = _section(lines)
    while not lines[last - 1]:
        last -= 1
    entries = []
    for name, parameter in signature.parameters.items():
        key = "kinds" if name == "kind" and parameter.annotation == "Kinds" else name
        if name in known or key not in TEXTS:
            continue
        form, text = TEXTS[key]
        optional = ", optional" if parameter.default is None else ""
        entries.append(f"{name} : {form}{optional}")
        entries += [f"    {line}" for line in text.splitlines()]
    return "\n".join([*lines[:last], *entries, *lines[last:]])
