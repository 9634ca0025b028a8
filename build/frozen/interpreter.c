/* What is linked into PyInstaller's bootloader, together with the interpreter (build/pyinstaller does it).
 *
 * The bootloader as PyInstaller ships it loads the interpreter as a shared library, from a folder beside the program or
 * one that it first fills at every start; it executes itself a second time to set LD_LIBRARY_PATH; and environment
 * variables tell its processes apart. Linked with the interpreter it needs none of that: one static program, whose
 * modules and archive are in the same file. The linker's --wrap lets it call the functions below instead of the ones it
 * names; its source is as PyInstaller has it.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dlfcn.h>
#include <marshal.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "encodings.h" /* written by build/pyinstaller: the code of encodings.py */

/* The functions that the bootloader looks for in the interpreter (its src/pyi_dylib_python.c). */
static const struct {
    const char *name;
    void *address;
} functions[] = {
#define FUNCTION(name) {#name, (void *)(name)},
    FUNCTION(PyConfig_Clear)
    FUNCTION(PyConfig_InitIsolatedConfig)
    FUNCTION(PyConfig_Read)
    FUNCTION(PyConfig_SetBytesString)
    FUNCTION(PyConfig_SetString)
    FUNCTION(PyConfig_SetWideStringList)
    FUNCTION(PyErr_Clear)
    FUNCTION(PyErr_Fetch)
    FUNCTION(PyErr_NormalizeException)
    FUNCTION(PyErr_Occurred)
    FUNCTION(PyErr_Print)
    FUNCTION(PyErr_Restore)
    FUNCTION(PyEval_EvalCode)
    FUNCTION(PyImport_AddModule)
    FUNCTION(PyImport_ExecCodeModule)
    FUNCTION(PyImport_ImportModule)
    FUNCTION(PyList_Append)
    FUNCTION(PyMarshal_ReadObjectFromString)
    FUNCTION(PyMem_RawFree)
    FUNCTION(PyModule_GetDict)
    FUNCTION(PyObject_CallFunction)
    FUNCTION(PyObject_CallFunctionObjArgs)
    FUNCTION(PyObject_GetAttrString)
    FUNCTION(PyObject_SetAttrString)
    FUNCTION(PyObject_Str)
    FUNCTION(PyPreConfig_InitIsolatedConfig)
    FUNCTION(PyRun_SimpleStringFlags)
    FUNCTION(PyStatus_Exception)
    FUNCTION(PySys_GetObject)
    FUNCTION(PySys_SetObject)
    FUNCTION(PyUnicode_AsUTF8)
    FUNCTION(PyUnicode_Decode)
    FUNCTION(PyUnicode_DecodeFSDefault)
    FUNCTION(PyUnicode_FromFormat)
    FUNCTION(PyUnicode_FromString)
    FUNCTION(PyUnicode_Join)
    FUNCTION(PyUnicode_Replace)
    FUNCTION(Py_DecRef)
    FUNCTION(Py_DecodeLocale)
    FUNCTION(Py_ExitStatusException)
    FUNCTION(Py_Finalize)
    FUNCTION(Py_InitializeFromConfig)
    FUNCTION(Py_IsInitialized)
    FUNCTION(Py_PreInitialize)
};

void *__wrap_dlopen(const char *file, int mode)
{
    (void)file, (void)mode;
    return (void *)functions;
}

void *__wrap_dlsym(void *library, const char *name)
{
    (void)library;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (strcmp(functions[i].name, name) == 0)
            return functions[i].address;
    return NULL;
}

int __wrap_dlclose(void *library)
{
    (void)library;
    return 0;
}

char *__wrap_dlerror(void)
{
    return "the function is not in build/frozen/interpreter.c";
}

/* The program is opened by this name, not by its own: that may be another program by now, or nobody's. (The second
 * function is the first as the C library's headers replace it where the compiler knows the size of the buffer.) */
static const char this_program[] = "/proc/self/exe";

char *__real_realpath(const char *path, char *resolved);

