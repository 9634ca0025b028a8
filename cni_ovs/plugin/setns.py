"""setns(2): Python has it since 3.12, the frozen plugin always, and the C library anyway."""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if not TYPE_CHECKING and hasattr(posix, "setns"):
    setns = posix.setns
else:
    try:
        import _setns  # type: ignore[import-not-found] # build/frozen/interpreter.c

        setns = _setns.setns
    except ImportError:
        # What `ctypes` would do, which takes 3 ms to import; the C module below it, 0.6.
        from _ctypes import FUNCFLAG_CDECL, CFuncPtr, _SimpleCData, dlopen, dlsym, get_errno

        _FUNCFLAG_USE_ERRNO = 8  # Modules/_ctypes/ctypes.h

        class _Int(_SimpleCData):  # type: ignore[type-arg] # only typeshed's takes an argument
            _type_ = "i"

        class _Function(CFuncPtr):
            _flags_ = FUNCFLAG_CDECL | _FUNCFLAG_USE_ERRNO
            _restype_ = _Int

        _call = _Function(dlsym(dlopen(None, 0), "setns"))  # type: ignore[arg-type] # None: what this process has loaded

        def setns(fd: int, nstype: int) -> None:
            """Enter the namespace that `fd` is open on; `nstype` is its CLONE_NEW… flag.

            Raises:
                OSError: as setns(2) says.
            """
            if _call(fd, nstype) != 0:
                error = get_errno()
                raise OSError(error, posix.strerror(error))
