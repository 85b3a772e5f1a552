"""Which SIMD levels the machine supports, and the kernels of the one in use."""

import importlib

from cpython.pycapsule cimport PyCapsule_GetPointer

from fastent.backends.cython.kernels cimport Kernel
from fastent.backends.cython.table cimport Table

from fastent.backends.cython.derivatives import use_slopes
from fastent.backends.cython.exact import use_blocks
from fastent.backends.cython.operand import use_loaders
from fastent.backends.cython.ufuncs import use_terms

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

MODULES = ("logits", "probabilities", "divergence", "logit_divergence", "bernoulli", "general")
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
    use_blocks(importlib.import_module(f"fastent.backends.cython.blocks_{level}").functions())
    use_loaders(importlib.import_module(f"fastent.backends.cython.loading_{level}").functions())
    slopes = [importlib.import_module(f"fastent.backends.cython.{part}_{level}") for part in ("gradients", "shares")]
    use_slopes([slope for module in slopes for slope in module.functions()])
    use_terms(importlib.import_module(f"fastent.backends.cython.elements_{level}").functions())
    active = level
