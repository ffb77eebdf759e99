"""
Who is let in: every method of authentication, with every kind of user and password, over every kind of connection,
in each mode of TLS, in both versions of the protocol and under both profiles; PostgreSQL is asked the same under the
same rules.

Each test is one method in one mode of TLS: a table of logins, done to both sides, and the list of those whose results
differ, which has to be empty. A result is "in", or why not: "auth" (the user or the password), "tls" (the connection is
of the wrong kind, or its certificate). The version of the protocol that the pooler speaks must be the one asked for;
PostgreSQL is asked in 3.0.

The reference is asked by a database that does not exist, named after the method and the mode, which its pg_hba.conf
goes by: it looks for the database last, when the user is in.
"""
import getpass
import os
import ssl
import struct

import pytest
from harness import cluster as pg
from harness import pam, slapd, wire
from harness.certs import Spec
from harness.pooler import has_feature

pytestmark = pytest.mark.ours

PROTO_3_2 = 0x00030002
KEY_LENGTHS = {wire.PROTO_3_0: 8, PROTO_3_2: 36}  # a process id and its secret
MODES = ("disable", "allow", "require", "verify-full")
SAME_MODES = {"prefer": "allow", "verify-ca": "verify-full"}  # two words for one thing, on the side of clients
LONG = "L" * 65000
PASSWORD = "the right one"

# Roles of PostgreSQL for each way to store a password: kind -> (password, attributes)
KINDS = {
    "right": (PASSWORD, "login"),
    "nologin": (PASSWORD, "nologin"),
    "expired": (PASSWORD, "login valid until '2001-01-01'"),
    "not_expired": (PASSWORD, "login valid until '2999-01-01'"),
    "nopassword": (None, "login"),
    "long": (LONG, "login"),
}

# case -> (kind of the user, password that is given)
CASES = {
    "right": ("right", PASSWORD),
    "wrong": ("right", "a wrong one"),
    "case": ("right", PASSWORD.upper()),
    "unknown": ("unknown", PASSWORD),
    "empty": ("right", ""),
    "wrong and long": ("right", LONG),
    "right and long": ("long", LONG),
    "wrong by its end": ("long", LONG[:-1] + "x"),
    "expired": ("expired", PASSWORD),
    "expired and wrong": ("expired", "a wrong one"),
    "not yet expired": ("not_expired", PASSWORD),
    "nologin": ("nologin", PASSWORD),
    "no password": ("nopassword", PASSWORD),
    "no password, empty": ("nopassword", ""),
}

# The cases where no method is asked anything new: other words for a mode, the other profile.
FEW_CASES = ("right", "wrong", "unknown", "expired", "no password, empty")

# how the connection is made -> (kind of socket, certificate that is shown)
WAYS = {
    "tcp": ("tcp", None),
    "tls": ("tls", None),
    "tls 1.2": ("tls 1.2", None),
    "tls, certificate": ("tls", "own"),
    "tls, another's certificate": ("tls", "other"),
    "tls, unknown authority": ("tls", "stranger"),
    "unix": ("unix", None),
}


class Method:
    """
    One row of the matrix. `hba` is what PostgreSQL is told for these users, `stored` how it keeps their passwords,
    `settings` what the pooler is told, `secrets` what stands in its auth_file: "plain", "stored" or nothing. `server`
    is the method with which it logs in to PostgreSQL, which then has the last word. `forced` is the kind of user that
    it is there, whoever the client says it is. {ldap} and {pam} stand for the options and the service of those.
    """

    def __init__(self, hba, stored="scram", secrets="plain", server="trust", local=None, forced=None, **settings):
        self.hba, self.stored, self.secrets, self.server = hba, stored, secrets, server
        self.local, self.forced, self.settings = local or hba, forced, settings


QUERY = {"auth_user": "postgres"}
RULES = {"auth_type": "hba"}

