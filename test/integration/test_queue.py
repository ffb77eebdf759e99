"""The queue: how long it may be, who is told at once that waiting is in vain, and what is shown of it."""
import re

import pytest
from harness import wire
from harness.procs import wait_until

pytestmark = pytest.mark.ours

FULL = "too many clients wait for a server (max_waiting_clients)"
SLOW = "the wait for a server would be too long (queue_shed)"


def small(make_pooler, databases=None, profile="pgbouncer", size=1, **settings):
    settings = {"pool_mode": "transaction", "default_pool_size": size, **settings}
    return make_pooler(databases, settings=settings, profile=profile, threads=settings.pop("threads", None))


def queue_up(p, count, sql="select 1", **who):
    """Clients that wait, in this order."""
    out = []
    for _ in range(count):
        c = p.login(**who)
        before = len(p.show("queue"))
        c.send(wire.query(sql))
        wait_until(lambda n=before: len(p.show("queue")) == n + 1, "the client to wait")
        out.append(c)
    return out


def queues(p, database="app"):
    return next(r for r in p.show("queues") if r["database"] == database)


def test_max_waiting_clients(make_pooler):
    """The one too many is told so, stays connected, and is served when there is room."""
    p = small(make_pooler, max_waiting_clients=2)
    holder, late = p.login(), p.login()
    holder.query("begin")
    waiting = queue_up(p, 2)
    refused = late.query("select 1")
    assert refused.types == "EZ" and refused.status == "I"
    assert refused.error.fields == {"S": "ERROR", "C": "53300", "M": FULL}
    assert late.query("select 1").error.text == FULL, "and once more"
    assert queues(p)["refused"] == 2 and queues(p)["shed"] == 0
    assert (queues(p)["waiting"], queues(p)["max_waiting"]) == (2, 2)
    holder.query("commit")
    assert [c.read_ready().rows for c in waiting] == [[["1"]], [["1"]]]
    assert late.query("select 2").rows == [["2"]]


def test_facts_for_the_client(make_pooler):
    p = small(make_pooler, profile="pgsluice", max_waiting_clients=1)
    holder, late = p.login(), p.login()
    holder.query("begin")
    queue_up(p, 1)
    fields = late.query("select 1").error.fields
    assert (fields["S"], fields["C"], fields["M"]) == ("ERROR", "53300", FULL)
    assert (
        fields["D"] == 'Of database "app" and user "app" 1 clients wait for a server already; the query was not sent.'
    )
    assert fields["H"].startswith("Try again later")
    assert p.log_count(r"pooler error: too many clients wait") == 1


@pytest.mark.parametrize("prepared", [0, 200])
def test_a_refused_batch_is_skipped_to_its_sync(make_pooler, prepared):
    p = small(make_pooler, max_waiting_clients=1, max_prepared_statements=prepared)
    holder, late = p.login(), p.login()
    holder.query("begin")
    queue_up(p, 1)
    late.send(wire.extended("select 1"))
    error = late.recv()
    assert error.type == "E" and wire.fields_of(error.body)["C"] == "53300"
    late.send(wire.extended("select 2", statement="s"), wire.SYNC, wire.query("select 3"))
    assert late.read_ready().types == "Z"
    assert late.read_ready().error.text == FULL
    late.send(wire.SYNC)
    assert late.read_ready().types == "EZ"
    late.send(wire.pack("F", b"\0\0\0\1" + b"\0" * 6))
    assert late.read_ready().types == "EZ"
    holder.query("commit")
    late.send(wire.extended("select 4"), wire.SYNC)
    assert late.read_ready().rows == [["4"]]


def test_a_refused_query_in_pieces(make_pooler):
    """What has not come of it when it is refused is for nobody, but decides about the state of the client."""
    p = small(make_pooler, max_waiting_clients=1)
    holder, late = p.login(), p.login()
    holder.query("begin")
    queue_up(p, 1)
    text = wire.query("select '" + "x" * 200000 + "'")
    late.send(text[:100000])
    assert late.recv().type == "E"
    late.send(text[100000:])
    assert late.read_ready().types == "Z"
    holder.query("commit")
    assert late.query("select 4").rows == [["4"]]


def test_limit_of_a_database(make_pooler, cluster):
    p = small(
        make_pooler,
        {"app": cluster.dsn(), "more": cluster.dsn(dbname="app", max_waiting_clients=2),
         "all": cluster.dsn(dbname="app", max_waiting_clients=0)},
        max_waiting_clients=1,
    )  # fmt: skip
    for database, limit in (("app", 1), ("more", 2), ("all", 0)):
        holder = p.login(database=database)
        holder.query("begin")
        waiting = queue_up(p, 3 if limit == 0 else limit, database=database)
        if limit:
            assert p.login(database=database).query("select 1").error.text == FULL
        assert (queues(p, database)["waiting"], queues(p, database)["max_waiting"]) == (len(waiting), limit)
        holder.query("rollback")
        for c in waiting:
            c.read_ready()


