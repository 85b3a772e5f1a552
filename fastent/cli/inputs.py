"""From the options of a command to shards: which files, which parts, in step."""

from __future__ import annotations

import argparse
import os
from collections import Counter

from fastent.cli.arguments import UsageError
from fastent.io import InputError, Reference, Source, expand, is_column_name, open_source
from fastent.io.names import AsText
from fastent.io.shards import Shards, align, resolve


def score_shards(options: argparse.Namespace) -> Shards:
    """Predictions with their labels and sides."""
    references = _files(options.predictions)
    role = "labels" if options.task == "sparse" else "targets"
    sides = _sides(options, references, role)
    if role not in sides:
        sides[role] = _labels_inside(references)
    flat = options.task == "binary"
    left_out: list[dict[str, str]] = []
    if options.on_error == "skip":
        references, sides, left_out = _usable(references, sides, flat)
    predictions = [_flat(open_source(r, "predictions")) if flat else open_source(r, "predictions")
                   for r in references]  # fmt: skip
    opened = {}
    for name, found in sides.items():
        flatten = name != "targets" or flat
        opened[name] = [_flat(s) if flatten else s for s in (open_source(r, name) for r in found)]
    _distinct(predictions, opened)
    _alike(opened)
    opened = {("labels" if name == "targets" else name): opened[name] for name in opened}
    shards = align(predictions, opened, need_classes=not flat)
    if options.task == "categorical":
        _same_classes(shards, "labels")
    shards.left_out = left_out
    return shards


def _usable(
    predictions: list[Reference], sides: dict[str, list[Reference]], flat: bool
) -> tuple[list[Reference], dict[str, list[Reference]], list[dict[str, str]]]:
    """Files that open and agree in rows with what belongs to them; the others with the reason."""
    for role, found in sides.items():
        if len(found) != len(predictions):
            raise UsageError(f"{role}: {len(found)} files, expected {len(predictions)}")
    widths: dict[int, int | None] = {}  # None where any number of classes will do
    left_out = []
    for number, reference in enumerate(predictions):
        try:
            main = open_source(reference, "predictions")
            parts = {role: [open_source(refs[number], role)] for role, refs in sides.items()}
            flattened = {role: [_flat(part[0])] for role, part in parts.items()
                         if role != "targets" or flat}  # fmt: skip
            align([_flat(main) if flat else main], parts | flattened, need_classes=not flat)
            widths[number] = main.classes if main.rows and not flat else None
        except InputError as error:
            left_out.append({"file": reference.name, "error": str(error)})
    if not widths:
        raise InputError(f"no file could be used; the first: {left_out[0]['error']}")
    for usual, _ in Counter(filter(None, widths.values())).most_common(1):
        for number in [n for n, width in widths.items() if width not in (usual, None)]:
            name = predictions[number].name
            why = f"{name}: {widths.pop(number)} classes, expected {usual} as in most files"
            left_out.append({"file": name, "error": why})
    kept = list(widths)
    sides = {role: [found[number] for number in kept] for role, found in sides.items()}
    return [predictions[number] for number in kept], sides, left_out


def compare_shards(options: argparse.Namespace) -> Shards:
    """P as the predictions, Q as the other operand, labels and sides if there are any."""
    references = _files([options.p])
    sides = _sides(options, references, "labels")
    predictions = [open_source(r, "predictions") for r in references]
    opened = {"other": [open_source(r, "predictions") for r in _files([options.q])]}
    for name, found in sides.items():
        opened[name] = [_flat(open_source(r, name)) for r in found]
    _alike(opened)
    shards = align(predictions, opened, need_classes=True)
    _same_classes(shards, "other")
    return shards


def _same_classes(shards: Shards, role: str) -> None:
    for shard in shards.items:
        p, q = shard.main, shard.sources[role]
        if shard.rows and p.classes != q.classes:
            raise UsageError(
                f"{q.name}: {q.classes or 'no'} classes, expected {p.classes} as in {p.name}"
            )


def _files(words: list[str]) -> list[Reference]:
    for word in words:
        if word.startswith(":"):
            raise UsageError(f"{word}: expected a file before the colon")
    return expand(words)


def _sides(
    options: argparse.Namespace, predictions: list[Reference], labels: str
) -> dict[str, list[Reference]]:
    found = {}
    for name in ("labels", "groups", "clusters", "weights", "bytes"):
        words = getattr(options, name)
        if words:
            if name != "labels" and len(words) == 1 and is_column_name(words[0]):
                words = [":" + words[0]]
            role = labels if name == "labels" else name
            found[role] = resolve(expand(words), predictions)
    return found


def _labels_inside(predictions: list[Reference]) -> list[Reference]:
    for reference in predictions:
        if os.path.splitext(reference.path)[1] == ".npy":
            raise UsageError(f"--labels is required: {reference.path} holds predictions only")
    return [Reference(reference.path) for reference in predictions]


def _flat(source: Source) -> Source:
    return source if source.classes is None else source.flattened()


def _distinct(predictions: list[Source], sides: dict[str, list[Source]]) -> None:
    """Labels that nobody named and that turn out to be the predictions are no labels."""
    names = {source.name for source in predictions}
    for role, sources in sides.items():
        for source in sources:
            if source.name in names:
                raise UsageError(
                    f"{source.name}: these are the predictions, expected {role}: name their file "
                    "or column"
                )


def _alike(sides: dict[str, list[Source]]) -> None:
    """Where some names of a role are text, as in CSV, all are: 7 and "7" mean one group."""
    for role in sides.keys() & {"groups", "clusters"}:
        numbers = [source.dtype.kind in "iu" for source in sides[role]]
        if any(numbers) and not all(numbers):
            sides[role] = [
                AsText(source) if number else source
                for source, number in zip(sides[role], numbers, strict=True)
            ]
