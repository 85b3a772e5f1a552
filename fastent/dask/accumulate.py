"""Metrics of Dask arrays and dataframes: an accumulator per block, merged in a tree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

from dask.delayed import Delayed

from fastent._errors import as_text, shown
from fastent._keywords import AccumulatorKeywords, explained
from fastent.accumulator import Accumulator
from fastent.dask.blocks import align, is_column, tree

LISTS = ("ids", "logprobs", "ranks")


@explained
def accumulate(
    metrics: Any,
    true: Any,
    pred: Any = None,
    *,
    sample_weight: Any = None,
    groups: Any = None,
    clusters: Any = None,
    bytes: Any = None,
    **options: Unpack[AccumulatorKeywords],
) -> Delayed:
    """Metrics of all rows, lazily.

    Parameters
    ----------
    metrics : str, divergence, or sequence of them
        As in `fastent.Accumulator`.
    true, pred : dask array or dataframe
        Labels or targets, then predictions; p and q for divergences; log-probabilities alone in
        task logprob; pairs (ids, logprobs), perhaps with ranks, in task topk. A dataframe has a
        column for each class, a series is one number a row. What is in memory is cut like what is
        not.
    sample_weight, groups, clusters, bytes : dask array or series, optional
        As in `Accumulator.update`.
    num_threads : int, optional
        Of each task; 1, the thread that Dask gave it, if not given.

    Returns
    -------
    dask.delayed.Delayed
        ``compute()`` gives the report, with the bits of one accumulator that saw all rows.

    Examples
    --------
    >>> import dask.array as da
    >>> from fastent.dask import accumulate
    >>> pred = da.from_array([[0.5, 0.5], [0.25, 0.75]], chunks=(1, 2))
    >>> report = accumulate("accuracy", da.from_array([0, 1]), pred).compute(scheduler="sync")
    >>> report["accuracy"].value
    1.0
    """
    task, axis = as_text(options.get("task", "sparse")), options.get("axis", -1)
    options["task"] = task
    if options.get("num_threads") is None:
        options["num_threads"] = 1
    several = isinstance(metrics, Iterable) and not isinstance(metrics, str)
    names = list(metrics) if several else [metrics]
    Accumulator(names, **options)  # refuses now what it would refuse on a worker
    if bytes is not None and task != "logprob":
        raise ValueError(f"bytes: applies to task 'logprob' only, not to {task!r}")
    sides = {"sample_weight": sample_weight, "groups": groups, "clusters": clusters}
    sides["bytes"] = bytes
    operands = _operands(task, true, pred)
    arrays = {name: data for parts in operands for name, data in parts.items()}
    lists: dict[str, Any] = {}
    if task == "topk":
        main = next(iter(operands[1]))
        lists, arrays = arrays, {main: arrays.pop(main)}
        axis = axis if main == "pred" else None if is_column(arrays[main]) else -1
    where = None if task in ("binary", "logprob") else axis
    blocks = align(arrays, where, task, sides, lists)
    order = [tuple(parts) for parts in operands]
    leaves = blocks.map(_add, True, metrics=names, operands=order, options=options)
    return tree(leaves, _merged, Accumulator.compute)


def _operands(task: str, true: Any, pred: Any) -> list[dict[str, Any]]:
    """The arrays of each operand of `update`, by name: one, or those of a list."""
    if task == "logprob":
        if pred is not None:
            raise TypeError("pred: task 'logprob' takes log-probabilities alone; name the rest")
        return [{"logprobs": true}]
    if pred is None:
        raise TypeError(f"pred: expected an array in task {task!r}, got None")
    if task != "topk":
        first = "labels" if task == "sparse" else "p" if task == "divergence" else "target"
        return [{first: true}, {"q" if task == "divergence" else "pred": pred}]
    if not isinstance(true, tuple | list) or len(true) not in (2, 3):
        raise TypeError(f"true: expected a pair (ids, logprobs) in task 'topk', got {shown(true)}")
    found = [dict(zip(LISTS, true, strict=False)), {"pred": pred}]
    if isinstance(pred, tuple) and len(pred) in (2, 3):
        found[1] = {f"pred {name}": x for name, x in zip(LISTS, pred, strict=False)}
    return found


def _add(
    arrays: dict[str, Any], metrics: list[Any], operands: list[tuple[str, ...]], options: Any
) -> Accumulator:
    given = [tuple(arrays.pop(name) for name in names) for names in operands]
    true_and_pred = (parts if len(parts) > 1 else parts[0] for parts in given)
    return Accumulator(metrics, **options).update(*true_and_pred, **arrays)


def _merged(parts: list[Accumulator]) -> Accumulator:
    """A new accumulator: what a task is given belongs to Dask."""
    total = parts[0].copy()
    for part in parts[1:]:
        total.merge(part)
    return total
