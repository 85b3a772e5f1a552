"""Calls of all public functions on whatever arrays there are, against the same call on plain ones.

Shapes from 0, strides, offsets, odd addresses, other byte orders, read-only memory, every dtype,
backend and SIMD level, `out` anywhere, bad values and bad options among them: the same bits or the
same one-line error, no warning, and no input changed.
"""

from __future__ import annotations

import json
import pickle
import re
import sys
import warnings

import ml_dtypes
import numpy as np
import watched

import fastent as fe
from fastent import _settings
from fastent.compat import scipy, sklearn

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.dtype(x) for x in ("f8", "f8", "f8", "f4", "f4", "f2")] + [BFLOAT16]
WHOLE = [np.dtype(x) for x in ("i8", "i8", "i8", "i4", "u1", "i1", "u8", "u2")]
ODD = [np.dtype(x) for x in ("?", "g", "c16", "O", "U3", "M8[s]", "i4", "u1")]
BACKENDS = ["cython"] * 7 + ["numpy"] * 2 + ["numba"]
CLASSES = [1, 2, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 33, 48, 49, 64, 65, 100, 129, 513, 1000,
           2049, 5000]  # fmt: skip
NUMBERS = [np.nan, np.inf, -np.inf, -0.1, -0.0, 2.0, 1e300, -1e300, 5e-324, 1e-310, 0.0, 1.0, 700.0]
ERRORS = (ValueError, TypeError)
ARRAY_DTYPE = r", dtype='?[^)]*(?=\))|(?<=dtype )\S+"  # as arrays in messages have one


def chance(rng, share):
    return rng.random() < share


def pick(rng, choices):
    return choices[rng.integers(len(choices))]


def some(rng, **choices):
    """A keyword or two."""
    return {k: pick(rng, v) for k, v in choices.items() if chance(rng, 0.15)}


# Operands


def shape_of_rows(rng):
    ndim = pick(rng, [0, 1, 1, 1, 1, 2, 2, 3, 4, 5])
    return tuple(int(pick(rng, [0, 1, 2, 3, 4, 5, 9, 33])) for _ in range(ndim))


def sizes(rng):
    """Leading shape and classes, of 200,000 numbers at most."""
    while True:
        lead = shape_of_rows(rng)
        if chance(rng, 0.03):
            lead = tuple(rng.integers(1, 2, rng.integers(28, 64)).tolist())
        classes = 0 if chance(rng, 0.01) else pick(rng, CLASSES)
        if chance(rng, 0.1):
            lead = (pick(rng, [700, 3000, 20_000]),)
        if int(np.prod(lead)) * max(classes, 1) <= 200_000:
            return lead, classes


def spoilt(rng, a):
    """Now and then a few bad or extreme numbers."""
    a = np.asarray(a)
    if a.size and chance(rng, 0.25):
        for _ in range(pick(rng, [1, 1, 2, 5])):
            a[tuple(rng.integers(0, n) for n in a.shape)] = pick(rng, NUMBERS)
    return a


def typed(rng, a, dtypes=FLOATS):
    dtype = pick(rng, ODD) if chance(rng, 0.02) else pick(rng, dtypes)
    with np.errstate(all="ignore"):
        if dtype.kind in "iub":
            a = np.nan_to_num(np.clip(a, 0, 100), nan=0)
        return a.astype(dtype)


def operand(rng, lead, classes, kind):
    shape = (*lead, classes)
    with np.errstate(all="ignore"):
        if kind == "logits":
            a = rng.standard_normal(shape) * pick(rng, [1, 1, 5, 100, 1e4, 1e-9, 1e300])
        else:
            a = rng.random(shape) ** pick(rng, [0.1, 1, 5, 100, 300])
            if chance(rng, 0.2):
                a[rng.random(shape) < 0.3] = 0
            total = a.sum(-1, keepdims=True)
            a = np.divide(a, total, out=np.full(shape, 1 / max(classes, 1)), where=total > 0)
            if kind == "logprobs":
                a = np.log(a)
    return typed(rng, spoilt(rng, a))


def near(rng, a):
    """The same rows, or nearly."""
    with np.errstate(all="ignore"):
        return (a * (1 + pick(rng, [0, 1e-16, 1e-9, 1e-4]) * rng.random(a.shape))).astype(a.dtype)


def labels_of(rng, lead, classes):
    a = rng.integers(0, max(classes, 1), lead).astype(np.float64)
    if a.size and chance(rng, 0.15):
        a[tuple(rng.integers(0, n) for n in lead)] = pick(
            rng, [-1, -100, classes, 127, 1e18, 0.5, np.nan, np.inf]
        )
    with np.errstate(all="ignore"):
        finite = np.nan_to_num(a, nan=-3, posinf=2**40, neginf=-5)
        dtype = pick(rng, [*WHOLE * 3, *FLOATS, *ODD])
        return (a if dtype.kind not in "iu" else finite).astype(dtype)


