/* Loaded into a traced command (LD_PRELOAD): names every point at which its death could matter, and kills it there.
 *
 * A point is a commit (SQLite empties its journal, or syncs its write-ahead log), a sync, a rename or removal below
 * X402_TRACE_ROOT, a request leaving for a loopback address, or an answer arriving. Points are numbered from 1.
 * X402_TRACE_FILE takes one line for each: number, before|after, kind, subject, separated by tabs. Writes below the
 * root are traced too, without a number: they are what a sync has to cover. Of a request only method, path and
 * whether it carries a payment are written, never a header.
 * X402_TRACE_KILL="17 before" kills the command's whole process group at point 17, before it happens.
 * All three are read when a program starts, or by `x402_trace` in a process that was forked instead of started.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))next_called(#name))

static atomic_long points;
static int trace_fd = -1;
static const char *root = NULL;
static long kill_at = 0;
static char kill_when[8] = "";

static void *next_called(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL) abort(); /* a call we name but libc does not have: better loud than untraced */
    return found;
}

__attribute__((constructor)) void x402_trace(void) {
    const char *file = getenv("X402_TRACE_FILE"), *order = getenv("X402_TRACE_KILL");
    root = getenv("X402_TRACE_ROOT");
    if (file == NULL || root == NULL) return;
    trace_fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (trace_fd < 0) abort();
    if (order != NULL && sscanf(order, "%ld %7s", &kill_at, kill_when) != 2) abort();
}

static void trace(long number, const char *when, const char *kind, const char *subject) {
    char line[PATH_MAX + 128];
    int length = snprintf(line, sizeof line, "%ld\t%s\t%s\t%s\n", number, when, kind, subject);
    if (length > (int)sizeof line - 1) length = sizeof line - 1;
    if (syscall(SYS_write, trace_fd, line, (size_t)length) != length) abort();
}

static void reach(long number, const char *when, const char *kind, const char *subject) {
    int kept = errno;
    trace(number, when, kind, subject);
    if (number == kill_at && strcmp(when, kill_when) == 0) kill(0, SIGKILL);
    errno = kept;
}

static long reach_next(const char *when, const char *kind, const char *subject) {
    long number = atomic_fetch_add(&points, 1) + 1;
    reach(number, when, kind, subject);
    return number;
}

/* What a path is called below the root ("" for the root itself), or NULL when it is not ours to watch. */
static const char *below_root(const char *path) {
    size_t length;
    if (trace_fd < 0) return NULL;
    length = strlen(root);
    if (strncmp(path, root, length) != 0 || (path[length] != '/' && path[length] != '\0')) return NULL;
    return path[length] == '/' ? path + length + 1 : path + length;
}

static const char *name_of_fd(int fd, char path[PATH_MAX]) {
    char link[64];
    ssize_t length;
    if (trace_fd < 0) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, PATH_MAX - 1);
    if (length <= 0 || path[0] != '/') return NULL;
    path[length] = '\0';
    return below_root(path);
}

static const char *name_at(int folder, const char *given, char path[PATH_MAX]) {
    char base[PATH_MAX];
    if (trace_fd < 0) return NULL;
    if (given[0] == '/') return below_root(given);
    if (folder == AT_FDCWD) {
        if (getcwd(base, sizeof base) == NULL) return NULL;
    } else {
        char link[64];
        ssize_t length;
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        length = readlink(link, base, sizeof base - 1);
        if (length <= 0) return NULL;
        base[length] = '\0';
    }
    if (snprintf(path, PATH_MAX, "%s/%s", base, given) >= PATH_MAX) return NULL;
    return below_root(path);
}

static int ends_with(const char *name, const char *end) {
    size_t length = strlen(name), tail = strlen(end);
    return length >= tail && strcmp(name + length - tail, end) == 0;
}

/* --- syncs and commits */

static int sync_of(int fd, int (*next)(int)) {
    char path[PATH_MAX];
    int kept = errno, result;
    const char *name = name_of_fd(fd, path), *kind;
    long number;
    errno = kept;
    if (name == NULL) return next(fd);
    kind = ends_with(name, "-wal") ? "commit" : "sync";
    number = reach_next("before", kind, name);
    result = next(fd);
    reach(number, "after", kind, name);
    return result;
}

int fsync(int fd) { return sync_of(fd, NEXT(fsync)); }
int fdatasync(int fd) { return sync_of(fd, NEXT(fdatasync)); }

static int truncate_of(int fd, off64_t length, int (*next)(int, off64_t)) {
    char path[PATH_MAX];
    int kept = errno, result;
    const char *name = name_of_fd(fd, path), *kind;
    long number;
    errno = kept;
    if (name == NULL) return next(fd, length);
    kind = length == 0 && ends_with(name, "-journal") ? "commit" : "truncate";
    number = reach_next("before", kind, name);
    result = next(fd, length);
    reach(number, "after", kind, name);
    return result;
}

int ftruncate64(int fd, off64_t length) { return truncate_of(fd, length, NEXT(ftruncate64)); }
int ftruncate(int fd, off_t length) { return truncate_of(fd, length, NEXT(ftruncate64)); }

/* --- names */

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned int flags) {
    char path[PATH_MAX];
    const char *name = name_at(to_folder, to, path);
    long number = name == NULL ? 0 : reach_next("before", "rename", name);
    int result = NEXT(renameat2)(from_folder, from, to_folder, to, flags);
    if (name != NULL) reach(number, "after", "rename", name);
    return result;
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    return renameat2(from_folder, from, to_folder, to, 0);
}

