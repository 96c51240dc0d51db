/* SPDX-License-Identifier: Apache-2.0
 *
 * The usage examples of docs/contract.md, unchanged: the test that builds this program writes each
 * to a file *.inc. Here are only the lines around them that C needs, and checks.
 */
#include "check.h"

static void case_basic_domain_lifecycle(void)
{
#include "basic_domain_lifecycle.inc"
    /* The example leaves its buffer uninitialised, so both are right. */
    atlas_error_t code = atlas_get_last_error_code();
    CHECK(code == ATLAS_OK || code == ATLAS_E_CONSERVATION);
}

static void case_budget_management(void)
{
    atlas_domain_t* domain = atlas_domain_create(12288, 50);
#include "budget_management.inc"
    uint8_t budget;
    CHECK(atlas_budget_available(domain, &budget) == ATLAS_OK && budget == 50 - 10 + 5);
    atlas_domain_destroy(domain);
}

static void case_witness_verification(void)
{
    uint8_t buffer[12288] = {1, 2, 3};
#include "witness_verification.inc"
    CHECK(atlas_get_last_error_code() == ATLAS_OK);
}

#define CASES(X)                                                                                   \
    X(basic_domain_lifecycle, "Basic Domain Lifecycle")                                            \
    X(budget_management, "Budget Management")                                                      \
    X(witness_verification, "Witness Verification")

CHECK_MAIN(CASES)
