"""Statements that follow their clients: limits, reuse, stale plans, SQL's own PREPARE. One server for everybody."""

import pytest
from harness import wire
from harness.procs import wait_until

pytestmark = pytest.mark.newer

NAMES = "select string_agg(name, ' ' order by prepare_time, name) from pg_prepared_statements where name like 'PGB%'"
PARSES = "select count(*) from pg_prepared_statements where statement like '%{}%' and name <> ''"


@pytest.fixture
def shared(make_pooler):
    def make(profile="pgsluice", databases=None, **settings):
        settings = {"pool_mode": "transaction", "default_pool_size": 1, **settings}
        return make_pooler(databases, settings=settings, profile=profile)

    return make


def prepare(conn, name, sql):
    conn.send(wire.parse(name, sql), wire.SYNC)
    return conn.read_ready()


def run(conn, name, values=(), extra=b""):
    """Bind, Describe of the portal, Execute, Sync."""
    conn.send(wire.bind("", name, values), wire.describe("P"), wire.execute(), extra, wire.SYNC)
    return conn.read_ready()


def test_the_same_name_for_different_texts(shared):
    p = shared()
    a, b = p.login(), p.login()
    prepare(a, "s", "select 'a'")
    prepare(b, "s", "select 'b'")
    for _ in range(3):
        assert run(a, "s").rows == [["a"]]
        assert run(b, "s").rows == [["b"]]


def test_equal_texts_are_parsed_once(shared):
    p = shared()
    clients = [p.login() for _ in range(4)]
    for i, c in enumerate(clients):
        assert prepare(c, f"mine{i}", "select 'equal'").types == "1Z"
    assert clients[0].value(PARSES.format("equal")) == "1"


def memory(pooler):
    """What texts and names take of prepared_statement_memory."""
    return next(r["memtotal"] for r in pooler.show("mem") if r["name"] == "prepared_statement_text_cache")


def test_names_on_servers_are_numbered_from_one(shared):
    p = shared(profile="pgbouncer")
    c = p.login()
    for name in ("a", "b", ""):
        prepare(c, name, f"select '{name}'")
    assert c.value(NAMES) == "PGBOUNCER_1 PGBOUNCER_2"


def test_the_text_and_the_types_are_the_statement(shared, cluster, database):
    """In all pools; the names of clients are of no account."""
    p = shared(databases={"app": cluster.dsn(), "other": cluster.dsn(dbname=database())})
    a, b, c = p.login(), p.login(), p.login("app", "other")
    for conn, name, types, described in ((a, "x", (), 25), (b, "y", [23], 23), (c, "z", [23], 23), (a, "w", [], 25)):
        conn.send(wire.parse(name, "select $1", types), wire.describe("S", name), wire.SYNC)
        result = conn.read_ready()
        assert (result.types, result.columns) == ("1tTZ", [("?column?", described)])
    assert a.value(NAMES) == "PGBOUNCER_1 PGBOUNCER_2"
    assert c.value(NAMES) == "PGBOUNCER_2"


def test_names_of_sixteen_kilobytes(shared):
    p = shared()
    a, b = p.login(), p.login()
    long = ["n" * 16384 + end for end in ("1", "2")]
    for name in long:
        prepare(a, name, f"select '{name[-1]}'")
    for name in long * 2:
        assert run(a, name).rows == [[name[-1]]]
        assert b.value("select 1") == "1"
    a.send(wire.close("S", long[0]), wire.SYNC)
    assert a.read_ready().types == "3Z"
    assert run(a, long[0]).error.code == "26000"
    assert run(a, long[1]).rows == [["2"]]


def test_close_is_answered_without_a_server(shared):
    """Also of a name that nobody knows; the server keeps the statement."""
    p = shared()
    a, b = p.login(), p.login()
    prepare(a, "s", "select 'mine'")
    b.query("begin")
    a.send(wire.close("S", "s"), wire.close("S", "nobody"))
    assert [a.recv().type for _ in range(2)] == ["3", "3"]
    a.send(wire.parse("s", "select 'mine'"), wire.SYNC)
    assert b.value(NAMES) == "PGBOUNCER_1"
    assert a.is_silent()
    b.query("commit")
    assert a.read_ready().types == "1Z"
    assert run(a, "s").rows == [["mine"]]


BROKEN = {
    "Parse": [wire.pack("P", b"s\0select 1\0"), wire.pack("P", b"s\0select 1\0\0\1"), wire.pack("P", b"s\0no end")],
    "Bind": [wire.pack("B", b"\0no end"), wire.pack("B", b"no end"), wire.pack("B")],
    "Describe": [wire.pack("D", b"Sno end"), wire.pack("D", b"Ss\0more")],
    "Close": [wire.pack("C", b"Sno end"), wire.pack("C", b"Ss\0more")],
}


@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
@pytest.mark.parametrize("kind", sorted(BROKEN))
def test_broken_messages_end_the_session(shared, kind, profile):
    p = shared(profile)
    for message in BROKEN[kind]:
        for before in (b"", wire.query("begin")):
            c = p.login()
            c.send(before, message)
            error = c.expect_error_close()
            assert (error.severity, error.text) == ("FATAL", f"broken {kind} packet"), message
    assert p.login().value("select 'others go on'") == "others go on"


