"""Ids of groups and clusters that were made to fall into one place of a hash table do not."""

import time

import numpy as np
import pytest

from fastent.backends.cython.accumulate.group_ids import Keys

N = 40_000
MIXER = 0x9E3779B97F4A7C15  # of multiplicative hashes
INVERSE = pow(MIXER, -1, 1 << 64)
STEPS = np.arange(N, dtype=np.uint64)


@pytest.mark.parametrize(
    "ids",
    [
        STEPS << np.uint64(46),
        STEPS << np.uint64(32),
        (STEPS << np.uint64(46)) * np.uint64(INVERSE),
        (STEPS | STEPS << np.uint64(32)) * np.uint64(INVERSE),
        STEPS * np.uint64(INVERSE),
    ],
    ids=["high bits", "middle bits", "one product", "folded product", "small products"],
)
def test_crafted(ids):
    ids = ids.view(np.int64)
    start = time.process_time()
    codes = Keys().codes(ids)
    took = time.process_time() - start
    assert (codes == np.arange(N)).all()
    assert took < 1.0  # all in one place: 8e8 steps
