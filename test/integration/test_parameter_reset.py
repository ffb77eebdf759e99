"""
RESET, RESET ALL and DISCARD ALL: what a client began with is what it comes back to, as on a connection of its own, in
what the server does and in what the client is told.
"""
import pytest
from harness import wire

# Neither what the cluster has nor what `OTHER` has, but for one; spelled as no server spells them.
MINE = {
    "application_name": "mine",
    "TimeZone": "Asia/Tokyo",
    "DateStyle": "german",
    "client_encoding": "latin1",
    "options": "-c standard_conforming_strings=off",
}
OTHER = {"application_name": "other", "TimeZone": "America/New_York", "DateStyle": "SQL, MDY"}
NAMES = ("application_name", "TimeZone", "DateStyle", "client_encoding", "standard_conforming_strings", "IntervalStyle")
LOOK = "select " + ", ".join(f"current_setting('{name}')" for name in NAMES)
CHANGE = (
    "set application_name = 'changed'; set timezone = 'Europe/Berlin'; set datestyle = 'Postgres, DMY';"
    "set client_encoding = 'UTF8'; set standard_conforming_strings = on"
)
# What pools of drivers send when a connection comes back to them.
ASYNCPG = "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;"
NPGSQL = (
    "SET SESSION AUTHORIZATION DEFAULT;RESET ALL;CLOSE ALL;UNLISTEN *;"
    "SELECT pg_advisory_unlock_all();DISCARD SEQUENCES;DISCARD TEMP"
)


def q(*texts):
    return b"".join(wire.query(text) for text in texts), len(texts)


def x(*texts):
    """One batch."""
    return b"".join(wire.extended(text) for text in texts) + wire.SYNC, 1


# Turns of a client: what it sends at once, and how many ReadyForQuery it then waits for.
SCRIPTS = {
    "reset all": [q(CHANGE), q("reset all"), q(LOOK)],
    "discard all": [q(CHANGE), q("discard all"), q(LOOK)],
    "nothing was changed": [q("reset all"), q(LOOK), q("discard all"), q(LOOK)],
    "extended": [x(CHANGE.split(";")[0]), x("reset all"), x(LOOK), x("discard all"), x(LOOK)],
    "one name": [q(CHANGE), q("reset timezone"), q(LOOK), x("reset datestyle"), q(LOOK), q("RESET TIME ZONE"), q(LOOK)],
    "another name": [q(CHANGE), q("reset work_mem"), q(LOOK), x("reset work_mem"), q(LOOK)],
    "set and reset of others": [q("set timezone = 'Europe/Berlin'; reset work_mem; set datestyle = 'SQL, DMY'"), q(LOOK)],
    "asyncpg": [q(CHANGE), q(ASYNCPG), q(LOOK), q(ASYNCPG), x(LOOK)],
    "in front of what follows": [q(CHANGE), q("discard all", LOOK), q(CHANGE), (q(NPGSQL)[0] + x(LOOK)[0] + x(LOOK)[0], 3)],
    "in front of all": [q("reset all", LOOK, LOOK), q(CHANGE, "  \n reset  all;", LOOK, CHANGE, LOOK, "RESET ALL", LOOK)],
    "to the server's values": [q("set timezone = 'UTC'; set client_encoding = 'UTF8'"), q("reset all"), q(LOOK)],
    "to the server's values, extended": [q("set timezone = 'UTC'"), x("discard all"), q(LOOK)],
    "in a block": [q(CHANGE), q("begin"), q("reset all"), q(LOOK), q("commit"), q(LOOK)],
    "in a block, rolled back": [q(CHANGE), q("begin"), q("reset all"), q(LOOK), q("rollback"), q(LOOK)],
    "in a block, rolled back at once": [q(CHANGE), q("begin"), q("reset all"), q("rollback"), q(LOOK)],
    "in a block, failed": [q(CHANGE), q("begin"), q("reset all"), q("select 1/0"), q("rollback"), q(LOOK)],
    "in a block, extended": [q(CHANGE), x("begin"), x("reset all"), x(LOOK), x("commit"), q(LOOK)],
    "in a block, one name": [q(CHANGE), q("begin"), q("reset datestyle"), x(LOOK), q("commit"), q(LOOK)],
    "set behind it": [q(CHANGE), q("reset all; set timezone = 'Europe/Paris'"), q(LOOK)],
    "set behind it, extended": [q(CHANGE), x("reset all", "set timezone = 'Europe/Paris'"), q(LOOK), x("discard all"), q(LOOK)],
    "set in the next message": [q(CHANGE), q("discard all", "set timezone = 'Europe/Paris'", LOOK), q(LOOK)],
    "savepoint": [q(CHANGE), q("begin"), q("savepoint a"), q("reset all"), q(LOOK), q("rollback to a"), q(LOOK), q("end")],
    "savepoint behind": [q(CHANGE), q("begin"), q("reset all"), q("savepoint a"), q("select 1/0"), q("rollback to a"), q(LOOK), q("end"), q(LOOK)],
    "one text that fails": [q(CHANGE), q("reset all; select 1/0"), q(LOOK)],
    "one text that is rolled back": [q(CHANGE), q("begin; reset all; rollback"), q(LOOK)],
    "one text that is committed": [q(CHANGE), q("begin; reset all; commit"), q(LOOK)],
    "one text that leaves a failed block": [q(CHANGE), q("begin; reset all; select 1/0"), q("rollback"), q(LOOK)],
    "a batch that fails": [q(CHANGE), x("reset all", "select 1/0"), q(LOOK)],
    "an error": [q(CHANGE), q("reset all reset"), q(LOOK), q("discard all discard", LOOK)],
    "set local": [q(CHANGE), q("begin"), q("set local timezone = 'UTC'"), q("reset all"), q(LOOK), q("end"), q(LOOK)],
    "copy behind": [q(CHANGE), (q("reset all; copy (select 1) to stdout", LOOK)[0], 2), q(LOOK)],
}  # fmt: skip


