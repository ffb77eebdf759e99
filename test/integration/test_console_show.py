"""SHOW on the console: the exact columns and types of every result, and what the figures say."""
import re
import struct
import time

import pytest
from harness import wire
from harness.pooler import is_pgbouncer
from harness.procs import wait_until
from harness.wire import PgError

T, I, Q, N = 25, 23, 20, 1700


def typed(oid, names):
    return [(n, oid) for n in names.split()]


SOCKET = (
    typed(T, "type user database replication state addr")
    + typed(I, "port")
    + typed(T, "local_addr")
    + typed(I, "local_port")
    + typed(T, "connect_time request_time")
    + typed(I, "wait wait_us close_needed")
    + typed(T, "ptr link")
    + typed(I, "remote_pid")
    + typed(T, "tls application_name")
    + typed(I, "prepared_statements id")
)
COUNTERS = (
    "server_assignment_count xact_count query_count received sent xact_time query_time wait_time client_parse_count "
    "server_parse_count bind_count client_login_count"
).split()

COLUMNS = {
    "VERSION": typed(T, "version"),
    "STATE": typed(T, "key value"),
    "CONFIG": typed(T, "key value default changeable"),
    "DATABASES": (
        typed(T, "name host")
        + typed(I, "port")
        + typed(T, "database force_user")
        + typed(I, "pool_size min_pool_size reserve_pool_size server_lifetime")
        + typed(T, "pool_mode load_balance_hosts")
        + typed(
            I, "max_connections current_connections max_client_connections current_client_connections paused disabled"
        )
    ),
    "POOLS": (
        typed(T, "database user")
        + typed(
            I,
            "cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel "
            "sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us",
        )
        + typed(T, "pool_mode load_balance_hosts")
    ),
    "CLIENTS": SOCKET,
    "SERVERS": SOCKET,
    "USERS": (
        typed(T, "name pool_size reserve_pool_size pool_mode")
        + typed(I, "max_user_connections current_connections max_user_client_connections current_client_connections")
    ),
    "LISTS": typed(T, "list") + typed(I, "items"),
    "MEM": typed(T, "name") + typed(I, "size used free memtotal"),
    "STATS": typed(T, "database")
    + [(f"total_{c}", N) for c in COUNTERS]
    + [("avg_" + {"received": "recv"}.get(c, c), N) for c in COUNTERS],
    "STATS_TOTALS": typed(T, "database")
    + typed(
        N,
        "server_assignment_count xact_count query_count bytes_received bytes_sent xact_time "
        "query_time wait_time client_parse_count server_parse_count bind_count client_login_count",
    ),
    "STATS_AVERAGES": typed(T, "database")
    + typed(
        N,
        "server_assignment_count xact_count query_count bytes_received bytes_sent xact_time "
        "query_time wait_time avg_client_parse_count avg_server_parse_count avg_bind_count "
        "avg_client_login_count",
    ),
    "TOTALS": typed(T, "name") + typed(N, "value"),
}


# What is behind these under [pgsluice].
OWN = {
    "POOLS": typed(Q, "estimated_ms"),
    "CLIENTS": typed(Q, "position age_ms deadline_ms estimated_ms"),
}


@pytest.mark.newer
@pytest.mark.parametrize("what", COLUMNS)
def test_columns(make_pooler, what):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login()
    c.query("select 1")
    result = p.console().raw_show(what)
    assert result.columns == COLUMNS[what]
    assert result.tag == "SHOW" and result.status == "I"
    assert result.rows or what in ("PEERS",)
    description = [m for m in result.messages if m.type == "T"][0].body
    pos = 2
    for name, _ in result.columns:
        pos = description.index(b"\0", pos) + 1
        table, attno, _, size, typmod, fmt = struct.unpack("!ihihih", description[pos : pos + 18])
        assert (table, typmod, fmt) == (0, -1, 0), name
        pos += 18


@pytest.mark.ours
def test_columns_of_our_own(make_pooler):
    """They stand at the end, and only under our own profile."""
    p = make_pooler(profile="pgsluice")
    p.login().query("select 1")
    console = p.console()
    for what, columns in COLUMNS.items():
        result = console.raw_show(what)
        assert result.columns == columns + OWN.get(what, []), what
        assert {len(row) for row in result.rows} == {len(result.columns)}, what


