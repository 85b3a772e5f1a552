"""What the plots of the page draw, and what the words below them say, are the run's numbers."""

import numpy as np
import pytest
import scipy.stats

pytest.importorskip("matplotlib")

import fastent as fe
from fastent.report import histogram, pictures, plots
from fastent.report.page import worst_groups

RNG = np.random.default_rng(8)


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, before they become SVG."""
    found = []
    monkeypatch.setattr(plots, "_svg", lambda figure, name: found.append(figure) or "<svg></svg>")
    return found


def bars(axes):
    """Left edges, widths and heights of each series of bars."""
    return [
        tuple(np.array([getattr(b, f"get_{what}")() for b in series])
              for what in ("x", "width", "height"))
        for series in axes.containers
    ]  # fmt: skip


def lines(axes):
    return [tuple(np.asarray(x, float) for x in line.get_data()) for line in axes.get_lines()]


BINS = plots.Bins(
    weight=np.array([0.0, 4.0, 0.0, 10.0, 2.0]),
    confidence=np.array([0.0, 1.2, 0.0, 7.0, 1.9]),
    hits=np.array([0.0, 1.0, 0.0, 9.0, 1.0]),
)


def test_reliability(figures):
    plot = plots.reliability(BINS, plots.CONFIDENCE)
    above, below = figures[0].axes
    diagonal, observed, *_ = lines(above)
    np.testing.assert_array_equal(diagonal, [[0, 1], [0, 1]])
    np.testing.assert_allclose(observed, [[0.3, 0.7, 0.95], [0.25, 0.9, 0.5]])
    said = [text.get_text() for text in above.get_legend().get_texts()]
    assert said == ["calibrated", "observed, 95 % interval"]
    ((_, _, (spread,)),) = above.containers
    for segment, hits, weight in zip(spread.get_segments(), (1, 9, 1), (4, 10, 2), strict=True):
        root = scipy.stats.binomtest(hits, weight).proportion_ci(method="wilson")
        np.testing.assert_allclose(segment[:, 1], [root.low, root.high])
    assert above.get_xlim() == (0, 1) and above.get_ylim()[0] < 0 < 1 < above.get_ylim()[1]
    ((left, width, height),) = bars(below)
    np.testing.assert_allclose(left, [0, 0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(width, 0.2)
    np.testing.assert_array_equal(height, BINS.weight)
    assert (below.get_xlabel(), below.get_ylabel()) == ("confidence", "rows")
    assert above.get_ylabel() == "observed frequency"
    assert plot.text == (
        "3 of 5 bins are used; the largest gap is in (0.80, 1.00]: "
        "predicted 0.950, observed 0.500, weight 2."
    )
    assert (plot.name, plot.title) == ("reliability", "Reliability")


def test_reliability_without_rows(figures):
    nothing = plots.Bins(*np.zeros((3, 4)))
    assert plots.reliability(nothing, plots.CONFIDENCE).text == "0 of 4 bins are used."
    assert plots.confidence(nothing, plots.CONFIDENCE).text == "No rows."


def test_confidence(figures):
    plot = plots.confidence(BINS, plots.PROBABILITY)
    (axes,) = figures[0].axes
    (left, width, hits), (_, _, misses) = bars(axes)
    np.testing.assert_allclose(left, [0, 0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(width, 0.2)
    np.testing.assert_allclose(hits, np.array([0, 1, 0, 9, 1]) / 11)
    np.testing.assert_allclose(misses, np.array([0, 3, 0, 1, 1]) / 5)
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words == ["target 1 (11 rows)", "target 0 (5 rows)"]
    assert axes.get_xlabel() == "probability of target 1" and axes.get_xlim() == (0.2, 1)
    assert plot.title == "Probability by target"
    twenty = plots.Bins(*(np.repeat(x, 4) / 4 for x in (BINS.weight, BINS.confidence, BINS.hits)))
    assert plots.confidence(twenty, plots.CONFIDENCE).text == (
        "Right: 4.5 % lie above 0.9; wrong: 10.0 % lie above 0.9."
    )


@pytest.mark.parametrize("scale", [1.0, 1000.0], ids=["near", "far"])
def test_distribution(figures, scale):
    """Wide ranges are drawn over their logarithms; nothing but zeros and infinities is left out."""
    values = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 4.0 * scale, np.inf])
    weights = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    found = histogram.Distribution(values, weights)
    marks = {"median": 2.0, "90 %": 3.0, "99 %": 1e9}
    plot = plots.distribution("losses", "Row losses", "loss", found, marks, "nats")
    (axes,) = figures[0].axes
    ((left, width, height),) = bars(axes)
    assert axes.get_xscale() == ("log" if scale > 1 else "linear")
    first = 1 if scale > 1 else 0
    assert height.sum() == weights[first:6].sum() and len(left) == 40
    # each value is in its bar, and the outer ones touch the outer values
    for value, weight in zip(values[first:6], weights[first:6], strict=True):
        inside = (left <= value) & (value < left + width)
        assert height[inside].sum() >= weight
    assert left[0] == pytest.approx(values[first], rel=1e-5, abs=1e-5)
    assert left[-1] + width[-1] == pytest.approx(4 * scale, rel=1e-5)
    steps = np.log(left + width) - np.log(left) if scale > 1 else width
    np.testing.assert_allclose(steps, steps[0])
    drawn = [(line.get_xdata()[0], line.get_label()) for line in axes.get_lines()]
    assert drawn == [(2.0, "median 2"), (3.0, "90 % 3")]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("loss (nats)", "rows")
    left_out = "; 1 of it is 0 and not drawn" if scale > 1 else ""
    low, high = ("0.5", "4e+03") if scale > 1 else ("0", "4")
    assert plot.text == (
        f"Rows of total weight 28, from {low} to {high} nats, median 2, 90 % 3, 99 % 1e+09"
        f"{left_out}; 7 of it is infinite and not drawn."
    )


def test_distribution_of_one_value_or_none(figures):
    for value in (0.0, -3.0, 5.0):
        found = histogram.Distribution(np.array([value]), np.array([2.0]))
        plots.distribution("x", "X", "x", found, {})
        ((left, width, height),) = bars(figures[-1].axes[0])
        assert left[0] < value < left[-1] + width[-1] and height.sum() == 2
        assert left[0] + left[-1] + width[-1] == pytest.approx(2 * value)
    lost = histogram.Distribution(np.array([np.inf]), np.array([2.0]))
    assert plots.distribution("x", "X", "x", lost, {}).text == (
        "Rows of total weight 2; 2 of it is infinite and not drawn."
    )
    assert [text.get_text() for text in figures[-1].axes[0].texts] == ["nothing to draw"]


def test_worst_groups_are_listed_from_the_highest(figures):
    names, values = ["a", "b  c", "d", "e"], [4.0, 3.0, 2.0, 1.0]
    plot = plots.worst_groups(names, values, [0.4, 0.3, 0.2, 0.1], 2.5)
    (axes,) = figures[0].axes
    ((line, _, (spread,)),) = axes.containers
    x, y = line.get_data()
    np.testing.assert_array_equal(x, values)
    assert list(y) == [3, 2, 1, 0]  # the highest loss is the highest line
    ends = [segment[:, 0] for segment in spread.get_segments()]
    np.testing.assert_allclose(ends, [[3.6, 4.4], [2.7, 3.3], [1.8, 2.2], [0.9, 1.1]])
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert list(axes.get_yticks()) == [3, 2, 1, 0]
    total = next(line for line in axes.get_lines() if line.get_label() == "all rows")
    assert list(total.get_xdata()) == [2.5, 2.5]
    assert plot.text == "Highest losses: a 4, b c 3, d 2, ...; all rows: 2.5 nats."
    three = plots.worst_groups(names[:3], values[:3], [0.0] * 3, 3.0)
    assert three.text == "Highest losses: a 4, b c 3, d 2; all rows: 3 nats."


def test_names_of_groups_are_three_lines_at_most(figures):
    plots.worst_groups(["word " * 40, "", "a\tb"], [3.0, 2.0, 1.0], [0.0] * 3, 2.0)
    long, empty, tab = [label.get_text() for label in figures[0].axes[0].get_yticklabels()]
    assert long.count("\n") == 2 and long.endswith(" ...")
    assert (empty, tab) == ("(empty)", "a b")


def test_what_is_drawn_are_the_rows_of_a_run():
    """Bins and row values from an accumulator, against plain NumPy on the rows."""
    labels = RNG.integers(0, 5, 600)
    logits = 3 * RNG.normal(size=(600, 5))
    weights = RNG.integers(1, 5, 600).astype(float)
    acc = fe.Accumulator(["cross_entropy", "ece"], task="sparse", kind="logits", bins=8)
    report = acc.update(labels, logits, sample_weight=weights).compute()
    q = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    sure, right = q.max(1), q.argmax(1) == labels
    place = np.ceil(sure * 8).astype(int) - 1
    found = pictures.bins(report)
    np.testing.assert_allclose(found.weight, np.bincount(place, weights, 8))
    np.testing.assert_allclose(found.confidence, np.bincount(place, weights * sure, 8))
    np.testing.assert_allclose(found.hits, np.bincount(place, weights * right, 8))
    np.testing.assert_allclose(found.edges, np.linspace(0, 1, 9))
    losses = -np.log(q[np.arange(600), labels])
    spread = histogram.row_values(report, "cross_entropy")
    assert spread.weights.sum() == pytest.approx(weights.sum())
    assert (np.diff(spread.values) > 0).all()
    for loss in np.quantile(losses, (0.1, 0.5, 0.9)):  # of relative width 0.01 are the buckets
        below = spread.weights[spread.values < loss].sum()
        assert weights[losses < loss * 0.99].sum() <= below <= weights[losses < loss * 1.01].sum()
    names = [plot.name for plot in pictures.score_plots(report, plots.CONFIDENCE)]
    assert names == ["reliability", "cross_entropy", "confidence"]


def test_a_nan_spoils_the_bins_and_not_the_losses():
    acc = fe.Accumulator(["cross_entropy", "ece"], task="sparse", kind="logits")
    report = acc.update([0, 1, 1], [[0.0, 1], [np.nan, 0], [2, 0]]).compute()
    assert pictures.bins(report) is None
    spread = histogram.row_values(report, "cross_entropy")
    assert len(spread.values) == 2 and np.isfinite(spread.values).all()
    assert [plot.name for plot in pictures.score_plots(report, plots.CONFIDENCE)] == [
        "cross_entropy"
    ]


class Groups(dict):
    def highest_losses(self, count):
        return list(self.items())[:count]


def test_worst_groups_of_a_document(monkeypatch):
    result = fe.Accumulator(["cross_entropy"], task="sparse", kind="logits")
    one = result.update([0], [[0.0, 1.0]]).compute()["cross_entropy"]
    two = result.update([1], [[0.0, 1.0]]).compute()["cross_entropy"]
    given = []
    monkeypatch.setattr(plots, "worst_groups", lambda *words: given.append(words) or "plot")
    assert worst_groups({"groups": {}}, 1.0) is None
    assert worst_groups({"groups": Groups()}, 1.0) is None
    assert worst_groups({"groups": Groups(a=one, b=two)}, 1.5) == "plot"
    # of a single row there is no error
    assert given == [(["a", "b"], [one.value, two.value], [0.0, two.stderr], 1.5, "nats")]
