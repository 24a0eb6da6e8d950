/* Loaded into a process that calls it (LD_PRELOAD): lets the disk below a folder fail from a chosen moment on.
 *
 * Every write, sync, rename, link and opening for making below the folder, of files whose path holds `named` (or ends in
 * it, where it ends in `$`), is a point, numbered from 1 since `fault_arm`.
 * From point `first` on, points of the wanted kinds fail with `error`, until `fault_disarm`, which says how many points
 * there were. A full disk still lets files be removed, cut and read.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))next_called(#name))

enum { WRITE = 1, SYNC = 2, NAME = 4, MAKE = 8 };

static atomic_long points;
static char root[PATH_MAX] = "", only[64] = "";
static long first = 0;
static int error = 0, kinds = 0;

static void *next_called(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL) abort();
    return found;
}

void fault_arm(const char *folder, const char *named, long from, int what, int which) {
    snprintf(root, sizeof root, "%s", folder);
    snprintf(only, sizeof only, "%s", named);
    atomic_store(&points, 0);
    first = from;
    error = what;
    kinds = which;
}

long fault_disarm(void) {
    root[0] = '\0';
    return atomic_load(&points);
}

/* Whether the path holds what is wanted, or ends in it. */
static int is_meant(const char *path) {
    size_t wanted = strlen(only), length = strlen(path);
    if (wanted == 0 || only[wanted - 1] != '$') return strstr(path, only) != NULL;
    return length + 1 >= wanted && strncmp(path + length + 1 - wanted, only, wanted - 1) == 0;
}

/* Whether this call fails; errno is set then. */
static int fails(int kind, const char *path) {
    size_t length = strlen(root);
    long point;
    if (length == 0 || strncmp(path, root, length) != 0 || path[length] != '/' || !is_meant(path + length)) return 0;
    point = atomic_fetch_add(&points, 1) + 1;
    if (first == 0 || point < first || (kinds & kind) == 0) return 0;
    errno = error;
    return 1;
}

static int fails_fd(int kind, int fd) {
    char link[64], path[PATH_MAX];
    ssize_t length;
    int kept = errno;
    if (root[0] == '\0') return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    errno = kept;
    if (length <= 0) return 0;
    path[length] = '\0';
    return fails(kind, path);
}

static int fails_at(int kind, int folder, const char *given) {
    char base[PATH_MAX], path[PATH_MAX * 2];
    if (root[0] == '\0') return 0;
    if (given[0] == '/') return fails(kind, given);
    if (folder != AT_FDCWD || getcwd(base, sizeof base) == NULL) return 0;
    snprintf(path, sizeof path, "%s/%s", base, given);
    return fails(kind, path);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    return fails_fd(WRITE, fd) ? -1 : NEXT(write)(fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return fails_fd(WRITE, fd) ? -1 : NEXT(writev)(fd, parts, count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    return fails_fd(WRITE, fd) ? -1 : NEXT(pwrite64)(fd, bytes, length, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return fails_fd(WRITE, fd) ? -1 : NEXT(pwrite64)(fd, bytes, length, offset);
}

int fsync(int fd) { return fails_fd(SYNC, fd) ? -1 : NEXT(fsync)(fd); }
int fdatasync(int fd) { return fails_fd(SYNC, fd) ? -1 : NEXT(fdatasync)(fd); }

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned int flags) {
    return fails_at(NAME, to_folder, to) ? -1 : NEXT(renameat2)(from_folder, from, to_folder, to, flags);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    return renameat2(from_folder, from, to_folder, to, 0);
}

int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    return fails_at(NAME, to_folder, to) ? -1 : NEXT(linkat)(from_folder, from, to_folder, to, flags);
}

int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int openat64(int folder, const char *given, int flags, ...) {
    va_list more;
    mode_t mode;
    va_start(more, flags);
    mode = va_arg(more, mode_t);
    va_end(more);
    if ((flags & O_CREAT) != 0 && fails_at(MAKE, folder, given)) return -1;
    return NEXT(openat64)(folder, given, flags, mode);
}

int open64(const char *given, int flags, ...) {
    va_list more;
    mode_t mode;
    va_start(more, flags);
    mode = va_arg(more, mode_t);
    va_end(more);
    return openat64(AT_FDCWD, given, flags, mode);
}

int open(const char *given, int flags, ...) {
    va_list more;
    mode_t mode;
    va_start(more, flags);
    mode = va_arg(more, mode_t);
    va_end(more);
    return openat64(AT_FDCWD, given, flags, mode);
}
