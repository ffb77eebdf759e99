"""
A service of PAM for tests: a file in /etc/pam.d, written as root and removed again, whose modules run our scripts.

    with PamService({"app": "a password"}) as service:
        service.name                what auth_pam_service is set to
        service.deny("app")         right password, but the account may not be used
        service.hang()              nobody gets an answer any more; let_go() ends that
        service.calls()             what PAM was told: (kind, user, host the client comes from)

pam_exec is part of every Linux-PAM, and its scripts run as whoever asks, so the pooler needs no right of its own.
"""
import os
import shutil
import subprocess

from . import procs

DIR = "/etc/pam.d"

AUTH = """#!/bin/sh
cd '{dir}' || exit 1
password=$(tr -d '\\000')
echo "$PAM_TYPE $PAM_USER $PAM_RHOST" >>calls
grep -h -e SigBlk -e SigIgn /proc/self/status >signals
while [ -e hang ]; do sleep 0.05; done
while IFS= read -r name && IFS= read -r right; do
    [ "$name" = "$PAM_USER" ] && [ "$right" = "$password" ] && exit 0
done <users
echo "no such pair" # goes to the log by way of PAM's conversation
exit 1
"""

ACCOUNT = """#!/bin/sh
cd '{dir}' || exit 1
echo "$PAM_TYPE $PAM_USER $PAM_RHOST" >>calls
! grep -qxF "$PAM_USER" denied
"""


def _as_root(*args):
    command = list(args) if os.geteuid() == 0 else ["sudo", "-n", *args]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def can():
    """Whether a service can be made: by root, or by who may become root without a password."""
    return os.path.isdir(DIR) and _as_root("true")


class PamService:
    count = 0

    def __init__(self, passwords):
        PamService.count += 1
        self.name = f"pgsluice-test-{os.getpid()}-{PamService.count}"
        self.passwords = passwords
        self.dir = procs.make_dir("sluicepam-")

    def __enter__(self):
        self.write("users", "".join(f"{name}\n{password}\n" for name, password in self.passwords.items()))
        self.write("denied", "")
        self.write("calls", "")
        auth, account = self.write("auth", AUTH, 0o755), self.write("account", ACCOUNT, 0o755)
        lines = [f"auth required pam_exec.so expose_authtok {auth}", f"account required pam_exec.so {account}"]
        path = self.write("service", "\n".join(lines) + "\n")
        assert _as_root("install", "-m", "644", path, f"{DIR}/{self.name}"), f"could not write to {DIR}"
        return self

    def __exit__(self, *exc):
        self.let_go()
        _as_root("rm", "-f", f"{DIR}/{self.name}")
        shutil.rmtree(self.dir, ignore_errors=True)

    def write(self, name, text, mode=0o644):
        path = f"{self.dir}/{name}"
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace("{dir}", self.dir))
        os.chmod(path, mode)
        if os.geteuid() == 0:
            shutil.chown(path, procs.ORDINARY_USER, procs.ORDINARY_USER)
        return path

    def deny(self, *users):
        self.write("denied", "".join(f"{user}\n" for user in users))

    def hang(self):
        self.write("hang", "")

    def let_go(self):
        try:
            os.unlink(f"{self.dir}/hang")
        except FileNotFoundError:
            pass

    def calls(self):
        with open(f"{self.dir}/calls", encoding="utf-8") as f:
            return [tuple(line.rstrip("\n").split(" ")) for line in f]