@pytest.mark.ours
def test_more_pools_than_a_thread_looks_at_in_one_turn(make_pooler, fake_server):
    """Each has its own figures, once."""
    server = fake_server(lambda c, params: wire.serve_queries(c, lambda sql: wire.answer("ok")))
    names = [f"db{i:03}" for i in range(200)]
    settings = {"pool_mode": "transaction", "max_client_conn": 300, "server_check_query": ""}
    p = make_pooler({name: server.dsn() for name in names}, settings=settings, threads=1)
    clients = [p.login(database=name) for name in names]
    clients += [p.login(database=name) for name in names[::3]]
    console = p.console()
    wait_until(lambda: sum(r["sv_idle"] for r in p.show("pools")) == len(names), "all servers to be idle")
    rows = {r["database"]: r for r in console.show("pools") if r["database"] != "pgbouncer"}
    assert sorted(rows) == names
    for i, name in enumerate(names):
        assert (rows[name]["cl_active"], rows[name]["sv_idle"]) == (1 + (i % 3 == 0), 1), name


def test_every_show_answers(pooler):
    """In any case, with blanks and a semicolon around it; SELECT is another word for SHOW."""
    console = pooler.console()
    for what in COLUMNS:
        if what == "STATE" and is_pgbouncer():
            continue
        result = console.raw_show(what)
        assert result.tag == "SHOW", what
        assert console.conn.query(f"  show {what.lower()} ;\n").columns == result.columns
        assert console.conn.query(f"SELECT {what}").columns == result.columns, what


def test_help(pooler):
    result = pooler.console().conn.query("SHOW HELP")
    assert result.tag == "SHOW" and not result.rows
    notice = result.notices[0]
    assert (notice["S"], notice["C"], notice["M"]) == ("NOTICE", "00000", "Console usage")
    for word in (
        "SHOW",
        "SET",
        "RELOAD",
        "PAUSE",
        "RESUME",
        "SHUTDOWN",
        "POOLS",
        "CLIENTS",
        "SERVERS",
        "STATS",
        "CONFIG",
    ):
        assert word in notice["D"], word


def test_version_equals_the_command_line(pooler):
    from harness.pooler import binary
    from harness.procs import run

    first = run(["bash", "-c", f"exec -a pgbouncer {binary()} --version"]).stdout.splitlines()[0]
    assert first.startswith("PgBouncer 1.25.2 (pgsluice ")
    assert pooler.show("version") == [{"version": first}]
    assert pooler.console().conn.params["server_version"] == "1.25.2/bouncer"


@pytest.mark.ours
def test_version_of_its_own_profile(make_pooler):
    from harness.pooler import binary
    from harness.procs import run

    pooler = make_pooler(profile="pgsluice")
    first = run([binary(), "--version"]).stdout.splitlines()[0]
    assert first.startswith("pgsluice ")
    assert pooler.show("version") == [{"version": first}]


@pytest.mark.ours
def test_select_1_asks_whether_a_session_is_alive(make_pooler):
    """Of drivers and monitors; under [pgbouncer] it is no command, as in the reference."""
    assert make_pooler(profile="pgsluice").console().raw_show("1").rows == [["1"]]
    result = make_pooler().console().conn.query("SELECT 1")
    assert result.error.text == "invalid command 'SELECT 1', use SHOW HELP;"


@pytest.mark.newer
def test_state(make_pooler):
    p = make_pooler()
    c = p.console()
    assert c.show("state") == [
        {"key": "active", "value": "yes"},
        {"key": "paused", "value": "no"},
        {"key": "suspended", "value": "no"},
    ]
    c.run("PAUSE")
    assert c.show("state") == [
        {"key": "active", "value": "no"},
        {"key": "paused", "value": "yes"},
        {"key": "suspended", "value": "no"},
    ]


