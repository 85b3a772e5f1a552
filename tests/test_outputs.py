"""Outputs keep the mode of what they replace, and no one can put a file in their way."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from fastent.cli import checkpoint, main, outputs
from fastent.io import shards

ROWS, CLASSES = 60, 3
RNG = np.random.default_rng(5)
OPTIONS = {"--json": "o.json", "--html": "o.html", "--rows": "o.parquet", "--checkpoint": "o.state"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoint, "FIRST_SECONDS", 0)
    monkeypatch.setattr(checkpoint, "LONGEST_SECONDS", 0)
    monkeypatch.setattr(shards, "PIECE_ROWS", 7)
    monkeypatch.setattr(shards, "PIECES", 1)
    np.save("x.npy", RNG.normal(size=(ROWS, CLASSES)))
    np.save("y.npy", RNG.integers(0, CLASSES, ROWS))


def run(*words):
    return main(["score", "x.npy", "--labels", "y.npy", "--kind", "logits", "--quiet", *words])


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def everything():
    return [word for pair in OPTIONS.items() for word in pair]


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [0o600, 0o640, 0o755, 0o666])
def test_modes_of_what_was_there_are_kept(wanted):
    mask = os.umask(0o022)
    try:
        for name in ("o.json", "o.html", "o.parquet"):
            Path(name).write_text("before")
            os.chmod(name, wanted)
        assert run(*everything()) == 0
        assert [mode(name) for name in ("o.json", "o.html", "o.parquet")] == [wanted] * 3
        for name in ("o.json", "o.html", "o.parquet"):
            assert Path(name).read_bytes() != b"before"
            os.unlink(name)
        assert run(*everything()) == 0  # new ones: what the umask leaves
        assert [mode(name) for name in ("o.json", "o.html", "o.parquet")] == [0o644] * 3
    finally:
        os.umask(mask)


@pytest.mark.parametrize("option", OPTIONS)
def test_what_may_not_be_written_is_not_replaced(option, capsys):
    name = OPTIONS[option]
    Path(name).write_text("before")
    os.chmod(name, 0o444)
    assert run(option, name) == 2
    assert capsys.readouterr().err == f"fastent: {name}: no permission to write it\n"
    assert Path(name).read_text() == "before" and mode(name) == 0o444


def test_parts_are_never_more_open_than_their_target(monkeypatch):
    Path("o.parquet").write_text("before")
    os.chmod("o.parquet", 0o600)
    seen = set()
    create = outputs.create

    def watched(partial, path):
        stream = create(partial, path)
        seen.add((Path(path).suffix, mode(partial)))
        return stream

    monkeypatch.setattr(outputs, "create", watched)
    monkeypatch.setattr("fastent.cli.rows.create", watched)
    assert run("--rows", "o.parquet", "--checkpoint", "o.state", "--num-threads", "1") == 0
    assert (".parquet", 0o600) in seen and {m for s, m in seen if s == ".parquet"} == {0o600}


def test_a_planted_link_is_not_followed(monkeypatch):
    Path("victim").write_text("as it was")
    for name in OPTIONS.values():
        for suffix in ("partial", "part", "part0", "part1"):
            os.symlink("victim", f".{name}.{suffix}")
    assert run(*everything()) == 0
    assert Path("victim").read_text() == "as it was"
    # Nor where the random name is known.
    monkeypatch.setattr(outputs, "random_word", lambda: "known")
    monkeypatch.setattr("fastent.cli.rows.random_word", lambda: "known")
    for name in OPTIONS.values():
        for suffix in ("partial", "part0"):
            os.symlink("victim", f".{name}.known.{suffix}")
    for option, name in OPTIONS.items():
        assert run(option, name) in (0, 2)
        assert Path("victim").read_text() == "as it was"


def test_names_of_temporary_files_differ_and_are_short_enough():
    names = {outputs.partial_name("o.json") for _ in range(50)}
    assert len(names) == 50
    long = "a" * 251 + ".csv"
    assert run("--json", long) == 0 and Path(long).exists()


def test_nothing_else_is_left():
    assert run(*everything()) == 0
    assert sorted(os.listdir()) == ["o.html", "o.json", "o.parquet", "x.npy", "y.npy"]


def test_a_link_as_target_stays_a_link():
    Path("real.json").write_text("before")
    os.symlink("real.json", "o.json")
    assert run("--json", "o.json") == 0
    assert os.path.islink("o.json") and Path("real.json").read_text() != "before"
