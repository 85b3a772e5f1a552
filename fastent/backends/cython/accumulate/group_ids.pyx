"""Dense codes 0, 1, 2, ... for the names of groups and clusters, integers or strings."""

import math
import os

import numpy as np

from libc.stdint cimport int64_t, uint64_t

from fastent._errors import as_text, shown
from fastent._shapes import weighs_terms
from fastent.backends.views import as_numpy


class _Strings(dict):
    """String to code; a new string gets the next code, so that `map` runs without Python steps."""

    def __init__(self, names):
        self.names = names

    def __missing__(self, name):
        code = len(self.names)
        self.names.append(name)
        self[name] = code
        return code


# Of the hash of integers, so that nobody can make ids that all fall into one place.
cdef uint64_t SEED = int.from_bytes(os.urandom(8), "little")


cdef inline uint64_t mixed(int64_t key) noexcept nogil:
    cdef uint64_t i = <uint64_t> key ^ SEED
    i = (i ^ (i >> 32)) * <uint64_t> 0x9E3779B97F4A7C15
    i = (i ^ (i >> 29)) * <uint64_t> 0xBF58476D1CE4E5B9
    return i ^ (i >> 32)


cdef class Keys:
    """Codes in order of first appearance."""
    cdef readonly list names              # the integer or string behind each code
    cdef object strings
    cdef int64_t[::1] slots               # code + 1 of an integer, or 0
    cdef int64_t[::1] integers            # the integer in that slot
    cdef Py_ssize_t used

    def __init__(self):
        self.names = []
        self.strings = _Strings(self.names)
        self.slots = np.zeros(16, np.int64)
        self.integers = np.zeros(16, np.int64)
        self.used = 0

    def __len__(self):
        return len(self.names)

    cdef Py_ssize_t find(self, int64_t key) noexcept nogil:
        cdef uint64_t mask = <uint64_t> self.slots.shape[0] - 1
        cdef uint64_t i = mixed(key) & mask
        while self.slots[i] and self.integers[i] != key:
            i = (i + 1) & mask
        return <Py_ssize_t> i

    cdef int64_t enter(self, int64_t key) except -1:
        """The code of an integer that has none yet."""
        if 2 * (self.used + 1) > self.slots.shape[0]:
            self.move(np.zeros(2 * self.slots.shape[0], np.int64), np.zeros(2 * self.slots.shape[0], np.int64))
        self.names.append(int(key))
        self.put(key, len(self.names))
        return len(self.names) - 1

    cdef void put(self, int64_t key, int64_t slot) noexcept nogil:
        cdef Py_ssize_t i = self.find(key)
        self.integers[i] = key
        self.slots[i] = slot
        self.used += 1

    cdef void move(self, int64_t[::1] slots, int64_t[::1] integers):
        """To other memory, all zero."""
        cdef int64_t[::1] old_slots = self.slots, old_integers = self.integers
        cdef Py_ssize_t k
        self.slots, self.integers, self.used = slots, integers, 0
        for k in range(old_slots.shape[0]):
            if old_slots[k]:
                self.put(old_integers[k], old_slots[k])

    def forget(self, Py_ssize_t count):
        """Keep only the first `count` names."""
        cdef Py_ssize_t i
        while len(self.names) > count:
            self.strings.pop(self.names.pop(), None)
        self.slots[:] = 0
        self.used = 0
        for i in range(count):
            if not isinstance(self.names[i], str):
                self.put(self.names[i], i + 1)

    def codes(self, ids):
        """Codes of an int64 array or a list of integers and strings; new names get new codes."""
        if isinstance(ids, list):
            code = self.code if int in set(map(type, ids)) else self.strings.__getitem__
            return np.fromiter(map(code, ids), np.int64, len(ids))
        cdef const int64_t[::1] keys = ids
        cdef Py_ssize_t i, slot, n = keys.shape[0]
        out = np.empty(n, np.int64)
        cdef int64_t[::1] codes = out
        for i in range(n):
            slot = self.find(keys[i])
            codes[i] = self.slots[slot] - 1
            if codes[i] < 0:
                codes[i] = self.enter(keys[i])
        return out

    def code(self, name):
        """The code of one integer or string."""
        if isinstance(name, str):
            return self.strings[name]
        cdef Py_ssize_t slot = self.find(name)
        return self.slots[slot] - 1 if self.slots[slot] else self.enter(name)

    def ordered(self):
        """All codes in the one order that does not depend on who came first: integers, strings."""
        return sorted(range(len(self.names)), key=lambda c: (isinstance(self.names[c], str), self.names[c]))


def row_ids(ids, lead, name):
    """What `Keys.codes` takes, from integers or strings that broadcast to the leading shape.

    One axis with a name for every row, in their order, will do for any leading shape.
    """
    lead = (lead,) if isinstance(lead, int) else lead
    rows = math.prod(lead)
    if not isinstance(ids, (list, tuple)) or len(lead) != 1 or (ids and isinstance(ids[0], (list, tuple))):
        array = np.array(ids, dtype=object) if isinstance(ids, (list, tuple, str)) else as_numpy(ids, name)[0]
        if array.shape != lead and (array.ndim != 1 or len(array) != rows):
            weighs_terms(array.shape, lead, None, name)
            array = np.broadcast_to(array, lead)
        if array.dtype.kind in "iu":
            if array.size and array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
                raise ValueError(f"{name}: integer codes must fit in 64 signed bits")
            return np.array(array, np.int64, order="C").reshape(-1)
        if array.dtype.kind not in "SUOT":
            raise TypeError(f"{name}: expected one integer or string per row, got dtype {array.dtype}")
        array = array.reshape(-1)
        ids = (ascii(array, name) if array.dtype.kind == "S" else array).tolist()
    if len(ids) != rows:
        raise ValueError(f"{name}: expected one per row ({rows}), got {len(ids)}")
    kinds = set(map(type, ids))
    if kinds <= {str}:
        return list(ids)
    for kind in kinds:
        if not issubclass(kind, (str, int, np.integer)) or issubclass(kind, bool):
            row = next(i for i, x in enumerate(ids) if type(x) is kind)
            raise TypeError(f"{name}: expected integers or strings, got {kind.__name__} in row {row}")
    ids = [as_text(x) if isinstance(x, str) else int(x) for x in ids]
    if any(type(x) is int and not -2**63 <= x < 2**63 for x in ids):
        raise ValueError(f"{name}: integer codes must fit in 64 signed bits")
    return np.array(ids, np.int64) if str not in set(map(type, ids)) else ids


def ascii(array, name):
    """Bytes as strings."""
    try:
        return array.astype("U")
    except UnicodeDecodeError:
        row = next(i for i, x in enumerate(array.tolist()) if not x.isascii())
        raise ValueError(f"{name}: expected strings or bytes in ASCII, got {shown(array[row])} in row {row}") from None
