"""What the frozen plugin runs first: from here on its modules come out of `MODULES`, which ovs.spec writes above.

Some are read from the program's file when they are imported (ovs.spec says which).

PyInstaller's own importer opens the executable, seeks, inflates and searches several folders for every module: a fifth
of the time of the whole process.
"""

import gc
import posix
import sys
from _frozen_importlib import ModuleSpec
from marshal import loads

gc.disable()  # The imports make no garbage, and looking for it takes time.


class Bundle:
    """Finds and loads modules: sys.meta_path asks it for a spec, and the import system has the spec's loader run."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """The spec of a module of MODULES; None for others."""
        return ModuleSpec(name, Bundle, origin="frozen", is_package=MODULES[name][0]) if name in MODULES else None

    @staticmethod
    def create_module(spec):
        """Leaves that to the import system."""

    @staticmethod
    def exec_module(module):
        """Runs a module's code."""
        code = MODULES[module.__name__][1]
        exec(loads(code if isinstance(code, bytes) else Bundle.read(*code)), module.__dict__)

    @staticmethod
    def read(offset, length):
        """Code that is not in MODULES, but in the archive that the bootloader tells of as PATH?POSITION."""
        path, _, position = sys._pyinstaller_pyz.rpartition("?")
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            return posix.pread(fd, length, int(position) + offset)
        finally:
            posix.close(fd)


sys.meta_path.insert(0, Bundle)
sys.path.clear()  # All that there is is built in or in MODULES.
