/* SPDX-License-Identifier: Apache-2.0
 *
 * Regions: memory of the library's own, a payload with one byte behind it, the balance.
 *
 * Mapped, a region is whole pages between two that no one can touch:
 *
 *   guard | payload, balance, rest of the last page | guard
 */
#if !defined(ATLAS_SINGLE_THREAD) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* mmap, syscall: the build asks for C11 alone */
#endif
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#ifndef ATLAS_SINGLE_THREAD
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif
#endif

static int no_memory(const char* function, const atlas_region_t* region)
{
    return atlas_error_set(ATLAS_E_MEMORY, function,
                           "no memory for a region of %zu bytes, must be free before",
                           region->nbytes);
}

/* The longest payload: with its balance it is an object, whose length fits in a ptrdiff_t. */
#define MOST_BYTES ((size_t)PTRDIFF_MAX - 1)

#ifdef ATLAS_SINGLE_THREAD

/* The payload of calloc's memory begins at the first multiple of a page of the model. */
static int take_memory(const char* function, atlas_region_t* region, bool has_file)
{
    (void)function;
    (void)has_file;
    size_t before = sizeof(void*) + ATLAS_PAGE_BYTES - 1;
    uint8_t* block =
        region->nbytes < MOST_BYTES - before ? calloc(1, before + region->nbytes + 1) : NULL;
    if (block == NULL)
        return no_memory(function, region);
    uint8_t* base = block + before;
    base -= (uintptr_t)base % ATLAS_PAGE_BYTES;
    memcpy(base - sizeof block, &block, sizeof block);
    region->base = base;
    return ATLAS_OK;
}

static void give_memory_back(atlas_region_t* region)
{
    void* block;
    memcpy(&block, region->base - sizeof block, sizeof block);
    free(block);
}

static int map_memory_file(const char* function, atlas_region_t* region)
{
    (void)function;
    (void)region;
    return ATLAS_OK;
}

#else

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

