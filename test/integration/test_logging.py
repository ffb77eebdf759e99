"""The log: each line that operators and their tools look for, its prefix and level; JSON, repeats, rotation."""
import json
import os
import re
import signal
import socket
import struct
import time

import pytest

from harness import wire
from harness.procs import free_port, wait_until

TIME = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+ \[\d+\] "
PTR = r"0x[0-9a-f]+"
TCP = r"127\.0\.0\.1:\d+"


def line(level, text):
    return TIME + level + " " + text + "$"


def client(level, text, who="app/app", host=TCP):
    return line(level, f"C-{PTR}: {who}@{host} {text}")


def server(level, text, who="app/app", host=TCP):
    return line(level, f"S-{PTR}: {who}@{host} {text}")


def has(p, *patterns):
    """All of these lines must come."""
    for pattern in patterns:
        p.wait_for_log(pattern)


# --- clients


@pytest.mark.newer
def test_login_and_logout(pooler):
    c = pooler.login()
    c.query("select 1")
    c.terminate()
    has(
        pooler,
        client("LOG", "login attempt: db=app user=app tls=no replication=no"),
        server("LOG", r"new connection to server \(from 127\.0\.0\.1:\d+\)"),
        client("LOG", r"closing because: client close request \(age=\d+s\)"),
    )


def test_client_that_goes_without_a_word(pooler):
    c = pooler.login()
    c.close()
    has(pooler, client("LOG", r"closing because: client unexpected eof \(age=\d+s\)"))


def test_unix_client_has_its_process_in_the_prefix(make_pooler):
    p = make_pooler()
    c = p.raw_unix()
    c.login("app", "app")
    c.terminate()
    has(p, client("LOG", r"closing because: client close request \(age=\d+s\)", host=rf"unix\({os.getpid()}\):{p.port}"))


@pytest.mark.newer
def test_console_of_the_owner(make_pooler):
    p = make_pooler()
    p.psql("-c", "show version", dbname="pgbouncer", user="pgbouncer", host=p.dir)
    has(
        p,
        client("LOG", "pgbouncer access from unix socket", who="pgbouncer/pgbouncer", host=rf"unix\(\d+\):{p.port}"),
        client("LOG", r"closing because: client close request \(age=\d+s\)", who="pgbouncer/pgbouncer", host=r"unix.*"),
    )


def test_ipv6_prefix(make_pooler):
    with socket.socket(socket.AF_INET6) as s:
        try:
            s.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
    p = make_pooler(settings={"listen_addr": "127.0.0.1,::1"})
    c = wire.Conn.tcp(p.port, host="::1")
    c.login()
    c.terminate()
    has(p, client("LOG", r"closing because: client close request \(age=\d+s\)", host=r"\[::1\]:\d+"))


def test_unknown_database(pooler):
    pooler.login_error("app", "absent")
    has(
        pooler,
        client("LOG", "login attempt: db=absent user=app tls=no.*", who=r"\(nodb\)/app"),
        client("LOG", "login failed: db=absent user=app", who=r"\(nodb\)/app"),
        client("LOG", r"closing because: no such database: absent \(age=\d+s\)", who=r"\(nodb\)/app"),
        client("WARNING", "pooler error: no such database: absent", who=r"\(nodb\)/app"),
    )
    text = pooler.log_text()
    assert text.index("closing because: no such") < text.index("pooler error: no such")


def test_unknown_user(make_pooler):
    p = make_pooler(settings={"auth_type": "md5"})
    p.login_error("stranger", "app", password="x")
    has(
        p,
        client("LOG", "no such user: stranger", who=r"\(nodb\)/\(nouser\)"),
        client("LOG", "login attempt: db=app user=stranger tls=no.*", who=r"\(nodb\)/stranger"),
        client("LOG", r"closing because: password authentication failed \(age=\d+s\)", who=r"\(nodb\)/stranger"),
        client("WARNING", "pooler error: password authentication failed", who=r"\(nodb\)/stranger"),
    )


def test_unsupported_startup_parameter(pooler):
    pooler.login_error(params={"colour": "blue"})
    who = r"\(nodb\)/\(nouser\)"
    has(
        pooler,
        client("WARNING", "unsupported startup parameter: colour=blue", who=who),
        client("WARNING", "pooler error: unsupported startup parameter: colour", who=who),
    )


