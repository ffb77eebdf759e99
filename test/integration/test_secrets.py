"""Passwords are in no log line, in no answer of the console and in no complaint about a file, however much is asked for."""
import re
import subprocess

import psycopg
import pytest
from harness import scram, wire
from harness.cluster import bindir
from harness.pooler import Console
from harness.procs import wait_until
from harness.wire import PgError

METHODS = ["plain", "md5", "scram-sha-256"]


class Words:
    """Everything that must not be seen, by what it is; each is unlike anything else in a log."""

    def __init__(self):
        self.words = {}

    def add(self, what, word):
        self.words[what] = word
        return word

    def add_verifier(self, what, password):
        verifier = self.add(what, wire.scram_secret(password))
        for n, part in enumerate(re.split("[$:]", verifier)[2:]):
            self.words[f"{what}, part {n}"] = part
        return verifier

    def assert_not_in(self, text, where):
        for what, word in self.words.items():
            assert word not in text, f"{what} is in {where}: …{text[max(0, text.index(word) - 200):][:500]}"


@pytest.fixture
def words():
    return Words()


@pytest.mark.ours
@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("auth_type", METHODS)
def test_nothing_at_the_highest_verbosity(make_pooler, fake_server, cluster, words, auth_type, log_format):
    for user in ("u_plain", "u_md5", "u_scram"):
        words.add(f"password of {user}", f"Xq7-{user}-vR")
    stored = {
        "u_plain": words.words["password of u_plain"],
        "u_md5": words.add("md5 of u_md5", wire.md5_secret("u_md5", "Xq7-u_md5-vR")),
        "u_scram": words.add_verifier("verifier of u_scram", "Xq7-u_scram-vR"),
        "admin": words.add("password of admin", "Xq7-admin-vR"),
    }
    in_file = words.add("password in [databases]", "Xq7-database-vR")
    wrong = words.add("a wrong password", "Xq7-wrong-vR")
    server = fake_server(lambda conn, params: scram.serve(conn, password=in_file))
    p = make_pooler(
        {"app": server.dsn(user="them", password=in_file), "refused": server.dsn(user="them", password=wrong)},
        settings={"auth_type": auth_type, "verbose": 2, "log_format": log_format, "client_login_timeout": 5},
        secrets=stored,
        args=["-v", "-v"],
    )
    console = None
    for user in ("u_plain", "u_md5", "u_scram"):
        password = words.words[f"password of {user}"]
        if (auth_type, user) != ("scram-sha-256", "u_md5"):
            assert p.login(user, password=password).value("select 1") == "ok"
            with pytest.raises(PgError):
                p.raw().login(user, "refused", password)
        for bad in (wrong, stored[user] + "x", password + "x"):
            words.assert_not_in(str(p.login_error(user, password=bad)), "an error of a client")
    words.assert_not_in(str(p.login_error("nobody", password=wrong)), "an error of a client")
    with wire.Conn.unix(p.socket_path) as c:
        c.login("admin", "pgbouncer", stored["admin"])
        console = Console(c)
        for line in c.query("SHOW HELP").notices[0]["D"].splitlines():
            for name in re.findall(r"[A-Z_]{3,}", line):
                words.assert_not_in(repr(c.query(f"SHOW {name}").messages), f"SHOW {name}")
        console.run("RELOAD")
        p.databases["app"] = server.dsn(user="them", password=words.add("a new password", "Xq7-changed-vR"))
        p.secrets["u_plain"] = words.add("a new secret", "Xq7-renewed-vR")
        p.write_files()
        words.assert_not_in(repr(c.query("RELOAD DRY RUN").messages), "RELOAD DRY RUN")
        words.assert_not_in(repr(c.query("RELOAD").messages), "RELOAD")
    p.login_error("u_plain", password="Xq7-u_plain-vR")
    words.assert_not_in(p.log_text(), "the log")


@pytest.mark.ours
def test_messages_of_the_exchange_are_not_in_the_log(make_pooler, cluster, words):
    """Neither what a client proves with, nor what we prove with: the answer to md5 is as good as a password for a while."""
    p = make_pooler({"app": cluster.dsn(user="app")}, settings={"auth_type": "md5", "verbose": 2}, args=["-v", "-v"])
    c = p.raw()
    c.start()
    c.send(wire.pack("p", wire.cstr(words.add("answer to md5", wire.md5_response("app", "apppw", c.recv().body[4:8])))))
    c.finish_login("app", None)
    p.login_error(password=words.add("a wrong password", "Xq7-wrong-vR"))
    words.assert_not_in(p.log_text(), "the log")


BROKEN = [
    "bad = host=127.0.0.1 password={} pool_mod=session",
    "bad = host=127.0.0.1 password='{}",
    "bad = password={} host=127.0.0.1 port=x",
    "bad = password={} = =",
    "bad = password={}\\ x pool_size=-5x",
    "bad = password = {}",
    "bad password={}",
    "bad = passwd={}",
    "bad = host=127.0.0.1 pasword={}",
    "bad = pwd='{}'",
    "[pgbouncer]\nauth_ldap_option = ldapbindpasswd={}",
    "[users]\nu = secret={}",
    "bad = host=127.0.0.1 password {}",
]


@pytest.mark.ours
@pytest.mark.parametrize("line", BROKEN)
def test_complaints_about_a_file_do_not_repeat_passwords(make_pooler, cluster, words, line):
    """A line of [databases] that cannot be read, and may be half a password for all we know."""
    word = words.add("password in a bad line", "Xq7-broken-vR")
    p = make_pooler(start=False)
    p.write_files()
    with open(p.ini) as f:
        text = f.read()
    p.write(p.ini, text + line.format(word) + "\n")
    done = subprocess.run(p.command("--check"), text=True, capture_output=True, timeout=20)
    words.assert_not_in(done.stdout + done.stderr, f"--check of {line}")


