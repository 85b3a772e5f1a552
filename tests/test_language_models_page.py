"""The page on language models: its commands print what it shows, on the fixtures."""

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from fastent import llama
from fastent.cli import main

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "language-models.md").read_text(encoding="utf-8")
BLOCKS = [block.split("\n", 1) for block in re.findall(r"```console\n\$ (.*?)```", PAGE, re.DOTALL)]


def words_of(line):
    return re.sub(r"[\s─]+", " ", line).strip()


def write_lists_and_heads():
    """The 20 likeliest tokens of A, and hidden states and heads whose products are the logits."""
    logits = {name: np.load(f"llama/even-{name}-logits.npy").astype(float) for name in "AB"}
    logprobs = logits["A"] - np.logaddexp.reduce(logits["A"], axis=1)[:, None]
    ids = np.argsort(-logprobs, axis=1)[:, :20]
    listed = np.take_along_axis(logprobs, ids, 1).astype(np.float32)
    np.savez("top20.npz", ids=ids, logprobs=listed)
    for name, z in logits.items():
        left, sizes, right = np.linalg.svd(z, full_matrices=False)
        np.save(f"hidden-{name}.npy", left * sizes)
        np.save(f"head-{name}.npy", np.ascontiguousarray(right.T))
    np.save("labels.npy", llama.open("llama/even-A.bin").labels)


@pytest.mark.parametrize(("command", "shown"), BLOCKS, ids=[c.split()[1] for c, _ in BLOCKS])
def test_a_command_prints_what_the_page_shows(command, shown, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # else the tables are as wide as the terminal
    for name in ("llama", "lm_eval"):
        Path(name).symlink_to(ROOT / "tests" / "fixtures" / name)
    log = next(Path("lm_eval/A").glob("samples_mini_rolling*"))
    with open("logprobs.csv", "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["logprob", "bytes"])
        for line in log.read_text().splitlines():
            table.writerow(json.loads(line)["bits_per_byte"])
    write_lists_and_heads()
    assert main(shlex.split(command)[1:]) == 0
    printed = [words_of(line) for line in capsys.readouterr().out.splitlines()]
    for line in filter(None, map(words_of, shown.splitlines())):
        assert any(full.startswith(line) for full in printed), line


def test_all_tasks_have_a_command():
    assert {command.split()[1] for command, _ in BLOCKS} == {"compare", "paired", "score"}
