"""A pytest plugin that puts fastent's losses where scikit-learn's are, before its tests load."""

import sys

import sklearn.metrics
from sklearn.metrics import _scorer

from fastent.compat import sklearn as compat

for name in compat.__all__:
    old, new = getattr(sklearn.metrics, name), getattr(compat, name)
    for module in [m for n, m in sys.modules.items() if n.split(".")[0] == "sklearn"]:
        for attribute, value in list(vars(module).items()):
            if value is old:
                setattr(module, attribute, new)
    for scorer in _scorer._SCORERS.values():
        if scorer._score_func is old:
            scorer._score_func = new
