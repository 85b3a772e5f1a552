"""Logs of evaluations, document by document: lm-eval's samples, or columns of tables."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastent.io import Reference, open_source
from fastent.io.errors import InputError, reading
from fastent.io.source import Buffer

SAMPLES = re.compile(r"samples_(.+?)(?:_\d{4}-\d\d-\d\dT[\d.\-:]+)?\.jsonl")
KEY = ("doc_id", "doc_hash", "filter")


@dataclass
class Log:
    """Documents by key: for each metric a value and a denominator, and what cluster they are of."""

    name: str
    values: dict[str, dict[Hashable, tuple[float, float]]] = field(default_factory=dict)
    keys: dict[Hashable, Hashable] = field(default_factory=dict)  # to clusters


def task_of(path: str) -> str | None:
    """The task of a file of lm-eval's samples."""
    found = SAMPLES.fullmatch(os.path.basename(path))
    return None if found is None else found[1]


def samples_in(path: str) -> dict[str, str]:
    """Files of samples by task: the one, or those of a directory."""
    if not os.path.isdir(path):
        return {task_of(path) or os.path.basename(path): path}
    found: dict[str, str] = {}
    for folder, _, names in sorted(os.walk(path)):
        for name in sorted(names):
            task = task_of(name)
            if task is not None:
                full = os.path.join(folder, name)
                if task in found:
                    raise InputError(f"{full}: another file of {task} beside {found[task]}")
                found[task] = full
    if not found:
        raise InputError(f"{path}: no samples_TASK_*.jsonl in this directory")
    return found


def read_samples(path: str, clusters: str | None) -> Log:
    """A file of lm-eval's samples; ``clusters`` names a field, ``doc.page`` one of a field."""
    log = Log(path)
    with reading(path), open(path, encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                _add_sample(log, f"{path}: line {number}", line, clusters)
    if not log.keys:
        raise InputError(f"{path}: no documents")
    return log


def _add_sample(log: Log, where: str, line: str, clusters: str | None) -> None:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict) or "doc_id" not in found:
        raise InputError(f"{where} is no document of lm-eval's samples")
    key = tuple(str(found.get(name)) for name in KEY)
    if key in log.keys:
        raise InputError(f"{where}: document {found['doc_id']} is there twice")
    cluster: Any = None
    if clusters is not None:
        cluster = found
        for part in clusters.split("."):
            if not isinstance(cluster, dict) or part not in cluster:
                raise InputError(f"{where}: no field {clusters!r}")
            cluster = cluster[part]
        cluster = str(cluster)
    log.keys[key] = cluster
    names = found.get("metrics")
    if not isinstance(names, list):  # before 0.4.9
        names = [name for name in found if _pair(found[name]) is not None and name != "doc_id"]
    for name in names:
        pair = _pair(found.get(name))
        if pair is not None:
            log.values.setdefault(str(name), {})[key] = pair


def _pair(value: Any) -> tuple[float, float] | None:
    """A number, or a sum and what it is a sum over; None for what is neither."""
    if isinstance(value, bool | int | float):
        return float(value), 1.0
    if isinstance(value, list) and len(value) == 2:
        if all(isinstance(x, int | float) and not isinstance(x, bool) for x in value):
            return float(value[0]), float(value[1])
    return None


def read_columns(
    path: str, value: str | None, denominator: str | None, ids: str | None, clusters: str | None
) -> Log:
    """Columns of a table, or an array, whose rows are documents."""
    name = value or "value"
    log = Log(path)
    values = _column(path, value, True)
    below = None if denominator is None else _column(path, denominator, True)
    keys = list(range(len(values))) if ids is None else _column(path, ids, False)
    of = None if clusters is None else _column(path, clusters, False)
    found = log.values.setdefault(name, {})
    for row, key in enumerate(keys):
        if key in log.keys:
            raise InputError(f"{path}: row {row} has the id {key!r} of another")
        log.keys[key] = None if of is None else str(of[row])
        found[key] = float(values[row]), 1.0 if below is None else float(below[row])
    if below is not None and not all(b >= 0 for _, b in found.values()):
        raise InputError(f"{path}:{denominator}: expected numbers of 0 or more")
    if not log.keys:
        raise InputError(f"{path}: no rows")
    return log


def _column(path: str, name: str | None, numbers: bool) -> list[Any]:
    with open_source(Reference(path, name), "kept") as source, reading(source.name):
        source.open()
        found = np.array(source.read(0, source.rows, Buffer()))
    if found.ndim != 1:
        raise InputError(f"{source.name}: rows of {found.shape[1]} numbers, expected one each")
    if numbers and found.dtype.kind not in "iufb":
        raise InputError(f"{source.name}: dtype {found.dtype}, expected numbers")
    return [x.item() if hasattr(x, "item") else x for x in found]
