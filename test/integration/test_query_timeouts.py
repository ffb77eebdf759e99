"""query_timeout_action = cancel: the query is stopped, client and server go on; and what clients that vanish leave."""
import random
import re
import threading
import time

import pytest
from harness import wire
from harness.procs import wait_until

pytestmark = pytest.mark.ours

CANCEL = {"pool_mode": "transaction", "query_timeout": "0.3", "query_timeout_action": "cancel", "default_pool_size": 1}
GONE = {"pool_mode": "transaction", "client_gone_action": "cancel", "default_pool_size": 1}
TEXT = "canceling statement due to query_timeout"
SLEEP = "select pg_sleep(30)"


def timeouts(pooler):
    return {row["name"]: int(row["value"]) for row in pooler.show("timeouts")}


def stopped(result, status="I"):
    assert result.error, result.messages
    assert (result.error.severity, result.error.code, result.error.text) == ("ERROR", "57014", TEXT)
    assert result.status == status


def pid_of(conn):
    return conn.value("select pg_backend_pid()")


def wait_gone(pooler, **wanted):
    wait_until(lambda: all(timeouts(pooler)[k] == v for k, v in wanted.items()), f"timeouts {wanted}")


# --- the ladder


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_query_is_stopped_and_all_else_stays(make_pooler, mode):
    p = make_pooler(settings={**CANCEL, "pool_mode": mode})
    c = p.login()
    pid = pid_of(c)
    c.send(wire.query(SLEEP))
    stopped(c.read_ready())
    assert pid_of(c) == pid
    counts = timeouts(p)
    assert (counts["canceled"], counts["closed"]) == (1, 0)


def test_error_in_our_style(make_pooler):
    p = make_pooler(settings={**CANCEL, "error_style": "postgres"})
    c = p.login()
    error = c.query(SLEEP).error
    assert error.fields["D"].endswith("; its limit is 300 ms.")
    assert error.fields["H"] and error.fields["C"] == "57014"


def test_inside_a_transaction(make_pooler):
    p = make_pooler(settings=CANCEL)
    c = p.login()
    c.query("begin")
    pid = pid_of(c)
    stopped(c.query(SLEEP), "E")
    assert c.query("select 1").error.code == "25P02"
    assert c.query("rollback").status == "I"
    assert pid_of(c) == pid


def test_quick_queries_and_idle_transactions_are_left_alone(make_pooler):
    """As long as another one needs to be over the same limit, and to be stopped."""
    p = make_pooler(settings={**CANCEL, "query_timeout": 1, "default_pool_size": 2})
    c, other = p.login(), p.login()
    c.query("begin")
    stopped(other.query(SLEEP))
    assert c.query("select 1").rows == [["1"]]
    assert c.query("commit").status == "I"
    assert {k: v for k, v in timeouts(p).items() if v} == {"canceled": 1}


@pytest.mark.parametrize("name", ["", "named"])
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_extended(make_pooler, mode, name):
    p = make_pooler(settings={**CANCEL, "pool_mode": mode})
    c = p.login()
    for _ in range(2):
        c.send(wire.parse(name, SLEEP), wire.bind("", name), wire.execute(), wire.pack("S"))
        stopped(c.read_ready())
        assert c.query("select 1").rows == [["1"]]
        if name:
            c.send(wire.close("S", name), wire.pack("S"))
            assert c.read_ready().error is None


def test_rest_of_a_pipeline_is_run(make_pooler):
    """
    A batch behind the one that was stopped has a limit of its own. PostgreSQL signals its backend twice for one request,
    so that now and then the second signal stops what it has begun meanwhile; that is told in its own words, not in ours.
    """
    p = make_pooler(settings={**CANCEL, "query_timeout": 1})
    c = p.login()
    for _ in range(5):
        for sql in ("select 'a'", SLEEP, "select 'b', pg_sleep(0.3)"):
            c.send(wire.extended(sql), wire.pack("S"))
        assert c.read_ready().rows == [["a"]]
        stopped(c.read_ready())
        last = c.read_ready()
        if not last.error:
            break
        assert last.error.text == "canceling statement due to user request"
    assert last.rows == [["b", ""]]


def test_in_the_middle_of_rows(make_pooler):
    p = make_pooler(settings=CANCEL)
    c = p.login(timeout=20)
    result = c.query("select repeat('x', 5000), pg_sleep(0.001 * (n > 100)::int) from generate_series(1, 100000) n")
    stopped(result)
    assert len(result.rows) > 100
    assert c.query("select 1").rows == [["1"]]


