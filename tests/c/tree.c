/* SPDX-License-Identifier: Apache-2.0
 *
 * Trees against the definition of RFC 9162, section 2.1.1, written as it stands there: recursive,
 * one hash at a time. Run with every kernel set, so with every number of lanes.
 */
#include "check.h"

enum { HASH = ATLAS_DIGEST_BYTES, WINDOWS = 600 }; /* more than twice the runtime's longest run */

static uint8_t data[WINDOWS * ATLAS_WINDOW_BYTES + 1];
static uint8_t leaves[(WINDOWS + 1) * HASH];
/* Of all whole windows of the data, and the sums of the bytes before each. */
static uint8_t whole_leaves[WINDOWS * HASH];
static uint64_t sums[WINDOWS + 1];

static void fill_data(void)
{
    if (sums[WINDOWS] > 0)
        return; /* no case changes it */
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)(i % 251 + i / ATLAS_WINDOW_BYTES);
        if (i / ATLAS_WINDOW_BYTES < WINDOWS)
            sums[i / ATLAS_WINDOW_BYTES + 1] += data[i];
    }
    for (size_t i = 0; i < WINDOWS; i++)
        sums[i + 1] += sums[i];
    CHECK(atlas_tree_leaves(data, WINDOWS * ATLAS_WINDOW_BYTES, whole_leaves, NULL) == ATLAS_OK);
}

static size_t windows_of(size_t len)
{
    return (len + ATLAS_WINDOW_BYTES - 1) / ATLAS_WINDOW_BYTES;
}

/* SHA-256 of a prefix byte and two parts, the second one possibly empty. */
static void hash_of(uint8_t prefix, const uint8_t* a, size_t a_len, const uint8_t* b, size_t b_len,
                    uint8_t* out)
{
    static uint8_t message[1 + ATLAS_WINDOW_BYTES];
    CHECK(a_len + b_len < sizeof message);
    message[0] = prefix;
    memcpy(message + 1, a, a_len);
    memcpy(message + 1 + a_len, b, b_len);
    atlas_witness_t* w = atlas_witness_generate(message, 1 + a_len + b_len);
    memcpy(out, atlas_witness_digest(w), HASH);
    atlas_witness_destroy(w);
}

/* MTH over leaf hashes: k is the largest power of two below their count. */
static void expected_root(const uint8_t* hashes, size_t count, uint8_t* out)
{
    uint8_t left[HASH], right[HASH];
    size_t k = 1;
    if (count == 0) {
        atlas_witness_t* w = atlas_witness_generate("", 0);
        memcpy(out, atlas_witness_digest(w), HASH);
        atlas_witness_destroy(w);
        return;
    }
    if (count == 1) {
        memcpy(out, hashes, HASH);
        return;
    }
    while (2 * k < count)
        k *= 2;
    expected_root(hashes, k, left);
    expected_root(hashes + HASH * k, count - k, right);
    hash_of(1, left, HASH, right, HASH, out);
}

/* Of the first bytes of the data. */
static uint64_t sum_of(size_t len)
{
    uint64_t sum = sums[len / ATLAS_WINDOW_BYTES];
    for (size_t i = len - len % ATLAS_WINDOW_BYTES; i < len; i++)
        sum += data[i];
    return sum;
}

static uint64_t residue_of(size_t len)
{
    return sum_of(len) % ATLAS_MODULUS;
}

/* The leaves that are in `leaves` already, and the residue of each window. */
static void check_leaves_residues(size_t len)
{
    static uint8_t same[sizeof leaves], residues[WINDOWS + 1], expected[WINDOWS + 1];
    size_t count = windows_of(len);
    memset(same, 0xee, sizeof same);
    memset(residues, 0xee, sizeof residues);
    CHECK_OK(atlas_tree_leaves_residues(data, len, same, residues) == ATLAS_OK);
    CHECK(memcmp(same, leaves, HASH * count + 1) == 0);
    CHECK(atlas_conserved_window_residues(data, len, expected) == ATLAS_OK);
    CHECK(memcmp(residues, expected, count) == 0);
    CHECK(residues[count] == 0xee);
}

