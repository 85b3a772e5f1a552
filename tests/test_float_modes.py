"""Values do not depend on the floating point mode that the host has set, and leave it alone."""

import subprocess
import sys
from functools import partial

import float_modes
import numpy as np
import pytest
from float_modes import MODES, mode

import fastent as fe
from fastent.backends.cython.accumulate.exact_sum import ExactTotal
from fastent.compat import scipy as drop_in, sklearn as metrics

pytestmark = pytest.mark.skipif(
    not (float_modes.X86 or float_modes.ARM), reason="no floating point mode known here"
)
NUMBERS = np.random.default_rng(11)
# Of the calls below those that Numba is asked for too: it takes seconds to compile each.
COMPILED_LATE = ("none kl", "sum kl", "mean sparse")
TINY = 1e-40  # subnormal in float32, and 1e-310 in float64


def rows(n, classes, dtype):
    """Rows of every size: subnormal numbers, zeros, and such as round differently."""
    p = NUMBERS.dirichlet(np.full(classes, 0.3), n).astype(dtype)
    p[::3, 0] = TINY if dtype == np.float32 else 1e-310
    p[1::5, 1] = 0
    return np.ascontiguousarray((p / p.sum(axis=1, keepdims=True)).astype(dtype))


def work(dtype, n, classes):
    """What can be called, by name: every entry there is to what is computed."""
    p, q = rows(n, classes, dtype), rows(n, classes, dtype)
    x, y = (8 * NUMBERS.standard_normal((2, n, classes))).astype(dtype)
    labels = NUMBERS.integers(0, classes, n)
    weight, term = NUMBERS.random(n), NUMBERS.random((n, classes))
    group, cluster = NUMBERS.integers(0, 3, n), NUMBERS.integers(0, 7, n)
    found = {}
    for reduction in ("none", "sum", "mean"):
        more = {"reduction": reduction}
        w = {"reduction": reduction, "sample_weight": weight}
        found |= {
            f"{reduction} {name}": call
            for name, call in {
                "kl": partial(fe.kl_divergence, p, q, **more),
                "kl base": partial(fe.kl_divergence, p, q, base=3, **w),
                "kl rescaled": partial(fe.kl_divergence, 3 * p, 5 * q, row_sums="rescale", **more),
                "kl of logits": partial(fe.kl_divergence, x, y, kind="logits", **more),
                "kl mixed": partial(fe.kl_divergence, p, y, kind=("probs", "logits"), **more),
                "kl strided": partial(fe.kl_divergence, p[:, ::-1], q[:, ::-1], **more),
                "js": partial(fe.js_divergence, p, q, **w),
                "js of logits": partial(fe.js_divergence, x, y, kind="logits", **more),
                "entropy": partial(fe.entropy, p, **more),
                "entropy of logits": partial(fe.entropy, x, kind="logits", temperature=0.7, **w),
                "sparse": partial(fe.sparse_cross_entropy, labels, x, kind="logits", **w),
                "sparse smooth": partial(
                    fe.sparse_cross_entropy, labels, x, kind="logits", label_smoothing=0.1,
                    class_weight=term[0], **more,
                ),
                "categorical": partial(fe.categorical_cross_entropy, p, x, kind="logits", **more),
                "binary": partial(fe.binary_cross_entropy, p > 0.5, x, kind="logits", **more),
                "binary probs": partial(fe.binary_cross_entropy, p, q.clip(0, 1), **more),
            }.items()
        }  # fmt: skip
    backends = {
        f"{backend} {threads} {name}": partial(call, backend=backend, num_threads=threads)
        for backend in fe.show_config()["backends"]
        for threads in ((1, 2) if n * classes > 1 << 16 else (1,))
        for name, call in found.items()
        if backend != "numba" or name in COMPILED_LATE
    }
    return backends | {
        "accumulator": partial(accumulated, p, q, weight, group, cluster),
        "accumulator of labels": partial(of_labels, labels, x, weight, group, 1 + term[0]),
        "ready-made": partial(fe.renyi_divergence, p, q, 0.5),
        "jeffreys": partial(fe.jeffreys_divergence, p, q, reduction="mean"),
        "focal": partial(fe.focal_cross_entropy, labels, x, gamma=1.5, kind="logits"),
        "binary focal": partial(fe.binary_focal_cross_entropy, p > 0.5, x, kind="logits"),
        "gradient": partial(fe.cross_entropy_gradient, labels, x, hessian="diag"),
        "gradient of targets": partial(
            fe.cross_entropy_gradient, p, x, sample_weight=weight, label_smoothing=0.1
        ),
        "binary gradient": partial(fe.binary_cross_entropy_gradient, (p > 0.5).astype(dtype), x),
        "mutual information": partial(fe.mutual_information, p),
        "stability": partial(fe.population_stability_index, 3 * p, 5 * p[::-1]),
        "gaussian entropy": partial(fe.gaussian_entropy, term + 1),
        "gaussian kl": partial(fe.gaussian_kl_divergence, p, term + 1, q, term + 2),
        "entr": partial(drop_in.entr, p),
        "rel_entr": partial(drop_in.rel_entr, p, q, num_threads=2),
        "kl_div mixed": partial(drop_in.kl_div, p.astype(np.float32), q.astype(np.float64)),
        "kl_div strided": partial(drop_in.kl_div, p[:, ::2], q[:, ::2]),
        "scipy entropy": partial(drop_in.entropy, 3 * p, q, axis=1),
        "scipy jensenshannon": partial(drop_in.jensenshannon, p, q, axis=1),
        "logsumexp": partial(drop_in.logsumexp, x, axis=1, b=term),
        "softmax": partial(drop_in.softmax, 9 * x, axis=1),
        "log_softmax": partial(drop_in.log_softmax, x, axis=1),
        "log_loss": partial(metrics.log_loss, labels % 2, q[:, 0], labels=[0, 1]),
        "exact sum": lambda: ExactTotal().add(p[:, 0].copy()).value,
    }


