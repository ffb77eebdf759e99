"""Statements that are run again, `retry = safe`: which, how often, and that nothing is done twice."""
import signal
import socket
import threading

import pytest
from harness import wire
from harness.load import adds_up
from harness.procs import wait_until

pytestmark = pytest.mark.ours


def fails(code, text="made by a fake server", severity="ERROR"):
    return wire.pack("E", wire.error_body(severity, code, text))


class Script:
    """A fake server that answers each statement by the next of its answers, and counts what it is asked."""

    def __init__(self, fake_server, *answers):
        self.answers, self.asked, self.lock = list(answers), [], threading.Lock()
        self.server = fake_server(self.handler)

    def handler(self, conn, params):
        conn.greet()
        batch = b""
        while True:
            m = conn.recv()
            if m.type == "X":
                return
            batch += wire.pack(m.type, m.body)
            if m.type not in "QS":
                continue
            with self.lock:
                self.asked.append(batch)
                answer = self.answers.pop(0)
            batch = b""
            if answer is None:
                return
            conn.send(answer)


READY = wire.pack("Z", b"I")
CONFLICT = fails("40001") + READY
DEADLOCK = fails("40P01") + READY
DONE = wire.answer("x")
EXTENDED = wire.pack("1") + wire.pack("2") + wire.row_description("v")


@pytest.fixture
def scripted(make_pooler, fake_server):
    def make(*answers, **settings):
        s = Script(fake_server, *answers)
        settings = {"pool_mode": "transaction", "retry": "safe", **settings}
        s.pooler = make_pooler({"app": s.server.dsn()}, settings=settings, threads=1)
        s.client = s.pooler.login()
        s.retries = lambda: {r["sqlstate"]: {k: v for k, v in r.items() if type(v) is int and v}
                             for r in s.pooler.show("retries")}
        return s

    return make


@pytest.mark.parametrize("code,failure", [("40001", CONFLICT), ("40P01", DEADLOCK)])
@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_conflict_is_hidden(scripted, code, failure, mode):
    s = scripted(failure, failure, DONE, DONE, pool_mode=mode)
    r = s.client.query("update t set i = 1")
    assert (r.types, r.rows, r.status) == ("TDCZ", [["x"]], "I")
    assert s.asked == [wire.query("update t set i = 1")] * 3
    assert s.retries() == {code: {"retried": 2, "succeeded": 1}}
    assert s.client.query("select 1").rows == [["x"]]
    adds_up(s.pooler)


def test_attempts_are_limited(scripted):
    s = scripted(CONFLICT, CONFLICT, CONFLICT, DONE, CONFLICT, CONFLICT, DONE)
    r = s.client.query("select 1")
    assert ([e.code for e in r.errors], r.status) == (["40001"], "I")
    assert len(s.asked) == 3
    assert s.client.query("select 2").rows == [["x"]]
    assert s.client.query("select 3").rows == [["x"]]  # counts anew
    assert s.retries() == {"40001": {"retried": 4, "succeeded": 1, "gave_up_attempts": 1}}
    adds_up(s.pooler)


def test_the_deadline_is_kept(scripted):
    s = scripted(CONFLICT, query_timeout="0.0001")
    assert s.client.query("select 1").errors[0].code == "40001"
    assert s.retries() == {"40001": {"gave_up_deadline": 1}}


def test_the_budget_is_kept(scripted):
    s = scripted(*([CONFLICT] * 12), DONE, CONFLICT, DONE, retry_max_attempts=100, retry_budget=50)
    assert s.client.query("select 1").errors[0].code == "40001"
    assert len(s.asked) == 11  # ten are saved up
    assert s.client.query("select 2").errors[0].code == "40001"
    assert s.client.query("select 3").rows == [["x"]]
    assert s.client.query("select 4").rows == [["x"]]  # four statements have earned it, the first in vain
    assert s.retries() == {"40001": {"retried": 11, "succeeded": 1, "gave_up_budget": 2}}


