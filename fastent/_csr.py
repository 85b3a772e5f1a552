"""Rows of scipy.sparse CSR arrays: what is not stored is 0, and costs nothing.

Each pair of rows is made of the classes that either of them stores, in their order, and goes to the
kernels of dense rows with others of as many classes; so a row's value depends on the row alone. Of
a dense row beside many sparse ones the classes that a sparse row has not are one class: every
divergence here is linear in q where p is 0, and the other way round.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastent._errors import row_of, shown, with_row
from fastent._reductions import reduced
from fastent._shapes import full_shape

FORMATS = ("csr_array", "csr_matrix")
TASKS = ("divergence", "categorical", "entropy")
# Columns that are linear in one row where the other is 0.
LINEAR = frozenset((
    "kl_divergence", "reverse_kl", "js_divergence", "cross_entropy", "total_variation", "hellinger",
    "target_weight", "chi2_divergence", "jeffreys_divergence",
))  # fmt: skip
# Of one row alone.
FIRST, SECOND = ("entropy_p", "target_entropy"), ("entropy_q", "entropy")
CLASS = ("predicted", "labelled")  # numbers of classes
BLOCK = 1 << 18  # numbers in one block of rows
SMALL_REST = 1e-4  # of a row's mass: what is left below it is summed, and not subtracted


def is_csr(given: Any) -> bool:
    """Whether these are CSR rows; TypeError for other sparse arrays of SciPy."""
    if isinstance(given, Rows):
        return True
    module = sys.modules.get("scipy.sparse")
    if module is None or not module.issparse(given):
        return False
    if not isinstance(given, tuple(getattr(module, name) for name in FORMATS)):
        raise TypeError(f"expected CSR rows, got {type(given).__name__}; its tocsr() makes them")
    return True


class Rows:
    """CSR rows, whose indices are looked at once."""

    def __init__(self, given: Any, name: str) -> None:
        if len(given.shape) != 2:
            raise ValueError(f"{name}: expected CSR rows of two dimensions, got {given.shape}")
        self.name = name
        self.count, self.classes = (int(n) for n in given.shape)
        self.lead: tuple[int, ...] = (self.count,)
        self.data, self.indices, self.starts = given.data, given.indices, given.indptr
        if self.classes == 0:
            raise ValueError(f"{name}: expected at least one class, got shape {given.shape}")
        if self.data.dtype.kind not in "fiub":
            raise TypeError(f"{name}: expected numbers, got dtype {self.data.dtype}")
        bad = len(self.starts) != self.count + 1 or self.starts[0] != 0
        if bad or (np.diff(self.starts) < 0).any() or self.starts[-1] > len(self.indices):
            raise ValueError(f"{name}: expected {self.count} CSR rows, got a damaged indptr")
        stored = self.indices[: self.starts[-1]]
        if len(self.data) < len(stored):
            raise ValueError(f"{name}: expected a number for each index, got {len(self.data)}")
        wrong = (stored < 0) | (stored >= self.classes)
        if wrong.any():
            at = int(wrong.argmax())
            row = int(np.searchsorted(self.starts, at, "right")) - 1
            raise ValueError(
                f"{name}: expected columns in [0, {self.classes}), got {stored[at]} in row {row}"
            )

    def stored(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(keys, numbers) of rows: k·C + column of the k-th, ascending, duplicates summed."""
        starts = self.starts[rows].astype(np.int64)
        lengths = self.starts[rows + 1].astype(np.int64) - starts
        ends = np.cumsum(lengths)
        at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)
        keys = np.repeat(np.arange(len(rows)) * self.classes, lengths) + self.indices[at]
        numbers = self.data[at].astype(np.float64)
        steps = np.diff(keys)
        if (steps <= 0).any():
            order = np.argsort(keys, kind="stable")
            keys, numbers = keys[order], numbers[order]
            first = np.flatnonzero(np.diff(keys, prepend=-1))
            keys, numbers = keys[first], np.add.reduceat(numbers, first)
        return keys, numbers

    def like(self) -> np.ndarray:
        """Dense rows of this shape and dtype that take no memory, to settle a call by."""
        dtype = self.data.dtype if self.data.dtype.kind == "f" else np.dtype(np.float64)
        return np.broadcast_to(np.zeros((), dtype), (*self.lead, self.classes))

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.lead, self.classes)

    @property
    def indptr(self) -> np.ndarray:
        """By which the engine knows CSR rows."""
        return self.starts

    def __getitem__(self, key: tuple[slice | None, slice | None]) -> Rows:
        """Some rows, with an axis of length 1 before or after: what pairs are made of."""
        (chosen,) = (part for part in key if part is not None)
        first, last, _ = chosen.indices(self.count)
        found = copy.copy(self)
        found.count = max(0, last - first)
        found.starts = self.starts[first : first + found.count + 1]
        found.lead = (found.count, 1) if key[1] is None else (1, found.count)
        return found


