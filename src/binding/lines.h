/* SPDX-License-Identifier: Apache-2.0
 *
 * The lines of a manifest with many files. In C because Python takes longer for the line of a small
 * file than for hashing the file. Compiled into the binding, not into libatlas12288.
 */
#ifndef ATLAS_LINES_H
#define ATLAS_LINES_H

#include <stddef.h>
#include <stdint.h>

/* Writes bytes as the inside of a JSON string, as RFC 8785 does; they are UTF-8. Returns the end;
 * each byte takes up to ATLAS_JSON_BYTES. */
enum { ATLAS_JSON_BYTES = 6 };
char* atlas_write_json(char* to, const char* text, size_t len);

/* Writes the line of a file without its line feed. `folder`: the path around it, with its slash,
 * written by atlas_write_json(). `flat`, `tree`: the digests in it. Returns the end; the line takes
 * at most ATLAS_LINE_BYTES beside folder and name. */
enum { ATLAS_LINE_BYTES = 256 };
char* atlas_write_line(char* to, const char* folder, size_t folder_len, const char* name,
                       const uint8_t* result, uint64_t size, int flat, int tree);

/* Writes a number in decimal; returns the end. */
enum { ATLAS_NUMBER_BYTES = 21 };
char* atlas_write_number(char* to, int64_t number);

/* The leaf hashes (RFC 9162) of messages that each begin with their prefix, the byte 0. 0: there
 * was no memory. */
int atlas_leaf_hashes(const void* const* messages, const size_t* lens, size_t count, uint8_t* out);

/* What a line says of a file or of a symbolic link. */
typedef struct {
    const char* path;
    size_t path_len;
    int64_t size;              /* of a link: -1 */
    int64_t residue;           /* this and the digests: of a file */
    const char *sha256, *root; /* 64 hex digits each; NULL: not wanted */
    const char* target;        /* of a link; else NULL */
    size_t target_len;
} atlas_line_t;

/* Reads the line that begins at `text`, which ends before `end`, as it is written for a path in
 * which JSON escapes nothing: of a file with the digests that are wanted, or of a link. The path is
 * one of a manifest; whether it is UTF-8 is left to the caller, and so are sizes of more than 15
 * digits. Returns where the line ends; NULL where it is not so. */
const char* atlas_read_line(const char* text, const char* end, int flat, int tree,
                            atlas_line_t* out);

/* Returns the 64 digits of the root in a line that atlas_read_line() has read, by its end alone; NULL
 * where it has none. No path and no target has what stands around a root: they would have quotes. */
const char* atlas_read_root(const char* text, const char* end);

/* Reads a digest that atlas_read_line() or atlas_read_root() found. */
void atlas_read_digest(const char* hex, uint8_t* out);

#endif /* ATLAS_LINES_H */
