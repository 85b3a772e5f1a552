"""Divergences of one's own at native speed: a scalar function of (p, q), compiled by Numba."""

from __future__ import annotations

import functools
import inspect
import linecache
import os
import re
import sys
from collections.abc import Callable
from typing import Any, Unpack, overload

from numpy.typing import ArrayLike

from fastent._errors import as_number, shown
from fastent._fork import bring
from fastent._keywords import (
    Array,
    Each,
    Kinds,
    NatsKeywords,
    Reduced,
    Reduction,
    RowSums,
    explained,
)
from fastent._reductions import log_of_base
from fastent.backends.cython.engine import prepare
from fastent.backends.cython.float_mode import in_default_mode


@overload
def divergence(
    fn: Callable[..., float], *, finish: Callable[..., float] | None = None, nats: bool = False
) -> Divergence: ...


@overload
def divergence(
    fn: None = None, *, finish: Callable[..., float] | None = None, nats: bool = False
) -> Callable[[Callable[..., float]], Divergence]: ...


def divergence(
    fn: Callable[..., float] | None = None,
    *,
    finish: Callable[..., float] | None = None,
    nats: bool = False,
) -> Any:
    """Make a function over rows of Σ fn(p, q): a decorator, with or without arguments.

    Parameters
    ----------
    fn : callable
        A plain function of two numbers, p and q, the normalised probabilities of one class, that
        Numba can compile. Parameters after them are numbers, given by keyword in each call.
        Classes with p = q = 0 add nothing and are not asked about.
    finish : callable, optional
        A function of the sum (and the same further parameters) that gives the row's value.
    nats : bool
        Whether `base` applies.

    Returns
    -------
    Divergence
        Called with (p, q) and the keywords of `kl_divergence` except `eps` and `backend`. It is
        compiled when first called.

    Raises
    ------
    TypeError
        If `fn` does not take two numbers, or, when first called, if it cannot be compiled.

    Examples
    --------
    >>> import fastent as fe
    >>> @fe.divergence
    ... def squares(p, q):
    ...     return (p - q) ** 2
    >>> float(squares([0.75, 0.25], [0.25, 0.75]))
    0.5
    >>> squares([[1, 0], [0, 2]], [[1, 0], [3, 1]], row_sums="rescale").tolist()
    [0.0, 1.125]
    """
    if fn is None:
        return functools.partial(divergence, finish=finish, nats=nats)
    return Divergence(fn, finish=finish, nats=nats)


KEYWORDS = ("reduction", *NatsKeywords.__annotations__)


def signature_of(parameters: list[inspect.Parameter]) -> inspect.Signature:
    """Of a divergence that takes these numbers after p and q."""
    known = inspect.signature(RowDivergence.__call__).parameters.values()
    fixed = [p for p in known if p.name != "self" and p.kind != p.VAR_KEYWORD]
    numbers = [p.replace(kind=p.KEYWORD_ONLY) for p in parameters]
    return inspect.Signature([*fixed[:2], *numbers, *fixed[2:]])


