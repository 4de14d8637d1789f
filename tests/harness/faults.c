/* A disk that fails, for one process (LD_PRELOAD): what fails is told by the file that CAIRN_TEST_FAULTS names.
 *
 * One line, `OP ERRNO PART`: of files with PART in their path each `read`, `write` or `sync` fails with that number, or, if
 * it is 0, waits until the line says something else. Without the file nothing fails. Only what goes through the C library
 * meets it, which is all that a store does with its own files but mapping them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What is planned for `op` on this file: -1 for nothing, 0 to wait, else the error. */
static int planned(const char *op, int fd)
{
    char plan[256], what[16], part[160], self[64], path[PATH_MAX];
    const char *name = getenv("CAIRN_TEST_FAULTS");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1, error;
    ssize_t len;

    if (file < 0)
        return -1;
    len = read(file, plan, sizeof plan - 1);
    close(file);
    if (len <= 0)
        return -1;
    plan[len] = 0;
    if (sscanf(plan, "%15s %d %159s", what, &error, part) != 3 || strcmp(what, op))
        return -1;
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    len = readlink(self, path, sizeof path - 1);
    if (len <= 0)
        return -1;
    path[len] = 0;
    return strstr(path, part) ? error : -1;
}

static int fails(const char *op, int fd)
{
    int before = errno, error;

    while ((error = planned(op, fd)) == 0)
        usleep(1000);
    errno = error > 0 ? error : before;
    return error > 0;
}

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

ssize_t pread64(int fd, void *buf, size_t len, off64_t at)
{
    return fails("read", fd) ? -1 : REAL(ssize_t, "pread64", int, void *, size_t, off64_t)(fd, buf, len, at);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t at)
{
    return fails("write", fd) ? -1 : REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t)(fd, buf, len, at);
}

int fsync(int fd)
{
    return fails("sync", fd) ? -1 : REAL(int, "fsync", int)(fd);
}

int fdatasync(int fd)
{
    return fails("sync", fd) ? -1 : REAL(int, "fdatasync", int)(fd);
}
