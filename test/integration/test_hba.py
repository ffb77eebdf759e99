"""auth_hba_file and auth_ident_file: who may come from where, and what it has to show."""
import contextlib
import itertools
import os
import pwd
import random
import re
import signal
import socket
import struct

import pytest
from harness import procs, wire
from harness.cluster import Cluster
from harness.pooler import binary
from harness.procs import wait_until
from harness.wire import PgError
from test_dns import A, NameServer

pytestmark = pytest.mark.newer
ours = pytest.mark.ours

PASSWORD = "se cret"
SECRETS = {
    "app": PASSWORD,
    "app2": PASSWORD,
    "admin": "adminpw",
    "stats": "statspw",
    "md5er": wire.md5_secret("md5er", PASSWORD),
    "scrammer": wire.scram_secret(PASSWORD),
    "replication": PASSWORD,
}
NO_RULE = "no authentication method is found"
REJECTED = "login rejected"

# The tests run as root, the programs of the test as an ordinary user; the clients are this process.
WHO = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def make(make_pooler, cluster):
    """A pooler with rules; every database leads to the trusted role app."""

    def make(rules, ident=None, profile="pgbouncer", databases=("app", "other"), start=True, secrets=(), **settings):
        dsn = cluster.dsn(user="app", dbname="app")
        p = make_pooler(
            {name: dsn if isinstance(databases, tuple) else databases[name] for name in databases},
            secrets={**SECRETS, **dict(secrets)},
            settings={"auth_type": "hba", **settings},
            profile=profile,
            start=False,
        )
        p.settings.setdefault("auth_hba_file", f"{p.dir}/hba.conf")
        if rules is not None:
            p.write(f"{p.dir}/hba.conf", rules)
        if ident is not None:
            p.settings.setdefault("auth_ident_file", f"{p.dir}/ident.conf")
            p.write(f"{p.dir}/ident.conf", ident)
        return p.start() if start else p

    return make


def come(p, user="app", database="app", password=PASSWORD, source="127.0.0.1", unix=False, tls=None, params=()):
    """The exchange that a login took, or the text of the error."""
    if unix:
        c = p.raw_unix()
    else:
        sock = socket.create_connection(("127.0.0.1", p.port), timeout=10, source_address=(source, 0))
        c = wire.Conn(sock)
        p.conns.append(c)
    if tls:
        c.start_tls(tls)
    try:
        c.login(user, database, password, params)
    except PgError as e:
        assert not c.expect_close().messages
        return e.text
    finally:
        c.close()
    return c.auth or "trust"


# --- which rule


def test_no_rule(make):
    p = make("local all all trust\n")
    assert come(p) == NO_RULE
    assert come(p, unix=True) == "trust"


def test_an_empty_file_lets_nobody_in(make):
    p = make("# nothing\n")
    assert come(p) == NO_RULE
    assert come(p, unix=True) == NO_RULE
    assert come(p, "nobody") == NO_RULE


def test_reject(make):
    p = make("host all app2 all reject\nhost all all all trust\n")
    assert come(p, "app2") == REJECTED
    assert come(p) == "trust"


def test_first_rule_decides(make):
    """Also when its method then fails."""
    p = make("host all app all scram-sha-256\nhost all all all trust\n")
    assert come(p, password="wrong") == "SASL authentication failed"
    assert come(p) == "scram-sha-256"
    assert come(p, "app2") == "trust"


@pytest.mark.parametrize(
    "method, user, exchange",
    [
        ("trust", "app", "trust"),
        ("password", "app", "plain"),
        ("md5", "app", "md5"),
        ("md5", "md5er", "md5"),
        ("md5", "scrammer", "scram-sha-256"),
        ("scram-sha-256", "app", "scram-sha-256"),
    ],
)
def test_methods(make, method, user, exchange):
    p = make(f"host all all all {method}\n")
    assert come(p, user) == exchange
    if method != "trust":
        failed = "SASL" if exchange == "scram-sha-256" else "password"
        assert come(p, user, password="wrong") == f"{failed} authentication failed"
        assert come(p, "nobody") == f"{'SASL' if method == 'scram-sha-256' else 'password'} authentication failed"
    else:
        assert come(p, "nobody") == '"trust" authentication failed'


