/* Whether some number is above a bound: what the largest of a row are looked for with. */
#ifndef FASTENT_ABOVE_H
#define FASTENT_ABOVE_H

#include "argmax.h"

/* fe_some_above: whether one of n numbers is above the bound or NaN. Lanes that are not are kept as
   the masks of argmax.h are, four at a time, as each waits for itself; the last numbers, fewer than a vector, one
   by one. */
#if FE_WIDTH == 8
#define FE_WITHIN_FLOAT(fine, v, bound)                                                            \
    _mm512_mask_cmp_ps_mask(fine, (__m512)(v), (__m512)(bound), _CMP_LE_OQ)
#define FE_WITHIN_DOUBLE(fine, v, bound)                                                           \
    _mm512_mask_cmp_pd_mask(fine, (__m512d)(v), (__m512d)(bound), _CMP_LE_OQ)
#else
#define FE_WITHIN_FLOAT(fine, v, bound) ((fine) & ((v) <= (bound)))
#define FE_WITHIN_DOUBLE FE_WITHIN_FLOAT
#endif
#define FE_SOME_ABOVE(NAME, REAL, VECTOR, MASK, COUNT, WITHIN, BITS)                               \
    static inline int fe_some_above_##NAME(const REAL *x, ptrdiff_t n, REAL bound) {               \
        VECTOR v, w, y, z, limit = (VECTOR){0} + bound;                                            \
        MASK fine = ~(MASK){0}, more = fine, most = fine, last = fine, over;                       \
        ptrdiff_t k = 0;                                                                           \
        int some = 0;                                                                              \
        for (; k + 4 * COUNT <= n; k += 4 * COUNT) {                                               \
            memcpy(&v, x + k, sizeof v);                                                           \
            memcpy(&w, x + k + COUNT, sizeof v);                                                   \
            memcpy(&y, x + k + 2 * COUNT, sizeof v);                                               \
            memcpy(&z, x + k + 3 * COUNT, sizeof v);                                               \
            fine = WITHIN(fine, v, limit);                                                         \
            more = WITHIN(more, w, limit);                                                         \
            most = WITHIN(most, y, limit);                                                         \
            last = WITHIN(last, z, limit);                                                         \
        }                                                                                          \
        fine &= more & most & last;                                                                \
        for (; k + COUNT <= n; k += COUNT) {                                                       \
            memcpy(&v, x + k, sizeof v);                                                           \
            fine = WITHIN(fine, v, limit);                                                         \
        }                                                                                          \
        for (; k < n; k++) some |= !(x[k] <= bound);                                               \
        over = ~fine;                                                                              \
        return some | (BITS(over) != 0);                                                           \
    }
FE_SOME_ABOVE(float, float, fe_wide_floats, fe_sane_floats, (FE_WIDTH * 2), FE_WITHIN_FLOAT,
              FE_BITS_FLOAT)
FE_SOME_ABOVE(double, double, fe_doubles, fe_sane_doubles, FE_WIDTH, FE_WITHIN_DOUBLE,
              FE_BITS_DOUBLE)

#endif
