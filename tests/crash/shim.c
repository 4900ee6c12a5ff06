/* What a process asks of the disk: recorded in order, and refused where a test says so.
 *
 * Preloaded into a process (LD_PRELOAD).  Only what lies below $STEPWELL_SHIM_ROOT counts; a
 * -shm file and the lock file do not: neither is durable, SQLite rebuilds the one from the WAL and
 * the kernel forgets the other.  With $STEPWELL_SHIM_LOG every call that changes something is
 * appended to that file as a record; shim.py says how they are read.  While $STEPWELL_SHIM_FULL
 * names a file that exists, every write fails with ENOSPC; shim_arm() fails a call by its number,
 * shim_kill() ends the process at one.  $STEPWELL_SHIM_SLOW is how many us each sync takes longer.
 *
 * One mutex is held from before a call until after its record, so the order of the records is an
 * order in which the calls can have happened.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, TRUNCATE, SYNC, CREATE, MKDIR, UNLINK, RENAME, MARK, LOST_SYNC };
/* What may fail: ANY_NAME is every call that opens, makes, moves or removes a path, ANY_LOOK every one
 * that only looks at it, ANY_CHANGE every call that is recorded. */
enum { ANY_WRITE = 1, ANY_SYNC, FOLDER_SYNC, ANY_NAME, ANY_READ, ANY_CHANGE, ANY_LOOK, CLASSES };
enum { BEFORE = 0, HALFWAY, AFTER };

struct record {
    uint32_t kind, path_bytes, data_bytes, unused;
    int64_t offset;
};

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static char root[PATH_MAX];
static size_t root_bytes;
static const char *full_file;

static struct { int what, error, sticky, shorten; long at, seen[CLASSES]; } armed;
static struct { long at; int when; } deadly;
static long failed;
static useconds_t slow;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("STEPWELL_SHIM_LOG"), *below = getenv("STEPWELL_SHIM_ROOT");
    const char *us = getenv("STEPWELL_SHIM_SLOW");
    full_file = getenv("STEPWELL_SHIM_FULL");
    if (us) slow = atoi(us);
    if (below && realpath(below, root)) root_bytes = strlen(root);
    if (path) log_fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && !strcmp(text + a - b, end);
}

static int counts(const char *path)
{
    return root_bytes && !strncmp(path, root, root_bytes) && path[root_bytes] == '/' &&
           !ends_with(path, "-shm") && !ends_with(path, "/lock") && !ends_with(path, " (deleted)");
}

/* The path of a descriptor; 0 where it is none of ours. */
static int path_of(int fd, char *path)
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return counts(path) || (root_bytes && !strcmp(path, root));
}

/* The path that a call at a folder means; 0 where it is none of ours. */
static int path_at(int folder, const char *name, char *path)
{
    if (name[0] == '/') return snprintf(path, PATH_MAX, "%s", name), counts(path);
    char base[PATH_MAX];
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return 0;
    } else if (!path_of(folder, base)) return 0;
    if (snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX) return 0;
    return counts(path);
}

static void note(int kind, const char *path, int64_t offset, const void *data, size_t bytes)
{
    if (log_fd < 0) return;
    const char *name = strncmp(path, root, root_bytes) ? path : path + root_bytes;
    struct record head = { kind, strlen(name), bytes, 0, offset };
    int kept = errno;
    if (syscall(SYS_write, log_fd, &head, sizeof head) != sizeof head ||
        syscall(SYS_write, log_fd, name, head.path_bytes) != head.path_bytes ||
        syscall(SYS_write, log_fd, data, bytes) != (ssize_t)bytes)
        abort(); /* a record with holes would prove nothing */
    errno = kept;
}

/* For the scenario: something to be found again at this place of the record. */
void shim_mark(const char *text, size_t bytes)
{
    pthread_mutex_lock(&turn);
    note(MARK, "", 0, text, bytes);
    pthread_mutex_unlock(&turn);
}

/* The `at`-th (from 1) call of that class from now on fails with `error`; with `sticky` all later
 * ones too; with `shorten` half of what was to be written is written first.  at = 0 ends it. */
void shim_arm(int what, long at, int error, int sticky, int shorten)
{
    pthread_mutex_lock(&turn);
    if (at) memset(&armed, 0, sizeof armed);
    armed.what = what, armed.at = at, armed.error = error;
    armed.sticky = sticky, armed.shorten = shorten;
    pthread_mutex_unlock(&turn);
}

