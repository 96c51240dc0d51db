/* SPDX-License-Identifier: Apache-2.0
 *
 * Witnesses, their byte form, and streams. The witness of a region is the witness of a stream with
 * one chunk.
 */
#include "internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAGIC_BYTES = 4, FORM_VERSION = 1, ALGORITHM_SHA256 = 1 };
static const char WITNESS_MAGIC[MAGIC_BYTES] = {'A', 'T', 'L', 'W'};
static const char STREAM_MAGIC[MAGIC_BYTES] = {'A', 'T', 'L', 'S'};

/* Offsets of the byte forms; the tables are in the header. */
enum {
    /* the head of both */
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_ALGORITHM = 5,
    AT_RESIDUE = 6,
    AT_RESERVED = 7,
    AT_LENGTH = 8,
    /* of a witness */
    AT_TIMESTAMP = 16,
    AT_DIGEST = 24,
    /* of a stream */
    AT_STATE = 16,
    AT_HELD = 48
};

static const atlas_witness_stream_t EMPTY_STREAM = {.sha = ATLAS_SHA256_EMPTY};

uint64_t atlas_utc_ns(void)
{
    struct timespec now = {0};
    (void)timespec_get(&now, TIME_UTC);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* Window by window, so that the residue reads from the cache what the hash brought there. The hash
 * goes first: it is the slower one, and the CPU fetches ahead while it runs. */
static void absorb(atlas_witness_stream_t* stream, const void* chunk, size_t n)
{
    const uint8_t* bytes = chunk;
    while (n > 0) {
        size_t len = n < ATLAS_WINDOW_BYTES ? n : ATLAS_WINDOW_BYTES;
        atlas_sha256_update(&stream->sha, bytes, len);
        atlas_kernel_conserved_update(&stream->residue, bytes, len);
        bytes += len;
        n -= len;
    }
}

static void finish(const atlas_witness_stream_t* stream, atlas_witness_t* out)
{
    out->length = stream->sha.length;
    out->timestamp_ns = atlas_utc_ns();
    out->residue = (uint8_t)stream->residue;
    atlas_sha256_final(&stream->sha, out->digest);
}

void atlas_witness_measure(atlas_witness_t* out, const void* base, size_t len)
{
    atlas_witness_stream_t stream = EMPTY_STREAM;
    absorb(&stream, base, len);
    finish(&stream, out);
}

atlas_witness_t* atlas_witness_keep(const char* function, const atlas_witness_t* measured)
{
    atlas_witness_t* w = malloc(sizeof *w);
    if (w == NULL) {
        atlas_error_no_memory(function, "witness");
        return NULL;
    }
    *w = *measured;
    atlas_error_clear();
    return w;
}

int atlas_witness_compare(const char* function, const atlas_witness_t* expected,
                          const atlas_witness_t* found)
{
    if (found->residue != expected->residue)
        return atlas_error_set(ATLAS_E_WITNESS, function,
                               "residue of the %" PRIu64 " bytes is %d, must be %d as in the "
                               "witness",
                               found->length, found->residue, expected->residue);
    if (atlas_kernels()->equal(found->digest, expected->digest, ATLAS_DIGEST_BYTES) == 0)
        return atlas_error_set(ATLAS_E_WITNESS, function,
                               "SHA-256 of the %" PRIu64 " bytes differs, must be the digest of "
                               "the witness",
                               found->length);
    return atlas_error_clear();
}

atlas_witness_t* atlas_witness_generate(const void* base, size_t len)
{
    if (base == NULL || !atlas_is_region(base, len)) {
        atlas_error_region(__func__, "base", base, len);
        return NULL;
    }
    atlas_witness_t measured;
    atlas_witness_measure(&measured, base, len);
    return atlas_witness_keep(__func__, &measured);
}

static int verify(const char* function, const atlas_witness_t* w, const void* base, size_t len)
{
    if (w == NULL)
        return atlas_error_null(function, "w");
    if (base == NULL)
        return atlas_error_null(function, "base");
    if (!atlas_is_region(base, len))
        return atlas_error_region(function, "base", base, len);
    if (len != w->length)
        return atlas_error_set(ATLAS_E_WITNESS, function,
                               "length is %zu, must be %" PRIu64 " as in the witness", len,
                               w->length);
    atlas_witness_t found;
    atlas_witness_measure(&found, base, len);
    return atlas_witness_compare(function, w, &found);
}

bool atlas_witness_verify(const atlas_witness_t* w, const void* base, size_t len)
{
    return verify(__func__, w, base, len) == ATLAS_OK;
}

void atlas_witness_destroy(atlas_witness_t* w)
{
    free(w);
}

/* --- Fields --- */

static bool readable(const char* function, const atlas_witness_t* w)
{
    return (w == NULL ? atlas_error_null(function, "w") : atlas_error_clear()) == ATLAS_OK;
}

const char* atlas_witness_algorithm(const atlas_witness_t* w)
{
    return readable(__func__, w) ? "sha256" : NULL;
}

uint64_t atlas_witness_length(const atlas_witness_t* w)
{
    return readable(__func__, w) ? w->length : 0;
}

uint8_t atlas_witness_residue(const atlas_witness_t* w)
{
    return readable(__func__, w) ? w->residue : 0;
}

const uint8_t* atlas_witness_digest(const atlas_witness_t* w)
{
    return readable(__func__, w) ? w->digest : NULL;
}

uint64_t atlas_witness_timestamp_ns(const atlas_witness_t* w)
{
    return readable(__func__, w) ? w->timestamp_ns : 0;
}

/* --- Byte forms --- */

static void store_le(uint8_t* at, uint64_t value, int size)
{
    for (int i = 0; i < size; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t load_le(const uint8_t* at, int size)
{
    uint64_t value = 0;
    for (int i = 0; i < size; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static void store_head(uint8_t* form, const char* magic, uint8_t residue, uint64_t length)
{
    memcpy(form + AT_MAGIC, magic, MAGIC_BYTES);
    form[AT_VERSION] = FORM_VERSION;
    form[AT_ALGORITHM] = ALGORITHM_SHA256;
    form[AT_RESIDUE] = residue;
    form[AT_RESERVED] = 0;
    store_le(form + AT_LENGTH, length, 8);
}

/* What both forms have: `size` bytes, and the fields up to the length. */
static int parse_head(const char* function, const uint8_t* form, size_t len, int size,
                      const char* magic, uint8_t* residue, uint64_t* length)
{
    if (form == NULL)
        return atlas_error_null(function, "bytes");
    if (len != (size_t)size)
        return atlas_error_set(ATLAS_E_WITNESS, function, "len is %zu, must be %d", len, size);
    if (memcmp(form + AT_MAGIC, magic, MAGIC_BYTES) != 0)
        return atlas_error_set(ATLAS_E_WITNESS, function, "magic must be \"%.4s\"", magic);
    const struct {
        const char* name;
        int at;
        uint8_t value;
    } fixed[] = {{"version", AT_VERSION, FORM_VERSION},
                 {"algorithm", AT_ALGORITHM, ALGORITHM_SHA256},
                 {"reserved byte", AT_RESERVED, 0}};
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        if (form[fixed[i].at] != fixed[i].value)
            return atlas_error_set(ATLAS_E_WITNESS, function, "%s is %d, must be %d", fixed[i].name,
                                   form[fixed[i].at], fixed[i].value);
    *residue = form[AT_RESIDUE];
    *length = load_le(form + AT_LENGTH, 8);
    if (*residue >= ATLAS_MODULUS)
        return atlas_error_set(ATLAS_E_WITNESS, function, "residue is %d, must be in 0..%d",
                               *residue, ATLAS_MODULUS - 1);
    if (*length == 0 && *residue != 0)
        return atlas_error_set(ATLAS_E_WITNESS, function,
                               "residue is %d, must be 0 where length is 0", *residue);
    return ATLAS_OK;
}

int atlas_witness_to_bytes(const atlas_witness_t* w, uint8_t out[ATLAS_WITNESS_BYTES])
{
    if (w == NULL)
        return atlas_error_null(__func__, "w");
    if (out == NULL)
        return atlas_error_null(__func__, "out");
    store_head(out, WITNESS_MAGIC, w->residue, w->length);
    store_le(out + AT_TIMESTAMP, w->timestamp_ns, 8);
    memcpy(out + AT_DIGEST, w->digest, ATLAS_DIGEST_BYTES);
    return atlas_error_clear();
}

atlas_witness_t* atlas_witness_from_bytes(const void* bytes, size_t len)
{
    const uint8_t* form = bytes;
    atlas_witness_t parsed;
    if (parse_head(__func__, form, len, ATLAS_WITNESS_BYTES, WITNESS_MAGIC, &parsed.residue,
                   &parsed.length) != ATLAS_OK)
        return NULL;
    parsed.timestamp_ns = load_le(form + AT_TIMESTAMP, 8);
    memcpy(parsed.digest, form + AT_DIGEST, ATLAS_DIGEST_BYTES);
    return atlas_witness_keep(__func__, &parsed);
}

/* --- Streams --- */

static atlas_witness_stream_t* keep_stream(const char* function,
                                           const atlas_witness_stream_t* value)
{
    atlas_witness_stream_t* stream = malloc(sizeof *stream);
    if (stream == NULL) {
        atlas_error_no_memory(function, "stream");
        return NULL;
    }
    *stream = *value;
    atlas_error_clear();
    return stream;
}

atlas_witness_stream_t* atlas_witness_stream_create(void)
{
    return keep_stream(__func__, &EMPTY_STREAM);
}

int atlas_witness_stream_room(const char* function, const char* name,
                              const atlas_witness_stream_t* stream, size_t n)
{
    if (n <= ATLAS_SHA256_MOST_BYTES - stream->sha.length)
        return ATLAS_OK;
    return atlas_error_set(ATLAS_E_STATE, function,
                           "%s is %zu, must be at most %" PRIu64 " behind %" PRIu64 " bytes", name,
                           n, ATLAS_SHA256_MOST_BYTES - stream->sha.length, stream->sha.length);
}

int atlas_witness_stream_update(atlas_witness_stream_t* stream, const void* chunk, size_t n)
{
    if (stream == NULL)
        return atlas_error_null(__func__, "stream");
    if (!atlas_is_region(chunk, n))
        return atlas_error_region(__func__, "chunk", chunk, n);
    int code = atlas_witness_stream_room(__func__, "n", stream, n);
    if (code != ATLAS_OK)
        return code;
    absorb(stream, chunk, n);
    return atlas_error_clear();
}

atlas_witness_t* atlas_witness_stream_witness(const atlas_witness_stream_t* stream)
{
    if (stream == NULL) {
        atlas_error_null(__func__, "stream");
        return NULL;
    }
    atlas_witness_t measured;
    finish(stream, &measured);
    return atlas_witness_keep(__func__, &measured);
}

void atlas_witness_stream_destroy(atlas_witness_stream_t* stream)
{
    free(stream);
}

int atlas_witness_stream_to_bytes(const atlas_witness_stream_t* stream,
                                  uint8_t out[ATLAS_WITNESS_STREAM_BYTES])
{
    if (stream == NULL)
        return atlas_error_null(__func__, "stream");
    if (out == NULL)
        return atlas_error_null(__func__, "out");
    const atlas_sha256_t* sha = &stream->sha;
    size_t held = (size_t)(sha->length % ATLAS_SHA256_BLOCK_BYTES);
    store_head(out, STREAM_MAGIC, (uint8_t)stream->residue, sha->length);
    for (int i = 0; i < ATLAS_SHA256_WORDS; i++)
        store_le(out + AT_STATE + 4 * i, sha->state[i], 4);
    /* Bytes that an earlier block left after them are not part of the state. */
    memset(out + AT_HELD, 0, ATLAS_SHA256_BLOCK_BYTES);
    memcpy(out + AT_HELD, sha->held, held);
    return atlas_error_clear();
}

/* Of a stream that has not filled a block, the form has all bytes; they decide all other fields. */
static int check_beginning(const char* function, const atlas_witness_stream_t* stream)
{
    for (int i = 0; i < ATLAS_SHA256_WORDS; i++) {
        uint32_t found = stream->sha.state[i], first = EMPTY_STREAM.sha.state[i];
        if (found != first)
            return atlas_error_set(ATLAS_E_WITNESS, function,
                                   "word %d of the hash is %08" PRIx32 ", must be %08" PRIx32
                                   " where length is below %d",
                                   i, found, first, ATLAS_SHA256_BLOCK_BYTES);
    }
    uint8_t residue = atlas_residue_of(stream->sha.held, (size_t)stream->sha.length);
    if (stream->residue != residue)
        return atlas_error_set(ATLAS_E_WITNESS, function,
                               "residue is %d, must be %d as of the bytes where length is below %d",
                               (int)stream->residue, residue, ATLAS_SHA256_BLOCK_BYTES);
    return ATLAS_OK;
}

static int parse_stream(const char* function, const uint8_t* form, size_t len,
                        atlas_witness_stream_t* out)
{
    atlas_sha256_t* sha = &out->sha;
    uint8_t residue;
    out->claimed = false;
    int code = parse_head(function, form, len, ATLAS_WITNESS_STREAM_BYTES, STREAM_MAGIC, &residue,
                          &sha->length);
    if (code != ATLAS_OK)
        return code;
    out->residue = residue;
    if (sha->length > ATLAS_SHA256_MOST_BYTES)
        return atlas_error_set(ATLAS_E_WITNESS, function,
                               "length is %" PRIu64 ", must be at most %" PRIu64, sha->length,
                               ATLAS_SHA256_MOST_BYTES);
    for (int i = 0; i < ATLAS_SHA256_WORDS; i++)
        sha->state[i] = (uint32_t)load_le(form + AT_STATE + 4 * i, 4);
    memcpy(sha->held, form + AT_HELD, ATLAS_SHA256_BLOCK_BYTES);
    size_t held = (size_t)(sha->length % ATLAS_SHA256_BLOCK_BYTES);
    for (size_t i = held; i < ATLAS_SHA256_BLOCK_BYTES; i++)
        if (sha->held[i] != 0)
            return atlas_error_set(ATLAS_E_WITNESS, function,
                                   "byte %zu of the block is %d, must be 0 behind the %zu that it "
                                   "holds",
                                   i, sha->held[i], held);
    return sha->length < ATLAS_SHA256_BLOCK_BYTES ? check_beginning(function, out) : ATLAS_OK;
}

atlas_witness_stream_t* atlas_witness_stream_from_bytes(const void* bytes, size_t len)
{
    atlas_witness_stream_t parsed;
    if (parse_stream(__func__, bytes, len, &parsed) != ATLAS_OK)
        return NULL;
    return keep_stream(__func__, &parsed);
}
