"""Hosts and their roles: who is chosen, probes, promotion, fencing, and what clients notice of it."""
import contextlib
import datetime
import os
import queue
import signal
import time

import pytest
from harness import wire
from harness.procs import wait_until
from harness.standby import Pair

pytestmark = pytest.mark.ours

# Probes often and without a wish to wait; clients that need a server wait for one.
HEALTH = {"health_interval": 0.1, "health_user": "app", "pool_mode": "transaction", "log_connections": 0}


def endpoints(p):
    return {row["endpoint"]: row for row in p.show("endpoints")}


def name(node):
    return f"{node.host}:{node.port}"


def wait_role(p, node, role):
    """Until a probe has seen this role; a client must have been there, as endpoints without pools are not watched."""
    wait_until(lambda: endpoints(p).get(name(node), {}).get("role") == role, f"{name(node)} is a {role}", 20)


def wait_probed(p, pair):
    """Until probes have seen both hosts; until then roles are known from logins only, and timelines are not."""
    for node in (pair.primary, pair.standby):
        wait_until(lambda: endpoints(p).get(name(node), {}).get("reachable") == "yes", f"{name(node)} was probed", 20)


def where(c):
    """The server that the client has now."""
    return c.value("select host(inet_server_addr())")


@pytest.fixture
def make(make_pooler, pair):
    """make(attrs) is a pooler before the pair, under [pgsluice]."""

    def start(attrs="read-write", **settings):
        return make_pooler(
            {"app": pair.dsn(dbname="app", target_session_attrs=attrs)},
            settings={**HEALTH, **settings},
            profile="pgsluice",
        )

    return start


@pytest.mark.parametrize(
    "attrs, host",
    [
        ("read-write", "127.0.0.1"),
        ("primary", "127.0.0.1"),
        ("read-only", "127.0.0.2"),
        ("standby", "127.0.0.2"),
        ("prefer-standby", "127.0.0.2"),
    ],
)
def test_role_chooses_the_host(make, pair, attrs, host):
    p = make(attrs)
    clients = [p.login() for _ in range(3)]
    wait_role(p, pair.primary, "primary")
    wait_role(p, pair.standby, "standby")
    for c in clients:
        c.query("begin")
    p.wait_pool(sv_active=3)
    assert {where(c) for c in clients} == {host}


def test_setting_and_database_choose_the_role(make_pooler, pair):
    """The key of a database goes before the setting; a reload sends servers where they belong."""
    p = make_pooler(
        {"app": pair.dsn(target_session_attrs="primary"), "ro": pair.dsn(dbname="app")},
        settings={**HEALTH, "target_session_attrs": "standby"},
        profile="pgsluice",
    )
    assert where(p.login(database="app")) == "127.0.0.1"
    c = p.login(database="ro")
    assert where(c) == "127.0.0.2"
    p.settings["target_session_attrs"] = "primary"
    p.write_files()
    p.admin("reload")
    assert where(c) == "127.0.0.1"


def test_prefer_standby_takes_the_primary_when_there_is_nobody_else(make, pair):
    p = make("prefer-standby")
    pair.standby.stop()
    assert where(p.login()) == "127.0.0.1"


def test_facts_of_endpoints(make, pair):
    p = make("any")
    p.login()
    wait_role(p, pair.primary, "primary")
    wait_role(p, pair.standby, "standby")
    wait_until(lambda: endpoints(p)[name(pair.standby)]["lag_bytes"] == 0, "the standby has replayed all")
    rows = endpoints(p)
    first, second = rows[name(pair.primary)], rows[name(pair.standby)]
    system = str(pair.primary.value("select system_identifier from pg_control_system()"))
    assert (first["timeline"], first["system_id"], second["system_id"]) == (1, system, system)
    assert (first["reachable"], first["fenced"], first["read_only"], first["error"]) == ("yes", "no", "no", "")
    assert (first["max_connections"], first["database"], first["pools"]) == (100, "app", 1)
    assert first["connections"] >= 1 and first["last_probe"] and first["latency_us"] > 0
    assert first["lag_bytes"] == -1 and p.show("failovers") == []