char *__wrap_realpath(const char *path, char *resolved)
{
    if (resolved != NULL && strcmp(path, this_program) == 0)
        return strcpy(resolved, this_program);
    return __real_realpath(path, resolved);
}

char *__wrap___realpath_chk(const char *path, char *resolved, size_t size)
{
    (void)size; /* PATH_MAX at least, or this would not be called */
    return __wrap_realpath(path, resolved);
}

/* No environment variable steers the bootloader, and it sets none: a plugin's environment is passed on. */
char *__real_pyi_getenv(const char *name) __attribute__((weak)); /* not in the programs that its build tries out */

char *__wrap_pyi_getenv(const char *name)
{
    if (strcmp(name, "_PYI_PARENT_PROCESS_LEVEL") == 0)
        return strdup("-1"); /* it has executed itself already */
    if (strncmp(name, "_PYI_", 5) == 0 || strncmp(name, "PYINSTALLER_", 12) == 0)
        return NULL;
    return __real_pyi_getenv(name);
}

int __wrap_pyi_setenv(const char *name, const char *value)
{
    (void)name, (void)value;
    return 0;
}

int __wrap_pyi_unsetenv(const char *name)
{
    (void)name;
    return 0;
}

/* Nor does it steer the C library: this one would read locales that another one on the node came with. Everything is
 * UTF-8 (ovs.spec), which Python sees to by itself. */
char *__real_setlocale(int category, const char *locale);

char *__wrap_setlocale(int category, const char *locale)
{
    return __real_setlocale(category, locale != NULL && *locale == '\0' ? "C" : locale);
}

/* os.setns, which Python has since 3.12. */
static PyObject *enter(PyObject *module, PyObject *arguments)
{
    int fd, type;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "ii:setns", &fd, &type))
        return NULL;
    if (setns(fd, type) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyMethodDef setns_methods[] = {{"setns", enter, METH_VARARGS, NULL}, {0}};
static struct PyModuleDef setns_module = {PyModuleDef_HEAD_INIT, .m_name = "_setns", .m_methods = setns_methods};

static PyObject *PyInit__setns(void)
{
    return PyModuleDef_Init(&setns_module);
}

/* The built-in modules: what the interpreter needs for its start, and what the plugin imports. The library's own table
 * (Modules/config.c) would also bring fifty others and their libraries. */
#define EACH_MODULE(MODULE) \
    MODULE("_abc", PyInit__abc) \
    MODULE("_codecs", PyInit__codecs) \
    MODULE("_imp", PyInit__imp) \
    MODULE("_io", PyInit__io) \
    MODULE("_signal", PyInit__signal) \
    MODULE("_socket", PyInit__socket) \
    MODULE("_string", PyInit__string) \
    MODULE("_struct", PyInit__struct) \
    MODULE("_thread", PyInit__thread) \
    MODULE("_warnings", _PyWarnings_Init) \
    MODULE("_weakref", PyInit__weakref) \
    MODULE("errno", PyInit_errno) \
    MODULE("fcntl", PyInit_fcntl) \
    MODULE("gc", PyInit_gc) \
    MODULE("itertools", PyInit_itertools) \
    MODULE("marshal", PyMarshal_Init) \
    MODULE("posix", PyInit_posix) \
    MODULE("select", PyInit_select) \
    MODULE("time", PyInit_time)

#define DECLARATION(name, start) extern PyObject *start(void);
EACH_MODULE(DECLARATION)

#define ROW(name, start) {name, start},
struct _inittab _PyImport_Inittab[] = {
    EACH_MODULE(ROW)
    {"_setns", PyInit__setns},
    {"builtins", NULL},
    {"sys", NULL},
    {NULL, NULL},
};

/* The interpreter imports `encodings` before it can find anything but built-in and frozen modules. */
static const struct _frozen frozen_modules[] = {
    {.name = "encodings", .code = encodings_code, .size = sizeof encodings_code, .is_package = true},
    {0},
};

__attribute__((constructor)) static void offer_frozen_modules(void)
{
    PyImport_FrozenModules = frozen_modules;
}
