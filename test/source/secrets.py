#!/usr/bin/env python3
"""
Secrets in the sources, as far as text shows it.

Whatever decides whether a peer is who it says must compare in constant time (mem_equal_ct), so in the files below each
other comparison is named here with what it is that it compares; one that is new, or gone, fails the test. And no log
call may have a secret among its arguments.
"""
import glob
import os
import re
import sys

COMPARE = re.compile(r"\b(memcmp|strcmp|strncmp|strcasecmp|strncasecmp|bcmp|slice_eq|slice_eq_str|memmem|strstr)\s*\(")
LOG = re.compile(r"\b(log_(?:error|warning|info|noise|debug|fatal)(?:_about)?|report_\w+)\s*\(")
SECRET = re.compile(r"secret|passw|passwd|stored_key|server_key|client_key|scram_keys|salted|proof|bindpasswd", re.I)

# file -> pieces of lines whose comparison is of something public
PUBLIC = {
    "src/auth/auth.c": [
        "strcmp(name, auth_method_name(",  # a setting
        "slice_eq_str(mechanism, SCRAM_MECHANISM_PLUS)",  # names of mechanisms
        "slice_eq_str(mechanism, SCRAM_MECHANISM)",
    ],
    "src/auth/auth_server.c": ["slice_eq_str(name, SCRAM_MECHANISM)", "slice_eq_str(name, SCRAM_MECHANISM_PLUS)"],
    "src/auth/scram.c": ["slice_eq_str(mechanism, SCRAM_MECHANISM)"],
    "src/auth/scram_client.c": ["memcmp(f->nonce.p, c->nonce, our_len)"],  # a nonce that both have sent
    "src/auth/scram_server.c": [
        "memcmp(in->p, header, n)",  # the gs2 header
        "slice_eq_str(value, s->cbind)",  # a hash of our certificate
        "slice_eq_str(value, s->nonce)",  # a nonce that both have sent
    ],
    "src/auth/secret.c": ['memcmp(text.p, "md5", 3)'],  # the kind of a secret in a file
    "src/auth/users.c": [
        "strcmp((*x)->name, (*y)->name)",  # names of users
        "strcmp(users_at(a, i)->name, users_at(b, j)->name)",
        "slice_eq(secret_slice(a), secret_slice(b))",  # two files of ours, at a reload
    ],
}
# Files of src/auth that compare no credentials: rules, maps, options.
OTHER = ("hba", "ident", "ldap", "pam", "group", "peer", "cert", "pattern", "saslprep", "rule")

STRING = re.compile(r'"(?:\\.|[^"\\])*"')


def statement(text, at):
    """The call that begins here, to its closing bracket, without the contents of strings."""
    text = STRING.sub('""', text[at : at + 2000])
    depth = 0
    for n, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if c == ")" and depth == 0:
            return text[: n + 1]
    return text


def check(srcdir):
    faults = []
    for path in sorted(glob.glob(os.path.join(srcdir, "src/**/*.c"), recursive=True)):
        name = os.path.relpath(path, srcdir)
        with open(path) as f:
            text = f.read()
        if name.startswith("src/auth/") and not os.path.basename(name).startswith(OTHER):
            allowed = PUBLIC.get(name, [])
            for number, line in enumerate(text.splitlines(), 1):
                if COMPARE.search(line) and not any(a in line for a in allowed):
                    faults.append(
                        f"{name}:{number}: compare in constant time, or say in secrets.py what it is: {line.strip()}"
                    )
            faults += [f"{name}: secrets.py allows {a!r}, which is gone" for a in allowed if a not in text]
        for found in LOG.finditer(text):
            call = statement(text, found.start())
            arguments = call[call.index("(") :]
            if SECRET.search(arguments):
                number = text.count("\n", 0, found.start()) + 1
                faults.append(f"{name}:{number}: a secret in a log line? {' '.join(call.split())}")
    return faults


if __name__ == "__main__":
    found = check(sys.argv[1] if len(sys.argv) > 1 else ".")
    print("\n".join(found) or "no comparison of secrets that takes its time, no secret in a log line")
    sys.exit(1 if found else 0)
