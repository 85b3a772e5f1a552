"""Functions, sums and scratch sizes: no row, no probability.

May import: nothing.
"""