@pytest.mark.parametrize(
    "sql",
    [
        "commit",
        "begin",
        "select 1; select 2",
        "call p()",
        "do 'x'",
        "vacuum t",
        "create index concurrently on t (i)",
        "copy t to stdout",
        "/* /* */ select */ call p()",
        "set a = 1",
        "select '" + "x" * 9000 + "'",
    ],
)
def test_other_statements_are_not_repeated(scripted, sql):
    s = scripted(CONFLICT)
    assert s.client.query(sql).errors[0].code == "40001"
    assert len(s.asked) == 1


@pytest.mark.parametrize("code", ["23505", "57014", "08006", "25P02", "XX000"])
def test_other_errors_are_told(scripted, code):
    s = scripted(fails(code) + READY)
    assert s.client.query("select 1").errors[0].code == code
    assert s.retries() == {}


def test_nothing_inside_of_a_transaction_is_repeated(scripted):
    s = scripted(wire.pack("C", b"BEGIN\0") + wire.pack("Z", b"T"), fails("40001") + wire.pack("Z", b"E"))
    s.client.query("begin")
    r = s.client.query("update t set i = 1")
    assert (r.errors[0].code, r.status, len(s.asked)) == ("40001", "E", 2)


def test_an_answer_that_has_begun_is_not_taken_back(scripted):
    s = scripted(wire.row_description("v") + wire.data_row("y") + CONFLICT)
    r = s.client.query("select 1")
    assert (r.types, r.rows) == ("TDEZ", [["y"]])
    assert s.retries() == {"40001": {"gave_up_begun": 1}}


ROW = wire.row_description("v") + wire.data_row("y")


@pytest.mark.parametrize(
    "sql", ["call p()", "select 1; update t set i = 1", "copy t to stdout", "select '" + "x" * 9000 + "'"]
)
def test_begun_is_not_counted_for_what_is_never_repeated(scripted, sql):
    s = scripted(ROW + CONFLICT, ROW + CONFLICT)
    assert s.client.query(sql).errors[0].code == "40001"
    assert s.retries() == {}
    assert s.client.query("select 1").errors[0].code == "40001"
    assert s.retries() == {"40001": {"gave_up_begun": 1}}


def test_begun_is_not_counted_inside_of_a_transaction(scripted):
    """Neither for what follows BEGIN, nor for what follows a statement whose answer went well."""
    s = scripted(
        wire.pack("C", b"BEGIN\0") + wire.pack("Z", b"T"),
        ROW + fails("40001") + wire.pack("Z", b"E"),
        wire.pack("C", b"ROLLBACK\0") + READY,
    )
    s.client.query("begin")
    assert s.client.query("select 1").errors[0].code == "40001"
    s.client.query("rollback")
    assert s.retries() == {}


def test_begun_is_not_counted_for_the_rest_of_a_pipeline(scripted):
    s = scripted(DONE, CONFLICT)
    s.client.send(wire.query("select 1") + wire.query("update t set i = 1"))
    assert s.client.read_ready().rows == [["x"]]
    assert s.client.read_ready().errors[0].code == "40001"
    assert s.retries() == {}


def test_begun_after_a_long_description(scripted):
    """More than is held back: it has gone to the client before the error came."""
    names = [f"column_with_a_long_name_{i}_" + "x" * 30 for i in range(400)]
    s = scripted(wire.row_description(*names) + CONFLICT)
    assert s.client.query("select 1").errors[0].code == "40001"
    assert s.retries() == {"40001": {"gave_up_begun": 1}}


def test_off_is_off(scripted):
    s = scripted(CONFLICT, retry="off")
    assert s.client.query("select 1").errors[0].code == "40001"
    assert (len(s.asked), s.retries()) == (1, {})


FLAKY = """
create sequence runs;
create function flaky(failures int) returns int language plpgsql as $$
begin
    if nextval('runs') <= failures then raise 'again' using errcode = '40001'; end if;
    return failures;
end $$;
grant all on sequence runs to public;
"""

PER_DATABASE = {
    "plain": {},
    "safe": {"retry": "safe"},
    "twice": {"retry": "safe", "retry_max_attempts": 2},
    "never": {"retry": "off"},
    "poor": {"retry": "safe", "retry_budget": 0, "retry_max_attempts": 100},
    "rich": {"retry": "safe", "retry_budget": 100, "retry_max_attempts": 100},
}


