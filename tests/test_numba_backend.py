"""The Numba backend by itself, straight from `row_values`: test_columns.py holds its hard rows."""

import functools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import backend_rows
import hard_inputs as hard
import numba
import numpy as np
import oracle
import pytest
from backend_rows import beside_exact, make_spec

import fastent as fe
from fastent.backends.numba import row_values

evaluate = functools.partial(backend_rows.evaluate, row_values)


def check(task, kind, true, pred, labels=None, what="", **options):
    """All columns of all rows against exact arithmetic; a string for every miss."""
    misses = []
    rows = beside_exact(row_values, task, kind, true, pred, labels, **options)
    for i, name, value, exact, relaxed in rows:
        error = oracle.excess(value, exact, pred.dtype, relaxed)
        if not error <= 1.0:
            digits = oracle.mp.nstr(exact, 17)
            misses.append(f"{what} row {i} {name}: {value!r}, exact {digits}, {error:.3g}x")
    return misses


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", hard.KINDS)
def test_bernoulli_columns(kind, dtype):
    misses = []
    for name, (true, pred) in hard.bernoullis(kind, np.dtype(dtype)).items():
        misses += check("binary", kind, true, pred, None, name)
    assert not misses, "\n".join(misses)


@pytest.mark.slow
@pytest.mark.parametrize("kind", hard.KINDS)
def test_smoothing_eps_and_weights(kind):
    r = np.random.default_rng(0)
    columns, misses = ("cross_entropy", "target_weight"), []
    for name, rows in hard.singles(kind, np.dtype(np.float64)).items():
        by_class = np.where(r.random(rows.shape[1]) < 0.2, 0.0, r.random(rows.shape[1]))
        for weights in (None, by_class, by_class * r.random(rows.shape)):
            extra = {"columns": columns, "weights": weights, "eps": 1e-3, "label_smoothing": 0.1}
            misses += check("sparse", kind, None, rows, hard.labels(rows), name, **extra)
    assert not misses, "\n".join(misses)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [*range(1, 12), 33, 129, 511, 513, 1300])
def test_bits_of_a_row_depend_on_the_row_alone(classes):
    r = np.random.default_rng(classes)
    near = r.normal(size=(23, classes))
    form = {"probs": hard.softmax, "logprobs": hard.log_softmax, "logits": np.asarray}
    for kind in product(hard.KINDS, hard.KINDS):
        true, pred = form[kind[0]](near), form[kind[1]](near + r.normal(size=near.shape))
        spec = make_spec("divergence", kind)
        whole = evaluate(spec, true, pred)
        for index in (np.array([7]), r.permutation(23), np.repeat(np.arange(23), 3)):
            part = evaluate(spec, *(np.ascontiguousarray(x[index]) for x in (true, pred)))
            assert np.array_equal(part, whole[:, index]), kind
    labels = r.integers(0, classes, 23)
    for kind in hard.KINDS:
        spec, rows = make_spec("sparse", kind), form[kind](near)
        whole = evaluate(spec, None, rows, labels)
        alone = [evaluate(spec, None, rows[i : i + 1], labels[i : i + 1]) for i in range(23)]
        assert np.array_equal(np.concatenate(alone, axis=1), whole)


def large_block():
    r = np.random.default_rng(3)
    return hard.softmax(r.normal(size=(2, 12_000, 50)))


def shared(num_threads=3):
    return fe.kl_divergence(*large_block(), backend="numba", num_threads=num_threads)


def test_threads_do_not_change_bits_nor_numbas_setting():
    before = numba.get_num_threads()
    assert np.array_equal(shared(3), shared(1))
    assert numba.get_num_threads() == before


def test_many_callers_at_once():
    want = shared(1)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: shared(), range(32)))
    assert all(np.array_equal(want, got) for got in found)


FORKED = """
import os, sys
sys.path.insert(0, {tests!r})
import numpy as np
from test_numba_backend import shared
want = shared()
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(shared(), want) else 3)
_, status = os.waitpid(child, 0)
assert np.array_equal(shared(), want)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_child_after_fork():
    tests = os.path.dirname(os.path.abspath(__file__))
    code = FORKED.format(tests=tests)
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_faults_name_the_first_row():
    good = np.full((9, 4), 0.25)
    bad = good.copy()
    bad[6, 1] = -0.5
    bad[7, 0] = 1.0
    out = np.empty((1, 9))
    for column in ("kl_divergence", "reverse_kl", "entropy_q", "top1_agreement", "hellinger"):
        spec = make_spec("divergence", columns=(column,))
        assert row_values(spec, good, bad, None, out) == (6, "negative", -0.5, "pred")
        assert row_values(spec, bad, good, None, out) == (6, "negative", -0.5, "true")
        bad[6, 1] = 0.25
        assert row_values(spec, good, bad, None, out) == (7, "row_sum", 1.75, "pred")
        bad[6, 1] = -0.5
    labels = np.zeros(9, np.int64)
    spec = make_spec("sparse", columns=("cross_entropy",))
    assert row_values(spec, None, bad, labels, out) == (6, "negative", -0.5, "pred")
    labels[6:8] = -1
    assert row_values(spec, None, bad, labels, out) is None
    assert out[0, 6] == out[0, 7] == 0.0
    spec = make_spec("binary", columns=("cross_entropy",))
    t = np.linspace(0, 1, 9)
    assert row_values(spec, t, t + 0.1, None, out) == (8, "range", 1.1, "pred")
    assert row_values(spec, t * 2, t, None, out) == (5, "range", 1.25, "true")


@pytest.mark.parametrize("classes", [50_000, 200_000, 300_000])
def test_uniform_rows_of_many_classes(classes):
    for kind, value in (("probs", 1 / classes), ("logits", 3.0)):
        rows = np.full((1, classes), value)
        assert not check("entropy", kind, None, rows)
        assert not check("sparse", kind, None, rows, np.array([classes // 2]))


@pytest.mark.parametrize("kind", ["probs", "logprobs"])
def test_columns_of_rows_as_they_are_do_not_depend_on_their_company(kind):
    r = np.random.default_rng(4)
    p, q = (r.random((6, 5)) * (1 if kind == "probs" else -3) for _ in range(2))
    spec = make_spec("divergence", (kind, kind), row_sums="as_is")
    whole = evaluate(spec, p, q)
    for name, line in zip(spec.columns, whole, strict=True):
        alone = make_spec("divergence", (kind, kind), columns=(name,), row_sums="as_is")
        assert np.array_equal(evaluate(alone, p, q)[0], line), name
