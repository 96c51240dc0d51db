/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE

#include "files.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int64_t ns_of(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int is_as_listed(const struct stat* status, const atlas_listed_file_t* file)
{
    return S_ISREG(status->st_mode) && status->st_size >= 0 &&
           (uint64_t)status->st_size == file->size && ns_of(status->st_mtim) == file->mtime_ns;
}

/* Reads the listed bytes, and asks for one more. */
static int read_whole(int descriptor, const atlas_listed_file_t* file)
{
    uint64_t filled = 0;
    while (filled < file->size) {
        ssize_t count =
            pread(descriptor, file->bytes + filled, (size_t)(file->size - filled), (off_t)filled);
        if (count <= 0)
            return 0;
        filled += (uint64_t)count;
    }
    uint8_t more;
    return pread(descriptor, &more, 1, (off_t)file->size) == 0;
}

int atlas_read_listed_file(const atlas_listed_file_t* file)
{
    if (strchr(file->name, '/') != NULL)
        return 0;
    /* O_NONBLOCK: to open a FIFO without a writer would hang. */
    int descriptor =
        openat(file->folder, file->name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor < 0)
        return 0;
    struct stat before, after;
    int good = fstat(descriptor, &before) == 0 && is_as_listed(&before, file) &&
               read_whole(descriptor, file) && fstat(descriptor, &after) == 0 &&
               is_as_listed(&after, file) && ns_of(before.st_ctim) == ns_of(after.st_ctim);
    close(descriptor);
    return good;
}

size_t atlas_next_place(size_t filled, size_t size, size_t room)
{
    static const size_t LINE_BYTES = 64;
    size_t end = filled + size;
    size_t left = room - end;
    size_t skip = (LINE_BYTES - end % LINE_BYTES) % LINE_BYTES;
    return end + (skip < left ? skip : left);
}

int64_t atlas_file_size(const char* path)
{
    struct stat status;
    if (stat(path, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size < 0)
        return -1;
    return (int64_t)status.st_size;
}

int atlas_read_named_file(const char* path, uint64_t size, uint8_t* bytes)
{
    int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (descriptor < 0)
        return 0;
    struct stat before, after;
    atlas_listed_file_t file = {.size = size, .bytes = bytes};
    int good = fstat(descriptor, &before) == 0;
    file.mtime_ns = good ? ns_of(before.st_mtim) : 0;
    good = good && is_as_listed(&before, &file) && read_whole(descriptor, &file) &&
           fstat(descriptor, &after) == 0 && is_as_listed(&after, &file) &&
           ns_of(before.st_ctim) == ns_of(after.st_ctim);
    close(descriptor);
    return good;
}
