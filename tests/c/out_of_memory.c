/* SPDX-License-Identifier: Apache-2.0
 *
 * Out of memory anywhere: ATLAS_E_MEMORY, nothing leaked, nothing half-made. Linked with the static
 * library and -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free, so that each allocation
 * of the library in turn can fail and none goes uncounted.
 */
#include "check.h"

void* __real_malloc(size_t size);
void* __real_calloc(size_t count, size_t size);
void* __real_realloc(void* block, size_t size);
void __real_free(void* block);
void* __wrap_malloc(size_t size);
void* __wrap_calloc(size_t count, size_t size);
void* __wrap_realloc(void* block, size_t size);
void __wrap_free(void* block);

static long live;       /* blocks that are not freed yet */
static long until_fail; /* allocations that still succeed; below 0: all do */
static long failed;
static atlas_domain_t* rival; /* not NULL: the next allocation first commits this domain */

static bool fails(void)
{
    if (rival != NULL) {
        atlas_domain_t* domain = rival;
        rival = NULL;
        CHECK(atlas_domain_commit(domain) == ATLAS_OK);
    }
    if (until_fail == 0) {
        failed++;
        return true;
    }
    if (until_fail > 0)
        until_fail--;
    return false;
}

static void* counted(void* block)
{
    live += block != NULL;
    return block;
}

void* __wrap_malloc(size_t size)
{
    return fails() ? NULL : counted(__real_malloc(size));
}

void* __wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : counted(__real_calloc(count, size));
}

void* __wrap_realloc(void* block, size_t size)
{
    if (fails())
        return NULL;
    live -= block != NULL;
    return counted(__real_realloc(block, size));
}

void __wrap_free(void* block)
{
    live -= block != NULL;
    __real_free(block);
}

static uint8_t region[ATLAS_WINDOW_BYTES]; /* zeros: conserved */
static atlas_witness_stream_t* stream;
static atlas_tree_stream_t* tree;
static uint8_t form[ATLAS_WITNESS_BYTES];
static uint8_t stream_form[ATLAS_WITNESS_STREAM_BYTES];

/* Each makes one object, and gives it back or NULL. */
static void* make_domain(void)
{
    return atlas_domain_create(1, 0);
}

static void* make_witness(void)
{
    return atlas_witness_generate(region, sizeof region);
}

static atlas_witness_t* three[3];

static void* make_three_witnesses(void)
{
    const void* const bases[] = {region, region, region};
    const size_t lens[] = {0, 1, sizeof region};
    memset(three, 0, sizeof three);
    if (atlas_witness_generate_many(bases, lens, 3, three) == ATLAS_OK)
        return three;
    CHECK(three[0] == NULL && three[1] == NULL && three[2] == NULL);
    return NULL;
}

static void* make_witness_of_bytes(void)
{
    return atlas_witness_from_bytes(form, sizeof form);
}

static void* make_stream(void)
{
    return atlas_witness_stream_create();
}

static void* make_stream_of_bytes(void)
{
    return atlas_witness_stream_from_bytes(stream_form, sizeof stream_form);
}

static void* make_witness_of_stream(void)
{
    return atlas_witness_stream_witness(stream);
}

static void* make_tree(void)
{
    return atlas_tree_stream_create();
}

static void* make_copy_of_tree(void)
{
    return atlas_tree_stream_copy(tree);
}

static void* make_region(void)
{
    return atlas_region_create(sizeof region);
}

/* Any struct behind a pointer: the destroy functions are not called through a converted type. */
static void destroy_domain(void* object)
{
    atlas_domain_destroy(object);
}

static void destroy_witness(void* object)
{
    atlas_witness_destroy(object);
}

static void destroy_three_witnesses(void* object)
{
    CHECK(object == three);
    for (size_t i = 0; i < 3; i++)
        atlas_witness_destroy(three[i]);
}

static void destroy_stream(void* object)
{
    atlas_witness_stream_destroy(object);
}

static void destroy_tree(void* object)
{
    atlas_tree_stream_destroy(object);
}