def test_session_mode_leaves_statements_alone(shared):
    """Two of a name are then PostgreSQL's error, in both profiles, and what it has is called as its client calls it."""
    p = shared(profile="pgbouncer", pool_mode="session")
    c = p.login()
    prepare(c, "s", "select 1")
    assert prepare(c, "s", "select 2").error.code == "42P05"
    assert run(c, "nobody").error.code == "26000"
    assert c.value("select name from pg_prepared_statements") == "s"


def test_what_was_used_last_stays(shared):
    """Bind and Describe are uses."""
    p = shared(max_prepared_statements=3)
    c = p.login()
    for i in range(3):
        prepare(c, f"s{i}", f"select {i}")
    assert run(c, "s0").rows == [["0"]]
    c.send(wire.describe("S", "s1"), wire.SYNC)
    assert c.read_ready().types == "tTZ"
    prepare(c, "s3", "select 3")
    assert sorted(c.value(NAMES).split()) == ["PGBOUNCER_1", "PGBOUNCER_2", "PGBOUNCER_4"]
    prepare(c, "s4", "select 4")
    assert sorted(c.value(NAMES).split()) == ["PGBOUNCER_2", "PGBOUNCER_4", "PGBOUNCER_5"]


def test_a_lowered_limit_counts_for_the_next_statement(shared):
    p = shared()
    c = p.login()
    for i in range(4):
        prepare(c, f"s{i}", f"select {i}")
    p.admin("SET max_prepared_statements = 2")
    assert [run(c, f"s{i}").rows for i in range(4)] == [[[str(i)]] for i in range(4)]
    assert len(c.value(NAMES).split()) == 4
    for i in range(4, 7):
        prepare(c, f"s{i}", f"select {i}")
    assert len(c.value(NAMES).split()) == 2
    assert [run(c, f"s{i}").rows for i in range(7)] == [[[str(i)]] for i in range(7)]


def test_a_limit_of_zero_while_statements_are_there(shared):
    """Names go to the server as they are, and what it had stays; with a limit again, the old names are good again."""
    p = shared()
    c = p.login()
    prepare(c, "s", "select 'old'")
    p.admin("SET max_prepared_statements = 0")
    assert run(c, "s").error.code == "26000"
    assert prepare(c, "own", "select 'own'").types == "1Z"
    assert (
        c.value("select string_agg(name, ' ' order by length(name)) from pg_prepared_statements") == "own PGBOUNCER_1"
    )
    p.admin("SET max_prepared_statements = 200")
    assert run(c, "s").rows == [["old"]]


def test_an_eviction_that_was_skipped_is_none(shared):
    p = shared(max_prepared_statements=1)
    c = p.login()
    prepare(c, "kept", "select 'kept'")
    c.send(wire.extended("select 1/0"), wire.parse("other", "select 'other'"), wire.SYNC)
    assert c.read_ready().error.code == "22012"
    c.send(wire.bind("", "kept"), wire.execute(), wire.SYNC)
    assert c.read_ready().rows == [["kept"]]
    assert c.value(NAMES) == "PGBOUNCER_1"


def test_max_prepared_statements(shared):
    """The ones used last stay."""
    p = shared(max_prepared_statements=2)
    c = p.login()
    for i in range(4):
        prepare(c, f"s{i}", f"select {i}")
        assert run(c, f"s{i}").rows == [[str(i)]]
    assert len(c.value(NAMES).split()) == 2
    for i in (0, 3, 1, 2):
        assert run(c, f"s{i}").rows == [[str(i)]]


def test_a_negative_limit_is_none(shared):
    p = shared(max_prepared_statements=-1)
    c = p.login()
    for i in range(300):
        c.send(wire.parse(f"s{i}", f"select {i}"))
    c.send(wire.SYNC)
    assert c.read_ready().types == "1" * 300 + "Z"
    assert len(c.value(NAMES).split()) == 300


def test_max_prepared_statements_of_zero_leaves_them_to_the_server(shared):
    p = shared(max_prepared_statements=0)
    c = p.login()
    prepare(c, "s", "select 1")
    assert c.value("select name from pg_prepared_statements") == "s"


def test_prepared_statement_memory(shared):
    p = shared(prepared_statement_memory=65536)
    c = p.login()
    result = prepare(c, "large", "select '" + "x" * 70000 + "'")
    assert (result.error.code, result.status) == ("53400", "I")
    assert prepare(c, "small", "select 1").types == "1Z"
    texts = ["select '" + str(i) + "y" * 9000 + "'" for i in range(8)]
    codes = [getattr(prepare(c, f"s{i}", t).error, "code", None) for i, t in enumerate(texts)]
    assert codes[0] is None and codes[-1] == "53400"
    for i in range(4):
        c.send(wire.close("S", f"s{i}"), wire.SYNC)
        c.read_ready()
    assert c.value("select 'goes on'") == "goes on"


def test_long_statements_come_as_a_whole(shared):
    p = shared()
    a, b = p.login(), p.login()
    for size in (32000, 32768, 65536, 70000, 300000, 5000000):
        text = "select length('" + "x" * size + "')"
        assert prepare(a, f"s{size}", text).types == "1Z"
        assert run(a, f"s{size}").rows == [[str(size)]]
        assert b.value("deallocate all; select 1") == "1"
        assert run(a, f"s{size}").rows == [[str(size)]]


