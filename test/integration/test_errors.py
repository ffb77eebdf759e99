"""Errors that the pooler itself tells, field by field, in both styles of error_style."""
import re
import signal
import socket

import pytest

from harness import wire
from harness.procs import free_port, wait_until

LIMITS = "Close connections that are not needed, or raise {}."


def error_fields(error):
    return dict(error.fields)


def check(error, strict, severity, code, text, detail=None, hint=None):
    """The fields of an error, all of them. `detail` is a regular expression."""
    got = error_fields(error)
    if not strict:
        assert got == {"S": severity, "C": "08P01", "M": text}
        return
    found = got.pop("D", "")
    assert re.fullmatch(detail or "", found), f"detail {found!r}"
    wanted = {"S": severity, "V": severity, "C": code, "M": text}
    if hint:
        wanted["H"] = hint
    assert got == wanted


@pytest.fixture(params=["pgbouncer", "postgres"])
def strict(request):
    return request.param == "postgres"


@pytest.fixture
def make(make_pooler, strict):
    """make_pooler with the style of this run; the one that is the default is left out half of the time."""

    def make(databases=None, settings=None, **kwargs):
        style = {"error_style": "postgres"} if strict else {}
        return make_pooler(databases, settings={**style, **(settings or {})}, **kwargs)

    return make


pytestmark = pytest.mark.newer


def test_client_limits(make, strict):
    p = make(settings={"max_client_conn": 3, "max_db_client_connections": 2, "max_user_client_connections": 1})
    keep = p.login("app")
    check(
        p.login_error("app"), strict, "FATAL", "53300",
        "client connections exceeded (max_user_client_connections)",
        'User "app" may have 1 connections\\.', LIMITS.format("max_user_client_connections"),
    )  # fmt: skip
    keep2 = p.login("app2")
    check(
        p.login_error("limited"), strict, "FATAL", "53300",
        "client connections exceeded (max_db_client_connections)",
        'Database "app" takes 2 clients\\.', LIMITS.format("max_db_client_connections"),
    )  # fmt: skip
    third = p.raw()
    wait_until(lambda: p.lists() and True, "the pooler to count")
    third.send(b"\0")
    wait_until(lambda: int(p.lists()["login_clients"]) == 1, "the third connection")
    check(
        p.login_error("stats"), strict, "FATAL", "53300", "no more connections allowed (max_client_conn)",
        "The pooler takes 3 clients\\.", LIMITS.format("max_client_conn"),
    )  # fmt: skip
    keep.terminate()
    keep2.terminate()


def test_no_such_database(make, strict):
    check(
        make().login_error(database="absent"), strict, "FATAL", "3D000", "no such database: absent",
        "The pooler's configuration has no database of that name, and no \\* entry\\.",
    )  # fmt: skip


def test_disabled_database(make, strict):
    p = make()
    p.admin("disable app")
    check(
        p.login_error(), strict, "FATAL", "55000", 'database "app" is disabled',
        "An administrator has taken it out of service with DISABLE\\.", "Try again later.",
    )  # fmt: skip


@pytest.mark.parametrize("auth_type, text", [("md5", "password"), ("scram-sha-256", "SASL")])
def test_wrong_password_and_unknown_user_look_alike(make, strict, auth_type, text):
    p = make(settings={"auth_type": auth_type})
    for user in ("app", "stranger"):
        error = p.login_error(user, password="wrong")
        check(error, strict, "FATAL", "28P01", f"{text} authentication failed")


def test_trust_of_a_stranger(make, strict):
    check(make().login_error("stranger"), strict, "FATAL", "28000", '"trust" authentication failed')


def test_startup_packet(make, strict):
    p = make()
    hint = "The setting ignore_startup_parameters of the pooler names what it shall overlook."
    check(p.login_error(params={"colour": "blue"}), strict, "FATAL", "0A000", "unsupported startup parameter: colour",
          hint=hint)  # fmt: skip
    c = p.raw()
    c.start(user=None)
    check(c.expect_error_close(), strict, "FATAL", "28000", "no username supplied")
    # PgBouncer cuts its own texts at 127 bytes.
    long = p.login_error(database="x" * 60, params={"y" * 200: "1"})
    assert len(long.text) == (127 if not strict else len("unsupported startup parameter: ") + 200)


def test_console_is_not_for_everybody(make, strict):
    check(
        make().login_error("app", "pgbouncer"), strict, "FATAL", "42501", "not allowed",
        'User "app" may not use the console\\.', "The settings admin_users and stats_users name those who may.",
    )  # fmt: skip


