"""Building says at once what is missing, undoes what breaks numbers, and builds nothing twice."""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(
    os.name != "posix" or not (ROOT / "setup.py").exists(), reason="needs the source, and a shell"
)
CC = (os.environ.get("CC") or sysconfig.get_config_var("CC")).split()

# setup.py with some of its modules only
BUILD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("recipe", "setup.py")
recipe = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recipe)
wanted = sys.argv[1].split(",")
recipe.setup(
    name="part",
    ext_modules=[e for e in recipe.modules() if e.name in wanted],
    cmdclass={"build_ext": recipe.BuildModules},
    py_modules=[],
    script_args=["-q", "build_ext", "--build-lib", sys.argv[2]],
)
"""

# A compiler that writes down what it is asked for
RECORDER = """#!/bin/sh
printf '%s ' "$@" >> {log}
echo >> {log}
exec {cc} "$@"
"""


@pytest.fixture
def compiler(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from build_support import compiler

    return compiler


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    spec = importlib.util.spec_from_file_location("recipe", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Clone:
    """A copy of the sources, without anything built, and a compiler whose commands are seen."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("setup.py", "build_support", "fastent"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
        for built in (folder / "fastent").rglob("*.so"):
            built.unlink()
        self.log = folder / "commands"
        self.cc = folder / "recorder"
        self.cc.write_text(RECORDER.format(log=self.log, cc=shlex.join(CC)), encoding="utf-8")
        self.cc.chmod(0o755)

    def build(self, *modules, lib="lib", **environment):
        self.log.write_text("", encoding="utf-8")
        run = subprocess.run(
            [sys.executable, "-c", BUILD, ",".join(modules), lib],
            cwd=self.folder,
            env={**os.environ, "CC": str(self.cc), "LDSHARED": f"{self.cc} -shared"} | environment,
            capture_output=True,
            text=True,
        )
        run.commands = self.log.read_text(encoding="utf-8").splitlines()
        run.compiled = [c for c in run.commands if " -c " in c or "-shared " in c]
        return run


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path)


