"""Run by test_no_memory.py: each allocation of some work fails once, and nothing else happens."""

import ctypes
import sys
from functools import partial

import numpy as np

import fastent as fe

compiled = ctypes.CDLL(None)
compiled.allocations.restype = ctypes.c_long
compiled.fail_allocation.argtypes = [ctypes.c_long]
RNG = np.random.default_rng(3)


def each_fails(name, begin, work, told, step=1):
    """Work on what begin() gives, with its first, second, ... allocation failing.

    Then it has raised MemoryError and changed nothing, and does its work when it is asked again.
    """
    subject = begin()
    before = told(subject)
    expected = told(subject, work(subject))
    number = failed = 0
    while True:
        subject = begin()
        compiled.fail_allocation(number)
        try:
            done = work(subject)
        except MemoryError as error:
            assert "\n" not in str(error)
            done, raised = None, True
        else:
            raised = False
        finally:
            seen = compiled.allocations()
            compiled.fail_allocation(-1)
        if raised:
            failed += 1
            assert told(subject) == before, (name, number, "has changed")
            done = work(subject)
        assert told(subject, done) == expected, (name, number, raised)
        if seen <= number:
            break
        number += step
    print(f"{name}: {failed} of {number} allocations", flush=True)
    return failed


def bits(subject, found=None):
    return None if found is None else np.asarray(found).tobytes()


def state(acc, _=None):
    told = acc.state_dict()
    assert acc.copy().state_dict() == told
    report = acc.compute()
    groups = list(report.groups.values())
    for part in (report, *groups[:: max(1, len(groups) // 20)]):  # the sums of all are in `told`
        for name in part:
            told[part.group, name] = repr(part[name]) + repr(part[name].min)
    return told


def long_rows():
    """Rows so long that what is known of their blocks does not fit the stack."""
    failed = 0
    for dtype in (np.float32, np.float64):
        p, q = RNG.random((2, 1, 300_000)).astype(dtype)
        p /= p.sum()
        q /= q.sum()
        x, y = np.log(p) * 3, np.log(q) * 2
        calls = {
            "kl": partial(fe.kl_divergence, p, q),
            "kl, rescaled": partial(fe.kl_divergence, p * 3, q * 2, row_sums="rescale"),
            "js": partial(fe.js_divergence, p, q),
            "kl of logits": partial(fe.kl_divergence, x, y, kind="logits"),
            "js of logits": partial(fe.js_divergence, x, y, kind="logits", temperature=3),
            "kl of nearly equal logits": partial(fe.kl_divergence, x, x + 1e-5, kind="logits"),
            "kl of two kinds": partial(fe.kl_divergence, p, y, kind=("probs", "logits")),
            "entropy": partial(fe.entropy, p),
            "entropy of logits": partial(fe.entropy, x, kind="logits"),
            "as it is": partial(fe.entropy, p, row_sums="as_is"),
            "sparse": partial(fe.sparse_cross_entropy, [7], x, kind="logits"),
            "sparse probs": partial(fe.sparse_cross_entropy, [7], p),
            "categorical": partial(fe.categorical_cross_entropy, p, x, kind="logits"),
            "categorical probs": partial(fe.categorical_cross_entropy, p, q, eps=1e-9),
            "strided": partial(fe.kl_divergence, p[:, ::-1], q[:, ::-1]),
        }
        for name, call in calls.items():
            for threads in (1, 2):
                for reduction in ("none", "mean"):
                    run = partial(call, num_threads=threads, reduction=reduction)
                    failed += each_fails(name, lambda: None, lambda _, run=run: run(), bits)
    assert failed > 50


def others():
    x = RNG.standard_normal((20_000, 40))
    labels = RNG.integers(0, 40, 20_000)
    wide = RNG.standard_normal((900, 3000)).astype(np.float16).T  # tiles larger than what is kept
    calls = [
        partial(fe.cross_entropy_gradient, labels, x, num_threads=2),
        partial(fe.entropy, wide, kind="logits", num_threads=2),
        partial(fe.entropy, x, kind="logits", reduction="sum", num_threads=2),
    ]
    failed = sum(each_fails("others", lambda: None, lambda _, c=c: c(), bits) for c in calls)
    assert failed >= 3


def accumulators():
    n, classes = 24, 6
    p, q = RNG.dirichlet(np.ones(classes), (2, n))
    p[3] = 1e-300, 0, 0.25, 0.25, 0.25, 0.25
    q[5] = 0.2, 0, 0.2, 0.2, 0.2, 0.2
    labels = RNG.integers(0, classes, n)
    weight = RNG.random(n)
    groups = RNG.integers(0, 4, n).tolist()
    names = [f"g{i}" for i in groups]
    many = np.arange(n) * 7
    wide = [10.0**k for k in np.linspace(-150, 150, n)]
    columns = ["kl_divergence", "js_divergence", "hellinger"]
    plain = partial(fe.Accumulator, columns, task="divergence")
    calibrated = partial(fe.Accumulator, ["cross_entropy", "ece", "skill", "top2_accuracy"])

    def begun(make, *batches):
        def begin():
            acc = make()
            for true, pred, more in batches:
                acc.update(true, pred, **more)
            return acc

        return begin

    both = {"groups": groups, "clusters": many % 11}
    named = {"groups": names, "clusters": names}
    thousand = np.tile(labels, 40), np.tile(p, (40, 1)), {"groups": np.arange(40 * n)}
    scaled = {"sample_weight": wide}
    updates = {
        "plain": (plain, [], (p, q, {})),
        "again": (plain, [(p, q, {})], (q, p, {})),
        "weights after none": (plain, [(p, q, both)], (p, q, {"sample_weight": weight, **both})),
        "none after weights": (plain, [(p, q, {**scaled, **both})], (p, q, both)),
        "new groups": (plain, [(p, q, both)], (q, p, named)),
        "new codes": (plain, [(p, q, both)], (q, p, {"groups": many, "clusters": many})),
        "calibration": (calibrated, [(labels, p, {})], (labels, q, {})),
        "calibration by group": (calibrated, [(labels, p, both)], (labels, q, named)),
        "weighted": (calibrated, [(labels, p, both)], (labels, q, {"groups": names, **scaled})),
        "over 1000 groups": (
            calibrated,
            [thousand],
            (labels, q, {"groups": np.arange(n) * 2 + 920}),
        ),
    }
    failed = 0
    for name, (make, batches, batch) in updates.items():
        begin = begun(make, *batches)
        other = begun(make, batch)()
        kept, data = state(other), begin().state_dict()
        step = 5 if len(data["state"]["groups"]) > 100 else 1  # of 1000 it takes long
        failed += each_fails(
            f"update, {name}", begin, lambda a, b=batch: a.update(*b[:2], **b[2]), state, step
        )
        failed += each_fails(f"merge, {name}", begin, lambda a, b=other: a.merge(b), state, step)
        assert state(other) == kept
        if len(data["state"]["groups"]) > 100:  # thousands of allocations, and all alike
            continue
        failed += each_fails(
            f"copy, {name}", begin, lambda a: a.copy().state_dict(), lambda a, d=None: (state(a), d)
        )
        failed += each_fails(
            f"read, {name}", lambda: None, lambda _, d=data: fe.Accumulator.from_state_dict(d),
            lambda _, a=None: a and a.state_dict(),
        )  # fmt: skip
    assert failed > 200


if __name__ == "__main__":
    globals()[sys.argv[1]]()