def test_login_while_shutting_down(make, strict):
    p = make()
    keep = p.login()
    p.signal(signal.SIGTERM)
    p.wait_for_log("got SIGTERM")
    with p.raw_unix() as c:
        c.start()
        check(c.expect_error_close(), strict, "FATAL", "57P03", "pooler is shutting down",
              hint="Try again; another process may have taken its place.")  # fmt: skip
    keep.terminate()
    p.wait_exit()


def test_wait_for_a_server(make, strict):
    p = make(settings={"pool_mode": "transaction", "default_pool_size": 1, "query_wait_timeout": 1})
    holder, waiter = p.login(), p.login()
    holder.query("begin")
    waiter.send(wire.query("select 1"))
    check(
        waiter.expect_error_close(), strict, "FATAL", "57014", "query_wait_timeout",
        'The query waited \\d+(\\.\\d)? s for a server of database "app" as user "app" and was not sent; '
        "query_wait_timeout is 1 s\\.",
        "Make transactions shorter, or raise the size of the pool or the timeout.",
    )  # fmt: skip


@pytest.mark.parametrize(
    "setting, sql, code, text, detail, hint",
    [
        ("query_timeout", "select pg_sleep(60)", "57014", "query timeout", "The query ran for",
         "Make the query faster, or raise query_timeout."),
        ("idle_transaction_timeout", "begin", "25P03", "idle transaction timeout", "The transaction was idle for", None),
        ("transaction_timeout", "begin", "25P04", "transaction timeout", "The transaction was open for", None),
    ],
)  # fmt: skip
def test_timeouts(make, strict, setting, sql, code, text, detail, hint):
    p = make(settings={setting: 1})
    c = p.login()
    c.send(wire.query(sql))
    error = next(e for e in c.expect_close().errors)
    check(error, strict, "FATAL", code, text, rf"{detail} \d+(\.\d)? s; {setting} is 1 s\.", hint)


def test_client_idle_timeout(make, strict):
    c = make(settings={"client_idle_timeout": 1}).login()
    check(
        c.expect_error_close(), strict, "FATAL", "57P05", "client_idle_timeout",
        r"The client was idle for \d+(\.\d)? s; client_idle_timeout is 1 s\.",
    )  # fmt: skip


def test_server_that_is_down(make, strict):
    p = make(
        {"app": f"host=127.0.0.1 port={free_port()}"}, settings={"client_login_timeout": 1, "server_login_retry": 15}
    )
    check(
        p.login_error(), strict, "FATAL", "57P03", "client_login_timeout (server down)",
        'No server of database "app" could be reached within client_login_timeout, which is 1 s; '
        "the last attempt failed: connect failed\\.",
        "Try again later, or look into the log of the pooler.",
    )  # fmt: skip


def test_server_that_has_gone(make, strict, fake_server):
    def once(conn, params):
        conn.greet()
        conn.recv()
        server.listener.shutdown(socket.SHUT_RDWR)

    server = fake_server(once)
    p = make({"app": server.dsn()}, settings={"pool_mode": "transaction", "server_login_retry": 15})
    first, second = p.login(), p.login()
    first.send(wire.query("select 1"))
    check(
        first.expect_error_close(), strict, "FATAL", "08006", "server conn crashed?",
        rf"The connection to the server at 127\.0\.0\.1:{server.port} was lost; if a COMMIT was under way it may or may "
        "not have taken effect\\.",
        "The server's log may say why.",
    )  # fmt: skip
    third = p.login()
    third.send(wire.query("select 1"))
    p.wait_for_log("closing because: connect failed")
    second.send(wire.query("select 1"))
    check(
        second.expect_error_close(), strict, "FATAL", "08001",
        "server login has been failing, cached error: connect failed (server_login_retry)",
        'No server of database "app" takes connections at present; the next attempt is made within 15 s\\.',
        "Try again later, or look into the log of the pooler.",
    )  # fmt: skip
    third.close()


def test_words_of_the_server_are_kept(make, strict, fake_server):
    text = "there is " + "very " * 50 + "little room"

    def refuse(conn, params):
        conn.send(wire.pack("E", wire.error_body("FATAL", "53300", text)))

    error = make({"app": fake_server(refuse).dsn()}).login_error()
    wanted = {"S": "FATAL", "C": "53300", "M": text}
    assert error_fields(error) == ({**wanted, "V": "FATAL"} if strict else wanted)


def test_statement_mode(make, strict):
    c = make(settings={"pool_mode": "statement"}).login()
    c.send(wire.query("begin"))
    check(
        c.expect_error_close(), strict, "FATAL", "0A000",
        "transaction blocks not allowed in statement pooling mode",
        hint="Leave BEGIN out, or set pool_mode to transaction for this database.",
    )  # fmt: skip


