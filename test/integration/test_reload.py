"""Reload: what it applies, what it leaves alone, what it refuses, what it tells; SET, and the dry run."""
import os
import random
import re
import signal
import threading

import pytest
from harness import procs, wire
from harness.pooler import binary
from harness.procs import wait_until
from test_pgbench import pgbench


def reload_with(p, how):
    mark = p.log_mark()
    if how == "SIGHUP":
        p.signal(signal.SIGHUP)
        p.wait_for_log("got SIGHUP, re-reading config", since=mark)
    else:
        p.admin("RELOAD")
    return mark


@pytest.mark.parametrize("how", ["SIGHUP", "RELOAD"])
def test_reload_applies(make_pooler, cluster, how):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login()
    pid = c.value("select pg_backend_pid()")
    p.databases["fresh"] = cluster.dsn(dbname="app")
    p.settings.update(query_wait_timeout=33, max_client_conn=77)
    p.write_files()
    reload_with(p, how)
    wait_until(lambda: p.config()["query_wait_timeout"] == "33", "the new value")
    assert p.login("app", "fresh").value("select 1") == "1"
    assert c.value("select pg_backend_pid()") == pid, "servers of unchanged databases are kept"


def test_omitted_setting_returns_to_its_default(make_pooler):
    p = make_pooler(settings={"query_wait_timeout": 33})
    del p.settings["query_wait_timeout"]
    p.write_files()
    p.admin("RELOAD")
    assert p.config()["query_wait_timeout"] == "120"


def test_removed_database(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn(), "old": cluster.dsn(dbname="app")})
    c, other = p.login("app", "old"), p.login()
    c.query("select 1")
    del p.databases["old"]
    p.write_files()
    p.admin("RELOAD")
    assert c.expect_error_close().text == "database removed"
    assert other.value("select 1") == "1"
    assert p.login_error("app", "old").text == "no such database: old"
    assert "old" not in [r["name"] for r in p.show("databases")]


def test_changed_target_recycles_servers(make_pooler, cluster, database):
    one, two = database(), database()
    p = make_pooler({"app": cluster.dsn(dbname=one)}, settings={"pool_mode": "transaction"})
    c, busy = p.login(), p.login()
    assert c.value("select current_database()") == one
    busy.query("begin")
    p.databases["app"] = cluster.dsn(dbname=two)
    p.write_files()
    p.admin("RELOAD")
    assert busy.value("select current_database()") == one, "a transaction ends where it began"
    busy.query("commit")
    assert c.value("select current_database()") == two
    assert busy.value("select current_database()") == two
    wait_until(lambda: cluster.backends(one) == 0, "the old servers are closed")


@pytest.mark.ours
@pytest.mark.parametrize("how", ["SIGHUP", "RELOAD"])
def test_broken_file_changes_nothing(make_pooler, cluster, how):
    p = make_pooler(
        {"app": cluster.dsn(), "two": cluster.dsn(dbname="app")},
        settings={"pool_mode": "transaction", "query_wait_timeout": 33},
    )
    conns = [p.login("app", "app"), p.login("app", "two")]
    pids = [c.value("select pg_backend_pid()") for c in conns]
    before = p.config()
    p.settings["query_wait_timeout"] = 44
    del p.databases["two"]
    p.settings["zzz_unknown"] = 1
    p.write_files()
    mark = p.log_mark()
    if how == "SIGHUP":
        p.signal(signal.SIGHUP)
    else:
        with pytest.raises(wire.PgError, match="RELOAD failed"):
            p.admin("RELOAD")
    line = p.ini_text().splitlines().index("zzz_unknown = 1") + 1
    p.wait_for_log(f"{p.ini}:{line}", since=mark)
    assert p.config() == before
    assert [c.value("select pg_backend_pid()") for c in conns] == pids
    assert p.login("app", "two").value("select 1") == "1"
    del p.settings["zzz_unknown"]
    p.write_files()
    p.admin("RELOAD")
    assert p.config()["query_wait_timeout"] == "44"


def test_restart_only_settings_are_kept(make_pooler):
    p = make_pooler()
    old = p.port
    p.settings["listen_port"] = old + 1
    p.write_files()
    p.admin("RELOAD")
    assert p.config()["listen_port"] == str(old)


