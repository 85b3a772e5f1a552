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
    """What a command says of its files.

    Attributes
    ----------
    kind : str or None
        What predictions hold: of several parts the one called so is meant.
    classes : tuple of str or None
        Names of the classes in their order.
    labels : frozenset of str or None
        The labels, where they are text and no classes are named: predictions may stand in columns
        called so.
    checked : bool
        Whether rows of predictions must sum to 1, so that a wrong column among them is noticed.
    other : frozenset of str
        Columns that have another part to play, and so are no predictions.
    header : bool or None
        Whether text files begin with the names of their columns.
    separator : str or None
        What is between the columns of text files.
    format : str or None
        The suffix that all files are read as if they had.
    axis : int
        The class axis of arrays.
    rows : int or None
        How many rows a file that goes with this one has.
    certain : bool
        Whether only what is certain of a header is taken for one.
    whole_chunks : bool
        Whether the whole chunks of a dump that was cut off are taken.
    lists : str or None
        That rows are lists of their largest classes, and how: see `topk_lists`.
    tokens : str or None
        The table of tokens' texts.
    head : Head or None
        What rows of hidden states are multiplied by.
    """

    kind: str | None = None
    classes: tuple[str, ...] | None = None
    labels: frozenset[str] | None = None
    checked: bool = False
    other: frozenset[str] = frozenset()
    header: bool | None = None
    separator: str | None = None
    format: str | None = None
    axis: int = -1
    rows: int | None = None
    certain: bool = False
    whole_chunks: bool = False
    lists: str | None = None
    tokens: str | None = None
    head: Head | None = None


PLAIN = Reading()
