/* SPDX-License-Identifier: Apache-2.0
 *
 * Regions: a payload of any bytes and a balance that makes the whole conserved.
 */
#include "check.h"

/* Lengths at which block, page and window loops change their course; 4096 and 65536 are pages of
 * systems. */
static const size_t LENGTHS[] = {1,    2,    95,    96,    97,    255,   256,   257,
                                 4095, 4096, 12287, 12288, 12289, 65535, 65536, 2 * 12288 + 1};
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static uint8_t residue_of(const uint8_t* bytes, size_t len)
{
    unsigned sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = (sum + bytes[i]) % ATLAS_MODULUS;
    return (uint8_t)sum;
}

/* Noise, by a linear congruential generator: any bytes, no law. */
static void fill_noise(uint8_t* bytes, size_t len, uint32_t seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1664525U + 1013904223U;
        bytes[i] = (uint8_t)(seed >> 24);
    }
}

static void check_whole(const atlas_region_t* region)
{
    const uint8_t* payload = atlas_region_payload(region);
    size_t nbytes = atlas_region_payload_bytes(region);
    CHECK(payload[nbytes] < ATLAS_MODULUS);
    CHECK(residue_of(payload, nbytes + 1) == 0);
    CHECK(atlas_conserved_check(payload, atlas_region_size(region)));
}

static void case_create(void)
{
    for (size_t i = 0; i < COUNT(LENGTHS); i++) {
        atlas_region_t* region = NULL;
        uint8_t* payload = NULL;
        CHECK_OK((region = atlas_region_create(LENGTHS[i])) != NULL);
        CHECK_OK((payload = atlas_region_payload(region)) != NULL);
        CHECK_OK(atlas_region_payload_bytes(region) == LENGTHS[i]);
        CHECK_OK(atlas_region_size(region) == LENGTHS[i] + 1);
        CHECK((uintptr_t)payload % ATLAS_PAGE_BYTES == 0);
        CHECK_OK(!atlas_region_sealed(region));
        for (size_t at = 0; at <= LENGTHS[i]; at++)
            CHECK(payload[at] == 0);
        CHECK(atlas_conserved_check(payload, LENGTHS[i] + 1));
        atlas_region_destroy(region);
    }
    atlas_region_destroy(NULL);
}

static void case_create_refused(void)
{
    CHECK_REFUSED(atlas_region_create(0) == NULL, ATLAS_E_MEMORY, "atlas_region_create",
                  "nbytes is 0, must be in 1..");
    CHECK_REFUSED(atlas_region_create(SIZE_MAX) == NULL, ATLAS_E_MEMORY, "atlas_region_create",
                  ", must be in 1..");
    CHECK_REFUSED(atlas_region_create((size_t)PTRDIFF_MAX) == NULL, ATLAS_E_MEMORY,
                  "atlas_region_create", ", must be in 1..");
#ifndef __SANITIZE_ADDRESS__ /* whose calloc ends the program */
    for (size_t less = 1; less < (size_t)1 << 20; less *= 2)
        CHECK_REFUSED(atlas_region_create((size_t)PTRDIFF_MAX - less) == NULL, ATLAS_E_MEMORY,
                      "atlas_region_create", "no memory for a region");
#endif
}

