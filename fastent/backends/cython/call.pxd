"""A settled call: what to compute, and from which operands."""

cimport numpy as cnp

from fastent.backends.cython.accumulate.exact_sum cimport ExactSum
from fastent.backends.cython.tiles.operand cimport Operand
from fastent.backends.cython.tiles.loop cimport Plan

cdef enum:
    SMALL = 1 << 15                     # numbers that one thread does faster than several
    LONG_ROW = 1 << 16                  # classes from which a row is shared among threads


cdef class TwoSums:
    cdef ExactSum of[2]


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

    cdef object fill(self, Py_ssize_t start, Py_ssize_t stop, cnp.ndarray out, bint multiply)
    cdef object run(self, Py_ssize_t start, Py_ssize_t stop)
    cdef tuple shape(self, object length)
    cdef object error(self, int code, int which, Py_ssize_t row, double number)
    cdef object rows_as_array(self, Operand op, bint ready, Py_ssize_t start, Py_ssize_t stop)
    cdef object checked_rows(self, Py_ssize_t start, Py_ssize_t stop)
    cdef object fill_by_module(self, Py_ssize_t start, Py_ssize_t stop, cnp.ndarray out, bint multiply)
    cdef Py_ssize_t block_rows(self, Py_ssize_t rows, int *threads) except -1
    cdef int fill_block(self, lines, Py_ssize_t start, bint multiply, Py_ssize_t first, Py_ssize_t last) except -1
    cdef object term_rows(self, Py_ssize_t start, Py_ssize_t stop)
    cdef tuple totals(self)
    cdef object total_by_module(self, ExactSum *sums)
    cdef bint narrow_values(self) except -1
    cdef list inputs(self)
