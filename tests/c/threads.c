/* SPDX-License-Identifier: Apache-2.0
 *
 * Many threads on one domain: budgets lose and invent nothing, a commit happens once, and no
 * thread sees another's error.
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>

#define STACK_BYTES ((size_t)256 << 10) /* a thousand default stacks would need gigabytes */

typedef struct {
    pthread_barrier_t* start;
    atlas_domain_t* domain;
    uint32_t random; /* this thread's generator: xorshift32, never 0 */
    uint64_t taken, returned;
    int result;
    const atlas_witness_t* witness;
} worker_t;

static uint32_t next_random(worker_t* worker)
{
    uint32_t x = worker->random;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return worker->random = x;
}

static void in_threads(size_t count, void* (*work)(void*), worker_t* workers,
                       atlas_domain_t* domain)
{
    pthread_t* threads = calloc(count, sizeof *threads);
    pthread_attr_t attributes;
    pthread_barrier_t start;
    CHECK(threads != NULL);
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0);
    CHECK(pthread_barrier_init(&start, NULL, (unsigned)count) == 0);
    for (size_t i = 0; i < count; i++) {
        workers[i] = (worker_t){.start = &start, .domain = domain, .random = (uint32_t)i + 1};
        CHECK(pthread_create(&threads[i], &attributes, work, &workers[i]) == 0);
    }
    for (size_t i = 0; i < count; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(pthread_barrier_destroy(&start) == 0);
    CHECK(pthread_attr_destroy(&attributes) == 0);
    free(threads);
}

static uint8_t budget_of(const atlas_domain_t* domain)
{
    uint8_t budget;
    CHECK(atlas_budget_available(domain, &budget) == ATLAS_OK);
    CHECK(budget < ATLAS_MODULUS);
    return budget;
}

/* --- Budgets --- */

enum { BUDGET_THREADS = 1000, BUDGET_ROUNDS = 200 };
static worker_t budget_workers[BUDGET_THREADS];

static uint8_t random_amount(worker_t* worker)
{
    return (uint8_t)(next_random(worker) % ATLAS_MODULUS);
}

static void* alloc_and_release(void* argument)
{
    worker_t* worker = argument;
    pthread_barrier_wait(worker->start);
    for (int i = 0; i < BUDGET_ROUNDS; i++) {
        uint8_t amt = random_amount(worker);
        if (atlas_budget_alloc(worker->domain, amt))
            worker->taken += amt;
        else
            CHECK(atlas_get_last_error_code() == ATLAS_E_BUDGET);
        budget_of(worker->domain);
        amt = random_amount(worker);
        CHECK(atlas_budget_release(worker->domain, amt));
        worker->returned += amt;
        budget_of(worker->domain);
    }
    return NULL;
}

static void case_budget_sum(void)
{
    atlas_domain_t* domain = atlas_domain_create(1, 50);
    in_threads(BUDGET_THREADS, alloc_and_release, budget_workers, domain);
    uint64_t taken = 0, returned = 0;
    for (size_t i = 0; i < BUDGET_THREADS; i++) {
        taken += budget_workers[i].taken;
        returned += budget_workers[i].returned;
    }
    CHECK(taken > 0);
    CHECK((budget_of(domain) + taken) % ATLAS_MODULUS == (50 + returned) % ATLAS_MODULUS);
    atlas_domain_destroy(domain);
}

/* Gives back exactly what it took: the budget never wraps, the sums are equal, not only mod 96. */
static void* borrow(void* argument)
{
    worker_t* worker = argument;
    pthread_barrier_wait(worker->start);
    for (int i = 0; i < BUDGET_ROUNDS; i++) {
        uint8_t amt = random_amount(worker);
        if (!atlas_budget_alloc(worker->domain, amt))
            continue;
        worker->taken += amt;
        CHECK(budget_of(worker->domain) + amt < ATLAS_MODULUS);
        CHECK(atlas_budget_release(worker->domain, amt));
    }
    return NULL;
}