def test_log_file_is_reopened(make_pooler):
    p = make_pooler(start=False)
    log = f"{p.dir}/own.log"
    p.settings["logfile"] = log
    p.start()
    wait_until(lambda: os.path.exists(log) and "process up" in open(log).read(), "the log file")
    os.rename(log, log + ".1")
    p.signal(signal.SIGHUP)
    p.wait_for_log("got SIGHUP")
    p.login().terminate()
    wait_until(lambda: os.path.exists(log) and "login attempt" in open(log).read(), "a new log file")
    assert "login attempt" not in open(log + ".1").read()


def test_reload_under_load(make_pooler, cluster):
    """Fifty reloads; no client may notice any of them."""
    p = make_pooler(settings={"pool_mode": "transaction", "log_connections": 0, "log_disconnections": 0}, threads=4)
    conns = [p.login() for _ in range(8)]
    for n in range(50):
        for c in conns:
            c.send(wire.query(f"select {n}"))
        p.settings["default_pool_size"] = 3 + n % 5
        p.databases["app"] = cluster.dsn(pool_size=3 + n % 4)
        p.write_files()
        p.signal(signal.SIGHUP)
        for c in conns:
            assert c.read_ready().rows == [[str(n)]]
    p.admin("RELOAD")
    p.wait_pool(sv_active=0, cl_active=8)


def test_limit_of_a_reload_counts_at_once(make_pooler):
    p = make_pooler()
    held = [p.login() for _ in range(3)]
    p.settings["max_client_conn"] = 3
    p.write_files()
    p.admin("RELOAD")
    assert p.login_error().text == "no more connections allowed (max_client_conn)"
    assert held[0].value("select 1") == "1"


# --- files


@pytest.mark.newer
def test_conffile_by_set(make_pooler):
    """SET conffile names the file of the next reload; the path is taken from the working directory."""
    p = make_pooler()
    p.settings["query_wait_timeout"] = 77
    p.write(f"{p.dir}/other.ini", p.ini_text())
    p.admin("SET conffile = 'other.ini'")
    assert p.config()["conffile"] == "other.ini"
    assert p.config()["query_wait_timeout"] == "120"
    p.admin("RELOAD")
    assert p.config()["query_wait_timeout"] == "77"
    assert p.config()["conffile"] == "other.ini"
    p.settings["query_wait_timeout"] = 78
    p.write(f"{p.dir}/other.ini", p.ini_text())
    p.admin("RELOAD")
    assert p.config()["query_wait_timeout"] == "78", "and it stays that file"


def test_set_is_lost_at_a_reload(make_pooler):
    p = make_pooler(settings={"query_wait_timeout": 33})
    before = p.config()
    p.admin("SET query_wait_timeout = 44")
    p.admin("SET query_timeout = 55")
    p.admin("SET server_reset_query = ''")
    assert (p.config()["query_wait_timeout"], p.config()["query_timeout"]) == ("44", "55")
    p.admin("RELOAD")
    assert p.config() == before


@pytest.mark.ours
def test_set_is_lost_where_the_default_is_unset(make_pooler):
    p = make_pooler()
    p.admin("SET auth_user = nobody")
    assert p.config()["auth_user"] == "nobody"
    p.admin("RELOAD")
    assert p.config()["auth_user"] is None


@pytest.mark.ours
def test_what_is_removed_is_forgotten(make_pooler, cluster):
    """A line of [users], the user= of a database and a setting without a default: not only until the next start."""
    p = make_pooler(
        {"app": cluster.dsn(user="app2")}, users={"app": "max_user_client_connections=1"}, settings={"verbose": 1}
    )
    c = p.login()
    assert c.value("select current_user") == "app2"
    p.databases["app"] = cluster.dsn()
    p.users, p.settings["verbose"] = {}, None
    del p.settings["verbose"]
    p.write_files()
    p.admin("RELOAD")
    assert p.login().value("select current_user") == "app"
    assert p.config()["verbose"] in (None, "0")


def logged(p, text, since=0):
    """Waits for exactly this text in the log."""
    p.wait_for_log(re.escape(text), since=since)


# --- values that go back


@pytest.mark.ours
def test_setting_without_a_default_becomes_unset_again(make_pooler):
    p = make_pooler(settings={"auth_user": "app"})
    del p.settings["auth_user"]
    p.write_files()
    p.admin("RELOAD")
    assert p.config()["auth_user"] is None