def test_databases(make):
    p = make(
        'host app,x app all trust\nhost "other" app2 all trust\nhost sameuser all all trust\n',
        databases=("app", "other", "app2", "all"),
    )
    assert come(p, "app", "app") == "trust"
    assert come(p, "app", "other") == NO_RULE
    assert come(p, "app2", "other") == "trust"
    assert come(p, "app2", "app2") == "trust"
    assert come(p, "app2", "app") == NO_RULE


def test_quoted_keywords_are_names(make):
    p = make('host "all" all all trust\nhost all "all" all trust\n', databases=("app", "all"))
    assert come(p, "app", "app") == NO_RULE
    assert come(p, "app", "all") == "trust"


def test_users_in_a_file(make):
    p = make("host all @users all trust\n", start=False)
    p.write(f"{p.dir}/users", 'x, "app" # c\nscrammer\n')
    p.start()
    assert come(p, "app") == "trust"
    assert come(p, "scrammer") == "trust"
    assert come(p, "app2") == NO_RULE


def test_unknown_database_is_told_after_the_login(make):
    p = make("host all all all md5\nhost none app all trust\n")
    assert come(p, database="none", password="wrong") == "password authentication failed"
    assert come(p, database="none") == "no such database: none"


def test_addresses(make):
    p = make(
        "host all all 127.0.0.2/32 trust\nhost all all 127.0.1.0/24 md5\n"
        "host all all 127.0.2.0 255.255.255.0 password\nhost all all ::/0 trust\nhost all app2 all reject\n"
    )
    assert come(p, source="127.0.0.2") == "trust"
    assert come(p, source="127.0.0.3") == NO_RULE
    assert come(p, source="127.0.1.9") == "md5"
    assert come(p, source="127.0.2.200") == "plain"
    assert come(p, "app2", source="127.0.3.1") == REJECTED
    assert come(p, unix=True) == NO_RULE


def test_ipv6(make):
    p = make("host all all ::1/128 trust\n", listen_addr="::1")
    c = wire.Conn(socket.create_connection(("::1", p.port), timeout=10))
    p.conns.append(c)
    c.login("app", "app")


@ours
def test_own_addresses(make):
    p = make("host all app samehost trust\nhost all app2 samenet trust\n")
    assert come(p, "app", source="127.0.0.1") == "trust"
    assert come(p, "app", source="127.9.9.9") == NO_RULE
    assert come(p, "app2", source="127.9.9.9") == "trust"


def test_tls_in_rules(make, pki):
    p = make(
        "hostssl all app all md5\nhostnossl all app all password\nhostssl all app2 all trust\n",
        **pki.client_settings("prefer"),
    )
    tls = pki.client_context()
    assert come(p, tls=tls) == "md5"
    assert come(p) == "plain"
    assert come(p, "app2", tls=tls) == "trust"
    assert come(p, "app2") == NO_RULE


@ours
def test_gssapi_encryption_is_never_in_use(make):
    p = make("hostgssenc all all all trust\nhostnogssenc all app all md5\n")
    assert come(p) == "md5"
    assert come(p, "app2") == NO_RULE


@pytest.mark.parametrize("kind, rule", [("yes", "replication"), ("database", "app")])
def test_replication(make, kind, rule):
    """Physical replication is matched by its keyword alone, logical replication by its database."""
    p = make(f"host {rule} app all reject\nhost all app2 all reject\nhost all app all trust\n")
    params = {"replication": kind}
    assert come(p, params=params) == REJECTED
    assert come(p, "app2", params=params) == (NO_RULE if kind == "yes" else REJECTED)


def test_console(make):
    p = make("local pgbouncer admin scram-sha-256\nlocal all all reject\nhost pgbouncer stats all md5\n")
    assert come(p, "admin", "pgbouncer", "adminpw", unix=True) == "scram-sha-256"
    assert come(p, "admin", "pgbouncer", "adminpw") == NO_RULE
    assert come(p, "stats", "pgbouncer", "statspw") == "md5"


