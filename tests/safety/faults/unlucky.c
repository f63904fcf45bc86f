/* Preloaded into a process, lets system calls fail as a kernel may: at a seeded rate, for as long as the file that
 * FAULTS_FILE names begins with a number above 0, which is the rate in failures of 10 000 calls; behind an "m" it is the rate at which
 * memory is refused, and nothing else fails. With CLOCK_SHIFT the wall clock is
 * that many seconds off while the monotonic one is not.
 *
 * Only the calls of workers ("penstock-0" …) and of the access log's writer fail, and only those that go through the C library.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static const volatile char *rate_text;
static volatile uint64_t state = 88172645463325252u;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("FAULTS_FILE"), *seed = getenv("FAULTS_SEED");
  if (seed) state ^= strtoull(seed, NULL, 10) * 0x9e3779b97f4a7c15u;
  if (!path) return;
  int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY, 0);
  if (file < 0) return;
  void *page = (void *)syscall(SYS_mmap, NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
  if (page != MAP_FAILED) rate_text = page;
  syscall(SYS_close, file);
}

static uint64_t dice(void) {
  uint64_t seen = __atomic_add_fetch(&state, 0x9e3779b97f4a7c15u, __ATOMIC_RELAXED);
  seen = (seen ^ (seen >> 30)) * 0xbf58476d1ce4e5b9u;
  seen = (seen ^ (seen >> 27)) * 0x94d049bb133111ebu;
  return seen ^ (seen >> 31);
}

enum thread { OTHER, WORKER, WRITER };

static enum thread thread(void) {
  static __thread enum thread known;
  if (known == OTHER) {
    char name[16] = "";
    prctl(PR_GET_NAME, name, 0, 0, 0);
    if (strncmp(name, "penstock-", 9) == 0 && name[9] >= '0' && name[9] <= '9') known = WORKER;
    if (strcmp(name, "penstock-log") == 0) known = WRITER;
  }
  return known;
}

/* The number that begins there. */
static int number_at(int at) {
  int number = 0;
  for (int end = at + 5; at < end && rate_text[at] >= '0' && rate_text[at] <= '9'; at++) number = number * 10 + rate_text[at] - '0';
  return number;
}

/* An error of the list, or 0. */
static int unlucky(enum thread whose, const int *errors, int count) {
  if (!rate_text || rate_text[0] < '1' || rate_text[0] > '9' || thread() != whose) return 0;
  int rate = number_at(0);
  uint64_t drawn = dice();
  return drawn % 10000 < (uint64_t)rate ? errors[(drawn >> 32) % (uint64_t)count] : 0;
}

/* Where a descriptor is waited for. A kernel that says "not now", or does a part only, tells when more is possible: so the
 * edge that was swallowed is given again. */
static struct { int epoll; struct epoll_event event; } waited[65536];

static void tell_again(int fd) {
  if (fd >= 0 && fd < 65536 && waited[fd].epoll > 0) {
    struct epoll_event event = waited[fd].event;
    syscall(SYS_epoll_ctl, waited[fd].epoll, EPOLL_CTL_MOD, fd, &event);
  }
}

#define NEXT(name) \
  static __typeof__(name) *next; \
  if (!next) next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
/* A call that does only a part of what was asked, in the list of errors. */
#define SHORT -1
#define FAIL(whose, fd, ...) \
  static const int errors[] = {__VA_ARGS__}; \
  int error = unlucky(whose, errors, sizeof errors / sizeof *errors); \
  if (error == EAGAIN) tell_again(fd); \
  if (error > 0) { errno = error; return -1; }
#define SHORTEN(fd, length) \
  if (error == SHORT && length > 1) { \
    length = 1 + dice() % (length - 1); \
    tell_again(fd); \
  }

ssize_t recv(int fd, void *to, size_t length, int flags) {
  NEXT(recv);
  FAIL(WORKER, fd, EINTR, EAGAIN, SHORT, SHORT, SHORT);
  SHORTEN(fd, length);
  return next(fd, to, length, flags);
}

