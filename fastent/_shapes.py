"""What the shape of a weight, a group or a cluster says; for functions, streams and Dask alike."""

from __future__ import annotations

from collections.abc import Iterable

Shape = tuple[int, ...]


def broadcast_shape(shapes: Iterable[Shape]) -> Shape:
    """What shapes broadcast to, of as many axes as arrays have; `np.broadcast_shapes` takes 32."""
    common: list[int] = []
    for shape in shapes:
        common[:0] = [1] * (len(shape) - len(common))
        for k in range(-len(shape), 0):
            if common[k] == 1:
                common[k] = shape[k]
            elif shape[k] not in (1, common[k]):
                raise ValueError(f"shapes {tuple(common)} and {shape} do not broadcast")
    return tuple(common)


def weighs_terms(
    shape: Shape, lead: Shape, full: Shape | None = None, name: str = "sample_weight"
) -> bool:
    """Whether it goes with the terms of the rows, and not with the rows, which it broadcasts to.

    Its number of axes decides, never its sizes: a square batch means what any other means.

    Parameters
    ----------
    shape : tuple of int
        Of the weights; NaN for a length that is not known yet.
    lead : tuple of int
        The leading shape of the predictions.
    full : tuple of int, optional
        Their whole shape, where terms have weights.
    """
    if full is not None and len(shape) == len(full):
        if all(_fits(have, want, False) for have, want in zip(shape, full, strict=True)):
            return True
    elif len(shape) <= len(lead) and all(
        _fits(have, want, True) for have, want in zip(shape[::-1], lead[::-1], strict=False)
    ):
        return False
    wanted = f"{lead}" if full is None else f"{lead} or {full}"
    raise ValueError(f"{name}: expected shape {wanted}, got {shape}")


def common_lead(first: Shape, second: Shape) -> Shape | None:
    """The leading shape that two of them broadcast to, as NumPy's do; None if they do not."""
    if len(first) < len(second):
        first, second = second, first
    over = len(first) - len(second)
    found = list(first)
    for k, (one, other) in enumerate(zip(first[over:], second, strict=True)):
        if not (_fits(one, other, True) or one == 1 or other == 1):
            return None
        found[over + k] = other if one == 1 else one
    return tuple(found)


def full_shape(lead: Shape, length: int, axis: int | None, ndim: int) -> Shape:
    """A leading shape with a class axis of this length; without `axis` all `ndim` axes are it."""
    if axis is None:
        return (length,) * ndim
    place = axis if axis >= 0 else axis + len(lead) + 1
    return (*lead[:place], length, *lead[place:])


def lead_of_labels(labels: Shape, lead: Shape, full: Shape) -> Shape | None:
    """The leading shape of labels and predictions of this shape; None if they do not fit.

    Labels of the whole shape are one target per class, which is another task, also where there are
    as many rows as classes.
    """
    return None if labels == full else lead_of_elements(labels, lead)


def lead_of_elements(true: Shape, pred: Shape) -> Shape | None:
    """The leading shape where an element is a row; None if they do not fit.

    (N, 1) beside (N,) is a column by mistake, and not meant as the table of all pairs.
    """
    if true == (*pred, 1) or pred == (*true, 1):
        return None
    return common_lead(true, pred)


def _fits(have: int, want: int, broadcasts: bool) -> bool:
    unknown = have != have or want != want
    return have == want or unknown or (broadcasts and have == 1)