static size_t system_page(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

#if defined(__linux__) && defined(SYS_memfd_create)

/* As in linux/memfd.h: the C library may be older than the kernel. */
#define CLOSE_ON_EXEC 0x0001U
#define ALLOW_SEALING 0x0002U
#define NOEXEC_SEAL 0x0008U /* since Linux 6.3 */

/* An empty memfd, never one of the standard streams, to which anyone may write. -1 where the system
 * gives none, by errno. */
static int open_memory_file(void)
{
    static const char NAME[] = "atlas12288";
    long made = syscall(SYS_memfd_create, NAME, CLOSE_ON_EXEC | ALLOW_SEALING | NOEXEC_SEAL);
    if (made < 0 && errno == EINVAL)
        made = syscall(SYS_memfd_create, NAME, CLOSE_ON_EXEC | ALLOW_SEALING);
    if (made < 0 || made > STDERR_FILENO)
        return (int)made;
    int moved = fcntl((int)made, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int error = errno;
    close((int)made);
    errno = error;
    return moved;
}

/* Puts a memfd over the pages at region->base and keeps its descriptor. Where the system has none,
 * region->fd stays -1 and the pages what they are. */
static int map_memory_file(const char* function, atlas_region_t* region)
{
    int fd = open_memory_file();
    if (fd < 0 && (errno == EMFILE || errno == ENFILE))
        return atlas_error_set(ATLAS_E_MEMORY, function,
                               "the %s has as many open files as it may, must have room for one, "
                               "the memory of a region",
                               errno == EMFILE ? "process" : "system");
    if (fd < 0 && errno == ENOMEM)
        return no_memory(function, region);
    if (fd < 0)
        return ATLAS_OK; /* no such call, or a sandbox that forbids it */
    /* The file ends with the balance: who gets it by from_fd knows the lengths from its size. */
    if (ftruncate(fd, (off_t)(region->nbytes + 1)) != 0) {
        close(fd);
        return ATLAS_OK;
    }
    if (mmap(region->base, region->mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
        MAP_FAILED) {
        close(fd);
        return no_memory(function, region);
    }
    region->fd = fd;
    return ATLAS_OK;
}

#else

static int map_memory_file(const char* function, atlas_region_t* region)
{
    (void)function;
    (void)region;
    return ATLAS_OK;
}

#endif

static void give_memory_back(atlas_region_t* region)
{
    size_t page = system_page();
    munmap(region->base - page, region->mapped + 2 * page);
    if (region->fd >= 0)
        close(region->fd);
}

static int take_memory(const char* function, atlas_region_t* region, bool has_file)
{
    size_t page = system_page();
    /* Anonymous memory comes first: of a memfd the system counts no page before it is touched, and
     * would promise more than it has. This way it refuses here, as it refuses malloc(). */
    if (region->nbytes > MOST_BYTES - 3 * page)
        return no_memory(function, region);
    region->mapped = (region->nbytes / page + 1) * page;            /* nbytes + 1, rounded up */
    int protection = has_file ? PROT_NONE : PROT_READ | PROT_WRITE; /* addresses alone are free */
    uint8_t* guard =
        mmap(NULL, region->mapped + 2 * page, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (guard == MAP_FAILED)
        return no_memory(function, region);
    region->base = guard + page;
    if (mprotect(guard, page, PROT_NONE) != 0 ||
        mprotect(region->base + region->mapped, page, PROT_NONE) != 0) {
        give_memory_back(region);
        return no_memory(function, region); /* the system has no more mappings */
    }
    return ATLAS_OK;
}

#endif

atlas_region_t* atlas_region_reserve(const char* function, size_t nbytes, bool has_file)
{
    atlas_region_t* region = calloc(1, sizeof *region);
    if (region == NULL) {
        atlas_error_no_memory(function, "region");
        return NULL;
    }
    region->nbytes = nbytes;
    region->fd = -1;
    if (take_memory(function, region, has_file) != ATLAS_OK) {
        free(region);
        return NULL;
    }
    return region;
}

atlas_region_t* atlas_region_create(size_t nbytes)
{
    if (nbytes == 0 || nbytes > MOST_BYTES) {
        atlas_error_set(ATLAS_E_MEMORY, __func__, "nbytes is %zu, must be in 1..%zu", nbytes,
                        MOST_BYTES);
        return NULL;
    }
    atlas_region_t* region = atlas_region_reserve(__func__, nbytes, false);
    if (region == NULL)
        return NULL;
    if (map_memory_file(__func__, region) != ATLAS_OK) {
        atlas_region_destroy(region);
        return NULL;
    }
    atlas_error_clear();
    return region;
}

void* atlas_region_payload(const atlas_region_t* region)
{
    if (region == NULL) {
        atlas_error_null(__func__, "region");
        return NULL;
    }
    atlas_error_clear();
    return region->base;
}

size_t atlas_region_payload_bytes(const atlas_region_t* region)
{
    if (region == NULL) {
        atlas_error_null(__func__, "region");
        return 0;
    }
    atlas_error_clear();
    return region->nbytes;
}

size_t atlas_region_size(const atlas_region_t* region)
{
    if (region == NULL) {
        atlas_error_null(__func__, "region");
        return 0;
    }
    atlas_error_clear();
    return region->nbytes + 1;
}

/* ATLAS_OK where the bytes may be written. */
static int writable(const char* function, const atlas_region_t* region)
{
    if (region == NULL)
        return atlas_error_null(function, "region");
    if (atlas_atomic_load(&region->sealed) != ATLAS_REGION_OPEN)
        return atlas_error_set(ATLAS_E_STATE, function,
                               "the region is sealed, must not be to be written");
    return ATLAS_OK;
}

static void set_balance(atlas_region_t* region, uint64_t residue)
{
    region->base[region->nbytes] = (uint8_t)((ATLAS_MODULUS - residue) % ATLAS_MODULUS);
}

int atlas_region_balance(atlas_region_t* region, uint8_t* out)
{
    int code = writable(__func__, region);
    if (code != ATLAS_OK)
        return code;
    set_balance(region, atlas_residue_of(region->base, region->nbytes));
    if (out != NULL)
        *out = region->base[region->nbytes];
    return atlas_error_clear();
}

int atlas_region_fill(atlas_region_t* region, uint8_t value)
{
    int code = writable(__func__, region);
    if (code != ATLAS_OK)
        return code;
    atlas_fill_bytes(region->base, value, region->nbytes);
    set_balance(region, (uint64_t)(region->nbytes % ATLAS_MODULUS) * value % ATLAS_MODULUS);
    return atlas_error_clear();
}

int atlas_region_copy(atlas_region_t* region, const void* src, size_t len)
{
    int code = writable(__func__, region);
    if (code != ATLAS_OK)
        return code;
    if (len != region->nbytes)
        return atlas_error_set(ATLAS_E_MEMORY, __func__,
                               "len is %zu, must be %zu, the length of the payload", len,
                               region->nbytes);
    if (!atlas_is_region(src, len))
        return atlas_error_region(__func__, "src", src, len);
    if (atlas_distance(region->base, src) <= len) /* the balance counts too */
        return atlas_error_set(ATLAS_E_MEMORY, __func__,
                               "src overlaps the region, must be other memory");
    atlas_copy_bytes(region->base, src, len);
    /* Of the copy: the source may have changed meanwhile. */
    set_balance(region, atlas_residue_of(region->base, len));
    return atlas_error_clear();
}

void atlas_region_destroy(atlas_region_t* region)
{
    if (region == NULL)
        return;
    give_memory_back(region);
    free(region);
}