METHODS = {
    "any": Method("trust", forced="right", auth_type="any"),
    "trust": Method("trust", auth_type="trust"),
    "plain": Method("password", server="scram-sha-256", auth_type="plain"),
    "plain, md5 kept": Method("password", stored="md5", secrets="stored", server="md5", auth_type="plain"),
    "md5": Method("md5", stored="md5", server="md5", auth_type="md5"),
    "md5, md5 kept": Method("md5", stored="md5", secrets="stored", server="md5", auth_type="md5"),
    "md5, scram kept": Method("md5", secrets="stored", server="scram-sha-256", auth_type="md5"),
    "scram": Method("scram-sha-256", server="scram-sha-256", auth_type="scram-sha-256"),
    "scram, scram kept": Method(
        "scram-sha-256", secrets="stored", server="scram-sha-256", auth_type="scram-sha-256"
    ),
    "scram, md5 kept": Method("scram-sha-256", stored="md5", secrets="stored", auth_type="scram-sha-256"),
    "plain by query": Method("password", secrets=None, auth_type="plain", **QUERY),
    "md5 by query": Method("md5", stored="md5", secrets=None, server="md5", auth_type="md5", **QUERY),
    "scram by query": Method(
        "scram-sha-256", secrets=None, server="scram-sha-256", auth_type="scram-sha-256", **QUERY
    ),
    "cert": Method("cert", local="no rule", auth_type="cert"),
    "peer": Method("reject", local="peer", auth_type="peer"),
    "rules: trust": Method("trust", **RULES),
    "rules: password": Method("password", server="scram-sha-256", **RULES),
    "rules: md5": Method("md5", stored="md5", server="md5", **RULES),
    "rules: scram": Method("scram-sha-256", server="scram-sha-256", **RULES),
    "rules: cert": Method("cert", local="peer map=me", **RULES),
    "rules: reject": Method("reject", **RULES),
}
if has_feature("ldap"):
    METHODS["ldap"] = Method("ldap {ldap}", secrets=None, auth_type="ldap", auth_ldap_options="{ldap}")
    METHODS["rules: ldap"] = Method("ldap {ldap}", secrets=None, **RULES)
if has_feature("pam") and pam.can():
    METHODS["pam"] = Method("pam pamservice={pam}", secrets=None, auth_type="pam", auth_pam_service="{pam}")
    METHODS["rules: pam"] = Method("pam pamservice={pam}", secrets=None, **RULES)


def role(method, kind):
    return f"{method.stored}_{kind}"


def reference_db(hba, mode):
    return f"ref_{''.join(c for c in hba if c.isalnum())}_{mode}"


class Helpers:
    """An LDAP server and a PAM service that know the users; what needs them is filled in by `of`."""

    def __init__(self, pki):
        passwords = {f"scram_{kind}": password for kind, (password, _) in KINDS.items() if password}
        self.slapd = slapd.Slapd(pki, passwords).start() if "ldap" in METHODS else None
        # The modules of PAM do not take a password of 65000 bytes, and the script would read it byte by byte.
        short = {name: password for name, password in passwords.items() if len(password) < 100}
        self.pam = pam.PamService(short).__enter__() if "pam" in METHODS else None

    def of(self, text):
        ldap = self.slapd.simple() if self.slapd else ""
        return text.replace("{ldap}", ldap).replace("{pam}", self.pam.name if self.pam else "")

    def remove(self):
        if self.slapd:
            self.slapd.remove()
        if self.pam:
            self.pam.__exit__()


@pytest.fixture(scope="module")
def helpers(pki):
    made = Helpers(pki)
    yield made
    made.remove()


def hba_lines():
    """For each method and mode a database; for each method of the pooler's own logins another."""
    lines = ["local all postgres trust", "host all postgres all trust"]
    for method in {m.server for m in METHODS.values()}:
        lines.append(f"host app_{method} all all {method}")
    for mode in MODES:
        for hba in {m.hba for m in METHODS.values()}:
            lines += host_lines(mode, reference_db(hba, mode), hba)
        for local in {m.local for m in METHODS.values()} - {"no rule"}:
            lines.append(f"local {reference_db(local, mode)} all {local}")
    return lines


