"""Row values of a tile, once per SIMD level: one file a formula and kind of operand.

May import: arithmetic, levels.
"""
