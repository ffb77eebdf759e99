"""What happens to a server between two clients: reset query, check query, and servers that got dirty."""
import threading

import pytest
from harness import wire
from harness.procs import wait_until


EMPTY_PATH = "set local search_path to ''; "  # in front of a check that is a query


class Recorder:
    """A fake server that keeps the simple queries it was sent, per connection."""

    def __init__(self, fake_server):
        self.queries, self.conns = [], []
        self.server = fake_server(self._handle)
        self.reply = lambda sql: wire.answer("ok")

    def _handle(self, conn, params):
        self.conns.append(conn)
        conn.greet()
        while True:
            m = conn.recv()
            if m.type == "X":
                return
            sql = m.body[:-1].decode().removeprefix(EMPTY_PATH)
            self.queries.append(sql)
            out = self.reply(sql)
            if out is None:
                return
            conn.send(out)


@pytest.fixture
def recorder(fake_server):
    return Recorder(fake_server)


def visit(p, sql="work"):
    c = p.login()
    out = c.query(sql)
    c.terminate()
    return out


def test_reset_query_in_session_mode(make_pooler, recorder):
    p = make_pooler({"app": recorder.server.dsn(pool_size=1)}, settings={"server_reset_query": "CLEAN UP"})
    visit(p, "one"), visit(p, "two")
    wait_until(lambda: recorder.queries == ["one", "CLEAN UP", "two", "CLEAN UP"], lambda: str(recorder.queries))
    assert recorder.server.logins == 1


def test_no_reset_query_in_transaction_mode(make_pooler, recorder):
    p = make_pooler(
        {"app": recorder.server.dsn(pool_size=1)},
        settings={"server_reset_query": "CLEAN UP", "pool_mode": "transaction"},
    )
    visit(p, "one"), visit(p, "two")
    assert recorder.queries == ["one", "two"]


def test_reset_query_always(make_pooler, recorder):
    p = make_pooler(
        {"app": recorder.server.dsn(pool_size=1)},
        settings={"server_reset_query": "CLEAN UP", "server_reset_query_always": 1, "pool_mode": "transaction"},
    )
    c = p.login()
    c.query("one"), c.query("two")
    wait_until(lambda: recorder.queries == ["one", "CLEAN UP", "two", "CLEAN UP"], lambda: str(recorder.queries))


def test_empty_reset_query(make_pooler, recorder):
    p = make_pooler({"app": recorder.server.dsn(pool_size=1)}, settings={"server_reset_query": ""})
    visit(p, "one"), visit(p, "two")
    assert recorder.queries == ["one", "two"]


def test_error_of_a_reset_query_is_ignored(make_pooler, recorder):
    recorder.reply = (
        lambda sql: wire.pack("E", wire.error_body("ERROR", "42601", "what?")) + wire.pack("Z", b"I")
        if sql == "CLEAN UP"
        else wire.answer(sql)
    )
    p = make_pooler({"app": recorder.server.dsn(pool_size=1)}, settings={"server_reset_query": "CLEAN UP"})
    assert visit(p, "one").rows == [["one"]]
    assert visit(p, "two").rows == [["two"]]


@pytest.mark.newer
def test_reset_query_that_leaves_a_transaction_open(make_pooler, recorder):
    recorder.reply = lambda sql: wire.answer("x", b"T") if sql == "CLEAN UP" else wire.answer(sql)
    p = make_pooler({"app": recorder.server.dsn(pool_size=1)}, settings={"server_reset_query": "CLEAN UP"})
    assert visit(p, "one").rows == [["one"]]
    assert visit(p, "two").rows == [["two"]]
    assert recorder.server.logins == 2, "a server in a transaction is not given on"


def test_server_is_not_given_on_while_it_is_reset(make_pooler, recorder):
    go = threading.Event()

    def reply(sql):
        if sql == "CLEAN UP":
            go.wait(10)
        return wire.answer(sql)

    recorder.reply = reply
    p = make_pooler({"app": recorder.server.dsn(pool_size=1)}, settings={"server_reset_query": "CLEAN UP"})
    visit(p, "one")
    p.wait_pool(sv_tested=1)
    c = p.login()
    c.send(wire.query("two"))
    p.wait_pool(cl_waiting=1, sv_tested=1)
    go.set()
    assert c.read_ready().rows == [["two"]]


def test_check_query_between_uses(make_pooler, recorder):
    """With a delay of 0 no server is used again without a check since its last use."""
    p = make_pooler(
        {"app": recorder.server.dsn(pool_size=1)},
        settings={"server_check_delay": 0, "server_check_query": "ARE YOU THERE", "pool_mode": "transaction"},
    )
    c = p.login()
    for sql in ("one", "two", "three"):
        assert c.query(sql).rows == [["ok"]]
    sent = list(recorder.queries)
    assert [q for q in sent if q != "ARE YOU THERE"] == ["one", "two", "three"]
    for sql in ("two", "three"):
        assert sent[sent.index(sql) - 1] == "ARE YOU THERE", sent


@pytest.mark.ours
def test_check_query_runs_with_an_empty_search_path(make_pooler, cluster, database):
    """A client may have set one that has functions of its own."""
    db = database()
    settings = {
        "pool_mode": "transaction",
        "default_pool_size": 1,
        "server_check_delay": 0,
        "server_check_query": "select checked()",
    }
    p = make_pooler({"app": cluster.dsn(dbname=db)}, settings=settings)
    c = p.login()
    for sql in (
        "create sequence calls",
        "create function checked() returns bigint language sql as $$ select nextval('public.calls') $$",
        "set search_path to public",
    ):
        assert c.query(sql).error is None
    assert c.value("select checked()") == "1"
    assert c.value("select checked()") == "2", "called by a client only"
    assert c.value("show search_path") == "public", "and the client's path is as it was"
    assert p.log_count("reset or check query failed") > 0