@pytest.mark.ours
def test_removed_entry_for_all_others(make_pooler, cluster):
    p = make_pooler({"*": cluster.dsn(dbname="app")})
    c = p.login("app", "any")
    c.query("select 1")
    del p.databases["*"]
    p.write_files()
    p.admin("RELOAD")
    assert c.expect_error_close().text == "database removed"
    assert p.login_error("app", "any").text == "no such database: any"


@pytest.mark.ours
def test_removed_user_line(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"}, users={"app": "pool_mode=session max_user_connections=1"})
    c = p.login()
    c.query("select 1")
    p.wait_pool(pool_mode="session")
    p.users.clear()
    p.write_files()
    p.admin("RELOAD")
    p.wait_pool(pool_mode="transaction")
    c.query("begin")
    assert p.login().value("select 1") == "1", "the limit of one server is gone as well"


# --- what stays


def test_pauses_and_disabled_databases_survive(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn(), "off": cluster.dsn(dbname="app")})
    p.admin("PAUSE app")
    p.admin("DISABLE off")
    p.settings["query_timeout"] = 9
    p.write_files()
    p.admin("RELOAD")
    rows = {r["name"]: r for r in p.show("databases")}
    assert (rows["app"]["paused"], rows["off"]["disabled"]) == (1, 1)
    p.admin("RESUME app")


@pytest.mark.parametrize(
    "extra", ["password=x", "pool_size=7", "pool_mode=transaction", "application_name=other", "server_lifetime=600"]
)
def test_servers_survive_changes_that_do_not_concern_them(make_pooler, cluster, extra):
    p = make_pooler({"app": cluster.dsn(user="app")})
    c = p.login()
    pid = c.value("select pg_backend_pid()")
    c.terminate()
    p.wait_pool(sv_idle=1)
    p.databases["app"] = cluster.dsn(user="app") + " " + extra
    p.write_files()
    p.admin("RELOAD")
    assert p.login().value("select pg_backend_pid()") == pid


@pytest.mark.ours
def test_restart_only_setting_is_reported(make_pooler):
    p = make_pooler()
    p.settings["listen_port"] = p.port + 1
    p.write_files()
    mark = p.log_mark()
    p.admin("RELOAD")
    logged(p, f"parameter listen_port takes effect at a restart only: {p.port} -> {p.port + 1}", since=mark)
    logged(p, "reload: settings: 1 at a restart only", since=mark)


# --- files that are included


def include_in(p, name, text):
    path = f"{p.dir}/{name}"
    p.write(path, text)
    return path


def test_included_file_is_read_again(make_pooler, cluster):
    p = make_pooler(start=False)
    sub = include_in(p, "sub.ini", f"[databases]\nsecond = {cluster.dsn(dbname='app')}\n")
    p.raw_ini = p.ini_text() + f"%include {sub}\n"
    p.start()
    assert p.login("app", "second").value("select 1") == "1"
    include_in(p, "sub.ini", f"[databases]\nthird = {cluster.dsn(dbname='app')}\n")
    p.admin("RELOAD")
    assert p.login("app", "third").value("select 1") == "1"
    assert p.login_error("app", "second").text == "no such database: second"


@pytest.mark.ours
@pytest.mark.parametrize("fault", ["gone", "broken"])
def test_bad_include_changes_nothing(make_pooler, cluster, fault):
    p = make_pooler(start=False)
    sub = include_in(p, "sub.ini", f"[databases]\nsecond = {cluster.dsn(dbname='app')}\n")
    text = p.ini_text()
    p.raw_ini = text + f"%include {sub}\n"
    p.start()
    p.raw_ini = text.replace("[databases]", "query_timeout = 9\n[databases]") + f"%include {sub}\n"
    p.write_files()
    if fault == "gone":
        os.unlink(sub)
    else:
        include_in(p, "sub.ini", "[databases]\n\nsecond = hots=x\n")
    mark = p.log_mark()
    with pytest.raises(wire.PgError, match="RELOAD failed"):
        p.admin("RELOAD")
    line = p.raw_ini.splitlines().index(f"%include {sub}") + 1
    logged(p, f"error processing include file in configuration ({p.ini}:{line}), stopping loading", since=mark)
    if fault == "broken":
        logged(p, f'invalid value "hots=x" for parameter second in configuration ({sub}:3)', since=mark)
    assert p.config()["query_timeout"] == "0"
    assert p.login("app", "second").value("select 1") == "1"


