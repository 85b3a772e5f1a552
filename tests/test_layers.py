"""Imports go down: a folder of the core takes only what it says, nothing goes in a circle."""

import re
import tomllib
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = "fastent.backends.cython"
FOLDERS = sorted(path.parent.name for path in (ROOT / CORE.replace(".", "/")).glob("*/__init__.py"))
LINE = re.compile(
    r"^[ ]*(?:from (\S+) c?import (\([^)]*\)|[^\n#]*)|c?import (fastent\S*))", re.MULTILINE
)


def sources():
    """Texts of all modules by name; a .pxd belongs to the module of its name."""
    found = {}
    for path in ROOT.glob("fastent/**/*"):
        if path.suffix in (".py", ".pyx", ".pxd"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name] = found.get(name, "") + path.read_text(encoding="utf-8") + "\n"
    return found


SOURCES = sources()


def imported(name):
    """The modules that one takes anything from, inside functions too."""
    found = set()
    for base, names, whole in LINE.findall(SOURCES[name]):
        if base.startswith("."):
            base = f"{name.rpartition('.')[0]}{base}".rstrip(".")
        parts = [part.split()[0] for part in names.strip("() ").split(",") if part.strip()]
        for target in [whole] if whole else [f"{base}.{part}" for part in parts]:
            for known in (target, f"{target}.__init__", base, f"{base}.__init__"):
                if known in SOURCES:
                    found.add(known)
                    break
    return found - {name}


def layer(name):
    """Folder of a module of the core, or the module itself at its root; None elsewhere."""
    return name[len(CORE) + 1 :].split(".")[0] if name.startswith(f"{CORE}.") else None


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_what_it_says(folder):
    promise = SOURCES[f"{CORE}.{folder}.__init__"].partition("May import:")[2]
    allowed = set(re.findall(r"\w+", promise.split(".")[0])) | {folder}
    modules = [name for name in SOURCES if layer(name) == folder]
    assert len(modules) > 1
    for name in modules:
        taken = {layer(other) for other in imported(name)} - {None}
        assert taken <= allowed, f"{name} takes from {taken - allowed}"


@pytest.mark.parametrize("folder", ["io", "report", "backends"])
def test_what_serves_the_command_does_not_know_it(folder):
    for name in SOURCES:
        if name.startswith(f"fastent.{folder}."):
            taken = {other for other in imported(name) if other.startswith("fastent.cli")}
            assert not taken, f"{name} takes from {taken}"


def test_no_import_in_a_circle():
    try:
        TopologicalSorter({name: imported(name) for name in SOURCES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_file_of_python_has_tests_of_its_subject():
    """Mutants meet the tests that are named there."""
    subjects = tomllib.loads((ROOT / "scripts/subjects.toml").read_text())["subjects"]
    for path in ROOT.glob("fastent/**/*.py"):
        name = path.relative_to(ROOT).as_posix()
        assert any(fnmatch(name, pattern) for pattern in subjects), f"{name}: no tests named"
    for file in {file for files in subjects.values() for file in files}:
        assert (ROOT / f"tests/test_{file}.py").exists(), file


@pytest.mark.skipif(not SOURCES, reason="needs the source")
def test_files_that_are_named_are_there():
    """In the pages by their names in backticks, in the core wherever a kernel is named."""
    folders = ("fastent", "tests", "bench", "docs", "scripts", "build_support")
    there = {path.name for folder in folders for path in (ROOT / folder).rglob("*.*")}
    pages, core = r"`([\w./]+\.(?:pyx|pxd|h|py))`", r"(?<![\w.])([\w/]+\.(?:pyx|pxd))\b"
    texts = dict.fromkeys([*ROOT.glob("docs/*.md"), ROOT / "CONTRIBUTING.md"], pages)
    texts |= dict.fromkeys(ROOT.glob("fastent/**/*.p[xy][xd]"), core)
    for path, pattern in texts.items():
        for name in re.findall(pattern, path.read_text(encoding="utf-8")):
            assert name.rpartition("/")[2] in there | {"setup.py"}, f"{path.name} names {name}"