static void case_budget_borrowed(void)
{
    atlas_domain_t* domain = atlas_domain_create(1, ATLAS_MODULUS - 1);
    in_threads(BUDGET_THREADS, borrow, budget_workers, domain);
    CHECK(budget_of(domain) == ATLAS_MODULUS - 1);
    atlas_domain_destroy(domain);
}

/* Takes units until there are none. */
static void* take_one(void* argument)
{
    worker_t* worker = argument;
    pthread_barrier_wait(worker->start);
    while (atlas_budget_alloc(worker->domain, 1))
        worker->taken++;
    CHECK(atlas_get_last_error_code() == ATLAS_E_BUDGET);
    return NULL;
}

static void case_budget_drained(void)
{
    atlas_domain_t* domain = atlas_domain_create(1, 77);
    in_threads(BUDGET_THREADS, take_one, budget_workers, domain);
    uint64_t taken = 0;
    for (size_t i = 0; i < BUDGET_THREADS; i++)
        taken += budget_workers[i].taken;
    CHECK(taken == 77);
    CHECK(budget_of(domain) == 0);
    atlas_domain_destroy(domain);
}

/* --- Commits and attaches --- */

enum { RACE_THREADS = 64, RACE_ROUNDS = 50 };
static worker_t race_workers[RACE_THREADS];
static uint8_t region[ATLAS_WINDOW_BYTES]; /* zeros: conserved */

static void* commit(void* argument)
{
    worker_t* worker = argument;
    pthread_barrier_wait(worker->start);
    worker->result = atlas_domain_commit(worker->domain);
    CHECK((int)atlas_get_last_error_code() == worker->result);
    CHECK((worker->result == ATLAS_OK) == (atlas_get_last_error()[0] == '\0'));
    worker->witness = atlas_domain_witness(worker->domain); /* whoever won, it is there now */
    CHECK(atlas_witness_length(worker->witness) == sizeof region);
    return NULL;
}

static void case_commit_race(void)
{
    for (int round = 0; round < RACE_ROUNDS; round++) {
        atlas_domain_t* domain = atlas_domain_create(sizeof region, 0);
        CHECK(atlas_domain_attach(domain, region, sizeof region) == ATLAS_OK);
        in_threads(RACE_THREADS, commit, race_workers, domain);
        size_t committed = 0;
        for (size_t i = 0; i < RACE_THREADS; i++) {
            committed += race_workers[i].result == ATLAS_OK;
            CHECK(race_workers[i].result == ATLAS_OK || race_workers[i].result == ATLAS_E_STATE);
            CHECK(race_workers[i].witness == race_workers[0].witness);
        }
        CHECK(committed == 1);
        CHECK(atlas_domain_verify(domain));
        atlas_domain_destroy(domain);
    }
}

static void* attach(void* argument)
{
    worker_t* worker = argument;
    pthread_barrier_wait(worker->start);
    worker->result = atlas_domain_attach(worker->domain, region, sizeof region);
    if (!atlas_domain_verify(worker->domain)) /* claimed by another, and not yet published */
        CHECK(atlas_get_last_error_code() == ATLAS_E_STATE);
    return NULL;
}

static void case_attach_race(void)
{
    for (int round = 0; round < RACE_ROUNDS; round++) {
        atlas_domain_t* domain = atlas_domain_create(sizeof region, 0);
        in_threads(RACE_THREADS, attach, race_workers, domain);
        size_t attached = 0;
        for (size_t i = 0; i < RACE_THREADS; i++) {
            attached += race_workers[i].result == ATLAS_OK;
            CHECK(race_workers[i].result == ATLAS_OK || race_workers[i].result == ATLAS_E_STATE);
        }
        CHECK(attached == 1);
        CHECK(atlas_domain_verify(domain));
        atlas_domain_destroy(domain);
    }
}

/* --- Errors and kernel sets --- */

