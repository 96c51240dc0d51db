/* SPDX-License-Identifier: Apache-2.0
 *
 * Trees: RFC 9162, section 2.1.1. Leaves and nodes are hashed on as many lanes as the kernel set
 * has, see lanes.c.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES ATLAS_SHA256_BLOCK_BYTES
#define WORDS ATLAS_SHA256_WORDS
#define HASH ATLAS_DIGEST_BYTES

enum { LEAF_PREFIX = 0, NODE_PREFIX = 1 };

/* Leaves are made and merged in batches of at most this many, a power of two: 3 MiB of windows,
 * 8 KiB of hashes on the stack, and all but one node in 256 hashed on full lanes. */
#define BATCH_WINDOWS 256

static const uint32_t INITIAL[WORDS] = ATLAS_SHA256_INITIAL;

/* --- Leaves and nodes --- */

typedef struct {
    const uint8_t* bytes;
    size_t len;
    uint8_t* out;
    uint8_t* residues; /* of each window; may be NULL */
    uint64_t residue;  /* of all of them, not reduced */
} leaves_t;

static void get_window(void* owner, size_t number, const uint8_t** data, size_t* len)
{
    const leaves_t* leaves = owner;
    size_t at = number * ATLAS_WINDOW_BYTES, left = leaves->len - at;
    *data = leaves->bytes + at;
    *len = left < ATLAS_WINDOW_BYTES ? left : ATLAS_WINDOW_BYTES;
}

static void put_leaf(void* owner, size_t number, const uint8_t* digest, uint8_t residue)
{
    leaves_t* leaves = owner;
    memcpy(leaves->out + HASH * number, digest, HASH);
    leaves->residue += residue;
    if (leaves->residues != NULL)
        leaves->residues[number] = residue;
}

static size_t windows_of(size_t len)
{
    return len / ATLAS_WINDOW_BYTES + (len % ATLAS_WINDOW_BYTES != 0 ? 1 : 0);
}

static void hash_windows(leaves_t* leaves, bool residues)
{
    const atlas_messages_t windows = {
        .count = windows_of(leaves->len),
        .prefix = LEAF_PREFIX,
        .residues = residues,
        .owner = leaves,
        .get = get_window,
        .put = put_leaf,
    };
    atlas_sha256_many(&windows);
}

/* The leaves of a region, and its residue beside them. */
static void hash_leaves(const uint8_t* bytes, size_t len, uint8_t* out, uint64_t* residue)
{
    leaves_t leaves = {.bytes = bytes, .len = len, .out = out};
    hash_windows(&leaves, residue != NULL);
    if (residue != NULL)
        *residue = (*residue % ATLAS_MODULUS + leaves.residue) % ATLAS_MODULUS;
}

typedef struct {
    const uint8_t* pairs;
    uint8_t* out;
} nodes_t;

static void get_pair(void* owner, size_t number, const uint8_t** data, size_t* len)
{
    const nodes_t* nodes = owner;
    *data = nodes->pairs + 2 * HASH * number;
    *len = 2 * HASH;
}

static void put_node(void* owner, size_t number, const uint8_t* digest, uint8_t residue)
{
    const nodes_t* nodes = owner;
    (void)residue;
    memcpy(nodes->out + HASH * number, digest, HASH);
}

/* The nodes above `count` pairs of hashes; out may be where the pairs are: a pair is short, so it is
 * copied before a node is written, and a node is never behind the pairs that were asked for. */
static void hash_nodes(const uint8_t* pairs, size_t count, uint8_t* out)
{
    nodes_t nodes = {.pairs = pairs, .out = out};
    const atlas_messages_t messages = {
        .count = count,
        .prefix = NODE_PREFIX,
        .owner = &nodes,
        .get = get_pair,
        .put = put_node,
    };
    atlas_sha256_many(&messages);
}

static void hash_node(const uint8_t* left, const uint8_t* right, uint8_t* out)
{
    uint8_t message[2 * BLOCK_BYTES] = {NODE_PREFIX};
    uint32_t state[WORDS];
    memcpy(state, INITIAL, sizeof state);
    memcpy(message + 1, left, HASH);
    memcpy(message + 1 + HASH, right, HASH);
    atlas_sha256_pad(message + BLOCK_BYTES, 1 + 2 * HASH - BLOCK_BYTES, 1 + 2 * HASH);
    atlas_kernels()->sha256(state, message, 2);
    atlas_sha256_digest(state, 1, out);
}