@pytest.mark.newer
def test_databases(make_pooler, cluster):
    p = make_pooler(
        {
            "b": f"port={cluster.port}",
            "a": cluster.dsn(
                dbname="app",
                user="app",
                pool_size=7,
                min_pool_size=1,
                reserve_pool_size=2,
                server_lifetime=99,
                pool_mode="statement",
                max_db_connections=11,
                max_db_client_connections=13,
            ),
        },
        settings={"default_pool_size": 5, "server_lifetime": 77},
    )
    c = p.login("app", "a")
    c.query("select 1")
    rows = p.show("databases")
    names = [r["name"] for r in rows]
    assert names[:2] == ["a", "b"] and "pgbouncer" in names and names == sorted(names)
    a = rows[0]
    assert a.pop("current_connections") >= 1
    assert a == {
        "name": "a",
        "host": "127.0.0.1",
        "port": cluster.port,
        "database": "app",
        "force_user": "app",
        "pool_size": 7,
        "min_pool_size": 1,
        "reserve_pool_size": 2,
        "server_lifetime": 99,
        "pool_mode": "statement",
        "load_balance_hosts": None,
        "max_connections": 11,
        "max_client_connections": 13,
        "current_client_connections": 1,
        "paused": 0,
        "disabled": 0,
    }
    b = rows[1]
    assert (b["host"], b["database"], b["force_user"], b["pool_size"], b["server_lifetime"], b["pool_mode"]) == (
        None,
        "b",
        None,
        5,
        77,
        None,
    )
    console = [r for r in rows if r["name"] == "pgbouncer"][0]
    assert (console["force_user"], console["pool_mode"], console["pool_size"], console["port"], console["host"]) == (
        "pgbouncer",
        "statement",
        2,
        p.port,
        None,
    )


def test_pools(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1})
    active, idle, waiting = p.login(), p.login(), p.login()
    idle.query("select 1")
    active.query("begin")
    waiting.send(wire.query("select 1"))
    row = p.wait_pool(cl_waiting=1)
    assert (row["cl_active"], row["sv_active"], row["sv_idle"], row["sv_login"], row["pool_mode"]) == (
        2,
        1,
        0,
        0,
        "transaction",
    )
    active.query("commit")
    waiting.read_ready()
    p.wait_pool(cl_active=3, cl_waiting=0, sv_active=0, sv_idle=1, maxwait=0, maxwait_us=0)


def test_clients_and_servers(make_pooler, cluster):
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1})
    active, idle, waiting = [p.login(params={"application_name": n}) for n in ("act", "idl", "wai")]
    idle.query("select 1")
    active.query("begin")
    pid = int(active.value("select pg_backend_pid()"))
    waiting.send(wire.query("select 1"))
    p.wait_pool(cl_waiting=1)
    clients = {r["application_name"]: r for r in p.show("clients") if r["database"] == "app"}
    states = {name: r["state"] for name, r in clients.items()}
    assert states["act"] == "active" and states["wai"] == "waiting" and states["idl"] in ("idle", "active")
    row = clients["act"]
    assert (row["type"], row["user"], row["database"], row["addr"], row["port"]) == (
        "C",
        "app",
        "app",
        "127.0.0.1",
        active.sock.getsockname()[1],
    )
    assert (row["local_addr"], row["local_port"], row["close_needed"], row["tls"]) == ("127.0.0.1", p.port, 0, "")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+", row["connect_time"])
    server = p.show("servers")[0]
    assert (server["type"], server["user"], server["database"], server["state"], server["addr"], server["port"]) == (
        "S",
        "app",
        "app",
        "active",
        "127.0.0.1",
        cluster.port,
    )
    assert server["remote_pid"] == pid
    assert server["application_name"] == "act"
    assert row["link"] == server["ptr"] and server["link"] == row["ptr"] and re.fullmatch("0x[0-9a-f]+", row["ptr"])
    assert clients["wai"]["link"] == ""
    time.sleep(0.05)
    waits = [r for r in p.show("clients") if r["application_name"] == "wai"][0]
    assert waits["wait"] * 1_000_000 + waits["wait_us"] > 40_000
    console = [r for r in p.show("clients") if r["database"] == "pgbouncer"]
    assert len(console) == 1 and console[0]["user"] == "admin"