@pytest.mark.parametrize(
    "everywhere,hidden",
    [
        # how many failures each of them may hide, at the least and at the most
        ("off", {"plain": 0, "safe": 2, "twice": 1, "never": 0, "app2@never": 3, "app2@twice": 3, "postgres@safe": 0}),
        ("safe", {"plain": 2, "never": 0, "app2@plain": 3, "postgres@plain": 0}),
    ],
)
def test_per_database_and_user(make_pooler, cluster, database, everywhere, hidden):
    """Of PostgreSQL, where a function fails so often; the user's settings are before the database's."""
    db = database()
    cluster.sql(FLAKY, dbname=db)
    p = make_pooler(
        {name: cluster.dsn(dbname=db, **keys) for name, keys in PER_DATABASE.items()},
        settings={"pool_mode": "transaction", "retry": everywhere},
        users={"app2": "retry=safe retry_max_attempts=4", "postgres": "retry=off"},
        threads=1,
    )
    for who, n in hidden.items():
        user, name = who.split("@") if "@" in who else ("app", who)
        c = p.login(user, name)
        for failures in (n, n + 1):
            cluster.sql("alter sequence runs restart", dbname=db)
            r = c.query(f"select flaky({failures})")
            assert [e.code for e in r.errors] == (["40001"] if failures > n else []), (who, failures)
            assert int(cluster.sql("select last_value from runs", dbname=db)[0][0]) == n + 1, (who, failures)


@pytest.mark.parametrize("name,most", [("poor", 10), ("rich", 12)])
def test_budget_of_a_database(make_pooler, cluster, database, name, most):
    """Without a share there is what is saved up; with all of it, each statement has one, too."""
    db = database()
    cluster.sql(FLAKY, dbname=db)
    p = make_pooler(
        {name: cluster.dsn(dbname=db, **PER_DATABASE[name])}, settings={"pool_mode": "transaction"}, threads=1
    )
    c = p.login(database=name)
    for n in range(12):
        cluster.sql("alter sequence runs restart", dbname=db)
        assert len(c.query("select flaky(1)").errors) == (n >= most)
    assert p.show("retries")[0]["succeeded"] == most


def test_reload_changes_it_for_one_database(make_pooler, cluster, database):
    db = database()
    cluster.sql(FLAKY, dbname=db)
    p = make_pooler({"app": cluster.dsn(dbname=db)}, settings={"pool_mode": "transaction"}, threads=1)
    c = p.login()
    for keys in ({}, {"retry": "safe"}, {"retry": "off"}):
        p.databases["app"] = cluster.dsn(dbname=db, **keys)
        p.write_files()
        p.admin("RELOAD")
        cluster.sql("alter sequence runs restart", dbname=db)
        assert len(c.query("select flaky(1)").errors) == (keys.get("retry") != "safe")


def test_session_mode_repeats_nothing(scripted):
    s = scripted(CONFLICT, pool_mode="session")
    assert s.client.query("select 1").errors[0].code == "40001"


def test_an_extended_batch(scripted):
    """What comes before the error is held back with it."""
    s = scripted(EXTENDED + CONFLICT, EXTENDED + wire.data_row("x") + wire.pack("C", b"SELECT 1\0") + READY)
    s.client.send(wire.extended("select 1"), wire.SYNC)
    r = s.client.read_ready()
    assert (r.types, r.rows) == ("12TDCZ", [["x"]])
    assert s.retries() == {"40001": {"retried": 1, "succeeded": 1}}
    assert s.asked[0] == s.asked[1]


def test_an_extended_batch_in_pieces(scripted):
    """Byte by byte in, and the answer as well."""

    s = scripted(EXTENDED + CONFLICT, DONE[:0] + EXTENDED + wire.pack("C", b"SELECT 0\0") + READY)
    for b in wire.extended("select 1") + wire.SYNC:
        s.client.send(bytes([b]))
    assert s.client.read_ready().types == "12TCZ"
    assert s.retries() == {"40001": {"retried": 1, "succeeded": 1}}