static void destroy_region(void* object)
{
    atlas_region_destroy(object);
}

static const struct {
    const char* function;
    void* (*make)(void);
    void (*destroy)(void*);
} MAKERS[] = {
    {"atlas_domain_create", make_domain, destroy_domain},
    {"atlas_witness_generate", make_witness, destroy_witness},
    {"atlas_witness_generate_many", make_three_witnesses, destroy_three_witnesses},
    {"atlas_witness_from_bytes", make_witness_of_bytes, destroy_witness},
    {"atlas_witness_stream_create", make_stream, destroy_stream},
    {"atlas_witness_stream_from_bytes", make_stream_of_bytes, destroy_stream},
    {"atlas_witness_stream_witness", make_witness_of_stream, destroy_witness},
    {"atlas_tree_stream_create", make_tree, destroy_tree},
    {"atlas_tree_stream_copy", make_copy_of_tree, destroy_tree},
    {"atlas_region_create", make_region, destroy_region},
};

static void check_no_memory(const char* function)
{
    CHECK(atlas_get_last_error_code() == ATLAS_E_MEMORY);
    CHECK(strncmp(atlas_get_last_error(), function, strlen(function)) == 0);
    CHECK(strstr(atlas_get_last_error(), ": no memory for a ") != NULL);
}

static void case_makers(void)
{
    stream = atlas_witness_stream_create();
    tree = atlas_tree_stream_create();
    atlas_witness_t* w = atlas_witness_generate(region, sizeof region);
    CHECK(tree != NULL);
    CHECK(stream != NULL && atlas_witness_to_bytes(w, form) == ATLAS_OK);
    CHECK(atlas_witness_stream_to_bytes(stream, stream_form) == ATLAS_OK);
    atlas_witness_destroy(w);
    for (size_t i = 0; i < sizeof MAKERS / sizeof MAKERS[0]; i++) {
        void* object = NULL;
        long before = live;
        for (long nth = 0; object == NULL; nth++) {
            failed = 0;
            until_fail = nth;
            object = MAKERS[i].make();
            until_fail = -1;
            CHECK((object == NULL) == (failed > 0));
            if (object == NULL) {
                check_no_memory(MAKERS[i].function);
                CHECK(live == before);
            } else {
                CHECK(nth > 0); /* the object itself was an allocation */
                CHECK(atlas_get_last_error_code() == ATLAS_OK);
            }
        }
        CHECK(live > before);
        MAKERS[i].destroy(object);
        CHECK(live == before);
    }
    atlas_witness_stream_destroy(stream);
    atlas_tree_stream_destroy(tree);
}

static void case_commit(void)
{
    CHECK(live == 0);
    atlas_domain_t* domain = atlas_domain_create(sizeof region, 50);
    CHECK(atlas_domain_attach(domain, region, sizeof region) == ATLAS_OK);
    long before = live;
    int result = ATLAS_E_MEMORY;
    for (long nth = 0; result != ATLAS_OK; nth++) {
        failed = 0;
        until_fail = nth;
        result = atlas_domain_commit(domain);
        until_fail = -1;
        CHECK((result == ATLAS_OK) == (failed == 0));
        if (result != ATLAS_OK) {
            CHECK(result == ATLAS_E_MEMORY);
            check_no_memory("atlas_domain_commit");
            CHECK(live == before);
            atlas_state_t state;
            CHECK(atlas_domain_state(domain, &state) == ATLAS_OK && state == ATLAS_STATE_OPEN);
            CHECK(atlas_domain_witness(domain) == NULL);
            CHECK(atlas_domain_verify(domain));
        } else {
            CHECK(nth > 0);
        }
    }
    CHECK(atlas_domain_verify(domain));
    atlas_domain_destroy(domain);
    CHECK(live == 0);
}

