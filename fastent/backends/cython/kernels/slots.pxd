"""Where kernels write row values, one number a quantity in all of them, and where a kernel stands in
the table of its module: what `columns` and the kernels must agree on."""

from fastent.backends.cython.arithmetic.functions cimport NAN

cdef enum:                              # outputs
    OUT_CROSS_ENTROPY
    OUT_TARGET_WEIGHT                   # Σ w·t of a row, which its cross-entropy is divided by
    OUT_ACCURACY
    OUT_RANK                            # of the label, from 0
    OUT_BRIER, OUT_ENTROPY, OUT_CONFIDENCE
    OUT_PROBABILITY                     # binary: the predicted one
    OUT_KL, OUT_JS, OUT_TOTAL_VARIATION, OUT_HELLINGER
    OUT_AGREEMENT                       # of the first maxima
    OUT_TOP5_OVERLAP                    # share of the largest five classes, or ten, that both rows have
    OUT_TOP10_OVERLAP
    OUT_TOP1_IN_TOP5                    # whether the first of the true row is among those
    OUT_DIVERGENCE                      # of a kernel that has one value only
    OUT_STATISTIC                       # the first of careful_statistics.pxd
    MOST_SLOTS = OUT_STATISTIC + 8

cdef enum:                              # of probs_cross_entropy
    PROBS_SPARSE, PROBS_ENTROPY
    PROBS_TARGET                        # of a target and a prediction

cdef enum:                              # of probs_divergence and logits_divergence
    KL_ROWS, JS_ROWS

cdef enum:                              # of careful
    CAREFUL_CROSS_ENTROPY, CAREFUL_PAIR, CAREFUL_ENTROPY, CAREFUL_STATISTICS

cdef enum:                              # of power_divergence
    ALPHA_ROWS, TSALLIS_ROWS, RENYI_ROWS, CHI2_ROWS, JEFFREYS_ROWS


cdef inline void put_nan(double **out, Py_ssize_t r) noexcept nogil:
    """NaN in all that is wanted of a row."""
    cdef int k
    for k in range(MOST_SLOTS):
        if out[k] != NULL:
            out[k][r] = NAN