class SparseCall:
    """A call of the engine with CSR rows: the same row values, weights and reductions."""

    def __init__(
        self, prepare: Callable[..., Any], task: str, columns: tuple[str, ...], true: Any,
        pred: Any, options: dict[str, Any], more: dict[str, Any],
    ) -> None:  # fmt: skip
        if task not in TASKS:
            raise TypeError(f"pred: expected an array, got CSR rows, which {task} does not take")
        names = {"entropy": ("", "p"), "categorical": ("target", "pred")}.get(task, ("p", "q"))
        self._sparse: list[Any] = [
            None if x is None or not is_csr(x) else x if isinstance(x, Rows) else Rows(x, name)
            for x, name in zip((true, pred), names, strict=True)
        ]
        _refuse(options)
        stands = [
            x if s is None else s.like() for x, s in zip((true, pred), self._sparse, strict=True)
        ]
        self._call = prepare(task, columns, *stands, **options, **more)
        self.columns, self.rows = self._call.columns, self._call.rows
        self._prepare, self._task, self._more = prepare, task, more
        self._options = {**options, "sample_weight": None}
        self._axis = options.get("axis", -1)
        self._pairs = any(s is not None and len(s.lead) > 1 for s in self._sparse)
        self._pair_starts = (0, 0)
        self._dense: list[Any] = [
            None if s is not None else _last(x, self._axis)
            for s, x in zip(self._sparse, stands, strict=True)
        ]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._call, name)

    def of_pairs(self, first: int, second: int) -> None:
        """Name rows in messages as those of p and of q, which begin with these."""
        self._pair_starts = (first, second)

    def values(self, start: int, stop: int, more: int = 0) -> np.ndarray:
        """Row values of rows [start, stop), by the engine's kernels, and so many empty lines."""
        found = np.empty((len(self.columns) + more, stop - start))
        step = max(1, BLOCK // self._call.classes) if self._wide() else BLOCK // 8
        for first in range(start, stop, step):
            last = min(stop, first + step)
            with np.errstate(all="ignore"):  # inf and nan are values here
                lines = found[: len(self.columns), first - start : last - start]
                self._block(np.arange(first, last), lines)
        return found

    def reduce(self, reduction: Any, out: Any, keepdims: Any = False) -> Any:
        from fastent._errors import as_keepdims, as_reduction

        reduction = as_reduction(reduction)
        kept = None
        lead = self._call.lead
        if as_keepdims(keepdims, reduction):
            kept = full_shape(lead, 1, self._axis, 0)
        values = self.values(0, self.rows)
        weights = self._call.weights(0, self.rows) if self._call.weighted else None
        if len(values) > 1 and reduction == "mean":
            divisor = values[1] if weights is None else values[1] * weights
            total = reduced(values[0], weights, "sum", None)
            weight = reduced(divisor, None, "sum", None)
            found = np.float64(total / weight if weight else np.nan)
            return reduced(np.asarray(found), None, "none", out)
        shaped = None if weights is None else weights.reshape(lead)
        return reduced(values[0].reshape(lead), shaped, reduction, out, kept)

    # --- blocks -----------------------------------------------------------------------------------

    def _wide(self) -> bool:
        """Whether rows are as wide as the dense ones beside them."""
        dense = self._dense[0] if self._dense[0] is not None else self._dense[1]
        return dense is not None and self._task != "entropy" and not self._one_row()

    def _one_row(self) -> bool:
        """Whether one plain dense row is beside all the sparse ones."""
        dense = self._dense[0] if self._dense[0] is not None else self._dense[1]
        if dense is None or dense.size != dense.shape[-1] or self._more.get("rows_module"):
            return False
        if self._pairs:  # how many are beside it is not the row's business
            return False
        return (
            bool((dense >= 0).all())
            and bool(np.isfinite(dense).all())
            and (set(self.columns) <= {*LINEAR, *FIRST, *SECOND})
        )

    def _place(self, which: int, rows: np.ndarray) -> np.ndarray:
        """Which rows of an operand these are."""
        sparse, dense = self._sparse[which], self._dense[which]
        own = sparse.lead if sparse is not None else dense.shape[:-1]
        places = np.arange(int(np.prod(own))).reshape(own)
        lead = self._call.lead
        if own == lead:
            return rows
        spread = np.broadcast_to(places, lead)
        return np.asarray(spread[np.unravel_index(rows, lead)])

    def _block(self, rows: np.ndarray, out: np.ndarray) -> None:
        if self._task != "entropy" and self._one_row():
            self._beside_one_row(rows, out)
        elif self._wide():
            sides = []
            for which, sparse in enumerate(self._sparse):
                place = self._place(which, rows)
                if sparse is None:
                    dense = self._dense[which]
                    sides.append(dense.reshape(-1, dense.shape[-1])[place])
                    continue
                keys, numbers = sparse.stored(place)
                full = np.zeros((len(rows), sparse.classes))
                full.reshape(-1)[keys] = numbers
                sides.append(full)
            self._engine(rows, np.arange(len(rows)), sides[0], sides[1], out)
        else:
            self._beside_sparse_rows(rows, out)

    def _beside_sparse_rows(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Two sparse rows, or one alone: the classes that any of them stores, and the first ones,
        which are among the largest of a row that is 0 beyond a few classes."""
        classes = self._call.classes
        found = [
            None if s is None else s.stored(self._place(which, rows))
            for which, s in enumerate(self._sparse)
        ]
        tops = re.findall(r"top(\d+)", " ".join(self.columns))
        some = np.arange(min(classes, max([1, *map(int, tops)])))
        firsts = (np.arange(len(rows))[:, None] * classes + some).reshape(-1)
        keys = _union(firsts, *(f[0] for f in found if f is not None))
        sides = []
        for one in found:
            side = None if one is None else np.zeros(len(keys))
            if one is not None and side is not None:
                side[np.searchsorted(keys, one[0])] = one[1]
            sides.append(side)
        widths = np.bincount(keys // classes, minlength=len(rows))
        self._by_width(rows, widths, sides, out)
        starts = np.cumsum(widths) - widths
        for name, line in zip(self.columns, out, strict=True):
            if name in CLASS:  # of those that are stored here
                known = ~np.isnan(line)
                line[known] = keys[starts[known] + line[known].astype(np.int64)] % classes

    def _beside_one_row(self, rows: np.ndarray, out: np.ndarray) -> None:
        """The stored classes of each row, and the others of the dense row as one."""
        which = 0 if self._sparse[0] is not None else 1
        sparse, dense = self._sparse[which], self._dense[1 - which].reshape(-1)
        keys, numbers = sparse.stored(self._place(which, rows))
        columns = keys % sparse.classes
        beside = dense[columns].astype(np.float64)
        counts = np.bincount(keys // sparse.classes, minlength=len(rows))
        ends = np.cumsum(counts)
        rest = _rests(dense.astype(np.float64), columns, beside, counts)
        here = [np.insert(numbers, ends, 0.0), np.insert(beside, ends, rest)]
        sides = here if which == 0 else here[::-1]
        alone = {name: k for k, name in enumerate(self.columns) if name in (*FIRST, *SECOND)}
        linear = tuple(name for name in self.columns if name not in alone)
        if linear:
            table = np.empty((len(linear), len(rows)))
            self._by_width(rows, counts + 1, sides, table, linear)
            out[[self.columns.index(name) for name in linear]] = table
        for name, k in alone.items():
            of_sparse = (name in FIRST) == (which == 0)
            if of_sparse:
                first = np.arange(len(rows)) * sparse.classes
                both = _union(first, keys)
                side = np.zeros(len(both))
                side[np.searchsorted(both, keys)] = numbers
                widths = np.bincount(both // sparse.classes, minlength=len(rows))
                self._by_width(rows, widths, [side, side], out[k : k + 1], (name,))
            else:
                call = self._settled((name,), dense[None], dense[None])
                out[k] = call.values(0, 1)[0, 0]

    def _by_width(
        self, rows: np.ndarray, widths: np.ndarray, sides: list[Any], out: np.ndarray,
        columns: tuple[str, ...] | None = None,
    ) -> None:  # fmt: skip
        """Rows of numbers one after another, to the engine with others that are as wide."""
        starts = np.cumsum(widths) - widths
        errors = []
        for width, chosen in _groups(widths):
            at = starts[chosen][:, None] + np.arange(width)
            first, second = (None if s is None else s[at] for s in sides)
            try:
                self._engine(rows, chosen, first, second, out, columns)
            except ValueError as error:
                errors.append(error)
        if errors:
            raise min(errors, key=row_of)

    def _engine(
        self, rows: np.ndarray, chosen: np.ndarray, first: Any, second: Any, out: np.ndarray,
        columns: tuple[str, ...] | None = None,
    ) -> None:  # fmt: skip
        call = self._settled(columns or self.columns, first, second)
        try:
            out[:, chosen] = call.values(0, len(chosen))
        except ValueError as error:
            place = row_of(error)
            if place < 0:
                raise
            row = int(rows[chosen[place]])
            if self._pairs:
                which = not str(error).startswith(call.names[0])
                row = self._pair_starts[which] + divmod(row, self._call.lead[1])[which]
                error = type(error)(f"{'pq'[which]}{str(error).removeprefix(call.names[which])}")
            raise with_row(error, row) from None

    def _settled(self, columns: tuple[str, ...], first: Any, second: Any) -> Any:
        options = {k: v for k, v in self._options.items() if k not in ("axis", "sample_weight")}
        more = {k: v for k, v in self._more.items() if k != "by_weight"}
        true = None if self._task == "entropy" else first
        call = self._prepare(self._task, columns, true, second, **options, **more)
        call.judge_like(self._call)
        return call


def _refuse(options: dict[str, Any]) -> None:
    """What CSR rows are not taken with."""
    kind = options.get("kind", "probs")
    if kind != "probs" and tuple(kind) != ("probs", "probs"):
        raise ValueError(f"kind: expected 'probs' with CSR rows, got {shown(kind)}")
    for name in ("eps", "label_smoothing", "class_weight"):
        value = options.get(name)
        if value is not None and np.any(value):
            raise ValueError(f"{name}: does not apply to CSR rows, got {shown(value)}")
    if options.get("axis", -1) not in (-1, 1) or isinstance(options.get("axis", -1), bool):
        raise ValueError(f"axis: expected the last one of CSR rows, got {shown(options['axis'])}")
    weight = options.get("sample_weight")
    if weight is not None and np.ndim(weight) > 1:
        raise ValueError(
            f"sample_weight: expected weights of rows beside CSR rows, got shape {np.shape(weight)}"
        )


def _last(given: Any, axis: int) -> Any:
    """A dense operand as an array, its classes last."""
    if given is None:
        return None
    from fastent._weights import as_floats
    from fastent.backends.views import as_numpy

    array, disguised = as_numpy(given, "pred")
    return np.moveaxis(as_floats(given, "pred") if disguised else array, axis, -1)


def _union(*several: np.ndarray) -> np.ndarray:
    """Keys, from 0 on, that are in one of them, ascending. np.unique hashes, which takes ten times
    as long as sorting runs that are in order."""
    keys = np.concatenate(several)
    keys.sort()
    return np.asarray(keys[np.diff(keys, prepend=-1) > 0])


def _groups(widths: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(width, the rows that have it)."""
    order = np.argsort(widths, kind="stable")
    different, first = np.unique(widths[order], return_index=True)
    for width, chosen in zip(different.tolist(), np.split(order, first[1:]), strict=True):
        for at in range(0, len(chosen), max(1, BLOCK // width)):
            yield width, np.sort(chosen[at : at + max(1, BLOCK // width)])


def _rests(
    dense: np.ndarray, columns: np.ndarray, beside: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Of the dense row the sum without the columns of each sparse row, right to its last digits."""
    total = dense.astype(np.longdouble).sum()
    ends = np.cumsum(counts)
    sums = np.zeros(len(counts), np.longdouble)
    some = counts > 0
    if some.any():
        starts = (ends - counts)[some]
        sums[some] = np.add.reduceat(beside.astype(np.longdouble), starts)
    rest = total - sums
    for row in np.flatnonzero(~(rest >= SMALL_REST * total)).tolist():
        left = np.ones(len(dense), np.bool_)
        left[columns[ends[row] - counts[row] : ends[row]]] = False
        rest[row] = dense[left].astype(np.longdouble).sum()
    return rest.astype(np.float64)
