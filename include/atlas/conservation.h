/* SPDX-License-Identifier: Apache-2.0
 *
 * atlas/conservation.h - Layer 2 (Conservation) of the Atlas-12288 model.
 *
 * The law: the bytes of a domain sum to 0 mod 96. The residue of a region is the sum of its bytes
 * mod 96 (the empty sum is 0); a region with residue 0 is conserved. A domain attaches one region,
 * holds a budget in 0..95, and moves once from OPEN to COMMITTED, which makes a SHA-256 witness.
 *
 * The residue is a law, not a security check: it misses swapped bytes, +k/-k pairs and changes by
 * 96 or 192. What proves integrity is the digest of a witness.
 *
 * Conventions that hold for every function:
 *   - Lengths are in bytes. Any alignment is accepted. Regions are never copied, kept past the call
 *     (but by attach) or freed: the caller owns them and synchronises access to their bytes. (Only
 *     what atlas_region_create() made has memory of the library; the section Regions is about it.)
 *   - A region that wraps around the end of the address space, as one of a length does that was
 *     negative, is refused like one whose base is NULL (ATLAS_E_MEMORY). Of leaves, handles and
 *     results the library believes that they are there.
 *   - A NULL handle gives false, NULL, 0 or ATLAS_E_MEMORY; destroy functions accept NULL.
 *   - A refused call changes nothing. It says why in atlas_get_last_error() of the calling thread;
 *     a call that succeeds resets that text to "". Functions that cannot fail (destroy, those that
 *     read the error, versions, names of kernel sets) leave it alone, so that a clean-up does not
 *     hide its cause.
 *   - Thread safety: every function may be called from any thread on any handle, except that
 *     destroy must be the last use of its handle and that one stream is used by one thread at a
 *     time. Nothing takes a lock; no call on one domain waits for another.
 *   - With ATLAS_SINGLE_THREAD the library has no atomics and no thread-local storage; the
 *     signatures are the same, and all calls must come from one thread.
 */
#ifndef ATLAS_CONSERVATION_H
#define ATLAS_CONSERVATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Every number of the model, written here and read from here by the kernels and the binding. */
#define ATLAS_API_VERSION 1      /* raised when a declaration of this header changes            */
#define ATLAS_MODULUS 96         /* the law: sum of bytes mod 96 == 0                           */
#define ATLAS_PAGE_BYTES 256     /* a page                                                      */
#define ATLAS_WINDOW_BYTES 12288 /* a window: 48 pages; 12288 = 48 * 256 = 128 * 96             */
#define ATLAS_DIGEST_BYTES 32    /* SHA-256, FIPS 180-4                                         */
#define ATLAS_WITNESS_BYTES 56   /* the byte form of a witness, see atlas_witness_to_bytes()    */
#define ATLAS_WITNESS_STREAM_BYTES 112 /* that of a stream, see atlas_witness_stream_to_bytes()   */

#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* ------------------------------------------------------------------------------------------------
 * The contract. Names, types and values are those of the contract, letter for letter.
 * --------------------------------------------------------------------------------------------- */

/* The columns are the contract's too. */
/* clang-format off */
typedef enum {
    ATLAS_OK = 0,               // Success
    ATLAS_E_CONSERVATION = 1,   // Conservation law violated
    ATLAS_E_WITNESS = 2,        // Witness verification failed
    ATLAS_E_BUDGET = 3,         // Budget constraint violated
    ATLAS_E_MEMORY = 4,         // Memory allocation failed
    ATLAS_E_STATE = 5           // Invalid state transition
} atlas_error_t;
/* clang-format on */

typedef struct atlas_domain atlas_domain_t;
typedef struct atlas_witness atlas_witness_t;

/* A new OPEN domain that can attach up to `bytes` bytes (its capacity) and holds `budget_class`.
 * NULL: bytes == 0 or no memory (ATLAS_E_MEMORY); budget_class > 95 (ATLAS_E_BUDGET). */
atlas_domain_t* atlas_domain_create(size_t bytes, uint8_t budget_class);