def test_owner_of_the_process_needs_no_rule(make):
    """On the Unix socket the user that runs the program is at home, whatever the rules are."""
    p = make("local all all reject\n")
    assert p.psql("-c", "SHOW VERSION", dbname="pgbouncer", user="pgbouncer", host=p.dir).returncode == 0


@ours
def test_regular_expressions(make):
    p = make('host /^o(th|xx)er$ /^app\\d$ all trust\nhost all "/^(app|scrammer)$" all md5\n')
    assert come(p, "app2", "other") == "trust"
    assert come(p, "app2", "app") == NO_RULE
    assert come(p, "app", "other") == "md5"
    assert come(p, "scrammer") == "scram-sha-256"


@ours
def test_includes_and_continuation(make):
    p = make("include one.conf\ninclude_if_exists none\ninclude_dir more\nhost all \\\n app2 all md5\n", start=False)
    p.write(f"{p.dir}/one.conf", "host all scrammer all reject\n")
    os.mkdir(f"{p.dir}/more")
    os.chmod(f"{p.dir}/more", 0o755)
    p.write(f"{p.dir}/more/b.conf", "host all app all trust\n")
    p.write(f"{p.dir}/more/a.conf", "host all app all password\n")
    p.write(f"{p.dir}/more/a.txt", "host all all all trust\n")
    p.start()
    assert come(p, "scrammer") == REJECTED
    assert come(p, "app") == "plain"
    assert come(p, "app2") == "md5"
    assert come(p, "md5er") == NO_RULE


# --- as PostgreSQL decides


def random_rules(rng):
    """Rules for TCP that both sides read alike."""
    lines = []
    for _ in range(rng.randint(2, 9)):
        databases = ["app", "bench", "app2", '"app"', '"all"', "all", "sameuser", "samerole", "replication", "x"]
        users = ["app", "app2", '"app"', '"all"', "all", "x", "+hba_ops", "+hba_dev", "+app2", '"+hba_ops"']
        addresses = ["all", "127.0.0.0/8", "127.0.0.2/32", "127.0.0.2 255.255.255.254", "127.0.0.1 255.0.0.255"]
        addresses += ["samehost", "samenet", "localhost", "::1/128", "0.0.0.0/0", "127.0.0.3/24", "nowhere.invalid"]
        fields = (
            rng.choice(["host"] * 4 + ["hostnossl", "hostssl"]),
            ",".join(rng.sample(databases, rng.randint(1, 3))),
            ",".join(rng.sample(users, rng.randint(1, 3))),
            rng.choice(addresses),
            rng.choice(["trust", "reject", "password", "md5", "scram-sha-256"]),
        )
        lines.append(" ".join(fields))
    return lines


def demand_of(address, port, user, database, replication):
    """What a server asks a client for: the code of its request, 0 for nothing, or how it refuses."""
    with wire.Conn(socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(address, 0))) as c:
        c.start(user, database, params={"replication": "yes"} if replication else ())
        m = c.recv()
    if m.type == "R":
        return struct.unpack("!i", m.body[:4])[0]
    text = wire.fields_of(m.body)["M"]
    if text.startswith(("no pg_hba.conf entry", NO_RULE)):
        return "none"
    # With nothing asked for the pooler first turns to a server, which may refuse.
    return "reject" if text.startswith(("pg_hba.conf rejects", REJECTED)) else 0


@pytest.fixture
def standard(shared_info):
    """A PostgreSQL of the test's own, that would let replicate."""
    own = Cluster(shared_info["template"], settings={"wal_level": "replica", "max_wal_senders": 5})
    own.start()
    yield own
    own.remove()