def test_promotion_moves_writes(make, pair):
    """Who waits, and who comes later, is served by the new primary; idle servers of the old one are closed."""
    p = make()
    c = p.login()
    c.query("create table t(i int)")
    wait_probed(p, pair)
    pair.standby.wait_caught_up(pair.primary)
    pair.primary.stop()
    wait_until(lambda: endpoints(p)[name(pair.primary)]["reachable"] == "no", "the loss was noticed")
    waiting = p.login()
    waiting.send(wire.query("insert into t values (1)"))
    p.wait_pool(cl_waiting=1)
    pair.standby.promote()
    assert not waiting.read_ready().errors
    assert where(waiting) == "127.0.0.2"
    assert p.login().value("select i from t") == "1"
    row = wait_until(lambda: [r for r in p.show("failovers") if r["reconnect_ms"] >= 0], "a record of it")[0]
    assert (row["from"], row["to"], row["timeline"]) == (name(pair.primary), name(pair.standby), 2)
    assert 0 <= row["detect_ms"] <= row["elect_ms"] <= row["reconnect_ms"]
    assert row["database"] == "app" and row["symptom"]
    p.wait_for_log("failover: first server at")


def test_demoted_host_loses_its_servers(make, pair):
    """A switchover where nobody dies: busy servers are closed, too, since what they write is lost."""
    p = make()
    busy, idle = p.login(), p.login()
    busy.query("begin")
    idle.value("select 1")
    wait_probed(p, pair)
    assert {r["addr"] for r in p.show("servers")} == {"127.0.0.1"} and len(p.show("servers")) == 2
    pair.standby.promote()
    wait_until(lambda: endpoints(p)[name(pair.primary)]["fenced"] == "yes", "the old primary is fenced")
    wait_until(lambda: not [r for r in p.show("servers") if r["addr"] == "127.0.0.1"], "all are closed")
    result = busy.query("select 1")
    assert (result.error.code, result.status) == ("57P01", "E")
    assert busy.query("commit").tag == "ROLLBACK"
    assert where(busy) == "127.0.0.2"
    assert [r["addr"] for r in p.show("servers")] == ["127.0.0.2"]


def sleepers(node):
    """Statements that are at sleep there."""
    return node.value("select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep%'")


def test_statement_of_a_demoted_host_is_stopped(make, pair):
    """Its client is told that the host is left; what it has begun there does not go on for nobody."""
    p = make()
    c = p.login()
    c.send(wire.query("select pg_sleep(100)"))
    wait_probed(p, pair)
    wait_until(lambda: sleepers(pair.primary) == 1, "the statement runs")
    pair.standby.promote()
    assert c.read_ready().error.code == "57P01"
    wait_until(lambda: sleepers(pair.primary) == 0, "the statement was stopped", 30)
    assert where(c) == "127.0.0.2"


def test_statement_of_a_silent_host_is_stopped(make, pair):
    """As soon as the host comes back to life; until then nobody waits for that."""
    p = make("any", health_timeout=0.3)
    clients = [p.login() for _ in range(2)]
    for c in clients:
        c.query("begin")
    wait_role(p, pair.primary, "primary")
    wait_role(p, pair.standby, "standby")
    _, victim = sorted(clients, key=where)
    victim.send(wire.query("select pg_sleep(100)"))
    wait_until(lambda: sleepers(pair.standby) == 1, "the statement runs")
    with stopped(pair.standby):
        assert victim.read_ready().error.code == "08006"
        wait_until(lambda: p.pool()["sv_active_cancel"] == 1, "the request is on its way")
    wait_until(lambda: sleepers(pair.standby) == 0, "the statement was stopped", 30)
    p.wait_pool(sv_active_cancel=0)


def test_primary_that_stands_still(make, pair):
    """Who waits for an answer of a host that is silent is told so as soon as another primary is there."""
    p = make(health_timeout=1)
    c = p.login()
    c.query("create table t(i int)")
    wait_probed(p, pair)
    pair.standby.wait_caught_up(pair.primary)
    with stopped(pair.primary):
        c.send(wire.query("insert into t values (1)"))
        wait_until(lambda: endpoints(p)[name(pair.primary)]["reachable"] == "no", "the host does not answer")
        pair.standby.promote()
        assert c.read_ready().error.text == "server is not the primary any more"
        assert not c.query("insert into t values (2)").errors
        assert where(c) == "127.0.0.2"
        assert endpoints(p)[name(pair.primary)]["fenced"] == "yes"


