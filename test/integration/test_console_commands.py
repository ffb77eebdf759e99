"""The console's access rules, its protocol, and the commands that change something."""
import os
import pwd
import re
import subprocess
import threading

import pytest
from harness import procs, wire
from harness.cluster import bindir
from harness.pooler import is_pgbouncer
from harness.procs import wait_until
from harness.wire import PgError

ADMIN_ONLY = [
    "SET pool_mode = session",
    "RELOAD",
    "PAUSE",
    "RESUME",
    "SHUTDOWN",
    "SUSPEND",
    "PAUSE app",
    "RESUME app",
    "KILL app",
    "DISABLE app",
    "ENABLE app",
    "RECONNECT",
    "KILL",
    "WAIT_CLOSE",
    pytest.param("SHUTDOWN WAIT_FOR_CLIENTS", marks=pytest.mark.newer),
    "SHOW FDS",
    "KILL_CLIENT 1",
]


def refused(console, command):
    error = console.conn.query(command).error
    assert error is not None, f"{command} was not refused"
    assert (error.severity, error.code) == ("ERROR", "08P01")
    return error.text


# --- access


@pytest.mark.parametrize("command", ADMIN_ONLY)
def test_stats_users_may_only_look(pooler, command):
    console = pooler.console(user="stats", password="statspw")
    text = refused(console, command)
    if command.split()[0] in ("SET", "RELOAD", "PAUSE", "RESUME", "SHUTDOWN"):
        assert text == "admin access needed"
    assert console.show("pools") is not None


def test_other_users_are_not_allowed(make_pooler):
    """Told before any password is asked; an unknown name gets the ordinary failure instead."""
    p = make_pooler(settings={"auth_type": "md5"})
    c = p.raw()
    c.start("app", "pgbouncer")
    e = c.expect_error_close()
    assert (e.code, e.text) == ("08P01", "not allowed")
    assert p.login_error("ghost", "pgbouncer", password="x").text == "password authentication failed"
    assert p.login_error("admin", "pgbouncer", password="wrong").text == "password authentication failed"
    assert p.console().show("version")


@pytest.mark.newer
def test_console_under_auth_type_any(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn(user="app")}, settings={"auth_type": "any"})
    assert p.console(user="admin").run("RELOAD") == "RELOAD"
    whoever = p.console(user="whoever")
    assert whoever.show("pools")
    assert refused(whoever, "RELOAD") == "admin access needed"


@pytest.mark.ours
def test_console_has_two_names(pooler):
    for name in ("pgbouncer", "pgsluice"):
        console = pooler.console(database=name)
        assert console.show("version") and console.run("RELOAD") == "RELOAD"


def psql_as_pooler(p, user, dbname, command):
    """psql over the Unix socket with the pooler's own uid."""
    return procs.run(
        [
            f"{bindir()}/psql",
            "-X",
            "-At",
            "-w",
            "-h",
            p.dir,
            "-p",
            str(p.port),
            "-U",
            user,
            "-d",
            dbname,
            "-c",
            command,
        ],
        check=False,
        env={**os.environ, "PGCONNECT_TIMEOUT": "10"},
    )


def test_same_uid_over_unix_needs_no_password(make_pooler):
    p = make_pooler(settings={"auth_type": "scram-sha-256", "admin_users": ""})
    done = psql_as_pooler(p, "pgbouncer", "pgbouncer", "RELOAD")
    assert (done.returncode, done.stdout) == (0, "RELOAD\n"), done.stderr
    p.wait_for_log("pgbouncer access from unix socket")


@pytest.mark.ours
def test_same_uid_over_unix_as_pgsluice(make_pooler):
    p = make_pooler(settings={"auth_type": "scram-sha-256", "admin_users": ""})
    for name in ("pgsluice", "pgbouncer"):
        done = psql_as_pooler(p, "pgsluice", name, "RELOAD")
        assert (done.returncode, done.stdout) == (0, "RELOAD\n"), done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_other_uid_over_unix_needs_a_password(make_pooler):
    p = make_pooler(settings={"auth_type": "scram-sha-256", "admin_users": ""})
    nobody = pwd.getpwnam("nobody").pw_uid
    done = subprocess.run(
        [
            f"{bindir()}/psql",
            "-X",
            "-At",
            "-w",
            "-h",
            p.dir,
            "-p",
            str(p.port),
            "-U",
            "pgbouncer",
            "-d",
            "pgbouncer",
            "-c",
            "RELOAD",
        ],
        user=nobody,
        text=True,
        capture_output=True,
        timeout=20,
    )
    assert done.returncode != 0 and "RELOAD" not in done.stdout