def test_a_long_statement_that_has_to_wait(shared):
    """It came as a whole, and the batch before it decides whether its name is free."""
    p = shared()
    text = "select length('" + "x" * 70000 + "')"
    for first, codes in (("select 1/0", ["22012", None]), ("select 1", [None, "42P05"])):
        c = p.login()
        c.send(wire.extended(first), wire.parse("s", "select 'short'"), wire.SYNC)
        c.send(wire.parse("s", text), wire.SYNC, wire.bind("", "s"), wire.execute(), wire.SYNC)
        assert [getattr(c.read_ready().error, "code", None) for _ in codes] == codes
        assert c.read_ready().rows == [["short" if codes[1] else "70000"]]


def test_half_of_a_long_statement_takes_no_memory_for_good(shared):
    p = shared(prepared_statement_memory=100000)
    message = wire.parse("s", "select length('" + "x" * 60000 + "')")
    for end in ("reset", "close"):
        c = p.login()
        c.send(message[:40000])
        wait_until(lambda: memory(p) > 60000, "it is claimed")
        getattr(c, end)()
        wait_until(lambda: memory(p) == 0, "it is given back")
    c = p.login()
    c.send(message, wire.SYNC)
    assert c.read_ready().types == "1Z"


@pytest.mark.parametrize("reuse", [0, 1])
def test_reuse_unnamed_statements(shared, reuse):
    p = shared(reuse_unnamed_statements=reuse)
    c, other = p.login(), p.login()
    for i in range(4):
        c.send(wire.parse("", "select 'reused', $1::int"), wire.bind("", "", [i]), wire.execute(), wire.SYNC)
        result = c.read_ready()
        assert (result.types, result.rows) == ("12DCZ", [["reused", str(i)]])
        assert other.value("select 1") == "1"
    assert c.value(PARSES.format("reused") + " and name like 'PGB%'") == str(reuse)


def test_reuse_of_a_text_that_fails(shared):
    p = shared(reuse_unnamed_statements=1)
    c = p.login()
    for _ in range(4):
        c.send(wire.parse("", "select nonsense from nowhere"), wire.bind(), wire.execute(), wire.SYNC)
        assert c.read_ready().error.code == "42P01"


def test_unnamed_statement_of_another_client_is_never_reached(shared):
    p = shared()
    a, b = p.login(), p.login()
    a.send(wire.extended("select 'secret of a'"), wire.SYNC)
    assert a.read_ready().rows == [["secret of a"]]
    assert run(b, "").error.code == "26000"


def test_unnamed_statement_in_a_later_transaction(shared):
    p = shared()
    a, b = p.login(), p.login()
    assert prepare(a, "", "select 'of a'").types == "1Z"
    b.send(wire.extended("select 'of b'"), wire.SYNC)
    assert b.read_ready().rows == [["of b"]]
    assert run(a, "").rows == [["of a"]]


@pytest.mark.parametrize("reuse", [0, 1])
def test_unnamed_statement_survives_the_error_of_an_earlier_batch(shared, reuse):
    p = shared(reuse_unnamed_statements=reuse)
    a, b = p.login(), p.login()
    for _ in range(4):
        a.send(
            wire.parse("", "select nonsense"),
            wire.bind(),
            wire.execute(),
            wire.SYNC,
            wire.parse("", "select 'kept'"),
            wire.SYNC,
        )
        assert a.read_ready().error.code == "42703"
        assert a.read_ready().types == "1Z"
        b.send(wire.extended("select 'of b'"), wire.SYNC)
        assert b.read_ready().rows == [["of b"]]
        assert run(a, "").rows == [["kept"]]


def test_unnamed_statement_of_an_earlier_batch_in_the_middle_of_one(shared):
    p = shared()
    c = p.login()
    prepare(c, "s", "select 'named'")
    c.send(wire.parse("", "select 'unnamed'"), wire.SYNC)
    c.send(wire.bind("", "s"), wire.execute(), wire.bind(), wire.execute(), wire.SYNC)
    assert c.read_ready().types == "1Z"
    assert c.read_ready().rows == [["named"], ["unnamed"]]


@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
def test_name_parsed_again_behind_a_discard_in_flight(shared, profile):
    p = shared(profile)
    c = p.login()
    prepare(c, "s", "select 'old'")
    c.send(wire.query("discard all"), wire.parse("other", "select 1"), wire.parse("s", "select 'new'"), wire.SYNC)
    assert c.read_ready().types == "CZ"
    assert c.read_ready().types == "11Z"
    assert run(c, "s").rows == [["new"]]


def test_unnamed_statement_whose_parse_was_skipped(shared):
    """What the server has without a name is then somebody else's."""
    p = shared()
    a, b = p.login(), p.login()
    b.send(wire.extended("select 'secret of b'"), wire.SYNC)
    b.read_ready()
    a.send(wire.extended("select 1/0"), wire.parse("", "select 'skipped'"), wire.SYNC)
    a.send(wire.bind(), wire.execute(), wire.SYNC)
    assert a.read_ready().error.code == "22012"
    second = a.read_ready()
    assert second.rows in ([], [["skipped"]]) and "secret" not in str(second.rows)


def test_unknown_and_known_names(shared):
    p = shared()
    c = p.login()
    result = run(c, "nobody")
    assert (result.error.code, result.error.text) == ("26000", 'prepared statement "nobody" does not exist')
    prepare(c, "s", "select 1")
    result = prepare(c, "s", "select 2")
    assert (result.error.code, result.error.text) == ("42P05", 'prepared statement "s" already exists')
    assert run(c, "s").rows == [["1"]]


