"""
A real LDAP server, slapd, with a small directory; and one that never answers.

    with Slapd(pki) as s:
        s.simple()                  options of the ldap method: a bind as uid=NAME,ou=people,…
        s.search(ldapsearchattribute="mail")
        s.options(ldaptls=1, …)     any, with the server and its port in front
        s.env()                     what a pooler needs in its environment to trust its certificate

It listens on 127.0.0.1 and 127.0.0.2, of which only the first is in its certificate, with and without TLS. It lets
anybody in who sends a name and no password, as servers may (an unauthenticated bind).
"""
import os
import re
import shutil
import signal
import socket
import subprocess
import threading

from . import procs
from .pooler import quote

BASE = "dc=example,dc=com"
PEOPLE = f"ou=people,{BASE}"
READER = f"cn=reader,{BASE}"
READER_PW = 'reader "pw", too'

# Name: password. None of these is what auth_file or PostgreSQL has, but those of scramuser and md5user.
PASSWORDS = {
    "app": "ldap app pw",
    "app2": "ldap app2 pw",
    "limited": "ldap limited pw",
    "admin": "adminpw",
    "stats": "statspw",
    "nobody_knows": "ldap nobody pw",
    "o'neil": "ldap o'neil pw",
    "jörg, \"the\" <x>": "ldap jörg pw",
    "scramuser": "scrampw",
    "md5user": "md5pw",
    "plainuser": "plainpw",
}

# (name, mail) beside the first ones
TWINS = [("twin1", "twin@example.com"), ("twin2", "twin@example.com")]


def dn_escape(value):
    return "".join("\\" + c if c in ',+"\\<>;=' else c for c in value)


def _entry(name, mail, password, where):
    lines = [
        f"dn: uid={dn_escape(name)},{where}",
        "objectClass: inetOrgPerson",
        f"uid: {name}",
        f"cn: {name}",
        f"sn: {name}",
        f"mail: {mail}",
        f"userPassword: {password}",
    ]
    return "\n".join(_encode(line) for line in lines)


def _encode(line):
    """LDIF wants Base64 for what is not ASCII."""
    if line.isascii():
        return line
    import base64

    key, value = line.split(": ", 1)
    return f"{key}:: {base64.b64encode(value.encode()).decode()}"


def ldif(more):
    passwords = {**PASSWORDS, **more}
    people = [_entry(n, f"{n.split(',')[0]}@example.com", p, PEOPLE) for n, p in passwords.items()]
    people += [_entry(n, m, "twin pw", PEOPLE) for n, m in TWINS]
    tree = [
        f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: example\ndc: example",
        f"dn: {PEOPLE}\nobjectClass: organizationalUnit\nou: people",
        f"dn: ou=more,{PEOPLE}\nobjectClass: organizationalUnit\nou: more",
        f"dn: ou=public,{BASE}\nobjectClass: organizationalUnit\nou: public",
        f"dn: {READER}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: reader\n"
        f"userPassword: {READER_PW}",
        _entry("deep", "deep@example.com", "ldap deep pw", f"ou=more,{PEOPLE}"),
        _entry("open", "open@example.com", "ldap open pw", f"ou=public,{BASE}"),
    ]
    return "\n\n".join(tree + people) + "\n"


def _first(*paths):
    return next(p for p in paths if os.path.exists(p))


