"""Exact sums, histograms, groups: what `Accumulator` keeps.

May import: arithmetic, levels, threads.
"""

import fastent._settings  # noqa: F401  # what is here calls functions of the SIMD level in use
