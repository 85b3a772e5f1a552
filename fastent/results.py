"""Results of an accumulator: from exact sums to values, standard errors and quantiles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastent import _calibration, _classwise
from fastent._calibration import Bin
from fastent._confusion import Confusion, Ratios
from fastent._errors import shown
from fastent._exact import (
    PRODUCT_UNIT,
    Total,
    divides,
    root_of_ratio,
    standard_error,
    stripped,
)
from fastent.backends.cython.accumulate.state import bucket_middle
from fastent.backends.cython.float_mode import in_default_mode
from fastent.metrics import Metric

# Totals of the state are integers in units of 2**-1074, or the inf or nan that decides the sum.
UNIT = 1 << 1074


def rounded(total: Total) -> float:
    """The float64 nearest to a total."""
    if isinstance(total, float):
        return total
    try:
        return total / UNIT
    except OverflowError:
        return math.inf if total > 0 else -math.inf


def ratio(a: float, b: float) -> float:
    """a / b, nan for b = 0."""
    return a / b if b else math.nan


def perplexity_of(mean: float, base: float | None = None) -> float:
    """base^mean, e^mean without a base; inf on overflow."""
    try:
        return math.exp(mean) if base is None else math.pow(base, mean)
    except OverflowError:
        return math.inf


def unit_error(S: Total, A: Total, n: int) -> float | None:
    """`standard_error` for weights of 1, of much smaller integers: √((A − S²/n) / (n (n−1)))."""
    if n < 2:
        return None
    if not (isinstance(S, int) and isinstance(A, int)):
        return math.nan
    (s,), zeros = stripped([S])
    (a,), product_zeros = stripped([A])
    square_zeros = 2 * zeros + PRODUCT_UNIT - 2 * 1074
    shared = min(product_zeros, square_zeros)
    squares = (a * n << product_zeros - shared) - (s * s << square_zeros - shared)
    left = PRODUCT_UNIT - shared
    return root_of_ratio(squares << max(0, -left), n * n * (n - 1) << max(0, left))


def cluster_error(S: Total, W: Total, clusters: list[tuple[Total, Total]]) -> float | None:
    """√(Σ_c (S_c − v̄W_c)²) / ΣW · √(G/(G−1)); None unless every row was in a cluster."""
    clusters = [pair for pair in clusters if pair[1]]
    count = len(clusters)
    if count < 2:
        return None
    flat = [S, W, *(x for pair in clusters for x in pair)]
    totals = [x for x in flat if isinstance(x, int)]
    if len(totals) < len(flat):
        return math.nan
    (s, w, *rest), _ = stripped(totals)
    sums, weights = rest[::2], rest[1::2]
    if sum(weights) != w or sum(sums) != s:
        return None
    squares = sum((a * w - s * b) ** 2 for a, b in zip(sums, weights, strict=True))
    return root_of_ratio(squares * count, w**4 * (count - 1))


def ratio_error(S: Total, A: Total, W: Total, B: Total, D: Total, n: int) -> float | None:
    """√(Σ (x − r·y)²) / Σy · √(n/(n−1)) for r = S/W, from Σx = S, Σx² = A, Σy = W, Σy² = B and
    Σ(x − y)² = D, all exact."""
    if n < 2:
        return None
    singles = [x for x in (S, W) if isinstance(x, int)]
    products = [x for x in (A, B, D) if isinstance(x, int)]
    if len(singles) + len(products) < 5 or not singles[1]:
        return math.nan
    (s, w), zeros = stripped(singles)
    (a, b, d), product_zeros = stripped(products)
    # W²·Σ (x − r·y)², the product of x and y by way of the difference
    squares = a * w * w - s * w * (a + b - d) + s * s * b
    left = product_zeros - PRODUCT_UNIT - 2 * (zeros - 1074)
    return root_of_ratio(squares * n << max(0, left), w**4 * (n - 1) << max(0, -left))


def weighted_quantile(counts: dict[int, int], q: float, least: float, largest: float) -> float:
    """Middle of the first bucket at which q of all weight is reached, within the extremes."""
    if math.isnan(least):
        return math.nan
    total = sum(counts.values())
    p, unit = q.as_integer_ratio()
    reached = 0
    for middle, bucket in sorted((bucket_middle(bucket), bucket) for bucket in counts):
        reached += counts[bucket]
        if reached * unit >= p * total:
            return min(max(middle, least), largest)
    return largest


def mean_of_means(clusters: list[tuple[Total, Total]]) -> tuple[float, float | None]:
    """Σ_c m_c / G of m_c = S_c/W_c, and √(Σ (m_c − m̄)² / (G (G − 1)))."""
    clusters = [pair for pair in clusters if pair[1]]
    count = len(clusters)
    flat = [x for pair in clusters for x in pair]
    if not clusters or not all(isinstance(x, int) for x in flat):
        whole = all(divides(b) for _, b in clusters)
        odd = sum(float(a) for a, _ in clusters if not isinstance(a, int)) if whole else math.nan
        return (odd if clusters else math.nan), (math.nan if count > 1 else None)
    # in units that leave 64 bits of the smallest number
    means = [(int(a) << 1074 + 64) // int(b) for a, b in clusters]
    total = sum(means)
    mean = total / (count << 1074 + 64)
    if count < 2:
        return mean, None
    squares = sum((count * m - total) ** 2 for m in means)
    return mean, root_of_ratio(squares, count**3 * (count - 1) << 2 * (1074 + 64))


def frequency_entropy(weights: list[int]) -> float:
    """−Σ f log f of exact weights, in nats; near f = 1 by what is missing to it."""
    total = sum(weights)
    if not total:
        return math.nan
    terms = []
    for w in weights:
        f = w / total
        if f > 0.5:
            terms.append(-f * math.log1p(-((total - w) / total)))
        elif f > 0:
            terms.append(-f * math.log(f))
    return math.fsum(terms)


class Result:
    """One metric over all rows, or over those of a group.

    Attributes
    ----------
    value : float
        The metric; nan without rows.
    stderr : float or None
        Its standard error; None below two rows and for confusion, mce, label_entropy and skill.
    count : int
        Rows with positive weight.
    weight : float
        Σ of their weights.
    min, max : float or None
        Extreme row values; None where a metric has no row values, as perplexity.
    cluster_stderr : float or None
        Cluster-robust standard error; None unless every row came with a cluster.
    classes : tuple or None
        What the classes of confusion and of the metrics by class are called, in order.
    per_class, per_class_stderr : float64 array or None
        Values of metrics by class, whose `value` is their mean over the classes that have one
        (binary: that of class 1), and their errors. A class without what it is divided by has nan:
        recall without labels, precision without predictions, the others without both; this is the
        rule of scikit-learn's ``zero_division=nan``.

    Examples
    --------
    >>> import fastent as fe
    >>> acc = fe.Accumulator("accuracy").update([0, 1], [[0.75, 0.25], [0.25, 0.75]])
    >>> result = acc.compute()["accuracy"]
    >>> result.value, result.stderr, result.count
    (1.0, 0.0, 2)
    >>> acc = fe.Accumulator(["confusion", "recall"])
    >>> report = acc.update([0, 1, 1], [[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]]).compute()
    >>> report["confusion"].value
    array([[1., 0.],
           [1., 1.]])
    >>> report["recall"].value, report["recall"].per_class
    (0.75, array([1. , 0.5]))
    """

    __slots__ = (
        "_part", "classes", "cluster_stderr", "count", "metric", "per_class", "per_class_stderr",
        "stderr", "value", "weight",
    )  # fmt: skip

    def __init__(self, metric: Metric, part: Part):
        self.metric = metric
        self._part = part
        found = part.numbers(metric)
        self.value, self.stderr, self.cluster_stderr = found.value, found.stderr, found.clustered
        self.per_class, self.per_class_stderr = found.per_class, found.per_class_stderr
        self.count, self.weight = part.size(part.layout.kind(metric))
        by_class = metric.needs_pairs or metric.by_class
        self.classes: tuple[Any, ...] | None = part.classes if by_class else None

    @property
    def min(self) -> float | None:
        return self._extreme(0.0)

    @property
    def max(self) -> float | None:
        return self._extreme(1.0)

    def _extreme(self, q: float) -> float | None:
        """Worked out when asked for: a report of many groups does not."""
        return self._part.quantile(self.metric, q) if self._has_row_values else None

    @property
    def _has_row_values(self) -> bool:
        return self.metric.statistic in ("mean", "bits")

    def quantile(self, q: float) -> float:
        """The value below which a share q of the weight lies, at most 1 % off.

        Parameters
        ----------
        q : float
            From 0 to 1.

        Raises
        ------
        ValueError
            Another q, a metric without row values, or a group whose histogram is not kept.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q: expected a number from 0 to 1, got {shown(q)}")
        if not self._has_row_values:
            raise ValueError(f"quantile: {self.metric.name} has no row values")
        if self._part.group is not None and not self._part.state.detailed:
            raise ValueError("quantile: not kept by group: over 1000 groups, or too many values")
        return self._part.quantile(self.metric, float(q))

    def to_dict(self, clustered: bool | None = None) -> dict[str, Any]:
        """The numbers as plain data: value, stderr, count, weight and, maybe, cluster_stderr.

        Parameters
        ----------
        clustered : bool, optional
            Whether cluster_stderr is among them; None: if there is one.
        """
        names = ["value", "stderr", "count", "weight"]
        if self.cluster_stderr is not None if clustered is None else clustered:
            names.append("cluster_stderr")
        if self.classes is not None:
            names += [
                "classes",
                *(["per_class", "per_class_stderr"] if self.metric.by_class else []),
            ]
        return {name: _plain(getattr(self, name)) for name in names}

    def __eq__(self, other: object) -> bool:
        """Whether all numbers are equal; nan equals nan."""
        if not isinstance(other, Result):
            return NotImplemented
        return self._numbers() == other._numbers()

    __hash__ = None  # type: ignore[assignment]

    def _numbers(self) -> str:
        """What is compared, as text in which nan is like nan and 0.0 is not unlike -0.0."""
        found = (self.value, self.stderr, self.cluster_stderr, self.weight, self.min, self.max,
                 self.per_class, self.per_class_stderr)  # fmt: skip
        plain = tuple(None if x is None else _plain(x + 0.0) for x in found)
        return f"{self.metric.name} {self.count} {self.classes} {plain!r}"

    def __reduce__(self) -> Any:
        return _result, (self._part, self.metric.name)

    def __repr__(self) -> str:
        return (
            f"Result({self.metric.name}: value={self.value!r}, stderr={self.stderr!r}, "
            f"count={self.count}, weight={self.weight!r})"
        )