/* --- The frontier: roots of the perfect subtrees that the leaves so far make up, one for each bit
 * of their count. RFC 9162 splits n leaves after the largest power of two below n, so its tree is
 * these subtrees, joined from the smallest up. --- */

typedef struct {
    uint64_t count;
    uint8_t roots[64][HASH]; /* roots[k]: of 2^k leaves, where bit k of count is set */
} frontier_t;

/* Adds a perfect subtree of 2^height leaves; 2^height divides the count so far. */
static void frontier_push(frontier_t* frontier, unsigned height, const uint8_t* root)
{
    uint8_t hash[HASH];
    unsigned at = height;
    memcpy(hash, root, HASH);
    for (; (frontier->count >> at & 1) != 0; at++)
        hash_node(frontier->roots[at], hash, hash);
    memcpy(frontier->roots[at], hash, HASH);
    frontier->count += (uint64_t)1 << height;
}

static void frontier_append(frontier_t* frontier, const uint8_t* hashes, size_t count)
{
    uint8_t level[BATCH_WINDOWS / 2 * HASH];
    while (count > 0) {
        unsigned height = 0; /* the largest perfect subtree that fits here */
        while (((uint64_t)2 << height) <= BATCH_WINDOWS && ((uint64_t)2 << height) <= count &&
               (frontier->count >> height & 1) == 0)
            height++;
        size_t run = (size_t)1 << height;
        const uint8_t* root = hashes;
        for (size_t left = run; left > 1; left /= 2) {
            hash_nodes(root, left / 2, level);
            root = level;
        }
        frontier_push(frontier, height, root);
        hashes += HASH * run;
        count -= run;
    }
}

static void frontier_root(const frontier_t* frontier, uint8_t* out)
{
    bool found = false;
    for (unsigned height = 0; height < 64; height++) {
        if ((frontier->count >> height & 1) == 0)
            continue;
        if (found)
            hash_node(frontier->roots[height], out, out);
        else
            memcpy(out, frontier->roots[height], HASH);
        found = true;
    }
    if (!found) {
        const atlas_sha256_t empty = ATLAS_SHA256_EMPTY;
        atlas_sha256_final(&empty, out);
    }
}

static void root_of(const uint8_t* leaves, size_t count, uint8_t* out)
{
    frontier_t frontier;
    frontier.count = 0;
    frontier_append(&frontier, leaves, count);
    frontier_root(&frontier, out);
}

int atlas_tree_leaves(const void* base, size_t len, uint8_t* out, uint64_t* residue)
{
    if (!atlas_is_region(base, len))
        return atlas_error_region(__func__, "base", base, len);
    if (out == NULL && len > 0)
        return atlas_error_null(__func__, "out");
    hash_leaves(base, len, out, residue);
    return atlas_error_clear();
}

int atlas_tree_leaves_residues(const void* base, size_t len, uint8_t* out, uint8_t* residues)
{
    if (!atlas_is_region(base, len))
        return atlas_error_region(__func__, "base", base, len);
    if (len > 0 && (out == NULL || residues == NULL))
        return atlas_error_null(__func__, out == NULL ? "out" : "residues");
    leaves_t leaves = {.bytes = base, .len = len, .out = out, .residues = residues};
    hash_windows(&leaves, true);
    return atlas_error_clear();
}

int atlas_tree_node(const uint8_t* left, const uint8_t* right, uint8_t* out)
{
    if (left == NULL || right == NULL)
        return atlas_error_null(__func__, left == NULL ? "left" : "right");
    if (out == NULL)
        return atlas_error_null(__func__, "out");
    hash_node(left, right, out);
    return atlas_error_clear();
}

int atlas_tree_root(const uint8_t* leaves, size_t count, uint8_t* out)
{
    if (leaves == NULL && count > 0)
        return atlas_error_null(__func__, "leaves");
    if (out == NULL)
        return atlas_error_null(__func__, "out");
    root_of(leaves, count, out);
    return atlas_error_clear();
}

/* --- Many regions --- */

typedef struct {
    const void* const* bases;
    const size_t* lens;
    size_t region, at; /* of the next window */
    uint8_t* leaves;
    uint8_t* residues;
} regions_t;

static void get_next_window(void* owner, size_t number, const uint8_t** data, size_t* len)
{
    regions_t* regions = owner;
    (void)number;
    while (regions->at == regions->lens[regions->region]) {
        regions->region++;
        regions->at = 0;
    }
    size_t left = regions->lens[regions->region] - regions->at;
    *data = (const uint8_t*)regions->bases[regions->region] + regions->at;
    *len = left < ATLAS_WINDOW_BYTES ? left : ATLAS_WINDOW_BYTES;
    regions->at += *len;
}