@ours
def test_random_rules_decide_as_in_postgresql(make, standard):
    pg = standard
    for sql in (
        "create role hba_ops",
        "create role hba_dev in role hba_ops",
        "grant hba_dev to app",
        "create database app2",
        "set password_encryption = 'scram-sha-256'; alter role app password 'x'; alter role app2 password 'x'",
    ):
        pg.sql(sql)
    rng = random.Random(20)
    p = make(
        "",
        databases={name: f"host={pg.dir} port={pg.port} dbname={name} user=app" for name in ("app", "bench", "app2")},
        secrets={name: wire.scram_secret("x") for name in ("app", "app2")},
        profile="pgsluice",
        auth_user="postgres",
        admin_users="admin",
        auth_query_cache_ttl=600,
    )
    clients = list(
        itertools.product(("app", "app2"), ("app", "bench", "app2"), ("127.0.0.1", "127.0.0.2", "127.1.0.1"))
    )
    for _ in range(10):
        rules = random_rules(rng)
        loaded = pg.value("select pg_conf_load_time()")
        with open(f"{pg.data}/pg_hba.conf", "w") as f:
            f.write("\n".join(["local all all trust", *rules]) + "\n")
        pg.sql("select pg_reload_conf()")
        wait_until(lambda: pg.value("select pg_conf_load_time()") > loaded, "PostgreSQL has the rules")
        wrong = "select error from pg_hba_file_rules where error not like 'hostssl record cannot match%' limit 1"
        assert pg.value(f"select ({wrong})") is None, rules
        mark = p.log_mark()
        p.write(f"{p.dir}/hba.conf", "\n".join(["local all all trust", *rules]) + "\n")
        p.signal(signal.SIGHUP)
        p.wait_for_log("reload: ", since=mark)
        for user, database, address in clients:
            for replication in (False, True):
                who = (address, user, database, replication)
                got = demand_of(address, p.port, user, database, replication)
                assert got == demand_of(address, pg.port, user, database, replication), (who, rules)


# --- host names


@ours
def test_host_name(make):
    """A name matches when one of its addresses is the client's."""
    p = make("host all app localhost trust\nhost all app2 nowhere.invalid reject\nhost all app2 all md5\n")
    assert come(p) == "trust"
    assert come(p, source="127.0.0.2") == NO_RULE
    assert come(p, "app2") == "md5"


@pytest.fixture
def names(make):
    """A pooler that asks a name server of the test's own: (rules) -> (pooler, name server)."""
    server = NameServer()

    def start(rules, patience=1, **settings):
        p = make(rules, start=False, **settings)
        options = f"options timeout:{patience} attempts:1"
        p.write(f"{p.dir}/resolv.conf", f"nameserver 127.0.0.1:{server.port}\n{options}\n")
        p.settings["resolv_conf"] = f"{p.dir}/resolv.conf"
        return p.start(), server

    yield start
    server.sock.close()


@ours
def test_addresses_of_a_host_name(names):
    p, server = names("host all all web.example.test trust\nhost all all lost.example.test trust\n")
    server.answer = {"web.example.test": ["127.0.0.2", "127.0.0.3"]}
    assert come(p, source="127.0.0.2") == "trust"
    assert come(p, source="127.0.0.3") == "trust"
    assert come(p) == NO_RULE
    assert ("lost.example.test", A) in server.asked


@ours
def test_name_server_that_fails(names):
    """Nobody is let in by a name that cannot be looked up, and nobody who is to be kept out is."""
    p, server = names(
        "host all app web.example.test trust\nhost all app2 web.example.test reject\nhost all all all md5\n"
    )
    server.answer = None
    assert come(p) == "md5"
    p.wait_for_log('WARNING .*could not look up the host name "web.example.test" of a rule')
    assert come(p, "app2") == REJECTED


@ours
def test_clients_that_leave_while_a_name_is_looked_up(names):
    p, server = names("host all app2 all trust\nhost all all web.example.test trust\n")
    server.answer = None
    gone, late, early = p.raw(), p.raw(), p.raw()
    gone.start()
    late.start()
    early.start()
    early.send(wire.pack("p", b"sent too early\0"))
    wait_until(lambda: server.count(A), "the name server is asked")
    gone.close()
    assert come(p, "app2") == "trust"
    assert late.expect_error_close().text == NO_RULE
    assert early.expect_error_close().text == NO_RULE


@ours
def test_login_timeout_while_a_name_is_looked_up(names):
    p, server = names("host all all web.example.test trust\n", patience=30, client_login_timeout=0.3)
    server.answer = None
    assert come(p) == "client_login_timeout"