class RowDivergence:
    """What all divergences have: how they are called, their parameters and their name.

    Called with (p, q); also a metric of `fastent.Accumulator`, by itself or as
    ``functools.partial(divergence, parameter=number)``.
    """

    ready = False  # whether its name says what it is

    def __init__(self, name: str, parameters: list[inspect.Parameter], nats: bool):
        self.name, self.nats, self._parameters = name, nats, parameters
        self.__signature__ = signature_of(parameters)

    def __repr__(self) -> str:
        return f"<divergence {self.name}>"

    @overload
    def __call__(
        self,
        p: ArrayLike,
        q: ArrayLike,
        *,
        reduction: Each = "none",
        kind: Kinds = "probs",
        row_sums: RowSums = "check",
        temperature: float = 1.0,
        sample_weight: ArrayLike | None = None,
        base: float | None = None,
        axis: int | None = -1,
        keepdims: bool = False,
        out: Array | None = None,
        num_threads: int | None = None,
        **parameters: float,
    ) -> Array: ...

    @overload
    def __call__(
        self,
        p: ArrayLike,
        q: ArrayLike,
        *,
        reduction: Reduced,
        kind: Kinds = "probs",
        row_sums: RowSums = "check",
        temperature: float = 1.0,
        sample_weight: ArrayLike | None = None,
        base: float | None = None,
        axis: int | None = -1,
        keepdims: bool = False,
        out: Array | None = None,
        num_threads: int | None = None,
        **parameters: float,
    ) -> float: ...

    @overload
    def __call__(
        self,
        p: ArrayLike,
        q: ArrayLike,
        *,
        reduction: Reduction,
        kind: Kinds = "probs",
        row_sums: RowSums = "check",
        temperature: float = 1.0,
        sample_weight: ArrayLike | None = None,
        base: float | None = None,
        axis: int | None = -1,
        keepdims: bool = False,
        out: Array | None = None,
        num_threads: int | None = None,
        **parameters: float,
    ) -> Array | float: ...

    @explained  # type: ignore[misc]  # further numbers are among the keywords
    @in_default_mode
    def __call__(
        self,
        p: ArrayLike,
        q: ArrayLike,
        *,
        reduction: Reduction = "none",
        **keywords: Unpack[NatsKeywords],
    ) -> Array | float:
        """The divergence of each row.

        Parameters
        ----------
        p, q : array_like, shape (..., C)
            The two distributions.
        """
        parameters: Any = keywords
        options = {name: parameters.pop(name) for name in KEYWORDS if name in parameters}
        out, keepdims = options.pop("out", None), options.pop("keepdims", False)
        if options.get("base") is not None and not self.nats:
            raise ValueError(f"base: does not apply to {self.name}, got {shown(options['base'])}")
        call = self.prepare(p, q, parameters=parameters, **options)
        return call.reduce(reduction, out, keepdims)

    def prepare(
        self,
        p: ArrayLike,
        q: ArrayLike,
        *,
        parameters: dict[str, float],
        base: float | None = None,
        task: str = "divergence",
        **options: Any,
    ) -> Any:
        """The engine's call, which gives the row values; `base` matters to what is in nats."""
        column, own = self._made(self._numbers(dict(parameters)), base)
        return prepare(task, (column,), p, q, **own, **options)

    def _made(self, numbers: tuple[float, ...], base: float | None) -> tuple[str, dict[str, Any]]:
        """The column of the engine that it is, and the engine's options for it."""
        raise NotImplementedError

    def _numbers(self, given: dict[str, float]) -> tuple[float, ...]:
        """The further parameters, in their order."""
        numbers = []
        for parameter in self._parameters:
            number = given.pop(parameter.name, parameter.default)
            if number is parameter.empty:
                raise TypeError(f"{self.name}: expected a number for {parameter.name}")
            numbers.append(as_number(number, parameter.name))
        if given:
            raise TypeError(f"{self.name}: unexpected keyword {next(iter(given))!r}")
        return tuple(numbers)

    def same_as(self, other: RowDivergence) -> bool:
        """Whether both compute the same."""
        return self is other


