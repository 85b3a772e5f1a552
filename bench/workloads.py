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

    ``share`` is of the read limit, with AVX-512 and without. The others are times as fast as the
    faster of torch.compile and JAX, wanted where the share is below ENOUGH, and as torch eager.
    """

    share: tuple[float, float] | None = None
    compiled: float | None = None
    torch: float | None = None


ENOUGH = 0.85  # of what memory gives: a rival there cannot be much slower


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
    many = Goal((0.85, 0.65), 1.5)
    long = Goal((0.85, 0.6), 2)
    few_logits = Goal((0.35, 0.25), 2)
    lines = [
        Workload(function, "probs", dtype, 1_000_000, 100, goal=many)
        for function in (kl, js, "entropy")
        for dtype in ("float32", "float64")
    ]
    lines += [
        Workload(kl, "probs", "float32", 10_000_000, 10, goal=Goal((0.65, 0.5), 2.5)),
        Workload(kl, "probs", "float32", 50_000_000, 2, goal=Goal((0.45, 0.4), 6)),
        Workload(ce, "logits", "float32", 100_000, 1000, goal=long),
        Workload(ce, "logits", "float32", 2000, vocabulary, goal=long),
        Workload(ce, "logits", "bfloat16", 2000, vocabulary),
        Workload(ce, "logits", "float16", 2000, vocabulary),
        Workload(ce, "logits", "float32", 10_000_000, 10, goal=Goal((0.4, 0.3), 4, 20)),
        Workload(kl, "logits", "float32", 2000, vocabulary, goal=long),
        Workload(kl, "logits", "float32", 1_000_000, 10, goal=few_logits),
        Workload(kl, "logits", "float32", 4_000_000, 2, goal=few_logits),
    ]
    lines += [
        Workload(
            "binary_cross_entropy", kind, "float32", 100_000_000, 0, reduction="mean",
            goal=Goal((0.8, 0.6), 2),
        )
        for kind in ("logits", "probs")
    ]  # fmt: skip
    lines += [
        Workload(kl, "probs", dtype, 1_000_000, 100, axis=0, goal=Goal((0.65, 0.5)))
        for dtype in ("float32", "float64")
    ]
    return [*lines, Workload("entropy", "probs", "float32", 1, 100_000_000)]


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
