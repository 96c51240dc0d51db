/* SPDX-License-Identifier: Apache-2.0
 *
 * Deliberately wrong implementations of the contract, for tests/test_conformance_kit.py and, as
 * WebAssembly, tests/wasm: each -DFAULT_... is one mistake that somebody could make. Without any it
 * is right, and so it is with -DCHOICE_..., which decide otherwise where the contract is silent.
 *
 * Built with the files of the runtime, whose functions of the contract right.h renames to
 * right_..., and with kernels in plain C.
 */
#include "right.h"

#include "../../runtime/internal.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW ATLAS_WINDOW_BYTES

/* ------------------------------------------------------------------------------------------------
 * Kernels: where sums go wrong.
 * --------------------------------------------------------------------------------------------- */

#if defined FAULT_SIGNED_BYTES
typedef int8_t summand_t;
#else
typedef uint8_t summand_t;
#endif

#if defined FAULT_SUM_16_BITS
typedef uint16_t sum_t;
#elif defined FAULT_SUM_32_BITS
typedef uint32_t sum_t;
#else
typedef uint64_t sum_t;
#endif

#if defined FAULT_MODULUS_97
#define MODULUS 97
#else
#define MODULUS 96
#endif

static uint64_t bytes_that_count(uint64_t len)
{
#if defined FAULT_LAST_BYTE_SKIPPED
    return len > 0 ? len - 1 : 0;
#elif defined FAULT_TAIL_SKIPPED
    return len > 32 ? len / 32 * 32 : len; /* a vector loop whose rest was forgotten */
#elif defined FAULT_FIRST_WINDOW_ONLY
    return len < WINDOW ? len : WINDOW;
#elif defined FAULT_READS_PAST_THE_END
    return (len + 7) / 8 * 8;
#else
    return len;
#endif
}

static uint64_t sum_of(const void* data, uint64_t len)
{
    const summand_t* bytes = data;
    uint64_t count = bytes_that_count(len);
    sum_t sum = 0;
    for (uint64_t i = 0; i < count; i++) {
#if defined FAULT_READS_PAST_THE_END
        volatile summand_t byte = bytes[i];
        sum += i < len ? byte : 0;
#else
        sum += (sum_t)bytes[i];
#endif
    }
#if defined FAULT_SIGNED_BYTES
    int64_t residue = (int64_t)sum % MODULUS;
    return (uint64_t)(residue < 0 ? residue + MODULUS : residue);
#else
    return (uint64_t)sum;
#endif
}

uint8_t atlas_kernel_conserved_delta(const void* before, const void* after, uint64_t len)
{
    uint64_t sum_before = sum_of(before, len), sum_after = sum_of(after, len);
#if defined FAULT_DELTA_SIGN_TURNED
    return (uint8_t)((sum_before % MODULUS + MODULUS - sum_after % MODULUS) % MODULUS);
#elif defined FAULT_DELTA_OF_WRAPPED_SUM
    return (uint8_t)((sum_after - sum_before) % MODULUS); /* 2^64 is 64 mod 96 */
#else
    return (uint8_t)((sum_after % MODULUS + MODULUS - sum_before % MODULUS) % MODULUS);
#endif
}

uint8_t atlas_kernel_conserved_window_check(const void* data, uint64_t len)
{
    return sum_of(data, len) % MODULUS == 0;
}

void atlas_kernel_conserved_update(uint64_t* state, const void* chunk, uint64_t n)
{
    *state = (*state + sum_of(chunk, n)) % MODULUS;
}

static void copy(void* dst, const void* src, uint64_t len)
{
    memcpy(dst, src, len);
}

static void fill(void* dst, uint8_t value, uint64_t len)
{
    memset(dst, value, len);
}

static uint32_t equal(const void* a, const void* b, uint64_t len)
{
    return memcmp(a, b, len) == 0;
}

static uint32_t turned(uint32_t word, int by)
{
    return word >> by | word << (32 - by);
}