@pytest.mark.newer
def test_automatic_database(make_pooler, cluster):
    p = make_pooler({"*": cluster.dsn(dbname="app")})
    p.login(database="app").terminate()
    has(p, TIME + r"LOG .*registered new auto-database: app$")


def test_console_errors(pooler):
    with pytest.raises(wire.PgError):
        pooler.console().run("nonsense")
    has(
        pooler,
        line("ERROR", "invalid command 'nonsense', use SHOW HELP;"),
        client("WARNING", "pooler error: invalid command 'nonsense', use SHOW HELP;", who="pgbouncer/admin"),
    )


def test_console_commands(pooler):
    pooler.admin("reload")
    pooler.admin("pause app")
    pooler.admin("resume app")
    has(
        pooler,
        line("LOG", "RELOAD command issued"),
        line("LOG", "PAUSE 'app' command issued"),
        line("LOG", "RESUME 'app' command issued"),
    )


# --- servers


def test_server_on_a_unix_socket(make_pooler, cluster):
    p = make_pooler({"app": f"host={cluster.dir} port={cluster.port}"})
    p.login().query("select 1")
    has(p, server("LOG", "new connection to server", host=rf"unix:{cluster.port}"))


def refuse(conn, params):
    conn.send(wire.pack("E", wire.error_body("FATAL", "3D000", "not here")))


def test_server_that_refuses(make_pooler, fake_server):
    p = make_pooler({"app": fake_server(refuse).dsn()})
    p.login_error()
    has(
        p,
        line("WARNING", "server login failed: FATAL not here"),
        server("LOG", r"closing because: not here \(age=\d+s\)"),
        client("WARNING", "pooler error: not here"),
    )


def test_connect_query_that_fails(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn(connect_query="'selekt'")})
    p.login().query("select 1")
    has(p, line("ERROR", 'S: error while executing exec_on_query: ERROR: syntax error at or near "selekt"'))


def test_server_that_is_down(make_pooler):
    p = make_pooler({"app": f"host=127.0.0.1 port={free_port()}"}, settings={"client_login_timeout": 1})
    p.login_error()
    has(p, server("LOG", r"closing because: connect failed \(age=\d+s\)"))


@pytest.mark.newer
def test_address_that_cannot_be_reached(make_pooler):
    p = make_pooler({"app": "host=/nonexistent port=1"}, settings={"client_login_timeout": 1})
    p.login_error()
    has(p, line("WARNING", r"sbuf_connect failed to connect to unix:/nonexistent\S*: No such file or directory"))


def test_name_that_does_not_resolve(make_pooler):
    p = make_pooler({"app": "host=no.such.host.invalid"}, settings={"client_login_timeout": 1})
    p.login_error()
    has(
        p,
        line("WARNING", r"DNS lookup failed: no\.such\.host\.invalid: result=\S+"),
        server("LOG", r"closing because: server DNS lookup failed \(age=\d+s\)", host=".*"),
    )


def test_reserve_pool(make_pooler):
    p = make_pooler(
        settings={
            "default_pool_size": 1,
            "reserve_pool_size": 1,
            "reserve_pool_timeout": 1,
            "pool_mode": "transaction",
        }
    )
    holder, waiter = p.login(), p.login()
    holder.query("begin")
    waiter.query("select 1")
    port = waiter.sock.getsockname()[1]
    has(p, client("WARNING", "taking connection from reserve_pool", host=rf"127\.0\.0\.1:{port}"))


def test_message_while_not_linked(make_pooler, fake_server):
    free = []

    def chatter(conn, params):
        conn.greet()
        conn.recv()
        conn.send(wire.answer("ok"))
        wait_until(lambda: free, "the server to be free")
        conn.send(wire.pack("A", struct.pack("!i", 1) + b"channel\0payload\0"))
        conn.send(wire.pack("N", wire.error_body("NOTICE", "00000", "to nobody")))
        conn.expect_close()

    p = make_pooler({"app": fake_server(chatter).dsn()}, settings={"pool_mode": "transaction"})
    p.login().query("select 1")
    p.wait_pool(sv_idle=1)
    free.append(True)
    has(
        p,
        server("WARNING", "got packet 'A' from server when not linked"),
        server("WARNING", "got packet 'N' from server when not linked"),
        server("LOG", r"closing because: SV_IDLE server got dirty \(age=\d+s\)"),
    )


