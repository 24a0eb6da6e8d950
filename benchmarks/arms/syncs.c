/* Preloaded: counts what a process syncs and writes, and lets every sync take at least SYNC_MS milliseconds. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* syncs, writes, bytes written */
unsigned long counted[3];

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static int sync_slowly(int (*act)(int), int fd) {
    const char *ms = getenv("SYNC_MS");
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    int outcome = act(fd);
    end.tv_nsec += (ms ? atol(ms) : 0) * 1000000L;
    end.tv_sec += end.tv_nsec / 1000000000L;
    end.tv_nsec %= 1000000000L;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
    counted[0]++;
    return outcome;
}

static ssize_t note(ssize_t written) {
    counted[1]++;
    counted[2] += written > 0 ? written : 0;
    return written;
}

int fsync(int fd) { return sync_slowly((int (*)(int))real("fsync"), fd); }
int fdatasync(int fd) { return sync_slowly((int (*)(int))real("fdatasync"), fd); }
ssize_t write(int fd, const void *from, size_t size) {
    return note(((ssize_t (*)(int, const void *, size_t))real("write"))(fd, from, size));
}
ssize_t pwrite(int fd, const void *from, size_t size, off_t at) {
    return note(((ssize_t (*)(int, const void *, size_t, off_t))real("pwrite"))(fd, from, size, at));
}
ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at) {
    return note(((ssize_t (*)(int, const void *, size_t, off64_t))real("pwrite64"))(fd, from, size, at));
}
