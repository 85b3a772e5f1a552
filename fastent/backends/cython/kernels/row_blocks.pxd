"""Reading a row of a tile block by block, wherever its classes come from.

A long row that is not in memory as the kernels need it (16-bit, of another dtype, strided) is
converted right before a block of it is summed: the block stays in the first-level cache, and no long
row is ever copied whole. Kernels that handle long rows form no pointers into them but ask here.

Threads share a pass over a long row in parts of whole blocks. Where parts end depends on the number
of classes alone, and they are so few that what is known of each fits the stack.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fastent.backends.cython.arithmetic.functions cimport NAN, fe_lane_max, stored
from fastent.backends.cython.arithmetic.scratch cimport CHUNK, ROOM, blocks_of
from fastent.backends.cython.arithmetic.sums cimport ordered_sum
from fastent.backends.cython.kernels.interface cimport LOADED, Job, RowLoader, Tile

cdef enum:
    PARTS = 256                         # of a long row, at most


cdef inline bint paired(Tile *tile) noexcept nogil:
    """Whether the tile has rows of the true operand."""
    return tile.true_rows != NULL or tile.true_source != NULL


cdef inline const stored *classes_of(Tile *tile, int operand, Py_ssize_t r, Py_ssize_t start, Py_ssize_t n,
                                     char *scratch, const stored *unused) noexcept nogil:
    """Classes [start, start + n) of row r, n <= CHUNK: in memory, or in the place that `scratch`, the
    base of a worker's scratch memory, keeps for this operand (readable for 64 elements more)."""
    cdef RowLoader *source = tile.pred_source if operand else tile.true_source
    cdef const void *rows = tile.pred_rows if operand else tile.true_rows
    if source == NULL:
        return <const stored *>rows + r * tile.classes + start
    scratch += LOADED + operand * ROOM * sizeof(double)
    source.load(source, r, start, n, scratch)
    return <const stored *>scratch


cdef inline stored class_of(Tile *tile, int operand, Py_ssize_t r, Py_ssize_t c, const stored *unused) noexcept nogil:
    """One number of a row."""
    cdef RowLoader *source = tile.pred_source if operand else tile.true_source
    cdef const void *rows = tile.pred_rows if operand else tile.true_rows
    cdef stored x
    if source == NULL:
        return (<const stored *>rows)[r * tile.classes + c]
    source.load(source, r, c, 1, &x)
    return x


cdef inline void label_numbers(Tile *tile, Py_ssize_t start, Py_ssize_t rows, double *own, const stored *unused) noexcept nogil:
    """The predicted number of the label of consecutive rows; 1 for a skipped row, which has none."""
    cdef Py_ssize_t r
    cdef const int64_t *labels = tile.labels + start
    cdef const stored *x = <const stored *>tile.pred_rows + start * tile.classes
    if tile.pred_source == NULL:        # a loop of vectors: losses of two classes take 0.86 of the time
        for r in range(rows):
            own[r] = x[r * tile.classes + max(labels[r], <int64_t>0)]
    else:
        for r in range(rows):
            own[r] = class_of(tile, 1, start + r, max(labels[r], <int64_t>0), unused)
    for r in range(rows):
        own[r] = own[r] if labels[r] >= 0 else 1.0


cdef inline const double *weights_of(Tile *tile, Py_ssize_t r, Py_ssize_t start, Py_ssize_t n, char *scratch) noexcept nogil:
    """Weights of the terms [start, start + n) of row r; NULL if there are none."""
    if tile.terms_source != NULL:
        scratch += LOADED + 2 * ROOM * sizeof(double)
        tile.terms_source.load(tile.terms_source, r, start, n, scratch)
        return <const double *>scratch
    return tile.terms + r * tile.terms_stride + start if tile.terms != NULL else NULL


cdef inline Py_ssize_t part_start(Py_ssize_t classes, Py_ssize_t part) noexcept nogil:
    """The class with which a part begins and the one before it ends."""
    cdef Py_ssize_t blocks = (classes + CHUNK * PARTS - 1) // (CHUNK * PARTS)
    return min(part * blocks * CHUNK, classes)


cdef inline Py_ssize_t parts_of(Py_ssize_t classes) noexcept nogil:
    """How many parts a row has."""
    return 1 if classes <= CHUNK else (classes + part_start(classes, 1) - 1) // part_start(classes, 1)


cdef inline void run_parts(Tile *tile, Job job, void *context) noexcept nogil:
    """One pass over a row: job(context, part, scratch) for every part of it."""
    if tile.classes <= CHUNK:
        job(context, 0, tile.scratch)
    else:
        tile.run(tile.runner, job, context, parts_of(tile.classes), tile.scratch)


cdef inline void sum_blocks(Tile *tile, Job job, void *context, double **parts, int width, double *sums) noexcept nogil:
    """`width` sums of a row, from those that the job leaves in `parts` of each block; NaN if there is no memory."""
    cdef Py_ssize_t count = blocks_of(tile.classes)
    cdef double[8 * 64] few
    cdef int k
    parts[0] = &few[0]
    if count > 64:
        parts[0] = <double *>malloc(width * count * sizeof(double))
    if parts[0] == NULL:
        tile.no_memory = True
    else:
        tile.run(tile.runner, job, context, count, tile.scratch)
    for k in range(width):
        sums[k] = ordered_sum(parts[0] + k, count, width) if parts[0] != NULL else NAN
    if count > 64:
        free(parts[0])


cdef inline double top_in(Tile *tile, int operand, Py_ssize_t r, Py_ssize_t start, Py_ssize_t stop, char *scratch,
                          Py_ssize_t *where, const stored *unused) noexcept nogil:
    """The largest of the classes [start, stop), NaN if there is one, and the first block that it stands in."""
    cdef Py_ssize_t n, first = start
    cdef const stored *x
    cdef double top = 0, found
    where[0] = start
    while start < stop:
        n = min(<Py_ssize_t>CHUNK, stop - start)
        x = classes_of(tile, operand, r, start, n, scratch, unused)
        found = fe_lane_max(x, n)
        if found != found:
            return found
        if start == first or found > top:
            top = found
            where[0] = start
        start += n
    return top