def bound(name, *behind):
    """A statement that was prepared, with queries behind it."""
    batch = wire.bind("", name) + wire.execute() + wire.SYNC
    return batch + b"".join(wire.query(text) for text in behind), 1 + len(behind)


PREPARE = [(wire.parse("r", "reset all") + wire.SYNC + wire.parse("d", "/* done */ Discard  All") + wire.SYNC, 2), q(CHANGE)]
PREPARED = {
    "alone": [*PREPARE, bound("r"), q(LOOK)],
    "after the server's value": [*PREPARE, q("set timezone = 'UTC'"), bound("r"), q(LOOK)],
    "in front of what follows": [*PREPARE, bound("r", LOOK), q(LOOK)],
    "in front of a set": [*PREPARE, bound("r", "set timezone = 'UTC'", LOOK), q(LOOK)],
    "discard all": [*PREPARE, bound("d", LOOK), q(LOOK)],
    "discard all in front of a set": [*PREPARE, bound("d", "set timezone = 'UTC'", LOOK), q(LOOK)],
}


def play(conn, script, between=lambda status: None):
    """What the client sees, turn by turn; and what it believes of its parameters."""
    told, seen = {name: conn.params[name] for name in NAMES}, []
    status = "I"
    for data, count in script:
        between(status)
        conn.send(data)
        for _ in range(count):
            r = conn.read_ready()
            reports = [m.body[:-1].decode().split("\0") for m in r.messages if m.type == "S"]
            told.update((k, v) for k, v in reports if k in NAMES)
            status = r.status
            seen.append((r.tags, r.rows, r.error and r.error.code, r.status, sorted(reports), dict(told)))
            if r.rows and len(r.rows[0]) == len(NAMES):
                assert tuple(r.rows[0]) == tuple(told.values()), "the client was told something else"
    return seen


@pytest.fixture
def direct(cluster):
    """Conversations with PostgreSQL itself, in the spelling of the pooler's greeting."""

    def run(script):
        conn = wire.Conn.unix(f"{cluster.dir}/.s.PGSQL.{cluster.port}")
        try:
            conn.login("app", "app", params=MINE)
            conn.params.setdefault("application_name", "")
            return play(conn, script)
        finally:
            conn.close()

    return run


