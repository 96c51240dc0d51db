/* SPDX-License-Identifier: Apache-2.0 */
#include "lines.h"

#include "atlas/conservation.h"
#include "folders.h"

#include <string.h>

/* --- Writing --- */

static const char HEX[] = "0123456789abcdef";
/* What begins a digest. */
static const char SHA256[] = ",\"sha256\":\"", ROOT[] = ",\"sha256-merkle-12288\":\"";

char* atlas_write_json(char* to, const char* text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte >= 0x20 && byte != '"' && byte != '\\') {
            *to++ = (char)byte;
            continue;
        }
        *to++ = '\\';
        switch (byte) {
        case '\b': *to++ = 'b'; break;
        case '\f': *to++ = 'f'; break;
        case '\n': *to++ = 'n'; break;
        case '\r': *to++ = 'r'; break;
        case '\t': *to++ = 't'; break;
        case '"':
        case '\\': *to++ = (char)byte; break;
        default:
            memcpy(to, "u00", 3);
            to[3] = HEX[byte >> 4];
            to[4] = HEX[byte & 15];
            to += 5;
        }
    }
    return to;
}

char* atlas_write_number(char* to, int64_t number)
{
    char digits[ATLAS_NUMBER_BYTES];
    size_t count = 0;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    if (number < 0)
        *to++ = '-';
    do
        digits[count++] = (char)('0' + rest % 10);
    while ((rest /= 10) > 0);
    while (count > 0)
        *to++ = digits[--count];
    return to;
}

static char* write_text(char* to, const char* text)
{
    size_t len = strlen(text);
    memcpy(to, text, len);
    return to + len;
}

static char* write_digest(char* to, const char* key, const uint8_t* digest)
{
    to = write_text(to, key);
    for (size_t i = 0; i < ATLAS_DIGEST_BYTES; i++) {
        *to++ = HEX[digest[i] >> 4];
        *to++ = HEX[digest[i] & 15];
    }
    *to++ = '"';
    return to;
}

char* atlas_write_line(char* to, const char* folder, size_t folder_len, const char* name,
                       const uint8_t* result, uint64_t size, int flat, int tree)
{
    to = write_text(to, "{\"path\":\"");
    memcpy(to, folder, folder_len);
    to = atlas_write_json(to + folder_len, name, strlen(name));
    to = write_text(to, "\",\"residue\":");
    to = atlas_write_number(to, result[1]);
    if (flat)
        to = write_digest(to, SHA256, result + ATLAS_RESULT_SHA256);
    if (tree)
        to = write_digest(to, ROOT, result + ATLAS_RESULT_ROOT);
    to = write_text(to, ",\"size\":");
    to = atlas_write_number(to, (int64_t)size);
    *to++ = '}';
    return to;
}

/* --- Reading --- */

static const char* skip(const char* text, const char* end, const char* expected)
{
    size_t len = strlen(expected);
    if (text == NULL || (size_t)(end - text) < len || memcmp(text, expected, len) != 0)
        return NULL;
    return text + len;
}

static int is_name(const char* part, size_t len)
{
    return len > 2 || (len == 1 && part[0] != '.') ||
           (len == 2 && !(part[0] == '.' && part[1] == '.'));
}

/* To the quote that ends a string without escapes. */
static const char* skip_string(const char* text, const char* end)
{
    while (text < end && *text != '"') {
        if ((unsigned char)*text < 0x20 || *text == '\\')
            return NULL;
        text++;
    }
    return text < end ? text : NULL;
}

static int is_path(const char* path, const char* end)
{
    const char* part = path;
    for (; path < end; path++)
        if (*path == '/') {
            if (!is_name(part, (size_t)(path - part)))
                return 0;
            part = path + 1;
        }
    return is_name(part, (size_t)(path - part));
}

static const char* skip_number(const char* text, const char* end, size_t digits_most, int64_t* out)
{
    const char* begin = text;
    *out = 0;
    while (text < end && *text >= '0' && *text <= '9') {
        if ((size_t)(text - begin) == digits_most)
            return NULL;
        *out = 10 * *out + (*text++ - '0');
    }
    return text > begin && (*begin != '0' || text - begin == 1) ? text : NULL;
}