# --- failure


@pytest.mark.ours
def test_failure_under_the_style_of_pgbouncer(make_pooler):
    p = make_pooler()
    p.settings["pool_mod"] = "session"
    p.write_files()
    e = p.login("admin", "pgbouncer").query("RELOAD").error
    assert e.fields == {
        "S": "ERROR",
        "C": "F0000",
        "M": "RELOAD failed, see logs for additional details",
    }


@pytest.mark.ours
def test_failure_under_the_style_of_postgres(make_pooler):
    p = make_pooler(profile="pgsluice")
    p.settings["pool_mod"] = "session"
    p.settings["listen_port"] = "70000"
    p.write_files()
    e = p.login("admin", "pgsluice").query("RELOAD").error
    line = p.ini_text().splitlines().index("pool_mod = session") + 1
    first = p.ini_text().splitlines().index("listen_port = 70000") + 1
    assert (e.code, e.text) == ("F0000", "RELOAD failed, see logs for additional details")
    assert e.fields["D"] == f'invalid value "70000" for parameter listen_port ({p.ini}:{first})'
    assert e.fields["H"] == "listen_port is a whole number from 1 to 65535"
    logged(p, f'invalid value "session" for parameter pool_mod in configuration ({p.ini}:{line})')
    logged(p, "hint: did you mean pool_mode?")


@pytest.mark.ours
def test_the_other_profile_needs_a_restart(make_pooler):
    p = make_pooler()
    p.profile = "pgsluice"
    p.write_files()
    with pytest.raises(wire.PgError, match="RELOAD failed"):
        p.admin("RELOAD")
    logged(p, "the file has [pgsluice], but this process was started with [pgbouncer]")
    assert p.login().value("select 1") == "1"


@pytest.mark.ours
def test_peers_survive_a_failed_reload(make_pooler):
    p = make_pooler(start=False)
    text = p.ini_text() + "[peers]\n7 = host=127.0.0.1\n"
    p.raw_ini = text
    p.start()
    p.raw_ini = text.replace("[peers]", "[peers]\n8 = host=127.0.0.1\nnonsense")
    p.write_files()
    with pytest.raises(wire.PgError, match="RELOAD failed"):
        p.admin("RELOAD")
    assert [r["peer_id"] for r in p.show("peers")] == [7]


# --- what is told


def changes(p, database="pgbouncer"):
    """The rows of RELOAD DRY RUN."""
    result = p.login("admin", database).query("RELOAD DRY RUN")
    if result.error:
        raise result.error
    assert result.tag == "RELOAD DRY RUN"
    assert [name for name, _ in result.columns] == [
        "action",
        "object",
        "name",
        "detail",
        "takes_effect",
        "servers",
        "clients",
    ]
    return [tuple(row) for row in result.rows]


def in_force(p):
    """Settings, databases and users as SHOW has them, without what moves by itself."""
    dbs = [{k: v for k, v in r.items() if "current" not in k} for r in p.show("databases")]
    return p.config(), dbs, [(r["name"], r["pool_size"]) for r in p.show("users")]


def change_a_lot(p, cluster):
    """One of each kind, on top of databases app, moved and gone and a user bob."""
    p.settings["query_timeout"] = 9
    p.settings["listen_port"] = p.port + 1
    p.databases["moved"] = cluster.dsn(dbname="app", connect_query="'select 1'")
    p.databases["fresh"] = cluster.dsn(dbname="app")
    del p.databases["gone"]
    p.users["app"] = "pool_size=4"
    p.secrets["app"] = "other"
    del p.secrets["bob"]
    p.write_files()


@pytest.fixture
def changeable(make_pooler, cluster):
    def make(profile):
        dsn = cluster.dsn(dbname="app")
        p = make_pooler(
            {"app": cluster.dsn(), "moved": dsn, "gone": dsn},
            profile=profile,
            secrets={"admin": "adminpw", "app": "", "bob": "x"},
        )
        p.held = [p.login("app", name) for name in ("app", "moved", "gone", "gone")]
        for c in p.held:
            c.query("select 1")
        return p

    return make


