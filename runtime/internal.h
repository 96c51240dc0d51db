/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the runtime share: the private types, errors, atomics, and the kernels in use.
 */
#ifndef ATLAS_INTERNAL_H
#define ATLAS_INTERNAL_H

#include "atlas/conservation.h"
#include "atlas_kernels.h"

/* ------------------------------------------------------------------------------------------------
 * Atomics: plain operations with ATLAS_SINGLE_THREAD. Nothing else in the runtime is atomic.
 *   load      acquire: what was written before the store that is seen, is seen too
 *   store     release
 *   exchange  if *object == *expected: *object = desired, true; else *expected = *object, false
 * --------------------------------------------------------------------------------------------- */
#ifdef ATLAS_SINGLE_THREAD
#define ATLAS_ATOMIC(type) type
#define ATLAS_THREAD_LOCAL
#define atlas_atomic_load(object) (*(object))
#define atlas_atomic_store(object, desired) ((void)(*(object) = (desired)))
#define atlas_atomic_exchange(object, expected, desired)                                           \
    (*(object) == *(expected) ? (*(object) = (desired), true) : (*(expected) = *(object), false))
#else
#include <stdatomic.h>
#define ATLAS_ATOMIC(type) _Atomic(type)
#define ATLAS_THREAD_LOCAL _Thread_local
#define atlas_atomic_load(object) atomic_load_explicit(object, memory_order_acquire)
#define atlas_atomic_store(object, desired)                                                        \
    atomic_store_explicit(object, desired, memory_order_release)
#define atlas_atomic_exchange(object, expected, desired)                                           \
    atomic_compare_exchange_strong_explicit(object, expected, desired, memory_order_acq_rel,       \
                                            memory_order_acquire)
#endif

/* ------------------------------------------------------------------------------------------------
 * Types.
 * --------------------------------------------------------------------------------------------- */

struct atlas_witness {
    uint64_t length;
    uint64_t timestamp_ns;
    uint8_t residue;
    uint8_t digest[ATLAS_DIGEST_BYTES];
};

struct atlas_domain {
    size_t capacity;
    ATLAS_ATOMIC(void*) base;               /* NULL until an attach claims the domain           */
    ATLAS_ATOMIC(size_t) len;               /* not 0: base and len are the attached region      */
    ATLAS_ATOMIC(atlas_witness_t*) witness; /* not NULL: COMMITTED                              */
    ATLAS_ATOMIC(uint32_t) budget; /* 0..95; a word, since not every CPU has atomics on bytes   */
};

enum { ATLAS_REGION_OPEN, ATLAS_REGION_SEALING, ATLAS_REGION_SEALED };

/* Without ATLAS_SINGLE_THREAD the system maps memory; with it, the C library has all there is. */
struct atlas_region {
    uint8_t* base; /* the payload; the balance is base[nbytes]                      */
    size_t nbytes; /* of the payload                                                */
    size_t mapped; /* whole pages of the system from base on; 0 without a mapping   */
    int fd;        /* of the memfd that is mapped; -1 where there is none           */
    ATLAS_ATOMIC(uint32_t)
    sealed; /* ATLAS_REGION_OPEN, then SEALING, then SEALED                  */
};

/* ------------------------------------------------------------------------------------------------
 * Errors, error.c. Every refusal ends in atlas_error_set(), every success in atlas_error_clear().
 * --------------------------------------------------------------------------------------------- */

#if defined(__GNUC__)
#define ATLAS_PRINTF_LIKE __attribute__((format(printf, 3, 4)))
#else
#define ATLAS_PRINTF_LIKE
#endif

/* Makes "function: <text>" the last error of this thread. Returns the code. */
int atlas_error_set(atlas_error_t code, const char* function, const char* format, ...)
    ATLAS_PRINTF_LIKE;

/* The same, for the causes that many functions share: an argument that must not be NULL, a region
 * that cannot be there (also as item i of an array), no memory for an object, a region that is not
 * conserved (`region` says which bytes: "attached"). */
int atlas_error_null(const char* function, const char* argument);
int atlas_error_region(const char* function, const char* argument, const void* base, size_t len);
int atlas_error_region_in(const char* function, const char* array, size_t i, const void* base,
                          size_t len);
int atlas_error_no_memory(const char* function, const char* object);
int atlas_error_residue(const char* function, const char* region, size_t len, unsigned residue);

/* No error. Returns ATLAS_OK. */
int atlas_error_clear(void);

/* Can a region be there at all? It is not NULL, and it ends before the address space does: a length
 * that is a negative number, taken for a size_t, is caught here before memory is touched. Else
 * atlas_error_region(). */
static inline bool atlas_is_region(const void* base, size_t len)
{
    return len == 0 || (base != NULL && len - 1 <= UINTPTR_MAX - (uintptr_t)base);
}

/* ------------------------------------------------------------------------------------------------
 * Regions, region.c and seal.c.
 * --------------------------------------------------------------------------------------------- */

/* A region in memory of this process alone, or, where a file of its own will be mapped over it, the
 * addresses alone, of which the system counts no memory. NULL: there is none, and the error says so.
 */
atlas_region_t* atlas_region_reserve(const char* function, size_t nbytes, bool has_file);

/* Makes the memory read-only for good. A sealed region stays as it is; on an error the region is
 * as it was, but for one: it is sealed, and the error says so. */