ssize_t send(int fd, const void *from, size_t length, int flags) {
  NEXT(send);
  FAIL(WORKER, fd, EINTR, EAGAIN, ENOBUFS, SHORT, SHORT, SHORT);
  SHORTEN(fd, length);
  return next(fd, from, length, flags);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  NEXT(writev);
  FAIL(WORKER, fd, EINTR, EAGAIN, SHORT, SHORT);
  SHORTEN(fd, count);
  return next(fd, parts, count);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  NEXT(sendmsg);
  struct msghdr part = *message;
  FAIL(WORKER, fd, EINTR, EAGAIN, ENOBUFS, SHORT, SHORT);
  SHORTEN(fd, part.msg_iovlen);
  return next(fd, &part, flags);
}

/* Not for workers: what they write so are wake-ups, which a kernel does not fail. */
ssize_t write(int fd, const void *from, size_t length) {
  NEXT(write);
  FAIL(WRITER, fd, EINTR, ENOSPC, SHORT, SHORT);
  SHORTEN(fd, length);
  return next(fd, from, length);
}

int accept4(int fd, struct sockaddr *peer, socklen_t *length, int flags) {
  NEXT(accept4);
  FAIL(WORKER, fd, EINTR, EAGAIN, ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM);
  return next(fd, peer, length, flags);
}

int socket(int domain, int type, int protocol) {
  NEXT(socket);
  FAIL(WORKER, -1, EMFILE, ENFILE, ENOBUFS, ENOMEM);
  return next(domain, type, protocol);
}

int connect(int fd, const struct sockaddr *peer, socklen_t length) {
  NEXT(connect);
  FAIL(WORKER, -1, EADDRNOTAVAIL, ENETUNREACH, ECONNREFUSED);
  return next(fd, peer, length);
}

int epoll_ctl(int fd, int how, int of, struct epoll_event *event) {
  NEXT(epoll_ctl);
  if (how == EPOLL_CTL_ADD) {
    FAIL(WORKER, -1, ENOMEM, ENOSPC);
  }
  int done = next(fd, how, of, event);
  if (done == 0 && of >= 0 && of < 65536) {
    waited[of].epoll = how == EPOLL_CTL_DEL ? 0 : fd;
    if (event) waited[of].event = *event;
  }
  return done;
}

int epoll_wait(int fd, struct epoll_event *events, int most, int wait) {
  NEXT(epoll_wait);
  FAIL(WORKER, -1, EINTR);
  return next(fd, events, most, wait);
}

/* What the allocator of workers asks the kernel for: more addresses, and memory behind them. */
static int has_no_memory(void) {
  if (!rate_text || rate_text[0] != 'm' || thread() != WORKER) return 0;
  if (dice() % 10000 >= (uint64_t)number_at(1)) return 0;
  errno = ENOMEM;
  return 1;
}

void *mmap(void *at, size_t length, int rights, int flags, int fd, off_t offset) {
  if (has_no_memory()) return MAP_FAILED;
  return (void *)syscall(SYS_mmap, at, length, rights, flags, fd, offset);
}

int mprotect(void *at, size_t length, int rights) {
  if (rights != PROT_NONE && has_no_memory()) return -1;
  return (int)syscall(SYS_mprotect, at, length, rights);
}

int open64(const char *path, int flags, ...) {
  NEXT(open64);
  va_list rest;
  va_start(rest, flags);
  mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  FAIL(WRITER, -1, EMFILE, ENFILE, ENOSPC, EINTR);
  return next(path, flags, mode);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t length) {
  NEXT(setsockopt);
  FAIL(WORKER, -1, ENOBUFS, ENOMEM);
  return next(fd, level, name, value, length);
}

int clock_gettime(clockid_t which, struct timespec *now) {
  static long shift;
  static int known;
  if (!known) {
    const char *text = getenv("CLOCK_SHIFT");
    shift = text ? strtol(text, NULL, 10) : 0;
    known = 1;
  }
  int done = (int)syscall(SYS_clock_gettime, which, now);
  long now_off = shift;
  /* With a file, the shift is what stands behind a colon in it: it changes while the process runs. */
  if (rate_text && rate_text[0] == ':') now_off = strtol((const char *)rate_text + 1, NULL, 10);
  if (done == 0 && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += now_off;
  return done;
}
