/* Sums over fixed lanes, and the bit casts and fma that Cython has no words for.

   A row is summed in lanes of double (16, or 8 where floats are added in eights first), folded by a fixed tree, so
   a sum has the same bits at every SIMD level, alone or among others. Written with the vector extension of GCC and
   clang, which knows no instruction set: the same sum as a plain loop costs 22 ns a row of 100 floats instead of
   4, because GCC 12 does not keep the lanes in registers for the fold and runs the tail one element at a time.

   Sums read up to 15 elements past the end of a row (and ignore them): rows are summed from
   scratch buffers that have that room, never from the caller's memory. */
#ifndef FASTENT_LANES_H
#define FASTENT_LANES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define FE_WIDTH 8
#elif defined(__AVX__)
#define FE_WIDTH 4
#else
#define FE_WIDTH 2
#endif
#define FE_VECTORS (16 / FE_WIDTH)      /* of doubles, for 16 lanes */
#define FE_WIDES (FE_VECTORS / 2)       /* of floats */
#define FE_INLINE static inline __attribute__((always_inline))

/* The function for floats or the one for doubles, by what x is: kernels call it by one name. */
#define FE_OF(NAME, x) _Generic((x), float: NAME##_float, double: NAME##_double)

/* Asks for memory that is read later: into the second level, as the first has no room for what waits,
   or into the first, `near`, if that is soon. Inlined by force: GCC takes a call that does nothing else
   for one without effect, and leaves it out. */
FE_INLINE void fe_ask(const void *place, ptrdiff_t size, int near) {
    const char *at = (const char *)place;
    if (near)
        for (ptrdiff_t i = 0; i < size; i += 64) __builtin_prefetch(at + i, 0, 3);
    else
        for (ptrdiff_t i = 0; i < size; i += 64) __builtin_prefetch(at + i, 0, 2);
}
FE_INLINE void fe_ask_two(const void *p, const void *q, ptrdiff_t ahead, ptrdiff_t size) {
    fe_ask((const char *)p + ahead, size, 0);
    fe_ask((const char *)q + ahead, size, 0);
}
#if defined(__clang__) || __GNUC__ >= 12
#define FE_PICK(a, b, INTS, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FE_PICK(a, b, INTS, ...) __builtin_shuffle(a, b, (INTS){__VA_ARGS__})
#endif

typedef float fe_floats __attribute__((vector_size(FE_WIDTH * 4)));
typedef int32_t fe_ints __attribute__((vector_size(FE_WIDTH * 4)));
typedef double fe_doubles __attribute__((vector_size(FE_WIDTH * 8)));
typedef int64_t fe_longs __attribute__((vector_size(FE_WIDTH * 8)));
typedef float fe_wide_floats __attribute__((vector_size(FE_WIDTH * 8)));
typedef int32_t fe_wide_ints __attribute__((vector_size(FE_WIDTH * 8)));

