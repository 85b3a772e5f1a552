"""A tile of rows and where its derivatives go, shared by every SIMD level, and the exponentials of its rows."""

from libc.stdint cimport int64_t

from fastent.backends.cython.arithmetic.functions cimport fe_lane_max, stored
from fastent.backends.cython.kernels.interface cimport BadRow
from fastent.backends.cython.kernels.logits_exp cimport Scale, exp_below_double, scale_of

cdef enum:
    FEW_SLOPES = 32                     # classes up to which rows are mapped together
    SCRATCH = 3

cdef enum Curvature:
    NO_HESSIAN = 0
    DIAGONAL = 1
    XGBOOST = 2
    LIGHTGBM = 3

cdef enum Wanted:
    PROBABILITY = 0                     # e^x / Σ e^x
    LOGARITHM = 1                       # of that
    TOTAL = 2                           # log Σ e^x of a row

ctypedef struct Slopes:
    const void *x                       # logits, (rows, classes), contiguous
    bint single                         # float rows and derivatives; double otherwise
    bint by_number                      # not rows, but logits that are elements, or numbers of one long row
    void *gradient                      # may be x
    void *hessian                       # NULL if not wanted
    int curvature                       # Curvature
    const int64_t *labels               # or NULL; < 0: the derivatives of the row are 0
    const double *target                # (rows, classes), or NULL
    const double *weight                # of rows, or NULL
    const double *terms                 # weights of terms, or NULL
    Py_ssize_t terms_stride             # classes, or 0 for class weights
    double smoothing
    double tolerance                    # of the row sums of the target
    bint only_check                     # look at the target, write nothing
    Py_ssize_t rows, classes
    int wanted                          # Wanted, where no derivatives are
    double top                          # of one long row, and what its softmax is scaled by
    double rest
    double *scratch                     # SCRATCH tiles with room to over-read
    Py_ssize_t room                     # distance of those tiles
    BadRow bad

ctypedef void (*Slope)(Slopes *tile) noexcept nogil


cdef inline void exponentials(const stored *x, Py_ssize_t n, double top, double *e) noexcept nogil:
    """e = exp(x − top), 0 where x = top."""
    cdef Scale scale = scale_of(1)
    cdef Py_ssize_t k
    for k in range(n):
        e[k] = exp_below_double(x[k], top, scale)


cdef inline void exponentials_together(const stored *x, Py_ssize_t rows, Py_ssize_t n, double *maxima,
                                       double *e) noexcept nogil:
    """The same of rows of few classes, with one maximum an element, so that vectors are full."""
    cdef Scale scale = scale_of(1)
    cdef Py_ssize_t r, k
    cdef double top
    for r in range(rows):
        top = fe_lane_max(x + r * n, n)
        for k in range(n):
            maxima[r * n + k] = top
    for k in range(rows * n):
        e[k] = exp_below_double(x[k], maxima[k], scale)
