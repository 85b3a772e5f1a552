/* Whether some number is above a bound: what the largest of a row are looked for with. */
#ifndef FASTENT_ABOVE_H
#define FASTENT_ABOVE_H

#include "argmax.h"

/* fe_some_above: whether one of n numbers is above the bound or NaN. Lanes that are not are kept as
   the masks of argmax.h are, four at a time, as each waits for itself; the last numbers, fewer than a vector, one
   by one. */
#define FE_SOME_ABOVE(REAL, KIND)                                                                  \
    static inline int fe_some_above_##REAL(const REAL *x, ptrdiff_t n, REAL bound) {               \
        fe_vector_##REAL v, w, y, z, limit = (fe_vector_##REAL){0} + bound;                        \
        fe_mask_##REAL fine = ~(fe_mask_##REAL){0}, more = fine, most = fine, last = fine, over;   \
        ptrdiff_t k = 0;                                                                           \
        int some = 0;                                                                              \
        for (; k + 4 * FE_COUNT(REAL) <= n; k += 4 * FE_COUNT(REAL)) {                             \
            memcpy(&v, x + k, sizeof v);                                                           \
            memcpy(&w, x + k + FE_COUNT(REAL), sizeof v);                                          \
            memcpy(&y, x + k + 2 * FE_COUNT(REAL), sizeof v);                                      \
            memcpy(&z, x + k + 3 * FE_COUNT(REAL), sizeof v);                                      \
            fine = FE_WITHIN(KIND, fine, v, limit);                                                \
            more = FE_WITHIN(KIND, more, w, limit);                                                \
            most = FE_WITHIN(KIND, most, y, limit);                                                \
            last = FE_WITHIN(KIND, last, z, limit);                                                \
        }                                                                                          \
        fine &= more & most & last;                                                                \
        for (; k + FE_COUNT(REAL) <= n; k += FE_COUNT(REAL)) {                                     \
            memcpy(&v, x + k, sizeof v);                                                           \
            fine = FE_WITHIN(KIND, fine, v, limit);                                                \
        }                                                                                          \
        for (; k < n; k++) some |= !(x[k] <= bound);                                               \
        over = ~fine;                                                                              \
        return some | (FE_BITS(KIND, over) != 0);                                                  \
    }
FE_SOME_ABOVE(float, ps)
FE_SOME_ABOVE(double, pd)
#define fe_some_above(x, ...) FE_OF(fe_some_above, *(x))(x, __VA_ARGS__)

#endif
