"""Where the row groups lie in the footer of a Parquet file.

The library takes a kilobyte for every column of every row group, a gigabyte where there are many of
both. A footer is a struct in Thrift's compact protocol; its row groups are a list that can be cut
into pieces, and each piece with the rest of the footer is a footer again.
"""

import numpy as np

cdef enum:                              # types of Thrift's compact protocol
    STOP = 0
    BYTE = 3                            # 1 and 2 are true and false
    INT32 = 5
    INT64 = 6
    DOUBLE = 7
    BINARY = 8
    LIST = 9
    SET = 10
    MAP = 11
    STRUCT = 12
    DEEPEST = 32

cdef enum:                              # fields by 16 times their number and their type: the library
    SCHEMA = 16 * 2 + LIST              # goes past those of another type too
    FILE_ROWS = 16 * 3 + INT64
    GROUPS = 16 * 4 + LIST
    COLUMNS = 16 * 1 + LIST             # of a row group
    GROUP_ROWS = 16 * 3 + INT64
    METADATA = 16 * 3 + STRUCT          # of a column of it
    SIZES = 16 * 16 + STRUCT            # of that
    REPETITIONS = 16 * 2 + LIST         # of those
    DEFINITIONS = 16 * 3 + LIST
    REPETITION = 16 * 3 + INT32         # of an element of the schema
    CHILDREN = 16 * 5 + INT32


cdef struct Walk:
    const unsigned char *data
    long long size
    long long at


cdef int next_byte(Walk *walk) except -1:
    if walk.at >= walk.size:
        raise ValueError("the footer ends early")
    walk.at += 1
    return walk.data[walk.at - 1]


cdef long long varint(Walk *walk) except? -1:
    cdef unsigned long long value = 0
    cdef int shift, piece
    for shift in range(0, 70, 7):
        piece = next_byte(walk)
        value |= <unsigned long long> (piece & 127) << shift
        if piece < 128:
            return <long long> value
    raise ValueError("a number of the footer is too long")


cdef long long signed_number(Walk *walk) except? -1:
    cdef unsigned long long value = <unsigned long long> varint(walk)
    return <long long> (value >> 1) ^ -<long long> (value & 1)


cdef long long length(Walk *walk) except -1:
    """How many bytes or items come next."""
    cdef long long count = varint(walk)
    if count < 0 or count > walk.size - walk.at:
        raise ValueError("the footer ends early")
    return count


cdef int next_field(Walk *walk, int *last, int *kind) except -1:
    """The next field of a struct, 0 after the last one; with its number and its type."""
    cdef int head = next_byte(walk)
    kind[0] = head & 15
    if kind[0] == STOP:
        return 0
    last[0] = last[0] + (head >> 4) if head >> 4 else <int> signed_number(walk)
    return 16 * (last[0] & 0xffff) + kind[0]


cdef long long items(Walk *walk, int *kind) except -1:
    """Number and type of the items of a list."""
    cdef int head = next_byte(walk)
    kind[0] = head & 15
    return head >> 4 if head >> 4 < 15 else length(walk)


cdef long long structs(Walk *walk, str what) except -1:
    """Number of the items of a list that has structs."""
    cdef int kind = 0
    cdef long long count = items(walk, &kind)
    if kind != STRUCT and count:
        raise ValueError(f"{what} of the footer is none")
    return count


cdef int skip(Walk *walk, int kind, int depth, bint item) except -1:
    """Go past a value; a boolean field is in its head, a boolean item is a byte."""
    cdef int inner = 0, last = 0
    if depth > DEEPEST:
        raise ValueError("the footer is nested too deep")
    if kind <= BYTE:
        if item or kind == BYTE:
            next_byte(walk)
    elif kind <= INT64:
        varint(walk)
    elif kind == DOUBLE:
        walk.at += 8
    elif kind == BINARY:
        walk.at += length(walk)
    elif kind == LIST or kind == SET:
        for _ in range(items(walk, &inner)):
            skip(walk, inner, depth + 1, True)
    elif kind == STRUCT:
        while next_field(walk, &last, &inner):
            skip(walk, inner, depth + 1, False)
    elif kind == MAP:
        for k in range(length(walk)):
            if k == 0:
                last = next_byte(walk)
            skip(walk, last >> 4, depth + 1, True)
            skip(walk, last & 15, depth + 1, True)
    else:
        raise ValueError("a field of the footer has no known type")
    return 0


