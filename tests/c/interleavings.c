/* SPDX-License-Identifier: Apache-2.0
 *
 * The runtime as it is compiled, in every order that its atomic accesses to a domain can have.
 * Threads are coroutines, which scheduled/stdatomic.h lets change turns before each access; every
 * schedule is run from its beginning, the last choice that has an alternative changed.
 */
#include "check.h"
#include "internal.h"

#include <ucontext.h>

enum { THREADS_MAX = 4, STEPS_MAX = 64, STACK_BYTES = 64 << 10, RESULTS_MAX = 4 };

typedef struct {
    ucontext_t context;
    void (*work)(int* results);
    int results[RESULTS_MAX];
    bool finished;
} coroutine_t;

static atlas_domain_t* domain; /* which all threads use */
static uint8_t region_a[1], region_b[2];
static coroutine_t threads[THREADS_MAX];
static char stacks[THREADS_MAX][STACK_BYTES];
static size_t thread_count, running;
static bool scheduling;
static ucontext_t scheduler;
static size_t schedules; /* run so far */

/* --- Memory: what is allocated is freed, once --- */

static size_t allocated;
void* __real_malloc(size_t size);
void* __real_calloc(size_t count, size_t size);
void __real_free(void* memory);
void* __wrap_malloc(size_t size);
void* __wrap_calloc(size_t count, size_t size);
void* __wrap_realloc(void* memory, size_t size);
void __wrap_free(void* memory);

void* __wrap_malloc(size_t size)
{
    allocated++;
    return __real_malloc(size);
}

void* __wrap_calloc(size_t count, size_t size)
{
    allocated++;
    return __real_calloc(count, size);
}

void* __wrap_realloc(void* memory, size_t size)
{
    (void)memory;
    (void)size;
    abort(); /* the runtime has no use for it here */
}

void __wrap_free(void* memory)
{
    allocated -= memory != NULL;
    __real_free(memory);
}

/* --- Schedules --- */

void scheduled_turn(const volatile void* object)
{
    uintptr_t at = (uintptr_t)object - (uintptr_t)domain;
    if (scheduling && at < sizeof *domain)
        CHECK(swapcontext(&threads[running].context, &scheduler) == 0);
}

static void run_thread(void)
{
    threads[running].work(threads[running].results);
    threads[running].finished = true;
}

/* Until its next turn. */
static void run_on(size_t thread)
{
    running = thread;
    CHECK(swapcontext(&scheduler, &threads[thread].context) == 0);
}

/* A new coroutine, just before its first access. */
static void start(coroutine_t* thread, char* stack)
{
    thread->finished = false;
    CHECK(getcontext(&thread->context) == 0);
    thread->context.uc_stack.ss_sp = stack;
    thread->context.uc_stack.ss_size = STACK_BYTES;
    thread->context.uc_link = &scheduler;
    makecontext(&thread->context, run_thread, 0);
}

/* The next thread from `first` on that has work left; thread_count where there is none. */
static size_t unfinished(size_t first)
{
    while (first < thread_count && threads[first].finished)
        first++;
    return first;
}

/* What holds in every state. */
static void check_state(void)
{
    CHECK(domain->budget < ATLAS_MODULUS);
    if (domain->len != 0)
        CHECK(domain->base == (domain->len == sizeof region_a ? region_a : region_b));
    if (domain->witness != NULL)
        CHECK(domain->witness->length == domain->len);
}

/* Runs the threads in every order, each on a new domain with that budget, attached or not. */
static void explore(void (*const* work)(int*), size_t count, uint8_t budget, bool attached,
                    void (*check_end)(void))
{
    size_t choices[STEPS_MAX], steps, before = allocated;
    size_t replayed = 0; /* choices that this schedule shares with the last one */
    thread_count = count;
    for (size_t i = 0; i < count; i++)
        threads[i].work = work[i];
    do {
        domain = atlas_domain_create(sizeof region_b, budget);
        if (attached)
            CHECK(atlas_domain_attach(domain, region_a, sizeof region_a) == ATLAS_OK);
        scheduling = true;
        for (size_t i = 0; i < thread_count; i++) {
            start(&threads[i], stacks[i]);
            run_on(i);
        }
        for (steps = 0; unfinished(0) < thread_count; steps++) {
            CHECK(steps < STEPS_MAX);
            if (steps >= replayed)
                choices[steps] = unfinished(0);
            run_on(choices[steps]);
            check_state();
        }
        scheduling = false;
        check_end();
        atlas_domain_destroy(domain);
        CHECK(allocated == before);
        schedules++;
        /* The last choice that has an alternative: a later thread with work left at that point. A
         * thread has work left where a later choice is that thread. */
        for (replayed = steps; replayed > 0; replayed--) {
            size_t next = thread_count;
            for (size_t later = replayed; later < steps; later++)
                if (choices[later] > choices[replayed - 1] && choices[later] < next)
                    next = choices[later];
            if (next < thread_count) {
                choices[replayed - 1] = next;
                break;
            }
        }
    } while (replayed > 0);
}

