/* SPDX-License-Identifier: Apache-2.0
 *
 * Lists of SHA-256 sums. In C because Python takes longer for a line than reading and hashing a
 * small file takes. Compiled into the binding, not into libatlas12288.
 */
#ifndef ATLAS_SUMS_H
#define ATLAS_SUMS_H

#include "atlas/conservation.h"

#include <stddef.h>
#include <stdint.h>

/* What a line says. */
typedef struct {
    char* name;
    size_t name_len;
    uint8_t digest[ATLAS_DIGEST_BYTES];
    int64_t size; /* of the file, as by atlas_file_size() */
} atlas_sum_t;

/* Reads the line that begins at `text`, which ends before `end`, as sha256sum writes most of them:
 * 64 hex digits, two spaces, and a name of at most `name_most` bytes without NUL, backslash and
 * carriage return that is not "-". Returns its line feed; NULL where it is not so. */
char* atlas_read_sum(char* text, char* end, size_t name_most, atlas_sum_t* out);

/* Writes the line of a file, with its line feed; the name is `name_len` bytes without NUL. Backslash,
 * line feed and carriage return in it are escaped, and a backslash before the line says so. Returns
 * the end; the line takes at most ATLAS_SUM_BYTES beside 2 for each byte of the name. */
enum { ATLAS_SUM_BYTES = 2 * ATLAS_DIGEST_BYTES + 4 };
char* atlas_write_sum(char* to, const atlas_sum_t* sum);

/* Reads files by their names, each ended by NUL, to `room`, as atlas_read_named_file() does, and
 * hashes them, several at once. A file with a size below 0 or above `size` is left out. `matches`:
 * 1 where the file has the digest of its line; else 0. Returns after `stop_ns` nanoseconds, or a
 * little later, the number of files that are done, at least one; 0 where there was no memory. */
size_t atlas_check_sums(atlas_sum_t* sums, size_t count, uint8_t* room, size_t size,
                        uint64_t stop_ns, uint8_t* matches);

/* Reads and hashes files in the same way, but their digests are taken: `read` is 1 where a file has
 * one now; else 0. */
size_t atlas_take_sums(atlas_sum_t* sums, size_t count, uint8_t* room, size_t size,
                       uint64_t stop_ns, uint8_t* read);

#endif /* ATLAS_SUMS_H */