@pytest.mark.newer
def test_check_query_by_default_is_empty(make_pooler, recorder):
    recorder.reply = lambda sql: wire.answer(sql) if sql else wire.pack("I") + wire.pack("Z", b"I")
    p = make_pooler(
        {"app": recorder.server.dsn(pool_size=1)}, settings={"server_check_delay": 0, "pool_mode": "transaction"}
    )
    c = p.login()
    assert c.query("one").rows == [["one"]]
    assert c.query("two").rows == [["two"]]
    assert "" in recorder.queries and [q for q in recorder.queries if q] == ["one", "two"]


def test_no_check_query(make_pooler, recorder):
    p = make_pooler(
        {"app": recorder.server.dsn(pool_size=1)},
        settings={"server_check_delay": 0, "server_check_query": "", "pool_mode": "transaction"},
    )
    c = p.login()
    c.query("one"), c.query("two")
    assert recorder.queries == ["one", "two"]


def test_check_query_finds_a_dead_server(make_pooler, recorder):
    """The client that waits does not notice: it gets another server."""
    recorder.reply = lambda sql: None if sql == "ARE YOU THERE" and len(recorder.conns) == 1 else wire.answer(sql)
    p = make_pooler(
        {"app": recorder.server.dsn(pool_size=1)},
        settings={"server_check_delay": 0, "server_check_query": "ARE YOU THERE", "pool_mode": "transaction"},
    )
    c = p.login()
    assert c.query("one").rows == [["one"]]
    assert c.query("two").rows == [["two"]]
    assert recorder.server.logins == 2


def test_idle_server_becomes_used(make_pooler, recorder):
    p = make_pooler(
        {"app": recorder.server.dsn(pool_size=1)},
        settings={"server_check_delay": 60, "server_check_query": "ARE YOU THERE", "pool_mode": "transaction"},
    )
    c = p.login()
    c.query("one"), c.query("two")
    assert recorder.queries == ["one", "two"]
    p.wait_pool(sv_used=0, sv_idle=1)
    p.admin("SET server_check_delay = '0.1'")
    p.wait_pool(sv_used=1, sv_idle=0)
    c.query("three")
    assert recorder.queries == ["one", "two", "ARE YOU THERE", "three"]


@pytest.mark.newer
@pytest.mark.parametrize(
    "message",
    [
        wire.pack("S", b"TimeZone\0Mars\0"),
        wire.pack("N", wire.error_body("NOTICE", "00000", "hm")),
        wire.answer("stray"),
        wire.pack("E", wire.error_body("FATAL", "57P01", "bye")),
    ],
    ids=["parameter", "notice", "rows", "error"],
)
def test_unasked_message_on_an_idle_server(make_pooler, recorder, message):
    recorder.reply = wire.answer
    p = make_pooler({"app": recorder.server.dsn(pool_size=1)}, settings={"pool_mode": "transaction"})
    c = p.login()
    assert c.query("one").rows == [["one"]]
    p.wait_pool(sv_idle=1)
    recorder.conns[0].send(message)
    p.wait_for_log(r"S-0x.*closing because: .*(dirty|unknown|unexpected|crashed|not linked|bye)")
    assert c.query("two").rows == [["two"]]
    assert recorder.server.logins == 2


def test_notification_on_an_idle_server_is_dropped(make_pooler, recorder):
    recorder.reply = wire.answer
    p = make_pooler({"app": recorder.server.dsn(pool_size=1)}, settings={"pool_mode": "transaction"})
    c = p.login()
    c.query("one")
    p.wait_pool(sv_idle=1)
    recorder.conns[0].send(wire.pack("A", b"\0\0\0\x01chan\0payload\0"))
    p.wait_for_log("got packet 'A' from server when not linked")
    assert c.query("two").types == "TDCZ"
    assert recorder.server.logins == 1


def test_query_still_running_when_the_client_leaves(make_pooler, recorder):
    go = threading.Event()

    def reply(sql):
        if sql == "slow":
            go.wait(10)
        return wire.answer(sql)

    recorder.reply = reply
    p = make_pooler({"app": recorder.server.dsn(pool_size=1)}, settings={"pool_mode": "transaction"})
    c = p.login()
    c.send(wire.query("slow"))
    wait_until(lambda: recorder.queries == ["slow"], "the query arrived")
    c.close()
    p.wait_for_log("closing because: client disconnect while server was not ready")
    other = p.login()
    assert other.query("mine").rows == [["mine"]]
    go.set()
    assert other.query("mine too").rows == [["mine too"]]


@pytest.mark.ours
def test_check_query_by_set(make_pooler, recorder):
    """SET to <empty>, from it, and to nothing: each as in the file."""
    recorder.reply = lambda sql: wire.answer(sql) if sql else wire.pack("I") + wire.pack("Z", b"I")
    p = make_pooler(
        {"app": recorder.server.dsn(pool_size=1)}, settings={"server_check_delay": 0, "pool_mode": "transaction"}
    )
    c = p.login()
    assert c.query("a").rows == [["a"]]
    for setting, check in (("CHECK ME", "CHECK ME"), ("<empty>", ""), ("", None), ("<empty>", "")):
        p.admin(f"SET server_check_query = '{setting}'")
        p.wait_pool(sv_tested=0, sv_active=0)
        c.query("settle")
        recorder.queries.clear()
        for sql in ("b", "c"):
            assert c.query(sql).rows == [[sql]]
        assert [q for q in recorder.queries if q not in ("b", "c")] == [check] * len(
            [q for q in recorder.queries if q not in ("b", "c")]
        )
        assert (check in recorder.queries) == (check is not None)