def test_same_uid_is_worth_nothing_over_tcp_or_for_other_names(make_pooler):
    p = make_pooler(settings={"auth_type": "scram-sha-256", "admin_users": ""})
    assert psql_as_pooler(p, "app", "pgbouncer", "RELOAD").returncode != 0
    assert psql_as_pooler(p, "pgbouncer", "app", "select 1").returncode != 0
    assert p.login_error("pgbouncer", "pgbouncer", password="").text in ("SASL authentication failed", "not allowed")


# --- protocol


@pytest.mark.newer
def test_greeting(pooler):
    c = pooler.raw()
    result = c.login("admin", "pgbouncer", "adminpw", params={"application_name": "console"})
    assert re.fullmatch(r"\d+(\.\d+)+/bouncer", result.params["server_version"])
    for key, value in (
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("DateStyle", "ISO"),
        ("TimeZone", "GMT"),
        ("standard_conforming_strings", "on"),
        ("is_superuser", "on"),
        ("application_name", "console"),
    ):
        assert result.params[key] == value
    assert result.types.endswith("KZ") and result.status == "I"


def test_greeting_echoes_parameters_of_the_startup_packet(pooler):
    c = pooler.raw()
    sent = {"client_encoding": "LATIN1", "DateStyle": "German", "application_name": "console"}
    greeting = c.login("admin", "pgbouncer", "adminpw", params=sent)
    said = [m.body[:-1].decode().split("\0") for m in greeting.messages if m.type == "S"]
    assert sorted(said[-3:]) == sorted(list(pair) for pair in sent.items()), "after the fixed ones, as they came"
    assert ["client_encoding", "UTF8"] in said[:-3] and len(said) == 7 + 3


@pytest.mark.newer
def test_extended_protocol_is_refused(pooler):
    c = pooler.login("admin", "pgbouncer")
    c.send(wire.extended("SHOW POOLS"), wire.SYNC)
    result = c.expect_close()
    assert [(e.severity, e.text) for e in result.errors] == [
        ("ERROR", "extended query protocol not supported by admin console"),
        ("FATAL", "bad packet"),
    ]


@pytest.mark.newer
@pytest.mark.parametrize("mtype", "py")
def test_messages_that_no_client_sends(pooler, mtype):
    c = pooler.login("admin", "pgbouncer")
    c.send(wire.pack(mtype, b"Sx\0"))
    e = c.expect_error_close()
    assert (e.severity, e.code, e.text) == ("FATAL", "08P01", "unknown pkt")
    pooler.wait_for_log(f"ERROR C-.*: pgbouncer/admin@.* unknown pkt from client: {ord(mtype)}/{ord(mtype):#x}")


@pytest.mark.newer
@pytest.mark.parametrize("mtype", "SDCH")
def test_other_messages_are_refused(pooler, mtype):
    c = pooler.login("admin", "pgbouncer")
    c.send(wire.pack(mtype, b"Sx\0"))
    result = c.expect_close()
    assert [(e.severity, e.text) for e in result.errors] == [
        ("ERROR", f"unsupported packet type for admin console: {ord(mtype)}"),
        ("FATAL", "bad packet"),
    ]


def test_grammar(pooler):
    console = pooler.console()
    assert console.run("set query_wait_timeout=7") == "SET query_wait_timeout=7"
    assert console.run("SET query_wait_timeout TO 8;") == "SET query_wait_timeout=8"
    assert console.run("  SET   query_wait_timeout  =  '9'  ;  ") == "SET query_wait_timeout=9"
    assert (
        console.run("SET server_reset_query = 'select ''x''; -- 1.2/3,4'")
        == "SET server_reset_query=select 'x'; -- 1.2/3,4"
    )
    config = pooler.config()
    assert (config["query_wait_timeout"], config["server_reset_query"]) == ("9", "select 'x'; -- 1.2/3,4")
    for bad in (
        "SET query_wait_timeout",
        "SET query_wait_timeout 5",
        "SET = 5",
        "SET a-b = 1",
        "PAUSE a b",
        "RELOAD app",
    ):
        assert refused(console, bad) == f"invalid command '{bad}', use SHOW HELP;"


def test_two_commands_in_one_segment(pooler):
    console = pooler.console()
    console.conn.send(wire.query("SHOW VERSION") + wire.query("SHOW LISTS"))
    assert console.conn.read_ready().tag == "SHOW"
    assert console.conn.read_ready().tag == "SHOW"


