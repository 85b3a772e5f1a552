"""Sizes of the scratch memory that a chunk of rows is mapped into."""

# A kernel maps a chunk of this many elements into scratch arrays that stay in the first-level
# cache, then sums them row by row. A double row is summed in blocks of 512 so that the error of
# 200,000 equal terms stays below 37 roundings.
cdef enum:
    CHUNK = 2048
    ROOM = CHUNK + 64                   # distance of the term arrays in scratch memory: a constant,
                                        # so that the compiler needs no run-time check for overlap
    DOUBLE_BLOCK = 512
    MOST_ROWS = 512                     # rows of a chunk: their sums and values are vectors too


cdef inline Py_ssize_t blocks_of(Py_ssize_t classes) noexcept nogil:
    return (classes + CHUNK - 1) // CHUNK


cdef inline Py_ssize_t rows_of_chunk(Py_ssize_t classes, size_t width) noexcept nogil:
    """How many whole rows of at most CHUNK classes are mapped at once: 4 KiB of each array. Three to
    five of them and the input stay in the first-level cache, and memory rests less while the rows are
    summed: KL of float32 from memory takes 0.8 ns a pair with 8 KiB and 0.5 with 4."""
    return max(<Py_ssize_t>1, min(<Py_ssize_t>(4096 // width) // classes, <Py_ssize_t>MOST_ROWS))