def test_old_primary_that_returns_gets_no_writes(make, pair):
    p = make()
    c = p.login()
    c.value("select 1")
    wait_probed(p, pair)
    pair.primary.kill()
    pair.standby.promote()
    wait_role(p, pair.standby, "primary")
    pair.primary.start()
    wait_until(lambda: endpoints(p)[name(pair.primary)]["fenced"] == "yes", "the old primary is fenced")
    clients = [p.login() for _ in range(4)]
    for c in clients:
        c.query("begin")
    assert {where(c) for c in clients} == {"127.0.0.2"}
    # not even when it is the only one there is
    for c in clients:
        c.query("rollback")
    pair.standby.stop()
    wait_until(lambda: endpoints(p)[name(pair.standby)]["reachable"] == "no", "the new primary is gone")
    c = p.login()
    c.send(wire.query("select 'waited'"))
    p.wait_pool(cl_waiting=1)
    pair.standby.start()
    assert c.read_ready().rows == [["waited"]]
    # as a standby it is one of them again
    pair.primary.stop()
    pair.primary.rejoin(pair.standby)
    wait_role(p, pair.primary, "standby")
    assert endpoints(p)[name(pair.primary)]["fenced"] == "no"


def test_old_primary_gets_no_writes_from_the_next_process(make, pair):
    """An online restart, and another one before anybody was asked, while the old primary is the only one that answers."""
    p = make()
    c = p.login()
    c.value("select 1")
    wait_role(p, pair.standby, "standby")
    pair.primary.kill()
    pair.standby.promote()
    wait_role(p, pair.standby, "primary")
    pair.primary.start()
    wait_until(lambda: endpoints(p)[name(pair.primary)]["fenced"] == "yes", "the old primary is fenced")
    pair.standby.stop()
    wait_until(lambda: endpoints(p)[name(pair.standby)]["reachable"] == "no", "the new primary is gone")
    for _ in range(2):
        p.restart()
    c.send(wire.query("select host(inet_server_addr())"))
    p.wait_pool(cl_waiting=1)
    wait_until(lambda: endpoints(p)[name(pair.primary)]["reachable"] == "yes", "the old primary was asked")
    assert endpoints(p)[name(pair.primary)]["fenced"] == "yes"
    assert c.is_silent()
    pair.standby.start()
    assert c.read_ready().rows == [["127.0.0.2"]]


def test_hosts_that_nobody_names_any_more_are_forgotten(make, pair):
    """Those that came from another process, too, though no pool has needed them since."""
    p = make()
    c = p.login()
    c.value("select 1")
    wait_probed(p, pair)
    c.terminate()
    p.admin("reconnect")
    wait_until(lambda: not p.show("servers"), "nothing that would be handed over")
    p.restart()
    assert [r for r in p.show("pools") if r["database"] == "app"] == []
    assert set(endpoints(p)) == {name(pair.primary), name(pair.standby)}
    p.admin("reload")
    assert set(endpoints(p)) == {name(pair.primary), name(pair.standby)}
    p.databases["app"] = f"host=127.0.0.3 port={pair.primary.port}"
    p.write_files()
    p.admin("reload")
    wait_until(lambda: not endpoints(p), "they are forgotten")


def test_fence_ends_with_the_probes(make, pair):
    """Who switches them off decides on his own; nobody would ever find out that a host may have writes again."""
    p = make()
    c = p.login()
    wait_probed(p, pair)
    pair.standby.promote()
    wait_until(lambda: endpoints(p)[name(pair.primary)]["fenced"] == "yes", "the old primary is fenced")
    pair.standby.kill()
    wait_until(lambda: endpoints(p)[name(pair.standby)]["reachable"] == "no", "the new primary is gone")
    c.send(wire.query("select host(inet_server_addr())"))
    p.wait_pool(cl_waiting=1)
    p.settings["health_interval"] = 0
    p.write_files()
    p.admin("reload")
    assert c.read_ready().rows == [["127.0.0.1"]]
    row = endpoints(p)[name(pair.primary)]
    assert (row["fenced"], row["reachable"]) == ("no", "unknown")


