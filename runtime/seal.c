/* SPDX-License-Identifier: Apache-2.0
 *
 * Sealing: from a commit on, the system refuses writes to a region.
 *
 * Linux refuses them for the memory itself, in every process and for good, by the seals of a memfd.
 * It takes the seals only where no writable mapping of the file is left, and one that mprotect()
 * made read-only still counts. So a private, read-only mapping of the same pages goes over ours
 * first, at the same address: whoever reads meanwhile reads on. Elsewhere the pages of this mapping
 * are protected, in this process alone.
 */
#if !defined(ATLAS_SINGLE_THREAD) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* F_ADD_SEALS: the build asks for C11 alone */
#endif
#include "internal.h"

#include <stdlib.h>

#ifndef ATLAS_SINGLE_THREAD
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

bool atlas_region_sealed(const atlas_region_t* region)
{
    if (region == NULL) {
        atlas_error_null(__func__, "region");
        return false;
    }
    atlas_error_clear();
    return atlas_atomic_load(&region->sealed) == ATLAS_REGION_SEALED;
}

#ifdef ATLAS_SINGLE_THREAD

static int freeze(const char* function, atlas_region_t* region)
{
    (void)region;
    return atlas_error_set(ATLAS_E_STATE, function,
                           "memory cannot be sealed in a build with ATLAS_SINGLE_THREAD, must be "
                           "committed without a seal");
}

#else

static int protect(const char* function, const atlas_region_t* region)
{
    if (mprotect(region->base, region->mapped, PROT_READ) != 0)
        return atlas_error_set(ATLAS_E_MEMORY, function,
                               "the system has no memory to protect the pages of the region");
    return ATLAS_OK;
}

#ifdef F_ADD_SEALS

