"""Every row metric of every task, from the one pass that the accumulator makes, is exact too."""

from functools import cache
from itertools import permutations

import cases
import hard_inputs as hard
import numpy as np
import oracle
import pytest

from fastent.backends.cython.engine import prepare

# what is compared, counted or copied has no rounding at all
DISCRETE = {
    "accuracy", "rank", "predicted", "labelled", "top1_agreement", "top5_overlap", "top10_overlap",
    "top1_in_top5",
}  # fmt: skip
DIVERGENCES = {"kl_divergence", "reverse_kl", "js_divergence"}
TASKS = {
    "sparse": hard.KINDS,
    "categorical": hard.KINDS,
    "binary": hard.KINDS,
    "divergence": (*hard.KINDS, *permutations(hard.KINDS, 2)),
}
SOURCE = {
    "sparse": "sparse_cross_entropy",
    "categorical": "categorical_cross_entropy",
    "binary": "binary_cross_entropy",
    "divergence": "kl_divergence",
}


@cache
def exact_columns(task, kind, dtype_name):
    dtype = hard.DTYPES[dtype_name]
    found = []
    pair = (kind, kind) if task == "divergence" and isinstance(kind, str) else kind
    for name, (true, pred) in cases.operands(SOURCE[task], pair, dtype).items():
        rows = []
        for t, q in zip(true, pred, strict=True):
            operand = {"label": int(t)} if task == "sparse" else {"true": t}
            tolerance = oracle.bounds(dtype)[2]
            rows.append(oracle.row(task, pred=q, kind=kind, tolerance=tolerance, **operand))
        found.append((name, true, pred, rows))
    return found


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize(
    ("task", "kind"), [(t, k) for t, ks in TASKS.items() for k in ks], ids=cases.title
)
def test_every_column_of_hard_rows(task, kind, dtype, engine):
    columns, wrong = oracle.COLUMNS[task], []
    mixed = isinstance(kind, tuple) or (task == "categorical" and kind != "probs")
    for name, true, pred, want in exact_columns(task, kind, dtype):
        got = prepare(task, columns, true, pred, kind=kind, backend=engine).values(0, len(pred))
        for column, values in zip(columns, got, strict=True):
            exact = [row[column] for row in want]
            loose = column in DIVERGENCES and mixed
            try:
                if column in DISCRETE:
                    assert values.tolist() == [float(x) for x in exact], (values, exact)
                oracle.assert_close(values, exact, hard.DTYPES[dtype], loose)
            except AssertionError as error:
                wrong.append(f"{name}, {column}: {str(error)[:300]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_column_does_not_depend_on_its_company(task, dtype, engine):
    columns = oracle.COLUMNS[task]
    for kind in TASKS[task]:
        for classes in (2, 10, 70, 700):
            pair = (kind, kind) if task == "divergence" and isinstance(kind, str) else kind
            true, pred = cases.ordinary(SOURCE[task], pair, dtype, (20, classes))
            if task == "binary":
                true, pred = true.ravel(), pred.ravel()

            def values(names, start=0, stop=None):
                call = prepare(task, names, true, pred, kind=kind, backend=engine)  # noqa: B023
                return call.values(start, call.rows if stop is None else stop)

            together = values(columns)
            for i, column in enumerate(columns):
                assert values((column,))[0].tobytes() == together[i].tobytes(), (kind, column)
                pair_of = (column, columns[i - 1])
                got = values(pair_of)[0]
                assert got.tobytes() == together[i].tobytes(), (kind, pair_of)
            backwards = values(columns[::-1])
            assert backwards[::-1].tobytes() == together.tobytes()
            assert values(columns, 3, 9).tobytes() == together[:, 3:9].tobytes()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("classes", [100, 511, 512, 640, 2048, 2049, 5000])
def test_ranks_count_what_is_above_and_equal_ones_before(classes, dtype, compiled):
    """Rounded logits have ties, in the label's stretch of 128 classes and elsewhere."""
    rng = np.random.default_rng(classes)
    logits = np.round(rng.normal(0, 3, (30, classes))).astype(dtype)
    logits[rng.random(logits.shape) < 0.02] = -np.inf
    labels = rng.integers(0, classes, 30)
    labels[::4] = logits[::4].argmax(axis=1)
    labels[1::4] = classes - 1 - logits[1::4, ::-1].argmax(axis=1)
    logits[2, labels[2]] = -np.inf
    logits[3, labels[3]] = np.inf
    logits[6, labels[6] - 1] = np.inf
    own = logits[np.arange(30), labels][:, None]
    before = np.arange(classes) < labels[:, None]
    want = (logits > own).sum(axis=1) + ((logits == own) & before).sum(axis=1)
    call = prepare("sparse", ("rank", "accuracy"), labels, logits, kind="logits")
    rank, accuracy = call.values(0, 30)
    assert rank.tolist() == want.tolist()
    assert accuracy.tolist() == (want == 0).tolist()
    for column in (0, classes // 2, classes - 1):
        logits[5, column] = np.nan
        call = prepare("sparse", ("rank", "cross_entropy"), labels, logits, kind="logits")
        assert np.isnan(call.values(5, 6)).all()
        logits[5, column] = 0


def test_columns_agree_with_the_functions(engine):
    for function, (task, column) in cases.FUNCTIONS.items():
        if task == "entropy":
            continue
        for kind in ("probs", "logits"):
            args = cases.ordinary(function, kind, np.float32, (9, 33))
            want = cases.call(function, args, kind, backend=engine)
            call = prepare(task, oracle.COLUMNS[task], *args, kind=kind, backend=engine)
            rows = call.values(0, call.rows)
            got = rows[oracle.COLUMNS[task].index(column)]
            assert got.tobytes() == want.tobytes(), (function, kind)