@pytest.mark.newer
def test_idle_state_and_replication_column(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login()
    c.query("select 1")
    row = [r for r in p.show("clients") if r["database"] == "app"][0]
    assert (row["state"], row["replication"], row["prepared_statements"], row["wait"], row["wait_us"]) == (
        "idle",
        "none",
        0,
        0,
        0,
    )
    assert [r["replication"] for r in p.show("servers")] == ["none"]
    assert [r["state"] for r in p.show("servers")] == ["idle"]


@pytest.mark.newer
def test_ids_are_one_sequence(make_pooler):
    """Clients and servers share the counter, nothing internal uses it up."""
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login()
    c.query("select 1")
    console = p.console()
    ids = sorted([r["id"] for r in console.show("clients")] + [r["id"] for r in console.show("servers")])
    assert ids == list(range(ids[0], ids[0] + 3))
    p.login().terminate()
    p.login()
    later = max(r["id"] for r in console.show("clients"))
    assert later == ids[-1] + 2


@pytest.mark.newer
def test_users(make_pooler, cluster):
    p = make_pooler(
        {"app": cluster.dsn(), "forced": cluster.dsn(dbname="app", user="app2")},
        secrets={"app": "x", "admin": "y"},
        settings={"max_user_connections": 9, "max_user_client_connections": 8},
        users={
            "app": "pool_size=3 reserve_pool_size=4 pool_mode=statement max_user_connections=5 "
            "max_user_client_connections=6",
            "lonely": "pool_mode=session",
        },
    )
    c = p.login()
    c.query("select 1")
    rows = p.show("users")
    names = [r["name"] for r in rows]
    assert names == sorted(names) and {"app", "app2", "admin", "lonely"} <= set(names)
    by = {r["name"]: r for r in rows}
    assert by["app"] == {
        "name": "app",
        "pool_size": "        3",
        "reserve_pool_size": "        4",
        "pool_mode": "statement",
        "max_user_connections": 5,
        "current_connections": 1,
        "max_user_client_connections": 6,
        "current_client_connections": 1,
    }
    assert (
        by["app2"]["pool_size"],
        by["app2"]["reserve_pool_size"],
        by["app2"]["pool_mode"],
        by["app2"]["max_user_connections"],
    ) == ("", "", None, 9)
    p.login_error("ghost")
    assert "ghost" not in [r["name"] for r in p.show("users")]


@pytest.mark.newer
def test_lists(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn(), "app2": cluster.dsn(dbname="app")}, settings={"pool_mode": "transaction"})
    a, b = p.login(), p.login()
    a.query("begin"), b.query("begin")
    half = p.raw()
    half.send(b"\0")
    wait_until(lambda: p.lists()["login_clients"] == 1, lambda: f"one client logs in: {p.lists()}")
    lists = p.lists()
    assert list(lists) == [
        "databases",
        "users",
        "peers",
        "pools",
        "peer_pools",
        "free_clients",
        "used_clients",
        "login_clients",
        "free_servers",
        "used_servers",
        "dns_names",
        "dns_zones",
        "dns_queries",
        "dns_pending",
    ]
    assert lists["databases"] == 3 and lists["pools"] == 2 and lists["used_servers"] == 2
    assert lists["used_clients"] == 4, "two, the one that logs in, and the console"


def test_lists_count_what_the_tables_show(make_pooler, cluster):
    p = make_pooler(
        {"app": cluster.dsn(), "forced": cluster.dsn(dbname="app", user="app2"), "*": f"port={cluster.port}"},
        users={"lonely": "pool_mode=session"} if not is_pgbouncer() else None,
    )
    conns = [p.login(), p.login("app", "forced")]
    for c in conns:
        c.query("select 1")
    console = p.console()
    lists = {r["list"]: r["items"] for r in console.show("lists")}
    for what in ("databases", "users", "pools"):
        assert lists[what] == len(console.show(what)), what
    assert lists["used_clients"] == len(console.show("clients"))
    assert lists["used_servers"] == len(console.show("servers"))


def test_the_consoles_own_rows(make_pooler):
    p = make_pooler(settings={"max_db_connections": 77, "default_pool_size": 9})
    console = p.console()
    row = [r for r in console.show("databases") if r["name"] == "pgbouncer"][0]
    assert (row["pool_size"], row["min_pool_size"], row["max_connections"]) == (2, 0, 77)
    assert "pgbouncer" in [r["name"] for r in console.show("users")], "the user forced on its database"
    pool = [r for r in console.show("pools") if r["database"] == "pgbouncer"]
    assert [(r["user"], r["cl_active"], r["pool_mode"]) for r in pool] == [("pgbouncer", 1, "statement")]