static const int32_t fe_index_float[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const int64_t fe_index_double[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static inline fe_doubles fe_widen(fe_floats x) {
#if FE_WIDTH == 8
    return (fe_doubles)_mm512_cvtps_pd((__m256)x); /* GCC 12 splits __builtin_convertvector here */
#else
    return __builtin_convertvector(x, fe_doubles);
#endif
}

/* Lanes folded as ((0+8)+(4+12)) + ...: 16 lanes to one vector, then within it. */
FE_INLINE fe_doubles fe_narrow(const fe_doubles *lane) {
#if FE_WIDTH == 8
    return lane[0] + lane[1];
#elif FE_WIDTH == 4
    return (lane[0] + lane[2]) + (lane[1] + lane[3]);
#else
    return ((lane[0] + lane[4]) + (lane[2] + lane[6]))
         + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
#endif
}

FE_INLINE double fe_fold(fe_doubles v) {
#if FE_WIDTH == 8
    v += FE_PICK(v, v, fe_longs, 4, 5, 6, 7, 0, 1, 2, 3);
    v += FE_PICK(v, v, fe_longs, 2, 3, 0, 1, 6, 7, 4, 5);
#elif FE_WIDTH == 4
    v += FE_PICK(v, v, fe_longs, 2, 3, 0, 1);
#endif
    return v[0] + v[1];
}

/* The same of FE_WIDTH rows at once, by a tree that transposes as it adds: 21 instructions for
   eight rows of eight lanes, where fe_fold takes 7 for each. */
#if FE_WIDTH == 8
FE_INLINE fe_doubles fe_add_halves(fe_doubles a, fe_doubles b) {
    return FE_PICK(a, b, fe_longs, 0, 1, 2, 3, 8, 9, 10, 11)
         + FE_PICK(a, b, fe_longs, 4, 5, 6, 7, 12, 13, 14, 15);
}
FE_INLINE fe_doubles fe_add_quarters(fe_doubles a, fe_doubles b) {
    return FE_PICK(a, b, fe_longs, 0, 1, 4, 5, 8, 9, 12, 13)
         + FE_PICK(a, b, fe_longs, 2, 3, 6, 7, 10, 11, 14, 15);
}
FE_INLINE fe_doubles fe_fold_rows(const fe_doubles *row) {
    fe_doubles even = fe_add_quarters(fe_add_halves(row[0], row[2]), fe_add_halves(row[4], row[6]));
    fe_doubles odd = fe_add_quarters(fe_add_halves(row[1], row[3]), fe_add_halves(row[5], row[7]));
    return FE_PICK(even, odd, fe_longs, 0, 8, 2, 10, 4, 12, 6, 14)
         + FE_PICK(even, odd, fe_longs, 1, 9, 3, 11, 5, 13, 7, 15);
}
#elif FE_WIDTH == 4
FE_INLINE fe_doubles fe_add_quarters(fe_doubles a, fe_doubles b) {
    return FE_PICK(a, b, fe_longs, 0, 1, 4, 5) + FE_PICK(a, b, fe_longs, 2, 3, 6, 7);
}
FE_INLINE fe_doubles fe_fold_rows(const fe_doubles *row) {
    fe_doubles even = fe_add_quarters(row[0], row[2]), odd = fe_add_quarters(row[1], row[3]);
    return FE_PICK(even, odd, fe_longs, 0, 4, 2, 6) + FE_PICK(even, odd, fe_longs, 1, 5, 3, 7);
}
#else
FE_INLINE fe_doubles fe_fold_rows(const fe_doubles *row) {
    return FE_PICK(row[0], row[1], fe_longs, 0, 2) + FE_PICK(row[0], row[1], fe_longs, 1, 3);
}
#endif

/* How a row of n is cut: blocks, then a rest of 1 to 4 sixteens, the last of them masked; 0 sixteens
   stand for a row of at most eight. */
#define FE_CUT(TYPE, BLOCK, MASK, COUNT, INT)                                                      \
    typedef struct {                                                                               \
        ptrdiff_t blocks;                                                                          \
        int sixteens;                                                                              \
        MASK mask[COUNT];                                                                          \
    } fe_cut_##TYPE;                                                                               \
    FE_INLINE fe_cut_##TYPE fe_cut_of_##TYPE(ptrdiff_t n) {                                        \
        fe_cut_##TYPE cut;                                                                         \
        cut.blocks = (n - 1) / BLOCK;                                                              \
        ptrdiff_t rest = n - cut.blocks * BLOCK;                                                   \
        cut.sixteens = n <= 8 ? 0 : (int)((rest + 15) / 16);                                       \
        INT last = (INT)((rest - 1) % 16 + 1);                                                     \
        for (int k = 0; k < COUNT; k++) {                                                          \
            memcpy(&cut.mask[k], fe_index_##TYPE + 16 / COUNT * k, sizeof cut.mask[k]);            \
            cut.mask[k] = cut.mask[k] < last;                                                      \
        }                                                                                          \
        return cut;                                                                                \
    }
FE_CUT(float, 64, fe_wide_ints, FE_WIDES, int32_t)
FE_CUT(double, 16, fe_longs, FE_VECTORS, int64_t)

FE_INLINE fe_wide_floats fe_wide_at(const float *x, int k) {
    fe_wide_floats v;
    memcpy(&v, x + 2 * FE_WIDTH * k, sizeof v);
    return v;
}

FE_INLINE fe_floats fe_half(fe_wide_floats v, int high) {
#if FE_WIDTH == 8 /* memcpy goes by memory */
    return (fe_floats)(high ? _mm512_extractf32x8_ps((__m512)v, 1) : _mm512_castps512_ps256((__m512)v));
#else
    fe_floats half;
    memcpy(&half, (const char *)&v + (high ? sizeof half : 0), sizeof half);
    return half;
#endif
}

/* Sixteen floats as eight lanes, narrowed to one vector; the upper eight are 0 if not `wide`. */
FE_INLINE fe_doubles fe_add_eights(const fe_wide_floats *v, int wide) {
#if FE_WIDTH == 8
    fe_floats low = fe_half(v[0], 0);
    return fe_widen(wide ? low + fe_half(v[0], 1) : low);
#elif FE_WIDTH == 4
    fe_wide_floats sum = wide ? v[0] + v[1] : v[0];
    return fe_widen(fe_half(sum, 0)) + fe_widen(fe_half(sum, 1));
#else
    fe_wide_floats low = wide ? v[0] + v[2] : v[0], high = wide ? v[1] + v[3] : v[1];
    return (fe_widen(fe_half(low, 0)) + fe_widen(fe_half(high, 0)))
         + (fe_widen(fe_half(low, 1)) + fe_widen(fe_half(high, 1)));
#endif
}

/* A row of floats as one vector of lanes. Floats 8 apart are added in eights first: three roundings
   of float (2e-7 of the sum of absolute values), and an eighth of the conversions, which would be
   most of the work. `blocks` and `sixteens` are constants of the caller. */
FE_INLINE fe_doubles fe_lanes_float(const float *x, const fe_cut_float *cut, ptrdiff_t blocks,
                                    int sixteens) {
    fe_wide_floats v[FE_WIDES];
    const float *rest = x + 64 * blocks, *last = rest + (sixteens ? 16 * (sixteens - 1) : 0);
    for (int k = 0; k < FE_WIDES; k++) {
        v[k] = (fe_wide_floats)((fe_wide_ints)fe_wide_at(last, k) & cut->mask[k]);
        if (sixteens == 2) v[k] = fe_wide_at(rest, k) + v[k];
        if (sixteens == 3) v[k] = (fe_wide_at(rest, k) + fe_wide_at(rest + 16, k)) + v[k];
        if (sixteens == 4)
            v[k] = (fe_wide_at(rest, k) + fe_wide_at(rest + 16, k))
                 + (fe_wide_at(rest + 32, k) + v[k]);
    }
    fe_doubles lanes = fe_add_eights(v, sixteens);
    for (ptrdiff_t j = 0; j < blocks; j++, x += 64) {
        for (int k = 0; k < FE_WIDES; k++)
            v[k] = (fe_wide_at(x, k) + fe_wide_at(x + 16, k))
                 + (fe_wide_at(x + 32, k) + fe_wide_at(x + 48, k));
        lanes += fe_add_eights(v, 1);
    }
    return lanes;
}

FE_INLINE fe_doubles fe_lanes_double(const double *x, const fe_cut_double *cut, ptrdiff_t blocks,
                                     int sixteens) {
    fe_doubles lane[FE_VECTORS];
    const double *rest = x + 16 * blocks;
    for (int k = 0; k < FE_VECTORS; k++) {
        fe_longs v = {0};
        if (sixteens || k < FE_VECTORS / 2) memcpy(&v, rest + FE_WIDTH * k, sizeof v);
        lane[k] = (fe_doubles)(v & cut->mask[k]);
    }
    for (ptrdiff_t j = 0; j < blocks; j++, x += 16)
        for (int k = 0; k < FE_VECTORS; k++) {
            fe_doubles v;
            memcpy(&v, x + FE_WIDTH * k, sizeof v);
            lane[k] += v;
        }
    return fe_narrow(lane);
}

#define FE_SUMS(TYPE)                                                                              \
    FE_INLINE void fe_cut_rows_##TYPE(const TYPE *x, ptrdiff_t rows, ptrdiff_t n, double *out,     \
                                      const fe_cut_##TYPE *cut, ptrdiff_t blocks, int sixteens) {  \
        ptrdiff_t r = 0;                                                                           \
        for (; r + FE_WIDTH <= rows; r += FE_WIDTH) {                                              \
            fe_doubles row[FE_WIDTH], sums;                                                        \
            _Pragma("GCC unroll 8") for (int k = 0; k < FE_WIDTH; k++)                             \
                row[k] = fe_lanes_##TYPE(x + (r + k) * n, cut, blocks, sixteens);                  \
            sums = fe_fold_rows(row);                                                              \
            memcpy(out + r, &sums, sizeof sums);                                                   \
        }                                                                                          \
        for (; r < rows; r++)                                                                      \
            out[r] = fe_fold(fe_lanes_##TYPE(x + r * n, cut, blocks, sixteens));                   \
    }                                                                                              \
    /* the sums of consecutive rows of n >= 1 */                                                   \
    static void fe_row_sums_##TYPE(const TYPE *x, ptrdiff_t rows, ptrdiff_t n, double *out) {      \
        const fe_cut_##TYPE cut = fe_cut_of_##TYPE(n);                                             \
        const ptrdiff_t blocks = cut.blocks;                                                       \
        switch (blocks > 0 ? cut.sixteens : -cut.sixteens) {                                       \
        case 0: fe_cut_rows_##TYPE(x, rows, n, out, &cut, 0, 0); break;                            \
        case -1: fe_cut_rows_##TYPE(x, rows, n, out, &cut, 0, 1); break;                           \
        case -2: fe_cut_rows_##TYPE(x, rows, n, out, &cut, 0, 2); break;                           \
        case -3: fe_cut_rows_##TYPE(x, rows, n, out, &cut, 0, 3); break;                           \
        case -4: fe_cut_rows_##TYPE(x, rows, n, out, &cut, 0, 4); break;                           \
        case 1: fe_cut_rows_##TYPE(x, rows, n, out, &cut, blocks, 1); break;                       \
        case 2: fe_cut_rows_##TYPE(x, rows, n, out, &cut, blocks, 2); break;                       \
        case 3: fe_cut_rows_##TYPE(x, rows, n, out, &cut, blocks, 3); break;                       \
        default: fe_cut_rows_##TYPE(x, rows, n, out, &cut, blocks, 4);                             \
        }                                                                                          \
    }                                                                                              \
    static inline double fe_lane_sum_##TYPE(const TYPE *x, ptrdiff_t n) {                          \
        double sum;                                                                                \
        fe_row_sums_##TYPE(x, 1, n, &sum);                                                         \
        return sum;                                                                                \
    }
