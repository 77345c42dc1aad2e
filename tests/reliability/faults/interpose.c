/* Counts the calls of this process that write to, or read from, files below one directory, and lets call number N
 * fail as asked. Loaded with LD_PRELOAD, so that it sees SQLite, Arrow and safetensors as well as Python.
 * `fault_arm` starts it; until then every call goes through untouched. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum fault { COUNT, KILL, TORN, FULL, EIO_ON, EIO_ONCE, INTERRUPT, SHORT, STOP };
enum class { WRITES = 1, READS = 2 };
enum verdict { GO, FAIL, HALF, HALF_THEN_KILL };

static struct { long count; long fired; } unshared, *state = &unshared;
static char below[PATH_MAX];
static int armed, fault, classes, log_fd = -1;
static long at;

/* Names of the parameters as in `library.Fault`. `state_file` holds two longs: calls so far, and whether the fault
 * was injected; it outlives the process. */
int fault_arm(const char *state_file, const char *log_file, const char *directory, int which, int kind, long number) {
    int fd = syscall(SYS_openat, AT_FDCWD, state_file, O_RDWR, 0);
    if (fd < 0) return -1;
    state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (state == MAP_FAILED) return -1;
    log_fd = syscall(SYS_openat, AT_FDCWD, log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    snprintf(below, sizeof below, "%s", directory);
    fault = kind, classes = which, at = number, armed = 1;
    return 0;
}

/* Let this process obey permissions, even as root. */
int fault_obey_permissions(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}};
    return syscall(SYS_capset, &header, none);
}

static void die(void) {
    for (;;) syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
}

static int is_below(const char *path) {
    size_t length = strlen(below);
    return !strncmp(path, below, length) && (path[length] == '/' || !path[length]);
}

/* What becomes of the call `name` on the absolute `path`; sets errno where it fails. */
static enum verdict judged(int class, const char *name, const char *path, int grows) {
    if (!(classes & class) || !is_below(path)) return GO;
    long number = __atomic_add_fetch(&state->count, 1, __ATOMIC_SEQ_CST);
    if (log_fd >= 0) {
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%ld %s %s\n", number, name, path);
        syscall(SYS_write, log_fd, line, length);
    }
    int here = number == at, after = at > 0 && number >= at;
    if (fault == COUNT || !after || (!here && fault != FULL && fault != EIO_ON)) return GO;
    if (here) state->fired = 1;
    switch (fault) {
    case KILL: die(); break;
    case TORN: return HALF_THEN_KILL;
    case SHORT: return HALF;
    case INTERRUPT: syscall(SYS_kill, syscall(SYS_getpid), SIGINT); return GO;
    case STOP: syscall(SYS_kill, syscall(SYS_getpid), SIGSTOP); return GO;
    case FULL: errno = ENOSPC; return grows ? FAIL : GO;
    case EIO_ON: case EIO_ONCE: errno = EIO; return FAIL;
    }
    return GO;
}

static enum verdict judged_at(int class, const char *name, int directory, const char *path, int grows) {
    char full[2 * PATH_MAX];
    if (!armed || !path) return GO;
    if (path[0] == '/' || directory != AT_FDCWD) snprintf(full, sizeof full, "%s", path);
    else {
        char here[PATH_MAX] = "";
        syscall(SYS_getcwd, here, sizeof here);
        snprintf(full, sizeof full, "%s/%s", here, path);
    }
    return judged(class, name, full, grows);
}

static enum verdict judged_fd(int class, const char *name, int fd, int grows) {
    char link[64], path[PATH_MAX];
    if (!armed || fd < 0 || fd == log_fd) return GO;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length <= 0) return GO;
    path[length] = 0;
    return judged(class, name, path, grows);
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* A call that is made whole or not at all: torn means that the process dies right after it. */
#define WHOLE(judgement, call) do { \
    enum verdict fate = (judgement); \
    if (fate == FAIL) return -1; \
    __typeof__(call) result = (call); \
    if (fate == HALF_THEN_KILL) die(); \
    return result; } while (0)

/* A transfer of bytes: torn means that half of them arrive before the process dies. */
#define BYTES(judgement, size, whole, half) do { \
    enum verdict fate = (judgement); \
    if (fate == FAIL) return -1; \
    if (fate == GO || (size) < 2) { if (fate == HALF_THEN_KILL) die(); return (whole); } \
    ssize_t result = (half); \
    if (fate == HALF_THEN_KILL) die(); \
    return result; } while (0)

