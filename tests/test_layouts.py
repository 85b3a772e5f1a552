"""A row's value depends on the row alone: the same bits from any memory, neighbour or thread."""

import cases
import hard_inputs as hard
import memory_layouts
import numpy as np
import pytest
from cases import call, ordinary

import fastent as fe

WIDE = {"float64": np.float64, "float32": np.float32}
every_function = pytest.mark.parametrize("function", cases.FUNCTIONS)
every_dtype = pytest.mark.parametrize("dtype", WIDE)


def same(got, want, what=""):
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, what
    assert got.tobytes() == want.tobytes(), f"{what}: {(got != want).sum()} of {got.size} differ"


@every_function
@pytest.mark.parametrize("dtype", hard.DTYPES)
def test_any_memory(function, dtype, engine, tmp_path):
    for classes in (3, 33, 300):
        for kind in ("logits", "probs"):
            args = ordinary(function, kind, hard.DTYPES[dtype], (9, classes))
            narrow = kind == "probs" and hard.DTYPES[dtype].itemsize == 2
            # 300 rounded 16-bit numbers may miss the check
            rescaled = narrow and function != "binary_cross_entropy"
            options = {"row_sums": "rescale"} if rescaled else {}
            want = call(function, args, kind, backend=engine, **options)
            places = [memory_layouts.layouts(a, tmp_path) for a in args]
            for name in places[-1]:
                moved = [p.get(name, p["plain"]) for p in places]
                got = call(function, moved, kind, backend=engine, **options)
                same(got, want, f"{kind} {classes} {name}")
                # one operand moved and the other plain
                got = call(function, [*args[:-1], moved[-1]], kind, backend=engine, **options)
                same(got, want, f"{kind} {classes} {name}, last only")


@every_function
@every_dtype
def test_any_axis(function, dtype, engine):
    if function == "binary_cross_entropy":
        return
    for shape in ((4, 3, 21), (40, 5), (2, 2, 2, 5)):
        args = ordinary(function, "logits", WIDE[dtype], shape)
        want = call(function, args, "logits", backend=engine)
        for axis in range(-len(shape), len(shape)):
            moved = [a if a.dtype.kind == "i" else np.moveaxis(a, -1, axis) for a in args]
            for form in (lambda a: a, np.ascontiguousarray, np.asfortranarray):
                placed = [form(a) for a in moved]
                got = call(function, placed, "logits", axis=axis, backend=engine)
                same(got, want, f"{shape} axis {axis}")


@pytest.mark.parametrize("dtype", hard.DTYPES)
def test_rows_across_the_memory_in_any_number(dtype, compiled):
    dtype = hard.DTYPES[dtype]
    wide = np.result_type(dtype, np.float32) if dtype != hard.bfloat16 else np.dtype(np.float32)
    rng = np.random.default_rng(0)
    for classes in (2, 3, 4, 5, 7, 8, 9, 17):
        x = rng.normal(size=(2, 217, classes)).astype(dtype)
        want = fe.entropy(x.astype(wide), kind="logits", backend=compiled)
        first = np.ascontiguousarray(np.moveaxis(x, -1, 1))
        same(fe.entropy(first, kind="logits", axis=1, backend=compiled), want, f"{classes} middle")
        for rows in (1, 2, 3, 4, 6, 15, 16, 18, 65, 217):
            for order in (slice(rows), slice(rows - 1, None, -1)):
                got = fe.entropy(first[1][:, order], kind="logits", axis=0, backend=compiled)
                same(got, want[1, order], f"{classes} {rows}")


@every_function
@every_dtype
def test_any_neighbours_and_cut(function, dtype, engine):
    for classes in (2, 5, 17, 130):
        args = ordinary(function, "logits", WIDE[dtype], (70, classes), seed=classes)
        # nasty neighbours: rows that need second passes, infinities, NaN
        for a in args:
            if a.dtype.kind == "f" and function != "binary_cross_entropy":
                a[5], a[6, 0], a[7, -1] = 3, np.nan, -np.inf
        if function in cases.DIVERGENCES:
            args[1][10:20] = args[0][10:20] + WIDE[dtype](1e-3) * np.arange(classes, dtype=dtype)
        elif function == "categorical_cross_entropy":
            args = ordinary(function, "logits", WIDE[dtype], (70, classes), seed=classes)
        want = call(function, args, "logits", backend=engine)
        for start, stop in ((0, 1), (3, 4), (1, 8), (11, 12), (13, 47), (5, 70), (69, 70)):
            got = call(function, [a[start:stop] for a in args], "logits", backend=engine)
            same(got, want[start:stop], f"{classes} [{start}:{stop}]")
        order = np.random.default_rng(0).permutation(70)
        got = call(function, [a[order] for a in args], "logits", backend=engine)
        same(got, want[order], f"{classes} shuffled")
        one = call(function, [a[9] for a in args], "logits", backend=engine)
        same(one, want[9], f"{classes} alone")


