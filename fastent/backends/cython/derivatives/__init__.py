"""Gradients, Hessians and softmax of logits, and their loop over tiles.

May import: tiles, kernels, arithmetic, levels, threads.
"""

import fastent._settings  # noqa: F401  # what is here calls functions of the SIMD level in use
