/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* clock_gettime, sigaction */

#include "driver.h"

#include "clock.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#define EXPORTED __attribute__((visibility("default")))

/* --- Threads that start together --- */

/* A thread that meets this signal inside the library stops there until others have gone on. Between
 * a check and what depends on it, that is what a race needs: without, two threads would have to be
 * in the same nanoseconds, and on one core it would take days. One at a time: were all of them
 * stopped, none would go on. */
#define STALL_SIGNAL SIGUSR2
#define BETWEEN_SIGNALS_NS 20000
#define LOOK_NS 50000 /* between looks at the others */
/* They may wait for a lock that the stopped one holds, or for a core. */
#define LOOKS_MOST 200
/* Where there is but one call, and many teams. Without an end, a call that others wait for would be
 * stopped again and again, and on a busy machine each time for long. */
#define STALLING_ONCE_NS 10000000

typedef struct team team_t;

typedef struct {
    _Alignas(64) team_t* team; /* a cache line each: counting must not be what they meet at */
    size_t index;
    volatile sig_atomic_t inside; /* the library */
    atomic_uint_fast64_t rounds;
} member_t;

typedef void work_t(member_t* self, void* job);

struct team {
    work_t* work;
    void* job;
    size_t threads;
    uint64_t others; /* rounds of the others that are worth a stall */
    member_t members[ATLAS_DRIVE_THREADS_MAX];
    atomic_size_t ready, done;
    atomic_bool cancelled, over, stalled; /* is one stopped? */
    atomic_uint_fast64_t stalls, stalling_until_ns;
};

static _Thread_local member_t* own;

/* Marks a call of the library: what is between is where the thread is stopped. */
#define ENTER(self) ((self)->inside = 1)
#define LEAVE(self) ((self)->inside = 0)

static void sleep_ns(long ns)
{
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

static uint64_t rounds_of_others(const member_t* self)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < self->team->threads; i++)
        if (i != self->index)
            sum += atomic_load(&self->team->members[i].rounds);
    return sum;
}

static bool others_go_on(team_t* team)
{
    return !atomic_load(&team->over) && atomic_load(&team->done) + 1 < team->threads &&
           monotonic_ns() < atomic_load(&team->stalling_until_ns);
}

static void stall(int signal)
{
    (void)signal;
    team_t* team = own->team;
    if (!own->inside || atomic_exchange(&team->stalled, true))
        return;
    int error = errno;
    uint64_t goal = rounds_of_others(own) + team->others;
    for (int look = 0; look < LOOKS_MOST && others_go_on(team); look++) {
        sleep_ns(LOOK_NS);
        if (rounds_of_others(own) >= goal) {
            atomic_fetch_add(&team->stalls, 1);
            break;
        }
    }
    atomic_store(&team->stalled, false);
    errno = error;
}

static void mask_stalls(int how)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, STALL_SIGNAL);
    pthread_sigmask(how, &signals, NULL);
}

static void* member(void* argument)
{
    own = argument;
    team_t* team = own->team;
    mask_stalls(SIG_UNBLOCK); /* from now on there is something to find in `own` */
    atomic_fetch_add(&team->ready, 1);
    /* Spins: who sleeps at a barrier is woken one after the other. Yields, since there may be fewer
     * cores than threads. */
    while (atomic_load(&team->ready) < team->threads)
        sched_yield();
    if (!atomic_load(&team->cancelled))
        team->work(own, team->job);
    atomic_fetch_add(&team->done, 1);
    return NULL;
}

static bool made(const team_t* team, const atlas_drive_effort_t* effort)
{
    for (size_t i = 0; i < team->threads; i++)
        if (atomic_load(&team->members[i].rounds) < effort->rounds)
            return false;
    return atomic_load(&team->stalls) >= effort->stalls;
}

/* Runs the work in all threads. Without an effort, it ends by itself; with one, when `over` is set.
 * *enough: was the effort made? */
