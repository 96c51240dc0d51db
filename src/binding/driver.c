/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* clock_gettime, sigaction */

#include "driver.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#define EXPORTED __attribute__((visibility("default")))

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* --- Threads that start together --- */

/* A thread that meets this signal stops for STALL_NS wherever it is. Between a check and what depends
 * on it, that is what a race needs: without, two threads would have to be in the same nanoseconds,
 * and on one core it would take days. */
#define STALL_SIGNAL SIGUSR2
#define STALL_NS 50000
#define BETWEEN_STALLS_NS 20000

typedef struct team team_t;

typedef struct {
    team_t* team;
    size_t index;
} member_t;

struct team {
    void (*work)(size_t index, void* job);
    void* job;
    size_t threads;
    atomic_size_t ready, done;
    atomic_bool cancelled;
};

static void sleep_ns(long ns)
{
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

static void stall(int signal)
{
    (void)signal;
    sleep_ns(STALL_NS);
}

static void* member(void* argument)
{
    const member_t* self = argument;
    team_t* team = self->team;
    atomic_fetch_add(&team->ready, 1);
    /* Spins: who sleeps at a barrier is woken one after the other. Yields, since there may be fewer
     * cores than threads. */
    while (atomic_load(&team->ready) < team->threads)
        sched_yield();
    if (!atomic_load(&team->cancelled))
        team->work(self->index, team->job);
    atomic_fetch_add(&team->done, 1);
    return NULL;
}

static bool together(size_t threads, void (*work)(size_t index, void* job), void* job)
{
    pthread_t handles[ATLAS_DRIVE_THREADS_MAX];
    member_t members[ATLAS_DRIVE_THREADS_MAX];
    team_t team = {.work = work, .job = job, .threads = threads};
    struct sigaction stalling = {.sa_handler = stall, .sa_flags = SA_RESTART}, before;
    if (threads > ATLAS_DRIVE_THREADS_MAX || sigaction(STALL_SIGNAL, &stalling, &before) != 0)
        return false;
    size_t started = 0;
    while (started < threads) {
        members[started] = (member_t){&team, started};
        if (pthread_create(&handles[started], NULL, member, &members[started]) != 0)
            break;
        started++;
    }
    if (started < threads) {
        atomic_store(&team.cancelled, true);
        atomic_fetch_add(&team.ready, threads - started);
    }
    for (size_t next = 0; atomic_load(&team.done) < started; next++) {
        pthread_kill(handles[next % started], STALL_SIGNAL);
        sleep_ns(BETWEEN_STALLS_NS);
    }
    for (size_t i = 0; i < started; i++)
        pthread_join(handles[i], NULL);
    sigaction(STALL_SIGNAL, &before, NULL);
    return started == threads;
}

/* --- Commits --- */

typedef struct {
    atlas_drive_commit_t commit;
    void* domain;
    int* codes;
} commits_t;

static void commit_once(size_t index, void* job)
{
    commits_t* commits = job;
    commits->codes[index] = commits->commit(commits->domain);
}

EXPORTED bool atlas_drive_commits(atlas_drive_commit_t commit, void* domain, int* codes,
                                  size_t threads)
{
    commits_t job = {commit, domain, codes};
    return together(threads, commit_once, &job);
}

/* --- Budgets --- */

#define ROUNDS_A_LOOK 64 /* at the clock, which costs more than a round */

typedef struct {
    atlas_drive_budget_t alloc, release;
    void* domain;
    uint8_t amt;
    uint32_t budget;
    uint64_t end_ns;
    atomic_uint_fast32_t held; /* never more than what is taken: added after, removed before */
    atomic_uint_fast64_t taken, refused, overdrawn;
} budget_t;

static void take_and_give(size_t index, void* job)
{
    (void)index;
    budget_t* on = job;
    uint64_t taken = 0, refused = 0, overdrawn = 0;
    for (uint64_t i = 0; i % ROUNDS_A_LOOK != 0 || now_ns() < on->end_ns; i++) {
        if (!on->alloc(on->domain, on->amt))
            continue;
        taken++;
        if (atomic_fetch_add(&on->held, on->amt) + on->amt > on->budget)
            overdrawn++;
        atomic_fetch_sub(&on->held, on->amt);
        if (!on->release(on->domain, on->amt))
            refused++;
    }
    atomic_fetch_add(&on->taken, taken);
    atomic_fetch_add(&on->refused, refused);
    atomic_fetch_add(&on->overdrawn, overdrawn);
}

EXPORTED bool atlas_drive_budget(atlas_drive_budget_t alloc, atlas_drive_budget_t release,
                                 void* domain, uint8_t amt, uint32_t budget, size_t threads,
                                 uint64_t ns, atlas_drive_budget_result_t* result)
{
    budget_t job = {.alloc = alloc,
                    .release = release,
                    .domain = domain,
                    .amt = amt,
                    .budget = budget,
                    .end_ns = now_ns() + ns};
    bool ran = together(threads, take_and_give, &job);
    *result = (atlas_drive_budget_result_t){job.taken, job.refused, job.overdrawn};
    return ran;
}

/* --- Witnesses --- */

typedef struct {
    atlas_drive_generate_t generate;
    atlas_drive_verify_t verify;
    atlas_drive_destroy_t destroy;
    const uint8_t* regions;
    size_t len, threads;
    uint64_t rounds;
    atomic_uint_fast64_t missing, refused, missed;
} witnesses_t;

static void witness_and_verify(size_t index, void* job)
{
    witnesses_t* on = job;
    const uint8_t* own = on->regions + index * on->len;
    const uint8_t* other = on->regions + (index + 1) % on->threads * on->len;
    for (uint64_t i = 0; i < on->rounds; i++) {
        void* witness = on->generate(own, on->len);
        if (witness == NULL) {
            atomic_fetch_add(&on->missing, 1);
            continue;
        }
        if (!on->verify(witness, own, on->len))
            atomic_fetch_add(&on->refused, 1);
        if (on->verify(witness, other, on->len))
            atomic_fetch_add(&on->missed, 1);
        on->destroy(witness);
    }
}

EXPORTED bool atlas_drive_witnesses(atlas_drive_generate_t generate, atlas_drive_verify_t verify,
                                    atlas_drive_destroy_t destroy, const uint8_t* regions,
                                    size_t len, size_t threads, uint64_t rounds,
                                    atlas_drive_witness_result_t* result)
{
    witnesses_t job = {.generate = generate,
                       .verify = verify,
                       .destroy = destroy,
                       .regions = regions,
                       .len = len,
                       .threads = threads,
                       .rounds = rounds};
    bool ran = together(threads, witness_and_verify, &job);
    *result = (atlas_drive_witness_result_t){job.missing, job.refused, job.missed};
    return ran;
}

/* --- Time --- */

EXPORTED uint64_t atlas_drive_copy_ns(atlas_drive_copy_t copy, void* dst, const void* src,
                                      size_t len, uint64_t repeats)
{
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < repeats; i++)
        if (copy(dst, src, len) != 0)
            return 0;
    return now_ns() - start;
}

EXPORTED uint64_t atlas_drive_fill_ns(atlas_drive_fill_t fill, void* dst, uint8_t value, size_t len,
                                      uint64_t repeats)
{
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < repeats; i++)
        if (fill(dst, value, len) != 0)
            return 0;
    return now_ns() - start;
}
