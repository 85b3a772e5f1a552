"""The default floating point mode around what is computed: see float_mode.h."""

cdef extern from "float_mode.h" nogil:
    ctypedef struct FloatMode "fe_float_mode":
        pass
    FloatMode enter_default_mode "fe_enter_default_mode"()
    void restore_mode "fe_restore_mode"(FloatMode)