def test_server_that_crashes(make_pooler, fake_server):
    def crash(conn, params):
        conn.greet()
        conn.recv()

    p = make_pooler({"app": fake_server(crash).dsn()})
    c = p.login()
    c.send(wire.query("select 1"))
    c.expect_error_close()
    has(
        p,
        server("LOG", r"closing because: server conn crashed\? \(age=\d+s\)"),
        client("LOG", r"closing because: server conn crashed\? \(age=\d+s\)"),
        client("WARNING", r"pooler error: server conn crashed\?"),
    )


@pytest.mark.newer
def test_parameter_that_the_server_refuses(make_pooler):
    p = make_pooler(args=["-v"])
    c = p.login(params={"DateStyle": "Klingon"})
    c.send(wire.query("select 1"))
    c.expect_error_close()
    has(
        p,
        server("DEBUG", "varcache_apply: SET DateStyle='Klingon';"),
        line("ERROR", 'varcache_apply failed: ERROR: invalid value for parameter "DateStyle": "Klingon"'),
        server("LOG", r"closing because: invalid server parameter \(age=\d+s\)"),
    )


@pytest.mark.newer
def test_spelling_of_the_server(make_pooler):
    p = make_pooler(args=["-v"])
    c = p.login(params={"DateStyle": "German"})
    c.query("select 1")
    has(
        p,
        server("DEBUG", "varcache_apply: SET DateStyle='German';"),
        client("DEBUG", "varcache_set_canonical: setting DateStyle to its canonical version German -> German, DMY"),
    )


# --- the process


def test_start_and_stop(make_pooler):
    p = make_pooler()
    has(
        p,
        line("LOG", rf"listening on 127\.0\.0\.1:{p.port}"),
        line("LOG", rf"listening on unix:{p.dir}/\.s\.PGSQL\.{p.port}"),
        line("LOG", "process up: .*"),
    )
    p.signal(signal.SIGHUP)
    has(p, line("LOG", "got SIGHUP, re-reading config"))
    p.signal(signal.SIGUSR1)
    has(p, line("LOG", "got SIGUSR1, pausing all activity"))
    p.signal(signal.SIGUSR2)
    has(p, line("LOG", "got SIGUSR2, continuing from PAUSE"))
    p.signal(signal.SIGQUIT)
    p.wait_exit()


def test_database_that_leaves_the_file(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn(), "gone": cluster.dsn(dbname="app")})
    c = p.login(database="gone")
    c.query("select 1")
    del p.databases["gone"]
    p.write_files()
    p.admin("reload")
    c.expect_error_close()
    has(
        p,
        line("WARNING", "dropping database 'gone' as it does not exist anymore or inactive auto-database"),
        client("LOG", r"closing because: database removed \(age=\d+s\)", who="gone/app"),
    )


@pytest.mark.newer
def test_pool_that_nobody_uses(make_pooler):
    p = make_pooler(settings={"pool_idle_timeout": 1, "server_idle_timeout": 1})
    p.login().terminate()
    p.wait_for_log(
        line("LOG", r"cleaning up idle pool for user app on db app because: pool idle timeout \(age= \d+s\)"), timeout=30
    )


@pytest.mark.newer
def test_statistics(make_pooler):
    p = make_pooler(settings={"stats_period": 1})
    n = r"\d+"
    has(
        p,
        line(
            "LOG",
            f"stats: {n} xacts/s, {n} queries/s, {n} client parses/s, {n} server parses/s, {n} binds/s, "
            f"{n} client logins/s, in {n} B/s, out {n} B/s, xact {n} us, query {n} us, wait {n} us",
        ),
    )


@pytest.mark.newer
@pytest.mark.parametrize("how", ["set", "reload"])
def test_period_of_the_statistics_can_be_changed(make_pooler, how):
    p = make_pooler(settings={"stats_period": 3600})
    if how == "set":
        p.admin("set stats_period = 1")
    else:
        p.settings["stats_period"] = 1
        p.write_files()
        p.signal(signal.SIGHUP)
    p.wait_for_log(" LOG stats: ")


