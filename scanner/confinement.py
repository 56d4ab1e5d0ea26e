"""Restricts processes that read untrusted content: their access to files and the network, and their memory.

No maintained Python package offers this, so the module makes the system calls itself:
https://docs.kernel.org/userspace-api/seccomp_filter.html and https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scanner.child_processes import die_with_parent

MAX_CPU_SECONDS = 120
"""Limit of the processor time of a confined process over its whole life. The kernel then kills it."""
HISTORY_CPU_SECONDS = 6 * 3600
"""Limit of the processor time of a process that reads a git history."""
MAX_OPEN_FILES = 16
NOBODY = 65534
"""The id of the user and group to which a confined process changes if root has started it."""

_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_PATH_BENEATH = 1
_LANDLOCK_VERSION = 1
_LANDLOCK_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""The rights over files that each version of Landlock can withhold: reading, writing, executing, creating, and more."""
_LANDLOCK_WRITE_FILE = 0b10
_LANDLOCK_READING = 0b1101
"""The rights to execute and read files and to list folders."""
_LANDLOCK_NETWORK_RIGHTS = {4: 0b11}
"""The network rights that each version of Landlock can withhold: TCP bind and connect."""
_LANDLOCK_SCOPES = {6: 0b11}
"""The scopes that each version of Landlock can withhold: abstract Unix sockets of other processes, and signals to them.
"""

_BPF_LOAD_WORD, _BPF_JUMP_EQUAL, _BPF_JUMP_GREATER, _BPF_RETURN = 0x20, 0x15, 0x25, 0x06
_SECCOMP_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_FIRST_X32 = 0x40000000
"""The first system call number of the x32 interface of x86-64. Other interfaces have only smaller numbers."""
_OFFSET_OF_NUMBER, _OFFSET_OF_ARCHITECTURE = 0, 4


@dataclass(frozen=True, slots=True)
class _Architecture:
    """A processor architecture with its system call numbers.

    Attributes:
        audit: The number of the architecture in the kernel's audit interface.
        allowed: The only system calls that `confine` allows.
        refused: The system calls that `confine_to_reading` refuses.
    """

    audit: int
    allowed: tuple[int, ...]
    refused: tuple[int, ...]


_ARCHITECTURES = {
    # The numbers of the allowed system calls, in this order:
    # read write close lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn sched_yield mremap
    # madvise nanosleep getpid sendto recvfrom sendmsg recvmsg exit getrusage sigaltstack gettid futex clock_gettime
    # clock_nanosleep getcwd exit_group getrandom membarrier rseq
    # Then the numbers of the refused system calls, in this order:
    # socket connect bind listen accept accept4 ptrace process_vm_readv process_vm_writev mount bpf unshare setns keyctl
    # add_key request_key io_uring_setup perf_event_open userfaultfd kexec_load
    "x86_64": _Architecture(
        0xC000003E,
        (
            *(0, 1, 3, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 28),
            *(35, 39, 44, 45, 46, 47, 60, 98, 131, 186, 202, 228),
            *(230, 79, 231, 318, 324, 334),
        ),
        (
            *(41, 42, 49, 50, 43, 288, 101, 310, 311, 165, 321, 272, 308),
            *(250, 248, 249, 425, 298, 323, 246),
        ),
    ),
    "aarch64": _Architecture(
        0xC00000B7,
        (
            *(63, 64, 57, 62, 222, 226, 215, 214, 134, 135, 139, 124, 216, 233),
            *(101, 172, 206, 207, 211, 212, 93, 165, 132, 178, 98, 113),
            *(115, 17, 94, 278, 283, 293),
        ),
        (
            *(198, 203, 200, 201, 202, 242, 117, 270, 271, 40, 280, 97, 268),
            *(219, 217, 218, 425, 241, 282, 104),
        ),
    ),
}


