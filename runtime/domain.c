/* SPDX-License-Identifier: Apache-2.0
 *
 * Domains, without locks. Two steps change a domain, each once:
 *   attach  base: NULL -> region claims, then len: 0 -> length publishes the region
 *   commit  witness: NULL -> witness; a domain is COMMITTED exactly when it has a witness
 */
#include "internal.h"

#include <stdlib.h>

atlas_domain_t* atlas_domain_create(size_t bytes, uint8_t budget_class)
{
    if (bytes == 0) {
        atlas_error_set(ATLAS_E_MEMORY, __func__, "bytes is 0, must be at least 1");
        return NULL;
    }
    if (budget_class >= ATLAS_MODULUS) {
        atlas_error_set(ATLAS_E_BUDGET, __func__, "budget_class is %u, must be in 0..%d",
                        (unsigned)budget_class, ATLAS_MODULUS - 1);
        return NULL;
    }
    atlas_domain_t* domain = calloc(1, sizeof *domain);
    if (domain == NULL) {
        atlas_error_no_memory(__func__, "domain");
        return NULL;
    }
    domain->capacity = bytes;
    atlas_atomic_store(&domain->budget, budget_class);
    atlas_error_clear();
    return domain;
}

static int committed_already(const char* function)
{
    return atlas_error_set(ATLAS_E_STATE, function, "the domain is COMMITTED, must be OPEN");
}

int atlas_domain_attach(atlas_domain_t* domain, void* base, size_t len)
{
    if (domain == NULL)
        return atlas_error_null(__func__, "domain");
    if (base == NULL)
        return atlas_error_null(__func__, "base");
    if (len == 0 || len > domain->capacity)
        return atlas_error_set(ATLAS_E_MEMORY, __func__,
                               "len is %zu, must be in 1..%zu, the capacity of the domain", len,
                               domain->capacity);
    if (!atlas_is_region(base, len))
        return atlas_error_region(__func__, "base", base, len);
    if (atlas_atomic_load(&domain->witness) != NULL)
        return committed_already(__func__);
    void* none = NULL;
    if (!atlas_atomic_exchange(&domain->base, &none, base))
        return atlas_error_set(ATLAS_E_STATE, __func__,
                               "the domain has a region already, must have none");
    atlas_atomic_store(&domain->len, len);
    return atlas_error_clear();
}

/* Store the attached region in *base and *len; ATLAS_E_STATE if nothing is attached. */
static int attached(const char* function, const atlas_domain_t* domain, const void** base,
                    size_t* len)
{
    *len = atlas_atomic_load(&domain->len); /* before base: len publishes it */
    *base = atlas_atomic_load(&domain->base);
    if (*len == 0)
        return atlas_error_set(ATLAS_E_STATE, function,
                               "the domain has no region, must have one attached");
    return ATLAS_OK;
}

static int verify(const char* function, const atlas_domain_t* domain)
{
    const void* base;
    size_t len;
    if (domain == NULL)
        return atlas_error_null(function, "domain");
    if (attached(function, domain, &base, &len) != ATLAS_OK)
        return ATLAS_E_STATE;
    const atlas_witness_t* witness = atlas_atomic_load(&domain->witness);
    if (witness == NULL) {
        if (!atlas_is_conserved(base, len))
            return atlas_error_residue(function, "attached", len, atlas_residue_of(base, len));
        return atlas_error_clear();
    }
    atlas_witness_t found;
    atlas_witness_measure(&found, base, len);
    if (found.residue != 0)
        return atlas_error_residue(function, "attached", len, found.residue);
    return atlas_witness_compare(function, witness, &found);
}

bool atlas_domain_verify(const atlas_domain_t* domain)
{
    return verify(__func__, domain) == ATLAS_OK;
}

/* ATLAS_OK where the region can be sealed with the commit: it is what is attached, and conserved. */
static int sealable(const char* function, const atlas_region_t* region, const void* base,
                    size_t len)
{
    if (base != region->base || len != region->nbytes + 1)
        return atlas_error_set(ATLAS_E_STATE, function,
                               "the domain has other memory attached, must have the whole region");
    if (!atlas_is_conserved(base, len))
        return atlas_error_residue(function, "attached", len, atlas_residue_of(base, len));
    return ATLAS_OK;
}

/* The commit of what is attached, which `region` is where it is not NULL, and is sealed first. */
static int commit(const char* function, atlas_domain_t* domain, atlas_region_t* region)
{
    const void* base;
    size_t len;
    if (attached(function, domain, &base, &len) != ATLAS_OK)
        return ATLAS_E_STATE;
    if (atlas_atomic_load(&domain->witness) != NULL)
        return committed_already(function);
    int code = region == NULL ? ATLAS_OK : sealable(function, region, base, len);
    if (code != ATLAS_OK)
        return code;
    /* Before the seal, which nothing takes back: from there on memory cannot run out. */
    atlas_witness_t* witness = calloc(1, sizeof *witness);
    if (witness == NULL)
        return atlas_error_no_memory(function, "witness");
    if (region != NULL)
        code = atlas_region_seal(function, region);
    if (code == ATLAS_OK) {
        atlas_witness_measure(witness, base, len);
        if (witness->residue != 0)
            code =
                atlas_error_residue(function, region == NULL ? "attached" : "sealed and attached",
                                    len, witness->residue);
    }
    atlas_witness_t* none = NULL;
    if (code == ATLAS_OK && !atlas_atomic_exchange(&domain->witness, &none, witness))
        code = committed_already(function);
    if (code == ATLAS_OK)
        return atlas_error_clear();
    atlas_witness_destroy(witness);
    return code;
}

int atlas_domain_commit(atlas_domain_t* domain)
{
    return domain == NULL ? atlas_error_null(__func__, "domain") : commit(__func__, domain, NULL);
}

int atlas_domain_commit_sealed(atlas_domain_t* domain, atlas_region_t* region)
{
    if (domain == NULL)
        return atlas_error_null(__func__, "domain");
    if (region == NULL)
        return atlas_error_null(__func__, "region");
    return commit(__func__, domain, region);
}

void atlas_domain_destroy(atlas_domain_t* domain)
{
    if (domain == NULL)
        return;
    atlas_witness_destroy(atlas_atomic_load(&domain->witness));
    free(domain);
}

int atlas_domain_state(const atlas_domain_t* domain, atlas_state_t* out)
{
    if (domain == NULL)
        return atlas_error_null(__func__, "domain");
    if (out == NULL)
        return atlas_error_null(__func__, "out");
    *out = atlas_atomic_load(&domain->witness) == NULL ? ATLAS_STATE_OPEN : ATLAS_STATE_COMMITTED;
    return atlas_error_clear();
}

const atlas_witness_t* atlas_domain_witness(const atlas_domain_t* domain)
{
    if (domain == NULL) {
        atlas_error_null(__func__, "domain");
        return NULL;
    }
    const atlas_witness_t* witness = atlas_atomic_load(&domain->witness);
    if (witness == NULL)
        atlas_error_set(ATLAS_E_STATE, __func__, "the domain is OPEN, must be COMMITTED");
    else
        atlas_error_clear();
    return witness;
}
