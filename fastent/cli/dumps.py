"""What dumps of llama.cpp say themselves, so that the command need not: their kind, labels and
clusters."""

from __future__ import annotations

import argparse

from fastent.cli.arguments import UsageError
from fastent.io import Reference, Source
from fastent.io.llama import COLUMNS, DumpColumn, DumpRows, Header, check_same_text, is_dump

NO_KIND = "the following arguments are required: --kind"


def settle(
    options: argparse.Namespace, p: list[Reference], q: list[Reference] | None = None
) -> None:
    """Fill in what was not said, where the files say it; refuse what they contradict."""
    dumped = [_all_dumps(options, part) for part in (p, q) if part is not None]
    if options.task == "logprob":
        if any(dumped):
            raise UsageError(f"{p[0].path}: a dump has many numbers a row, --task logprob one")
        if options.kind not in (None, "logprobs"):
            raise UsageError(f"--kind {options.kind}: --task logprob takes logprobs")
        options.kind = "logprobs"
        return
    options.kind = settled_kind(options, dumped, [p, q or p])
    if dumped[0]:
        options.clusters = options.clusters or [[":chunk"]]
        if options.task != "binary":
            options.labels = options.labels or [[":token"]]
        if options.rows or options.worst:
            options.keep = (*(c for c in COLUMNS if c not in options.keep), *options.keep)


def _all_dumps(options: argparse.Namespace, references: list[Reference]) -> bool:
    """Whether files are dumps: all or none, as one kind speaks for them."""
    if options.format is not None:
        return False
    found = [is_dump(reference.path) for reference in references]
    if any(found) and not all(found):
        other = references[found.index(False)].path
        raise UsageError(f"{other}: no dump, expected one as {references[found.index(True)].path}")
    return all(found)


def settled_kind(
    options: argparse.Namespace, dumped: list[bool], references: list[list[Reference]]
) -> str | tuple[str, str]:
    """The kind, or the pair of kinds, of the operands; dumps hold log-probabilities."""
    given: str | tuple[str, str] | None = options.kind
    if given is None and not all(dumped):
        raise UsageError(NO_KIND)
    if not any(dumped):
        assert given is not None
        return given
    if isinstance(given, tuple):
        kinds = given if len(dumped) == 2 else given[-1:]
        for kind, one, files in zip(kinds, dumped, references, strict=False):
            if one and kind != "logprobs":
                raise UsageError(
                    f"--kind {kind}: {files[0].path} is a dump of log-probabilities, "
                    "expected logprobs"
                )
        return given
    if all(dumped):
        if given not in (None, "logprobs"):
            raise UsageError(
                f"--kind {given}: {references[0][0].path} is a dump of log-probabilities, expected "
                "logprobs"
            )
        return "logprobs"
    assert given is not None
    first, second = ("logprobs" if one else given for one in dumped)
    return first, second


def check_texts(opened: list[dict[str, Source]]) -> None:
    """Two dumps side by side are of the same text."""
    for found in opened:
        p, q = found["predictions"], found["other"]
        if isinstance(p, DumpRows) and isinstance(q, DumpRows):
            check_same_text(p.header, q.header)


def number_chunks(opened: list[dict[str, Source]]) -> None:
    """Chunks of different files are different clusters."""
    first = 0
    for found in opened:
        chunks = found.get("clusters")
        if isinstance(chunks, DumpColumn) and chunks.column == "chunk":
            chunks.first_chunk = first
            first += chunks.header.n_chunk


def keep_whole_chunks(opened: list[dict[str, Source]]) -> list[dict[str, str]]:
    """Where a dump was cut off, take no more rows of what stands beside it; tells which files."""
    told = []
    for found in opened:
        cut: dict[str, Header] = {
            s.header.path: s.header
            for s in found.values()
            if isinstance(s, DumpRows | DumpColumn) and s.header.cut
        }
        for path, header in cut.items():
            told.append({"file": path, "error": f"{header.cut}, which were taken"})
        if cut:
            header = next(iter(cut.values()))
            lengths = {header.n_chunk * header.chunk_rows, *(h.rows for h in cut.values())}
            for source in found.values():
                if source.rows in lengths:
                    source.rows = min(h.rows for h in cut.values())
    return told
