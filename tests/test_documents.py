"""The examples in README and docs give what they print, and the links lead somewhere."""

import doctest
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GENERATED = ROOT / "docs/reference"  # by building the site, which checks links to it
WRITTEN = [p for p in sorted(ROOT.glob("docs/**/*.md")) if GENERATED not in p.parents]
PAGES = [ROOT / "README.md", *WRITTEN]
TUTORIALS = ROOT / "docs/tutorials"


def named(path):
    return path.relative_to(ROOT).as_posix()


def blocks(path, fence):
    """Fenced blocks of one kind, without the indentation that a list gives them."""
    text = path.read_text(encoding="utf-8")
    return [
        textwrap.dedent(indent + block)
        for indent, block in re.findall(rf"^( *)```{fence}\n(.*?)^ *```", text, re.DOTALL | re.M)
    ]


def holding(fence, prompt):
    return [p for p in PAGES if any(prompt in block for block in blocks(p, fence))]


@pytest.mark.parametrize("document", holding("python", ">>> "), ids=named)
def test_examples_give_what_they_print(document):
    name = named(document)
    names = {}
    tried = 0
    for block in blocks(document, "python"):
        test = doctest.DocTestParser().get_doctest(block, names, name, name, 0)
        result = doctest.DocTestRunner().run(test, clear_globs=False)
        assert not result.failed
        tried += result.attempted
        names = test.globs
    assert tried


@pytest.mark.slow
@pytest.mark.parametrize(
    "document", [p for p in holding("console", "$ ") if p.parent == TUTORIALS], ids=named
)
def test_commands_of_tutorials_run(document, tmp_path):
    commands = [
        line.removeprefix("$ ")
        for block in blocks(document, "console")
        for line in block.splitlines()
    ]
    for command in commands:
        name, *arguments = shlex.split(command)
        assert name == "fastent", command
        run = subprocess.run([sys.executable, "-m", name, *arguments], cwd=tmp_path,
                             capture_output=True, text=True)  # fmt: skip
        assert run.returncode == 0 and run.stdout, (command, run.stderr)


@pytest.mark.parametrize("document", sorted({*PAGES, *ROOT.glob("*.md")}), ids=named)
def test_links_lead_to_files(document):
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        path = document.parent / target
        assert path.exists() or path.parent == GENERATED, target