def weights_of(rng, shape):
    with np.errstate(all="ignore"):
        a = rng.random(shape) * pick(rng, [1, 1, 1, 1e-300, 1e150, 1e300])
        if chance(rng, 0.2):
            a = np.where(rng.random(shape) < 0.5, 0, a)
        return typed(rng, spoilt(rng, a), [*FLOATS, *WHOLE])


def fractions_of(rng, shape, kind="probs"):
    if kind == "probs":
        a = rng.random(shape) ** pick(rng, [0.01, 1, 100])
    else:
        a = rng.standard_normal(shape) * pick(rng, [1, 30, 1e4])
        a = a if kind == "logits" else -abs(a)
    return typed(rng, spoilt(rng, a))


# The same numbers elsewhere


def elsewhere(rng, a, locked=True, swapped=True):
    """An equal array in other memory."""
    if a.dtype.hasobject:
        return a.copy()
    dtype = a.dtype
    if swapped and chance(rng, 0.1) and dtype != BFLOAT16:
        dtype = dtype.newbyteorder()
    order = rng.permutation(a.ndim) if chance(rng, 0.4) else np.arange(a.ndim)
    steps = [pick(rng, [1, 1, 1, 2, 3, -1, -2]) if chance(rng, 0.5) else 1 for _ in range(a.ndim)]
    if a.ndim > 32:
        steps = [1] * a.ndim
    room = [a.shape[k] * abs(steps[k]) for k in order]
    count = int(np.prod(room, dtype=object)) if room else 1
    raw = rng.integers(0, 256, count * dtype.itemsize + 64, dtype=np.uint8)
    lead = int(pick(rng, [0, 0, 1, 2, 4, 8, 24, 33])) + -raw.ctypes.data % 64
    if chance(rng, 0.6):
        lead -= lead % (dtype.itemsize or 1)
    lead = min(lead, raw.size - count * dtype.itemsize)
    view = np.ndarray(room, dtype, raw.data, lead)
    if a.ndim:
        view = view.transpose(np.argsort(order))
        view = view[tuple(slice(None, None, step) for step in steps)]
    assert view.shape == a.shape
    view[...] = a
    if locked and chance(rng, 0.1) and view.size and a.ndim and (view == view[:1]).all():
        view = np.broadcast_to(view[:1], view.shape)
    if locked and chance(rng, 0.3):
        view.setflags(write=False)
    return view


def room_for(rng, want):
    return elsewhere(rng, np.zeros(want.shape, want.dtype), locked=False)


def overlapping(rng, a, want):
    """An equal array, and an output in the same memory."""
    size = want.size * abs(step := pick(rng, [1, 1, 2, -1, -2]))
    raw = np.zeros((a.size + 2 * size + 4) * 8, np.uint8)
    begin = 8 * int(rng.integers(0, 2 * size + 4))
    inside = np.ndarray(a.shape, a.dtype, raw.data, begin)
    inside[...] = a
    start = 8 * int(rng.integers(0, a.size + size + 4))
    flat = np.ndarray(size, want.dtype, raw.data, start)[::step]
    return inside, flat.reshape(want.shape)


def plain(a):
    return np.array(a, order="C", copy=True)


# What a call gives


def outcome(call, operands, more):
    try:
        if call.__module__ != sklearn.__name__:
            return call(*operands, **more)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn's own
            return call(*operands, **more)
    except ERRORS as error:
        own = call.__module__ != sklearn.__name__
        assert str(error) and (not own or "\n" not in str(error)), f"not one line: {error!r}"
        return f"{type(error).__name__}: {re.sub(ARRAY_DTYPE, '', str(error))}"


def bits(found):
    if isinstance(found, str):
        return found
    if isinstance(found, tuple):
        return [bits(x) for x in found]
    a = np.asarray(found)
    if a.dtype == np.longdouble:  # six of its bytes say nothing
        a = np.array([repr(x) for x in a.flat])
    elif a.dtype.kind == "f":
        a = np.where(np.isnan(a), np.asarray(np.nan, a.dtype), a)  # one NaN is as good as another
    return str(a.dtype), a.shape, a.tobytes()


def by_keyword(call):
    """Functions whose first argument is a name."""
    if call is fe.pairwise:
        return lambda *args, divergence, **more: fe.pairwise(divergence, *args, **more)
    if call is fe.exponential_family_kl:
        return lambda *args, name, **more: fe.exponential_family_kl(name, *args, **more)
    return call


