/* SPDX-License-Identifier: Apache-2.0
 *
 * Witnesses of many regions at once, see lanes.c.
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
        if (bases[i] == NULL || !atlas_is_region(bases[i], lens[i])) {
            char argument[sizeof "bases[18446744073709551615]"];
            (void)snprintf(argument, sizeof argument, "bases[%zu]", i);
            return atlas_error_region(__func__, argument, bases[i], lens[i]);
        }
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
