"""Resident memory of this process."""

import ctypes
import os
import resource
import sys

_STATM = "/proc/self/statm"
_LONGEST = 128
_library = ctypes.PyDLL(None)


class _Statm:
    """The kernel's file, kept open and read with the GIL held: no other thread changes meanwhile what is measured."""

    def __init__(self) -> None:
        self._process, self._file = 0, -1
        self._text = ctypes.create_string_buffer(_LONGEST)
        self._page = os.sysconf("SC_PAGE_SIZE")

    def resident(self) -> int:
        """Bytes. Raises OSError where there is no such file."""
        if self._process != os.getpid():  # the file is about the process that has opened it: a fork needs another
            self._file, self._process = os.open(_STATM, os.O_RDONLY | os.O_CLOEXEC), os.getpid()
        read = _library.pread(self._file, self._text, _LONGEST, ctypes.c_int64(0))
        fields = self._text.raw[: max(0, read)].split()
        if len(fields) < 2:  # somebody has closed the file
            self._process = 0
            raise OSError(f"cannot read {_STATM}")
        return int(fields[1]) * self._page


_statm = _Statm()


def resident() -> int:
    """Bytes in physical memory; the peak, where the system does not report the current value."""
    try:
        return _statm.resident()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