@pytest.mark.ours
def test_complaints_about_auth_file(make_pooler, cluster, words):
    secret = words.add("a password that is too long", "Xq7-long-vR" * 6000)[:11]
    words.add("its beginning", secret)
    lines = [
        '"admin" "adminpw"',
        '"a" "' + words.add("a password without an end", "Xq7-open-vR"),
        f'"b" "{secret * 6000}"',
    ]
    for n in range(1, 3):
        p = make_pooler(
            {"app": cluster.dsn()}, settings={"verbose": 2}, raw_secrets="\n".join([lines[0], lines[n]]) + "\n"
        )
        p.admin("RELOAD")
        words.assert_not_in(p.log_text(), f"the log, after {lines[n][:10]}")


@pytest.mark.ours
def test_differences_of_files_do_not_show_passwords(make_pooler, cluster, words):
    old, new = words.add("the old password", "Xq7-old-vR"), words.add("the new password", "Xq7-new-vR")
    p = make_pooler({"app": cluster.dsn(password=old)}, settings={"verbose": 2})
    p.databases["app"] = cluster.dsn(password=new)
    p.secrets["app"] = words.add("the new secret", "Xq7-secret-vR")
    other = p.ini + ".other"
    p.write(other, p.ini_text())
    done = subprocess.run([*p.command("--check"), "--diff", other], text=True, capture_output=True, timeout=20)
    words.assert_not_in(done.stdout + done.stderr, "--check --diff")
    p.write_files()
    words.assert_not_in(str([n for n in p.console().conn.query("RELOAD DRY RUN").messages]), "RELOAD DRY RUN")
    p.admin("RELOAD")
    words.assert_not_in(p.log_text(), "the log")
    console = p.console()
    words.assert_not_in(repr(console.conn.query("SHOW DATABASES").messages), "SHOW DATABASES")


@pytest.mark.ours
def test_passwords_of_a_session_with_libpq(make_pooler, cluster, words):
    """What psql sends when it connects and fails, with a whole connection string."""
    word = words.add("password of a URI", "Xq7-uri-vR")
    p = make_pooler({"app": cluster.dsn(user="app")}, settings={"auth_type": "md5", "verbose": 2})
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"postgresql://app:{word}@127.0.0.1:{p.port}/app?application_name=x&sslmode=disable")
    subprocess.run([f"{bindir()}/psql", f"postgresql://app:{word}@127.0.0.1:{p.port}/{'x' * 70}"], capture_output=True)
    words.assert_not_in(p.log_text(), "the log")


def memory_has(pid, word):
    """Whether a process has these bytes anywhere in memory that it may write to."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
        for line in maps:
            span, rights = line.split()[:2]
            begin, end = (int(x, 16) for x in span.split("-"))
            if not rights.startswith("rw") or end - begin > 1 << 30 or "[v" in line:
                continue
            try:
                memory.seek(begin)
                if word in memory.read(end - begin):
                    return True
            except (OSError, ValueError, OverflowError):
                continue
    return False


def assert_is_forgotten(p, word):
    # The client is told first.
    wait_until(lambda: not memory_has(p.proc.pid, word.encode()[-30:]), "its end is overwritten")
    wait_until(lambda: not memory_has(p.proc.pid, word.encode()[:30]), "its beginning is overwritten")


@pytest.mark.ours
@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_passwords_of_clients_are_not_left_in_memory(make_pooler, cluster, pieces):
    """A wrong password in clear text, whole or in pieces: nothing has a use for it any more."""
    wrong = "Xq7-" + "memory" + "-vR-" + str(pieces) * 30
    p = make_pooler({"app": cluster.dsn(user="app")}, settings={"auth_type": "plain"})
    try:
        assert memory_has(p.proc.pid, p.userlist.encode())
    except PermissionError:
        pytest.skip("the memory of another process may not be read here")
    c = p.raw()
    c.start("app", "app")
    assert c.recv().type == "R"
    message = wire.pack("p", wire.cstr(wrong))
    size = len(message) // pieces + 1
    for at in range(0, len(message), size):
        c.send(message[at : at + size])
        if at + size < len(message):
            p.show("lists")  # so that the pieces are read one by one
    assert c.expect_error_close().text == "password authentication failed"
    assert_is_forgotten(p, wrong)


@pytest.mark.ours
def test_password_that_waits_for_a_look_up_is_not_left_in_memory(make_pooler, cluster):
    """One that comes with the startup packet is kept while the database is asked who the user is."""
    wrong = "Xq7-" + "early" + "-vR-" + "0" * 30
    find = "select usename::text, 'another'::text from pg_catalog.pg_user where usename = $1"
    p = make_pooler(
        {"app": cluster.dsn(user="app")},
        settings={"auth_type": "plain", "auth_user": "postgres", "auth_query": find},
        secrets={"admin": "adminpw", "postgres": ""},
    )
    try:
        assert memory_has(p.proc.pid, p.userlist.encode())
    except PermissionError:
        pytest.skip("the memory of another process may not be read here")
    c = p.raw()
    c.send(wire.startup_packet({"user": "app", "database": "app"}) + wire.pack("p", wire.cstr(wrong)))
    assert c.recv().type == "R"
    assert c.expect_error_close().text == "password authentication failed"
    assert_is_forgotten(p, wrong)
