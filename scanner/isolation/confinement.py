"""Confinement of a process: it loses access to files, the network, other processes and privileges, and its memory is
limited.

Each measure is independent. Seccomp and Landlock depend on the kernel and the processor, and `confine()` returns which
measures are in force. There is no maintained Python package for either. Both need only a few system calls with fixed
structures: https://docs.kernel.org/userspace-api/seccomp_filter.html and
https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from dataclasses import dataclass

from scanner.child_processes import die_with_parent

MAX_CPU_SECONDS = 120
"""Processor time of one reader over its whole life. The kernel kills it after that; the pool retires it long before."""
MAX_OPEN_FILES = 16
NOBODY = 65534
"""The user and group that a reader started by root becomes."""

_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_VERSION = 1
_LANDLOCK_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""The rights over files that each version of the interface can withhold: reading, writing, executing, creating, and
more."""
_LANDLOCK_NETWORK_RIGHTS = {4: 0b11}
"""The network rights that each version can withhold: TCP bind and connect."""
_LANDLOCK_SCOPES = {6: 0b11}
"""The scopes that each version can withhold: abstract Unix sockets of other processes, and signals to them."""

_BPF_LOAD_WORD, _BPF_JUMP_EQUAL, _BPF_RETURN = 0x20, 0x15, 0x06
_SECCOMP_ALLOW, _SECCOMP_ERRNO = 0x7FFF0000, 0x00050000
_OFFSET_OF_NUMBER, _OFFSET_OF_ARCHITECTURE = 0, 4


@dataclass(frozen=True, slots=True)
class _Architecture:
    """A processor architecture: its number in audit records, and the numbers of the system calls that a reader may
    make.
    """

    audit: int
    allowed: tuple[int, ...]


_ARCHITECTURES = {
    # read write close lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn sched_yield mremap
    # madvise nanosleep getpid sendto recvfrom sendmsg recvmsg exit getrusage sigaltstack gettid futex clock_gettime
    # clock_nanosleep getcwd exit_group getrandom membarrier rseq
    "x86_64": _Architecture(
        0xC000003E,
        (
            *(0, 1, 3, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 28),
            *(35, 39, 44, 45, 46, 47, 60, 98, 131, 186, 202, 228),
            *(230, 79, 231, 318, 324, 334),
        ),
    ),
    "aarch64": _Architecture(
        0xC00000B7,
        (
            *(63, 64, 57, 62, 222, 226, 215, 214, 134, 135, 139, 124, 216, 233),
            *(101, 172, 206, 207, 211, 212, 93, 165, 132, 178, 98, 113),
            *(115, 17, 94, 278, 283, 293),
        ),
    ),
}


def confine(memory_bytes: int) -> tuple[str, ...]:
    """Restrict this process for the rest of its life, and return the names of the measures that are in force.

    The process must have imported and opened everything that it needs. It must have no other threads: they would not be
    confined.

    Args:
        memory_bytes: Address space that the process may take beyond what it has now.
    """
    measures = ["rlimits"]
    _limit(memory_bytes)
    if _become_nobody():
        measures.append("unprivileged")
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        measures.append("no_new_privs")
    if _landlock(library):
        measures.append("landlock")
    if _seccomp(library):
        measures.append("seccomp")
    return tuple(measures)


def _limit(memory_bytes: int) -> None:
    most = _address_space() + memory_bytes
    bounds = (
        (resource.RLIMIT_AS, most),
        (resource.RLIMIT_CPU, MAX_CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    )
    for kind, bound in bounds:
        hard = resource.getrlimit(kind)[1]
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (bound, bound))


def _address_space() -> int:
    """Return the bytes of address space that this process has now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _become_nobody() -> bool:
    """Give up root's rights. Return whether the user was changed: only root can, and not in every container."""
    if os.getuid() != 0:
        return False
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        return False
    # A change of the user clears the parent-death signal in the kernel, so set it again.
    die_with_parent(os.getppid())
    return True


def _landlock(library: ctypes.CDLL) -> bool:
    """Withhold every right over files, and TCP and signals if the kernel supports it.

    Return whether Landlock is in force.
    """
    version = library.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)
    if version < 1:
        return False
    files, network, scopes = (
        max((rights for since, rights in table.items() if since <= version), default=0)
        for table in (_LANDLOCK_FILE_RIGHTS, _LANDLOCK_NETWORK_RIGHTS, _LANDLOCK_SCOPES)
    )
    attributes = struct.pack("=QQQ", files, network, scopes)
    size = 24 if scopes else 16 if network else 8
    ruleset = library.syscall(_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return False
    in_force: bool = library.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return in_force


def _seccomp(library: ctypes.CDLL) -> bool:
    """Refuse every system call, with EPERM, that computing and answering on an open socket do not need.

    Return whether the filter is in force.
    """
    architecture = _ARCHITECTURES.get(platform.machine()) if sys.maxsize > 2**32 else None
    if architecture is None:
        return False
    program = _program(architecture)
    buffer = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    return bool(library.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, head, 0, 0) == 0)


def _program(architecture: _Architecture) -> bytes:
    """Return the filter, a classic BPF program over `struct seccomp_data`.

    It also refuses x32 system calls: their numbers have bit 30 set, so none of them equals an allowed number.
    """
    count = len(architecture.allowed)
    steps = [
        (_BPF_LOAD_WORD, 0, 0, _OFFSET_OF_ARCHITECTURE),
        (_BPF_JUMP_EQUAL, 0, count + 1, architecture.audit),
        (_BPF_LOAD_WORD, 0, 0, _OFFSET_OF_NUMBER),
        *((_BPF_JUMP_EQUAL, count - at, 0, number) for at, number in enumerate(architecture.allowed)),
        (_BPF_RETURN, 0, 0, _SECCOMP_ERRNO | errno.EPERM),
        (_BPF_RETURN, 0, 0, _SECCOMP_ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
