"""DRAIN and SHUTDOWN DRAIN: who may finish what, who is told what, and what ends it."""
import threading
import time

import pytest
from harness import wire
from harness.procs import wait_until
from harness.wire import Closed, PgError

pytestmark = pytest.mark.ours

TRANSACTIONS = {"pool_mode": "transaction"}
DRAINED = "terminating connection: the database is being drained"
TOO_LATE = "terminating connection: not finished when draining ended"
SHUTDOWN = "server shutting down"


def begin(p, command):
    """Starts a drain on a session of its own, which is answered when it is over."""
    console = p.console()
    console.conn.send(wire.query(command))
    return console.conn


def told(conn, text=DRAINED):
    error = conn.expect_error_close()
    assert (error.severity, error.text) == ("FATAL", text)


def tag(conn):
    result = conn.read_ready()
    return result.error.text if result.error else result.tag


def refused(p, database="app"):
    """The error of a login, None when it succeeds."""
    try:
        p.login(database=database).close()
    except PgError as e:
        return e.text
    return None


@pytest.fixture(params=["transaction", "session"])
def mode(request):
    return {"pool_mode": request.param}


def test_idle_clients_are_told_at_once_and_others_at_their_next_boundary(make_pooler, mode):
    p = make_pooler(settings={**mode, "drain_timeout": 0})
    idle, used, busy, asleep = (p.login() for _ in range(4))
    used.query("select 1")
    busy.query("begin")
    asleep.send(wire.query("select pg_sleep(1)"))
    p.wait_pool(sv_active=2 if mode["pool_mode"] == "transaction" else 3)
    drain = begin(p, "DRAIN app")
    told(idle)
    told(used)
    assert asleep.read_through("C").rows == [[""]], "a query under way gets its answer"
    told_after_ready = asleep.expect_close()
    assert told_after_ready.types == "ZE" and told_after_ready.error.text == DRAINED
    assert busy.query("select 1").rows == [["1"]], "a transaction goes on"
    assert drain.is_silent()
    answer = busy.query("commit")
    assert (answer.tag, answer.status) == ("COMMIT", "I")
    told(busy)
    assert tag(drain) == "DRAIN"
    p.wait_pool(cl_active=0, cl_waiting=0, sv_active=0)


def test_what_was_sent_together_is_finished(make_pooler, cluster, database):
    """A client that does not wait for its answers is closed when it has got them all, and not one more is run."""
    db = database()
    cluster.sql("create table t (n int)", dbname=db)
    cluster.sql("grant all on t to app", dbname=db)
    p = make_pooler({"app": cluster.dsn(dbname=db)}, settings=TRANSACTIONS)
    c = p.login()
    c.query("begin")
    drain = begin(p, "DRAIN app")
    p.wait_for_log("draining app: closing")
    c.send(wire.query("insert into t values (1)"), wire.query("commit"), wire.query("insert into t values (2)"))
    result = c.expect_close()
    assert result.tags == ["INSERT 0 1", "COMMIT", "INSERT 0 1"] and result.error.text == DRAINED
    assert tag(drain) == "DRAIN"
    assert cluster.value("select array_agg(n)::text from t", dbname=db) == "{1,2}"


def test_a_client_of_large_answers_gets_them_whole(make_pooler):
    """It is not closed while there is something that it has not read."""
    p = make_pooler(settings={**TRANSACTIONS, "drain_timeout": 0})
    c = p.login()
    c.send(wire.query("select repeat('x', 1000000) from generate_series(1, 30)"))
    assert c.recv().type == "T"
    drain = begin(p, "DRAIN")
    p.wait_for_log("draining all databases: closing")
    result = c.expect_close()
    assert sum(m.type == "D" for m in result.messages) == 30
    assert result.types[-3:] == "CZE" and result.error.text == DRAINED
    assert tag(drain) == "DRAIN"


def test_waiting_clients_are_told(make_pooler):
    p = make_pooler(settings={**TRANSACTIONS, "default_pool_size": 1})
    holder, waiter = p.login(), p.login()
    holder.query("begin")
    waiter.send(wire.query("select 1"))
    p.wait_pool(cl_waiting=1)
    drain = begin(p, "DRAIN app")
    told(waiter)
    assert holder.query("commit").tag == "COMMIT"
    told(holder)
    assert tag(drain) == "DRAIN"


