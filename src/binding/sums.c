/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */

#include "sums.h"

#include "clock.h"
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

static int is_escaped(char byte)
{
    return byte == '\\' || byte == '\n' || byte == '\r';
}

char* atlas_write_sum(char* to, const atlas_sum_t* sum)
{
    static const char HEX[] = "0123456789abcdef";
    size_t escaped = 0;
    for (size_t i = 0; i < sum->name_len; i++)
        escaped += is_escaped(sum->name[i]);
    if (escaped > 0)
        *to++ = '\\';
    for (size_t i = 0; i < ATLAS_DIGEST_BYTES; i++) {
        *to++ = HEX[sum->digest[i] >> 4];
        *to++ = HEX[sum->digest[i] & 15];
    }
    *to++ = ' ';
    *to++ = ' ';
    if (escaped == 0) {
        memcpy(to, sum->name, sum->name_len);
        to += sum->name_len;
    } else {
        for (size_t i = 0; i < sum->name_len; i++) {
            char byte = sum->name[i];
            if (is_escaped(byte))
                *to++ = '\\';
            *to++ = byte == '\n' ? 'n' : byte == '\r' ? 'r' : byte;
        }
    }
    *to++ = '\n';
    return to;
}

/* Files that are hashed at once. */
enum { FILES_AT_ONCE = 128 };

/* Hashes files that were read. Where their digests are not taken, they are compared. */
static int hash_some(atlas_sum_t* const* sums, const void* const* bases, const size_t* lens,
                     size_t count, int take, uint8_t* const* flags)
{
    atlas_witness_t* witnesses[FILES_AT_ONCE];
    if (atlas_witness_generate_many(bases, lens, count, witnesses) != ATLAS_OK)
        return 0;
    for (size_t i = 0; i < count; i++) {
        const uint8_t* digest = atlas_witness_digest(witnesses[i]);
        if (take)
            memcpy(sums[i]->digest, digest, ATLAS_DIGEST_BYTES);
        *flags[i] = take || memcmp(digest, sums[i]->digest, ATLAS_DIGEST_BYTES) == 0;
        atlas_witness_destroy(witnesses[i]);
    }
    return 1;
}

static size_t hash_files(atlas_sum_t* sums, size_t count, uint8_t* room, size_t size,
                         uint64_t stop_ns, int take, uint8_t* flags)
{
    atlas_sum_t* some[FILES_AT_ONCE];
    const void* bases[FILES_AT_ONCE];
    size_t lens[FILES_AT_ONCE];
    uint8_t* its_flags[FILES_AT_ONCE];
    uint64_t begin = monotonic_ns();
    size_t done = 0;
    memset(flags, 0, count);
    while (done < count && (done == 0 || monotonic_ns() - begin < stop_ns)) {
        size_t number = 0, filled = 0;
        for (; done < count && number < FILES_AT_ONCE; done++) {
            size_t len = sums[done].size < 0 ? SIZE_MAX : (size_t)sums[done].size;
            if (done > 0 && monotonic_ns() - begin >= stop_ns)
                break;
            if (len > size)
                continue;
            if (len > size - filled)
                break;
            if (!atlas_read_named_file(sums[done].name, len, room + filled))
                continue;
            some[number] = &sums[done];
            its_flags[number] = &flags[done];
            bases[number] = room + filled;
            lens[number++] = len;
            filled = atlas_next_place(filled, len, size);
        }
        if (!hash_some(some, bases, lens, number, take, its_flags))
            return 0;
    }
    return done;
}

size_t atlas_check_sums(atlas_sum_t* sums, size_t count, uint8_t* room, size_t size,
                        uint64_t stop_ns, uint8_t* matches)
{
    return hash_files(sums, count, room, size, stop_ns, 0, matches);
}

size_t atlas_take_sums(atlas_sum_t* sums, size_t count, uint8_t* room, size_t size,
                       uint64_t stop_ns, uint8_t* read)
{
    return hash_files(sums, count, room, size, stop_ns, 1, read);
}
