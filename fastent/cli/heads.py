"""Options of heads: whose they are, and that what they make is logits."""

from __future__ import annotations

import argparse
import re
from typing import Any

from fastent.cli.arguments import UsageError
from fastent.io import Reference, expand
from fastent.io.reading import Head

ROLES = ("predictions", "other")
PARTS = ("head", "norm", "softcap", "scale")


def heads_of(options: argparse.Namespace, *sides: str) -> dict[str, Head | None]:
    """The head of each role: that of its side, or the one that is said of both."""
    return {role: _head(options, side) for role, side in zip(ROLES, sides, strict=False)}


def _head(options: argparse.Namespace, side: str) -> Head | None:
    found: dict[str, Any] = {}
    for name in PARTS:
        own = getattr(options, f"{name}{side}".replace("-", "_"), None)
        found[name] = getattr(options, name, None) if own is None else own
    if found["head"] is None:
        for name in PARTS[1:]:
            if found[name] is not None:
                raise UsageError(f"--{name}{side}: needs --head{side}")
        return None
    norm, eps = None, 1e-6
    if found["norm"] is not None:
        path, number = re.fullmatch(r"(.*?)(?:,([^,/\\]+))?", found["norm"]).groups()  # type: ignore[union-attr]
        norm = _file(f"--norm{side}", path)
        if number is not None:
            try:
                eps = float(number)
            except ValueError:
                eps = -1.0
            if not eps >= 0:
                raise UsageError(f"--norm{side}: expected FILE or FILE,EPS, got {found['norm']!r}")
    cap = found["softcap"]
    if cap is not None and not cap > 0:
        raise UsageError(f"--softcap{side}: expected a number above 0, got {cap}")
    scale = 1.0 if found["scale"] is None else found["scale"]
    return Head(_file(f"--head{side}", found["head"]), norm, eps, cap, scale)


def _file(option: str, word: str) -> Reference:
    files = expand([word])
    if len(files) != 1 or not files[0].path:
        raise UsageError(f"{option} {word}: expected one file")
    return files[0]


def settle_heads(options: argparse.Namespace, heads: list[Head | None]) -> None:
    """The kind: logits where there is a head."""
    if options.kind is None and all(heads):
        options.kind = "logits"
        return
    kinds = options.kind if isinstance(options.kind, tuple) else (options.kind,) * len(heads)
    for kind, head in zip(kinds, heads, strict=False):
        if head is not None and kind != "logits":
            raise UsageError(f"--kind {kind}: a head makes logits, expected logits")