@pytest.mark.parametrize(
    "batch",
    [
        wire.extended("select 1") + wire.extended("select 2") + wire.SYNC,
        wire.extended("call p()") + wire.SYNC,
        wire.parse("named", "select 1") + wire.bind("", "named") + wire.execute() + wire.SYNC,
        wire.extended("select 1") + wire.close("P") + wire.SYNC,
        wire.parse("", "select 1") + wire.bind("", "called") + wire.execute() + wire.SYNC,
        wire.parse("", "select 1") + wire.bind("a", "") + wire.execute("b") + wire.SYNC,
    ],
    ids=["two", "call", "named", "close", "another", "portal"],
)
def test_other_batches_are_not_repeated(scripted, batch):
    s = scripted(wire.pack("1") + READY, wire.pack("1") + wire.pack("2") + CONFLICT, max_prepared_statements=0)
    s.client.send(wire.parse("called", "call p()"), wire.SYNC)
    s.client.read_ready()
    s.client.send(batch)
    assert s.client.read_ready().errors[0].code == "40001"
    assert (len(s.asked), s.retries()) == (2, {})


@pytest.mark.parametrize("size", [10, 9000])
def test_a_pipeline_is_not_repeated(make_pooler, fake_server, size):
    """What has come behind the statement is under way, too, whether it can be kept or not."""
    second = wire.query("insert into t values ('" + "x" * size + "')")
    asked = []

    def handler(conn, params):
        conn.greet()
        m = conn.recv()
        while m.type != "X":
            asked.append(wire.pack(m.type, m.body))
            if m.body == b"select 1\0":
                m = conn.recv()
                asked.append(wire.pack(m.type, m.body))
                conn.send(CONFLICT)
            conn.send(DONE)
            m = conn.recv()

    s = fake_server(handler)
    p = make_pooler({"app": s.dsn()}, settings={"pool_mode": "transaction", "retry": "safe"}, threads=1)
    c = p.login()
    c.send(wire.query("select 1"))
    wait_until(lambda: asked, "the first is under way")
    c.send(second)
    assert [e.code for e in c.read_ready().errors] == ["40001"]
    assert c.read_ready().rows == [["x"]]
    assert asked == [wire.query("select 1"), second]
    assert c.query("select 2").rows == [["x"]]
    adds_up(p)


@pytest.mark.parametrize("whole", [True, False])
def test_answers_of_ours_are_not_given_twice(make_pooler, fake_server, whole):
    """The Parse of a reused statement is answered by us: with the answer of the run that counts, unless it must be now."""
    gate, asked = threading.Event(), []

    def handler(conn, params):
        conn.greet()
        batch = ""
        while True:
            m = conn.recv()
            if m.type == "X":
                return
            batch += m.type
            if m.type not in "QS":
                continue
            asked.append(batch)
            parse = wire.pack("1") if "P" in batch else b""
            batch = ""
            if len(asked) == 4:
                conn.send(parse + wire.pack("2"))
                gate.wait(20)
                conn.send(CONFLICT)
            else:
                conn.send(parse + wire.pack("2") + DONE)

    s = fake_server(handler)
    p = make_pooler(
        {"app": s.dsn(pool_size=1)},
        settings={
            "pool_mode": "transaction", "retry": "safe", "reuse_unnamed_statements": 1, "server_check_query": ""
        },
        threads=1,
    )
    c = p.login()
    for _ in range(3):
        c.send(wire.extended("select 1"), wire.SYNC)
        assert c.read_ready().types == "12TDCZ"
    types = ""
    if whole:
        c.send(wire.extended("select 1"), wire.SYNC)
    else:
        c.send(wire.parse("", "select 1"))
        types += c.recv().type
        c.send(wire.bind(), wire.describe("P"), wire.execute(), wire.SYNC)
    wait_until(lambda: len(asked) == 4, "it is under way")
    assert c.is_silent()
    gate.set()
    assert types + c.read_ready().types == "12TDCZ"
    assert "P" not in asked[3] and len(asked) == 5
    assert p.show("retries")[0]["succeeded"] == 1
    adds_up(p)