def test_waiting_ends_with_the_deadline(make, pair):
    """While there is no primary clients wait, but no longer than query_wait_timeout."""
    p = make(query_wait_timeout=1)
    p.login().value("select 1")
    wait_role(p, pair.standby, "standby")
    pair.primary.stop()
    c = p.login()
    c.send(wire.query("select 1"))
    assert c.expect_close().errors[-1].text == "query_wait_timeout"


def test_two_ports_of_one_host(make_pooler, shared_info):
    both = Pair(shared_info["template"], same_port=False)
    try:
        p = make_pooler({"app": both.dsn(target_session_attrs="standby")}, settings=HEALTH, profile="pgsluice")
        c = p.login()
        assert c.value("select inet_server_port()") == str(both.standby.port)
        wait_role(p, both.primary, "primary")
        wait_role(p, both.standby, "standby")
    finally:
        both.remove()


def test_probe_without_a_login_sees_who_answers(make_pooler, pair):
    """No user of the configuration has a password: roles come from logins, reachability from probes."""
    p = make_pooler(
        {"app": pair.dsn(target_session_attrs="read-write")},
        settings={**HEALTH, "health_user": None},
        profile="pgsluice",
    )
    c = p.login()
    assert where(c) == "127.0.0.1"
    wait_until(lambda: endpoints(p)[name(pair.standby)]["reachable"] == "yes", "the standby answers")
    assert endpoints(p)[name(pair.standby)]["error"] == 'role "pgsluice" does not exist'
    assert endpoints(p)[name(pair.standby)]["timeline"] == 0
    pair.standby.stop()
    wait_until(lambda: endpoints(p)[name(pair.standby)]["reachable"] == "no", "the standby is gone")
    assert "refused" in endpoints(p)[name(pair.standby)]["error"]


def test_probe_times_out(make_pooler, cluster, fake_server):
    """A host that takes connections and says nothing is unreachable after health_timeout, and others are used."""

    def silent(conn, params):
        conn.recv()

    server = fake_server(silent)
    host, port = "127.0.0.1", server.port
    p = make_pooler(
        {"app": f"host={host},127.0.0.1 port={port},{cluster.port} load_balance_hosts=disable"},
        settings={**HEALTH, "health_timeout": 0.3, "server_connect_timeout": 2},
        profile="pgsluice",
    )
    c = p.raw(timeout=30)
    c.start()
    wait_until(lambda: endpoints(p).get(f"{host}:{port}", {}).get("reachable") == "no", "the silent host is known")
    assert endpoints(p)[f"{host}:{port}"]["error"] == "no connection in time"
    c.finish_login("app", None)
    assert c.value("select 1") == "1"


def test_health_query_decides(make, pair):
    """An endpoint where health_query fails counts as unreachable, with the error of the query."""
    p = make("any", health_query="select 1/(case when pg_is_in_recovery() then 0 else 1 end)")
    p.login()
    wait_until(lambda: endpoints(p)[name(pair.standby)]["reachable"] == "no", "the query has failed")
    row = endpoints(p)[name(pair.standby)]
    assert row["error"] == "division by zero" and row["role"] == "standby"
    wait_until(lambda: endpoints(p)[name(pair.primary)]["reachable"] == "yes", "it has succeeded elsewhere")


def test_health_query_that_hangs_does_not_pile_up(make, pair):
    """It is ended in the server as well, by statement_timeout."""
    p = make("any", health_query="select pg_sleep(60)", health_timeout=0.3)
    p.login()
    wait_until(lambda: endpoints(p)[name(pair.primary)]["reachable"] == "no", "the query takes too long")
    p.admin("set health_interval = 0")
    running = "select count(*) from pg_stat_activity where application_name = 'pgsluice health' and state = 'active'"
    wait_until(lambda: pair.primary.value(running) == 0, "no query is left")


def test_health_query_has_the_whole_time(make_pooler, fake_server):
    """On a connection that is kept as on a fresh one; there only the built-in question must be answered in half of it."""
    took = queue.Queue()

    def handler(conn, params):
        conn.greet()
        asked = 0
        while asked < 2:  # the second time is that of a connection that was kept
            body = conn.recv().body
            began = time.monotonic()
            asked += b"health_query" in body
            if asked < 2:
                conn.send(wire.answer("x"))
        with contextlib.suppress(wire.Closed):
            conn.recv()
        took.put(time.monotonic() - began)

    ports = [fake_server(handler).port for _ in range(2)]
    p = make_pooler(
        {"app": f"host=127.0.0.1,127.0.0.1 port={ports[0]},{ports[1]}"},
        settings={**HEALTH, "health_query": "select health_query", "health_timeout": 4, "server_connect_timeout": 60},
        profile="pgsluice",
    )
    p.login()
    assert took.get(timeout=60) > 3


