"""What is made of a pair of rows has the same bits alone and together with anything else.

Long rows share passes, and blocks of rows that are near leave arithmetic out: rows near and far,
near but for some classes, far off each other's centre, masked, and with their largest class after
the block that is looked at first. They are exact too.
"""

from functools import cache
from itertools import combinations

import numpy as np
import oracle
import pytest

import fastent as fe
from fastent.backends.cython.engine import prepare

COLUMNS = ("kl_divergence", "reverse_kl", "js_divergence", "total_variation")
ROWS, SHORT, LONG = 4, 300, 2500
INF = np.inf


def some_far(p, q):
    q[:, ::777] -= 3
    return p, q


def masked(value, *sides):
    def make(p, q):
        for side in sides:
            (p, q)[side][:, 5::3] = value
        return p, q

    return make


def with_numbers(*found):
    def make(p, q):
        for r, (side, place, number) in enumerate(found):
            (p, q)[side][r, place] = number
        return p, q

    return make


def late_peak(p, q):
    p[:, -1] = q[:, -1] = 70
    q[1, -1], q[2, -1] = 69.5, 20
    return p, q


# noise, and what is changed
PAIRS = {
    "equal": (0.0, lambda p, q: (p, q)),
    "nearest": (1e-6, lambda p, q: (p, q)),
    "near": (0.1, lambda p, q: (p, q)),
    "near but for some": (0.1, some_far),
    "between": (0.6, lambda p, q: (p, q)),
    "far": (4.0, lambda p, q: (p, q)),
    "off": (0.1, lambda p, q: (p, q + q.dtype.type(0.7))),
    "far off": (0.1, lambda p, q: (p, q - q.dtype.type(40))),
    "holes": (0.1, masked(-INF, 0, 1)),
    "holes of one": (0.1, masked(-INF, 0)),
    "holes of the other": (0.1, masked(-INF, 1)),
    "next to nothing": (0.1, masked(-1e4, 0, 1)),
    "late peak": (0.1, late_peak),
    "large": (0.1, lambda p, q: (p * 200, q * 200)),
    "high": (0.1, lambda p, q: (p + p.dtype.type(120), q + q.dtype.type(120))),
    "odd": (0.1, with_numbers((0, 7, np.nan), (1, 250, np.nan), (0, 3, INF), (1, 299, INF))),
}  # fmt: skip


def pair(name, classes, dtype):
    rng = np.random.default_rng(len(name))
    noise, change = PAIRS[name]
    p = rng.normal(0, 3, (ROWS, classes)).astype(dtype)
    q = (p + noise * rng.standard_normal(p.shape)).astype(dtype)
    return change(p, q)


@pytest.mark.parametrize("classes", [SHORT, LONG])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_the_same_bits_in_any_company(name, dtype, classes, compiled):
    p, q = pair(name, classes, dtype)

    def values(names, threads=1):
        call = prepare("divergence", names, p, q, kind="logits", num_threads=threads)
        return dict(zip(names, call.values(0, ROWS), strict=True))

    alone = {name: values((name,))[name] for name in COLUMNS}
    for count in (2, 3, 4):
        for names in combinations(COLUMNS, count):
            for column, found in values(names, threads=count - 1).items():
                np.testing.assert_array_equal(found, alone[column], f"{column} of {names}")
    swapped = fe.kl_divergence(q, p, kind="logits")
    np.testing.assert_array_equal(swapped, alone["reverse_kl"])
    if name == "equal":
        assert not any(v.any() for v in alone.values())


@cache
def truth(dtype):
    """One row each: mpmath takes a second for it."""
    found = {}
    for name in ("nearest", "near but for some", "far", "off", "holes of one", "late peak"):
        p, q = (x[1] for x in pair(name, LONG, dtype))
        found[name] = p, q, oracle.row("divergence", COLUMNS, true=p, pred=q, kind="logits")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_long_rows_are_exact(dtype, compiled):
    rows = truth(dtype)
    for name, (p, q, exact) in rows.items():
        call = prepare("divergence", COLUMNS, p[None], q[None], kind="logits")
        for column, value in zip(COLUMNS, call.values(0, 1)[:, 0], strict=True):
            oracle.assert_close([value], [exact[column]], dtype, what=f"{column}, {name}")


TOPS = ("top1_agreement", "top5_overlap", "top10_overlap", "top1_in_top5")


@pytest.mark.parametrize("classes", [4, SHORT, LONG])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "kind", ["probs", "logprobs", ("probs", "logprobs"), ("logits", "logprobs")], ids=str
)
def test_largest_classes_alone_check_the_rows(kind, dtype, classes, compiled):
    """Whichever kernel does it, the refusal is that of KL beside them."""
    kinds = (kind, kind) if isinstance(kind, str) else kind
    p, q = pair("near", classes, np.float64)
    rows = []
    for one, x in zip(kinds, (p, q), strict=True):
        logs = x - np.log(np.exp(x).sum(1, keepdims=True))
        rows.append(
            (np.exp(logs) if one == "probs" else x if one == "logits" else logs).astype(dtype)
        )
    good = prepare("divergence", TOPS, *rows, kind=kind).values(0, ROWS)
    beside = prepare("divergence", ("kl_divergence", *TOPS), *rows, kind=kind).values(0, ROWS)
    np.testing.assert_array_equal(good, beside[1:])

    def refusal(names):
        with pytest.raises(ValueError, match=r"row 2") as error:
            prepare("divergence", names, *rows, kind=kind).values(0, ROWS)
        return str(error.value)

    for side in (0, 1):
        if kinds[side] == "logits":
            continue
        kept = rows[side].copy()
        rows[side][2:, 1] += dtype(0.5) if kinds[side] == "probs" else dtype(9)
        assert refusal(TOPS[:1]) == refusal(TOPS) == refusal(("kl_divergence",))
        if kinds[side] == "probs":
            rows[side][2] *= -1
            assert refusal(TOPS[:1]) == refusal(("kl_divergence",))
        rows[side] = kept
        nan = rows[side][3, 0]
        rows[side][3, 0] = np.nan
        assert np.isnan(prepare("divergence", TOPS, *rows, kind=kind).values(0, ROWS)[:, 3]).all()
        rows[side][3, 0] = nan