/* Puts the region [base, base + len) under the law of the domain. Non-owning: the region must
 * outlive the domain. ATLAS_E_MEMORY: base is NULL, len is 0 or larger than the capacity, or the
 * region wraps around. ATLAS_E_STATE: a region is attached already (it stays), or the domain is
 * COMMITTED. */
int atlas_domain_attach(atlas_domain_t* domain, void* base, size_t len);

/* OPEN: is the region conserved? COMMITTED: is it conserved, and does it match the witness?
 * False: ATLAS_E_STATE nothing attached; ATLAS_E_CONSERVATION residue not 0; ATLAS_E_WITNESS the
 * bytes changed after the commit and the residue did not. O(len). */
bool atlas_domain_verify(const atlas_domain_t* domain);

/* OPEN -> COMMITTED, once: makes the witness of the region. Of racing commits exactly one returns
 * ATLAS_OK; publishing the witness is the transition, so there is no state between.
 * ATLAS_E_STATE: nothing attached, or COMMITTED already. ATLAS_E_CONSERVATION: residue not 0.
 * ATLAS_E_MEMORY: no memory for the witness. On any error the state is unchanged. O(len). */
int atlas_domain_commit(atlas_domain_t* domain);

/* Frees the domain and its witness, never the attached region. NULL is a no-op. */
void atlas_domain_destroy(atlas_domain_t* domain);

/* Takes `amt` from the budget, atomically. False, budget unchanged: amt is larger than the budget
 * or than 95 (ATLAS_E_BUDGET). Works in both states. */
bool atlas_budget_alloc(atlas_domain_t* domain, uint8_t amt);

/* Gives `amt` back, atomically: budget = (budget + amt) mod 96.
 * False: amt is larger than 95 (ATLAS_E_BUDGET). Works in both states. */
bool atlas_budget_release(atlas_domain_t* domain, uint8_t amt);

/* The witness of a region: length, residue, SHA-256 digest, time. Immutable. The caller destroys
 * it. Length 0 with a base that is not NULL is the witness of the empty region. NULL: base is
 * NULL or no memory (ATLAS_E_MEMORY). O(len), reads memory once. */
atlas_witness_t* atlas_witness_generate(const void* base, size_t len);

/* True when length, residue and digest are those of the region. False: any differs
 * (ATLAS_E_WITNESS); w or base is NULL (ATLAS_E_MEMORY). Digests are compared in constant time. */
bool atlas_witness_verify(const atlas_witness_t* w, const void* base, size_t len);

/* Frees the witness. NULL is a no-op. Not for the witness that a domain lends. */
void atlas_witness_destroy(atlas_witness_t* w);

/* (residue(after) - residue(before)) mod 96, in 0..95. NULL with len > 0: 0 and ATLAS_E_MEMORY. */
uint8_t atlas_conserved_delta(const void* before, const void* after, size_t len);

/* The calling thread's last error as a sentence that names the function, the values and the law;
 * "" after a success. Valid until this thread's next call into the library. */
const char* atlas_get_last_error(void);

/* ------------------------------------------------------------------------------------------------
 * The kernels of the contract are symbols of this library as well, for callers in LLVM IR. C has
 * no i7; declare them in IR, with these types (conservation.ll and .bc define them too):
 *
 *   declare i7   @atlas.conserved.delta(ptr %before, ptr %after, i64 %len)
 *   declare i1   @atlas.conserved.window.check(ptr %data, i64 %len)
 *   declare void @atlas.conserved.update(ptr %state, ptr %chunk, i64 %n)  ; state: i64, the residue
 * --------------------------------------------------------------------------------------------- */

/* ------------------------------------------------------------------------------------------------
 * Extensions: not in the contract.
 * --------------------------------------------------------------------------------------------- */

/* Version of this API as compiled into the library, and the release, "major.minor.patch". */
uint32_t atlas_api_version(void);
const char* atlas_version(void);

/* Code of the last error of this thread (ATLAS_OK after a success), and the text of a code
 * ("unknown error code" where there is no such code). */
atlas_error_t atlas_get_last_error_code(void);
const char* atlas_error_string(int code);

/* --- Domains --- */

typedef enum { ATLAS_STATE_OPEN = 0, ATLAS_STATE_COMMITTED = 1 } atlas_state_t;

