"""Exact sums, histograms, groups: what `Accumulator` keeps.

May import: levels, threads.
"""