def same(rng, call, operands, arrays, options, out):
    """The call gives the same on other memory, with an output and with more threads."""
    call = by_keyword(call)
    wanted = outcome(call, [plain(a) for a in operands],
                     {k: plain(a) for k, a in arrays.items()} | options)  # fmt: skip
    want = bits(wanted)
    for _ in range(2):
        swapped = call.__module__ != sklearn.__name__  # which makes doubles of other byte orders
        args = [elsewhere(rng, a, swapped=swapped) for a in operands]
        named = {k: elsewhere(rng, a, swapped=swapped) for k, a in arrays.items()}
        before = [plain(a) for a in (*args, *named.values())]
        more = dict(options)
        if chance(rng, 0.4) and out == "threads":
            more["num_threads"] = int(rng.integers(1, 4))
        found = outcome(call, args, named | more)
        assert bits(found) == want, ("layout", wanted, found, shown(args, named, more))
        for a, b in zip((*args, *named.values()), before, strict=True):
            assert plain(a).tobytes() == b.tobytes() or a.dtype.hasobject, "an input has changed"
        if out and isinstance(wanted, np.ndarray) and wanted.ndim:
            room = room_for(rng, wanted)
            found = outcome(call, args, named | more | {"out": room})
            if isinstance(found, str):
                fit = room.dtype.isnative and room.flags.aligned
                assert found.split(":")[1] == " out" and not fit, (found, room.strides)
            else:
                assert found is room and bits(room.astype(wanted.dtype)) == want, "out"
            alike = [k for k, a in enumerate(args) if a.dtype == "f8"]
            if alike and wanted.dtype == "f8":
                k = pick(rng, alike)
                inside, room = overlapping(rng, plain(args[k]), wanted)
                found = outcome(
                    call, [*args[:k], inside, *args[k + 1 :]], named | {"out": room} | more
                )
                assert isinstance(found, str) or bits(found) == want, ("overlap", k, room.strides)
    return wanted


def shown(args, named, more):
    told = [(a.shape, str(a.dtype), a.strides, a.flags.aligned, a.flags.writeable) for a in args]
    return told, {k: (a.shape, str(a.dtype), a.strides) for k, a in named.items()}, more


def agree(call, operands, arrays, options, backend, wanted):
    """Other backends give the same error, or nearly the same numbers."""
    if not isinstance(wanted, str) and np.asarray(wanted).dtype.kind != "f":
        return
    given = [*arrays.values(), *(operands if options.get("row_sums") == "as_is" else [])]
    if any(map(wild, given)):
        return  # no promise of digits
    for other in {"cython", "numpy", "numba"} - {backend}:
        lists = call in (fe.topk_divergence, two_lists)
        if other == "numba" and ("numba" not in BACKENDS or lists):
            continue
        found = outcome(call, operands, arrays | options | {"backend": other})
        if isinstance(wanted, str) or isinstance(found, str):
            assert isinstance(wanted, str) == isinstance(found, str), (other, found, wanted)
            continue
        with np.errstate(all="ignore"):
            narrow = any(a.dtype.itemsize < 8 and a.dtype.kind in "fV" for a in operands)
            tiny = 1e-25 if narrow or "eps" in options else 1e-30
            if lists:  # what is left of 1 has no digits of its own
                tiny = 1e-6 if narrow else 1e-13
            np.testing.assert_allclose(
                found, wanted, rtol=1e-4 if narrow else 1e-9, atol=tiny,
                err_msg=f"{other} against {backend}",
            )  # fmt: skip


def wild(a):
    if a.dtype.kind not in "fiubV":
        return True
    with np.errstate(all="ignore"):
        return not (abs(a.astype(np.float64)) < 1e9).all()


# What there is to call


def turned(rng, options, *arrays, axes=1):
    """The class axis elsewhere."""
    ndim = arrays[0].ndim
    if ndim == 0 or not chance(rng, 0.25):
        return arrays
    axis = int(rng.integers(-ndim, ndim))
    options["axis"] = axis
    return [np.moveaxis(a, -1, axis) if a.ndim == ndim else a for a in arrays]


def common(rng):
    found = some(rng, base=[2, 10, 0.5, 2.0, 1, -1], reduction=["sum", "mean", "none"])
    found["backend"] = pick(rng, BACKENDS)
    return found


def kind_of(rng):
    return pick(rng, ["probs", "logits", "logprobs"])


def predicted(rng, kind):
    found = some(rng, row_sums=["rescale", "as_is", "check"])
    if kind == "logits":
        found |= some(rng, temperature=[2.0, 0.5, 1e-3, 0, 1e300])
    return found


def weighed(rng, lead, classes, terms):
    found = {}
    if chance(rng, 0.3):
        full = terms and chance(rng, 0.5)
        found["sample_weight"] = weights_of(rng, (*lead, classes) if full else lead)
    if terms and chance(rng, 0.2):
        found["class_weight"] = weights_of(rng, (classes,))
    return found


def rows(rng, task):
    lead, classes = sizes(rng)
    kind = kind_of(rng)
    options = common(rng) | predicted(rng, kind) | {"kind": kind}
    pred = operand(rng, lead, classes, kind)
    return lead, classes, kind, options, pred


def call_sparse(rng):
    lead, classes, _, options, pred = rows(rng, "sparse")
    options |= some(
        rng, eps=[1e-7, 0.1, 0.6], label_smoothing=[0.1, 1.0, 2.0], ignore_index=[-100, 1]
    )
    labels = labels_of(rng, lead, classes)
    arrays = weighed(rng, lead, classes, True)
    pred, *full = turned(rng, options, pred, *arrays.values())
    return fe.sparse_cross_entropy, [labels, pred], dict(zip(arrays, full, strict=True)), options