static bool together(size_t threads, work_t* work, void* job, const atlas_drive_effort_t* effort,
                     bool* enough)
{
    pthread_t handles[ATLAS_DRIVE_THREADS_MAX];
    team_t team = {
        .work = work, .job = job, .threads = threads, .others = effort == NULL ? 1 : threads};
    struct sigaction stalling = {.sa_handler = stall, .sa_flags = SA_RESTART}, before;
    if (threads > ATLAS_DRIVE_THREADS_MAX || sigaction(STALL_SIGNAL, &stalling, &before) != 0)
        return false;
    mask_stalls(SIG_BLOCK); /* is inherited */
    size_t started = 0;
    while (started < threads) {
        team.members[started].team = &team;
        team.members[started].index = started;
        if (pthread_create(&handles[started], NULL, member, &team.members[started]) != 0)
            break;
        started++;
    }
    if (started < threads) {
        atomic_store(&team.cancelled, true);
        atomic_fetch_add(&team.ready, threads - started);
    }
    while (atomic_load(&team.ready) < threads)
        sched_yield();
    uint64_t start = monotonic_ns();
    atomic_store(&team.stalling_until_ns, start + (effort ? effort->ns : STALLING_ONCE_NS));
    for (size_t next = 0; atomic_load(&team.done) < started; next++) {
        pthread_kill(handles[next % started], STALL_SIGNAL);
        sleep_ns(BETWEEN_SIGNALS_NS);
        if (effort != NULL && !atomic_load(&team.over)) {
            *enough = made(&team, effort);
            if (*enough || monotonic_ns() - start > effort->ns)
                atomic_store(&team.over, true);
        }
    }
    for (size_t i = 0; i < started; i++)
        pthread_join(handles[i], NULL);
    sigaction(STALL_SIGNAL, &before, NULL);
    mask_stalls(SIG_UNBLOCK);
    return started == threads;
}

/* --- Commits --- */

typedef struct {
    atlas_drive_commit_t commit;
    void* domain;
    int* codes;
} commits_t;

static void commit_once(member_t* self, void* job)
{
    commits_t* commits = job;
    ENTER(self);
    commits->codes[self->index] = commits->commit(commits->domain);
    LEAVE(self);
    atomic_fetch_add(&self->rounds, 1);
}

EXPORTED bool atlas_drive_commits(atlas_drive_commit_t commit, void* domain, int* codes,
                                  size_t threads)
{
    commits_t job = {commit, domain, codes};
    return together(threads, commit_once, &job, NULL, NULL);
}

/* --- Budgets --- */

typedef struct {
    atlas_drive_budget_t alloc, release;
    void* domain;
    uint8_t amt;
    bool parted;
    uint32_t budget;
    atomic_uint_fast32_t held; /* never more than what is taken: added after, removed before */
    atomic_uint_fast64_t taken, given, refused, overdrawn;
} budget_t;

static bool changed(member_t* self, atlas_drive_budget_t change, const budget_t* on)
{
    ENTER(self);
    bool done = change(on->domain, on->amt);
    LEAVE(self);
    return done;
}

static void take_and_give(member_t* self, void* job)
{
    budget_t* on = job;
    bool takes = !on->parted || self->index % 2 == 0, gives = !on->parted || !takes;
    uint64_t taken = 0, given = 0, refused = 0, overdrawn = 0;
    for (; !atomic_load(&self->team->over); atomic_fetch_add(&self->rounds, 1)) {
        if (takes) {
            if (!changed(self, on->alloc, on))
                continue;
            taken++;
        }
        if (takes && gives) {
            if (atomic_fetch_add(&on->held, on->amt) + on->amt > on->budget)
                overdrawn++;
            atomic_fetch_sub(&on->held, on->amt);
        }
        if (gives) {
            if (changed(self, on->release, on))
                given++;
            else
                refused++;
        }
    }
    atomic_fetch_add(&on->taken, taken);
    atomic_fetch_add(&on->given, given);
    atomic_fetch_add(&on->refused, refused);
    atomic_fetch_add(&on->overdrawn, overdrawn);
}

EXPORTED bool atlas_drive_budget(atlas_drive_budget_t alloc, atlas_drive_budget_t release,
                                 void* domain, uint8_t amt, uint32_t budget, bool parted,
                                 size_t threads, const atlas_drive_effort_t* effort,
                                 atlas_drive_budget_result_t* result)
{
    budget_t job = {.alloc = alloc,
                    .release = release,
                    .domain = domain,
                    .amt = amt,
                    .parted = parted,
                    .budget = budget};
    bool enough = false;
    bool ran = together(threads, take_and_give, &job, effort, &enough);
    *result =
        (atlas_drive_budget_result_t){job.taken, job.given, job.refused, job.overdrawn, enough};
    return ran;
}

/* --- Verdicts on domains --- */

typedef struct {
    atlas_drive_domain_verify_t verify;
    void* const* domains;
    const bool* expected;
    atomic_uint_fast64_t wrong;
} verdicts_t;

static void verify_own(member_t* self, void* job)
{
    verdicts_t* on = job;
    for (; !atomic_load(&self->team->over); atomic_fetch_add(&self->rounds, 1)) {
        ENTER(self);
        bool verdict = on->verify(on->domains[self->index]);
        LEAVE(self);
        if (verdict != on->expected[self->index])
            atomic_fetch_add(&on->wrong, 1);
    }
}

