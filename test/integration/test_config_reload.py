"""The ini file: its dialect, profiles, --check."""
import os

import pytest
from harness import procs, wire
from harness.pooler import binary


def start_fails(p):
    """The pooler must refuse to start: exit status 1 with a FATAL line. Its output comes back."""
    p.start(wait=False)
    assert p.wait_exit() == 1
    p.proc = None
    text = p.log_text()
    assert "FATAL cannot load config file" in text, text
    return text


# --- the dialect


@pytest.mark.newer
def test_comments_spaces_and_case(make_pooler, cluster):
    p = make_pooler(start=False)
    p.raw_ini = f"""
; a comment
# another
  [pgbouncer]
\tlisten_addr=127.0.0.1
   listen_port   =   {p.port}   \r
unix_socket_dir = {p.dir}
auth_type = TRUST
auth_file = {p.userlist}
admin_users = admin, other  third
server_reset_query = DISCARD ALL ; not a comment
[databases]
app = {cluster.dsn()}
'my db' = {cluster.dsn(dbname="app")}
quoted = {cluster.dsn(dbname="'app'")}
"""
    p.start()
    assert p.login("app", "my db").value("select current_database()") == "app"
    assert p.login("app", "quoted").value("select current_database()") == "app"
    assert p.config()["server_reset_query"] == "DISCARD ALL ; not a comment"


def test_include(make_pooler, cluster):
    p = make_pooler(start=False)
    p.write(f"{p.dir}/db.ini", f"[databases]\nsecond = {cluster.dsn(dbname='app')}\n")
    p.settings["default_pool_size"] = 3
    p.raw_ini = p.ini_text() + f"%include {p.dir}/db.ini\nthird = {cluster.dsn(dbname='app')}\n"
    p.start()
    for name in ("app", "second", "third"):
        assert p.login("app", name).value("select 1") == "1"


@pytest.mark.parametrize(
    "text",
    [
        "[pgbouncer]\nnonsense = 1\n",
        "[pgbouncer]\npool_mode = wild\n",
        "[pgbouncer]\nlisten_port = abc\n",
        "[pgbouncer]\nquery_timeout = 1min\n",
        "[pgbouncer]\nlisten_port\n",
        "[unknown]\n",
        "listen_port = 1\n",
        "[databases]\n",
        "[pgbouncer\n",
        "[pgbouncer]\n[databases]\nx = hots=1\n",
        "[pgbouncer]\n[databases]\nx = port=0\n",
        "[pgbouncer]\n[databases]\npgbouncer = port=5432\n",
        "[pgbouncer]\n[users]\nu = nonsense=1\n",
        "[pgbouncer]\n%include /nonexistent\n",
    ],
    ids=lambda t: t.strip().splitlines()[-1],
)
def test_bad_files(make_pooler, text):
    p = make_pooler(start=False, raw_ini=text)
    start_fails(p)


@pytest.mark.ours
def test_place_of_an_error(make_pooler):
    p = make_pooler(start=False)
    p.raw_ini = "[pgbouncer]\npool_mode = session\n\npool_mod = session\n"
    text = start_fails(p)
    assert f"{p.ini}:4" in text
    assert "unknown parameter: pgbouncer/pool_mod" in text


def test_missing_file(make_pooler):
    p = make_pooler(start=False)
    p.write_files()
    done = procs.run([binary(), p.dir + "/absent.ini"], check=False)
    assert done.returncode == 1 and "absent.ini" in done.stderr


def test_includes_are_relative_to_the_working_directory(make_pooler, cluster):
    """Not to the file that includes them; the section goes on behind."""
    p = make_pooler(start=False)
    os.mkdir(f"{p.dir}/conf.d")
    p.write(f"{p.dir}/conf.d/one.ini", "%include conf.d/two.ini\nmax_client_conn = 66\n")
    p.write(f"{p.dir}/conf.d/two.ini", "default_pool_size = 4\n")
    text = p.ini_text().replace("[databases]", "%include conf.d/one.ini\nquery_wait_timeout = 9\n[databases]")
    p.raw_ini = text
    p.start()
    config = p.config()
    assert [config[k] for k in ("default_pool_size", "max_client_conn", "query_wait_timeout")] == ["4", "66", "9"]


