"""Row values of dumps against exact arithmetic on the numbers that their codes stand for.

The rows are those of random vocabularies (odd and even, shorter and longer than a block of the
loader), clipped or not, by the writer of 16 nats and by the one of 24, flat, peaked, and nearly
equal to those beside them.
"""

import dumps
import numpy as np
import oracle
import pytest
from mpmath import mpf

from fastent import llama
from fastent.backends.cython.engine import prepare

# classes, size of the logits, nats at which the writer clips
FILES = {
    "two": (2, 3.0, 16),
    "odd": (7, 2.0, 16),
    "few": (33, 0.01, 16),
    "clipped": (201, 8.0, 16),
    "clipped later": (200, 8.0, 24),
    "peaked": (129, 40.0, 24),
    "blocks, odd": (2051, 5.0, 16),
}
N_CTX, CHUNKS = 8, 2
NOISE = (1.0, 0.3, 0.01, 1e-3, 3.0, 0.0)  # of each of six rows
LONG = [1]  # of long ones mpmath takes seconds
PAIR = ("kl_divergence", "reverse_kl", "js_divergence", "total_variation", "hellinger",
        "cross_entropy", "entropy_p", "entropy_q", "top1_agreement", "top5_overlap",
        "top10_overlap", "top1_in_top5")  # fmt: skip
ONE = ("cross_entropy", "accuracy", "rank", "brier", "entropy", "confidence")


@pytest.fixture(scope="module", params=FILES)
def pair(request, tmp_path_factory):
    """Two dumps of one text, their decoded rows, and float32 logits beside the first."""
    classes, size, clip = FILES[request.param]
    rng = np.random.default_rng(classes)
    folder = tmp_path_factory.mktemp("dumps")
    tokens = rng.integers(0, classes, (CHUNKS, N_CTX))
    p = (size * rng.standard_normal((6, classes))).astype(np.float32)
    q = (p + np.array(NOISE)[:, None] * rng.standard_normal(p.shape)).astype(np.float32)
    for name, numbers in (("p", p), ("q", q)):
        llama.write(folder / f"{name}.bin", tokens, [numbers], N_CTX, clip=clip)
    opened = [llama.open(folder / f"{name}.bin") for name in "pq"]
    exact = [dumps.decoded(folder / f"{name}.bin") for name in "pq"]
    return opened, exact, q


def assert_exact(found, expected, columns):
    for column, values in zip(columns, found, strict=True):
        for r, row in expected.items():
            value = values[r]
            limit = max(1e-6 * abs(row[column]), mpf("1e-30"))
            assert abs(mpf(float(value)) - row[column]) <= limit, column


@pytest.fixture(scope="module")
def truth(pair):
    (p, _), (a, b), logits = pair
    labels = p.labels.tolist()
    rows = range(len(a)) if logits.shape[1] <= 2000 else LONG
    exact = {"kind": "logits", "tolerance": 1.0}
    return {
        "pair": {r: oracle.row("divergence", PAIR, true=a[r], pred=b[r], **exact) for r in rows},
        "logits": {
            r: oracle.row("divergence", PAIR, true=a[r], pred=logits[r], **exact) for r in rows
        },
        "one": {r: oracle.row("sparse", ONE, label=labels[r], pred=a[r], **exact) for r in rows},
    }


def test_of_two_dumps(engine, pair, truth):
    p, q = pair[0]
    call = prepare("divergence", PAIR, p.rows, q.rows, kind="logprobs", backend=engine)
    assert_exact(call.values(0, len(p)), truth["pair"], PAIR)


def test_of_a_dump_and_logits(engine, pair, truth):
    kinds = ("logprobs", "logits")
    call = prepare("divergence", PAIR, pair[0][0].rows, pair[2], kind=kinds, backend=engine)
    assert_exact(call.values(0, len(pair[2])), truth["logits"], PAIR)


def test_of_labels(engine, pair, truth):
    p = pair[0][0]
    call = prepare("sparse", ONE, p.labels, p.rows, kind="logprobs", backend=engine)
    assert_exact(call.values(0, len(p)), truth["one"], ONE)