def test_what_is_sent_behind_it_waits(scripted):
    """A pipeline is not repeated, but what comes while a statement waits for its next run is kept."""
    s = scripted(CONFLICT, DONE, DONE)
    s.client.send(wire.query("select 1"))
    wait_until(lambda: s.retries(), "it has failed once")
    s.client.send(wire.query("select 2"))
    assert s.client.read_ready().rows == [["x"]]
    assert s.client.read_ready().rows == [["x"]]
    assert s.asked[-1] == wire.query("select 2")
    adds_up(s.pooler)


def test_the_server_serves_others_meanwhile(make_pooler, cluster, database):
    """default_pool_size is 1, and the wait up to a second."""
    db = database()
    cluster.sql("create sequence s; grant all on s to public", dbname=db)
    p = make_pooler(
        {"app": cluster.dsn(dbname=db, pool_size=1)},
        settings={"pool_mode": "transaction", "retry": "safe", "retry_max_attempts": 5, "retry_budget": 100},
        threads=1,
    )
    cluster.sql(
        "create function f() returns int language plpgsql as $$ begin if nextval('s') < 3 then raise 'x' using "
        "errcode = '40001'; end if; return 7; end $$",
        dbname=db,
    )
    c, other = p.login(), p.login()
    assert c.value("select f()") == "7"
    assert other.value("select 1") == "1"
    for n in range(6):  # named and unnamed, prepared on the server and not
        cluster.sql("alter sequence s restart", dbname=db)
        if n == 0:
            c.send(wire.parse("s", "select f()"), wire.SYNC)
            c.read_ready()
        if n % 2:
            c.send(wire.bind("", "s"), wire.describe("P"), wire.execute(), wire.SYNC)
        else:
            c.send(wire.extended("select f()"), wire.SYNC)
        r = c.read_ready()
        assert (r.types, r.rows) == (("" if n % 2 else "1") + "2TDCZ", [["7"]])
    assert p.show("retries")[0]["succeeded"] == 7
    adds_up(p)


def test_a_client_that_leaves_while_it_waits(scripted):
    s = scripted(*[CONFLICT] * 10, retry_max_attempts=100)
    s.client.send(wire.query("select 1"))
    wait_until(lambda: s.retries(), "it has failed once")
    s.client.reset()
    s.pooler.wait_pool(cl_active=0, sv_active=0)
    adds_up(s.pooler)


def test_cancel_while_it_waits(scripted):
    s = scripted(*[CONFLICT] * 10, retry_max_attempts=100)
    s.client.send(wire.query("select 1"))
    wait_until(lambda: s.retries()["40001"]["retried"] > 5, "it waits for longer")
    s.pooler.cancel(s.client.key)
    r = s.client.read_ready()
    assert r.errors[0].code in ("57014", "40001") and r.status == "I"


def test_serialization_failures_of_postgresql(make_pooler, cluster, database):
    """Many clients, one row, everything serializable: no error, and no increment is lost or done twice."""
    db = database()
    cluster.sql(
        "create table t (i int); insert into t values (0); grant all on t to public; "
        f"alter database {db} set default_transaction_isolation = 'serializable'",
        dbname=db,
    )
    p = make_pooler(
        {"app": cluster.dsn(dbname=db, pool_size=4)},
        settings={"pool_mode": "transaction", "retry": "safe", "retry_max_attempts": 100, "retry_budget": 100},
    )
    told, errors = [0] * 4, []

    def work(n):
        c = p.login()
        for k in range(25):
            if k % 2:
                c.send(wire.extended("update t set i = i + 1"), wire.SYNC)
                r = c.read_ready()
            else:
                r = c.query("with x as materialized (select pg_sleep(0.002)) update t set i = i + 1 from x")
            if r.errors:
                errors.append(r.errors[0].code)
            else:
                told[n] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert cluster.sql("select i from t", dbname=db)[0][0] == sum(told)
    assert set(errors) <= {"40001"}  # when the budget was used up
    assert sum(told) > 30
    counts = p.show("retries")[0]
    assert counts["sqlstate"] == "40001" and counts["succeeded"] > 0
    adds_up(p)


def waiter(p):
    """The row of the only client in the queue."""
    rows = []

    def has_come():
        rows[:] = p.show("queue")
        return rows

    wait_until(has_come, "a client in the queue")
    assert len(rows) == 1
    return rows[0]