/* Writes the state, or the budget left (0..95), to *out. ATLAS_E_MEMORY: domain or out is NULL. */
int atlas_domain_state(const atlas_domain_t* domain, atlas_state_t* out);
int atlas_budget_available(const atlas_domain_t* domain, uint8_t* out);

/* The witness that the commit made, borrowed: it lives as long as the domain.
 * NULL: the domain is OPEN (ATLAS_E_STATE) or NULL (ATLAS_E_MEMORY). */
const atlas_witness_t* atlas_domain_witness(const atlas_domain_t* domain);

/* --- Witnesses --- */

/* The fields. NULL gives 0 or NULL and ATLAS_E_MEMORY. Pointers live as long as the witness.
 * digest: ATLAS_DIGEST_BYTES bytes. timestamp: nanoseconds since 1970-01-01T00:00:00Z.
 * algorithm: "sha256". */
const char* atlas_witness_algorithm(const atlas_witness_t* w);
uint64_t atlas_witness_length(const atlas_witness_t* w);
uint8_t atlas_witness_residue(const atlas_witness_t* w);
const uint8_t* atlas_witness_digest(const atlas_witness_t* w);
uint64_t atlas_witness_timestamp_ns(const atlas_witness_t* w);

/* The witnesses of `count` regions, which are hashed beside one another, and so faster than one
 * after another where they are many: of bases[i] with lens[i] bytes to out[i], each as by
 * atlas_witness_generate(). The caller destroys each. All or nothing: on an error nothing is
 * hashed, and out is as it was. ATLAS_E_MEMORY: bases, lens or out is NULL with count > 0, a base is
 * NULL (also with length 0), or no memory. Several threads may share the regions out. */
int atlas_witness_generate_many(const void* const* bases, const size_t* lens, size_t count,
                                atlas_witness_t** out);

/* Byte form, ATLAS_WITNESS_BYTES long, the same on every machine; integers little-endian:
 *
 *   offset  size  field
 *        0     4  magic, "ATLW"
 *        4     1  version of the form, 1
 *        5     1  algorithm, 1 = sha256
 *        6     1  residue, 0..95
 *        7     1  reserved, 0
 *        8     8  length
 *       16     8  timestamp, ns
 *       24    32  digest
 *
 * from_bytes refuses any other size (ATLAS_E_WITNESS) and any field out of its range, a length of
 * 0 with a residue that is not 0 included, so that bytes -> witness -> bytes is the identity. */
int atlas_witness_to_bytes(const atlas_witness_t* w, uint8_t out[ATLAS_WITNESS_BYTES]);
atlas_witness_t* atlas_witness_from_bytes(const void* bytes, size_t len);

/* A witness of data that comes in chunks of any size, in constant memory. update takes the next
 * n bytes (NULL only with n == 0), ATLAS_E_STATE: they would be more than 2^61 - 1, the most that
 * SHA-256 is defined for; witness makes the witness of all bytes so far and leaves the stream as it
 * is, so that more may follow. */
typedef struct atlas_witness_stream atlas_witness_stream_t;
atlas_witness_stream_t* atlas_witness_stream_create(void);
int atlas_witness_stream_update(atlas_witness_stream_t* stream, const void* chunk, size_t n);
atlas_witness_t* atlas_witness_stream_witness(const atlas_witness_stream_t* stream);
void atlas_witness_stream_destroy(atlas_witness_stream_t* stream);

/* Updates `count` streams, stream i with chunks[i] of lens[i] bytes, which are hashed beside one
 * another as by atlas_witness_generate_many(): so several large files that are read in turns are
 * hashed faster than one after another. All or nothing, each refused as by
 * atlas_witness_stream_update(). ATLAS_E_MEMORY: streams, chunks or lens is NULL with count > 0;
 * ATLAS_E_STATE: a stream stands there twice. */
int atlas_witness_stream_update_many(atlas_witness_stream_t* const* streams,
                                     const void* const* chunks, const size_t* lens, size_t count);