def settings(mode):
    return {"pool_mode": mode, "default_pool_size": 1, "track_extra_parameters": "IntervalStyle"}


@pytest.fixture(
    params=[("transaction", "pgbouncer"), ("transaction", "pgsluice"), ("session", "pgbouncer")], ids="-".join
)
def begun(request, make_pooler):
    """A client that has been served, and what happens between its turns: somebody else is served in between."""
    mode, profile = request.param
    p = make_pooler(settings=settings(mode), profile=profile, env={"PGSLUICE_SHADOW": "1"})
    other = p.login(params=OTHER) if mode == "transaction" else None
    conn = p.login(params=MINE)
    greeted = conn.query(LOOK).rows[0]  # from here on in the spelling of the server
    conn.params.update(zip(NAMES, greeted))

    def between(status):
        if other and status == "I":
            assert other.value("select current_setting('TimeZone') || current_setting('application_name')") == (
                OTHER["TimeZone"] + OTHER["application_name"]
            )

    return conn, between


@pytest.mark.ours
@pytest.mark.parametrize("name", SCRIPTS)
def test_as_on_a_connection_of_its_own(direct, begun, name):
    """What the server does, and what the client is told, message by message."""
    conn, between = begun
    assert play(conn, SCRIPTS[name], between) == direct(SCRIPTS[name])


@pytest.mark.ours
@pytest.mark.parametrize("begun", [("transaction", "pgbouncer"), ("transaction", "pgsluice")], indirect=True)
@pytest.mark.parametrize("name", PREPARED)
def test_prepared_as_on_a_connection_of_its_own(direct, begun, name):
    """What the text does is known when its statement is bound."""
    conn, between = begun
    assert play(conn, PREPARED[name], between) == direct(PREPARED[name])


@pytest.mark.ours
def test_a_goodbye_behind_a_reset(make_pooler):
    """Nothing is sent to the server for a client that goes, so it is as good as before."""
    p = make_pooler(settings={**settings("session"), "server_reset_query": ""})
    pids = set()
    for _ in range(3):
        conn = p.login(params=MINE)
        pids.add(conn.value("select pg_backend_pid()"))
        conn.query("discard all")
        conn.terminate()
    assert len(pids) == 1


@pytest.mark.ours
def test_who_began_with_nothing(make_pooler, cluster):
    """Has what the server has: the settings of the database, of the role, of the connect string."""
    p = make_pooler({"app": cluster.dsn(timezone="Asia/Tokyo")}, settings=settings("transaction"))
    other, conn = p.login(params=OTHER), p.login()
    for reset in ("reset all", "discard all", "reset timezone"):
        conn.query("set timezone = 'Europe/Berlin'")
        other.query("select 1")
        assert conn.query(reset).params == {"TimeZone": "Asia/Tokyo"}
        other.query("select 1")
        assert conn.value("show timezone") == "Asia/Tokyo"


class Server:
    """Resets its TimeZone to UTC, and tells `before` or behind the tag; refuses to set it `once_more`."""

    def __init__(self, fake_server, before=False, refuses=False):
        self.queries, self.before, self.refuses = [], before, refuses
        self.server = fake_server(self.serve)

    def serve(self, conn, params):
        conn.greet()
        while True:
            m = conn.recv()
            if m.type == "X":
                return
            sql = m.body[:-1].decode()
            self.queries.append(sql)
            zone = [wire.pack("S", wire.cstr("TimeZone") + wire.cstr("UTC"))] * ("all" in sql)
            if sql.startswith("SET ") and self.refuses and self.queries.count(sql) > 1:
                conn.send(wire.pack("E", wire.error_body("ERROR", "22023", "no more")), wire.pack("Z", b"I"))
                continue
            if sql.startswith("SET "):
                zone = [wire.pack("S", wire.cstr("TimeZone") + wire.cstr("Asia/Tokyo"))]
            tag = wire.pack("C", wire.cstr("RESET" if "all" in sql else "SET"))
            conn.send(*(zone + [tag] if self.before else [tag] + zone), wire.pack("Z", b"I"))


