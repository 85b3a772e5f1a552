"""The page on language models: its commands print what it shows, on the fixtures."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest

from fastent.cli import main

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "language-models.md").read_text(encoding="utf-8")
BLOCKS = [block.split("\n", 1) for block in re.findall(r"```console\n\$ (.*?)```", PAGE, re.DOTALL)]


def words_of(line):
    return re.sub(r"[\s─]+", " ", line).strip()


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
    assert main(shlex.split(command)[1:]) == 0
    printed = [words_of(line) for line in capsys.readouterr().out.splitlines()]
    for line in filter(None, map(words_of, shown.splitlines())):
        assert any(full.startswith(line) for full in printed), line


def test_all_tasks_have_a_command():
    assert {command.split()[1] for command, _ in BLOCKS} == {"compare", "paired", "score"}
