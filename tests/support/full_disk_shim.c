/*
 * A disk that is full for some files only.
 *
 * Preloaded into a server, this library lets every write fail (ENOSPC) to a file whose name ends in
 * $FULL_DISK_SUFFIX, for as long as the file $FULL_DISK_SWITCH exists.
 *
 * Sources: the manual pages pwrite(2), proc_pid_fd(5).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_full(int fd) {
    const char *suffix = getenv("FULL_DISK_SUFFIX"), *name = getenv("FULL_DISK_SWITCH");
    int before = errno, full = 0;
    if (suffix != NULL && name != NULL && access(name, F_OK) == 0) {
        char link[64], path[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path);
        size_t end = strlen(suffix);
        full = length >= (ssize_t)end && memcmp(path + length - end, suffix, end) == 0;
    }
    errno = full ? ENOSPC : before;
    return full;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) {
    return is_full(fd) ? -1 : NEXT(write)(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return is_full(fd) ? -1 : NEXT(pwrite)(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return is_full(fd) ? -1 : NEXT(pwrite64)(fd, data, size, at);
}
