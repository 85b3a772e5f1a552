"""The one-line messages of bad input, in one place, and the keywords that are numbers or names."""

import re

import numpy as np

MOST_AXES = 64  # of NumPy's arrays

ROW_SUM, NEGATIVE, RANGE, LABEL, FRACTION, WEIGHT = 1, 2, 3, 4, 5, 6
CODES = {"row_sum": ROW_SUM, "negative": NEGATIVE, "range": RANGE}


def as_number(given, name, expected="a number"):
    """The float of a keyword, or a TypeError that names it; text is no number, nor is an array."""
    if not isinstance(given, str | bytes | bytearray) and not getattr(given, "ndim", 0):
        try:
            return float(given)
        except (TypeError, ValueError):
            pass
        except OverflowError:
            raise ValueError(f"{name}: expected {expected}, got {shown(given)}") from None
    raise TypeError(f"{name}: expected {expected}, got {shown(given)}")


def shown(given):
    """A value as messages show it: on one line that is not too long."""
    try:
        text = " ".join((array(given) if type(given) is np.ndarray else repr(given)).split())
    except ValueError:  # an integer of more digits than Python prints
        return f"{type(given).__name__} of {given.bit_length()} bits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def array(given):
    """An array as messages show it, whatever its byte order and precision."""
    return f"array({np.array2string(given, separator=', ')})"


def as_text(given):
    """Strings of other types (StrEnum, np.str_) as plain ones; what is none as it is."""
    return str.__str__(given) if isinstance(given, str) else given


def one_of(given, name, choices):
    """The plain string of a keyword that has a few values, or a ValueError."""
    found = as_text(given)
    if type(found) is str and found in choices:
        return found
    *others, last = map(repr, choices)
    raise ValueError(f"{name}: expected {', '.join(others)} or {last}, got {shown(given)}")


def as_reduction(given):
    """The reduction as a plain string."""
    return one_of(given, "reduction", ("none", "sum", "mean"))


def as_keepdims(given, reduction):
    """Whether the class axis stays, as a bool; it does in row values only."""
    if not isinstance(given, bool) and getattr(given, "dtype", None) != "bool":
        raise TypeError(f"keepdims: expected True or False, got {shown(given)}")
    if given and reduction != "none":
        raise ValueError(f"keepdims: applies to reduction 'none' only, got {reduction!r}")
    return bool(given)


def as_ignore_index(given):
    """A label that is ignored, as an int; None if there is none."""
    if given is None:
        return None
    try:
        number = None if isinstance(given, bool) else given.__index__()
    except (AttributeError, TypeError):
        number = None
    if number is None:
        raise TypeError(f"ignore_index: expected an integer, got {shown(given)}")
    if not -(2**63) < number < 2**63:
        raise ValueError(f"ignore_index: expected an integer of 64 bits, got {shown(given)}")
    return number


def whole_axis(axis):
    """An axis as an int, which arrays of NumPy may have."""
    number = None
    if not isinstance(axis, bool):
        try:
            number = axis.__index__()
        except (AttributeError, TypeError):
            pass
    if number is None:
        raise TypeError(f"axis: expected an integer, got {shown(axis)}")
    if not -MOST_AXES <= number < MOST_AXES:
        raise ValueError(
            f"axis: expected an axis of at most {MOST_AXES} dimensions, got {shown(axis)}"
        )
    return number


def place_of_axis(axis, ndim, name):
    """Where the axis is, counted from the first of an operand."""
    axis = whole_axis(axis)
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"axis: expected an axis of {name}, which has {ndim} dimensions, got {axis}"
        )
    return axis % ndim


BINARY = "; one probability a row is what the binary task takes"


def labels_shape(lead, got, full):
    """The ValueError for labels of a wrong shape, `full` being that of the predictions."""
    hint = "; one target per class is what the categorical task takes" if got == full else ""
    return ValueError(
        f"labels: expected shape {lead}, or what broadcasts with it, as pred has shape {full}, "
        f"got {got}{hint}"
    )


def operand_shape(task, name, other, wanted, got):
    """The ValueError for an operand that has not the shape of the other one."""
    hint = ""
    if task in ("binary", "categorical") and got == wanted[:-1]:
        if task == "categorical":
            hint = "; one label a row is what the sparse task takes"
        elif wanted[-1] == 1:
            hint = f"; {other}[..., 0] has it"
        else:
            hint = "; one prediction per class is what the sparse task takes"
    return ValueError(
        f"{name}: expected the shape of {other}, {wanted}, or what broadcasts with it along the "
        f"leading axes, got {got}{hint}"
    )


def bad_row(code, name, row, number, *, kind="probs", classes=0, tolerance=0.0, padded=False):
    """The ValueError for the first offending row.

    Parameters
    ----------
    code : int
        What is wrong with it.
    name : str
        The argument.
    row : int or tuple of int
        0-based; a tuple for more than one leading axis.
    number : float or int
        The offending number: a row sum, a probability, a label, a weight.
    padded : bool
        Whether a row whose sum is less than 1 has log-probabilities of −inf.
    """
    where = f"row {0 if row == () else row}"
    if code == ROW_SUM and tolerance < 0:
        text = f"expected a positive finite row sum, got {number!r} in {where}"
    elif code == ROW_SUM:
        what = "exponentials that sum to 1" if kind == "logprobs" else "rows that sum to 1"
        text = f"expected {what} within {tolerance:g}, got {number!r} in {where}"
        if padded:
            text += "; of a list of the largest classes, padded with -inf, see topk_divergence"
        else:
            text += "; see kind= for logits or log-probabilities and row_sums='rescale' for counts"
        if classes == 1:
            text += BINARY
    elif code == NEGATIVE:
        text = f"expected no negative probabilities, got {number!r} in {where}"
    elif code == RANGE and kind == "logprobs":
        text = f"expected log-probabilities of at most 0, got {number!r} in {where}"
    elif code == RANGE:
        text = f"expected numbers in [0, 1], got {number!r} in {where}"
    elif code == LABEL:
        text = f"expected classes in [0, {classes}), got {int(number)} in {where}"
        if int(number) < 0:
            text += f"; ignore_index={int(number)} leaves such rows out"
        elif classes == 1:
            text += BINARY
    elif code == FRACTION:
        text = f"expected whole numbers, got {number!r} in {where}"
    else:
        text = f"expected weights of at least 0 that are not NaN, got {number!r} in {where}"
    return ValueError(f"{name}: {text}")


def row_of(error):
    """The row that a message of `bad_row` names; −1 if it names none, or one of several axes."""
    found = re.search(r"\brow (\d+)", str(error))
    return int(found[1]) if found else -1


def with_row(error, row):
    """The same error about another row: one that was found in a part is told of the whole."""
    return type(error)(re.sub(r"\brow (\d+)", f"row {row}", str(error), count=1))


def check_numbers(right, numbers, name, expected):
    """Refuse the first number that is neither right nor NaN."""
    wrong = ~(right | np.isnan(numbers))
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name}: expected {expected}, got {float(numbers[at])!r} at {at}")
