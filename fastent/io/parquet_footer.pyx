"""Where the row groups lie in the footer of a Parquet file.

The library takes a kilobyte for every column of every row group, a gigabyte where there are many of
both. A footer is a struct in Thrift's compact protocol; its row groups are a list that can be cut
into pieces, and each piece with the rest of the footer is a footer again.
"""

import numpy as np

cdef enum:
    STOP = 0
    INT32 = 5                           # other types in a field's place are gone past, as the library does
    INT64 = 6
    DOUBLE = 7
    BINARY = 8
    LIST = 9
    SET = 10
    MAP = 11
    STRUCT = 12
    DEEPEST = 32


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
    cdef int shift = 0, piece
    while shift < 70:
        piece = next_byte(walk)
        if shift < 64:
            value |= <unsigned long long> (piece & 127) << shift
        if piece < 128:
            return <long long> value
        shift += 7
    raise ValueError("a number of the footer is too long")


cdef long long signed_number(Walk *walk) except? -1:
    cdef unsigned long long value = <unsigned long long> varint(walk)
    return <long long> (value >> 1) ^ -<long long> (value & 1)


cdef int forward(Walk *walk, long long count) except -1:
    if count < 0 or count > walk.size - walk.at:
        raise ValueError("the footer ends early")
    walk.at += count
    return 0


cdef bint next_field(Walk *walk, int *last, int *kind) except -1:
    """Number and type of the next field of a struct; whether there is one."""
    cdef int head = next_byte(walk)
    kind[0] = head & 15
    if kind[0] == STOP:
        return False
    last[0] = last[0] + (head >> 4) if head >> 4 else <int> signed_number(walk)
    return True


cdef long long items(Walk *walk, int *kind) except -1:
    """Number and type of the items of a list."""
    cdef int head = next_byte(walk)
    cdef long long count = head >> 4
    kind[0] = head & 15
    if count == 15:
        count = varint(walk)
    if count < 0 or count > walk.size:
        raise ValueError("a list of the footer is too long")
    return count


cdef int skip(Walk *walk, int kind, int depth, bint item) except -1:
    """Go past a value; a boolean field is in its head, a boolean item is a byte."""
    cdef int inner = 0, last = 0
    cdef long long count
    if depth > DEEPEST:
        raise ValueError("the footer is nested too deep")
    if kind <= 3:
        if item or kind == 3:
            next_byte(walk)
    elif kind <= 6:
        varint(walk)
    elif kind == DOUBLE:
        forward(walk, 8)
    elif kind == BINARY:
        forward(walk, varint(walk))
    elif kind == LIST or kind == SET:
        count = items(walk, &inner)
        while count > 0:
            skip(walk, inner, depth + 1, True)
            count -= 1
    elif kind == STRUCT:
        while next_field(walk, &last, &inner):
            skip(walk, inner, depth + 1, False)
    elif kind == MAP:
        count = varint(walk)
        if count < 0 or count > walk.size:
            raise ValueError("a map of the footer is too long")
        last = next_byte(walk) if count else 0
        while count > 0:
            skip(walk, last >> 4, depth + 1, True)
            skip(walk, last & 15, depth + 1, True)
            count -= 1
    else:
        raise ValueError("a field of the footer has no known type")
    return 0


cdef list leaf_levels(Walk *walk):
    """Largest repetition and definition levels of each column, from the list of the schema's elements, in which
    the children of a group follow it."""
    cdef int kind, inner = 0, last, repetition
    cdef long long count = items(walk, &inner), children
    cdef list found = [], open_groups = []          # [children to come, repetition level, definition level]
    if inner != STRUCT and count:
        raise ValueError("the schema of the footer is none")
    while count > 0:
        count -= 1
        last, repetition, children = 0, 0, 0
        while next_field(walk, &last, &kind):
            if last == 3 and kind == INT32:
                repetition = <int> signed_number(walk)
                if not 0 <= repetition <= 2:
                    raise ValueError("an element of the schema of no known repetition")
            elif last == 5 and kind == INT32:
                children = signed_number(walk)
            else:
                skip(walk, kind, 1, False)
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