def test_probe_needs_a_password(make_pooler, pair):
    """health_password, and without it the one in auth_file; a wrong one is told, and the host counts as reachable."""
    settings = {**HEALTH, "health_user": "scramuser", "health_dbname": "postgres"}
    p = make_pooler({"app": pair.dsn()}, settings={**settings, "health_password": "scrampw"}, profile="pgsluice")
    p.login()
    wait_role(p, pair.primary, "primary")
    secrets = {"app": "", "admin": "", "scramuser": "scrampw"}
    p = make_pooler({"app": pair.dsn()}, settings=settings, secrets=secrets, profile="pgsluice")
    p.login()
    wait_role(p, pair.standby, "standby")
    p.admin("set health_password = 'wrong'")
    wait_until(lambda: "password" in (endpoints(p)[name(pair.primary)]["error"] or ""), "the refusal was seen")
    assert endpoints(p)[name(pair.primary)]["reachable"] == "yes"


def test_no_probes_under_pgbouncer(make_pooler, pair):
    """Off unless asked for; roles are found out at logins."""
    p = make_pooler({"app": pair.dsn(target_session_attrs="read-write")}, settings={"pool_mode": "transaction"})
    assert where(p.login()) == "127.0.0.1"
    p.admin("reload")
    assert {(r["reachable"], r["last_probe"]) for r in p.show("endpoints")} == {("unknown", None)}
    seen = "select count(*) from pg_stat_activity where application_name = 'pgsluice health'"
    assert pair.primary.value(seen) == 0


def test_read_only_error_leads_to_the_primary(make_pooler, pair):
    """25006 is a symptom: the primary has changed, and the probes have not noticed yet."""
    p = make_pooler(
        {"app": pair.dsn(dbname="app", target_session_attrs="primary")},
        settings={**HEALTH, "health_interval": 60},
        profile="pgsluice",
    )
    c = p.login()
    c.query("create table t(i int)")
    wait_role(p, pair.standby, "standby")
    wait_role(p, pair.primary, "primary")
    pair.standby.wait_caught_up(pair.primary)
    pair.standby.promote()
    c.query("set default_transaction_read_only = on")
    assert [e.code for e in c.query("insert into t values (1)").errors] == ["25006"]
    wait_role(p, pair.standby, "primary")
    c.query("set default_transaction_read_only = off")
    assert not c.query("insert into t values (2)").errors
    assert where(c) == "127.0.0.2"


def rare_probes(make_pooler, pair, **databases):
    """A pooler that would not probe again by itself before a test is over; clients of its databases are logged in."""
    p = make_pooler(
        {name: pair.dsn(dbname="app", target_session_attrs=attrs) for name, attrs in databases.items()},
        settings={**HEALTH, "health_interval": 600, "track_extra_parameters": "in_hot_standby", "verbose": 1},
        profile="pgsluice",
    )
    clients = [p.login(database=database) for database in databases]
    for c in clients:
        c.value("select 1")
    wait_probed(p, pair)
    return (p, *clients)


def test_promotion_that_a_session_reports(make_pooler, pair):
    """A standby becomes the primary, and breaks no connection: sessions there say so with their next answer."""
    p, writer, reader = rare_probes(make_pooler, pair, app="read-write", ro="standby")
    wait_until(
        lambda: seconds_between(probed(p, pair.standby), datetime.datetime.now()) > 1.5,
        "the burst of probes at the beginning is over",
        20,
    )
    pair.standby.promote()
    assert where(reader) == "127.0.0.2"
    p.wait_for_log(f"endpoint {name(pair.standby)}: symptom: a server there has another role")
    wait_until(lambda: endpoints(p)[name(pair.primary)]["fenced"] == "yes", "the old primary is fenced")
    assert where(writer) == "127.0.0.2"
    row = wait_until(lambda: p.show("failovers"), "a record of it")[0]
    assert (row["from"], row["to"]) == (name(pair.primary), name(pair.standby))