@pytest.mark.newer
def test_command_in_pieces(pooler):
    """A packet may arrive in any number of reads."""
    console = pooler.console()
    for byte in wire.query("SHOW VERSION"):
        console.conn.send(bytes([byte]))
    assert console.conn.read_ready().tag == "SHOW"


@pytest.mark.newer
def test_overlong_commands(pooler):
    console = pooler.console()
    for command in (
        "X" * 5000,
        "SHOW " + "x" * 5000,
        "SET query_wait_timeout = '" + "1" * 5000 + "'",
        "PAUSE " + "d" * 100,
    ):
        assert refused(console, command)
    assert console.show("version")


@pytest.mark.ours
@pytest.mark.parametrize("length", [450, 600, 1500, 5000])
def test_an_error_repeats_a_long_command(pooler, length):
    """PgBouncer cannot send an error of more than 512 bytes and closes the session."""
    console = pooler.console()
    text = refused(console, "-" * length)
    if length <= 1900:
        assert text == f"invalid command '{'-' * length}', use SHOW HELP;"
    else:
        assert text.startswith("invalid command '----") and text.endswith("-', use SHOW HELP;")
    text = refused(console, "-" + "ä" * length)
    assert "ä" in text and "\ufffd" not in text, "cut between characters"
    assert console.show("version")


def test_errors_are_logged_twice(make_pooler):
    """As the failure of a command, and, where log_pooler_errors is on, as what the client was told."""
    p = make_pooler()
    refused(p.console(), "RELOAD nonsense")
    text = "invalid command 'RELOAD nonsense', use SHOW HELP;"
    p.wait_for_log(rf" ERROR {text}$")
    p.wait_for_log(rf" WARNING C-0x[0-9a-f]+: pgbouncer/admin@127.0.0.1:\d+ pooler error: {text}$")
    quiet = make_pooler(settings={"log_pooler_errors": 0})
    refused(quiet.console(), "RELOAD nonsense")
    quiet.wait_for_log(rf" ERROR {text}$")
    assert "pooler error" not in quiet.log_text()


# --- commands


def test_set(pooler):
    console = pooler.console()
    assert console.run("SET default_pool_size = 3") == "SET default_pool_size=3"
    assert pooler.config()["default_pool_size"] == "3"
    assert refused(console, "SET nonsense = 1") == "SET failed"
    assert refused(console, "SET pool_mode = 'wild'") == "SET failed"
    assert refused(console, "SET query_timeout = 'abc'") == "SET failed"
    assert console.run("SET listen_port = 1") == "SET listen_port=1"
    assert pooler.config()["listen_port"] == str(pooler.port)
    assert console.run("RELOAD") == "RELOAD"
    assert pooler.config()["default_pool_size"] == "20", "a reload undoes SET"


def test_set_takes_effect(pooler):
    pooler.admin("SET pool_mode = transaction")
    pooler.admin("SET default_pool_size = 1")
    a, b = pooler.login(), pooler.login()
    assert a.value("select pg_backend_pid()") == b.value("select pg_backend_pid()")


def in_background(console, command):
    """Run a command whose answer is deferred; .result() gives it."""
    out = []

    def ask():
        try:
            out.append(console.conn.query(command))
        except (AssertionError, OSError):
            pass  # no answer: .result() tells

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()

    def join(timeout=15):
        thread.join(timeout)
        assert out, f"{command} was not answered within {timeout} s"
        return out[0]

    thread.result = join
    return thread


def test_pause_waits_for_transactions(make_pooler, cluster, database):
    db = database()
    p = make_pooler({"app": cluster.dsn(dbname=db)}, settings={"pool_mode": "transaction"})
    busy, idle, late = p.login(), p.login(), p.login()
    idle.query("select 1"), busy.query("begin")
    console = p.console()
    pause = in_background(console, "PAUSE")
    p.wait_for_log("PAUSE command issued")
    idle.send(wire.query("select 'after'"))
    p.wait_pool(cl_waiting=1)
    assert busy.query("select 'still'").rows == [["still"]]
    assert pause.is_alive()
    busy.query("commit")
    assert pause.result().tag == "PAUSE"
    assert p.show("servers") == [], "PAUSE answers when the last server is closed"
    wait_until(lambda: cluster.backends(db) == 0, "PostgreSQL knows it")
    assert p.login().key, "a warm pool accepts logins meanwhile"
    late.send(wire.query("select 'late'"))
    p.wait_pool(cl_waiting=2)
    assert refused(console, "PAUSE") == "already suspended/paused"
    assert console.run("RESUME") == "RESUME"
    assert idle.read_ready().rows == [["after"]]
    assert late.read_ready().rows == [["late"]]
    assert refused(console, "RESUME") == "pooler is not paused/suspended"