/* FIPS 180-4, 4.2.2. */
static const uint32_t ROUND_CONSTANTS[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

/* FIPS 180-4, 6.2.2. */
static void sha256(uint32_t* state, const void* blocks, uint64_t count)
{
    const uint8_t* bytes = blocks;
    for (; count > 0; count--, bytes += 64) {
#if defined FAULT_HASH_STATE_SHARED
        static uint32_t w[64];
#else
        uint32_t w[64];
#endif
        uint32_t v[8];
        for (int i = 0; i < 16; i++)
            w[i] = (uint32_t)bytes[4 * i] << 24 | (uint32_t)bytes[4 * i + 1] << 16 |
                   (uint32_t)bytes[4 * i + 2] << 8 | bytes[4 * i + 3];
        for (int i = 16; i < 64; i++) {
            uint32_t a = w[i - 15], b = w[i - 2];
            w[i] = w[i - 16] + (turned(a, 7) ^ turned(a, 18) ^ a >> 3) + w[i - 7] +
                   (turned(b, 17) ^ turned(b, 19) ^ b >> 10);
        }
        memcpy(v, state, sizeof v);
        for (int i = 0; i < 64; i++) {
            uint32_t e = v[4], a = v[0];
            uint32_t t1 = v[7] + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) +
                          ((e & v[5]) ^ (~e & v[6])) + ROUND_CONSTANTS[i] + w[i];
            uint32_t t2 = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) +
                          ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
            v[7] = v[6], v[6] = v[5], v[5] = e, v[4] = v[3] + t1;
            v[3] = v[2], v[2] = v[1], v[1] = a, v[0] = t1 + t2;
        }
        for (int i = 0; i < 8; i++)
            state[i] += v[i];
    }
}

const atlas_kernels_t atlas_kernels_portable = {"plain C", copy, copy, fill, fill, equal, sha256};
ATLAS_ATOMIC(const atlas_kernels_t*) ATLAS_KERNELS_ACTIVE = &atlas_kernels_portable;

/* ------------------------------------------------------------------------------------------------
 * Errors.
 * --------------------------------------------------------------------------------------------- */

#if defined FAULT_ERROR_SHARED
#define _Thread_local
#endif
#include "../../runtime/error.c"

/* ------------------------------------------------------------------------------------------------
 * The contract.
 * --------------------------------------------------------------------------------------------- */

#define EXPORTED __attribute__((visibility("default")))

#undef atlas_domain_create
#undef atlas_domain_attach
#undef atlas_domain_verify
#undef atlas_domain_commit
#undef atlas_domain_destroy
#undef atlas_budget_alloc
#undef atlas_budget_release
#undef atlas_witness_generate
#undef atlas_witness_verify
#undef atlas_witness_destroy
#undef atlas_conserved_delta
#undef atlas_get_last_error

EXPORTED atlas_domain_t* atlas_domain_create(size_t bytes, uint8_t budget_class)
{
#if defined FAULT_CLASS_NOT_CHECKED
    atlas_domain_t* domain = right_domain_create(bytes, 0);
    if (domain != NULL)
        domain->budget = budget_class;
    return domain;
#elif defined FAULT_NO_MEMORY_CRASHES
    atlas_domain_t* domain = right_domain_create(bytes, budget_class);
    if (bytes > 0 && budget_class < ATLAS_MODULUS)
        domain->budget = budget_class; /* all arguments are right: it cannot be NULL */
    return domain;
#else
    return right_domain_create(bytes, budget_class);
#endif
}

EXPORTED int atlas_domain_attach(atlas_domain_t* domain, void* base, size_t len)
{
#if defined FAULT_ATTACH_COPIES
    void* own = malloc(len); /* leaks as well */
    if (own == NULL || base == NULL)
        return right_domain_attach(domain, base, len);
    return right_domain_attach(domain, memcpy(own, base, len), len);
#elif defined FAULT_LEAK_PER_REFUSED_ATTACH
    void* volatile prepared = malloc(56);
    int code = right_domain_attach(domain, base, len);
    if (code == ATLAS_OK)
        free(prepared);
    return code;
#else
    return right_domain_attach(domain, base, len);
#endif
}

EXPORTED bool atlas_domain_verify(const atlas_domain_t* domain)
{
#if defined FAULT_HANGS
    for (volatile bool waiting = true; waiting;)
        ;
    return false;
#elif defined FAULT_NULL_CRASHES
    return domain->len > 0 && right_domain_verify(domain);
#elif defined FAULT_VERIFY_STATE_SHARED
    static volatile uint64_t sum;
    if (domain == NULL || domain->len == 0)
        return right_domain_verify(domain);
    sum = 0;
    for (const uint8_t *byte = domain->base, *end = byte + domain->len; byte < end; byte++)
        sum += *byte;
    return sum % MODULUS == 0;
#elif defined CHOICE_COMMITTED_NOT_VERIFIED
    return domain != NULL && domain->witness == NULL && right_domain_verify(domain);
#else
    return right_domain_verify(domain);
#endif
}

