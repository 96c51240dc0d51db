/* SPDX-License-Identifier: Apache-2.0
 *
 * Folders with many small files: their listing, and the witnesses of the files. In C because Python
 * would take longer for the names and numbers of each file than the system takes to open and read
 * it. Compiled into the binding, not into libatlas12288.
 */
#ifndef ATLAS_FOLDERS_H
#define ATLAS_FOLDERS_H

#include "files.h"

#include <stddef.h>
#include <stdint.h>

/* What an entry of a folder is. OTHER: what is neither a folder nor a plain file within the bounds
 * of a listing, such as a link, a large file or one that is watched. */
enum { ATLAS_ENTRY_FILE, ATLAS_ENTRY_FOLDER, ATLAS_ENTRY_OTHER };

typedef struct {
    const char* name;
    uint64_t size; /* this and the times: of a file */
    int64_t mtime_ns, ctime_ns;
    size_t place; /* of the name, while there may be more names */
    int kind;
} atlas_entry_t;

typedef struct {
    uint64_t device, inode;
} atlas_file_id_t;

typedef struct {
    uint64_t size_most;             /* of a file */
    size_t entries_most;            /* of a folder */
    const atlas_file_id_t* watched; /* files that the caller looks at for itself */
    size_t watched_count;
} atlas_listing_bounds_t;

/* Made by atlas_folder_list(), also where that returns 0, and freed by atlas_folder_free(). */
typedef struct {
    atlas_entry_t* entries;
    size_t count, room;
    char* names; /* each ended by NUL */
    size_t names_bytes, names_room;
} atlas_folder_t;

/* Lists an open folder without "." and "..", and without what is gone when it is looked at. Entries
 * are in the order of the paths that will be in a manifest: byte by byte, where a slash follows the
 * name of a folder; each name once. 0: it cannot be listed, or has too many entries. */
int atlas_folder_list(int descriptor, const atlas_listing_bounds_t* bounds, atlas_folder_t* out);
void atlas_folder_free(atlas_folder_t* folder);

/* What is known of a file: was it read, its residue, its SHA-256, the root of its tree; zeros in the
 * place of a digest that is not wanted. */
enum { ATLAS_RESULT_BYTES = 2 + 32 + 32, ATLAS_RESULT_SHA256 = 2, ATLAS_RESULT_ROOT = 34 };

/* The most bytes of a file whose tree is wanted: of a subtree of 256 windows. */
enum { ATLAS_TREE_FILE_MOST_BYTES = 256 * 12288 };

/* What is wanted of files, and where it goes. */
typedef struct {
    int flat, tree;   /* which digests */
    uint8_t* results; /* ATLAS_RESULT_BYTES for each file */
    uint8_t* leaves;  /* NULL: not wanted. Of one file after another, as many as its listed size
                       * says; not written where a file was not read */
} atlas_wanted_t;

/* Reads files by atlas_read_listed_file() and hashes them beside one another. `bytes` of the files
 * is not used; all go to `buffer`, which has room for the largest one. A file for which there is no
 * room is not read. It returns after `stop_ns` nanoseconds, or a little later, with the number of
 * files that are done, at least one; 0 where there was no memory. */
size_t atlas_witness_files(atlas_listed_file_t* files, size_t count, uint8_t* buffer, size_t room,
                           uint64_t stop_ns, const atlas_wanted_t* wanted);

/* The windows of a file. */
uint64_t atlas_windows_of(uint64_t size);

#endif /* ATLAS_FOLDERS_H */
