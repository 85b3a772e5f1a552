"""Sums are what math.fsum gives, in any order, any blocks and any merges, at every SIMD level."""

import math
from fractions import Fraction

import numpy as np
import pytest

from fastent.backends.cython import levels
from fastent.backends.cython.accumulate import exact_sum as exact

RNG = np.random.default_rng(20240519)
N = 5000


def _full_range(n):
    mantissas = RNG.uniform(1, 2, n) * RNG.choice([-1, 1], n)
    return np.ldexp(mantissas, RNG.integers(-1074, 1000, n))


def _cancelling():
    big = RNG.standard_normal(N // 2) * 1e12
    values = np.concatenate([big, -big])
    values[::97] += 1e-9
    return RNG.permutation(values)


def _lone_specks():
    values = RNG.exponential(size=N)
    values[::1024] = 1e-280
    return values


DATA = {
    "losses": RNG.exponential(size=N),
    "wide": 10.0 ** RNG.uniform(-20, 1, N),
    "cancelling": _cancelling(),
    "full range": _full_range(N),
    "subnormal": RNG.integers(-(2**50), 2**50, N) * 5e-324,
    "equal": np.full(N, 0.1),
    "lone specks": _lone_specks(),
    "growing": np.ldexp(RNG.uniform(1, 2, N), np.arange(N) // 90),
    "shrinking": np.ldexp(RNG.uniform(-2, 2, N), -11 * (np.arange(N) // 512)),
    "zeros and ones": RNG.integers(0, 2, N).astype(float),
    "signed zeros": np.where(np.arange(N) % 2, 0.0, -0.0),
}


@pytest.fixture(params=levels.LEVELS, autouse=True)
def level(request):
    """The block loops of each level that the machine has."""
    before = levels.active
    levels.use(request.param)
    yield request.param
    levels.use(before)


def total(values):
    return exact.ExactTotal().add(np.ascontiguousarray(values, dtype=float))


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 23, 24, 511, 512, 513, N])
def test_equals_fsum(name, n):
    values = DATA[name][:n]
    assert total(values).value == math.fsum(values)


@pytest.mark.parametrize("name", DATA)
def test_any_split_order_and_merge_gives_the_same_integer(name):
    values = DATA[name]
    whole = total(values)
    parts = []
    shuffled = RNG.permutation(values)
    cuts = np.sort(RNG.integers(0, N, 17))
    for part in np.split(shuffled, cuts):
        parts.append(total(part))
    merged = exact.ExactTotal()
    for i in RNG.permutation(len(parts)):
        merged.merge(parts[i])
    assert merged.units == whole.units
    assert merged.value == whole.value


def test_many_merges_do_not_overflow_a_limb():
    one = total([-1.5, 2.0**-1060])
    for _ in range(600):
        one.merge(one)
    assert one.value == math.ldexp(-1.5, 600)
    one.merge(total([math.ldexp(1.5, 600)]))
    assert one.value == 2.0**-460


@pytest.mark.parametrize(
    "values, expected",
    [
        ([math.inf, 1.0], math.inf),
        ([-math.inf, 1e308], -math.inf),
        ([math.inf, -math.inf], math.nan),
        ([math.nan, math.inf], math.nan),
        ([1.7e308, 1.7e308], math.inf),
        ([-1.7e308, -1.7e308], -math.inf),
        ([1.7e308, 1.7e308, -1.7e308], 1.7e308),
        ([5e-324, 5e-324], 1e-323),
        ([1.0, 2.0**-53], 1.0),
        ([1.0, 2.0**-53, 2.0**-1074], 1.0 + 2.0**-52),
        ([1.0 + 2.0**-52, 2.0**-53], 1.0 + 2.0**-51),
        ([-1.0, -(2.0**-53), -5e-324], -1.0 - 2.0**-52),
        ([2.0**1023, 2.0**1023 - 2.0**970], math.inf),
        ([2.0**1023, 2.0**1023 - 2.0**970, -5e-324], 1.7976931348623157e308),
    ],
)
@pytest.mark.parametrize("padding", [0, 600])
def test_special_values_overflow_and_ties(values, expected, padding):
    padded = np.concatenate([values, np.zeros(padding)])
    for order in (padded, padded[::-1]):
        got = total(order).value
        assert got == expected or (math.isnan(got) and math.isnan(expected))


@pytest.mark.parametrize("name", DATA)
def test_nothing_is_lost(name):
    assert Fraction(total(DATA[name]).units, 2**1074) == sum(map(Fraction, DATA[name].tolist()))


def _floats_over(octaves):
    """Magnitudes from 1 to just below 2^octaves, both ends among them, and zeros."""
    values = np.ldexp(RNG.uniform(1, 2, N), RNG.integers(0, octaves, N)).astype(np.float32)
    values[:3] = np.nextafter(np.float32(1), np.float32(2)), 0.0, 1.0
    values[3] = np.nextafter(np.float32(2.0**octaves), np.float32(0))
    return values * RNG.choice(np.float32([-1, 1]), N)


FLOATS = {
    f"{octaves} octaves": _floats_over(octaves) for octaves in (1, 27, 28, 29, 78, 79, 80, 120)
}
FLOATS["losses"] = RNG.exponential(size=N).astype(np.float32)
FLOATS["subnormal"] = np.ldexp(RNG.integers(-9, 9, N).astype(np.float32), -149)
FLOATS["least and more"] = np.where(np.arange(N) % 3, np.float32(2.0**-149), FLOATS["27 octaves"])
FLOATS["largest"] = np.full(N, np.finfo(np.float32).max)
FLOATS["most steps"] = np.nextafter(
    np.where(np.arange(N) % 999, np.float32(2.0**28), np.float32(2)), np.float32(0)
)
FLOATS["zeros"] = np.float32(np.where(np.arange(N) % 2, 0.0, -0.0))


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("n", [1, 4, 2047, 2048, 2049, N])
def test_floats_give_the_integer_of_their_doubles(name, n):
    values = FLOATS[name][:n]
    found = exact.ExactTotal().add(values)
    assert found.units == total(values).units
    assert found.value == math.fsum(values)


@pytest.mark.parametrize("values", [[math.inf, 1], [math.inf, -math.inf], [math.nan, math.inf]])
def test_infinite_floats(values):
    found = exact.ExactTotal().add(np.array(values, np.float32)).value
    np.testing.assert_equal(found, total(values).value)