def test_copy_out(make_pooler):
    p = make_pooler(settings=CANCEL)
    c = p.login(timeout=20)
    result = c.query("copy (select n, pg_sleep(0.01) from generate_series(1, 100000) n) to stdout")
    stopped(result)
    assert c.query("select 1").rows == [["1"]]


@pytest.mark.parametrize("extended", [False, True])
def test_copy_in(make_pooler, extended):
    """The server waits for data, and does not listen to a cancel request before it comes."""
    p = make_pooler(settings=CANCEL)
    c = p.login()
    c.query("begin")
    pid = pid_of(c)
    c.query("create temp table t (a int) on commit drop")
    if extended:
        c.send(wire.extended("copy t from stdin"), wire.pack("H"))
    else:
        c.send(wire.query("copy t from stdin"))
    while c.recv().type != "G":
        pass
    c.send(wire.pack("d", b"1\n"))
    messages = [c.recv()]
    while messages[-1].type != "E":
        messages.append(c.recv())
    c.send(wire.pack("d", b"2\n"), wire.pack("c"))
    if extended:
        c.send(wire.pack("S"))
    messages += c.read_ready().messages
    stopped(wire.Result(messages), "E")
    c.query("rollback")
    assert pid_of(c) == pid


def test_function_call(make_pooler, cluster):
    p = make_pooler(settings=CANCEL)
    c = p.login()
    oid = int(c.value("select 'pg_sleep'::regproc::oid"))
    body = oid.to_bytes(4, "big") + b"\0\1\0\0\0\1" + (2).to_bytes(4, "big") + b"30" + b"\0\0"
    c.send(wire.pack("F", body))
    stopped(c.read_ready())


def test_disconnect_is_the_way_of_pgbouncer(make_pooler):
    p = make_pooler(settings={"query_timeout": "0.3"})
    c = p.login()
    c.send(wire.query(SLEEP))
    assert c.expect_error_close().text == "query timeout"
    assert timeouts(p)["closed"] == 1


def test_default_of_the_profile(make_pooler):
    p = make_pooler(profile="pgsluice", settings={"query_timeout": "0.3"})
    c = p.login()
    stopped(c.query(SLEEP))
    assert p.config()["client_gone_action"] == "cancel"


def test_per_database_and_user(make_pooler, cluster):
    p = make_pooler(
        {
            "app": cluster.dsn(),
            "quick": cluster.dsn(dbname="app", query_timeout="0.25", query_timeout_action="cancel"),
            "hard": cluster.dsn(dbname="app", query_timeout="0.25", cancel_grace="0"),
        },
        settings={"pool_mode": "transaction", "query_timeout": 60},
        users={"app2": "query_timeout=1 query_timeout_action=cancel"},
    )
    slow, quick, mine = p.login("app", "app"), p.login("app", "quick"), p.login("app2", "quick")
    slow.send(wire.query("select pg_sleep(2)"))
    quick.send(wire.query(SLEEP))
    started = time.monotonic()
    mine.send(wire.query(SLEEP))
    stopped(quick.read_ready())
    stopped(mine.read_ready())
    assert time.monotonic() - started > 0.95, "the user's is before the database's"
    hard = p.login("app", "hard")
    hard.send(wire.query(SLEEP))
    assert hard.expect_error_close().text == "query timeout"
    assert slow.read_ready().error is None


def test_limits_below_the_period_of_the_janitor(make_pooler):
    p = make_pooler(settings={**CANCEL, "query_timeout": "0.02"})
    c = p.login()
    stopped(c.query(SLEEP))
    assert timeouts(p)["canceled"] == 1


# --- the server does not stop


class Deaf:
    """A server that takes cancel requests and goes on; the query is answered when the test says so."""

    def __init__(self, fake_server):
        self.go, self.queries = threading.Event(), []
        self.server = fake_server(self.handle)

    def handle(self, conn, params):
        def reply(sql):
            self.queries.append(sql)
            if sql == "slow":
                assert self.go.wait(20)
            return wire.answer(sql)

        wire.serve_queries(conn, reply)


