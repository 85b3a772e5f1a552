"""Put small bugs into the Python layer, one at a time, and see whether its tests notice.

Mutants are mutmut's, applied to the text of a file instead of behind its trampolines, which know
nothing of the tests' subprocesses. A mutant's place in the order depends on the seed and on itself
alone, so that a change in the code leaves the rest of a sample as it was. Each one is put into a
copy of the repository, where the tests of its file's subject (scripts/subjects.toml) run until the
first failure: those for everyday work, and those marked slow for what survives them.

    python scripts/mutate.py --count 400

needs `pip install -e '.[test,mutation]'`: what the copies hold is what was compiled in place.
"""

import argparse
import ast
import difflib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import traceback
from collections import Counter
from contextlib import suppress
from fnmatch import fnmatch
from functools import cache
from hashlib import sha256
from pathlib import Path

import libcst
import pytest
from mutmut.configuration import config
from mutmut.mutation.file_mutation import create_mutations

ROOT = Path(__file__).resolve().parent.parent
SUBJECTS = tomllib.loads((ROOT / "scripts/subjects.toml").read_text())["subjects"]
UNCOPIED = (".git", ".venv", "build", "*.c", "*.cpp", ".*_cache", ".hypothesis")
MEMORY = 4 << 30  # bytes that a process may take: some mutants never end
MARKERS = ("not slow", "slow")
WORDING = ("description", "epilog", "help", "metavar", "usage")
# Imported once, before the forks: a third of what a mutant costs. Never fastent itself.
COMMON = (
    "hypothesis", "matplotlib.figure", "mpmath", "numba", "numpy", "pandas", "pyarrow.parquet",
    "rich.table", "scipy.stats",
)  # fmt: skip


def subject(path):
    """Tests of a file: those of the first pattern that fits."""
    return next(
        tuple(f"tests/test_{name}.py" for name in names)
        for pattern, names in SUBJECTS.items()
        if fnmatch(path, pattern)
    )


class Meaning(ast.NodeTransformer):
    """Leaves what a mutant may not be judged by: annotations, docstrings, `__all__`, wording."""

    def visit_Constant(self, node):
        prose = isinstance(node.value, str) and (" " in node.value or "\n" in node.value)
        return ast.Constant("") if prose else node

    def visit_Assign(self, node):
        return None if ast.unparse(node.targets[0]) == "__all__" else self.generic_visit(node)

    def visit_arg(self, node):
        return ast.arg(node.arg)

    def visit_AnnAssign(self, node):
        node.annotation = ast.Constant("")
        return self.generic_visit(node)

    def visit_If(self, node):
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)

    def visit_keyword(self, node):
        return None if node.arg in WORDING else self.generic_visit(node)

    def visit_Call(self, node):
        name = ast.unparse(node.func)
        if name == "cast":
            return self.visit(node.args[-1])
        return ast.Constant("") if name == "TypeVar" else self.generic_visit(node)


@cache
def meaning(code):
    return ast.dump(Meaning().visit(ast.parse(code)))


class Mutant:
    """One change of one file; `digest` is what it does, whatever its line."""

    def __init__(self, path, text, module, mutation, digest):
        self.path, self.text, self.digest = path, text, digest
        self.module, self.mutation = module, mutation

    def viable(self):
        m = self.mutation
        self.code = self.module.deep_replace(m.original_node, m.mutated_node).code
        try:
            return meaning(self.code) != meaning(self.text)
        except (SyntaxError, IndexError):
            return False

    def diff(self):
        before, after = self.text.splitlines(), self.code.splitlines()
        lines = difflib.unified_diff(before, after, self.path, "mutant", lineterm="", n=2)
        return "\n".join(lines)


def of_file(path, seed):
    """All mutants of a file."""
    source = Path(path).read_text()
    module, mutations, *_ = create_mutations(path, source)
    seen, text = Counter(), cache(libcst.Module([]).code_for_node)
    for m in mutations:
        holder = getattr(m.contained_by_top_level_function, "name", None)
        name = holder and holder.value
        what = (seed, path, name, text(m.original_node), text(m.mutated_node))
        seen[what] += 1
        digest = sha256(repr((*what, seen[what])).encode()).hexdigest()
        yield Mutant(path, source, module, m, digest)


def sample(count, seed):
    """The first `count` viable mutants of the package."""
    os.chdir(ROOT)
    paths = filter(config().should_mutate, map(str, sorted(Path("fastent").rglob("*.py"))))
    found = [mutant for path in paths for mutant in of_file(path, seed)]
    chosen = []
    for mutant in sorted(found, key=lambda mutant: mutant.digest):
        if len(chosen) < count and mutant.viable():
            chosen.append(mutant)
    print(f"{len(chosen)} of {len(found)} mutants", flush=True)
    return chosen


