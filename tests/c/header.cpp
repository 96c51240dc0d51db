// SPDX-License-Identifier: Apache-2.0
// The header in C++, before any other one; the library's names are C's.
#include <atlas/conservation.h>

#include <cstdio>

int main()
{
    atlas_domain_t* domain = atlas_domain_create(ATLAS_WINDOW_BYTES, 50);
    const bool taken = atlas_budget_alloc(domain, 10);
    const int code = atlas_domain_commit(domain);
    std::printf("%d %d %s\n", taken, code, atlas_get_last_error());
    atlas_domain_destroy(domain);
}
