"""Cross-entropy, KL divergence, entropy and their relatives over large row-batched arrays.

The order of arguments is always (true, predicted). See the functions' own documentation, and the
README for a tour.
"""

import fastent._command  # before what takes long to import
import fastent._interpreter  # before compiled modules: it refuses subinterpreters
import fastent._unbuilt  # noqa: F401
from fastent._custom import divergence
from fastent._settings import get_num_threads, set_backend, set_num_threads, show_config
from fastent._version import version as __version__
from fastent.accumulator import Accumulator, merge
from fastent.divergences import (
    alpha_divergence,
    chi2_divergence,
    hellinger_distance,
    jeffreys_divergence,
    renyi_divergence,
    total_variation,
    tsallis_divergence,
)
from fastent.families import gaussian_entropy, gaussian_kl_divergence
from fastent.focal import binary_focal_cross_entropy, focal_cross_entropy
from fastent.functions import (
    binary_cross_entropy,
    categorical_cross_entropy,
    entropy,
    js_divergence,
    kl_divergence,
    sparse_cross_entropy,
)
from fastent.gradients import binary_cross_entropy_gradient, cross_entropy_gradient
from fastent.information import conditional_entropy, mutual_information, population_stability_index

__all__ = [
    "Accumulator",
    "__version__",
    "alpha_divergence",
    "binary_cross_entropy",
    "binary_cross_entropy_gradient",
    "binary_focal_cross_entropy",
    "categorical_cross_entropy",
    "chi2_divergence",
    "conditional_entropy",
    "cross_entropy_gradient",
    "divergence",
    "entropy",
    "focal_cross_entropy",
    "gaussian_entropy",
    "gaussian_kl_divergence",
    "get_num_threads",
    "hellinger_distance",
    "jeffreys_divergence",
    "js_divergence",
    "kl_divergence",
    "merge",
    "mutual_information",
    "population_stability_index",
    "renyi_divergence",
    "set_backend",
    "set_num_threads",
    "show_config",
    "sparse_cross_entropy",
    "total_variation",
    "tsallis_divergence",
]
