/* SPDX-License-Identifier: Apache-2.0
 *
 * SHA-256 of many messages: the one place that keeps the lanes of the kernel set full. A lane whose
 * message ends takes the next one, of any length. Messages are read where they lie;
 * beside them only their first block, where a prefix shifts it, and their last ones are built.
 * A message may also be the next part of a chain that goes on later: it is not padded then.
 */
#include "internal.h"

#include <string.h>

#define BLOCK_BYTES ATLAS_SHA256_BLOCK_BYTES
#define WORDS ATLAS_SHA256_WORDS

/* A message of so many blocks is copied whole, which takes less time than a call for each of its
 * stretches. */
#define SHORT_BLOCKS 16

/* No call is longer, so that the sum, where it is taken after the call, finds the bytes in the
 * cache. */
#define CALL_BLOCKS 256

/* What one message looks like to the kernel: stretches of blocks, most of them in place. */
enum { HEAD, BODY, TAIL, STRETCHES };

typedef struct {
    const uint8_t* at; /* the next block */
    size_t blocks;     /* still to go */
} stretch_t;

typedef struct {
    size_t message;
    size_t stretch; /* that is being hashed; none before it has blocks */
    stretch_t stretches[STRETCHES];
    size_t unsummed;       /* blocks before the next one that no sum has yet */
    uint64_t added;        /* the sum of the bytes that are not the message's */
    atlas_sha256_t* chain; /* that the message continues; NULL: it is whole */
    uint8_t head[BLOCK_BYTES];
    uint8_t tail[SHORT_BLOCKS * BLOCK_BYTES];
} lane_t;

static const uint32_t INITIAL[WORDS] = ATLAS_SHA256_INITIAL;

/* The first stretch from `stretch` on that has blocks; false where none has. */
static bool find_stretch(lane_t* lane)
{
    while (lane->stretch < STRETCHES && lane->stretches[lane->stretch].blocks == 0)
        lane->stretch++;
    return lane->stretch < STRETCHES;
}

static void start_whole(lane_t* lane, int prefix, const uint8_t* data, size_t len)
{
    size_t prefixed = prefix >= 0 ? 1 : 0;
    uint64_t total = (uint64_t)len + prefixed;
    size_t rest = (size_t)(total % BLOCK_BYTES), whole = (size_t)(total / BLOCK_BYTES);
    stretch_t *head = &lane->stretches[HEAD], *body = &lane->stretches[BODY];
    size_t copied; /* bytes of data that are before its rest in the tail */
    *head = (stretch_t){lane->head, 0};
    *body = (stretch_t){data, 0};
    if (whole + 2 <= SHORT_BLOCKS) {
        copied = whole;
        if (prefixed)
            lane->tail[0] = (uint8_t)prefix;
        if (len > 0)
            memcpy(lane->tail + prefixed, data, len);
    } else {
        copied = 0;
        if (prefixed) {
            lane->head[0] = (uint8_t)prefix;
            memcpy(lane->head + 1, data, BLOCK_BYTES - 1);
            head->blocks = 1;
            body->at = data + BLOCK_BYTES - 1;
        }
        body->blocks = whole - prefixed;
        memcpy(lane->tail, data + len - rest, rest);
    }
    size_t padded = atlas_sha256_pad(lane->tail + copied * BLOCK_BYTES, rest, total);
    lane->stretches[TAIL] = (stretch_t){lane->tail, copied + padded};
    lane->added = 0x80 + (prefixed ? (uint64_t)prefix : 0);
    for (uint64_t bits = total * 8; bits > 0; bits >>= 8)
        lane->added += bits & 0xff;
}

static uint64_t sum_of(const uint8_t* bytes, size_t len)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum += bytes[i];
    return sum;
}

/* The chain holds already what follows the last whole block; its state is the lane's meanwhile. */
static void start_next(lane_t* lane, atlas_sha256_t* chain, const uint8_t* data, size_t len)
{
    size_t held = (size_t)(chain->length % BLOCK_BYTES),
           missing = held > 0 ? BLOCK_BYTES - held : 0;
    lane->added = sum_of(chain->held, held);
    lane->stretches[HEAD] = (stretch_t){lane->head, 0};
    lane->stretches[TAIL] = (stretch_t){lane->tail, 0};
    chain->length += len;
    if (held > 0 && len >= missing) {
        memcpy(lane->head, chain->held, held);
        memcpy(lane->head + held, data, missing);
        lane->stretches[HEAD].blocks = 1;
        data += missing;
        len -= missing;
        held = 0;
    }
    size_t whole = held > 0 ? 0 : len / BLOCK_BYTES, taken = whole * BLOCK_BYTES;
    lane->stretches[BODY] = (stretch_t){data, whole};
    if (len > taken)
        memcpy(chain->held + held, data + taken, len - taken);
    lane->added -= sum_of(chain->held, (size_t)(chain->length % BLOCK_BYTES));
}

/* False where the message fills no block. */
static bool start(lane_t* lane, const atlas_messages_t* messages, size_t message)
{
    const uint8_t* data = NULL;
    size_t len = 0;
    messages->get(messages->owner, message, &data, &len);
    lane->chain = messages->chain != NULL ? messages->chain(messages->owner, message) : NULL;
    if (lane->chain != NULL)
        start_next(lane, lane->chain, data, len);
    else
        start_whole(lane, messages->prefix, data, len);
    lane->message = message;
    lane->stretch = HEAD;
    lane->unsummed = 0;
    return find_stretch(lane);
}

/* --- The columns of a call: states and sums, and which lane is in which --- */