class Slapd:
    """`more` are people beside those of PASSWORDS, with theirs."""

    def __init__(self, pki, more=None):
        self.dir, self.more = procs.make_dir("sluiceldap-"), more or {}
        self.port, self.tls_port = procs.free_port(), procs.free_port()
        self.ca, self.stranger = pki.ca("root"), pki.ca("stranger")
        self.files, self.proc = pki.files("server"), None

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.remove()

    def write(self, name, text):
        path = f"{self.dir}/{name}"
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def conf(self):
        schema = _first("/etc/ldap/schema", "/etc/openldap/schema")
        return "\n".join(
            [f"include {schema}/{name}.schema" for name in ("core", "cosine", "inetorgperson")]
            + [
                f"modulepath {_first('/usr/lib/ldap', '/usr/lib64/openldap')}",
                "moduleload back_mdb",
                f"pidfile {self.dir}/slapd.pid",
                "allow bind_anon_cred",
                "sizelimit 100",
                f"TLSCACertificateFile {self.ca}",
                f"TLSCertificateFile {self.files.cert}",
                f"TLSCertificateKeyFile {self.files.key}",
                "database mdb",
                "maxsize 16777216",
                f'suffix "{BASE}"',
                f"directory {self.dir}/data",
                "access to attrs=userPassword by anonymous auth by * none",
                f'access to dn.subtree="ou=public,{BASE}" by * read',
                f'access to dn.subtree="{BASE}" by dn="{READER}" read by anonymous auth by * none',
            ]
        )

    def start(self):
        slapd = shutil.which("slapd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/libexec")
        assert slapd, "slapd is not there (Debian: slapd)"
        if not os.path.exists(f"{self.dir}/data"):
            procs.run(["mkdir", "-m", "700", f"{self.dir}/data"])
            conf, data = self.write("slapd.conf", self.conf() + "\n"), self.write("data.ldif", ldif(self.more))
            procs.run([slapd, "-T", "add", "-q", "-f", conf, "-l", data])
        urls = [f"ldap://{host}:{self.port}/ ldaps://{host}:{self.tls_port}/" for host in ("127.0.0.1", "127.0.0.2")]
        with open(f"{self.dir}/log", "ab") as log:
            command = [slapd, "-d", "stats", "-f", f"{self.dir}/slapd.conf", "-h", " ".join(urls)]
            self.proc = procs.spawn(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

        def is_up():
            assert self.proc.poll() is None, procs.tail(f"{self.dir}/log")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.2", self.tls_port)) == 0

        procs.wait_until(is_up, lambda: "slapd listens\n" + procs.tail(f"{self.dir}/log"), timeout=20)
        return self

    def stop(self):
        if self.proc is not None:
            self.proc.send_signal(signal.SIGTERM)
            self.proc.wait(20)
            self.proc = None

    def remove(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def log_text(self):
        with open(f"{self.dir}/log", errors="replace") as f:
            return f.read()

    def binds(self):
        """How many binds it was asked for so far, with a name."""
        return self.log_text().count("BIND dn=\"uid")

    def operations(self, since=0):
        """What each connection that has ended asked for, in order, from that place of the log on."""
        asked, ended = {}, []
        steps = r"""conn=(\d+) (?:op|fd)=\d+ (BIND(?= dn="[^"]*" method)|SRCH(?= base=)|closed)"""
        for conn, what in re.findall(steps, self.log_text()[since:]):
            asked.setdefault(conn, []).append(what)
            if what == "closed":
                ended.append(asked.pop(conn)[:-1])
        return ended

    # --- options of the method

    def options(self, **options):
        """As text; what has None is left out."""
        options = {"ldapserver": "127.0.0.1", "ldapport": self.port, **options}
        return " ".join(f"{key}={quote(str(value))}" for key, value in options.items() if value is not None)

    def simple(self, **options):
        return self.options(**{"ldapprefix": "uid=", "ldapsuffix": f",{PEOPLE}", **options})

    def search(self, **options):
        options = {"ldapbasedn": PEOPLE, "ldapbinddn": READER, "ldapbindpasswd": READER_PW, **options}
        return self.options(**options)

    def env(self, ca=None):
        return {"LDAPTLS_CACERT": ca or self.ca, "LDAPTLS_REQCERT": "demand"}


class RudeServer(threading.Thread):
    """Sends these bytes to whoever has sent a first message, and closes."""

    def __init__(self, answer):
        super().__init__(daemon=True)
        self.answer, self.sock = answer, socket.create_server(("127.0.0.1", 0))
        self.port, self.asked = self.sock.getsockname()[1], 0
        self.start()

    def run(self):
        while True:
            try:
                conn = self.sock.accept()[0]
            except OSError:
                return
            with conn:
                conn.settimeout(10)
                try:
                    self.asked += len(conn.recv(65536)) > 0
                    conn.sendall(self.answer)
                except OSError:
                    pass

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.join(10)


class SilentServer:
    """Accepts connections and never says a word."""

    def __init__(self):
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self.sock.getsockname()[1]
        self.accepted = []
        self.sock.setblocking(False)

    def count(self):
        """How many have come so far."""
        while True:
            try:
                self.accepted.append(self.sock.accept()[0])
            except BlockingIOError:
                return len(self.accepted)

    def close(self):
        self.count()
        for conn in self.accepted:
            conn.close()
        self.sock.close()
