"""A pytest plugin that puts fastent's functions where SciPy's are, before SciPy's tests load."""

import sys

import scipy.optimize
import scipy.spatial.distance
import scipy.special
import scipy.stats
from scipy._lib._array_api import xp_capabilities, xp_capabilities_table

from fastent.compat import scipy as compat

HOMES = {"entropy": scipy.stats, "jensenshannon": scipy.spatial.distance}
for name in compat.__all__:
    old, new = getattr(HOMES.get(name, scipy.special), name), getattr(compat, name)
    for module in [m for n, m in sys.modules.items() if n.split(".")[0] == "scipy"]:
        for attribute, value in list(vars(module).items()):
            if value is old:
                setattr(module, attribute, new)
    if old in xp_capabilities_table:  # which array libraries a test may try; SciPy's note on them
        xp_capabilities(**xp_capabilities_table[old])(new)

# `pdist` calls this one for the metric "test_jensenshannon"
distance = scipy.spatial.distance
object.__setattr__(distance._METRICS["jensenshannon"], "dist_func", distance.jensenshannon)
