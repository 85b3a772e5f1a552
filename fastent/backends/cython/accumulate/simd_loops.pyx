"""The block loops of exact sums and histograms at one SIMD level."""

from fastent.backends.cython.accumulate.buckets cimport bin_places, count_below, count_ones, histogram_places
from fastent.backends.cython.accumulate.exact_sum_blocks cimport float_grid_sums, grid_sums, products
from fastent.backends.cython.accumulate.simd_table cimport Blocks
from fastent.backends.cython.levels cimport exported

cdef Blocks table
table.grid_sums = grid_sums
table.float_grid_sums = float_grid_sums
table.products = products
table.histogram_places = histogram_places
table.count_below = count_below
table.count_ones = count_ones
table.bin_places = bin_places
functions = exported(&table)
