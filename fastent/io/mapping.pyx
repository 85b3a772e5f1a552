"""Files mapped for reading: no copy, and a file that shrinks is noticed and does no harm."""

from cpython.buffer cimport PyBuffer_FillInfo

cdef extern from "guard.h" nogil:
    int guard_open(int fd, size_t length)
    void guard_close(int k)
    int guard_broken(int k)
    char *guard_start(int k)
    int guard_load(int k, int fd, size_t offset, size_t count)
    void guard_drop(int k, size_t offset, size_t count)


cdef class Mapping:
    """The first `length` bytes of an open file, as a read-only buffer.

    What is cut off while it is mapped reads as zeros; `broken` then says so. OSError where the
    file or the system has no mappings.
    """

    cdef int slot
    cdef readonly Py_ssize_t length

    def __cinit__(self, int fd, Py_ssize_t length):
        self.slot = -1
        self.length = length
        if length > 0:
            self.slot = guard_open(fd, length)
        if self.slot < 0:
            raise OSError("no mapping of this file")

    def __dealloc__(self):
        if self.slot >= 0:
            guard_close(self.slot)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, guard_start(self.slot), self.length, True, flags)

    @property
    def broken(self):
        return bool(guard_broken(self.slot))

    def load(self, int fd, Py_ssize_t offset, Py_ssize_t count):
        """Have a stretch of the file, open as `fd`, in memory; False where it has ended."""
        cdef int failed
        with nogil:
            failed = guard_load(self.slot, fd, offset, count)
        return failed == 0 and not self.broken

    def drop(self, Py_ssize_t offset, Py_ssize_t count):
        """Let go of a stretch that has been used."""
        with nogil:
            guard_drop(self.slot, offset, count)