def test_killed_client(make, strict):
    p = make()
    c = p.login()
    (row,) = [r for r in p.show("clients") if r["database"] == "app"]
    p.admin(f"kill_client {row['id']}")
    check(
        c.expect_error_close(), strict, "FATAL", "57P01", "admin forced disconnect",
        "An administrator has closed this connection with KILL_CLIENT\\.",
    )  # fmt: skip


def test_bad_header(make, strict):
    c = make().login()
    c.send(b"Q\0\0\0\1xyz")
    check(
        c.expect_error_close(), strict, "FATAL", "08P01", "bad packet header: '510000000178797a'",
        hint="Bytes were lost on the way, or the client does not speak the protocol of PostgreSQL.",
    )  # fmt: skip


@pytest.mark.parametrize(
    "command, code, text, hint",
    [
        ("nonsense", "42601", "invalid command 'nonsense', use SHOW HELP;", None),
        ("resume", "55000", "pooler is not paused/suspended",
         "SHOW STATE tells whether everything is paused, SHOW DATABASES which database is."),
        ("pause absent", "3D000", "no such database: absent", "SHOW DATABASES lists the databases."),
        ("kill_client 999999", "42704", "client not found", "SHOW CLIENTS lists the clients."),
        ("kill_client it", "22P02", "invalid client pointer supplied", "SHOW CLIENTS lists the clients."),
        ("breaker open nowhere", "42704", "no such endpoint: nowhere", "SHOW ENDPOINTS lists them."),
        ("drain app within soon", "22P02", "invalid number of seconds: soon",
         "WITHIN takes whole seconds, such as 60."),
        ("pause pgbouncer", "42501", "cannot pause admin db: pgbouncer", None),
    ],
)  # fmt: skip
def test_console_errors(make, strict, command, code, text, hint):
    p = make()
    c = p.raw()
    c.login("admin", "pgbouncer", "adminpw")
    result = c.query(command)
    check(result.error, strict, "ERROR", code, text, hint=hint)
    assert result.status == "I"


def test_drain_while_suspended_has_a_hint_of_its_own(make, strict):
    p = make()
    c = p.raw()
    c.login("admin", "pgbouncer", "adminpw")
    c.query("suspend")
    check(
        c.query("drain").error, strict, "ERROR", "55000", "cannot drain while suspended",
        hint="End that with RESUME first.",
    )  # fmt: skip


def test_console_rights(make, strict):
    c = make().raw()
    c.login("stats", "pgbouncer", "statspw")
    check(
        c.query("pause").error, strict, "ERROR", "42501", "admin access needed",
        hint="The setting admin_users names those who may do this.",
    )  # fmt: skip


def test_failed_reload_has_its_state_in_every_style(make, strict):
    p = make()
    p.settings["no_such_setting"] = 1
    p.write_files()
    c = p.raw()
    c.login("admin", "pgbouncer", "adminpw")
    error = c.query("reload").error
    assert (error.code, error.severity) == ("F0000", "ERROR")
    assert ("V" in error.fields) == strict
    assert ("D" in error.fields or "H" in error.fields) == strict


def test_notices(make, strict):
    p = make(settings={"pool_mode": "transaction", "default_pool_size": 1, "query_wait_notify": 1})
    c = p.raw()
    c.login("admin", "pgbouncer", "adminpw")
    notice = c.query("show help").notices[0]
    assert (notice["S"], notice["C"], notice["M"]) == ("NOTICE", "00000", "Console usage")
    assert "SHOW HELP" in notice["D"] and ("V" in notice) == strict
    holder, waiter = p.login(), p.login()
    holder.query("begin")
    waiter.send(wire.query("select 1"))
    m = waiter.recv()
    wanted = {
        "S": "NOTICE",
        "C": "00000",
        "M": "No server connection available in postgres backend, client being queued",
    }
    assert m.type == "N" and wire.fields_of(m.body) == ({**wanted, "V": "NOTICE"} if strict else wanted)
    holder.query("commit")
    assert waiter.read_ready().value() == "1"


@pytest.mark.ours
def test_style_of_the_profile(make_pooler):
    p = make_pooler(profile="pgsluice")
    assert p.login_error(database="absent").code == "3D000"
    q = make_pooler(profile="pgsluice", settings={"error_style": "pgbouncer"})
    assert q.login_error(database="absent").fields == {"S": "FATAL", "C": "08P01", "M": "no such database: absent"}
    q.admin("set error_style = postgres")
    assert q.login_error(database="absent").code == "3D000"