cdef long long list_size(Walk *walk, int depth) except -1:
    """Items of a list, gone past."""
    cdef int inner = 0
    cdef long long count = items(walk, &inner), k
    for k in range(count):
        skip(walk, inner, depth, True)
    return count


cdef int check_sizes(Walk *walk, object levels, int depth) except -1:
    """The counts of levels that a column chunk tells: the library ends the process where they are not as many as
    its column has levels."""
    cdef int kind, last = 0
    cdef long long count
    while next_field(walk, &last, &kind):
        if kind == LIST and (last == 2 or last == 3):
            count = list_size(walk, depth + 1)
            if count and count != levels[last - 2] + 1:
                raise ValueError(f"a column with {levels[last - 2] + 1} levels has counts of {count}")
        else:
            skip(walk, kind, depth + 1, False)


cdef int check_column(Walk *walk, object levels, int depth, int number) except -1:
    """A struct of a column chunk: field `number` is the next one on the way to its sizes."""
    cdef int kind, last = 0
    while next_field(walk, &last, &kind):
        if kind != STRUCT or last != number:
            skip(walk, kind, depth + 1, False)
        elif number == 3:                               # its metadata
            check_column(walk, levels, depth + 1, 16)
        else:
            check_sizes(walk, levels, depth + 1)


cdef int check_columns(Walk *walk, list levels) except -1:
    cdef int inner = 0
    cdef long long count = items(walk, &inner), k
    if count != len(levels) or (inner != STRUCT and count):
        raise ValueError(f"a row group of {count} columns, the schema has {len(levels)}")
    for k in range(count):
        check_column(walk, levels[k], 2, 3)
    return 0


def row_groups(const unsigned char[::1] footer):
    """Rows of each row group, where each begins and the last one ends, and if it is encrypted.

    Returns
    -------
    rows, places : int64 arrays
        Places are byte offsets in the footer, one more than there are groups.
    begin : int
        Byte offset of the head of their list.
    encrypted : bool
    """
    cdef Walk walk
    cdef int last = 0, inner_last, kind, inner = 0
    cdef long long count, k
    cdef bint encrypted = False
    cdef long long[::1] rows = np.zeros(0, np.int64), places = np.zeros(1, np.int64)
    cdef long long begin = 0, whole = 0
    cdef list levels = []
    walk.data, walk.size, walk.at = (&footer[0] if footer.shape[0] else NULL), footer.shape[0], 0
    while next_field(&walk, &last, &kind):
        if last == 8 or last == 9:
            encrypted = True
        if last == 3 and kind == INT64:
            whole = signed_number(&walk)
            continue
        if last == 2 and kind == LIST:
            levels = leaf_levels(&walk)
            continue
        if last != 4 or kind != LIST:
            skip(&walk, kind, 0, False)
            continue
        begin = walk.at
        count = items(&walk, &inner)
        if inner != STRUCT and count:
            raise ValueError("the row groups of the footer are none")
        rows, places = np.zeros(count, np.int64), np.zeros(count + 1, np.int64)
        for k in range(count):
            places[k] = walk.at
            inner_last = 0
            while next_field(&walk, &inner_last, &kind):
                if inner_last == 3 and kind == INT64:
                    rows[k] = signed_number(&walk)
                    if rows[k] < 0:
                        raise ValueError("a row group of the footer has less than no rows")
                elif inner_last == 1 and kind == LIST:
                    check_columns(&walk, levels)
                else:
                    skip(&walk, kind, 1, False)
        places[count] = walk.at
    if not begin:
        raise ValueError("the footer has no row groups")
    if np.sum(rows, dtype=object) != whole:
        raise ValueError(f"row groups of {np.sum(rows, dtype=object)} rows, the footer says {whole}")
    return np.asarray(rows), np.asarray(places), begin, encrypted
