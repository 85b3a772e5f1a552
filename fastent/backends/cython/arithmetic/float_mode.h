/* The floating point mode: rows are computed in the default one, whatever the host has set.

   A host may flush subnormals (torch.set_flush_denormal), round otherwise (fesetround) or trap
   (feenableexcept); threads begin with the mode of the thread that started them. What was set is put
   back where a call ends. A host in the default mode pays for reading the register, twice. */
#ifndef FE_FLOAT_MODE_H
#define FE_FLOAT_MODE_H

#if defined(__x86_64__) || defined(__SSE__)
#include <xmmintrin.h>

typedef unsigned int fe_float_mode;
#define FE_FLAGS 0x3Fu      /* exceptions seen so far: no part of the mode */
#define FE_DEFAULT 0x1F80u  /* nothing traps, to nearest, subnormals are numbers */

static inline fe_float_mode fe_enter_default_mode(void) {
    fe_float_mode was = _mm_getcsr();
    if ((was & ~FE_FLAGS) != FE_DEFAULT) _mm_setcsr(FE_DEFAULT);
    __asm__ volatile("" ::: "memory");
    return was;
}

static inline void fe_restore_mode(fe_float_mode was) {
    __asm__ volatile("" ::: "memory");
    if ((was & ~FE_FLAGS) != FE_DEFAULT) _mm_setcsr(was);
}

#elif defined(__aarch64__)

typedef unsigned long long fe_float_mode;

static inline fe_float_mode fe_enter_default_mode(void) {
    fe_float_mode was, zero = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(was) : : "memory");
    if (was != 0) __asm__ volatile("msr fpcr, %0" : : "r"(zero) : "memory");
    return was;
}

static inline void fe_restore_mode(fe_float_mode was) {
    if (was != 0) __asm__ volatile("msr fpcr, %0" : : "r"(was) : "memory");
}

#else
#include <fenv.h>

typedef fenv_t fe_float_mode;

static inline fe_float_mode fe_enter_default_mode(void) {
    fe_float_mode was;
    fegetenv(&was);
    fesetenv(FE_DFL_ENV);
    return was;
}

static inline void fe_restore_mode(fe_float_mode was) { fesetenv(&was); }

#endif
#endif
