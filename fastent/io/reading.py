"""How files are to be read, where they do not say it themselves."""

from __future__ import annotations

from dataclasses import dataclass

from fastent.io.references import Reference


@dataclass(frozen=True)
class Head:
    """What is said of a side's head: files and numbers."""

    weights: Reference
    norm: Reference | None = None
    eps: float = 1e-6
    softcap: float | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Reading:
    """What a command says of its files."""

    kind: str | None = None  # of numbers: of several parts the one called so is meant
    classes: tuple[str, ...] | None = None  # names of the classes in their order
    # The labels, where they are text and no classes are named: what columns may be called.
    labels: frozenset[str] | None = None
    checked: bool = False  # rows must sum to 1, so that a wrong column among them is noticed
    other: frozenset[str] = frozenset()  # columns with another part to play: no predictions
    header: bool | None = None  # whether text files begin with the names of their columns
    separator: str | None = None  # what is between the columns of text files
    format: str | None = None  # the suffix that all files are read as if they had
    axis: int = -1  # the class axis of arrays
    rows: int | None = None  # of a file that goes with this one
    certain: bool = False  # only what is certain of a header is taken for one
    whole_chunks: bool = False  # those of a dump that was cut off are taken
    lists: str | None = None  # rows are lists of their largest classes, and how: see `topk_lists`
    tokens: str | None = None  # the table of tokens' texts
    head: Head | None = None  # what rows of hidden states are multiplied by


PLAIN = Reading()
