"""Numbers for reading: as many digits as their errors allow."""

from __future__ import annotations

import math
from decimal import Decimal

PLACES = 6  # of a number whose error is not known


def digits(value: float | None, places: int = PLACES) -> str:
    """A number for reading; the full one is in the JSON document."""
    return "" if value is None else f"{value:.{places}g}"


def with_error(value: float | None, error: float | None) -> str:
    """``0.4321 ± 0.0012``: the error in two digits, and the value as far as they go."""
    if value is None:
        return ""
    if error is None or not math.isfinite(value) or not math.isfinite(error) or error <= 0:
        return digits(value)
    # The error decides the last place; 0.0996 is 0.10 in two digits.
    last = Decimal(f"{error:.1e}").adjusted() - 1
    first = Decimal(repr(float(value))).adjusted() if value else last
    top = max(first, last + 1)
    if -5 <= top < 6:
        shown, kept, places = error, value, max(0, -last)
        if last > 0:
            shown, kept = round(error, -last), round(value, -last)
        return f"{kept:.{places}f} ± {shown:.{places}f}"
    scaled, spread = (Decimal(repr(float(x))).scaleb(-top) for x in (value, error))
    return f"({scaled:.{top - last}f} ± {spread:.{top - last}f})e{top:+03d}"


def interval(low: float, high: float) -> tuple[str, str]:
    """Ends of an interval, with the digits that its width allows."""
    error = (high - low) / 4
    if not math.isfinite(error) or error <= 0:
        return digits(low, 4), digits(high, 4)
    last = Decimal(f"{error:.1e}").adjusted() - 1
    if not -8 <= last <= 0 or max(abs(low), abs(high)) >= 1e6:
        return digits(low, 4), digits(high, 4)
    return f"{low:.{-last}f}", f"{high:.{-last}f}"
