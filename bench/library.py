"""What library authors call beside plain rows: sparse rows, calibration, windows, derivatives."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.calls import Call, Measure, Run, line


def logits_of(rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    logits = np.float32(2) * rng.standard_normal((rows, classes), np.float32)
    return rng.integers(0, classes, rows), logits


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sparse_rows(run: Run) -> dict[str, Any]:
    """KL of CSR rows of the same neighbours, beside what is done without: rows made dense."""
    from scipy.sparse import csr_array

    rows, classes, stored = (100, 500, 10) if run.quick else (20_000, 10_000, 50)
    rng = np.random.default_rng(0)
    columns = np.sort(rng.integers(0, classes - stored, (rows, stored)), axis=1) + np.arange(stored)
    starts = np.arange(rows + 1) * stored
    p, q = (
        csr_array((rng.dirichlet(np.ones(stored), rows).ravel(), columns.ravel(), starts))
        for _ in range(2)
    )
    for one in (p, q):
        one.resize((rows, classes))
    out = np.empty(rows)
    calls: dict[str, Call] = {
        "fastent": lambda: run.fastent.kl_divergence(p, q, out=out, num_threads=1)
    }
    if run.has("rel_entr"):
        from scipy.special import rel_entr

        def dense() -> None:
            for at in range(0, rows, 500):
                both = (x[at : at + 500].toarray() for x in (p, q))
                out[at : at + 500] = rel_entr(*both).sum(axis=1)

        calls["rel_entr of dense rows"] = dense
    name = f"kl_divergence of {rows:,} CSR rows, {stored} of {classes:,} stored, 1 thread"
    return line(name, run.in_turns(calls), "ms")


def temperature(run: Run) -> dict[str, Any]:
    """The temperature of logits, beside SciPy's minimizer of NumPy's loss and torch's L-BFGS."""
    rows, classes = (500, 10) if run.quick else (100_000, 100)
    labels, z = logits_of(rows, classes)
    calls: dict[str, Call] = {"fastent": lambda: run.fastent.fit_temperature(labels, z)}
    places = np.arange(rows)
    if run.has("scipy"):
        from scipy.optimize import minimize_scalar
        from scipy.special import log_softmax

        def loss(t: float) -> float:
            return -float(log_softmax(z / np.float32(t), axis=1)[places, labels].mean())

        calls["scipy"] = lambda: minimize_scalar(loss, bounds=(0.05, 20), method="bounded")
    if run.has("torch") and (torch := _torch()):
        given, wanted = torch.from_numpy(z), torch.from_numpy(labels)

        def fitted() -> None:
            t = torch.ones(1, requires_grad=True)
            optimizer = torch.optim.LBFGS([t], lr=0.1, max_iter=50)

            def closure() -> Any:
                optimizer.zero_grad()
                value = torch.nn.functional.cross_entropy(given / t, wanted)
                value.backward()
                return value

            optimizer.step(closure)

        calls["torch L-BFGS"] = fitted
    name = f"fit_temperature of {rows:,} × {classes} float32 logits"
    return line(name, run.in_turns(calls), "ms")


def calibration(run: Run) -> dict[str, Any]:
    """Class-wise calibration error, with its standard error, beside NumPy's class by class."""
    rows, classes = (200, 10) if run.quick else (20_000, 100)
    labels, z = logits_of(rows, classes)

    def ours() -> float:
        acc = run.fastent.Accumulator(["ece_classwise"], kind="logits", backend=run.backend)
        return float(acc.update(labels, z).compute()["ece_classwise"].value)

    def by_hand() -> float:
        p, found = softmax(z), []
        edges = np.linspace(0, 1, 16)
        for c in range(classes):
            q = p[:, c]
            place = np.clip(np.searchsorted(edges, q) - 1, 0, 14)
            gaps = np.bincount(place, (labels == c) - q, 15)
            found.append(np.abs(gaps).sum() / rows)
        return float(np.mean(found))

    calls: dict[str, Call] = {"fastent": ours}
    if run.has("numpy"):
        calls["numpy"] = by_hand
    name = f"class-wise calibration error of {rows:,} × {classes} float32 logits"
    return line(name, run.in_turns(calls), "ms")


