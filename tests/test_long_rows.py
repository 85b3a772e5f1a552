"""Long rows that are not plain in memory are converted block by block: same bits, and no copy."""

import subprocess
import sys
import textwrap
from functools import partial

import cases
import numpy as np
import pytest

import fastent as fe

ROWS, CLASSES = 4, 16_500
TOPS = ["cross_entropy", "accuracy", "top5_accuracy", "brier", "entropy", "confidence"]
BOTH = ["reverse_kl", "js_divergence", "total_variation", "hellinger", "top1_agreement"]


def metrics(task, names, *batch, **options):
    found = fe.Accumulator(names, task=task, **options).update(*batch).compute()
    return [found[name].value for name in names]


def every_path(backend, classes=CLASSES):
    """{name: (operands, call)}: all kernels of long rows, and every way out of them."""
    rng = np.random.default_rng(0)
    labels, weights = rng.integers(0, classes, ROWS), rng.random((ROWS, classes))
    x = rng.normal(0, 3, (2, ROWS, classes))
    p, q = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    negative = p.copy()
    negative[3, 12_345] *= -1
    x[0, 1, 5], x[1, 1, 16_400], x[0, 2, 16_499] = np.inf, np.inf, np.nan
    logits = {"kind": "logits", "backend": backend}
    counts = {"row_sums": "rescale", "backend": backend}
    raw = {"row_sums": "as_is", "backend": backend}
    weighed = partial(fe.sparse_cross_entropy, labels, **logits)
    scattered = np.asfortranarray(weights)
    return {
        "KL": (x, partial(fe.kl_divergence, **logits)),
        "JS": (x, partial(fe.js_divergence, temperature=2, **logits)),
        "distances": (x[:, :1], partial(metrics, "divergence", BOTH, **logits)),
        "rows of logits": (x[:1], partial(metrics, "sparse", TOPS, labels, **logits)),
        "weights": (x[:1], partial(weighed, label_smoothing=0.1, sample_weight=scattered)),
        "both weights": (
            x[:1],
            partial(weighed, class_weight=weights[0], sample_weight=scattered),
        ),
        "bad weight": (x[:1], partial(weighed, sample_weight=scattered - 0.9999)),
        "clipped KL": ((p, q), partial(fe.kl_divergence, eps=1e-6, **counts)),
        "clipped JS": (x, partial(fe.js_divergence, eps=1e-6, **logits)),
        "raw entropy": ((p,), partial(fe.entropy, **raw)),
        "two kinds": (
            (p, x[0]),
            partial(fe.kl_divergence, eps=1e-9, **counts | {"kind": ("probs", "logits")}),
        ),
        "target": ((p, x[0]), partial(fe.categorical_cross_entropy, **counts | logits)),
        "negative target": (
            (negative, x[0]),
            partial(fe.categorical_cross_entropy, **counts | logits),
        ),
        "KL of counts": ((p, q), partial(fe.kl_divergence, **counts)),
        "negative count": ((negative, q), partial(fe.js_divergence, **counts)),
        "raw": ((p, q), partial(fe.categorical_cross_entropy, **raw)),
        "rows of probabilities": ((p,), partial(metrics, "sparse", TOPS, labels, **counts)),
    }


def every_other(a):
    wide = np.zeros((a.shape[0], 2 * a.shape[1]), a.dtype)
    wide[:, ::2] = a
    return wide[:, ::2]


def outcome(call, operands):
    try:
        return np.asarray(call(*operands)).tobytes()
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_the_same_from_any_memory(dtype, compiled):
    for name, (operands, call) in every_path(compiled).items():
        given = [o.astype(dtype) for o in operands]
        plain = [o.astype(np.result_type(dtype, np.float32)) for o in given]
        want = outcome(call, plain)
        assert isinstance(want, str) == (name.startswith(("negative", "bad"))), want
        moved = [np.asfortranarray(o) for o in given]
        for places in (given, moved, [every_other(o) for o in given], [*moved[:-1], given[-1]]):
            assert outcome(call, places) == want, name


