"""Exact sums, histograms, groups: what `Accumulator` keeps.

May import: arithmetic, levels, threads.
"""
