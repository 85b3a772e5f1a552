"""Row values of a tile, once per SIMD level: one file a formula and kind of operand.

May import: arithmetic, levels.
"""

import fastent._settings  # noqa: F401  # what is here calls functions of the SIMD level in use