def call_categorical(rng):
    lead, classes, _, options, pred = rows(rng, "categorical")
    options |= some(rng, eps=[1e-7, 0.1], label_smoothing=[0.1, 1.0])
    target = operand(rng, lead, classes, "probs")
    arrays = weighed(rng, lead, classes, True)
    pred, target, *full = turned(rng, options, pred, target, *arrays.values())
    return (fe.categorical_cross_entropy, [target, pred], dict(zip(arrays, full, strict=True)),
            options)  # fmt: skip


def call_binary(rng):
    lead, classes = sizes(rng)
    kind = kind_of(rng)
    options = common(rng) | {"kind": kind} | some(rng, eps=[1e-7], label_smoothing=[0.1])
    shape = (*lead, classes)
    return (fe.binary_cross_entropy, [fractions_of(rng, shape), fractions_of(rng, shape, kind)],
            weighed(rng, shape, 0, False), options)  # fmt: skip


def pair(rng):
    lead, classes = sizes(rng)
    kinds = (kind_of(rng), kind_of(rng)) if chance(rng, 0.3) else (kind_of(rng),) * 2
    p = operand(rng, lead, classes, kinds[0])
    alike = kinds[0] == kinds[1] and p.dtype.kind == "f" and chance(rng, 0.3)
    q = near(rng, p) if alike else operand(rng, lead, classes, kinds[1])
    options = common(rng) | {"kind": kinds} | some(rng, row_sums=["rescale", "as_is"])
    if "logits" in kinds:
        options |= some(rng, temperature=[2.0, 1e-2])
    arrays = weighed(rng, lead, classes, False)
    if lead and chance(rng, 0.15):  # the leading axes broadcast
        cut = tuple(slice(0, int(pick(rng, [1, n]))) for n in lead)[int(rng.integers(0, 2)) :]
        q = q[cut] if len(cut) == len(lead) else q[0] if lead[0] else q
        p, q = (p, q) if chance(rng, 0.5) else (q, p)
    options |= some(rng, keepdims=[True])
    return options, turned(rng, options, p, q) if p.ndim == q.ndim else (p, q), arrays


def call_kl(rng):
    options, operands, arrays = pair(rng)
    return fe.kl_divergence, operands, arrays, options | some(rng, eps=[1e-7, 0.3])


def call_js(rng):
    options, operands, arrays = pair(rng)
    return fe.js_divergence, operands, arrays, options


def call_entropy(rng):
    lead, classes, _, options, pred = rows(rng, "entropy")
    arrays = weighed(rng, lead, classes, False)
    return fe.entropy, turned(rng, options, pred), arrays, options


def call_ready_made(rng):
    options, operands, arrays = pair(rng)
    options.pop("backend")
    of_order = [fe.renyi_divergence, fe.tsallis_divergence, fe.alpha_divergence]
    function = pick(rng, [*of_order, fe.chi2_divergence, fe.jeffreys_divergence,
                          fe.total_variation, fe.hellinger_distance])  # fmt: skip
    if function in of_order:
        options["alpha"] = pick(rng, [0, 0.5, 1, 1 + 1e-9, 2, 7.5, -1, np.inf])
    return function, operands, arrays, options


def call_entropy_of_order(rng):
    lead, classes, _, options, pred = rows(rng, "entropy")
    options.pop("backend")
    function = pick(rng, [fe.renyi_entropy, fe.tsallis_entropy])
    if function is fe.tsallis_entropy:
        options.pop("base", None)
    options["alpha"] = pick(rng, [0, 0.5, 1, 1 + 1e-9, 2, 7.5, -1, np.inf])
    arrays = weighed(rng, lead, classes, False)
    return function, turned(rng, options, pred), arrays, options


def call_pairwise(rng):
    n, m, classes = (int(pick(rng, x)) for x in ([0, 1, 2, 30, 70], [0, 1, 3, 65], CLASSES[:-2]))
    kind = kind_of(rng)
    given = [operand(rng, (k,), classes, kind) for k in (n, m)[: int(rng.integers(1, 3))]]
    options = {"kind": kind} | some(rng, row_sums=["rescale", "as_is"], base=[2])
    names = ["kl_divergence", "js_divergence", "total_variation", fe.hellinger_distance]
    return fe.pairwise, given, {}, options | {"divergence": pick(rng, names)}


def call_counts(rng):
    lead, classes = sizes(rng)
    options = some(rng, base=[2])
    counts = rng.integers(0, pick(rng, [2, 5, 1000]), (*lead, classes)).astype(float)
    options["method"] = pick(rng, ["plugin", "miller_madow", "chao_shen", "jackknife"])
    return fe.entropy_of_counts, turned(rng, options, spoilt(rng, counts)), {}, options


