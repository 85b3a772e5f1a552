"""Exact sums, histograms, groups: what `Accumulator` keeps."""
