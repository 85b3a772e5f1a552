"""Where what `fastent` offers comes from; the names are those of `__init__.py`."""

from fastent import (
    accumulator as accumulator,
    compat as compat,
    cython_api as cython_api,
    dask as dask,
    divergences as divergences,
    families as families,
    focal as focal,
    functions as functions,
    gradients as gradients,
    information as information,
    integrations as integrations,
    llama as llama,
    metrics as metrics,
    numba_api as numba_api,
    reports as reports,
    results as results,
)
from fastent._custom import (
    divergence as divergence,
)
from fastent._linear import (
    linear_cross_entropy as linear_cross_entropy,
    linear_kl_divergence as linear_kl_divergence,
)
from fastent._pairwise import (
    pairwise as pairwise,
)
from fastent._rolling import (
    RollingAccumulator as RollingAccumulator,
)
from fastent._row_gradients import (
    entropy_gradient as entropy_gradient,
    focal_cross_entropy_gradient as focal_cross_entropy_gradient,
    js_divergence_gradient as js_divergence_gradient,
    kl_divergence_gradient as kl_divergence_gradient,
)
from fastent._settings import (
    get_num_threads as get_num_threads,
    set_backend as set_backend,
    set_num_threads as set_num_threads,
    show_config as show_config,
)
from fastent._temperature import (
    fit_temperature as fit_temperature,
)
from fastent._topk import (
    topk_divergence as topk_divergence,
)
from fastent.accumulator import (
    Accumulator as Accumulator,
    merge as merge,
)
from fastent.divergences import (
    alpha_divergence as alpha_divergence,
    chi2_divergence as chi2_divergence,
    hellinger_distance as hellinger_distance,
    jeffreys_divergence as jeffreys_divergence,
    renyi_divergence as renyi_divergence,
    total_variation as total_variation,
    tsallis_divergence as tsallis_divergence,
)
from fastent.families import (
    exponential_family_kl as exponential_family_kl,
    gaussian_entropy as gaussian_entropy,
    gaussian_kl_divergence as gaussian_kl_divergence,
)
from fastent.focal import (
    binary_focal_cross_entropy as binary_focal_cross_entropy,
    focal_cross_entropy as focal_cross_entropy,
)
from fastent.functions import (
    binary_cross_entropy as binary_cross_entropy,
    categorical_cross_entropy as categorical_cross_entropy,
    entropy as entropy,
    js_divergence as js_divergence,
    kl_divergence as kl_divergence,
    sparse_cross_entropy as sparse_cross_entropy,
)
from fastent.gradients import (
    binary_cross_entropy_gradient as binary_cross_entropy_gradient,
    cross_entropy_gradient as cross_entropy_gradient,
)
from fastent.information import (
    conditional_entropy as conditional_entropy,
    entropy_of_counts as entropy_of_counts,
    mutual_information as mutual_information,
    population_stability_index as population_stability_index,
    renyi_entropy as renyi_entropy,
    tsallis_entropy as tsallis_entropy,
)
from fastent.reports import (
    Report as Report,
)
from fastent.results import (
    Result as Result,
)

__version__: str
