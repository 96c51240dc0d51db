/* SPDX-License-Identifier: Apache-2.0
 *
 * Loops and threads that drive the functions of any library, given as pointers, for
 * `atlas12288 conformance`. In C, since threads of Python take turns and a race needs two that run
 * at once. A library of its own, `_driver`, which knows neither Python nor libatlas12288.
 */
#ifndef ATLAS_DRIVER_H
#define ATLAS_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ATLAS_DRIVE_THREADS_MAX 64

/* The functions of the contract, with handles as void*. */
typedef void* (*atlas_drive_create_t)(size_t bytes, uint8_t budget_class);
typedef int (*atlas_drive_attach_t)(void* domain, void* base, size_t len);
typedef bool (*atlas_drive_domain_verify_t)(const void* domain);
typedef int (*atlas_drive_commit_t)(void* domain);
typedef bool (*atlas_drive_budget_t)(void* domain, uint8_t amt);
typedef void* (*atlas_drive_generate_t)(const void* base, size_t len);
typedef bool (*atlas_drive_verify_t)(const void* w, const void* base, size_t len);
typedef void (*atlas_drive_destroy_t)(void* handle);
typedef int (*atlas_drive_copy_t)(void* dst, const void* src, size_t len);
typedef int (*atlas_drive_fill_t)(void* dst, uint8_t value, size_t len);

/* The functions with threads return false when a thread cannot be started, or threads is above
 * ATLAS_DRIVE_THREADS_MAX. All threads wait for the last one, then go on together; again and again
 * one is stopped inside the library, wherever it is, until others have gone on. */

/* Each thread commits the domain once; codes[i] is what thread i was given. */
bool atlas_drive_commits(atlas_drive_commit_t commit, void* domain, int* codes, size_t threads);

/* How long threads go on that repeat their work: until each has done `rounds` of it and one was
 * stopped while others went on for `stalls` times, but not longer than `ns` nanoseconds. Time
 * counts from when all are ready, so that a busy machine takes longer and tries no less. */
typedef struct {
    uint64_t rounds, stalls, ns;
} atlas_drive_effort_t;

typedef struct {
    uint64_t taken;     /* allocs that succeeded                                      */
    uint64_t given;     /* releases that succeeded                                    */
    uint64_t refused;   /* releases that failed                                       */
    uint64_t overdrawn; /* how often more than `budget` was taken at the same time    */
    bool enough;        /* was the effort made before the time was over?              */
} atlas_drive_budget_result_t;

/* In each round a thread takes `amt` and gives it back where it was given. `parted`: every second
 * thread only takes, and the others only give, so that the budget goes round; `overdrawn` is 0. */
bool atlas_drive_budget(atlas_drive_budget_t alloc, atlas_drive_budget_t release, void* domain,
                        uint8_t amt, uint32_t budget, bool parted, size_t threads,
                        const atlas_drive_effort_t* effort, atlas_drive_budget_result_t* result);

typedef struct {
    uint64_t wrong; /* verdicts that were not the expected one */
    bool enough;
} atlas_drive_verdict_result_t;

/* Thread i verifies domains[i], whose verdict is expected[i]. */
bool atlas_drive_verdicts(atlas_drive_domain_verify_t verify, void* const* domains,
                          const bool* expected, size_t threads, const atlas_drive_effort_t* effort,
                          atlas_drive_verdict_result_t* result);

typedef struct {
    uint64_t missing; /* generate gave NULL                                      */
    uint64_t refused; /* verify was false for the region that was witnessed      */
    uint64_t missed;  /* verify was true for the region of another thread        */
    bool enough;
} atlas_drive_witness_result_t;

/* In each round thread i makes the witness of regions[i * len .. (i + 1) * len), verifies it with
 * that region and with the next thread's, and destroys it. */
bool atlas_drive_witnesses(atlas_drive_generate_t generate, atlas_drive_verify_t verify,
                           atlas_drive_destroy_t destroy, const uint8_t* regions, size_t len,
                           size_t threads, const atlas_drive_effort_t* effort,
                           atlas_drive_witness_result_t* result);

/* What a thread needs to use all of the contract. */
typedef struct {
    atlas_drive_create_t create;
    atlas_drive_attach_t attach;
    atlas_drive_domain_verify_t verify;
    atlas_drive_budget_t alloc, release;
    atlas_drive_commit_t commit;
    atlas_drive_destroy_t destroy;
    atlas_drive_generate_t generate;
    atlas_drive_verify_t matches;
    atlas_drive_destroy_t forget;
} atlas_drive_contract_t;

/* Each thread makes a domain of the region, uses and commits it, makes a witness, is refused
 * something, destroys all it made, and ends. */
bool atlas_drive_lives(const atlas_drive_contract_t* contract, void* region, size_t len,
                       size_t threads);

/* Nanoseconds of `repeats` calls; 0 when a call refused. */
uint64_t atlas_drive_copy_ns(atlas_drive_copy_t copy, void* dst, const void* src, size_t len,
                             uint64_t repeats);
uint64_t atlas_drive_fill_ns(atlas_drive_fill_t fill, void* dst, uint8_t value, size_t len,
                             uint64_t repeats);

#endif /* ATLAS_DRIVER_H */
