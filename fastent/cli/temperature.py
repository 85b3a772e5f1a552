"""``--fit-temperature``: passes over the rows, each of which brings the exact sums that Newton's
method asks for, of all rows and of each group."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from fastent._temperature import (
    START,
    SUMS,
    Ask,
    FittedTemperature,
    Search,
    flat_rows,
    search,
    terms,
)
from fastent.backends.cython.accumulate.group_ids import row_ids
from fastent.backends.cython.accumulate.state import State
from fastent.cli.accumulators import lane_count
from fastent.cli.arguments import UsageError
from fastent.cli.errors import located
from fastent.cli.scored_rows import Scorer
from fastent.io.shards import Block, Piece
from fastent.report.document import number
from fastent.results import rounded

COLUMNS = [(f"sum {k}", k, 0, 0, False) for k in range(SUMS)]
# What it knows nothing of, by what it is without.
PLAIN = {"temperature": 1.0, "eps": 0.0, "label_smoothing": 0.0, "base": None}


def check_options(options: argparse.Namespace) -> None:
    """Refuse what has another loss than the one that is fitted."""
    if options.task != "sparse" or options.kind != "logits":
        raise UsageError("--fit-temperature needs --task sparse and --kind logits")
    for name, plain in PLAIN.items():
        if getattr(options, name) != plain:
            raise UsageError(
                f"--fit-temperature: its loss is that of the logits as they are, expected no "
                f"--{name.replace('_', '-')}"
            )


@dataclass(frozen=True)
class Asks:
    """What a pass is to find out: of all rows, of groups by name, and of all other groups."""

    whole: Ask | None = START
    groups: dict[Any, Ask] = field(default_factory=dict)
    others: Ask | None = START


class PassSums:
    """Sums of one pass, of all rows and by group."""

    def __init__(self, asks: Asks, settings: dict[str, Any], omit: bool, threads: int) -> None:
        self._asks = asks
        self._settings = settings
        self._omit = omit
        self._threads = threads
        self.whole, self.groups = State(COLUMNS), State(COLUMNS)

    def add(self, piece: Piece) -> None:
        given = piece.arrays
        labels, logits, weight, *_ = flat_rows(
            given["labels"], given["predictions"], self._settings["class_weight"],
            given.get("weights"), self._settings["ignore_index"], -1,
        )  # fmt: skip
        if self._omit:
            weight = np.where(np.isnan(logits.astype(np.float64)).any(-1), 0.0, weight)
        if self._asks.whole is not None:
            self.whole.add(terms(self._asks.whole, labels, logits, weight, self._threads))
        if "groups" in given and (self._asks.groups or self._asks.others):
            names = row_ids(given["groups"], weight.shape, "groups")
            for name, chosen in _by_name(names, weight):
                ask = self._asks.groups.get(name, self._asks.others)
                if ask is not None:
                    found = terms(
                        ask, labels[chosen], logits[chosen], weight[chosen], self._threads
                    )
                    self.groups.add(found, groups=[name] * len(chosen))

    def merge(self, other: PassSums) -> PassSums:
        self.whole.merge(other.whole)
        self.groups.merge(other.groups)
        return self

    def state(self, lazily: bool) -> dict[str, Any]:
        return {"whole": self.whole.to_dict(lazily), "groups": self.groups.to_dict(lazily)}

    def load(self, state: dict[str, Any]) -> None:
        self.whole = self.whole.empty().load(state["whole"])
        self.groups = self.groups.empty().load(state["groups"])


def _by_name(names: Any, weight: np.ndarray) -> Iterator[tuple[Any, np.ndarray]]:
    """Rows of each group; those of weight 0 leave no trace."""
    each: dict[Any, list[int]] = {}
    found = names.tolist() if isinstance(names, np.ndarray) else names
    for row in np.flatnonzero(weight > 0).tolist():
        each.setdefault(found[row], []).append(row)
    for name, rows in each.items():
        yield name, np.array(rows)


class PassScorer(Scorer):
    """Adds up a pass, on one machine or on the workers of a cluster."""

    kept = 0
    rows_columns = ()

    def __init__(
        self,
        asks: Asks,
        settings: dict[str, Any],
        options: argparse.Namespace,
        groups: int,
        threads: int,
    ) -> None:
        lanes = lane_count(threads, None, groups)
        omit = options.nan_policy == "omit"
        super().__init__(lambda: PassSums(asks, settings, omit, threads // lanes), lanes, 0)

    def work(self, piece: Piece) -> None:
        with self.lanes.borrow() as sums:
            try:
                sums.add(piece)
            except (ValueError, TypeError) as error:
                raise located(error, piece) from None

    def collect(self, block: Block, results: list[Any]) -> list[Any]:
        return []


Pass = Callable[[Callable[[int], PassScorer]], PassScorer]


def fit(
    go_through: Pass, settings: dict[str, Any], options: argparse.Namespace, groups: int
) -> dict[str, Any]:
    """The temperatures, as the document has them.

    Parameters
    ----------
    go_through : callable
        Goes through all rows once with a scorer that it makes for so many threads.
    settings : dict
        Keywords of an accumulator.
    options : Namespace
    groups : int
        At most how many there are.
    """
    searches: dict[Any, Search] = {}
    whole = search()
    next(whole)
    fitted: dict[Any, FittedTemperature] = {}
    overall: FittedTemperature | None = None
    asks = Asks()
    while asks.whole or asks.groups or asks.others:
        make = partial(PassScorer, asks, settings, options, groups)
        sums = go_through(make).lanes.total()
        asked, new = None, {}
        if asks.whole is not None:
            asked, overall = _answer(whole, sums.whole, None)
        for code, name in enumerate(sums.groups.groups.names):
            if name not in searches:
                searches[name] = search()
                next(searches[name])
            ask, done = _answer(searches[name], sums.groups, code)
            if ask is not None:
                new[name] = ask
            elif done is not None:
                fitted[name] = done
        asks = Asks(asked, new, None)
    assert overall is not None
    found = _entry(overall)
    if options.groups:
        found["groups"] = {str(name): _entry(fitted[name]) for name in _ordered(fitted)}
    return found


def _answer(
    going: Search, state: Any, group: int | None
) -> tuple[Ask | None, FittedTemperature | None]:
    """Tell a search its sums: what it asks next, or what it has found."""
    try:
        return going.send([rounded(state.sums(k, group)[0]) for k in range(SUMS)]), None
    except StopIteration as done:
        return None, done.value


def _ordered(names: dict[Any, Any]) -> list[Any]:
    """Integers in order, then strings: as the groups of a report."""
    return sorted(names, key=lambda name: (isinstance(name, str), name))


def _entry(one: FittedTemperature) -> dict[str, Any]:
    return {name: number(value) for name, value in one._asdict().items()}
