/* Rows of a few classes laid across the vectors: out[c·stride + r] = x[r·classes + c].

   In blocks of 4 x 4 by shuffles: one element at a time it was half of the cost of rows of ten
   classes. Reads at most `readable` elements of x; out needs room for classes rounded up to 4. */
#ifndef FASTENT_ACROSS_H
#define FASTENT_ACROSS_H

#include "lanes.h"

typedef float fe_float4 __attribute__((vector_size(16)));
typedef int32_t fe_int4 __attribute__((vector_size(16)));
typedef double fe_double4 __attribute__((vector_size(32)));
typedef int64_t fe_long4 __attribute__((vector_size(32)));

/* PAIRS: how two rows are interleaved within the 128 bits that a shuffle works on; FIRST and SECOND
   pick the columns out of two such pairs. */
#define FE_ACROSS(NAME, REAL, FOUR, INTS, LOW, HIGH, FIRST, SECOND, ORDER)                         \
    static inline void NAME(const REAL *x, ptrdiff_t rows, ptrdiff_t classes, ptrdiff_t readable,  \
                            REAL *out, ptrdiff_t stride) {                                         \
        ptrdiff_t r = 0, last = 3 * classes + ((classes + 3) & ~(ptrdiff_t)3);                     \
        for (; r + 4 <= rows && r * classes + last <= readable; r += 4)                            \
            for (ptrdiff_t c = 0; c < classes; c += 4) {                                           \
                const REAL *from = x + r * classes + c;                                            \
                REAL *to = out + c * stride + r;                                                   \
                FOUR a, b, d, e, low, high, under, over, column[4];                                \
                memcpy(&a, from, sizeof a);                                                        \
                memcpy(&b, from + classes, sizeof b);                                              \
                memcpy(&d, from + 2 * classes, sizeof d);                                          \
                memcpy(&e, from + 3 * classes, sizeof e);                                          \
                low = FE_PICK(a, b, INTS, LOW);                                                    \
                high = FE_PICK(a, b, INTS, HIGH);                                                  \
                under = FE_PICK(d, e, INTS, LOW);                                                  \
                over = FE_PICK(d, e, INTS, HIGH);                                                  \
                column[0] = FE_PICK(low, under, INTS, FIRST);                                      \
                column[1 + ORDER] = FE_PICK(low, under, INTS, SECOND);                             \
                column[2 - ORDER] = FE_PICK(high, over, INTS, FIRST);                              \
                column[3] = FE_PICK(high, over, INTS, SECOND);                                     \
                for (int k = 0; k < 4; k++) memcpy(to + k * stride, &column[k], sizeof a);         \
            }                                                                                      \
        for (; r < rows; r++)                                                                      \
            for (ptrdiff_t c = 0; c < classes; c++) out[c * stride + r] = x[r * classes + c];      \
    }
#define FE_ORDER(...) __VA_ARGS__
FE_ACROSS(fe_across_float, float, fe_float4, fe_int4, FE_ORDER(0, 4, 1, 5), FE_ORDER(2, 6, 3, 7),
          FE_ORDER(0, 1, 4, 5), FE_ORDER(2, 3, 6, 7), 0)
FE_ACROSS(fe_across_double, double, fe_double4, fe_long4, FE_ORDER(0, 4, 2, 6),
          FE_ORDER(1, 5, 3, 7), FE_ORDER(0, 1, 4, 5), FE_ORDER(2, 3, 6, 7), 1)

#endif
