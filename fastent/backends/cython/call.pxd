"""A settled call: what to compute, and from which operands."""

cimport numpy as cnp

from fastent.backends.cython.tiles.operand cimport Operand
from fastent.backends.cython.tiles.loop cimport Plan

cdef enum:
    SMALL = 1 << 15                     # numbers that one thread does faster than several
    LONG_ROW = 1 << 16                  # classes from which a row is shared among threads


cdef class Call:
    cdef Plan plan
    cdef Operand true_operand, pred_operand, label_operand, weight_operand, term_operand
    cdef readonly str task, row_sums, backend, kind_true, kind_pred
    cdef readonly tuple columns, names
    cdef readonly double eps, temperature, label_smoothing, sum_tolerance
    cdef readonly object class_weight
    cdef readonly int num_threads
    cdef readonly Py_ssize_t rows, classes
    cdef readonly bint weighted
    cdef double unit                    # ln(base)
    cdef object weights_of_classes
    cdef object axis                        # of the classes; WHOLE, or None where there are none
    cdef object rows_module                 # gives the row values instead of the backend, or None
    cdef tuple pair_starts                  # of a block of all pairs: what its rows of p and q are called
    cdef list spare                         # memory of blocks that are done, for other backends
    cdef object steps                       # holds those of the plan

    cdef tuple shape(self, object length)