def test_primary_that_becomes_read_only(make_pooler, pair):
    """
    A switchover that breaks no connection: sessions of the old primary say that they are read-only, and as long as
    nobody takes writes all hosts are asked often, and not only for a moment.
    """
    p, c, waiting = rare_probes(make_pooler, pair, app="read-write", other="primary")
    pair.primary.set(default_transaction_read_only="on")
    pair.primary.sql("select pg_reload_conf()")
    wait_until(lambda: c.value("show transaction_read_only") == "on", "the session knows")
    wait_until(lambda: endpoints(p)[name(pair.primary)]["read_only"] == "yes", "a probe has seen it")
    assert where(waiting) == "127.0.0.1"
    c.send(wire.query("select host(inet_server_addr())"))
    p.wait_pool(cl_waiting=1)
    begin = probed(p, pair.standby)
    wait_until(lambda: seconds_between(begin, probed(p, pair.standby)) > 6, "the burst is over, the probes go on", 20)
    pair.standby.promote()
    assert c.read_ready().value() == "127.0.0.2"


def probed(p, node):
    """When the last probe was answered, in local time."""
    return datetime.datetime.fromisoformat(" ".join(endpoints(p)[name(node)]["last_probe"].split()[:2]))


def seconds_between(begin, end):
    return (end - begin).total_seconds()


def test_transactions_of_a_client_that_are_read_only(make_pooler, pair):
    """A client may set the default of its session: that is a reason to ask, and no news about the server."""
    p, c = rare_probes(make_pooler, pair, app="read-write")
    before = probed(p, pair.primary)
    c.query("begin")
    c.query("set session characteristics as transaction read only")
    p.wait_for_log(f"endpoint {name(pair.primary)}: symptom: a server there has become read-only")
    wait_until(lambda: probed(p, pair.primary) > before, "it was asked")
    assert where(c) == "127.0.0.1"
    assert c.query("commit").tag == "COMMIT"
    c.query("set session characteristics as transaction read write")
    assert endpoints(p)[name(pair.primary)]["read_only"] == "no"
    assert not c.query("create table t(i int)").errors


def test_probe_speaks_tls_as_the_settings_say(make_pooler, tls_cluster, cert_cluster, pki):
    """With a certificate that is checked, and one of our own where the server demands it."""
    for server, cert in ((tls_cluster, None), (cert_cluster, "app")):
        p = make_pooler(
            {"app": f"host=localhost,127.0.0.1 port={server.port}"},
            settings={**HEALTH, **pki.server_settings("verify-ca", cert=cert)},
            profile="pgsluice",
        )
        p.login()
        at = f"127.0.0.1:{server.port}"
        wait_until(lambda: endpoints(p).get(at, {}).get("role") == "primary", lambda: f"the role of {endpoints(p)}")
        wait_until(lambda: endpoints(p)[f"localhost:{server.port}"]["role"] == "primary", "the host by its name")
        used = server.value(
            "select bool_and(s.ssl) from pg_stat_ssl s join pg_stat_activity using (pid)"
            " where application_name = 'pgsluice health'"
        )
        assert used is True


def test_probe_does_not_trust_every_server(make_pooler, tls_cluster, pki):
    """A certificate of somebody else: the host counts as unreachable, as it is for servers of the pool."""
    p = make_pooler(
        {"app": f"host=localhost,127.0.0.1 port={tls_cluster.port}"},
        settings={**HEALTH, **pki.server_settings("verify-full", ca="stranger"), "query_wait_timeout": 5},
        profile="pgsluice",
    )
    c = p.raw()
    c.start()
    at = f"127.0.0.1:{tls_cluster.port}"
    wait_until(lambda: endpoints(p).get(at, {}).get("reachable") == "no", "the certificate was refused")
    assert "certificate verify failed" in endpoints(p)[at]["error"]


def test_probe_of_a_unix_socket(make_pooler, cluster):
    p = make_pooler({"app": f"host={cluster.dir},127.0.0.1 port={cluster.port}"}, settings=HEALTH, profile="pgsluice")
    p.login()
    wait_until(
        lambda: endpoints(p).get(f"{cluster.dir}:{cluster.port}", {}).get("role") == "primary", "the role was seen"
    )