def test_a_pool_that_can_grow_refuses_nobody(make_pooler):
    """Who waits for servers that are only being opened is not one too many."""
    p = small(make_pooler, size=8, max_waiting_clients=1)
    clients = [p.login() for _ in range(8)]
    for c in clients:
        c.send(wire.query("begin"))
    assert [c.read_ready().tag for c in clients] == ["BEGIN"] * 8
    waiting = queue_up(p, 1)
    assert p.login().query("select 1").error.text == FULL
    clients[0].query("commit")
    waiting[0].read_ready()


def test_limit_changes_by_reload_and_spares_who_waits(make_pooler):
    p = small(make_pooler)
    holder = p.login()
    holder.query("begin")
    waiting = queue_up(p, 3)
    p.admin("SET max_waiting_clients = 1")
    assert p.login().query("select 1").error.text == FULL
    assert all(c.is_silent() for c in waiting)
    holder.query("commit")
    assert [c.read_ready().rows for c in waiting] == [[["1"]]] * 3


def test_a_crowd_beyond_the_limit(make_pooler):
    """Everybody gets an answer or the refusal, and the books agree."""
    p = small(make_pooler, size=2, max_waiting_clients=50, threads=2, max_client_conn=400)
    clients = [p.login() for _ in range(300)]
    answers, errors = 0, 0
    for _ in range(3):
        for c in clients:
            c.send(wire.query("select pg_sleep(0.005)"))
        for c in clients:
            result = c.read_ready()
            errors += bool(result.error)
            answers += bool(result.rows)
            assert not result.error or result.error.text == FULL
    assert answers + errors == 900 and answers >= 150
    assert queues(p)["refused"] == errors > 0
    assert p.show("queue") == []


def test_show_queue(make_pooler):
    p = small(make_pooler, query_wait_timeout=600)
    holder = p.login()
    holder.query("begin")
    assert p.show("queue") == []
    waiting = queue_up(p, 3)
    ids = [r["id"] for r in sorted(p.show("clients"), key=lambda r: r["id"]) if r["state"] == "waiting"]
    rows = p.show("queue")
    assert [r["position"] for r in rows] == [1, 2, 3]
    assert [r["client_id"] for r in rows] == ids
    assert {(r["database"], r["user"], r["client_user"]) for r in rows} == {("app", "app", "app")}
    ages = [r["age_ms"] for r in rows]
    assert ages == sorted(ages, reverse=True)
    assert all(599000 <= r["age_ms"] + r["deadline_ms"] <= 600000 for r in rows)
    assert {r["estimated_ms"] for r in rows} == {None}
    waiting[0].reset()
    wait_until(lambda: len(p.show("queue")) == 2, "the first to leave")
    assert [(r["position"], r["client_id"]) for r in p.show("queue")] == [(1, ids[1]), (2, ids[2])]
    p.admin("SET query_wait_timeout = 0")
    assert {r["deadline_ms"] for r in p.show("queue")} == {None}
    holder.query("commit")
    for c in waiting[1:]:
        c.read_ready()
    assert p.show("queue") == []


def places(p):
    """The waiting clients of SHOW CLIENTS, as (id, position), and that all others have none."""
    rows = p.show("clients")
    idle = [r for r in rows if r["state"] != "waiting"]
    assert {(r["position"], r["age_ms"], r["deadline_ms"], r["estimated_ms"]) for r in idle} == {(None,) * 4}
    return sorted(((r["id"], r["position"]) for r in rows if r["state"] == "waiting"), key=lambda r: r[1])


def test_positions_in_show_clients(make_pooler):
    """From 1 on in the order of arrival, pool by pool, whichever thread a client is on."""
    p = small(make_pooler, profile="pgsluice", threads=2, query_wait_timeout=600)
    holders = [p.login(), p.login("app2")]
    for c in holders:
        c.query("begin")
    assert places(p) == []
    late = [p.login() for _ in range(4)]
    first = queue_up(p, 2)
    for c in reversed(late):
        before = len(p.show("queue"))
        c.send(wire.query("select 1"))
        wait_until(lambda n=before: len(p.show("queue")) == n + 1, "the client to wait")
    mine = [(r["client_id"], r["position"]) for r in p.show("queue")]
    assert [position for _, position in mine] == [1, 2, 3, 4, 5, 6]
    ids = [i for i, _ in mine]
    assert ids[0] < ids[1] and ids[2:] == sorted(ids[2:], reverse=True) and max(ids[2:]) < ids[0]
    assert places(p) == mine
    waiting = [r for r in p.show("clients") if r["state"] == "waiting"]
    assert all(599000 <= r["age_ms"] + r["deadline_ms"] <= 600000 for r in waiting)
    queue_up(p, 2, user="app2")
    assert [position for _, position in places(p)] == [1, 1, 2, 2, 3, 4, 5, 6]
    first[0].reset()
    wait_until(lambda: len(p.show("queue")) == 7, "the first to leave")
    assert [r for r in places(p) if r[0] in ids] == list(zip(ids[1:], range(1, 6)))
    assert p.pool()["estimated_ms"] is None