class Divergence(RowDivergence):
    """A divergence compiled by Numba; see `divergence`. It is pickled by the name it was defined
    under.
    """

    def __init__(
        self,
        fn: Callable[..., float],
        *,
        finish: Callable[..., float] | None = None,
        nats: bool = False,
        name: str | None = None,
    ):
        fn = getattr(fn, "py_func", fn)  # of what is compiled by Numba already
        if not inspect.isfunction(fn):
            raise TypeError(f"fn: expected a function of (p, q), got {shown(fn)}")
        functools.update_wrapper(self, fn)
        name = str(name or getattr(fn, "__name__", "divergence"))
        parameters = list(inspect.signature(fn).parameters.values())
        if len(parameters) < 2 or any(
            p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters
        ):
            raise TypeError(f"{name}: expected a function of (p, q), got {name}"
                            f"{inspect.signature(fn)}")  # fmt: skip
        for parameter in parameters[2:]:
            if parameter.name in KEYWORDS:
                raise TypeError(f"{name}: {parameter.name!r} is a keyword of every divergence")
        super().__init__(name, parameters[2:], nats)
        self._functions = (fn, finish)
        self._compiled: Any = None

    def __reduce__(self) -> Any:
        home: Any = sys.modules.get(self.__module__)
        name = self.__dict__.get("__qualname__", "")  # of the function
        for part in name.split("."):
            home = getattr(home, part, None)
        if home is self:
            return name
        fn, finish = self._functions
        more: dict[str, Any] = {"finish": finish, "nats": self.nats, "name": self.name}
        return functools.partial(Divergence, fn, **more), ()

    def _made(self, numbers: tuple[float, ...], base: float | None) -> tuple[str, dict[str, Any]]:
        rows = bring("fastent.backends.numba.user_rows").Rows
        if self._compiled is None:
            self._compiled = self._compile(numbers)
        unit = log_of_base(base) if self.nats else 1.0
        module = rows(self._compiled, numbers, unit)
        return "own", {"base": base, "backend": "numba", "rows_module": module}

    def _compile(self, numbers: tuple[float, ...]) -> Any:
        from numba import njit

        fn, finish = self._functions
        compiler = njit(nogil=True, error_model="numpy")
        term = compiler(fn)
        self._tried(term, fn, (0.5, 0.25, *numbers))
        last = None
        if finish is not None:
            last = compiler(finish)
            self._tried(last, finish, (0.5, *numbers))
        return bring("fastent.backends.numba.user_rows").row_kernel(term, last)

    def same_as(self, other: RowDivergence) -> bool:
        """Whether both compute the same: the same code under the same name."""
        if not isinstance(other, Divergence):
            return False
        codes = [[getattr(fn, "__code__", fn) for fn in one._functions] for one in (self, other)]
        return self.name == other.name and codes[0] == codes[1]

    def _tried(self, compiled: Any, fn: Callable[..., float], arguments: tuple) -> None:
        """Compile it for these numbers, so that what is wrong is said in one line."""
        from numba import typeof, types

        try:
            compiled.compile(tuple(typeof(x) for x in arguments))
        except Exception as error:  # Numba's own are of many kinds
            raise TypeError(f"{self.name}: cannot be compiled: {_reason(error, fn)}") from None
        found = compiled.nopython_signatures[0].return_type
        if not isinstance(found, types.Boolean | types.Integer | types.Float):
            raise TypeError(
                f"{self.name}: expected {getattr(fn, '__name__', 'it')} to return a number, "
                f"got {found}"
            )


def as_divergence(metric: Any) -> tuple[RowDivergence, dict[str, float], str] | None:
    """(divergence, its parameters, the metric's name) of an object that is one, else None.

    Partial applications and the ready-made functions count; their parameters show in the name.
    """
    parameters: dict[str, float] = {}
    if isinstance(metric, functools.partial) and not metric.args:
        parameters, metric = metric.keywords, metric.func
    found: Any = (
        metric if isinstance(metric, RowDivergence) else getattr(metric, "divergence", None)
    )
    if not isinstance(found, RowDivergence):
        return None
    numbers = found._numbers(dict(parameters))
    shown = zip(found._parameters, numbers, strict=True)
    inside = ", ".join(f"{p.name}={number!r}" for p, number in shown if p.name in parameters)
    name = f"{found.name}({inside})" if inside else found.name
    return found, dict(parameters), name


def _reason(error: Exception, fn: Any) -> str:
    """The telling line of a Numba error, and the line of the function it is about."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Failed in", "During:", "- "))]
    reason = telling[0] if telling else type(error).__name__
    if reason.endswith("found for signature:") and len(telling) > 1:
        reason = f"no implementation of {telling[1].removeprefix('>>> ')}"
    reason = reason.split(" Raised from ")[0]
    place = re.search(r'File "([^"]*)", line (\d+)', text)
    if place:
        file, line = place[1], int(place[2])
    else:
        file, line = _mention(fn, reason)
    code = linecache.getline(file, line).strip()
    where = f" (line {line} of {os.path.basename(file)})" if file else ""
    return f"{reason}{where}{f': {code}' if code else ''}"


def _mention(fn: Any, reason: str) -> tuple[str, int]:
    """The line of a function with the name that an error quotes, or its first line."""
    code = getattr(fn, "__code__", None)
    if code is None:
        return "", 0
    lines = sorted({line for *_, line in code.co_lines() if line})
    for name in reversed(re.findall(r"'([A-Za-z_]\w*)'", reason)):
        for line in lines:
            if re.search(rf"\b{name}\b", linecache.getline(code.co_filename, line)):
                return code.co_filename, line
    return code.co_filename, lines[0]
