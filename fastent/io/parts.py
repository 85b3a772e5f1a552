"""Which array or columns of a file are meant when the command does not say."""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

from fastent.io.errors import InputError
from fastent.io.reading import Reading

# What numbers of each kind are called; a part of another kind's name is not meant.
KIND_NAMES = {
    "probs": ("probs", "prob", "probabilities", "probability", "proba"),
    "logprobs": ("logprobs", "logprob", "log_probs"),
    "logits": ("logits", "logit"),
}
PREDICTIONS = ("predictions", *itertools.chain(*KIND_NAMES.values()))
LABELS = ("labels", "label")
# What a part that plays a role is called when nobody says, the surest names first. Those on one
# line are equal: where a file has several of them, its writer must have meant different things.
USUAL_NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "labels": (LABELS, ("target", "targets", "y", "y_true", "truth")),
    "targets": (("targets", "target"), LABELS),
    "groups": (("groups", "group"),),
    "clusters": (("clusters", "cluster"),),
    "weights": (("weights", "weight"),),
    "bytes": (("bytes",),),
}
SIDES = frozenset(itertools.chain(*itertools.chain(*USUAL_NAMES.values())))
# Numbers that count rows; pandas writes an index as a column without a name.
COUNTERS = re.compile(r"(?i)(.*[ _.-])?(id|idx|index|key)|unnamed: \d+|__index_level_\d+__|")
SHOWN = 8


class Columns(NamedTuple):
    """Columns of a table: one, or one per class."""

    names: list[str]
    per_class: bool
    classes: tuple[str, ...] | None = None  # whose names the columns have

    def shown(self) -> str:
        first, last = self.names[0], self.names[-1]
        return first if len(self.names) == 1 else f"{first}..{last}"


def listed(names: list[str]) -> str:
    shown = ", ".join(short(name) for name in names[:SHOWN])
    return shown + (", ..." if len(names) > SHOWN else "") or "nothing"


def short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _usual(names: list[str], role: str, how: Reading, path: str) -> str | None:
    """The one of the names that says what the part is for."""
    lower = {name.lower(): name for name in reversed(names)}
    for rank in (PREDICTIONS,) if role == "predictions" else USUAL_NAMES[role]:
        found = [lower[name] for name in rank if name in lower]
        if how.kind is not None and len(found) > 1:
            found = [n for n in found if n.lower() in KIND_NAMES[how.kind]] or found
        if len(found) > 1:
            raise InputError(
                f"{path}: which of {listed(found)} holds the {role}? expected {path}:NAME"
            )
        if found:
            return found[0]
    return None


def _unclear(path: str, what: str, role: str, names: list[str]) -> InputError:
    hint = " (--classes names columns of classes)" if what == "column" else ""
    return InputError(
        f"{path}: which {what} holds the {role}? expected {path}:NAME with one of: "
        f"{listed(names)}{hint if role == 'predictions' else ''}"
    )


def choose_array(path: str, axes: dict[str, int], part: str | None, role: str, how: Reading) -> str:
    """The array of an .npz, .safetensors or .pt file; ``axes`` has its axes by name."""
    names = list(axes)
    if part is not None:
        if part not in axes:
            raise InputError(f"{path}: no array {part!r}, expected one of: {listed(names)}")
        return part
    usual = _usual(names, role, how, path)
    if usual is not None:
        return usual
    if role == "predictions":
        matrices = [name for name in names if axes[name] > 1]
        if len(matrices) == 1:
            return matrices[0]
    if len(names) == 1:
        return names[0]
    raise _unclear(path, "array", role, names)


def choose_columns(
    path: str, columns: dict[str, str], part: str | None, role: str, how: Reading
) -> Columns:
    """The column, or the columns one per class, of a table.

    ``columns`` says by name what each holds: "list", "real", "whole", "text" or "other".
    """
    rows_of_classes = role in ("predictions", "targets")
    if part is not None:
        if part in columns:
            return Columns([part], False)
        if rows_of_classes and how.classes is not None:
            return _by_name(path, columns, how.classes, [part.removesuffix("*")])
        found = _range(columns, part) or _family(columns, part.removesuffix("*"))
        if not found:
            raise InputError(f"{path}: no column {part!r}, expected one of: {listed([*columns])}")
        return _numbered(path, *found)
    if rows_of_classes:
        named = _after_classes(path, columns, role, how)
        if named is not None:
            return named
    usual = _usual(list(columns), role, how, path)
    if usual is not None:
        return Columns([usual], False)
    if len(columns) == 1:
        return Columns(list(columns), False)
    free = [n for n in columns if n not in how.other and not COUNTERS.fullmatch(n)]
    if role != "predictions" and len(free) == 1:
        return Columns(free, False)
    if rows_of_classes:
        numbers = _free(columns, how)
        lists = [name for name in columns if columns[name] == "list"]
        if len(lists) == 1:
            return Columns(lists, False)
        families = _families({n: h for n, h in columns.items() if n not in how.other})
        if not lists and len(families) == 1:
            return _numbered(path, *families.popitem())
        if not lists and not families and len(numbers) == 1:
            return Columns(numbers, False)
        if len(free) == 1 and columns[free[0]] in ("real", "whole"):
            return Columns(free, False)
        if len(families) > 1:
            shown = ", ".join(
                f"{path}:{family[0]}..{family[-1]}" for _, family in sorted(families.items())[:3]
            )
            raise InputError(f"{path}: which columns hold the {role}? expected one of: {shown}")
    raise _unclear(path, "column", role, list(columns))


