/* SPDX-License-Identifier: Apache-2.0
 *
 * What the WebAssembly module has beside the C API: memory for the host's bytes, and the clock.
 */
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

/* Memory for `size` bytes, which atlas_host_free() gives back; NULL where there is none. No object
 * of C is larger than PTRDIFF_MAX; the C library's malloc wraps around near SIZE_MAX. */
void* atlas_host_alloc(size_t size)
{
    return size > PTRDIFF_MAX ? NULL : malloc(size == 0 ? 1 : size);
}

void atlas_host_free(void* memory)
{
    free(memory);
}

/* The only import of the module: nanoseconds since 1970-01-01T00:00:00Z. */
__attribute__((import_module("atlas"), import_name("now_ns"))) uint64_t atlas_host_now_ns(void);

/* In place of the one of the C library, which asks WASI. */
int timespec_get(struct timespec* now, int base)
{
    uint64_t ns = atlas_host_now_ns();
    now->tv_sec = (time_t)(ns / 1000000000U);
    now->tv_nsec = (long)(ns % 1000000000U);
    return base;
}