/* Byte form of a stream, ATLAS_WITNESS_STREAM_BYTES long, the same on every machine and for every
 * kernel set, to go on later or elsewhere; integers little-endian:
 *
 *   offset  size  field
 *        0     4  magic, "ATLS"
 *        4     1  version of the form, 1
 *        5     1  algorithm, 1 = sha256
 *        6     1  residue, 0..95
 *        7     1  reserved, 0
 *        8     8  length, 0..2^61 - 1
 *       16    32  the eight words of the hash after the whole blocks of 64 bytes, 4 bytes each
 *       48    64  the length mod 64 bytes behind those blocks, then zeros
 *
 * from_bytes makes a stream of its own. It refuses any other size (ATLAS_E_WITNESS) and any field
 * out of its range; below a length of 64, where the form has all bytes, also words that are not the
 * first ones of SHA-256 and a residue that is not that of the bytes, so that bytes -> stream ->
 * bytes is the identity. The form holds no secret but what the data is (its last bytes, up to 63,
 * stand in it), and is not authenticated: whoever can write it decides what is witnessed. */
int atlas_witness_stream_to_bytes(const atlas_witness_stream_t* stream,
                                  uint8_t out[ATLAS_WITNESS_STREAM_BYTES]);
atlas_witness_stream_t* atlas_witness_stream_from_bytes(const void* bytes, size_t len);

/* --- Conservation utilities --- */

/* Residue of a region, in 0..95, and whether it is 0. NULL with len > 0: 0 / false and
 * ATLAS_E_MEMORY. check is false without an error (ATLAS_OK) when the region is not conserved. */
uint8_t atlas_conserved_residue(const void* base, size_t len);
bool atlas_conserved_check(const void* base, size_t len);

/* Residue of every window of a region, one byte each, to out[0 .. ceil(len / 12288) - 1]; the last
 * window may be shorter. ATLAS_E_MEMORY: NULL with len > 0. */
int atlas_conserved_window_residues(const void* base, size_t len, uint8_t* out);

/* Streaming residue: *state = (*state + sum of the chunk) mod 96. Start with *state = 0.
 * ATLAS_E_MEMORY: state is NULL, or chunk is NULL with n > 0. */
int atlas_conserved_update(uint64_t* state, const void* chunk, size_t n);

/* Copies a conserved region, all or nothing: the source is checked before the first byte is
 * written. ATLAS_E_CONSERVATION: residue of src not 0. ATLAS_E_MEMORY: NULL with len > 0, or the
 * regions overlap. */
int atlas_conserved_memcpy(void* dst, const void* src, size_t len);

/* Fills a region with `value`, then applies the fixup, so that the region is conserved.
 * ATLAS_E_MEMORY: NULL with len > 0. */
int atlas_conserved_memset(void* dst, uint8_t value, size_t len);

/* Fixup: replaces the last byte by the byte nearest to it (the smaller on a tie) that makes the
 * region conserved. ATLAS_E_MEMORY: NULL with len > 0. Length 0 is conserved already. */
int atlas_conserved_fixup(void* base, size_t len);

/* The same at the byte `index`, which is changed in place of the last one. Choose one that the data
 * can spare: the last byte of a little-endian float is its sign and exponent. ATLAS_E_MEMORY: base
 * is NULL, or index is not below len. */
int atlas_conserved_fixup_at(void* base, size_t len, size_t index);

/* --- Regions: memory of the library's own, in which the law has room. A payload of any bytes is
 * followed by one byte more, the balance, which makes both together conserved: so the law never
 * changes the data. Payload and balance are what a domain attaches and a witness is made of,
 * atlas_region_size() bytes from atlas_region_payload() on.
 *
 *   Linux                       a mapping of a memfd; the payload begins at a page of the system, and
 *                               a page that no one can touch lies before it and behind the last one.
 *                               Where the system refuses a memfd (no such call, a sandbox, a limit on
 *                               the size of files): an anonymous mapping, with the same pages
 *   other systems with mmap     an anonymous mapping, with the same pages
 *   ATLAS_SINGLE_THREAD, WebAssembly  memory of calloc; the payload begins at a multiple of
 *                               ATLAS_PAGE_BYTES, and no such page lies around it
 *
 * A mapping of a memfd takes a file descriptor, and is shared with children of fork(). The caller
 * synchronises access to payload and balance. --- */

