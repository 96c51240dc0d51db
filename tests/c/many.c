/* SPDX-License-Identifier: Apache-2.0
 *
 * Witnesses of many regions at once are those of each region alone: any number, any lengths, so
 * that lanes are refilled at every place. Run with every kernel set, so with every number of lanes.
 */
#include "check.h"

enum { LENGTHS = 1001, MOST = 40, ROOM = 1 << 16 };

static uint8_t data[ROOM];
static const void* bases[LENGTHS];
static size_t lens[LENGTHS];
static atlas_witness_t* many[LENGTHS];

static uint32_t next_number(void)
{
    static uint32_t x = 12288;
    x = x * 1664525 + 1013904223;
    return x >> 8;
}

static void fill_data(void)
{
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)next_number();
}

/* Hashes the regions at once, and each alone. */
static void check_regions(size_t count)
{
    memset(many, 0, sizeof many);
    CHECK_OK(atlas_witness_generate_many(bases, lens, count, many) == ATLAS_OK);
    for (size_t i = 0; i < count; i++) {
        atlas_witness_t* alone = atlas_witness_generate(bases[i], lens[i]);
        CHECK(atlas_witness_length(many[i]) == lens[i]);
        CHECK(atlas_witness_residue(many[i]) == atlas_witness_residue(alone));
        CHECK(memcmp(atlas_witness_digest(many[i]), atlas_witness_digest(alone),
                     ATLAS_DIGEST_BYTES) == 0);
        CHECK(atlas_witness_timestamp_ns(many[i]) <= atlas_witness_timestamp_ns(alone));
        CHECK(atlas_witness_timestamp_ns(many[i]) != 0);
        atlas_witness_destroy(alone);
        atlas_witness_destroy(many[i]);
    }
}

static void case_lengths(void)
{
    fill_data();
    for (size_t i = 0; i < LENGTHS; i++) {
        bases[i] = data + i % 64;
        lens[i] = i;
    }
    check_regions(LENGTHS);
}

/* Each number of regions: of random lengths; of one length; and one that outlasts all others. */
static void case_numbers(void)
{
    for (size_t count = 1; count <= MOST; count++)
        for (size_t round = 0; round < 4; round++) {
            size_t most = (size_t)64 << (next_number() % 8);
            for (size_t i = 0; i < count; i++) {
                lens[i] = round == 1 ? most - 9 : next_number() % most;
                if (round == 2 && i == count / 2)
                    lens[i] = 30000;
                bases[i] = data + next_number() % (ROOM - lens[i]);
            }
            check_regions(count);
        }
}

static void case_refused(void)
{
    for (size_t i = 0; i < 3; i++) {
        bases[i] = data;
        lens[i] = i;
    }
    memset(many, 0, sizeof many);
#define REFUSED(call, why)                                                                         \
    CHECK_REFUSED((call) == ATLAS_E_MEMORY, ATLAS_E_MEMORY, "atlas_witness_generate_many", why)
    REFUSED(atlas_witness_generate_many(NULL, lens, 3, many), "bases is NULL");
    REFUSED(atlas_witness_generate_many(bases, NULL, 3, many), "lens is NULL");
    REFUSED(atlas_witness_generate_many(bases, lens, 3, NULL), "out is NULL");
    bases[0] = NULL; /* with length 0 */
    REFUSED(atlas_witness_generate_many(bases, lens, 3, many), "bases[0] is NULL");
    bases[0] = data;
    bases[2] = NULL;
    REFUSED(atlas_witness_generate_many(bases, lens, 3, many), "bases[2] is NULL");
    bases[2] = data;
    lens[1] = SIZE_MAX;
    REFUSED(atlas_witness_generate_many(bases, lens, 3, many), "bytes of bases[1] wrap around");
#undef REFUSED
    CHECK(many[0] == NULL && many[1] == NULL && many[2] == NULL);
    CHECK_OK(atlas_witness_generate_many(NULL, NULL, 0, NULL) == ATLAS_OK);
}

#define CASES(X)                                                                                   \
    X(lengths, "every length up to 1000, all in one call")                                         \
    X(numbers, "every number of regions up to 40")                                                 \
    X(refused, "nothing is hashed where anything is refused; no region is fine")

CHECK_MAIN(CASES)