static void case_null(void)
{
    uint8_t balance = 0;
    CHECK_REFUSED(atlas_region_payload(NULL) == NULL, ATLAS_E_MEMORY, "atlas_region_payload",
                  "region is NULL");
    CHECK_REFUSED(atlas_region_payload_bytes(NULL) == 0, ATLAS_E_MEMORY,
                  "atlas_region_payload_bytes", "region is NULL");
    CHECK_REFUSED(atlas_region_size(NULL) == 0, ATLAS_E_MEMORY, "atlas_region_size",
                  "region is NULL");
    CHECK_REFUSED(!atlas_region_sealed(NULL), ATLAS_E_MEMORY, "atlas_region_sealed",
                  "region is NULL");
    CHECK_REFUSED(atlas_region_balance(NULL, &balance) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_region_balance", "region is NULL");
    CHECK_REFUSED(atlas_region_fill(NULL, 1) == ATLAS_E_MEMORY, ATLAS_E_MEMORY, "atlas_region_fill",
                  "region is NULL");
    CHECK_REFUSED(atlas_region_copy(NULL, &balance, 1) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_region_copy", "region is NULL");
}

static void case_balance(void)
{
    for (size_t i = 0; i < COUNT(LENGTHS); i++) {
        size_t len = LENGTHS[i];
        atlas_region_t* region = atlas_region_create(len);
        uint8_t* payload = atlas_region_payload(region);
        uint8_t* before = malloc(len);
        CHECK(before != NULL);
        for (uint32_t seed = 0; seed < 8; seed++) {
            fill_noise(payload, len, seed);
            payload[len] = (uint8_t)(seed * 37); /* any byte */
            memcpy(before, payload, len);
            uint8_t balance = 0xee;
            CHECK_OK(atlas_region_balance(region, &balance) == ATLAS_OK);
            CHECK(balance == payload[len] && memcmp(before, payload, len) == 0);
            check_whole(region);
            payload[len] = 0xee;
            CHECK_OK(atlas_region_balance(region, NULL) == ATLAS_OK);
            CHECK(payload[len] == balance);
        }
        free(before);
        atlas_region_destroy(region);
    }
}

static void case_fill(void)
{
    for (size_t i = 0; i < COUNT(LENGTHS); i++) {
        atlas_region_t* region = atlas_region_create(LENGTHS[i]);
        const uint8_t* payload = atlas_region_payload(region);
        for (int value = 0; value <= UINT8_MAX; value += 51) {
            CHECK_OK(atlas_region_fill(region, (uint8_t)value) == ATLAS_OK);
            for (size_t at = 0; at < LENGTHS[i]; at++)
                CHECK(payload[at] == value);
            check_whole(region);
        }
        atlas_region_destroy(region);
    }
}

static void case_copy(void)
{
    for (size_t i = 0; i < COUNT(LENGTHS); i++) {
        size_t len = LENGTHS[i];
        atlas_region_t* region = atlas_region_create(len);
        uint8_t* source = malloc(len);
        CHECK(region != NULL && source != NULL);
        for (uint32_t seed = 0; seed < 4; seed++) {
            fill_noise(source, len, seed);
            CHECK_OK(atlas_region_copy(region, source, len) == ATLAS_OK);
            CHECK(memcmp(atlas_region_payload(region), source, len) == 0);
            check_whole(region);
        }
        free(source);
        atlas_region_destroy(region);
    }
}

static void case_copy_refused(void)
{
    static uint8_t source[101];
    fill_noise(source, sizeof source, 1);
    atlas_region_t* region = atlas_region_create(100);
    CHECK(atlas_region_fill(region, 7) == ATLAS_OK);
    uint8_t* payload = atlas_region_payload(region);
    uint8_t before[101];
    memcpy(before, payload, sizeof before);
    CHECK_REFUSED(atlas_region_copy(region, source, 99) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_region_copy", "len is 99, must be 100");
    CHECK_REFUSED(atlas_region_copy(region, source, 101) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_region_copy", "len is 101, must be 100");
    CHECK_REFUSED(atlas_region_copy(region, NULL, 100) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_region_copy", "src is NULL");
    const uint8_t* last = (const uint8_t*)(UINTPTR_MAX - 50);
    CHECK_REFUSED(atlas_region_copy(region, last, 100) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_region_copy", "wrap around");
    for (size_t at = 0; at <= 100; at += 50) /* the payload itself, a part, the balance alone */
        CHECK_REFUSED(atlas_region_copy(region, payload + at, 100) == ATLAS_E_MEMORY,
                      ATLAS_E_MEMORY, "atlas_region_copy", "src overlaps the region");
    CHECK(memcmp(before, payload, sizeof before) == 0);
    atlas_region_destroy(region);
}

/* Beyond the thresholds between kernels of one operation. */
static void case_large(void)
{
    const size_t len = ((size_t)40 << 20) + 5;
    atlas_region_t* region = atlas_region_create(len);
    atlas_region_t* copy = atlas_region_create(len);
    CHECK(region != NULL && copy != NULL);
    uint8_t* payload = atlas_region_payload(region);
    CHECK_OK(atlas_region_fill(region, 77) == ATLAS_OK);
    for (size_t i = 0; i < len; i++)
        if (payload[i] != 77)
            CHECK(payload[i] == 77);
    check_whole(region);
    fill_noise(payload, len, 3);
    CHECK_OK(atlas_region_copy(copy, payload, len) == ATLAS_OK);
    CHECK(memcmp(atlas_region_payload(copy), payload, len) == 0);
    check_whole(copy);
    atlas_region_destroy(region);
    atlas_region_destroy(copy);
}

static void case_domain(void)
{
    static const float WEIGHTS[] = {1.5F, -2.25F, 3.0e-8F, 65504.0F, -0.0F};
    atlas_region_t* region = atlas_region_create(sizeof WEIGHTS);
    CHECK(atlas_region_copy(region, WEIGHTS, sizeof WEIGHTS) == ATLAS_OK);
    size_t size = atlas_region_size(region);
    atlas_domain_t* domain = atlas_domain_create(size, 50);
    CHECK_OK(atlas_domain_attach(domain, atlas_region_payload(region), size) == ATLAS_OK);
    CHECK_OK(atlas_domain_verify(domain));
    CHECK_OK(atlas_domain_commit(domain) == ATLAS_OK);
    CHECK(memcmp(atlas_region_payload(region), WEIGHTS, sizeof WEIGHTS) == 0);
    const atlas_witness_t* witness = atlas_domain_witness(domain);
    CHECK(atlas_witness_length(witness) == size && atlas_witness_residue(witness) == 0);
    CHECK_OK(atlas_witness_verify(witness, atlas_region_payload(region), size));
    ((uint8_t*)atlas_region_payload(region))[size - 1] ^= 1;
    CHECK(!atlas_witness_verify(witness, atlas_region_payload(region), size));
    atlas_domain_destroy(domain);
    atlas_region_destroy(region);
}

/* A build that cannot seal refuses, and leaves all as it was. */
static void case_seal(void)
{
    atlas_region_t* region = atlas_region_create(ATLAS_WINDOW_BYTES);
    CHECK(atlas_region_fill(region, 7) == ATLAS_OK);
    size_t size = atlas_region_size(region);
    atlas_domain_t* domain = atlas_domain_create(size, 50);
    CHECK(atlas_domain_attach(domain, atlas_region_payload(region), size) == ATLAS_OK);
    int code = atlas_domain_commit_sealed(domain, region);
    if (code == ATLAS_OK) {
        CHECK_OK(atlas_region_sealed(region));
    } else {
        CHECK_REFUSED(atlas_domain_commit_sealed(domain, region) == ATLAS_E_STATE, ATLAS_E_STATE,
                      "atlas_domain_commit_sealed", "ATLAS_SINGLE_THREAD");
        CHECK_OK(!atlas_region_sealed(region));
        CHECK(atlas_region_fill(region, 7) == ATLAS_OK);
        CHECK(atlas_domain_commit(domain) == ATLAS_OK);
        CHECK(atlas_region_from_fd(0) == NULL && atlas_get_last_error_code() == ATLAS_E_STATE);
    }
    CHECK_OK(atlas_domain_verify(domain));
    CHECK(((const uint8_t*)atlas_region_payload(region))[ATLAS_WINDOW_BYTES - 1] == 7);
    atlas_domain_destroy(domain);
    atlas_region_destroy(region);
}

#define CASES(X)                                                                                   \
    X(create, "a region is zeros, begins at a page, and has a byte more than its payload")         \
    X(create_refused, "no region without bytes, or with more than there can be")                   \
    X(null, "NULL is no region, and ATLAS_E_MEMORY")                                               \
    X(balance, "the balance makes any payload conserved, and leaves it alone")                     \
    X(fill, "every byte of the payload is filled")                                                 \
    X(copy, "any source is copied, no law asked of it")                                            \
    X(copy_refused, "a source of another length, or that overlaps, is not copied")                 \
    X(large, "regions beyond the caches are filled and copied right")                              \
    X(domain, "a domain with payload and balance commits, and no float changes")                   \
    X(seal, "a region is sealed with the commit, or the build says that it cannot be")

CHECK_MAIN(CASES)
