"""Metrics of Dask arrays and dataframes: an accumulator per block, merged in a tree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

from dask.delayed import Delayed

from fastent._errors import as_text
from fastent._keywords import AccumulatorKeywords, explained
from fastent.accumulator import Accumulator
from fastent.dask.blocks import align, tree


@explained
def accumulate(
    metrics: Any,
    true: Any,
    pred: Any,
    *,
    sample_weight: Any = None,
    groups: Any = None,
    clusters: Any = None,
    **options: Unpack[AccumulatorKeywords],
) -> Delayed:
    """Metrics of all rows, lazily.

    Parameters
    ----------
    metrics : str, divergence, or sequence of them
        As in `fastent.Accumulator`.
    true, pred : dask array or dataframe
        Labels or targets, then predictions; p and q for divergences. A dataframe has a column for
        each class, a series is one number a row. What is in memory is cut like what is not.
    sample_weight, groups, clusters : dask array or series, optional
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
    if task == "topk":
        raise ValueError(
            "task: expected one of two arrays, got 'topk'; fastent compare --dask takes lists"
        )
    if options.get("num_threads") is None:
        options["num_threads"] = 1
    several = isinstance(metrics, Iterable) and not isinstance(metrics, str)
    names = list(metrics) if several else [metrics]
    Accumulator(names, **options)  # refuses now what it would refuse on a worker
    sides = {"sample_weight": sample_weight, "groups": groups, "clusters": clusters}
    where = None if task == "binary" else axis
    first = "labels" if task == "sparse" else "p" if task == "divergence" else "target"
    second = "q" if task == "divergence" else "pred"
    blocks = align({first: true, second: pred}, where, task, sides)
    leaves = blocks.map(_add, True, metrics=names, operands=(first, second), options=options)
    return tree(leaves, _merged, Accumulator.compute)


def _add(
    arrays: dict[str, Any], metrics: list[Any], operands: tuple[str, str], options: Any
) -> Accumulator:
    true, pred = (arrays.pop(name) for name in operands)
    return Accumulator(metrics, **options).update(true, pred, **arrays)


def _merged(parts: list[Accumulator]) -> Accumulator:
    """A new accumulator: what a task is given belongs to Dask."""
    total = parts[0].copy()
    for part in parts[1:]:
        total.merge(part)
    return total