typedef struct atlas_region atlas_region_t;

/* A region with a payload of `nbytes` zeros and the balance 0: conserved. Memory is taken when a
 * page is first touched. The caller destroys it. NULL: nbytes is 0 or too large for an object, no
 * memory, or no file descriptor (ATLAS_E_MEMORY). */
atlas_region_t* atlas_region_create(size_t nbytes);

/* The payload, and its length. The pointer lives as long as the region; the balance is the byte
 * behind the payload. NULL gives NULL or 0 and ATLAS_E_MEMORY. */
void* atlas_region_payload(const atlas_region_t* region);
size_t atlas_region_payload_bytes(const atlas_region_t* region);

/* Payload and balance: one more than the length of the payload. NULL gives 0 and ATLAS_E_MEMORY. */
size_t atlas_region_size(const atlas_region_t* region);

/* Sets the balance so that payload and balance are conserved: to 0..95, which is unique. Writes it
 * to *out where out is not NULL. O(nbytes). ATLAS_E_STATE: the region is sealed. */
int atlas_region_balance(atlas_region_t* region, uint8_t* out);

/* Sets every byte of the payload to `value`, or to those of `src`, any bytes, and sets the balance.
 * ATLAS_E_MEMORY: src is NULL, wraps around or overlaps the region, or len is not the length of the
 * payload; then nothing is written. ATLAS_E_STATE: the region is sealed. */
int atlas_region_fill(atlas_region_t* region, uint8_t value);
int atlas_region_copy(atlas_region_t* region, const void* src, size_t len);

/* A commit after which the system refuses writes to the region, which the domain has attached as a
 * whole: seals it, then commits as atlas_domain_commit() does.
 *
 *   Linux, a memfd              every process is refused, for good: F_SEAL_WRITE, _SHRINK, _GROW, _SEAL
 *   another mapping             this process is refused, by the protection of the pages
 *   ATLAS_SINGLE_THREAD, WebAssembly  ATLAS_E_STATE: nothing can be sealed
 *
 * Nobody may write meanwhile: a write through a pointer ends the process, as it does from then on.
 * What is known to forbid the commit is looked for before the seal, and leaves domain and region as
 * they were. ATLAS_E_STATE: as atlas_domain_commit(), other memory is attached, another call seals
 * the region, or another process has it mapped. ATLAS_E_CONSERVATION: residue not 0.
 * ATLAS_E_MEMORY: NULL, or no memory. After an error atlas_region_sealed() tells whether the region
 * is sealed: by a racing commit, or by writes in the last moment that broke the law. A sealed
 * region is committed by this function too. O(len), reads memory twice. */
int atlas_domain_commit_sealed(atlas_domain_t* domain, atlas_region_t* region);

/* Is the region sealed? NULL gives false and ATLAS_E_MEMORY. */
bool atlas_region_sealed(const atlas_region_t* region);

/* The descriptor of the memfd of a sealed region, to be sent to another process. It stays the
 * region's own: who needs it for longer duplicates it. ATLAS_E_STATE: the region is not sealed, or
 * is not in a memfd. ATLAS_E_MEMORY: NULL. */
int atlas_region_fd(const atlas_region_t* region, int* out);

/* The sealed region of such a descriptor, which is duplicated: the same memory, without a copy.
 * Anybody may have made it, so nothing is taken for granted but that it cannot change any more:
 * what it should be, a witness tells. NULL: the descriptor is not open, or not of a memfd with all
 * four seals and at least two bytes (ATLAS_E_STATE); no memory or no file descriptor
 * (ATLAS_E_MEMORY). */
atlas_region_t* atlas_region_from_fd(int fd);

/* Frees the region and its memory, which no one may use then. NULL is a no-op. */
void atlas_region_destroy(atlas_region_t* region);

/* --- Trees: the Merkle Tree Hash of RFC 9162, section 2.1, over windows. A leaf is the SHA-256 of
 * 0x00 and a window, a node that of 0x01 and its two children. The last window may be shorter; the
 * empty region has no leaf, and its root is the SHA-256 of no bytes. --- */

