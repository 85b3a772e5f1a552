/* Loaded before everything else: one call of the system fails, or moves fewer bytes than asked. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, READ, WRITE, SYNC, MAP, NAME, STAT, THREAD, KINDS };

static long number[KINDS] = {-1, -1, -1, -1, -1, -1, -1, -1};
static int reason;
static int seen;

/* The call of a kind with this number from now on fails with an errno; 0: half of the bytes. */
void fail_call(int kind, long which, int why) {
    for (int k = 0; k < KINDS; k++) number[k] = -1;
    reason = why;
    seen = 0;
    if (kind >= 0) number[kind] = which;
}

int has_failed(void) { return seen; }

static int fails(int kind) {
    if (__atomic_load_n(&number[kind], __ATOMIC_RELAXED) < 0) return 0;
    if (__atomic_fetch_sub(&number[kind], 1, __ATOMIC_SEQ_CST) != 0) return 0;
    seen = 1;
    errno = reason;
    return 1;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define MODE(flags) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list ap; va_start(ap, flags); mode = va_arg(ap, mode_t); va_end(ap); }
#include <fcntl.h>

int open(const char *path, int flags, ...) { REAL(open); MODE(flags) return fails(OPEN) ? -1 : real(path, flags, mode); }
int open64(const char *path, int flags, ...) { REAL(open64); MODE(flags) return fails(OPEN) ? -1 : real(path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { REAL(openat); MODE(flags) return fails(OPEN) ? -1 : real(at, path, flags, mode); }

#define MOVES(kind, result, name, parameters, whole, half) \
    result name parameters { REAL(name); if (!fails(kind)) return whole; return reason ? -1 : half; }
#define LESS(n) ((n) > 1 ? (n) / 2 : (n))

MOVES(READ, ssize_t, read, (int fd, void *p, size_t n), real(fd, p, n), real(fd, p, LESS(n)))
MOVES(READ, ssize_t, pread64, (int fd, void *p, size_t n, off64_t at), real(fd, p, n, at), real(fd, p, LESS(n), at))
MOVES(READ, ssize_t, preadv64, (int fd, const struct iovec *v, int n, off64_t at), real(fd, v, n, at),
      pread64(fd, v[0].iov_base, LESS(v[0].iov_len), at))
MOVES(WRITE, ssize_t, write, (int fd, const void *p, size_t n), real(fd, p, n), real(fd, p, LESS(n)))
MOVES(WRITE, ssize_t, pwrite64, (int fd, const void *p, size_t n, off64_t at), real(fd, p, n, at), real(fd, p, LESS(n), at))

int fsync(int fd) { REAL(fsync); return fails(SYNC) ? -1 : real(fd); }
int rename(const char *a, const char *b) { REAL(rename); return fails(NAME) ? -1 : real(a, b); }
int link(const char *a, const char *b) { REAL(link); return fails(NAME) ? -1 : real(a, b); }
int fstat64(int fd, struct stat64 *s) { REAL(fstat64); return fails(STAT) ? -1 : real(fd, s); }
int stat64(const char *path, struct stat64 *s) { REAL(stat64); return fails(STAT) ? -1 : real(path, s); }
void *mmap64(void *p, size_t n, int a, int b, int fd, off64_t at) { REAL(mmap64); return fd >= 0 && fails(MAP) ? MAP_FAILED : real(p, n, a, b, fd, at); }
void *mmap(void *p, size_t n, int a, int b, int fd, off_t at) { REAL(mmap); return fd >= 0 && fails(MAP) ? MAP_FAILED : real(p, n, a, b, fd, at); }
int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *p) {
    REAL(pthread_create);
    return fails(THREAD) ? EAGAIN : real(t, a, f, p);
}