def test_a_long_name_in_an_error_is_cut_between_characters(shared):
    p = shared()
    c = p.login()
    for name in ("é" * 300, "x" + "é" * 300):
        error = run(c, name).error
        assert error.code == "26000"
        shown = error.text.split('"')[1]
        assert 100 < len(shown) < 300 and name.startswith(shown)


@pytest.mark.parametrize("what", ["unknown", "known"])
def test_unknown_and_known_names_as_pgbouncer_has_it(shared, what):
    p = shared(profile="pgbouncer")
    c = p.login()
    prepare(c, "s", "select 1")
    if what == "unknown":
        c.send(wire.bind("", "nobody"), wire.SYNC)
        error, line = c.expect_error_close(), "prepared statement 'nobody' not found"
        assert error.text == "prepared statement did not exist"
    else:
        c.send(wire.parse("s", "select 1"), wire.SYNC)
        error, line = c.expect_error_close(), "prepared statement 's' was already prepared"
        assert error.text == "prepared statement name is already in use"
    assert (error.severity, error.code) == ("FATAL", "08P01")
    p.wait_for_log(rf"ERROR C-0x\w+: app/app@.* {line}")


def test_an_error_aborts_the_transaction_and_skips(shared):
    p = shared()
    c = p.login()
    c.query("begin")
    c.send(wire.bind("", "nobody"), wire.extended("select 'skipped'"), wire.SYNC)
    result = c.read_ready()
    assert (result.error.code, result.rows, result.status) == ("26000", [], "E")
    c.query("rollback")
    assert c.value("select 'next'") == "next"


def test_failed_parse_gives_no_name(shared):
    p = shared()
    c = p.login()
    assert prepare(c, "s", "selec").error.code == "42601"
    assert run(c, "s").error.code == "26000"
    assert prepare(c, "s", "select 'now'").types == "1Z"
    assert run(c, "s").rows == [["now"]]


def test_skipped_close_closes_nothing(shared):
    p = shared()
    c = p.login()
    prepare(c, "s", "select 'kept'")
    c.send(wire.extended("select 1/0"), wire.close("S", "s"), wire.SYNC)
    assert c.read_ready().error.code == "22012"
    assert run(c, "s").rows == [["kept"]]


@pytest.mark.parametrize("in_between", [b"", wire.SYNC])
def test_a_name_that_a_command_forgets(shared, in_between):
    p = shared()
    c = p.login()
    prepare(c, "s", "select 'old'")
    c.send(wire.query("deallocate all"), in_between, wire.parse("s", "select 'new'"), wire.SYNC)
    results = [c.read_ready() for _ in range(3 if in_between else 2)]
    assert [r.error for r in results] == [None] * len(results)
    assert run(c, "s").rows == [["new"]]


@pytest.mark.parametrize("command", ["deallocate all", "discard all"])
def test_what_others_have_is_forgotten_with_a_pipeline_behind_it(shared, command):
    """The client has no names yet; its batch uses a text that the server has had from another client until then."""
    p = shared()
    a, b = p.login(), p.login()
    prepare(a, "s", "select 'shared'")
    b.send(wire.query(command))
    b.send(wire.parse("own", "select 'own'"), wire.bind("", "own"), wire.execute())
    b.send(wire.parse("s", "select 'shared'"), wire.bind("", "s"), wire.execute(), wire.SYNC)
    assert b.read_ready().error is None
    assert b.read_ready().rows == [["own"], ["shared"]]
    assert run(a, "s").rows == [["shared"]]


@pytest.mark.parametrize(
    "command", ["select 1; deallocate all", "discard all", "select 1; discard plans; deallocate all"]
)
def test_a_bind_behind_a_command_that_forgets_its_name(shared, command):
    p = shared()
    c = p.login()
    prepare(c, "s", "select 'old'")
    c.send(wire.query(command), wire.bind("", "s"), wire.execute(), wire.SYNC)
    assert c.read_ready().status == "I"
    assert c.read_ready().error.code == "26000"


def test_deallocate_behind_a_command_that_forgets_its_name(shared):
    p = shared()
    c = p.login()
    prepare(c, "s", "select 'old'")
    c.send(wire.query("select 1; deallocate all"), wire.query("deallocate s"))
    assert c.read_ready().error is None
    assert c.read_ready().error.code == "26000"


@pytest.mark.parametrize("again", [wire.close("S", "s"), wire.bind("", "s") + wire.execute()])
def test_a_name_behind_a_close_that_is_skipped_with_prepare_of_sql(shared, again):
    p = shared()
    c = p.login()
    prepare(c, "s", "select 'kept'")
    c.query("prepare q as select 1")
    c.send(wire.parse("", "nonsense"), wire.close("S", "s"), wire.SYNC, again, wire.SYNC)
    assert c.read_ready().error.code == "42601"
    assert c.read_ready().error is None
    assert prepare(c, "s", "select 'new'").types == ("1Z" if again[:1] == b"C" else "EZ")


