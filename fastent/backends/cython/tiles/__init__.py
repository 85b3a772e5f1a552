"""Operands in memory, cut into tiles, and the loop that runs the kernels over them.

May import: kernels, accumulate, arithmetic, levels, threads.
"""
