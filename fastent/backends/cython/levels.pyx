"""Which SIMD levels the machine supports, and the functions of the one in use."""

import importlib

from cpython.pycapsule cimport PyCapsule_GetPointer

cdef extern from * nogil:
    """
    #if defined(__x86_64__)
    static int fe_supports(int level) {
        __builtin_cpu_init();
        switch (level) {
        case 4: return FE_V4_BUILT && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
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

MODULES = (
    "kernels.logits_cross_entropy", "kernels.probs_cross_entropy", "kernels.probs_divergence",
    "kernels.logits_divergence", "kernels.binary_cross_entropy", "kernels.careful", "kernels.power_divergence",
    "kernels.focal_cross_entropy", "kernels.top_overlap", "accumulate.simd_loops", "tiles.load",
    "derivatives.gradient", "derivatives.softmax", "elementwise.terms",
)
LEVELS = tuple(
    name for name, number in (("v4", 4), ("v3", 3), ("v2", 2), ("base", 0)) if fe_supports(number)
)                                                       # the best one first
active = None


def use(level):
    """Make the functions of one level the ones in use; ValueError if the machine cannot run them."""
    global active
    cdef int k
    if level not in LEVELS:
        raise ValueError(f"SIMD level: expected one of {', '.join(LEVELS)} on this machine, got {level!r}")
    modules = [importlib.import_module(f"fastent.backends.cython.{name}_{level}") for name in MODULES]
    for k in range(MODULE_COUNT):
        functions[k] = PyCapsule_GetPointer(modules[k].functions, "fastent.functions")
    active = level
