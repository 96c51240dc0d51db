/* SPDX-License-Identifier: Apache-2.0
 *
 * Libraries that abuse the process they are loaded into, for tests/test_conformance_kit.py: each
 * -DHOSTILE_... is one way. Of the functions that they have, verify never comes back.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void hang(void)
{
    for (volatile bool waiting = true; waiting;)
        ;
}

__attribute__((constructor)) static void load(void)
{
#if defined HOSTILE_IGNORES_SIGNALS
    for (int number = 1; number < 32; number++)
        signal(number, SIG_IGN);
#elif defined HOSTILE_BLOCKS_SIGNALS
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
#elif defined HOSTILE_LEAVES_A_PROCESS
    if (fork() == 0) { /* it keeps every descriptor, and nobody's child */
        setsid();
        if (fork() == 0)
            hang();
        _exit(0);
    }
#elif defined HOSTILE_WRITES_EVERYWHERE
    static const char forged[] = "[\"domain-verify\", \"pass\", \"forged\", 0.1]\n";
    for (int descriptor = 3; descriptor < 64; descriptor++)
        if (write(descriptor, forged, strlen(forged)) < 0)
            continue;
#elif defined HOSTILE_EXITS_AT_LOAD
    exit(0);
#elif defined HOSTILE_HANGS_AT_LOAD
    hang();
#endif
}

bool atlas_domain_verify(const void* domain);

bool atlas_domain_verify(const void* domain)
{
    (void)domain;
    hang();
    return false;
}

/* So that there is a domain to verify. */
void* atlas_domain_create(size_t bytes, unsigned char budget_class);
int atlas_domain_attach(void* domain, void* base, size_t len);

void* atlas_domain_create(size_t bytes, unsigned char budget_class)
{
    (void)bytes, (void)budget_class;
    return malloc(1);
}

int atlas_domain_attach(void* domain, void* base, size_t len)
{
    (void)domain, (void)base, (void)len;
    return 0;
}
