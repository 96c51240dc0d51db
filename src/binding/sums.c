/* SPDX-License-Identifier: Apache-2.0 */
#include "sums.h"

#include "files.h"

#include <string.h>

static int digit_of(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

char* atlas_read_sum(char* text, char* end, size_t name_most, atlas_sum_t* out)
{
    if (end - text < 2 * ATLAS_DIGEST_BYTES + 2)
        return NULL;
    for (size_t i = 0; i < ATLAS_DIGEST_BYTES; i++, text += 2) {
        int high = digit_of(text[0]), low = digit_of(text[1]);
        if (high < 0 || low < 0)
            return NULL;
        out->digest[i] = (uint8_t)(16 * high + low);
    }
    if (text[0] != ' ' || text[1] != ' ')
        return NULL;
    out->name = text += 2;
    for (; text < end && *text != '\n'; text++)
        if (*text == 0 || *text == '\\' || *text == '\r')
            return NULL;
    out->name_len = (size_t)(text - out->name);
    if (text == end || out->name_len == 0 || out->name_len > name_most ||
        (out->name_len == 1 && out->name[0] == '-'))
        return NULL;
    return text;
}

/* Files that are hashed at once. */
enum { FILES_AT_ONCE = 128 };

int atlas_check_sums(const atlas_sum_t* sums, size_t count, uint8_t* room, size_t size,
                     uint8_t* matches)
{
    const void* bases[FILES_AT_ONCE];
    size_t lens[FILES_AT_ONCE], places[FILES_AT_ONCE];
    atlas_witness_t* witnesses[FILES_AT_ONCE];
    memset(matches, 0, count);
    for (size_t i = 0; i < count;) {
        size_t some = 0, filled = 0;
        for (; i < count && some < FILES_AT_ONCE; i++) {
            size_t len = sums[i].size < 0 ? SIZE_MAX : (size_t)sums[i].size;
            if (len > size)
                continue;
            if (len > size - filled)
                break;
            if (!atlas_read_named_file(sums[i].name, len, room + filled))
                continue;
            bases[some] = room + filled;
            lens[some] = len;
            places[some++] = i;
            filled += len;
        }
        if (atlas_witness_generate_many(bases, lens, some, witnesses) != ATLAS_OK)
            return 0;
        for (size_t j = 0; j < some; j++) {
            const uint8_t* digest = atlas_witness_digest(witnesses[j]);
            matches[places[j]] = memcmp(digest, sums[places[j]].digest, ATLAS_DIGEST_BYTES) == 0;
            atlas_witness_destroy(witnesses[j]);
        }
    }
    return 1;
}
