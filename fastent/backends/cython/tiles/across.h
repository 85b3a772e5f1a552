/* Rows out of numbers that lie class by class: blocked transposes in the vector extension of GCC and
   clang. Addresses need no alignment. */
#ifndef FASTENT_ROWS_ACROSS_H
#define FASTENT_ROWS_ACROSS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "transpose.h"

/* Blocks of classes are turned into rows: 4 rows of floats or 2 of doubles at a time, of as many
   classes as a vector holds. `at` is the first class of the first row, `stride` the distance of classes
   in bytes, `last` the last class that there is, `step` the distance of rows in `out`. */
static inline void fe_turn_float(const char *at, ptrdiff_t stride, ptrdiff_t last, float *out, ptrdiff_t step) {
    fe_float_block block = fe_turned_float(at, stride, last);
    _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++) memcpy(out + k * step, &block.of[k], sizeof block.of[k]);
}

static inline void fe_turn_double(const char *at, ptrdiff_t stride, ptrdiff_t last, double *out, ptrdiff_t step) {
    fe_double_block block = fe_turned_double(at, stride, last);
    _Pragma("GCC unroll 2") for (int k = 0; k < 2; k++) memcpy(out + k * step, &block.of[k], sizeof block.of[k]);
}

/* Rows of `classes`, contiguous in `at` along the rows, to `out`: a cache line of every class at a time, while the
   one `ahead` bytes further on, of the next tile, is asked for: no hardware prefetcher follows two hundred streams
   (KL, 100 classes first: 1.08 ns a pair from memory as from cache, 2.0 without). The last block of classes
   overlaps the one before; where there are fewer classes than in a block, the next row overwrites what a row wrote
   too much, and the last rows go one by one. */
#define FE_ACROSS(NAME, REAL, TURN, CLASSES, ROWS)                                                 \
    static inline void NAME(const char *restrict at, ptrdiff_t stride, ptrdiff_t rows,             \
                            ptrdiff_t classes, REAL *restrict out, ptrdiff_t step,                 \
                            ptrdiff_t ahead) {                                                     \
        ptrdiff_t line = 64 / sizeof(REAL), r = 0, next, c, first, i;                              \
        ptrdiff_t whole = rows - (classes < CLASSES ? (CLASSES - 1) / classes : 0);                \
        for (; r + ROWS <= whole; r = next) {                                                      \
            const char *here = at + r * sizeof(REAL);                                              \
            next = r + line <= whole ? r + line : r + ROWS;                                        \
            if (ahead)                                                                             \
                for (c = 0; c < classes; c++) fe_ask(here + c * stride + ahead, 1, 0);             \
            if (classes < CLASSES)                                                                 \
                for (i = 0; i < next - r; i += ROWS)                                               \
                    TURN(here + i * sizeof(REAL), stride, classes - 1, out + (r + i) * step, step);\
            else                                                                                   \
                for (c = 0; c < classes; c += CLASSES) {                                           \
                    first = c + CLASSES <= classes ? c : classes - CLASSES;                        \
                    for (i = 0; i < next - r; i += ROWS)                                           \
                        TURN(here + first * stride + i * sizeof(REAL), stride, CLASSES - 1,        \
                             out + (r + i) * step + first, step);                                  \
                }                                                                                  \
        }                                                                                          \
        for (; r < rows; r++)                                                                      \
            for (c = 0; c < classes; c++)                                                          \
                memcpy(out + r * step + c, at + c * stride + r * sizeof(REAL), sizeof(REAL));      \
    }
FE_ACROSS(fe_across_float, float, fe_turn_float, FE_FLOAT_LINES, 4)
FE_ACROSS(fe_across_double, double, fe_turn_double, FE_DOUBLE_LINES, 2)
#define fe_across(at, stride, rows, classes, out, step, ahead)                                     \
    FE_OF(fe_across, *(out))(at, stride, rows, classes, out, step, ahead)

#endif
