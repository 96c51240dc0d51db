# SPDX-License-Identifier: Apache-2.0
# The C API as the binding sees it, and its numbers.

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX
    # PyObject_GetBuffer() for a caller that checks the result itself: a try block costs 40 ns.
    int try_get_buffer "PyObject_GetBuffer"(object, Py_buffer *, int) noexcept
    void PyErr_Clear() noexcept
    PyThreadState *PyEval_SaveThread() noexcept nogil
    void PyEval_RestoreThread(PyThreadState *) noexcept nogil

cdef extern from "atlas/conservation.h" nogil:
    enum:
        ATLAS_API_VERSION
        ATLAS_MODULUS
        ATLAS_PAGE_BYTES
        ATLAS_WINDOW_BYTES
        ATLAS_DIGEST_BYTES
        ATLAS_WITNESS_BYTES
        ATLAS_WITNESS_STREAM_BYTES

    ctypedef enum atlas_error_t:
        ATLAS_OK
        ATLAS_E_CONSERVATION
        ATLAS_E_WITNESS
        ATLAS_E_BUDGET
        ATLAS_E_MEMORY
        ATLAS_E_STATE

    ctypedef enum atlas_state_t:
        ATLAS_STATE_OPEN
        ATLAS_STATE_COMMITTED

    ctypedef struct atlas_domain_t
    ctypedef struct atlas_witness_t
    ctypedef struct atlas_witness_stream_t

    atlas_domain_t *atlas_domain_create(size_t bytes, uint8_t budget_class)
    int atlas_domain_attach(atlas_domain_t *domain, void *base, size_t len)
    bint atlas_domain_verify(const atlas_domain_t *domain)
    int atlas_domain_commit(atlas_domain_t *domain)
    void atlas_domain_destroy(atlas_domain_t *domain)
    int atlas_domain_state(const atlas_domain_t *domain, atlas_state_t *out)
    const atlas_witness_t *atlas_domain_witness(const atlas_domain_t *domain)

    bint atlas_budget_alloc(atlas_domain_t *domain, uint8_t amt)
    bint atlas_budget_release(atlas_domain_t *domain, uint8_t amt)
    int atlas_budget_available(const atlas_domain_t *domain, uint8_t *out)

    atlas_witness_t *atlas_witness_generate(const void *base, size_t len)
    int atlas_witness_generate_many(
        const void *const *bases, const size_t *lens, size_t count, atlas_witness_t **out)
    bint atlas_witness_verify(const atlas_witness_t *w, const void *base, size_t len)
    void atlas_witness_destroy(atlas_witness_t *w)
    const char *atlas_witness_algorithm(const atlas_witness_t *w)
    uint64_t atlas_witness_length(const atlas_witness_t *w)
    uint8_t atlas_witness_residue(const atlas_witness_t *w)
    const uint8_t *atlas_witness_digest(const atlas_witness_t *w)
    uint64_t atlas_witness_timestamp_ns(const atlas_witness_t *w)
    int atlas_witness_to_bytes(const atlas_witness_t *w, uint8_t *out)
    atlas_witness_t *atlas_witness_from_bytes(const void *bytes, size_t len)

    atlas_witness_stream_t *atlas_witness_stream_create()
    int atlas_witness_stream_update(atlas_witness_stream_t *stream, const void *chunk, size_t n)
    int atlas_witness_stream_update_many(
        atlas_witness_stream_t *const *streams, const void *const *chunks, const size_t *lens,
        size_t count)
    atlas_witness_t *atlas_witness_stream_witness(const atlas_witness_stream_t *stream)
    void atlas_witness_stream_destroy(atlas_witness_stream_t *stream)
    int atlas_witness_stream_to_bytes(const atlas_witness_stream_t *stream, uint8_t *out)
    atlas_witness_stream_t *atlas_witness_stream_from_bytes(const void *bytes, size_t len)

    uint8_t atlas_conserved_delta(const void *before, const void *after, size_t len)
    uint8_t atlas_conserved_residue(const void *base, size_t len)
    bint atlas_conserved_check(const void *base, size_t len)
    int atlas_conserved_window_residues(const void *base, size_t len, uint8_t *out)
    int atlas_conserved_update(uint64_t *state, const void *chunk, size_t n)
    int atlas_conserved_memcpy(void *dst, const void *src, size_t len)
    int atlas_conserved_memset(void *dst, uint8_t value, size_t len)
    int atlas_conserved_fixup(void *base, size_t len)
    int atlas_conserved_fixup_at(void *base, size_t len, size_t index)

    const char *atlas_version()
    const char *atlas_get_last_error()
    atlas_error_t atlas_get_last_error_code()
    const char *atlas_error_string(int code)
    const char *atlas_kernel_set()
    const char *atlas_kernel_set_name(size_t index)
    bint atlas_kernel_set_supported(const char *name)
    int atlas_kernel_set_select(const char *name)

cdef extern from "files.h" nogil:
    ctypedef struct atlas_listed_file_t:
        int folder
        const char *name
        uint64_t size
        int64_t mtime_ns
        uint8_t *bytes

    int atlas_read_listed_file(const atlas_listed_file_t *file)
    int64_t atlas_file_size(const char *path)
    size_t atlas_next_place(size_t filled, size_t size, size_t room)
    int atlas_read_named_file(const char *path, uint64_t size, uint8_t *bytes)

cdef extern from "timing.h" nogil:
    uint64_t atlas_time_operation(
        const char *name, void *dst, const void *src, size_t len, uint64_t repeats)
    const char *atlas_timed_operation(size_t index)

API_VERSION = ATLAS_API_VERSION
VERSION = atlas_version().decode()
MODULUS = ATLAS_MODULUS
PAGE_BYTES = ATLAS_PAGE_BYTES
WINDOW_BYTES = ATLAS_WINDOW_BYTES
DIGEST_BYTES = ATLAS_DIGEST_BYTES
WITNESS_BYTES = ATLAS_WITNESS_BYTES
WITNESS_STREAM_BYTES = ATLAS_WITNESS_STREAM_BYTES
BUDGET_MAX = ATLAS_MODULUS - 1

cdef enum:
    BLOCK_WINDOWS = 256  # of a tree as Python keeps it, and as many blocks below a node

FANOUT = BLOCK_WINDOWS

OK = <int>ATLAS_OK
E_CONSERVATION = <int>ATLAS_E_CONSERVATION
E_WITNESS = <int>ATLAS_E_WITNESS
E_BUDGET = <int>ATLAS_E_BUDGET
E_MEMORY = <int>ATLAS_E_MEMORY
E_STATE = <int>ATLAS_E_STATE

STATE_OPEN = <int>ATLAS_STATE_OPEN
STATE_COMMITTED = <int>ATLAS_STATE_COMMITTED
