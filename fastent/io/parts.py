"""Which array or column of a file is meant when the command does not say."""

from __future__ import annotations

import itertools
import re

from fastent.io.errors import InputError
from fastent.io.paths import natural_key

# What a part that plays a role is called when nobody says; predictions are found by shape.
USUAL_NAMES = {
    "predictions": ("predictions", "logits", "logprobs", "probs"),
    "labels": ("labels", "label"),
    "targets": ("targets", "target", "labels", "label"),
    "groups": ("groups", "group"),
    "clusters": ("clusters", "cluster"),
    "weights": ("weights", "weight"),
    "bytes": ("bytes",),
}


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return shown or "nothing"


def choose_array(path: str, axes: dict[str, int], part: str | None, role: str) -> str:
    """The array of an .npz or .safetensors file; ``axes`` has its number of axes by name."""
    names = list(axes)
    if part is not None:
        if part not in axes:
            raise InputError(f"{path}: no array {part!r}, expected one of: {_listed(names)}")
        return part
    usual = [name for name in USUAL_NAMES[role] if name in axes]
    if usual:
        return usual[0]
    if role == "predictions":
        matrices = [name for name in names if axes[name] > 1]
        if len(matrices) == 1:
            return matrices[0]
    if len(names) == 1:
        return names[0]
    raise InputError(
        f"{path}: which array holds the {role}? expected {path}:NAME with one of: {_listed(names)}"
    )


def choose_columns(path: str, columns: dict[str, str], part: str | None, role: str) -> list[str]:
    """The column, or the columns one per class, of a table.

    ``columns`` says by name what each column holds: "list", "number" or "other".
    """
    names = list(columns)
    if part is not None:
        if part in columns:
            return [part]
        found = _family(names, columns, part)
        if not found:
            raise InputError(f"{path}: no column {part!r}, expected one of: {_listed(names)}")
        return _without_gaps(path, part, found)
    usual = [name for name in USUAL_NAMES[role] if name in columns]
    if usual:
        return usual[:1]
    if len(names) == 1:
        return names
    if role == "predictions":
        lists = [name for name in names if columns[name] == "list"]
        if len(lists) == 1:
            return lists
        prefixes = {re.sub(r"\d+$", "", n) for n in names if re.search(r"\d+$", n)}
        families = {prefix: _family(names, columns, prefix) for prefix in prefixes}
        families = {prefix: family for prefix, family in families.items() if len(family) > 1}
        if not lists and len(families) == 1:
            return _without_gaps(path, *families.popitem())
    raise InputError(
        f"{path}: which column holds the {role}? expected {path}:NAME with one of: {_listed(names)}"
    )


def _family(names: list[str], columns: dict[str, str], prefix: str) -> list[str]:
    """Number columns called prefix + digits, in the order of their numbers."""
    pattern = re.compile(re.escape(prefix) + r"\d+")
    members = [n for n in names if pattern.fullmatch(n) and columns[n] == "number"]
    return sorted(members, key=natural_key)


def _without_gaps(path: str, prefix: str, family: list[str]) -> list[str]:
    """The columns of a family: if a class had none, the next one would take its number."""
    numbers = [int(name.removeprefix(prefix)) for name in family]
    for before, number in itertools.pairwise(numbers):
        if number != before + 1:
            raise InputError(
                f"{path}: {prefix}{number} comes after {prefix}{before}, expected a column for "
                "each class"
            )
    return family
