"""The examples in README and docs give what they print, and the links lead somewhere."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    "README.md",
    "docs/dataframes.md",
    "docs/divergences.md",
    "docs/drop-ins.md",
    "docs/language-models.md",
    "docs/migrating.md",
    "docs/scaling.md",
]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_examples_give_what_they_print(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    names = {}
    tried = 0
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        test = doctest.DocTestParser().get_doctest(block, names, name, name, 0)
        result = doctest.DocTestRunner().run(test, clear_globs=False)
        assert not result.failed
        tried += result.attempted
        names = test.globs
    assert tried


@pytest.mark.parametrize("document", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]),
                         ids=lambda path: path.name)  # fmt: skip
def test_links_lead_to_files(document):
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (document.parent / target).exists(), target
