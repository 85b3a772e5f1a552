"""exp in about 100 bits: pairs (high, low) of float64 whose sum is the number.

A probability row met by a row of logits needs it: rounding the exponentials alone would make up
all of a divergence below 1e-16.
"""

from decimal import Decimal, localcontext

import numpy as np

from .functions import two_product, two_sum

LOWEST = -800.0  # e^x is 0 in float64 well before
STEPS = 128
# ln 2 / 128 in three parts; the first two have so few bits that k·part is exact
LN2_STEP = (0.005415212347998022, 1.2655086081689364e-13, 1.636073772867244e-23)
# 1/4!, 1/3! and 1/2! as pairs, then 1/5! ... 1/9! for the part where float64 is enough
INVERSE_FACTORIALS = (
    (0.041666666666666664, 2.3129646346357427e-18),
    (0.16666666666666666, 9.25185853854297e-18),
    (0.5, 0.0),
)
TAIL = (1 / 120, 1 / 720, 1 / 5040, 1 / 40320, 1 / 362880)


def _powers_of_two():
    """2^(j/128) as pairs."""
    with localcontext() as context:
        context.prec = 60
        exact = [2 ** (Decimal(j) / STEPS) for j in range(STEPS)]
        low = [float(x - Decimal(float(x))) for x in exact]
    return np.array(exact, np.float64), np.array(low)


POWER, POWER_LOW = _powers_of_two()


def multiply(ah, al, bh, bl):
    p, e = two_product(ah, bh)
    e += ah * bl + al * bh
    return two_sum(p, e)


def add(ah, al, bh, bl):
    s, e = two_sum(ah, bh)
    e += al + bl
    return two_sum(s, e)


def exp(x, low):
    """exp(x + low) for x <= 0; what underflows in float64 is 0."""
    low = np.where(x > LOWEST, low, 0.0)
    x = np.maximum(x, LOWEST)
    k = np.rint(x * (1 / (LN2_STEP[0] + LN2_STEP[1])))
    r, e = two_sum(x - k * LN2_STEP[0], -k * LN2_STEP[1])
    rh, rl = two_sum(r, e + (low - k * LN2_STEP[2]))
    # expm1(r) = r·(1 + r·(1/2! + r·(1/3! + r·(1/4! + ...)))), |r| < 0.003
    tail = np.full_like(rh, TAIL[-1])
    for c in TAIL[-2::-1]:
        tail = tail * rh + c
    h, l = add(tail * rh, 0.0, *INVERSE_FACTORIALS[0])  # noqa: E741
    for c in (*INVERSE_FACTORIALS[1:], (1.0, 0.0), (0.0, 0.0)):
        h, l = add(*multiply(h, l, rh, rl), *c)  # noqa: E741
    index = k.astype(np.int64)
    octave, index = index >> 7, index & (STEPS - 1)
    th, tl = POWER[index], POWER_LOW[index]
    h, l = add(*multiply(h, l, th, tl), th, tl)  # noqa: E741
    return np.ldexp(h, octave), np.ldexp(l, octave)