def test_clients_that_wait_for_a_greeting_are_shown_and_not_counted(make_pooler, fake_server):
    silent = fake_server(lambda c, params: c.expect_close())
    p = small(make_pooler, {"app": silent.dsn()}, profile="pgsluice", max_waiting_clients=1)
    for _ in range(3):
        c = p.raw()
        c.send(wire.startup_packet({"user": "app", "database": "app"}))
    wait_until(lambda: len(p.show("queue")) == 3, "three logins to wait")
    assert queues(p)["waiting"] == 0
    assert [position for _, position in places(p)] == [1, 2, 3]


# ---- queue_shed

NAP = wire.query("select pg_sleep(0.05)")


def shed_pooler(make_pooler, cluster, **settings):
    """A pool of two servers for all users; app2 may wait for one second, the others for long."""
    settings = {"queue_shed": 1, "query_wait_timeout": 600, **settings}
    databases = {"app": cluster.dsn(user="app", password="apppw")}
    return make_pooler(
        databases,
        settings={"default_pool_size": 2, **settings},
        users={"app2": "query_wait_timeout=1"},
        profile="pgsluice",
    )


def learn(p):
    """Clients that keep a queue moving until it is known how fast; each has a query under way then."""
    clients = [p.login() for _ in range(8)]
    for c in clients:
        c.send(NAP)
    for _ in range(300):
        for c in clients:
            assert not c.read_ready().error
            c.send(NAP)
        if queues(p)["estimated_ms"] is not None:
            return clients
    raise AssertionError(f"no estimate: {p.show('queues')}")


def test_estimate_is_shown(make_pooler, cluster):
    p = shed_pooler(make_pooler, cluster)
    clients = learn(p)
    assert p.pool()["estimated_ms"] is not None
    slow = [p.login() for _ in range(20)]
    for c in slow:
        c.send(wire.query("select pg_sleep(0.1)"))
    rows = wait_until(lambda: [r for r in p.show("queue") if r["estimated_ms"] is not None], "an estimate of somebody")
    assert [r["estimated_ms"] for r in rows] == sorted(r["estimated_ms"] for r in rows)
    wait_until(lambda: [r for r in p.show("clients") if r["estimated_ms"] is not None], "the same in SHOW CLIENTS")
    for c in clients + slow:
        assert not c.read_ready().error
    assert queues(p)["shed"] == 0


def test_newcomer_that_would_wait_in_vain(make_pooler, cluster):
    """A client whose time is short is told at once; one that has time waits."""
    p = shed_pooler(make_pooler, cluster)
    learn(p)
    hurried, patient = p.login("app2"), p.login()
    crowd = [p.login() for _ in range(300)]
    for c in crowd:
        c.send(wire.query("select pg_sleep(0.1)"))
    answer = hurried.query("select 1")
    assert answer.types == "EZ"
    fields = answer.error.fields
    assert (fields["S"], fields["C"], fields["M"]) == ("ERROR", "53300", SLOW)
    assert re.fullmatch(r"The estimated wait is \d+ ms\. Try again later\.", fields["H"])
    assert re.fullmatch(
        r'A server of database "app" for user "app2" would be free in about .* s, and the query may wait for 1 s; '
        r"it was not sent\.",
        fields["D"],
    )
    patient.send(wire.query("select 1"))
    wait_until(lambda: len(p.show("queue")) > 1, "the others to wait")
    assert patient.is_silent()
    assert queues(p)["shed"] == 1


def test_those_who_wait_already_are_told_as_well(make_pooler, cluster):
    """They came when nothing was known; when it is, the last are told, and the first are served."""
    p = shed_pooler(make_pooler, cluster, query_wait_timeout=5)
    clients = [p.login() for _ in range(80)]
    for c in clients:
        c.send(wire.query("select pg_sleep(0.3)"))
    answers = [c.read_through("EZ") for c in clients]
    errors = [(c, a.error) for c, a in zip(clients, answers) if a.error]
    shed = [(c, e) for c, e in errors if e.severity == "ERROR"]
    assert {(e.code, e.text) for _, e in shed} == {("53300", SLOW)}
    assert len(shed) > len(errors) / 2, "80 queries of 0.3 s on two servers take 12 s, and may take 5"
    assert all(re.search(r"estimated wait is \d+ ms", e.fields["H"]) for _, e in shed)
    assert len(errors) < len(clients), "those who came first are served"
    assert queues(p)["shed"] == len(shed)
    for c, _ in shed:
        assert c.read_ready().types == "Z", "who is told stays"
    assert shed[0][0].query("select 1").rows == [["1"]]


def test_a_pause_is_no_reason(make_pooler, cluster):
    """While everything is paused no rate means anything, nor does the one before it afterwards."""
    p = shed_pooler(make_pooler, cluster)
    clients = learn(p)
    p.admin("PAUSE")
    late = p.login("app2")
    late.send(wire.query("select 1"))
    wait_until(lambda: any(r["client_user"] == "app2" for r in p.show("queue")), "the client to wait")
    assert {r["estimated_ms"] for r in p.show("queue")} == {None}
    assert queues(p)["estimated_ms"] is None
    p.admin("RESUME")
    for c in clients:
        assert not c.read_ready().error
    assert queues(p)["shed"] == 0
