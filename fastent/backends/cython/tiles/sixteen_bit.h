/* 16-bit numbers to floats: float16, bfloat16, and the codes of a dump, in loops that a compiler does not
   find by itself. Addresses need no alignment. */
#ifndef FASTENT_SIXTEEN_BIT_H
#define FASTENT_SIXTEEN_BIT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__F16C__)
#include <immintrin.h>
#endif

/* float16 to float: exact, subnormals, infinities and NaN included */
static inline float fe_half_float(uint16_t bits) {
#if defined(__F16C__)
    return _cvtsh_ss(bits);
#else
    uint32_t magnitude = (uint32_t)(bits & 0x7fff) << 13, sign = (uint32_t)(bits & 0x8000) << 16;
    uint32_t normal = magnitude + ((uint32_t)112 << 23), small = magnitude + ((uint32_t)113 << 23);
    float x;
    if (magnitude >= 0x0f800000) normal += (uint32_t)112 << 23; /* infinite or NaN */
    memcpy(&x, &small, 4); /* a subnormal: its fraction on top of 2^-14, minus 2^-14 */
    x -= 6.103515625e-05f;
    memcpy(&small, &x, 4);
    normal = (magnitude < 0x00800000 ? small : normal) | sign;
    memcpy(&x, &normal, 4);
    return x;
#endif
}

static inline float fe_brain_float(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, 4);
    return x;
}

/* n contiguous 16-bit numbers to float; GCC 12 has no loop for vcvtph2ps */
static inline void fe_halves(const char *restrict at, ptrdiff_t n, float *restrict out) {
    ptrdiff_t i = 0;
    uint16_t bits;
#if defined(__AVX512F__)
    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(at + 2 * i))));
#elif defined(__F16C__)
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(at + 2 * i))));
#endif
    for (; i < n; i++) {
        memcpy(&bits, at + 2 * i, 2);
        out[i] = fe_half_float(bits);
    }
}

static inline void fe_brains(const char *restrict at, ptrdiff_t n, float *restrict out) {
    for (ptrdiff_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, at + 2 * i, 2);
        out[i] = fe_brain_float(bits);
    }
}

/* Codes to floats: two roundings, as the program that wrote them has it */
static inline void fe_codes(const char *restrict at, ptrdiff_t n, float scale, float least,
                            float *restrict out) {
    for (ptrdiff_t i = 0; i < n; i++) {
        uint16_t code;
        memcpy(&code, at + 2 * i, 2);
        float product = scale * (float)code;
        out[i] = product + least;
    }
}

#endif
