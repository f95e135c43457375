/*
 * What a power cut spares, noted call by call.
 *
 * Preloaded into a server, this library follows every successful fsync() and fdatasync() on a
 * file or folder below $POWER_ROOT by noting in $POWER_SHADOW what is now on disk for certain: of a
 * regular file a copy (bytes, modification time, attributes), of a folder the names in it and the
 * files they mean. A file is known by its inode number and its time of birth, so neither a
 * rename nor the reuse of the number confuses two of them.
 *
 * A note is published by a rename before the call returns, and notes on one file are made one
 * after the other: whatever a process was told to be on disk is in the newest note, even if it
 * is killed in the middle of the next call.
 *
 * Sources: the manual pages fsync(2), statx(2), flock(2), fcntl(2).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define IDENTITY 64
#define BLOCK (1 << 20)
#define ATTRIBUTES 65536

/* A note that is missing would pass for a loss: whoever cannot take one must not go on. */
static void give_up(const char *what) {
    fprintf(stderr, "power_shim: %s: %s\n", what, strerror(errno));
    abort();
}

/* The identity of an opened file: "<inode>-<birth>", in hexadecimal. */
int power_identity(int fd, char *text) {
    struct statx facts;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &facts) != 0)
        return -1;
    if (!(facts.stx_mask & STATX_BTIME)) {
        errno = EOPNOTSUPP;
        return -1;
    }
    snprintf(text, IDENTITY, "%llx-%llx.%x", (unsigned long long)facts.stx_ino,
             (unsigned long long)facts.stx_btime.tv_sec, facts.stx_btime.tv_nsec);
    return 0;
}

static void copy_attributes(int source, int target) {
    static _Thread_local char names[ATTRIBUTES], value[ATTRIBUTES];
    ssize_t length = flistxattr(source, names, sizeof names);
    if (length < 0)
        give_up("flistxattr");
    for (char *name = names; name < names + length; name += strlen(name) + 1) {
        if (strncmp(name, "user.", 5) != 0)
            continue;
        ssize_t size = fgetxattr(source, name, value, sizeof value);
        if (size < 0 && errno == ENODATA)
            continue;
        if (size < 0 || fsetxattr(target, name, value, (size_t)size, 0) != 0)
            give_up(name);
    }
}

/* The descriptor itself is read wherever that is possible: closing another one of the same file
 * would give up the POSIX locks that the process holds on it. */
static void copy_file(int fd, int target) {
    static _Thread_local char block[BLOCK];
    int source = fd;
    if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        source = open(path, O_RDONLY | O_CLOEXEC);
        if (source < 0)
            give_up("open for reading");
    }
    off_t position = 0;
    for (;;) {
        ssize_t count = pread(source, block, sizeof block, position);
        if (count < 0)
            give_up("pread");
        if (count == 0)
            break;
        for (ssize_t done = 0; done < count;) {
            ssize_t written = write(target, block + done, (size_t)(count - done));
            if (written < 0)
                give_up("write");
            done += written;
        }
        position += count;
    }
    if (source != fd)
        close(source);
}

/* Lines "<f or d> <identity> <name in hexadecimal>". */
static void copy_names(int fd, int target) {
    int folder = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0 && errno == ENOENT)
        return; /* removed meanwhile: it has no names */
    DIR *stream = folder < 0 ? NULL : fdopendir(folder);
    int out = dup(target);
    FILE *lines = out < 0 ? NULL : fdopen(out, "w");
    if (stream == NULL || lines == NULL)
        give_up("opendir");
    struct dirent *entry;
    while ((entry = readdir(stream)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char identity[IDENTITY];
        struct stat facts;
        int child = openat(folder, entry->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (child < 0 && errno == ENOENT)
            continue;
        if (child < 0 || fstat(child, &facts) != 0 || power_identity(child, identity) != 0)
            give_up(entry->d_name);
        close(child);
        if (!S_ISREG(facts.st_mode) && !S_ISDIR(facts.st_mode))
            continue;
        fprintf(lines, "%c %s ", S_ISDIR(facts.st_mode) ? 'd' : 'f', identity);
        for (unsigned char *byte = (unsigned char *)entry->d_name; *byte; byte++)
            fprintf(lines, "%02x", *byte);
        fputc('\n', lines);
    }
    closedir(stream);
    if (fclose(lines) != 0)
        give_up("fclose");
}

/* Note what an opened file or folder holds now. */
void power_note(int fd, const char *shadow) {
    char identity[IDENTITY], lock_path[PATH_MAX], draft[PATH_MAX], final[PATH_MAX];
    struct stat facts;
    if (fstat(fd, &facts) != 0 || power_identity(fd, identity) != 0)
        give_up("statx");
    snprintf(lock_path, sizeof lock_path, "%s/%s.lock", shadow, identity);
    snprintf(draft, sizeof draft, "%s/%s.draft", shadow, identity);
    snprintf(final, sizeof final, "%s/%s.note", shadow, identity);
    int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX) != 0)
        give_up(lock_path);
    int target = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (target < 0)
        give_up(draft);
    if (S_ISDIR(facts.st_mode))
        copy_names(fd, target);
    else
        copy_file(fd, target);
    copy_attributes(fd, target);
    struct timespec times[2] = {facts.st_atim, facts.st_mtim};
    if (fchmod(target, facts.st_mode & 07777) != 0 || futimens(target, times) != 0)
        give_up(draft);
    close(target);
    if (rename(draft, final) != 0)
        give_up(final);
    close(lock);
}

static void after_sync(int fd) {
    const char *root = getenv("POWER_ROOT"), *shadow = getenv("POWER_SHADOW");
    char link[64], path[PATH_MAX + 16];
    int kept = errno;
    struct stat facts;
    if (root == NULL || shadow == NULL)
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    size_t prefix = strlen(root);
    if (length < 0 || fstat(fd, &facts) != 0)
        give_up(link);
    path[length] = '\0';
    if (strncmp(path, root, prefix) == 0 && (path[prefix] == '/' || path[prefix] == '\0') &&
        (S_ISREG(facts.st_mode) || S_ISDIR(facts.st_mode)))
        power_note(fd, shadow);
    errno = kept;
}

int fsync(int fd) {
    static int (*real)(int);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "fsync");
    int result = real(fd);
    if (result == 0)
        after_sync(fd);
    return result;
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "fdatasync");
    int result = real(fd);
    if (result == 0)
        after_sync(fd);
    return result;
}
