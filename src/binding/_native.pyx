# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, freethreading_compatible=True, auto_pickle=False, autotestdict=False
# cython: binding=False, embedsignature=True, embedsignature.format=clinic, nonecheck=True
"""The C API of atlas/conservation.h for Python, one to one, over any buffer, without copying.

This module knows nothing above it: `errors` hands its classes down by `register_errors`. Functions
are not bound (binding=False) because in the limited API of 3.11 only builtin ones take their
arguments without a tuple. None in place of one of our objects raises AttributeError
(nonecheck=True), where C would read the memory of None.
"""

cimport cython
from cpython.buffer cimport (
    Py_buffer, PyBUF_FORMAT, PyBUF_ND, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo,
    PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize, PyBytes_Size
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetInterrupt
from cpython.long cimport PyLong_AsLongAndOverflow
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject, PyTypeObject
from cpython.pystate cimport PyThreadState
from cpython.pythread cimport (
    PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_release_lock,
    PyThread_type_lock,
)
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.limits cimport INT_MAX
from libc.stdint cimport INT64_MAX, SIZE_MAX, UINT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset, strcmp, strlen

include "c_api.pxi"
include "regions.pxi"
include "arguments.pxi"
include "dlpack.pxi"
include "cuda.pxi"
include "conserve.pxi"
include "witnesses.pxi"
include "trees.pxi"
include "scrubber.pxi"
include "domains.pxi"
include "budget_queue.pxi"
include "leases.pxi"
include "budgets.pxi"
include "kernel_sets.pxi"
include "files.pxi"
include "folders.pxi"
include "lines.pxi"
include "leaves.pxi"
include "known.pxi"
include "sums.pxi"
include "timing.pxi"