static void put_next_leaf(void* owner, size_t number, const uint8_t* digest, uint8_t residue)
{
    const regions_t* regions = owner;
    memcpy(regions->leaves + HASH * number, digest, HASH);
    regions->residues[number] = residue;
}

/* The hashes of one level of several trees, each in the place of the first leaf below it. */
typedef struct {
    uint8_t hashes[BATCH_WINDOWS * HASH];
    size_t distance;                 /* between the places of two children */
    size_t lefts[BATCH_WINDOWS / 2]; /* places of left children, and then of their nodes */
    uint8_t pair[2 * HASH];
} level_t;

/* The pair is short, so it is copied before the next one is asked for, or a node is written. */
static void get_children(void* owner, size_t number, const uint8_t** data, size_t* len)
{
    level_t* level = owner;
    const uint8_t* left = level->hashes + HASH * level->lefts[number];
    memcpy(level->pair, left, HASH);
    memcpy(level->pair + HASH, left + HASH * level->distance, HASH);
    *data = level->pair;
    *len = sizeof level->pair;
}

static void put_parent(void* owner, size_t number, const uint8_t* digest, uint8_t residue)
{
    level_t* level = owner;
    (void)residue;
    memcpy(level->hashes + HASH * level->lefts[number], digest, HASH);
}

/* The roots of regions with at most BATCH_WINDOWS leaves together, level by level: what has no right
 * neighbour in its tree is a child of a higher level, as where RFC 9162 splits. */
static void merge_regions(const size_t* lens, size_t count, const uint8_t* leaves, size_t windows,
                          uint8_t* roots)
{
    level_t level;
    size_t pairs;
    if (windows > 0)
        memcpy(level.hashes, leaves, HASH * windows);
    level.distance = 1;
    do {
        size_t first = 0;
        pairs = 0;
        for (size_t i = 0; i < count; first += windows_of(lens[i++]))
            for (size_t at = 0; at + level.distance < windows_of(lens[i]); at += 2 * level.distance)
                level.lefts[pairs++] = first + at;
        const atlas_messages_t messages = {
            .count = pairs,
            .prefix = NODE_PREFIX,
            .owner = &level,
            .get = get_children,
            .put = put_parent,
        };
        atlas_sha256_many(&messages);
        level.distance *= 2;
    } while (pairs > 0);
    const uint8_t* root = level.hashes;
    for (size_t i = 0; i < count; root += HASH * windows_of(lens[i++]))
        if (lens[i] > 0)
            memcpy(roots + HASH * i, root, HASH);
        else
            root_of(NULL, 0, roots + HASH * i);
}

int atlas_tree_leaves_many(const void* const* bases, const size_t* lens, size_t count,
                           uint8_t* leaves, uint8_t* residues, uint8_t* roots)
{
    size_t windows = 0;
    if (count == 0)
        return atlas_error_clear();
    if (bases == NULL || lens == NULL)
        return atlas_error_null(__func__, bases == NULL ? "bases" : "lens");
    for (size_t i = 0; i < count; windows += windows_of(lens[i++]))
        if (!atlas_is_region(bases[i], lens[i]))
            return atlas_error_region_in(__func__, "bases", i, bases[i], lens[i]);
    if (windows > 0 && (leaves == NULL || residues == NULL))
        return atlas_error_null(__func__, leaves == NULL ? "leaves" : "residues");
    if (roots == NULL)
        return atlas_error_null(__func__, "roots");
    regions_t regions = {.bases = bases, .lens = lens, .leaves = leaves, .residues = residues};
    const atlas_messages_t messages = {
        .count = windows,
        .prefix = LEAF_PREFIX,
        .residues = true,
        .owner = &regions,
        .get = get_next_window,
        .put = put_next_leaf,
    };
    atlas_sha256_many(&messages);
    for (size_t begin = 0, end = 0; begin < count; begin = end) {
        for (windows = 0; end < count && windows_of(lens[end]) <= BATCH_WINDOWS - windows; end++)
            windows += windows_of(lens[end]);
        if (end > begin) {
            merge_regions(lens + begin, end - begin, leaves, windows, roots + HASH * begin);
        } else { /* one with more leaves than that */
            windows = windows_of(lens[end++]);
            root_of(leaves, windows, roots + HASH * begin);
        }
        if (windows > 0)
            leaves += HASH * windows;
    }
    return atlas_error_clear();
}

/* --- Streams --- */