def window(run: Run) -> dict[str, Any]:
    """One update and its report of the latest 100 batches, beside all of them added again."""
    labels, z = logits_of(32, 10)
    metrics, size = ["cross_entropy", "accuracy"], 5 if run.quick else 100
    rolling = run.fastent.RollingAccumulator(
        metrics, window=size, kind="logits", backend=run.backend
    )
    held: deque[Any] = deque(maxlen=size)

    def ours() -> None:
        rolling.update(labels, z)
        rolling.compute()

    def again() -> None:
        held.append((labels, z))
        acc = run.fastent.Accumulator(metrics, kind="logits", backend=run.backend)
        for batch in held:
            acc.update(*batch)
        acc.compute()

    for _ in range(size):
        rolling.update(labels, z)
        held.append((labels, z))
    tools = {"fastent": run.one_by_one(ours), "all added again": run.one_by_one(again)}
    name = f"RollingAccumulator of {size} updates of 32 × 10 logits, one more and its report"
    return line(name, tools, "µs")


def confusion(run: Run) -> dict[str, Any]:
    """A confusion table with F1 of each class, beside scikit-learn's."""
    rows, classes = (500, 10) if run.quick else (200_000, 100)
    labels, z = logits_of(rows, classes)

    def ours() -> None:
        acc = run.fastent.Accumulator(["confusion", "f1"], kind="logits", backend=run.backend)
        acc.update(labels, z).compute()

    calls: dict[str, Call] = {"fastent": ours}
    if run.has("scikit-learn"):
        from sklearn.metrics import confusion_matrix, f1_score

        def theirs() -> None:
            found = z.argmax(axis=1)
            confusion_matrix(labels, found)
            f1_score(labels, found, average=None)

        calls["scikit-learn"] = theirs
    name = f"confusion and F1 of each class, {rows:,} × {classes} float32 logits"
    return line(name, run.in_turns(calls), "ms")


def gradient(function: str, of: str) -> Measure:
    """A derivative in logits, beside torch's backward pass and NumPy's formula."""

    def measure(run: Run) -> dict[str, Any]:
        rows, classes = (100, 100) if run.quick else (20_000, 1000)
        labels, q = logits_of(rows, classes)
        p = q[::-1] + np.float32(0.1)
        out, ours = np.empty_like(q), getattr(run.fastent, f"{function}_gradient")
        operands: dict[str, tuple[Any, ...]] = {
            "kl_divergence": (p, q), "entropy": (q,), "focal_cross_entropy": (labels, q),
        }  # fmt: skip
        calls: dict[str, Call] = {"fastent": lambda: ours(*operands[function], out=out)}
        if function == "kl_divergence" and run.has("numpy"):
            calls["numpy"] = lambda: softmax(q) - softmax(p)
        if run.has("torch") and (torch := _torch()):
            calls["torch, forward and backward"] = _by_torch(torch, function, labels, p, q)
        name = f"derivative of {of}, {rows:,} × {classes:,} float32 logits"
        return line(name, run.in_turns(calls), "ms")

    return measure


def _by_torch(
    torch: Any, function: str, labels: np.ndarray, p: np.ndarray, q: np.ndarray
) -> Callable[[], Any]:
    given, wanted = torch.from_numpy(np.ascontiguousarray(p)), torch.from_numpy(labels)[:, None]

    @torch.enable_grad()  # type: ignore[untyped-decorator]
    def call() -> None:
        z = torch.from_numpy(q).requires_grad_()
        log = torch.log_softmax(z, -1)
        if function == "kl_divergence":
            first = torch.log_softmax(given, -1)
            value = torch.nn.functional.kl_div(log, first, reduction="sum", log_target=True)
        elif function == "entropy":
            value = -(log.exp() * log).sum()
        else:
            own = log.gather(-1, wanted)
            value = -((1 - own.exp()) ** 2 * own).sum()
        value.backward()

    return call


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        return None
    return torch


CALLS: dict[str, Measure] = {
    "sparse_rows": sparse_rows,
    "temperature": temperature,
    "calibration": calibration,
    "window": window,
    "confusion": confusion,
    "gradient_kl": gradient("kl_divergence", "KL in the logits of q"),
    "gradient_entropy": gradient("entropy", "entropy"),
    "gradient_focal": gradient("focal_cross_entropy", "focal cross-entropy of labels"),
}