def test_the_deadline(make_pooler, cluster):
    p = make_pooler(settings=TRANSACTIONS)
    busy, asleep = p.login(), p.login()
    busy.query("begin")
    asleep.send(wire.query("select pg_sleep(600)"))
    p.wait_pool(sv_active=2)
    started = time.monotonic()
    drain = begin(p, "DRAIN app WITHIN 1")
    p.wait_for_log("DRAIN 'app' WITHIN 1 command issued")
    told(busy, TOO_LATE)
    told(asleep, TOO_LATE)
    assert time.monotonic() - started > 0.9
    assert tag(drain) == "DRAIN"


def test_the_deadline_of_the_setting(make_pooler):
    p = make_pooler(settings={**TRANSACTIONS, "drain_timeout": "0.5"})
    busy = p.login()
    busy.query("begin")
    drain = begin(p, "DRAIN app")
    told(busy, TOO_LATE)
    assert tag(drain) == "DRAIN"


def test_states_of_our_own_profile(make_pooler):
    p = make_pooler(settings=TRANSACTIONS, profile="pgsluice")
    idle, busy = p.login(), p.login()
    busy.query("begin")
    drain = begin(p, "DRAIN app WITHIN 1")
    error = idle.expect_error_close()
    assert (error.code, error.text) == ("57P01", DRAINED)
    assert error.fields["D"].startswith('Database "app" is being taken out of service')
    assert error.fields["H"].startswith("Connect again")
    error = p.login_error()
    assert (error.severity, error.code, error.text) == ("FATAL", "57P03", 'database "app" is being drained')
    error = busy.expect_error_close()
    assert (error.code, error.text) == ("57P01", TOO_LATE)
    assert tag(drain) == "DRAIN"


def test_other_databases_go_on(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn(), "other": cluster.dsn(dbname="app")}, settings=TRANSACTIONS)
    here, there = p.login(), p.login(database="other")
    assert p.admin("DRAIN app") == "DRAIN"
    told(here)
    assert refused(p) == 'database "app" is being drained'
    assert there.query("select 1").rows == [["1"]]
    assert refused(p, "other") is None


@pytest.mark.parametrize("end", ["RESUME app", "ENABLE app"])
def test_end_of_a_drain(make_pooler, end):
    p = make_pooler(settings=TRANSACTIONS)
    busy = p.login()
    busy.query("begin")
    drain = begin(p, "DRAIN app")
    wait_until(lambda: refused(p), "the drain to begin")
    assert p.admin(end) == end.split()[0]
    assert tag(drain) == "DRAIN was undone before it was complete"
    assert busy.query("commit").tag == "COMMIT"
    assert busy.query("select 1").rows == [["1"]], "it was not closed"
    assert refused(p) is None


def test_drain_of_everything(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn(), "other": cluster.dsn(dbname="app")}, settings=TRANSACTIONS)
    clients = [p.login(), p.login(database="other")]
    assert p.admin("DRAIN") == "DRAIN"
    for c in clients:
        told(c)
    assert refused(p) == 'database "app" is being drained'
    assert refused(p, "other") == 'database "other" is being drained'
    with pytest.raises(PgError, match="database app is not paused"):
        p.admin("RESUME app")
    assert p.admin("RESUME") == "RESUME"
    assert refused(p) is None and refused(p, "other") is None
    with pytest.raises(PgError, match="not paused"):
        p.admin("RESUME")


def test_nothing_happens_during_the_delay(make_pooler):
    p = make_pooler(settings={**TRANSACTIONS, "drain_delay": 600})
    c = p.login()
    drain = begin(p, "DRAIN app")
    p.wait_for_log("draining app: announced")
    assert refused(p) is None
    assert c.query("select 1").rows == [["1"]]
    p.admin("SET drain_delay = 0")
    second = begin(p, "DRAIN app")
    told(c)
    assert tag(drain) == tag(second) == "DRAIN"


def test_shutdown_drain(make_pooler):
    p = make_pooler(settings=TRANSACTIONS)
    idle, busy = p.login(), p.login()
    busy.query("begin")
    p.exit_wanted = True
    assert p.admin("SHUTDOWN DRAIN") == "SHUTDOWN"
    told(idle, SHUTDOWN)
    wait_until(lambda: p.refuses_tcp(), "TCP is closed")
    u = p.raw_unix()
    with pytest.raises(PgError) as refusal:
        u.login("app", "app", "apppw")
    assert refusal.value.text == "pooler is shutting down"
    assert busy.query("select 1").rows == [["1"]]
    assert busy.query("commit").tag == "COMMIT"
    told(busy, SHUTDOWN)
    assert p.wait_exit() == 0