FE_SUMS(float)
FE_SUMS(double)
#define fe_row_sums(x, ...) FE_OF(fe_row_sums, *(x))(x, __VA_ARGS__)
#define fe_lane_sum(x, n) FE_OF(fe_lane_sum, *(x))(x, n)

static inline uint32_t fe_bits_float(float x) { uint32_t b; memcpy(&b, &x, 4); return b; }
static inline uint64_t fe_bits_double(double x) { uint64_t b; memcpy(&b, &x, 8); return b; }
static inline float fe_from_bits_float(uint32_t b) { float x; memcpy(&x, &b, 4); return x; }
static inline double fe_from_bits_double(uint64_t b) { double x; memcpy(&x, &b, 8); return x; }
#define fe_bits(x) FE_OF(fe_bits, x)(x)
#define fe_from_bits(b) _Generic((b), uint32_t: fe_from_bits_float, uint64_t: fe_from_bits_double)(b)

/* y within a factor 2 of x > 0, by whole octaves, rounded towards zero; `rising`, a constant, says that y >= x. Or
   rounded to nearest: within a factor 1.5. fe_mantissa: x within [sqrt(1/2), sqrt(2)). An octave counts as
   FE_STEPS, and FE_STEP is ln 2 divided by that. AVX2 has neither a 64-bit arithmetic shift nor int64 -> double:
   high words, and a biased count that becomes a double by its bits. */
