/* SPDX-License-Identifier: Apache-2.0
 *
 * Small files, read whole. In C because reading one takes a few microseconds, no more than Python
 * takes for each call. Compiled into the binding, not into libatlas12288.
 */
#ifndef ATLAS_FILES_H
#define ATLAS_FILES_H

#include <stddef.h>
#include <stdint.h>

/* A file as it was listed, and where its bytes go. */
typedef struct {
    int folder;       /* descriptor of the folder that it is in */
    const char* name; /* in that folder: no slash is in it */
    uint64_t size;
    int64_t mtime_ns; /* since 1970 */
    uint8_t* bytes;   /* room for `size` */
} atlas_listed_file_t;

/* Reads a file. 1: it is a regular file, no link, with the listed size and modification time; all
 * its bytes are there; there was none more; and size, modification time and ctime were the same
 * when it had been read. 0: it is not so, or could not be read; `bytes` may hold anything. */
int atlas_read_listed_file(const atlas_listed_file_t* file);

/* Where the next file goes in a buffer that begins on a page, after one of `size` bytes at
 * `filled`; at most `room`. Zen 3 copies from the page cache four times slower to where no 32 bytes
 * begin; 64 is a line of the cache. */
size_t atlas_next_place(size_t filled, size_t size, size_t room);

/* The size of a regular file in bytes, links followed; -1: it is none, or cannot be asked. */
int64_t atlas_file_size(const char* path);

/* Reads a file by its path, links followed, to room for `size` bytes. 1: it is a regular file of
 * this size, and all is as by atlas_read_listed_file(), its times those at the opening; else 0. */
int atlas_read_named_file(const char* path, uint64_t size, uint8_t* bytes);

#endif /* ATLAS_FILES_H */