/* Of a lowercase hex digit, one more than its value; else 0. */
static const uint8_t DIGITS[256] = {
    ['0'] = 1, ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9, ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

static const char* skip_digest(const char* text, const char* end)
{
    if (text == NULL || (size_t)(end - text) < 2 * ATLAS_DIGEST_BYTES)
        return NULL;
    int wrong = 0;
    for (size_t i = 0; i < 2 * ATLAS_DIGEST_BYTES; i++)
        wrong |= DIGITS[(unsigned char)text[i]] == 0;
    return wrong ? NULL : text + 2 * ATLAS_DIGEST_BYTES;
}

static const char* read_digest(const char* text, const char* end, const char* key,
                               const char** digest)
{
    *digest = skip(text, end, key);
    return skip(skip_digest(*digest, end), end, "\"");
}

static const char* read_file(const char* text, const char* end, int flat, int tree,
                             atlas_line_t* out)
{
    text = skip(text, end, "\"residue\":");
    if (text == NULL || (text = skip_number(text, end, 2, &out->residue)) == NULL ||
        out->residue >= ATLAS_MODULUS)
        return NULL;
    if (flat)
        text = read_digest(text, end, SHA256, &out->sha256);
    if (tree)
        text = read_digest(text, end, ROOT, &out->root);
    text = skip(text, end, ",\"size\":");
    if (text == NULL || (text = skip_number(text, end, 15, &out->size)) == NULL)
        return NULL;
    return out->size == 0 && out->residue != 0 ? NULL : text;
}

static const char* read_link(const char* text, const char* end, atlas_line_t* out)
{
    text = skip(text, end, "\"symlink\":\"");
    const char* target = text;
    if (text == NULL || (text = skip_string(text, end)) == NULL || text == target)
        return NULL;
    out->target = target;
    out->target_len = (size_t)(text - target);
    return text + 1;
}

const char* atlas_read_line(const char* text, const char* end, int flat, int tree,
                            atlas_line_t* out)
{
    *out = (atlas_line_t){.size = -1};
    text = skip(text, end, "{\"path\":\"");
    if (text == NULL)
        return NULL;
    out->path = text;
    text = skip_string(text, end);
    if (text == NULL || !is_path(out->path, text))
        return NULL;
    out->path_len = (size_t)(text - out->path);
    text = skip(text, end, "\",");
    const char* rest = read_link(text, end, out);
    if (rest == NULL)
        rest = text == NULL ? NULL : read_file(text, end, flat, tree, out);
    return skip(rest, end, "}");
}

void atlas_read_digest(const char* hex, uint8_t* out)
{
    for (size_t i = 0; i < ATLAS_DIGEST_BYTES; i++)
        out[i] = (uint8_t)(16 * (DIGITS[(unsigned char)hex[2 * i]] - 1) +
                           (DIGITS[(unsigned char)hex[2 * i + 1]] - 1));
}

const char* atlas_read_root(const char* text, const char* end)
{
    static const char SIZE[] = "\",\"size\":";
    enum { KEY_BYTES = sizeof ROOT - 1, SIZE_BYTES = sizeof SIZE - 1 };
    const size_t len = KEY_BYTES + 2 * ATLAS_DIGEST_BYTES + SIZE_BYTES;
    end--; /* the brace */
    while (end > text && end[-1] >= '0' && end[-1] <= '9')
        end--;
    if ((size_t)(end - text) < len || memcmp(end - SIZE_BYTES, SIZE, SIZE_BYTES) != 0 ||
        memcmp(end - len, ROOT, KEY_BYTES) != 0)
        return NULL;
    return skip_digest(end - len + KEY_BYTES, end) == NULL ? NULL : end - len + KEY_BYTES;
}

/* --- Hashing --- */

/* Lines that are hashed at once. */
enum { LINES_AT_ONCE = 128 };

int atlas_leaf_hashes(const void* const* messages, const size_t* lens, size_t count, uint8_t* out)
{
    atlas_witness_t* witnesses[LINES_AT_ONCE];
    for (size_t begin = 0; begin < count; begin += LINES_AT_ONCE) {
        size_t some = count - begin < LINES_AT_ONCE ? count - begin : LINES_AT_ONCE;
        if (atlas_witness_generate_many(messages + begin, lens + begin, some, witnesses) !=
            ATLAS_OK)
            return 0;
        for (size_t i = 0; i < some; i++) {
            memcpy(out + (begin + i) * ATLAS_DIGEST_BYTES, atlas_witness_digest(witnesses[i]),
                   ATLAS_DIGEST_BYTES);
            atlas_witness_destroy(witnesses[i]);
        }
    }
    return 1;
}
