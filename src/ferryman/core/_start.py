"""Run another program cut off from the network and the system's other processes, and end all of it with the caller.

Runs alone: `python _start.py PARENT REQUESTS REPLIES FOLDER PROGRAM ARG ...`. A converter has no business with the
network: it is given a network namespace of its own, with nothing but its own loopback, and a process namespace, so
that what it started can't outlive it. Where the system doesn't allow that, the launcher's own refusals are what
remains (FERRYMAN_NETWORK=audited).

Three processes: the leader watches the caller (its parent), the keeper is the namespace's first process and reaps,
and below it runs the program. The leader ends as the program did. FOLDER goes where the caller was killed.
"""

import contextlib
import ctypes
import fcntl
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys

_NEW_MOUNTS, _NEW_USER, _NEW_PIDS, _NEW_NET = 0x20000, 0x10000000, 0x20000000, 0x40000000
_PRIVATE_ALL_BELOW = 0x44000  # MS_REC | MS_PRIVATE
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_SIOCSIFFLAGS, _UP_RUNNING = 0x8914, 0x41
_LOOK_MS = 250
_IS_LINUX = sys.platform == "linux"


def _leave() -> bool:
    """Enter namespaces of our own; tells whether the network is gone. Processes' follow where they may."""
    libc = ctypes.CDLL(None)
    uid, gid = os.getuid(), os.getgid()
    for more in (_NEW_PIDS | _NEW_MOUNTS, 0):
        if libc.unshare(_NEW_NET | more) == 0:
            break
        if libc.unshare(_NEW_USER | _NEW_NET | more) == 0:
            for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
                with open(f"/proc/self/{name}", "w") as file:
                    file.write(line)
            break
    else:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _UP_RUNNING))
    return True


def _die_with_parent() -> None:
    if _IS_LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _keep(words: "list[str]", pipes: "tuple[int, int]", told: int) -> None:
    """Start the program, reap what it leaves behind, and tell how it ended; the rest of the namespace ends with us."""
    _die_with_parent()
    if _IS_LINUX:
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        # /proc shows our own processes by the numbers that they know; never where others would see that mount.
        if os.getpid() == 1 and libc.mount(None, b"/", None, _PRIVATE_ALL_BELOW, None) == 0:
            libc.mount(b"proc", b"/proc", b"proc", 0, None)
    program = os.fork()
    if program == 0:
        _die_with_parent()
        os.execv(words[0], words)  # noqa: S606 - what our caller chose, and no shell
    for pipe in pipes:
        os.close(pipe)
    while True:
        pid, status = os.wait()
        if pid == program:
            os.write(told, struct.pack("i", status))
            return


def _watch(parent: int, keeper: int, ended: int) -> int:
    """Give how the program ended; kills all where the caller ends first."""
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    while not poll.poll(_LOOK_MS):
        if os.getppid() != parent:
            os.kill(keeper, signal.SIGKILL)
            os.waitpid(keeper, 0)
            shutil.rmtree(sys.argv[4], ignore_errors=True)
            os.killpg(0, signal.SIGKILL)
    payload = os.read(ended, 4)
    _, status = os.waitpid(keeper, 0)
    return int(struct.unpack("i", payload)[0]) if payload else status


def main() -> None:
    """Leave the network, run the program, and end as it does."""
    parent, pipes, words = int(sys.argv[1]), (int(sys.argv[2]), int(sys.argv[3])), sys.argv[5:]
    is_apart = False
    if _IS_LINUX:
        with contextlib.suppress(OSError, AttributeError):
            is_apart = _leave()
    os.environ["FERRYMAN_NETWORK"] = "none" if is_apart else "audited"
    ended, told = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(ended)
        try:
            _keep(words, pipes, told)
        except OSError as error:
            sys.stderr.write(f"{error}\n")
            sys.stderr.flush()
        finally:
            os._exit(1)
    for pipe in (*pipes, told):
        os.close(pipe)
    code = os.waitstatus_to_exitcode(_watch(parent, keeper, ended))
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
