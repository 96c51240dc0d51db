/* SPDX-License-Identifier: Apache-2.0
 *
 * In place of the header that kernelgen generates: one kernel set, written in C in faulty.c, so
 * that these libraries need no generator. What is not here, the parts of the runtime in use do not
 * use.
 */
#ifndef ATLAS_KERNELS_H
#define ATLAS_KERNELS_H

#include <stdint.h>

typedef struct atlas_kernels {
    const char* name;
    void (*copy)(void* dst, const void* src, uint64_t len);
    void (*copy_stream)(void* dst, const void* src, uint64_t len);
    void (*fill)(void* dst, uint8_t value, uint64_t len);
    void (*fill_stream)(void* dst, uint8_t value, uint64_t len);
    uint32_t (*equal)(const void* a, const void* b, uint64_t len);
    void (*sha256)(uint32_t* state, const void* blocks, uint64_t count);
} atlas_kernels_t;

extern const atlas_kernels_t atlas_kernels_portable;
#define ATLAS_KERNELS_ACTIVE atlas_kernels_active

uint8_t atlas_kernel_conserved_delta(const void* before, const void* after, uint64_t len);
uint8_t atlas_kernel_conserved_window_check(const void* data, uint64_t len);
void atlas_kernel_conserved_update(uint64_t* state, const void* chunk, uint64_t n);

/* FIPS 180-4, 5.3.3. */
#define ATLAS_SHA256_INITIAL                                                                       \
    {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}
#define ATLAS_SHA256_BLOCK_BYTES 64

#endif
