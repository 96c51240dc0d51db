/* SPDX-License-Identifier: Apache-2.0
 *
 * What the WebAssembly module has beside the C API: memory for the host's bytes, and the clock.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

/* --- Memory for the host's bytes --- */

/* Large blocks are whole pages of WebAssembly: malloc takes powers of two for them, and keeps what
 * is freed for blocks of the same power. All are in a list, in the order of their addresses. */
typedef struct block {
    struct block* next;
    size_t pages;
    bool used;
} block_t;

enum { PAGE = 1 << 16, HEADER = 64 }; /* the header: so many that what follows is aligned to them */

static block_t* blocks;

/* Is the block right before an address? */
static bool is_before(const block_t* block, uintptr_t address)
{
    return (uintptr_t)block + block->pages * PAGE == address;
}

/* A free block of so many pages at the end of the memory, where no other one has so many. */
static block_t* grown(size_t pages)
{
    block_t* last = NULL;
    block_t** end = &blocks;
    for (; *end != NULL; end = &last->next)
        last = *end;
    bool extends = last != NULL && !last->used &&
                   is_before(last, (uintptr_t)__builtin_wasm_memory_size(0) * PAGE);
    size_t missing = extends ? pages - last->pages : pages;
    size_t first = __builtin_wasm_memory_grow(0, missing);
    if (first == SIZE_MAX)
        return NULL;
    if (extends) {
        last->pages = pages;
        return last;
    }
    *end = (block_t*)(first * PAGE);
    **end = (block_t){NULL, pages, false};
    return *end;
}

static void* block_alloc(size_t size)
{
    size_t pages = (size + HEADER + PAGE - 1) / PAGE;
    block_t* block = blocks;
    while (block != NULL && (block->used || block->pages < pages))
        block = block->next;
    if (block == NULL && (block = grown(pages)) == NULL)
        return NULL;
    if (block->pages > pages) {
        block_t* rest = (block_t*)((uintptr_t)block + pages * PAGE);
        *rest = (block_t){block->next, block->pages - pages, false};
        block->next = rest;
        block->pages = pages;
    }
    block->used = true;
    return (char*)block + HEADER;
}

/* Makes one block of it and the next, where both are free and side by side. */
static void join(block_t* block)
{
    block_t* next = block->next;
    if (block->used || next == NULL || next->used || !is_before(block, (uintptr_t)next))
        return;
    block->pages += next->pages;
    block->next = next->next;
}

/* False where it is no block. */
static bool block_free(void* memory)
{
    block_t* before = NULL;
    block_t* block = blocks;
    while (block != NULL && (char*)block + HEADER != (char*)memory) {
        before = block;
        block = block->next;
    }
    if (block == NULL)
        return false;
    block->used = false;
    join(block);
    if (before != NULL)
        join(before);
    return true;
}

/* Memory for `size` bytes, which atlas_host_free() gives back; NULL where there is none. No object
 * of C is larger than PTRDIFF_MAX. */
void* atlas_host_alloc(size_t size)
{
    if (size > PTRDIFF_MAX)
        return NULL;
    return size < PAGE ? malloc(size == 0 ? 1 : size) : block_alloc(size);
}

void atlas_host_free(void* memory)
{
    if (!block_free(memory))
        free(memory);
}

/* --- The clock --- */

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
