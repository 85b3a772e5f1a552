"""Nasty pairs of distributions by name, and pairs of counts; see `hard_inputs`."""

import numpy as np
from hard_inputs import INF, cast, holey, largest, log_softmax, normalised, softmax, tiniest, ulp


@np.errstate(all="ignore")
def pairs(kind_true, kind_pred, dtype):
    """Named pairs of blocks, `(true, pred)`, of the two kinds."""
    dtype = np.dtype(dtype)
    if kind_true == kind_pred:
        make = {"probs": _probs_pairs, "logprobs": _logprobs_pairs, "logits": _logits_pairs}
        found = make[kind_true](dtype)
    else:
        found = _mixed_pairs(kind_true, kind_pred, dtype)
    return {name: (cast(t, dtype), cast(q, dtype)) for name, (t, q) in found.items()}


def distances(dtype):
    """Relative distances of nearly equal rows: KL is about half their squares."""
    lowest = {8: 15, 4: 6, 2: 3}[np.dtype(dtype).itemsize]
    return 10.0 ** -np.arange(1, lowest + 1)


def _near(r, dtype, classes, spread):
    d = distances(dtype)[:, None]
    p = softmax(spread * r.normal(size=(len(d), classes)))
    q = p * (1 + d * r.normal(size=p.shape))
    return p, normalised(q)


def _probs_pairs(dtype):
    r = np.random.default_rng(4)
    u, tiny = ulp(dtype), tiniest(dtype)
    wide = dtype.itemsize > 2
    p, q = _near(r, dtype, 23, 1.0)
    sums = 1 + r.choice([-9e-4, -1e-6, 1e-5, 9e-4] if wide else [-1e-2, 1e-2], size=(len(p), 1))
    # ratios on both sides of whole octaves, where the reduction of q/p changes branch
    steps = np.array([2.0**k * (1 + j * u) for k in (-3, -2, -1, 0, 1, 2, 3) for j in (-1, 0, 1)])
    p_seams = np.append(np.full(len(steps), 1 / 128), 1 - len(steps) / 128)
    q_seams = np.append(steps / 128, 0.1)
    far = 2.0 ** r.integers(-100 if wide else -10, 1, size=(3, 21))
    holes = holey(r)
    zigzag = 1 + 3e-2 * np.where(np.arange(19) % 2, 1, -1)
    one = np.array([1 - 2.0**-10, 2.0**-11, 2.0**-11])
    return {
        "unrelated": (softmax(2 * r.normal(size=(4, 31))), softmax(2 * r.normal(size=(4, 31)))),
        "near": (p, q),
        "near, two classes": _near(r, dtype, 2, 0.5),
        "near, many classes": _near(r, dtype, 150, 2.0),
        "near, sums differ": (p, q * sums),
        "proportional": (p, p * sums),
        "exactly proportional": (
            np.array([[0.5, 0.25, 0.25]]),
            np.array([[0.5, 0.25, 0.25]]) * (1 - 2**-10),
        ),
        "next numbers": (
            np.array([[0.5, 0.5], [0.25, 0.75]]),
            np.array([[0.5 + u / 2, 0.5 - u / 2], [0.25 + u / 4, 0.75]]),
        ),
        "equal": (p, p),
        "octave seams": (p_seams[None], normalised(q_seams[None])),
        "octave seams, exact": (
            p_seams[None],
            q_seams[None] + (np.arange(22) == 21) * (0.9 - q_seams[:-1].sum()),
        ),
        "wide ratios": (
            normalised(far),
            softmax(r.normal(size=far.shape)),
        ),
        "confident against confident": (
            np.array([one, one, one]),
            np.array([one[[1, 0, 2]], one * (1 - 2**-10), [1 - u, u / 2, u / 2]]),
        ),
        "disjoint": (np.array([[1.0, 0], [0, 1]]), np.array([[0.0, 1], [1, 0]])),
        "disjoint halves": (np.array([[0.5, 0.5, 0, 0]]), np.array([[0, 0, 0.25, 0.75]])),
        "zeros in p": (holes, softmax(r.normal(size=holes.shape))),
        "zeros in q": (softmax(r.normal(size=holes.shape)), holes),
        "zeros in both": (holes, normalised(np.where(holes > 0, softmax(holes), 0))),
        "zeros, near": (holes, normalised(holes * zigzag)),
        "subnormals": (
            np.array([[1, tiny, 2 * tiny], [0.5, 0.5, tiny], [1, 0, tiny]]),
            np.array([[1, 3 * tiny, tiny], [0.5, 0.5, 5 * tiny], [1, tiny, 0]]),
        ),
        "tiny against large": (
            np.array([[0.5, 0.5, 0], [tiny, 0.5, 0.5], [1.0, tiny, tiny]]),
            np.array([[tiny, 0.5, 0.5], [0.5, 0.5, 0], [tiny, 1.0, tiny]]),
        ),
        "uniform against spread": (np.full((3, 64), 1 / 64), softmax(4 * r.normal(size=(3, 64)))),
    }