struct atlas_tree_stream {
    frontier_t frontier;
    uint64_t length;
    uint64_t residue;
    uint8_t window[ATLAS_WINDOW_BYTES]; /* the length % 12288 bytes behind the leaves */
};

atlas_tree_stream_t* atlas_tree_stream_create(void)
{
    atlas_tree_stream_t* stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        atlas_error_no_memory(__func__, "stream");
        return NULL;
    }
    atlas_error_clear();
    return stream;
}

atlas_tree_stream_t* atlas_tree_stream_copy(const atlas_tree_stream_t* stream)
{
    if (stream == NULL) {
        atlas_error_null(__func__, "stream");
        return NULL;
    }
    atlas_tree_stream_t* copy = malloc(sizeof *copy);
    if (copy == NULL) {
        atlas_error_no_memory(__func__, "stream");
        return NULL;
    }
    *copy = *stream;
    atlas_error_clear();
    return copy;
}

int atlas_tree_stream_update(atlas_tree_stream_t* stream, const void* chunk, size_t n)
{
    if (stream == NULL)
        return atlas_error_null(__func__, "stream");
    if (!atlas_is_region(chunk, n))
        return atlas_error_region(__func__, "chunk", chunk, n);
    const uint8_t* bytes = chunk;
    uint8_t hashes[BATCH_WINDOWS * HASH];
    size_t held = (size_t)(stream->length % ATLAS_WINDOW_BYTES);
    stream->length += n;
    if (held > 0) {
        size_t missing = ATLAS_WINDOW_BYTES - held;
        size_t some = n < missing ? n : missing;
        memcpy(stream->window + held, bytes, some);
        bytes += some;
        n -= some;
        if (some < missing)
            return atlas_error_clear();
        hash_leaves(stream->window, ATLAS_WINDOW_BYTES, hashes, &stream->residue);
        frontier_append(&stream->frontier, hashes, 1);
    }
    while (n >= ATLAS_WINDOW_BYTES) {
        size_t windows = n / ATLAS_WINDOW_BYTES;
        if (windows > BATCH_WINDOWS)
            windows = BATCH_WINDOWS;
        size_t taken = windows * ATLAS_WINDOW_BYTES;
        hash_leaves(bytes, taken, hashes, &stream->residue);
        frontier_append(&stream->frontier, hashes, windows);
        bytes += taken;
        n -= taken;
    }
    if (n > 0)
        memcpy(stream->window, bytes, n);
    return atlas_error_clear();
}

int atlas_tree_stream_append(atlas_tree_stream_t* stream, const uint8_t* leaves, size_t count,
                             uint8_t residue)
{
    if (stream == NULL)
        return atlas_error_null(__func__, "stream");
    if (leaves == NULL && count > 0)
        return atlas_error_null(__func__, "leaves");
    if (residue >= ATLAS_MODULUS)
        return atlas_error_set(ATLAS_E_CONSERVATION, __func__, "residue is %d, must be in 0..%d",
                               residue, ATLAS_MODULUS - 1);
    if (count == 0 && residue != 0)
        return atlas_error_set(ATLAS_E_CONSERVATION, __func__,
                               "residue is %d, must be 0 where count is 0", residue);
    if (stream->length % ATLAS_WINDOW_BYTES != 0)
        return atlas_error_set(ATLAS_E_STATE, __func__, "%d bytes of a window are held, must be 0",
                               (int)(stream->length % ATLAS_WINDOW_BYTES));
    frontier_append(&stream->frontier, leaves, count);
    stream->length += (uint64_t)count * ATLAS_WINDOW_BYTES;
    stream->residue = (stream->residue + residue) % ATLAS_MODULUS;
    return atlas_error_clear();
}

int atlas_tree_stream_root(const atlas_tree_stream_t* stream, uint8_t* out, uint64_t* length,
                           uint8_t* residue)
{
    if (stream == NULL)
        return atlas_error_null(__func__, "stream");
    if (out == NULL)
        return atlas_error_null(__func__, "out");
    frontier_t frontier = stream->frontier;
    uint64_t sum = stream->residue;
    size_t held = (size_t)(stream->length % ATLAS_WINDOW_BYTES);
    if (held > 0) {
        uint8_t hash[HASH];
        hash_leaves(stream->window, held, hash, &sum);
        frontier_append(&frontier, hash, 1);
    }
    frontier_root(&frontier, out);
    if (length != NULL)
        *length = stream->length;
    if (residue != NULL)
        *residue = (uint8_t)sum;
    return atlas_error_clear();
}

void atlas_tree_stream_destroy(atlas_tree_stream_t* stream)
{
    free(stream);
}
