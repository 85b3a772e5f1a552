"""Damaged states of accumulators, and crafted checkpoints whose digest is right.

A state is taken or is a ValueError of one line; what is taken can be computed, merged and written
again. A command that finds a damaged checkpoint ends, with 0 or with 2 and one line.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import watched
from damage import NUMBERS, damaged

import fastent as fe
from fastent.cli import checkpoint, main as command
from fastent.cli.run import Run
from fastent.cli.skipping import SkippingRun
from fastent.io import shards

FOLDER = tempfile.mkdtemp(prefix="fastent-fuzz-")
ODD = [None, True, False, "", "x", "nan", "inf", "-inf", "0x1p9999", "0x1p-99999999", "-0x1p0",
       "0x", "0x1p", "p", "1e400", 1.5, float("nan"), float("inf"), -1, 10**30, -(2**63), [], {},
       [[]], [None], {"later": 0}, {"later": -1}, {"later": 10**9}, "\ud800", "a" * 5000
       ]  # fmt: skip


def pick(rng, choices):
    return choices[rng.integers(len(choices))]


def places(data, path=()):
    yield path
    if isinstance(data, dict | list):
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from places(data[key], (*path, key))


def bent(rng, data):
    """A tree of JSON with some parts exchanged for others."""
    data = copy.deepcopy(data)
    for _ in range(int(pick(rng, [1, 1, 1, 2, 5]))):
        every = list(places(data))
        path = pick(rng, every)
        if not path:
            continue
        other = pick(rng, every)
        at = data
        for key in path[:-1]:
            at = at[key]
        kind = pick(rng, ["odd", "odd", "number", "other", "drop", "twice", "text"])
        if kind == "odd":
            at[path[-1]] = pick(rng, ODD)
        elif kind == "number":
            at[path[-1]] = pick(rng, NUMBERS) - pick(rng, [0, 0, 1, 2**63])
        elif kind == "other":
            value = data
            for key in other:
                value = value[key]
            at[path[-1]] = copy.deepcopy(value)
        elif kind == "drop":
            del at[path[-1]]
        elif kind == "twice" and isinstance(at, list):
            at.insert(path[-1], copy.deepcopy(at[path[-1]]))
        elif isinstance(at[path[-1]], str):
            text = damaged(rng, at[path[-1]].encode(errors="replace"), ends=False, text=True)
            at[path[-1]] = text.decode(errors="replace")
    return data


def states():
    rng = np.random.default_rng(8)
    p, q = rng.dirichlet(np.ones(4), (2, 30))
    labels, groups, w = rng.integers(0, 4, 30), rng.integers(0, 3, 30), rng.random(30)
    found = []
    more_wanted = ("bits_per_byte", "sequence_cross_entropy")  # bytes, clusters
    for task in fe.metrics.TASKS:
        if task == "topk":
            continue
        metrics = [m for m in fe.metrics.names(task) if "{" not in m and m not in more_wanted]
        operands = {"sparse": (labels, q), "binary": (q[:, 0], p[:, 0]), "logprob": (-w,)}
        for more in ({}, {"sample_weight": w, "groups": groups, "clusters": groups.astype(str)}):
            acc = fe.Accumulator(metrics, task=task).update(*operands.get(task, (p, q)), **more)
            found.append(json.loads(json.dumps(acc.state_dict())))
    return found


STATES = states()


def case_of_state(rng):
    check_state(bent(rng, pick(rng, STATES)))


def check_state(data):
    try:
        acc = fe.Accumulator.from_state_dict(data)
    except ValueError as error:
        assert str(error) and "\n" not in str(error), repr(error)
        return
    report = acc.compute()
    for part in (report, *report.groups.values()):
        for name in part:
            assert part[name].count >= 0
            repr((part[name], part[name].min, part[name].max))
    again = fe.Accumulator.from_state_dict(json.loads(json.dumps(acc.state_dict())))
    assert json.dumps(again.state_dict()) == json.dumps(acc.state_dict())
    with contextlib.suppress(ValueError):  # a damaged width does not fit
        acc.merge(acc.copy()).compute()


# Checkpoints

WORDS = ["score", "x.npy", "y.npy", "--labels", "l.npy", "l.npy", "--kind", "logits", "--quiet",
         "--checkpoint", "progress", "--num-threads", "2"]  # fmt: skip
KINDS = {
    "plain": [],
    "all": ["--groups", "g.npy", "g.npy", "--clusters", "g.npy", "g.npy", "--rows", "r.parquet",
            "--worst", "4", "--json", "j.json"],
    "skipping": ["--on-error", "skip", "--rows", "r.parquet", "--groups", "g.npy", "g.npy"],
}  # fmt: skip


def begun(kind):
    """Lines of the checkpoint that a run leaves half way, and the files beside it."""
    place, name = (SkippingRun, "_score") if kind == "skipping" else (Run, "_collect")
    step = getattr(place, name)
    steps = []

    def leave(self, *given):
        step(self, *given)
        steps.append(given)
        if len(steps) == (1 if kind == "skipping" else 5):
            self._signals.received = 15

    setattr(place, name, leave)
    code, told = told_by([*WORDS, *KINDS[kind]])
    setattr(place, name, step)
    assert code == 143, told
    lines = Path("progress").read_bytes().splitlines()
    parts = {n: Path(n).read_bytes() for n in os.listdir() if ".part" in n}
    return [json.loads(line) for line in lines[:-1]], parts


def told_by(words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command(words)
    return code, err.getvalue()


def clean():
    for name in os.listdir():
        if not name.endswith(".npy"):
            os.unlink(name)


def prepare():
    os.chdir(FOLDER)
    rng = np.random.default_rng(9)
    for name in "xy":
        np.save(f"{name}.npy", rng.standard_normal((300, 4)))
    np.save("l.npy", rng.integers(0, 4, 300))
    np.save("g.npy", rng.integers(0, 7, 300))
    checkpoint.FIRST_SECONDS = checkpoint.LONGEST_SECONDS = 0
    shards.PIECE_ROWS, shards.PIECES = 10, 2
    for kind in KINDS:
        CHECKPOINTS[kind] = begun(kind)
        clean()


CHECKPOINTS = {}


def case_of_checkpoint(rng):
    if not CHECKPOINTS:
        prepare()
    kind = pick(rng, list(CHECKPOINTS))
    lines, parts = CHECKPOINTS[kind]
    for name, data in parts.items():
        Path(name).write_bytes(damaged(rng, data) if rng.random() < 0.1 else data)
    lines = list(lines)
    for _ in range(int(pick(rng, [1, 1, 2]))):
        k = int(rng.integers(len(lines)))
        if rng.random() < 0.7:
            lines[k] = bent(rng, lines[k])
        elif rng.random() < 0.5:
            del lines[k]
        else:
            lines.insert(k, copy.deepcopy(pick(rng, lines)))
        lines = lines or [None]
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    if rng.random() < 0.1:
        data = damaged(rng, data, text=True)
    data += json.dumps(hashlib.sha256(data).hexdigest()).encode() + b"\n"
    Path("progress").write_bytes(data)
    raised = []
    sys.unraisablehook = lambda told: raised.append(told.exc_value)
    code, told = told_by([*WORDS, *KINDS[kind]])
    clean()
    assert code in (0, 2), (code, told)
    assert told.count("\n") == (code == 2), f"code {code}, told {told!r}"
    assert not raised, raised


def case(rng):
    if rng.random() < 0.6:
        case_of_state(rng)
    else:
        case_of_checkpoint(rng)


if __name__ == "__main__":
    sys.exit(watched.main(case, __doc__))