SMALL = "fastent.backends.cython.float_mode"
FLUSHES = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("float_mode", sys.argv[1])
importlib.util.module_from_spec(spec)
print(5e-324 * float(sys.argv[2]))
"""


@pytest.mark.slow
def test_options_that_break_numbers_are_undone(clone):
    run = clone.build(
        SMALL,
        CFLAGS="-Ofast -funsafe-math-optimizations -DKEPT=1",
        LDFLAGS="-ffast-math",
        CC=f"{clone.cc} -ffinite-math-only",
    )
    assert run.returncode == 0, run.stderr
    assert len(run.compiled) == 2 and all("-DKEPT=1" in c for c in run.compiled)
    for word in ("-Ofast", "fast-math", "-funsafe", "-ffinite"):
        assert not any(word in command for command in run.commands), word
    note = next(s for s in run.stderr.splitlines() if s.startswith("fastent: built without"))
    assert all(word in note for word in ("-Ofast", "-ffast-math", "-funsafe", "-ffinite"))
    module = next((clone.folder / "lib").rglob("float_mode*.so"))
    shown = subprocess.run([sys.executable, "-c", FLUSHES, str(module), "1"],
                           capture_output=True, text=True)  # fmt: skip
    assert shown.stdout.strip() == "5e-324", shown.stderr


@pytest.mark.slow
def test_a_second_build_compiles_nothing(clone):
    small, other = SMALL, "fastent.io.mapping"
    assert len(clone.build(small, other).compiled) == 4
    # as after pip: another folder for the result, and everything newer than what was built
    for path in (clone.folder / "fastent").rglob("*.*"):
        path.touch()
    again = clone.build(small, other, lib="second")
    assert again.returncode == 0 and again.compiled == []
    first, second = (
        sorted((p.name, p.read_bytes()) for p in (clone.folder / lib).rglob("*.so"))
        for lib in ("lib", "second")
    )
    assert first == second and len(first) == 2
    # a header counts by its content, and only where it is included, also through another
    header = clone.folder / "fastent/io/guard.h"
    header.write_text(header.read_text(encoding="utf-8") + "/* changed */\n", encoding="utf-8")
    compiled = clone.build(small, other).compiled
    assert len(compiled) == 2 and all("mapping" in command for command in compiled)
    assert clone.build(small, other).compiled == []
    # and so do the options
    assert len(clone.build(small, CFLAGS="-DOTHER=1").compiled) == 2


@pytest.mark.slow
def test_a_source_that_changed_is_translated_again(clone):
    clone.build(SMALL)
    source = clone.folder / "fastent/backends/cython/float_mode.pyx"
    source.write_text(source.read_text(encoding="utf-8") + "\nadded = 1\n", encoding="utf-8")
    os.utime(source, (time.time() + 5, time.time() + 5))
    assert len(clone.build(SMALL).compiled) == 2


def test_what_was_translated_by_other_tools_or_cut_short_does_not_pass_for_whole(
    monkeypatch, tmp_path
):
    monkeypatch.syspath_prepend(ROOT)
    from build_support.cache import Stamp

    made = tmp_path / "a.c"
    made.touch()

    def stamp(tools, sources):
        return Stamp(tmp_path / "stamp", tools, sources)

    assert not stamp("A", "1").holds([made]) and not stamp("A", "1").same_tools()
    stamp("A", "1").set()
    assert stamp("A", "1").holds([made]) and not stamp("A", "1").holds([tmp_path / "b.c"])
    assert not stamp("A", "2").holds([made]) and stamp("A", "2").same_tools()
    stamp("A", "2").unset()
    assert not stamp("A", "1").holds([made]) and stamp("A", "1").same_tools()
    stamp("A", "1").set()
    assert not stamp("B", "1").same_tools()
    stamp("B", "1").unset()
    assert not stamp("A", "1").same_tools()


def test_the_oldest_modules_are_forgotten_when_all_are_built(monkeypatch, tmp_path):
    """While they are built, by threads, none goes that another one looks at."""
    monkeypatch.syspath_prepend(ROOT)
    from build_support import cache

    monkeypatch.setattr(cache, "ROOM", 2)
    folder, made = tmp_path / "modules", tmp_path / "a.so"
    made.write_bytes(b"module")
    kept = cache.Modules(folder)
    kept.forget_oldest()  # of none
    for age, key in enumerate("abcd"):
        kept.keep(key, made)
        os.utime(folder / key, (1e9 - age, 1e9 - age))
    assert all(kept.fetch(key, tmp_path / "b.so") for key in "dcba")
    os.utime(folder / "b", (1e9, 1e9))
    os.utime(folder / "d", (1e9, 1e9))
    kept.forget_oldest()
    assert sorted(path.name for path in folder.iterdir()) == ["a", "c"]


def test_no_python_headers_is_said(compiler, tmp_path):
    with pytest.raises(
        compiler.UnusableError, match=r"^no Python\.h in .*install .*-dev"
    ) as caught:
        compiler.check(CC, [str(tmp_path)])
    assert "\n" not in str(caught.value)


def test_no_compiler_is_said_before_anything_is_translated(clone):
    run = clone.build(SMALL, CC="no-such-compiler -O2")
    assert run.returncode == 1 and not (clone.folder / "build").exists()
    last = run.stderr.splitlines()[-1]
    assert "no C compiler 'no-such-compiler'" in last and "apt install gcc" in last


def test_a_compiler_without_the_headers_of_c_is_said(compiler):
    with pytest.raises(compiler.UnusableError, match=r"finds no stdlib\.h: install"):
        compiler.check([*CC, "-nostdinc"], [sysconfig.get_path("include")])


def test_the_target_counts_and_not_this_machine(recipe, compiler):
    for macros, levels in [
        ({"__GNUC__": "12", "__x86_64__": "1"}, ["v2", "v3", "v4"]),
        ({"__GNUC__": "10", "__x86_64__": "1"}, ["v2", "v3"]),
        ({"__GNUC__": "4", "__clang_major__": "14", "__x86_64__": "1"}, ["v2", "v3", "v4"]),
        ({"__GNUC__": "4", "__clang_major__": "11", "__x86_64__": "1"}, ["v2", "v3"]),
        ({"__GNUC__": "12", "__aarch64__": "1"}, ["base"]),
    ]:
        assert recipe.levels_for(compiler.judge(macros)) == levels
    with pytest.raises(compiler.UnusableError, match="gcc 8 is too old: needed is gcc 9"):
        compiler.judge({"__GNUC__": "8", "__x86_64__": "1"})


@pytest.mark.slow
def test_an_older_compiler_builds_without_avx512_and_says_so(clone):
    """One that says it is gcc 10 and refuses the names of levels, as that one does."""
    clone.cc.write_text(
        clone.cc.read_text(encoding="utf-8").replace(
            "exec",
            'case " $* " in *" -march=x86-64-v"*) echo bad -march >&2; exit 1;; esac\n'
            f'case " $* " in *" -dM "*) {shlex.join(CC)} "$@" | sed "s/__GNUC__ .*/__GNUC__ 10/"; '
            "exit 0;; esac\nexec",
        ),
        encoding="utf-8",
    )
    kernel = "fastent.backends.cython.elementwise.terms"
    run = clone.build("fastent.backends.cython.levels", *(f"{kernel}_v{i}" for i in (2, 3, 4)))
    assert run.returncode == 0, run.stderr
    assert "built without AVX-512: gcc 10" in run.stderr
    built = {path.name.split(".")[0] for path in (clone.folder / "lib").rglob("*.so")}
    assert built == {"levels", "terms_v2", "terms_v3"}
    levels = next((clone.folder / "lib").rglob("levels.*.so"))
    shown = subprocess.run(
        [sys.executable, "-c", "import importlib.util as u, sys\n"
         "spec = u.spec_from_file_location('fastent.backends.cython.levels', sys.argv[1])\n"
         "module = u.module_from_spec(spec); spec.loader.exec_module(module)\n"
         "print(module.LEVELS)", str(levels)],
        capture_output=True, text=True)  # fmt: skip
    assert "v4" not in shown.stdout and "v2" in shown.stdout, shown.stderr
