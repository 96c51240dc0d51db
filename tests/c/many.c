/* SPDX-License-Identifier: Apache-2.0
 *
 * Witnesses of many regions at once, and many streams updated at once, are those of each alone: any
 * number, any lengths, so that lanes are refilled at every place. Run with every kernel set, so
 * with every number of lanes.
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

/* Each number of streams, updated at once in rounds of chunks of any length: after every round the
 * state of each is that of a stream that was updated alone. */
static void case_streams(void)
{
    static atlas_witness_stream_t *together[MOST], *alone[MOST];
    uint8_t found[ATLAS_WITNESS_STREAM_BYTES], expected[ATLAS_WITNESS_STREAM_BYTES];
    for (size_t count = 1; count <= MOST; count++) {
        for (size_t i = 0; i < count; i++) {
            together[i] = atlas_witness_stream_create();
            alone[i] = atlas_witness_stream_create();
        }
        for (size_t round = 0; round < 6; round++) {
            size_t most = (size_t)8 << (next_number() % 11);
            for (size_t i = 0; i < count; i++) {
                lens[i] = round == 1 ? 4096 : next_number() % most;
                if (round == 4 && i == count / 2)
                    lens[i] = 30000;
                bases[i] = data + next_number() % (ROOM - lens[i]);
            }
            CHECK_OK(atlas_witness_stream_update_many(together, bases, lens, count) == ATLAS_OK);
            for (size_t i = 0; i < count; i++) {
                CHECK(atlas_witness_stream_update(alone[i], bases[i], lens[i]) == ATLAS_OK);
                CHECK(atlas_witness_stream_to_bytes(together[i], found) == ATLAS_OK);
                CHECK(atlas_witness_stream_to_bytes(alone[i], expected) == ATLAS_OK);
                CHECK(memcmp(found, expected, sizeof found) == 0);
            }
        }
        for (size_t i = 0; i < count; i++) {
            atlas_witness_t* made = atlas_witness_stream_witness(together[i]);
            atlas_witness_t* other = atlas_witness_stream_witness(alone[i]);
            CHECK(memcmp(atlas_witness_digest(made), atlas_witness_digest(other),
                         ATLAS_DIGEST_BYTES) == 0);
            atlas_witness_destroy(made);
            atlas_witness_destroy(other);
            atlas_witness_stream_destroy(together[i]);
            atlas_witness_stream_destroy(alone[i]);
        }
    }
}

static void case_streams_refused(void)
{
    atlas_witness_stream_t* streams[3];
    uint8_t form[ATLAS_WITNESS_STREAM_BYTES], full[ATLAS_WITNESS_STREAM_BYTES];
    for (size_t i = 0; i < 3; i++) {
        streams[i] = atlas_witness_stream_create();
        bases[i] = data;
        lens[i] = 100 + i;
    }
#define REFUSED(call, code, why)                                                                   \
    CHECK_REFUSED((call) == (code), code, "atlas_witness_stream_update_many", why)
    REFUSED(atlas_witness_stream_update_many(NULL, bases, lens, 3), ATLAS_E_MEMORY,
            "streams is NULL");
    REFUSED(atlas_witness_stream_update_many(streams, NULL, lens, 3), ATLAS_E_MEMORY,
            "chunks is NULL");
    REFUSED(atlas_witness_stream_update_many(streams, bases, NULL, 3), ATLAS_E_MEMORY,
            "lens is NULL");
    bases[2] = NULL;
    REFUSED(atlas_witness_stream_update_many(streams, bases, lens, 3), ATLAS_E_MEMORY,
            "chunks[2] is NULL");
    bases[2] = data;
    lens[1] = SIZE_MAX;
    REFUSED(atlas_witness_stream_update_many(streams, bases, lens, 3), ATLAS_E_MEMORY,
            "bytes of chunks[1] wrap around");
    lens[1] = 101;
    atlas_witness_stream_t* third = streams[2];
    streams[2] = NULL;
    REFUSED(atlas_witness_stream_update_many(streams, bases, lens, 3), ATLAS_E_MEMORY,
            "streams[2] is NULL");
    streams[2] = streams[0];
    REFUSED(atlas_witness_stream_update_many(streams, bases, lens, 3), ATLAS_E_STATE,
            "streams[2] is an earlier one again");
    streams[2] = third;
    /* Nobody was updated, and nobody is held back. */
    for (size_t i = 0; i < 3; i++) {
        CHECK(atlas_witness_stream_to_bytes(streams[i], form) == ATLAS_OK);
        for (size_t at = 8; at < 16; at++)
            CHECK(form[at] == 0);
    }
    CHECK_OK(atlas_witness_stream_update_many(streams, bases, lens, 3) == ATLAS_OK);
    CHECK_OK(atlas_witness_stream_update_many(NULL, NULL, NULL, 0) == ATLAS_OK);
    bases[1] = NULL;
    lens[0] = lens[1] = 0;
    CHECK_OK(atlas_witness_stream_update_many(streams, bases, lens, 2) == ATLAS_OK);
    /* One that is full: 2^61 - 1 bytes. */
    CHECK(atlas_witness_stream_to_bytes(streams[2], full) == ATLAS_OK);
    memset(full + 8, 0xff, 8);
    full[15] = 0x1f;
    memset(full + 48, 1, 63);
    atlas_witness_stream_destroy(streams[2]);
    streams[2] = atlas_witness_stream_from_bytes(full, sizeof full);
    bases[1] = data;
    REFUSED(atlas_witness_stream_update_many(streams, bases, lens, 3), ATLAS_E_STATE,
            "lens[2] is 102, must be at most 0 behind 2305843009213693951 bytes");
#undef REFUSED
    for (size_t i = 0; i < 3; i++)
        atlas_witness_stream_destroy(streams[i]);
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
    X(refused, "nothing is hashed where anything is refused; no region is fine")                   \
    X(streams, "every number of streams up to 40, in rounds")                                      \
    X(streams_refused, "no stream is updated where anything is refused; no stream is fine")

CHECK_MAIN(CASES)
