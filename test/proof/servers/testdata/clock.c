/* Moves the clock of a server by CLOCK_AHEAD seconds, which may be negative. Preloaded (LD_PRELOAD).
 * The monotonic clock stays as it is, and waits last as long as they should. libfaketime does the
 * same, and does not start with jemalloc, which Redis uses. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long ahead(void) {
	static long seconds;
	static int known;
	if (!known) { const char *s = getenv("CLOCK_AHEAD"); seconds = s ? atol(s) : 0; known = 1; }
	return seconds;
}
int clock_gettime(clockid_t id, struct timespec *t) {
	int r = syscall(SYS_clock_gettime, id, t);
	if (r == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) t->tv_sec += ahead();
	return r;
}
int gettimeofday(struct timeval *t, void *z) {
	struct timespec s;
	clock_gettime(CLOCK_REALTIME, &s);
	t->tv_sec = s.tv_sec; t->tv_usec = s.tv_nsec / 1000;
	return 0;
}
time_t time(time_t *p) {
	struct timespec s;
	clock_gettime(CLOCK_REALTIME, &s);
	if (p) *p = s.tv_sec;
	return s.tv_sec;
}

/* MariaDB waits until a time by the clock, which the kernel reads by itself. A time by the monotonic
 * clock, which counts from the machine's start, is told from it by being short of the year 2001. */
int pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *until) {
	static int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
	struct timespec real = *until;
	if (!wait) {
#if defined(__x86_64__)
		wait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
#endif
		if (!wait) wait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
	}
	if (real.tv_sec > 1000000000) real.tv_sec -= ahead();
	return wait(c, m, &real);
}