@pytest.mark.ours
@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
def test_dry_run_tells_and_changes_nothing(changeable, cluster, profile):
    p = changeable(profile)
    before = in_force(p)
    assert changes(p) == []
    change_a_lot(p, cluster)
    rows = changes(p)
    port = str(p.port)
    assert [(r[0], r[1], r[2]) + r[4:] for r in rows] == [
        ("change", "setting", "listen_port", "restart", "0", "0"),
        ("change", "setting", "query_timeout", "now", "0", "0"),
        ("add", "database", "fresh", "now", "0", "0"),
        ("remove", "database", "gone", "now", rows[3][5], "2"),
        ("change", "database", "moved", "now, new servers", "1", "0"),
        ("add", "user", "app", "now", "0", "0"),
        ("change", "login", "app", "now", "0", "0"),
        ("remove", "login", "bob", "now", "0", "0"),
    ]
    assert rows[0][3] == f"{port} -> {p.port + 1}" and rows[1][3] == "0 -> 9"
    assert rows[4][3] == "connect_query unset -> 'select 1'" and rows[5][3] == "pool_size=4"
    assert not any("other" in r[3] for r in rows), "no secrets"
    assert in_force(p) == before
    assert [c.value("select 1") for c in p.held] == ["1"] * 4
    p.admin("RELOAD")
    assert [r[2] for r in changes(p)] == ["listen_port"], "what needs a restart is still open"


@pytest.mark.ours
def test_dry_run_counts_what_the_entry_for_all_others_has_made(make_pooler, cluster):
    p = make_pooler({"*": cluster.dsn(dbname="app")})
    held = [p.login("app", name) for name in ("one", "two")]
    assert [c.value("select 1") for c in held] == ["1", "1"]
    p.settings["query_timeout"] = 9
    p.write_files()
    assert [r[2] for r in changes(p)] == ["query_timeout"]
    p.databases["*"] = cluster.dsn(dbname="app", connect_query="'select 1'")
    p.databases["two"] = cluster.dsn(dbname="app")
    p.write_files()
    assert [(r[0], r[2]) + r[4:] for r in changes(p) if r[1] == "database"] == [
        ("add", "two", "now", "0", "0"),
        ("change", "*", "now, new servers", "1", "0"),
    ]
    p.databases.clear()
    p.write_files()
    assert [(r[0], r[2]) + r[4:] for r in changes(p) if r[1] == "database"] == [("remove", "*", "now", "2", "2")]
    assert [c.value("select 1") for c in held] == ["1", "1"]


@pytest.mark.ours
def test_reload_under_pgbouncer_answers_with_the_tag_alone(changeable, cluster):
    p = changeable("pgbouncer")
    change_a_lot(p, cluster)
    assert p.login("admin", "pgbouncer").query("RELOAD").types == "CZ"
    logged(p, "reload: settings: 1 changed, 1 at a restart only; databases: 1 added, 1 changed, 1 removed")


@pytest.mark.ours
def test_reload_under_pgsluice_tells_what_has_changed(changeable, cluster):
    p = changeable("pgsluice")
    change_a_lot(p, cluster)
    console = p.login("admin", "pgsluice")
    result = console.query("RELOAD")
    assert (result.types, result.tag) == ("NCZ", "RELOAD")
    (notice,) = result.notices
    assert (notice["S"], notice["C"]) == ("NOTICE", "00000")
    assert re.fullmatch(
        "settings: 1 changed, 1 at a restart only; databases: 1 added, 1 changed, 1 removed; users: 1 added; "
        "logins: 1 changed, 1 removed; connections affected: [23] to servers, 2 of clients",
        notice["M"],
    )
    lines = notice["D"].splitlines()
    assert lines[:2] == [
        f"change setting listen_port: {p.port} -> {p.port + 1} (restart)",
        "change setting query_timeout: 0 -> 9 (now)",
    ]
    assert "change login app (now)" in lines and len(lines) == 8
    (notice,) = console.query("RELOAD").notices
    assert notice["M"] == "settings: 1 at a restart only"