@pytest.mark.parametrize("has_names", [False, True])
def test_deallocate_of_a_name_of_ours_hits_nobody(shared, has_names):
    p = shared()
    a, b = p.login(), p.login()
    prepare(a, "s", "select 'mine'")
    assert a.value(NAMES) == "PGBOUNCER_1"
    if has_names:
        prepare(b, "other", "select 'other'")
    error = b.query('deallocate "PGBOUNCER_1"').error
    assert (error.code, error.text) == ("26000", 'prepared statement "PGBOUNCER_1" does not exist')
    assert "PGBOUNCER_1" in a.value(NAMES)


def test_prepare_of_sql_outlives_a_copy_after_which_the_server_is_in_doubt(shared):
    p = shared()
    c = p.login()
    c.query("create temp table t (x int)")
    c.query("prepare q as select 'mine'")
    copy = wire.parse("", "copy t from stdin") + wire.bind("") + wire.execute()
    c.send(copy, wire.SYNC, wire.pack("d", b"nonsense\n"), wire.pack("c"), wire.SYNC)
    assert c.read_ready().error.code == "22P02"
    assert c.query("execute q").rows == [["mine"]]


def test_deallocate_of_the_only_name_behind_a_close_that_is_skipped(shared):
    p = shared()
    c = p.login()
    prepare(c, "s", "select 'kept'")
    c.send(wire.parse("", "nonsense"), wire.close("S", "s"), wire.SYNC, wire.query("deallocate s"))
    assert c.read_ready().error.code == "42601"
    assert c.read_ready().tags == ["DEALLOCATE"]


@pytest.mark.parametrize(
    "command",
    ["deallocate s", 'DEALLOCATE PREPARE "s";', "/* x */ deallocate -- y\n s", "deallocate all", "discard all"],
)
@pytest.mark.parametrize("extended", [False, True])
def test_deallocate_of_a_statement_of_the_protocol(shared, command, extended):
    p = shared()
    a, b = p.login(), p.login()
    prepare(a, "s", "select 'mine'")
    prepare(b, "other", "select 'mine'")
    if extended and command == "discard all":
        pytest.skip("not inside of a transaction block")
    a.send(wire.extended(command) + wire.SYNC if extended else wire.query(command))
    assert a.read_ready().error is None
    assert run(a, "s").error.code == "26000"
    assert run(b, "other").rows == [["mine"]]
    assert prepare(a, "s", "select 'again'").types == "1Z"
    assert run(a, "s").rows == [["again"]]


def test_deallocate_in_a_failed_transaction(shared):
    p = shared()
    c = p.login()
    prepare(c, "s", "select 'kept'")
    c.query("begin")
    assert c.query("select 1/0").error.code == "22012"
    assert c.query("deallocate s").error.code == "25P02"
    c.query("rollback")
    assert run(c, "s").rows == [["kept"]]


def test_changed_shape_is_run_again(shared, cluster, database):
    db = database()
    p = shared(databases={"app": cluster.dsn(dbname=db)})
    a, b = p.login(), p.login()
    a.query("create table shape (x int); insert into shape values (1)")
    prepare(a, "s", "select * from shape")
    assert run(a, "s").rows == [["1"]]
    with cluster.connect(db) as direct:
        direct.execute("alter table shape add y text default 'y'")
    assert run(a, "s").rows == [["1", "y"]]
    b.query("alter table shape add z text default 'z'")
    assert run(a, "s").rows == [["1", "y", "z"]]


def test_changed_shape_is_described_to_who_parses_it_for_the_first_time(shared, cluster, database):
    """The server fails in the middle of its answer to Describe."""
    db = database()
    p = shared(databases={"app": cluster.dsn(dbname=db)})
    a, b = p.login(), p.login()
    a.query("create table shape (x int); insert into shape values (1)")
    prepare(a, "s", "select * from shape")
    assert run(a, "s").rows == [["1"]]
    with cluster.connect(db) as direct:
        direct.execute("alter table shape add y text default 'y'")
    b.send(wire.parse("s", "select * from shape"), wire.describe("S", "s"))
    b.send(wire.bind("", "s"), wire.execute(), wire.SYNC)
    result = b.read_ready()
    assert (result.types, result.rows) == ("1tT2DCZ", [["1", "y"]])


def test_changed_shape_is_run_again_behind_our_set(shared, cluster, database):
    """The parameters of the session go in front of the batch."""
    db = database()
    p = shared(databases={"app": cluster.dsn(dbname=db)})
    a, b = (p.login(params={"application_name": name}.items()) for name in ("a", "b"))
    a.query("create table shape (x int); insert into shape values (1)")
    prepare(a, "s", "select * from shape")
    assert b.value("show application_name") == "b"
    assert run(a, "s").rows == [["1"]]
    with cluster.connect(db) as direct:
        direct.execute("alter table shape add y text default 'y'")
    assert b.value("show application_name") == "b"
    assert run(a, "s").rows == [["1", "y"]]
    assert a.value("show application_name") == "a"


@pytest.mark.parametrize("through", ["pooler", "nothing"])
def test_changed_shape_is_an_error_for_who_does_not_look(shared, cluster, database, through):
    """Such a client decodes by an earlier description; also where the pooler has seen the DDL, it must hear of it."""
    db = database()
    p = shared(databases={"app": cluster.dsn(dbname=db)})
    a, b = p.login(), p.login()
    a.query("create table shape (x int); insert into shape values (1)")
    prepare(a, "s", "select * from shape")
    ddl = "alter table shape add y text default 'y'"
    if through == "pooler":
        assert b.query(ddl).error is None
    else:
        with cluster.connect(db) as direct:
            direct.execute(ddl)
    for _ in range(2):
        a.send(wire.bind("", "s"), wire.execute(), wire.SYNC)
        assert a.read_ready().error.code == "0A000"
    prepare(a, "again", "select * from shape")
    a.send(wire.bind("", "again"), wire.execute(), wire.SYNC)
    assert a.read_ready().rows == [["1", "y"]]