def test_statistics_of_the_console(make_pooler):
    """One query and one transaction per session, however many commands; no bytes: no server is behind it."""
    p = make_pooler()
    a, b, silent = p.console(), p.console(), p.console()
    for _ in range(5):
        a.show("version")
    b.show("version")
    row = [r for r in a.show("stats") if r["database"] == "pgbouncer"][0]
    names = ("xact_count", "query_count", "received", "sent", "xact_time", "query_time", "wait_time")
    assert [int(row[f"total_{n}"]) for n in names] == [2, 2, 0, 0, 0, 0, 0]
    if not is_pgbouncer():
        assert int(row["total_client_login_count"]) == 3
    assert silent.show("version")


@pytest.mark.newer
def test_sessions_of_the_console_count_for_their_user(make_pooler):
    p = make_pooler(settings={"max_user_client_connections": 1})
    console = p.console()
    stats = p.console(user="stats", password="statspw")

    def of(name):
        return [r["current_client_connections"] for r in console.show("users") if r["name"] == name]

    assert (of("stats"), of("admin")) == ([1], [1])
    e = p.login_error("stats", "pgbouncer", password="statspw")
    assert e.text == "client connections exceeded (max_user_client_connections)"
    p.console()  # admin_users are exempt
    stats.close()
    wait_until(lambda: of("stats") == [0], lambda: f"the count is given back: {of('stats')}")


def test_config(make_pooler):
    p = make_pooler(
        settings={
            "unix_socket_mode": "0700",
            "default_pool_size": "0x10",
            "server_idle_timeout": "12.5",
            "pool_mode": "TRANSACTION",
        }
    )
    rows = p.show("config")
    by = {r["key"]: r for r in rows}
    assert by["unix_socket_mode"]["value"] == "448" if by["unix_socket_mode"]["value"] != "0700" else True
    assert by["default_pool_size"]["value"] == "16" and by["default_pool_size"]["default"] == "20"
    assert by["server_idle_timeout"]["value"] == "12.5" and by["server_idle_timeout"]["default"] == "600"
    assert by["pool_mode"]["value"] == "transaction"
    assert by["listen_port"]["changeable"] == "no" and by["pool_mode"]["changeable"] == "yes"
    assert by["auth_user"]["value"] is None
    assert {r["changeable"] for r in rows} == {"yes", "no"}
    for key in (
        "max_client_conn",
        "server_reset_query",
        "server_check_query",
        "query_wait_timeout",
        "listen_addr",
        "auth_type",
        "server_lifetime",
    ):
        assert key in by, key


@pytest.mark.newer
def test_config_knows_every_setting_of_the_reference(make_pooler):
    names = """
        admin_users application_name_add_host auth_dbname auth_file auth_hba_file auth_ident_file
        auth_ldap_options auth_query auth_type auth_user autodb_idle_timeout cancel_wait_timeout
        client_idle_timeout client_login_timeout client_tls13_ciphers client_tls_ca_file client_tls_cert_file
        client_tls_ciphers client_tls_dheparams client_tls_ecdhcurve client_tls_key_file client_tls_protocols
        client_tls_sslmode conffile default_pool_size disable_pqexec dns_max_ttl dns_nxdomain_ttl
        dns_zone_check_period idle_transaction_timeout ignore_startup_parameters job_name listen_addr
        listen_backlog listen_port log_connections log_disconnections log_pooler_errors log_stats logfile
        login_notify_message max_client_conn max_db_client_connections max_db_connections max_packet_size
        max_prepared_statements max_user_client_connections max_user_connections min_pool_size peer_id pidfile
        pkt_buf pool_idle_timeout pool_mode query_timeout query_wait_notify query_wait_timeout reserve_pool_size
        reserve_pool_timeout resolv_conf sbuf_loopcnt scram_iterations server_check_delay server_check_query
        server_connect_timeout server_fast_close server_idle_timeout server_lifetime server_login_retry
        server_reset_query server_reset_query_always server_round_robin server_tls13_ciphers server_tls_ca_file
        server_tls_cert_file server_tls_ciphers server_tls_key_file server_tls_protocols server_tls_sslmode
        so_reuseport stats_period stats_users suspend_timeout syslog syslog_facility syslog_ident
        tcp_defer_accept tcp_keepalive tcp_keepcnt tcp_keepidle tcp_keepintvl tcp_socket_buffer tcp_user_timeout
        track_extra_parameters transaction_timeout unix_socket_dir unix_socket_group unix_socket_mode user
        verbose
    """.split()
    known = {r["key"] for r in make_pooler().show("config")}
    assert not set(names) - known


