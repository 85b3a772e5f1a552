"""Batches of every task, and accumulators of all their metrics: shared by the streaming tests."""

import numpy as np
import pytest

import fastent as fe
from fastent import metrics as registry

N, C = 700, 6


def rng(seed=0):
    return np.random.default_rng(seed)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def batch(task, n=N, seed=0):
    """Operands of a task and the keywords that they need."""
    r = rng(seed)
    logits = 2 * r.standard_normal((n, C))
    if task == "sparse":
        return (r.integers(0, C, n), logits), {"kind": "logits"}
    if task == "categorical":
        return (softmax(r.standard_normal((n, C))), logits), {"kind": "logits"}
    if task == "binary":
        return (r.integers(0, 2, n), r.uniform(0, 1, n)), {"kind": "probs"}
    if task == "logprob":  # and the bytes of each
        return (-r.exponential(2.0, n), r.integers(0, 9, n)), {"kind": "logprobs"}
    return (softmax(logits), softmax(r.standard_normal((n, C)))), {"kind": "probs"}


def metric_names(task):
    """Those of one number that need no clusters; the others have tests of their own."""
    apart = ("confusion", "sequence_cross_entropy")
    names = [n for n in registry.names(task) if n not in apart]
    return [n.format(k=3, alpha=0.3, beta=0.7) for n in names]


def accumulator(task, **options):
    return fe.Accumulator(metric_names(task), task=task, **batch(task)[1], **options)


def add(acc, task, args, **more):
    """Add operands as `batch` gives them."""
    if task == "logprob":
        return acc.update(args[0], bytes=args[1], **more)
    return acc.update(*args, **more)


WEIGHTS = {
    "unit": None,
    "some zero": np.where(rng(5).uniform(size=N) < 0.3, 0.0, 1.0),
    "any": rng(6).exponential(size=N) * np.where(rng(5).uniform(size=N) < 0.2, 0.0, 1.0),
    "tiny and huge": 10.0 ** rng(7).uniform(-12, 12, N),
}
# Of arrays whose rows are numbers; test_topk_task has the one of lists.
every_task = pytest.mark.parametrize("task", [t for t in registry.TASKS if t != "topk"])
