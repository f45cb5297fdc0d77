"""Be what a container's first process has to be: it collects orphans, and hands signals on to the one that works."""

import os
import signal

_FROM_KERNEL = 0x80  # si_code of what a terminal sends: to the whole group, so the one that works has it already
_EVERY = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
_ITS_OWN = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)


def work_below_first_process() -> None:
    """Go on in a child where this is process 1, which stays to look after it; does nothing elsewhere.

    The kernel drops signals to process 1 that it has no handler for, and gives it every orphan to wait for. Call it
    before anything starts threads. Process 1 ends with the child's exit code, 128 and its number for a signal.
    """
    if os.getpid() != 1:
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _EVERY)
    child = os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ITS_OWN)
    os._exit(_look_after(child))


def _look_after(child: int) -> int:
    while True:
        received = signal.sigwaitinfo(_EVERY)
        if received.si_signo == signal.SIGCHLD:
            code = _collect(child)
            if code is not None:
                return code
        elif received.si_code != _FROM_KERNEL:
            os.kill(child, received.si_signo)


def _collect(child: int) -> int | None:
    """Wait for all that have ended; gives the exit code where the child is among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if not pid:
            return code
        if pid == child:
            ended = os.waitstatus_to_exitcode(status)
            code = ended if ended >= 0 else 128 - ended