@pytest.mark.ours
def test_reload_without_a_change(make_pooler):
    p = make_pooler(profile="pgsluice")
    (notice,) = p.login("admin", "pgsluice").query("RELOAD").notices
    assert notice["M"] == "nothing has changed" and "D" not in notice
    logged(p, "reload: nothing has changed")


@pytest.mark.ours
def test_a_long_list_of_changes_is_cut_in_the_notice_only(make_pooler, cluster):
    p = make_pooler(profile="pgsluice")
    for i in range(120):
        p.databases[f"db{i:03}"] = cluster.dsn(dbname="app")
    p.write_files()
    assert len(changes(p)) == 120
    (notice,) = p.login("admin", "pgsluice").query("RELOAD").notices
    lines = notice["D"].splitlines()
    assert len(lines) == 51 and lines[-1] == "and 70 more"


@pytest.mark.ours
def test_dry_run_shows_the_end_of_a_set(make_pooler):
    p = make_pooler()
    p.admin("SET query_timeout = 5")
    assert changes(p) == [("change", "setting", "query_timeout", "5 -> 0", "now", "0", "0")]


@pytest.mark.ours
def test_dry_run_of_a_bad_file(make_pooler):
    p = make_pooler()
    before = p.config()
    p.settings["pool_mod"] = "session"
    p.settings["query_timeout"] = 9
    p.write_files()
    line = p.ini_text().splitlines().index("pool_mod = session") + 1
    with pytest.raises(wire.PgError) as e:
        changes(p)
    assert e.value.code == "F0000"
    assert e.value.text == f"RELOAD would fail: unknown parameter: pgbouncer/pool_mod ({p.ini}:{line})"
    assert p.config() == before


@pytest.mark.ours
def test_dry_run_in_psql(make_pooler):
    p = make_pooler()
    p.settings["query_timeout"] = 9
    p.write_files()
    done = p.psql("-c", "RELOAD DRY RUN;", dbname="pgbouncer", user="admin", PGPASSWORD="adminpw")
    assert done.stdout == "change|setting|query_timeout|0 -> 9|now|0|0\n"


# --- --check --diff


def check_diff(p, *args):
    """Status and changes of --check --diff, as the user of the pooler."""
    done = procs.run([binary(), "--check", *args], check=False)
    rows = [line.split("\t") for line in done.stdout.splitlines() if not line.startswith("#")]
    assert all(r[0] == "change" for r in rows), done.stdout
    return done.returncode, [tuple(r[1:6]) for r in rows], done.stdout + done.stderr


@pytest.mark.ours
def test_diff_with_the_running_instance(make_pooler):
    p = make_pooler()
    assert check_diff(p, "--diff", p.ini)[:2] == (0, [])
    p.admin("SET query_timeout = 5")
    assert check_diff(p, "--diff", p.ini)[:2] == (2, [("change", "setting", "query_timeout", "5 -> 0", "now")])
    p.write(p.ini, p.ini_text() + "[nonsense]\n")
    status, rows, text = check_diff(p, "--diff", p.ini)
    assert (status, rows) == (1, []) and 'invalid section "nonsense"' in text
    assert p.config()["query_timeout"] == "5"


@pytest.mark.ours
def test_diff_asks_nobody_else(make_pooler):
    p = make_pooler()
    copy = f"{p.dir}/copy.ini"
    p.write(copy, p.ini_text())
    status, rows, text = check_diff(p, "--diff", copy)
    assert status == 1 and f"the running instance reads {p.ini}, not {copy}" in text
    p.stop()
    status, rows, text = check_diff(p, "--diff", p.ini)
    assert status == 1 and "no running instance lets us in" in text


@pytest.mark.ours
def test_diff_of_two_files(make_pooler, cluster):
    p = make_pooler(start=False)
    p.write_files()
    old = f"{p.dir}/old.ini"
    p.write(old, p.ini_text())
    assert check_diff(p, f"--diff={old}", p.ini)[:2] == (0, [])
    p.settings["query_timeout"] = 9
    p.databases["fresh"] = "host=h"
    p.write_files()
    assert check_diff(p, f"--diff={old}", p.ini)[:2] == (
        2,
        [
            ("change", "setting", "query_timeout", "0 -> 9", "now"),
            ("add", "database", "fresh", "dbname=fresh host=h port=5432", "now"),
        ],
    )
    assert check_diff(p, "--diff=/nonexistent", p.ini)[0] == 1


