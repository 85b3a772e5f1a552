"""The notation of the Numba backend's kernels by itself, beside NumPy: every operation, for float32
and float64, for vectors and single numbers.

Runs on any supported Numba: nothing but `fastent.backends.numba.vectors` is called.
"""

import ast
import operator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numba import njit, types

from fastent.backends.numba import vectors
from fastent.backends.numba.vectors import (
    Bits,
    Mask,
    Number,
    Variable,
    called,
    choose,
    each,
    either,
    inline,
    is_single,
    kernel,
    madd,
    polynomial,
    when,
)

FLOATS = [np.dtype(np.float32), np.dtype(np.float64)]


def integers(dtype):
    return np.dtype(f"int{8 * dtype.itemsize}")


def hard_numbers(dtype, seed):
    """Numbers of all sizes and both signs, with what is special among them."""
    r = np.random.default_rng(seed)
    info = np.finfo(dtype)
    special = [0.0, np.inf, 1.0, 0.5, info.tiny, info.smallest_subnormal, info.max, 1 + info.eps]
    special = [np.nan, *special, *(-number for number in special)]
    wide = r.normal(size=111) * 2.0 ** r.integers(-60, 60, 111)
    found = np.concatenate([special, wide]).astype(dtype)
    return r.permutation(found)


def bits(x):
    return x.view(integers(x.dtype))


def as_bits(mask, like):
    return np.where(mask, -1, 0).astype(integers(like.dtype))


# name: (with the notation, with NumPy) of two arrays of floats
NUMBERS = {
    "add": (operator.add, operator.add),
    "subtract": (operator.sub, operator.sub),
    "multiply": (operator.mul, operator.mul),
    "divide": (operator.truediv, operator.truediv),
    "add a number": (lambda x, y: 1.5 + x, lambda x, y: 1.5 + x),
    "subtract from a number": (lambda x, y: 1.5 - x, lambda x, y: 1.5 - x),
    "multiply by a number": (lambda x, y: 3.0 * x, lambda x, y: 3 * x),
    "divide a number": (lambda x, y: 1.0 / x, lambda x, y: 1 / x),
    "negate": (lambda x, y: -x, lambda x, y: -x),
    "absolute": (lambda x, y: abs(x), lambda x, y: abs(x)),
    "root": (lambda x, y: abs(x).sqrt(), lambda x, y: np.sqrt(abs(x))),
    "filled": (lambda x, y: x.filled(0.1), lambda x, y: np.full_like(x, 0.1)),
    "choose": (lambda x, y: choose(x < y, x, y), lambda x, y: np.where(x < y, x, y)),
    "choose a number": (
        lambda x, y: choose(x < y, 2.0, y),
        lambda x, y: np.where(x < y, x.dtype.type(2), y),
    ),
    "wide and narrow": (
        lambda x, y: x.wide().narrow().resized(x.element),
        lambda x, y: x.astype(np.float32).astype(x.dtype),
    ),
    "converted": (
        lambda x, y: (x.bits() >> 3).converted().resized(x.element),
        lambda x, y: (bits(x) >> 3).astype(x.dtype),
    ),
}
MASKS = {
    "less": (operator.lt, operator.lt),
    "at most": (operator.le, operator.le),
    "greater": (operator.gt, operator.gt),
    "at least": (operator.ge, operator.ge),
    "same": (lambda x, y: x.same(y), lambda x, y: x == y),
    "same number": (lambda x, y: x.same(1.0), lambda x, y: x == 1),
    "nan": (lambda x, y: x.nan(), lambda x, y: np.isnan(x)),
    "and": (lambda x, y: (x < y) & (x > 0.0), lambda x, y: (x < y) & (x > 0)),
    "or": (lambda x, y: (x < y) | x.nan(), lambda x, y: (x < y) | np.isnan(x)),
    "not": (lambda x, y: ~(x < y), lambda x, y: ~(x < y)),
    "bits less": (lambda x, y: x.bits() < y.bits(), lambda x, y: bits(x) < bits(y)),
    "bits at most": (lambda x, y: x.bits() <= y.bits(), lambda x, y: bits(x) <= bits(y)),
    "bits greater": (lambda x, y: x.bits() > y.bits(), lambda x, y: bits(x) > bits(y)),
    "bits at least": (lambda x, y: x.bits() >= y.bits(), lambda x, y: bits(x) >= bits(y)),
    "bits same": (lambda x, y: x.bits().same(y.bits()), lambda x, y: bits(x) == bits(y)),
    "bits differ": (lambda x, y: x.bits().differs(0), lambda x, y: bits(x) != 0),
}
BITS = {
    "add": (operator.add, operator.add),
    "subtract": (operator.sub, operator.sub),
    "subtract from a number": (lambda a, b: 7 - a, lambda a, b: 7 - a),
    "multiply": (operator.mul, operator.mul),
    "and": (operator.and_, operator.and_),
    "or": (operator.or_, operator.or_),
    "xor": (operator.xor, operator.xor),
    "not": (lambda a, b: ~a, lambda a, b: ~a),
    "left": (lambda a, b: a << 5, lambda a, b: a << 5),
    "right": (lambda a, b: a >> 5, lambda a, b: a >> 5),
    "logical right": (
        lambda a, b: a.logical_shift(5),
        lambda a, b: (a.view(f"u{a.itemsize}") >> np.uint8(5)).view(a.dtype),
    ),
    "least": (lambda a, b: a.least(b), np.minimum),
    "most": (lambda a, b: a.most(b), np.maximum),
}


