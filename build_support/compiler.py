"""The C compiler: whether it is there and new enough, what it compiles for, and what it is told."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from typing import NamedTuple

PYTHON = "python{}.{}".format(*sys.version_info)

# What a compiler may be told in CFLAGS, LDFLAGS or CC that makes numbers wrong. Linking with the
# first three adds code to older GCCs' libraries that flushes subnormals in the whole process.
BREAKS_NUMBERS = re.compile(
    r"""-Ofast | -ffast-math | -funsafe-math-optimizations | -ffinite-math-only
    | -fassociative-math | -freciprocal-math | -fno-signed-zeros | -fapprox-func
    | -fno-honor-(nans|infinities) | -fsingle-precision-constant | -mdaz-ftz
    | -ffp-model=(fast|aggressive) | -ffp-contract=fast | -fdenormal-fp-math.* | -mrecip.*
    | -mfpmath=.* | /fp:fast""",
    re.VERBOSE,
)

OLDEST = {"gcc": 9, "clang": 11}
# The first to know -march=x86-64-v2 and its successors by name.
FIRST_OF_LEVELS = {"gcc": 11, "clang": 12}


class Compiler(NamedTuple):
    name: str  # gcc or clang, or what it calls itself
    version: int
    machine: str  # x86-64, or another

    @property
    def knows_levels(self):
        return self.version >= FIRST_OF_LEVELS[self.name]


class UnusableError(Exception):
    """One line that says what is missing and how to get it."""


def without_breaking_options(command):
    """The words of a command that leave numbers right, and the others."""
    kept = [word for word in command if not BREAKS_NUMBERS.fullmatch(word)]
    return kept, [word for word in command if BREAKS_NUMBERS.fullmatch(word)]


def check(command, include_dirs):
    """What `command`, a compiler with its options, is; UnusableError if it cannot build this.

    The predefined macros of one preprocessor run tell all of it, for the target and not for the
    machine that this runs on, and the run itself whether the headers are there.
    """
    at = next((i for i, word in enumerate(command) if "ccache" not in os.path.basename(word)), 0)
    program = command[at]
    if shutil.which(program) is None:
        raise UnusableError(
            f"no C compiler {program!r}: install one (Debian, Ubuntu: apt install gcc libc6-dev; "
            "Fedora: dnf install gcc; macOS: xcode-select --install), or name it in CC"
        )
    if not any(os.path.exists(os.path.join(folder, "Python.h")) for folder in include_dirs):
        raise UnusableError(
            f"no Python.h in {sysconfig.get_path('include')}: install the headers of this Python "
            f"(Debian, Ubuntu: apt install {PYTHON}-dev; Fedora: dnf install python3-devel)"
        )
    run = subprocess.run(
        [*command, *(f"-I{folder}" for folder in include_dirs), "-dM", "-E", "-x", "c", "-"],
        input="#include <stdlib.h>\n#include <Python.h>\n",
        capture_output=True,
        text=True,
    )
    if run.returncode:
        if "stdlib.h" in run.stderr:
            raise UnusableError(
                f"{shlex.join(command[: at + 1])} finds no stdlib.h: install the C library's "
                "headers (Debian, Ubuntu: apt install libc6-dev; Fedora: dnf install glibc-devel)"
            )
        said = next((s for s in run.stderr.splitlines() if "error" in s), "no error message")
        raise UnusableError(f"{shlex.join(command[: at + 1])} cannot compile Python.h: {said}")
    return judge(dict(re.findall(r"^#define (\w+) (.*)$", run.stdout, re.MULTILINE)))


def judge(macros):
    """A Compiler by its predefined macros; UnusableError if it is too old."""
    if "__clang_major__" in macros:
        name, version = "clang", int(macros["__clang_major__"])
        if "__apple_build_version__" in macros:
            version -= 1  # Apple counts ahead: its 13 is LLVM's 12 or 13
    elif "__GNUC__" in macros:
        name, version = "gcc", int(macros["__GNUC__"])
    else:
        raise UnusableError("the C compiler is neither gcc nor clang: name one of these in CC")
    if version < OLDEST[name]:
        raise UnusableError(
            f"{name} {version} is too old: needed is gcc {OLDEST['gcc']} or clang "
            f"{OLDEST['clang']}, or a later one; name it in CC"
        )
    return Compiler(name, version, "x86-64" if "__x86_64__" in macros else "other")
