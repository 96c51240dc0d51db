/* SPDX-License-Identifier: Apache-2.0
 *
 * A Python extension for test_buffers.py: its Exporter(bytearray-like) gives the bytes of another
 * buffer, and leaves what a Py_buffer may leave out NULL: the format, and of no dimension the
 * shape.
 */
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

typedef struct {
    PyObject_HEAD Py_buffer source;
    Py_ssize_t shape[2];
} exporter;

static PyObject* exporter_new(PyTypeObject* type, PyObject* args, PyObject* kwds)
{
    PyObject* source;
    (void)kwds;
    if (!PyArg_ParseTuple(args, "O", &source))
        return NULL;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    exporter* self = (exporter*)alloc(type, 0);
    if (self == NULL)
        return NULL;
    if (PyObject_GetBuffer(source, &self->source, PyBUF_SIMPLE) != 0) {
        Py_DECREF(self);
        return NULL;
    }
    self->shape[0] = 1;
    self->shape[1] = self->source.len;
    return (PyObject*)self;
}

static void exporter_dealloc(exporter* self)
{
    PyTypeObject* type = Py_TYPE((PyObject*)self);
    freefunc free = (freefunc)PyType_GetSlot(type, Py_tp_free);
    PyBuffer_Release(&self->source);
    free(self);
    Py_DECREF(type);
}

static int exporter_get(exporter* self, Py_buffer* view, int flags)
{
    if ((flags & PyBUF_WRITABLE) && self->source.readonly) {
        view->obj = NULL;
        PyErr_SetString(PyExc_BufferError, "read-only");
        return -1;
    }
    view->buf = self->source.buf;
    view->obj = (PyObject*)self;
    Py_INCREF(view->obj);
    view->len = self->source.len;
    view->itemsize = 1;
    view->readonly = self->source.readonly;
    view->ndim = 2;
    view->format = NULL; /* whatever was asked for */
    view->shape = self->shape;
    view->strides = NULL;
    view->suboffsets = NULL;
    view->internal = NULL;
    return 0;
}

static PyType_Slot slots[] = {
    {Py_tp_new, exporter_new},
    {Py_tp_dealloc, exporter_dealloc},
    {Py_bf_getbuffer, exporter_get},
    {0, NULL},
};
static PyType_Spec spec = {"exporter.Exporter", sizeof(exporter), 0, Py_TPFLAGS_DEFAULT, slots};
static PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "exporter", NULL, -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_exporter(void)
{
    PyObject* made = PyModule_Create(&module);
    PyObject* type = PyType_FromSpec(&spec);
    if (made == NULL || type == NULL || PyModule_AddObject(made, "Exporter", type) != 0)
        return NULL;
    return made;
}