EXPORTED int atlas_domain_commit(atlas_domain_t* domain)
{
#if defined FAULT_COMMIT_DOES_NOT_VERIFY
    static uint8_t zeros[WINDOW];
    if (domain == NULL || domain->len == 0 || domain->witness != NULL)
        return right_domain_commit(domain);
    void* base = domain->base;
    size_t len = domain->len;
    domain->base = zeros;
    domain->len = sizeof zeros;
    int code = right_domain_commit(domain);
    domain->base = base;
    domain->len = len;
    return code;
#elif defined FAULT_SECOND_COMMIT_SUCCEEDS
    int code = right_domain_commit(domain);
    return code == ATLAS_E_STATE && domain->witness != NULL ? ATLAS_OK : code;
#elif defined FAULT_COMMIT_CHECK_THEN_SET
    if (domain == NULL || domain->len == 0 || domain->witness != NULL)
        return right_domain_commit(domain);
    if (!right_domain_verify(domain))
        return ATLAS_E_CONSERVATION;
    /* All who were here before the first one has its witness go on. */
    domain->witness = right_witness_generate(domain->base, domain->len);
    return atlas_error_clear();
#elif defined FAULT_REFUSED_COMMIT_CLOSES
    int code = right_domain_commit(domain);
    if (code == ATLAS_E_CONSERVATION)
        domain->witness = right_witness_generate(domain->base, domain->len);
    return code;
#elif defined FAULT_LEAK_PER_REFUSED_COMMIT
    void* volatile prepared = malloc(56);
    int code = right_domain_commit(domain);
    if (code == ATLAS_OK)
        free(prepared);
    return code;
#elif defined FAULT_WRONG_CODE
    int code = right_domain_commit(domain);
    return code == ATLAS_E_CONSERVATION ? ATLAS_E_WITNESS : code;
#else
    return right_domain_commit(domain);
#endif
}

EXPORTED void atlas_domain_destroy(atlas_domain_t* domain)
{
#if defined FAULT_LEAK_PER_UNATTACHED_DOMAIN
    if (domain != NULL && domain->len == 0)
        return;
#elif defined FAULT_LEAK_PER_THREAD
    static ATLAS_THREAD_LOCAL void* volatile room;
    if (room == NULL)
        room = malloc(4096);
#endif
#if defined FAULT_NULL_DESTROY_CRASHES
    *(volatile uint32_t*)&domain->budget = 0;
#endif
#if defined FAULT_DESTROY_FREES_THE_REGION
    if (domain != NULL)
        free(domain->base);
#endif
    right_domain_destroy(domain);
}

EXPORTED bool atlas_budget_alloc(atlas_domain_t* domain, uint8_t amt)
{
#ifdef CHOICE_NO_BUDGET_AFTER_COMMIT
    if (domain != NULL && domain->witness != NULL)
        return false;
#endif
#ifdef CHOICE_NO_AMOUNT_ZERO
    if (amt == 0)
        return false;
#endif
#if defined FAULT_ALLOC_BELOW_ZERO_WRAPS
    if (domain == NULL || amt > 95)
        return right_budget_alloc(domain, amt);
    return right_budget_release(domain, (uint8_t)(96 - amt) % 96);
#elif defined FAULT_BUDGET_NOT_ATOMIC
    if (domain == NULL || amt > 95 || domain->budget < amt)
        return right_budget_alloc(domain, amt);
    domain->budget = domain->budget - amt;
    return true;
#elif defined FAULT_BUDGET_GIVES_NOTHING
    return false;
#elif defined FAULT_BUDGET_LARGE_AMOUNTS
    return right_budget_alloc(domain, amt % 96);
#else
    return right_budget_alloc(domain, amt);
#endif
}

EXPORTED bool atlas_budget_release(atlas_domain_t* domain, uint8_t amt)
{
#ifdef CHOICE_NO_AMOUNT_ZERO
    if (amt == 0)
        return false;
#endif
#if defined FAULT_BUDGET_CLAMPS
    if (domain != NULL && amt <= 95 && domain->budget + amt > 95) {
        domain->budget = 95;
        return true;
    }
    return right_budget_release(domain, amt);
#elif defined FAULT_BUDGET_NOT_ATOMIC || defined FAULT_RELEASE_NOT_ATOMIC
    if (domain == NULL || amt > 95)
        return right_budget_release(domain, amt);
    domain->budget = (domain->budget + amt) % 96;
    return true;
#elif defined FAULT_RELEASE_ADDS_THEN_REDUCES
    if (domain == NULL || amt > 95)
        return right_budget_release(domain, amt);
    if (atomic_fetch_add(&domain->budget, amt) + amt > 95) /* a moment above the range */
        atomic_fetch_sub(&domain->budget, 96);
    return true;
#elif defined FAULT_BUDGET_NOT_REDUCED
    if (domain == NULL || amt > 95)
        return right_budget_release(domain, amt);
    domain->budget += amt;
    return true;
#else
    return right_budget_release(domain, amt);
#endif
}

