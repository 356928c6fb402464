/* A wrong time of day, and names that come and go, for one process: the torture test loads this into the relay with
 * LD_PRELOAD.
 *
 * TORTURE_CLOCK names a file of eight bytes, the seconds by which the clock is ahead, which may change at any moment. A
 * wait until a time of day goes by that clock, as in the kernel: when the clock is set back, a wait that has begun gets
 * longer by as much. librdkafka waits like this, by C11's cnd_timedwait, which libfaketime 0.9.10 does not know.
 *
 * TORTURE_NAMES names one that says whether the names below .outbox-relay.invalid are this machine, 0, or cannot be resolved.
 * (nss_wrapper 1.1.12 does the same, but crashes now and then when two threads ask it first.)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

/* How soon a wait learns that the clock was set. */
#define SLICE_NS 50000000L

typedef int timedwait(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
typedef int gettime(clockid_t, struct timespec *);

typedef int resolve(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static const volatile int64_t *clock_file, *names_file;
static timedwait *real_timedwait;
static gettime *real_gettime;
static resolve *real_getaddrinfo;

static const volatile int64_t *map(const char *variable) {
    const char *name = getenv(variable);
    int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
    if (fd >= 0) close(fd);
    if (map == MAP_FAILED) abort();
    return map;
}

__attribute__((constructor)) static void begin(void) {
    real_timedwait = (timedwait *)dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    real_gettime = (gettime *)dlsym(RTLD_NEXT, "clock_gettime");
    real_getaddrinfo = (resolve *)dlsym(RTLD_NEXT, "getaddrinfo");
    clock_file = map("TORTURE_CLOCK");
    names_file = map("TORTURE_NAMES");
}

static int64_t ahead(void) { return clock_file ? *clock_file : 0; }

/* The right time. */
static int now(clockid_t id, struct timespec *ts) {
    return real_gettime ? real_gettime(id, ts) : (int)syscall(SYS_clock_gettime, id, ts);
}

int clock_gettime(clockid_t id, struct timespec *ts) {
    int result = now(id, ts);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) ts->tv_sec += ahead();
    return result;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
    struct timespec ts;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &ts);
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (result) *result = ts.tv_sec;
    return ts.tv_sec;
}

int timespec_get(struct timespec *ts, int base) {
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, ts) == 0 ? base : 0;
}

/* Whoever signals holds the mutex, and it is held here between two slices: no signal is missed. */
int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    for (;;) {
        struct timespec slice, end = *until;
        end.tv_sec -= ahead();
        now(CLOCK_REALTIME, &slice);
        slice.tv_nsec += SLICE_NS;
        slice.tv_sec += slice.tv_nsec / 1000000000L;
        slice.tv_nsec %= 1000000000L;
        int last = end.tv_sec < slice.tv_sec || (end.tv_sec == slice.tv_sec && end.tv_nsec <= slice.tv_nsec);
        int result = real_timedwait(cond, mutex, last ? &end : &slice);
        if (result != ETIMEDOUT || last) return result;
    }
}

/* In glibc the types of C11 are those of POSIX by other names. */
int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict until) {
    int result = pthread_cond_timedwait((pthread_cond_t *)cond, (pthread_mutex_t *)mutex, until);
    return result == 0 ? thrd_success : result == ETIMEDOUT ? thrd_timedout : thrd_error;
}

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict result) {
    static const char ours[] = ".outbox-relay.invalid";
    size_t length = node ? strlen(node) : 0;
    if (length >= sizeof ours && strcmp(node + length + 1 - sizeof ours, ours) == 0) {
        if (*names_file) return EAI_AGAIN;
        node = "127.0.0.1";
    }
    return real_getaddrinfo(node, service, hints, result);
}