def test_config_hides_no_key_and_shows_no_secret(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn(user="app", password="very-secret-word")})
    console = p.console()
    for what in "CONFIG DATABASES POOLS CLIENTS SERVERS USERS LISTS MEM STATS".split():
        for row in console.raw_show(what).rows:
            assert not any(v and ("very-secret-word" in v or "apppw" in v) for v in row), what


def test_mem(pooler):
    rows = {r["name"]: r for r in pooler.show("mem")}
    for name in ("user_cache", "db_cache", "pool_cache", "server_cache", "client_cache", "iobuf_cache"):
        assert name in rows
    assert all(r["size"] >= 0 and r["used"] >= 0 and r["free"] >= 0 and r["memtotal"] >= 0 for r in rows.values())


def prepare(conn, name, sql):
    conn.send(wire.parse(name, sql), wire.SYNC)
    return conn.read_ready()


@pytest.mark.newer
def test_prepared_statements_of_clients_and_servers(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1, "max_prepared_statements": 2})
    a, b = p.login(), p.login()

    def shown():
        clients = {r["id"]: r["prepared_statements"] for r in p.show("clients") if r["database"] == "app"}
        mem = {r["name"]: r for r in p.show("mem")}
        texts = mem["prepared_statement_text_cache"]
        assert (texts["used"] == 0) == (texts["memtotal"] == 0)
        return (
            [clients[i] for i in sorted(clients)],
            [r["prepared_statements"] for r in p.show("servers")],
            mem["server_prepared_statement_cache"]["used"],
            texts["used"],
        )

    assert a.query("select 1").error is None
    assert shown() == ([0, 0], [0], 0, 0)
    prepare(a, "one", "select 1")
    prepare(b, "uno", "select 1")
    prepare(b, "two", "select 2")
    assert shown() == ([1, 2], [2], 2, 2)
    prepare(a, "three", "select 3")
    assert shown() == ([2, 2], [2], 2, 3)
    b.send(wire.close("S", "two"), wire.SYNC)
    b.read_ready()
    assert shown() == ([2, 1], [2], 2, 3)
    assert sorted(r["prepared_statements"] for r in p.show("sockets")) == [0, 1, 2, 2]
    a.query("discard all")
    assert shown() == ([0, 1], [0], 0, 1)


@pytest.mark.newer
def test_requests_that_servers_owe(make_pooler, cluster):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login()

    def owed():
        return next(r["used"] for r in p.show("mem") if r["name"] == "outstanding_request_cache")

    with cluster.connect("app") as direct:
        direct.execute("select pg_advisory_lock(7101)")
        c.send(wire.query("select pg_advisory_xact_lock(7101)"), wire.query("select 1"), wire.query("select 2"))
        wait_until(lambda: owed() == 3, lambda: f"three are owed: {owed()}")
    for _ in range(3):
        c.read_ready()
    assert owed() == 0


def stats_of(p, database="app"):
    row = [r for r in p.show("stats") if r["database"] == database]
    return {k: int(v) for k, v in row[0].items() if k.startswith("total_")} if row else None