def accumulated(p, q, weight, group, cluster):
    names = ["kl_divergence", "js_divergence", "hellinger", "entropy_p"]
    acc = fe.Accumulator(names, task="divergence", base=2)
    acc.update(p, q, sample_weight=weight, groups=group, clusters=cluster)
    acc = acc + acc.copy()
    return *told(acc), *told(fe.Accumulator.from_state_dict(acc.state_dict()))


def of_labels(labels, x, weight, group, class_weight):
    names = ["cross_entropy", "perplexity", "brier", "ece", "skill", "top2_accuracy"]
    acc = fe.Accumulator(names, kind="logits", class_weight=class_weight)
    for w in (None, weight):
        acc.update(labels, x, sample_weight=w, groups=group)
    return told(acc)


def told(acc):
    report = acc.compute()
    found = []
    for part in (report, *report.groups.values()):
        for name in part:
            r = part[name]
            found += [r.value, r.stderr, r.cluster_stderr, r.min, r.max, r.weight]
            if r.min is not None:
                found.append(r.quantile(0.3))
    return found


def bits(found):
    if isinstance(found, tuple | list):
        return [bits(x) for x in found]
    if isinstance(found, np.ndarray | np.generic):
        return found.dtype.str, found.tobytes()
    return None if found is None else float(found).hex()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("size", [(1, 10), (13, 7), (2000, 100)], ids=str)
def test_every_entry_in_every_mode(dtype, size):
    calls = work(dtype, *size)
    expected = {name: bits(call()) for name, call in calls.items()}
    for hostile in MODES:
        found, words = {}, set()
        with mode(hostile):
            word = float_modes.control() & ~0x3F
            for name, call in calls.items():
                found[name] = call()
                words.add(float_modes.control() & ~0x3F)
        assert words == {word}, "the mode of the host has changed"
        wrong = [name for name in calls if bits(found[name]) != expected[name]]
        assert not wrong, (hostile, wrong)