def call_family(rng):
    """Of one parameter: those of two take tuples."""
    shape = shape_of_rows(rng)
    name = pick(rng, ["bernoulli", "poisson", "exponential"])
    pair = [typed(rng, spoilt(rng, rng.random(shape) + (name != "bernoulli"))) for _ in "pq"]
    return fe.exponential_family_kl, pair, {}, {"name": name} | some(rng, base=[2])


def call_focal(rng):
    lead, classes, _, options, pred = rows(rng, "focal")
    options.pop("backend")
    options |= some(rng, gamma=[0, 0.5, 3, 50, -1], ignore_index=[-100, 1])
    soft = chance(rng, 0.4)
    true = operand(rng, lead, classes, "probs") if soft else labels_of(rng, lead, classes)
    arrays = weighed(rng, lead, classes, True)
    if soft:
        pred, true, *full = turned(rng, options, pred, true, *arrays.values())
    else:
        pred, *full = turned(rng, options, pred, *arrays.values())
    return fe.focal_cross_entropy, [true, pred], dict(zip(arrays, full, strict=True)), options


def call_binary_focal(rng):
    _, operands, arrays, options = call_binary(rng)
    for name in ("backend", "eps", "label_smoothing"):
        options.pop(name, None)
    return (fe.binary_focal_cross_entropy, operands, arrays,
            options | some(rng, gamma=[0, 0.5, 3], alpha=[0.25, 0, 2]))  # fmt: skip


def call_gradient(rng):
    lead, classes = sizes(rng)
    soft = chance(rng, 0.4)
    true = operand(rng, lead, classes, "probs") if soft else labels_of(rng, lead, classes)
    options = some(rng, hessian=["diag", "xgboost", "lightgbm"], label_smoothing=[0.1],
                   ignore_index=[-100, 1])  # fmt: skip
    logits = operand(rng, lead, classes, "logits")
    return fe.cross_entropy_gradient, [true, logits], weighed(rng, lead, classes, True), options


def call_binary_gradient(rng):
    shape, _ = sizes(rng)
    options = some(rng, hessian=["diag", "xgboost", "lightgbm"], label_smoothing=[0.1])
    operands = [fractions_of(rng, shape), fractions_of(rng, shape, "logits")]
    return fe.binary_cross_entropy_gradient, operands, weighed(rng, shape, 0, False), options


def call_pair_gradient(rng):
    options, operands, arrays = pair(rng)
    for name in ("backend", "keepdims", "row_sums", "base"):
        options.pop(name, None)
    if options.get("reduction") == "none":
        del options["reduction"]
    function = pick(rng, [fe.kl_divergence_gradient, fe.js_divergence_gradient])
    return function, operands, arrays, options | some(rng, wrt=["p", "q"])


def call_row_gradient(rng):
    lead, classes = sizes(rng)
    options = some(rng, temperature=[2.0, (1.0, 2.0), 0], reduction=["sum", "mean"])
    logits = operand(rng, lead, classes, "logits")
    if chance(rng, 0.5):
        arrays = weighed(rng, lead, classes, False)
        return fe.entropy_gradient, turned(rng, options, logits), arrays, options
    soft = chance(rng, 0.4)
    true = operand(rng, lead, classes, "probs") if soft else labels_of(rng, lead, classes)
    options |= some(rng, gamma=[0, 0.5, 3], ignore_index=[-100, 1])
    arrays = weighed(rng, lead, classes, True)
    return fe.focal_cross_entropy_gradient, [true, logits], arrays, options


def lists(rng, n, classes):
    """Lists of classes of the rows and the logarithms of their probabilities."""
    k = int(min(pick(rng, [1, 2, 5, 20]), max(classes, 1)))
    ids = np.array([rng.permutation(max(classes, k))[:k] for _ in range(n)]).reshape(n, k)
    shares = rng.random((n, k)) ** pick(rng, [1, 5, 100])
    with np.errstate(all="ignore"):
        mass = pick(rng, [1, 1 - 1e-9, 0.9, 0.5]) * shares / shares.sum(-1, keepdims=True)
        logprobs = -np.sort(-np.log(mass), -1)
    if chance(rng, 0.2):
        ids[rng.random((n, k)) < 0.2] = -1
    if ids.size and chance(rng, 0.1):
        ids[tuple(rng.integers(0, s) for s in ids.shape)] = pick(rng, [classes, -2, 2**40])
    return ids.astype(pick(rng, WHOLE[:4])), typed(rng, spoilt(rng, logprobs), FLOATS[:4])


def call_topk(rng):
    n, classes, kind = int(pick(rng, [0, 1, 3, 40])), pick(rng, CLASSES), kind_of(rng)
    options = predicted(rng, kind) | {"backend": pick(rng, ["cython", "numpy"])}
    options |= some(rng, base=[2], cap=[None, 0.5, "smallest", 1e-3])
    if chance(rng, 0.2):
        options.pop("row_sums", None)
        options.pop("temperature", None)
        operands = [*lists(rng, n, classes), *lists(rng, n, classes)]
        return two_lists, operands, {}, options | {"classes": classes}
    operands = [*lists(rng, n, classes), operand(rng, (n,), classes, kind)]
    return fe.topk_divergence, operands, {}, options | {"kind": kind}