class Numbers(NamedTuple):
    """What a metric comes to."""

    value: Any  # a float, of confusion an array
    stderr: float | None = None
    per_class: np.ndarray | None = None
    per_class_stderr: np.ndarray | None = None
    clustered: float | None = None


ERRORS = {  # plain, by cluster
    "bits_per_byte": "ratio_errors",
    "tversky": "overlap_errors",
    "ece": "calibration_errors",
    "ece_equal_mass": "calibration_errors",
    "sequence_mean": "sequence_errors",
}


def _plain(found: Any) -> Any:
    """Without arrays and tuples."""
    if isinstance(found, np.ndarray):
        return found.tolist()
    return list(found) if isinstance(found, tuple) else found


def _result(part: Part, name: str) -> Result:
    return part[name]


def _scaled(error: float | None, scale: float) -> float | None:
    if error is None:
        return None
    return error * scale if error else 0.0


class Overlap:
    """I / (I + α·(P − I) + β·(T − I)) of exact sums: of w·p·t, w·p and w·t.

    Attributes
    ----------
    above, below : int or float
        What is divided by what, exactly, with the weights α and β as whole numbers.
    """

    def __init__(self, metric: Metric, both: Total, p: Total, t: Total) -> None:
        (a, a_unit), (b, b_unit) = (x.as_integer_ratio() for _, x in metric.parameters)
        self._unit = max(a_unit, b_unit)  # powers of 2
        self._weights = a * (self._unit // a_unit), b * (self._unit // b_unit)
        self._both = both
        self._finite = all(isinstance(x, int) for x in (both, p, t))
        self.above: Total = math.nan
        self.below: Total = math.nan
        if self._finite:
            self._apart = int(self._weights[0] * (p - both) + self._weights[1] * (t - both))
            self.above = self._unit * both
            self.below = self.above + self._apart

    @property
    def value(self) -> float:
        return ratio(self.above, self.below)

    def error(self, squares: list[Total], n: int) -> float | None:
        """By the delta method, from sums of squares of w·p·t, w·p, w·t, w·p(1 − t), w·t(1 − p) and
        of the last two together."""
        if n < 2:
            return None
        if not self._finite or not all(isinstance(x, int) for x in squares) or not self.below:
            return math.nan
        both, p, t, alone_p, alone_t, apart = squares
        a, b = self._weights
        # a row changes M·i − I·(a·x + b·y): i, x and y are its parts, M what is apart of all;
        # twice the products of the parts come from squares, i + x being p, and i + y being t
        crosses = a * (p - both - alone_p) + b * (t - both - alone_t)
        own = a * a * alone_p + b * b * alone_t + a * b * (apart - alone_p - alone_t)
        change = int(
            self._apart**2 * both + self._both**2 * own - self._apart * self._both * crosses
        )
        shift = PRODUCT_UNIT - 2 * 1074
        return root_of_ratio(self._unit**2 * change * n, int(self.below) ** 4 * (n - 1) << shift)


class Layout:
    """Where a state keeps what metrics are made of: the same for all groups of a report."""

    def __init__(
        self,
        state: Any,
        metrics: list[Metric],
        base: float | None,
        detailed: bool,
        classes: Sequence[Any] | None = None,
        of_groups: bool = False,
    ):
        self.base = base
        self.classes = classes
        self.paired = any(m.needs_pairs for m in metrics)  # labels are pairs with predictions
        self.log_base = 1.0 if base is None else math.log(base)
        self.bits_of_base = 1.0 if base == 2 else self.log_base / math.log(2)
        self.given = metrics
        self.bits_per_unit = 1 / math.log(2) if base is None else self.bits_of_base
        self.metrics = {m.name: m for m in metrics if m.by_row or detailed}
        if of_groups:  # clusters are of the whole
            self.metrics = {n: m for n, m in self.metrics.items() if not m.needs_clusters}
        self.places = {column[0]: i for i, column in enumerate(state.columns)}
        self.kinds = [column[3] for column in state.columns]
        self._place = {m.name: self.places[column_name(m)] for m in metrics if m.by_row}

    def place(self, metric: Metric) -> int:
        """The column of a metric that has one, or is made of that of another."""
        if metric.name in self._place:
            return self._place[metric.name]
        return self.places[column_name(metric)]

    def kind(self, metric: Metric) -> int:
        place = self._place.get(metric.name)
        return 0 if place is None else self.kinds[place]


class Part(Mapping[str, Result]):
    """Results by metric name, of all rows or of one group."""

    def __init__(self, state: Any, layout: Layout, group: int | None = None, hold: object = None):
        self.state = state
        self.layout = layout
        self.group = group
        self._hold = hold
        # Not the results, which hold their part: in a circle they would keep all of a state.
        self._found: dict[str, Numbers] = {}
        # By column or weight kind: several metrics share them.
        self._errors: dict[int, float | None] = {}
        self._sums: dict[int, tuple[Total, Total, Total]] = {}
        self._totals: dict[int, float] = {}
        self._sizes: dict[int, tuple[int, float]] = {}
        self._confusion: Confusion | None = None

    @in_default_mode
    def __getitem__(self, name: str) -> Result:
        return Result(self.layout.metrics[name], self)

    def numbers(self, metric: Metric) -> Numbers:
        """Worked out once."""
        if metric.name not in self._found:
            self._found[metric.name] = self._numbers(metric)
        return self._found[metric.name]

    def _numbers(self, metric: Metric) -> Numbers:
        if metric.by_class:
            return Numbers(*self.by_class(metric))
        value = getattr(self, metric.statistic)(metric)
        errors: tuple[float | None, float | None] = (None, None)
        if metric.statistic in ERRORS:
            errors = getattr(self, ERRORS[metric.statistic])(metric)
        elif metric.by_row:
            scale = self.error_scale(metric, value)
            errors = (
                _scaled(self.standard_error(metric), scale),
                _scaled(self.cluster_error(metric), scale),
            )
        return Numbers(value, stderr=errors[0], clustered=errors[1])

    def __contains__(self, name: object) -> bool:
        return name in self.layout.metrics

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.metrics)

    def __len__(self) -> int:
        return len(self.layout.metrics)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {self[name]!r}" for name in self) + "}"

    def sums(self, place: int) -> tuple[Total, Total, Total]:
        """The totals S, A and B of a column."""
        if place not in self._sums:
            self._sums[place] = self.state.sums(place, self.group)
        return self._sums[place]

    def total(self, place: int) -> float:
        """S of a column, rounded."""
        if place not in self._totals:
            found = None if self.group is None else self.state.total(place, self.group)
            self._totals[place] = rounded(self.sums(place)[0]) if found is None else found
        return self._totals[place]

    def size(self, kind: int) -> tuple[int, float]:
        """Rows and their weight."""
        if kind not in self._sizes:
            count = self.state.rows(kind, self.group)
            weighted = self.state.weighted
            weight = rounded(self.state.weight(kind, self.group)[0]) if weighted else float(count)
            self._sizes[kind] = count, weight
        return self._sizes[kind]

    # --- statistics, by the name in the record -------------------------------------------------

    def mean(self, metric: Metric) -> float:
        place = self.layout.place(metric)
        kind = self.layout.kinds[place]
        total, weight = self.total(place), self.size(kind)[1]
        if math.isinf(total) or math.isinf(weight):
            sums = self.sums(place)[0], self.state.weight(kind, self.group)[0]
            if isinstance(sums[0], int) and isinstance(sums[1], int):
                # Sums of finite numbers that are none: both rounded as if they were smaller.
                total, weight = (x / (UNIT << 128) for x in sums)
        return ratio(total, weight)

    def bits(self, metric: Metric) -> float:
        mean = self.mean(metric)
        in_nats = self.layout.base is None
        return mean / math.log(2) if in_nats else mean * self.layout.bits_of_base

    def perplexity(self, metric: Metric) -> float:
        return perplexity_of(self.mean(metric), self.layout.base)

    def bits_per_byte(self, metric: Metric) -> float:
        total, count = (
            self.total(self.layout.place(metric)),
            self.total(self.layout.places["bytes"]),
        )
        return ratio(total, count) * self.layout.bits_per_unit

    def ratio_errors(self, metric: Metric) -> tuple[float | None, float | None]:
        """Of loss a byte, plain and by cluster, the bytes being as uncertain as the losses."""
        place, below = self.layout.place(metric), self.layout.places["bytes"]
        kind = self.layout.kinds[place]
        n = self.size(kind)[0]
        S, A, _ = self.sums(place)
        W, B, _ = self.sums(below)
        D = self.sums(self.layout.places["loss_less_bytes"])[1]
        plain = ratio_error(S, A, W, B, D, n)
        clustered = None
        if self.group is None and len(self.state.clusters):
            losses, counts = (self.state.cluster_sums(p) for p in (place, below))
            pairs = [(a, b) for (a, w), (b, _) in zip(losses, counts, strict=True) if w]
            clustered = cluster_error(S, W, pairs)
        unit = abs(self.layout.bits_per_unit)
        return _scaled(plain, unit), _scaled(clustered, unit)

    def _overlap(self, metric: Metric) -> Overlap:
        names = ("overlap", "probability", "target")
        places = [self.layout.places[name] for name in names]
        return Overlap(metric, *(self.sums(place)[0] for place in places))

    def tversky(self, metric: Metric) -> float:
        return self._overlap(metric).value

    def overlap_errors(self, metric: Metric) -> tuple[float | None, float | None]:
        """Plain and by cluster."""
        overlap = self._overlap(metric)
        names = ("overlap", "probability", "target", "alone_p", "alone_t", "apart")
        squares = [self.sums(self.layout.places[name])[1] for name in names]
        plain = overlap.error(squares, self.size(0)[0])
        clustered = None
        if self.group is None and len(self.state.clusters):
            sums = [self.state.cluster_sums(self.layout.places[name]) for name in names[:3]]
            parts = [
                Overlap(metric, *(total for total, _ in one)) for one in zip(*sums, strict=True)
            ]
            pairs = [(part.above, part.below) for part in parts]
            clustered = cluster_error(overlap.above, overlap.below, pairs)
        return plain, clustered

    @property
    def _shared(self) -> bool:
        return divides(self.state.weight(0, self.group)[0])

    @property
    def _table(self) -> Confusion:
        if self._confusion is None:
            self._confusion = Confusion(self.state, self.group, self.layout.classes)
        return self._confusion

    @property
    def classes(self) -> tuple[Any, ...]:
        """What classes are called."""
        names = self.layout.classes
        return tuple(self._table.names if names is None else names)

    def confusion(self, metric: Metric) -> np.ndarray:
        return self._table.table()

    def by_class(self, metric: Metric) -> Ratios:
        if metric.statistic == "ece_classwise":
            count, bins = len(self.classes), len(self.state.bin_sums(self.group))
            items, (W, W2) = self.state.item_sums(self.group), self.state.weight(0, self.group)
            return _classwise.errors(items, count, bins, W, W2, self.size(0)[0])
        only = dict(metric.parameters).get("class")
        return self._table.by_class(metric.statistic, None if only is None else int(only))

    def root(self, metric: Metric) -> float:
        mean = self.mean(metric)
        return math.sqrt(mean) if mean >= 0 else math.nan

    def bins(self, equal_mass: bool = False) -> tuple[list[float], list[Bin]]:
        """Upper bounds and sums of the bins of calibration."""
        bins = [Bin(*sums) for sums in self.state.bin_sums(self.group)]
        if equal_mass:
            cells = {_calibration.CELL_NAN: Bin(*[math.nan] * 5)}
            if self._shared:
                cells = _calibration.cells(self.state.item_sums(self.group))
            return _calibration.equal_mass(cells, len(bins))
        return [(k + 1) / len(bins) for k in range(len(bins))], bins

    def ece(self, metric: Metric) -> float:
        return _calibration.expected_error(self.bins()[1])

    def ece_equal_mass(self, metric: Metric) -> float:
        return _calibration.expected_error(self.bins(True)[1])

    def mce(self, metric: Metric) -> float:
        return _calibration.largest_error(self.bins()[1])

    def calibration_errors(self, metric: Metric) -> tuple[float | None, float | None]:
        """Of the mean of ±(correctness − confidence), the sign being that of the bin's gap."""
        bins = self.bins(metric.statistic == "ece_equal_mass")[1]
        total, cross = _calibration.with_signs(bins)
        places = self.layout.places
        binary = "probability" in places
        names = ("probability", "target") if binary else ("confidence", "accuracy")
        parts = [self.sums(places[name])[1] for name in names]
        parts.append(self.sums(places["overlap" if binary else "sure_hits"])[2])
        squares: Total = math.nan
        if all(isinstance(x, int) for x in parts):
            squares = parts[0] + parts[1] - 2 * parts[2]
        W, W2 = self.state.weight(0, self.group)
        return standard_error(total, squares, cross, W, W2, self.size(0)[0]), None

    def sequence_mean(self, metric: Metric) -> float:
        return self._sequences(metric)[0]

    def sequence_errors(self, metric: Metric) -> tuple[float | None, float | None]:
        error = self._sequences(metric)[1]
        return error, error

    def _sequences(self, metric: Metric) -> tuple[float, float | None]:
        return mean_of_means(self.state.cluster_sums(self.layout.place(metric)))

    def label_entropy(self, metric: Metric) -> float:
        if not self._shared:
            return math.nan
        if "target" in self.layout.places:  # binary: the target is the weight of label 1
            total = self.sums(self.layout.places["target"])[0]
            if not isinstance(total, int):
                return math.nan
            weights = [total, self.state.weight(0, self.group)[0] - total]
        elif self.layout.paired:
            weights = self._table.labels
        else:
            weights = list(self.state.label_counts(self.group).values())
        return frequency_entropy(weights) / self.layout.log_base

    def skill(self, metric: Metric) -> float:
        entropy = self.label_entropy(metric)
        loss = self.mean(metric)
        if entropy == 0:  # one label only: nothing to explain
            return -math.inf if loss > 0 else math.nan
        return 1.0 - loss / entropy

    # --- errors and quantiles -------------------------------------------------------------------

    def error_scale(self, metric: Metric, value: float) -> float:
        """Derivative of the statistic by the mean."""
        if metric.statistic == "perplexity":
            return value * abs(self.layout.log_base)
        if metric.statistic == "root":
            return ratio(0.5, value)
        return abs(self.layout.bits_of_base) if metric.statistic == "bits" else 1.0

    def standard_error(self, metric: Metric) -> float | None:
        """Of the column's mean."""
        place = self.layout.place(metric)
        if place not in self._errors:
            self._errors[place] = self._standard_error(place)
        return self._errors[place]

    def _standard_error(self, place: int) -> float | None:
        kind = self.layout.kinds[place]
        n = self.size(kind)[0]
        if self.state.weighted:
            W, W2 = self.state.weight(kind, self.group)
            return standard_error(*self.sums(place), W, W2, n)
        found: float | None = None
        if self.group is not None:
            found = self.state.unit_error(place, self.group)
        if found is None:
            S, A, _ = self.sums(place)
            found = unit_error(S, A, n)
        return found

    def cluster_error(self, metric: Metric) -> float | None:
        if self.group is not None or not len(self.state.clusters):
            return None
        place = self.layout.place(metric)
        weight = self.state.weight(self.layout.kinds[place], self.group)[0]
        return cluster_error(self.sums(place)[0], weight, self.state.cluster_sums(place))

    @in_default_mode
    def quantile(self, metric: Metric, q: float) -> float:
        place = self.layout.place(metric)
        least, largest = self.state.extremes(place, self.group)
        if least > largest:  # no rows
            return math.nan
        scale = self.layout.bits_of_base if metric.statistic == "bits" else 1.0
        q = 1.0 - q if scale < 0 else q
        if q in (0.0, 1.0):
            return (largest if q else least) * scale
        if not self._shared:
            return math.nan
        counts = self.state.histogram(place, self.group)
        return weighted_quantile(counts, q, least, largest) * scale


def column_name(metric: Metric) -> str:
    """Name of the state's column behind a metric."""
    return metric.name if metric.threshold else metric.column