def host_lines(mode, database, hba):
    """Rules that mean for PostgreSQL what the mode of TLS means for a pooler."""
    if hba == "cert":  # for TLS alone, and the certificate is demanded anyway
        return [f"hostssl {database} all all cert"] if mode != "disable" else []
    return {
        "disable": [f"hostnossl {database} all all {hba}"],
        "allow": [f"host {database} all all {hba}"],
        "require": [f"hostssl {database} all all {hba}"],
        "verify-full": [f"hostssl {database} all all {hba} clientcert=verify-ca"],
    }[mode]


@pytest.fixture(scope="module")
def reference(shared_info, pki, helpers):
    """The PostgreSQL that both sides ask: directly, and through the pooler."""
    files = pki.files("server")
    own = pg.Cluster(
        shared_info["template"],
        settings={
            "ssl": "on",
            "ssl_cert_file": files.cert,
            "ssl_key_file": files.key,
            "ssl_ca_file": pki.ca("root"),
            "hba_file": pki.write("hba-matrix.conf", helpers.of("\n".join(hba_lines()) + "\n")),
            "ident_file": pki.write("ident-matrix.conf", ident_lines()),
            "max_connections": 200,
            "password_encryption": "md5",  # what rule md5 asks those for who have no password that counts
        },
    ).start()
    with own.connect() as c:
        for stored, word in (("scram", "scram-sha-256"), ("md5", "md5")):
            c.execute(f"set password_encryption = '{word}'")
            for kind, (password, attributes) in KINDS.items():
                secret = f"password '{password}'" if password else ""
                c.execute(f"create role {stored}_{kind} {attributes} {secret}")
        for method in {m.server for m in METHODS.values()}:
            c.execute(f'create database "app_{method}"')
    yield own
    own.remove()


def ident_lines():
    """Whoever runs this test is each of the users, but for the one that nobody is."""
    me = getpass.getuser()
    names = [f"{stored}_{kind}" for stored in ("scram", "md5") for kind in (*KINDS, "unknown") if kind != "long"]
    return "".join(f"me {me} {name}\n" for name in names)


# --- one login


def refusal(error, shown):
    """A word for an ErrorResponse; `shown` is the certificate that was shown."""
    about_tls = ("no pg_hba.conf entry", "no authentication method is found", "valid client certificate")
    if error.code == "3D000":
        return "in"
    if error.text == "SSL required" or any(word in error.text for word in about_tls):
        return "tls"
    if shown is None and error.text.startswith("certificate authentication failed"):
        return "tls"
    if error.code[:2] == "28":
        return "auth"
    return f"{error.code} {error.text}"


def dotted(version):
    return f"{version >> 16}.{version & 0xFFFF}"


def not_as_asked(c, version):
    """What is to be said against the version in which the two have come to speak; nothing if it is this one."""
    if c.negotiated is not None:
        return f", in {dotted(struct.unpack('!i', c.negotiated[:4])[0])}"
    if c.key is not None and len(c.key) != KEY_LENGTHS[version]:
        return f", with a key of {len(c.key)} bytes"
    return ""


def attempt(connect, way, user, password, database, context, version=wire.PROTO_3_0):
    """The result of one login, in a word, and what is wrong with the version of the protocol, if anything is."""
    kind = WAYS[way][0]
    try:
        with connect("unix" if kind == "unix" else "tcp") as c:
            if kind.startswith("tls"):
                if c.ssl_request() != b"S":
                    return "tls"
                c.sock = wire.TlsSock(c.sock, context)
                c.sock.handshake()
            try:
                c.login(user, database, password, version=version)
                c.send(wire.TERMINATE)
                word = "in"
            except wire.PgError as e:
                word = refusal(e, WAYS[way][1])
            return word + not_as_asked(c, version)
    except ssl.SSLError:
        return "tls"
    except wire.Closed:
        return "tls" if kind.startswith("tls") else "closed"
    except ConnectionError:
        return "tls"