def two_lists(ids, logprobs, others, their_logprobs, **options):
    return fe.topk_divergence(ids, logprobs, (others, their_logprobs), **options)


def whole_products(rng, *shape):
    """Numbers whose products and sums are exact in any order."""
    return rng.integers(-3, 4, shape).astype(pick(rng, FLOATS))


def call_linear(rng):
    """Hidden states and heads; BLAS may add in another order, which these do not show."""
    n, d, classes = (int(pick(rng, x)) for x in ([0, 1, 3, 40], [1, 2, 7, 64], CLASSES))
    options = some(rng, softcap=[5.0, 0], scale=[0.5], temperature=[2.0, 0], base=[2],
                   reduction=["sum", "mean"])  # fmt: skip
    hidden, head = whole_products(rng, n, d), whole_products(rng, classes, d)
    arrays = weighed(rng, (n,), classes, False)
    if chance(rng, 0.5):
        options |= some(rng, ignore_index=[-100, 1])
        labels = labels_of(rng, (n,), classes)
        return fe.linear_cross_entropy, [labels, hidden, head], arrays, options
    options.pop("softcap", None)
    options.pop("scale", None)
    other = whole_products(rng, classes, d)
    return (fe.linear_kl_divergence, [hidden, head, whole_products(rng, n, d), other], arrays,
            options)  # fmt: skip


def call_temperature(rng):
    n, classes = int(pick(rng, [0, 1, 3, 40, 700])), int(pick(rng, [1, 2, 3, 10]))
    operands = [labels_of(rng, (n,), classes), operand(rng, (n,), classes, "logits")]
    return fe.fit_temperature, operands, weighed(rng, (n,), classes, False), some(
        rng, ignore_index=[-100, 1])  # fmt: skip


def call_lengths(rng):
    """Rows of unequal length, one after another."""
    lengths = rng.integers(1, pick(rng, [2, 5, 40]), int(pick(rng, [1, 3, 40])))
    kind = kind_of(rng)
    rows = [operand(rng, (), int(n), kind) for n in lengths]
    kept = pick(rng, FLOATS)
    labels = spoilt(rng, (rng.random(len(lengths)) * lengths).astype(int).astype(float))
    with np.errstate(all="ignore"):
        labels = np.nan_to_num(labels, nan=-3, posinf=2**40, neginf=-5).astype(pick(rng, WHOLE))
    with np.errstate(all="ignore"):
        numbers = [row if row.dtype.kind in "fiubV" else np.zeros(row.shape) for row in rows]
        joined = np.concatenate([row.astype(kept) for row in numbers])
    options = common(rng) | {"kind": kind, "lengths": lengths}
    return (
        fe.sparse_cross_entropy,
        [labels, joined],
        {},
        options,
    )


def call_table(rng):
    lead, classes = sizes(rng)
    table = weights_of(rng, (*lead[-2:], pick(rng, [1, 2, 5]), min(classes, 100)))
    function = pick(rng, [fe.mutual_information, fe.conditional_entropy])
    return function, [table], {}, some(rng, base=[2, 0.5, 1])


def call_stability(rng):
    lead, classes = sizes(rng)
    options = some(rng, base=[2], smoothing=[1, 0.5, -1])
    pair = turned(rng, options, *(weights_of(rng, (*lead, classes)) for _ in "pq"))
    return fe.population_stability_index, pair, {}, options


def spread_of(rng, lead, n, kind):
    with np.errstate(all="ignore"):
        if kind == "covariance" or kind == "cholesky":
            a = rng.standard_normal((*lead, n, n))
            a = a @ np.swapaxes(a, -1, -2) + np.eye(n)
            return spoilt(rng, np.tril(a) if kind == "cholesky" else a)
        return spoilt(rng, rng.random((*lead, n)) + 0.01)


def call_gaussian(rng):
    lead, n = shape_of_rows(rng), pick(rng, [1, 2, 3, 7, 20])
    kind = pick(rng, ["variance", "std", "covariance", "cholesky", "logvar", "none"])
    options = {"kind": kind} | some(rng, base=[2])
    if chance(rng, 0.5):
        return fe.gaussian_entropy, [spread_of(rng, lead, n, kind)], {}, options
    a, b = (spoilt(rng, rng.standard_normal((*lead, n))) for _ in "pq")
    operands = [a, spread_of(rng, lead, n, kind), b, spread_of(rng, lead, n, kind)]
    return fe.gaussian_kl_divergence, operands, {}, options


def call_ufunc(rng):
    shape, _ = sizes(rng)
    function = pick(rng, [scipy.entr, scipy.rel_entr, scipy.kl_div])
    count = 1 if function is scipy.entr else 2
    return function, [weights_of(rng, shape) for _ in range(count)], {}, {}


