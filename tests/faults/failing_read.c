/* SPDX-License-Identifier: Apache-2.0
 *
 * For LD_PRELOAD: all reads of the file FAILING_FILE fail with EIO from byte FAILING_FROM on, as those
 * of a disk with a bad block.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_bad(int descriptor, off_t begin, size_t count)
{
    struct stat bad, open;
    return stat(getenv("FAILING_FILE"), &bad) == 0 && fstat(descriptor, &open) == 0 &&
           bad.st_dev == open.st_dev && bad.st_ino == open.st_ino &&
           begin + (off_t)count > atoll(getenv("FAILING_FROM")) && begin < bad.st_size;
}

ssize_t read(int descriptor, void* buffer, size_t count)
{
    static ssize_t (*real)(int, void*, size_t);
    if (real == NULL)
        real = (ssize_t (*)(int, void*, size_t))dlsym(RTLD_NEXT, "read");
    if (is_bad(descriptor, lseek(descriptor, 0, SEEK_CUR), count)) {
        errno = EIO;
        return -1;
    }
    return real(descriptor, buffer, count);
}

static ssize_t fail_or(const char* name, int descriptor, void* buffer, size_t count, off_t offset)
{
    if (is_bad(descriptor, offset, count)) {
        errno = EIO;
        return -1;
    }
    ssize_t (*real)(int, void*, size_t, off_t) =
        (ssize_t (*)(int, void*, size_t, off_t))dlsym(RTLD_NEXT, name);
    return real(descriptor, buffer, count, offset);
}

ssize_t pread(int descriptor, void* buffer, size_t count, off_t offset)
{
    return fail_or("pread", descriptor, buffer, count, offset);
}

ssize_t pread64(int descriptor, void* buffer, size_t count, off_t offset)
{
    return fail_or("pread64", descriptor, buffer, count, offset);
}

static size_t bytes_of(const struct iovec* parts, int count)
{
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += parts[i].iov_len;
    return total;
}

#define PREADV(symbol)                                                                             \
    ssize_t symbol(int descriptor, const struct iovec* parts, int count, off_t offset)             \
    {                                                                                              \
        if (is_bad(descriptor, offset, bytes_of(parts, count))) {                                  \
            errno = EIO;                                                                           \
            return -1;                                                                             \
        }                                                                                          \
        ssize_t (*real)(int, const struct iovec*, int, off_t) =                                    \
            (ssize_t (*)(int, const struct iovec*, int, off_t))dlsym(RTLD_NEXT, #symbol);          \
        return real(descriptor, parts, count, offset);                                             \
    }
PREADV(preadv)
PREADV(preadv64)

#define PREADV2(symbol)                                                                            \
    ssize_t symbol(int descriptor, const struct iovec* parts, int count, off_t offset, int flags)  \
    {                                                                                              \
        if (is_bad(descriptor, offset, bytes_of(parts, count))) {                                  \
            errno = EIO;                                                                           \
            return -1;                                                                             \
        }                                                                                          \
        ssize_t (*real)(int, const struct iovec*, int, off_t, int) =                               \
            (ssize_t (*)(int, const struct iovec*, int, off_t, int))dlsym(RTLD_NEXT, #symbol);     \
        return real(descriptor, parts, count, offset, flags);                                      \
    }
PREADV2(preadv2)
PREADV2(preadv64v2)