static void case_leaves(void)
{
    static const size_t lengths[] = {
        0, 1, 12287, 12288, 12289, 24576, 3 * 12288 + 5, 17 * 12288, 31 * 12288};
    fill_data();
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        size_t len = lengths[i], count = windows_of(len);
        uint64_t residue = 95;
        memset(leaves, 0xee, sizeof leaves);
        CHECK_OK(atlas_tree_leaves(data, len, leaves, &residue) == ATLAS_OK);
        CHECK(residue == (95 + residue_of(len)) % ATLAS_MODULUS);
        CHECK(leaves[HASH * count] == 0xee);
        for (size_t window = 0; window < count; window++) {
            uint8_t expected[HASH];
            size_t at = window * ATLAS_WINDOW_BYTES, left = len - at;
            hash_of(0, data + at, left < ATLAS_WINDOW_BYTES ? left : ATLAS_WINDOW_BYTES, data, 0,
                    expected);
            CHECK(memcmp(leaves + HASH * window, expected, HASH) == 0);
        }
        check_leaves_residues(len);
    }
    CHECK_OK(atlas_tree_leaves(data, 1, leaves, NULL) == ATLAS_OK);
    CHECK_OK(atlas_tree_leaves(NULL, 0, NULL, NULL) == ATLAS_OK);
    CHECK_REFUSED(atlas_tree_leaves(NULL, 1, leaves, NULL) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_tree_leaves", "base is NULL");
    CHECK_REFUSED(atlas_tree_leaves(data, 1, NULL, NULL) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_tree_leaves", "out is NULL");
    CHECK_OK(atlas_tree_leaves_residues(NULL, 0, NULL, NULL) == ATLAS_OK);
#define REFUSED(call, why)                                                                         \
    CHECK_REFUSED((call) == ATLAS_E_MEMORY, ATLAS_E_MEMORY, "atlas_tree_leaves_residues", why)
    REFUSED(atlas_tree_leaves_residues(NULL, 1, leaves, leaves), "base is NULL");
    REFUSED(atlas_tree_leaves_residues(data, 1, NULL, leaves), "out is NULL");
    REFUSED(atlas_tree_leaves_residues(data, 1, leaves, NULL), "residues is NULL");
#undef REFUSED
}

static void case_node(void)
{
    uint8_t expected[HASH], out[HASH];
    hash_of(1, data, HASH, data + HASH, HASH, expected);
    CHECK_OK(atlas_tree_node(data, data + HASH, out) == ATLAS_OK);
    CHECK(memcmp(out, expected, HASH) == 0);
    memcpy(out, data, HASH);
    CHECK_OK(atlas_tree_node(out, data + HASH, out) == ATLAS_OK);
    CHECK(memcmp(out, expected, HASH) == 0);
    CHECK_REFUSED(atlas_tree_node(NULL, data, out) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_tree_node", "left is NULL");
    CHECK_REFUSED(atlas_tree_node(data, NULL, out) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_tree_node", "right is NULL");
    CHECK_REFUSED(atlas_tree_node(data, data, NULL) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_tree_node", "out is NULL");
}

static void case_root(void)
{
    fill_data();
    uint8_t expected[HASH], root[HASH];
    for (size_t count = 0; count <= WINDOWS; count += count < 70 ? 1 : 53) {
        expected_root(whole_leaves, count, expected);
        CHECK_OK(atlas_tree_root(whole_leaves, count, root) == ATLAS_OK);
        CHECK(memcmp(root, expected, HASH) == 0);
    }
    CHECK_OK(atlas_tree_root(NULL, 0, root) == ATLAS_OK);
    CHECK_REFUSED(atlas_tree_root(NULL, 1, root) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_tree_root", "leaves is NULL");
    CHECK_REFUSED(atlas_tree_root(leaves, 1, NULL) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_tree_root", "out is NULL");
}

static void check_stream(const atlas_tree_stream_t* stream, size_t len)
{
    uint8_t expected[HASH], root[HASH], residue = 0xee;
    uint64_t length = 0;
    size_t whole = len / ATLAS_WINDOW_BYTES, begin = whole * ATLAS_WINDOW_BYTES;
    memcpy(leaves, whole_leaves, HASH * whole);
    CHECK(atlas_tree_leaves(data + begin, len - begin, leaves + HASH * whole, NULL) == ATLAS_OK);
    expected_root(leaves, windows_of(len), expected);
    CHECK_OK(atlas_tree_stream_root(stream, root, &length, &residue) == ATLAS_OK);
    CHECK(memcmp(root, expected, HASH) == 0);
    CHECK(length == len);
    CHECK(residue == residue_of(len));
}

static void case_stream(void)
{
    static const size_t chunks[] = {1000, 12287, 12288, 12289, 5 * 12288, 77777, 12288 * WINDOWS};
    fill_data();
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        size_t len = chunks[i] <= 12289 ? 20 * ATLAS_WINDOW_BYTES + 1 : sizeof data;
        atlas_tree_stream_t* stream = NULL;
        CHECK_OK((stream = atlas_tree_stream_create()) != NULL);
        for (size_t done = 0; done < len;) {
            size_t n = chunks[i] < len - done ? chunks[i] : len - done;
            CHECK(atlas_tree_stream_update(stream, data + done, n) == ATLAS_OK);
            done += n;
            if (len < sizeof data)
                check_stream(stream, done); /* a root leaves its stream as it is */
        }
        check_stream(stream, len);
        atlas_tree_stream_destroy(stream);
    }
}

static void case_append(void)
{
    fill_data();
    const uint8_t* hashes = whole_leaves;
    atlas_tree_stream_t* stream = atlas_tree_stream_create();
    for (size_t at = 0, count = 1; at < WINDOWS; at += count, count *= 3) {
        if (count > WINDOWS - at)
            count = WINDOWS - at;
        uint8_t residue = (uint8_t)((sums[at + count] - sums[at]) % ATLAS_MODULUS);
        CHECK_OK(atlas_tree_stream_append(stream, hashes + HASH * at, count, residue) == ATLAS_OK);
        check_stream(stream, (at + count) * ATLAS_WINDOW_BYTES);
    }
    CHECK_REFUSED(atlas_tree_stream_append(stream, hashes, 1, 96) == ATLAS_E_CONSERVATION,
                  ATLAS_E_CONSERVATION, "atlas_tree_stream_append",
                  "residue is 96, must be in 0..95");
    CHECK_REFUSED(atlas_tree_stream_append(stream, hashes, 0, 1) == ATLAS_E_CONSERVATION,
                  ATLAS_E_CONSERVATION, "atlas_tree_stream_append",
                  "residue is 1, must be 0 where count is 0");
    CHECK_REFUSED(atlas_tree_stream_append(stream, NULL, 1, 0) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_tree_stream_append", "leaves is NULL");
    check_stream(stream, WINDOWS * ATLAS_WINDOW_BYTES);
    CHECK(atlas_tree_stream_update(stream, data + WINDOWS * ATLAS_WINDOW_BYTES, 1) == ATLAS_OK);
    CHECK_REFUSED(atlas_tree_stream_append(stream, hashes, 1, 0) == ATLAS_E_STATE, ATLAS_E_STATE,
                  "atlas_tree_stream_append", "1 bytes of a window are held, must be 0");
    check_stream(stream, sizeof data);
    atlas_tree_stream_destroy(stream);
}

static void case_copy(void)
{
    const size_t len = 5 * ATLAS_WINDOW_BYTES + 7;
    fill_data();
    atlas_tree_stream_t* stream = atlas_tree_stream_create();
    CHECK(atlas_tree_stream_update(stream, data, len) == ATLAS_OK);
    atlas_tree_stream_t* copy = NULL;
    CHECK_OK((copy = atlas_tree_stream_copy(stream)) != NULL);
    CHECK(atlas_tree_stream_update(stream, data + len, 100000) == ATLAS_OK);
    check_stream(copy, len);
    check_stream(stream, len + 100000);
    atlas_tree_stream_destroy(stream);
    CHECK(atlas_tree_stream_update(copy, data + len, 9) == ATLAS_OK);
    check_stream(copy, len + 9);
    atlas_tree_stream_destroy(copy);
}

static void case_null_stream(void)
{
    uint8_t root[HASH];
    atlas_tree_stream_t* stream = atlas_tree_stream_create();
    CHECK_OK(atlas_tree_stream_update(stream, NULL, 0) == ATLAS_OK);
    CHECK_OK(atlas_tree_stream_root(stream, root, NULL, NULL) == ATLAS_OK);
    CHECK_REFUSED(atlas_tree_stream_update(stream, NULL, 1) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_tree_stream_update", "chunk is NULL");
    CHECK_REFUSED(atlas_tree_stream_root(stream, NULL, NULL, NULL) == ATLAS_E_MEMORY,
                  ATLAS_E_MEMORY, "atlas_tree_stream_root", "out is NULL");
    check_stream(stream, 0);
    atlas_tree_stream_destroy(stream);
    CHECK_REFUSED(atlas_tree_stream_update(NULL, data, 1) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_tree_stream_update", "stream is NULL");
    CHECK_REFUSED(atlas_tree_stream_append(NULL, data, 1, 0) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_tree_stream_append", "stream is NULL");
    CHECK_REFUSED(atlas_tree_stream_root(NULL, root, NULL, NULL) == ATLAS_E_MEMORY, ATLAS_E_MEMORY,
                  "atlas_tree_stream_root", "stream is NULL");
    CHECK_REFUSED(atlas_tree_stream_copy(NULL) == NULL, ATLAS_E_MEMORY, "atlas_tree_stream_copy",
                  "stream is NULL");
    atlas_tree_stream_destroy(NULL);
}

/* --- Many regions at once --- */

enum { MOST = 40, BOUNDS = 259 };

static const void* bases[BOUNDS];
static size_t lens[BOUNDS];

/* Hashes the regions at once, and each alone. */
static void check_regions(size_t count)
{
    static uint8_t many[8 * BOUNDS * HASH + 1], many_residues[8 * BOUNDS + 1],
        roots[BOUNDS * HASH + 1], residues[8 * BOUNDS];
    size_t windows = 0;
    memset(many, 0xee, sizeof many);
    memset(many_residues, 0xee, sizeof many_residues);
    memset(roots, 0xee, sizeof roots);
    CHECK_OK(atlas_tree_leaves_many(bases, lens, count, many, many_residues, roots) == ATLAS_OK);
    for (size_t i = 0; i < count; i++) {
        uint8_t root[HASH];
        size_t some = windows_of(lens[i]);
        CHECK(windows + some <= 8 * BOUNDS);
        CHECK(atlas_tree_leaves_residues(bases[i], lens[i], leaves, residues) == ATLAS_OK);
        CHECK(memcmp(many + HASH * windows, leaves, HASH * some) == 0);
        CHECK(memcmp(many_residues + windows, residues, some) == 0);
        expected_root(leaves, some, root);
        CHECK(memcmp(roots + HASH * i, root, HASH) == 0);
        windows += some;
    }
    CHECK(many[HASH * windows] == 0xee && many_residues[windows] == 0xee);
    CHECK(roots[HASH * count] == 0xee);
}

static uint32_t next_number(void)
{
    static uint32_t x = 12288;
    x = x * 1664525 + 1013904223;
    return x >> 8;
}

static void add_region(size_t i, size_t len)
{
    lens[i] = len;
    bases[i] = len > 0 ? data + next_number() % (sizeof data - len) : NULL;
}

/* Each number of regions, of less than a window and of some windows. */
static void case_many(void)
{
    fill_data();
    for (size_t count = 1; count <= MOST; count++) {
        for (size_t i = 0; i < count; i++)
            add_region(i, next_number() % (i % 8 == 5 ? 4 * ATLAS_WINDOW_BYTES : 1000));
        check_regions(count);
    }
}

/* Lengths around whole windows, and numbers of windows around those that are merged together. */
static void case_many_bounds(void)
{
    fill_data();
    for (size_t i = 0; i < 24; i++)
        add_region(i, (1 + i / 3) * ATLAS_WINDOW_BYTES - 1 + i % 3);
    check_regions(24);
    for (size_t windows = 255; windows <= 257; windows++) {
        add_region(0, windows * ATLAS_WINDOW_BYTES - windows % 2);
        add_region(1, windows % 3);
        add_region(2, 2 * ATLAS_WINDOW_BYTES);
        check_regions(3);
    }
    for (size_t i = 0; i < BOUNDS; i++)
        add_region(i, 1 + i % 2);
    for (size_t count = 254; count <= BOUNDS; count++)
        check_regions(count);
}

static void case_many_refused(void)
{
    uint8_t out[4 * HASH], residues[4], roots[3 * HASH];
    for (size_t i = 0; i < 3; i++) {
        bases[i] = data;
        lens[i] = 1 + i;
    }
    memset(out, 0xee, sizeof out);
#define REFUSED(call, why)                                                                         \
    CHECK_REFUSED((call) == ATLAS_E_MEMORY, ATLAS_E_MEMORY, "atlas_tree_leaves_many", why)
    REFUSED(atlas_tree_leaves_many(NULL, lens, 3, out, residues, roots), "bases is NULL");
    REFUSED(atlas_tree_leaves_many(bases, NULL, 3, out, residues, roots), "lens is NULL");
    REFUSED(atlas_tree_leaves_many(bases, lens, 3, NULL, residues, roots), "leaves is NULL");
    REFUSED(atlas_tree_leaves_many(bases, lens, 3, out, NULL, roots), "residues is NULL");
    REFUSED(atlas_tree_leaves_many(bases, lens, 3, out, residues, NULL), "roots is NULL");
    bases[2] = NULL;
    REFUSED(atlas_tree_leaves_many(bases, lens, 3, out, residues, roots), "bases[2] is NULL");
    bases[2] = data;
    lens[1] = SIZE_MAX;
    REFUSED(atlas_tree_leaves_many(bases, lens, 3, out, residues, roots),
            "bytes of bases[1] wrap around");
#undef REFUSED
    for (size_t i = 0; i < sizeof out; i++)
        CHECK(out[i] == 0xee);
    CHECK_OK(atlas_tree_leaves_many(NULL, NULL, 0, NULL, NULL, NULL) == ATLAS_OK);
    /* Regions without a window have no leaf, and a root. */
    bases[0] = bases[1] = NULL;
    lens[0] = lens[1] = 0;
    CHECK_OK(atlas_tree_leaves_many(bases, lens, 2, NULL, NULL, roots) == ATLAS_OK);
    expected_root(NULL, 0, out);
    CHECK(memcmp(roots, out, HASH) == 0 && memcmp(roots + HASH, out, HASH) == 0);
}

#define CASES(X)                                                                                   \
    X(leaves, "a leaf is SHA-256(0x00 || window), and the residue is that of all windows")         \
    X(node, "a node is SHA-256(0x01 || left || right)")                                            \
    X(root, "the root splits after the largest power of two below the count")                      \
    X(stream, "a stream in any chunks has the root of the whole")                                  \
    X(append, "leaves that were hashed elsewhere can be appended between windows only")            \
    X(copy, "a copy of a stream is a stream of its own")                                           \
    X(null_stream, "NULL is refused with ATLAS_E_MEMORY")                                          \
    X(many, "every number of regions up to 40 is as each alone")                                   \
    X(many_bounds, "regions around the bounds of windows, and of what is merged together")         \
    X(many_refused, "nothing is hashed where anything is refused; no region is fine")

CHECK_MAIN(CASES)
