/* Threads, locks, signals and the clock of the system, under their POSIX names. On Windows what the
   pool needs of them is made of its locks and conditions; that part has been compiled, never run. */
#ifndef FASTENT_OS_THREADS_H
#define FASTENT_OS_THREADS_H

#include <time.h>

#if !defined(_WIN32)

#include <pthread.h>
#include <signal.h>

#else

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
#include <process.h>
#include <stdint.h>
#include <stdlib.h>

typedef SRWLOCK pthread_mutex_t;
typedef CONDITION_VARIABLE pthread_cond_t;
typedef HANDLE pthread_t;

static inline int pthread_mutex_init(pthread_mutex_t *m, void *unused) {
    (void)unused;
    InitializeSRWLock(m);
    return 0;
}

static inline int pthread_mutex_lock(pthread_mutex_t *m) {
    AcquireSRWLockExclusive(m);
    return 0;
}

static inline int pthread_mutex_unlock(pthread_mutex_t *m) {
    ReleaseSRWLockExclusive(m);
    return 0;
}

static inline int pthread_cond_init(pthread_cond_t *c, void *unused) {
    (void)unused;
    InitializeConditionVariable(c);
    return 0;
}

static inline int pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m) {
    return !SleepConditionVariableSRW(c, m, INFINITE, 0);
}

static inline int pthread_cond_broadcast(pthread_cond_t *c) {
    WakeAllConditionVariable(c);
    return 0;
}

struct fe_start {
    void *(*body)(void *);
    void *argument;
};

static unsigned __stdcall fe_run_thread(void *given) {
    struct fe_start start = *(struct fe_start *)given;
    free(given);
    start.body(start.argument);
    return 0;
}

static inline int pthread_create(pthread_t *thread, void *unused, void *(*body)(void *), void *argument) {
    struct fe_start *start = (struct fe_start *)malloc(sizeof *start);
    (void)unused;
    if (start == NULL)
        return 1;
    start->body = body;
    start->argument = argument;
    *thread = (HANDLE)_beginthreadex(NULL, 0, fe_run_thread, start, 0, NULL);
    if (*thread == NULL)
        free(start);
    return *thread == NULL;
}

static inline int pthread_detach(pthread_t thread) { return !CloseHandle(thread); }

/* There is no fork, and signals go to no particular thread. */
static inline int pthread_atfork(void *before, void *parent, void (*child)(void)) {
    (void)before, (void)parent, (void)child;
    return 0;
}

typedef int fe_sigset;
#define sigset_t fe_sigset
#define SIG_SETMASK 0
#define SIGBUS 0
static inline int sigfillset(sigset_t *s) { return *s = 0; }
static inline int sigdelset(sigset_t *s, int number) {
    (void)number;
    return *s = 0;
}
static inline int pthread_sigmask(int how, sigset_t *now, sigset_t *before) {
    (void)how, (void)now;
    return *before = 0;
}

#define CLOCK_MONOTONIC 1
#define clock_gettime(which, at) fe_clock_gettime(at)
static inline int fe_clock_gettime(struct timespec *at) {
    LARGE_INTEGER now, rate;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&rate);
    at->tv_sec = (time_t)(now.QuadPart / rate.QuadPart);
    at->tv_nsec = (long)(now.QuadPart % rate.QuadPart * 1000000000 / rate.QuadPart);
    return 0;
}

#endif

#if defined(CLOCK_MONOTONIC_COARSE)
#define FE_CLOCK CLOCK_MONOTONIC_COARSE                 /* a few nanoseconds; late by 4 ms at most */
#else
#define FE_CLOCK CLOCK_MONOTONIC
#endif

#endif