class Certificates:
    """Contexts for the ways to connect; a certificate of one's own has the user's name."""

    def __init__(self, pki):
        self.pki, self.made = pki, {}

    def context(self, way, user):
        kind, shown = WAYS[way]
        key = (way, user if shown in ("own", "stranger") else None)
        if key not in self.made:
            context = self.pki.client_context(version="1.2" if kind == "tls 1.2" else None)
            if shown:
                by = "stranger" if shown == "stranger" else "root"
                name = "somebody" if shown == "other" else user
                files = self.pki.make(f"matrix-{by}-{name}", Spec(name, by=by, usage="client"))[1]
                context.load_cert_chain(*files)
            self.made[key] = context
        return self.made[key]


@pytest.fixture(scope="module")
def certificates(pki):
    return Certificates(pki)


def logins(few):
    """
    All that is tried: (case, way, version). The odd certificates need not meet every case. The newer protocol does, in
    one way each by turns.
    """
    for i, case in enumerate(FEW_CASES if few else CASES):
        basic = case in ("right", "wrong")
        for way in WAYS:
            if way not in ("tls 1.2", "tls, unknown authority") or basic:
                yield case, way, wire.PROTO_3_0
        newer = ("tcp", "tls", "unix", "tls, certificate")
        for way in newer if basic and not few else [newer[i % len(newer)]]:
            yield case, way, PROTO_3_2


_known = {}  # what PostgreSQL has said: the same for all methods of the pooler with the same rule


def ask_reference(reference, certificates, method, mode, case, way):
    kind, password = CASES[case]
    kind = method.forced or kind
    mode = SAME_MODES.get(mode, mode)
    hba = method.local if way == "unix" else method.hba
    key = (hba, method.stored, mode, kind, password, way)
    if key not in _known:
        user = role(method, kind)

        def connect(kind):
            if kind == "unix":
                return wire.Conn.unix(f"{reference.dir}/.s.PGSQL.{reference.port}")
            return wire.Conn.tcp(reference.port)

        context = certificates.context(way, user)
        _known[key] = attempt(connect, way, user, password, reference_db(hba, mode), context)
    return _known[key]


# --- the pooler


def secrets_of(reference, method):
    """Its auth_file: the users that have a secret, and those that are known without one."""
    out = {"admin": "adminpw", "postgres": ""}
    if method.secrets == "plain":
        out.update({role(method, kind): password or "" for kind, (password, _) in KINDS.items()})
    elif method.secrets == "stored":
        names = [role(method, kind) for kind in KINDS]
        rows = reference.sql("select rolname, rolpassword from pg_authid where rolname = any(%s)", [names])
        out.update({name: secret or "" for name, secret in rows})
    return out


def pooler_for(make_pooler, reference, pki, helpers, method, mode, profile="pgbouncer"):
    settings = {
        "error_style": "postgres",
        "server_login_retry": 0,
        "server_tls_sslmode": "disable",
        "max_prepared_statements": 0,
        "max_protocol_version": "3.2",
        **{name: helpers.of(value) for name, value in method.settings.items()},
        **(pki.client_settings(mode) if mode != "disable" else {}),
    }
    if settings["auth_type"] == "hba":
        kind = "hostssl" if method.hba == "cert" else "host"
        lines = ["local all admin trust", f"local all all {method.local}", f"{kind} all all all {method.hba}"]
        settings["auth_hba_file"] = pki.write(f"hba-matrix-{os.getpid()}.conf", helpers.of("\n".join(lines) + "\n"))
    settings["auth_ident_file"] = pki.write(f"ident-matrix-{os.getpid()}.conf", ident_lines())
    extra = {"user": role(method, method.forced)} if method.forced else {}
    databases = {"app": reference.dsn(dbname=f"app_{method.server}", **extra)}
    return make_pooler(databases, settings=settings, secrets=secrets_of(reference, method), profile=profile)