typedef struct {
    const atlas_kernels_t* kernels;
    uint32_t states[WORDS * ATLAS_LANES_MAX]; /* [word][column] */
    uint64_t sums[ATLAS_LANES_MAX];
    lane_t* lanes[ATLAS_LANES_MAX];
    size_t used; /* columns, the first ones */
} columns_t;

static void columns_finish(columns_t* columns, size_t column, const atlas_messages_t* messages)
{
    const lane_t* lane = columns->lanes[column];
    size_t width = (size_t)columns->kernels->lanes;
    uint8_t digest[ATLAS_DIGEST_BYTES], residue = 0;
    if (lane->chain == NULL)
        atlas_sha256_digest(columns->states + column, width, digest);
    else
        for (size_t word = 0; word < WORDS; word++)
            lane->chain->state[word] = columns->states[word * width + column];
    if (messages->residues)
        residue = (uint8_t)((columns->sums[column] - lane->added) % ATLAS_MODULUS);
    messages->put(messages->owner, lane->message, lane->chain == NULL ? digest : NULL, residue);
}

/* Takes the next message that fills a block; false where none is left. */
static bool columns_start(columns_t* columns, size_t column, const atlas_messages_t* messages,
                          size_t* next)
{
    size_t width = (size_t)columns->kernels->lanes;
    lane_t* lane = columns->lanes[column];
    while (*next < messages->count) {
        bool has_blocks = start(lane, messages, (*next)++);
        const uint32_t* state = lane->chain != NULL ? lane->chain->state : INITIAL;
        for (size_t word = 0; word < WORDS; word++)
            columns->states[word * width + column] = state[word];
        columns->sums[column] = 0;
        if (has_blocks)
            return true;
        columns_finish(columns, column, messages);
    }
    return false;
}

/* Leaves out a column: the last one takes its place. */
static void columns_close(columns_t* columns, size_t column)
{
    size_t width = (size_t)columns->kernels->lanes, last = --columns->used;
    lane_t* closed = columns->lanes[column];
    for (size_t word = 0; word < WORDS; word++)
        columns->states[word * width + column] = columns->states[word * width + last];
    columns->sums[column] = columns->sums[last];
    columns->lanes[column] = columns->lanes[last];
    columns->lanes[last] = closed;
}

/* One message alone, for which the lanes would be slower. */
static void compress_one(columns_t* columns, const void* blocks, size_t count)
{
    size_t width = (size_t)columns->kernels->lanes;
    uint32_t state[WORDS];
    for (size_t word = 0; word < WORDS; word++)
        state[word] = columns->states[word * width];
    columns->kernels->sha256(state, blocks, count);
    for (size_t word = 0; word < WORDS; word++)
        columns->states[word * width] = state[word];
}

/* Adds to the sum what of the stretch is not in it yet: of a stretch at once, since a call takes
 * most of the time for a few blocks. */
static void columns_sum(columns_t* columns, size_t column)
{
    lane_t* lane = columns->lanes[column];
    size_t len = lane->unsummed * BLOCK_BYTES;
    if (len > 0)
        columns->sums[column] +=
            columns->kernels->sum(lane->stretches[lane->stretch].at - len, len);
    lane->unsummed = 0;
}

/* Compresses as many blocks of each column as all of them have. */
static void columns_compress(columns_t* columns, bool residues)
{
    const atlas_kernels_t* kernels = columns->kernels;
    const void* pointers[ATLAS_LANES_MAX];
    size_t count = CALL_BLOCKS;
    bool summed = false;
    for (size_t column = 0; column < kernels->lanes; column++) {
        /* Columns to spare repeat one that there is. */
        const lane_t* lane = columns->lanes[column < columns->used ? column : 0];
        const stretch_t* stretch = &lane->stretches[lane->stretch];
        pointers[column] = stretch->at;
        if (stretch->blocks < count)
            count = stretch->blocks;
    }
    if (columns->used == 1)
        compress_one(columns, pointers[0], count);
    else
        summed = kernels->sha256_lanes(columns->states, columns->sums, pointers, count,
                                       columns->used) != 0;
    for (size_t column = 0; column < columns->used; column++) {
        lane_t* lane = columns->lanes[column];
        stretch_t* stretch = &lane->stretches[lane->stretch];
        if (summed)
            columns_sum(columns, column); /* what was before this call */
        stretch->at += count * BLOCK_BYTES;
        stretch->blocks -= count;
        if (residues && !summed)
            lane->unsummed += count;
        if (stretch->blocks == 0 || lane->unsummed >= CALL_BLOCKS)
            columns_sum(columns, column);
    }
}

void atlas_sha256_many(const atlas_messages_t* messages)
{
    lane_t lanes[ATLAS_LANES_MAX];
    columns_t columns;
    size_t next = 0;
    columns.kernels = atlas_kernels();
    columns.used = 0;
    for (size_t lane = 0; lane < ATLAS_LANES_MAX; lane++)
        columns.lanes[lane] = &lanes[lane];
    while (columns.used < columns.kernels->lanes &&
           columns_start(&columns, columns.used, messages, &next))
        columns.used++;
    while (columns.used > 0) {
        columns_compress(&columns, messages->residues);
        /* From the last one on: what takes the place of a closed column has been looked at. */
        for (size_t column = columns.used; column-- > 0;) {
            if (find_stretch(columns.lanes[column]))
                continue;
            columns_finish(&columns, column, messages);
            if (!columns_start(&columns, column, messages, &next))
                columns_close(&columns, column);
        }
    }
}