FE_INLINE double fe_whole_mantissa(double x, double *octaves) { /* in whole octaves */
    const uint64_t far = (uint64_t)2048 << 52;
    uint64_t whole = (fe_bits_double(x) - 0x3fe6a09e667f3bcd + far) >> 52;
    *octaves = fe_from_bits_double(whole | 0x4330000000000000) - 4503599627372544.0;
    return fe_from_bits_double(fe_bits_double(x) - (whole << 52) + far);
}
#if defined(__AVX512DQ__)
#define FE_STEPS 4503599627370496.0
#define FE_HIGH(x) fe_bits_double(x)
#define FE_TOWARDS_ZERO(high) (((high) >> 63) & 0xfffffffffffff)
#define FE_HALF_OCTAVE ((int64_t)1 << 51)
FE_INLINE double fe_less_high(double y, int64_t high, double *octaves) {
    high &= -4503599627370496;
    *octaves = (double)high;
    return fe_from_bits_double(fe_bits_double(y) - (uint64_t)high);
}
FE_INLINE double fe_mantissa(double x, double *octaves) {
    return fe_less_high(x, (int64_t)(fe_bits_double(x) - 0x3fe6a09e667f3bcd), octaves);
}
#else
#define FE_STEPS 1.0
#define FE_HIGH(x) (fe_bits_double(x) >> 32)
#define FE_TOWARDS_ZERO(high) ((high) < 0 ? 0xfffff : 0)
#define FE_HALF_OCTAVE 0x80000
FE_INLINE double fe_less_high(double y, int64_t high, double *octaves) {
    uint64_t whole = (uint64_t)(high + ((int64_t)4096 << 20)) >> 20;
    *octaves = fe_from_bits_double(whole | 0x4330000000000000) - 4503599627374592.0;
    return fe_from_bits_double(fe_bits_double(y) - (whole << 52));
}
#define fe_mantissa fe_whole_mantissa
#endif
FE_INLINE double fe_without_octaves(double y, double x, int rising, double *octaves) {
    int64_t high = (int64_t)(FE_HIGH(y) - FE_HIGH(x));
    if (!rising) high += FE_TOWARDS_ZERO(high);
    return fe_less_high(y, high, octaves);
}
FE_INLINE double fe_nearest_octaves(double y, double x, double *octaves) {
    return fe_less_high(y, (int64_t)(FE_HIGH(y) - FE_HIGH(x)) + FE_HALF_OCTAVE, octaves);
}
#define FE_STEP (0.69314718055994530942 / FE_STEPS)