def test_server_is_closed_when_the_grace_is_over(make_pooler, fake_server):
    deaf = Deaf(fake_server)
    p = make_pooler({"app": deaf.server.dsn()}, settings={**CANCEL, "cancel_grace": "0.4"})
    c = p.login()
    started = time.monotonic()
    c.send(wire.query("slow"))
    wait_until(lambda: len(deaf.server.cancels) == 1, "the cancel request")
    wait_until(lambda: timeouts(p)["closed"] == 1, "the server closed")
    assert time.monotonic() - started > 0.65
    deaf.go.set()


def test_query_that_ends_in_the_race_is_answered(make_pooler, fake_server):
    deaf = Deaf(fake_server)
    p = make_pooler({"app": deaf.server.dsn()}, settings=CANCEL)
    c = p.login()
    c.send(wire.query("slow"))
    wait_until(lambda: len(deaf.server.cancels) == 1, "the cancel request")
    deaf.go.set()
    assert c.read_ready().rows == [["slow"]]
    assert c.value("next") == "next"
    assert timeouts(p)["finished"] == 1
    assert len(deaf.server.cancels) == 1 and deaf.server.logins == 1


def hold_cancels(fake_server, p_settings, make_pooler, query):
    """A server whose cancel connections stay open until the test says so."""
    state = {"go": threading.Event(), "ends": threading.Event(), "cancels": 0, "seen": []}

    def handler(conn):
        code, params = conn.read_startup()
        if code == wire.CODE_CANCEL:
            state["cancels"] += 1
            assert state["ends"].wait(20)
            return

        def reply(sql):
            state["seen"].append(sql)
            if sql == "slow":
                assert state["go"].wait(20)
            return wire.answer(sql, b"I" if sql in ("other", query) else b"T")

        wire.serve_queries(conn, reply)

    server = fake_server(handler, raw=True)
    return make_pooler({"app": server.dsn()}, settings=p_settings), state


def test_late_signal_hits_nobody_else(make_pooler, fake_server):
    """While the request is under way the server goes to nobody, nor does the client's next query."""
    p, state = hold_cancels(fake_server, CANCEL, make_pooler, "slow")
    c, other = p.login(), p.login()
    c.send(wire.query("slow"))
    wait_until(lambda: state["cancels"] == 1, "the cancel request")
    state["go"].set()
    assert c.read_ready().rows == [["slow"]]
    p.wait_pool(sv_being_canceled=1)
    p.admin("SET query_timeout = 0")
    other.send(wire.query("other"))
    p.wait_pool(cl_waiting=1)
    assert state["seen"] == ["slow"]
    state["ends"].set()
    assert other.read_ready().rows == [["other"]]


def test_late_signal_does_not_hit_the_next_of_the_transaction(make_pooler, fake_server):
    p, state = hold_cancels(fake_server, CANCEL, make_pooler, "never")
    c = p.login()
    c.send(wire.query("slow"))
    wait_until(lambda: state["cancels"] == 1, "the cancel request")
    state["go"].set()
    assert c.read_ready().status == "T"
    c.send(wire.query("next"))
    assert wire.wait_silent(c, 0.2)
    assert state["seen"] == ["slow"], "the signal could hit the next one"
    state["ends"].set()
    assert c.read_ready().rows == [["next"]]


def test_request_whose_connection_never_ends(make_pooler, fake_server):
    """Without cancel_wait_timeout it holds up the client for cancel_grace, and no longer."""
    settings = {**CANCEL, "cancel_wait_timeout": 0, "cancel_grace": 2}
    p, state = hold_cancels(fake_server, settings, make_pooler, "never")
    c = p.login()
    c.send(wire.query("slow"))
    wait_until(lambda: state["cancels"] == 1, "the cancel request")
    state["go"].set()
    assert c.read_ready().status == "T"
    assert c.query("next").rows == [["next"]]
    state["ends"].set()


# --- comments


@pytest.mark.parametrize("mode", ["session", "transaction"])
@pytest.mark.parametrize("kind", ["simple", "unnamed", "named"])
def test_comment(make_pooler, mode, kind):
    p = make_pooler(settings={**CANCEL, "query_timeout": 0, "pool_mode": mode, "query_timeout_hints": 1})
    c = p.login()
    sql = "/* pgsluice: timeout=150ms */ " + SLEEP
    if kind == "simple":
        c.send(wire.query(sql))
    else:
        name = "" if kind == "unnamed" else "s"
        c.send(wire.parse(name, sql), wire.bind("", name), wire.execute(), wire.pack("S"))
    stopped(c.read_ready())
    assert c.query("select pg_sleep(0.4)").error is None, "it is the limit of one query"


