"""The table of workloads: what is computed, on which input, and how fast it should be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

ITEM_SIZE = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
LABEL_SIZE = 8
BACKENDS = ("cython", "numba", "numpy")
# What the greediest rival holds beside the inputs, in copies of them (NumPy by hand on logits).
TEMPORARIES = 4


@dataclass(frozen=True)
class Goal:
    """Targets of one line; None where there is none.

    ``share`` is of the read limit, the others are times as fast as that rival, ``compiled``
    the faster of torch.compile and JAX.
    """

    share: float | None = None
    scipy: float | None = None
    torch: float | None = None
    compiled: float | None = None
    elements_of: str | None = None  # at least as many elements a second as that workload


@dataclass(frozen=True)
class Workload:
    """One line of the table."""

    function: str
    kind: str
    dtype: str
    rows: int
    classes: int  # 0: elementwise (binary), every element is a row
    axis: int = -1
    reduction: str = "none"
    goal: Goal = Goal()
    group: str = "headline"

    @property
    def shape(self) -> tuple[int, ...]:
        if not self.classes:
            return (self.rows,)
        return (self.classes, self.rows) if self.axis == 0 else (self.rows, self.classes)

    @property
    def name(self) -> str:
        size = " × ".join(f"{n:,}" for n in self.shape)
        extra = ", axis=0" if self.axis == 0 else ""
        extra += f", {self.reduction}" if self.reduction != "none" else ""
        return f"{self.function}, {self.kind}, {self.dtype}, {size}{extra}"

    @property
    def elements(self) -> int:
        """Elements of the predictions."""
        return self.rows * max(self.classes, 1)

    @property
    def input_bytes(self) -> int:
        """Bytes that have to be read: both operands, or the labels and the predictions."""
        size = self.elements * ITEM_SIZE[self.dtype]
        if self.function == "entropy":
            return size
        if self.function == "sparse_cross_entropy":
            return size + self.rows * LABEL_SIZE
        return 2 * size

    def with_rows(self, rows: int) -> Workload:
        return replace(self, rows=rows)

    def fitting(self, memory_bytes: float) -> Workload:
        """The same workload with as many rows as fit, temporaries of the rivals included."""
        need = self.input_bytes * (1 + TEMPORARIES)
        if need <= memory_bytes:
            return self
        if self.rows == 1:
            return replace(self, classes=max(1, int(self.classes * memory_bytes / need)))
        return self.with_rows(max(1, int(self.rows * memory_bytes / need)))

    def quick(self, input_bytes: float = 4e6, classes: int = 8192) -> Workload:
        """A size for checking that everything runs; it sits in cache, so its speed means little."""
        small = replace(self, classes=min(self.classes, classes), goal=Goal())
        share = input_bytes / small.input_bytes
        return small.with_rows(max(1, int(small.rows * share))) if share < 1 else small


def _headline() -> list[Workload]:
    kl, js, ce = "kl_divergence", "js_divergence", "sparse_cross_entropy"
    vocabulary = 128_256
    lines = [
        Workload(kl, "probs", "float32", 1_000_000, 100, goal=Goal(0.75, 150, 10, 1.5)),
        Workload(kl, "probs", "float64", 1_000_000, 100, goal=Goal(0.75, 80, 10, 1.5)),
        Workload(kl, "probs", "float32", 10_000_000, 10, goal=Goal(0.5, 40, None, 2)),
        Workload(kl, "probs", "float32", 50_000_000, 2, goal=Goal(0.4, 60, None, 5)),
        Workload(js, "probs", "float32", 1_000_000, 100, goal=Goal(0.6, 150, None, 2)),
        Workload("entropy", "probs", "float32", 1_000_000, 100, goal=Goal(0.7, 60, 12, 3)),
        Workload("entropy", "probs", "float64", 1_000_000, 100, goal=Goal(0.7, 60, 12, 3)),
        Workload(ce, "logits", "float32", 100_000, 1000, goal=Goal(0.7, 70, 8, 3)),
        Workload(ce, "logits", "float32", 2000, vocabulary, goal=Goal(0.7, 70, 8, 3)),
    ]
    whole = lines[-1].name
    lines += [
        Workload(ce, "logits", half, 2000, vocabulary, goal=Goal(None, None, 6, 3, whole))
        for half in ("bfloat16", "float16")
    ]
    lines += [
        Workload(ce, "logits", "float32", 10_000_000, 10, goal=Goal(0.4, None, 20, 3)),
        Workload(kl, "logits", "float32", 2000, vocabulary, goal=Goal(0.6, None, 15, 3)),
    ]
    bce = partial(Workload, "binary_cross_entropy", classes=0, reduction="mean")
    goal = Goal(0.6, None, 10, 2)
    lines += [
        bce("logits", "float32", 100_000_000, goal=goal),
        bce("probs", "float32", 100_000_000, goal=goal),
    ]
    lines += [
        Workload(kl, "probs", "float32", 1_000_000, 100, axis=0, goal=Goal(0.5, 100)),
        Workload("entropy", "probs", "float32", 1, 100_000_000),
    ]
    return lines


def _functions() -> list[Workload]:
    """Every function on both dtypes, 100 and 1000 classes; 200 MB an operand, beyond any cache."""
    functions = (
        ("kl_divergence", "probs"),
        ("js_divergence", "probs"),
        ("entropy", "probs"),
        ("sparse_cross_entropy", "probs"),
        ("sparse_cross_entropy", "logits"),
        ("categorical_cross_entropy", "probs"),
        ("categorical_cross_entropy", "logits"),
    )
    lines = [
        Workload(function, kind, dtype, int(2e8) // size // classes, classes, group="functions")
        for function, kind in functions
        for dtype, size in (("float32", 4), ("float64", 8))
        for classes in (100, 1000)
    ]
    bce = partial(Workload, "binary_cross_entropy", classes=0, reduction="mean", group="functions")
    lines += [
        bce(kind, dtype, int(2e8) // size)
        for kind in ("probs", "logits")
        for dtype, size in (("float32", 4), ("float64", 8))
    ]
    return lines


WORKLOADS: tuple[Workload, ...] = (*_headline(), *_functions())