def test_changed_shape_behind_another_server(shared, cluster, database):
    """The second server has parsed the text after the change, and knows nothing of what the client was told."""
    db = database()
    p = shared(databases={"app": cluster.dsn(dbname=db)}, default_pool_size=2)
    a, b = p.login(), p.login()
    a.query("create table shape (x int); insert into shape values (1)")
    a.send(wire.parse("s", "select * from shape"), wire.describe("S", "s"), wire.SYNC)
    assert a.read_ready().types == "1tTZ"
    first = a.value("select pg_backend_pid()")
    with cluster.connect(db) as direct:
        direct.execute("alter table shape add y text default 'y'")
    a.query("begin")
    b.query("begin")
    pids = [c.value("select pg_backend_pid()") for c in (a, b)]
    assert first in pids
    a.query("commit") if pids[0] == first else b.query("commit")
    held = b if pids[0] == first else a
    c = p.login()
    c.query("begin")
    held.query("commit")
    a.send(wire.bind("", "s"), wire.execute(), wire.SYNC)
    result = a.read_ready()
    assert (result.error.code, result.error.fields["R"], result.rows) == ("0A000", "RevalidateCachedQuery", [])
    assert run(a, "s").rows == [["1", "y"]]
    a.send(wire.close("S", "s"), wire.parse("s", "select * from shape"), wire.describe("S", "s"), wire.SYNC)
    assert a.read_ready().error is None
    a.send(wire.bind("", "s"), wire.execute(), wire.SYNC)
    assert a.read_ready().rows == [["1", "y"]]
    c.query("commit")


@pytest.fixture
def make_two_servers(shared, cluster, database):
    """A pool of two servers, of which the client under test gets the one that the test chooses."""

    class Two:
        def __init__(self, **settings):
            self.db = database()
            self.p = shared(databases={"app": cluster.dsn(dbname=self.db)}, default_pool_size=2, **settings)
            self.holders = [self.p.login(), self.p.login()]
            for h in self.holders:
                h.query("begin")
            self.pids = [h.value("select pg_backend_pid()") for h in self.holders]
            self.holders[0].query("create table shape (x int); insert into shape values (1)")
            self.only(0)

        def only(self, i):
            """All but server i are held by transactions."""
            for h in self.holders:
                h.query("commit")
            for h in self.holders:
                h.query("begin")
            pids = [h.value("select pg_backend_pid()") for h in self.holders]
            self.holders[pids.index(self.pids[i])].query("commit")

        def change(self, sql):
            with cluster.connect(self.db) as direct:
                direct.execute(sql)

    return Two


@pytest.fixture
def two_servers(make_two_servers):
    return make_two_servers()


def test_changed_shape_for_who_described_by_portal(two_servers):
    a = two_servers.p.login()
    prepare(a, "s", "select * from shape")
    assert run(a, "s").rows == [["1"]]
    two_servers.change("alter table shape add y text default 'y'")
    two_servers.only(1)
    a.send(wire.bind("", "s"), wire.execute(), wire.SYNC)
    assert a.read_ready().error.code == "0A000"
    assert run(a, "s").rows == [["1", "y"]]
    a.send(wire.bind("", "s"), wire.execute(), wire.SYNC)
    assert a.read_ready().rows == [["1", "y"]]


def test_a_statement_prepared_after_a_change_is_no_error_on_a_server_from_before(two_servers):
    a, b = two_servers.p.login(), two_servers.p.login()
    for c in (a, b):
        prepare(c, "s", "select * from shape")
        assert run(c, "s").rows == [["1"]]
    two_servers.change("alter table shape add y text default 'y'")
    two_servers.only(1)
    a.send(wire.close("S", "s"), wire.parse("s", "select * from shape"), wire.describe("S", "s"), wire.SYNC)
    assert a.read_ready().error is None
    two_servers.only(0)
    for _ in range(2):
        a.send(wire.bind("", "s"), wire.execute(), wire.SYNC)
        assert a.read_ready().rows == [["1", "y"]]
    b.send(wire.bind("", "s"), wire.execute(), wire.SYNC)
    assert b.read_ready().error.code == "0A000"


def describe(conn, name, *before):
    conn.send(*before, wire.describe("S", name), wire.SYNC)
    result = conn.read_ready()
    assert result.error is None
    return [name for name, _ in result.columns]


def blind(conn, name, **bind):
    """A Bind that relies on a description from before."""
    conn.send(wire.bind("", name, **bind), wire.execute(), wire.SYNC)
    return conn.read_ready()


TEXT = "select * from shape"
ALTER = "alter table shape add y text default 'y'"


