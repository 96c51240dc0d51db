/* SPDX-License-Identifier: Apache-2.0
 *
 * What the contract leaves open, a case for each row of the table that settles it. The row about
 * memory that runs out is out_of_memory.c; the race of the commits is run by threads.c.
 */
#include "check.h"

static uint8_t region[ATLAS_WINDOW_BYTES];

/* The region with byte i = i mod 251: swapped blocks show. Conserved, by the fixup. */
static void make_conserved(void)
{
    for (size_t i = 0; i < sizeof region; i++)
        region[i] = (uint8_t)(i % 251);
    CHECK(atlas_conserved_fixup(region, sizeof region) == ATLAS_OK);
    CHECK(atlas_conserved_residue(region, sizeof region) == 0);
}

/* Its residue becomes 31. */
static void break_law(void)
{
    CHECK(region[0] == 0);
    region[0] = 31;
}

/* Two bytes change places: another region with the same residue. */
static void swap_bytes(void)
{
    uint8_t byte = region[100];
    region[100] = region[101];
    region[101] = byte;
}

static atlas_domain_t* open_domain(void)
{
    make_conserved();
    atlas_domain_t* domain = atlas_domain_create(sizeof region, 50);
    CHECK(domain != NULL);
    CHECK(atlas_domain_attach(domain, region, sizeof region) == ATLAS_OK);
    return domain;
}

static atlas_domain_t* committed_domain(void)
{
    atlas_domain_t* domain = open_domain();
    CHECK(atlas_domain_commit(domain) == ATLAS_OK);
    return domain;
}

static atlas_state_t state_of(const atlas_domain_t* domain)
{
    atlas_state_t state;
    CHECK(atlas_domain_state(domain, &state) == ATLAS_OK);
    return state;
}

static uint8_t budget_of(const atlas_domain_t* domain)
{
    uint8_t budget;
    CHECK(atlas_budget_available(domain, &budget) == ATLAS_OK);
    return budget;
}

#define NULL_TEXT "is NULL, must not be NULL"