@pytest.mark.parametrize("classes", [70_000, 600_000])
def test_threads_share_a_row(classes):
    """In parts of one block, and of two."""
    for name, (operands, call) in every_path("cython", classes).items():
        want = outcome(partial(call, num_threads=1), operands)
        assert isinstance(want, str) == name.startswith(("negative", "bad")), want
        assert outcome(partial(call, num_threads=4), operands) == want, name


@pytest.mark.parametrize("heavy", [False, True])
def test_values_of_shared_rows(heavy):
    """Parts of two blocks; with a class of 90% of the mass, which the sums keep apart."""
    rng = np.random.default_rng(1)
    n, eps, w = 600_000, 1e-7, rng.random(600_000)
    x = rng.normal(0, 3, (2, n))
    if heavy:
        x[:, 432_100] = 20
    p, q = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    r = np.clip(q, eps, 1 - eps)
    m = (p + r) / 2
    loss = -(w * (0.9 * p + 0.1 / n) * np.log(r)).sum()
    kl = (p * np.log(p / r)).sum()
    js = (p * np.log(p / m) + r * np.log(r / m)).sum() / 2
    both, options = {"kind": ("probs", "logits")}, {"eps": eps, "backend": "cython"}
    weighed = partial(fe.categorical_cross_entropy, label_smoothing=0.1, class_weight=w)
    for want, call, first in (
        (loss, partial(weighed, kind="logits"), p),
        (loss, partial(weighed, kind="logits", row_sums="rescale"), 3 * p),
        (kl, partial(fe.kl_divergence, kind="logits"), x[0]),
        (kl, partial(fe.kl_divergence, **both), p),
        (js, partial(fe.js_divergence, **both), p),
    ):
        one, two = (call(first, x[1], num_threads=threads, **options) for threads in (1, 2))
        assert one == two == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_of_one_block(dtype, compiled):
    """A NaN makes the row NaN; nothing is said about the sum of a target met in part."""
    x = np.random.default_rng(2).normal(0, 2, (2, CLASSES)).astype(dtype)
    x[1, -1] = np.nan
    p = np.full((2, CLASSES), 1 / CLASSES, dtype)
    values = fe.categorical_cross_entropy(p, x, kind="logits", backend=compiled)
    assert np.isnan(values).tolist() == [False, True]


DRIVER = """
import resource
import numpy as np
import fastent as fe

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

x = np.full((2, 20_000_000), 0.5, np.float16)
x[:, 7] = 2
odd = x[:, ::2]
single = np.full(10_000_000, 0.5, np.float32)
first = np.full((130_000, 64), 0.5, np.float16)
fe.kl_divergence(*odd[:, :100_000], kind="logits", num_threads=2)   # the threads are there
before = peak()
fe.sparse_cross_entropy([7], x[:1], kind="logits", num_threads=2)
fe.kl_divergence(x[0], x[1], kind="logits", num_threads=2)
fe.kl_divergence(odd[0], single, kind="logits", num_threads=2)
for threads in (1, 2, 3):
    fe.entropy(first, kind="logits", axis=0, num_threads=threads)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts kilobytes on Linux only")
def test_no_row_is_copied_whole():
    run = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(DRIVER)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 32 << 20


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_without_any_mass(backend, dtype):
    """A whole block at -inf costs everything where the target has mass there, and nothing else."""
    for classes, empty in ((2049, 1), (2049, 2047), (5000, 2500), (5000, 4998)):
        logits = np.zeros(classes, dtype)
        logits[-empty:] = -np.inf
        target = np.full(classes, 1 / classes)
        call = partial(fe.categorical_cross_entropy, kind="logits", backend=backend)
        assert call(target, logits) == np.inf
        target[-empty:] = 0
        target /= target.sum()
        assert call(target, logits) == pytest.approx(np.log(classes - empty), rel=1e-6)
        logits[0] = np.inf
        target[1], target[2] = -0.5, target[2] + 0.5 + target[1]
        with pytest.raises(ValueError, match=r"no negative probabilities, got -0\.5"):
            call(target, logits)