def _logprobs_pairs(dtype):
    r = np.random.default_rng(5)
    a = log_softmax(r.normal(size=(len(distances(dtype)), 23)))
    noise = distances(dtype)[:, None] * r.normal(size=a.shape)
    wide = dtype.itemsize > 2
    shift = r.choice([-5e-4, 5e-4, 1e-6] if wide else [-5e-3, 5e-3], size=(len(a), 1))
    holes = np.array([[-INF, np.log(0.5), np.log(0.5), -INF]])
    return {
        "unrelated": (
            log_softmax(2 * r.normal(size=(4, 31))),
            log_softmax(2 * r.normal(size=(4, 31))),
        ),
        "near": (a, log_softmax(a + noise)),
        "near, sums differ": (a, log_softmax(a + noise) + shift),
        "equal": (a, a),
        "far": (log_softmax(8 * r.normal(size=(4, 31))), log_softmax(8 * r.normal(size=(4, 31)))),
        "holes in both": (holes, np.array([[-INF, np.log(0.25), np.log(0.75), -INF]])),
        "holes in p": (holes, np.full((1, 4), np.log(0.25))),
        "holes in q": (np.full((1, 4), np.log(0.25)), holes),
        "disjoint": (np.array([[0.0, -INF]]), np.array([[-INF, 0.0]])),
        "confident": (
            np.array([[0.0, -40.0], [0.0, -80.0]]),
            np.array([[0.0, -41.0], [-80.0, 0.0]]),
        ),
    }


def _logits_pairs(dtype):
    r = np.random.default_rng(6)
    top = largest(dtype)
    a = 2 * r.normal(size=(len(distances(dtype)), 23))
    noise = distances(dtype)[:, None] * r.normal(size=a.shape)
    offsets = [x for x in (1e4, 1e8, 1e300) if x < top]
    shifts = np.array([s * x for x in offsets for s in (1, -1)])[:, None]
    wiggle = 2 * r.normal(size=(len(shifts), 23))
    many = 2 * r.normal(size=(3, 150))
    return {
        "unrelated": (3 * r.normal(size=(4, 31)), 3 * r.normal(size=(4, 31))),
        "near": (a, a + noise),
        "near, two classes": (a[:, :2], (a + noise)[:, :2]),
        "near, many classes": (
            many,
            many + np.array([[1e-3], [1e-2], [1]]) * r.normal(size=many.shape),
        ),
        "near, other offset": (a, a + noise + 3.0),
        "equal": (a, a),
        "equal but for an offset": (np.round(a * 8) / 8, np.round(a * 8) / 8 + 16),
        "offset": (wiggle + shifts, wiggle + 0.3 * r.normal(size=wiggle.shape) + shifts),
        "offset, near": (a + 1e4, a + noise + 1e4),
        "offset, one side": (wiggle, wiggle + 0.3 * r.normal(size=wiggle.shape) + shifts),
        "far": (20 * r.normal(size=(4, 31)), 20 * r.normal(size=(4, 31))),
        "differences around 2": (a, a + 2 * np.sign(r.normal(size=a.shape)) * (1 + noise)),
        "temperature": (many, many / 1.37),
        "minus infinity": (
            np.array([[0, -INF, 1], [0, -INF, 1], [0.0, 2, 1]]),
            np.array([[1, -INF, 0], [1.0, 2, 0], [0, -INF, 1]]),
        ),
        "plus infinity": (
            np.array([[INF, 0, 1], [INF, 0, 1], [INF, INF, 1], [0.0, 1, 2]]),
            np.array([[INF, 5, 1], [1.0, 0, 0], [INF, INF, -INF], [INF, 1, 0]]),
        ),
        "far tail against a hole": (np.array([[0, -800.0, 0]]), np.array([[0, -INF, 1.0]])),
        "confident": (
            np.array([[50.0, 0], [50, 0], [200, 0]]),
            np.array([[51.0, 0], [0, 50], [0, 200]]),
        ),
        "huge": (
            np.array([[0.4, -0.4, 0.1]]) * min(top, 8e307),
            np.array([[0.4, 0.1, -0.4]]) * min(top, 8e307),
        ),
        "large steps": (np.array([[0, -1e4, 1e4]]), np.array([[1e4, -1e4, 0]])),
    }


