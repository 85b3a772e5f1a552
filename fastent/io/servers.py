"""Lists of likely tokens as inference servers write them: a response a line.

vllm    ``prompt_logprobs``: for each position a dictionary by id, with ranks
sglang  ``meta_info.input_top_logprobs`` (or ``output_top_logprobs``): [[logprob, id, text], …]
openai  ``choices[].logprobs``: `content` of chats, or `top_logprobs` of completions; by text, so
        that a table of the tokens' texts is needed, unless texts are ``token_id:7``

Lines of batches, which have the response under ``response.body``, are taken like others.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastent.io.csv_layout import open_bytes
from fastent.io.errors import InputError, reading
from fastent.io.source import Buffer, Forward

SERVERS = ("vllm", "sglang", "openai")
Entry = tuple[int, float, bool]  # id, logprob, whether it is one of the largest
TOKEN_ID = re.compile(r"token_id:(\d+)")  # what vLLM's return_tokens_as_token_ids gives as text
STEP = 1 << 20
MINUS_INFINITY = -9999.0  # what stands for it in chats


def row_dtype(width: int) -> np.dtype:
    """Of the rows, for lists of so many entries."""
    shape = (width,)
    return np.dtype([("ids", "<i8", shape), ("logprobs", "<f8", shape), ("within", "u1", shape)])


class ServerRows(Forward):
    """Rows of the responses of a server, in order; they are counted by reading them once.

    ``tokens`` is the path of the table of tokens.
    """

    def __init__(self, path: str, server: str, tokens: str | None) -> None:
        self._server = server
        self._texts = None if tokens is None else read_tokens(tokens)
        count, width = 0, 1
        super().__init__(path, path, 0, None, row_dtype(1))
        for entries in self._from_the_first():
            count, width = count + 1, max(width, len(entries))
        super().__init__(path, path, count, None, row_dtype(width))

    @property
    def dtype_name(self) -> str:
        return f"lists of {self.dtype['ids'].shape[0]}"

    def read(self, start: int, stop: int, buffer: Buffer) -> np.ndarray:
        found = buffer.array((stop - start,), self.dtype)
        found["ids"], found["logprobs"], found["within"] = -1, 0.0, 0
        for row, entries in zip(found, self._items(start, stop), strict=True):
            if entries is None or len(entries) > len(row["ids"]):
                raise InputError(f"{self.path}: the file has changed while it was read")
            if entries:
                ids, logprobs, within = zip(*entries, strict=True)
                row["ids"][: len(ids)] = ids
                row["logprobs"][: len(ids)] = logprobs
                row["within"][: len(ids)] = within
        return found

    def _from_the_first(self) -> Iterator[list[Entry]]:
        """The lists of all positions that have one."""
        of_line = {"vllm": _vllm, "sglang": _sglang, "openai": self._openai}[self._server]
        for number, response in _responses(self.path):
            where = f"{self.path}: line {number}"
            try:
                if isinstance(response, dict) and isinstance(response.get("response"), dict):
                    response = response["response"].get("body", response)  # of a batch
                yield from of_line(response)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                what = f"no {error}" if isinstance(error, KeyError) else str(error)
                raise InputError(f"{where}: not as {self._server} writes it ({what})") from None

    def _openai(self, response: Any) -> Iterator[list[Entry]]:
        for choice in response["choices"]:
            logprobs = choice["logprobs"]
            if logprobs.get("content") is not None:
                for item in logprobs["content"]:
                    yield self._of_chat(item)
            else:
                for texts in _after_null(logprobs["top_logprobs"]):
                    # By text: several tokens may share one, so that none bounds those left out.
                    yield [(self._id(t, None), _number(a), False) for t, a in texts.items()]

    def _of_chat(self, item: dict[str, Any]) -> list[Entry]:
        entries = [
            (self._id(top["token"], top.get("bytes")), _number(top["logprob"]), True)
            for top in item["top_logprobs"]
        ]
        own = self._id(item["token"], item.get("bytes"))
        if own not in {id for id, _, _ in entries}:
            entries.append((own, _number(item["logprob"]), False))
        return entries

    def _id(self, text: str, given: Any) -> int:
        if number := TOKEN_ID.fullmatch(text):
            return int(number[1])
        if self._texts is None:
            raise InputError(
                f"{self.path}: tokens are told by text: --token-table says which ids these are"
            )
        found = self._texts.get(bytes(given)) if given else None
        found = self._texts.get(text.encode()) if found is None else found
        if found is None:
            raise ValueError(f"token {text!r} is not in the table of tokens")
        if found < 0:
            raise ValueError(f"token {text!r} is the text of several in the table of tokens")
        return found


def _responses(path: str) -> Iterator[tuple[int, Any]]:
    """Lines with their numbers; a file that is one document is one."""
    with reading(path), open_bytes(path) as stream:
        first = True
        for number, line in enumerate(io.BufferedReader(stream, STEP), 1):
            if not line.strip():
                continue
            try:
                found = _parsed(line, path, number)
            except InputError:
                if not first:
                    raise
                with open_bytes(path) as whole:
                    yield number, _parsed(whole.read(), path, number)
                return
            first = False
            yield number, found


def _parsed(text: bytes, path: str, number: int) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise InputError(f"{path}: line {number} is no JSON") from None


def _after_null(positions: list[Any]) -> list[Any]:
    """Positions that have a list: the first one of a prompt is predicted by nothing."""
    if not isinstance(positions, list):
        raise TypeError(f"expected a list of positions, got {type(positions).__name__}")
    found = positions[1:] if positions and positions[0] is None else positions
    for number, one in enumerate(found):
        if one is None:
            raise ValueError(f"null at position {number + len(positions) - len(found)}")
    return found


def _number(given: Any) -> float:
    if given is None or isinstance(given, bool):
        raise TypeError(f"expected a log-probability, got {given}")
    return -math.inf if float(given) <= MINUS_INFINITY else float(given)


def _vllm(response: Any) -> Iterator[list[Entry]]:
    if isinstance(response, list):
        prompts = [response]
    elif response.get("prompt_logprobs") is not None:
        prompts = [response["prompt_logprobs"]]
    else:
        prompts = [choice["prompt_logprobs"] for choice in response["choices"]]
    for positions in prompts:
        for position in _after_null(positions):
            ranks = {entry["rank"] for entry in position.values() if entry.get("rank")}
            last = 0
            while last + 1 in ranks:
                last += 1
            yield [
                (int(id), _number(entry["logprob"]), (entry.get("rank") or last + 1) <= last)
                for id, entry in position.items()
            ]


def _sglang(response: Any) -> Iterator[list[Entry]]:
    found = response.get("meta_info", response)
    positions = found.get("input_top_logprobs") or found.get("output_top_logprobs")
    if positions is None:
        raise KeyError("input_top_logprobs")
    for position in _after_null(positions):
        yield [(int(entry[1]), _number(entry[0]), True) for entry in position]


def read_tokens(path: str) -> dict[bytes, int]:
    """Ids by text: of a JSON list of texts, a JSON dictionary of ids, or a text a line; −1 where
    several tokens share one."""
    with reading(path), open(path, encoding="utf-8", newline="\n") as stream:
        text = stream.read()
    try:
        given = json.loads(text)
    except ValueError:
        given = text.removesuffix("\n").split("\n")
    if isinstance(given, dict):
        given = given.get("model", {}).get("vocab", given) if "model" in given else given
        pairs = list(given.items())
    else:
        pairs = [(one, number) for number, one in enumerate(given)]
    found: dict[bytes, int] = {}
    for one, number in pairs:
        if not isinstance(one, str) or type(number) is not int or number < 0:
            raise InputError(f"{path}: expected texts with their ids, got {one!r:.40}")
        key = one.encode()
        found[key] = -1 if key in found else number
    return found