/* The leaf hashes of a region, ATLAS_DIGEST_BYTES each, to out[0 .. ceil(len / 12288) - 1], and, in
 * the same pass, *residue = (*residue + sum of the region) mod 96 (residue may be NULL).
 * ATLAS_E_MEMORY: base or out is NULL with len > 0. Regions that follow one another, all but the
 * last a multiple of a window long, may be hashed by several threads. O(len). */
int atlas_tree_leaves(const void* base, size_t len, uint8_t* out, uint64_t* residue);

/* The same with the residue of each window, to residues[0 .. ceil(len / 12288) - 1], in the same
 * pass. ATLAS_E_MEMORY: base, out or residues is NULL with len > 0. */
int atlas_tree_leaves_residues(const void* base, size_t len, uint8_t* out, uint8_t* residues);

/* The same for `count` regions, bases[i] with lens[i] bytes, whose windows are hashed beside one
 * another, and so faster than one region after another where they are small: the leaf hashes and
 * the residues of their windows, those of a region behind those of the one before, and the root of
 * each, ATLAS_DIGEST_BYTES to roots + i * ATLAS_DIGEST_BYTES. Needs no memory but that. On an error
 * nothing is hashed, and nothing is written. ATLAS_E_MEMORY: bases, lens or roots is NULL with
 * count > 0, a base with lens[i] > 0, or leaves or residues where there is a window. Several
 * threads may share the regions out. */
int atlas_tree_leaves_many(const void* const* bases, const size_t* lens, size_t count,
                           uint8_t* leaves, uint8_t* residues, uint8_t* roots);

/* The node above two hashes; out may be one of them. ATLAS_E_MEMORY: NULL. */
int atlas_tree_node(const uint8_t* left, const uint8_t* right, uint8_t* out);

/* The root over `count` leaf hashes (or nodes of one height, in a perfect left part of a tree).
 * ATLAS_E_MEMORY: out is NULL, or leaves is NULL with count > 0. O(count), O(log count) memory. */
int atlas_tree_root(const uint8_t* leaves, size_t count, uint8_t* out);

/* The root of data that comes in chunks of any size, in constant memory. update takes the next n
 * bytes (NULL only with n == 0). append takes whole windows by their leaf hashes and the residue of
 * their bytes, as atlas_tree_leaves() gives them, so that they can be hashed elsewhere; it is
 * refused within a window (ATLAS_E_STATE), and with a residue that is above 95, or is not 0 where
 * count is 0 (ATLAS_E_CONSERVATION). root writes the root, and where they are not NULL the length
 * and the residue, of all bytes so far; more may follow. copy is a stream of its own (NULL: no
 * memory, ATLAS_E_MEMORY). */
typedef struct atlas_tree_stream atlas_tree_stream_t;
atlas_tree_stream_t* atlas_tree_stream_create(void);
atlas_tree_stream_t* atlas_tree_stream_copy(const atlas_tree_stream_t* stream);
int atlas_tree_stream_update(atlas_tree_stream_t* stream, const void* chunk, size_t n);
int atlas_tree_stream_append(atlas_tree_stream_t* stream, const uint8_t* leaves, size_t count,
                             uint8_t residue);
int atlas_tree_stream_root(const atlas_tree_stream_t* stream, uint8_t* out, uint64_t* length,
                           uint8_t* residue);
void atlas_tree_stream_destroy(atlas_tree_stream_t* stream);

/* --- Kernel sets: the same functions for several instruction sets, chosen when the library is
 * loaded by what the CPU has. For tests and benchmarks, another one can be chosen. --- */

/* Name of the set in use, for example "x86-64-v3+sha". */
const char* atlas_kernel_set(void);

/* Names of the sets compiled into the library, best first; NULL from their count on. */
const char* atlas_kernel_set_name(size_t index);

/* Can this CPU run the set? False for a name that is not compiled in. Sets no error. */
bool atlas_kernel_set_supported(const char* name);

/* Uses another set from now on, in all threads; results are the same, the speed is not.
 * ATLAS_E_MEMORY: name is NULL. ATLAS_E_STATE: not compiled in, or this CPU cannot run it. */
int atlas_kernel_set_select(const char* name);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif /* ATLAS_CONSERVATION_H */