int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    char path[PATH_MAX];
    const char *name = name_at(to_folder, to, path);
    long number = name == NULL ? 0 : reach_next("before", "rename", name);
    int result = NEXT(linkat)(from_folder, from, to_folder, to, flags);
    if (name != NULL) reach(number, "after", "rename", name);
    return result;
}

int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int folder, const char *given, int flags) {
    char path[PATH_MAX];
    const char *name = name_at(folder, given, path);
    long number = name == NULL ? 0 : reach_next("before", "unlink", name);
    int result = NEXT(unlinkat)(folder, given, flags);
    if (name != NULL) reach(number, "after", "unlink", name);
    return result;
}

int unlink(const char *given) { return unlinkat(AT_FDCWD, given, 0); }

/* --- bytes: to files (only traced) and to sellers (points) */

static int to_loopback(int fd) {
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    int kept = errno, found;
    found = trace_fd >= 0 && getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && peer.sin_family == AF_INET &&
            ntohl(peer.sin_addr.s_addr) >> 24 == 127;
    errno = kept;
    return found;
}

static int carries_payment(const char *text) {
    return strcasestr(text, "\r\nX-PAYMENT:") != NULL || strcasestr(text, "\r\nPAYMENT-SIGNATURE:") != NULL ||
           strcasestr(text, "\r\nX-402-PAYMENT:") != NULL;
}

/* "POST /audio/queue", with " +payment" when a payment header is there; "" for bytes that do not begin a request. */
static void name_request(const char *bytes, size_t length, char subject[PATH_MAX]) {
    static const char *methods[] = {"GET ", "POST ", "PUT ", "PATCH ", "DELETE ", "HEAD ", "OPTIONS "};
    char head[32 * 1024], *path, *end;
    size_t taken = length < sizeof head - 1 ? length : sizeof head - 1;
    subject[0] = '\0';
    memcpy(head, bytes, taken);
    head[taken] = '\0';
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (strncmp(head, methods[i], strlen(methods[i])) != 0) continue;
        path = head + strlen(methods[i]);
        end = path + strcspn(path, " ?\r\n");
        snprintf(subject, PATH_MAX, "%.*s%s", (int)(end - head < 1024 ? end - head : 1024), head,
                 carries_payment(end) ? " +payment" : "");
        return;
    }
}

struct leaving {
    long number;
    const char *kind;
    char subject[PATH_MAX];
};

static void before_sending(struct leaving *it, const char *bytes, size_t length) {
    name_request(bytes, length, it->subject);
    it->kind = it->subject[0] != '\0' ? "request" : "body";
    it->number = reach_next("before", it->kind, it->subject);
}

ssize_t send(int fd, const void *bytes, size_t length, int flags) {
    struct leaving it;
    ssize_t result;
    if (!to_loopback(fd)) return NEXT(send)(fd, bytes, length, flags);
    before_sending(&it, bytes, length);
    result = NEXT(send)(fd, bytes, length, flags);
    reach(it.number, "after", it.kind, it.subject);
    return result;
}

ssize_t sendto(int fd, const void *bytes, size_t length, int flags, const struct sockaddr *to, socklen_t size) {
    struct leaving it;
    ssize_t result;
    if (!to_loopback(fd)) return NEXT(sendto)(fd, bytes, length, flags, to, size);
    before_sending(&it, bytes, length);
    result = NEXT(sendto)(fd, bytes, length, flags, to, size);
    reach(it.number, "after", it.kind, it.subject);
    return result;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    struct leaving it;
    ssize_t result;
    if (message->msg_iovlen == 0 || !to_loopback(fd)) return NEXT(sendmsg)(fd, message, flags);
    before_sending(&it, message->msg_iov[0].iov_base, message->msg_iov[0].iov_len);
    result = NEXT(sendmsg)(fd, message, flags);
    reach(it.number, "after", it.kind, it.subject);
    return result;
}

static void trace_write(int fd) {
    char path[PATH_MAX];
    int kept = errno;
    const char *name = name_of_fd(fd, path);
    if (name != NULL) trace(0, "before", "write", name);
    errno = kept;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    struct leaving it;
    ssize_t result;
    if (!to_loopback(fd)) {
        trace_write(fd);
        return NEXT(write)(fd, bytes, length);
    }
    before_sending(&it, bytes, length);
    result = NEXT(write)(fd, bytes, length);
    reach(it.number, "after", it.kind, it.subject);
    return result;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    struct leaving it;
    ssize_t result;
    if (count == 0 || !to_loopback(fd)) {
        trace_write(fd);
        return NEXT(writev)(fd, parts, count);
    }
    before_sending(&it, parts[0].iov_base, parts[0].iov_len);
    result = NEXT(writev)(fd, parts, count);
    reach(it.number, "after", it.kind, it.subject);
    return result;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    trace_write(fd);
    return NEXT(pwrite64)(fd, bytes, length, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    trace_write(fd);
    return NEXT(pwrite64)(fd, bytes, length, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    trace_write(fd);
    return NEXT(pwritev64)(fd, parts, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    trace_write(fd);
    return NEXT(pwritev64)(fd, parts, count, offset);
}

/* --- answers: the bytes are in the command's hands and nothing has been done with them yet */

ssize_t recv(int fd, void *bytes, size_t length, int flags) {
    char status[4] = "";
    ssize_t result = NEXT(recv)(fd, bytes, length, flags);
    if (result >= 12 && memcmp(bytes, "HTTP/", 5) == 0 && to_loopback(fd)) {
        memcpy(status, (const char *)bytes + 9, 3);
        reach_next("after", "answer", status);
    }
    return result;
}
