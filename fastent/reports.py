"""Reports: results by metric and by group, as data, as frames, as pages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import fastent._version
from fastent._errors import one_of, shown
from fastent.backends.cython.float_mode import in_default_mode
from fastent.metrics import Metric
from fastent.report import calibration, document
from fastent.report.numbers import with_error
from fastent.results import Layout, Part, Result

SHOWN_GROUPS = 20
BINNED = ("ece", "mce", "ece_equal_mass")
LIBRARIES = ("pandas", "polars")


class Report(Part):
    """Results of an accumulator at one moment: ``report["accuracy"].value``.

    Attributes
    ----------
    rows : int
        Rows with positive weight.
    groups : mapping
        Reports by group name: ``report.groups["de"]["accuracy"].value``; empty in these.

    Examples
    --------
    >>> import fastent as fe
    >>> acc = fe.Accumulator(["cross_entropy", "accuracy"])
    >>> report = acc.update([0, 1], [[0.5, 0.5], [0.25, 0.75]], groups=["de", "en"]).compute()
    >>> report.groups["en"]["accuracy"].value
    1.0
    >>> report.to_dict()["metrics"]["accuracy"]
    {'value': 1.0, 'stderr': 0.0, 'count': 2, 'weight': 2.0}
    """

    def __init__(
        self,
        state: Any,
        metrics: list[Metric],
        base: float | None,
        hold: object = None,
        settings: dict[str, Any] | None = None,
        classes: Sequence[Any] | None = None,
    ):
        self._settings = settings or {}
        super().__init__(state, Layout(state, metrics, base, True, classes), None, hold)
        self.groups: Mapping[int | str, Report] = Groups(
            state, metrics, base, hold, self._settings, classes
        )

    @classmethod
    def _of_group(
        cls, state: Any, layout: Layout, group: int, hold: object, settings: dict[str, Any]
    ) -> Report:
        found = Report.__new__(Report)
        found._settings = settings
        Part.__init__(found, state, layout, group, hold)
        found.groups = {}
        return found

    def __reduce__(self) -> Any:
        name = None if self.group is None else self.state.groups.names[self.group]
        return _restored, (
            self.state, list(self.layout.given), self.layout.base, self._settings, name,
            self.layout.classes,
        )  # fmt: skip

    def __dir__(self) -> list[str]:
        return [*PUBLIC, *(name for name in super().__dir__() if name.startswith("__"))]

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def __eq__(self, other: object) -> bool:
        """Whether all numbers are equal, those of groups too; nan equals nan."""
        if not isinstance(other, Part):
            return NotImplemented
        mine, theirs = getattr(self, "groups", {}), getattr(other, "groups", {})
        return dict(self) == dict(other) and mine.keys() == theirs.keys() and all(
            mine[name] == theirs[name] for name in mine
        )  # fmt: skip

    __hash__ = None  # type: ignore[assignment]

    @property
    def rows(self) -> int:
        count: int = self.state.rows(0, self.group)
        return count

    # --- as data

    @in_default_mode
    def to_dict(self) -> dict[str, Any]:
        """The numbers as plain data.

        Returns
        -------
        dict
            ``{"metrics": {name: {"value", "stderr", "count", "weight"}}, "groups": {group: {name:
            …}}, "rows": n}``; with `cluster_stderr` where rows came in clusters. Groups are named
            by strings.
        """
        clustered = self._clustered
        return {
            "metrics": {name: self[name].to_dict(clustered) for name in self},
            "groups": {
                str(group): {name: part[name].to_dict() for name in part}
                for group, part in self.groups.items()
            },
            "rows": self.rows,
        }

    @in_default_mode
    def to_json(self) -> str:
        """The same as the command writes it: floats in full, inf and nan as strings."""
        return b"".join(document.render(self._document())).decode()

    def _document(self) -> dict[str, Any]:
        clustered = self._clustered
        return {
            "metrics": {name: document.entry(self[name], clustered) for name in self},
            "groups": document.Groups(
                self.groups, lambda _, part: {name: document.entry(part[name]) for name in part}
            ),
            "rows": self.rows,
        }

    @property
    def _clustered(self) -> bool:
        return self.group is None and len(self.state.clusters) > 0

    @in_default_mode
    def to_frame(self, library: str | None = None) -> Any:
        """A dataframe with a row for each metric, of all rows first and then of each group.

        Parameters
        ----------
        library : {"pandas", "polars"}, optional
            Whose; the first of them that is installed by default.

        Returns
        -------
        DataFrame
            Columns `group` (missing for all rows), `metric`, `value`, `stderr`, `count`, `weight`,
            and `cluster_stderr` where rows came in clusters. With metrics by class also `class`
            and `predicted`, missing where they do not apply: further rows have the values of each
            class, and the cells of the confusion table that are not 0.
        """
        columns: dict[str, list[Any]] = {"group": [], "metric": []}
        if any(m.by_class or m.needs_pairs for m in self.layout.metrics.values()):
            columns |= {"class": [], "predicted": []}
        parts: Iterator[tuple[Any, Report]] = iter([(None, self), *self.groups.items()])
        clustered = self._clustered
        names = ["value", "stderr", "count", "weight", *(["cluster_stderr"] if clustered else [])]
        columns |= {name: [] for name in names}
        for group, part in parts:
            for metric, result in part.items():
                for place, numbers in _rows(result):
                    columns["group"].append(None if group is None else str(group))
                    columns["metric"].append(metric)
                    for name in {"class", "predicted"} & columns.keys():
                        columns[name].append(None if name not in place else str(place[name]))
                    for name in names:
                        columns[name].append(numbers.get(name, getattr(result, name)))
        return _frame(columns, library)

    # --- calibration

    @in_default_mode
    def calibration(self, metric: str | None = None) -> dict[str, np.ndarray]:
        """The bins behind ece and mce, or ece_equal_mass, as columns for a dataframe.

        Parameters
        ----------
        metric : {"ece", "mce", "ece_equal_mass"}, optional
            Whose; those of the first that the report has by default.

        Returns
        -------
        dict of ndarray
            `lower` and `upper` bounds, (lower, upper], of equal mass [lower, upper), `weight`, mean
            `confidence`, observed `frequency`, and its 95 % interval `low` to `high` (Wilson's;
            weighted rows count as their effective number); nan in bins without rows.

        Raises
        ------
        ValueError
            Without such a metric in the report, or of a group of which bins are not kept.
        """
        known = [name for name in BINNED if name in self]
        if metric is not None and metric not in known:
            names = ", ".join(known) or "none here"
            raise ValueError(f"metric: expected one of {names}, got {shown(metric)}")
        found = None
        if known:
            found = calibration.table(self, (metric or known[0]) == "ece_equal_mass")
        if found is None:
            raise ValueError(
                f"calibration: needs one of {', '.join(BINNED)} among the metrics of the report"
            )
        return found

    @in_default_mode
    def plot_calibration(self, ax: Any = None, metric: str | None = None) -> Any:
        """Observed frequency against predicted, with 95 % intervals; needs matplotlib.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure's by default.
        metric : str, optional
            Whose bins, as in `calibration`.

        Returns
        -------
        matplotlib Axes
        """
        from fastent._extras import missing

        try:
            import matplotlib.figure  # noqa: F401
        except ModuleNotFoundError as error:
            raise missing(error, "matplotlib", "plot_calibration") from None
        from fastent.report import plots

        task = self._settings.get("task")
        words = plots.PROBABILITY if task == "binary" else plots.CONFIDENCE
        table = self.calibration(metric)
        return plots.in_our_style(ax, lambda axes: plots.draw_reliability(axes, table, words))

    # --- to look at

    @in_default_mode
    def to_html(self, title: str = "Report") -> str:
        """The page that ``fastent score --html`` writes, as text.

        Parameters
        ----------
        title : str
            Its heading.

        Returns
        -------
        str
            A whole page that needs nothing else. Needs the extra 'cli' (jinja2, matplotlib).
        """
        from fastent._extras import missing

        for package in ("jinja2", "matplotlib"):
            try:
                __import__(package)
            except ModuleNotFoundError as error:
                raise missing(error, package, "to_html") from None
        from fastent.report import page

        shown = {
            **self._document(),
            "inputs": [],
            "settings": self._settings,
            "version": fastent._version.version,
        }
        return page.of_report(title, self, shown).decode("utf-8", "replace")

    @in_default_mode
    def _repr_html_(self) -> str:
        """Tables for a notebook."""
        from fastent.report import notebook

        return notebook.tables(self._document(), self._settings.get("base"))

    def __repr__(self) -> str:
        lines = [
            f"{name}: {with_error(result.value, result.stderr)}"
            for name, result in self.items()
            if name != "confusion"
        ]
        if self.groups:
            lines.append(f"{len(self.groups):,} groups")
        return f"<Report of {self.rows:,} rows; " + ", ".join(lines) + ">"


PUBLIC = sorted(name for name in {*vars(Report), "keys", "values", "items", "get", "groups"}
                if not name.startswith("_"))  # fmt: skip


class Groups(Mapping["int | str", Report]):
    """Reports by group, integers in order and then strings; worked out when asked for."""

    def __init__(
        self, state: Any, metrics: list[Metric], base: float | None, hold: object,
        settings: dict[str, Any], classes: Sequence[Any] | None = None,
    ):  # fmt: skip
        self._state = state
        self._layout = Layout(state, metrics, base, state.detailed, classes, True)
        self._hold = hold
        self._settings = settings
        self._codes = {state.groups.names[code]: code for code in state.groups.ordered()}

    def __getitem__(self, name: int | str) -> Report:
        code = self._codes[name]
        return Report._of_group(self._state, self._layout, code, self._hold, self._settings)

    def __iter__(self) -> Iterator[int | str]:
        return iter(self._codes)

    def __len__(self) -> int:
        return len(self._codes)

    def _ipython_key_completions_(self) -> list[int | str]:
        return list(self)

    def __reduce__(self) -> Any:
        metrics = list(self._layout.given)
        layout = self._layout
        return Groups, (self._state, metrics, layout.base, None, self._settings, layout.classes)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {part!r}" for name, part in self.items()) + "}"


def _restored(
    state: Any, metrics: list[Metric], base: float | None, settings: dict[str, Any], group: Any,
    classes: Sequence[Any] | None = None,
) -> Report:  # fmt: skip
    report = Report(state, metrics, base, None, settings, classes)
    return report if group is None else report.groups[group]


def _rows(result: Result) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What a result gives to a dataframe: of which class, and what is not of the whole."""
    if result.classes is None:
        yield {}, {}
    elif result.metric.by_class:
        yield {}, {}
        errors = [None] * len(result.classes)
        errors = errors if result.per_class_stderr is None else result.per_class_stderr.tolist()
        values = result.per_class.tolist() if result.per_class is not None else []
        for name, value, error in zip(result.classes, values, errors, strict=True):
            yield {"class": name}, {"value": value, "stderr": error}
    else:
        for label, predicted in np.argwhere(result.value != 0).tolist():
            place = {"class": result.classes[label], "predicted": result.classes[predicted]}
            yield place, {"value": float(result.value[label, predicted])}


def _frame(columns: dict[str, list[Any]], library: str | None) -> Any:
    """A dataframe of one of the libraries."""
    if library is not None:
        library = one_of(library, "library", LIBRARIES)
    for name in LIBRARIES if library is None else (library,):
        try:
            module = __import__(name)
        except ModuleNotFoundError as error:
            if library is not None:
                from fastent._extras import missing

                raise missing(error, name, "to_frame") from None
            continue
        floats = {"value", "stderr", "weight", "cluster_stderr"}
        if name == "polars":
            schema = {n: module.Float64 if n in floats else module.Int64 if n == "count"
                      else module.String for n in columns}  # fmt: skip
            return module.DataFrame(columns, schema=schema)
        return module.DataFrame(
            {n: np.array([math.nan if x is None else x for x in column]) if n in floats else column
             for n, column in columns.items()}
        )  # fmt: skip
    raise ModuleNotFoundError("to_frame needs pandas or polars")
