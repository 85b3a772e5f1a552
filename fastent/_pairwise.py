"""All pairs of rows, by the kernels of the row functions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import fastent.backends.cython.derivatives.loop as derivatives
from fastent import focal, functions
from fastent._csr import Rows, is_csr
from fastent._custom import as_divergence
from fastent._errors import as_text, shown
from fastent._keywords import Array, Kinds, RowSums, explained
from fastent._outputs import check_out
from fastent.backends.cython.columns import IN_NATS
from fastent.backends.cython.engine import prepare
from fastent.backends.cython.float_mode import in_default_mode
from fastent.divergences import named
from fastent.metrics import METRICS

# Names of the functions that are columns of a task, and those of metrics beside them.
FUNCTIONS = {
    "kl_divergence": ("divergence", "kl_divergence"),
    "js_divergence": ("divergence", "js_divergence"),
    "categorical_cross_entropy": ("categorical", "cross_entropy"),
}
OF_ONE_ROW = ("entropy_p", "entropy_q")
CLIPPED = ("kl_divergence", "js_divergence", "cross_entropy")
SYMMETRIC = (
    "js_divergence", "total_variation", "hellinger", "hellinger_distance", "jeffreys_divergence",
    "top1_agreement",
)  # fmt: skip
# Numbers of q that stay in the second-level cache while rows of p pass by, and pairs of numbers
# that are worth a call: it costs 20 µs.
CACHED = 1 << 16
WORTH = 1 << 22
PARTS = 8  # of which the symmetric half is made: a diagonal block is computed in full


@explained
@in_default_mode
def pairwise(
    divergence: Any,
    p: ArrayLike,
    q: ArrayLike | None = None,
    *,
    kind: Kinds = "probs",
    row_sums: RowSums = "check",
    eps: float = 0.0,
    temperature: float = 1.0,
    base: float | None = None,
    out: Array | None = None,
    num_threads: int | None = None,
) -> Array:
    """Divergences of all pairs: D(pᵢ, qⱼ) of each row of `p` and each row of `q`.

    Parameters
    ----------
    divergence : str or callable
        A name (``"js_divergence"``, ``"renyi_divergence(alpha=2)"``, a metric of two rows), a
        function of this package of two rows, perhaps with its parameter by
        ``functools.partial(fe.renyi_divergence, alpha=2)``, or what `fastent.divergence` made.
    p : array_like or CSR rows, shape (n, C)
        The first rows.
    q : array_like or CSR rows, shape (m, C), optional
        The second rows; those of `p` by default.

    Returns
    -------
    ndarray of float64, shape (n, m)
        With the bits of the row function. Of the rows of `p` alone what is symmetric is computed
        once, for i <= j.

    Raises
    ------
    ValueError, TypeError
        As the row function does, with the row of `p` or of `q`; what is no divergence.

    Notes
    -----
    Blocks of `q` stay in cache while the rows of `p` pass by, on all threads; nothing of the size
    n·m·C is ever made.

    Examples
    --------
    >>> import fastent as fe
    >>> fe.pairwise("js_divergence", [[1.0, 0.0], [0.0, 1.0]], base=2).round(12).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    >>> fe.pairwise(fe.total_variation, [[0.75, 0.25]], [[0.5, 0.5], [0.75, 0.25]]).tolist()
    [[0.25, 0.0]]
    """
    name, call = _resolved(divergence)
    rows = _rows(p, "p")
    others = rows if q is None else _rows(q, "q")
    if rows.shape[1] != others.shape[1]:
        raise ValueError(
            f"q: expected the classes of p, of shape {tuple(rows.shape)}, "
            f"got shape {tuple(others.shape)}"
        )
    symmetric = q is None and name in SYMMETRIC and not eps
    if q is None and not isinstance(kind, str) and len({*map(as_text, kind)}) > 1:
        raise ValueError(f"kind: expected one name for the rows of p alone, got {shown(kind)}")
    options: dict[str, Any] = {
        "kind": kind, "row_sums": row_sums, "eps": eps, "temperature": temperature, "base": base,
        "num_threads": num_threads,
    }  # fmt: skip
    n, m = rows.shape[0], others.shape[0]
    first = call(rows[:1, None], others[None, :1], options)  # judges the options
    found = np.empty((n, m)) if out is None else check_out(out, (n, m))
    if out is not None and any(np.may_share_memory(out, _memory(x)) for x in (rows, others)):
        found = np.empty((n, m))
    columns = _block(n, m, rows.shape[1], first.tile_rows, symmetric)
    for start in range(0, m, columns):
        stop = min(start + columns, m)
        last = stop if symmetric else n
        _fill(found, call, rows, others, (0, last), (start, stop), options)
        if symmetric:
            found[start:stop, :start] = found[:start, start:stop].T
            square = found[start:stop, start:stop]
            lower = np.tril_indices(stop - start, -1)
            square[lower] = square.T[lower]
    if out is not None and found is not out:
        out[...] = found
    return found if out is None else out


def _fill(
    found: np.ndarray, call: Callable[..., Any], rows: Any, others: Any,
    down: tuple[int, int], across: tuple[int, int], options: dict[str, Any],
) -> None:  # fmt: skip
    """A block of the table; as few rows at a time as keep its values in cache."""
    start, stop = across
    height = max(1, CACHED // max(1, stop - start))
    for top in range(*down, height):
        bottom = min(top + height, down[1])
        settled = call(rows[top:bottom, None], others[None, start:stop], options)
        settled.of_pairs(top, start)
        values = settled.values(0, settled.rows)
        found[top:bottom, start:stop] = values[0].reshape(bottom - top, stop - start)


def _block(n: int, m: int, classes: int, tile: int, symmetric: bool) -> int:
    """How many rows of q stay while those of p pass by: whole tiles, if they are not too many."""
    numbers = max(CACHED, WORTH // max(1, n))
    columns = max(1, numbers // classes)
    if symmetric:
        columns = min(columns, max(64, m // PARTS))
    if columns > tile:
        columns -= columns % tile
    return min(columns, max(1, m))


def _resolved(divergence: Any) -> tuple[str, Callable[..., Any]]:
    """(name, what settles a call for two operands) of what was given as a divergence."""
    known = {getattr(functions, name): name for name in FUNCTIONS}
    if isinstance(divergence, str):
        name = as_text(divergence)
        record = METRICS.get(name)
        if name in FUNCTIONS:
            return name, functools.partial(_settled, *FUNCTIONS[name])
        if record is not None and "divergence" in record.tasks and name not in OF_ONE_ROW:
            return name, functools.partial(_settled, "divergence", record.column)
        divergence = named(name)
        if divergence is None:
            raise ValueError(
                f"divergence: expected the name of a divergence of two rows, got {shown(name)}"
            )
    try:
        if divergence in known:
            name = known[divergence]
            return name, functools.partial(_settled, *FUNCTIONS[name])
    except TypeError:  # it has no hash
        pass
    own = as_divergence(divergence)
    if own is None and _is_focal(divergence):
        parameters = getattr(divergence, "keywords", {})
        own = (focal._SOFT, {"gamma": 2.0} | parameters, "focal_cross_entropy")
    if own is None:
        raise TypeError(
            "divergence: expected a name, a function of two rows or what fastent.divergence made, "
            f"got {shown(divergence)}"
        )
    return own[0].name, functools.partial(_settled_own, own[0], own[1])


def _is_focal(given: Any) -> bool:
    if isinstance(given, functools.partial):
        return given.func is focal.focal_cross_entropy and given.keywords.keys() <= {"gamma"}
    return given is focal.focal_cross_entropy


def _settled(task: str, column: str, p: Any, q: Any, options: dict[str, Any]) -> Any:
    if options["eps"] and column not in CLIPPED:
        raise ValueError(f"eps: does not apply to {column}, got {shown(options['eps'])}")
    if options["base"] is not None and column not in IN_NATS:
        raise ValueError(f"base: does not apply to {column}, got {shown(options['base'])}")
    return prepare(task, (column,), p, q, **options)


def _settled_own(
    own: Any, parameters: dict[str, float], p: Any, q: Any, options: dict[str, Any]
) -> Any:
    options = dict(options)
    if eps := options.pop("eps"):
        raise ValueError(f"eps: does not apply to {own.name}, got {shown(eps)}")
    if options["base"] is not None and not own.nats:
        raise ValueError(f"base: does not apply to {own.name}, got {shown(options['base'])}")
    if own is focal._SOFT and isinstance(options["kind"], str):
        options["kind"] = ("probs", options["kind"])
    return own.prepare(p, q, parameters=parameters, **options)


def _rows(given: Any, name: str) -> Any:
    """A table that slices are taken of: an array, a bfloat16 tensor as it is, or CSR rows."""
    if is_csr(given):
        return Rows(given, name)
    array, disguised = derivatives.as_array(given, name)
    if array.ndim != 2:
        raise ValueError(f"{name}: expected shape (rows, classes), got {array.shape}")
    if array.shape[1] == 0:
        raise ValueError(f"{name}: expected at least one class, got shape {array.shape}")
    return given.detach() if disguised else array


def _memory(rows: Any) -> np.ndarray:
    if isinstance(rows, Rows):
        return np.asarray(rows.data)
    return np.asarray(derivatives.as_array(rows, "p")[0])