def _free(columns: dict[str, str], how: Reading) -> list[str]:
    """Columns of numbers that have no other part to play."""
    return [
        name
        for name, holds in columns.items()
        if holds in ("real", "whole")
        and name not in how.other
        and name.lower() not in SIDES
        and not COUNTERS.fullmatch(name)
    ]


def _after_classes(path: str, columns: dict[str, str], role: str, how: Reading) -> Columns | None:
    """The columns called after classes, which are named or are the labels."""
    if how.classes is not None:
        if any(holds == "list" for holds in columns.values()):
            return None  # they name the numbers of a list
        prefixes = [name[: -len(how.classes[0])] for name in columns
                    if name.endswith(how.classes[0])]  # fmt: skip
        return _by_name(path, columns, how.classes, prefixes)
    if not how.labels or role != "predictions":
        return None
    label = max(how.labels, key=len)
    free = _free(columns, how)
    prefixes = [n.removesuffix(label) for n in free if n.endswith(label)]
    prefixes = [p for p in prefixes if all(p + label in columns for label in how.labels)]
    if not prefixes:
        return None
    _refuse_several(path, "label", prefixes)
    (prefix,) = prefixes
    family = [name for name in free if name.startswith(prefix)]
    if not prefix:
        # A column that no label is called after is a class without rows, or no class at all.
        reals = [name for name in family if columns[name] == "real"]
        family = reals if how.labels <= set(reals) else family
        strange = [name for name in family if name not in how.labels]
        if strange and not how.checked:
            raise InputError(
                f"{path}: no label is called {short(strange[0])}: is this column a class? "
                "expected --classes with the names of all"
            )
    return Columns(family, True, tuple(name.removeprefix(prefix) for name in family))


def _refuse_several(path: str, what: str, prefixes: list[str]) -> None:
    if len(prefixes) > 1:
        raise InputError(
            f"{path}: columns of every {what} follow {' and '.join(map(repr, prefixes[:3]))}, "
            f"expected {path}:PREFIX*"
        )


def _by_name(
    path: str, columns: dict[str, str], classes: tuple[str, ...], prefixes: list[str]
) -> Columns:
    """The columns of named classes, called so or so after one prefix."""
    whole = [p for p in dict.fromkeys(prefixes) if all(p + name in columns for name in classes)]
    if "" in whole:
        whole = [""]
    _refuse_several(path, "class", whole)
    if not whole:
        best = max(prefixes, key=lambda p: sum(p + name in columns for name in classes), default="")
        missing = next((name for name in classes if best + name not in columns), classes[0])
        raise InputError(
            f"{path}: no column for the class {short(missing)!r} of --classes, expected one of: "
            f"{listed([*columns])}"
        )
    names = [whole[0] + name for name in classes]
    if odd := [name for name in names if columns[name] not in ("real", "whole")]:
        raise InputError(f"{path}:{odd[0]}: expected numbers for predictions")
    return Columns(names, True, classes)


Family = tuple[str, list[str]]  # a prefix, and the columns called so with a number after it


def _number(name: str, prefix: str) -> int:
    return int(name[len(prefix) :])


def _range(columns: dict[str, str], part: str) -> Family | None:
    """The columns of ``p3..p9``, ``p3..9`` or ``3..9``."""
    ends = re.fullmatch(r"(.*?)([0-9]+)\.\.(.*?)([0-9]+)", part)
    if ends is None or ends[3] not in ("", ends[1]):
        return None
    prefix, first, last = ends[1], int(ends[2]), int(ends[4])
    _, members = _family(columns, prefix) or ("", [])
    chosen = [name for name in members if first <= _number(name, prefix) <= last]
    there = [_number(name, prefix) for name in (chosen[:1] + chosen[-1:])]
    return (prefix, chosen) if there == [first, last] else None


def _family(columns: dict[str, str], prefix: str) -> Family | None:
    """Number columns called prefix + digits, in the order of their numbers."""
    pattern = re.compile(re.escape(prefix) + "[0-9]+")
    members = [
        name
        for name, holds in columns.items()
        if holds in ("real", "whole") and pattern.fullmatch(name)
    ]
    members.sort(key=lambda name: _number(name, prefix))
    return (prefix, members) if members else None


def _families(columns: dict[str, str]) -> dict[str, list[str]]:
    """Families of several members, in the order of their numbers, by prefix."""
    pattern = re.compile("[0-9]+$")
    members: dict[str, list[str]] = {}
    for name, holds in columns.items():
        if holds in ("real", "whole") and not COUNTERS.fullmatch(name):
            if number := pattern.search(name):
                members.setdefault(name[: number.start()], []).append(name)
    found = {}
    for prefix, names in members.items():
        # class_-1 beside class_0: of one family, and not a family of its own.
        signed = prefix.endswith("-") and prefix[:-1] in members
        if len(names) > 1 and not signed:
            names += members.get(prefix + "-", [])
            found[prefix] = names
            names.sort(key=lambda name: _number(name, prefix))
    return found


def _numbered(path: str, prefix: str, family: list[str]) -> Columns:
    """The columns of a family, which must be those of the classes from 0 on.

    If a class had no column, the next one would take its number.
    """
    for before, name in itertools.pairwise(family):
        if _number(name, prefix) != _number(before, prefix) + 1:
            raise InputError(
                f"{path}: {name} comes after {before}, expected a column for each class"
            )
    if _number(family[0], prefix) != 0:
        names = ",".join(name[len(prefix) :] for name in family[:3])
        raise InputError(
            f"{path}: columns {family[0]} to {family[-1]} do not begin at 0: name the classes as "
            f"the labels do with --classes {names}" + (",..." if len(family) > 3 else "")
        )
    return Columns(family, True)
