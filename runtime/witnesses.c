/* SPDX-License-Identifier: Apache-2.0
 *
 * Witnesses of many regions at once, and many streams, see lanes.c.
 */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const void* const* bases;
    const size_t* lens;
    atlas_witness_t** made;
} regions_t;

static void get_region(void* owner, size_t number, const uint8_t** data, size_t* len)
{
    const regions_t* regions = owner;
    *data = regions->bases[number];
    *len = regions->lens[number];
}

static void put_witness(void* owner, size_t number, const uint8_t* digest, uint8_t residue)
{
    const regions_t* regions = owner;
    atlas_witness_t* w = regions->made[number];
    w->length = regions->lens[number];
    w->timestamp_ns = atlas_utc_ns();
    w->residue = residue;
    memcpy(w->digest, digest, ATLAS_DIGEST_BYTES);
}

static void destroy_all(atlas_witness_t** made, size_t count)
{
    while (count > 0)
        free(made[--count]);
    free(made);
}

/* Room for `count` witnesses; NULL where there is not enough memory for all of them. */
static atlas_witness_t** create_all(size_t count)
{
    atlas_witness_t** made = calloc(count, sizeof *made);
    for (size_t i = 0; made != NULL && i < count; i++) {
        made[i] = malloc(sizeof **made);
        if (made[i] == NULL) {
            destroy_all(made, i);
            return NULL;
        }
    }
    return made;
}

int atlas_witness_generate_many(const void* const* bases, const size_t* lens, size_t count,
                                atlas_witness_t** out)
{
    if (count == 0)
        return atlas_error_clear();
    if (bases == NULL || lens == NULL)
        return atlas_error_null(__func__, bases == NULL ? "bases" : "lens");
    if (out == NULL)
        return atlas_error_null(__func__, "out");
    for (size_t i = 0; i < count; i++)
        if (bases[i] == NULL || !atlas_is_region(bases[i], lens[i]))
            return atlas_error_region_in(__func__, "bases", i, bases[i], lens[i]);
    regions_t regions = {.bases = bases, .lens = lens, .made = create_all(count)};
    if (regions.made == NULL)
        return atlas_error_no_memory(__func__, "witness");
    const atlas_messages_t messages = {
        .count = count,
        .prefix = -1,
        .residues = true,
        .owner = &regions,
        .get = get_region,
        .put = put_witness,
    };
    atlas_sha256_many(&messages);
    memcpy(out, regions.made, count * sizeof *out);
    free(regions.made);
    return atlas_error_clear();
}

/* --- Many streams --- */

typedef struct {
    atlas_witness_stream_t* const* streams;
    const void* const* chunks;
    const size_t* lens;
} chunks_t;

static void get_chunk(void* owner, size_t number, const uint8_t** data, size_t* len)
{
    const chunks_t* all = owner;
    *data = all->chunks[number];
    *len = all->lens[number];
}

static void put_chunk(void* owner, size_t number, const uint8_t* digest, uint8_t residue)
{
    const chunks_t* all = owner;
    atlas_witness_stream_t* stream = all->streams[number];
    (void)digest;
    stream->residue = (stream->residue + residue) % ATLAS_MODULUS;
}

static atlas_sha256_t* chain_of(void* owner, size_t number)
{
    const chunks_t* all = owner;
    return &all->streams[number]->sha;
}

/* Whether stream `i` can take its chunk; it is claimed then. */
static int claim(const char* function, const chunks_t* all, size_t i)
{
    char argument[sizeof "streams[18446744073709551615]"];
    atlas_witness_stream_t* stream = all->streams[i];
    (void)snprintf(argument, sizeof argument, "streams[%zu]", i);
    if (stream == NULL)
        return atlas_error_null(function, argument);
    if (stream->claimed)
        return atlas_error_set(ATLAS_E_STATE, function, "%s is an earlier one again", argument);
    if (!atlas_is_region(all->chunks[i], all->lens[i]))
        return atlas_error_region_in(function, "chunks", i, all->chunks[i], all->lens[i]);
    (void)snprintf(argument, sizeof argument, "lens[%zu]", i);
    int code = atlas_witness_stream_room(function, argument, stream, all->lens[i]);
    stream->claimed = code == ATLAS_OK;
    return code;
}

int atlas_witness_stream_update_many(atlas_witness_stream_t* const* streams,
                                     const void* const* chunks, const size_t* lens, size_t count)
{
    chunks_t all = {streams, chunks, lens};
    int code = ATLAS_OK;
    size_t claimed = 0;
    if (count == 0)
        return atlas_error_clear();
    if (streams == NULL)
        return atlas_error_null(__func__, "streams");
    if (chunks == NULL || lens == NULL)
        return atlas_error_null(__func__, chunks == NULL ? "chunks" : "lens");
    while (claimed < count && (code = claim(__func__, &all, claimed)) == ATLAS_OK)
        claimed++;
    if (code == ATLAS_OK) {
        const atlas_messages_t messages = {
            .count = count,
            .prefix = -1,
            .residues = true,
            .owner = &all,
            .get = get_chunk,
            .put = put_chunk,
            .chain = chain_of,
        };
        atlas_sha256_many(&messages);
    }
    while (claimed > 0)
        streams[--claimed]->claimed = false;
    return code == ATLAS_OK ? atlas_error_clear() : code;
}
