"""Build of the compiled parts: see pyproject.toml for everything else.

The kernels are one text each, compiled once per SIMD level into separate modules (`logits_v3`,
`logits_v4`, ...); the engine picks the best level that the machine supports when it is imported.
"""

import os
import platform
import shlex
import shutil
import sys
import sysconfig

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CORES = os.cpu_count() or 1

KERNELS = [
    "kernels.logits_cross_entropy",
    "kernels.probs_cross_entropy",
    "kernels.probs_divergence",
    "kernels.logits_divergence",
    "kernels.binary_cross_entropy",
    "kernels.careful",
    "kernels.power_divergence",
    "kernels.focal_cross_entropy",
    "accumulate.simd_loops",
    "tiles.copy",
    "derivatives.gradient",
    "derivatives.softmax",
    "elementwise.terms",
]
PLAIN = [
    "accumulate.exact_sum",
    "accumulate.group_ids",
    "accumulate.add_rows",
    "accumulate.state_json",
    "accumulate.state",
    "float_mode",
    "threads",
    "levels",
    "tiles.operand",
    "kernels.mutual_information",
    "derivatives.loop",
    "elementwise.ufuncs",
    "tiles.loop",
    "call",
    "columns",
    "engine",
]

# x86-64 micro-architecture levels; elsewhere one module at the compiler's baseline.
X86 = platform.machine().lower() in ("x86_64", "amd64")
LEVELS = {
    "v2": ["-march=x86-64-v2"],
    "v3": ["-march=x86-64-v3"],
    "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
if not X86:
    LEVELS = {"base": []}

# Contraction is off so that a value does not depend on where a function was inlined: the kernels
# say fma() where they mean it. errno and FP traps are of no use here and stop vectorisation.
# Never -ffast-math: older toolchains then flush subnormals in the whole process.
FLAGS = [
    "-O3",
    "-g0",  # Python's own flags ask for debug information: a quarter of the time, three of the size
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-unused-function",
    "-Wno-psabi",
    # GCC stops inlining when a file has grown by 40 %, and a formula that is called cannot be
    # vectorised: it is what made rows of few double classes three times as slow.
    "--param=inline-unit-growth=200",
    "--param=large-function-growth=400",
]

# Rows mapped in strips: a formula up to eight times in a loop, and each kind compiled by itself.
IN_STRIPS = ["kernels.probs_divergence", "kernels.probs_cross_entropy"]
WHOLE = [
    "--param=max-inline-insns-single=100000",
    "--param=inline-unit-growth=10000",
    "--param=large-function-growth=30000",
    "--param=large-stack-frame-growth=50000",
]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "freethreading_compatible": True,
}


HEADERS = [f"fastent/backends/cython/{f}" for f in ("arithmetic", "tiles", "accumulate")]


def extension(module, source, flags, package="fastent.backends.cython"):
    return Extension(
        f"{package}.{module}",
        [f"{package.replace('.', '/')}/{source.replace('.', '/')}.pyx"],
        include_dirs=[numpy.get_include(), *HEADERS],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        extra_compile_args=FLAGS + flags,
        libraries=["m"],
    )


def modules():
    """The modules, by the folder that their C goes to."""
    plain = [extension(name, name, []) for name in PLAIN]
    plain.append(extension("cython_api", "cython_api", [], package="fastent"))
    plain += [extension(n, n, [], package="fastent.io") for n in ("mapping", "parquet_footer")]
    return {"plain": plain} | {
        level: [
            extension(f"{k}_{level}", k, flags + (WHOLE if k in IN_STRIPS else [])) for k in KERNELS
        ]
        for level, flags in LEVELS.items()
    }


def check_compiler():
    """Say at once that there is none: translating takes a minute before it would be missed."""
    named = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    program = shlex.split(named)[0]
    if os.name == "posix" and shutil.which(program) is None:
        sys.exit(f"fastent: no C compiler {program!r}: install gcc or clang, or name it in CC")


class BuildModules(build_ext):
    """Translates by Cython where something is built: metadata and an sdist want no C."""

    def run(self):
        check_compiler()
        for folder, extensions in MODULES.items():
            translated = cythonize(
                extensions,
                build_dir=f"build/cython/{folder}",
                compiler_directives=DIRECTIVES,
                nthreads=CORES,
                quiet=True,
            )
            for given, made in zip(extensions, translated, strict=True):
                given.sources, given.depends = made.sources, made.depends
                given.include_dirs = made.include_dirs
        super().run()


MODULES = modules()

if __name__ == "__main__":  # the processes of Cython may import this file
    setup(
        ext_modules=[one for group in MODULES.values() for one in group],
        cmdclass={"build_ext": BuildModules},
        options={"build_ext": {"parallel": CORES}},
    )
