/* SPDX-License-Identifier: Apache-2.0
 *
 * Keeps `import inspect`, three quarters of the time of `import atlas12288`, out of the binding.
 * The compiler reads this file before the C code that Cython wrote (meson.build, `-include`).
 *
 * In the limited API Cython takes seven flags of code objects from the module `inspect`, each unless
 * the C compiler knows it. Here they are, as CPython's own header has them, which the limited API
 * leaves out. Cython imports the module all the same, to ask it nothing, and that import is left out:
 * up to arguments.pxi, which ends this, the name "inspect" gives None. Were something asked of it,
 * None would not have it, and the import would fail in the first test.
 */
#ifndef ATLAS_LIGHT_IMPORT_H
#define ATLAS_LIGHT_IMPORT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#ifdef Py_LIMITED_API
#define CO_OPTIMIZED 0x0001
#define CO_NEWLOCALS 0x0002
#define CO_VARARGS 0x0004
#define CO_VARKEYWORDS 0x0008
#define CO_GENERATOR 0x0020
#define CO_COROUTINE 0x0080
#define CO_ASYNC_GENERATOR 0x0200

static inline PyObject* atlas_import_module(const char* name)
{
    if (strcmp(name, "inspect") == 0) {
        Py_INCREF(Py_None);
        return Py_None;
    }
    return PyImport_ImportModule(name);
}
#define PyImport_ImportModule atlas_import_module
#endif

#endif /* ATLAS_LIGHT_IMPORT_H */
