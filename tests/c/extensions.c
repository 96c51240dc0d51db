/* SPDX-License-Identifier: Apache-2.0
 *
 * The extensions of the C API: what they compute, and that they refuse what they must.
 */
#include "check.h"

/* Lengths at which block, page and window loops change their course. */
static const size_t LENGTHS[] = {0,  1,   55,  56,  63,  64,    65,    95,    96,
                                 97, 255, 256, 257, 511, 12287, 12288, 12289, 2 * 12288 + 1};
#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define CAPACITY (2 * ATLAS_WINDOW_BYTES + 1)

static uint8_t data[CAPACITY];
static uint8_t other[CAPACITY];

static void fill_data(void)
{
    for (size_t i = 0; i < CAPACITY; i++)
        data[i] = (uint8_t)(i % 251 + i / 251);
}

static uint8_t residue_of(const uint8_t* bytes, size_t len)
{
    unsigned sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = (sum + bytes[i]) % ATLAS_MODULUS;
    return (uint8_t)sum;
}

static void case_versions(void)
{
    CHECK(atlas_api_version() == ATLAS_API_VERSION);
    unsigned major, minor, patch;
    CHECK(sscanf(atlas_version(), "%u.%u.%u", &major, &minor, &patch) == 3);
}

static void case_out_arguments(void)
{
    atlas_domain_t* domain = atlas_domain_create(1, 0);
    CHECK_REFUSED(atlas_domain_state(domain, NULL) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_domain_state", "out is NULL");
    CHECK_REFUSED(atlas_budget_available(domain, NULL) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_budget_available", "out is NULL");
    atlas_domain_destroy(domain);
}

static void case_witness_fields_of_null(void)
{
    CHECK_REFUSED(atlas_witness_algorithm(NULL) == NULL, ATLAS_E_MEMORY, "atlas_witness_algorithm",
                  "w is NULL");
    CHECK_REFUSED(atlas_witness_length(NULL) == 0, ATLAS_E_MEMORY, "atlas_witness_length",
                  "w is NULL");
    CHECK_REFUSED(atlas_witness_residue(NULL) == 0, ATLAS_E_MEMORY, "atlas_witness_residue",
                  "w is NULL");
    CHECK_REFUSED(atlas_witness_digest(NULL) == NULL, ATLAS_E_MEMORY, "atlas_witness_digest",
                  "w is NULL");
    CHECK_REFUSED(atlas_witness_timestamp_ns(NULL) == 0, ATLAS_E_MEMORY,
                  "atlas_witness_timestamp_ns", "w is NULL");
}

static void case_witness_bytes(void)
{
    /* Every field has bytes that differ, so that a wrong order shows. */
    uint8_t form[ATLAS_WITNESS_BYTES] = {'A', 'T', 'L', 'W', 1, 1, 95, 0};
    for (size_t i = 8; i < sizeof form; i++)
        form[i] = (uint8_t)(i + 1);
    atlas_witness_t* w = NULL;
    CHECK_OK((w = atlas_witness_from_bytes(form, sizeof form)) != NULL);
    CHECK(atlas_witness_residue(w) == 95);
    CHECK(atlas_witness_length(w) == 0x100f0e0d0c0b0a09U);
    CHECK(atlas_witness_timestamp_ns(w) == 0x1817161514131211U);
    CHECK(memcmp(atlas_witness_digest(w), form + 24, ATLAS_DIGEST_BYTES) == 0);
    uint8_t back[ATLAS_WITNESS_BYTES] = {0};
    CHECK_OK(atlas_witness_to_bytes(w, back) == ATLAS_OK);
    CHECK(memcmp(form, back, sizeof form) == 0);

    CHECK_REFUSED(atlas_witness_to_bytes(NULL, back) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_witness_to_bytes", "w is NULL");
    uint8_t* nowhere = NULL;
    CHECK_REFUSED(atlas_witness_to_bytes(w, nowhere) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_witness_to_bytes", "out is NULL");
    atlas_witness_destroy(w);
}

static void case_witness_bytes_malformed(void)
{
    static const struct {
        size_t at;
        uint8_t value;
        const char* why;
    } wrong[] = {
        {0, 'a', "magic must be \"ATLW\""},
        {3, 0, "magic must be \"ATLW\""},
        {4, 2, "version is 2, must be 1"},
        {5, 0, "algorithm is 0, must be 1"},
        {6, 96, "residue is 96, must be in 0..95"},
        {6, 255, "residue is 255, must be in 0..95"},
        {7, 1, "reserved byte is 1, must be 0"},
        {6, 1, "residue is 1, must be 0 where length is 0"},
    };
    uint8_t form[ATLAS_WITNESS_BYTES];
    atlas_witness_t* empty = atlas_witness_generate("", 0);
    CHECK(atlas_witness_to_bytes(empty, form) == ATLAS_OK);
    atlas_witness_destroy(empty);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        uint8_t right = form[wrong[i].at];
        form[wrong[i].at] = wrong[i].value;
        CHECK_REFUSED(atlas_witness_from_bytes(form, sizeof form) == NULL, ATLAS_E_WITNESS,
                      "atlas_witness_from_bytes", wrong[i].why);
        form[wrong[i].at] = right;
    }
    CHECK_REFUSED(atlas_witness_from_bytes(form, sizeof form - 1) == NULL, ATLAS_E_WITNESS,
                  "atlas_witness_from_bytes", "len is 55, must be 56");
    CHECK_REFUSED(atlas_witness_from_bytes(form, sizeof form + 1) == NULL, ATLAS_E_WITNESS,
                  "atlas_witness_from_bytes", "len is 57, must be 56");
    CHECK_REFUSED(atlas_witness_from_bytes(NULL, sizeof form) == NULL, ATLAS_E_MEMORY,
                  "atlas_witness_from_bytes", "bytes is NULL");
}

static void case_witness_stream(void)
{
    static const size_t chunks[] = {1, 3, 63, 64, 65, 1000, 12288, CAPACITY};
    fill_data();
    for (size_t i = 0; i < COUNT(LENGTHS); i++) {
        atlas_witness_t* whole = atlas_witness_generate(data, LENGTHS[i]);
        for (size_t j = 0; j < COUNT(chunks); j++) {
            atlas_witness_stream_t* stream = NULL;
            CHECK_OK((stream = atlas_witness_stream_create()) != NULL);
            for (size_t done = 0; done < LENGTHS[i];) {
                size_t left = LENGTHS[i] - done;
                size_t n = chunks[j] < left ? chunks[j] : left;
                CHECK(atlas_witness_stream_update(stream, data + done, n) == ATLAS_OK);
                done += n;
            }
            atlas_witness_t* w = NULL;
            CHECK_OK((w = atlas_witness_stream_witness(stream)) != NULL);
            CHECK(atlas_witness_length(w) == LENGTHS[i]);
            CHECK(atlas_witness_residue(w) == residue_of(data, LENGTHS[i]));
            CHECK(memcmp(atlas_witness_digest(w), atlas_witness_digest(whole),
                         ATLAS_DIGEST_BYTES) == 0);
            atlas_witness_destroy(w);
            atlas_witness_stream_destroy(stream);
        }
        atlas_witness_destroy(whole);
    }
}

static void case_witness_stream_goes_on(void)
{
    fill_data();
    atlas_witness_stream_t* stream = atlas_witness_stream_create();
    for (size_t len = 0; len <= 200; len++) {
        atlas_witness_t* w = atlas_witness_stream_witness(stream);
        CHECK_OK(atlas_witness_verify(w, data, len));
        atlas_witness_destroy(w);
        CHECK_OK(atlas_witness_stream_update(stream, data + len, 1) == ATLAS_OK);
    }
    CHECK_OK(atlas_witness_stream_update(stream, NULL, 0) == ATLAS_OK);
    CHECK_REFUSED(atlas_witness_stream_update(stream, NULL, 1) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_witness_stream_update", "chunk is NULL");
    CHECK_REFUSED(atlas_witness_stream_update(NULL, data, 1) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_witness_stream_update", "stream is NULL");
    CHECK_REFUSED(atlas_witness_stream_witness(NULL) == NULL, ATLAS_E_MEMORY,
                  "atlas_witness_stream_witness", "stream is NULL");
    atlas_witness_stream_destroy(stream);
}

/* The bytes 0..66: one whole block, and three bytes behind it. The words are those of FIPS 180-4,
 * by an implementation in plain Python. */
/* 16 bytes a row, as the table of the form. */
/* clang-format off */
static const uint8_t STREAM_OF_67[ATLAS_WITNESS_STREAM_BYTES] = {
    'A',  'T',  'L',  'S',  1,    1,    3,    0,    67,   0,    0,    0,    0,    0,    0,    0,
    0xdf, 0xa2, 0x99, 0xfc, 0x7a, 0x2a, 0xf4, 0x88, 0x80, 0xd1, 0xb9, 0x7b, 0xa2, 0xc6, 0xcd, 0x33,
    0x5f, 0x75, 0x56, 0x02, 0x50, 0x9a, 0x5b, 0x9d, 0x31, 0xcc, 0xa9, 0x44, 0xa7, 0x84, 0xbe, 0x5a,
    64,   65,   66};
/* clang-format on */

static void case_stream_bytes(void)
{
    for (size_t i = 0; i < 67; i++)
        data[i] = (uint8_t)i;
    uint8_t form[ATLAS_WITNESS_STREAM_BYTES];
    atlas_witness_stream_t* stream = atlas_witness_stream_create();
    /* In two chunks, so that the whole block was held, and left its bytes behind. */
    CHECK(atlas_witness_stream_update(stream, data, 60) == ATLAS_OK);
    CHECK(atlas_witness_stream_update(stream, data + 60, 7) == ATLAS_OK);
    memset(form, 0xee, sizeof form);
    CHECK_OK(atlas_witness_stream_to_bytes(stream, form) == ATLAS_OK);
    CHECK(memcmp(form, STREAM_OF_67, sizeof form) == 0);
    CHECK_REFUSED(atlas_witness_stream_to_bytes(NULL, form) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_witness_stream_to_bytes", "stream is NULL");
    uint8_t* nowhere = NULL;
    CHECK_REFUSED(atlas_witness_stream_to_bytes(stream, nowhere) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_witness_stream_to_bytes", "out is NULL");
    atlas_witness_stream_destroy(stream);

    CHECK_OK((stream = atlas_witness_stream_from_bytes(form, sizeof form)) != NULL);
    uint8_t back[ATLAS_WITNESS_STREAM_BYTES];
    CHECK_OK(atlas_witness_stream_to_bytes(stream, back) == ATLAS_OK);
    CHECK(memcmp(form, back, sizeof form) == 0);
    atlas_witness_t* w = atlas_witness_stream_witness(stream);
    CHECK_OK(atlas_witness_verify(w, data, 67));
    atlas_witness_destroy(w);
    atlas_witness_stream_destroy(stream);
}

/* Saved with each kernel set, and gone on from with each. */
static void case_stream_bytes_go_on(void)
{
    char before[64];
    CHECK(strlen(atlas_kernel_set()) < sizeof before);
    strcpy(before, atlas_kernel_set());
    fill_data();
    const char *one, *other;
    for (size_t i = 0; (one = atlas_kernel_set_name(i)) != NULL; i++)
        for (size_t j = 0; (other = atlas_kernel_set_name(j)) != NULL; j++) {
            if (!atlas_kernel_set_supported(one) || !atlas_kernel_set_supported(other))
                continue;
            for (size_t cut = 0; cut <= 200; cut++) {
                uint8_t form[ATLAS_WITNESS_STREAM_BYTES];
                atlas_witness_stream_t* stream = atlas_witness_stream_create();
                CHECK(atlas_kernel_set_select(one) == ATLAS_OK);
                CHECK(atlas_witness_stream_update(stream, data, cut) == ATLAS_OK);
                CHECK(atlas_witness_stream_to_bytes(stream, form) == ATLAS_OK);
                atlas_witness_stream_destroy(stream);
                CHECK(atlas_kernel_set_select(other) == ATLAS_OK);
                CHECK_OK((stream = atlas_witness_stream_from_bytes(form, sizeof form)) != NULL);
                CHECK(atlas_witness_stream_update(stream, data + cut, 500 - cut) == ATLAS_OK);
                atlas_witness_t* w = atlas_witness_stream_witness(stream);
                CHECK_OK(atlas_witness_verify(w, data, 500));
                atlas_witness_destroy(w);
                atlas_witness_stream_destroy(stream);
            }
        }
    CHECK(atlas_kernel_set_select(before) == ATLAS_OK);
}

static void case_stream_bytes_malformed(void)
{
    static const struct {
        bool short_one; /* change the form of the bytes 1, 2, 3, else that of 67 bytes */
        size_t at;
        uint8_t value;
        const char* why;
    } wrong[] = {
        {false, 3, 'W', "magic must be \"ATLS\""},
        {false, 4, 0, "version is 0, must be 1"},
        {false, 5, 2, "algorithm is 2, must be 1"},
        {false, 6, 96, "residue is 96, must be in 0..95"},
        {false, 7, 1, "reserved byte is 1, must be 0"},
        {false, 15, 0x20, "length is 2305843009213694019, must be at most 2305843009213693951"},
        {false, 8, 66, "byte 2 of the block is 66, must be 0 behind the 2 that it holds"},
        {false, 51, 1, "byte 3 of the block is 1, must be 0 behind the 3 that it holds"},
        {false, 111, 5, "byte 63 of the block is 5, must be 0 behind the 3 that it holds"},
        {true, 16, 0, "word 0 of the hash is 6a09e600, must be 6a09e667 where length is below 64"},
        {true, 47, 0, "word 7 of the hash is 00e0cd19, must be 5be0cd19 where length is below 64"},
        {true, 6, 7, "residue is 7, must be 6 as of the bytes where length is below 64"},
        {true, 48, 9, "residue is 6, must be 14 as of the bytes where length is below 64"},
        {true, 8, 0, "residue is 6, must be 0 where length is 0"},
    };
    uint8_t form[ATLAS_WITNESS_STREAM_BYTES];
    for (size_t i = 0; i < COUNT(wrong); i++) {
        atlas_witness_stream_t* stream = atlas_witness_stream_create();
        CHECK(atlas_witness_stream_update(stream, "\1\2\3", 3) == ATLAS_OK);
        CHECK(atlas_witness_stream_to_bytes(stream, form) == ATLAS_OK);
        atlas_witness_stream_destroy(stream);
        if (!wrong[i].short_one)
            memcpy(form, STREAM_OF_67, sizeof form);
        form[wrong[i].at] = wrong[i].value;
        CHECK_REFUSED(atlas_witness_stream_from_bytes(form, sizeof form) == NULL, ATLAS_E_WITNESS,
                      "atlas_witness_stream_from_bytes", wrong[i].why);
    }
    CHECK_REFUSED(atlas_witness_stream_from_bytes(form, sizeof form - 1) == NULL, ATLAS_E_WITNESS,
                  "atlas_witness_stream_from_bytes", "len is 111, must be 112");
    CHECK_REFUSED(atlas_witness_stream_from_bytes(form, SIZE_MAX) == NULL, ATLAS_E_WITNESS,
                  "atlas_witness_stream_from_bytes", ", must be 112");
    CHECK_REFUSED(atlas_witness_stream_from_bytes(NULL, sizeof form) == NULL, ATLAS_E_MEMORY,
                  "atlas_witness_stream_from_bytes", "bytes is NULL");
}

/* No test can feed so many bytes; a byte form says that they were fed. */
static void case_stream_of_most_bytes(void)
{
    uint8_t form[ATLAS_WITNESS_STREAM_BYTES], back[ATLAS_WITNESS_STREAM_BYTES];
    memcpy(form, STREAM_OF_67, sizeof form);
    memset(form + 8, 0xff, 7); /* 2^61 - 2 */
    form[8] = 0xfe;
    form[15] = 0x1f;
    atlas_witness_stream_t* stream = NULL;
    CHECK_OK((stream = atlas_witness_stream_from_bytes(form, sizeof form)) != NULL);
    CHECK_REFUSED(atlas_witness_stream_update(stream, data, 2) == ATLAS_E_STATE, ATLAS_E_STATE,
                  "atlas_witness_stream_update",
                  "n is 2, must be at most 1 behind 2305843009213693950 bytes");
    CHECK_OK(atlas_witness_stream_to_bytes(stream, back) == ATLAS_OK);
    CHECK(memcmp(form, back, sizeof form) == 0);
    CHECK_OK(atlas_witness_stream_update(stream, data, 1) == ATLAS_OK);
    CHECK_REFUSED(atlas_witness_stream_update(stream, data, 1) == ATLAS_E_STATE, ATLAS_E_STATE,
                  "atlas_witness_stream_update", "n is 1, must be at most 0");
    CHECK_OK(atlas_witness_stream_update(stream, NULL, 0) == ATLAS_OK);
    CHECK_OK(atlas_witness_stream_to_bytes(stream, back) == ATLAS_OK);
    atlas_witness_stream_destroy(stream);
    CHECK_OK((stream = atlas_witness_stream_from_bytes(back, sizeof back)) != NULL);
    atlas_witness_stream_destroy(stream);
}

static void case_residue_and_check(void)
{
    fill_data();
    for (size_t i = 0; i < COUNT(LENGTHS); i++) {
        uint8_t residue = residue_of(data, LENGTHS[i]);
        CHECK_OK(atlas_conserved_residue(data, LENGTHS[i]) == residue);
        CHECK_OK(atlas_conserved_check(data, LENGTHS[i]) == (residue == 0));
    }
    CHECK_OK(!atlas_conserved_check("\1", 1)); /* a verdict, not an error */
    CHECK_OK(atlas_conserved_residue(NULL, 0) == 0);
    CHECK_OK(atlas_conserved_check(NULL, 0));
    CHECK_REFUSED(atlas_conserved_residue(NULL, 1) == 0, ATLAS_E_MEMORY, "atlas_conserved_residue",
                  "base is NULL");
    CHECK_REFUSED(!atlas_conserved_check(NULL, 1), ATLAS_E_MEMORY, "atlas_conserved_check",
                  "base is NULL");
}

static void case_window_residues(void)
{
    fill_data();
    for (size_t i = 0; i < COUNT(LENGTHS); i++) {
        uint8_t out[4] = {0xee, 0xee, 0xee, 0xee};
        CHECK_OK(atlas_conserved_window_residues(data, LENGTHS[i], out) == ATLAS_OK);
        size_t window = 0;
        for (size_t at = 0; at < LENGTHS[i]; at += ATLAS_WINDOW_BYTES, window++) {
            size_t left = LENGTHS[i] - at;
            CHECK(out[window] ==
                  residue_of(data + at, left < ATLAS_WINDOW_BYTES ? left : ATLAS_WINDOW_BYTES));
        }
        CHECK(out[window] == 0xee);
    }
    uint8_t out;
    CHECK_OK(atlas_conserved_window_residues(NULL, 0, NULL) == ATLAS_OK);
    CHECK_REFUSED(atlas_conserved_window_residues(NULL, 1, &out) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_conserved_window_residues", "base is NULL");
    CHECK_REFUSED(atlas_conserved_window_residues(data, 1, NULL) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_conserved_window_residues", "out is NULL");
}

static void case_update(void)
{
    fill_data();
    uint64_t state = 0;
    for (size_t at = 0; at < CAPACITY; at += 1000) {
        size_t left = CAPACITY - at;
        CHECK_OK(atlas_conserved_update(&state, data + at, left < 1000 ? left : 1000) == ATLAS_OK);
        CHECK(state < ATLAS_MODULUS);
    }
    CHECK(state == residue_of(data, CAPACITY));
    state = UINT64_MAX; /* 2^64 is 64 mod 96, so this is 63; the sum must not wrap */
    CHECK_OK(atlas_conserved_update(&state, "\1", 1) == ATLAS_OK);
    CHECK(state == 64);
    CHECK_OK(atlas_conserved_update(&state, NULL, 0) == ATLAS_OK);
    CHECK(state == 64);
    CHECK_REFUSED(atlas_conserved_update(&state, NULL, 1) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_conserved_update", "chunk is NULL");
    CHECK(state == 64);
    CHECK_REFUSED(atlas_conserved_update(NULL, data, 1) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_conserved_update", "state is NULL");
}

static void case_memcpy(void)
{
    fill_data();
    for (size_t i = 0; i < COUNT(LENGTHS); i++) {
        size_t len = LENGTHS[i];
        CHECK(atlas_conserved_fixup(data, len) == ATLAS_OK);
        memset(other, 0xee, sizeof other);
        CHECK_OK(atlas_conserved_memcpy(other, data, len) == ATLAS_OK);
        CHECK(memcmp(other, data, len) == 0);
        CHECK(len == sizeof other || other[len] == 0xee);
        if (len == 0)
            continue;
        data[len / 2] ^= 1;
        memset(other, 0xee, sizeof other);
        CHECK_REFUSED(atlas_conserved_memcpy(other, data, len) == ATLAS_E_CONSERVATION,
                      ATLAS_E_CONSERVATION, "atlas_conserved_memcpy", "source bytes is ");
        for (size_t at = 0; at < len; at++)
            CHECK(other[at] == 0xee); /* nothing was written */
    }
    CHECK_OK(atlas_conserved_memcpy(NULL, NULL, 0) == ATLAS_OK);
    CHECK_REFUSED(atlas_conserved_memcpy(NULL, data, 1) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_conserved_memcpy", "dst is NULL");
    CHECK_REFUSED(atlas_conserved_memcpy(other, NULL, 1) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_conserved_memcpy", "src is NULL");
}

static void case_memcpy_overlap(void)
{
    memset(data, 0, sizeof data);
    CHECK_REFUSED(atlas_conserved_memcpy(data, data, 1) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_conserved_memcpy", "0 bytes apart, must be at least 1");
    CHECK_REFUSED(atlas_conserved_memcpy(data, data + 99, 100) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_conserved_memcpy", "99 bytes apart, must be at least 100");
    CHECK_REFUSED(atlas_conserved_memcpy(data + 99, data, 100) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_conserved_memcpy", "99 bytes apart, must be at least 100");
    CHECK_OK(atlas_conserved_memcpy(data, data + 100, 100) == ATLAS_OK);
    CHECK_OK(atlas_conserved_memcpy(data + 100, data, 100) == ATLAS_OK);
}

/* The byte nearest to `value`, the smaller on a tie, that is right: tries all, nearest first. */
static uint8_t expected_fixup(const uint8_t* bytes, size_t len, int value)
{
    uint8_t others = residue_of(bytes, len - 1);
    for (int distance = 0;; distance++) {
        if (value - distance >= 0 && (others + value - distance) % ATLAS_MODULUS == 0)
            return (uint8_t)(value - distance);
        if (value + distance <= UINT8_MAX && (others + value + distance) % ATLAS_MODULUS == 0)
            return (uint8_t)(value + distance);
    }
}

static void case_memset(void)
{
    for (size_t i = 0; i < COUNT(LENGTHS); i++) {
        size_t len = LENGTHS[i];
        for (int value = 0; value <= UINT8_MAX; value++) {
            memset(data, 0xee, sizeof data);
            CHECK_OK(atlas_conserved_memset(data, (uint8_t)value, len) == ATLAS_OK);
            CHECK(len == sizeof data || data[len] == 0xee);
            if (len == 0)
                continue;
            memset(other, value, len);
            CHECK(memcmp(data, other, len - 1) == 0);
            CHECK(data[len - 1] == expected_fixup(data, len, value));
            CHECK(residue_of(data, len) == 0);
        }
    }
    CHECK_OK(atlas_conserved_memset(NULL, 1, 0) == ATLAS_OK);
    CHECK_REFUSED(atlas_conserved_memset(NULL, 1, 1) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_conserved_memset", "dst is NULL");
}

static void case_fixup(void)
{
    /* Every residue of the others and every last byte: 96 * 256. */
    for (int others = 0; others < ATLAS_MODULUS; others++) {
        for (int last = 0; last <= UINT8_MAX; last++) {
            uint8_t bytes[3] = {(uint8_t)others, (uint8_t)last, 0xee};
            CHECK_OK(atlas_conserved_fixup(bytes, 2) == ATLAS_OK);
            CHECK(bytes[0] == others && bytes[2] == 0xee);
            CHECK(bytes[1] == expected_fixup(bytes, 2, last));
        }
    }
    CHECK_OK(atlas_conserved_fixup(NULL, 0) == ATLAS_OK);
    CHECK_REFUSED(atlas_conserved_fixup(NULL, 1) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_conserved_fixup", "base is NULL");
}

static void case_fixup_at(void)
{
    for (size_t i = 0; i < COUNT(LENGTHS); i++) {
        size_t len = LENGTHS[i];
        const size_t places[] = {0, len / 2, len - 1};
        for (size_t p = 0; len > 0 && p < COUNT(places); p++) {
            size_t at = places[p];
            fill_data();
            memcpy(other, data, sizeof data);
            CHECK_OK(atlas_conserved_fixup_at(data, len, at) == ATLAS_OK);
            CHECK(residue_of(data, len) == 0);
            uint8_t found = data[at];
            data[at] = other[at];
            CHECK(memcmp(data, other, sizeof data) == 0); /* nothing else changed */
            data[at] = data[len - 1];
            CHECK(found == expected_fixup(data, len, other[at]));
        }
        CHECK_REFUSED(atlas_conserved_fixup_at(data, len, len) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                      "atlas_conserved_fixup_at", "must be below");
        CHECK_REFUSED(atlas_conserved_fixup_at(data, len, SIZE_MAX) == ATLAS_E_MEMORY,
                      ATLAS_E_MEMORY, "atlas_conserved_fixup_at", "must be below");
    }
    CHECK_REFUSED(atlas_conserved_fixup_at(NULL, 1, 0) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_conserved_fixup_at", "base is NULL");
}

/* Larger than any threshold between kernels of one operation. */
static void case_large_regions(void)
{
    const size_t len = ((size_t)40 << 20) + 5;
    uint8_t* source = malloc(len + 1);
    uint8_t* copy = malloc(len + 1);
    CHECK(source != NULL && copy != NULL);
    source[len] = copy[len] = 0xee;
    CHECK_OK(atlas_conserved_memset(source, 77, len) == ATLAS_OK);
    for (size_t i = 0; i < len - 1; i++)
        if (source[i] != 77)
            CHECK(source[i] == 77);
    CHECK(atlas_conserved_check(source, len));
    for (size_t i = 0; i < len; i++)
        source[i] = (uint8_t)(i % 251);
    CHECK_OK(atlas_conserved_fixup(source, len) == ATLAS_OK);
    CHECK_OK(atlas_conserved_memcpy(copy, source, len) == ATLAS_OK);
    CHECK(memcmp(copy, source, len) == 0);
    CHECK(source[len] == 0xee && copy[len] == 0xee);
    free(source);
    free(copy);
}

static void case_kernel_sets(void)
{
    char before[64];
    CHECK(strlen(atlas_kernel_set()) < sizeof before);
    strcpy(before, atlas_kernel_set());
    fill_data();
    uint8_t residue = residue_of(data, CAPACITY);
    size_t count = 0;
    const char* last = NULL;
    for (const char* name; (name = atlas_kernel_set_name(count)) != NULL; count++) {
        last = name;
        if (atlas_kernel_set_supported(name)) {
            CHECK_OK(atlas_kernel_set_select(name) == ATLAS_OK);
            CHECK(strcmp(atlas_kernel_set(), name) == 0);
            CHECK(atlas_conserved_residue(data, CAPACITY) == residue);
        } else {
            CHECK_REFUSED(atlas_kernel_set_select(name) == ATLAS_E_STATE, ATLAS_E_STATE,
                          "atlas_kernel_set_select", "must be a kernel set that this CPU can run");
        }
    }
    CHECK(count > 0 && strcmp(last, "portable") == 0);
    CHECK(atlas_kernel_set_supported(last));
    CHECK(atlas_kernel_set_name(count + 1) == NULL && atlas_kernel_set_name(SIZE_MAX) == NULL);
    CHECK(atlas_kernel_set_select(before) == ATLAS_OK);
    CHECK_REFUSED(atlas_kernel_set_select(NULL) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_kernel_set_select", "name is NULL");
    CHECK_REFUSED(atlas_kernel_set_select("x86") == ATLAS_E_STATE, ATLAS_E_STATE,
                  "atlas_kernel_set_select",
                  "name is \"x86\", must be a kernel set of this library");
    CHECK(strcmp(atlas_kernel_set(), before) == 0);
}

#define CASES(X)                                                                                   \
    X(versions, "the library is of this header; its version is major.minor.patch")                 \
    X(out_arguments, "NULL for a result is ATLAS_E_MEMORY")                                        \
    X(witness_fields_of_null, "a field of NULL is 0 or NULL, and ATLAS_E_MEMORY")                  \
    X(witness_bytes, "bytes -> witness -> bytes is the identity, little-endian")                   \
    X(witness_bytes_malformed, "malformed bytes are refused, and the field is named")              \
    X(witness_stream, "a stream in any chunks gives the witness of the whole")                     \
    X(witness_stream_goes_on, "a witness leaves its stream as it is")                              \
    X(stream_bytes, "stream -> bytes -> stream is the identity, little-endian")                    \
    X(stream_bytes_go_on, "saved anywhere with any kernel set, a stream goes on with any other")   \
    X(stream_bytes_malformed, "malformed bytes of a stream are refused, and the rule is named")    \
    X(stream_of_most_bytes, "a stream takes no more than SHA-256 is defined for")                  \
    X(residue_and_check, "residue and check are the sum mod 96; not conserved is no error")        \
    X(window_residues, "one residue for each window, the last may be shorter")                     \
    X(update, "a streamed residue is that of the whole; no state makes it wrap")                   \
    X(memcpy, "memcpy copies all of a conserved region, and nothing of another one")               \
    X(memcpy_overlap, "memcpy refuses regions that overlap by a byte, not ones that touch")        \
    X(memset, "memset: all bytes are value but the last, which is the fixup")                      \
    X(fixup, "fixup: the nearest byte that makes the region conserved, the smaller on a tie")      \
    X(fixup_at, "fixup at an index: that byte alone changes, as the last one does")                \
    X(large_regions, "regions beyond the caches are filled and copied right")                      \
    X(kernel_sets, "every set that the CPU can run can be chosen, and no other one")

CHECK_MAIN(CASES)
