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

/* Reads files by their names, each ended by NUL, to `room`, as atlas_read_named_file() does, and
 * hashes them, several at once. A file with a size below 0 or above `size` is left out. `matches`:
 * 1 where the file has the digest of its line; else 0. 0: there was no memory. */
int atlas_check_sums(const atlas_sum_t* sums, size_t count, uint8_t* room, size_t size,
                     uint8_t* matches);

#endif /* ATLAS_SUMS_H */