def test_comment_of_a_prepared_statement(make_pooler):
    """It goes with the statement, whenever that is executed."""
    p = make_pooler(settings={**CANCEL, "query_timeout": 0, "query_timeout_hints": 1})
    c = p.login()
    c.send(wire.parse("s", "/* pgsluice: timeout=100ms */ " + SLEEP), wire.pack("S"))
    assert c.read_ready().error is None
    for _ in range(2):
        c.send(wire.bind("", "s"), wire.execute(), wire.pack("S"))
        stopped(c.read_ready())


def test_comment_cannot_exceed_the_setting(make_pooler):
    p = make_pooler(settings={**CANCEL, "query_timeout_hints": 1})
    c = p.login()
    stopped(c.query("/* pgsluice: timeout=1min */ " + SLEEP))


def test_comment_in_pieces(make_pooler):
    p = make_pooler(settings={**CANCEL, "query_timeout": 0, "query_timeout_hints": 1})
    c = p.login()
    for byte in wire.query("/* pgsluice: timeout=100ms */ " + SLEEP):
        c.send(bytes([byte]))
    stopped(c.read_ready())


def test_comments_mean_nothing_under_pgbouncer(make_pooler):
    p = make_pooler(settings={**CANCEL, "query_timeout": 0})
    c = p.login()
    assert c.query("/* pgsluice: timeout=100ms */ select pg_sleep(0.4)").error is None


# --- the queue


def test_wait_counts_and_the_client_stays(make_pooler):
    p = make_pooler(settings=CANCEL)
    holder, waiter = p.login(), p.login()
    holder.query("begin")
    waiter.send(wire.query("select 'never run'"), wire.query("select 'second'"))
    for _ in range(2):
        error = waiter.read_ready().error
        assert (error.severity, error.code, error.text) == ("ERROR", "57014", "query_timeout")
    holder.query("commit")
    assert waiter.value("select 5") == "5"
    assert timeouts(p)["expired"] == 2


def test_wait_counts_behind_a_query_that_was_stopped(make_pooler):
    """The server comes from a client whose query has used up its own time, which is nothing to the next one."""
    p = make_pooler(
        settings={**CANCEL, "query_timeout": "2.5", "query_timeout_hints": 1, "error_style": "postgres"}
    )
    holder, waiter = p.login(), p.login()
    holder.send(wire.query("/* pgsluice: timeout=2s */ " + SLEEP))
    p.wait_pool(sv_active=1)
    started = time.monotonic()
    waiter.send(wire.query(SLEEP))
    stopped(holder.read_ready())
    error = waiter.read_ready().error
    took = time.monotonic() - started
    ran = float(re.search(r"ran for ([\d.]+) s", error.fields["D"]).group(1))
    assert error.code == "57014" and took - ran < 1.5, "it would be 2"


def test_wait_does_not_count_unless_it_shall(make_pooler):
    p = make_pooler(settings={**CANCEL, "timeout_includes_wait": 0, "query_timeout": "1.5"})
    holder, waiter = p.login(), p.login()
    holder.query("begin")
    waiter.send(wire.query("select 1, pg_sleep(0.3)"))
    wait_until(lambda: any(r["age_ms"] > 1600 for r in p.show("queue")), "a wait of more than the limit")
    holder.query("commit")
    assert waiter.read_ready().rows == [["1", ""]]


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_server_that_hangs_while_it_is_prepared(make_pooler, fake_server, mode):
    """The query has not been sent: it ends as one in the queue does, without a grace, and the client stays."""
    hangs = [True]

    def handler(conn, params):
        conn.greet()
        while True:
            sql = conn.recv().body[:-1].decode()
            if sql.startswith("SET") and hangs.pop():
                conn.recv()
                return
            if sql.startswith("SET"):
                conn.send(wire.pack("S", b"application_name\0mine\0"), wire.pack("C", b"SET\0"), wire.pack("Z", b"I"))
            else:
                conn.send(wire.answer(sql))

    server = fake_server(handler)
    p = make_pooler({"app": server.dsn()}, settings={**CANCEL, "pool_mode": mode, "cancel_grace": 60})
    c = p.login(params={"application_name": "mine"})
    hangs.insert(0, False)
    result = c.query("x")
    assert (result.error.severity, result.error.code, result.error.text) == ("ERROR", "57014", "query_timeout")
    assert result.status == "I"
    assert c.query("y").rows == [["y"]]
    assert (timeouts(p)["expired"], timeouts(p)["closed"]) == (1, 0)


