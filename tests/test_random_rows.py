"""Random rows of many shapes of spread, near and far, each against exact arithmetic."""

from collections import defaultdict

import cases
import hard_inputs as hard
import numpy as np
import oracle
import pytest
from exact_distribution import BadRowError

# gaps on both sides of where exp leaves the normal and the subnormal numbers of either dtype
EDGES = (0, 1, -87.4, -88, -103.3, -104, -708.5, -745.1, -746)
# nearly equal rows are promised down to these values, not further
PROMISED = {np.dtype(np.float64): 1e-30, np.dtype(np.float32): 1e-12}
SEEDS = range(1200)
# rows that are summed as they are mapped, in stretches and blocks; exact values take a while
LONG_SEEDS = range(5000, 5090)
LONG = [96, 100, 130, 511, 512, 640, 1000, 2049, 4200]


def random_logits(r, classes):
    x = r.normal(size=classes)
    shape = r.integers(8)
    if shape == 0:
        return x * 10.0 ** r.uniform(-8, 3)
    if shape == 1:
        return np.round(x * 4) / 4
    if shape == 2:
        return x * 10.0 ** r.uniform(-3, 2, size=classes)
    if shape == 3:
        x = -np.abs(x) * r.choice([0.1, 1, 10, 100, 800]) * r.random(classes)
    elif shape == 4:
        return x + r.choice([-1, 1]) * 10.0 ** r.uniform(0, 8)
    elif shape == 5:
        x = -30 * np.abs(x)
    elif shape == 6:
        x = np.where(r.random(classes) < 0.3, -np.inf, 3 * x)
    else:
        return r.choice(EDGES, size=classes) + 0.01 * x
    x[r.integers(classes)] = r.choice([0, 0, 20, 90])
    return x


def as_kind(r, x, kind, dtype):
    """The logits as rows of the kind, now and then off their sum within the check."""
    if kind == "logits":
        return hard.cast(x, dtype)
    off = r.uniform(-9e-4, 9e-4) if r.random() < 0.3 else 0.0
    p = hard.softmax(x)
    return hard.cast(p * (1 + off) if kind == "probs" else np.log(p) + off, dtype)


@np.errstate(all="ignore")
def random_case(seed):
    """(function, kind, dtype, args, options) of one row."""
    r = np.random.default_rng(seed)
    function = list(cases.FUNCTIONS)[r.integers(len(cases.FUNCTIONS))]
    kind = cases.kinds(function)[r.integers(len(cases.kinds(function)))]
    dtype = np.dtype([np.float64, np.float32][r.integers(2)])
    short = [2, 3, 4, 5, 8, 9, 16, 17, 20, 31, 33, 64, 65]
    classes = int(r.choice(LONG if seed in LONG_SEEDS else short))
    a = random_logits(r, classes)
    b = random_logits(r, classes)
    if r.random() < 0.5:
        b = a + 10.0 ** r.uniform(-16, 0) * r.normal(size=classes) + r.choice([0, 0, 1.7])
    pair = kind
    if isinstance(kind, str):
        pair = ("probs" if function == "categorical_cross_entropy" else kind, kind)
    options = {}
    if r.random() < 0.15 and set(pair) == {"logits"}:
        options["temperature"] = float(10 ** r.uniform(-2, 2))
    if r.random() < 0.15 and function.endswith("cross_entropy"):
        options["label_smoothing"] = float(r.choice([1e-3, 0.1, 1.0]))
    pred = as_kind(r, b, pair[1], dtype)[None]
    if function == "entropy":
        return function, kind, dtype, (pred,), options
    if function == "sparse_cross_entropy":
        return function, kind, dtype, (r.integers(classes, size=1), pred), options
    if function == "binary_cross_entropy":
        target = hard.cast([r.choice([0, 1, 0.5, r.random()])], dtype)
        x = b[:1]
        spread = {"logits": x, "probs": 1 / (1 + np.exp(-x)), "logprobs": -np.logaddexp(0, -x)}
        return function, kind, dtype, (target, hard.cast(spread[kind], dtype)), options
    return function, kind, dtype, (as_kind(r, a, pair[0], dtype)[None], pred), options


@pytest.fixture(scope="module")
def drawn():
    """Cases with their exact values, by function; rows beyond the check have none."""
    found = defaultdict(list)
    for seed in (*SEEDS, *LONG_SEEDS):
        function, kind, dtype, args, options = random_case(seed)
        try:
            (want,) = cases.exact(function, args, kind, dtype, **options)
        except BadRowError:
            continue
        if function in cases.DIVERGENCES and 0 < want < PROMISED[dtype]:
            continue
        found[function].append((seed, kind, dtype, args, options, want))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("function", cases.FUNCTIONS)
def test_random_rows(function, drawn, engine):
    wrong = []
    for seed, kind, dtype, args, options, want in drawn[function]:
        got = cases.call(function, args, kind, backend=engine, **options)
        loose = cases.mixed(kind) and function in cases.DIVERGENCES
        try:
            oracle.assert_close(got, [want], dtype, loose, f"seed {seed}, {kind}, {options}")
        except AssertionError as error:
            wrong.append(str(error))
    assert not wrong, f"{len(wrong)} of {len(drawn[function])}:\n" + "\n".join(wrong[:12])
