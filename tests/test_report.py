"""What a reader is shown: tables, counts, yardsticks and the JSON document, number by number."""

import io
import json
import math
from types import SimpleNamespace

import pytest

from fastent.report import document, table
from fastent.report.numbers import interval, with_error
from fastent.report.verdict import verdict

METRICS = {
    "cross_entropy": {"value": 1.23456789012, "stderr": 0.0123456, "cluster_stderr": 0.5,
                      "quantiles": {"50 %": 0.123456, "99 %": "inf"}},
    "ece": {"value": "nan", "stderr": None},
}  # fmt: skip


def test_metrics_have_the_digits_that_their_errors_allow():
    found = table.metric_rows(METRICS)
    assert found.head == ["metric", "value ± std. error", "cluster std. error", "unit"]
    assert found.rows == [["cross_entropy", "1.235 ± 0.012", "0.5", "nats"], ["ece", "nan", "", ""]]
    assert found.values[0] == [None, 1.23456789012, 0.5, None]  # what they are sorted by, in full
    alone = table.metric_rows({"ece": METRICS["ece"]}, base=2)
    assert (alone.head, alone.rows) == (
        ["metric", "value ± std. error", "unit"], [["ece", "nan", ""]],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (0.43211, 0.00123, "0.4321 ± 0.0012"),
        (0.4321, 0.0996, "0.43 ± 0.10"),
        (12345.6, 23.4, "12346 ± 23"),
        (123.4, 456.0, "120 ± 460"),
        (-0.5, 0.04, "-0.500 ± 0.040"),
        (0.0, 0.01, "0.000 ± 0.010"),
        (1e-20, 1e-3, "0.0000 ± 0.0010"),
        (1.2345e-12, 2.1e-14, "(1.234 ± 0.021)e-12"),
        (3e8, 1e5, "(3.0000 ± 0.0010)e+08"),
        (0.123456789, None, "0.123457"),
        (0.9, 0.0, "0.9"),
        (math.inf, 1.0, "inf"),
        (2.5, math.nan, "2.5"),
        (None, 1.0, ""),
    ],
)
def test_a_value_and_its_error(value, error, expected):
    assert with_error(value, error) == expected


def test_units():
    names = ["cross_entropy", "bits", "perplexity", "accuracy", "bits_per_byte", "none"]
    assert [table.unit_of(name) for name in names] == [
        "nats", "bits", "classes", "", "bits a byte", "",
    ]  # fmt: skip
    assert table.unit_of("entropy", 2) == "bits" and table.unit_of("entropy", 10) == "log base 10"


def test_quantiles_have_four_digits():
    found = table.quantile_rows(METRICS)
    assert found.head == ["metric", "unit", "50 %", "99 %"]
    assert found.rows == [["cross_entropy", "nats", "0.1235", "inf"]]
    assert table.quantile_rows({"ece": METRICS["ece"]}).rows == []


def groups(count):
    """Groups 0, 1, …; number i has 1000·i rows and the loss 10 − i, the last a loss of inf."""

    def part(i):
        state = SimpleNamespace(rows=lambda column, group: 1000 * i if group == i else -1)
        loss = SimpleNamespace(value=math.inf if i == count - 1 else 10.0 - i)
        return {"cross_entropy": loss}, SimpleNamespace(state=state, group=i)

    class Part(SimpleNamespace):
        def __getitem__(self, name):
            return self.metrics[name]

    parts = {}
    for i in range(count):
        metrics, about = part(i)
        parts[i] = Part(metrics=metrics, **vars(about))
    return document.Groups(
        parts, lambda name, p: {"cross_entropy": {"value": p["cross_entropy"].value}, "n": name}
    )


def test_the_largest_groups_are_shown_with_the_first_metrics():
    found = groups(25)
    names = {"cross_entropy": {}, **{f"m{i}": {} for i in range(9)}}
    shown = table.group_rows({"metrics": names, "groups": found})
    head, rows = shown.head, shown.rows
    assert shown.shown == "20 of 25 groups"
    assert head == ["group", "rows", "cross_entropy", "m0", "m1", "m2", "m3", "m4"]
    assert [row[0] for row in rows] == [str(i) for i in range(24, 4, -1)]
    assert rows[0] == ["24", "24,000", "inf", "", "", "", "", ""]
    assert rows[1][:3] == ["23", "23,000", "-13"]