/* The race that threads.c runs, decided: another commit wins while this one allocates. */
static void case_commit_loses(void)
{
    atlas_domain_t* domain = atlas_domain_create(sizeof region, 50);
    CHECK(atlas_domain_attach(domain, region, sizeof region) == ATLAS_OK);
    long before = live;
    rival = domain;
    CHECK(atlas_domain_commit(domain) == ATLAS_E_STATE);
    CHECK(atlas_get_last_error_code() == ATLAS_E_STATE);
    CHECK(live == before + 1); /* the winner's witness */
    CHECK(atlas_domain_verify(domain));
    atlas_domain_destroy(domain);
    CHECK(live == 0);
}

/* What makes no object needs no memory. */
static void case_no_allocation(void)
{
    uint8_t copy[96] = {0}, hashes[ATLAS_DIGEST_BYTES], residue;
    uint64_t state = 0;
    atlas_domain_t* domain = atlas_domain_create(sizeof region, 50);
    CHECK(atlas_domain_attach(domain, region, sizeof region) == ATLAS_OK);
    atlas_witness_t* w = atlas_witness_generate(region, sizeof region);
    stream = atlas_witness_stream_create();
    tree = atlas_tree_stream_create();
    atlas_region_t* balanced = atlas_region_create(sizeof region);
    until_fail = 0;
    failed = 0;
    CHECK(atlas_domain_verify(domain));
    CHECK(atlas_budget_alloc(domain, 1) && atlas_budget_release(domain, 1));
    CHECK(atlas_witness_verify(w, region, sizeof region));
    CHECK(atlas_witness_stream_update(stream, region, sizeof region) == ATLAS_OK);
    CHECK(atlas_witness_stream_to_bytes(stream, stream_form) == ATLAS_OK);
    CHECK(atlas_tree_leaves(region, sizeof region, hashes, &state) == ATLAS_OK);
    CHECK(atlas_tree_node(hashes, hashes, hashes) == ATLAS_OK);
    CHECK(atlas_tree_root(hashes, 1, hashes) == ATLAS_OK);
    CHECK(atlas_tree_stream_append(tree, hashes, 1, 0) == ATLAS_OK);
    CHECK(atlas_tree_stream_update(tree, region, 1) == ATLAS_OK);
    CHECK(atlas_tree_stream_root(tree, hashes, NULL, NULL) == ATLAS_OK);
    CHECK(atlas_conserved_delta(region, copy, sizeof copy) == 0);
    CHECK(atlas_conserved_window_residues(region, sizeof region, &residue) == ATLAS_OK);
    CHECK(atlas_conserved_update(&state, region, sizeof region) == ATLAS_OK);
    CHECK(atlas_conserved_memcpy(copy, region, sizeof copy) == ATLAS_OK);
    CHECK(atlas_conserved_memset(copy, 1, sizeof copy) == ATLAS_OK);
    CHECK(atlas_conserved_fixup(copy, sizeof copy) == ATLAS_OK);
    CHECK(atlas_conserved_fixup_at(copy, sizeof copy, 0) == ATLAS_OK);
    CHECK(atlas_region_balance(balanced, NULL) == ATLAS_OK);
    CHECK(atlas_region_fill(balanced, 1) == ATLAS_OK);
    CHECK(atlas_region_copy(balanced, region, sizeof region) == ATLAS_OK);
    CHECK(!atlas_budget_alloc(domain, 96) && atlas_get_last_error()[0] != '\0');
    CHECK(failed == 0);
    until_fail = -1;
    atlas_region_destroy(balanced);
    atlas_tree_stream_destroy(tree);
    atlas_witness_stream_destroy(stream);
    atlas_witness_destroy(w);
    atlas_domain_destroy(domain);
    CHECK(live == 0);
}

#define CASES(X)                                                                                   \
    X(makers, "each function that makes an object fails clean when any allocation fails")          \
    X(commit, "a commit that finds no memory leaves the domain OPEN and verifiable")               \
    X(commit_loses, "a commit that loses the race frees the witness that it made")                 \
    X(no_allocation, "no other function allocates, errors included")

int main(int argc, char** argv)
{
    const check_case_t cases[] = {CASES(CHECK_CASE_ROW)};
    until_fail = -1;
    return check_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