@pytest.mark.ours
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_set_comes_with_the_next_query(make_pooler, fake_server, mode):
    """Not before it, and once; PostgreSQL before 14 reports in front of the tag, which goes through and is corrected."""
    new, old = Server(fake_server), Server(fake_server, before=True)
    p = make_pooler({"new": new.server.dsn(), "old": old.server.dsn()}, settings=settings(mode))
    for name, server, types in (("new", new, "CZ"), ("old", old, "SCSZ")):
        conn = p.login(database=name, params={"timezone": "Asia/Tokyo"})
        conn.query("one")
        r = conn.query("reset all")
        assert r.types == types
        assert r.params.get("TimeZone", "Asia/Tokyo") == "Asia/Tokyo"
        assert conn.query("two").types == conn.query("three").types == "CZ"
        asked = [sql for sql in server.queries if sql]
        to_tokyo = "SET TimeZone='Asia/Tokyo';"
        assert asked == [to_tokyo, "one", "reset all", to_tokyo, "two", "three"]


@pytest.mark.ours
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_server_that_does_not_take_it_again(make_pooler, fake_server, mode):
    """The client is told, rather than served under other values."""
    server = Server(fake_server, refuses=True)
    p = make_pooler({"app": server.server.dsn()}, settings=settings(mode))
    conn = p.login(params={"timezone": "Asia/Tokyo"})
    conn.query("one")
    conn.query("reset all")
    conn.send(wire.query("two"))
    assert conn.expect_error_close().text == "invalid server parameter"


@pytest.mark.ours
def test_a_restart_between(make_pooler):
    """Another process knows what a client began with, and what is still to be set for one inside of a transaction."""
    p = make_pooler(settings={**settings("transaction"), "default_pool_size": 2})
    other, inside, outside = p.login(params=OTHER), p.login(params=MINE), p.login(params=MINE)
    begun = inside.query(LOOK).rows
    outside.query(CHANGE)
    inside.query(CHANGE)
    inside.query("begin")
    inside.query("reset all")
    for _ in range(2):
        mark = p.restart()
        p.wait_for_log(r"took over 3 clients and \d+ servers", since=mark)
        assert inside.query(LOOK).rows == begun
        other.query("select 1")
        assert outside.value("show timezone") == "Europe/Berlin"
        outside.query("reset all")
        other.query("select 1")
        assert outside.query(LOOK).rows == begun
        outside.query(CHANGE)
    inside.query("rollback")
    assert inside.value("show timezone") == "Europe/Berlin"


@pytest.mark.ours
@pytest.mark.parametrize("cut", [1, 3, 5, 6, 8, 11, 15])
@pytest.mark.parametrize("extended", [False, True])
def test_in_pieces(make_pooler, cut, extended):
    """What comes behind a RESET is for the session that it leaves, however the bytes of it happen to arrive."""
    p = make_pooler(settings={**settings("session"), "default_pool_size": 2, "threads": 1})
    other, conn = p.login(params=OTHER), p.login(params={"TimeZone": "Asia/Tokyo", "IntervalStyle": "sql_standard"})
    conn.query("select 1")
    reset = x("discard all")[0] if extended else q("discard all")[0]
    conn.send(reset[:cut])
    for _ in range(3):
        other.query("select 1")  # meanwhile the piece has been read
    conn.send(reset[cut:] + q("set intervalstyle = 'postgres'", "set timezone = 'UTC'", LOOK)[0])
    for _ in range(4):
        r = conn.read_ready()
    assert (r.rows[0][1], r.rows[0][5]) == ("UTC", "postgres")
    assert conn.value("show intervalstyle") == "postgres"


@pytest.mark.ours
def test_a_session_in_doubt(make_pooler):
    """Nothing is set for the client there any more, so it is told what the server has."""
    p = make_pooler(settings=settings("session"))
    conn = p.login(params={"TimeZone": "Asia/Tokyo"})
    conn.query("create temp table t (a int)")
    conn.send(wire.extended("copy t from stdin") + wire.SYNC + wire.pack("f", wire.cstr("no")) + wire.SYNC)
    assert conn.read_ready().error.code == "57014"
    conn.query("set timezone = 'Europe/Berlin'")
    told = conn.query("discard all").params["TimeZone"]
    assert conn.value("show timezone") == told