class Dying:
    """
    A server whose first connection dies with its answer to a COMMIT. It is on a Unix socket, which tells at once that
    nobody reads: whoever gets that connection next cannot send anything. `then(conn)` is what later ones do.
    """

    def __init__(self, fake_server, tmp_path, then):
        self.then, self.commits, self.answer, self.closed = then, [], threading.Event(), threading.Event()
        path = tmp_path / ".s.PGSQL.5432"
        self.server = fake_server(self.handler, host=str(path))
        path.chmod(0o777)
        for d in (tmp_path, *list(tmp_path.parents)[:-2]):
            d.chmod(0o755)
        self.dsn = f"host={tmp_path} port=5432 dbname=x user=x pool_size=1"

    def handler(self, conn, params):
        if self.commits:
            self.then(conn)
            return
        conn.greet()
        conn.recv()
        conn.send(wire.pack("C", b"BEGIN\0") + wire.pack("Z", b"T"))
        self.commits.append(conn.recv().body)
        assert self.answer.wait(20)
        conn.send(wire.pack("C", b"COMMIT\0") + READY)
        conn.close()
        self.closed.set()

    def die(self, p, client):
        """The client, who is in a transaction, ends it, and the server dies."""
        client.send(wire.query("commit"))
        wait_until(lambda: self.commits, "the server to be asked")
        p.stop_threads()
        self.answer.set()
        assert self.closed.wait(20)
        p.signal(signal.SIGCONT)
        assert client.read_ready().error is None
        wait_until(lambda: p.show("retries"), "that nothing was sent")
        assert {r["sqlstate"]: r["retried"] for r in p.show("retries")} == {"08006": 1}


@pytest.mark.parametrize("style", ["simple", "extended"])
def test_a_server_that_cannot_be_sent_to(make_pooler, fake_server, tmp_path, style):
    """Another server takes the statement over, without an error."""
    asked = []

    def then(conn):
        conn.greet()
        while True:
            m = conn.recv()
            asked.append(m.type)
            if m.type in "QS":
                conn.send((wire.pack("1") + wire.pack("2") if m.type == "S" else b"") + DONE)

    site = Dying(fake_server, tmp_path, then)
    p = make_pooler({"app": site.dsn}, settings={"pool_mode": "transaction", "retry": "safe"}, threads=1)
    first, second = p.login(), p.login()
    first.query("begin")
    second.send(wire.query("select 1") if style == "simple" else wire.extended("select 1") + wire.SYNC)
    waiter(p)
    site.die(p, first)
    assert second.read_ready().rows == [["x"]]
    assert "".join(asked) == ("Q" if style == "simple" else "PBDES")
    adds_up(p)


@pytest.mark.parametrize("retry", ["safe", "off"])
@pytest.mark.parametrize("action", ["error", "disconnect"])
def test_last_words_of_a_server_that_cannot_be_sent_to(make_pooler, fake_server, tmp_path, action, retry):
    """They are read behind the failure to send, and are no answer: the client hears them or gets its rows, never both."""
    conns, asked = [], []

    def handler(conn, params):
        conn.greet()
        conns.append(conn)
        while True:
            asked.append(conn.recv().body[:-1].decode())
            conn.send(wire.answer("x"))

    path = tmp_path / ".s.PGSQL.5432"
    fake_server(handler, host=str(path))
    path.chmod(0o777)
    for d in (tmp_path, *list(tmp_path.parents)[:-2]):
        d.chmod(0o755)
    p = make_pooler(
        {"app": f"host={tmp_path} port=5432 dbname=x user=x"},
        settings={"pool_mode": "transaction", "retry": retry, "server_loss_action": action},
        threads=1,
    )
    c = p.raw_unix()
    c.login("app", "app", p.secrets["app"])
    c.value("select 1")
    p.wait_asleep()
    p.stop_threads()
    c.send(wire.query("select 2"))  # comes first and at once, so it is noticed first
    conns[0].send(wire.pack("E", wire.error_body("FATAL", "57P01", "leaving")))
    conns[0].sock.shutdown(socket.SHUT_RDWR)
    p.signal(signal.SIGCONT)
    if retry == "safe":
        result = c.read_ready()
        assert (result.rows, result.errors, asked) == ([["x"]], [], ["select 1", "select 2"])
        assert {r["sqlstate"]: r["retried"] for r in p.show("retries")} == {"08006": 1}
    else:
        error = c.read_ready().error if action == "error" else c.expect_close().errors[0]
        assert (error.code, error.text, asked) == ("57P01", "leaving", ["select 1"])
    adds_up(p)