/* SIGKILL at the `at`-th change from now on: before it, halfway through a write, or after it. */
void shim_kill(long at, int when)
{
    pthread_mutex_lock(&turn);
    memset(&armed, 0, sizeof armed);
    deadly.at = at, deadly.when = when;
    pthread_mutex_unlock(&turn);
}

long shim_seen(int what) { return armed.seen[what]; }
long shim_failed(void) { return failed; }

static int fails(int what)
{
    long number = ++armed.seen[what];
    if (what == ANY_WRITE && full_file && !syscall(SYS_faccessat, AT_FDCWD, full_file, F_OK)) {
        errno = ENOSPC;
        return 1;
    }
    if (armed.what != what || !armed.at) return 0;
    if (number != armed.at && !(armed.sticky && number > armed.at)) return 0;
    failed++;
    errno = armed.error;
    return 1;
}

static void die_if(int when)
{
    if (deadly.at && armed.seen[ANY_CHANGE] == deadly.at && deadly.when == when)
        for (;;) kill(getpid(), SIGKILL);
}

/* Around each recorded call, with the mutex held. */
static void enter(void)
{
    pthread_mutex_lock(&turn);
    ++armed.seen[ANY_CHANGE];
    die_if(BEFORE);
}

static void leave(void)
{
    int kept = errno;
    die_if(HALFWAY); /* of what has no half: after it */
    die_if(AFTER);
    pthread_mutex_unlock(&turn);
    errno = kept;
}

/* --- calls --------------------------------------------------------------------------------- */

static ssize_t put(int fd, const void *data, size_t bytes, off64_t offset, int at)
{
    char path[PATH_MAX];
    if (!path_of(fd, path))
        return at ? syscall(SYS_pwrite64, fd, data, bytes, offset) : syscall(SYS_write, fd, data, bytes);
    enter();
    int failing = fails(ANY_WRITE), error = errno;
    int dying = deadly.at && armed.seen[ANY_CHANGE] == deadly.at && deadly.when == HALFWAY;
    if (failing) bytes = armed.shorten ? bytes / 2 : 0;
    else if (dying) bytes /= 2;
    if (!at) {
        int appending = fcntl(fd, F_GETFL) & O_APPEND;
        offset = lseek64(fd, 0, appending ? SEEK_END : SEEK_CUR);
    }
    ssize_t done = 0;
    if (bytes || !failing)
        done = at ? syscall(SYS_pwrite64, fd, data, bytes, offset) : syscall(SYS_write, fd, data, bytes);
    if (done > 0) note(WRITE, path, offset, data, done);
    if (failing && done <= 0) done = -1, errno = error;
    leave();
    return done;
}

ssize_t write(int fd, const void *data, size_t bytes) { return put(fd, data, bytes, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) { return put(fd, data, bytes, at, 1); }
ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t at) { return put(fd, data, bytes, at, 1); }

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    char path[PATH_MAX];
    if (!path_of(fd, path)) return syscall(SYS_writev, fd, pieces, count);
    size_t bytes = 0;
    for (int i = 0; i < count; i++) bytes += pieces[i].iov_len;
    char *whole = malloc(bytes + 1), *end = whole;
    if (!whole) abort();
    for (int i = 0; i < count; i++) end = (char *)mempcpy(end, pieces[i].iov_base, pieces[i].iov_len);
    ssize_t done = put(fd, whole, bytes, 0, 0);
    free(whole);
    return done;
}

static int unreadable(int fd)
{
    char path[PATH_MAX];
    if (!path_of(fd, path)) return 0;
    pthread_mutex_lock(&turn);
    int failing = fails(ANY_READ);
    pthread_mutex_unlock(&turn);
    return failing;
}

ssize_t read(int fd, void *to, size_t bytes)
{
    return unreadable(fd) ? -1 : syscall(SYS_read, fd, to, bytes);
}
ssize_t pread64(int fd, void *to, size_t bytes, off64_t at)
{
    return unreadable(fd) ? -1 : syscall(SYS_pread64, fd, to, bytes, at);
}
ssize_t pread(int fd, void *to, size_t bytes, off_t at) { return pread64(fd, to, bytes, at); }