def test_groups_by_loss_and_by_rows():
    found = groups(5)
    assert [name for name, _ in found.highest_losses(3)] == ["0", "1", "2"]
    assert [loss.value for _, loss in found.highest_losses(9)] == [10, 9, 8, 7]  # inf is left out
    assert found.largest(2) == [("4", 4000), ("3", 3000)]
    assert list(found) == ["0", "1", "2", "3", "4"] and len(found) == 5
    assert found["3"] == {"cross_entropy": {"value": 7.0}, "n": 3}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "12,345 rows"),
        ({"ignored_rows": 0, "nan_rows": 0}, "12,345 rows"),
        ({"ignored_rows": 1200}, "12,345 rows, 1,200 ignored"),
        ({"ignored_rows": 1, "nan_rows": 2000}, "12,345 rows, 1 ignored, 2,000 with NaN"),
    ],
)
def test_rows_that_do_not_count_are_told(more, told):
    assert table.counts({"rows": 12345, **more}) == told


FOUND = {
    "metrics": METRICS,
    "groups": groups(3),
    "worst": [{"file": "a\x1b[0m.npy", "row": 7, "cross_entropy": "inf"},
              {"file": "b.npy", "row": 0, "cross_entropy": 2.5}],
    "rows": 10,
}  # fmt: skip
PLAIN = """\
metric         value ± std. error  cluster std. error  unit
───────────────────────────────────────────────────────────
cross_entropy       1.235 ± 0.012                 0.5  nats
ece                           nan

Distribution over rows
metric         unit    50 %  99 %
─────────────────────────────────
cross_entropy  nats  0.1235   inf

Groups
group   rows  cross_entropy  ece
────────────────────────────────
2      2,000            inf
1      1,000              9
0          0             10

Rows of highest loss
file          row  cross_entropy
────────────────────────────────
a\\x1b[0m.npy    7            inf
b.npy           0            2.5

10 rows
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_terminal_shows_it(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    stream = io.StringIO()
    table.show(FOUND, stream)
    assert stream.getvalue() == PLAIN


@pytest.mark.parametrize("columns", [80, 40, 20])
def test_no_table_is_wider_than_the_terminal(columns, monkeypatch):
    """Columns are left out and named, names are cut, numbers never."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    names = [f"metric_{k}" for k in range(6)]
    entry = {"value": 0.123456, "stderr": 0.0123}
    parts = {f"a group of a long name {k}": k for k in range(30)}
    found = document.Groups(parts, lambda *_: dict.fromkeys(names, entry))
    monkeypatch.setattr(found, "largest", lambda most: [(n, 7) for n in parts][:most])
    shown = {"metrics": dict.fromkeys(names, entry), "groups": found, "rows": 210}
    stream = Terminal()
    table.show(shown, stream)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= columns if columns > 20 else True
    assert "\x1b" not in stream.getvalue()
    text = " ".join(" ".join(lines).split())
    assert "20 of 30 groups, the others are in --json" in text
    if columns < 80:
        assert "metric_5: --json has all" in text and "…" in text
    assert sum("0.123 ± 0.012" in line for line in lines) >= (6 if columns > 20 else 0)


def test_what_a_narrow_terminal_goes_without():
    """Units are told below, outer quantiles go first; our own names are whole at 80 columns."""
    levels = ["min", "p0.1", "p1", "p50", "p90", "p99", "p99.9", "max"]
    entry = {"value": 0.8175, "stderr": 0.0064, "cluster_stderr": 0.01,
             "quantiles": dict.fromkeys(levels, 0.0001234)}  # fmt: skip
    metrics = {"cross_entropy_difference": entry, "perplexity_p": entry, "delta_p": entry}
    narrow = table.fitted(table.metric_rows(metrics), 40)
    assert narrow.head == ["metric", "value ± std. error"]
    assert narrow.rows[0] == ["cross_entropy_diffe…", "0.8175 ± 0.0064"]
    assert narrow.note == (
        "without cluster std. error: --json has all; in nats: cross_entropy_difference; in "
        "classes: perplexity_p"
    )
    wide = table.fitted(table.metric_rows(metrics), 60)
    assert wide.head == ["metric", "value ± std. error", "unit"]
    spread = table.fitted(table.quantile_rows(metrics), 80)
    assert spread.head == ["metric", "min", "p50", "p90", "p99", "max"]
    assert spread.rows[0][0] == "cross_entropy_difference"