def shown():
    one, three, tiny = (np.array([x]) for x in (1.0, 3.0, 1e-310))
    return [
        x.item() for x in (one / three, -one / three, one / 10, one * 1e-308 * 1e-10, tiny * 1e300)
    ]


@pytest.mark.parametrize("hostile", MODES)
def test_the_modes_are_set(hostile):
    plain = shown()
    with mode(hostile):
        found = shown()
    assert found != plain


POOL = """
import numpy as np, float_modes, fastent as fe
q = np.full((4000, 64), 1e-40, np.float32)
q[:, 1:] = 1 / 63
p = np.full((4000, 64), 1 / 64, np.float32)
with float_modes.mode(MODE):
    fe.kl_divergence(p, q, num_threads=4, backend=BACKEND)
alone = fe.kl_divergence(p, q, num_threads=1, backend=BACKEND)
assert np.isfinite(alone).all()
for _ in range(20):
    assert (fe.kl_divergence(p, q, num_threads=4, backend=BACKEND) == alone).all()
"""

TRAPS = """
import numpy as np, float_modes, fastent as fe
p = np.array([[1.0, 0.0, 1e-310], [0.5, 0.5, 0.0]])
q = np.array([[0.0, 1.0, 1e-310], [1e-300, 1.0, 1e-310]])
x = np.array([[1e300, -1e300, 0.0], [700.0, -800.0, -np.inf]])
big = (np.tile(p, (3000, 30))[:, :64] + 1e-3).astype(np.float32)
big /= big.sum(axis=1, keepdims=True)

def run(backend):
    o = dict(backend=backend)
    found = [fe.kl_divergence(p, q, **o), fe.js_divergence(p, q, reduction="mean", **o),
             fe.entropy(x, kind="logits", **o),
             fe.sparse_cross_entropy([0, 1], x, kind="logits", **o),
             fe.kl_divergence(big, big[::-1], num_threads=4, reduction="sum", **o)]
    acc = fe.Accumulator(["kl_divergence", "js_divergence"], task="divergence", **o)
    report = acc.update(p, q, groups=[0, 1]).compute()
    found += [report["js_divergence"].value, report["js_divergence"].stderr]
    found.append(fe.cross_entropy_gradient([0, 1], x[:, :2]))
    found.append(fe.gaussian_kl_divergence(0, 1e-300, 1e10, 2))
    return found

for backend in fe.show_config()["backends"]:
    expected = run(backend)
    with float_modes.mode("trap"):
        found = run(backend)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)
"""


def alone(program):
    """In a process of its own, as what begins with no pool, and may die."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=300,
        cwd=__file__.rpartition("/")[0], check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("hostile", MODES)
def test_threads_started_in_another_mode(hostile):
    for backend in ("cython", "numpy"):
        alone(POOL.replace("MODE", repr(hostile)).replace("BACKEND", repr(backend)))


@pytest.mark.slow
def test_threads_of_numba_started_in_another_mode():
    hostile = "flush" if float_modes.ARM else "flush_both"
    alone(POOL.replace("MODE", repr(hostile)).replace("BACKEND", repr("numba")))


@pytest.mark.skipif(not float_modes.X86, reason="exceptions trap on x86 only")
def test_unmasked_exceptions():
    alone(TRAPS)


def test_torch_flushes(tmp_path):
    torch = pytest.importorskip("torch")
    q = np.full((4000, 64), TINY, np.float32)
    q[:, 1:] = 1 / 63
    p = np.full((4000, 64), 1 / 64, np.float32)
    alone_ = fe.kl_divergence(p, q, num_threads=1)
    assert torch.set_flush_denormal(True)
    try:
        assert (fe.kl_divergence(p, q, num_threads=4) == alone_).all()
    finally:
        torch.set_flush_denormal(False)
    assert (fe.kl_divergence(p, q, num_threads=4) == alone_).all()
