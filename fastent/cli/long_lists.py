"""JSON whose long lists need not be in memory: they come after the rest, in lines of some items.

The state of 100,000 groups is 80 MB of text and several times that as Python objects. Layout: a
line with the whole, where {"later": k} stands for the list number k; then for each list its items,
an array of some a line, and their number; at last a digest of all lines before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

ITEMS = 1000  # of a line, at most
LINE_BYTES = 1 << 20  # that it should have, if it has several
LATER = "later"


class LongList:
    """A list in such a file; it is read each time that it is gone through."""

    def __init__(self, path: str, offset: int, length: int) -> None:
        self._path = path
        self._offset = offset
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        with open(self._path, "rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                items = json.loads(line)
                if isinstance(items, int):
                    return
                yield from items


def written(value: Any) -> Iterator[bytes]:
    """The text of a value in which long lists are iterators, or `LongList`."""
    lists: list[Iterator[Any]] = []

    def later(found: Any) -> dict[str, int]:
        lists.append(iter(found))
        return {LATER: len(lists) - 1}

    digest = sha256()
    for line in _lines(json.dumps(value, default=later), lists):
        digest.update(line)
        yield line
    yield _line(digest.hexdigest())


def _lines(head: str, lists: list[Iterator[Any]]) -> Iterator[bytes]:
    yield f"{head}\n".encode()
    for items in lists:
        count, most = 0, 1
        while some := list(islice(items, most)):
            count += len(some)
            line = _line(some)
            yield line
            most = max(1, min(ITEMS, LINE_BYTES * len(some) // len(line)))
        yield _line(count)


def _line(value: Any) -> bytes:
    return f"{json.dumps(value)}\n".encode()


def read(path: str) -> Any:
    """The value in a file, its long lists as `LongList`; ValueError if it is damaged."""
    digest = sha256()
    lists: list[LongList] = []
    line = b""
    with open(path, "rb") as stream:
        head = stream.readline()
        digest.update(head)
        start = offset = len(head)  # of the list at hand
        for line in stream:
            if line.startswith(b'"'):
                break
            digest.update(line)
            offset += len(line)
            if not line.startswith(b"["):
                length = int(line)
                if not 0 <= length <= offset - start:
                    raise ValueError("not as it was written")
                lists.append(LongList(path, start, length))
                start = offset
    if start != offset or line != _line(digest.hexdigest()):
        raise ValueError("not as it was written")

    def filled(found: dict[str, Any]) -> Any:
        return lists[found[LATER]] if found.keys() == {LATER} else found

    return json.loads(head, object_hook=filled)


def sha256() -> Any:
    import hashlib  # 3 ms that most runs do not need

    return hashlib.sha256()