def test_a_name_cannot_forge_a_line(pooler):
    """A newline in a name goes on with a tab behind it."""
    pooler.login_error("app", "x\n2020-01-01 00:00:00.000 UTC [1] FATAL the end\n ")
    has(pooler, r"^\t2020-01-01 00:00:00\.000 UTC \[1\] FATAL the end")
    assert not pooler.log_count(r"^2020")


# --- where lines go


def test_quiet_and_a_file(make_pooler):
    p = make_pooler(start=False, args=["-q"])
    path = f"{p.dir}/file.log"
    p.settings["logfile"] = path
    p.start(wait=False)

    def text(name=path):
        return open(name).read() if os.path.exists(name) else ""

    wait_until(lambda: "process up" in text(), "the log file")
    assert p.log_text() == ""
    os.rename(path, path + ".1")
    p.admin("set logfile = elsewhere")  # an open file stays
    p.login().terminate()
    wait_until(lambda: "login attempt" in text(path + ".1"), "the line in the file that was open")
    assert not os.path.exists(path) and not os.path.exists(f"{p.dir}/elsewhere")
    p.signal(signal.SIGHUP)
    wait_until(lambda: p.login().terminate() or "login attempt" in text(), "the new file", step=0.1)


@pytest.mark.ours
def test_file_that_cannot_be_opened_again(make_pooler):
    p = make_pooler(start=False, args=["-q"])
    path = f"{p.dir}/logs/file.log"
    os.mkdir(f"{p.dir}/logs")
    os.chmod(f"{p.dir}/logs", 0o777)
    p.settings["logfile"] = path
    p.start(wait=False)
    wait_until(lambda: os.path.exists(path) and "process up" in open(path).read(), "the log file")
    with open(path) as old:
        os.rename(f"{p.dir}/logs", f"{p.dir}/gone")
        p.admin("reload")
        p.login().terminate()
        got = []
        wait_until(lambda: got.append(old.read()) or "login attempt: db=app" in "".join(got), "the old file to go on")
    assert re.search(r' ERROR could not open log file "\S+": No such file .*; going on with the old one', "".join(got))


# --- JSON


def json_lines(p, since=0):
    whole, _, _ = p.log_text(since).rpartition("\n")  # the last line may be under way
    return [json.loads(text) for text in whole.splitlines() if text.startswith("{")]


def wait_json(p, **wanted):
    """The first line with these members."""

    def find():
        return next((r for r in json_lines(p) if all(r.get(k) == v for k, v in wanted.items())), None)

    return wait_until(find, lambda: f"a line with {wanted}\n{p.log_tail()}")


