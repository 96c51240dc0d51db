/* SPDX-License-Identifier: Apache-2.0
 *
 * Every kernel of a set against plain C, for machines that run no Python: at every offset in a
 * vector, at every length of some vectors and a rest, with nothing written beside the region. The
 * digests themselves are checked by vectors.c.
 */
#include "check.h"
#include "internal.h"

enum { OFFSETS = 64, LEN_MAX = 300, BLOCK = ATLAS_SHA256_BLOCK_BYTES, WORDS = ATLAS_SHA256_WORDS };
enum { CANARY = 0xA5, BLOCKS = 3 };

static uint8_t noise[2 * OFFSETS + LEN_MAX], other[2 * OFFSETS + LEN_MAX];

static void make_noise(void)
{
    uint32_t x = 12288;
    for (size_t i = 0; i < sizeof noise; i++) {
        x = x * 1664525 + 1013904223;
        noise[i] = (uint8_t)(x >> 24);
    }
}

static uint64_t sum_of(const uint8_t* bytes, size_t len)
{
    uint64_t total = 0;
    while (len > 0)
        total += bytes[--len];
    return total;
}

#define FOR_EVERY_REGION(at, len)                                                                  \
    for (size_t at = 0; at < OFFSETS; at++)                                                        \
        for (size_t len = 0; len <= LEN_MAX; len++)

static void case_sum(void)
{
    FOR_EVERY_REGION(at, len)
    CHECK(atlas_kernels()->sum(noise + at, len) == sum_of(noise + at, len));
    memset(other, 0xFF, sizeof other); /* the most that an accumulator must hold */
    CHECK(atlas_kernels()->sum(other, sizeof other) == 255 * sizeof other);
}

static void case_delta(void)
{
    FOR_EVERY_REGION(at, len)
    {
        const uint8_t *before = noise + at, *after = noise + OFFSETS - at;
        uint64_t apart = sum_of(after, len) + ATLAS_MODULUS * LEN_MAX * 3 - sum_of(before, len);
        CHECK(atlas_kernels()->delta(before, after, len) == apart % ATLAS_MODULUS);
    }
}

/* Are the bytes beside [at, at + len) of `other` as they were? */
static bool clean_beside(size_t at, size_t len)
{
    for (size_t i = 0; i < sizeof other; i++)
        if ((i < at || i >= at + len) && other[i] != CANARY)
            return false;
    return true;
}

static void check_copy(void (*copy)(void*, const void*, uint64_t))
{
    FOR_EVERY_REGION(at, len)
    {
        memset(other, CANARY, sizeof other);
        copy(other + at, noise + OFFSETS - at, len);
        CHECK(memcmp(other + at, noise + OFFSETS - at, len) == 0);
        CHECK(clean_beside(at, len));
    }
}

static void check_fill(void (*fill)(void*, uint8_t, uint64_t))
{
    FOR_EVERY_REGION(at, len)
    {
        memset(other, CANARY, sizeof other);
        fill(other + at, (uint8_t)len, len);
        CHECK(sum_of(other + at, len) == len * (uint8_t)len);
        CHECK(len == 0 || (other[at] == (uint8_t)len && other[at + len - 1] == (uint8_t)len));
        CHECK(clean_beside(at, len));
    }
}

static void case_copy(void)
{
    check_copy(atlas_kernels()->copy);
    check_copy(atlas_kernels()->copy_stream);
}

static void case_fill(void)
{
    check_fill(atlas_kernels()->fill);
    check_fill(atlas_kernels()->fill_stream);
}

/* The copy is on the stack and the results are wide: where a 32-bit result has its register for
 * itself, nothing of an argument may be left in the upper half. */