def dotted_names():
    """(address, name) of /etc/hosts that this machine has, with the name that looking up the address gives."""
    for line in open("/etc/hosts"):
        words = line.split("#")[0].split()
        if len(words) > 1 and "." in words[1] and re.match(r"[0-9.]+$", words[0]):
            with contextlib.suppress(OSError), socket.socket() as s:
                s.bind((words[0], 0))
                if socket.getnameinfo((words[0], 0), socket.NI_NAMEREQD)[0] == words[1]:
                    yield words[0], words[1]


@ours
def test_domain(make):
    """A name of the address ends so, and has the address."""
    found = next(dotted_names(), None)
    if found is None:
        pytest.skip("/etc/hosts has no name with a dot for this machine")
    address, name = found
    domain = name[name.index(".") :]
    p = make(f"host all app {domain.upper()} trust\nhost all all x{domain[1:]} trust\nhost all all all md5\n")
    assert come(p, source=address) == "trust"
    assert come(p, "app2", source=address) == "md5"


@ours
def test_domain_that_is_not_the_clients(make):
    p = make("host all app .invalid trust\nhost all app .localhost trust\nhost all app all md5\n")
    assert come(p) == "md5"


# --- groups


# roles are the whole server's, which other workers of the tests have in common
OPS, DEV = (name + os.environ.get("PYTEST_XDIST_WORKER", "") for name in ("hba_ops", "hba_dev"))


@pytest.fixture
def groups(cluster, database):
    """A database, with roles: app is in OPS through DEV."""
    cluster.sql(f"drop role if exists {OPS}, {DEV}")
    cluster.sql(f"create role {OPS}")
    cluster.sql(f"create role {DEV} in role {OPS}")
    cluster.sql(f"grant {DEV} to app")
    yield database()
    cluster.sql(f"drop role if exists {OPS}, {DEV}")


@ours
@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
def test_groups(make, groups, cluster, profile):
    dsn = cluster.dsn(dbname=groups, user="app")
    p = make(
        f"host all +{OPS} all trust\nhost samerole app2 all trust\nhost all +app2 all md5\nhost all all all reject\n",
        databases={"app": dsn, "app2": dsn},
        auth_user="postgres",
        profile=profile,
    )
    assert come(p) == "trust"
    assert come(p, "app2", "app2") == "trust"
    assert come(p, "app2", "app") == "md5"
    assert come(p, "md5er") == REJECTED
    assert come(p, "nobody") == REJECTED


@ours
def test_without_auth_user_a_group_lets_nobody_in(make):
    """Nor does a rule below it, which may be weaker than the one that cannot be decided."""
    p = make("host all +ops 127.0.0.1/32 md5\nhost all all all trust\n")
    assert come(p) == "bouncer config error"
    p.wait_for_log("ERROR .*a rule names a group, and there is no auth_user to ask for its members")
    assert come(p, source="127.0.0.2") == "trust"


@ours
def test_groups_that_cannot_be_asked_for_let_nobody_in(make, cluster):
    p = make(
        "host all +ops all md5\nhost all all all trust\n",
        databases={"app": cluster.dsn(user="app")},
        auth_user="postgres",
        auth_roles_query="select broken",
    )
    assert come(p) not in ("trust", "md5")


# --- peer


def test_peer(make):
    secrets = {WHO: ""}
    p = make("local all all peer\nhost all all all peer\n", secrets=secrets)
    assert come(p, WHO, unix=True) == "trust"
    assert come(p, "app", unix=True) == "unix socket login rejected"
    assert come(p, WHO) == "unix socket login rejected"


def test_peer_map(make):
    p = make(
        "local all app,app2 peer map=m\nlocal all all peer map=n\n",
        ident=f"m {WHO} app\nm somebody app2\nn {WHO} all\n",
    )
    assert come(p, "app", unix=True) == "trust"
    assert come(p, "app2", unix=True) == "unix socket login rejected"
    p.wait_for_log("ERROR .*ident map m cannot be matched")
    assert come(p, "scrammer", unix=True) == "trust"
    assert come(p, "nobody", unix=True) == "unix socket login rejected"


