/* SPDX-License-Identifier: Apache-2.0 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "folders.h"

#include "atlas/conservation.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000

/* --- Listing --- */

/* False where the time does not fit, as of a year after 2262. */
static int to_ns(struct timespec time, int64_t* out)
{
    if (time.tv_sec > INT64_MAX / NS - 1 || time.tv_sec < INT64_MIN / NS + 1)
        return 0;
    *out = (int64_t)time.tv_sec * NS + time.tv_nsec;
    return 1;
}

static int is_watched(const struct stat* status, const atlas_listing_bounds_t* bounds)
{
    for (size_t i = 0; i < bounds->watched_count; i++)
        if (bounds->watched[i].inode == (uint64_t)status->st_ino &&
            bounds->watched[i].device == (uint64_t)status->st_dev)
            return 1;
    return 0;
}

static int grow(void** items, size_t* room, size_t needed, size_t size)
{
    if (needed <= *room)
        return 1;
    size_t more = needed < 64 ? 64 : 2 * needed;
    void* grown = realloc(*items, more * size);
    if (grown == NULL)
        return 0;
    *items = grown;
    *room = more;
    return 1;
}

static int add(atlas_folder_t* folder, const char* name, const atlas_entry_t* entry)
{
    size_t bytes = strlen(name) + 1;
    if (!grow((void**)&folder->names, &folder->names_room, folder->names_bytes + bytes, 1) ||
        !grow((void**)&folder->entries, &folder->room, folder->count + 1, sizeof *entry))
        return 0;
    memcpy(folder->names + folder->names_bytes, name, bytes);
    folder->entries[folder->count] = *entry;
    folder->entries[folder->count++].place = folder->names_bytes;
    folder->names_bytes += bytes;
    return 1;
}