# --- auth_file


def rewrite_unseen(path, text):
    """New content of the same length, and everything that stat() shows as before, time included."""
    st = os.stat(path)
    with open(path, "r+") as f:
        assert len(f.read()) == len(text)
        f.seek(0)
        f.write(text)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def test_auth_file_is_read_again_only_when_it_was_written(make_pooler):
    p = make_pooler(settings={"auth_type": "md5"}, secrets={"admin": "adminpw", "app": "one"})
    with open(p.userlist) as f:
        text = f.read()
    rewrite_unseen(p.userlist, text.replace('"one"', '"two"'))
    p.admin("RELOAD")
    assert p.login(password="one").value("select 1") == "1"
    os.utime(p.userlist)
    p.admin("RELOAD")
    assert p.login(password="two").value("select 1") == "1"
    assert p.login_error(password="one").text == "password authentication failed"


def test_set_does_not_read_another_auth_file(make_pooler):
    p = make_pooler(settings={"auth_type": "md5"}, secrets={"admin": "adminpw", "app": "one"})
    p.admin("SET auth_file = '/nonexistent/users'")
    assert p.login(password="one").value("select 1") == "1"


def test_missing_auth_file_leaves_the_users(make_pooler):
    p = make_pooler(settings={"auth_type": "md5"}, secrets={"admin": "adminpw", "app": "one"})
    os.unlink(p.userlist)
    mark = p.log_mark()
    p.settings["query_timeout"] = 9
    p.write(p.ini, p.ini_text())
    assert p.admin("RELOAD") == "RELOAD"
    logged(p, f"ERROR could not open auth_file {p.userlist}: No such file or directory", since=mark)
    assert p.config()["query_timeout"] == "9"
    assert p.login(password="one").value("select 1") == "1"


@pytest.mark.ours
def test_deleted_user_is_a_stranger_under_trust(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn(user="app")}, settings={"auth_type": "trust"}, secrets={"admin": "", "gone": ""})
    stays = p.login("gone")
    del p.secrets["gone"]
    p.write_files()
    p.admin("RELOAD")
    assert p.login_error("gone").text == '"trust" authentication failed'
    assert stays.value("select 1") == "1", "who is connected stays"


@pytest.mark.ours
def test_deleted_user_is_asked_for(make_pooler, cluster):
    """Whom auth_file does not know any more the database is asked for, like anybody else."""
    p = make_pooler(
        {"app": cluster.dsn()},
        settings={"auth_type": "md5", "auth_user": "postgres", "auth_query": "select $1::text, 'from the query'::text"},
        secrets={"admin": "adminpw", "postgres": "", "app": "from the file"},
    )
    assert p.login(password="from the file").value("select 1") == "1"
    del p.secrets["app"]
    p.write_files()
    p.admin("RELOAD")
    assert p.login_error(password="from the file").text == "password authentication failed"
    assert p.login(password="from the query").value("select 1") == "1"


def test_broken_auth_file_counts_up_to_the_fault(make_pooler):
    p = make_pooler(settings={"auth_type": "md5"}, secrets={"admin": "adminpw", "app": "one"})
    p.raw_secrets = '"admin" "adminpw"\n"app" "two"\nbroken\n"late" "x"\n'
    p.write_files()
    mark = p.log_mark()
    assert p.admin("RELOAD") == "RELOAD"
    logged(p, "ERROR broken auth file", since=mark)
    assert p.login(password="two").value("select 1") == "1"
    assert p.login_error("late", password="x").text == "password authentication failed"


# --- SET


@pytest.mark.parametrize(
    "command, key, shown",
    [
        ("log_stats = 0", "log_stats", "0"),
        ("default_pool_size = 0x10", "default_pool_size", "16"),
        ("max_packet_size = 65536", "max_packet_size", "65536"),
        ("query_timeout = '1.5'", "query_timeout", "1.5"),
        ("server_lifetime TO 1000000", "server_lifetime", "1e+06"),
        ("pool_mode = Transaction", "pool_mode", "transaction"),
        ("server_reset_query = 'select ''x'', 1'", "server_reset_query", "select 'x', 1"),
        ("ignore_startup_parameters = 'a, b  c'", "ignore_startup_parameters", "a, b  c"),
        ('"query_timeout" = "7"', "query_timeout", "7"),
        ("verbose = 0", "verbose", "0"),
    ],
)
def test_set_of_each_type(pooler, command, key, shown):
    value = re.split(r" = | TO ", command)[1].strip("'\"").replace("''", "'")
    assert pooler.admin(f"SET {command}") == f"SET {key}={value}"
    assert pooler.config()[key] == shown