EXPORTED bool atlas_drive_verdicts(atlas_drive_domain_verify_t verify, void* const* domains,
                                   const bool* expected, size_t threads,
                                   const atlas_drive_effort_t* effort,
                                   atlas_drive_verdict_result_t* result)
{
    verdicts_t job = {.verify = verify, .domains = domains, .expected = expected};
    bool enough = false;
    bool ran = together(threads, verify_own, &job, effort, &enough);
    *result = (atlas_drive_verdict_result_t){job.wrong, enough};
    return ran;
}

/* --- Witnesses --- */

typedef struct {
    atlas_drive_generate_t generate;
    atlas_drive_verify_t verify;
    atlas_drive_destroy_t destroy;
    const uint8_t* regions;
    size_t len, threads;
    atomic_uint_fast64_t missing, refused, missed;
} witnesses_t;

static bool matches(member_t* self, const witnesses_t* on, const void* witness,
                    const uint8_t* region)
{
    ENTER(self);
    bool verdict = on->verify(witness, region, on->len);
    LEAVE(self);
    return verdict;
}

static void witness_and_verify(member_t* self, void* job)
{
    witnesses_t* on = job;
    const uint8_t* own_region = on->regions + self->index * on->len;
    const uint8_t* other = on->regions + (self->index + 1) % on->threads * on->len;
    for (; !atomic_load(&self->team->over); atomic_fetch_add(&self->rounds, 1)) {
        ENTER(self);
        void* witness = on->generate(own_region, on->len);
        LEAVE(self);
        if (witness == NULL) {
            atomic_fetch_add(&on->missing, 1);
            continue;
        }
        if (!matches(self, on, witness, own_region))
            atomic_fetch_add(&on->refused, 1);
        if (matches(self, on, witness, other))
            atomic_fetch_add(&on->missed, 1);
        on->destroy(witness);
    }
}

EXPORTED bool atlas_drive_witnesses(atlas_drive_generate_t generate, atlas_drive_verify_t verify,
                                    atlas_drive_destroy_t destroy, const uint8_t* regions,
                                    size_t len, size_t threads, const atlas_drive_effort_t* effort,
                                    atlas_drive_witness_result_t* result)
{
    witnesses_t job = {.generate = generate,
                       .verify = verify,
                       .destroy = destroy,
                       .regions = regions,
                       .len = len,
                       .threads = threads};
    bool enough = false;
    bool ran = together(threads, witness_and_verify, &job, effort, &enough);
    *result = (atlas_drive_witness_result_t){job.missing, job.refused, job.missed, enough};
    return ran;
}

/* --- Lives of threads --- */

typedef struct {
    const atlas_drive_contract_t* contract;
    void* region;
    size_t len;
} lives_t;

static void live(member_t* self, void* job)
{
    (void)self;
    const lives_t* on = job;
    const atlas_drive_contract_t* contract = on->contract;
    void* domain = contract->create(on->len, 5);
    void* witness = contract->generate(on->region, on->len);
    if (domain != NULL) {
        contract->attach(domain, on->region, on->len);
        contract->verify(domain);
        contract->alloc(domain, 5);
        contract->alloc(domain, 5); /* refused */
        contract->release(domain, 5);
        contract->commit(domain);
        contract->commit(domain); /* refused */
    }
    if (witness != NULL)
        contract->matches(witness, on->region, on->len);
    contract->generate(NULL, on->len); /* refused */
    contract->destroy(domain);
    contract->forget(witness);
}

EXPORTED bool atlas_drive_lives(const atlas_drive_contract_t* contract, void* region, size_t len,
                                size_t threads)
{
    lives_t job = {contract, region, len};
    return together(threads, live, &job, NULL, NULL);
}

/* --- Time --- */

EXPORTED uint64_t atlas_drive_copy_ns(atlas_drive_copy_t copy, void* dst, const void* src,
                                      size_t len, uint64_t repeats)
{
    uint64_t start = monotonic_ns();
    for (uint64_t i = 0; i < repeats; i++)
        if (copy(dst, src, len) != 0)
            return 0;
    return monotonic_ns() - start;
}

EXPORTED uint64_t atlas_drive_fill_ns(atlas_drive_fill_t fill, void* dst, uint8_t value, size_t len,
                                      uint64_t repeats)
{
    uint64_t start = monotonic_ns();
    for (uint64_t i = 0; i < repeats; i++)
        if (fill(dst, value, len) != 0)
            return 0;
    return monotonic_ns() - start;
}
