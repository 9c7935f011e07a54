"""Landlock through ctypes: a process gives up the file system but for the paths it names.

Structures and numbers are those of linux/landlock.h; the system call numbers are the same on every
architecture. See https://docs.kernel.org/userspace-api/landlock.html.
"""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from worker.sandbox.policy import Paths

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_REFER, _TRUNCATE = 1 << 13, 1 << 14
#: By ABI: every right that the kernel knows is handled, so that what is not granted is denied.
#: IOCTL_DEV (ABI 5, bit 15) stays out: CUDA talks to its devices through ioctl alone.
_HANDLED = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}
_NETWORK = 0b11  # ABI 4: TCP bind and connect
_SCOPED = 0b11  # ABI 6: abstract UNIX sockets, signals to processes outside

_ON_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE
_READ = _READ_FILE | _READ_DIR
_USE = _READ_FILE | _WRITE_FILE | _READ_DIR
_OWN = _USE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE


class _RulesetAttr(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("access", ctypes.c_uint64), ("parent", ctypes.c_int32)]


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def abi_version() -> int:
    """The Landlock ABI of this kernel, 0 when it has none or has it switched off."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)))


def restrict(paths: Paths) -> None:
    """Confine this thread, and those it starts, to `paths`. no_new_privs must be set. Raises `OSError`."""
    abi = abi_version()
    handled = _HANDLED[min(abi, 3)]
    ruleset = _create(abi, handled)
    try:
        _allow(ruleset, paths.read, _READ & handled)
        _allow(ruleset, paths.use, _USE & handled)
        _allow(ruleset, paths.own, _OWN & handled)
        _checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _create(abi: int, handled: int) -> int:
    attributes = _RulesetAttr(handled, _NETWORK if abi >= 4 else 0, _SCOPED if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    return _checked(_libc.syscall(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0))


def _allow(ruleset: int, paths: Iterable[Path], access: int) -> None:
    for path in paths:
        try:
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # not there, or not ours to see: then the child cannot have it either
        try:
            right = access if path.is_dir() else access & _ON_FILES
            rule = _PathBeneathAttr(right, opened)
            _checked(_libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0))
        finally:
            os.close(opened)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"landlock: {os.strerror(number)}")
    return int(result)