@ours
def test_groups_in_maps(make, groups, cluster):
    p = make(
        "local all all peer map=m\n",
        ident=f"m {WHO} +{OPS}\n",
        databases={"app": cluster.dsn(dbname=groups, user="app")},
        auth_user="postgres",
    )
    assert come(p, "app", unix=True) == "trust"
    assert come(p, "app2", unix=True) == "unix socket login rejected"


@ours
def test_peer_for_all(make):
    p = make(None, auth_type="peer", secrets={WHO: ""})
    assert come(p, WHO, unix=True) == "trust"
    assert come(p, "admin", unix=True) == "unix socket login rejected"
    assert come(p, WHO) == "unix socket login rejected"


# --- cert

MISMATCH = "ERROR .*TLS certificate name mismatch"
CERT_FAILED = "certificate authentication failed"


@pytest.fixture
def cert(make, pki):
    def make_cert(rules="hostssl all all all cert\n", mode="require", profile="pgbouncer", **kwargs):
        settings = {**pki.client_settings(mode), "client_tls_ca_file": pki.ca("root")}
        return make(rules, profile=profile, **settings, **kwargs)

    return make_cert


def test_cert(cert, pki):
    p = cert()
    assert come(p, tls=pki.client_context(cert="app")) == "trust"
    assert come(p, "app2", tls=pki.client_context(cert="app")) == CERT_FAILED
    p.wait_for_log(MISMATCH)
    assert come(p, tls=pki.client_context()) == CERT_FAILED
    p.wait_for_log("ERROR .*TLS client certificate required")
    assert come(p, tls=pki.client_context(cert="by_san")) == "trust"


def test_cert_without_tls(cert):
    p = cert("host all all all cert\n", mode="prefer")
    assert come(p) == CERT_FAILED
    p.wait_for_log("ERROR .*TLS connection required")


@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
def test_case_in_certificates(cert, pki, profile):
    p = cert(profile=profile)
    result = come(p, tls=pki.client_context(cert="upper"))
    assert result == ("trust" if profile == "pgbouncer" else CERT_FAILED)


@ours
@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
def test_a_wildcard_certificate_is_nobody_else(cert, pki, profile):
    p = cert(profile=profile, secrets={"a.example.test": "", "*.example.test": ""})
    tls = pki.client_context(cert="wildcard")
    assert come(p, "a.example.test", tls=tls) == CERT_FAILED
    assert come(p, "*.example.test", tls=tls) == "trust"


@ours
@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
def test_cert_map(cert, pki, profile):
    p = cert(
        "hostssl all all all cert map=m\n",
        ident="m app scrammer\nm /^(ap)p2$ \\1p\nm admin all\n",
        profile=profile,
    )
    assert come(p, "scrammer", tls=pki.client_context(cert="app")) == "trust"
    assert come(p, "app", tls=pki.client_context(cert="app")) == CERT_FAILED
    p.wait_for_log("ERROR .*ident map: m does not have a match")
    assert come(p, "app", tls=pki.client_context(cert="app2")) == "trust"
    assert come(p, "md5er", tls=pki.client_context(cert="admin")) == "trust"
    assert come(p, "nobody", tls=pki.client_context(cert="admin")) == CERT_FAILED


def test_cert_for_all(make_pooler, pki):
    p = make_pooler(
        settings={"auth_type": "cert", **pki.client_settings("verify-full"), "client_tls_ca_file": pki.ca("root")}
    )
    assert come(p, tls=pki.client_context(cert="app")) == "trust"
    assert come(p, "app2", tls=pki.client_context(cert="app")) == CERT_FAILED
    assert come(p, unix=True) == CERT_FAILED


@ours
def test_clientcert(cert, pki):
    """A certificate besides the password."""
    p = cert("hostssl all app2 all md5 clientcert=verify-ca\nhostssl all all all md5 clientcert=verify-full\n")
    tls = pki.client_context(cert="app")
    assert come(p, tls=tls) == "md5"
    assert come(p, password="wrong", tls=tls) == "password authentication failed"
    assert come(p, "app2", tls=tls) == "md5"
    assert come(p, "scrammer", tls=tls) == CERT_FAILED
    assert come(p, "app2", tls=pki.client_context()) == CERT_FAILED


# --- files that are no good


def test_a_missing_file_lets_nobody_in(make):
    p = make(None)
    p.wait_for_log("ERROR .*could not open hba config file .*hba.conf: No such file or directory")
    assert come(p) == NO_RULE
    assert come(p, unix=True) == NO_RULE
    p.write(f"{p.dir}/hba.conf", "host all all all trust\n")
    p.signal(signal.SIGHUP)
    wait_until(lambda: come(p) == "trust", "the rules are read")


def test_a_bad_line_is_skipped(make):
    p = make("hots all all all trust\nhost all app all md5\n")
    p.wait_for_log("could not parse hba config line 1")
    assert come(p) == "md5"
    assert come(p, "app2") == NO_RULE


@ours
def test_a_bad_line_that_rejects_keeps_out_whom_it_could_mean(make):
    p = make("host all app 127.0.0.1/x reject\nhost all all all trust\n")
    p.wait_for_log("could not parse hba config line 1 of .*/hba.conf: bad number of bits")
    p.wait_for_log("it is taken to reject everybody whom it could mean")
    assert come(p) == REJECTED
    assert come(p, "app2") == "trust"


def test_an_unknown_map_is_a_bad_line(make):
    p = make("local all all peer map=none\nlocal all all trust\n", ident="m a b\nm broken\n")
    p.wait_for_log("could not parse hba config line 1")
    p.wait_for_log("could not parse ident config line 2")
    assert come(p, unix=True) == "trust"


@ours
def test_bits_outside_of_the_mask(make):
    rules = "host all all 127.0.0.9/24 md5\nhost all all all password\n"
    p = make(rules)
    p.wait_for_log("WARNING .*hba config line 1 .*bits outside of its mask, so the rule matches nobody")
    assert come(p) == "plain"
    p = make(rules, profile="pgsluice")
    p.wait_for_log("WARNING .*hba config line 1 .*bits outside of its mask, which do not count")
    assert come(p) == "md5"


@ours
@pytest.mark.parametrize(
    "rules, ident, text",
    [
        (None, None, "could not open hba config file"),
        ("host all all all trust\nhots x\n", None, 'line 2 of .*/hba.conf: unknown connection type "hots"'),
        ("host all all all peer\n", None, 'line 1 of .*/hba.conf: method "peer" is for Unix sockets only'),
        ("local all all trust\n", "m a\n", "ident config line 1 of .*/ident.conf: 2 fields instead of three"),
    ],
)
def test_a_bad_file_is_refused_whole(make, rules, ident, text):
    p = make(rules, ident=ident, profile="pgsluice", start=False)
    p.start(wait=False)
    assert p.wait_exit() == 1
    p.proc = None
    assert re.search(f"ERROR .*{text}", p.log_text())
    checked = procs.run([binary(), "--check", p.ini], check=False, cwd=p.dir)
    assert checked.returncode == 1
    assert re.search(f"ERROR .*{text}", checked.stderr)


@ours
@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
def test_rules_without_a_file(make, profile):
    """The setting is named, not a file without a name."""
    text = "ERROR auth_type is hba, but auth_hba_file is not set\n.* hint: set auth_hba_file to the path of a file"
    p = make(None, profile=profile, start=False, auth_hba_file="")
    if profile == "pgbouncer":
        p.start()
        assert come(p) == NO_RULE
    else:
        p.start(wait=False)
        assert p.wait_exit() == 1
        p.proc = None
    assert re.search(text, p.log_text())
    assert "could not open" not in p.log_text()


@ours
def test_samples_are_good(make, pki):
    """Those in etc/, with the comment signs before their lines taken away."""

    def sample(name):
        with open(os.path.join(os.path.dirname(__file__), f"../../etc/{name}")) as f:
            return re.sub(r"(?m)^#(?=\S)", "", f.read())

    rules = sample("hba.conf")
    assert len(re.findall(r"(?m)^(local|host)", rules)) >= 3
    p = make(rules, ident=sample("ident.conf"), profile="pgsluice", client_tls_ca_file=pki.ca("root"))
    assert "WARNING" not in p.log_text()
    assert come(p) == REJECTED


@ours
@pytest.mark.parametrize("rule", ["hostssl all all all cert", "hostssl all all all md5 clientcert=verify-ca"])
def test_certificates_need_an_authority(make, pki, rule):
    """Without client_tls_ca_file whoever the system trusts would say who is who."""
    fault = r"hba\.conf:1: certificates of clients are demanded, but client_tls_ca_file is not set"
    p = make(f"{rule}\nhost all all all trust\n")
    p.wait_for_log(f"WARNING .*{fault}")
    assert come(p) == "trust"
    p.settings["client_tls_ca_file"] = pki.ca("root")
    p.write_files()
    p.admin("RELOAD")
    assert p.log_count(fault) == 1
    p = make("host all all all trust\n", profile="pgsluice")
    p.write(f"{p.dir}/hba.conf", f"{rule}\n")
    with pytest.raises(PgError, match="RELOAD failed"):
        p.admin("RELOAD")
    p.wait_for_log(f"ERROR .*{fault}")
    assert come(p) == "trust"


# --- reload


def test_reload_reads_the_rules_again(make):
    p = make("host all all all trust\n")
    assert come(p) == "trust"
    p.write(f"{p.dir}/hba.conf", "host all app all md5\nhost pgbouncer admin all md5\n")
    p.admin("RELOAD")
    assert come(p) == "md5"
    assert come(p, "app2") == NO_RULE


def dry_run(p):
    return [tuple(row[:3]) for row in p.login("admin", "pgbouncer", "adminpw").query("RELOAD DRY RUN").rows]


@ours
def test_reload_tells_of_other_rules(make):
    p = make("host all all all trust\n")
    p.write(f"{p.dir}/hba.conf", "host all all all trust\n# a remark\n")
    assert dry_run(p) == []
    p.write(f"{p.dir}/hba.conf", "host all all all md5\n")
    assert dry_run(p) == [("change", "files", "auth_hba_file")]
    assert come(p) == "trust"
    p.admin("RELOAD")
    assert come(p) == "md5"


@ours
@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
def test_a_file_that_vanishes_leaves_the_rules_as_they_are(make, profile):
    p = make("host all all all md5\n", profile=profile)
    os.unlink(f"{p.dir}/hba.conf")
    if profile == "pgbouncer":
        p.admin("RELOAD")
        p.wait_for_log("going on with the 1 rules of login that were read before")
    else:
        with pytest.raises(PgError, match="RELOAD failed"):
            p.admin("RELOAD")
    assert come(p) == "md5"


@ours
def test_a_bad_file_does_not_replace_a_good_one(make):
    p = make("host all all all md5\n", profile="pgsluice")
    p.settings["query_wait_timeout"] = 33
    p.write_files()
    p.write(f"{p.dir}/hba.conf", "host all all all trust\nhots\n")
    with pytest.raises(PgError, match="RELOAD failed"):
        p.admin("RELOAD")
    p.wait_for_log('ERROR could not parse hba config line 2 of .*/hba.conf: unknown connection type "hots"')
    assert come(p) == "md5"
    assert p.config()["query_wait_timeout"] != "33"


def test_set_auth_type(make):
    p = make("host all app all reject\nhost all all all trust\n", auth_type="trust")
    assert come(p) == "trust"
    p.admin("SET auth_type = 'hba'")
    assert come(p) == REJECTED
    p.write(f"{p.dir}/other", "host all app2 all reject\nhost all all all trust\n")
    p.admin(f"SET auth_hba_file = '{p.dir}/other'")
    assert come(p) == "trust"
    assert come(p, "app2") == REJECTED
    p.admin("SET auth_type = 'trust'")
    assert come(p, "app2") == "trust"


def test_sessions_outlive_a_change_of_rules(make):
    p = make("host all all all trust\n")
    c = p.login()
    p.write(f"{p.dir}/hba.conf", "host all app all reject\nhost all all all trust\n")
    p.admin("RELOAD")
    assert c.value("select 1") == "1"
    assert come(p) == REJECTED
