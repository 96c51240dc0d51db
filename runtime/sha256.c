/* SPDX-License-Identifier: Apache-2.0
 *
 * SHA-256 (FIPS 180-4) of messages in parts. The kernel compresses whole blocks where they lie;
 * this file holds back what does not fill one, and pads.
 */
#include "internal.h"

#include <string.h>

#define BLOCK_BYTES ATLAS_SHA256_BLOCK_BYTES
#define BIT_LENGTH_BYTES 8 /* the message's length in bits, at the end of the padding */

void atlas_sha256_update(atlas_sha256_t* sha, const void* data, size_t len)
{
    const atlas_kernels_t* kernels = atlas_kernels();
    const uint8_t* bytes = data;
    size_t held = (size_t)(sha->length % BLOCK_BYTES);
    if (len == 0)
        return;
    sha->length += len;
    if (held > 0) {
        size_t missing = BLOCK_BYTES - held;
        if (len < missing) {
            memcpy(sha->held + held, bytes, len);
            return;
        }
        memcpy(sha->held + held, bytes, missing);
        kernels->sha256(sha->state, sha->held, 1);
        bytes += missing;
        len -= missing;
    }
    size_t rest = len % BLOCK_BYTES;
    kernels->sha256(sha->state, bytes, len / BLOCK_BYTES);
    memcpy(sha->held, bytes + len - rest, rest);
}

size_t atlas_sha256_pad(uint8_t* last, size_t held, uint64_t length)
{
    size_t blocks = held + 1 + BIT_LENGTH_BYTES <= BLOCK_BYTES ? 1 : 2;
    size_t bits_at = blocks * BLOCK_BYTES - BIT_LENGTH_BYTES;
    memset(last + held, 0, bits_at - held);
    last[held] = 0x80;
    for (size_t i = 0; i < BIT_LENGTH_BYTES; i++)
        last[bits_at + i] = (uint8_t)(length * 8 >> (56 - 8 * i));
    return blocks;
}

void atlas_sha256_digest(const uint32_t* state, size_t stride, uint8_t* digest)
{
    for (size_t i = 0; i < ATLAS_SHA256_WORDS; i++) {
        /* Four stores in a row: compilers make one of them. */
        uint32_t word = state[i * stride];
        digest[4 * i] = (uint8_t)(word >> 24);
        digest[4 * i + 1] = (uint8_t)(word >> 16);
        digest[4 * i + 2] = (uint8_t)(word >> 8);
        digest[4 * i + 3] = (uint8_t)word;
    }
}

void atlas_sha256_final(const atlas_sha256_t* sha, uint8_t* digest)
{
    uint8_t last[2 * BLOCK_BYTES];
    size_t held = (size_t)(sha->length % BLOCK_BYTES);
    uint32_t state[ATLAS_SHA256_WORDS];
    memcpy(last, sha->held, held);
    memcpy(state, sha->state, sizeof state);
    atlas_kernels()->sha256(state, last, atlas_sha256_pad(last, held, sha->length));
    atlas_sha256_digest(state, 1, digest);
}
