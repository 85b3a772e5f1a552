"""The public functions by task, the engines this machine has, and exact values shared by tests."""

from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from itertools import product

import hard_inputs as hard
import hard_pairs
import numpy as np
import oracle

import fastent as fe
from fastent import _settings

# name: (task, column of the task that the function returns, number of operands with classes)
FUNCTIONS = {
    "sparse_cross_entropy": ("sparse", "cross_entropy"),
    "categorical_cross_entropy": ("categorical", "cross_entropy"),
    "binary_cross_entropy": ("binary", "cross_entropy"),
    "kl_divergence": ("divergence", "kl_divergence"),
    "js_divergence": ("divergence", "js_divergence"),
    "entropy": ("entropy", "entropy"),
}
DIVERGENCES = ("kl_divergence", "js_divergence")


# Not that of Numba on interpreters and machines that it has no wheel for.
BACKENDS = ["cython", *(["numba"] if find_spec("numba") else []), "numpy"]


def engines():
    """Every backend, and the compiled one at every SIMD level of this machine."""
    levels = [("cython", level) for level in _settings.simd_levels()]
    return [*levels, *((name, None) for name in BACKENDS[1:])]


def kinds(function):
    """Kinds to try: a pair for two distributions, a name otherwise."""
    if function in DIVERGENCES:
        return tuple(product(hard.KINDS, hard.KINDS))
    if function == "categorical_cross_entropy":
        return (*hard.KINDS, ("logits", "logits"), ("logprobs", "logits"), ("logits", "probs"))
    return hard.KINDS


def mixed(kind):
    return isinstance(kind, tuple) and kind[0] != kind[1]


def combinations():
    """Every (function, kind, dtype name)."""
    return [(f, k, d) for f in FUNCTIONS for k in kinds(f) for d in hard.DTYPES]


def title(value):
    """A readable id for a parameter."""
    if isinstance(value, tuple):
        return "-".join(str(v) for v in value if v is not None)
    return str(value)


def operands(function, kind, dtype):
    """Named operands of a function: `{name: (true, pred)}`, pred alone for entropy."""
    if function == "binary_cross_entropy":
        return hard.bernoullis(kind, dtype)
    if function == "entropy":
        return {name: (rows,) for name, rows in hard.singles(kind, dtype).items()}
    if function == "sparse_cross_entropy":
        found = hard.singles(kind, dtype)
        return {name: (hard.labels(rows), rows) for name, rows in found.items()}
    if function == "categorical_cross_entropy" and not isinstance(kind, tuple):
        kind = ("probs", kind)
    first, second = kind if isinstance(kind, tuple) else (kind, kind)
    return hard_pairs.pairs(first, second, dtype)


def exact(function, args, kind, dtype, **options):
    """Exact row values of a call, as a list of mpf; remembered, since all engines ask for them."""
    digest = sha256()
    for a in map(np.asarray, (*args, options.get("weights", ()))):
        digest.update(f"{a.dtype} {a.shape}".encode() + a.tobytes())
    rest = sorted((k, v) for k, v in options.items() if k != "weights")
    key = function, kind, str(dtype), repr(rest), digest.digest()
    if key not in _exact_values:
        _exact_values[key] = _exact(function, args, kind, dtype, **options)
    return _exact_values[key]


_exact_values = {}


def _exact(function, args, kind, dtype, **options):
    task, column = FUNCTIONS[function]
    options.setdefault("tolerance", oracle.bounds(dtype)[2])
    if task == "sparse":
        return oracle.rows(task, column, labels=args[0], pred=args[1], kind=kind, **options)
    if task == "entropy":
        return oracle.rows(task, column, pred=args[0], kind=kind, **options)
    return oracle.rows(task, column, true=args[0], pred=args[1], kind=kind, **options)


@cache
def exact_arsenal(function, kind, dtype_name):
    """`[(name, args, exact values)]` of all nasty rows; computed once for all engines."""
    dtype = hard.DTYPES[dtype_name]
    found = operands(function, kind, dtype)
    return [(name, args, exact(function, args, kind, dtype)) for name, args in found.items()]


def call(function, args, kind, **options):
    return getattr(fe, function)(*args, kind=kind, **options)


@np.errstate(all="ignore")
def ordinary(function, kind, dtype, shape, seed=0):
    """Operands of one shape (rows, classes), nothing nasty about them."""
    r = np.random.default_rng(seed)
    a, b = 2 * r.normal(size=(2, *shape))
    first, second = kind if isinstance(kind, tuple) else ("probs", kind)
    if function in DIVERGENCES and not isinstance(kind, tuple):
        first = kind
    shaped = {"probs": hard.softmax, "logprobs": hard.log_softmax, "logits": lambda x: x}
    if function == "binary_cross_entropy":
        sigmoid = 1 / (1 + np.exp(-b))
        pred = {"probs": sigmoid, "logprobs": np.log(sigmoid), "logits": b}[kind]
        return hard.cast(r.random(shape), dtype), hard.cast(pred, dtype)
    pred = hard.cast(shaped[second](b), dtype)
    if function == "entropy":
        return (pred,)
    if function == "sparse_cross_entropy":
        return r.integers(0, shape[-1], size=shape[:-1]), pred
    return hard.cast(shaped[first](a), dtype), pred