def _mixed_pairs(kind_true, kind_pred, dtype):
    r = np.random.default_rng(7)
    scale = distances(dtype)[:, None]
    a = 2 * r.normal(size=(len(scale), 17))
    b = a + scale * r.normal(size=a.shape)
    c, d = 3 * r.normal(size=(2, 4, 17))
    as_kind = {"probs": softmax, "logprobs": log_softmax, "logits": lambda x: x + 1.5}
    left, right = as_kind[kind_true], as_kind[kind_pred]
    # below the smallest subnormal of either dtype, and around it
    tails = np.array([[0, 0, -90], [0, 0, -103.5], [0, 0, -740], [0, 0, -745.2], [0, 0, -1e4]])
    hole = {"probs": 0.0, "logprobs": -INF, "logits": -INF}
    t, q = left(c), right(d)
    half = {"probs": [0.5, 0.5], "logprobs": [np.log(0.5)] * 2, "logits": [4.0, 4.0]}
    t_holes = np.array([[*half[kind_true], hole[kind_true]]] * 2)
    q_holes = np.array([[*half[kind_pred], hole[kind_pred]], [hole[kind_pred], *half[kind_pred]]])
    return {
        "unrelated": (t, q),
        "near": (left(a), right(b)),
        "holes": (t_holes, q_holes),
        "confident": (left(np.array([[30.0, 0, 0]])), right(np.array([[31.0, 0, 1]]))),
        "far tails": (left(tails * 0), right(tails)),
        "far tails the other way": (left(tails), right(tails * 0)),
        "far tail against a hole": (
            left(tails[-1:]),
            np.array([[*half[kind_pred], hole[kind_pred]]]),
        ),
    }


@np.errstate(all="ignore")
def counts(dtype):
    """Pairs of non-negative rows of any sum, for "rescale"."""
    dtype = np.dtype(dtype)
    r = np.random.default_rng(9)
    top = largest(dtype)
    a, b = r.integers(0, 2000, size=(2, 6, 29)).astype(float)
    p = softmax(r.normal(size=(1, 29)))
    found = {
        "counts": (a, b + 1),
        "counts against probabilities": (a, softmax(r.normal(size=a.shape))),
        "one count": (np.eye(5) * 7, np.eye(5) * 3 + 1),
        "proportional counts": (a, 3 * a),
        "nothing but subnormals": (
            np.array([[1, 2, 0, 3]]) * tiniest(dtype),
            np.array([[3, 1, 1, 1]]) * tiniest(dtype),
        ),
        "largest numbers": (np.array([[0.2, 0.1, 0.15]]) * top, np.array([[0.1, 0.1, 0.2]]) * top),
    }
    if dtype.itemsize > 2:
        found["tiny against huge"] = (p * 1e-30, p[:, ::-1] * 1e20)
        found["nearly proportional"] = (p * 1e-20, p * (1 + 1e-5 * r.normal(size=p.shape)) * 1e10)
    return {name: (cast(t, dtype), cast(q, dtype)) for name, (t, q) in found.items()}