cdef list leaf_levels(Walk *walk):
    """Largest repetition and definition levels of each column, from the list of the schema's elements, in which
    the children of a group follow it."""
    cdef int kind = 0, last, field
    cdef long long repetition, children
    cdef list found = [], open_groups = []          # [children to come, repetition level, definition level]
    for _ in range(structs(walk, "the schema")):
        last, repetition, children = 0, 0, 0
        while field := next_field(walk, &last, &kind):
            if field == REPETITION:
                repetition = signed_number(walk)
            elif field == CHILDREN:
                children = signed_number(walk)
            else:
                skip(walk, kind, 1, False)
        if not 0 <= repetition <= 2:
            raise ValueError("an element of the schema of no known repetition")
        levels = (0, 0)
        if open_groups:
            group = open_groups[len(open_groups) - 1]
            group[0] -= 1
            levels = group[1] + (repetition == 2), group[2] + (repetition != 0)
        while open_groups and open_groups[len(open_groups) - 1][0] <= 0:
            open_groups.pop()
        if children > 0:
            open_groups.append([children, *levels])
        else:
            found.append(levels)
    return found


cdef int check_counts(Walk *walk, object levels, int within) except -1:
    """The counts of levels that a column chunk tells in its metadata's sizes: the library ends the process where
    they are not as many as its column has levels."""
    cdef int kind = 0, last = 0, inner = 0, field
    cdef long long begin, count
    while field := next_field(walk, &last, &kind):
        if (within == COLUMNS and field == METADATA) or (within == METADATA and field == SIZES):
            check_counts(walk, levels, field)
            continue
        if within == SIZES and (field == REPETITIONS or field == DEFINITIONS):
            begin = walk.at
            count = items(walk, &inner)
            walk.at = begin
            if count and count != levels[last - 2] + 1:
                raise ValueError(f"a column with {levels[last - 2] + 1} levels has counts of {count}")
        skip(walk, kind, 2, False)


def row_groups(const unsigned char[::1] footer):
    """Rows of each row group; byte offsets at which each begins and the last one ends, and at which the head of
    their list does; whether the file is encrypted."""
    cdef Walk walk
    cdef int last = 0, inner_last, kind = 0, field
    cdef long long count, columns, k
    cdef bint encrypted = False
    cdef long long[::1] rows = np.zeros(0, np.int64), places = np.zeros(1, np.int64)
    cdef long long begin = 0, whole = 0
    cdef list levels = []
    walk.data, walk.size, walk.at = (&footer[0] if footer.shape[0] else NULL), footer.shape[0], 0
    while field := next_field(&walk, &last, &kind):
        encrypted = encrypted or last == 8 or last == 9
        if field == FILE_ROWS:
            whole = signed_number(&walk)
        elif field == SCHEMA:
            levels = leaf_levels(&walk)
        elif field != GROUPS:
            skip(&walk, kind, 0, False)
        else:
            begin = walk.at
            count = structs(&walk, "the row groups")
            rows, places = np.zeros(count, np.int64), np.zeros(count + 1, np.int64)
            for k in range(count):
                places[k] = walk.at
                inner_last = 0
                while field := next_field(&walk, &inner_last, &kind):
                    if field == COLUMNS:
                        columns = structs(&walk, "a row group")
                        if columns != len(levels):
                            raise ValueError(f"a row group of {columns} columns, the schema has {len(levels)}")
                        for column in levels:
                            check_counts(&walk, column, COLUMNS)
                    elif field == GROUP_ROWS:
                        rows[k] = signed_number(&walk)
                        if rows[k] < 0:
                            raise ValueError("a row group of the footer has less than no rows")
                    else:
                        skip(&walk, kind, 1, False)
            places[count] = walk.at
    if not begin:
        raise ValueError("the footer has no row groups")
    if np.sum(rows, dtype=object) != whole:
        raise ValueError(f"row groups of {np.sum(rows, dtype=object)} rows, the footer says {whole}")
    return np.asarray(rows), np.asarray(places), begin, encrypted
