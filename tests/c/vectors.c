/* SPDX-License-Identifier: Apache-2.0
 *
 * The vectors of tests/vectors, also on a machine that has no Python: "vectors.inc", made from the
 * JSON files by the test that builds this program, has a line for each length:
 *   VECTOR(length, residue, window_residues, fixup_byte or -1, sha256, witness, root, leaves)
 */
#include "check.h"

typedef struct {
    size_t length;
    uint8_t residue;
    const char* window_residues; /* this and what follows in hex */
    int fixup_byte;
    const char *sha256, *witness, *root, *leaves;
} vector_t;

#define VECTOR(...) {__VA_ARGS__},
static const vector_t vectors[] = {
#include "vectors.inc"
};
#define VECTORS (sizeof vectors / sizeof vectors[0])

enum { BYTES_MAX = 100 * ATLAS_WINDOW_BYTES, HASH = ATLAS_DIGEST_BYTES };
static uint8_t data[BYTES_MAX];

/* Byte i is i mod 251. */
static const uint8_t* input(const vector_t* vector)
{
    CHECK(vector->length <= sizeof data);
    for (size_t i = 0; i < vector->length; i++)
        data[i] = (uint8_t)(i % 251);
    return data;
}

static size_t windows_of(const vector_t* vector)
{
    return (vector->length + ATLAS_WINDOW_BYTES - 1) / ATLAS_WINDOW_BYTES;
}

static bool is_hex(const uint8_t* bytes, size_t len, const char* hex)
{
    char digits[3];
    if (strlen(hex) != 2 * len)
        return false;
    for (size_t i = 0; i < len; i++) {
        snprintf(digits, sizeof digits, "%02x", bytes[i]);
        if (strncmp(digits, hex + 2 * i, 2) != 0)
            return false;
    }
    return true;
}

static void case_residue(void)
{
    static uint8_t residues[BYTES_MAX / ATLAS_WINDOW_BYTES];
    for (const vector_t* v = vectors; v < vectors + VECTORS; v++) {
        CHECK(atlas_conserved_residue(input(v), v->length) == v->residue);
        CHECK(atlas_conserved_check(data, v->length) == (v->residue == 0));
        CHECK(atlas_conserved_delta(data, data, v->length) == 0);
        CHECK(atlas_conserved_window_residues(data, v->length, residues) == ATLAS_OK);
        CHECK(is_hex(residues, windows_of(v), v->window_residues));
    }
}

static void case_fixup(void)
{
    for (const vector_t* v = vectors; v < vectors + VECTORS; v++) {
        input(v);
        CHECK(atlas_conserved_fixup(data, v->length) == ATLAS_OK);
        CHECK(v->length == 0 ? v->fixup_byte == -1 : data[v->length - 1] == v->fixup_byte);
    }
}

static void check_hash(const uint8_t* bytes, size_t len, const char* hex)
{
    atlas_witness_t* w = atlas_witness_generate(bytes, len);
    CHECK(is_hex(atlas_witness_digest(w), HASH, hex));
    atlas_witness_destroy(w);
}

static void case_sha256(void)
{
    for (const vector_t* v = vectors; v < vectors + VECTORS; v++)
        check_hash(input(v), v->length, v->sha256);
}

static void case_witness(void)
{
    for (const vector_t* v = vectors; v < vectors + VECTORS; v++) {
        uint8_t form[ATLAS_WITNESS_BYTES], again[ATLAS_WITNESS_BYTES];
        for (size_t i = 0; i < sizeof form; i++) {
            unsigned byte;
            CHECK(sscanf(v->witness + 2 * i, "%2x", &byte) == 1);
            form[i] = (uint8_t)byte;
        }
        atlas_witness_t* w = atlas_witness_from_bytes(form, sizeof form);
        CHECK(atlas_witness_verify(w, input(v), v->length));
        CHECK(atlas_witness_to_bytes(w, again) == ATLAS_OK);
        CHECK(memcmp(form, again, sizeof form) == 0);
        data[0] ^= 1;
        CHECK(v->length == 0 || !atlas_witness_verify(w, data, v->length));
        atlas_witness_destroy(w);
    }
}

static void case_tree(void)
{
    static uint8_t leaves[BYTES_MAX / ATLAS_WINDOW_BYTES * HASH];
    for (const vector_t* v = vectors; v < vectors + VECTORS; v++) {
        uint64_t residue = 0;
        uint8_t root[HASH];
        CHECK(atlas_tree_leaves(input(v), v->length, leaves, &residue) == ATLAS_OK);
        CHECK(residue == v->residue);
        CHECK(atlas_tree_root(leaves, windows_of(v), root) == ATLAS_OK);
        CHECK(is_hex(root, HASH, v->root));
        check_hash(leaves, windows_of(v) * HASH, v->leaves);
    }
}

#define CASES(X)                                                                                   \
    X(residue, "residues of the region and of its windows")                                        \
    X(fixup, "the byte that makes the region conserved")                                           \
    X(sha256, "SHA-256")                                                                           \
    X(witness, "the byte form of the witness, read, verified and written")                         \
    X(tree, "leaves and root")

CHECK_MAIN(CASES)