static void case_null_handle(void)
{
    uint8_t byte = 0;
    atlas_state_t state = ATLAS_STATE_OPEN;
    CHECK_REFUSED(atlas_domain_attach(NULL, &byte, 1) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_domain_attach", "domain " NULL_TEXT);
    CHECK_REFUSED(!atlas_domain_verify(NULL), ATLAS_E_MEMORY, "atlas_domain_verify",
                  "domain " NULL_TEXT);
    CHECK_REFUSED(atlas_domain_commit(NULL) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_domain_commit", "domain " NULL_TEXT);
    CHECK_REFUSED(!atlas_budget_alloc(NULL, 1), ATLAS_E_MEMORY, "atlas_budget_alloc",
                  "domain " NULL_TEXT);
    CHECK_REFUSED(!atlas_budget_release(NULL, 1), ATLAS_E_MEMORY, "atlas_budget_release",
                  "domain " NULL_TEXT);
    CHECK_REFUSED(!atlas_witness_verify(NULL, &byte, 1), ATLAS_E_MEMORY, "atlas_witness_verify",
                  "w " NULL_TEXT);
    CHECK_REFUSED(atlas_domain_state(NULL, &state) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_domain_state", "domain " NULL_TEXT);
    CHECK_REFUSED(atlas_budget_available(NULL, &byte) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_budget_available", "domain " NULL_TEXT);
    CHECK_REFUSED(atlas_domain_witness(NULL) == NULL, ATLAS_E_MEMORY, "atlas_domain_witness",
                  "domain " NULL_TEXT);

    /* Destroy: a no-op, which leaves the error of the call before it alone. */
    CHECK(!atlas_domain_verify(NULL));
    atlas_domain_destroy(NULL);
    atlas_witness_destroy(NULL);
    atlas_witness_stream_destroy(NULL);
    CHECK(atlas_get_last_error_code() == ATLAS_E_MEMORY);
    CHECK(strncmp(atlas_get_last_error(), "atlas_domain_verify: ", 21) == 0);
}

static void case_domain_create(void)
{
    CHECK_REFUSED(atlas_domain_create(0, 50) == NULL, ATLAS_E_MEMORY, "atlas_domain_create",
                  "bytes is 0, must be at least 1");
    CHECK_REFUSED(atlas_domain_create(1, 96) == NULL, ATLAS_E_BUDGET, "atlas_domain_create",
                  "budget_class is 96, must be in 0..95");
    CHECK_REFUSED(atlas_domain_create(1, 255) == NULL, ATLAS_E_BUDGET, "atlas_domain_create",
                  "budget_class is 255, must be in 0..95");
    for (unsigned budget = 0; budget < ATLAS_MODULUS; budget += ATLAS_MODULUS - 1) {
        atlas_domain_t* domain = NULL;
        CHECK_OK((domain = atlas_domain_create(SIZE_MAX, (uint8_t)budget)) != NULL);
        CHECK(budget_of(domain) == budget);
        CHECK_OK(state_of(domain) == ATLAS_STATE_OPEN);
        atlas_domain_destroy(domain);
    }
}

static void case_attach_arguments(void)
{
    uint8_t bytes[12] = {0};
    atlas_domain_t* domain = atlas_domain_create(11, 0);
    CHECK_REFUSED(atlas_domain_attach(domain, NULL, 11) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_domain_attach", "base " NULL_TEXT);
    CHECK_REFUSED(atlas_domain_attach(domain, bytes, 0) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_domain_attach", "len is 0, must be in 1..11");
    CHECK_REFUSED(atlas_domain_attach(domain, bytes, 12) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_domain_attach", "len is 12, must be in 1..11");
    CHECK(!atlas_domain_verify(domain)); /* nothing is attached by a refused call */
    CHECK(atlas_get_last_error_code() == ATLAS_E_STATE);
    CHECK_OK(atlas_domain_attach(domain, bytes, 11) == ATLAS_OK);
    atlas_domain_destroy(domain);

    domain = atlas_domain_create(11, 0);
    CHECK_OK(atlas_domain_attach(domain, bytes, 1) == ATLAS_OK);
    atlas_domain_destroy(domain);
}

static void case_attach_again(void)
{
    uint8_t other[96] = {1};
    atlas_domain_t* domain = open_domain();
    CHECK_REFUSED(atlas_domain_attach(domain, other, sizeof other) == ATLAS_E_STATE, ATLAS_E_STATE,
                  "atlas_domain_attach", "has a region already, must have none");
    CHECK_OK(atlas_domain_verify(domain)); /* the first region stands: the other breaks the law */
    CHECK_OK(atlas_domain_commit(domain) == ATLAS_OK);
    CHECK_REFUSED(atlas_domain_attach(domain, other, sizeof other) == ATLAS_E_STATE, ATLAS_E_STATE,
                  "atlas_domain_attach", "is COMMITTED, must be OPEN");
    CHECK_OK(atlas_domain_verify(domain));
    CHECK(atlas_witness_length(atlas_domain_witness(domain)) == sizeof region);
    atlas_domain_destroy(domain);
}

static void case_nothing_attached(void)
{
    atlas_domain_t* domain = atlas_domain_create(1, 0);
    CHECK_REFUSED(!atlas_domain_verify(domain), ATLAS_E_STATE, "atlas_domain_verify",
                  "has no region, must have one attached");
    CHECK_REFUSED(atlas_domain_commit(domain) == ATLAS_E_STATE, ATLAS_E_STATE,
                  "atlas_domain_commit", "has no region, must have one attached");
    CHECK(state_of(domain) == ATLAS_STATE_OPEN);
    atlas_domain_destroy(domain);
}

static void case_not_conserved(void)
{
    atlas_domain_t* domain = open_domain();
    CHECK_OK(atlas_domain_verify(domain));
    break_law();
    CHECK_REFUSED(!atlas_domain_verify(domain), ATLAS_E_CONSERVATION, "atlas_domain_verify",
                  "residue of the 12288 attached bytes is 31, must be 0 (mod 96)");
    CHECK_REFUSED(atlas_domain_commit(domain) == ATLAS_E_CONSERVATION, ATLAS_E_CONSERVATION,
                  "atlas_domain_commit",
                  "residue of the 12288 attached bytes is 31, must be 0 (mod 96)");
    CHECK(state_of(domain) == ATLAS_STATE_OPEN);
    CHECK_REFUSED(atlas_domain_witness(domain) == NULL, ATLAS_E_STATE, "atlas_domain_witness",
                  "is OPEN, must be COMMITTED");
    make_conserved();
    CHECK_OK(atlas_domain_commit(domain) == ATLAS_OK);
    CHECK(state_of(domain) == ATLAS_STATE_COMMITTED);
    atlas_domain_destroy(domain);
}

static void case_verify_committed(void)
{
    atlas_domain_t* domain = committed_domain();
    CHECK_OK(atlas_domain_verify(domain));
    break_law();
    CHECK_REFUSED(!atlas_domain_verify(domain), ATLAS_E_CONSERVATION, "atlas_domain_verify",
                  "residue of the 12288 attached bytes is 31, must be 0 (mod 96)");
    make_conserved();
    swap_bytes();
    CHECK_REFUSED(!atlas_domain_verify(domain), ATLAS_E_WITNESS, "atlas_domain_verify",
                  "SHA-256 of the 12288 bytes differs");
    swap_bytes();
    CHECK_OK(atlas_domain_verify(domain));
    CHECK(state_of(domain) == ATLAS_STATE_COMMITTED);
    atlas_domain_destroy(domain);
}

static void case_commit_once(void)
{
    atlas_domain_t* domain = open_domain();
    CHECK_OK(atlas_domain_commit(domain) == ATLAS_OK);
    const atlas_witness_t* witness = atlas_domain_witness(domain);
    CHECK(witness != NULL);
    CHECK_REFUSED(atlas_domain_commit(domain) == ATLAS_E_STATE, ATLAS_E_STATE,
                  "atlas_domain_commit", "is COMMITTED, must be OPEN");
    CHECK(state_of(domain) == ATLAS_STATE_COMMITTED);
    CHECK_OK(atlas_domain_witness(domain) == witness);
    CHECK_OK(atlas_witness_verify(witness, region, sizeof region));
    atlas_domain_destroy(domain);
}

static void case_budget_alloc(void)
{
    atlas_domain_t* domain = atlas_domain_create(1, 50);
    CHECK_REFUSED(!atlas_budget_alloc(domain, 51), ATLAS_E_BUDGET, "atlas_budget_alloc",
                  "amt is 51, must be in 0..50");
    CHECK_REFUSED(!atlas_budget_alloc(domain, 96), ATLAS_E_BUDGET, "atlas_budget_alloc",
                  "amt is 96, must be in 0..95");
    CHECK_REFUSED(!atlas_budget_alloc(domain, 255), ATLAS_E_BUDGET, "atlas_budget_alloc",
                  "amt is 255, must be in 0..95");
    CHECK(budget_of(domain) == 50);
    CHECK_OK(atlas_budget_alloc(domain, 0));
    CHECK(budget_of(domain) == 50);
    CHECK_OK(atlas_budget_alloc(domain, 20));
    CHECK(budget_of(domain) == 30);
    CHECK_OK(atlas_budget_alloc(domain, 30));
    CHECK(budget_of(domain) == 0);
    CHECK_REFUSED(!atlas_budget_alloc(domain, 1), ATLAS_E_BUDGET, "atlas_budget_alloc",
                  "amt is 1, must be in 0..0");
    atlas_domain_destroy(domain);
}

static void case_budget_release(void)
{
    /* Every budget and every amount: 96 * 256 sums. */
    for (unsigned budget = 0; budget < ATLAS_MODULUS; budget++) {
        for (unsigned amt = 0; amt <= UINT8_MAX; amt++) {
            atlas_domain_t* domain = atlas_domain_create(1, (uint8_t)budget);
            if (amt < ATLAS_MODULUS) {
                CHECK_OK(atlas_budget_release(domain, (uint8_t)amt));
                CHECK(budget_of(domain) == (budget + amt) % ATLAS_MODULUS);
            } else {
                CHECK_REFUSED(!atlas_budget_release(domain, (uint8_t)amt), ATLAS_E_BUDGET,
                              "atlas_budget_release", "must be in 0..95");
                CHECK(budget_of(domain) == budget);
            }
            atlas_domain_destroy(domain);
        }
    }
}

static void case_budget_after_commit(void)
{
    atlas_domain_t* domain = committed_domain();
    CHECK_OK(atlas_budget_alloc(domain, 10));
    CHECK_OK(atlas_budget_release(domain, 5));
    CHECK(budget_of(domain) == 45);
    CHECK_REFUSED(!atlas_budget_alloc(domain, 46), ATLAS_E_BUDGET, "atlas_budget_alloc",
                  "amt is 46, must be in 0..45");
    CHECK_OK(atlas_domain_verify(domain));
    atlas_domain_destroy(domain);
}

/* SHA-256 of "", and NIST's two examples; the longer one just needs a second block for padding. */
static const uint8_t DIGEST_OF_EMPTY[ATLAS_DIGEST_BYTES] = {
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55};
static const uint8_t DIGEST_OF_ABC[ATLAS_DIGEST_BYTES] = {
    0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
    0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};

static const char TWO_BLOCKS[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
static const uint8_t DIGEST_OF_TWO_BLOCKS[ATLAS_DIGEST_BYTES] = {
    0x24, 0x8d, 0x6a, 0x61, 0xd2, 0x06, 0x38, 0xb8, 0xe5, 0xc0, 0x26, 0x93, 0x0c, 0x3e, 0x60, 0x39,
    0xa3, 0x3c, 0xe4, 0x59, 0x64, 0xff, 0x21, 0x67, 0xf6, 0xec, 0xed, 0xd4, 0x19, 0xdb, 0x06, 0xc1};

static void check_witness(const char* text, size_t len, const uint8_t* digest, uint8_t residue)
{
    atlas_witness_t* w = NULL;
    CHECK_OK((w = atlas_witness_generate(text, len)) != NULL);
    CHECK_OK(atlas_witness_length(w) == len);
    CHECK_OK(atlas_witness_residue(w) == residue);
    CHECK_OK(memcmp(atlas_witness_digest(w), digest, ATLAS_DIGEST_BYTES) == 0);
    CHECK_OK(strcmp(atlas_witness_algorithm(w), "sha256") == 0);
    CHECK_OK(atlas_witness_timestamp_ns(w) > 1700000000000000000U); /* not before this test */
    CHECK_OK(atlas_witness_verify(w, text, len));
    atlas_witness_destroy(w);
}

static void case_witness_generate(void)
{
    CHECK_REFUSED(atlas_witness_generate(NULL, 0) == NULL, ATLAS_E_MEMORY, "atlas_witness_generate",
                  "base " NULL_TEXT);
    CHECK_REFUSED(atlas_witness_generate(NULL, 1) == NULL, ATLAS_E_MEMORY, "atlas_witness_generate",
                  "base " NULL_TEXT);
    check_witness("", 0, DIGEST_OF_EMPTY, 0);
    check_witness("abc", 3, DIGEST_OF_ABC, ('a' + 'b' + 'c') % ATLAS_MODULUS);
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof TWO_BLOCKS - 1; i++)
        sum += (unsigned)TWO_BLOCKS[i];
    check_witness(TWO_BLOCKS, sizeof TWO_BLOCKS - 1, DIGEST_OF_TWO_BLOCKS,
                  (uint8_t)(sum % ATLAS_MODULUS));
}

/* A copy of a witness with one byte of its byte form changed. */
static atlas_witness_t* forge(const atlas_witness_t* w, size_t at, uint8_t value)
{
    uint8_t form[ATLAS_WITNESS_BYTES];
    CHECK(atlas_witness_to_bytes(w, form) == ATLAS_OK);
    CHECK(form[at] != value);
    form[at] = value;
    atlas_witness_t* forged = atlas_witness_from_bytes(form, sizeof form);
    CHECK(forged != NULL);
    return forged;
}

static void case_witness_verify(void)
{
    make_conserved();
    atlas_witness_t* w = atlas_witness_generate(region, sizeof region);
    CHECK_OK(atlas_witness_verify(w, region, sizeof region));
    CHECK_REFUSED(!atlas_witness_verify(w, NULL, sizeof region), ATLAS_E_MEMORY,
                  "atlas_witness_verify", "base " NULL_TEXT);
    CHECK_REFUSED(!atlas_witness_verify(w, region, sizeof region - 1), ATLAS_E_WITNESS,
                  "atlas_witness_verify", "length is 12287, must be 12288");
    CHECK_REFUSED(!atlas_witness_verify(w, region, 0), ATLAS_E_WITNESS, "atlas_witness_verify",
                  "length is 0, must be 12288");
    break_law();
    CHECK_REFUSED(!atlas_witness_verify(w, region, sizeof region), ATLAS_E_WITNESS,
                  "atlas_witness_verify", "residue of the 12288 bytes is 31, must be 0");
    make_conserved();
    swap_bytes();
    CHECK_REFUSED(!atlas_witness_verify(w, region, sizeof region), ATLAS_E_WITNESS,
                  "atlas_witness_verify", "SHA-256 of the 12288 bytes differs");

    /* Each bit of the digest counts. Each field counts, also where the others are right. */
    make_conserved();
    for (size_t bit = 0; bit < 8 * ATLAS_DIGEST_BYTES; bit++) {
        uint8_t byte = atlas_witness_digest(w)[bit / 8] ^ (uint8_t)(1U << bit % 8);
        atlas_witness_t* forged = forge(w, 24 + bit / 8, byte);
        CHECK_REFUSED(!atlas_witness_verify(forged, region, sizeof region), ATLAS_E_WITNESS,
                      "atlas_witness_verify", "SHA-256 of the 12288 bytes differs");
        atlas_witness_destroy(forged);
    }
    atlas_witness_t* forged = forge(w, 6, 95);
    CHECK_REFUSED(!atlas_witness_verify(forged, region, sizeof region), ATLAS_E_WITNESS,
                  "atlas_witness_verify", "is 0, must be 95");
    atlas_witness_destroy(forged);
    forged = forge(w, 15, 1); /* 2^56 bytes longer: not what a 32-bit length would show */
    CHECK_REFUSED(!atlas_witness_verify(forged, region, sizeof region), ATLAS_E_WITNESS,
                  "atlas_witness_verify", "length is 12288, must be 72057594037940224");
    atlas_witness_destroy(forged);
    forged = forge(w, 16, (uint8_t)(atlas_witness_timestamp_ns(w) + 1)); /* the time is no claim */
    CHECK_OK(atlas_witness_verify(forged, region, sizeof region));
    atlas_witness_destroy(forged);
    atlas_witness_destroy(w);
}

static void case_conserved_delta(void)
{
    const uint8_t before[] = {1, 200, 3, 255}, after[] = {255, 7, 0, 0};
    const unsigned sum_before = 1 + 200 + 3 + 255, sum_after = 255 + 7;
    CHECK_REFUSED(atlas_conserved_delta(NULL, after, 4) == 0, ATLAS_E_MEMORY,
                  "atlas_conserved_delta", "before " NULL_TEXT);
    CHECK_REFUSED(atlas_conserved_delta(before, NULL, 4) == 0, ATLAS_E_MEMORY,
                  "atlas_conserved_delta", "after " NULL_TEXT);
    CHECK_OK(atlas_conserved_delta(NULL, NULL, 0) == 0);
    CHECK_OK(atlas_conserved_delta(before, after, 0) == 0);
    CHECK_OK(atlas_conserved_delta(before, before, 4) == 0);
    CHECK_OK(atlas_conserved_delta(before, after, 4) ==
             (sum_after + 10 * ATLAS_MODULUS - sum_before) % ATLAS_MODULUS);
    CHECK_OK(atlas_conserved_delta(after, before, 4) == (sum_before - sum_after) % ATLAS_MODULUS);
}

#define WRAP_TEXT "wrap around the end of the address space"

/* Each function that is given a region, with one whose bytes go on at address 0, and with a length
 * that is -1, which reaches around from any address. What is refused was not touched. */
static void case_wrap_around(void)
{
    uint8_t* last_page = (uint8_t*)(UINTPTR_MAX - (ATLAS_PAGE_BYTES - 1));
    const struct {
        uint8_t* base;
        size_t len;
    } wrong[] = {{last_page, ATLAS_PAGE_BYTES + 1}, {last_page + 200, 57}, {region, SIZE_MAX}};
    atlas_domain_t* domain = atlas_domain_create(SIZE_MAX, 0);
    atlas_witness_t* w = atlas_witness_generate(region, sizeof region);
    atlas_witness_stream_t* stream = atlas_witness_stream_create();
    atlas_tree_stream_t* tree = atlas_tree_stream_create();
    uint8_t out[ATLAS_DIGEST_BYTES];
    uint64_t state = 7;
    atlas_witness_t* none = NULL;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint8_t* base = wrong[i].base;
        size_t len = wrong[i].len;
#define REFUSED(name, refused) CHECK_REFUSED(refused, ATLAS_E_MEMORY, "atlas_" name, WRAP_TEXT)
        REFUSED("domain_attach", atlas_domain_attach(domain, base, len) == ATLAS_E_MEMORY);
        REFUSED("witness_generate", atlas_witness_generate(base, len) == NULL);
        REFUSED("witness_generate_many",
                atlas_witness_generate_many((const void* const[]){base}, &len, 1, &none) ==
                    ATLAS_E_MEMORY);
        REFUSED("witness_verify", !atlas_witness_verify(w, base, len));
        REFUSED("witness_stream_update_many",
                atlas_witness_stream_update_many(&stream, (const void* const[]){base}, &len, 1) ==
                    ATLAS_E_MEMORY);
        REFUSED("witness_stream_update",
                atlas_witness_stream_update(stream, base, len) == ATLAS_E_MEMORY);
        REFUSED("conserved_delta", atlas_conserved_delta(base, region, len) == 0);
        REFUSED("conserved_delta", atlas_conserved_delta(region, base, len) == 0);
        REFUSED("conserved_residue", atlas_conserved_residue(base, len) == 0);
        REFUSED("conserved_check", !atlas_conserved_check(base, len));
        REFUSED("conserved_window_residues",
                atlas_conserved_window_residues(base, len, out) == ATLAS_E_MEMORY);
        REFUSED("conserved_update", atlas_conserved_update(&state, base, len) == ATLAS_E_MEMORY);
        REFUSED("conserved_memcpy", atlas_conserved_memcpy(base, region, len) == ATLAS_E_MEMORY);
        REFUSED("conserved_memcpy", atlas_conserved_memcpy(region, base, len) == ATLAS_E_MEMORY);
        REFUSED("conserved_memset", atlas_conserved_memset(base, 1, len) == ATLAS_E_MEMORY);
        REFUSED("conserved_fixup", atlas_conserved_fixup(base, len) == ATLAS_E_MEMORY);
        REFUSED("tree_leaves", atlas_tree_leaves(base, len, out, &state) == ATLAS_E_MEMORY);
        REFUSED("tree_leaves_residues",
                atlas_tree_leaves_residues(base, len, out, out) == ATLAS_E_MEMORY);
        REFUSED("tree_leaves_many", atlas_tree_leaves_many((const void* const[]){base}, &len, 1,
                                                           out, out, out) == ATLAS_E_MEMORY);
        REFUSED("tree_stream_update", atlas_tree_stream_update(tree, base, len) == ATLAS_E_MEMORY);
#undef REFUSED
    }
    CHECK(state == 7 && none == NULL);
    uint64_t length = 7;
    CHECK_OK(atlas_tree_stream_root(tree, out, &length, NULL) == ATLAS_OK);
    CHECK(length == 0);
    /* A region may end where the address space does; that it is there is for the caller to know. */
    CHECK_OK(atlas_domain_attach(domain, last_page, ATLAS_PAGE_BYTES) == ATLAS_OK);
    atlas_tree_stream_destroy(tree);
    atlas_witness_stream_destroy(stream);
    atlas_witness_destroy(w);
    atlas_domain_destroy(domain);
}

static void case_last_error(void)
{
    static const char* const texts[] = {
        "success",
        "conservation law violated",
        "witness verification failed",
        "budget constraint violated",
        "memory allocation failed",
        "invalid state transition",
    };
    for (int code = ATLAS_OK; code <= ATLAS_E_STATE; code++)
        CHECK(strcmp(atlas_error_string(code), texts[code]) == 0);
    CHECK(strcmp(atlas_error_string(6), "unknown error code") == 0);
    CHECK(strcmp(atlas_error_string(-1), "unknown error code") == 0);

    /* Reading the error leaves it alone; the next success resets it. */
    CHECK_REFUSED(!atlas_domain_verify(NULL), ATLAS_E_MEMORY, "atlas_domain_verify", NULL_TEXT);
    (void)atlas_error_string(ATLAS_E_STATE);
    (void)atlas_api_version();
    (void)atlas_version();
    CHECK(atlas_get_last_error_code() == ATLAS_E_MEMORY);
    CHECK(strcmp(atlas_get_last_error(), "atlas_domain_verify: domain is NULL, must not be NULL") ==
          0);
    CHECK_OK(atlas_conserved_residue(NULL, 0) == 0);
}

static void case_isolation(void)
{
    uint8_t other[96];
    memset(other, 1, sizeof other);
    atlas_domain_t* first = open_domain();
    atlas_domain_t* second = atlas_domain_create(sizeof other, 7);
    CHECK_OK(atlas_domain_attach(second, other, sizeof other) == ATLAS_OK);
    other[0] = 2;
    CHECK(!atlas_domain_verify(second));
    CHECK_OK(atlas_domain_verify(first));
    CHECK_OK(atlas_domain_commit(first) == ATLAS_OK);
    CHECK_OK(atlas_budget_alloc(first, 50));
    CHECK(state_of(second) == ATLAS_STATE_OPEN);
    CHECK(budget_of(second) == 7);
    atlas_domain_destroy(first);
    other[0] = 1;
    CHECK_OK(atlas_domain_commit(second) == ATLAS_OK);
    atlas_domain_destroy(second);
}

static void case_shared_region(void)
{
    atlas_domain_t* whole = open_domain();
    atlas_domain_t* same = atlas_domain_create(sizeof region, 0);
    atlas_domain_t* part = atlas_domain_create(sizeof region, 0);
    CHECK_OK(atlas_domain_attach(same, region, sizeof region) == ATLAS_OK);
    CHECK_OK(atlas_domain_attach(part, region, 64) == ATLAS_OK); /* 0 + ... + 63 = 21 * 96 */
    CHECK_OK(atlas_domain_commit(whole) == ATLAS_OK);
    CHECK(state_of(same) == ATLAS_STATE_OPEN);
    swap_bytes(); /* behind the part */
    CHECK(!atlas_domain_verify(whole));
    CHECK(atlas_get_last_error_code() == ATLAS_E_WITNESS);
    CHECK_OK(atlas_domain_verify(same));
    CHECK_OK(atlas_domain_verify(part));
    atlas_domain_destroy(whole);
    atlas_domain_destroy(same);
    atlas_domain_destroy(part);
}

#define CASES(X)                                                                                   \
    X(null_handle, "NULL handle: false, NULL or ATLAS_E_MEMORY; destroy is a no-op")               \
    X(domain_create, "create: bytes == 0 ATLAS_E_MEMORY; budget_class > 95 ATLAS_E_BUDGET")        \
    X(attach_arguments, "attach: NULL base, len == 0 or len > bytes ATLAS_E_MEMORY")               \
    X(attach_again, "attach twice or after commit: ATLAS_E_STATE, the first attachment stands")    \
    X(nothing_attached, "verify, commit with nothing attached: ATLAS_E_STATE")                     \
    X(not_conserved, "verify, commit, residue not 0: ATLAS_E_CONSERVATION, state unchanged")       \
    X(verify_committed, "verify of a COMMITTED domain: conservation, then the witness")            \
    X(commit_once, "commits: one ATLAS_OK, every other ATLAS_E_STATE, one witness")                \
    X(budget_alloc, "budget_alloc beyond the budget or 95: ATLAS_E_BUDGET, budget unchanged")      \
    X(budget_release, "budget_release: (budget + amt) mod 96; amt > 95 ATLAS_E_BUDGET")            \
    X(budget_after_commit, "budgets after commit still work")                                      \
    X(witness_generate,                                                                            \
      "witness_generate: NULL base ATLAS_E_MEMORY; length 0 is the empty string")                  \
    X(witness_verify, "witness_verify: digest, length or residue differs ATLAS_E_WITNESS")         \
    X(conserved_delta,                                                                             \
      "conserved_delta: NULL with len > 0 is 0 and ATLAS_E_MEMORY; len == 0 is 0")                 \
    X(wrap_around, "a region that wraps around: ATLAS_E_MEMORY, from every function")              \
    X(last_error, "the last error: text, code, text of a code; \"\" after success")                \
    X(isolation, "isolation: no call on one domain changes another")                               \
    X(shared_region, "one region in several domains: each judges it for itself")

CHECK_MAIN(CASES)
