/* A clock that a test moves. LD_PRELOADed into a server, it answers for the wall clock from a page that the test shares.
 *
 * The page holds two numbers of microseconds: when the first is not 0, time stands still there; else real time plus the
 * second. CLOCK_MONOTONIC is left alone: a server's own timers must go on. Without STOKER_CLOCK_PAGE it changes nothing.
 * Built by tests/proof/clock/movable.py. (libfaketime crashes in a server with jemalloc: this allocates nothing.)
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *page;

__attribute__((constructor)) static void open_page(void) {
  const char *path = getenv("STOKER_CLOCK_PAGE");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *found = mmap(0, 2 * sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
  if (found != MAP_FAILED) page = found;
  close(file);
}

static int64_t wall_us(void) {
  struct timespec real;
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &real);
  int64_t us = (int64_t)real.tv_sec * 1000000 + real.tv_nsec / 1000;
  if (!page) return us;
  return page[0] ? page[0] : us + page[1];
}

int gettimeofday(struct timeval *time, void *zone) {
  (void)zone;
  int64_t us = wall_us();
  time->tv_sec = us / 1000000;
  time->tv_usec = us % 1000000;
  return 0;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) return syscall(SYS_clock_gettime, clock, time);
  int64_t us = wall_us();
  time->tv_sec = us / 1000000;
  time->tv_nsec = us % 1000000 * 1000;
  return 0;
}

time_t time(time_t *seconds) {
  time_t now = wall_us() / 1000000;
  if (seconds) *seconds = now;
  return now;
}