@pytest.mark.parametrize("through", ["pooler", "nothing"])
@pytest.mark.parametrize("reuse", [0, 1])
def test_unnamed_statement_described_on_one_server_and_bound_on_another(make_two_servers, through, reuse):
    """The second one still has the text as it was before the change: drivers without names must not fail on that."""
    two = make_two_servers(reuse_unnamed_statements=reuse)
    a, b = two.p.login(), two.p.login()
    for i in (1, 0, 1):
        two.only(i)
        for c in (a, b):
            describe(c, "", wire.parse("", TEXT))
            assert blind(c, "").rows == [["1"]]
    two.only(0)
    describe(b, "", wire.parse("", TEXT))
    if through == "pooler":
        two.holders[1].query("commit")
        assert two.holders[1].query(ALTER).error is None
    else:
        two.change(ALTER)
    two.only(0)
    assert describe(a, "", wire.parse("", TEXT)) == ["x", "y"]
    two.only(1)
    assert blind(a, "").rows == [["1", "y"]]
    assert blind(b, "").error.code == "0A000", "it was told of one column"


def test_bind_that_names_the_format_of_each_column_relies_on_them(two_servers):
    """As PostgreSQL itself says: the plan has changed, and not that the number of formats is wrong."""
    two = two_servers
    a = two.p.login()
    two.change("alter table shape add z int default 3")
    describe(a, "s", wire.parse("s", TEXT))
    formats = {"result_formats": [0, 0]}
    assert blind(a, "s", **formats).rows == [["1", "3"]]
    two.change(ALTER)
    for server in (0, 1):
        two.only(server)
        a.send(wire.bind("", "s", **formats), wire.describe("P"), wire.execute(), wire.SYNC)
        assert a.read_ready().error.code == "0A000"
    a.query("begin")
    a.send(wire.bind("", "s", **formats), wire.describe("P"), wire.execute(), wire.SYNC)
    assert a.read_ready().error.code == "0A000"
    a.query("rollback")


def test_change_that_shows_inside_of_a_block_is_known_afterwards(two_servers):
    """Nothing can be run again there, so the next time must go well."""
    two = two_servers
    a, b = two.p.login(), two.p.login()
    for c in (a, b):
        describe(c, "s", wire.parse("s", TEXT))
        assert blind(c, "s").rows == [["1"]]
    two.change(ALTER)
    a.query("begin")
    assert run(a, "s").error.code == "0A000"
    a.query("rollback")
    a.query("begin")
    assert run(a, "s").rows == [["1", "y"]], "it looks at what comes"
    assert describe(a, "t", wire.parse("t", TEXT)) == ["x", "y"]
    assert blind(a, "t").rows == [["1", "y"]]
    a.query("commit")
    assert blind(b, "s").error.code == "0A000", "it does not look"


def test_a_table_made_anew_is_no_error_for_who_parses_then(shared, cluster, database):
    db = database()
    p = shared(databases={"app": cluster.dsn(dbname=db)})
    a, b = p.login(), p.login()
    a.query("create table shape (x int); insert into shape values (1)")
    prepare(a, "s", "select * from shape")
    assert run(a, "s").rows == [["1"]]
    b.query("drop table shape")
    b.query("create table shape (y text); insert into shape values ('y')")
    b.send(wire.parse("t", "select * from shape"), wire.bind("", "t"), wire.execute(), wire.SYNC)
    assert b.read_ready().rows == [["y"]]


def test_changed_shape_is_hidden_from_who_parses_behind_other_batches(shared, cluster, database):
    db = database()
    p = shared(databases={"app": cluster.dsn(dbname=db)})
    a, b = p.login(), p.login()
    a.query("create table shape (x int); insert into shape values (1)")
    prepare(a, "s", "select * from shape")
    assert run(a, "s").rows == [["1"]]
    with cluster.connect(db) as direct:
        direct.execute("alter table shape add y text default 'y'")
    batch = wire.parse("s", "select * from shape") + wire.describe("S", "s") + wire.bind("", "s") + wire.execute()
    b.send(wire.query("select 1"), wire.SYNC, batch, wire.SYNC)
    assert [b.read_ready().types for _ in range(3)] == ["TDCZ", "Z", "1tT2DCZ"]


def test_statement_that_the_server_has_lost_inside_of_a_transaction(shared):
    p = shared()
    a = p.login()
    for name in ("s", "t"):
        prepare(a, name, f"select '{name}'")
    a.query("do $$ begin execute 'deallocate all'; end $$")
    a.query("begin")
    assert run(a, "s").error.code == "26000"
    a.query("rollback")
    a.query("begin")
    assert run(a, "s").rows == [["s"]]
    assert run(a, "t").error.code == "26000"
    a.query("rollback")
    assert run(a, "t").rows == [["t"]]


def test_statement_that_the_server_has_lost(shared):
    p = shared()
    a = p.login()
    prepare(a, "s", "select 'found'")
    a.query("do $$ begin execute 'deallocate all'; end $$")
    assert run(a, "s").rows == [["found"]]


def test_sql_prepare_pins(shared):
    p = shared()
    a, b = p.login(), p.login()
    a.query("prepare q as select 'pinned'")
    b.send(wire.query("select 'waits'"))
    assert b.is_silent()
    assert a.value("execute q") == "pinned"
    assert run(a, "q").rows == [["pinned"]]
    a.query("deallocate q")
    assert b.read_ready().rows == [["waits"]]


