"""Processes, ports and waiting: the parts that know about the operating system."""
import ctypes
import errno
import fcntl
import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
import time

ORDINARY_USER = "postgres"


def run_as():
    """Keyword arguments for subprocess that drop root; nothing when we are an ordinary user already."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(ORDINARY_USER)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def os_user():
    """Name of the operating-system user that the servers run as."""
    return ORDINARY_USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def spawn(args, **kwargs):
    """Start a program as the ordinary user; the kernel kills it should this test process be killed."""
    setpriv = shutil.which("setpriv")
    if setpriv:
        drop = []
        if os.geteuid() == 0:
            entry = pwd.getpwnam(ORDINARY_USER)
            drop = [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
        args = [setpriv, *drop, "--pdeathsig=KILL", "--", *args]
        return subprocess.Popen(args, **kwargs)
    return subprocess.Popen(args, **run_as(), **kwargs)


def run(args, timeout=60, check=True, **kwargs):
    """Run a program as the ordinary user to its end; its output is part of the failure."""
    kwargs = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **kwargs}
    done = subprocess.run(args, timeout=timeout, **run_as(), **kwargs)
    if check and done.returncode != 0:
        raise AssertionError(f"{args} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def make_dir(prefix):
    """A fresh directory of the ordinary user, with a path short enough for Unix sockets."""
    base = tempfile.gettempdir()
    if len(base) > 40:
        base = "/tmp"
    path = tempfile.mkdtemp(prefix=prefix, dir=base)
    os.chmod(path, 0o755)
    if os.geteuid() == 0:
        shutil.chown(path, ORDINARY_USER, ORDINARY_USER)
    return path


_ports = {}  # those that this process has given out: port -> True; "file" -> the file with the locks


def free_port():
    """
    A TCP port that nobody listens on and no other test process will be given.

    The reservation is a lock on one byte of a file, which lives as long as this process and takes no descriptor of its
    own: psycopg cannot work with the numbers of a thousand and more. The range lies below the kernel's ephemeral ports,
    so that an outgoing connection cannot take the port either.
    """
    if "file" not in _ports:
        _ports["file"] = open(os.path.join(tempfile.gettempdir(), f"pgsluice-test-ports-{os.geteuid()}"), "a+b")
    while True:
        port = random.randint(12000, 31999)
        if port in _ports:
            continue
        try:
            fcntl.lockf(_ports["file"], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            continue
        try:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            fcntl.lockf(_ports["file"], fcntl.LOCK_UN, 1, port)
            continue
        _ports[port] = True
        return port


def thread_state(path):
    """The letter for it in a /proc/PID/task/TID/stat."""
    with open(path) as f:
        return f.read().rpartition(")")[2].split()[0]


def wait_until(condition, what, timeout=10.0, step=0.01):
    """
    Wait for condition() to become true and return its value. `what` says what was awaited; it may be a function,
    which is asked only when the time is over.
    """
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            text = what() if callable(what) else what
            raise AssertionError(f"waited {timeout:g} s in vain for: {text}")
        time.sleep(step)


def tail(path, lines=60):
    """The last lines of a text file, or a word on why there are none."""
    try:
        with open(path, errors="replace") as f:
            return "".join(f.readlines()[-lines:])
    except OSError as e:
        return f"({path}: {e.strerror})"


def rss_kib(pid):
    """Resident memory of a process."""
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    raise AssertionError(f"no VmRSS for {pid}")


def open_fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


PIDFD_GETFD = 438  # the system call; the C library of Debian 12 has no function for it


def sockets_of(pid):
    """Duplicates of the sockets of another process, to look at their options; None when the system forbids that."""
    libc, out = ctypes.CDLL(None, use_errno=True), []
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return None
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            if not os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:"):
                continue
        except FileNotFoundError:
            continue
        copy = libc.syscall(PIDFD_GETFD, handle, int(fd), 0)
        if copy < 0 and ctypes.get_errno() in (errno.EPERM, errno.ENOSYS):
            break
        if copy >= 0:
            out.append(socket.socket(fileno=copy))
    else:
        os.close(handle)
        return out
    os.close(handle)
    return None
