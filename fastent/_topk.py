"""Teachers that are known by a list of their largest classes: exact parts and tight bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

import fastent.backends.cython.derivatives.loop as derivatives
from fastent import _settings, _topk_pair
from fastent._csr import is_csr
from fastent._errors import as_number, as_text, one_of, shown
from fastent._fork import bring
from fastent._keywords import Array, Kind, explained
from fastent._logprob import numbers_of
from fastent._reductions import log_of_base
from fastent._shapes import common_lead
from fastent._weights import place
from fastent.backends.cython import levels
from fastent.backends.cython.engine import prepare
from fastent.backends.cython.float_mode import in_default_mode
from fastent.backends.sharing import share
from fastent.backends.table_columns import ListRows
from fastent.backends.views import once

COLUMNS = (
    "head", "tail_p", "tail_q", "bucket", "low", "high", "ce_low", "ce_high", "entropy_low",
    "entropy_high", "overlap",
)  # fmt: skip
IN_NATS = frozenset(COLUMNS) - {"tail_p", "tail_q", "overlap"}
DEFAULTS = {"eps": 0.0, "label_smoothing": 0.0, "class_weight": None, "ignore_index": None}
OPTIONS = ("cap", "ranks", "classes")
TOLERANCE, NARROW = 1e-3, 2e-2  # by which a list may have more than 1
RANGE, DUPLICATE, MASS, NOT_TOP, ROW_SUM = range(1, 6)  # what is wrong with a row
BLOCK = 1 << 22  # numbers that are worth a call of the kernel, which makes room of its own


class TopkDivergence(NamedTuple):
    """What `topk_divergence` gives of each row, in nats unless `base` says otherwise."""

    head: Array
    tail_p: Array
    tail_q: Array
    bucket: Array
    low: Array
    high: Array
    ce_low: Array
    ce_high: Array
    entropy_low: Array
    entropy_high: Array
    overlap: Array


@explained
@in_default_mode
def topk_divergence(
    ids: ArrayLike,
    logprobs: ArrayLike,
    pred: Any,
    *,
    kind: Kind = "logits",
    cap: float | Literal["smallest"] | None = "smallest",
    ranks: ArrayLike | None = None,
    row_sums: Literal["check", "rescale"] = "check",
    temperature: float = 1.0,
    classes: int | None = None,
    base: float | None = None,
    axis: int = -1,
    num_threads: int | None = None,
    backend: Literal["cython", "numpy"] | None = None,
) -> TopkDivergence:
    """What is certain of KL(p ‖ q) where of p a list of its largest classes is known.

    The list leaves τ = 1 − Σ p for all other classes. Between `low` and `high` lies the divergence
    of every p that has this list; both ends are attained. A single number would be a choice.

    Parameters
    ----------
    ids : array_like of whole numbers, shape (..., k)
        The classes of each row's list, in any order; −1 is padding. Lists of unequal length too.
    logprobs : array_like, shape (..., k)
        The logarithms of their probabilities; −inf is a listed probability of 0.
    pred : array_like, shape (..., C), or a tuple (ids, logprobs)
        The predicted distribution q; a tuple is a list of its largest classes.
    cap : {"smallest"}, float or None
        What no other class exceeds: the smallest probability listed, a number, or nothing, where
        the list does not hold the largest classes.
    ranks : array_like of whole numbers, shape (..., k), or int, optional
        Ranks from 1 of what is listed, as servers append the class that was chosen: beyond the
        ranks that are all there, an entry says nothing of other classes. One number: so many of
        the largest that are listed are the largest of all.
    row_sums : {"check", "rescale"}
        Of `pred`, if it holds probabilities or their logarithms.
    temperature : float
        Logits are divided by it. The list is of that temperature already: what its tail would be
        at another one is unknown.
    classes : int, optional
        How many classes there are, where both are lists.
    backend : {"cython", "numpy"}, optional
        What computes it. Numba has no lists: where it is the configured backend, the compiled one
        does.

    Returns
    -------
    TopkDivergence
        A named tuple of float64 arrays of the leading shape:

        - head: Σ p ln(p/q) over the list; no divergence, it may be negative
        - tail_p, tail_q: τ, and what q has outside the list
        - bucket: KL of the listed classes and one for all others, at most `low`
        - low, high: bounds of KL(p ‖ q)
        - ce_low, ce_high: of the cross-entropy −Σ p ln q
        - entropy_low, entropy_high: of the entropy of p
        - overlap: share of the listed classes that are as many largest ones of q

    Raises
    ------
    ValueError, TypeError
        An id twice in a row or out of range, more mass than 1, more left than the other classes
        can have.

    Notes
    -----
    The lowest tail is min(c, λq), with c the cap; the highest has c on the smallest q. Of two
    lists, `tail_p` and `tail_q` are what is outside the classes that both hold, and `high` is
    infinite unless q's list holds all of p.

    Examples
    --------
    >>> import fastent as fe
    >>> import numpy as np
    >>> found = fe.topk_divergence([2, 0], np.log([0.5, 0.25]), np.log([0.25, 0.25, 0.375, 0.125]))
    >>> float(found.tail_p), float(found.low.round(6)), float(found.high.round(6))
    (0.25, 0.042475, 0.317128)
    """
    call = TopkCall(
        COLUMNS,
        lists_of(ids, logprobs, ranks),
        pred,
        cap=cap,
        kind=kind,
        row_sums=row_sums,
        temperature=temperature,
        classes=classes,
        base=base,
        axis=axis,
        num_threads=num_threads,
        backend=backend,
    )
    values = call.values(0, call.rows)
    return TopkDivergence(*(line.reshape(call.lead)[()] for line in values))


class Lists(NamedTuple):
    """Lists of the largest classes of rows, padded to one length."""

    ids: np.ndarray  # int64, (..., k)
    logprobs: np.ndarray  # float64
    within: np.ndarray | None  # bool: whether an entry is one of the largest of all
    narrow: bool  # whether the numbers were 16-bit


def _padded(given: Any, name: str, fill: Any) -> tuple[Any, np.ndarray | None]:
    """An array of lists, and their lengths if these differ."""
    given = once(given, name)
    if isinstance(given, list | tuple) and any(isinstance(x, list | tuple) for x in given):
        lengths = {len(x) if isinstance(x, list | tuple) else -1 for x in given}
        if len(lengths) > 1 and -1 not in lengths:
            given = ListRows(
                np.array([x for row in given for x in row]),
                np.array([len(row) for row in given]),
            )
    if not isinstance(given, ListRows) or given.unequal < 0:
        return (given.as_array(name) if isinstance(given, ListRows) else given), None
    lengths_of = given.lengths.reshape(-1)
    wide = int(lengths_of.max())
    found = np.full((len(lengths_of), wide), fill, given.numbers.dtype)
    found[np.arange(wide) < lengths_of[:, None]] = given.numbers
    return found.reshape(*given.lengths.shape, wide), lengths_of


def lists_of(
    ids: Any,
    logprobs: Any,
    ranks: Any = None,
    names: tuple[str, str, str] = ("ids", "logprobs", "ranks"),
) -> Lists:
    """The lists of a batch, checked for what can be seen without the predictions."""
    first, second, third = names
    ids, lengths = _padded(ids, first, -1)
    logprobs, others = _padded(logprobs, second, 0)
    if not np.array_equal(() if lengths is None else lengths, () if others is None else others):
        raise ValueError(f"{second}: expected lists as long as those of {first}")
    numbers, narrow = numbers_of(logprobs, second)
    if getattr(ids, "size", 1) == 0 or (isinstance(ids, list) and not len(ids)):
        ids = np.asarray(ids, np.int64)
    whole, fraction = derivatives.whole_numbers(ids, first)
    if whole.ndim == 0:
        raise ValueError(f"{first}: expected lists of classes, got one number")
    if whole.shape != numbers.shape:
        raise ValueError(
            f"{second}: expected the shape of {first}, {whole.shape}, got {numbers.shape}"
        )
    k = whole.shape[-1]
    if fraction >= 0:
        row = place(fraction // max(1, k), whole.shape[:-1])
        raise ValueError(f"{first}: expected whole numbers in row {0 if row == () else row}")
    bad = whole < -1
    if bad.any():
        at = int(bad.argmax())
        row = place(at // k, whole.shape[:-1])
        raise ValueError(
            f"{first}: expected classes of 0 or more, or -1 for padding, got "
            f"{int(whole.reshape(-1)[at])} in row {0 if row == () else row}"
        )
    return Lists(whole, numbers, _within(ranks, whole, numbers, third), narrow)


def _within(ranks: Any, ids: np.ndarray, numbers: np.ndarray, name: str) -> np.ndarray | None:
    """Which entries are among the largest of all classes."""
    if ranks is None:
        return None
    if np.ndim(ranks) == 0 and not isinstance(ranks, str | bytes):
        return _largest(as_count(ranks, name), ids, numbers)
    ranks, _ = _padded(ranks, name, 0)
    given, fraction = derivatives.whole_numbers(ranks, name)
    if given.shape != ids.shape:
        raise ValueError(f"{name}: expected the shape of the ids, {ids.shape}, got {given.shape}")
    if fraction >= 0:
        raise ValueError(f"{name}: expected whole numbers")
    given = np.where(ids >= 0, given, 0)
    bad = (given < 1) & (ids >= 0)
    if bad.any():
        at = int(bad.argmax())
        row = place(at // ids.shape[-1], ids.shape[:-1])
        raise ValueError(
            f"{name}: expected ranks from 1 on, got {int(given.reshape(-1)[at])} in row "
            f"{0 if row == () else row}"
        )
    # ranks 1, 2, … up to the first that is missing; equal ones may share a rank
    order = np.sort(np.where(ids >= 0, given, np.iinfo(np.int64).max), axis=-1)
    complete = order <= np.arange(1, order.shape[-1] + 1)
    last = np.where(complete.cumprod(axis=-1, dtype=bool), order, 0).max(axis=-1, initial=0)
    return (given <= last[..., None]) & (ids >= 0)


def _largest(count: int, ids: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    known = np.where(ids >= 0, numbers, -np.inf)
    if count >= ids.shape[-1]:
        return np.ones(ids.shape, bool)
    bound = -np.sort(-known, axis=-1)[..., count - 1 : count]
    return (known >= bound) & (ids >= 0)


def as_count(given: Any, name: str) -> int:
    """A whole number of at least 1."""
    try:
        number: int = -1 if isinstance(given, bool) else given.__index__()
    except (AttributeError, TypeError):
        raise TypeError(f"{name}: expected a whole number, got {shown(given)}") from None
    if number < 1:
        raise ValueError(f"{name}: expected a whole number of at least 1, got {shown(given)}")
    return number


def as_cap(cap: Any) -> float:
    """As the kernel takes it: NaN for the smallest of the list, above 1 for none."""
    if cap is None:
        return 2.0
    if as_text(cap) == "smallest":
        return math.nan
    if isinstance(cap, str):
        raise ValueError(f"cap: expected 'smallest', a number or None, got {shown(cap)}")
    number = as_number(cap, "cap", "'smallest', a number or None")
    if not 0 <= number <= 1:
        raise ValueError(f"cap: expected a probability, got {shown(cap)}")
    return number


def implementation(backend: Any) -> str:
    """What computes it: compiled, or the reference in NumPy."""
    if backend is not None:
        return one_of(backend, "backend", ("cython", "numpy"))
    return "numpy" if _settings.chosen_backend(None) == "numpy" else "cython"


def kernel(backend: str) -> Callable[..., Any]:
    """The `row_values` of a backend, at the SIMD level in use."""
    name = "fastent.backends.numpy.topk_divergence"
    if backend == "cython":
        name = f"fastent.backends.cython.kernels.topk_divergence_{levels.active}"
    found: Callable[..., Any] = bring(name).row_values
    return found


def settled(options: Any) -> dict[str, Any]:
    """The `topk_options` of an accumulator with what was left out, JSON-able; TypeError or
    ValueError for others."""
    if options is not None and not isinstance(options, dict):
        raise TypeError(f"topk_options: expected a dict, got {type(options).__name__}")
    found = {"cap": "smallest", "ranks": None, "classes": None, **(options or {})}
    for name in found:
        if name not in OPTIONS:
            raise ValueError(f"topk_options: expected {', '.join(OPTIONS)}, got {shown(name)}")
    number = as_cap(found["cap"])
    if number <= 1:
        found["cap"] = number
    for name in ("ranks", "classes"):
        if found[name] is not None:
            if np.ndim(found[name]):
                raise ValueError(
                    f"topk_options: {name}: expected one number; arrays go with each batch"
                )
            found[name] = as_count(found[name], f"topk_options: {name}")
    if number != number:
        found["cap"] = "smallest"
    return found


def check_options(options: dict[str, Any]) -> None:
    """Refuse what does not apply to the task."""
    for name, default in DEFAULTS.items():
        value = options.get(name, default)
        if value is not default and value != default:
            raise ValueError(f"{name}: does not apply to task 'topk', got {shown(value)}")
    if not isinstance(options.get("kind", "logits"), str):
        raise ValueError(f"kind: expected one name, of q, in task 'topk', got {options['kind']!r}")
    rest = {k: v for k, v in options.items() if k not in DEFAULTS}
    empty = lists_of(np.zeros((0, 1), np.int64), np.zeros((0, 1)))
    TopkCall(COLUMNS, empty, np.zeros((0, options_classes(options))), **_spread(rest))


def options_classes(options: dict[str, Any]) -> int:
    """How many classes a batch without rows has."""
    return (options.get("topk_options") or {}).get("classes") or 1


def _spread(options: dict[str, Any]) -> dict[str, Any]:
    """Options of an accumulator as keywords of a call."""
    found = dict(options)
    found.update(found.pop("topk_options", None) or {})
    found.pop("ranks", None)
    return found


def batch_call(columns: tuple[str, ...], p: Any, q: Any, weights: Any, **options: Any) -> TopkCall:
    """The call for a batch of the accumulator: p and perhaps q are tuples (ids, logprobs), or with
    ranks after these."""
    ranks = (options.get("topk_options") or {}).get("ranks")
    rest = {k: v for k, v in options.items() if k not in DEFAULTS}
    if isinstance(q, tuple) and rest.get("kind") == "probs":
        rest["kind"] = "logprobs"  # what an accumulator takes where nothing is said
    if isinstance(p, Lists):
        lists = p if ranks is None else p._replace(within=_largest(ranks, p.ids, p.logprobs))
    elif isinstance(p, tuple | list) and len(p) in (2, 3):
        lists = lists_of(p[0], p[1], p[2] if len(p) == 3 else ranks)
    else:
        raise TypeError(f"true: expected a pair (ids, logprobs) in task 'topk', got {shown(p)}")
    return TopkCall(columns, lists, q, sample_weight=weights, q_ranks=ranks, **_spread(rest))


class TopkCall:
    """The row values of a batch, as a settled call of the engine has them.

    Parameters
    ----------
    columns : tuple of str
        Out of COLUMNS.
    lists : Lists
    pred : array, or tuple (ids, logprobs)
    """

    names = ("ids", "pred")

    def __init__(
        self,
        columns: tuple[str, ...],
        lists: Lists,
        pred: Any,
        sample_weight: Any = None,
        *,
        cap: Any = "smallest",
        kind: Any = "logits",
        row_sums: Any = "check",
        temperature: Any = 1.0,
        classes: Any = None,
        base: Any = None,
        axis: Any = -1,
        num_threads: Any = None,
        backend: Any = None,
        q_ranks: Any = None,
    ) -> None:
        self.columns = columns
        self._cap = as_cap(cap)
        self._backend = implementation(backend)
        self._lists = lists
        self._tolerance = NARROW if lists.narrow else TOLERANCE
        if as_text(row_sums) == "as_is":
            raise ValueError("row_sums: expected 'check' or 'rescale', got 'as_is'")
        number = None if classes is None else as_count(classes, "classes")
        options = dict(temperature=temperature, base=base, axis=axis, num_threads=num_threads)
        self._other = None
        if isinstance(pred, Lists) or (isinstance(pred, tuple) and len(pred) in (2, 3)):
            self._other = (
                pred
                if isinstance(pred, Lists)
                else lists_of(
                    pred[0],
                    pred[1],
                    pred[2] if len(pred) == 3 else q_ranks,
                    ("pred ids", "pred logprobs", "pred ranks"),
                )
            )
            if as_text(kind) not in ("logits", "logprobs"):
                raise ValueError(f"kind: expected 'logprobs' for a list, got {shown(kind)}")
            if temperature != 1:
                raise ValueError(
                    f"temperature: applies to logits only, got {shown(temperature)} with two lists"
                )
            one_of(row_sums, "row_sums", ("check", "rescale"))
            lead = common_lead(lists.ids.shape[:-1], self._other.ids.shape[:-1])
            if lead is None:
                raise ValueError(
                    f"ids: expected the leading shape of pred, {self._other.ids.shape[:-1]}, or "
                    f"what broadcasts with it, got {lists.ids.shape[:-1]}"
                )
            self._other = _broadcast(self._other, lead)
            pred, options["temperature"] = np.broadcast_to(np.zeros(1), (*lead, 1)), 1.0
            kind, row_sums, options["axis"] = "logits", "check", -1
        elif is_csr(pred):
            raise TypeError("pred: expected an array, got sparse rows")
        if axis is None:
            raise TypeError("axis: expected an integer, got None")
        pred = once(pred, "pred")
        pred = pred.as_array("pred") if isinstance(pred, ListRows) else pred

        def prepared(given: Any) -> Any:
            return prepare(
                "topk", (), None, given, sample_weight=sample_weight, kind=kind, row_sums=row_sums,
                backend="cython", **options,
            )  # fmt: skip

        call = prepared(pred)
        lead = common_lead(lists.ids.shape[:-1], call.lead)
        if lead is None:
            raise ValueError(
                f"ids: expected the leading shape of pred, {call.lead}, or what broadcasts with "
                f"it, got {lists.ids.shape[:-1]}"
            )
        if lead != call.lead:
            if options["axis"] != -1:
                raise ValueError("axis: expected -1 where pred is broadcast")
            array = np.asarray(pred)
            call = prepared(np.broadcast_to(array, (*lead, array.shape[-1])))
        self._lists = _broadcast(lists, lead)
        self._call = call
        self.lead, self.rows = call.lead, call.rows
        self.weighted = call.weighted
        self.num_threads = call.num_threads
        self.classes = 0 if self._other is not None else call.classes
        if self._other is not None:
            self.classes = number or 0
        elif number is not None and number != call.classes:
            raise ValueError(f"classes: expected {call.classes} as pred has, got {number}")
        self._unit = log_of_base(base)
        self._temperature = float(temperature)
        self._kind = as_text(kind)
        self._checks = self._kind != "logits" and as_text(row_sums) == "check"

    def weights(self, start: int, stop: int) -> np.ndarray | None:
        return self._call.weights(start, stop)

    def values(self, start: int, stop: int) -> np.ndarray:
        """Row values of rows [start, stop): float64, one line a column."""
        weights = self.weights(start, stop)
        skipped = None if weights is None else np.ascontiguousarray(weights == 0, np.uint8)
        if weights is not None and not (weights >= 0).all():
            row = int((~(weights >= 0)).argmax())
            raise ValueError(
                f"sample_weight: expected weights of at least 0 that are not NaN, got "
                f"{float(weights[row])!r} in row {self._index(start + row)}"
            )
        found = np.empty((len(COLUMNS), stop - start))
        if self._other is not None:
            self._fill_pairs(found, start, skipped, start, stop)
        else:
            classes = max(1, self._call.classes)
            count = -(-(stop - start) // self.num_threads)
            step = max(1, min(count, max(BLOCK // classes, count // 4)))
            share(
                lambda first, last: self._fill(found, start, skipped, first, last),
                start, stop, step, self.num_threads,
            )  # fmt: skip
        if skipped is not None:
            found[:, skipped != 0] = 0.0
        if self._unit != 1:
            for k, name in enumerate(COLUMNS):
                if name in IN_NATS:
                    found[k] /= self._unit
        if self.columns == COLUMNS:
            return found
        return found[[COLUMNS.index(name) for name in self.columns]]

    def _fill(
        self, out: np.ndarray, begin: int, skipped: np.ndarray | None, first: int, last: int
    ) -> None:
        rows = self._call.pred_rows(first, last)
        here = slice(first - begin, last - begin)
        negative = None
        if self._kind == "probs":
            rows, negative = self._logarithms(rows, None if skipped is None else skipped[here])
        within = self._lists.within
        bad = kernel(self._backend)(
            rows,
            self._lists.ids[first:last],
            self._lists.logprobs[first:last],
            None if within is None else within[first:last].view(np.uint8),
            None if skipped is None else skipped[here],
            self._cap,
            self._temperature,
            self._tolerance,
            self._call.sum_tolerance if self._checks else -1.0,
            out,
            first - begin,
        )
        if bad is not None and (negative is None or bad[0] <= negative[0]):
            raise self._error(first, *bad)
        if negative is not None:
            raise ValueError(
                f"pred: expected no negative probabilities, got {negative[1]!r} in row "
                f"{self._index(first + negative[0])}"
            )

    def _logarithms(
        self, rows: np.ndarray, skipped: np.ndarray | None
    ) -> tuple[np.ndarray, tuple[int, float] | None]:
        """Log-probabilities of rows; the first row with a negative one, which gives NaN, and it."""
        below = rows < 0
        if skipped is not None:
            below[skipped != 0] = False
        with np.errstate(all="ignore"):
            logs = np.log(rows.astype(np.float64))
        if not below.any():
            return logs, None
        row, where = map(int, np.unravel_index(int(below.argmax()), below.shape))
        return logs, (row, float(rows[row, where]))

    def _fill_pairs(
        self, out: np.ndarray, begin: int, skipped: np.ndarray | None, first: int, last: int
    ) -> None:
        assert self._other is not None
        for row in range(first, last):
            if skipped is not None and skipped[row - begin]:
                out[:, row - begin] = 0.0
                continue
            ends = []
            for lists in (self._lists, self._other):
                within = None if lists.within is None else lists.within[row]
                tolerance = NARROW if lists.narrow else TOLERANCE
                ends.append((lists.ids[row], lists.logprobs[row], within, tolerance))
            found = _topk_pair.row(ends[0], ends[1], self._cap, self.classes or None)
            if isinstance(found, _topk_pair.Bad):
                side = "" if found.side == 0 else "pred "
                raise self._error(row, 0, found.code, found.number, found.more, side)
            out[:, row - begin] = found

    def _index(self, row: int) -> Any:
        index = place(row, self.lead)
        return 0 if index == () else index

    def _error(
        self, first: int, row: int, code: int, number: float, more: float, side: str = ""
    ) -> ValueError:
        where = f"row {self._index(first + row)}"
        if code == RANGE:
            text = f"ids: expected classes in [0, {self.classes}), got {int(number)} in {where}"
        elif code == DUPLICATE:
            text = f"ids: expected different classes, got {int(number)} twice in {where}"
        elif code == MASS:
            text = (
                f"logprobs: expected probabilities that sum to at most 1, got {number!r} in "
                f"{where}; logits are no log-probabilities"
            )
        elif code == NOT_TOP:
            text = (
                f"logprobs: expected the largest of {self.classes} classes, but {number!r} is left "
                f"for the others in {where}, which have {more!r} at most; see cap= and ranks="
            )
        else:
            expected = "rows that sum to 1" if self._kind == "probs" else (
                "exponentials that sum to 1"
            )  # fmt: skip
            return ValueError(
                f"pred: expected {expected} within {self._call.sum_tolerance:g}, got {number!r} "
                f"in {where}; see kind= and row_sums='rescale'"
            )
        return ValueError(side + text)


def _broadcast(lists: Lists, lead: tuple[int, ...]) -> Lists:
    """The lists of each row of a leading shape, a row a line."""

    def flat(array: np.ndarray) -> np.ndarray:
        k = array.shape[-1]
        found = np.broadcast_to(array, (*lead, k)).reshape(math.prod(lead), k)
        return np.ascontiguousarray(found)

    within = None if lists.within is None else flat(lists.within)
    return Lists(flat(lists.ids), flat(lists.logprobs), within, lists.narrow)