@pytest.mark.ours
@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
def test_json(make_pooler, profile):
    p = make_pooler(settings={"log_format": "json", "auth_type": "trust", "default_pool_size": 5}, profile=profile)
    c = p.login()
    peer = "%s:%d" % c.sock.getsockname()
    c.query("select 1")
    c.terminate()
    p.login_error("app", "absent")
    login = wait_json(p, text="login attempt: db=app user=app tls=no replication=no")
    assert set(login) == {
        "time", "level", "pid", "worker", "client", "database", "user", "peer", "action", "text",
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", login["time"])
    assert (login["level"], login["pid"], login["action"]) == ("LOG", p.proc.pid, "login")
    assert (login["database"], login["user"], login["peer"]) == ("app", "app", peer)
    p.wait_for_log("closing because: client close request")
    over = next(r for r in json_lines(p) if r["text"].startswith("closing because: client close request"))
    assert over["peer"] == peer
    assert over["client"] == login["client"] and over["action"] == "idle"
    error = wait_json(p, text="pooler error: no such database: absent")
    assert (error["level"], error["sqlstate"], error["database"]) == ("WARNING", "3D000", "absent")
    made = next(r for r in json_lines(p) if r["text"].startswith("new connection to server"))
    assert made["server"] > 0 and made["worker"].startswith("worker") and "client" not in made
    # Every line of the log is an object of its own, from the configuration on.
    lines = p.log_text().rpartition("\n")[0].splitlines()
    first = next(i for i, text in enumerate(lines) if text.startswith("{"))
    assert all(text.startswith("{") for text in lines[first:])


@pytest.mark.ours
def test_json_of_odd_names(make_pooler):
    p = make_pooler(settings={"log_format": "json"})
    with p.raw() as c:
        c.start(user='jo"e\n', database=b"\xff\\\x01\xc3\xa4")
        c.expect_error_close()
    error = wait_json(p, database="\ufffd\\\x01\u00e4", level="WARNING")
    assert error["user"] == 'jo"e\n'


@pytest.mark.ours
def test_json_by_reload_and_no_secrets(make_pooler):
    p = make_pooler(settings={"auth_type": "plain", "verbose": 2})
    p.admin("set log_format = json")
    c = p.raw()
    c.login("app", "app", password="apppw")
    c.query("select 'a literal'")
    c.terminate()
    p.login_error("app", "app", password="wrong secret")
    p.settings["log_format"] = "text"
    p.write_files()
    p.signal(signal.SIGHUP)
    wait_json(p, text="got SIGHUP, re-reading config", action="reload")
    p.wait_for_log("LOG reload: settings: 1 changed")
    p.login_error("app", "app", password="wrong again")
    p.wait_for_log(client("LOG", "login attempt: db=app .*"))
    assert not p.log_count("apppw|wrong (secret|again)|a literal")


# --- repeats


@pytest.mark.ours
def test_repeats_are_counted(make_pooler):
    p = make_pooler(settings={"log_rate_limit": 3})
    for _ in range(20):
        p.login_error("app", "absent")
    assert p.log_count("closing because: no such database") == 20
    assert p.log_count("login attempt: db=absent") == 20
    wait_until(lambda: sum(shown_and_told(p)) >= 20, lambda: f"all are shown or told of: {shown_and_told(p)}", timeout=20)
    shown, told = shown_and_told(p)
    assert shown + told == 20 and shown >= 3 and told > 0


def shown_and_told(p):
    """How often the error about `absent` stands in the log, and how many more of them it tells of."""
    text = p.log_text()
    told = re.findall(r" WARNING pooler error: no such database: absent \(message repeated (\d+) times\)$", text, re.M)
    return len(re.findall("pooler error: no such database: absent$", text, re.M)), sum(map(int, told))


@pytest.mark.ours
def test_repeats_at_the_end(make_pooler):
    """What was held back is told when the process ends."""
    p = make_pooler(settings={"log_rate_limit": 1})
    for _ in range(5):
        p.login_error("app", "absent")
    p.signal(signal.SIGQUIT)
    p.wait_exit()
    shown, told = shown_and_told(p)
    assert told > 0 and shown + told == 5


@pytest.mark.ours
def test_names_of_strangers_are_limited(make_pooler):
    """Whoever tries names does not fill the log with them."""
    p = make_pooler(settings={"log_rate_limit": 2, "log_connections": 0, "auth_type": "md5"})
    for n in range(9):
        p.login_error(f"stranger{n}", password="x")
    p.signal(signal.SIGQUIT)
    p.wait_exit()
    assert 2 <= p.log_count("LOG .*no such user: stranger[0-9]$") < 9
    assert p.log_count(r"LOG .*no such user: stranger[0-9] \(message repeated \d+ times\)$") > 0


def test_no_limit_by_default(make_pooler):
    p = make_pooler()
    for _ in range(30):
        p.login_error("app", "absent")
    assert p.log_count("pooler error: no such database: absent") == 30


# --- the last words of a login


@pytest.mark.newer
def test_login_notify_message(make_pooler):
    p = make_pooler(settings={"login_notify_message": "Maintenance at noon."})
    for database, user in (("app", "app"), ("pgbouncer", "admin")):
        c = p.raw()
        c.start(user, database)
        result = c.finish_login(user, "adminpw")
        assert [m.type for m in result.messages][-2:] == ["N", "Z"]
        assert c.notices == [{"S": "NOTICE", "C": "00000", "M": "Maintenance at noon."}]
    p.admin("set login_notify_message = ''")
    c = p.login()
    assert c.notices == []