# --- one deadline for all runs


def wait_for_age(p, ms):
    wait_until(lambda: waiter(p)["age_ms"] >= ms, f"a client that has waited for {ms} ms")


@pytest.mark.parametrize("setting", ["query_timeout", "query_wait_timeout"])
def test_the_deadline_goes_on_when_nothing_was_sent(make_pooler, fake_server, tmp_path, setting):
    """The server dies under a client that has waited for it; the time of that counts in the queue where it waits next."""
    site = Dying(fake_server, tmp_path, lambda conn: conn.recv())  # the next server never gets ready
    p = make_pooler(
        {"app": site.dsn},
        settings={
            "pool_mode": "transaction", "retry": "safe", "query_timeout_action": "cancel", "query_wait_timeout": 0,
            setting: 1000
        },
        threads=1,
    )
    first, second = p.login(), p.login()
    first.query("begin")
    second.send(wire.query("select 1"))
    wait_for_age(p, 1000)
    site.die(p, first)
    assert waiter(p)["deadline_ms"] <= 999 * 1000
    if setting == "query_timeout":
        p.admin("SET query_timeout = '0.5'")  # which is over by then
        assert second.read_ready().errors[0].code == "57014"
        second.close()


@pytest.mark.parametrize("setting,counts", [("query_timeout", True), ("query_wait_timeout", False)])
def test_the_deadline_goes_on_over_runs(make_pooler, fake_server, setting, counts):
    """A run that has failed counts for query_timeout when its client waits for the next; not for the limit of waits."""
    fail, asked = threading.Event(), []

    def handler(conn, params):
        conn.greet()
        while (m := conn.recv()).type != "X":
            asked.append(m.body)
            if m.body == b"begin\0":
                conn.send(wire.pack("C", b"BEGIN\0") + wire.pack("Z", b"T"))
            elif m.body == b"commit\0":
                conn.send(wire.pack("C", b"COMMIT\0") + READY)
            elif fail.is_set():
                conn.send(DONE)
            else:
                assert fail.wait(20)
                conn.send(CONFLICT)

    p = make_pooler(
        {"app": fake_server(handler).dsn(pool_size=1)},
        settings={
            "pool_mode": "transaction", "retry": "safe", "query_timeout_action": "cancel", "query_wait_timeout": 0,
            setting: 1000
        },
        threads=1,
    )
    first, second = p.login(), p.login()
    first.send(wire.query("select 1"))
    wait_until(lambda: asked, "the first run")
    second.send(wire.query("begin"))
    wait_for_age(p, 1000)  # so long the first run takes
    fail.set()
    second.read_ready()  # it was before
    assert (waiter(p)["deadline_ms"] <= 999 * 1000) == counts
    second.query("commit")
    assert first.read_ready().rows == [["x"]]
    assert asked.count(b"select 1\0") == 2
    adds_up(p)


def test_attempts_begin_anew_after_an_error_of_ours(make_pooler, fake_server):
    """The second run of a statement ends with its server: nothing of that is held against the next statement."""
    answers = [CONFLICT, None, CONFLICT, DONE]

    def handler(conn, params):
        conn.greet()
        while conn.recv().type != "X":
            answer = answers.pop(0)
            if answer is None:
                return
            conn.send(answer)

    p = make_pooler(
        {"app": fake_server(handler).dsn()},
        settings={
            "pool_mode": "transaction", "retry": "safe", "retry_max_attempts": 2, "server_loss_action": "error"
        },
        threads=1,
    )
    c = p.login()
    assert c.query("select 1").errors[0].code == "08006"
    assert c.query("select 2").rows == [["x"]]
    adds_up(p)