def test_comment_counts_in_the_queue(make_pooler):
    p = make_pooler(settings={**CANCEL, "query_timeout": 0, "query_timeout_hints": 1})
    holder, waiter = p.login(), p.login()
    holder.query("begin")
    assert waiter.query("/* pgsluice: timeout=50 */ select 1").error.text == "query_timeout"
    holder.query("commit")


# --- clients that vanish


def leave(conn, kind):
    if kind == "reset":
        conn.reset()
    else:
        conn.close()


@pytest.mark.parametrize("mode", ["session", "transaction"])
@pytest.mark.parametrize("kind", ["reset", "close"])
def test_server_of_a_client_that_vanishes_is_kept(make_pooler, cluster, mode, kind):
    p = make_pooler(settings={**GONE, "pool_mode": mode})
    c = p.login()
    pid = pid_of(c)
    tag = f"vanish-{mode}-{kind}"
    c.send(wire.query(f"{SLEEP} /* {tag} */"))
    cluster.wait_running(tag)
    leave(c, kind)
    wait_gone(p, gone_kept=1)
    assert pid_of(p.login()) == pid


@pytest.mark.parametrize("running", [False, True])
def test_transaction_of_a_client_that_vanishes_is_rolled_back(make_pooler, cluster, running):
    p = make_pooler(settings=GONE)
    c = p.login()
    pid = pid_of(c)
    c.query("create table if not exists vanish (a int)")
    c.query("truncate vanish")
    c.query("begin"), c.query("insert into vanish values (1)")
    if running:
        c.send(wire.query(f"{SLEEP} /* vanish-tx */"))
        cluster.wait_running("vanish-tx")
    c.close()
    wait_gone(p, gone_kept=1)
    d = p.login()
    assert d.value("select count(*) from vanish") == "0"
    assert pid_of(d) == pid


def test_batch_without_its_sync_is_not_committed(make_pooler, cluster):
    p = make_pooler(settings=GONE)
    c = p.login()
    pid = pid_of(c)
    c.query("create table if not exists halfway (a int)")
    c.query("truncate halfway")
    c.send(wire.parse("", "insert into halfway values (1)"), wire.bind(), wire.execute(), wire.pack("H"))
    c.read_through("C")
    c.close()
    wait_gone(p, gone_kept=1)
    d = p.login()
    assert d.value("select count(*) from halfway") == "0"
    assert pid_of(d) == pid


def test_batch_that_has_not_been_flushed(make_pooler, cluster):
    p = make_pooler(settings=GONE)
    c = p.login()
    pid = pid_of(c)
    c.send(wire.parse("s", f"{SLEEP} /* unflushed */"), wire.bind("", "s"), wire.execute())
    cluster.wait_running("unflushed")
    c.close()
    wait_gone(p, gone_kept=1)
    d = p.login()
    assert pid_of(d) == pid
    d.send(wire.parse("s", "select 7"), wire.bind("", "s"), wire.execute(), wire.pack("S"))
    assert d.read_ready().rows == [["7"]]


@pytest.mark.parametrize("way", ["in", "out"])
def test_client_that_vanishes_in_copy(make_pooler, way):
    p = make_pooler(settings=GONE)
    c = p.login()
    pid = pid_of(c)
    c.query("create table if not exists copied (a text)")
    if way == "in":
        c.send(wire.query("copy copied from stdin"))
        c.read_through("G")
        c.send(wire.pack("d", b"1\n"))
    else:
        c.send(wire.query("copy (select repeat('x', 1000) from generate_series(1, 10000000)) to stdout"))
        c.read_through("d")
    c.close()
    wait_gone(p, gone_kept=1)
    d = p.login()
    assert pid_of(d) == pid
    assert d.value("select count(*) from copied") == "0"


def test_half_a_message_closes_the_server(make_pooler):
    p = make_pooler(settings=GONE)
    c = p.login()
    pid = pid_of(c)
    c.query("begin")
    c.send(wire.query("select '" + "x" * 100000 + "'")[:50000])
    p.wait_pool(sv_active=1)
    c.close()
    wait_until(lambda: p.login().value("select pg_backend_pid()") != pid, "another server")
    assert timeouts(p)["gone_kept"] == 0


