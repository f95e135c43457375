/*
 * Files are not written to disk before anybody needs the room: fsync() and its like succeed at
 * once.
 *
 * What processes tell each other, and what is left of one that was killed, is in the page cache;
 * only a power cut would tell the difference, and the tests of power cuts preload a library of
 * their own instead. A wrong descriptor is refused as ever.
 *
 * Sources: the manual pages fsync(2), sync_file_range(2), sync(2).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>

static int checked(int fd) {
    return fcntl(fd, F_GETFD) < 0 ? -1 : 0;
}

int fsync(int fd) {
    return checked(fd);
}

int fdatasync(int fd) {
    return checked(fd);
}

int syncfs(int fd) {
    return checked(fd);
}

int sync_file_range(int fd, off64_t offset, off64_t count, unsigned int flags) {
    (void)offset, (void)count, (void)flags;
    return checked(fd);
}

void sync(void) {
}