def test_second_header_resets_what_stood_before(make_pooler):
    p = make_pooler(start=False, settings={"default_pool_size": 4})
    again = p.ini_text().replace("default_pool_size = 4", "max_client_conn = 66")
    p.raw_ini = p.ini_text() + again
    p.start()
    assert (p.config()["default_pool_size"], p.config()["max_client_conn"]) == ("20", "66")


def test_numbers_in_c_notation(make_pooler):
    """Octal and hexadecimal are read, and shown as decimals; times are shown with six digits."""
    p = make_pooler(
        settings={
            "unix_socket_mode": "0700",
            "default_pool_size": "0x10",
            "min_pool_size": "010",
            "server_round_robin": 2,
            "server_lifetime": 1000000,
            "server_idle_timeout": "1.50",
            "query_wait_timeout": "1e2",
        }
    )
    config = p.config()
    assert config["unix_socket_mode"] == str(0o700)
    assert (config["default_pool_size"], config["min_pool_size"], config["server_round_robin"]) == ("16", "8", "2")
    assert (config["server_lifetime"], config["server_idle_timeout"]) == ("1e+06", "1.5")
    assert config["query_wait_timeout"] == "100"


# --- profiles and --check


@pytest.mark.ours
def test_profiles(make_pooler):
    for profile, expected in (
        ("pgbouncer", ("session", "100", "md5")),
        ("pgsluice", ("transaction", "10000", "scram-sha-256")),
    ):
        p = make_pooler(profile=profile, settings={"auth_type": None})
        with wire.Conn.tcp(p.port) as c:
            c.login("admin", "pgbouncer", "adminpw")
            rows = {r[0]: r for r in c.query("SHOW CONFIG").rows}
        assert tuple(rows[k][1] for k in ("pool_mode", "max_client_conn", "auth_type")) == expected
        assert tuple(rows[k][2] for k in ("pool_mode", "max_client_conn", "auth_type")) == expected


@pytest.mark.ours
def test_every_setting_is_allowed_under_both_profiles(make_pooler):
    for profile in ("pgbouncer", "pgsluice"):
        p = make_pooler(
            profile=profile,
            settings={"pool_mode": "session", "threads": 2, "query_timeout_action": "cancel", "max_client_conn": 7},
        )
        config = p.config()
        assert (config["pool_mode"], config["threads"], config["query_timeout_action"], config["max_client_conn"]) == (
            "session",
            "2",
            "cancel",
            "7",
        )


@pytest.mark.ours
def test_check(make_pooler):
    p = make_pooler(start=False, settings={"default_pool_size": 7})
    p.write_files()
    done = procs.run([binary(), "--check", p.ini])
    lines = [line.split("\t") for line in done.stdout.splitlines() if not line.startswith("#")]
    assert any("default_pool_size" in fields and "7" in fields for fields in lines), done.stdout
    assert any("app" in fields for fields in lines), done.stdout
    assert not os.path.exists(p.pidfile), "a check starts nothing"
    p.write(p.ini, "[pgbouncer]\npool_mode = session\nno_such_setting = 1\n")
    done = procs.run([binary(), "--check", p.ini], check=False)
    assert done.returncode == 1
    assert f"{p.ini}:3" in done.stdout + done.stderr and "no_such_setting" in done.stdout + done.stderr


@pytest.mark.ours
def test_check_passes_on_every_profile_and_header(make_pooler):
    for profile in ("pgbouncer", "pgsluice"):
        p = make_pooler(start=False, profile=profile)
        p.write_files()
        assert procs.run([binary(), "--check", p.ini]).returncode == 0