def test_pause_in_session_mode_waits_for_sessions(make_pooler):
    p = make_pooler()
    c = p.login()
    c.query("select 1")
    pause = in_background(p.console(), "PAUSE")
    p.wait_for_log("PAUSE command issued")
    assert c.query("select 2").rows == [["2"]]
    assert pause.is_alive()
    c.terminate()
    assert pause.result().tag == "PAUSE"


def test_pause_of_one_database(make_pooler, cluster, database):
    one, two = database(), database()
    p = make_pooler(
        {"one": cluster.dsn(dbname=one), "two": cluster.dsn(dbname=two)}, settings={"pool_mode": "transaction"}
    )
    a, b = p.login("app", "one"), p.login("app", "two")
    a.query("select 1"), b.query("select 1")
    console = p.console()
    assert console.run("PAUSE one") == "PAUSE"
    assert [r for r in p.show("servers") if r["database"] == "one"] == []
    wait_until(lambda: cluster.backends(one) == 0, "PostgreSQL knows it")
    a.send(wire.query("select 'a'"))
    p.wait_pool("one", cl_waiting=1)
    assert b.query("select 'b'").rows == [["b"]]
    rows = {r["name"]: r for r in p.show("databases")}
    assert (rows["one"]["paused"], rows["two"]["paused"]) == (1, 0)
    assert refused(console, "RESUME") == "pooler is not paused/suspended"
    assert refused(console, "RESUME two") == "database two is not paused"
    assert refused(console, "PAUSE nodb") == "no such database: nodb"
    assert refused(console, "RESUME nodb") == "no such database: nodb"
    assert refused(console, "PAUSE pgbouncer") == "cannot pause admin db: pgbouncer"
    assert console.run("RESUME one") == "RESUME"
    assert a.read_ready().rows == [["a"]]


def test_names_of_the_console_are_no_databases_to_act_on(pooler):
    console = pooler.console()
    for verb in ("pause", "kill", "disable", "reconnect"):
        assert refused(console, f"{verb.upper()} pgbouncer") == f"cannot {verb} admin db: pgbouncer"
    assert refused(console, "WAIT_CLOSE pgbouncer") == "cannot wait in admin db: pgbouncer"
    assert refused(console, "RESUME pgbouncer") == "database pgbouncer is not paused"
    if not is_pgbouncer():
        assert refused(console, "ENABLE pgbouncer") == "cannot enable admin db: pgbouncer"


def test_commands_that_need_a_database(pooler):
    console = pooler.console()
    for command in ("DISABLE", "ENABLE"):
        assert refused(console, command) == "a database is required"
    for command in "PAUSE RESUME DISABLE ENABLE RECONNECT KILL WAIT_CLOSE".split():
        assert refused(console, f'{command} "no-such"') == "no such database: no-such", command


def test_pausing_while_all_is_paused(pooler):
    console = pooler.console()
    assert console.run("PAUSE") == "PAUSE"
    for command in ("PAUSE", "PAUSE app", "KILL", "KILL app"):
        assert refused(console, command) == "already suspended/paused", command
    assert console.run("RESUME") == "RESUME"


def test_pause_survives_reload(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login()
    c.query("select 1")
    console = p.console()
    console.run("PAUSE app")
    console.run("RELOAD")
    c.send(wire.query("select 'x'"))
    p.wait_pool(cl_waiting=1)
    console.run("RESUME app")
    assert c.read_ready().rows == [["x"]]


def test_pause_with_no_server_answers_at_once(pooler):
    console = pooler.console()
    assert console.run("PAUSE") == "PAUSE"
    assert console.run("RESUME") == "RESUME"


@pytest.mark.newer
def test_pause_twenty_times_under_load(make_pooler):
    """No query is lost or answered wrongly, whatever the moment of the pause."""
    p = make_pooler(
        settings={"pool_mode": "transaction", "default_pool_size": 3, "log_connections": 0, "log_disconnections": 0},
        threads=4,
    )
    stop, wrong, counts = threading.Event(), [], [0] * 6

    def work(n):
        c = p.login(timeout=30)
        while not stop.is_set():
            counts[n] += 1
            result = c.query(f"select '{n}-{counts[n]}'")
            if result.error or result.rows != [[f"{n}-{counts[n]}"]]:
                wrong.append(result.messages)
                return

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(6)]
    for t in threads:
        t.start()
    console = p.console()
    for _ in range(20):
        before = sum(counts)
        wait_until(lambda: sum(counts) > before + 6, "work goes on")
        assert console.run("PAUSE") == "PAUSE"
        assert not [r for r in console.show("servers")]
        assert console.run("RESUME") == "RESUME"
    stop.set()
    for t in threads:
        t.join(20)
        assert not t.is_alive()
    assert not wrong, wrong