int atlas_region_seal(const char* function, atlas_region_t* region);

/* ------------------------------------------------------------------------------------------------
 * SHA-256, sha256.c.
 * --------------------------------------------------------------------------------------------- */

#define ATLAS_SHA256_WORDS 8
#define ATLAS_SHA256_MOST_BYTES (UINT64_MAX / 8) /* FIPS 180-4: fewer than 2^64 bits */

typedef struct {
    uint64_t length;                        /* bytes so far                               */
    uint32_t state[ATLAS_SHA256_WORDS];     /* after the whole blocks so far              */
    uint8_t held[ATLAS_SHA256_BLOCK_BYTES]; /* the length % 64 bytes behind them      */
} atlas_sha256_t;

#define ATLAS_SHA256_EMPTY {.state = ATLAS_SHA256_INITIAL}

void atlas_sha256_update(atlas_sha256_t* sha, const void* data, size_t len);

/* The digest of all bytes so far; more may follow. */
void atlas_sha256_final(const atlas_sha256_t* sha, uint8_t* digest);

/* FIPS 180-4, 5.1.1: completes the last block, which holds `held` bytes of a message of `length`
 * bytes, by the bit 1, zeros and the length. Returns the number of blocks that `last` is now. */
size_t atlas_sha256_pad(uint8_t* last, size_t held, uint64_t length);

/* The digest of a state whose words are `stride` apart. */
void atlas_sha256_digest(const uint32_t* state, size_t stride, uint8_t* digest);

/* Messages to be hashed at once, lanes.c. They are asked for in order, each once, and given back in
 * any order. A message of at most 128 bytes is copied before the next one is asked for: its memory
 * may be written to from then on. */
typedef struct {
    size_t count;
    int prefix;    /* a byte before each; negative: none */
    bool residues; /* whether they are asked for; else put() gets 0 */
    void* owner;   /* handed to both */
    void (*get)(void* owner, size_t message, const uint8_t** data, size_t* len);
    void (*put)(void* owner, size_t message, const uint8_t* digest, uint8_t residue);
    /* The chain that a message continues, each another one; put() gets no digest then, since more
     * may follow. NULL: all messages are whole. With chains there is no prefix. */
    atlas_sha256_t* (*chain)(void* owner, size_t message);
} atlas_messages_t;

/* The digest of each, or its chain behind it, and the residue of each without its prefix. */
void atlas_sha256_many(const atlas_messages_t* messages);

/* ------------------------------------------------------------------------------------------------
 * Witnesses, witness.c, as domains use them.
 * --------------------------------------------------------------------------------------------- */

/* Nanoseconds since 1970 in UTC. The one place of the runtime that reads a clock. */
uint64_t atlas_utc_ns(void);

/* Length, residue, digest and time of a region, from one pass over memory. */
void atlas_witness_measure(atlas_witness_t* out, const void* base, size_t len);

/* Copy to the heap; the caller owns it. NULL and ATLAS_E_MEMORY if there is no memory. */
atlas_witness_t* atlas_witness_keep(const char* function, const atlas_witness_t* measured);

struct atlas_witness_stream {
    atlas_sha256_t sha;
    uint64_t residue;
    bool claimed; /* by a call that updates many */
};

/* ATLAS_OK where n bytes more may follow in a stream. No one can feed so much, but a byte form can
 * say that someone did. `name` is the argument with n. */
int atlas_witness_stream_room(const char* function, const char* name,
                              const atlas_witness_stream_t* stream, size_t n);

/* ATLAS_OK where residue and digest are equal, else ATLAS_E_WITNESS. The lengths are equal. */
int atlas_witness_compare(const char* function, const atlas_witness_t* expected,
                          const atlas_witness_t* found);

/* ------------------------------------------------------------------------------------------------
 * Kernels, dispatch.c and the generated atlas_kernels.h.
 * --------------------------------------------------------------------------------------------- */

extern ATLAS_ATOMIC(const atlas_kernels_t*) ATLAS_KERNELS_ACTIVE;

/* The kernel set in use; another thread may choose another one at any time. */
static inline const atlas_kernels_t* atlas_kernels(void)
{
    return atlas_atomic_load(&ATLAS_KERNELS_ACTIVE);
}

static inline uint8_t atlas_residue_of(const void* base, size_t len)
{
    uint64_t state = 0;
    atlas_kernel_conserved_update(&state, base, len);
    return (uint8_t)state;
}

/* A fill and a copy of any length: what touches more than the caches hold is stored past them.
 * conserve.c. Source and copy do not overlap. */
void atlas_fill_bytes(void* dst, uint8_t value, size_t len);
void atlas_copy_bytes(void* dst, const void* src, size_t len);

/* How many bytes lie between the starts of two regions. */
static inline uintptr_t atlas_distance(const void* one, const void* two)
{
    uintptr_t ahead = (uintptr_t)one - (uintptr_t)two;  /* unsigned: of the two directions, */
    uintptr_t behind = (uintptr_t)two - (uintptr_t)one; /* one wraps around to a huge number */
    return ahead < behind ? ahead : behind;
}

static inline bool atlas_is_conserved(const void* base, size_t len)
{
    return (atlas_kernel_conserved_window_check(base, len) & 1) != 0; /* i1: its bit alone */
}

#endif /* ATLAS_INTERNAL_H */