static void* own_error(void* argument)
{
    worker_t* worker = argument;
    pthread_barrier_wait(worker->start);
    for (int i = 0; i < BUDGET_ROUNDS; i++) {
        uint8_t amt = (uint8_t)(ATLAS_MODULUS + worker->random % 100); /* this thread's own */
        char expected[80];
        snprintf(expected, sizeof expected, "atlas_budget_release: amt is %d, must be in 0..95",
                 amt);
        CHECK(!atlas_budget_release(worker->domain, amt));
        CHECK(strcmp(atlas_get_last_error(), expected) == 0);
    }
    return NULL;
}

static void case_error_per_thread(void)
{
    atlas_domain_t* domain = atlas_domain_create(1, 0);
    CHECK(!atlas_domain_verify(domain));
    in_threads(RACE_THREADS, own_error, race_workers, domain);
    CHECK(atlas_get_last_error_code() == ATLAS_E_STATE);
    CHECK(strncmp(atlas_get_last_error(), "atlas_domain_verify: ", 21) == 0);
    atlas_domain_destroy(domain);
}

static void* witness_while_sets_change(void* argument)
{
    worker_t* worker = argument;
    pthread_barrier_wait(worker->start);
    for (int i = 0; i < RACE_ROUNDS; i++) {
        for (size_t set = next_random(worker) % 2; atlas_kernel_set_name(set) != NULL; set += 2)
            if (atlas_kernel_set_supported(atlas_kernel_set_name(set)))
                CHECK(atlas_kernel_set_select(atlas_kernel_set_name(set)) == ATLAS_OK);
        CHECK(atlas_domain_verify(worker->domain));
    }
    return NULL;
}

static void case_select_while_in_use(void)
{
    char before[64];
    snprintf(before, sizeof before, "%s", atlas_kernel_set());
    atlas_domain_t* domain = atlas_domain_create(sizeof region, 0);
    CHECK(atlas_domain_attach(domain, region, sizeof region) == ATLAS_OK);
    CHECK(atlas_domain_commit(domain) == ATLAS_OK);
    in_threads(8, witness_while_sets_change, race_workers, domain);
    atlas_domain_destroy(domain);
    CHECK(atlas_kernel_set_select(before) == ATLAS_OK);
}

/* --- Seals --- */

enum { SEAL_THREADS = 8, SEAL_ROUNDS = 50 };
static atlas_region_t* raced_region;

/* A domain of its own on the same region. */
static void* commit_sealed(void* argument)
{
    worker_t* worker = argument;
    size_t size = atlas_region_size(raced_region);
    worker->domain = atlas_domain_create(size, 0);
    CHECK(atlas_domain_attach(worker->domain, atlas_region_payload(raced_region), size) ==
          ATLAS_OK);
    pthread_barrier_wait(worker->start);
    worker->result = atlas_domain_commit_sealed(worker->domain, raced_region);
    CHECK(atlas_domain_verify(worker->domain));
    return NULL;
}

static void case_seal_race(void)
{
    for (int round = 0; round < SEAL_ROUNDS; round++) {
        size_t committed = 0;
        raced_region = atlas_region_create(3 * ATLAS_WINDOW_BYTES);
        in_threads(SEAL_THREADS, commit_sealed, race_workers, NULL);
        CHECK(atlas_region_sealed(raced_region));
        for (size_t i = 0; i < SEAL_THREADS; i++) {
            CHECK(race_workers[i].result == ATLAS_OK || race_workers[i].result == ATLAS_E_STATE);
            committed += race_workers[i].result == ATLAS_OK;
            atlas_domain_destroy(race_workers[i].domain);
        }
        CHECK(committed >= 1);
        atlas_region_destroy(raced_region);
    }
}

/* --- Scrubbing while a region is sealed --- */

