/* SPDX-License-Identifier: Apache-2.0
 *
 * Conservation utilities: the law on regions that belong to no domain.
 */
#include "internal.h"

#include <inttypes.h>

/* Work that touches this much or more stores past the caches. A plain store first reads the line
 * that it overwrites, a third of the traffic of a copy; one past the caches does not, but then the
 * next reader does not find the result in the cache. So the bound is where that reader would not
 * find it anyway: the last-level cache of common server parts, 32 MiB for a group of cores. */
#define STREAM_BYTES ((size_t)32 << 20)

uint8_t atlas_conserved_delta(const void* before, const void* after, size_t len)
{
    bool readable = atlas_is_region(before, len);
    if (!readable || !atlas_is_region(after, len)) {
        atlas_error_region(__func__, readable ? "after" : "before", readable ? after : before, len);
        return 0;
    }
    atlas_error_clear();
    return atlas_kernel_conserved_delta(before, after, len) & 0x7f; /* i7: the rest is undefined */
}

uint8_t atlas_conserved_residue(const void* base, size_t len)
{
    if (!atlas_is_region(base, len)) {
        atlas_error_region(__func__, "base", base, len);
        return 0;
    }
    atlas_error_clear();
    return atlas_residue_of(base, len);
}

bool atlas_conserved_check(const void* base, size_t len)
{
    if (!atlas_is_region(base, len)) {
        atlas_error_region(__func__, "base", base, len);
        return false;
    }
    atlas_error_clear();
    return atlas_is_conserved(base, len);
}

int atlas_conserved_window_residues(const void* base, size_t len, uint8_t* out)
{
    if (!atlas_is_region(base, len))
        return atlas_error_region(__func__, "base", base, len);
    if (out == NULL && len > 0)
        return atlas_error_null(__func__, "out");
    const uint8_t* bytes = base;
    for (; len >= ATLAS_WINDOW_BYTES; len -= ATLAS_WINDOW_BYTES) {
        *out++ = atlas_residue_of(bytes, ATLAS_WINDOW_BYTES);
        bytes += ATLAS_WINDOW_BYTES;
    }
    if (len > 0)
        *out = atlas_residue_of(bytes, len);
    return atlas_error_clear();
}

int atlas_conserved_update(uint64_t* state, const void* chunk, size_t n)
{
    if (state == NULL)
        return atlas_error_null(__func__, "state");
    if (!atlas_is_region(chunk, n))
        return atlas_error_region(__func__, "chunk", chunk, n);
    atlas_kernel_conserved_update(state, chunk, n);
    return atlas_error_clear();
}

/* From the last piece to the first: the check before it has left the end of the source in the
 * cache. Pieces are long enough for the CPU to fetch ahead within each. */
#define PIECE_BYTES ((size_t)1 << 20)

static void copy_past_caches(uint8_t* dst, const uint8_t* src, size_t len)
{
    while (len > 0) {
        size_t some = len % PIECE_BYTES != 0 ? len % PIECE_BYTES : PIECE_BYTES;
        len -= some;
        atlas_kernels()->copy_stream(dst + len, src + len, some);
    }
}

void atlas_copy_bytes(void* dst, const void* src, size_t len)
{
    if (len < STREAM_BYTES / 2) /* it touches source and copy */
        atlas_kernels()->copy(dst, src, len);
    else
        copy_past_caches(dst, src, len);
}

void atlas_fill_bytes(void* dst, uint8_t value, size_t len)
{
    if (len < STREAM_BYTES)
        atlas_kernels()->fill(dst, value, len);
    else
        atlas_kernels()->fill_stream(dst, value, len);
}

int atlas_conserved_memcpy(void* dst, const void* src, size_t len)
{
    if (len == 0)
        return atlas_error_clear();
    if (!atlas_is_region(dst, len))
        return atlas_error_region(__func__, "dst", dst, len);
    if (!atlas_is_region(src, len))
        return atlas_error_region(__func__, "src", src, len);
    uintptr_t apart = atlas_distance(dst, src);
    if (apart < len)
        return atlas_error_set(ATLAS_E_MEMORY, __func__,
                               "dst and src are %" PRIuPTR " bytes apart, must be at least %zu, "
                               "the length",
                               apart, len);
    if (!atlas_is_conserved(src, len))
        return atlas_error_residue(__func__, "source", len, atlas_residue_of(src, len));
    atlas_copy_bytes(dst, src, len);
    return atlas_error_clear();
}

/* The byte nearest to `value`, the smaller on a tie, that makes a region conserved whose other
 * bytes have the residue `others`. At least two of the 256 bytes do. */
static uint8_t fixup_byte(uint64_t others, uint8_t value)
{
    int first = (int)((ATLAS_MODULUS - others) % ATLAS_MODULUS);
    int nearest = first;
    for (int byte = first; byte <= UINT8_MAX; byte += ATLAS_MODULUS) {
        int distance = byte > value ? byte - value : value - byte;
        int shortest = nearest > value ? nearest - value : value - nearest;
        if (distance < shortest)
            nearest = byte;
    }
    return (uint8_t)nearest;
}

int atlas_conserved_memset(void* dst, uint8_t value, size_t len)
{
    if (len == 0)
        return atlas_error_clear();
    if (!atlas_is_region(dst, len))
        return atlas_error_region(__func__, "dst", dst, len);
    atlas_fill_bytes(dst, value, len);
    uint64_t others = (uint64_t)((len - 1) % ATLAS_MODULUS) * value % ATLAS_MODULUS;
    ((uint8_t*)dst)[len - 1] = fixup_byte(others, value);
    return atlas_error_clear();
}

static void fixup_at(uint8_t* bytes, size_t len, size_t index)
{
    /* No byte is larger than 3 * 96, so that the difference is not negative. */
    uint64_t others = atlas_residue_of(bytes, len) + 3 * ATLAS_MODULUS - (uint64_t)bytes[index];
    bytes[index] = fixup_byte(others % ATLAS_MODULUS, bytes[index]);
}

int atlas_conserved_fixup(void* base, size_t len)
{
    if (len == 0)
        return atlas_error_clear();
    if (!atlas_is_region(base, len))
        return atlas_error_region(__func__, "base", base, len);
    fixup_at(base, len, len - 1);
    return atlas_error_clear();
}

int atlas_conserved_fixup_at(void* base, size_t len, size_t index)
{
    if (base == NULL || !atlas_is_region(base, len))
        return atlas_error_region(__func__, "base", base, len);
    if (index >= len)
        return atlas_error_set(ATLAS_E_MEMORY, __func__,
                               "index is %zu, must be below %zu, the length", index, len);
    fixup_at(base, len, index);
    return atlas_error_clear();
}