static void case_equal(void)
{
    uint8_t stack[OFFSETS + LEN_MAX + 1];
    FOR_EVERY_REGION(at, len)
    {
        uint8_t* copy = stack + OFFSETS - at;
        memcpy(copy, noise + at, len);
        copy[len] = (uint8_t)~noise[at + len];
        uint64_t equal = atlas_kernels()->equal(copy, noise + at, len);
        CHECK(equal == 1);
        for (size_t changed = at % 7; changed < len; changed += 7) {
            copy[changed] ^= (uint8_t)(1 << changed % 8);
            uint64_t differs = atlas_kernels()->equal(copy, noise + at, len);
            CHECK(differs == 0);
            copy[changed] ^= (uint8_t)(1 << changed % 8);
        }
    }
}

/* The words of `state` after `count` blocks of the noise. */
static void compress(uint32_t* state, size_t at, size_t count)
{
    static const uint32_t initial[WORDS] = ATLAS_SHA256_INITIAL;
    memcpy(state, initial, sizeof initial);
    atlas_kernels()->sha256(state, noise + at, count);
}

static void case_sha256(void)
{
    uint32_t whole[WORDS], split[WORDS], moved[WORDS];
    uint8_t kept[BLOCKS * BLOCK];
    for (size_t at = 0; at < OFFSETS; at++) {
        compress(whole, at, BLOCKS);
        for (size_t count = 0; count <= BLOCKS; count++) {
            compress(split, at, count);
            atlas_kernels()->sha256(split, noise + at + count * BLOCK, BLOCKS - count);
            CHECK(memcmp(whole, split, sizeof whole) == 0);
        }
        memcpy(kept, noise, sizeof kept);
        memmove(noise, noise + at, sizeof kept);
        compress(moved, 0, BLOCKS);
        CHECK(memcmp(whole, moved, sizeof whole) == 0);
        memcpy(noise, kept, sizeof kept);
    }
}

/* The first `used` of messages at odd places, `count` blocks each. */
static void check_lanes(size_t used, size_t count)
{
    static const uint32_t initial[WORDS] = ATLAS_SHA256_INITIAL;
    const atlas_kernels_t* kernels = atlas_kernels();
    size_t lanes = (size_t)kernels->lanes;
    uint32_t states[WORDS * ATLAS_LANES_MAX], alone[WORDS];
    uint64_t sums[ATLAS_LANES_MAX];
    const void* blocks[ATLAS_LANES_MAX];
    for (size_t lane = 0; lane < lanes; lane++) {
        blocks[lane] = noise + 5 * (lane < used ? lane : 0);
        sums[lane] = 1000 * lane;
        for (size_t word = 0; word < WORDS; word++)
            states[word * lanes + lane] = initial[word];
    }
    uint32_t summed = kernels->sha256_lanes(states, sums, blocks, count, used);
    CHECK(summed <= 1);
    for (size_t lane = 0; lane < used; lane++) {
        compress(alone, 5 * lane, count);
        for (size_t word = 0; word < WORDS; word++)
            CHECK(states[word * lanes + lane] == alone[word]);
        uint64_t sum = summed != 0 ? sum_of(noise + 5 * lane, BLOCK * count) : 0;
        CHECK(sums[lane] == 1000 * lane + sum);
    }
}

static void case_sha256_lanes(void)
{
    size_t lanes = (size_t)atlas_kernels()->lanes;
    CHECK(lanes >= 1 && lanes <= ATLAS_LANES_MAX);
    for (size_t used = 1; used <= lanes; used++)
        for (size_t count = 0; count <= BLOCKS; count++)
            check_lanes(used, count);
}

#define CASES(X)                                                                                   \
    X(sum, "the sum of the bytes")                                                                 \
    X(delta, "the difference of the sums, mod 96")                                                 \
    X(copy, "copies write the region and nothing beside it, past the cache too")                   \
    X(fill, "fills write the region and nothing beside it, past the cache too")                    \
    X(equal, "1 for equal regions, 0 where any byte differs, in a whole register")                 \
    X(sha256, "compression is the same in any split and at any offset")                            \
    X(sha256_lanes, "compression of any number of lanes is that of each; their sums too, or none")

int main(int argc, char** argv)
{
    const check_case_t cases[] = {CASES(CHECK_CASE_ROW)};
    make_noise();
    return check_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
