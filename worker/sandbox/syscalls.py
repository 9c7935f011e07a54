"""System calls the child may not make (seccomp, through libseccomp).

Two answers. Calls that a library may try and do without get EPERM and the library goes on. Calls that
only an attack makes kill the process, and the supervisor sees SIGSYS and reports a sandbox violation.
"""

import errno
import os
from types import ModuleType

_CLONE_THREAD = 0x00010000

_REFUSED = (
    # the network: Landlock knows TCP only
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4"),
    *("sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg"),
    # other processes
    *("fork", "vfork", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open", "pidfd_send_signal"),
    *("pidfd_getfd", "setpgid", "setsid", "setpriority", "ioprio_set", "migrate_pages", "move_pages"),
    # the kernel's larger attack surfaces, which libraries probe for
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "perf_event_open", "personality", "syslog"),
    *("name_to_handle_at", "fanotify_init", "inotify_init", "inotify_init1", "memfd_secret"),
    *("shmget", "shmat", "shmctl", "msgget", "msgsnd", "msgrcv", "semget", "semop", "mq_open", "mq_unlink"),
)
_FATAL = (
    *("execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp"),
    *("mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount"),
    *("fspick", "mount_setattr", "open_by_handle_at", "quotactl", "swapon", "swapoff", "acct"),
    *("setns", "unshare", "add_key", "request_key", "keyctl", "bpf", "userfaultfd", "seccomp"),
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot"),
    *("iopl", "ioperm", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname"),
    *("setdomainname", "vhangup", "lookup_dcookie"),
)


def load_library() -> ModuleType | None:
    """pyseccomp, or None where libseccomp is missing. To be called before the filter: it may run ldconfig."""
    try:
        import pyseccomp
    except (ImportError, RuntimeError, OSError):
        return None
    module: ModuleType = pyseccomp
    return module


def restrict(seccomp: ModuleType) -> None:
    """Install the filter for every thread of this process. Raises `OSError`."""
    filter_ = seccomp.SyscallFilter(defaction=seccomp.ALLOW)
    filter_.set_attr(seccomp.Attr.CTL_TSYNC, 1)
    _refuse(filter_, seccomp)
    for name in _known(seccomp, _FATAL):
        filter_.add_rule(seccomp.KILL_PROCESS, name)
    filter_.load()


def _refuse(filter_: object, seccomp: ModuleType) -> None:
    add = filter_.add_rule  # type: ignore[attr-defined]
    denied = seccomp.ERRNO(errno.EPERM)
    for name in _known(seccomp, _REFUSED):
        add(denied, name)
    # threads, not processes; clone3 hides its flags in memory, and without it the C library uses clone
    add(denied, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, _CLONE_THREAD, 0))
    add(seccomp.ERRNO(errno.ENOSYS), "clone3")
    for name in ("kill", "tgkill"):  # abort() and raise() signal the process itself
        add(denied, name, seccomp.Arg(0, seccomp.NE, os.getpid()))
    add(denied, "prlimit64", seccomp.Arg(0, seccomp.NE, 0))


def _known(seccomp: ModuleType, names: tuple[str, ...]) -> list[str]:
    """Those that this architecture and this libseccomp have: one that is not known cannot be called by it."""
    arch = seccomp.system_arch()
    return [name for name in names if _number(seccomp, arch, name) >= 0]


def _number(seccomp: ModuleType, arch: int, name: str) -> int:
    try:
        return int(seccomp.resolve_syscall(arch, name))
    except (OSError, ValueError):
        return -1
