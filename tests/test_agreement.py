"""All engines agree: whatever shape, stride, dtype or special value, within the two bounds."""

import re

import cases
import hard_inputs as hard
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import fastent as fe

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-300, -1e30, 1e4, 88.5, 5e-324, 745.5]


def spiced(r, a, kind):
    """A few special values that the kind allows, in a few places."""
    for _ in range(r.integers(0, 4)):
        place = tuple(r.integers(0, n) for n in a.shape)
        value = r.choice(SPECIAL)
        if kind != "logits" and not (value == 0 or np.isnan(value)):
            continue
        with np.errstate(all="ignore"):
            a[place] = value
    return a


def strided(r, a):
    """The same values reached by some other strides."""
    choice = r.integers(0, 5)
    if choice == 0:
        return np.asfortranarray(a)
    if choice == 1:
        return np.repeat(a, 2, axis=-1)[..., ::2]
    if choice == 2:
        return a[::-1].copy()[::-1]
    if choice == 3:
        return a[..., ::-1].copy()[..., ::-1]
    return a


def within_bounds(a, b, dtype, loose):
    """Two values that each lie within the bound of the truth."""
    relative, floor = (1e-14, 1e-290) if dtype == np.float64 else (1e-6, 1e-30)
    a, b = np.asarray(a).ravel(), np.asarray(b).ravel()
    with np.errstate(all="ignore"):
        scale = np.maximum(np.minimum(np.abs(a), np.abs(b)), floor)
        if loose:
            scale = np.maximum(scale, np.sqrt(np.abs(a) / 200))
        fine = (a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= 2.1 * relative * scale)
    return fine.all(), (a[~fine], b[~fine])


def engine_call(engine, function, args, kind, options):
    backend, level = engine
    if level is None:
        return cases.call(function, args, kind, backend=backend, **options)
    with fe._settings.use_simd(level):
        return cases.call(function, args, kind, backend=backend, **options)


@pytest.mark.slow
@pytest.mark.parametrize("function", cases.FUNCTIONS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=120)
def test_engines_agree(function, seed):
    r = np.random.default_rng(seed)
    kind = cases.kinds(function)[r.integers(len(cases.kinds(function)))]
    dtype = list(hard.DTYPES.values())[r.integers(4)]
    classes = int(r.choice([1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 20, 33, 100, 257]))
    shape = [(int(r.integers(0, 40)),), (2, 3), (1,)][r.integers(3)]
    args = cases.ordinary(function, kind, dtype, (*shape, classes), seed=seed)
    pair = kind if isinstance(kind, tuple) else (
        ("probs", kind) if function in ("categorical_cross_entropy", "binary_cross_entropy")
        else (kind, kind)
    )  # fmt: skip
    pair = pair if len(args) == 2 else pair[1:]
    args = [
        strided(r, a if a.dtype.kind == "i" or not a.size else spiced(r, a, k))
        for a, k in zip(args, pair, strict=True)
    ]
    options = {}
    if function != "binary_cross_entropy" and set(pair) != {"logits"}:
        options["row_sums"] = "rescale"
    if r.random() < 0.2:
        options["eps"] = float(r.choice([1e-12, 1e-3]))
        if function == "entropy":
            options = {}
    if r.random() < 0.2 and set(pair) == {"logits"}:
        options["temperature"] = float(r.choice([0.3, 2.5]))
    results = {}
    for engine in cases.engines():
        try:
            results[engine] = engine_call(engine, function, args, kind, options)
        except ValueError as error:
            results[engine] = str(error)
    base = results.pop(("numpy", None))
    for engine, got in results.items():
        if isinstance(base, str) or isinstance(got, str):
            # the sum of a bad row may differ in its last digits between two good engines
            plain = [re.sub(r"got \S+ in", "got in", str(x)) for x in (got, base)]
            assert plain[0] == plain[1], (engine, kind, options)
            continue
        fine, where = within_bounds(
            got, base, hard.computing(dtype), cases.mixed(kind) and function in cases.DIVERGENCES
        )
        assert fine, (engine, kind, dtype, shape, classes, options, where)