@contextlib.contextmanager
def stopped(node):
    """All processes of a server stand still."""
    with open(f"/proc/{node.proc.pid}/task/{node.proc.pid}/children") as f:
        pids = [node.proc.pid] + [int(pid) for pid in f.read().split()]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def test_clients_of_a_silent_host_are_set_free(make, pair):
    """When there is another host that will do: nobody waits for an answer for as long as the network is broken."""
    p = make("any", health_timeout=0.3)
    clients = [p.login() for _ in range(2)]
    for c in clients:
        c.query("begin")
    wait_role(p, pair.primary, "primary")
    wait_role(p, pair.standby, "standby")
    other, victim = sorted(clients, key=where)
    assert (where(other), where(victim)) == ("127.0.0.1", "127.0.0.2")
    with stopped(pair.standby):
        result = victim.query("select 1")
        assert (result.error.code, result.status) == ("08006", "E")
        assert "out of reach" in result.error.text
        assert victim.query("rollback").tag == "ROLLBACK"
        assert where(victim) == "127.0.0.1"
        assert other.query("commit").tag == "COMMIT"


def test_host_that_comes_back_keeps_its_busy_servers(make, pair):
    """What counts is how its host is when a server is free, not how it once was."""
    pair.primary.sql("create table sick (host text)", dbname="app")
    pair.primary.sql("grant select on sick to public", dbname="app")
    pair.standby.wait_caught_up(pair.primary)
    sick = "exists (select from sick where host = host(inet_server_addr()))"
    p = make("any", health_dbname="app", health_query=f"select 1/(case when {sick} then 0 else 1 end)")
    clients = [p.login() for _ in range(2)]
    for c in clients:
        c.query("begin")
    wait_probed(p, pair)
    _, c = sorted(clients, key=where)
    pids = {r["remote_pid"] for r in p.show("servers")}
    pair.primary.sql("insert into sick values ('127.0.0.2')", dbname="app")
    wait_until(lambda: endpoints(p)[name(pair.standby)]["reachable"] == "no", "it is not well")
    pair.primary.sql("delete from sick", dbname="app")
    wait_until(lambda: endpoints(p)[name(pair.standby)]["reachable"] == "yes", "it is well again")
    assert where(c) == "127.0.0.2"
    for c in clients:
        c.query("commit")
    p.wait_pool(sv_idle=2)
    assert {r["remote_pid"] for r in p.show("servers")} == pids
    # while it is not well, they go
    pair.primary.sql("insert into sick values ('127.0.0.2')", dbname="app")
    wait_until(lambda: {r["addr"] for r in p.show("servers")} == {"127.0.0.1"}, "servers there are closed")


def test_probe_that_hangs_alone_harms_nobody(make, pair):
    """Its question is asked once more, on a new connection: the host is well, and so are its long queries."""
    p = make("any", health_timeout=2)
    clients = [p.login() for _ in range(2)]
    for c in clients:
        c.query("begin")
    wait_role(p, pair.primary, "primary")
    wait_role(p, pair.standby, "standby")
    for c in clients:
        c.send(wire.query("select pg_sleep(5)"))
    found = "select pid from pg_stat_activity where application_name = 'pgsluice health'"
    (pid,) = wait_until(lambda: pair.primary.sql(found), "the probe keeps its connection")[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: pair.primary.sql(found + " and pid <> %s", (pid,)), "the probe has connected anew")
        for c in clients:
            assert c.read_ready().errors == []
    finally:
        os.kill(pid, signal.SIGCONT)


def test_clients_of_the_only_host_are_left_alone(make, pair):
    """It may be slow, and nobody else could serve them: what is under way comes to its end."""
    p = make("primary", health_timeout=0.3)
    c = p.login()
    c.query("begin")
    wait_role(p, pair.primary, "primary")
    wait_role(p, pair.standby, "standby")
    with stopped(pair.primary):
        c.send(wire.query("select 'late'"))
        wait_until(lambda: endpoints(p)[name(pair.primary)]["reachable"] == "no", "the silence was noticed")
        assert wire.wait_silent(c, 0.8)
    assert c.read_ready().value() == "late"
    assert c.query("commit").tag == "COMMIT"
