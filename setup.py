"""Build of the compiled parts: see pyproject.toml for everything else.

The kernels are one text each, compiled once per SIMD level into separate modules (`logits_v3`,
`logits_v4`, ...); the engine picks the best level that the machine supports when it is imported.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy
from Cython import __version__ as cython_version
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from build_support import cache, compiler

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
    "kernels.top_overlap",
    "kernels.topk_divergence",
    "kernels.linear_sums",
    "accumulate.simd_loops",
    "tiles.load",
    "derivatives.gradient",
    "derivatives.softmax",
    "elementwise.terms",
]
PLAIN = [
    "accumulate.exact_sum",
    "accumulate.group_ids",
    "accumulate.add_rows",
    "accumulate.class_items",
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

IO = ["llama_codec", "mapping", "parquet_footer"]

# x86-64 micro-architecture levels; for other machines one module at the compiler's baseline.
WIDE = "-mprefer-vector-width=512"
LEVELS = {
    "v2": ["-march=x86-64-v2"],
    "v3": ["-march=x86-64-v3"],
    "v4": ["-march=x86-64-v4", WIDE],
    "base": [],
}
# The same in the words of compilers that know no levels; theirs make no v4.
V2 = "-mcx16 -msahf -mpopcnt -msse3 -mssse3 -msse4.1 -msse4.2".split()
BY_FEATURE = {"v2": V2, "v3": [*V2, *"-mavx2 -mbmi -mbmi2 -mf16c -mfma -mlzcnt -mmovbe".split()]}

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
]

ONLY_GCC = [
    "-Wno-psabi",
    # GCC stops inlining when a file has grown by 40 %, and a formula that is called cannot be
    # vectorised: it is what made rows of few double classes three times as slow.
    "--param=inline-unit-growth=200",
    "--param=large-function-growth=400",
]

# A formula up to eight times in a loop, and each kind compiled by itself.
IN_STRIPS = ["kernels.probs_divergence", "kernels.probs_cross_entropy"]
GROWING = [
    "--param=inline-unit-growth=10000",
    "--param=large-function-growth=30000",
    "--param=large-stack-frame-growth=50000",
]
WHOLE = ["--param=max-inline-insns-single=100000", *GROWING]
# The same, but of loops that many call each is one function: a third of the size.
LOOPS = ["--param=max-inline-insns-single=4000", *GROWING]
IN_LOOPS = ["kernels.logits_divergence"]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "freethreading_compatible": True,
}


HEADERS = [f"fastent/backends/cython/{f}" for f in ("arithmetic", "tiles", "accumulate", "")]


def extension(module, source, folder, package="fastent.backends.cython"):
    """A module; `folder` is where its C goes, a SIMD level or "plain"."""
    made = Extension(
        f"{package}.{module}",
        [f"{package.replace('.', '/')}/{source.replace('.', '/')}.pyx"],
        include_dirs=[numpy.get_include(), *HEADERS, "fastent/io"],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        libraries=["m"] if os.name == "posix" else [],
    )
    made.folder = folder
    made.c_file = f"build/cython/{folder}/{made.sources[0].removesuffix('.pyx')}.c"
    return made


def modules():
    made = [extension(name, name, "plain") for name in PLAIN]
    made.append(extension("cython_api", "cython_api", "plain", package="fastent"))
    made += [extension(n, n, "plain", package="fastent.io") for n in IO]
    return made + [extension(f"{k}_{level}", k, level) for level in LEVELS for k in KERNELS]


def levels_for(found):
    if found.machine != "x86-64":
        return ["base"]
    return ["v2", "v3", "v4"] if found.knows_levels else list(BY_FEATURE)


def fit(ext, found):
    """Give a module the options of the compiler that there is."""
    names = LEVELS if found.knows_levels else LEVELS | BY_FEATURE
    gcc, level = found.name == "gcc", names.get(ext.folder, [])
    by_kind = [*((k, WHOLE) for k in IN_STRIPS), *((k, LOOPS) for k in IN_LOOPS)]
    more = [
        word
        for kind, words in by_kind
        if gcc and ext.c_file.endswith(f"{kind.replace('.', '/')}.c")
        for word in words
    ]
    ext.extra_compile_args = FLAGS + gcc * ONLY_GCC + level + more
    if ext.name.endswith(".levels"):
        ext.define_macros.append(("FE_V4_BUILT", str(int("v4" in levels_for(found)))))


def translate(extensions):
    """Cython's part, where sources, Cython or what it is told have changed since the last time."""
    # headers too: Cython copies them beside what it makes
    sources = sorted(p for kind in ("*.p[yx][xd]", "*.h") for p in Path("fastent").rglob(kind))
    stamp = cache.Stamp(
        "build/cython/made-from",
        tools=[cython_version, numpy.__version__, sorted(DIRECTIVES.items())],
        sources=[(path.as_posix(), path.read_bytes()) for path in sources],
    )
    if not stamp.holds(ext.c_file for ext in extensions):
        everything = not stamp.same_tools()  # else Cython goes by the clock
        stamp.unset()
        for folder in {ext.folder: None for ext in extensions}:
            cythonize(
                [ext for ext in extensions if ext.folder == folder],
                build_dir=f"build/cython/{folder}",
                compiler_directives=DIRECTIVES,
                nthreads=CORES,
                force=everything,
                quiet=True,
            )
        stamp.set()
    for ext in extensions:
        ext.sources = [ext.c_file]


