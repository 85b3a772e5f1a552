/* Mapped files whose missing parts read as zeros, with a note of it, instead of ending the process.

   Reading a page of a mapped file that has been cut off since, or that the disk cannot give, raises
   SIGBUS in the thread that reads. The handler puts zero pages from there to the end of the mapping
   and marks it; the reader looks at the mark before it believes what it computed. It is in force
   while a mapping exists; a SIGBUS anywhere else goes to whoever was asked before. */
#ifndef FASTENT_GUARD_H
#define FASTENT_GUARD_H

#if defined(__linux__)
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22                           /* Linux 5.14 */
#endif

enum { GUARD_SLOTS = 256 };

typedef struct {
    char *start;                                        /* NULL: the slot is free */
    size_t length;
    int broken;
} Guarded;

static Guarded guard_slots[GUARD_SLOTS];
static int guard_count = 0;
static long guard_page = 4096;
static struct sigaction guard_before;
static pthread_mutex_t guard_lock = PTHREAD_MUTEX_INITIALIZER;

static void guard_handle(int number, siginfo_t *info, void *context) {
    char *address = (char *)info->si_addr;
    int k;
    for (k = 0; k < GUARD_SLOTS && info->si_code > 0; k++) { /* else somebody sent it */
        Guarded *slot = &guard_slots[k];
        char *start = __atomic_load_n(&slot->start, __ATOMIC_ACQUIRE);
        if (start != NULL && address >= start && address < start + slot->length) {
            char *page = start + ((address - start) & ~(guard_page - 1));
            __atomic_store_n(&slot->broken, 1, __ATOMIC_RELEASE);
            if (mmap(page, slot->length - (page - start), PROT_READ,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED)
                return;
        }
    }
    if (guard_before.sa_flags & SA_SIGINFO) {
        guard_before.sa_sigaction(number, info, context);
    } else if (guard_before.sa_handler == SIG_IGN && info->si_code <= 0) {
        return;
    } else if (guard_before.sa_handler != SIG_DFL && guard_before.sa_handler != SIG_IGN) {
        guard_before.sa_handler(number);
    } else {                                            /* the process ends when this returns */
        signal(SIGBUS, SIG_DFL);
        raise(SIGBUS);
    }
}

static int guard_is_ours(const struct sigaction *action) {
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == guard_handle;
}

/* The slot of a new mapping of a file's first `length` bytes, -1 where there can be none. */
static int guard_open(int fd, size_t length) {
    struct sigaction ours, now;
    char *start;
    int k = 0;
    pthread_mutex_lock(&guard_lock);
    while (k < GUARD_SLOTS && guard_slots[k].start != NULL)
        k++;
    start = k < GUARD_SLOTS ? (char *)mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0)
                            : (char *)MAP_FAILED;
    if (start == (char *)MAP_FAILED) {
        k = -1;
    } else {
        guard_page = sysconf(_SC_PAGESIZE);
        if (guard_count++ == 0) {
            ours.sa_sigaction = guard_handle;
            ours.sa_flags = SA_SIGINFO | SA_RESTART;
            sigemptyset(&ours.sa_mask);
            /* Whoever came after us and left again has put our handler back. */
            if (sigaction(SIGBUS, &ours, &now) == 0 && !guard_is_ours(&now))
                guard_before = now;
        }
        guard_slots[k].length = length;
        guard_slots[k].broken = 0;
        __atomic_store_n(&guard_slots[k].start, start, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&guard_lock);
    return k;
}

static void guard_close(int k) {
    struct sigaction now;
    char *start = guard_slots[k].start;
    pthread_mutex_lock(&guard_lock);
    __atomic_store_n(&guard_slots[k].start, (char *)NULL, __ATOMIC_RELEASE);
    munmap(start, guard_slots[k].length);
    if (--guard_count == 0 && sigaction(SIGBUS, NULL, &now) == 0 && guard_is_ours(&now))
        sigaction(SIGBUS, &guard_before, NULL);
    pthread_mutex_unlock(&guard_lock);
}

static int guard_broken(int k) { return __atomic_load_n(&guard_slots[k].broken, __ATOMIC_ACQUIRE); }

static char *guard_start(int k) { return guard_slots[k].start; }

static int guard_advise(int k, size_t offset, size_t count, int advice) {
    size_t first = offset & ~(size_t)(guard_page - 1);
    return madvise(guard_slots[k].start + first, count + (offset - first), advice);
}

/* 1 if a byte of the file is in the page cache, 0 if the file has ended before it, else less. */
static int guard_cached(int fd, size_t offset) {
#ifdef RWF_NOWAIT                                       /* not in older C libraries */
    char byte;
    struct iovec one = {&byte, 1};
    return (int)preadv2(fd, &one, 1, offset, RWF_NOWAIT);
#else
    (void)fd;
    (void)offset;
    return -1;
#endif
}

/* 0 once all pages of a stretch are there, so that none is waited for while computing. What is not
   in the page cache is asked for as a whole first: page faults read ahead by little. What is there is
   mapped by touching it: a fault brings the 16 pages around it, at half of what it costs to have
   each of them looked up (0.03 and 0.06 ns a byte). */
static int guard_load(int k, int fd, size_t offset, size_t count) {
    size_t around = (size_t)64 << 10, at = offset & ~(around - 1), end = offset + count;
    volatile char byte = 0;
    int last;
    if (count == 0)
        return 0;
    last = guard_cached(fd, end - 1);
    if (last < 0 || guard_cached(fd, offset) < 0) {
        posix_fadvise(fd, offset, count, POSIX_FADV_WILLNEED);
        return guard_advise(k, offset, count, MADV_POPULATE_READ);
    }
    if (last == 0)
        return -1;
    for (; at < end; at += around)
        byte = guard_slots[k].start[at];
    (void)byte;
    return 0;
}

/* Large pages as a whole, the one that the stretch begins in too: to drop a part of one splits it, and
   scoring takes a fifth longer where the rest is mapped in small ones. Who still reads there gets it
   back by one page fault. */
static void guard_drop(int k, size_t offset, size_t count) {
    size_t large = (size_t)2 << 20, first = offset & ~(large - 1), end = (offset + count) & ~(large - 1);
    if (end > first)
        madvise(guard_slots[k].start + first, end - first, MADV_DONTNEED);
}

#else /* elsewhere nothing is mapped */
#include <stddef.h>

static int guard_open(int fd, size_t length) { (void)fd; (void)length; return -1; }
static void guard_close(int k) { (void)k; }
static int guard_broken(int k) { (void)k; return 1; }
static char *guard_start(int k) { (void)k; return NULL; }
static int guard_load(int k, int fd, size_t offset, size_t count) {
    (void)k; (void)fd; (void)offset; (void)count;
    return -1;
}
static void guard_drop(int k, size_t offset, size_t count) { (void)k; (void)offset; (void)count; }
#endif

#endif