def call_scipy(rng):
    lead, classes = sizes(rng)
    shape = (*lead, classes)
    numbers = [weights_of(rng, shape) for _ in "xy"]
    logits = operand(rng, lead, classes, "logits")
    if any(a.dtype.kind in "Oc" for a in (*numbers, logits)):
        return call_ufunc(rng)  # SciPy's own wrapper fails on objects, its sums follow the layout
    numbers = [a.astype("f4") if a.dtype == BFLOAT16 else a for a in numbers]  # SciPy's own again
    axis = int(rng.integers(-len(shape), len(shape)))
    function = pick(rng, [scipy.entropy, scipy.jensenshannon, scipy.logsumexp, scipy.softmax,
                          scipy.log_softmax])  # fmt: skip
    if function in (scipy.softmax, scipy.log_softmax):
        return function, [logits], {}, {"axis": axis}
    if function is scipy.logsumexp:
        arrays = {"b": numbers[0]} if chance(rng, 0.4) else {}
        logits = logits.astype("f4") if logits.dtype == BFLOAT16 else logits
        return function, [logits], arrays, {"axis": axis} | some(rng, return_sign=[True])
    return function, numbers, {}, {"axis": axis} | some(rng, base=[2])


def call_sklearn(rng):
    n, classes = int(pick(rng, [2, 5, 40])), int(pick(rng, [2, 3, 10]))
    true = rng.integers(0, classes, n)
    pred = operand(rng, (n,), classes, "probs")
    if classes == 2 and chance(rng, 0.5) and pred.ndim == 2:
        pred = pred[:, 1]
    function = pick(rng, [sklearn.log_loss, sklearn.brier_score_loss, sklearn.d2_log_loss_score])
    arrays = {"sample_weight": weights_of(rng, (n,))} if chance(rng, 0.3) else {}
    return function, [true, pred], arrays, {}


# name: (what makes a call, whether it has `out` and threads)
CALLS = {
    "sparse": (call_sparse, "threads"),
    "categorical": (call_categorical, "threads"),
    "binary": (call_binary, "threads"),
    "kl": (call_kl, "threads"),
    "js": (call_js, "threads"),
    "entropy": (call_entropy, "threads"),
    "ready made": (call_ready_made, "threads"),
    "focal": (call_focal, "threads"),
    "binary focal": (call_binary_focal, "threads"),
    "entropy of order": (call_entropy_of_order, "threads"),
    "pairwise": (call_pairwise, "threads"),
    "counts": (call_counts, "threads"),
    "family": (call_family, "out"),
    "gradient": (call_gradient, "threads"),
    "binary gradient": (call_binary_gradient, "threads"),
    "pair gradient": (call_pair_gradient, "threads"),
    "row gradient": (call_row_gradient, "threads"),
    "lists": (call_topk, "threads"),
    "linear": (call_linear, "threads"),
    "temperature": (call_temperature, ""),
    "lengths": (call_lengths, "threads"),
    "table": (call_table, "threads"),
    "stability": (call_stability, "threads"),
    "gaussian": (call_gaussian, "out"),
    "ufuncs": (call_ufunc, "threads"),
    "scipy": (call_scipy, ""),
    "sklearn": (call_sklearn, ""),
}


def stream(rng):
    """Metrics and options of an accumulator, and the operands of an update and its named arrays."""
    task = pick(rng, fe.metrics.TASKS)
    ids_of = [name for name in ("groups", "clusters") if chance(rng, 0.3)]
    names = [n for n in fe.metrics.names(task) if "{" not in n
             and ("clusters" in ids_of or n != "sequence_cross_entropy")]  # fmt: skip
    metrics = [str(m) for m in rng.choice(names, min(len(names), int(rng.integers(1, 8))), False)]
    n, classes = int(pick(rng, [0, 1, 3, 40, 700])), int(pick(rng, [1, 2, 3, 10, 65]))
    kind = kind_of(rng)
    options = {"task": task, "kind": kind, "backend": pick(rng, BACKENDS)} | some(rng, base=[2])
    if task == "divergence":
        options["kind"] = (kind, kind_of(rng))
    if task == "logprob":
        del options["kind"]
        operands = [-rng.exponential(3, n) * (rng.random(n) < 0.9)]
    elif task == "topk":
        options["backend"] = pick(rng, ["cython", "numpy"])
        operands = [*lists(rng, n, classes), operand(rng, (n,), classes, kind)]
    elif task == "binary":
        operands = [fractions_of(rng, (n,)), fractions_of(rng, (n,), kind)]
    else:
        pred = operand(rng, (n,), classes, kind if task != "divergence" else options["kind"][1])
        true = {
            "sparse": lambda: labels_of(rng, (n,), classes),
            "categorical": lambda: operand(rng, (n,), classes, "probs"),
            "divergence": lambda: operand(rng, (n,), classes, kind),
        }[task]()
        operands = [true, pred]
    arrays = {}
    if chance(rng, 0.4):
        arrays["sample_weight"] = weights_of(rng, (n,))
    for name in ids_of:
        ids = rng.integers(0, pick(rng, [1, 3, 1200]), n)
        arrays[name] = ids if chance(rng, 0.5) else ids.astype(str)
    return metrics, options, operands, arrays


