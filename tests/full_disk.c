/* Preloaded: from the FULL_AFTER-th write below FULL_FOLDER on, the disk is full. The write at which
   it fills takes half of its bytes, as a real one does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static long writes;

/* 0: write as asked. 1: half of it. 2: nothing. */
static int fate(int fd) {
  const char *folder = getenv("FULL_FOLDER"), *after = getenv("FULL_AFTER");
  char link[64], path[4096];
  if (!folder || !after) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  if (strncmp(path, folder, strlen(folder))) return 0;
  long mine = __sync_add_and_fetch(&writes, 1), limit = atol(after);
  return mine < limit ? 0 : mine == limit ? 1 : 2;
}

#define GUARDED(name, declaration, arguments, type)            \
  ssize_t name declaration {                                   \
    static ssize_t(*real) type;                                \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);      \
    int what = fate(fd);                                       \
    if (what == 2) {                                           \
      errno = ENOSPC;                                          \
      return -1;                                               \
    }                                                          \
    if (what == 1) count = (count + 1) / 2;                    \
    return real arguments;                                     \
  }

GUARDED(write, (int fd, const void *data, size_t count), (fd, data, count),
        (int, const void *, size_t))
GUARDED(pwrite, (int fd, const void *data, size_t count, off_t at), (fd, data, count, at),
        (int, const void *, size_t, off_t))
GUARDED(pwrite64, (int fd, const void *data, size_t count, off_t at), (fd, data, count, at),
        (int, const void *, size_t, off_t))

__attribute__((destructor)) static void report(void) {
  const char *path = getenv("FULL_COUNT");
  FILE *file = path ? fopen(path, "w") : NULL;
  if (file) {
    fprintf(file, "%ld", writes);
    fclose(file);
  }
}