@pytest.mark.newer
def test_what_the_counters_count(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login()
    base = stats_of(p)
    assert base["total_client_login_count"] == 1

    def grown(work):
        before = stats_of(p)
        work()
        after = stats_of(p)
        return tuple(
            after[f"total_{n}_count"] - before[f"total_{n}_count"] for n in ("server_assignment", "xact", "query")
        )

    assert grown(lambda: c.query("select 1")) == (1, 1, 1)
    assert grown(lambda: [c.query(q) for q in ("begin", "select 1", "select 2", "commit")]) == (1, 1, 4)
    assert grown(lambda: (c.send(wire.extended("select 1"), wire.extended("select 2"), wire.SYNC), c.read_ready())) == (
        1,
        1,
        1,
    )
    assert grown(lambda: c.query("select 1; select 2")) == (1, 1, 1)
    before = stats_of(p)
    sql = "select repeat('x', 10000), pg_sleep(0.05)"
    c.query(sql)
    after = stats_of(p)
    assert after["total_received"] - before["total_received"] == len(wire.query(sql))
    assert 10000 < after["total_sent"] - before["total_sent"] < 10200
    for name in ("total_query_time", "total_xact_time"):
        assert 45_000 < after[name] - before[name] < 2_000_000, name


@pytest.mark.newer
@pytest.mark.parametrize("tracked", [200, 0])
def test_what_the_counters_of_statements_count(make_pooler, tracked):
    """Parse of clients, Parse that servers get, Bind: of statements with a name, where they are tracked."""
    settings = {"pool_mode": "transaction", "default_pool_size": 1, "max_prepared_statements": tracked}
    p = make_pooler(settings=settings)
    a, b = p.login(), p.login()

    def grown(conn, *messages):
        names = ("client_parse", "server_parse", "bind")
        before = stats_of(p)
        conn.send(*messages, wire.SYNC)
        assert conn.read_ready().error is None
        after = stats_of(p)
        return tuple(after[f"total_{n}_count"] - before[f"total_{n}_count"] for n in names)

    once = (1, 1, 0) if tracked else (0, 0, 0)
    assert grown(a, wire.parse("s", "select 1")) == once
    assert grown(a, wire.parse("", "select 2"), wire.bind(), wire.execute()) == (0, 0, 0)
    if not tracked:
        assert grown(a, wire.bind("", "s"), wire.execute()) == (0, 0, 0)
        return
    assert grown(b, wire.parse("t", "select 1")) == (1, 0, 0)
    assert grown(b, wire.describe("S", "t")) == (0, 0, 0)
    assert grown(b, wire.bind("", "t"), wire.execute(), wire.bind("", "t"), wire.execute()) == (0, 0, 2)
    b.query("discard all")
    assert grown(a, wire.bind("", "s"), wire.execute()) == (0, 1, 1), "the server has to be given it again"


def test_sent_counts_all_that_servers_say_after_their_login(make_pooler, fake_server):
    """Also what no client sees: the answer to the pooler's own SET."""
    server = fake_server(lambda conn, _: wire.serve_queries(conn))
    p = make_pooler({"app": server.dsn()}, settings={"pool_mode": "transaction"})
    a = p.login(params={"application_name": "one"})
    a.query("x")
    base = stats_of(p)["total_sent"]
    a.query("x")
    plain = stats_of(p)["total_sent"] - base
    assert plain == len(wire.answer("ok"))
    p.login(params={"application_name": "two"}).query("x")
    answer_to_set = wire.pack("C", wire.cstr("SET")) + wire.pack("Z", b"I")
    assert stats_of(p)["total_sent"] - base == 2 * plain + len(answer_to_set)


@pytest.mark.newer
def test_maxwait_is_of_queries_not_of_logins(make_pooler, fake_server):
    def silent(conn, _):
        conn.recv()

    server = fake_server(silent)
    p = make_pooler({"app": server.dsn()})
    c = p.raw()
    c.start()
    p.wait_pool(cl_waiting=1)
    time.sleep(0.02)
    row = p.pool()
    assert (row["cl_waiting"], row["maxwait"], row["maxwait_us"]) == (1, 0, 0)


@pytest.mark.newer
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_goodbye_is_no_query(make_pooler, mode):
    p = make_pooler(settings={"pool_mode": mode})
    c = p.login()
    c.query("select 1")
    c.terminate()
    p.wait_pool(cl_active=0)
    stats = stats_of(p)
    assert (stats["total_xact_count"], stats["total_query_count"]) == (1, 1)


@pytest.mark.newer
def test_wait_time(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1})
    a, b = p.login(), p.login()
    a.query("select 1")
    before = stats_of(p)["total_wait_time"]
    a.query("begin")
    b.send(wire.query("select 1"))
    p.wait_pool(cl_waiting=1)
    time.sleep(0.1)
    a.query("commit")
    b.read_ready()
    assert 90_000 < stats_of(p)["total_wait_time"] - before < 5_000_000