def everything(x, y):
    """The results of all operations, as floats with their bits."""
    width = x.bits().element.width
    for here, _ in NUMBERS.values():
        yield here(x, y)
    for here, _ in MASKS.values():
        mask = here(x, y)
        assert isinstance(mask, Mask)
        yield mask.as_bits(width).as_number()
    for here, _ in BITS.values():
        found = here(x.bits(), y.bits())
        assert isinstance(found, Bits)
        yield found.as_number()


@pytest.mark.parametrize("vector", [True, False])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_operations(dtype, vector):
    lanes = vectors.BYTES // dtype.itemsize if vector else 1

    @inline()
    def compute(n, x, y, out):
        with each(0, n, lanes) as i:
            for k, value in enumerate(everything(x.load(lanes, i), y.load(lanes, i))):
                assert value.count == lanes
                assert isinstance(value, Number)
                (out + n * k).store(value, i)

    @njit
    def call(x, y, out):
        compute(x.size, x, y, out)

    x, y = hard_numbers(dtype, 0), hard_numbers(dtype, 1)
    assert len(x) == 128
    names = [*NUMBERS, *MASKS, *(f"bits {name}" for name in BITS)]
    out = np.zeros((len(names), len(x)), dtype)
    call(x, y, out.reshape(-1))
    with np.errstate(all="ignore"):
        want = [there(x, y) for _, there in NUMBERS.values()]
        want += [as_bits(there(x, y), x).view(dtype) for _, there in MASKS.values()]
        want += [there(bits(x), bits(y)).view(dtype) for _, there in BITS.values()]
    for name, found, expected in zip(names, out, want, strict=True):
        same = (bits(found) == bits(expected)) | (np.isnan(found) & np.isnan(expected))
        assert same.all(), (name, x[~same][:3], y[~same][:3], found[~same][:3], expected[~same][:3])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_fused_products(dtype):
    lanes = vectors.BYTES // dtype.itemsize

    @inline()
    def compute(n, x, out):
        with each(0, n, lanes) as i:
            v = x.load(lanes, i)
            (out + n * 0).store(vectors.exact_fma(v, v, -(v * v)), i)
            (out + n).store(madd(v, v, v), i)
            (out + n * 2).store(polynomial(v, 2.0, 0.5, 3.0), i)

    @njit
    def call(x, out):
        compute(x.size, x, out)

    # an exact product has twice the bits: its rounding error is a float
    x = np.random.default_rng(2).normal(size=64).astype(dtype)
    out = np.zeros((3, 64), dtype)
    call(x, out.reshape(-1))
    for v, lost in zip(x, out[0], strict=True):
        assert Fraction(float(v)) ** 2 - Fraction(float(v * v)) == Fraction(float(lost))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(out[1], x.astype(np.float64) ** 2 + x, rtol=0, atol=8 * eps)
    np.testing.assert_allclose(out[2], 2.0 * x.astype(np.float64) ** 2 + 0.5 * x + 3, rtol=4 * eps)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_lanes(dtype):
    lanes = vectors.BYTES // dtype.itemsize

    @inline()
    def compute(n, x, out):
        v, w = x.load(lanes), x.load(lanes, lanes)
        found = [
            v.shuffled(range(lanes - 1, -1, -1)),
            v.shuffled(range(lanes // 2, lanes + lanes // 2), w),
            v.folded(lambda a, b: a + b).spread(lanes),
            v.lane(3).spread(lanes),
            choose(n.first(lanes), v, -1.0),
            choose(n.only(lanes), v, -1.0),
            choose((v > 1e9).any(), v.lane(0), w.lane(0)).spread(lanes),
            choose(v.same(v.lane(2).spread(lanes)).any(), v.lane(0), w.lane(0)).spread(lanes),
        ]
        for k, value in enumerate(found):
            out.store(value, k * lanes)

    @njit
    def call(n, x, out):
        compute(n, x, out)

    x = np.random.default_rng(3).normal(size=2 * lanes).astype(dtype)
    for n in (0, 1, 5, lanes - 1, lanes):
        out = np.zeros((8, lanes), dtype)
        call(n, x, out.reshape(-1))
        v, w = x[:lanes], x[lanes:]
        halves = v
        while len(halves) > 1:
            halves = halves[: len(halves) // 2] + halves[len(halves) // 2 :]
        number = np.arange(lanes)
        want = [v[::-1], x[lanes // 2 :][:lanes], np.full(lanes, halves[0]), np.full(lanes, v[3]),
                np.where(number < n, v, -1), np.where(number == n, v, -1),
                np.full(lanes, w[0]), np.full(lanes, v[0])]  # fmt: skip
        assert np.array_equal(out, want)


def test_memory_loops_and_branches():
    @inline(types.intp)
    def compute(n, x, labels, out, faults):
        """Copies what is positive, doubled below its label; returns how many it copied."""
        found = Variable(n.filled(0))
        place = Variable(out)
        with each(0, n) as i:
            value = x.load(1, i)
            with when(value > 0.0):
                with either(i < labels.load(1, i)) as (then, otherwise):
                    with then:
                        place.value.store(2.0 * value)
                    with otherwise:
                        place.value.store(value)
                place.value = place.value + 1
                found.value = found.value + 1
            faults.store(faults.zeros().filled(-1), faults.size - i - 1)
        room = x.room(8)
        room.copy(x, n)
        out.store(room.load(8), n)
        out.store(Number(out.builder, room.zeros(4).value), n + 8)
        return found.value.least(100).most(found.value.within(7) - 7)

    @njit
    def call(x, labels, out, faults):
        return compute(x.size, x, labels, out, faults)

    x = np.array([1.0, -2.0, 3.0, 4.0, 0.0, 6.0])
    labels = np.array([9, 9, 0, 9, 9, 0], np.int64)
    out, faults = np.full(18, 7.0), np.zeros(6, np.int8)
    assert call(x, labels, out, faults) == 4
    assert out.tolist() == [2, 3, 8, 6, 7, 7, *x, 0, 0, 0, 0, 0, 0]
    assert faults.tolist() == [-1] * 6


def test_what_compiled_code_gives():
    @inline(types.float64)
    def weighted(pair, count, x):
        a, (b, c) = pair
        return a * x.load(1, 1).wide() + choose(count.same(3), b, c)

    hypotenuse = called(lambda a, b: (a * a + b * b).sqrt())

    @njit
    def call(x, n):
        return (weighted((2.0, (0.5, 0.25)), n, x), hypotenuse(3, 4.0), is_single(x))

    assert call(np.array([0.0, 10.0]), 3) == (20.5, 5.0, False)
    assert call(np.array([0.0, 10.0], np.float32), 4) == (20.25, 5.0, True)


def test_kernels_of_one_factory_have_names_of_their_own():
    def factory(formula, number):
        @kernel
        def compute(x):
            return formula(x) + number

        return compute

    @kernel
    def twice(x):
        return 2 * x

    @kernel
    def thrice(x):
        return 3 * x

    made = [factory(formula, number) for formula in (twice, thrice) for number in (1, 2)]
    assert len({one.py_func.__qualname__ for one in made}) == 4
    assert made[0].py_func.__qualname__ == factory(twice, 1).py_func.__qualname__
    assert [one(10) for one in made] == [21, 22, 31, 32]
    with pytest.raises(TypeError, match="nothing that can be told"):
        factory(twice, object())


def test_no_other_module_leans_on_what_is_inside():
    for path in Path(vectors.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            inside = [n for n in names if n.startswith(("llvmlite", "numba.core", "numba.ext"))]
            assert not inside or path.name == "vectors.py", (path.name, inside)
