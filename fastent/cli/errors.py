"""An error of the library about rows of a block, told of the file and the row in it."""

from __future__ import annotations

import re

import numpy as np

from fastent.io import InputError
from fastent.io.llama import as_numbers
from fastent.io.shards import Piece
from fastent.io.topk_lists import is_lists

# Which part of the input an argument of the library is.
ROLES = {
    "labels": "labels",
    "true": "labels",
    "target": "labels",
    "pred": "predictions",
    "logprobs": "predictions",
    "bytes": "bytes",
    "p": "predictions",
    "q": "other",
    "sample_weight": "weights",
    "groups": "groups",
    "clusters": "clusters",
}


# Where the first operand is lists.
OF_LISTS = {
    "ids": "predictions",
    "pred": "other",
    "pred ids": "other",
    "pred logprobs": "other",
}


def nan_error(piece: Piece, row: int) -> InputError:
    """What to say of a row whose values are NaN: the file that has the NaN, if one does."""
    sources = piece.shard.sources
    guilty = sources["predictions"]
    for role in ("predictions", "other", "labels"):
        if role in piece.arrays and _has_nan(piece.arrays[role][row : row + 1]):
            guilty = sources[role]
            break
    return InputError(
        f"{guilty.name}: row {piece.start + row} gives NaN "
        "(--nan-policy omit leaves such rows out, propagate lets them through)"
    )


def _has_nan(rows: np.ndarray) -> bool:
    if is_lists(rows):
        return bool(np.isnan(rows["logprobs"][rows["ids"] >= 0]).any())
    return bool(np.isnan(as_numbers(rows).astype(np.float64)).any())


def located(error: Exception, piece: Piece) -> Exception:
    """The same error with the file's name and row instead of the argument's and the block's."""
    if isinstance(error, InputError):
        return error
    text = str(error)
    argument, _, rest = text.partition(":")
    roles = ROLES | OF_LISTS if is_lists(piece.arrays["predictions"]) else ROLES
    source = piece.shard.sources.get(roles.get(argument.strip(), ""))
    if source is None:
        return error
    rest = re.sub(r"\brow (\d+)", lambda match: f"row {int(match[1]) + piece.start}", rest, count=1)
    rest = rest.replace("see kind= for", "see --kind for")
    rest = rest.replace("row_sums='rescale'", "--row-sums rescale")
    rest = rest.replace("cap= and ranks=", "--cap and --ranks")
    rest = rest.replace("ignore_index=", "--ignore-index ")
    rest = rest.replace("the binary task takes", "--task binary takes")
    return InputError(f"{source.name}:{rest}")
