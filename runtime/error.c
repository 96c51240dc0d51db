/* SPDX-License-Identifier: Apache-2.0
 *
 * The last error of each thread, the texts of the codes, and the versions.
 */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>

/* The longest text of the runtime is about 150 bytes with 64-bit numbers; longer ones are cut. */
#define TEXT_BYTES 256

static ATLAS_THREAD_LOCAL struct {
    atlas_error_t code;
    char text[TEXT_BYTES];
} last_error;

int atlas_error_set(atlas_error_t code, const char* function, const char* format, ...)
{
    last_error.code = code;
    int used = snprintf(last_error.text, TEXT_BYTES, "%s: ", function);
    va_list values;
    va_start(values, format);
    if (used > 0 && used < TEXT_BYTES)
        vsnprintf(last_error.text + used, TEXT_BYTES - (size_t)used, format, values);
    va_end(values);
    return (int)code;
}

int atlas_error_null(const char* function, const char* argument)
{
    return atlas_error_set(ATLAS_E_MEMORY, function, "%s is NULL, must not be NULL", argument);
}

int atlas_error_region(const char* function, const char* argument, const void* base, size_t len)
{
    if (base == NULL)
        return atlas_error_null(function, argument);
    return atlas_error_set(ATLAS_E_MEMORY, function,
                           "the %zu bytes of %s wrap around the end of the address space, must end "
                           "before it",
                           len, argument);
}

int atlas_error_region_in(const char* function, const char* array, size_t i, const void* base,
                          size_t len)
{
    char argument[48];
    (void)snprintf(argument, sizeof argument, "%s[%zu]", array, i);
    return atlas_error_region(function, argument, base, len);
}

int atlas_error_no_memory(const char* function, const char* object)
{
    return atlas_error_set(ATLAS_E_MEMORY, function, "no memory for a %s", object);
}

int atlas_error_residue(const char* function, const char* region, size_t len, unsigned residue)
{
    return atlas_error_set(ATLAS_E_CONSERVATION, function,
                           "residue of the %zu %s bytes is %u, must be 0 (mod %d)", len, region,
                           residue, ATLAS_MODULUS);
}

int atlas_error_clear(void)
{
    last_error.code = ATLAS_OK;
    last_error.text[0] = '\0';
    return ATLAS_OK;
}

const char* atlas_get_last_error(void)
{
    return last_error.text;
}

atlas_error_t atlas_get_last_error_code(void)
{
    return last_error.code;
}

const char* atlas_error_string(int code)
{
    switch (code) {
    case ATLAS_OK: return "success";
    case ATLAS_E_CONSERVATION: return "conservation law violated";
    case ATLAS_E_WITNESS: return "witness verification failed";
    case ATLAS_E_BUDGET: return "budget constraint violated";
    case ATLAS_E_MEMORY: return "memory allocation failed";
    case ATLAS_E_STATE: return "invalid state transition";
    default: return "unknown error code";
    }
}

uint32_t atlas_api_version(void)
{
    return ATLAS_API_VERSION;
}

const char* atlas_version(void)
{
    return ATLAS_VERSION; /* from the build */
}
