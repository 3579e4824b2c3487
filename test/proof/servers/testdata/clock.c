/* Moves the clock of a server by CLOCK_AHEAD seconds, which may be negative. Preloaded (LD_PRELOAD). The monotonic clock
 * stays as it is. libfaketime does the same, and does not start with jemalloc, which Redis uses. */
#define _GNU_SOURCE
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