/* SHRINK and GROW: a file that another process cuts would kill every reader with SIGBUS. */
enum { SEALS = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

static bool map_over(const atlas_region_t* region, int protection, int sharing)
{
    return mmap(region->base, region->mapped, protection, sharing | MAP_FIXED, region->fd, 0) !=
           MAP_FAILED;
}

/* A private mapping could be made writable again, for this process alone; a shared one cannot.
 * Kernels before 6.7 refuse the shared one: the private one stays then. */
static void share_sealed(const atlas_region_t* region)
{
    map_over(region, PROT_READ, MAP_SHARED);
}

static int freeze(const char* function, atlas_region_t* region)
{
    if (region->fd < 0)
        return protect(function, region);
    if (!map_over(region, PROT_READ, MAP_PRIVATE))
        return atlas_error_set(ATLAS_E_MEMORY, function,
                               "the system has no memory for the read-only mapping of the region");
    if (fcntl(region->fd, F_ADD_SEALS, SEALS) == 0) {
        share_sealed(region);
        return ATLAS_OK;
    }
    bool busy = errno == EBUSY;
    if (!map_over(region, PROT_READ | PROT_WRITE, MAP_SHARED)) {
        /* Bytes that cannot be written are what a seal promises this process. */
        atlas_atomic_store(&region->sealed, ATLAS_REGION_SEALED);
        return atlas_error_set(ATLAS_E_MEMORY, function,
                               "the system refuses the seal, and has no memory to make the region "
                               "writable again, which is read-only from now on");
    }
    if (busy)
        return atlas_error_set(ATLAS_E_STATE, function,
                               "the region is mapped by another process or in use by a device, "
                               "must be released by both before it is sealed");
    return atlas_error_set(ATLAS_E_STATE, function,
                           "the system refuses to seal the region, which must allow seals");
}

#else

static int freeze(const char* function, atlas_region_t* region)
{
    return protect(function, region);
}

#endif
#endif

int atlas_region_seal(const char* function, atlas_region_t* region)
{
    uint32_t before = ATLAS_REGION_OPEN; /* claimed, so that only one of two calls seals */
    if (!atlas_atomic_exchange(&region->sealed, &before, ATLAS_REGION_SEALING)) {
        if (before == ATLAS_REGION_SEALED)
            return ATLAS_OK;
        return atlas_error_set(ATLAS_E_STATE, function,
                               "another call seals the region, must return first");
    }
    int code = freeze(function, region);
    if (code == ATLAS_OK)
        atlas_atomic_store(&region->sealed, ATLAS_REGION_SEALED);
    else if (atlas_atomic_load(&region->sealed) == ATLAS_REGION_SEALING)
        atlas_atomic_store(&region->sealed, ATLAS_REGION_OPEN);
    return code;
}

int atlas_region_fd(const atlas_region_t* region, int* out)
{
    if (region == NULL)
        return atlas_error_null(__func__, "region");
    if (out == NULL)
        return atlas_error_null(__func__, "out");
    if (atlas_atomic_load(&region->sealed) != ATLAS_REGION_SEALED)
        return atlas_error_set(ATLAS_E_STATE, __func__,
                               "the region is not sealed, must be to have a descriptor");
    if (region->fd < 0)
        return atlas_error_set(ATLAS_E_STATE, __func__,
                               "the region is in memory of this process alone, must be in a memfd "
                               "to have a descriptor");
    *out = region->fd;
    return atlas_error_clear();
}

#if !defined(ATLAS_SINGLE_THREAD) && defined(F_ADD_SEALS)

/* The length of the sealed file in *size; an error where `fd` is not of one. */
static int sealed_size(const char* function, int given, int fd, size_t* size)
{
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0)
        return atlas_error_set(ATLAS_E_STATE, function,
                               "fd is %d, must be of a memfd, the memory of a region", given);
    int missing = SEALS & ~seals;
    if (missing != 0)
        return atlas_error_set(ATLAS_E_STATE, function,
                               "fd is %d, of memory without%s%s%s%s, must have all four seals",
                               given, missing & F_SEAL_WRITE ? " F_SEAL_WRITE" : "",
                               missing & F_SEAL_SHRINK ? " F_SEAL_SHRINK" : "",
                               missing & F_SEAL_GROW ? " F_SEAL_GROW" : "",
                               missing & F_SEAL_SEAL ? " F_SEAL_SEAL" : "");
    struct stat status; /* after the seals, so that the size stays true */
    if (fstat(fd, &status) != 0 || status.st_size < 2 || (uintmax_t)status.st_size > PTRDIFF_MAX)
        return atlas_error_set(ATLAS_E_STATE, function,
                               "fd is %d, of %jd bytes, must be of at least 2, a payload and its "
                               "balance",
                               given, (intmax_t)status.st_size);
    *size = (size_t)status.st_size;
    return ATLAS_OK;
}

static atlas_region_t* adopt(const char* function, int given, int fd)
{
    size_t size = 0;
    if (sealed_size(function, given, fd, &size) != ATLAS_OK)
        return NULL;
    atlas_region_t* region = atlas_region_reserve(function, size - 1, true);
    if (region == NULL)
        return NULL;
    region->fd = fd;
    if (!map_over(region, PROT_READ, MAP_SHARED) && !map_over(region, PROT_READ, MAP_PRIVATE)) {
        region->fd = -1; /* the caller closes it */
        atlas_region_destroy(region);
        atlas_error_set(ATLAS_E_MEMORY, function,
                        "the system cannot map the %zu bytes of fd %d, must have room for them",
                        size, given);
        return NULL;
    }
    atlas_atomic_store(&region->sealed, ATLAS_REGION_SEALED);
    return region;
}

atlas_region_t* atlas_region_from_fd(int fd)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (own < 0 && errno == EBADF)
        atlas_error_set(ATLAS_E_STATE, __func__, "fd is %d, must be an open descriptor", fd);
    else if (own < 0)
        atlas_error_set(ATLAS_E_MEMORY, __func__,
                        "the process has as many open files as it may, must have room for one, the "
                        "memory of a region");
    if (own < 0)
        return NULL;
    atlas_region_t* region = adopt(__func__, fd, own);
    if (region == NULL)
        close(own);
    else
        atlas_error_clear();
    return region;
}

#else

atlas_region_t* atlas_region_from_fd(int fd)
{
    atlas_error_set(ATLAS_E_STATE, __func__,
                    "fd is %d, but this build has no memory that can be sealed", fd);
    return NULL;
}

#endif