@pytest.mark.parametrize("how", ["one by one", "pipelined", "with a Sync behind"])
def test_deallocate_in_a_failed_block(shared, how):
    """It is refused there as anything is, and the session goes on."""
    p = shared()
    c = p.login(timeout=10)
    prepare(c, "s", "select 'still there'")
    c.query("begin")
    bad, drop = wire.query("select bogus"), wire.query("deallocate s")
    if how == "one by one":
        results = [c.query("select bogus"), c.query("deallocate s")]
    else:
        c.send(bad, drop, wire.SYNC if how == "with a Sync behind" else b"")
        results = [c.read_ready(), c.read_ready()]
    if how == "with a Sync behind":
        assert c.read_ready().types == "Z"
    assert [[e.code for e in r.errors] for r in results] == [["42703"], ["25P02"]]
    assert [r.status for r in results] == ["E", "E"]
    assert c.query("rollback").status == "I"
    assert run(c, "s").rows == [["still there"]]
    assert c.query("deallocate s").tags == ["DEALLOCATE"]
    assert run(c, "s").error.code == "26000"
    assert p.log_count("failed: ERROR") == 0


@pytest.mark.parametrize("last", ["batch", "query", "error"])
def test_deallocate_of_both_kinds_in_one_go(shared, last):
    """The first one's answer comes while the other's statement, made for it, is still to be parsed."""
    p = shared(profile="pgsluice")
    a, b = p.login(), p.login()
    a.query("prepare q as select 'by SQL'")
    prepare(a, "s", "select 'by Parse'")
    first = wire.extended("deallocate q")
    if last == "query":
        a.send(first, wire.SYNC, wire.query("deallocate s"))
        results = [a.read_ready(), a.read_ready()]
    else:
        error = wire.extended("select 1/0") if last == "error" else b""
        a.send(first, error, wire.extended("deallocate s"), wire.SYNC)
        results = [a.read_ready()]
    tags = [tag for r in results for tag in r.tags]
    assert tags == (["DEALLOCATE"] if last == "error" else ["DEALLOCATE"] * 2)
    if last == "error":
        assert a.query("deallocate q").error.code == "26000", "that is not undone with the batch"
        assert run(a, "s").rows == [["by Parse"]]
    else:
        assert run(a, "s").error.code == "26000"
    assert b.value("select count(*) from pg_prepared_statements where name = 'q'") == "0", "nobody is kept waiting"
    assert prepare(b, "s", "select 'by Parse'").error is None
    assert run(b, "s").rows == [["by Parse"]]


def test_sql_prepare_of_a_client_that_leaves(shared):
    p = shared()
    a, b = p.login(), p.login()
    a.query("prepare q as select 'pinned'")
    a.terminate()
    assert b.value("select count(*) from pg_prepared_statements") == "0"


def test_sql_prepare_refused(shared):
    p = shared(sql_prepare="refuse")
    c = p.login()
    for text in ("prepare q as select 1", "select 1; /* x */ prepare q as select 1"):
        assert c.query(text).error.code == "0A000"
    c.send(wire.extended("prepare q as select 1"), wire.SYNC)
    assert c.read_ready().error.code == "0A000"
    assert c.value("select 'prepare q'") == "prepare q"


def test_sql_prepare_ignored(shared):
    p = shared(sql_prepare="ignore")
    a, b = p.login(), p.login()
    a.query("prepare q as select 'shared'")
    assert b.value("execute q") == "shared"


def test_parameters_that_no_server_has_taken_are_waited_for_once(shared):
    """The server is idle when it has taken them; that is no reason to take it away again."""
    p = shared()
    clients = [p.login(params={"application_name": f"client {i}"}) for i in range(40)]
    assigned = lambda: next(int(r["server_assignment_count"]) for r in p.show("stats_totals") if r["database"] == "app")
    before = assigned()
    for _ in range(3):
        for c in clients:
            c.send(wire.query("show application_name"))
        assert [c.read_ready().rows for c in clients] == [[[f"client {i}"]] for i in range(40)]
    assert assigned() - before == 120


@pytest.mark.parametrize("profile", ["pgsluice", "pgbouncer"])
def test_errors_have_the_name_of_the_client(shared, profile):
    """Where PostgreSQL names a statement of ours: with a name, without one, and on a server that was just given it."""
    p = shared(profile=profile)
    a, b = p.login(), p.login()
    wrong = 'bind message supplies 1 parameters, but prepared statement "%s" requires 2'
    for name in ("mine", "PGBOUNCER_77", "two words", ""):
        prepare(a, name, f"select $1::int, $2::int -- {name}")
        b.query("deallocate all")
        r = run(a, name, ["1"])
        assert (r.error.code, r.error.text) == ("08P01", wrong % name)
        assert run(a, name, ["1", "2"]).rows == [["1", "2"]]
    prepare(b, "theirs", "select $1::int, $2::int")
    assert run(b, "theirs", ["1"]).error.text == wrong % "theirs"
    # What is the client's own stays.
    r = run(b, "theirs", ["1", "PGBOUNCER_1"])
    assert (r.error.code, r.error.text) == ("22P02", 'invalid input syntax for type integer: "PGBOUNCER_1"')
    # Closed in the same batch, and so forgotten already.
    b.send(wire.bind("", "theirs", ["1"]), wire.close("S", "theirs"), wire.SYNC)
    assert b.read_ready().error.text == wrong % "theirs"
    a.query("begin")
    assert run(a, "mine", ["1", "2"]).rows == [["1", "2"]]
    a.query("do $$ begin execute 'deallocate all'; end $$")
    r = run(a, "mine", ["1", "2"])
    assert (r.error.code, r.error.text) == ("26000", 'prepared statement "mine" does not exist')