@pytest.mark.newer
def test_totals_and_averages(make_pooler):
    p = make_pooler(settings={"stats_period": 1, "pool_mode": "transaction"})
    c = p.login()
    for _ in range(20):
        c.query("select 1")
    totals = {r["name"]: int(r["value"]) for r in p.show("totals")}
    names = (
        "server_assignment_count xact_count query_count client_bytes server_bytes xact_time query_time wait_time "
        "ps_client_parse_count "
        "ps_server_parse_count ps_bind_count client_login_count"
    ).split()
    assert list(totals) == [f"total_{n}" for n in names] + [f"avg_{n}" for n in names]
    assert totals["total_query_count"] >= 20
    by = {r["database"]: r for r in p.show("stats_totals")}
    assert int(by["app"]["query_count"]) == 20
    wait_until(
        lambda: c.value("select 1") and int({r["database"]: r for r in p.show("stats")}["app"]["avg_query_count"]) > 0,
        "an average",
    )
    p.wait_for_log(
        r"LOG stats: \d+ xacts/s, \d+ queries/s, \d+ client parses/s, \d+ server parses/s, \d+ binds/s, "
        r"\d+ client logins/s, "
        r"in \d+ B/s, out \d+ B/s, xact \d+ us, query \d+ us, wait \d+ us"
    )


def test_show_with_nonsense(pooler):
    console = pooler.console()
    for sql in (
        "SHOW",
        "SHOW NONSENSE",
        "SHOW POOLS CLIENTS",
        "",
        ";",
        "SELECT 1",
        "DROP TABLE x",
        "SHOW 'POOLS'",
        "-- hm",
        "SHOW POOLS; SHOW POOLS",
    ):
        result = console.conn.query(sql)
        assert result.error is not None, sql
        assert (result.error.severity, result.error.code, result.status) == ("ERROR", "08P01", "I"), sql
    e = console.conn.query("SHOW NONSENSE").error
    assert e.text == "invalid command 'SHOW NONSENSE', use SHOW HELP;"
    assert console.show("version")


def test_psql_reads_every_show(pooler):
    for what in ("POOLS", "CLIENTS", "SERVERS", "STATS", "CONFIG", "DATABASES", "LISTS", "MEM", "USERS", "TOTALS"):
        out = pooler.psql("-P", "tuples_only=off", "-c", f"SHOW {what}", dbname="pgbouncer", user="admin").stdout
        assert "|" in out.splitlines()[0], what


@pytest.mark.newer
def test_fake_variables(pooler):
    """Drivers ask for these when they connect."""
    console = pooler.console(user="stats", password="statspw")
    for name, value in (
        ("client_encoding", "UTF-8"),
        ("default_transaction_isolation", "read committed"),
        ("standard_conforming_strings", "on"),
        ("datestyle", "ISO"),
        ("timezone", "GMT"),
        ("extra_float_digits", "2"),
    ):
        result = console.conn.query(f"SHOW {name}")
        assert (result.columns[0][0], result.rows) == (name, [[value]])
        result = console.conn.query(f"SET {name} = 'x'")
        assert (result.tag, result.notices[0]["M"]) == ("SET", "SET ignored")


def test_show_under_load_with_threads(make_pooler):
    """SHOW asks all workers; its figures must fit each other at rest."""
    p = make_pooler(settings={"pool_mode": "transaction"}, threads=4)
    conns = [p.login() for _ in range(20)]
    for c in conns:
        c.query("select 1")
    row = p.pool()
    assert row["cl_active"] == 20
    assert len([r for r in p.show("clients") if r["database"] == "app"]) == 20
    assert row["sv_idle"] == len(p.show("servers"))
    for c in conns[:15]:
        c.terminate()
    p.wait_pool(cl_active=5)


def test_error_is_pg_error(pooler):
    with pytest.raises(PgError, match="invalid command"):
        pooler.admin("NONSENSE")


def test_show_of_many_clients(make_pooler):
    """A result of any size, also for somebody who reads it slowly."""
    count = 1200
    p = make_pooler(
        settings={"max_client_conn": 2000, "pool_mode": "transaction", "log_connections": 0, "log_disconnections": 0}
    )
    conns = [p.login(params={"application_name": f"one of many {n}"}) for n in range(count)]
    slow, console = p.console(), p.console()
    slow.conn.send(*[wire.query("SHOW CLIENTS")] * 5)
    assert len([r for r in console.show("clients") if r["database"] == "app"]) == count
    for c in conns[:100]:
        assert c.value("select 1") == "1"
    for _ in range(5):
        assert len(slow.conn.read_ready().rows) == count + 2