def test_a_terminal_without_these_characters(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    table.show(FOUND, stream)
    stream.flush()
    assert b"1.235 +- 0.012" in raw.getvalue() and b"\n-----" in raw.getvalue()


def test_the_document_is_json_whatever_it_holds():
    groups_of = document.Groups(
        {"ü\ud800": 1, 5: 2}, lambda name, part: {"m": {"value": document.number(part / 3)}}
    )
    values = {"a": [1, None], "groups": groups_of, "none": document.Groups({}, lambda *_: {}),
              "text": "ü\udcff"}  # fmt: skip
    text = b"".join(document.render(values)).decode()
    back = json.loads(text)
    assert list(back) == ["a", "groups", "none", "text"]
    assert back["a"] == [1, None] and back["none"] == {} and back["text"] == "ü\udcff"
    assert back["groups"] == {"ü\ud800": {"m": {"value": 1 / 3}}, "5": {"m": {"value": 2 / 3}}}
    assert "ü" in text and text.startswith("{\n") and text.endswith("}\n")


def test_numbers_of_the_document():
    for value in (1.5, None, 0.0):
        assert (
            document.number(value) == value and document.to_float(document.number(value)) == value
        )
    assert [document.number(x) for x in (math.inf, -math.inf, math.nan)] == ["inf", "-inf", "nan"]
    assert document.to_float("-inf") == -math.inf
    metric = SimpleNamespace(value=math.inf, stderr=math.nan, count=3, weight=2.5,
                             cluster_stderr=math.inf)  # fmt: skip
    plain = {"value": "inf", "stderr": "nan", "count": 3, "weight": 2.5}
    assert document.entry(metric) == plain
    assert document.entry(metric, True) == plain | {"cluster_stderr": "inf"}


def test_yardsticks():
    page = pytest.importorskip("fastent.report.page")
    found = page.yardsticks(0.5, 1.25, 1000, 0.0123)
    assert found.title == "Yardsticks"
    assert found.titled == ["prediction", "cross-entropy (nats)", "perplexity (classes)",
                            "skill over the base rates"]  # fmt: skip
    assert found.rows == [
        ["these predictions", "0.500 ± 0.012", "1.649 ± 0.020", "0.6"],
        ["base rates", "1.25", "3.49034", "0"],
        ["uniform over 1,000 classes", "6.90776", "1,000", "-4.526"],
    ]
    assert found.values[0] == [None, 0.5, math.exp(0.5), 0.6]
    assert [row[0] for row in page.yardsticks(0.5, None, 2).rows] == [
        "these predictions", "uniform over 2 classes",
    ]  # fmt: skip
    assert len(page.yardsticks(0.5, 0.0, 2).head) == 3  # one label only: there is no skill
    assert page.yardsticks(800.0, None, 2).rows[0] == ["these predictions", "800", "inf"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.033698, 0.040721, ("0.0337", "0.0407")), (-0.00312, 0.0041, ("-0.0031", "0.0041")),
     (1.5, 1.5, ("1.5", "1.5")), (-math.inf, math.inf, ("-inf", "inf")),
     (1e-12, 3e-12, ("1e-12", "3e-12")), (12.0, 480.0, ("12", "480"))],
)  # fmt: skip
def test_intervals(low, high, expected):
    assert interval(low, high) == expected


def found_of(value, error, ends, **more):
    return {"value": value, "stderr": error, "interval": ends, **more}


def test_the_verdict_of_a_comparison():
    for value, ends, said in [
        (0.0372, [0.0337, 0.0407],
         "Q is worse than P: Q's cross-entropy is higher by 0.0372 ± 0.0018 nats a row, 95 % "
         "interval 0.0337 to 0.0407."),
        (-0.0372, [-0.0407, -0.0337],
         "Q is better than P: Q's cross-entropy is lower by 0.0372 ± 0.0018 nats a row, 95 % "
         "interval 0.0337 to 0.0407."),
        (-0.001, [-0.0045, 0.0025],
         "No difference between P and Q is seen: Q's cross-entropy is lower by 0.0010 ± 0.0018 "
         "nats a row, 95 % interval -0.0025 to 0.0045."),
    ]:  # fmt: skip
        losses = {"cross_entropy_difference": found_of(value, 0.0018, ends)}
        assert verdict(losses) == said
    one = {"cross_entropy_difference": found_of(0.5, None, None)}
    assert verdict(one) == (
        "Too few rows to tell P from Q: Q's cross-entropy is higher by 0.5 nats a row."
    )
    assert verdict({"cross_entropy_difference": found_of("nan", "nan", None)}) is None
    assert verdict({"accuracy_p": found_of(0.5, 0.1, None)}) is None
    by_cluster = {"cross_entropy_difference": found_of(
        0.5, 0.1, [0.3, 0.7], cluster_stderr=0.4, cluster_interval=[-0.3, 1.3])}  # fmt: skip
    assert verdict(by_cluster) == (
        "No difference between P and Q is seen: Q's cross-entropy is higher by 0.50 ± 0.40 nats a "
        "row, 95 % interval -0.30 to 1.30 by cluster."
    )


def test_the_verdict_without_labels():
    metrics = {"kl_divergence": found_of(0.03787, 0.00028, [0.03732, 0.03842]),
               "top1_agreement": found_of(0.8988, 0.002, [0.894, 0.903])}  # fmt: skip
    assert verdict(metrics) == (
        "KL(P ‖ Q) is 0.03787 ± 0.00028 nats a row, 95 % interval 0.03732 to 0.03842; their "
        "largest classes agree in 89.88 % of the rows."
    )
