/* Stands between a process and the C library: counts the calls that change files below a directory, and makes
   the n-th of them fail, or the process end there. Built and armed by nursery.py; what an armed process starts
   is armed too, and counts on.

   Not seen: stdio's own writes, stores into a mapped file, and system calls that bypass the C library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL, TORN, FULL, READ_ONLY };
/* What a full disk refuses is what takes room; a read-only one refuses all. */
enum { ROOM, CHANGE };

static int mode;
static long at;
static atomic_long own, *calls = &own;
static char below[PATH_MAX];
static size_t length;

void faults_arm(const char *directory, int how, long number) {
    strncpy(below, directory, sizeof below - 1);
    mode = how;
    at = number;
    *calls = 0;
    length = strlen(below);
}

/* Arm as the environment says; the count is in a file of eight bytes, which all processes share. */
__attribute__((constructor)) void faults_inherit(void) {
    const char *directory = getenv("FAULTS_BELOW"), *how = getenv("FAULTS_MODE");
    const char *number = getenv("FAULTS_AT"), *file = getenv("FAULTS_CALLS");
    if (!directory || !how || !number || !file) return;
    int fd = open(file, O_RDWR);
    if (fd < 0) return;
    void *there = mmap(NULL, sizeof *calls, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (there == MAP_FAILED) return;
    calls = there;
    long before = *calls;
    faults_arm(directory, atoi(how), atol(number));
    *calls = before;
}

long faults_calls(void) { return *calls; }

static int ours_fd(int fd) {
    char link[64], path[PATH_MAX];
    if (!length || fd <= 2) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    return size >= (ssize_t)length && !strncmp(path, below, length);
}

static int ours(int directory, const char *path) {
    if (!length || !path) return 0;
    if (path[0] == '/') return !strncmp(path, below, length);
    return directory != AT_FDCWD && ours_fd(directory);
}

static void end(void) {
    kill(0, SIGKILL); /* the group: what the command has started ends with it, its parent at its next call */
    kill(getpid(), SIGKILL);
    pause();
}

/* -1: the call fails, errno says how; 1: half of it is done, and the process ends; 0: it goes on. */
static int fault(int kind) {
    long number = ++*calls;
    if (mode == COUNT || number < at) return 0;
    if (mode == KILL) end();
    if (mode == TORN) return 1;
    if (mode == FULL && kind != ROOM) return 0;
    errno = mode == FULL ? ENOSPC : EROFS;
    return -1;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define CALL(test, kind, ...) \
    int f = (test) ? fault(kind) : 0; \
    if (f < 0) return -1; \
    __auto_type done = real(__VA_ARGS__); \
    if (f) end(); \
    return done

#define WRITE(name, more, ...) \
    ssize_t name(int fd, const void *data, size_t size more) { \
        REAL(name); \
        int f = ours_fd(fd) ? fault(ROOM) : 0; \
        if (f < 0) return -1; \
        if (f) size = size / 2; \
        ssize_t done = real(fd, data, size __VA_ARGS__); \
        if (f) end(); \
        return done; \
    }
#define COMMA ,

WRITE(write, , )
WRITE(pwrite, COMMA off_t offset, COMMA offset)
WRITE(pwrite64, COMMA off64_t offset, COMMA offset)

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    CALL(ours_fd(fd), ROOM, fd, parts, count);
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    REAL(copy_file_range);
    CALL(ours_fd(out), ROOM, in, from, out, to, size, flags);
}
extern ssize_t sendfile(int out, int in, off_t *offset, size_t size);
ssize_t sendfile(int out, int in, off_t *offset, size_t size) {
    REAL(sendfile);
    CALL(ours_fd(out), ROOM, out, in, offset, size);
}
extern ssize_t sendfile64(int out, int in, off64_t *offset, size_t size);
ssize_t sendfile64(int out, int in, off64_t *offset, size_t size) {
    REAL(sendfile64);
    CALL(ours_fd(out), ROOM, out, in, offset, size);
}

#define OPENED(flags) ((flags) & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC))
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t rights = va_arg(rest, mode_t); \
        va_end(rest); \
        CALL(OPENED(flags) && ours(AT_FDCWD, path), (flags & O_CREAT) ? ROOM : CHANGE, path, flags, rights); \
    }
#define OPENAT(name) \
    int name(int directory, const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t rights = va_arg(rest, mode_t); \
        va_end(rest); \
        CALL(OPENED(flags) && ours(directory, path), (flags & O_CREAT) ? ROOM : CHANGE, directory, path, flags, rights); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int fsync(int fd) { REAL(fsync); CALL(ours_fd(fd), CHANGE, fd); }
int fdatasync(int fd) { REAL(fdatasync); CALL(ours_fd(fd), CHANGE, fd); }
int ftruncate(int fd, off_t size) { REAL(ftruncate); CALL(ours_fd(fd), ROOM, fd, size); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); CALL(ours_fd(fd), ROOM, fd, size); }
int mkdir(const char *path, mode_t rights) { REAL(mkdir); CALL(ours(AT_FDCWD, path), ROOM, path, rights); }
int mkdirat(int d, const char *path, mode_t rights) { REAL(mkdirat); CALL(ours(d, path), ROOM, d, path, rights); }
int rmdir(const char *path) { REAL(rmdir); CALL(ours(AT_FDCWD, path), CHANGE, path); }
int unlink(const char *path) { REAL(unlink); CALL(ours(AT_FDCWD, path), CHANGE, path); }
int unlinkat(int d, const char *path, int flags) { REAL(unlinkat); CALL(ours(d, path), CHANGE, d, path, flags); }
int rename(const char *from, const char *to) { REAL(rename); CALL(ours(AT_FDCWD, to), CHANGE, from, to); }
int renameat(int f1, const char *from, int t, const char *to) {
    REAL(renameat);
    CALL(ours(t, to), CHANGE, f1, from, t, to);
}
int renameat2(int f1, const char *from, int t, const char *to, unsigned flags) {
    REAL(renameat2);
    CALL(ours(t, to), CHANGE, f1, from, t, to, flags);
}
int link(const char *from, const char *to) { REAL(link); CALL(ours(AT_FDCWD, to), ROOM, from, to); }
int linkat(int f1, const char *from, int t, const char *to, int flags) {
    REAL(linkat);
    CALL(ours(t, to), ROOM, f1, from, t, to, flags);
}
int symlink(const char *from, const char *to) { REAL(symlink); CALL(ours(AT_FDCWD, to), ROOM, from, to); }
