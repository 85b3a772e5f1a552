"""What a reader is shown: tables, counts, yardsticks and the JSON document, number by number."""

import io
import json
import math
import sys
from types import SimpleNamespace

import pytest

from fastent.report import document, table

METRICS = {
    "cross_entropy": {"value": 1.23456789012, "stderr": 0.0123456, "cluster_stderr": 0.5,
                      "quantiles": {"50 %": 0.123456, "99 %": "inf"}},
    "ece": {"value": "nan", "stderr": None},
}  # fmt: skip


def test_metrics_have_eight_digits_and_their_errors_three():
    assert table.metric_rows(METRICS) == (
        ["metric", "value", "std. error", "cluster std. error"],
        [["cross_entropy", "1.2345679", "0.0123", "0.5"], ["ece", "nan", "", ""]],
    )
    alone = {"ece": METRICS["ece"]}
    assert table.metric_rows(alone) == (["metric", "value", "std. error"], [["ece", "nan", ""]])


def test_quantiles_have_four_digits():
    head, rows = table.quantile_rows(METRICS)
    assert (head, rows) == (["metric", "50 %", "99 %"], [["cross_entropy", "0.1235", "inf"]])
    assert table.quantile_rows({"ece": METRICS["ece"]}) == ([], [])


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
    head, rows = table.group_rows({"metrics": names, "groups": found})
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
metric             value  std. error  cluster std. error
cross_entropy  1.2345679      0.0123                 0.5
ece                  nan

distribution over rows
metric           50 %  99 %
cross_entropy  0.1235   inf

3 groups
group   rows  cross_entropy  ece
2      2,000            inf
1      1,000              9
0          0             10

rows of highest loss
file          row  cross_entropy
a\\x1b[0m.npy    7            inf
b.npy           0            2.5

10 rows
"""


def words(text):
    return [line.split() for line in text.splitlines() if line.strip(" ─━")]


def test_the_terminal_shows_it_with_and_without_rich(monkeypatch, capsys):
    stream = io.StringIO()
    table.show(FOUND, stream)
    assert words(stream.getvalue()) == words(PLAIN)
    for name in ("rich", "rich.box", "rich.console", "rich.table", "rich.text"):
        monkeypatch.setitem(sys.modules, name, None)
    table.show(FOUND)
    assert capsys.readouterr().out == PLAIN


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
    title, head, rows = page.yardsticks(0.5, 1.25, 1000)
    assert title == "Yardsticks"
    assert head == ["prediction", "cross-entropy (nats)", "perplexity"]
    assert rows == [
        ["these predictions", "0.5", "1.6487213"],
        ["base rates", "1.25", "3.490343"],
        ["uniform over 1,000 classes", "6.9077553", "1,000"],
        ["skill over the base rates", "0.6", ""],
    ]
    assert [row[0] for row in page.yardsticks(0.5, None, 2)[2]] == [
        "these predictions", "uniform over 2 classes",
    ]  # fmt: skip
    assert len(page.yardsticks(0.5, 0.0, 2)[2]) == 3  # one label only: there is no skill
    assert page.yardsticks(800.0, None, 2)[2][0] == ["these predictions", "800", "inf"]