def put(acc, operands, arrays):
    """An update; lists are one operand of two arrays."""
    *lists, last = operands
    if len(lists) > 1:
        return acc.update(tuple(lists), last, **arrays)
    return acc.update(*operands, **arrays)


def told(acc):
    return json.dumps(acc.state_dict(), sort_keys=True)


def accumulate(rng):
    """One update on plain memory, against pieces elsewhere in another order, merged, by way of
    JSON and pickle; what is refused changes nothing."""
    metrics, options, operands, arrays = stream(rng)
    n = len(operands[-1])
    try:
        empty = fe.Accumulator(metrics, **options)
    except ERRORS as error:
        assert "\n" not in str(error)
        return
    before = told(empty)
    whole = empty.copy()
    try:
        put(whole, [plain(a) for a in operands], {k: plain(a) for k, a in arrays.items()})
    except ERRORS as error:
        assert str(error) and "\n" not in str(error)
        assert told(whole) == before, "a refused update has changed the state"
        other = empty.copy()
        again = outcome(lambda *a, **k: put(other, a, k) and "taken",
                        [elsewhere(rng, a) for a in operands],
                        {k: elsewhere(rng, a) for k, a in arrays.items()})  # fmt: skip
        assert again == f"{type(error).__name__}: {re.sub(ARRAY_DTYPE, '', str(error))}", (
            again,
            error,
            shown(operands, arrays, options),
        )
        return
    want = told(whole)
    cuts = sorted(rng.integers(0, n + 1, int(rng.integers(0, 4))).tolist())
    parts = [slice(a, b) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]
    rng.shuffle(parts)
    found = []
    for part in parts:
        acc = pick(rng, found) if found and chance(rng, 0.4) else empty.copy()
        put(acc, [elsewhere(rng, a[part]) for a in operands],
            {k: elsewhere(rng, a[part]) for k, a in arrays.items()})  # fmt: skip
        if not any(acc is a for a in found):
            found.append(acc)
    way = [lambda a: fe.Accumulator.from_state_dict(json.loads(told(a))), lambda a: a,
           lambda a: pickle.loads(pickle.dumps(a))]  # fmt: skip
    total = fe.merge([pick(rng, way)(a) for a in found])
    assert total.state_dict()["state"] == whole.state_dict()["state"], (parts, shown(
        operands, arrays, options))  # fmt: skip
    report = whole.compute()
    assert told(whole) == want
    assert fe.Accumulator.from_state_dict(json.loads(told(whole))).compute() == report
    json.loads(report.to_json())

    # Without rows there are no classes to show, which a window knows from rows before.
    parts = [part for part in parts if part.stop > part.start]
    window = int(pick(rng, [1, 2, 5, 50]))
    rolling = fe.RollingAccumulator(metrics, window=window, by="updates", **options)
    for part in parts:
        put(rolling, [elsewhere(rng, a[part]) for a in operands],
            {k: elsewhere(rng, a[part]) for k, a in arrays.items()})  # fmt: skip
    latest = empty.copy()
    for part in parts[-window:]:
        put(latest, [a[part] for a in operands], {k: a[part] for k, a in arrays.items()})
    assert rolling.compute() == latest.compute(), (parts, window)


COVERED = set(
    """
metrics Accumulator RollingAccumulator Report Result merge divergence
sparse_cross_entropy categorical_cross_entropy binary_cross_entropy kl_divergence
js_divergence entropy renyi_divergence tsallis_divergence alpha_divergence
chi2_divergence jeffreys_divergence total_variation hellinger_distance
focal_cross_entropy binary_focal_cross_entropy cross_entropy_gradient
binary_cross_entropy_gradient mutual_information conditional_entropy
population_stability_index gaussian_entropy gaussian_kl_divergence pairwise
renyi_entropy tsallis_entropy entropy_of_counts exponential_family_kl
kl_divergence_gradient js_divergence_gradient entropy_gradient
focal_cross_entropy_gradient fit_temperature topk_divergence linear_cross_entropy
linear_kl_divergence
""".split()
)
SETTINGS = {"set_backend", "set_num_threads", "get_num_threads", "show_config"}


def case(rng):
    if chance(rng, 0.15):
        return accumulate(rng)
    make, out = CALLS[pick(rng, list(CALLS))]
    with _settings.use_simd(pick(rng, _settings.simd_levels())):
        function, operands, arrays, options = make(rng)
        wanted = same(rng, function, operands, arrays, options, out)
        if "backend" in options:
            agree(function, operands, arrays, options, options["backend"], wanted)


def main():
    public = {n for n in dir(fe) if not n.startswith("_") and callable(getattr(fe, n))}
    if missing := public - COVERED - SETTINGS:
        print(f"calls.py: nothing here calls {', '.join(sorted(missing))}", flush=True)
    if "--no-numba" in sys.argv:
        BACKENDS.remove("numba")
    return watched.main(case, __doc__)


if __name__ == "__main__":
    sys.exit(main())
