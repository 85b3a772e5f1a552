"""Arrays of other libraries: the right values, and no copy of the whole."""

import functools
import re
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import fastent as fe

RNG = np.random.default_rng(3)
LOGITS = RNG.normal(size=(300, 6)).astype(np.float32)
LABELS = RNG.integers(0, 6, 300)
HALF = LOGITS.astype(ml_dtypes.bfloat16)


class DLPackOnly:
    """What NumPy can see by DLPack alone."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **keywords):
        return self._array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def with_torch(array):
    torch = pytest.importorskip("torch")
    if array.dtype == HALF.dtype:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def torch_parameter(array):
    torch = pytest.importorskip("torch")

    class Mine(torch.nn.Parameter):
        pass

    return Mine(with_torch(array))


def with_jax(array):
    return pytest.importorskip("jax.numpy").asarray(array)


def with_polars(array):
    return pytest.importorskip("polars").Series("x", array)


def arrow_lists(array, chunks=1):
    parts = [
        pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), array.shape[1])
        for part in np.array_split(array, chunks)
    ]
    return parts[0] if chunks == 1 else pa.chunked_array(parts)


MATRICES = {
    "torch": with_torch,
    "a subclass of torch's": torch_parameter,
    "jax": with_jax,
    "DLPack alone": DLPackOnly,
    "arrow lists of one size": arrow_lists,
    "a slice of them": lambda x: arrow_lists(np.vstack([x[:2], x])).slice(2),
    "one chunk of them": lambda x: pa.chunked_array([arrow_lists(x)]),
    "arrow tensors": pa.FixedShapeTensorArray.from_numpy_ndarray,
    "polars arrays": with_polars,
    "pandas frame": pd.DataFrame,
    "memoryview": memoryview,
}
COLUMNS = {
    "torch": with_torch,
    "jax": with_jax,
    "DLPack alone": DLPackOnly,
    "arrow": pa.array,
    "one chunk of arrow": lambda x: pa.chunked_array([x]),
    "polars": with_polars,
    "pandas": pd.Series,
    "pandas on arrow": lambda x: pd.Series(pa.array(x)).convert_dtypes(dtype_backend="pyarrow"),
}


def same(found, expected):
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("make", MATRICES.values(), ids=MATRICES)
def test_matrices(make, engine):
    expected = fe.entropy(LOGITS, kind="logits", backend=engine)
    same(fe.entropy(make(LOGITS), kind="logits", backend=engine), expected)


def columns_of(*dtypes):
    """Makers of columns with dtypes; jax has no 64-bit ones unless it is told to."""
    return [
        pytest.param(make, dtype, id=f"{name}-{dtype}")
        for name, make in COLUMNS.items()
        for dtype in dtypes
        if not (name == "jax" and dtype.endswith("64"))
    ]


@pytest.mark.parametrize(("make", "dtype"), columns_of("int64", "int32", "uint8"))
def test_columns_of_labels(make, dtype):
    labels = make(LABELS.astype(dtype))
    same(fe.sparse_cross_entropy(labels, LOGITS, kind="logits"),
         fe.sparse_cross_entropy(LABELS, LOGITS, kind="logits"))  # fmt: skip
    acc = fe.Accumulator("accuracy", kind="logits").update(labels, LOGITS, groups=LABELS)
    assert acc.compute()["accuracy"].count == len(LABELS)


@pytest.mark.parametrize(("make", "dtype"), columns_of("float64", "float32"))
def test_columns_of_numbers(make, dtype):
    x, weights = RNG.random(300).astype(dtype), RNG.random(300).astype(dtype)
    target = np.round(x)
    same(fe.binary_cross_entropy(make(target), make(x), sample_weight=make(weights)),
         fe.binary_cross_entropy(target, x, sample_weight=weights))  # fmt: skip


@pytest.mark.parametrize("make", [with_torch, with_jax, np.asarray])
def test_bfloat16(make, engine):
    expected = fe.entropy(HALF.astype(np.float32), kind="logits", backend=engine)
    same(fe.entropy(make(HALF), kind="logits", backend=engine), expected)


def test_polars_and_pandas_frames():
    polars = pytest.importorskip("polars")
    expected = fe.entropy(LOGITS, kind="logits")
    same(fe.entropy(polars.DataFrame(LOGITS), kind="logits"), expected)
    same(fe.entropy(pd.DataFrame(dict(enumerate(LOGITS.T))), kind="logits"), expected)
    same(fe.entropy(arrow_lists(LOGITS, chunks=3), kind="logits"), expected)


def test_what_is_no_array_is_named():
    for wrong, told in (
        (pa.array(["a"]), "^p: expected float64, .* got dtype object"),
        ([[1.0], [1.0, 2.0]], "^p: expected an array, got list"),
        (DLPackOnly(HALF), "^p: expected an array, got DLPackOnly"),
    ):
        with pytest.raises(TypeError, match=told) as caught:
            fe.entropy(wrong)
        assert "\n" not in str(caught.value)


def test_a_tensor_that_is_not_here_is_named():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"^p: expected an array, got Tensor"):
        fe.entropy(torch.zeros(2, 2, device="meta"))


# --- no copy --------------------------------------------------------------------------------------

BIG = np.zeros((3 << 18, 16), np.float32)  # logits of 0; 48 MB: malloc gives back what is above 32
STATUS = Path("/proc/self/status")


def kilobytes(name):
    return int(re.search(rf"{name}:\s+(\d+)", STATUS.read_text())[1])


def growth(call):
    """Bytes that the process had in the call beyond what it had before, whoever asked for them."""
    call()  # buffers that stay, and pages of the input itself
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = kilobytes("VmRSS")
    call()
    return (kilobytes("VmHWM") - before) << 10


@pytest.mark.skipif(not STATUS.exists(), reason="no /proc on this system")
@pytest.mark.parametrize("make", MATRICES.values(), ids=MATRICES)
def test_matrices_are_not_copied(make):
    whole, out = make(BIG), np.empty(len(BIG))
    assert growth(lambda: fe.entropy(whole, kind="logits", out=out)) < BIG.nbytes / 4
    assert out[-1] == pytest.approx(np.log(16))
    assert growth(lambda: fe.entropy(BIG.copy(), kind="logits", out=out)) > BIG.nbytes / 2


@pytest.mark.skipif(not STATUS.exists(), reason="no /proc on this system")
@pytest.mark.parametrize("make", COLUMNS.values(), ids=COLUMNS)
def test_columns_are_not_copied(make):
    column, out = make(BIG.reshape(-1)), np.empty(BIG.size)
    target = np.broadcast_to(np.float32(0), BIG.size)
    call = functools.partial(fe.binary_cross_entropy, target, column, kind="logits", out=out)
    assert growth(call) < BIG.nbytes / 4


def test_a_memory_map_is_not_copied(tmp_path):
    np.save(tmp_path / "x.npy", BIG)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    out = np.empty(len(BIG))
    tracemalloc.start()  # its pages, once read, are memory of the process too
    try:
        fe.entropy(mapped, kind="logits", out=out)
        assert tracemalloc.get_traced_memory()[1] < BIG.nbytes / 4
    finally:
        tracemalloc.stop()
    assert out[-1] == pytest.approx(np.log(16))


def test_read_only_arrays_of_jax():
    jax = pytest.importorskip("jax.numpy")
    logits = jax.asarray(LOGITS)
    assert not np.asarray(logits).flags.writeable
    same(fe.entropy(logits, kind="logits"), fe.entropy(LOGITS, kind="logits"))
    found = fe.cross_entropy_gradient(LABELS, logits)
    same(found, fe.cross_entropy_gradient(LABELS, LOGITS))
    same(np.asarray(logits), LOGITS)
