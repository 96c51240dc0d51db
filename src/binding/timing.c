/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */

#include "timing.h"

#include "clock.h"

#include <stdbool.h>
#include <string.h>

#include "atlas/conservation.h"

#define FILL_VALUE 0x5A
#define BUDGET_AMOUNT 10
#define LINE_BYTES 64 /* a cache line */

/* What one run of an operation may use. The domain and the witness are made before the clock
 * starts. */
typedef struct {
    void* dst;
    const void* src;
    size_t len;
    atlas_domain_t* domain;
    atlas_witness_t* witness;
} operands_t;

/* memcpy and memset are called through volatile pointers: the compiler knows what they do, and
 * would drop or merge the calls. The library's functions are opaque to it. */
static void* (*volatile call_memcpy)(void*, const void*, size_t) = memcpy;
static void* (*volatile call_memset)(void*, int, size_t) = memset;

/* Results that an operation has no other use for go here, so that computing them is not dropped. */
static volatile uint8_t sink;

static bool run_memcpy(const operands_t* on)
{
    call_memcpy(on->dst, on->src, on->len);
    return true;
}

static bool run_memset(const operands_t* on)
{
    call_memset(on->dst, FILL_VALUE, on->len);
    return true;
}

/* What memory can give: one byte of each line. The whole line comes to the core for it, and what
 * bounds this is how fast lines come, not how wide a load is. */
static uint8_t read_lines(const uint8_t* bytes, size_t len)
{
    uint64_t bits = 0; /* a whole register: parts of one are slower to change */
    for (size_t i = 0; i < len; i += LINE_BYTES)
        bits |= bytes[i];
    return (uint8_t)bits;
}

static bool run_read(const operands_t* on)
{
    sink = read_lines(on->src, on->len);
    return true;
}

/* One after the other, which is faster than in turns, line by line. */
static bool run_read_both(const operands_t* on)
{
    sink = read_lines(on->dst, on->len) | read_lines(on->src, on->len);
    return true;
}

static bool run_conserved_memcpy(const operands_t* on)
{
    return atlas_conserved_memcpy(on->dst, on->src, on->len) == ATLAS_OK;
}

static bool run_conserved_memset(const operands_t* on)
{
    return atlas_conserved_memset(on->dst, FILL_VALUE, on->len) == ATLAS_OK;
}

static bool run_residue(const operands_t* on)
{
    sink = atlas_conserved_residue(on->src, on->len);
    return true;
}

static bool run_delta(const operands_t* on)
{
    sink = atlas_conserved_delta(on->dst, on->src, on->len);
    return true;
}

static bool run_witness_generate(const operands_t* on)
{
    atlas_witness_t* witness = atlas_witness_generate(on->src, on->len);
    atlas_witness_destroy(witness);
    return witness != NULL;
}

static bool run_witness_verify(const operands_t* on)
{
    return atlas_witness_verify(on->witness, on->src, on->len);
}

static bool run_tree(const operands_t* on)
{
    uint8_t root[ATLAS_DIGEST_BYTES];
    atlas_tree_stream_t* stream = atlas_tree_stream_create();
    const bool done = atlas_tree_stream_update(stream, on->src, on->len) == ATLAS_OK &&
                      atlas_tree_stream_root(stream, root, NULL, NULL) == ATLAS_OK;
    atlas_tree_stream_destroy(stream);
    return done;
}

static bool run_budget(const operands_t* on)
{
    return atlas_budget_alloc(on->domain, BUDGET_AMOUNT) &&
           atlas_budget_release(on->domain, BUDGET_AMOUNT);
}

static const struct {
    const char* name;
    bool (*run)(const operands_t* on);
} operations[] = {
    {"memcpy", run_memcpy},
    {"memset", run_memset},
    {"read", run_read},
    {"read_both", run_read_both},
    {"conserved_memcpy", run_conserved_memcpy},
    {"conserved_memset", run_conserved_memset},
    {"residue", run_residue},
    {"delta", run_delta},
    {"witness_generate", run_witness_generate},
    {"witness_verify", run_witness_verify},
    {"tree", run_tree},
    {"budget", run_budget},
};
#define OPERATION_COUNT (sizeof operations / sizeof operations[0])

const char* atlas_timed_operation(size_t index)
{
    return index < OPERATION_COUNT ? operations[index].name : NULL;
}

/* 0 when a run fails: a refused operation is much faster than a done one, and must not be timed. */
static uint64_t time_runs(bool (*run)(const operands_t*), const operands_t* on, uint64_t repeats)
{
    const uint64_t start = monotonic_ns();
    for (uint64_t i = 0; i < repeats; i++)
        if (!run(on))
            return 0;
    const uint64_t elapsed = monotonic_ns() - start;
    return elapsed > 0 ? elapsed : 1;
}

uint64_t atlas_time_operation(const char* name, void* dst, const void* src, size_t len,
                              uint64_t repeats)
{
    size_t index = 0;
    while (index < OPERATION_COUNT && strcmp(name, operations[index].name) != 0)
        index++;
    if (index == OPERATION_COUNT || repeats == 0)
        return 0;
    bool (*const run)(const operands_t*) = operations[index].run;
    operands_t on = {dst, src, len, NULL, NULL};
    on.domain = atlas_domain_create(ATLAS_WINDOW_BYTES, BUDGET_AMOUNT);
    if (run == run_witness_verify) /* hashes all bytes: not before each operation */
        on.witness = atlas_witness_generate(src, len);
    /* Where either could not be made, the run itself fails. */
    const uint64_t elapsed = time_runs(run, &on, repeats);
    atlas_witness_destroy(on.witness);
    atlas_domain_destroy(on.domain);
    return elapsed;
}