ssize_t write(int fd, const void *b, size_t n) { REAL(write); BYTES(judged_fd(WRITES, "write", fd, 1), n, real(fd, b, n), real(fd, b, n / 2)); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { REAL(pwrite); BYTES(judged_fd(WRITES, "pwrite", fd, 1), n, real(fd, b, n, o), real(fd, b, n / 2, o)); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { REAL(pwrite64); BYTES(judged_fd(WRITES, "pwrite", fd, 1), n, real(fd, b, n, o), real(fd, b, n / 2, o)); }
ssize_t writev(int fd, const struct iovec *v, int n) { REAL(writev); WHOLE(judged_fd(WRITES, "writev", fd, 1), real(fd, v, n)); }
ssize_t copy_file_range(int i, off64_t *io, int o, off64_t *oo, size_t n, unsigned f) { REAL(copy_file_range); WHOLE(judged_fd(WRITES, "copy_file_range", o, 1), real(i, io, o, oo, n, f)); }
int fsync(int fd) { REAL(fsync); WHOLE(judged_fd(WRITES, "fsync", fd, 0), real(fd)); }
int fdatasync(int fd) { REAL(fdatasync); WHOLE(judged_fd(WRITES, "fdatasync", fd, 0), real(fd)); }
int ftruncate(int fd, off_t n) { REAL(ftruncate); WHOLE(judged_fd(WRITES, "ftruncate", fd, 0), real(fd, n)); }
int ftruncate64(int fd, off64_t n) { REAL(ftruncate64); WHOLE(judged_fd(WRITES, "ftruncate", fd, 0), real(fd, n)); }
int rename(const char *a, const char *b) { REAL(rename); WHOLE(judged_at(WRITES, "rename", AT_FDCWD, b, 0), real(a, b)); }
int renameat(int d, const char *a, int e, const char *b) { REAL(renameat); WHOLE(judged_at(WRITES, "rename", e, b, 0), real(d, a, e, b)); }
int unlink(const char *p) { REAL(unlink); WHOLE(judged_at(WRITES, "unlink", AT_FDCWD, p, 0), real(p)); }
int unlinkat(int d, const char *p, int f) { REAL(unlinkat); WHOLE(judged_at(WRITES, "unlink", d, p, 0), real(d, p, f)); }
int mkdir(const char *p, mode_t m) { REAL(mkdir); WHOLE(judged_at(WRITES, "mkdir", AT_FDCWD, p, 1), real(p, m)); }
int chmod(const char *p, mode_t m) { REAL(chmod); WHOLE(judged_at(WRITES, "chmod", AT_FDCWD, p, 0), real(p, m)); }
int fchmod(int fd, mode_t m) { REAL(fchmod); WHOLE(judged_fd(WRITES, "chmod", fd, 0), real(fd, m)); }
int utimensat(int d, const char *p, const struct timespec t[2], int f) { REAL(utimensat); WHOLE(judged_at(WRITES, "utime", d, p, 0), real(d, p, t, f)); }

#define OPENED(directory, path) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); } \
    int made = flags & O_CREAT; \
    enum verdict v = judged_at(made ? WRITES : READS, made ? "create" : "open", directory, path, made); \
    if (v == FAIL) return -1

int open(const char *p, int flags, ...) { OPENED(AT_FDCWD, p); REAL(open); int fd = real(p, flags, mode); if (v == HALF_THEN_KILL) die(); return fd; }
int open64(const char *p, int flags, ...) { OPENED(AT_FDCWD, p); REAL(open64); int fd = real(p, flags, mode); if (v == HALF_THEN_KILL) die(); return fd; }
int openat(int d, const char *p, int flags, ...) { OPENED(d, p); REAL(openat); int fd = real(d, p, flags, mode); if (v == HALF_THEN_KILL) die(); return fd; }
int openat64(int d, const char *p, int flags, ...) { OPENED(d, p); REAL(openat64); int fd = real(d, p, flags, mode); if (v == HALF_THEN_KILL) die(); return fd; }

ssize_t read(int fd, void *b, size_t n) { REAL(read); BYTES(judged_fd(READS, "read", fd, 0), n, real(fd, b, n), real(fd, b, n / 2)); }
ssize_t pread(int fd, void *b, size_t n, off_t o) { REAL(pread); BYTES(judged_fd(READS, "pread", fd, 0), n, real(fd, b, n, o), real(fd, b, n / 2, o)); }
ssize_t pread64(int fd, void *b, size_t n, off64_t o) { REAL(pread64); BYTES(judged_fd(READS, "pread", fd, 0), n, real(fd, b, n, o), real(fd, b, n / 2, o)); }
int stat(const char *p, struct stat *s) { REAL(stat); WHOLE(judged_at(READS, "stat", AT_FDCWD, p, 0), real(p, s)); }
int stat64(const char *p, struct stat64 *s) { REAL(stat64); WHOLE(judged_at(READS, "stat", AT_FDCWD, p, 0), real(p, s)); }
int lstat(const char *p, struct stat *s) { REAL(lstat); WHOLE(judged_at(READS, "lstat", AT_FDCWD, p, 0), real(p, s)); }
int lstat64(const char *p, struct stat64 *s) { REAL(lstat64); WHOLE(judged_at(READS, "lstat", AT_FDCWD, p, 0), real(p, s)); }
int fstat(int fd, struct stat *s) { REAL(fstat); WHOLE(judged_fd(READS, "fstat", fd, 0), real(fd, s)); }
int fstat64(int fd, struct stat64 *s) { REAL(fstat64); WHOLE(judged_fd(READS, "fstat", fd, 0), real(fd, s)); }
DIR *opendir(const char *p) { REAL(opendir); return judged_at(READS, "opendir", AT_FDCWD, p, 0) == FAIL ? NULL : real(p); }
void *mmap(void *a, size_t n, int p, int f, int fd, off_t o) { REAL(mmap); return judged_fd(READS, "mmap", fd, 0) == FAIL ? MAP_FAILED : real(a, n, p, f, fd, o); }
void *mmap64(void *a, size_t n, int p, int f, int fd, off64_t o) { REAL(mmap64); return judged_fd(READS, "mmap", fd, 0) == FAIL ? MAP_FAILED : real(a, n, p, f, fd, o); }
