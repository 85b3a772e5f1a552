"""Importing fastent changes nothing in the process, and calls stay quiet."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import fastent


def run(code):
    """Run code in a fresh interpreter with warnings as errors; its output."""
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_subnormals_survive():
    run(
        """
        import numpy as np
        import fastent as fe
        tiny = np.array([5e-324, 2.0**-1074 * 3])
        assert (tiny * 1.0 > 0).all() and float(tiny[0]) / 1 == 5e-324
        assert np.float32(1e-45) * np.float32(1) > 0
        x = np.random.default_rng(0).normal(size=(50_000, 10)).astype(np.float32)
        fe.entropy(x, kind="logits", num_threads=2)
        assert (tiny * 1.0 > 0).all() and 2.0**-1022 / 2 > 0
        assert np.float32(1e-45) * np.float32(1) > 0
        """
    )


def test_heavy_packages_stay_out():
    run(
        """
        import sys
        import fastent
        heavy = {"numba", "scipy", "torch", "jax", "pyarrow", "rich", "dask", "pandas",
                 "matplotlib", "sklearn", "ml_dtypes", "jinja2", "safetensors", "Cython"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        import numpy as np
        fastent.entropy(np.ones((3, 4)) / 4)
        fastent.Accumulator(["cross_entropy"], task="sparse", kind="logits").update(
            [0, 1], np.zeros((2, 3))).compute()
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        """
    )


def test_process_state_is_untouched():
    run(
        """
        import gc, locale, os, random, signal, sys, threading, warnings, logging
        import numpy as np

        def state():
            names = [s for s in signal.Signals if s not in (signal.SIGKILL, signal.SIGSTOP)]
            return {
                "environment": dict(os.environ),
                "filters": list(warnings.filters),
                "signals": {s: signal.getsignal(s) for s in names},
                "python threads": threading.active_count(),
                "threads": sorted(os.listdir("/proc/self/task")) if os.path.isdir("/proc") else [],
                "numpy errors": np.geterr(),
                "numpy print": np.get_printoptions(),
                "hooks": (sys.excepthook, sys.displayhook, sys.unraisablehook),
                "paths": (list(sys.path), os.getcwd()),
                "gc": (gc.isenabled(), gc.get_threshold()),
                "recursion": sys.getrecursionlimit(),
                "handlers": list(logging.getLogger().handlers),
                "locale": locale.setlocale(locale.LC_ALL),
                "random": random.getstate(),
                "numpy random": str(np.random.get_state()),
                "switch": sys.getswitchinterval(),
                "umask": os.umask(0o22),
            }

        before = state()
        import fastent
        after = state()
        assert before == after, [k for k in before if before[k] != after[k]]
        """
    )


def test_small_calls_start_no_thread():
    run(
        """
        import os, threading
        import numpy as np
        import fastent as fe
        before = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc") else 1
        fe.kl_divergence(np.full((10, 4), 0.25), np.full((10, 4), 0.25))
        after = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc") else 1
        assert before == after and threading.active_count() == 1
        """
    )


def test_import_is_quick_and_silent():
    seconds = float(
        run(
            """
            import time
            import numpy
            start = time.perf_counter()
            import fastent
            print(time.perf_counter() - start)
            """
        )
    )
    assert seconds < 1.0


def test_the_top_level_is_lazy():
    run(
        """
        import sys
        import fastent
        loaded = {name for name in sys.modules if name.startswith("fastent.")}
        assert "fastent.accumulator" not in loaded and "fastent.functions" not in loaded, loaded
        assert fastent.entropy is sys.modules["fastent.functions"].entropy
        assert fastent.accumulator.Accumulator is fastent.Accumulator
        """
    )


def test_any_module_can_be_the_first():
    run(
        """
        import numpy as np
        from fastent.backends.cython.accumulate.state import State
        state = State([("loss", 0, 0, 0, True)], 15, 1, 2, True)
        rows = np.arange(5000)
        state.add(np.ones((1, 5000)), np.ones(5000), labels=rows % 3, groups=rows % 7)
        """
    )


def test_listed_names_are_public_ones_and_subjects():
    run(
        """
        import fastent as fe
        listed = {name for name in dir(fe) if not name.startswith("__")}
        assert not [name for name in listed if name.startswith("_")]
        assert set(fe.__all__) - {"__version__"} <= listed
        subjects = listed - set(fe.__all__)
        assert {"functions", "accumulator", "divergences", "gradients", "information"} <= subjects
        try:
            fe.entropie
        except AttributeError as error:
            assert str(error) == "module 'fastent' has no attribute 'entropie'", error
        """
    )


def test_stub_names_the_same_homes():
    stub = ast.parse(Path(fastent.__file__).with_suffix(".pyi").read_text())
    homes = {
        name.name: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert all(
        name.asname == name.name
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    )
    lazy = dict.fromkeys(fastent._MODULES, "fastent")
    lazy |= {name: f"fastent.{home}" for name, home in fastent._HOME.items()}
    assert homes == lazy


def test_every_public_name_exists():
    run(
        """
        import fastent as fe
        for name in fe.__all__:
            assert hasattr(fe, name), name
        wanted = {"sparse_cross_entropy", "categorical_cross_entropy", "binary_cross_entropy",
                  "kl_divergence", "js_divergence", "entropy", "Accumulator", "set_backend",
                  "set_num_threads", "get_num_threads", "show_config"}
        assert wanted <= set(fe.__all__), wanted - set(fe.__all__)
        """
    )
