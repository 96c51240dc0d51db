/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ATLAS_CLOCK_H
#define ATLAS_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds of a clock that never goes back; only differences of two readings mean something.
 * Whoever includes this defines _POSIX_C_SOURCE, 199309L or later, before all headers. */
static inline uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

#endif /* ATLAS_CLOCK_H */