#define EXPLORE(budget, attached, check_end, ...)                                                  \
    do {                                                                                           \
        void (*const work[])(int*) = {__VA_ARGS__};                                                \
        explore(work, sizeof work / sizeof work[0], budget, attached, check_end);                  \
    } while (0)

/* --- Commits and attaches --- */

static void commit(int* results)
{
    results[0] = atlas_domain_commit(domain);
}

static void look(int* results)
{
    atlas_state_t state;
    atlas_domain_state(domain, &state);
    results[0] = state == ATLAS_STATE_COMMITTED;
    results[1] = atlas_domain_witness(domain) != NULL;
    results[2] = atlas_domain_verify(domain);
}

static void check_one_commit(void)
{
    size_t committed = 0;
    for (size_t i = 0; i < thread_count; i++)
        if (threads[i].work == commit) {
            committed += threads[i].results[0] == ATLAS_OK;
            CHECK(threads[i].results[0] == ATLAS_OK || threads[i].results[0] == ATLAS_E_STATE);
        } else {
            CHECK(threads[i].results[0] <= threads[i].results[1]); /* never back to OPEN */
            CHECK(threads[i].results[2]);
        }
    CHECK(committed == 1);
    CHECK(atlas_domain_verify(domain));
}

static void case_commit(void)
{
    EXPLORE(0, true, check_one_commit, commit, commit, commit);
    EXPLORE(0, true, check_one_commit, commit, commit, look);
}

static void attach_a(int* results)
{
    results[0] = atlas_domain_attach(domain, region_a, sizeof region_a);
}

static void attach_b(int* results)
{
    results[0] = atlas_domain_attach(domain, region_b, sizeof region_b);
}

static void check_one_attach(void)
{
    int a = threads[0].results[0], b = threads[1].results[0], committed = threads[2].results[0];
    CHECK((a == ATLAS_OK) != (b == ATLAS_OK));
    CHECK(a == ATLAS_OK || a == ATLAS_E_STATE);
    CHECK(b == ATLAS_OK || b == ATLAS_E_STATE);
    CHECK(domain->len == (a == ATLAS_OK ? sizeof region_a : sizeof region_b));
    CHECK(committed == ATLAS_OK || committed == ATLAS_E_STATE);
    CHECK((committed == ATLAS_OK) == (domain->witness != NULL));
}

static void case_attach(void)
{
    EXPLORE(0, false, check_one_attach, attach_a, attach_b, commit);
}

/* --- Budgets --- */

/* The thread's number says how much: together more than there is, and returns that wrap. */
static int amount(size_t thread)
{
    return 20 + 15 * (int)thread;
}

static void borrow(int* results)
{
    results[0] = atlas_budget_alloc(domain, (uint8_t)amount(running));
    results[1] = results[0] && atlas_budget_release(domain, (uint8_t)amount(running));
}

static void take(int* results)
{
    results[0] = atlas_budget_alloc(domain, (uint8_t)amount(running));
    results[1] = 0;
}

static void give(int* results)
{
    results[0] = 0;
    results[1] = atlas_budget_release(domain, (uint8_t)amount(running));
}

static uint8_t budget_before;

static void check_budget(void)
{
    int expected = budget_before;
    for (size_t i = 0; i < thread_count; i++)
        expected += (threads[i].results[1] - threads[i].results[0]) * amount(i);
    CHECK((expected + ATLAS_MODULUS) % ATLAS_MODULUS == (int)domain->budget);
}

static void case_budget(void)
{
    for (budget_before = 0; budget_before < ATLAS_MODULUS; budget_before += 19) {
        EXPLORE(budget_before, false, check_budget, borrow, borrow, borrow);
        EXPLORE(budget_before, false, check_budget, take, give, take, give);
    }
}

#define CASES(X)                                                                                   \
    X(commit, "of racing commits one succeeds, and no thread sees a state between")                \
    X(attach, "of racing attaches one succeeds, and no thread sees half a region")                 \
    X(budget, "the budget is the first one - allocs + releases, in 0..95 all the time")

/* The argument is a case, to be run alone. */
int main(int argc, char** argv)
{
    const check_case_t cases[] = {CASES(CHECK_CASE_ROW)};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (argc == 1 || strcmp(argv[1], cases[i].name) == 0)
            CHECK(check_main(1, argv, &cases[i], 1) == 0);
    printf("%zu schedules\n", schedules);
    return 0;
}