def start(folder, tests, marker, limit=resource.RLIM_INFINITY, bytecode=False):
    """Run tests in a child process whose package is the one of `folder`; its id."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    os.chdir(folder)
    with open("pytest.log", "w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.path.insert(0, folder)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
    if not bytecode:  # stamps have whole seconds, so a mutant could leave its own behind
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    quiet = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", "--tb=no"]
    quiet += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what is in COMMON
    code = 70
    try:
        code = pytest.main([*quiet, f"--rootdir={folder}", "-m", marker, *tests])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def end(child):
    """Kill a child and what it has started."""
    for finish in (os.killpg, lambda child, _: os.waitpid(child, 0)):
        with suppress(ProcessLookupError, ChildProcessError):
            finish(child, signal.SIGKILL)


def unchanged(folder, tests):
    """Seconds that tests take of the unchanged package; they must pass."""
    began = time.monotonic()
    _, status = os.waitpid(start(folder, tests, "not slow", bytecode=True), 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(
            f"{tests} fail without a mutant:\n{Path(folder, 'pytest.log').read_text()}"
        )
    return time.monotonic() - began


def job(mutant, folder, limit):
    """Steps of one mutant: yields while its tests run, returns the verdict and what told."""
    target = Path(folder, mutant.path)
    kept, stamps = target.read_bytes(), target.stat()
    target.write_text(mutant.code)
    try:
        for marker in MARKERS:
            began = time.monotonic()
            child = start(folder, subject(mutant.path), marker, limit)
            while not (ended := os.waitpid(child, os.WNOHANG))[0]:
                if time.monotonic() - began > 5 * limit:  # it waits for something
                    return "timeout", ""
                yield
            code = os.waitstatus_to_exitcode(ended[1])
            if code in (-signal.SIGXCPU, -signal.SIGKILL):
                return "timeout", ""
            if code not in (0, 5):  # 5: no test has the marker
                log = Path(folder, "pytest.log").read_text(errors="replace").splitlines()
                told = [line for line in log if line.startswith(("FAILED", "ERROR"))]
                return "killed", (told or log[-1:] or [""])[0][:200]
        return "survived", ""
    finally:
        end(child)
        target.write_bytes(kept)
        os.utime(target, ns=(stamps.st_atime_ns, stamps.st_mtime_ns))


def run(mutants, jobs, report):
    """Give each mutant to a copy that is free, and note the verdicts as they come."""
    with tempfile.TemporaryDirectory(prefix="fastent-mutants-") as work:
        first = os.path.join(work, "0")
        shutil.copytree(ROOT, first, ignore=shutil.ignore_patterns(*UNCOPIED), symlinks=True)
        limits = {t: 60 + 5 * int(unchanged(first, t)) for t in {subject(m.path) for m in mutants}}
        for copy in range(1, jobs):
            shutil.copytree(first, os.path.join(work, str(copy)))
        left, busy = list(reversed(mutants)), {}
        try:
            while left or busy:
                for copy in range(jobs):
                    if copy not in busy and left:
                        mutant = left.pop()
                        folder = os.path.join(work, str(copy))
                        busy[copy] = mutant, job(mutant, folder, limits[subject(mutant.path)])
                for copy, (mutant, steps) in list(busy.items()):
                    try:
                        next(steps)
                    except StopIteration as stop:
                        del busy[copy]
                        verdict, told = stop.value
                        note(report, mutant, verdict, told)
                        print(f"{len(left):4} left: {verdict:8} {mutant.path} {told}", flush=True)
                time.sleep(0.05)
        finally:
            for _, steps in busy.values():
                steps.close()


def note(report, mutant, verdict, told):
    line = {"digest": mutant.digest, "path": mutant.path, "verdict": verdict, "told": told}
    with report.open("a") as file:
        file.write(json.dumps(line | {"diff": mutant.diff()}) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=400, help="size of the sample")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--jobs", type=int, default=2, help="copies that work at once")
    parser.add_argument("--files", nargs="+", default=["*"], help="only these of the sample")
    parser.add_argument(
        "--report",
        type=Path,
        default=Path("mutants.jsonl"),
        help="verdicts; what was killed stays",
    )
    args = parser.parse_args()
    args.report = args.report.absolute()

    mutants = sample(args.count, args.seed)
    lines = args.report.read_text().splitlines() if args.report.exists() else []
    known = {line["digest"]: line["verdict"] for line in map(json.loads, lines)}
    dead = [m for m in mutants if known.get(m.digest) in ("killed", "timeout")]
    rest = [m for m in mutants if m not in dead and any(fnmatch(m.path, f) for f in args.files)]
    for name in COMMON:
        __import__(name)
    run(rest, args.jobs, args.report)

    lines = args.report.read_text().splitlines() if args.report.exists() else []
    known = {line["digest"]: line["verdict"] for line in map(json.loads, lines)}
    survivors = [m for m in mutants if known.get(m.digest) == "survived"]
    for mutant in survivors:
        print("\n" + mutant.diff())
    tried = [m for m in mutants if m.digest in known]
    print(f"\n{len(survivors)} of {len(tried)} mutants survive")


if __name__ == "__main__":
    main()
