"""Divergences of one's own at native speed: a scalar function of (p, q), compiled by Numba."""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from fastent.backends.cython.engine import prepare


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


class Divergence:
    """A compiled divergence; see `divergence`."""

    def __init__(
        self,
        fn: Callable[..., float],
        *,
        finish: Callable[..., float] | None = None,
        side: Callable[..., float] | None = None,
        nats: bool = False,
        name: str | None = None,
    ):
        if not callable(fn):
            raise TypeError(f"fn: expected a function of (p, q), got {fn!r}")
        functools.update_wrapper(self, fn)
        self._name = name or getattr(fn, "__name__", "divergence")
        parameters = list(inspect.signature(fn).parameters.values())
        if len(parameters) < 2 or any(
            p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters
        ):
            raise TypeError(f"{self._name}: expected a function of (p, q), got {self._name}"
                            f"{inspect.signature(fn)}")  # fmt: skip
        self._parameters = parameters[2:]
        self._functions = (fn, side, finish)
        self._nats = nats
        self._compiled: Any = None

    def __repr__(self) -> str:
        return f"<divergence {self._name}>"

    def __call__(
        self,
        p: ArrayLike,
        q: ArrayLike,
        *,
        kind: Any = "probs",
        row_sums: str = "check",
        temperature: float = 1.0,
        sample_weight: ArrayLike | None = None,
        reduction: str = "none",
        base: float | None = None,
        axis: int = -1,
        out: Any = None,
        num_threads: int | None = None,
        **parameters: float,
    ) -> Any:
        """The divergence of each row; see :mod:`fastent.functions` for the keywords."""
        if base is not None and not self._nats:
            raise ValueError(f"base: does not apply to {self._name}, got {base!r}")
        numbers = self._numbers(parameters)
        from fastent.backends.numba.user_rows import Rows

        if self._compiled is None:
            self._compiled = self._compile(numbers)
        unit = 1.0 if base is None or base <= 0 else math.log(base)
        call = prepare(
            "divergence",
            (self._name,),
            p,
            q,
            kind=kind,
            row_sums=row_sums,
            temperature=temperature,
            sample_weight=sample_weight,
            base=base,
            axis=axis,
            num_threads=num_threads,
            backend="numba",
            rows_module=Rows(self._compiled, numbers, unit),
        )
        return call.reduce(reduction, out)

    def _numbers(self, given: dict[str, float]) -> tuple[float, ...]:
        """The further parameters, in the order of the function."""
        numbers = []
        for parameter in self._parameters:
            number = given.pop(parameter.name, parameter.default)
            if number is parameter.empty:
                raise TypeError(f"{self._name}: expected a number for {parameter.name}")
            try:
                numbers.append(float(number))
            except (TypeError, ValueError):
                raise TypeError(f"{parameter.name}: expected a number, got {number!r}") from None
        if given:
            raise TypeError(f"{self._name}: unexpected keyword {next(iter(given))!r}")
        return tuple(numbers)

    def _compile(self, numbers: tuple[float, ...]) -> Any:
        from numba import njit

        from fastent.backends.numba.user_rows import row_kernel

        fn, side, finish = self._functions
        compiler = njit(nogil=True, error_model="numpy")
        term = compiler(fn)
        self._tried(term, fn, (0.5, 0.25, *numbers))

        @compiler
        def nothing(p, q, *numbers):
            return 0.0

        if finish is None:

            @compiler
            def last(total, side, *numbers):
                return total

        elif side is None:
            ending = compiler(finish)
            self._tried(ending, finish, (0.5, *numbers))

            @compiler
            def last(total, side, *numbers):
                return ending(total, *numbers)

        else:
            last = compiler(finish)
        return row_kernel(term, nothing if side is None else compiler(side), last, len(numbers))

    def _tried(self, compiled: Any, fn: Callable[..., float], arguments: tuple) -> None:
        """Compile and call it once, so that what is wrong is said in one line."""
        from numba.core.errors import NumbaError

        try:
            found = compiled(*arguments)
        except (NumbaError, AttributeError, TypeError) as error:
            raise TypeError(f"{self._name}: cannot be compiled: {_reason(error)}") from None
        if not isinstance(found, int | float):
            raise TypeError(
                f"{self._name}: expected {getattr(fn, '__name__', 'it')} to return a number, "
                f"got {found!r}"
            )


def _reason(error: Exception) -> str:
    """The telling line of a Numba error, and the line of the function it is about."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Failed in", "During:", "- "))]
    place = re.search(r'File "[^"]*", line (\d+)', text)
    marked = [line.split("<source elided>")[-1] for line in lines if line.startswith("return ")]
    where = f" (line {place.group(1)})" if place else ""
    code = f": {marked[0]}" if marked else ""
    return f"{telling[0] if telling else type(error).__name__}{where}{code}"
