/* SPDX-License-Identifier: Apache-2.0
 *
 * For LD_PRELOAD: before the STEP_AT-th system call that opens, reads or asks about a file STEP_NAME
 * (open, openat, fstat, pread), something happens to it, as STEP_ACTION says. It happens in this process,
 * between two calls, as if another one had been quick enough.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int calls;  /* on the file */
static int inside; /* our own calls do not count */

static void act(const char* path, const char* action)
{
    char other[4096];
    strcpy(other, path);
    strcat(other, ".other");
    if (strcmp(action, "grow") == 0) {
        int file = open(path, O_WRONLY | O_APPEND);
        if (write(file, "x", 1) != 1)
            abort();
        close(file);
    } else if (strcmp(action, "write") == 0) {
        int file = open(path, O_WRONLY);
        if (write(file, "xyz", 3) != 3)
            abort();
        close(file);
    } else if (strcmp(action, "shrink") == 0) {
        if (truncate(path, 10) != 0)
            abort();
    } else if (strcmp(action, "vanish") == 0) {
        if (unlink(path) != 0)
            abort();
    } else if (strcmp(action, "chmod") == 0) {
        if (chmod(path, 0600) != 0)
            abort();
    } else if (strcmp(action, "link") == 0) {
        if (unlink(path) != 0 || symlink(other, path) != 0)
            abort();
    } else if (strcmp(action, "fifo") == 0) {
        if (unlink(path) != 0 || mkfifo(path, 0600) != 0)
            abort();
    } else if (strcmp(action, "replace") == 0) {
        if (rename(other, path) != 0)
            abort();
    }
}

static void step(void)
{
    if (++calls == atoi(getenv("STEP_AT"))) {
        inside = 1;
        act(getenv("STEP_NAME"), getenv("STEP_ACTION"));
        inside = 0;
    }
}

/* The file is known by its inode from its first opening on, whatever happens to its name. */
static dev_t device;
static ino_t inode;

static int is_it(int descriptor)
{
    if (inside || getenv("STEP_NAME") == NULL || inode == 0)
        return 0;
    int before = errno;
    struct stat status;
    inside = 1;
    int (*real)(int, struct stat*) = (int (*)(int, struct stat*))dlsym(RTLD_NEXT, "fstat");
    int same = real(descriptor, &status) == 0 && status.st_dev == device && status.st_ino == inode;
    inside = 0;
    errno = before;
    return same;
}

static void step_at_opening(const char* name)
{
    const char* path = getenv("STEP_NAME");
    const char* slash = strrchr(name, '/');
    if (!inside && path != NULL &&
        strcmp(slash == NULL ? name : slash + 1, strrchr(path, '/') + 1) == 0) {
        struct stat status;
        if (inode == 0 && stat(path, &status) == 0) {
            device = status.st_dev;
            inode = status.st_ino;
        }
        step();
    }
}

static int open_or_step(const char* symbol, int folder, const char* name, int flags, int mode)
{
    step_at_opening(name);
    int (*real)(int, const char*, int, ...) =
        (int (*)(int, const char*, int, ...))dlsym(RTLD_NEXT, symbol);
    return real(folder, name, flags, mode);
}

#define OPEN(symbol)                                                                               \
    int symbol(int folder, const char* name, int flags, ...)                                       \
    {                                                                                              \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        int mode = flags & O_CREAT ? va_arg(more, int) : 0;                                        \
        va_end(more);                                                                              \
        return open_or_step(#symbol, folder, name, flags, mode);                                   \
    }
OPEN(openat)
OPEN(openat64)

#define OPEN_BY_PATH(symbol)                                                                       \
    int symbol(const char* name, int flags, ...)                                                   \
    {                                                                                              \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        int mode = flags & O_CREAT ? va_arg(more, int) : 0;                                        \
        va_end(more);                                                                              \
        step_at_opening(name);                                                                     \
        int (*real)(const char*, int, ...) =                                                       \
            (int (*)(const char*, int, ...))dlsym(RTLD_NEXT, #symbol);                             \
        return real(name, flags, mode);                                                            \
    }
OPEN_BY_PATH(open)
OPEN_BY_PATH(open64)

#define FSTAT(symbol, type)                                                                        \
    int symbol(int descriptor, struct type* status)                                                \
    {                                                                                              \
        if (is_it(descriptor))                                                                     \
            step();                                                                                \
        int (*real)(int, struct type*) = (int (*)(int, struct type*))dlsym(RTLD_NEXT, #symbol);    \
        return real(descriptor, status);                                                           \
    }
FSTAT(fstat, stat)
FSTAT(fstat64, stat64)

#define PREAD(symbol)                                                                              \
    ssize_t symbol(int descriptor, void* buffer, size_t count, off_t offset)                       \
    {                                                                                              \
        if (is_it(descriptor))                                                                     \
            step();                                                                                \
        ssize_t (*real)(int, void*, size_t, off_t) =                                               \
            (ssize_t (*)(int, void*, size_t, off_t))dlsym(RTLD_NEXT, #symbol);                     \
        return real(descriptor, buffer, count, offset);                                            \
    }
PREAD(pread)
PREAD(pread64)
