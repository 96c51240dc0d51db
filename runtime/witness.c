/* SPDX-License-Identifier: Apache-2.0
 *
 * Witnesses, their byte form, and streams. A witness of a region is that of a stream with one
 * chunk.
 */
#include "internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char MAGIC[4] = {'A', 'T', 'L', 'W'};
enum { FORM_VERSION = 1, ALGORITHM_SHA256 = 1 };

/* Offsets of the byte form; the table is in the header. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_ALGORITHM = 5,
    AT_RESIDUE = 6,
    AT_RESERVED = 7,
    AT_LENGTH = 8,
    AT_TIMESTAMP = 16,
    AT_DIGEST = 24
};

struct atlas_witness_stream {
    atlas_sha256_t sha;
    uint64_t residue;
};

static const atlas_witness_stream_t EMPTY_STREAM = {.sha = ATLAS_SHA256_EMPTY};

/* The one place that reads a clock. */
static uint64_t now_ns(void)
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
    out->timestamp_ns = now_ns();
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
    if (base == NULL) {
        atlas_error_null(__func__, "base");
        return NULL;
    }
    atlas_witness_t measured;
    atlas_witness_measure(&measured, base, len);
    return atlas_witness_keep(__func__, &measured);
}

static int verify(const char* function, const atlas_witness_t* w, const void* base,
                  size_t len)
{
    if (w == NULL)
        return atlas_error_null(function, "w");
    if (base == NULL)
        return atlas_error_null(function, "base");
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

/* --- Byte form --- */

static void store_le64(uint8_t* at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t load_le64(const uint8_t* at)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

int atlas_witness_to_bytes(const atlas_witness_t* w, uint8_t out[ATLAS_WITNESS_BYTES])
{
    if (w == NULL)
        return atlas_error_null(__func__, "w");
    if (out == NULL)
        return atlas_error_null(__func__, "out");
    memcpy(out + AT_MAGIC, MAGIC, sizeof MAGIC);
    out[AT_VERSION] = FORM_VERSION;
    out[AT_ALGORITHM] = ALGORITHM_SHA256;
    out[AT_RESIDUE] = w->residue;
    out[AT_RESERVED] = 0;
    store_le64(out + AT_LENGTH, w->length);
    store_le64(out + AT_TIMESTAMP, w->timestamp_ns);
    memcpy(out + AT_DIGEST, w->digest, ATLAS_DIGEST_BYTES);
    return atlas_error_clear();
}

static int parse(const char* function, const uint8_t* form, size_t len,
                 atlas_witness_t* out)
{
    if (form == NULL)
        return atlas_error_null(function, "bytes");
    if (len != ATLAS_WITNESS_BYTES)
        return atlas_error_set(ATLAS_E_WITNESS, function, "len is %zu, must be %d", len,
                               ATLAS_WITNESS_BYTES);
    if (memcmp(form + AT_MAGIC, MAGIC, sizeof MAGIC) != 0)
        return atlas_error_set(ATLAS_E_WITNESS, function, "magic must be \"%.4s\"", MAGIC);
    const struct {
        const char* name;
        int at;
        uint8_t value;
    } fixed[] = {{"version", AT_VERSION, FORM_VERSION},
                 {"algorithm", AT_ALGORITHM, ALGORITHM_SHA256},
                 {"reserved byte", AT_RESERVED, 0}};
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        if (form[fixed[i].at] != fixed[i].value)
            return atlas_error_set(ATLAS_E_WITNESS, function, "%s is %d, must be %d",
                                   fixed[i].name, form[fixed[i].at], fixed[i].value);
    out->residue = form[AT_RESIDUE];
    out->length = load_le64(form + AT_LENGTH);
    out->timestamp_ns = load_le64(form + AT_TIMESTAMP);
    memcpy(out->digest, form + AT_DIGEST, ATLAS_DIGEST_BYTES);
    if (out->residue >= ATLAS_MODULUS)
        return atlas_error_set(ATLAS_E_WITNESS, function, "residue is %d, must be in 0..%d",
                               out->residue, ATLAS_MODULUS - 1);
    if (out->length == 0 && out->residue != 0)
        return atlas_error_set(ATLAS_E_WITNESS, function,
                               "residue is %d, must be 0 where length is 0", out->residue);
    return ATLAS_OK;
}

atlas_witness_t* atlas_witness_from_bytes(const void* bytes, size_t len)
{
    atlas_witness_t parsed;
    if (parse(__func__, bytes, len, &parsed) != ATLAS_OK)
        return NULL;
    return atlas_witness_keep(__func__, &parsed);
}

/* --- Streams --- */

atlas_witness_stream_t* atlas_witness_stream_create(void)
{
    atlas_witness_stream_t* stream = malloc(sizeof *stream);
    if (stream == NULL) {
        atlas_error_no_memory(__func__, "stream");
        return NULL;
    }
    *stream = EMPTY_STREAM;
    atlas_error_clear();
    return stream;
}

int atlas_witness_stream_update(atlas_witness_stream_t* stream, const void* chunk, size_t n)
{
    if (stream == NULL)
        return atlas_error_null(__func__, "stream");
    if (chunk == NULL && n > 0)
        return atlas_error_null(__func__, "chunk");
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