/* Looks at a name. 0: it is gone; negative: it cannot be looked at. */
static int look(int descriptor, const struct dirent* found, const atlas_listing_bounds_t* bounds,
                atlas_entry_t* entry)
{
    struct stat status;
    *entry = (atlas_entry_t){.kind = ATLAS_ENTRY_FOLDER};
    if (found->d_type == DT_DIR)
        return 1;
    if (fstatat(descriptor, found->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : -1;
    if (S_ISDIR(status.st_mode))
        return found->d_type == DT_UNKNOWN ? 1 : -1;
    entry->kind = ATLAS_ENTRY_OTHER;
    if (S_ISREG(status.st_mode) && status.st_size >= 0 &&
        (uint64_t)status.st_size <= bounds->size_most && to_ns(status.st_mtim, &entry->mtime_ns) &&
        to_ns(status.st_ctim, &entry->ctime_ns) && !is_watched(&status, bounds)) {
        entry->kind = ATLAS_ENTRY_FILE;
        entry->size = (uint64_t)status.st_size;
    }
    return 1;
}

static int read_entries(int descriptor, DIR* names, const atlas_listing_bounds_t* bounds,
                        atlas_folder_t* out)
{
    for (;;) {
        errno = 0;
        const struct dirent* found = readdir(names);
        if (found == NULL)
            return errno == 0;
        if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
            continue;
        atlas_entry_t entry;
        int seen = look(descriptor, found, bounds, &entry);
        if (seen < 0 || out->count == bounds->entries_most)
            return 0;
        if (seen > 0 && !add(out, found->d_name, &entry))
            return 0;
    }
}

/* What follows the name in a path: less than all other bytes where nothing does. */
static int after(const atlas_entry_t* entry)
{
    return entry->kind == ATLAS_ENTRY_FOLDER ? '/' : 0;
}

static int by_path(const void* one, const void* other)
{
    const atlas_entry_t *a = one, *b = other;
    const unsigned char *left = (const unsigned char*)a->name,
                        *right = (const unsigned char*)b->name;
    while (*left != 0 && *left == *right)
        left++, right++;
    int first = *left != 0 ? *left : after(a), second = *right != 0 ? *right : after(b);
    return (first > second) - (first < second);
}

int atlas_folder_list(int descriptor, const atlas_listing_bounds_t* bounds, atlas_folder_t* out)
{
    *out = (atlas_folder_t){0};
    /* closedir() closes its descriptor; ours is the caller's. */
    int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    DIR* names = copy < 0 ? NULL : fdopendir(copy);
    if (names == NULL) {
        if (copy >= 0)
            close(copy);
        return 0;
    }
    rewinddir(names); /* the copy has the position of the caller's */
    int good = read_entries(descriptor, names, bounds, out);
    closedir(names);
    if (!good)
        return 0;
    for (size_t i = 0; i < out->count; i++)
        out->entries[i].name = out->names + out->entries[i].place;
    if (out->count > 1)
        qsort(out->entries, out->count, sizeof *out->entries, by_path);
    /* A folder that is written to meanwhile may give a name twice. */
    size_t kept = 0;
    for (size_t i = 0; i < out->count; i++)
        if (kept == 0 || by_path(&out->entries[kept - 1], &out->entries[i]) != 0)
            out->entries[kept++] = out->entries[i];
    out->count = kept;
    return 1;
}

void atlas_folder_free(atlas_folder_t* folder)
{
    free(folder->entries);
    free(folder->names);
    *folder = (atlas_folder_t){0};
}

/* --- Witnesses --- */

/* Files that are hashed beside one another, while their bytes are still in the cache. */
enum { GROUP_FILES = 128 };
static const size_t GROUP_BYTES = 512 * 1024;
/* More than they have: of one large file, or of many with a last one that is not full. */
enum { GROUP_WINDOWS = ATLAS_TREE_FILE_MOST_BYTES / ATLAS_WINDOW_BYTES };

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS + (uint64_t)now.tv_nsec;
}

typedef struct {
    const void* bases[GROUP_FILES];
    size_t lens[GROUP_FILES];
    uint8_t* results[GROUP_FILES];
    uint8_t* leaves[GROUP_FILES];
    size_t count;
} group_t;

uint64_t atlas_windows_of(uint64_t size)
{
    return size / ATLAS_WINDOW_BYTES + (size % ATLAS_WINDOW_BYTES != 0);
}

static int hash_flat(const group_t* group)
{
    atlas_witness_t* witnesses[GROUP_FILES];
    if (atlas_witness_generate_many(group->bases, group->lens, group->count, witnesses) != ATLAS_OK)
        return 0;
    for (size_t i = 0; i < group->count; i++) {
        uint8_t* result = group->results[i];
        result[1] = atlas_witness_residue(witnesses[i]);
        memcpy(result + ATLAS_RESULT_SHA256, atlas_witness_digest(witnesses[i]),
               ATLAS_DIGEST_BYTES);
        atlas_witness_destroy(witnesses[i]);
    }
    return 1;
}

static int hash_trees(const group_t* group, int keep)
{
    uint8_t roots[GROUP_FILES * ATLAS_DIGEST_BYTES];
    uint8_t hashes[GROUP_WINDOWS * ATLAS_DIGEST_BYTES], residues[GROUP_WINDOWS];
    if (atlas_tree_leaves_many(group->bases, group->lens, group->count, hashes, residues, roots) !=
        ATLAS_OK)
        return 0;
    size_t first = 0;
    for (size_t i = 0; i < group->count; i++) {
        size_t windows = (size_t)atlas_windows_of(group->lens[i]);
        unsigned residue = 0;
        for (size_t window = first; window < first + windows; window++)
            residue += residues[window];
        group->results[i][1] = (uint8_t)(residue % ATLAS_MODULUS);
        memcpy(group->results[i] + ATLAS_RESULT_ROOT, roots + i * ATLAS_DIGEST_BYTES,
               ATLAS_DIGEST_BYTES);
        if (keep && windows > 0)
            memcpy(group->leaves[i], hashes + first * ATLAS_DIGEST_BYTES,
                   windows * ATLAS_DIGEST_BYTES);
        first += windows;
    }
    return 1;
}

static int hash_group(const group_t* group, const atlas_wanted_t* wanted)
{
    if ((wanted->flat && !hash_flat(group)) ||
        (wanted->tree && !hash_trees(group, wanted->leaves != NULL)))
        return 0;
    for (size_t i = 0; i < group->count; i++)
        group->results[i][0] = 1;
    return 1;
}

size_t atlas_witness_files(atlas_listed_file_t* files, size_t count, uint8_t* buffer, size_t room,
                           uint64_t stop_ns, const atlas_wanted_t* wanted)
{
    uint64_t begin = now_ns();
    size_t done = 0;
    uint8_t* leaves = wanted->leaves;
    if (wanted->tree && room > ATLAS_TREE_FILE_MOST_BYTES)
        room = ATLAS_TREE_FILE_MOST_BYTES;
    memset(wanted->results, 0, count * ATLAS_RESULT_BYTES);
    while (done < count && (done == 0 || now_ns() - begin < stop_ns)) {
        group_t group = {.count = 0};
        size_t filled = 0;
        while (done < count && group.count < GROUP_FILES) {
            atlas_listed_file_t* file = &files[done];
            int is_first = group.count == 0;
            if (!is_first && (filled + file->size > GROUP_BYTES || now_ns() - begin >= stop_ns))
                break;
            file->bytes = buffer + filled;
            if (file->size <= room - filled && atlas_read_listed_file(file)) {
                group.bases[group.count] = file->bytes;
                group.lens[group.count] = (size_t)file->size;
                group.leaves[group.count] = leaves;
                group.results[group.count++] = wanted->results + done * ATLAS_RESULT_BYTES;
                filled = atlas_next_place(filled, (size_t)file->size, room);
            }
            if (leaves != NULL)
                leaves += atlas_windows_of(file->size) * ATLAS_DIGEST_BYTES;
            done++;
            if (is_first && now_ns() - begin >= stop_ns)
                break;
        }
        if (group.count > 0 && !hash_group(&group, wanted))
            return 0;
    }
    return done;
}
