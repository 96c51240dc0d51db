/* SPDX-License-Identifier: Apache-2.0
 *
 * Timing loops of `atlas12288 bench`. They are in C because a window takes about as long as one
 * call from Python. Compiled into the binding, not into libatlas12288.
 */
#ifndef ATLAS_TIMING_H
#define ATLAS_TIMING_H

#include <stddef.h>
#include <stdint.h>

/* Runs the operation `name` `repeats` times on dst[0..len) and src[0..len) and returns the wall
 * time of all repeats together in nanoseconds, at least 1. 0: the name is not in the table,
 * repeats is 0, or the operation refused its input (for example a source that is not conserved). */
uint64_t atlas_time_operation(const char* name, void* dst, const void* src, size_t len,
                              uint64_t repeats);

/* Name of the operation at `index`, NULL from their count on. */
const char* atlas_timed_operation(size_t index);

#endif /* ATLAS_TIMING_H */
