/* Loaded before everything else: one allocation of the compiled modules fails.
   It is known by where it returns to, so that Python's own and NumPy's go on as ever. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

static long failing = -1, seen = 0;

/* The allocation with this number fails, counted from now on; none if it is negative. */
void fail_allocation(long number) {
    __atomic_store_n(&seen, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&failing, number, __ATOMIC_SEQ_CST);
}

long allocations(void) { return __atomic_load_n(&seen, __ATOMIC_SEQ_CST); }

static int fails(void *caller) {
    Dl_info info;
    const char *folder;
    if (__atomic_load_n(&failing, __ATOMIC_SEQ_CST) < 0) return 0;
    folder = getenv("COMPILED_MODULES");
    if (!dladdr(caller, &info) || !info.dli_fname || strncmp(info.dli_fname, folder, strlen(folder)) != 0)
        return 0;
    if (__atomic_fetch_add(&seen, 1, __ATOMIC_SEQ_CST) != failing) return 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size) {
    return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
    return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    if (fails(__builtin_return_address(0))) return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}
