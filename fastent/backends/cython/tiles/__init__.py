"""Operands in memory, cut into tiles, and the loop that runs the kernels over them.

May import: kernels, accumulate, arithmetic, levels, threads.
"""

import fastent._settings  # noqa: F401  # what is here calls functions of the SIMD level in use