def confine(memory_bytes: int, cpu_seconds: int = MAX_CPU_SECONDS) -> tuple[str, ...]:
    """Restrict this process for the rest of its life. Return the names of the restrictions that the kernel supports.

    Call this after all imports and after opening all files. The process must have no other threads, because they would
    not be confined.

    Args:
        memory_bytes: Address space that the process may use in addition to its present size.
        cpu_seconds: Maximum processor time of the process over its whole life.
    """
    measures = ["rlimits"]
    bounds = {
        resource.RLIMIT_AS: _address_space() + memory_bytes,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    _limit(bounds)
    if _become_nobody():
        measures.append("unprivileged")
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        measures.append("no_new_privs")
    if _landlock(library, kept=0):
        measures.append("landlock")
    if _seccomp(library, _only_allowed):
        measures.append("seccomp")
    return tuple(measures)


def confine_to_reading(data_bytes: int, cpu_seconds: int = HISTORY_CPU_SECONDS) -> tuple[str, ...]:
    """Allow this process and its children only to read files and to start programs.

    Return the names of the restrictions that the kernel supports. The process must have no other threads.

    Args:
        data_bytes: Limit of the memory of each process, not counting mapped files (RLIMIT_DATA).
        cpu_seconds: Maximum processor time of the process over its whole life.
    """
    measures = ["rlimits"]
    _limit(
        {
            resource.RLIMIT_DATA: data_bytes,
            resource.RLIMIT_CPU: cpu_seconds,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_FSIZE: 0,
        }
    )
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        measures.append("no_new_privs")
    if _landlock(library, kept=_LANDLOCK_READING):
        measures.append("landlock")
    if _seccomp(library, _all_but_refused):
        measures.append("seccomp")
    return tuple(measures)


def _limit(bounds: Mapping[int, int]) -> None:
    for kind, bound in bounds.items():
        hard = resource.getrlimit(kind)[1]
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (bound, bound))


def _address_space() -> int:
    """Return the size of this process's address space in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _become_nobody() -> bool:
    """Change from root to the user `nobody`. Return whether this worked."""
    if os.getuid() != 0:
        return False
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        return False
    # The kernel clears the parent-death signal when a process changes its user, so set the signal again.
    die_with_parent(os.getppid())
    return True


def _landlock(library: ctypes.CDLL, kept: int) -> bool:
    """Give up access to files, and if possible TCP and signals. Return whether this worked."""
    version = library.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)
    if version < 1:
        return False
    files, network, scopes = (
        max((rights for since, rights in table.items() if since <= version), default=0)
        for table in (_LANDLOCK_FILE_RIGHTS, _LANDLOCK_NETWORK_RIGHTS, _LANDLOCK_SCOPES)
    )
    attributes = struct.pack("=QQQ", files & ~kept, network, scopes)
    size = 24 if scopes else 16 if network else 8
    ruleset = library.syscall(_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return False
    if kept:
        _allow_null_device(library, ruleset)
    in_force: bool = library.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return in_force


def _allow_null_device(library: ctypes.CDLL, ruleset: int) -> None:
    """Let the process write to /dev/null, which git needs."""
    device = os.open(os.devnull, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", _LANDLOCK_WRITE_FILE, device)
        library.syscall(_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_PATH_BENEATH, rule, 0)
    finally:
        os.close(device)


def _seccomp(library: ctypes.CDLL, program_for: Callable[[_Architecture], bytes]) -> bool:
    """Install a system call filter for this processor. Return whether it worked."""
    architecture = _ARCHITECTURES.get(platform.machine()) if sys.maxsize > 2**32 else None
    if architecture is None:
        return False
    program = program_for(architecture)
    buffer = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    return bool(library.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, head, 0, 0) == 0)


def _only_allowed(architecture: _Architecture) -> bytes:
    """Return a seccomp filter that allows only computing and answering on an open socket."""
    return _program(architecture.audit, architecture.allowed, _SECCOMP_ALLOW, _REFUSE)


def _all_but_refused(architecture: _Architecture) -> bytes:
    """Return a seccomp filter that refuses sockets and access to other processes."""
    # Refuse the x32 interface too, because it has other numbers for the same calls.
    return _program(architecture.audit, architecture.refused, _REFUSE, _SECCOMP_ALLOW, most=_FIRST_X32 - 1)


def _program(audit: int, numbers: Sequence[int], match: int, otherwise: int, most: int | None = None) -> bytes:
    """Return a seccomp filter of system calls (classic BPF).

    Args:
        audit: The number of the architecture. System calls of other architectures are refused.
        match: The filter's result for listed calls.
        otherwise: The filter's result for all other calls.
        most: Calls with a larger number are refused. None: no limit.
    """
    count = len(numbers)
    # The second number of a jump is how many instructions to skip if the test is true, the third if it is false.
    bound = [] if most is None else [(_BPF_JUMP_GREATER, count + 2, 0, most)]
    steps = [
        (_BPF_LOAD_WORD, 0, 0, _OFFSET_OF_ARCHITECTURE),
        (_BPF_JUMP_EQUAL, 0, len(bound) + count + 3, audit),
        (_BPF_LOAD_WORD, 0, 0, _OFFSET_OF_NUMBER),
        *bound,
        *((_BPF_JUMP_EQUAL, count - at, 0, number) for at, number in enumerate(numbers)),
        (_BPF_RETURN, 0, 0, otherwise),
        (_BPF_RETURN, 0, 0, match),
        (_BPF_RETURN, 0, 0, _REFUSE),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