int ftruncate64(int fd, off64_t size)
{
    char path[PATH_MAX];
    if (!path_of(fd, path)) return syscall(SYS_ftruncate, fd, size);
    enter();
    int done = fails(ANY_WRITE) ? -1 : syscall(SYS_ftruncate, fd, size);
    if (!done) note(TRUNCATE, path, size, "", 0);
    leave();
    return done;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

/* A sync is not passed on: what it would have brought to the disk is what the replay works out. */
static int sync_file(int fd, long call)
{
    char path[PATH_MAX];
    if (!path_of(fd, path)) return syscall(call, fd);
    if (slow) usleep(slow);
    enter();
    struct stat file;
    int failed = fails(ANY_SYNC) || (!fstat(fd, &file) && S_ISDIR(file.st_mode) && fails(FOLDER_SYNC));
    note(failed ? LOST_SYNC : SYNC, path, 0, "", 0);
    leave();
    return failed ? -1 : 0;
}
int fsync(int fd) { return sync_file(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

static int open_at(int folder, const char *name, int flags, mode_t mode)
{
    char path[PATH_MAX];
    if (!path_at(folder, name, path)) return syscall(SYS_openat, folder, name, flags, mode);
    int fresh = flags & O_CREAT && syscall(SYS_faccessat, AT_FDCWD, path, F_OK) != 0;
    int changes = fresh || flags & O_TRUNC;
    if (changes) enter();
    else pthread_mutex_lock(&turn);
    int fd = fails(ANY_NAME) ? -1 : syscall(SYS_openat, folder, name, flags, mode);
    if (fd >= 0 && fresh) note(CREATE, path, 0, "", 0);
    else if (fd >= 0 && flags & O_TRUNC) note(TRUNCATE, path, 0, "", 0);
    if (changes) leave();
    else pthread_mutex_unlock(&turn);
    return fd;
}
#define MODE(flags, last) \
    mode_t mode = 0; \
    if (flags & O_CREAT) { va_list more; va_start(more, last); mode = va_arg(more, mode_t); va_end(more); }
int open(const char *name, int flags, ...) { MODE(flags, flags) return open_at(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags, flags) return open_at(AT_FDCWD, name, flags, mode); }
int openat(int at, const char *name, int flags, ...) { MODE(flags, flags) return open_at(at, name, flags, mode); }
int openat64(int at, const char *name, int flags, ...) { MODE(flags, flags) return open_at(at, name, flags, mode); }

/* Whether a look at a path fails. */
static int unseen(int folder, const char *name)
{
    char path[PATH_MAX];
    if (!path_at(folder, name, path)) return 0;
    pthread_mutex_lock(&turn);
    int failing = fails(ANY_LOOK);
    pthread_mutex_unlock(&turn);
    return failing;
}

int fstatat64(int folder, const char *name, struct stat64 *to, int flags)
{
    return unseen(folder, name) ? -1 : syscall(SYS_newfstatat, folder, name, to, flags);
}
int fstatat(int folder, const char *name, struct stat *to, int flags)
{
    return fstatat64(folder, name, (struct stat64 *)to, flags);
}
int stat64(const char *name, struct stat64 *to) { return fstatat64(AT_FDCWD, name, to, 0); }
int stat(const char *name, struct stat *to) { return fstatat(AT_FDCWD, name, to, 0); }
int lstat64(const char *name, struct stat64 *to) { return fstatat64(AT_FDCWD, name, to, AT_SYMLINK_NOFOLLOW); }
int lstat(const char *name, struct stat *to) { return fstatat(AT_FDCWD, name, to, AT_SYMLINK_NOFOLLOW); }
int access(const char *name, int mode)
{
    return unseen(AT_FDCWD, name) ? -1 : syscall(SYS_faccessat, AT_FDCWD, name, mode);
}

int mkdirat(int folder, const char *name, mode_t mode)
{
    char path[PATH_MAX];
    if (!path_at(folder, name, path)) return syscall(SYS_mkdirat, folder, name, mode);
    enter();
    int done = fails(ANY_NAME) ? -1 : syscall(SYS_mkdirat, folder, name, mode);
    if (!done) note(MKDIR, path, 0, "", 0);
    leave();
    return done;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int unlinkat(int folder, const char *name, int flags)
{
    char path[PATH_MAX];
    if (!path_at(folder, name, path)) return syscall(SYS_unlinkat, folder, name, flags);
    enter();
    int done = fails(ANY_NAME) ? -1 : syscall(SYS_unlinkat, folder, name, flags);
    if (!done) note(UNLINK, path, 0, "", 0);
    leave();
    return done;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    char old[PATH_MAX], new[PATH_MAX];
    if (!path_at(from_folder, from, old) || !path_at(to_folder, to, new))
        return syscall(SYS_renameat2, from_folder, from, to_folder, to, 0);
    enter();
    int done = fails(ANY_NAME) ? -1 : syscall(SYS_renameat2, from_folder, from, to_folder, to, 0);
    if (!done) note(RENAME, old, 0, new + root_bytes, strlen(new + root_bytes));
    leave();
    return done;
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }
