"""auth_type ldap, with a real slapd: modes of finding the user, TLS, failures, servers that hang."""
import os
import socket

import pytest
from harness import cluster as pg
from harness import slapd as ldap
from harness.pooler import has_feature
from harness.procs import wait_until
from harness.wire import Conn, PgError, pack

pytestmark = [
    pytest.mark.newer,
    pytest.mark.skipif(not has_feature("ldap"), reason="built without LDAP"),
]

FAILED = "LDAP authentication failed"


@pytest.fixture
def make(make_pooler, slapd):
    """make(options) starts a pooler with them; nobody but the administrators is in auth_file."""

    def start(options, ca=None, **kwargs):
        settings = {"auth_type": "ldap", "auth_ldap_options": options, **kwargs.pop("settings", {})}
        kwargs.setdefault("secrets", {})
        return make_pooler(settings=settings, env=slapd.env(ca), **kwargs)

    return start


@pytest.fixture
def silent():
    server = ldap.SilentServer()
    yield server
    server.close()


def is_let_in(p, user, password=None):
    conn = p.login(user, password=password or ldap.PASSWORDS[user])
    return conn.value("select 1") == "1"


def test_simple_bind(make, slapd):
    p = make(slapd.simple())
    assert is_let_in(p, "app") and is_let_in(p, "app2")
    for user, password in [("app", "wrong"), ("app", ldap.PASSWORDS["app2"]), ("absent", "x"), ("app", "apppw")]:
        e = p.login_error(user, password=password)
        assert (e.severity, e.code, e.text) == ("FATAL", "08P01", FAILED)
    p.wait_for_log(r"app@.*LDAP authentication failed: LDAP bind: Invalid credentials")


def test_no_password_gets_nobody_in(make, slapd):
    """The server would let in whoever sends none; it is not asked."""
    p = make(slapd.simple())
    before = slapd.binds()
    for user in ("app", "absent"):
        assert p.login_error(user, password="").text == "empty password returned by client"
    assert slapd.binds() == before


def test_long_password(make, slapd):
    p = make(slapd.simple())
    assert p.login_error("app", password="x" * 65000).text == FAILED


def test_names_with_a_meaning(make, slapd):
    """What has a meaning in a distinguished name is part of the name, and leads nowhere else."""
    p = make(slapd.simple())
    for user in ("o'neil", "jörg, \"the\" <x>"):
        with pytest.raises(PgError, match=f'role "{user}" does not exist'):
            is_let_in(p, user)
    for user in ("deep,ou=more", "app+cn=app", "app,ou=people"):
        assert p.login_error(user, password="ldap deep pw").text == FAILED


def test_prefix_without_a_distinguished_name(make, slapd):
    """Then nothing is escaped: the name is what some servers call a user principal name."""
    p = make(slapd.options(ldapsuffix=f",{ldap.PEOPLE}"))
    with pytest.raises(PgError, match='role "uid=app" does not exist'):
        is_let_in(p, "uid=app", ldap.PASSWORDS["app"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ldapsearchattribute": "uid"},
        {"ldapsearchfilter": "(&(objectClass=inetOrgPerson)(|(uid=$username)(mail=$username@example.com)))"},
        {"ldapbasedn": ldap.BASE},
    ],
)
def test_search(make, slapd, options):
    p = make(slapd.search(**options))
    assert is_let_in(p, "app")
    for user, password in [("app", "wrong"), ("absent", ldap.PASSWORDS["app"])]:
        assert p.login_error(user, password=password).text == FAILED
    p.wait_for_log(r"absent@.*LDAP authentication failed: the LDAP search finds no such user")


@pytest.mark.ours
@pytest.mark.parametrize("options", [{}, {"ldapsearchattribute": "mail"}])
def test_server_is_asked_the_same_about_everybody(make, slapd, options):
    """A name that is not there costs as many questions as a wrong password, and so does one that two have."""
    p = make(slapd.search(**options))
    at = "@example.com" if options else ""
    for user in (f"app{at}", f"absent{at}", f"twin{at}"):
        mark = len(slapd.log_text())
        assert p.login_error(user, password="wrong").text == FAILED
        wait_until(lambda: len(slapd.operations(mark)) == 1, "slapd has told of it")
        assert slapd.operations(mark) == [["BIND", "SRCH", "BIND"]], user


def test_search_by_another_attribute(make, slapd):
    p = make(slapd.search(ldapsearchattribute="mail"))
    with pytest.raises(PgError, match='role "app@example.com" does not exist'):
        is_let_in(p, "app@example.com", ldap.PASSWORDS["app"])
    assert p.login_error("twin@example.com", password="twin pw").text == FAILED
    p.wait_for_log(r"the LDAP search finds more than one entry for the user")


def test_search_refuses_what_has_a_meaning_in_filters(make, slapd):
    p = make(slapd.search())
    for user in ("a*", "*", "a(b", "a)b", "a\\b", "a/b"):
        assert p.login_error(user, password=ldap.PASSWORDS["app"]).text == FAILED
    assert p.log_count("a character that must not be in an LDAP search") == 6


def test_search_by_nobody(make, slapd):
    """Without ldapbinddn only what is open to everybody is found."""
    p = make(slapd.search(ldapbinddn=None, ldapbindpasswd=None, ldapbasedn=f"ou=public,{ldap.BASE}"))
    with pytest.raises(PgError, match='role "open" does not exist'):
        is_let_in(p, "open", "ldap open pw")
    assert p.login_error("open", password="x").text == FAILED
    p = make(slapd.search(ldapbinddn=None, ldapbindpasswd=None))
    assert p.login_error("app", password=ldap.PASSWORDS["app"]).text == FAILED


def test_search_by_one_who_may_not(make, slapd):
    p = make(slapd.search(ldapbindpasswd="wrong"))
    assert p.login_error("app", password=ldap.PASSWORDS["app"]).text == FAILED
    p.wait_for_log(r"WARNING .*could not check the password: could not bind for the LDAP search: Invalid credentials")


def test_url(make, slapd):
    url = f"ldap://127.0.0.1:{slapd.port}/{ldap.BASE.replace(',', '%2C')}?uid?sub"
    reader = {"ldapserver": None, "ldapport": None, "ldapbasedn": None}
    p = make(slapd.search(ldapurl=url, **reader))
    assert is_let_in(p, "app")
    with pytest.raises(PgError, match='role "deep" does not exist'):
        is_let_in(p, "deep", "ldap deep pw")
    p = make(slapd.search(ldapurl=url.replace(ldap.BASE.replace(",", "%2C"), ldap.PEOPLE).replace("sub", "one"), **reader))
    assert is_let_in(p, "app")
    assert p.login_error("deep", password="ldap deep pw").text == FAILED


@pytest.mark.parametrize("mode", ["starttls", "ldaps", "url"])
def test_tls(make, slapd, mode):
    url = f"ldaps://127.0.0.1:{slapd.tls_port}/{ldap.PEOPLE}?uid?sub"
    no_host = {"ldapserver": None, "ldapport": None, "ldapbasedn": None}
    texts = {
        "starttls": slapd.simple(ldaptls=1),
        "ldaps": slapd.simple(ldapscheme="ldaps", ldapport=slapd.tls_port),
        "url": slapd.search(ldapurl=url, **no_host),
    }
    p = make(texts[mode])
    assert is_let_in(p, "app")
    assert p.login_error("app", password="wrong").text == FAILED


@pytest.mark.parametrize("mode", ["starttls", "ldaps"])
@pytest.mark.parametrize("fault", ["authority", "host"])
def test_tls_with_a_certificate_that_is_no_good(make, slapd, mode, fault):
    """By another authority, or for another host: the password is not sent."""
    host = {"authority": "127.0.0.1", "host": "127.0.0.2"}[fault]
    if mode == "starttls":
        options = slapd.simple(ldapserver=host, ldaptls=1)
    else:
        options = slapd.simple(ldapserver=host, ldapscheme="ldaps", ldapport=slapd.tls_port)
    before = slapd.binds()
    p = make(options, ca=slapd.stranger if fault == "authority" else None)
    assert p.login_error("app", password=ldap.PASSWORDS["app"]).text == FAILED
    p.wait_for_log(r"WARNING .*could not check the password: .*(Connect error|Can't contact LDAP server)")
    assert slapd.binds() == before


def test_several_servers(make, slapd):
    """The first that can be reached is asked."""
    p = make(slapd.simple(ldapserver="127.0.0.3 127.0.0.1"))
    assert is_let_in(p, "app")
    p = make(slapd.simple(ldapserver="127.0.0.3 127.0.0.4"))
    assert p.login_error("app", password=ldap.PASSWORDS["app"]).text == FAILED
    p.wait_for_log(r"WARNING .*could not check the password: LDAP bind: Can't contact LDAP server")


def test_server_that_comes_back(make, pki):
    with ldap.Slapd(pki) as own:
        p = make(own.simple())
        assert is_let_in(p, "app")
        own.stop()
        assert p.login_error("app", password=ldap.PASSWORDS["app"]).text == FAILED
        own.start()
        assert is_let_in(p, "app")


# --- who the users are


def test_users_that_no_file_knows(make, slapd):
    """They become known by logging in, and not by trying to; attempts of strangers leave nothing behind."""
    p = make(slapd.simple(), secrets={"admin": "something else"})
    assert p.login_error("app", password="wrong").text == FAILED
    assert "app" not in [row["name"] for row in p.show("users")]
    assert is_let_in(p, "app")
    assert "app" in [row["name"] for row in p.show("users")]
    assert p.log_count("no such user") == 0


def test_auth_file_does_not_matter(make, slapd):
    p = make(slapd.simple(), secrets={"app": "apppw"})
    assert is_let_in(p, "app")
    assert p.login_error("app", password="apppw").text == FAILED


def test_console(make, slapd):
    p = make(slapd.simple())
    assert p.show("version", user="stats", password="statspw")
    assert p.admin("RELOAD") == "RELOAD"
    e = p.login_error("app", "pgbouncer", ldap.PASSWORDS["app"])
    assert e.text == "not allowed"
    assert p.login_error("admin", "pgbouncer", "wrong").text == FAILED


def test_limits_hold_for_users_that_no_file_knows(make, slapd):
    p = make(slapd.simple(), settings={"max_user_client_connections": 1})
    first = p.login("app", password=ldap.PASSWORDS["app"])
    e = p.login_error("app", password=ldap.PASSWORDS["app"])
    assert e.text == "client connections exceeded (max_user_client_connections)"
    first.terminate()
    wait_until(lambda: len(p.show("clients")) == 1, "the first client is gone")
    assert is_let_in(p, "app")


def test_limit_of_the_database(make, slapd, cluster):
    p = make(slapd.simple(), databases={"app": cluster.dsn()}, settings={"max_db_client_connections": 1})
    first = p.login("app", password=ldap.PASSWORDS["app"])
    e = p.login_error("app2", password=ldap.PASSWORDS["app2"])
    assert e.text == "client connections exceeded (max_db_client_connections)"
    first.terminate()


@pytest.mark.parametrize("secrets", [{}, {"app": "apppw"}])
def test_auth_user_does_not_go_with_it(make, slapd, secrets):
    """Not for that database; others, and the console, have nothing to do with it."""
    p = make(slapd.simple(), secrets=secrets)
    p.databases["other"] = p.databases["app"] + " dbname=app"
    p.databases["app"] += " auth_user=admin"
    p.write_files()
    p.admin("RELOAD")
    assert p.login_error("app", password=ldap.PASSWORDS["app"]).text == "bouncer config error"
    p.wait_for_log("ERROR .*LDAP can't be used together with database authorization")
    assert p.login("app", "other", ldap.PASSWORDS["app"]).value("select 1") == "1"
    p.settings["auth_user"] = "admin"
    p.write_files()
    p.admin("RELOAD")
    assert p.show("version")


# --- as PostgreSQL


@pytest.fixture(scope="module")
def ldap_cluster(shared_info, slapd, pki):
    """A PostgreSQL that asks the LDAP server in a way for each database."""
    rules = [f"host {name} all all ldap {options}" for name, options in ways(slapd).items()]
    hba = pki.write("hba-ldap.conf", "\n".join(["local all all trust", *rules]) + "\n")
    own = pg.Cluster(shared_info["template"], settings={"hba_file": hba}).start(slapd.env())
    for name in ways(slapd):
        own.sql(f"create database {name}")
    yield own
    own.remove()


def ways(slapd):
    url = f"ldap://127.0.0.1:{slapd.port}/{ldap.PEOPLE}"
    reader = {"ldapserver": None, "ldapport": None, "ldapbasedn": None}
    return {
        "simple": slapd.simple(),
        "search": slapd.search(),
        "nobody": slapd.search(ldapbinddn=None, ldapbindpasswd=None),
        "mail": slapd.search(ldapsearchattribute="mail"),
        "filter": slapd.search(ldapsearchfilter="(|(uid=$username)(mail=$username))"),
        "url": slapd.search(ldapurl=f"{url}?uid?sub", **reader),
        "one": slapd.search(ldapurl=f"{url}?uid?one", **reader),
        "base": slapd.search(ldapurl=f"{url}?uid", **reader),
        "server_only": slapd.simple(ldapurl=f"ldap://127.0.0.1:{slapd.port}", ldapserver=None, ldapport=None),
        "tls": slapd.simple(ldaptls=1),
        "tls_wrong_host": slapd.simple(ldaptls=1, ldapserver="127.0.0.2"),
        "ldaps": slapd.simple(ldapscheme="ldaps", ldapport=slapd.tls_port),
        "second": slapd.simple(ldapserver="127.0.0.3 127.0.0.1"),
    }


PEOPLE = [
    ("app", ldap.PASSWORDS["app"]),
    ("app", "wrong"),
    ("APP", ldap.PASSWORDS["app"]),
    ("app ", ldap.PASSWORDS["app"]),
    ("absent", "x"),
    ("o'neil", ldap.PASSWORDS["o'neil"]),
    ("app@example.com", ldap.PASSWORDS["app"]),
    ("twin@example.com", "twin pw"),
    ("deep", "ldap deep pw"),
    ("open", "ldap open pw"),
    ("a*p", ldap.PASSWORDS["app"]),
    ("*", "x"),
]


def is_taken(port, database, user, password):
    """Whether the password was right, whoever that is then."""
    with Conn.tcp(port) as conn:
        try:
            conn.login(user, database, password)
        except PgError as e:
            return FAILED not in e.text
    return True


def test_as_postgresql(make_pooler, slapd, ldap_cluster):
    """The same options take the same names with the same passwords."""
    p = make_pooler(
        {name: ldap_cluster.dsn(dbname=name) for name in ways(slapd)}, secrets={}, start=False, env=slapd.env()
    )
    p.settings.update(auth_type="hba", auth_hba_file=f"{p.dir}/hba.conf")
    p.write(f"{p.dir}/hba.conf", "".join(f"host {name} all all ldap {o}\n" for name, o in ways(slapd).items()))
    p.start()
    taken = {}
    for name in ways(slapd):
        for user, password in PEOPLE:
            want = is_taken(ldap_cluster.port, name, user, password)
            taken[name, user, password] = (want, is_taken(p.port, name, user, password))
    assert {k: v for k, v in taken.items() if v[0] != v[1]} == {}
    assert sum(want for want, _ in taken.values()) > 30


# --- bad configuration


@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
def test_bad_options(make, slapd, profile):
    p = make("ldapserver=h ldapprefix=uid= ldaptls=yes", start=False, profile=profile)
    p.start(wait=False)
    p.expected_rc = 1
    assert p.wait_exit() == 1
    p.wait_for_log(r"ERROR \S+pooler.ini: auth_ldap_options: LDAP option ldaptls: must be 1 \(StartTLS\) or 0")


def test_bad_options_at_a_reload(make, slapd):
    p = make(slapd.simple())
    p.settings["auth_ldap_options"] = "ldapserver=h"
    p.write_files()
    with pytest.raises(PgError, match="RELOAD failed"):
        p.admin("RELOAD")
    p.wait_for_log("ERROR .*auth_ldap_options: LDAP options: one of ldapbasedn, ldapprefix and ldapsuffix is needed")
    assert is_let_in(p, "app")
    with pytest.raises(PgError):
        p.admin("SET auth_ldap_options = 'ldapbindpasswd=hush hush'")
    assert is_let_in(p, "app")
    assert "hush" not in p.log_text().replace("ldapbindpasswd=hush hush", "")


def test_options_that_nobody_uses(make_pooler):
    p = make_pooler(settings={"auth_ldap_options": "nonsense"})
    p.wait_for_log("WARNING .*auth_ldap_options: .*key=value is expected")
    assert p.login().value("select 1") == "1"


def test_no_options(make):
    p = make(None)
    p.wait_for_log("WARNING auth_type is ldap, but auth_ldap_options is not set: nobody can log in")
    assert p.login_error("app", password="x").text == "auth_ldap_options is null"


def test_options_are_secret(make, slapd):
    p = make(slapd.search())
    assert is_let_in(p, "app")
    assert "reader" not in p.config()["auth_ldap_options"]
    p.login_error("app", password="a wrong one")
    for secret in ("reader", ldap.PASSWORDS["app"], "a wrong one"):
        assert secret not in p.log_text()


# --- servers


@pytest.mark.parametrize("role", ["scramuser", "md5user", "plainuser"])
def test_password_serves_for_servers(make, slapd, role):
    """Nothing but the login gives the pooler the password that PostgreSQL asks for."""
    p = make(slapd.simple())
    c = p.login(role, password=ldap.PASSWORDS[role])
    assert c.value("select current_user") == role
    e = p.login_error(role, password="wrong")
    assert e.text == FAILED
    assert p.login(role, password=ldap.PASSWORDS[role]).value("select current_user") == role


def test_password_goes_with_an_online_restart(make, slapd):
    p = make(slapd.simple(), secrets={"scramuser": "an old password"})
    c = p.login("scramuser", password=ldap.PASSWORDS["scramuser"])
    assert c.value("select current_user") == "scramuser"
    p.restart()
    p.admin("RECONNECT app")
    assert c.value("select current_user") == "scramuser"


# --- servers that are no LDAP servers


# A bind's answer is 30 LEN 02 01 ID 61 LEN 0a 01 RESULT 04 00 04 00.
RUDE = {
    "closes": b"",
    "garbage": b"\xff" * 500,
    "text": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "half": bytes.fromhex("300c02010161070a0100"),
    "another_message": bytes.fromhex("300c02010765070a010004000400"),
    "unasked_success": bytes.fromhex("300c02010961070a010004000400"),
    "no_result": bytes.fromhex("30050201016100"),
    "long_length": bytes.fromhex("3089ffffffffffffffffff") + b"x" * 100,
    "deep": bytes.fromhex("3080") * 200,
    "no_such_result": bytes.fromhex("300c02010161070a017f04000400"),
}


def test_nonsense_lets_nobody_in(make, slapd):
    """Each answer to a bind, to the bind of a search and to StartTLS, by rules of a pooler for all of them."""
    servers = {answer: ldap.RudeServer(text) for answer, text in RUDE.items()}
    rules = {}
    for answer, server in servers.items():
        rules[f"{answer}_simple"] = slapd.simple(ldapport=server.port)
        rules[f"{answer}_search"] = slapd.search(ldapport=server.port)
        rules[f"{answer}_tls"] = slapd.simple(ldapport=server.port, ldaptls=1)
    p = make(None, start=False)
    p.settings.update(auth_type="hba", auth_hba_file=f"{p.dir}/hba.conf")
    p.write(f"{p.dir}/hba.conf", "".join(f"host {name} all all ldap {options}\n" for name, options in rules.items()))
    p.start()
    try:
        for name in rules:
            for password in (ldap.PASSWORDS["app"], "x"):
                assert p.login_error("app", name, password, timeout=30).text == FAILED, name
        assert {answer: server.asked for answer, server in servers.items()} == dict.fromkeys(RUDE, 6)
    finally:
        for server in servers.values():
            server.close()


# --- hanging servers


def ask_without_answer(p, n=1, user="app"):
    """Clients whose password is being checked."""
    conns = []
    for _ in range(n):
        conn = p.raw()
        conn.start(user, "app")
        assert conn.recv().type == "R"
        conn.send(pack("p", b"secret\0"))
        conns.append(conn)
    return conns


def logins_under_way(console):
    return [row["state"] for row in console.show("sockets")].count("cl_login")


def test_hanging_server_delays_nobody_else(make, slapd, silent):
    """Neither those who are in, nor the console, nor those who are asked elsewhere."""
    p = make(slapd.simple(), settings={"auth_helper_threads": 4})
    inside, console = p.login("app", password=ldap.PASSWORDS["app"]), p.console()
    console.run(f"SET auth_ldap_options = '{slapd.simple(ldapport=silent.port)}'")
    hanging = ask_without_answer(p, 3)
    wait_until(lambda: silent.count() == 3, "three helpers ask the silent server")
    for _ in range(100):
        assert inside.value("select 1") == "1"
    assert logins_under_way(console) == 3
    console.run(f"SET auth_ldap_options = '{slapd.simple()}'")
    assert is_let_in(p, "app2")
    assert all(c.is_silent() for c in hanging)


@pytest.mark.ours
@pytest.mark.parametrize("login_threads", [0, 3])
def test_crowd_in_which_every_other_leaves(make, slapd, login_threads):
    """Answers find their way whatever loop asked, and those for who has left go nowhere."""
    p = make(slapd.search(), settings={"login_threads": login_threads}, threads=2)
    console = p.console()
    for _ in range(3):
        conns = [p.raw() for _ in range(40)]
        for conn in conns:
            conn.start("app", "app")
        for conn in conns:
            assert conn.recv().type == "R"
            conn.send(pack("p", ldap.PASSWORDS["app"].encode() + b"\0"))
        for conn in conns[::2]:
            conn.close()
        for conn in conns[1::2]:
            conn.finish_login("app", None)
            assert conn.value("select current_user") == "app"
            conn.terminate()
        wait_until(lambda: logins_under_way(console) == 0, "no login is under way")


def test_full_queue_refuses_at_once(make, slapd, silent):
    """One is asked about, one waits, the others are told so; who leaves makes room."""
    limits = {"auth_helper_threads": 1, "auth_helper_queue": 1}
    p = make(slapd.simple(), settings=limits, profile="pgsluice")
    console = p.console()
    console.run(f"SET auth_ldap_options = '{slapd.simple(ldapport=silent.port)}'")
    conns = ask_without_answer(p, 5)
    wait_until(lambda: logins_under_way(console) == 2, "three of five are refused")
    for conn in [c for c in conns if not c.is_silent()]:
        e = conn.expect_error_close()
        assert (e.code, e.text) == ("53300", "too many logins at once (auth_helper_queue)")
    p.wait_for_log(r"WARNING .*LDAP queue is full, refusing the login")
    for conn in conns:
        conn.close()
    wait_until(lambda: logins_under_way(console) == 0, "all are gone")
    assert ask_without_answer(p)[0].is_silent()


@pytest.mark.ours
def test_address_has_half_of_the_queue(make, slapd, silent):
    """Whoever guesses from one address leaves room for the others, unless it is this machine."""
    limits = {"auth_helper_threads": 1, "auth_helper_queue": 5}
    p = make(slapd.simple(ldapport=silent.port), settings=limits, profile="pgsluice")

    def ask(address):
        conn = Conn(socket.create_connection(("127.0.0.1", p.port), 10, source_address=(address, 0)), 10)
        conn.start("app", "app")
        assert conn.recv().type == "R"
        conn.send(pack("p", b"secret\0"))
        return conn

    conns = [ask("127.0.0.2") for _ in range(5)]
    for conn in conns[3:]:
        assert conn.expect_error_close().code == "53300"
    p.wait_for_log(r"WARNING .*LDAP queue is half full of the client's address, refusing the login")
    conns = conns[:3] + [ask("127.0.0.3"), *(ask("127.0.0.1") for _ in range(2))]
    last = ask("127.0.0.4")
    assert last.expect_error_close().code == "53300", "all of it is full"
    assert all(c.is_silent() for c in conns)
    for conn in [*conns, last]:
        conn.close()


def test_more_threads_at_a_reload(make, slapd, silent):
    p = make(slapd.simple(), settings={"auth_helper_threads": 1})
    console = p.console()
    console.run(f"SET auth_ldap_options = '{slapd.simple(ldapport=silent.port)}'")
    ask_without_answer(p, 2)
    wait_until(lambda: silent.count() == 1, "the helper asks")
    console.run("SET auth_helper_threads = 2")
    ask_without_answer(p, 1)
    wait_until(lambda: silent.count() == 2, "another helper asks")


def test_login_timeout_rules(make, slapd, silent):
    p = make(slapd.simple())
    console = p.console()
    console.run(f"SET auth_ldap_options = '{slapd.simple(ldapport=silent.port)}'")
    hanging = ask_without_answer(p)[0]
    wait_until(lambda: silent.count() == 1, "the helper asks")
    console.run("SET client_login_timeout = 1")
    assert hanging.expect_error_close().text == "client_login_timeout"


def test_end_with_a_question_under_way(make, slapd, silent):
    """The library waits for longer than the process wants to: it ends all the same, in order."""
    p = make(slapd.simple(ldapport=silent.port))
    ask_without_answer(p, 2)
    wait_until(lambda: silent.count() == 2, "two helpers ask")
    p.stop()
    assert "ldap: 2 calls into a library have not returned; leaving them" in p.log_text()
    assert not os.path.exists(p.pidfile) and not os.path.exists(p.socket_path)


# --- by rules


@pytest.fixture
def make_with_rules(make):
    """make_with_rules(lines) starts a pooler with them as auth_hba_file."""

    def start(rules, options=None, wait=True, **kwargs):
        p = make(options, start=False, **kwargs)
        p.settings.update(auth_type="hba", auth_hba_file=f"{p.dir}/hba.conf")
        p.write(f"{p.dir}/hba.conf", "".join(f"{rule}\n" for rule in rules))
        return p.start(wait)

    return start


def test_rules_choose_the_servers(make_with_rules, slapd, silent):
    """Each rule has options of its own; without any, auth_ldap_options count. What hangs for one is no matter for others."""
    p = make_with_rules(
        [
            f"host all app2 127.0.0.1/32 ldap {slapd.search()} # a comment",
            f"host all limited 127.0.0.1/32 ldap {slapd.simple(ldapport=silent.port)}",
            "host all app 127.0.0.1/32 ldap",
            "host all admin 127.0.0.1/32 password",
            "host all all 127.0.0.1/32 md5",
        ],
        options=slapd.simple(),
        secrets={"admin": "adminpw", "stats": "statspw"},
    )
    hanging = ask_without_answer(p, 2, "limited")
    wait_until(lambda: silent.count() == 2, "the silent server is asked")
    assert is_let_in(p, "app") and is_let_in(p, "app2")
    assert p.login_error("app2", password="wrong").text == FAILED
    assert p.show("version") and p.show("version", user="stats", password="statspw")
    assert p.login_error("absent", password="x").text == "password authentication failed"
    assert p.log_count("no such user: absent") == 1 and p.log_count("no such user: app") == 0
    assert all(c.is_silent() for c in hanging)


def test_rule_without_any_options(make_with_rules):
    p = make_with_rules(["host all all all ldap"])
    assert p.login_error("app", password="x").text == "auth_ldap_options is null"


def test_console_by_a_rule(make_with_rules, slapd):
    """Whoever the server lets in may not look at the console for that."""
    p = make_with_rules([f"host all all all ldap {slapd.simple()}"])
    assert p.show("version")
    assert p.login_error("app", "pgbouncer", ldap.PASSWORDS["app"]).text == "not allowed"


@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
def test_rule_with_bad_options(make_with_rules, slapd, profile):
    """Under [pgbouncer] the line does not count, and nobody gets in by it; under [pgsluice] the file is refused."""
    rules = ["host all all all ldap ldapserver=h ldaptls=1"]
    if profile == "pgbouncer":
        p = make_with_rules(rules)
        assert p.login_error("app", password="x").text == "no authentication method is found"
    else:
        p = make_with_rules(rules, profile=profile, wait=False)
        p.expected_rc = 1
        assert p.wait_exit() == 1
        assert "ERROR could not parse hba config line 1" in p.log_text()
