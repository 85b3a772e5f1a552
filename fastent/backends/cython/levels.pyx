"""Which SIMD levels the machine supports, and the kernels of the one in use."""

import importlib

from cpython.pycapsule cimport PyCapsule_GetPointer

from fastent.backends.cython.kernels.interface cimport Kernel
from fastent.backends.cython.kernels.level_table cimport Table

from fastent.backends.cython.derivatives.loop import use_slopes
from fastent.backends.cython.accumulate.exact_sum import use_blocks
from fastent.backends.cython.tiles.operand import use_loaders
from fastent.backends.cython.elementwise.ufuncs import use_terms

cdef extern from * nogil:
    """
    #if defined(__x86_64__)
    static int fe_supports(int level) {
        __builtin_cpu_init();
        switch (level) {
        case 4: return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
                    && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
                    && __builtin_cpu_supports("avx512vl") && fe_supports(3);
        case 3: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
                    && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && fe_supports(2);
        case 2: return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
        }
        return 0;
    }
    #else
    static int fe_supports(int level) { return level == 0; }
    #endif
    """
    int fe_supports(int level)

MODULES = ("kernels.logits_cross_entropy", "kernels.probs_cross_entropy", "kernels.probs_divergence", "kernels.logits_divergence", "kernels.binary_cross_entropy", "kernels.careful")
LEVELS = tuple(
    name for name, number in (("v4", 4), ("v3", 3), ("v2", 2), ("base", 0)) if fe_supports(number)
)                                                       # the best one first
loaded = {}
active = None


def use(level):
    """Make the kernels of one level the ones in use; ValueError if the machine cannot run them."""
    global active
    cdef Table *table
    cdef int i, k
    if level not in LEVELS:
        raise ValueError(f"SIMD level: expected one of {', '.join(LEVELS)} on this machine, got {level!r}")
    if level not in loaded:
        loaded[level] = [
            importlib.import_module(f"fastent.backends.cython.{name}_{level}").kernels for name in MODULES
        ]
    for i, capsule in enumerate(loaded[level]):
        table = <Table *>PyCapsule_GetPointer(capsule, "fastent.kernels")
        for k in range(8):
            kernels[i][k] = table.kernels[k]
    use_blocks(importlib.import_module(f"fastent.backends.cython.accumulate.simd_loops_{level}").functions())
    use_loaders(importlib.import_module(f"fastent.backends.cython.tiles.copy_{level}").functions())
    slopes = [importlib.import_module(f"fastent.backends.cython.{part}_{level}") for part in ("derivatives.gradient", "derivatives.softmax")]
    use_slopes([slope for module in slopes for slope in module.functions()])
    use_terms(importlib.import_module(f"fastent.backends.cython.elementwise.terms_{level}").functions())
    active = level