def differences(p, reference, certificates, name, mode, few):
    """[(case, way, version, PostgreSQL, pooler)] of what differs, how many logins there were, how many came in."""
    method, out, count, let_in = METHODS[name], [], 0, 0

    def connect(kind):
        return p.raw_unix() if kind == "unix" else wire.Conn.tcp(p.port)

    for case, way, version in logins(few):
        kind, password = CASES[case]
        user = role(method, kind)
        wanted = ask_reference(reference, certificates, method, mode, case, way)
        got = attempt(connect, way, user, password, "app", certificates.context(way, user), version)
        count += 1
        let_in += got == "in"
        if got != wanted:
            out.append((case, way, dotted(version), wanted, got))
    return out, count, let_in


def combinations():
    """(method, mode, profile); auth_type = cert demands verify-full, rules with it do not."""
    for name in METHODS:
        only = ["verify-full"] if name == "cert" else None
        yield from ((name, mode, "pgbouncer") for mode in only or MODES)
        yield from ((name, mode, "pgsluice") for mode in only or ["allow"])
    for mode in SAME_MODES:
        yield from ((name, mode, "pgbouncer") for name in ("plain", "scram", "rules: md5", "rules: cert"))


@pytest.mark.parametrize("name, mode, profile", combinations())
def test_matrix(make_pooler, reference, certificates, pki, helpers, name, mode, profile):
    p = pooler_for(make_pooler, reference, pki, helpers, METHODS[name], mode, profile)
    few = profile == "pgsluice" or mode in SAME_MODES
    found, count, let_in = differences(p, reference, certificates, name, mode, few)
    table = "\n".join(f"{c:20} {w:28} {v}  PostgreSQL: {a:8} pooler: {b}" for c, w, v, a, b in found)
    print(f"{name}, {mode}, {profile}: {count} logins, {let_in} let in, {len(found)} differences\n{table}")
    assert not found, f"{len(found)} of {count} logins end otherwise than with PostgreSQL\n{table}"


# --- how long a password may be

LENGTHS = (1, 127, 128, 999, 1000, 1024, 2047, 2048, 16384, 65000, 65529, 65530)


@pytest.mark.parametrize("name", ["plain", "plain by query", "md5", "scram", "scram by query"])
def test_longest_password(make_pooler, reference, pki, helpers, name):
    """The right one of each length that PostgreSQL takes, and one that is wrong in its last byte."""
    method = METHODS[name]
    users = {f"{method.stored}_length_{n}": "x" * n for n in LENGTHS}
    with reference.connect() as c:
        c.execute(f"set password_encryption = '{'md5' if method.stored == 'md5' else 'scram-sha-256'}'")
        for user, password in users.items():
            c.execute(f"drop role if exists {user}")
            c.execute(f"create role {user} login password '{password}'")
    p = pooler_for(make_pooler, reference, pki, helpers, method, "allow")
    if method.secrets:
        p.secrets.update(users)
        p.write_files()
        p.admin("RELOAD")

    def answer(port, user, password, database):
        return attempt(lambda kind: wire.Conn.tcp(port), "tcp", user, password, database, None)

    for user, password in users.items():
        for given, wanted in ((password, "in"), (password[:-1] + "y", "auth")):
            assert answer(reference.port, user, given, reference_db(method.hba, "allow")) == wanted, user
            assert answer(p.port, user, given, "app") == wanted, user
    if method.hba == "password":  # one byte more, and the message is longer than any that may come before the login
        given = "x" * (LENGTHS[-1] + 1)
        assert answer(reference.port, user, given, reference_db(method.hba, "allow")) != "in"
        assert answer(p.port, user, given, "app") != "in"
