"""From the options of a command to shards: which files, which parts, in step."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from typing import Any

from fastent._classes import IGNORED
from fastent.cli import dumps
from fastent.cli.arguments import UsageError
from fastent.cli.carried import DERIVED
from fastent.cli.heads import heads_of, settle_heads
from fastent.io import (
    InputError,
    Reading,
    Reference,
    Source,
    UnclearHeaderError,
    expand,
    is_column_name,
    open_source,
    table_rows,
)
from fastent.io.heads import HeadRows
from fastent.io.llama import is_dump
from fastent.io.names import AsText, ClassCodes, Combined, distinct, is_text
from fastent.io.references import format_of, suffix_of
from fastent.io.shards import Shards, align, nothing_left, resolve
from fastent.io.token_bytes import OfTokens, token_bytes
from fastent.io.topk_lists import SERVERS, holds_lists, open_lists

SIDES = ("labels", "groups", "clusters", "weights", "bytes")
Parts = dict[str, Reference]  # of one shard, by role


def score_shards(options: argparse.Namespace) -> Shards:
    """Predictions with their labels and sides."""
    references = _files(options.predictions)
    heads = heads_of(options, "")
    if heads["predictions"] is not None:
        settle_heads(options, list(heads.values()))
    dumps.settle(options, references)
    if options.task == "logprob":
        return _logprob_shards(options, references)
    role = "labels" if options.task == "sparse" else "targets"
    sides = _sides(options, references, role)
    if role not in sides:
        sides[role] = _labels_inside(references)
    flat = options.task == "binary"
    opened, names, left_out = _opened(options, references, sides, flat)
    coded = False
    if role == "labels":
        coded = _code_labels(opened, names, options)
        _count_token_bytes(opened, options)
    _distinct(opened)
    shards = _aligned(opened, left_out, not flat, names, coded)
    if options.task == "categorical":
        _same_classes(shards, "labels")
    return shards


def _opened(
    options: argparse.Namespace,
    references: list[Reference],
    sides: dict[str, list[Reference]],
    flat: bool,
) -> tuple[list[dict[str, Source]], tuple[str, ...] | None, list[dict[str, str]]]:
    """Shards with their files open, names of classes, and what was left out under ``skip``."""
    _add_columns(options, references, sides)
    parts = _in_step(references, sides)
    left_out: list[dict[str, str]] = []
    if options.on_error == "skip":
        parts, left_out = _usable(parts, options, flat)
    opened, names = _open(parts, options, flat)
    return opened, names, left_out + dumps.keep_whole_chunks(opened)


def _aligned(
    opened: list[dict[str, Source]],
    left_out: list[dict[str, str]],
    need_classes: bool,
    names: tuple[str, ...] | None = None,
    coded: bool = False,
) -> Shards:
    """Shards of what is open, and what is known of all of them."""
    dumps.number_chunks(opened)
    _alike(opened)
    sources = _by_role(opened)
    shards = align(sources.pop("predictions"), sources, need_classes)
    shards.left_out, shards.class_names, shards.coded = left_out, names, coded
    return shards


def _logprob_shards(options: argparse.Namespace, references: list[Reference]) -> Shards:
    """One log-probability a row; labels are of use for the bytes of tokens only."""
    sides = _sides(options, references, "labels")
    opened, _, left_out = _opened(options, references, sides, True)
    _count_token_bytes(opened, options)
    return _aligned(opened, left_out, need_classes=False)


def compare_shards(options: argparse.Namespace) -> Shards:
    """P as the predictions, Q as the other operand, labels and sides if there are any."""
    references, others = _files([options.p]), _files([options.q])
    lists = [_lists_in(options, files) for files in (references, others)]
    if any(lists):
        return _list_shards(options, references, others, lists)
    _refuse_of_lists(options)
    heads = heads_of(options, "-p", "-q")
    if any(heads.values()):
        settle_heads(options, list(heads.values()))
    dumps.settle(options, references, others)
    sides = _sides(options, references, "labels")
    if "labels" not in sides and all(is_dump(reference.path) for reference in others):
        sides["labels"] = [replace(reference, part="token") for reference in others]
    sides["other"] = others
    opened, names, left_out = _opened(options, references, sides, False)
    coded = _code_labels(opened, names, options) if "labels" in sides else False
    _count_token_bytes(opened, options)
    dumps.check_texts(opened)
    shards = _aligned(opened, left_out, True, names, coded)
    _same_classes(shards, "other")
    return shards


def _lists_in(options: argparse.Namespace, references: list[Reference]) -> str | None:
    """How files have lists of their largest classes: all or none."""
    found = [holds_lists(reference, options.format) for reference in references]
    if len(set(found)) > 1:
        odd = next(k for k, one in enumerate(found) if one != found[0])
        raise InputError(
            f"{references[odd].path}: expected what {references[0].path} is: lists of the largest "
            "classes, or none"
        )
    return found[0]


def _refuse_of_lists(options: argparse.Namespace) -> None:
    for name in ("ranks", "vocabulary", "token_table"):
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')} applies to lists of the largest classes")
    if options.cap != "smallest":
        raise UsageError("--cap applies to lists of the largest classes")
    if options.format in SERVERS:
        raise UsageError(f"--format {options.format}: expected .jsonl or .json files of responses")


def _list_shards(
    options: argparse.Namespace,
    references: list[Reference],
    others: list[Reference],
    lists: list[str | None],
) -> Shards:
    """Lists of the largest classes against rows, or against lists."""
    if lists[0] is None:
        raise InputError(f"{others[0].path}: lists of the largest classes as Q, expected them as P")
    for name in ("labels", "bytes", "token_bytes", "classes"):
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')}: does not apply to lists")
    options.task = "topk"
    if lists[1] is not None:
        if options.kind not in (None, "logprobs", ("logprobs", "logprobs")):
            raise UsageError(f"--kind {options.kind}: lists hold logprobs")
        options.kind = "logprobs"
    else:
        _settle_rows(options, references, others)
    sides = _sides(options, references, "labels")
    sides["other"] = others
    opened, _, left_out = _opened(options, references, sides, False)
    shards = _aligned(opened, left_out, need_classes=False)
    for shard in shards.items:
        other, first = shard.sources["other"], shards.items[0].sources["other"]
        if lists[1] is None and other.rows and other.classes is None:
            raise InputError(f"{other.name}: one number per row, expected one per class")
        if other.classes != first.classes:
            raise InputError(
                f"{other.name}: {other.classes} classes, expected {first.classes} as in "
                f"{first.name}"
            )
    return shards


def _settle_rows(
    options: argparse.Namespace, references: list[Reference], others: list[Reference]
) -> None:
    """The kind of the rows that lists are compared with."""
    if options.vocabulary:
        raise UsageError("--vocabulary: applies to two lists, and Q has rows")
    if isinstance(options.kind, tuple):
        if options.kind[0] != "logprobs":
            raise UsageError(f"--kind {options.kind[0]}: {references[0].path} holds logprobs")
        options.kind = options.kind[1]
    if (head := heads_of(options, "-p", "-q")["other"]) is not None:
        settle_heads(options, [head])
    of_dumps = {name: getattr(options, name) for name in ("labels", "clusters", "keep")}
    dumps.settle(options, others)
    for name, given in of_dumps.items():  # what dumps have beside their rows is Q's
        setattr(options, name, given)


def ignored_code(options: argparse.Namespace, shards: Shards) -> int | None:
    """The label that does not count, as labels are given."""
    ignored: int | str | None = options.ignore_index
    if shards.coded and ignored is not None:
        return IGNORED
    if isinstance(ignored, str):
        raise UsageError(f"--ignore-index: expected a whole number as labels are, got {ignored!r}")
    return ignored


def _in_step(predictions: list[Reference], sides: dict[str, list[Reference]]) -> list[Parts]:
    for role, found in sides.items():
        if len(found) != len(predictions):
            raise InputError(
                f"{role}: {len(found)} files, expected {len(predictions)}, one for each file of "
                "predictions"
            )
    return [
        {"predictions": main, **{role: found[number] for role, found in sides.items()}}
        for number, main in enumerate(predictions)
    ]


def _readings(options: argparse.Namespace, parts: list[Parts]) -> dict[str, Reading]:
    """How the files of each role are read."""
    kinds = options.kind if isinstance(options.kind, tuple) else (options.kind, options.kind)
    plain = Reading(
        classes=options.classes,
        header={"yes": True, "no": False, None: None}[options.header],
        separator=options.separator,
        format=None if options.format in SERVERS else options.format,
        axis=options.axis,
        whole_chunks=options.on_error == "skip",
    )

    def predicted(kind: str) -> Reading:
        checked = kind != "logits" and options.row_sums == "check"
        other = {ref.part for shard in parts for ref in shard.values() if ref.part is not None}
        own = {shard["predictions"].part for shard in parts}
        return replace(plain, kind=kind, checked=checked, other=frozenset(other - own))

    first, second = kinds if options.task == "divergence" else (kinds[1], kinds[1])
    found = {"predictions": predicted(first), "other": predicted(second)}
    if options.task == "topk":
        for role, one in found.items():
            held = holds_lists(parts[0][role], options.format)
            found[role] = replace(one, lists=held, tokens=options.token_table)
    for role, head in heads_of(options, *(("-p", "-q") if "other" in parts[0] else ("",))).items():
        if found[role].lists is None:
            found[role] = replace(found[role], head=head)
    sides = replace(plain, axis=-1, checked=found["predictions"].checked,
                    other=found["predictions"].other)  # fmt: skip
    found["targets"] = replace(sides, axis=options.axis)
    return {**found, "": sides}


def _open(
    parts: list[Parts], options: argparse.Namespace, flat: bool
) -> tuple[list[dict[str, Source]], tuple[str, ...] | None]:
    """The sources of each shard by role, and the names of the classes if they have some."""
    how = _readings(options, parts)
    opened: list[dict[str, Source]] = [{} for _ in parts]
    # Labels that are text may be what columns of predictions are called.
    for shard, found in zip(parts, opened, strict=True):
        if "labels" in shard and options.classes is None and _is_table(shard["predictions"].path):
            if _try(shard, found, "labels", how) is not None:
                rows = table_rows(shard["predictions"], how["predictions"])
                _try(shard, found, "labels", how, rows=rows)
    texts = [found["labels"] for found in opened if "labels" in found and is_text(found["labels"])]
    if texts:
        labels = frozenset(set().union(*map(distinct, texts)) - {str(options.ignore_index)})
        how["predictions"] = replace(how["predictions"], labels=labels)
    names = options.classes
    for shard, found in zip(parts, opened, strict=True):
        _open_shard(shard, found, how)
        true = found.get("labels", found.get("targets"))
        if true is not None:
            _right_task(options.task, found["predictions"], true)
        own = found["predictions"].class_names
        if names is None and own is not None:
            names = own  # and so in all other files, in whatever order their columns stand
            how = {role: replace(one, classes=names) for role, one in how.items()}
        for role, source in found.items():
            if source.classes is not None and (flat or role not in _VECTORS):
                found[role] = source.flattened()
    if names is not None and not flat:
        for found in opened:
            width = found["predictions"].classes
            if found["predictions"].rows and width is not None and width != len(names):
                raise InputError(
                    f"{found['predictions'].name}: {width} classes, expected the {len(names)} of "
                    "--classes"
                )
    return opened, names


_VECTORS = ("predictions", "other", "targets")


def _right_task(task: str, predictions: Source, labels: Source) -> None:
    """Refuse what is of another task, and name that."""
    p, t = predictions.classes, labels.classes
    if not predictions.rows or predictions.rows != labels.rows:
        return
    if task == "binary" and p is not None and p > 1 and t is None:
        raise InputError(
            f"{predictions.name}: {p} numbers a row and one target, expected one probability or "
            "logit; one per class is what --task sparse takes"
        )
    if task == "sparse" and p is not None and t is not None and p == t > 1:
        raise InputError(
            f"{labels.name}: {t} numbers a row, expected one label; one target per class is what "
            "--task categorical takes"
        )
    if task == "sparse" and p in (None, 1):
        raise InputError(
            f"{predictions.name}: one number per row, expected one per class; one probability or "
            "logit a row is what --task binary takes"
        )
    if task == "categorical" and t is None and p is not None and p > 1:
        raise InputError(
            f"{labels.name}: one number per row, expected one target per class; labels are what "
            "--task sparse takes"
        )


def _try(
    shard: Parts,
    found: dict[str, Source],
    role: str,
    how: dict[str, Reading],
    **known: Any,
) -> UnclearHeaderError | None:
    """Open a part unless its first line may be a header or not."""
    reader = "predictions" if role == "other" else role.split(" ", 1)[0]
    reading = replace(how.get(role, how[""]), **({"certain": True} | known))
    try:
        opener = open_lists if reading.lists else open_source
        found[role] = opener(shard[role], reader, reading)
        if reading.head is not None:
            found[role] = HeadRows(found[role], reading.head)
    except UnclearHeaderError as error:
        return error
    return None


def _open_shard(shard: Parts, found: dict[str, Source], how: dict[str, Reading]) -> None:
    """Open all parts; where a header is unclear, the number of rows of others tells."""
    unclear = {}
    first = "labels" if _is_table(shard["predictions"].path) else "predictions"
    for role in sorted(shard, key=lambda role: (role != first, role != "predictions")):
        if role not in found:
            try:
                unclear[role] = _try(shard, found, role, how)
            except UnclearHeaderError:
                raise
            except InputError as error:
                raise unclear.get("labels") or error from None
    waiting = [role for role, error in unclear.items() if error is not None]
    if waiting and not found:
        still = _try(shard, found, "predictions", how, certain=False)
        if still is not None:
            raise still
        waiting.remove("predictions")
    for role in waiting:
        rows = found["predictions" if "predictions" in found else next(iter(found))].rows
        _try(shard, found, role, how, rows=rows)


def _code_labels(
    opened: list[dict[str, Source]], names: tuple[str, ...] | None, options: argparse.Namespace
) -> bool:
    """Turn labels that are names of classes into their numbers; whether they were."""
    if names is None and not any(is_text(found["labels"]) for found in opened):
        return False
    for found in opened:
        if names is None and is_text(found["labels"]):
            raise InputError(
                f"{found['labels'].name}: labels are text, expected --classes with the names of "
                "the classes in the order of the predictions"
            )
        assert names is not None
        found["labels"] = ClassCodes(found["labels"], names, options.ignore_index)
    return True


def _by_role(opened: list[dict[str, Source]]) -> dict[str, list[Source]]:
    found: dict[str, list[Source]] = {}
    for shard in opened:
        groupings = [role for role in shard if role.startswith("groups")]
        if len(groupings) > 1:
            shard["groups"] = Combined([shard.pop(role) for role in groupings])
        for role, source in shard.items():
            found.setdefault("labels" if role == "targets" else role, []).append(source)
    return found


def _usable(
    parts: list[Parts], options: argparse.Namespace, flat: bool
) -> tuple[list[Parts], list[dict[str, str]]]:
    """Files that open and agree in rows with what belongs to them; the others with the reason."""
    widths: dict[int, int | None] = {}  # None where any number of classes will do
    left_out = []
    for number, shard in enumerate(parts):
        try:
            (found,), _ = _open([shard], options, flat)
            dumps.keep_whole_chunks([found])
            sources = {role: [source] for role, source in found.items()}
            (main,) = sources.pop("predictions")
            align([main], sources, need_classes=not flat and options.task != "topk")
            widths[number] = main.classes if main.rows and not flat else None
        except InputError as error:
            left_out.append({"file": shard["predictions"].name, "error": str(error)})
    if not widths:
        raise nothing_left(left_out)
    for usual, _ in Counter(filter(None, widths.values())).most_common(1):
        for number in [n for n, width in widths.items() if width not in (usual, None)]:
            name = parts[number]["predictions"].name
            why = f"{name}: {widths.pop(number)} classes, expected {usual} as in most files"
            left_out.append({"file": name, "error": why})
    return [parts[number] for number in widths], left_out


def _count_token_bytes(opened: list[dict[str, Source]], options: argparse.Namespace) -> None:
    """Bytes of each row, from a table of those of each label."""
    if not options.token_bytes:
        return
    (reference,) = _files([options.token_bytes])
    table = token_bytes(open_source(reference, "bytes"))
    for found in opened:
        if "labels" not in found:
            raise UsageError("--token-bytes needs labels")
        if "bytes" in found:
            raise UsageError("--token-bytes and --bytes both say how many bytes rows have")
        width = found["predictions"].classes
        if (
            options.task != "logprob"
            and found["predictions"].rows
            and width is not None
            and width != len(table)
        ):
            raise InputError(
                f"{reference.path}: bytes of {len(table)} tokens, expected {width} as "
                f"{found['predictions'].name} has classes"
            )
        found["bytes"] = OfTokens(found["labels"], table, reference.path)


def _same_classes(shards: Shards, role: str) -> None:
    for shard in shards.items:
        p, q = shard.main, shard.sources[role]
        if shard.rows and p.classes != q.classes:
            raise UsageError(
                f"{q.name}: {q.classes or 'no'} classes, expected {p.classes} as in {p.name}"
            )


def _files(words: list[str]) -> list[Reference]:
    for word in words:
        if word.startswith(":"):
            raise UsageError(f"{word}: expected a file before the colon")
    return expand(words)


def _sides(
    options: argparse.Namespace, predictions: list[Reference], labels: str
) -> dict[str, list[Reference]]:
    found = {}
    for name in SIDES:
        given = getattr(options, name)
        if not given:
            continue
        if name == "groups":
            found.update(_groupings(given, predictions))
            continue
        words = [word for words in given for word in words]
        found[labels if name == "labels" else name] = _side(name, words, predictions)
    return found


def _side(name: str, words: list[str], predictions: list[Reference]) -> list[Reference]:
    if name != "labels" and len(words) == 1 and is_column_name(words[0]):
        words = [":" + words[0]]
    return resolve(expand(words), predictions)


def _groupings(given: list[list[str]], predictions: list[Reference]) -> dict[str, list[Reference]]:
    """One grouping an option, unless all of them together are the files of one."""
    found = [_side("groups", words, predictions) for words in given]
    if any(len(one) != len(predictions) for one in found):
        found = [_side("groups", [word for words in given for word in words], predictions)]
    return {"groups" if k == 0 else f"groups {k + 1}": one for k, one in enumerate(found)}


def _add_columns(
    options: argparse.Namespace, predictions: list[Reference], sides: dict[str, list[Reference]]
) -> None:
    """Columns that rows carry: their ids, which are the same in every file, and those to keep."""
    if options.id is not None:
        sides["id"] = [_column(main, options.id) for main in predictions]
        for role, found in list(sides.items()):
            if role != "id" and all(_is_table(r.path) for r in found):
                if [r.path for r in found] != [r.path for r in predictions]:
                    sides[f"id of {role}"] = [_column(r, options.id) for r in found]
    for name in options.keep:
        if name in DERIVED:
            continue
        sides[f"kept {name}"] = [_column(main, name) for main in predictions]


def _column(reference: Reference, name: str) -> Reference:
    if not _is_table(reference.path) and not is_dump(reference.path):
        raise UsageError(f"{reference.path}: has no columns, expected a table with {name!r}")
    return replace(reference, part=name)


def _is_table(path: str) -> bool:
    return format_of(suffix_of(path)) not in (None, "npy", "npz", "safetensors", "torch")


def _labels_inside(predictions: list[Reference]) -> list[Reference]:
    for reference in predictions:
        if suffix_of(reference.path) == ".npy":
            raise UsageError(f"--labels is required: {reference.path} holds predictions only")
    return [replace(reference, part=None) for reference in predictions]


def _distinct(opened: list[dict[str, Source]]) -> None:
    """Labels that nobody named and that turn out to be the predictions are no labels."""
    names = {found["predictions"].name for found in opened}
    for found in opened:
        for role, source in found.items():
            if role != "predictions" and not role.startswith("kept") and source.name in names:
                raise UsageError(
                    f"{source.name}: these are the predictions, expected {role}: name their file "
                    "or column"
                )


def _alike(opened: list[dict[str, Source]]) -> None:
    """Names are text, unless all of a role are integers: 7 and "7" mean one group."""
    roles = {role for found in opened for role in found}
    for role in roles:
        if role.split(" ")[0] not in ("groups", "clusters"):
            continue
        if not all(found[role].dtype.kind in "iu" for found in opened):
            for found in opened:
                if found[role].dtype.kind not in "U":
                    found[role] = AsText(found[role])