def test_server_that_does_not_come_to_rest_is_closed(make_pooler, fake_server):
    deaf = Deaf(fake_server)
    p = make_pooler({"app": deaf.server.dsn()}, settings={**GONE, "cancel_grace": "0.4"})
    c = p.login()
    c.send(wire.query("slow"))
    wait_until(lambda: deaf.queries == ["slow"], "the query at the server")
    c.close()
    wait_gone(p, gone=1, gone_closed=1)
    assert len(deaf.server.cancels) == 1
    deaf.go.set()
    assert p.login().value("other") == "other"


def test_rows_of_one_who_vanished_go_to_nobody(make_pooler, fake_server):
    deaf = Deaf(fake_server)
    p = make_pooler({"app": deaf.server.dsn()}, settings=GONE)
    c, other = p.login(), p.login()
    c.send(wire.query("slow"), wire.query("more"))
    wait_until(lambda: deaf.queries == ["slow"], "the query at the server")
    c.close()
    other.send(wire.query("mine"))
    p.wait_pool(cl_waiting=1)
    deaf.go.set()
    assert other.read_ready().rows == [["mine"]]
    assert deaf.server.logins == 1


def test_who_says_goodbye_may_have_meant_it(make_pooler, cluster):
    """A query behind which the client has hung up politely has some time to end by itself."""
    p = make_pooler(settings=GONE)
    c = p.login()
    c.query("create table if not exists fired (a int)")
    c.query("truncate fired")
    c.send(wire.query("insert into fired select 1 from pg_sleep(0.4)"), wire.pack("X"))
    wait_gone(p, gone_kept=1)
    assert p.login().value("select count(*) from fired") == "1"


def test_goodbye_is_not_waited_for_longer_than_the_grace(make_pooler, cluster):
    p = make_pooler(settings={**GONE, "cancel_grace": 1})
    c = p.login()
    pid = pid_of(c)
    c.send(wire.query(SLEEP), wire.pack("X"))
    wait_gone(p, gone_kept=1)
    assert pid_of(p.login()) == pid


def test_closed_under_pgbouncer(make_pooler, cluster):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login()
    pid = pid_of(c)
    c.query("begin")
    c.close()
    p.wait_for_log("client disconnect while server was not ready")
    assert pid_of(p.login()) != pid


def test_crowd_of_slow_and_vanishing_clients(make_pooler):
    """Whatever is stopped and left behind, each client gets its own answers and nothing else."""
    p = make_pooler(
        profile="pgsluice",
        threads=2,
        settings={"default_pool_size": 4, "query_timeout": 5, "cancel_grace": 10, "log_rate_limit": 0},
    )
    wrong, rounds = [], 40

    def work(number):
        rng, c = random.Random(number), p.login(timeout=30)
        for n in range(rounds):
            tag = f"{number}.{n}"
            kind = rng.choice(("answer", "answer", "batch", "slow", "vanish", "in-transaction", "goodbye"))
            if kind == "answer":
                if c.value(f"select '{tag}'") != tag:
                    wrong.append(tag)
            elif kind == "batch":
                for part in "ab":
                    c.send(wire.extended(f"select '{tag}{part}'"), wire.pack("S"))
                if [c.read_ready().rows for _ in "ab"] != [[[tag + "a"]], [[tag + "b"]]]:
                    wrong.append(tag)
            elif kind == "slow":
                result = c.query(f"/* pgsluice: timeout={rng.randrange(1, 30)} */ select pg_sleep(4), '{tag}'")
                if not result.error or result.error.code != "57014" or result.status != "I":
                    wrong.append((tag, result.messages))
            else:
                if kind == "in-transaction":
                    c.query("begin")
                c.send(wire.query(f"select '{tag}', pg_sleep({rng.choice((0, 0.01, 4))})"))
                if kind == "goodbye":
                    c.send(wire.pack("X"))
                elif rng.random() < 0.5:
                    time.sleep(0.02)
                leave(c, rng.choice(("close", "reset")))
                c = p.login(timeout=30)
        c.terminate()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    assert not any(t.is_alive() for t in threads) and not wrong
    p.wait_pool(sv_active=0, sv_being_canceled=0, timeout=20)
    counts = timeouts(p)
    assert counts["gone_kept"] > 20 and counts["canceled"] > 10