@pytest.mark.parametrize(
    "command",
    [
        "nonsense = 1",
        "log_stats = x",
        "default_pool_size = '1x'",
        "max_packet_size = ''",
        "query_timeout = '-1'",
        "query_timeout = '1s'",
        "pool_mode = wild",
    ],
)
def test_set_refuses(pooler, command):
    before = pooler.config()
    with pytest.raises(wire.PgError) as e:
        pooler.admin(f"SET {command}")
    assert (e.value.severity, e.value.code, e.value.text) == ("ERROR", "08P01", "SET failed")
    assert pooler.config() == before


@pytest.mark.parametrize("key", ["listen_port", "unix_socket_dir", "pidfile"])
def test_set_of_a_restart_only_setting_succeeds_without_effect(pooler, key):
    before = pooler.config()
    assert pooler.admin(f"SET {key} = 1") == f"SET {key}=1"
    assert pooler.config() == before


def test_set_counts_for_sessions_that_are_there(make_pooler):
    p = make_pooler()
    c = p.login()
    pid = c.value("select pg_backend_pid()")
    c.query("begin")
    p.admin("SET pool_mode = transaction")
    c.query("commit")
    p.wait_pool(sv_active=0, sv_idle=1)
    assert p.login().value("select pg_backend_pid()") == pid


# --- all at once


@pytest.mark.parametrize("threads", [1, 4])
def test_reloads_and_settings_while_pgbench_runs(make_pooler, cluster, database, threads):
    """Reloads that change sizes, databases and users; no client may notice, and nothing may be left over."""
    db = database(template="bench")
    p = make_pooler(
        {"bench": cluster.dsn(dbname=db)},
        settings={"pool_mode": "transaction", "log_connections": 0, "log_disconnections": 0},
        threads=threads,
    )
    result = []

    def run():
        try:
            result.append(pgbench(p, "bench", "-c", "8", "-j", "2", "-t", "150", "-S"))
        except AssertionError as e:
            result.append(e)

    load = threading.Thread(target=run)
    load.start()
    rng = random.Random(threads)
    console = p.console()
    rounds = 0
    while rounds < 20 or load.is_alive():
        p.settings["default_pool_size"] = rng.randint(1, 10)
        p.databases["bench"] = cluster.dsn(dbname=db, pool_size=rng.randint(1, 8))
        p.databases[f"other{rounds % 3}"] = cluster.dsn(dbname=f"x{rounds}")
        p.users["app"] = f"reserve_pool_size={rng.randint(0, 3)}"
        p.secrets[f"user{rounds % 5}"] = str(rounds)
        p.write_files()
        assert console.run("RELOAD") == "RELOAD"
        assert console.run(f"SET query_wait_timeout = {rng.randint(60, 120)}")
        console.run("RELOAD DRY RUN")
        rounds += 1
    load.join()
    assert result == [8 * 150]
    p.wait_pool(database="bench", cl_active=0, cl_waiting=0, sv_active=0)


def test_changed_target_greets_anew(make_pooler, fake_server):
    """Who logs in after the change is greeted as the new server does it, even while the old ones are busy."""

    def server(version):
        def handler(conn, params):
            conn.greet({"server_version": version})
            while conn.recv().type != "X":
                conn.send(wire.answer(version, b"T"))

        return fake_server(handler)

    old, new = server("14.1"), server("15.2")
    p = make_pooler({"app": old.dsn(pool_size=1)}, settings={"pool_mode": "transaction"})
    busy = p.login()
    assert busy.value("begin") == busy.params["server_version"] == "14.1"
    p.databases["app"] = new.dsn(pool_size=1)
    p.write_files()
    p.admin("RELOAD")
    c = p.login()
    assert c.params["server_version"] == "15.2"
    assert busy.value("select 1") == "14.1" and c.value("select 1") == "15.2"