class BuildModules(build_ext):
    """Asks the compiler first, translates and compiles only where something is built (metadata and
    an sdist want no C), and nothing that was built from the same content before."""

    def build_extensions(self):
        found = self.ask_compiler()
        self.extensions = [
            ext for ext in self.extensions if ext.folder in ("plain", *levels_for(found))
        ]
        for ext in self.extensions:
            fit(ext, found)
            if self.compiler.compiler_type == "msvc":
                words = ext.extra_compile_args
                ext.extra_compile_args = [f"/clang:{word}" for word in words]
        translate(self.extensions)
        self.kept = cache.Modules("build/modules")
        before, self.force = self.force, True  # what is up to date is known by content
        super().build_extensions()
        self.force = before
        self.kept.forget_oldest()

    def ask_compiler(self):
        removed = []
        for name in self.compiler.executables:
            command = getattr(self.compiler, name, None)
            if isinstance(command, list):
                kept, broken = compiler.without_breaking_options(command)
                setattr(self.compiler, name, kept)
                removed += [word for word in broken if word not in removed]
        if removed:
            print(f"fastent: built without {' '.join(removed)}: wrong numbers", file=sys.stderr)
        command = getattr(self.compiler, "compiler_so", None)
        if self.compiler.compiler_type == "msvc":  # which knows no vectors; never run so far
            self.compiler.initialize()
            self.compiler.cc, command = "clang-cl", ["clang"]
        try:
            found = compiler.check(command, self.compiler.include_dirs)
        except compiler.UnusableError as error:
            sys.exit(f"fastent: {error}")
        if found.machine == "x86-64" and not found.knows_levels:
            print(
                f"fastent: built without AVX-512: {found.name} {found.version} is older than "
                "gcc 11 or clang 12",
                file=sys.stderr,
            )
        version = subprocess.run([*command, "--version"], capture_output=True).stdout
        self.made_by = (
            version,
            command,
            getattr(self.compiler, "linker_so", None),
            sys.version,
            numpy.__version__,
        )
        return found

    def build_extension(self, ext):
        key = cache.digest(
            *self.made_by,
            self.get_ext_filename(ext.name),
            ext.extra_compile_args,
            ext.define_macros,
            cache.content_of(ext.c_file, ext.include_dirs),
        )
        path = self.get_ext_fullpath(ext.name)
        if not self.kept.fetch(key, path):
            super().build_extension(ext)
            self.kept.keep(key, path)


if __name__ == "__main__":  # the processes of Cython may import this file
    setup(
        ext_modules=modules(),
        cmdclass={"build_ext": BuildModules},
        options={"build_ext": {"parallel": CORES}},
    )
