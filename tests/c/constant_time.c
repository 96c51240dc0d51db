/* SPDX-License-Identifier: Apache-2.0
 *
 * Does the time of a comparison of digests depend on their bytes? Run by valgrind: the bytes are
 * marked undefined, so that it reports every branch on them and every address made from them. Only
 * the verdict is marked as defined, where the comparison hands it over: all may know that. An
 * argument "memcmp" compares with memcmp in place of the kernel, which must be reported.
 */
#include "check.h"
#include "internal.h"

#include <valgrind/memcheck.h>

enum { OFFSETS = 64, LEN_MAX = 300 };

static atlas_kernels_t watched; /* the set in use with the comparison below */
static uint32_t (*compare)(const void* a, const void* b, uint64_t len);

static uint32_t equal_by_memcmp(const void* a, const void* b, uint64_t len)
{
    int (*volatile by_call)(const void*, const void*, size_t) = memcmp; /* not built in */
    return by_call(a, b, (size_t)len) == 0;
}

static uint32_t watched_equal(const void* a, const void* b, uint64_t len)
{
    uint32_t verdict = compare(a, b, len);
    VALGRIND_MAKE_MEM_DEFINED(&verdict, sizeof verdict);
    return verdict;
}

static void case_kernel(void)
{
    static uint8_t left[OFFSETS + LEN_MAX], right[OFFSETS + LEN_MAX];
    for (size_t at = 0; at < OFFSETS; at += 7)
        for (size_t len = 0; len <= LEN_MAX; len++)
            for (size_t changed = 0; changed <= len; changed += 1 + len / 3) {
                uint8_t *a = left + at, *b = right + OFFSETS - at;
                memset(a, 1, len);
                memset(b, 1, len);
                b[changed] ^= (uint8_t)(changed < len);
                VALGRIND_MAKE_MEM_UNDEFINED(a, len);
                VALGRIND_MAKE_MEM_UNDEFINED(b, len);
                CHECK(watched_equal(a, b, len) == (changed == len));
                VALGRIND_MAKE_MEM_DEFINED(b, len);
            }
}

static void check_verify(bool same)
{
    static uint8_t region[ATLAS_WINDOW_BYTES];
    atlas_witness_t* w = atlas_witness_generate(region, sizeof region);
    w->digest[same ? 0 : 31] ^= (uint8_t)!same;
    VALGRIND_MAKE_MEM_UNDEFINED(w->digest, sizeof w->digest);
    CHECK(atlas_witness_verify(w, region, sizeof region) == same);
    atlas_witness_destroy(w);
}

static void case_witness_verify(void)
{
    check_verify(true);
    check_verify(false);
}

#define CASES(X)                                                                                   \
    X(kernel, "the kernel compares in a time that the bytes do not change")                        \
    X(witness_verify, "atlas_witness_verify compares digests in no other way")

int main(int argc, char** argv)
{
    const check_case_t cases[] = {CASES(CHECK_CASE_ROW)};
    bool by_memcmp = argc > 1 && strcmp(argv[1], "memcmp") == 0;
    CHECK(RUNNING_ON_VALGRIND);
    if (!by_memcmp && argc > 1)
        CHECK(atlas_kernel_set_select(argv[1]) == ATLAS_OK);
    watched = *atlas_kernels();
    compare = by_memcmp ? equal_by_memcmp : watched.equal;
    watched.equal = watched_equal;
    atlas_atomic_store(&ATLAS_KERNELS_ACTIVE, &watched);
    return check_main(1, argv, cases, sizeof cases / sizeof cases[0]);
}
