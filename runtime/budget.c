/* SPDX-License-Identifier: Apache-2.0
 *
 * Budgets: one atomic integer in 0..95 per domain, changed by compare-and-swap.
 */
#include "internal.h"

#define BUDGET_MAX (ATLAS_MODULUS - 1)

static bool accepted(const char* function, const atlas_domain_t* domain, uint8_t amt)
{
    if (domain == NULL) {
        atlas_error_null(function, "domain");
        return false;
    }
    if (amt > BUDGET_MAX) {
        atlas_error_set(ATLAS_E_BUDGET, function, "amt is %u, must be in 0..%d", (unsigned)amt,
                        BUDGET_MAX);
        return false;
    }
    return true;
}

bool atlas_budget_alloc(atlas_domain_t* domain, uint8_t amt)
{
    if (!accepted(__func__, domain, amt))
        return false;
    uint32_t budget = atlas_atomic_load(&domain->budget);
    do {
        if (amt > budget) {
            atlas_error_set(ATLAS_E_BUDGET, __func__, "amt is %u, must be in 0..%u, what is left",
                            (unsigned)amt, (unsigned)budget);
            return false;
        }
    } while (!atlas_atomic_exchange(&domain->budget, &budget, budget - amt));
    atlas_error_clear();
    return true;
}

bool atlas_budget_release(atlas_domain_t* domain, uint8_t amt)
{
    if (!accepted(__func__, domain, amt))
        return false;
    uint32_t budget = atlas_atomic_load(&domain->budget);
    while (!atlas_atomic_exchange(&domain->budget, &budget, (budget + amt) % ATLAS_MODULUS)) {
        /* Another thread was first; budget holds its value now. */
    }
    atlas_error_clear();
    return true;
}

int atlas_budget_available(const atlas_domain_t* domain, uint8_t* out)
{
    if (domain == NULL)
        return atlas_error_null(__func__, "domain");
    if (out == NULL)
        return atlas_error_null(__func__, "out");
    *out = (uint8_t)atlas_atomic_load(&domain->budget);
    return atlas_error_clear();
}