/* row sums that are checked are nearer to 1: short series, and a division less */
#define FE_NEAR 0.00390625

/* a*b + c where one rounding or two make no difference to the bound: fused only in hardware */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__aarch64__)
#define FE_FUSED 1
static inline float fe_madd_float(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline double fe_madd_double(double a, double b, double c) { return __builtin_fma(a, b, c); }
/* x - k ln 2 for a whole k, and the ln 2 it takes: at 80 octaves the float is wrong by 2e-7 */
#define FE_OCTAVE ((double)0.693147181f)
static inline float fe_less_octaves(float x, float k) { return __builtin_fmaf(-k, 0.693147181f, x); }
#else
#define FE_FUSED 0
static inline float fe_madd_float(float a, float b, float c) { return a * b + c; }
static inline double fe_madd_double(double a, double b, double c) { return a * b + c; }
#define FE_OCTAVE 0.69314718055994530942
static inline float fe_less_octaves(float x, float k) {
    return (x - k * 0.693359375f) - k * -2.12194440e-4f;
}
#endif

#define fe_madd(a, b, c) FE_OF(fe_madd, a)(a, b, c)

/* A polynomial by its two to ten coefficients, the highest first. */
#define fe_poly(x, ...)                                                                            \
    _Generic((x), float: FE_POLY(fe_madd_float, x, __VA_ARGS__),                                   \
             double: FE_POLY(fe_madd_double, x, __VA_ARGS__))
#define FE_POLY(F, x, ...)                                                                         \
    FE_TENTH(__VA_ARGS__, FE_P10, FE_P9, FE_P8, FE_P7, FE_P6, FE_P5, FE_P4, FE_P3, FE_P2, 0)       \
    (F, x, __VA_ARGS__)
#define FE_TENTH(a, b, c, d, e, f, g, h, i, j, FOUND, ...) FOUND
#define FE_P2(F, x, a, b) F(a, x, b)
#define FE_P3(F, x, a, b, ...) FE_P2(F, x, F(a, x, b), __VA_ARGS__)
#define FE_P4(F, x, a, b, ...) FE_P3(F, x, F(a, x, b), __VA_ARGS__)
#define FE_P5(F, x, a, b, ...) FE_P4(F, x, F(a, x, b), __VA_ARGS__)
#define FE_P6(F, x, a, b, ...) FE_P5(F, x, F(a, x, b), __VA_ARGS__)
#define FE_P7(F, x, a, b, ...) FE_P6(F, x, F(a, x, b), __VA_ARGS__)
#define FE_P8(F, x, a, b, ...) FE_P7(F, x, F(a, x, b), __VA_ARGS__)
#define FE_P9(F, x, a, b, ...) FE_P8(F, x, F(a, x, b), __VA_ARGS__)
#define FE_P10(F, x, a, b, ...) FE_P9(F, x, F(a, x, b), __VA_ARGS__)

#endif
