"""Cross-entropy, KL divergence, entropy and their relatives over large row-batched arrays.

The order of arguments is always (true, predicted). See the functions' own documentation, and the
README for a tour. What is here is imported from the module of its subject when it is first asked
for; `__init__.pyi` tells type checkers where that is.
"""

import fastent._command  # before what takes long to import
import fastent._interpreter  # before compiled modules: it refuses subinterpreters
import fastent._unbuilt

# isort: split
import fastent._settings  # noqa: F401  (it fills the table of SIMD functions, which all others use)
from fastent._fork import bring as _bring
from fastent._version import version as __version__

_MODULES = (
    "accumulator", "compat", "cython_api", "dask", "divergences", "families", "focal",
    "functions", "gradients", "information", "integrations", "llama", "metrics", "numba_api",
    "reports", "results",
)  # fmt: skip
_HOMES = {
    "_custom": ("divergence",),
    "_linear": ("linear_cross_entropy", "linear_kl_divergence"),
    "_pairwise": ("pairwise",),
    "_rolling": ("RollingAccumulator",),
    "_row_gradients": (
        "entropy_gradient", "focal_cross_entropy_gradient", "js_divergence_gradient",
        "kl_divergence_gradient",
    ),
    "_settings": ("get_num_threads", "set_backend", "set_num_threads", "show_config"),
    "_temperature": ("fit_temperature",),
    "_topk": ("topk_divergence",),
    "accumulator": ("Accumulator", "merge"),
    "divergences": (
        "alpha_divergence", "chi2_divergence", "hellinger_distance", "jeffreys_divergence",
        "renyi_divergence", "total_variation", "tsallis_divergence",
    ),
    "families": ("exponential_family_kl", "gaussian_entropy", "gaussian_kl_divergence"),
    "focal": ("binary_focal_cross_entropy", "focal_cross_entropy"),
    "functions": (
        "binary_cross_entropy", "categorical_cross_entropy", "entropy", "js_divergence",
        "kl_divergence", "sparse_cross_entropy",
    ),
    "gradients": ("binary_cross_entropy_gradient", "cross_entropy_gradient"),
    "information": (
        "conditional_entropy", "entropy_of_counts", "mutual_information",
        "population_stability_index", "renyi_entropy", "tsallis_entropy",
    ),
    "reports": ("Report",),
    "results": ("Result",),
}  # fmt: skip
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return _bring(f"fastent.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'fastent' has no attribute {name!r}")
    found = getattr(_bring(f"fastent.{_HOME[name]}"), name)
    globals()[name] = found  # the next time it is found without this function
    return found


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__doc__", "__file__", "__name__", "__path__"])
