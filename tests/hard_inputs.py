"""Nasty rows by name: every generator is seeded, and every row is legal input for its kind.

`singles(kind, dtype)` gives `{name: rows}` with rows of shape (n, C), `hard_pairs.pairs` the same
for two distributions, `bernoullis` for elements. Rows that must raise are not here.
"""

import ml_dtypes
import numpy as np

bfloat16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": bfloat16,
}
KINDS = ("probs", "logprobs", "logits")
INF = np.inf


def computing(dtype):
    """The dtype in which fastent computes: 16-bit input is computed in float32."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def largest(dtype):
    return float(ml_dtypes.finfo(dtype).max)


def tiniest(dtype):
    return float(ml_dtypes.finfo(dtype).smallest_subnormal)


def ulp(dtype):
    return float(ml_dtypes.finfo(dtype).eps)


@np.errstate(all="ignore")
def cast(rows, dtype):
    """Rows in `dtype`; what is out of its range saturates instead of becoming infinite."""
    rows = np.asarray(rows, np.float64)
    top = largest(dtype)
    return np.where(np.isinf(rows), rows, np.clip(rows, -top, top)).astype(dtype)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


# ---------------------------------------------------------------- one distribution


@np.errstate(all="ignore")
def singles(kind, dtype):
    """Named blocks of rows of one kind."""
    dtype = np.dtype(dtype)
    make = {"probs": _probs, "logprobs": _logprobs, "logits": _logits}[kind]
    return {name: cast(rows, dtype) for name, rows in make(dtype).items()}


def _probs(dtype):
    r = np.random.default_rng(1)
    tiny, u = tiniest(dtype), ulp(dtype)
    small = np.array([1e-1, 1e-3, u, u / 2, u * u, 3 * tiny, tiny])
    spread = np.stack([softmax(s * r.normal(size=37)) for s in (0.1, 1, 3, 10, 30)])
    decay = 2.0 ** -np.arange(1, 41)
    wide = 2.0 ** -np.arange(0, 1000, 31.0)
    return {
        "ordinary": spread,
        "uniform 2": np.full((1, 2), 0.5),
        "uniform 7": np.full((1, 7), 1 / 7),
        "uniform 64": np.full((1, 64), 1 / 64),
        "confident": np.stack([1 - small, small], axis=1),
        "confident, big class last": np.stack([small / 2, small / 2, 1 - small], axis=1),
        "one-hot": np.eye(5),
        "one-hot of the next number": np.eye(3)[:2] * np.array([[1 - u / 2], [1 + u]]),
        "one-hot off by the check": np.eye(3)[:2] * np.array([[1 - 9e-4], [1 + 9e-4]]),
        "sums within the check": spread[:3] * np.array([[1 - 9e-4], [1 + 9e-4], [1 + 1e-6]])
        if dtype.itemsize > 2
        else spread[:3] * np.array([[0.985], [1.015], [1.01]]),
        "geometric": normalised(decay[None]),
        "subnormal tail": np.array([[0.5, 0.5, tiny, 0, 3 * tiny, 0.0], [1, 0, 0, 0, tiny, tiny]]),
        "around three quarters": np.array(
            [[0.75, 0.25], [0.75 + u, 0.25 - u], [0.75 - u, 0.25 + u]]
        ),
        "wide range": normalised(wide[None]),
        "zeros": holey(r),
    }


def normalised(x):
    return x / x.sum(axis=1, keepdims=True)


def holey(r):
    """Probabilities of which about half are 0."""
    return normalised(np.where(r.random((4, 19)) < 0.5, 0, softmax(r.normal(size=(4, 19)))))


def _logprobs(dtype):
    r = np.random.default_rng(2)
    u = ulp(dtype)
    rows = np.stack([log_softmax(s * r.normal(size=37)) for s in (0.1, 1, 3, 10)])
    holes = log_softmax(r.normal(size=(3, 11)))
    holes[:, ::2] = -INF
    holes -= np.log(np.exp(holes).sum(axis=1, keepdims=True))
    top = min(1e4, largest(dtype) / 2)
    return {
        "ordinary": rows,
        "uniform 64": np.full((1, 64), -np.log(64)),
        "shifted within the check": rows + np.array([[5e-4], [-5e-4], [1e-4], [u / 4]]),
        "confident": np.array([[-1e-3, np.log(1e-3)], [-u, np.log(u)], [0.0, -80], [-80, 0]]),
        "certain": np.array([[0.0, -INF, -INF], [-INF, -INF, 0.0]]),
        "a hair above 0": np.array([[1e-4, -INF, -INF], [1e-4, -40, -20]]),
        "holes": holes,
        "far tails": np.array([[0.0, -100, -700], [-np.log(2), -np.log(2), -top]]),
    }


def _logits(dtype):
    r = np.random.default_rng(3)
    top, tiny = largest(dtype), tiniest(dtype)
    base = r.normal(size=37)
    offsets = [x for x in (1e2, 1e4, 1e8, 1e30, 1e300) if x < top]
    shifted = np.stack([sign * off + 4 * base for off in offsets for sign in (1, -1)])
    gaps = np.array([0.5, 5, 17, 36, 40, 70, 88, 104, 300, 700, 746, 1500])
    return {
        "ordinary": np.stack([s * base for s in (0.1, 1, 3, 10, 30)]),
        "equal": np.zeros((1, 9)) + 3.0,
        "offset": shifted,
        "just around 256 and 1500": np.array([[256.0], [255.0], [1500.0], [-256.5], [208.0]])
        + r.normal(size=(5, 8)),
        "confident": np.stack([np.zeros(12), gaps, gaps / 2], axis=1),
        "confident, negative": np.stack([-gaps, 0 * gaps, -gaps], axis=1),
        "ties": np.array([[2.0, 2, 2, 1], [5, 0, 5, 5], [-3, -3, -9, -9]]),
        "minus infinity": np.array([[0, -INF, 1], [-INF, -INF, 7], [0.0, 0, -INF]]),
        "plus infinity": np.array([[INF, 0, 1], [INF, INF, -INF], [-INF, 3, INF]]),
        "huge": np.array([[0.9, -0.9, 0.5], [0.45, 0.45, -0.4]]) * min(top, 8.9e307),
        "wide apart": np.array([[0.0, -1e30, 1e30], [1e4, -1e4, 9.99e3], [1e30, 1e30, 0]]),
        "subnormal": np.array([[tiny, 0, -tiny], [5 * tiny, 2 * tiny, 0]]),
        "decay": -np.arange(60.0)[None] * np.array([[0.7], [3.0], [20.0]]),
    }


def class_counts():
    """Numbers of classes on both sides of every vector width, block and path boundary."""
    around = [c + d for c in (32, 64, 128, 256) for d in (-1, 0, 1)]
    return [*range(1, 22), 24, 40, 48, 56, *around]


# ---------------------------------------------------------------- elements


@np.errstate(all="ignore")
def bernoullis(kind, dtype):
    """Named `(target, pred)` arrays for the elementwise loss."""
    dtype = np.dtype(dtype)
    r = np.random.default_rng(8)
    u, tiny, top = ulp(dtype), tiniest(dtype), largest(dtype)
    edge = np.array([0, 1, 0.5, 0.25, 0.2929, 0.7071, u, 1 - u / 2, tiny, 1e-3, 1 - 1e-3, u * u])
    ordinary = {"probs": r.random(60), "logits": 5 * r.normal(size=60)}
    edges = {
        "probs": edge,
        "logits": np.array(
            [
                0.0,
                tiny,
                -tiny,
                1,
                -1,
                17,
                -17,
                40,
                -40,
                88,
                -104,
                700,
                -746,
                1e4,
                top,
                -top,
                INF,
                -INF,
            ]
        ),
    }
    ordinary["logprobs"], edges["logprobs"] = np.log(ordinary["probs"]), _log_edges()
    e = edges[kind]
    targets = np.array([0, 1, 0.5, 0.3, tiny, 1 - u / 2])
    soft = ordinary[kind]
    found = {
        "hard": (r.integers(0, 2, size=60), soft),
        "soft": (r.random(60), soft),
        "edges": (np.repeat(targets, len(e)), np.tile(e, len(targets))),
    }
    exact = cast(soft, dtype).astype(np.float64)
    made = {"probs": exact, "logprobs": np.exp(exact), "logits": 1 / (1 + np.exp(-exact))}[kind]
    steps = (1e-12, -1e-8, 1e-3, -0.04)
    close = np.minimum(np.concatenate([made * (1 + step) for step in steps]), 1)
    found["close"] = close, np.tile(soft, len(steps))
    return {name: (cast(t, dtype), cast(q, dtype)) for name, (t, q) in found.items()}


def _log_edges():
    return np.array([0.0, -1e-7, -1e-3, -0.3, -0.6931, -0.7, -2, -40, -88, -300, -INF])


def labels(rows, seed=0):
    """Labels that visit the first, last, largest and smallest class of the rows in turn."""
    r = np.random.default_rng(seed)
    wide = rows.astype(np.float64)
    choices = np.stack(
        [
            wide.argmax(axis=1), wide.argmin(axis=1), np.zeros(len(rows), np.int64),
            np.full(len(rows), rows.shape[1] - 1), r.integers(0, rows.shape[1], len(rows)),
        ]
    )  # fmt: skip
    return choices[np.arange(len(rows)) % len(choices), np.arange(len(rows))]
