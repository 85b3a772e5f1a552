/* Memory straight from the system. The part for Windows has been compiled, never run. */
#ifndef FASTENT_OS_MEMORY_H
#define FASTENT_OS_MEMORY_H

#include <stddef.h>

#if !defined(_WIN32)

#include <sys/mman.h>

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

/* NULL where there is none. */
static inline void *fe_take_memory(size_t size) {
    void *taken = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return taken == MAP_FAILED ? NULL : taken;
}

static inline void fe_give_memory(void *taken, size_t size) { munmap(taken, size); }

#else

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

static inline void *fe_take_memory(size_t size) {
    return VirtualAlloc(NULL, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}

static inline void fe_give_memory(void *taken, size_t size) {
    (void)size;
    VirtualFree(taken, 0, MEM_RELEASE);
}

#endif

#endif