def test_shutdown_drain_ends_at_its_deadline(make_pooler):
    p = make_pooler(settings=TRANSACTIONS)
    busy = p.login()
    busy.query("begin")
    p.exit_wanted = True
    assert p.admin("SHUTDOWN DRAIN WITHIN 1") == "SHUTDOWN"
    told(busy, TOO_LATE)
    assert p.wait_exit() == 0


def test_shutdown_drain_changes_its_mind(make_pooler):
    """Another kind of shutdown takes its place, and clients are served as that one wants."""
    p = make_pooler(settings={**TRANSACTIONS, "drain_delay": 600})
    c = p.login()
    console = p.console()
    assert console.run("SHUTDOWN DRAIN") == "SHUTDOWN"
    assert c.query("select 1").rows == [["1"]]
    assert refused(p) is None
    with pytest.raises(PgError, match="pooler is shutting down"):
        console.run("RESUME")
    with pytest.raises(PgError, match="pooler is shutting down"):
        console.run("DRAIN app")
    p.exit_wanted = True
    assert console.run("SHUTDOWN WAIT_FOR_CLIENTS") == "SHUTDOWN"
    assert c.query("select 1").rows == [["1"]]
    console.close()
    c.terminate()
    assert p.wait_exit() == 0


def test_drain_while_suspended(make_pooler):
    p = make_pooler()
    console = p.console()
    assert console.run("SUSPEND") == "SUSPEND"
    for command in ("DRAIN", "DRAIN app", "SHUTDOWN DRAIN"):
        with pytest.raises(PgError, match="cannot drain while suspended"):
            console.run(command)
    console.run("RESUME")


def test_names_and_numbers(make_pooler):
    p = make_pooler()
    console = p.console()
    for command, text in (
        ("DRAIN nowhere", "no such database: nowhere"),
        ("DRAIN pgbouncer", "cannot drain admin db: pgbouncer"),
        ("DRAIN app WITHIN soon", "invalid number of seconds: soon"),
        ("SHUTDOWN DRAIN WITHIN 99999999999999999999", "invalid number of seconds: 99999999999999999999"),
        ("SHUTDOWN WAIT_FOR_CLIENTS WITHIN 5", "invalid command 'SHUTDOWN WAIT_FOR_CLIENTS WITHIN 5', use SHOW HELP;"),
        ("PAUSE app WITHIN 5", "invalid command 'PAUSE app WITHIN 5', use SHOW HELP;"),
    ):
        assert console.conn.query(command).error.text == text
    assert p.login().query("select 1").rows == [["1"]]


def test_drain_under_load(make_pooler, cluster, database):
    """Clients that book and count: each booking that was answered is there, and none that was not begun."""
    db = database()
    cluster.sql("create table t (who int, n int, primary key (who, n))", dbname=db)
    cluster.sql("grant all on t to app", dbname=db)
    p = make_pooler({"app": cluster.dsn(dbname=db)}, settings={**TRANSACTIONS, "default_pool_size": 4}, threads=2)
    done, ends = {}, {}
    started = threading.Barrier(17)

    def work(who):
        c, n = p.login(), 0
        started.wait()
        try:
            while True:
                for sql in ("begin", f"insert into t values ({who}, {n})", "commit"):
                    r = c.query(sql)
                    assert not r.error, r.error
                n += 1
        except Closed as e:
            text = wire.Result(e.messages).error.text if e.messages else None
            ends[who] = (sql, text)
        except OSError as e:
            ends[who] = (sql, str(e))
        done[who] = n

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for t in threads:
        t.start()
    started.wait()
    wait_until(lambda: int(cluster.value("select count(*) from t", dbname=db)) > 50, "some bookings")
    assert p.admin("DRAIN app") == "DRAIN"
    for t in threads:
        t.join(20)
    assert all(sql == "begin" for sql, _ in ends.values()), f"closed only between transactions: {ends}"
    counted = dict(cluster.sql("select who, count(*)::int from t group by who", dbname=db))
    assert {w: counted.get(w, 0) for w in done} == done