@every_function
@every_dtype
def test_any_number_of_threads(function, dtype, engine):
    for rows, classes in ((5000, 10), (600, 300), (3, 150_000)):
        if engine == "numpy" and classes > 1000:
            continue
        args = ordinary(function, "logits", WIDE[dtype], (rows, classes))
        want = call(function, args, "logits", num_threads=1, backend=engine)
        for threads in (2, 3, 7):
            got = call(function, args, "logits", num_threads=threads, backend=engine)
            same(got, want, f"{rows}×{classes} on {threads} threads")
        total = call(function, args, "logits", num_threads=1, reduction="mean", backend=engine)
        got = call(function, args, "logits", num_threads=3, reduction="mean", backend=engine)
        same(got, total, "mean")


@every_function
def test_broadcast_operands(function, engine):
    args = ordinary(function, "logits", np.float64, (1, 40))
    want = call(function, args, "logits", backend=engine)
    wide = [np.broadcast_to(a, (500, *a.shape[1:])) for a in args]
    got = call(function, wide, "logits", backend=engine)
    same(got, np.broadcast_to(want, got.shape))
    if function != "binary_cross_entropy" and function != "sparse_cross_entropy":
        flat = np.broadcast_to(np.float64(0.25), (6, 4))
        got = call(function, [flat] * len(args), "probs", backend=engine)
        same(got, call(function, [np.full((6, 4), 0.25)] * len(args), "probs", backend=engine))


@every_function
def test_wider_operand_decides(function, engine):
    for narrow, wide in ((np.float32, np.float64), (np.float16, np.float32)):
        args = ordinary(function, "logits", narrow, (6, 30))
        if function in ("sparse_cross_entropy", "entropy"):
            continue
        for which in (0, 1):
            mixed = [a.astype(wide) if i == which else a for i, a in enumerate(args)]
            both = [a.astype(wide) for a in args]
            options = {"backend": engine}
            got = call(function, mixed, "logits", **options)
            same(got, call(function, both, "logits", **options), f"{narrow} {which}")


def test_sixteen_bits_are_computed_in_float32(engine):
    for dtype in (np.float16, hard.bfloat16):
        for function in cases.FUNCTIONS:
            args = ordinary(function, "logits", dtype, (6, 30))
            if function == "categorical_cross_entropy":
                args = [hard.cast(np.eye(30)[:6], dtype), args[1]]
            narrow = [np.float32 if a.dtype.kind != "i" else a.dtype for a in args]
            as_float32 = [a.astype(d) for a, d in zip(args, narrow, strict=True)]
            got = call(function, args, "logits", backend=engine)
            same(got, call(function, as_float32, "logits", backend=engine), function)


def test_labels_of_every_integer_type_and_place(engine, tmp_path):
    labels, pred = ordinary("sparse_cross_entropy", "logits", np.float32, (9, 100))
    want = fe.sparse_cross_entropy(labels, pred, kind="logits", backend=engine)
    for code in "bBhHiIlLqQ":
        got = fe.sparse_cross_entropy(labels.astype(code), pred, kind="logits", backend=engine)
        same(got, want, code)
    for dtype in (np.float64, np.float32, np.float16):
        got = fe.sparse_cross_entropy(labels.astype(dtype), pred, kind="logits", backend=engine)
        same(got, want, str(dtype))
    for name, place in memory_layouts.layouts(labels, tmp_path).items():
        got = fe.sparse_cross_entropy(place, pred, kind="logits", backend=engine)
        same(got, want, name)
    got = fe.sparse_cross_entropy(labels.tolist(), pred, kind="logits", backend=engine)
    same(got, want, "list")


def test_what_offers_itself_as_an_array(engine):
    x = np.random.default_rng(0).normal(size=(5, 7))
    want = fe.entropy(x, kind="logits", backend=engine)

    class Offered:
        def __array__(self, dtype=None, copy=None):
            return x

    class Capsule:
        def __dlpack__(self, **keywords):
            return x.__dlpack__(**keywords)

        def __dlpack_device__(self):
            return x.__dlpack_device__()

    for form in (Offered(), Capsule(), x.tolist()):
        same(fe.entropy(form, kind="logits", backend=engine), want)


def test_integers_and_booleans_as_targets_and_counts(engine):
    x = np.random.default_rng(0).normal(size=6)
    want = fe.binary_cross_entropy(np.array([0.0, 1, 1, 0, 1, 0]), x, kind="logits", backend=engine)
    got = fe.binary_cross_entropy(np.array([0, 1, 1, 0, 1, 0]), x, kind="logits", backend=engine)
    same(got, want)
    counts = np.array([[1, 2, 3], [5, 0, 5]])
    got = fe.entropy(counts, row_sums="rescale", backend=engine)
    same(got, fe.entropy(counts.astype(float), row_sums="rescale", backend=engine))