def test_reload_command(make_pooler):
    p = make_pooler(settings={"default_pool_size": 5})
    p.settings["default_pool_size"] = 6
    p.write_files()
    assert p.config()["default_pool_size"] == "5"
    assert p.admin("RELOAD") == "RELOAD"
    assert p.config()["default_pool_size"] == "6"
    p.wait_for_log("RELOAD command issued")


@pytest.mark.newer
def test_reload_of_a_broken_file(make_pooler):
    p = make_pooler()
    p.write(p.ini, "[pgbouncer]\nnonsense = 1\n")
    with pytest.raises(PgError) as e:
        p.admin("RELOAD")
    assert (e.value.severity, e.value.code, e.value.text) == (
        "ERROR",
        "F0000",
        "RELOAD failed, see logs for additional details",
    )
    assert p.login().value("select 1") == "1"


def test_shutdown(make_pooler):
    p = make_pooler()
    c = p.login()
    c.query("select 1")
    console = p.console()
    console.conn.send(wire.query("SHUTDOWN"))
    assert not console.conn.expect_close().messages
    assert not c.expect_close().messages
    p.exit_wanted = True
    assert p.wait_exit() == 0
    assert not os.path.exists(p.socket_path) and not os.path.exists(p.pidfile)


@pytest.mark.newer
def test_shutdown_wait_for_servers(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "query_wait_timeout": 100})
    busy, idle = p.login(), p.login()
    busy.query("begin"), idle.query("select 1")
    console = p.console()
    assert console.run("SHUTDOWN WAIT_FOR_SERVERS") == "SHUTDOWN"
    wait_until(lambda: p.refuses_tcp(), "TCP is closed")
    idle.send(wire.query("select 1"))
    assert idle.expect_error_close().text == "server shutting down"
    assert refused(console, "RESUME") == "pooler is shutting down"
    assert busy.query("select 2").rows == [["2"]]
    busy.query("commit")
    assert p.wait_exit() == 0
    p.wait_for_log("server connections dropped, exiting")


@pytest.mark.newer
def test_shutdown_wait_for_clients(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login()
    console = p.console()
    assert console.run("SHUTDOWN WAIT_FOR_CLIENTS") == "SHUTDOWN"
    wait_until(lambda: p.refuses_tcp(), "TCP is closed")
    for n in range(3):
        assert c.query(f"select {n}").rows == [[str(n)]], "clients keep their service"
    console.close()
    c.terminate()
    assert p.wait_exit() == 0
    p.wait_for_log("client connections dropped, exiting")


@pytest.mark.newer
def test_unix_socket_serves_only_the_console_during_shutdown(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login()
    console = p.console()
    console.run("SHUTDOWN WAIT_FOR_CLIENTS")
    u = p.raw_unix()
    u.start()
    assert u.expect_error_close().text == "pooler is shutting down"
    u = p.raw_unix()
    u.login("admin", "pgbouncer", "adminpw")
    assert wire.Result(u.query("SHOW VERSION").messages).rows
    assert refused(console, "SHUTDOWN NONSENSE") == "invalid command 'SHUTDOWN NONSENSE', use SHOW HELP;"
    assert c.query("select 1").rows


@pytest.mark.newer
def test_ctrl_c_on_the_console_ends_a_pause(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login()
    c.query("begin")
    console = p.console()
    in_background(console, "PAUSE")
    p.wait_for_log("PAUSE command issued")
    p.cancel(console.conn.key)
    other = p.login()
    assert other.value("select 1") == "1"
    c.query("commit")


def test_commands_are_logged(pooler):
    console = pooler.console()
    console.run("PAUSE")
    console.run("RESUME")
    console.run("PAUSE app")
    pooler.wait_for_log("PAUSE command issued")
    pooler.wait_for_log("RESUME command issued")
    pooler.wait_for_log("PAUSE 'app' command issued")
