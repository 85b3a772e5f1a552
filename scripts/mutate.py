"""Put small bugs into the Python layer, one at a time, and see whether its tests notice.

Mutants are mutmut's, applied to the text of a file instead of behind its trampolines, which know
nothing of the tests' subprocesses. A mutant's place in the order depends on the seed and on itself
alone, so that a change in the code leaves the rest of a sample as it was. Each one is put into a
copy of the repository, where tests of its file's subject (scripts/subjects.toml) run until the
first failure: those for everyday work that call the function it is in or start processes, the
quickest first, and those marked slow for what survives them.

    python scripts/mutate.py --count 400

needs `pip install -e '.[test,mutation]'` and torch: what the copies hold is what was compiled in
place.
"""

import argparse
import ast
import difflib
import importlib
import json
import os
import pkgutil
import resource
import shutil
import signal
import sys
import tempfile
import threading
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

    def function(self):
        """First line of the function that it changes; None where the module's own code changes."""
        lines = zip(self.text.splitlines(), self.code.splitlines(), strict=False)
        changed = next((k for k, (old, new) in enumerate(lines, 1) if old != new), 0)
        bodies = [ast.parse(self.text)]
        while bodies:
            for node in bodies.pop().body:
                if isinstance(node, ast.ClassDef):
                    bodies.append(node)
                elif (
                    isinstance(node, ast.FunctionDef)
                    and node.body[0].lineno <= changed <= node.end_lineno
                ):
                    return min([node.lineno, *(d.lineno for d in node.decorator_list)])
        return None

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


class Calls:
    """Plugin that notes what each test calls in the package, whether it starts processes, and how
    long it takes."""

    def __init__(self, folder):
        self.prefix = os.path.join(folder, "fastent") + os.sep
        self.cut = len(folder) + 1
        self.tests, self.shared, self.now = {}, {}, (set(), [])
        sys.addaudithook(self.hear)
        threading.settrace(self.see)
        sys.settrace(self.see)

    def hear(self, event, _):
        if event in ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.forkpty"):
            self.now[1].append(event)

    def see(self, frame, *_):
        code = frame.f_code
        if code.co_filename.startswith(self.prefix):
            self.now[0].add((code.co_filename[self.cut :], code.co_firstlineno))

    def pytest_collectreport(self, report):
        if report.skipped:
            raise pytest.UsageError(f"{report.nodeid} is skipped: {report.longrepr}")

    def pytest_collection_finish(self):
        """What is called while modules are imported shows in any test."""
        for module in pkgutil.walk_packages(
            importlib.import_module("fastent").__path__, "fastent."
        ):
            if not module.name.endswith("__main__"):
                with suppress(ImportError):
                    importlib.import_module(module.name)
        self.shared["imports"] = sorted(self.now[0])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        began, self.now = time.monotonic(), (set(), [])
        done = yield
        called, started = self.now
        calls = None if started else sorted(called)
        self.tests[item.nodeid] = time.monotonic() - began, calls
        return done

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        """What is set up for a whole module is called by all that share it."""
        before = set(self.now[0])
        found = yield
        if fixturedef.scope != "function":
            self.shared.setdefault(request.node.nodeid, []).extend(sorted(self.now[0] - before))
        return found

    def pytest_sessionfinish(self):
        sys.settrace(None)
        Path("calls.json").write_text(json.dumps([self.tests, self.shared]))


class Only:
    """Plugin that runs these tests, in this order."""

    def __init__(self, tests):
        self.order = {test: k for k, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if item.nodeid in self.order]
        items.sort(key=lambda item: self.order[item.nodeid])


def start(folder, tests, marker, limit=resource.RLIM_INFINITY, only=None):
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
    if limit != resource.RLIM_INFINITY:  # a mutant; stamps have whole seconds, so it could leave
        sys.dont_write_bytecode = True  # its own bytecode behind
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        plugins = [] if only is None else [Only(only)]
    else:
        plugins = [Calls(folder)]
    quiet = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", "--tb=no"]
    quiet += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what is in COMMON
    code = 70
    try:
        code = pytest.main([*quiet, f"--rootdir={folder}", "-m", marker, *tests], plugins)
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


@cache
def unchanged(folder, file):
    """Seconds and calls of the tests of a file on the unchanged package; they must pass."""
    _, status = os.waitpid(start(folder, [file], "not slow"), 0)
    if os.waitstatus_to_exitcode(status) not in (0, 5):  # 5: all of them are slow
        raise SystemExit(
            f"{file} fails without a mutant:\n{Path(folder, 'pytest.log').read_text()}"
        )
    tests, shared = json.loads(Path(folder, "calls.json").read_text())
    common = [tuple(call) for calls in shared.values() for call in calls]
    return {
        test: (seconds, None if calls is None else {*map(tuple, calls), *common})
        for test, (seconds, calls) in tests.items()
    }


def chosen_tests(mutant, folder):
    """Everyday tests that can notice a mutant, and the seconds that they take unchanged."""
    line = mutant.function()
    found = []
    for file in subject(mutant.path):
        for test, (seconds, calls) in unchanged(folder, file).items():
            if line is None or calls is None or (mutant.path, line) in calls:
                found.append((calls is None, seconds, test))
    return [test for _, _, test in sorted(found)], sum(seconds for _, seconds, _ in found)


def job(mutant, folder, everyday, limit):
    """Steps of one mutant: yields while its tests run, returns the verdict and what told."""
    target = Path(folder, mutant.path)
    kept, stamps = target.read_bytes(), target.stat()
    target.write_text(mutant.code)
    try:
        for marker in MARKERS:
            began = time.monotonic()
            only = everyday if marker == "not slow" else None
            files = sorted({test.partition("::")[0] for test in only or subject(mutant.path)})
            child = start(folder, files or subject(mutant.path), marker, limit, only)
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
        chosen = {m: chosen_tests(m, first) for m in mutants}
        for copy in range(1, jobs):
            shutil.copytree(first, os.path.join(work, str(copy)))
        left, busy = list(reversed(mutants)), {}
        try:
            while left or busy:
                for copy in range(jobs):
                    if copy not in busy and left:
                        mutant = left.pop()
                        folder = os.path.join(work, str(copy))
                        tests, seconds = chosen[mutant]
                        busy[copy] = mutant, job(mutant, folder, tests, 60 + 5 * int(seconds))
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