enum { SCRUB_THREADS = 6, SCRUB_ROUNDS = 30, SCRUB_WINDOWS = 5 };
enum { SCRUB_BYTES = SCRUB_WINDOWS * ATLAS_WINDOW_BYTES };

/* The sanitizer takes a mapping that goes over another one for a write. It is none to who reads: the
 * bytes are the same. */
#if defined(__GNUC__)
__attribute__((noinline, no_sanitize("thread")))
#endif
static bool all_are(const uint8_t* bytes, uint8_t value)
{
    for (size_t i = 0; i < SCRUB_BYTES; i++)
        if (bytes[i] != value)
            return false;
    return true;
}

static void scrub(const uint8_t* bytes)
{
    uint8_t residues[SCRUB_WINDOWS];
    uint8_t leaves[SCRUB_WINDOWS * ATLAS_DIGEST_BYTES];
    CHECK(atlas_conserved_window_residues(bytes, SCRUB_BYTES, residues) == ATLAS_OK);
    for (size_t i = 0; i < SCRUB_WINDOWS; i++)
        CHECK(residues[i] == 0);
    CHECK(atlas_tree_leaves_residues(bytes, SCRUB_BYTES, leaves, residues) == ATLAS_OK);
    for (size_t i = 1; i < SCRUB_WINDOWS; i++)
        CHECK(memcmp(leaves, leaves + i * ATLAS_DIGEST_BYTES, ATLAS_DIGEST_BYTES) == 0);
    CHECK(all_are(bytes, 7));
}

/* Reads the windows until the region is sealed, once more then, and once by its descriptor. */
static void* scrub_until_sealed(void* argument)
{
    worker_t* worker = argument;
    const uint8_t* bytes = atlas_region_payload(raced_region);
    bool last = false;
    int fd;
    pthread_barrier_wait(worker->start);
    while (!last) {
        last = atlas_region_sealed(raced_region);
        scrub(bytes);
    }
    if (atlas_region_fd(raced_region, &fd) == ATLAS_OK) {
        atlas_region_t* same = atlas_region_from_fd(fd);
        CHECK(same != NULL);
        scrub(atlas_region_payload(same));
        atlas_region_destroy(same);
    } else { /* a system without memory that can be sealed */
        CHECK(atlas_get_last_error_code() == ATLAS_E_STATE);
    }
    return NULL;
}

static void* seal_or_scrub(void* argument)
{
    worker_t* worker = argument;
    return worker->random == 1 ? commit_sealed(worker) : scrub_until_sealed(worker);
}

static void case_scrub_while_sealed(void)
{
    for (int round = 0; round < SCRUB_ROUNDS; round++) {
        CHECK((raced_region = atlas_region_create(SCRUB_BYTES)) != NULL);
        CHECK(atlas_region_fill(raced_region, 7) == ATLAS_OK);
        in_threads(SCRUB_THREADS, seal_or_scrub, race_workers, NULL);
        CHECK(race_workers[0].result == ATLAS_OK);
        atlas_domain_destroy(race_workers[0].domain);
        atlas_region_destroy(raced_region);
    }
}

#define CASES(X)                                                                                   \
    X(budget_sum, "1000 threads: the budget is the first one - allocs + releases, in 0..95")       \
    X(budget_borrowed, "1000 threads that return what they took leave the budget as it was")       \
    X(budget_drained, "1000 threads together take a budget of 77 exactly")                         \
    X(commit_race, "64 racing commits: one ATLAS_OK, every other ATLAS_E_STATE, one witness")      \
    X(attach_race, "64 racing attaches: one ATLAS_OK, every other ATLAS_E_STATE")                  \
    X(seal_race, "of racing seals one seals; the others commit later or are told to wait")         \
    X(scrub_while_sealed,                                                                          \
      "who reads the windows reads on while they are sealed, and by descriptor")                   \
    X(error_per_thread, "each thread has its own last error")                                      \
    X(select_while_in_use, "another kernel set may be chosen while threads work")

CHECK_MAIN(CASES)