/* Replaces what a witness remembers, and what a region is compared by, by something weaker. */
static void weaken(atlas_witness_t* w, const void* base, size_t len)
{
    const uint8_t* bytes = base;
    (void)bytes;
    (void)len;
    uint64_t weak[4] = {0};
#if defined FAULT_WITNESS_IS_XOR
    for (size_t i = 0; i < len; i++)
        weak[0] ^= (uint64_t)bytes[i] << (8 * (i % 8));
    w->residue = 0;
#elif defined FAULT_WITNESS_IS_RESIDUE
    weak[0] = w->residue;
#elif defined FAULT_WITNESS_IS_CRC32
    uint32_t crc = 0xFFFFFFFF;
    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
    }
    weak[0] = crc;
#elif defined FAULT_WITNESS_IS_ADLER32
    uint32_t sum = 1, sum_of_sums = 0; /* RFC 1950 */
    for (size_t i = 0; i < len; i++) {
        sum = (sum + bytes[i]) % 65521;
        sum_of_sums = (sum_of_sums + sum) % 65521;
    }
    weak[0] = (uint64_t)sum_of_sums << 16 | sum;
#elif defined FAULT_WITNESS_IS_POLYNOMIAL
    for (size_t i = 0; i < len; i++)
        weak[0] = weak[0] * 31 + bytes[i];
#elif defined FAULT_WITNESS_IS_FNV1A
    uint32_t hash = 0x811c9dc5;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ bytes[i]) * 0x01000193;
    weak[0] = hash;
#elif defined FAULT_WITNESS_OF_FIRST_4_KIB || defined FAULT_WITNESS_OF_FIRST_MIB
#if defined FAULT_WITNESS_OF_FIRST_MIB
    const size_t most = (size_t)1 << 20;
#else
    const size_t most = 4096;
#endif
    atlas_witness_t first;
    atlas_witness_measure(&first, base, len < most ? len : most);
    memcpy(weak, first.digest, sizeof weak);
#elif defined FAULT_WITNESS_IGNORES_A_BIT
    atlas_witness_t part;
    uint8_t masked[WINDOW * 32];
    size_t used = len < sizeof masked ? len : sizeof masked;
    for (size_t i = 0; i < used; i++)
        masked[i] = bytes[i] & 0x7F;
    atlas_witness_measure(&part, masked, used);
    memcpy(weak, part.digest, sizeof weak);
    w->residue = 0;
#else
    memcpy(weak, w->digest, sizeof weak);
#endif
    memcpy(w->digest, weak, sizeof weak);
}

EXPORTED atlas_witness_t* atlas_witness_generate(const void* base, size_t len)
{
#if defined FAULT_LEAK_PER_WITNESS
    void* volatile leaked = malloc(48);
    (void)leaked;
#elif defined CHOICE_NO_WITNESS_OF_NOTHING
    if (len == 0)
        return right_witness_generate(NULL, len);
#endif
    atlas_witness_t* w = right_witness_generate(base, len);
    if (w == NULL)
        return NULL;
#if defined FAULT_WITNESS_KEEPS_A_POINTER
    memcpy(w->digest, &base, sizeof base);
#elif defined FAULT_WITNESS_CHANGES_THE_REGION
    ((uint8_t*)base)[0] ^= len > 0 ? 1 : 0;
#else
    weaken(w, base, len);
#endif
    return w;
}

EXPORTED bool atlas_witness_verify(const atlas_witness_t* w, const void* base, size_t len)
{
#if defined FAULT_VERIFY_ALWAYS_TRUE
    return w != NULL && base != NULL;
#endif
    if (w == NULL || base == NULL)
        return right_witness_verify(w, base, len);
#if defined FAULT_LENGTH_IGNORED
    len = (size_t)w->length;
#endif
    atlas_witness_t found;
#if defined FAULT_WITNESS_KEEPS_A_POINTER
    const void* kept;
    memcpy(&kept, w->digest, sizeof kept);
    return len == w->length && memcmp(kept, base, len) == 0;
#endif
    if (len != w->length)
        return right_witness_verify(w, base, len);
    atlas_witness_measure(&found, base, len);
    weaken(&found, base, len);
    return atlas_witness_compare("atlas_witness_verify", w, &found) == ATLAS_OK;
}

EXPORTED void atlas_witness_destroy(atlas_witness_t* w)
{
    right_witness_destroy(w);
}

EXPORTED uint8_t atlas_conserved_delta(const void* before, const void* after, size_t len)
{
#if defined FAULT_LEAK_PER_DELTA
    void* volatile leaked = malloc(40);
    (void)leaked;
#endif
    return right_conserved_delta(before, after, len);
}

#if !defined FAULT_FUNCTION_MISSING
EXPORTED const char* atlas_get_last_error(void)
{
#if defined FAULT_NO_ERROR_TEXT
    return "";
#elif defined FAULT_ERROR_TEXT_CONSTANT
    return "error";
#else
    return right_get_last_error();
#endif
}
#endif

#if defined FAULT_CRASHES_AT_LOAD
__attribute__((constructor)) static void crash(void)
{
    abort();
}
#endif
