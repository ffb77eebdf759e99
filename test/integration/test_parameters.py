"""Session parameters that follow their client from server to server."""
import os

import pytest
from harness import wire

PARAMETERS = {
    "application_name": ("one app", "other'app\\x"),
    "client_encoding": ("LATIN1", "UTF8"),
    "DateStyle": ("German, DMY", "ISO, MDY"),
    "TimeZone": ("Asia/Tokyo", "America/New_York"),
    "standard_conforming_strings": ("off", "on"),
    "IntervalStyle": ("sql_standard", "iso_8601"),
}
BOTH = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.newer) if n in ("IntervalStyle", "application_name") else n for n in PARAMETERS],
)


ONE_SERVER = {"pool_mode": "transaction", "default_pool_size": 1}


@pytest.fixture
def shared(make_pooler):
    """One server for everybody."""
    return make_pooler(settings=ONE_SERVER)


@BOTH
def test_set_follows_the_client(shared, name):
    one, two = PARAMETERS[name]
    a, b = shared.login(), shared.login()
    quoted = one.replace("'", "''")
    assert a.query(f"set {name} = '{quoted}'").params.get(name) == one
    b.query(f"set {name} = E'{two.replace(chr(92), chr(92) * 2).replace(chr(39), chr(39) * 2)}'")
    for _ in range(3):
        assert a.value(f"show {name}") == one
        assert b.value(f"show {name}") == two


@BOTH
def test_startup_value_follows_the_client(shared, name):
    one, two = PARAMETERS[name]
    a, b = shared.login(params={name: one}), shared.login(params={name: two})
    plain = shared.login()
    default = plain.value(f"show {name}")
    for _ in range(2):
        assert a.value(f"show {name}") == one
        assert b.value(f"show {name}") == two
        assert plain.value(f"show {name}") == default
    assert a.params[name] == one and b.params[name] == two


def test_restoring_is_invisible(shared):
    """No ParameterStatus and no stray answer of the pooler's own SET reaches the client."""
    a, b = shared.login(params={"application_name": "a"}), shared.login(params={"application_name": "b"})
    for _ in range(3):
        for c in (a, b):
            assert c.query("select 1").types == "TDCZ"
            c.send(wire.extended("select 2"), wire.SYNC)
            assert c.read_ready().types == "12TDCZ"


def test_restoring_before_a_pipeline(shared):
    a, b = shared.login(params={"application_name": "a"}), shared.login(params={"application_name": "b"})
    for c, name in ((a, "a"), (b, "b"), (a, "a")):
        c.send(
            wire.extended("show application_name"),
            wire.SYNC,
            wire.extended("show application_name"),
            wire.SYNC,
            wire.query("show application_name"),
        )
        assert [c.read_ready().rows for _ in range(3)] == [[[name]]] * 3


def test_restoring_before_a_copy(shared, cluster):
    a, b = shared.login(params={"client_encoding": "LATIN1"}), shared.login()
    for _ in range(2):
        b.query("select 1")
        a.send(wire.query("copy (select chr(228)) to stdout"))
        result = a.read_ready()
        assert [m.body for m in result.messages if m.type == "d"] == [b"\xe4\n"]


def test_encoding_of_each_client(shared):
    latin, utf = shared.connect(client_encoding="latin1"), shared.connect()
    for _ in range(2):
        assert latin.execute("select 'ä'::text").fetchone() == ("ä",)
        assert utf.execute("select 'ä€'::text").fetchone() == ("ä€",)


def test_discard_all_and_reset(shared):
    a, b = shared.login(params={"application_name": "mine"}), shared.login()
    a.query("set timezone = 'Asia/Tokyo'")
    a.query("discard all")
    b.query("select 1")
    assert a.value("show timezone") == "UTC"


def test_rolled_back_set(shared):
    a, b = shared.login(), shared.login()
    a.query("set timezone = 'Asia/Tokyo'")
    a.query("begin")
    a.query("set timezone = 'America/New_York'")
    a.query("rollback")
    b.query("select 1")
    assert a.value("show timezone") == "Asia/Tokyo"


def test_set_local(shared):
    a, b = shared.login(), shared.login()
    a.query("begin")
    a.query("set local timezone = 'Asia/Tokyo'")
    assert a.value("show timezone") == "Asia/Tokyo"
    a.query("commit")
    assert b.value("show timezone") == "UTC"
    assert a.value("show timezone") == "UTC"


@pytest.mark.newer
@pytest.mark.parametrize("is_cold", [False, True])
def test_invalid_startup_value(shared, is_cold):
    """The server refuses the SET: this client is told and goes, the others stay, be it the first of them all."""
    other = None if is_cold else shared.login()
    if other is not None:
        other.query("select 1")
    c = shared.raw()
    c.start(params={"timezone": "Not/A_Zone"})
    greeting = c.read_ready()
    assert greeting.status == "I"
    c.send(wire.query("select 1"))
    assert c.expect_error_close().text == "invalid server parameter"
    for client in (other, shared.login()):
        assert client is None or client.value("show timezone") == "UTC"


@pytest.mark.ours
def test_a_value_that_another_database_takes(make_pooler, cluster, request):
    """A query never runs under other values than its client's, be they good for servers of another database."""
    name = f"euc_{os.getpid()}"
    cluster.sql(f"create database {name} owner app encoding 'EUC_JP' lc_collate 'C' lc_ctype 'C' template template0")
    request.addfinalizer(lambda: cluster.sql(f"drop database {name} with (force)"))
    p = make_pooler({"app": cluster.dsn(), "euc": cluster.dsn(dbname=name)}, settings=ONE_SERVER)
    p.login(database="euc").query("select 1")
    for _ in range(3):
        other, c = p.login(), p.login(params={"client_encoding": "LATIN1"})
        other.query("select 1")
        assert c.value("show client_encoding") == "LATIN1"
    c = p.login(database="euc", params={"client_encoding": "LATIN1"})
    c.send(wire.query("create table t (i int)"))
    assert c.expect_error_close().text == "invalid server parameter"
    assert cluster.value("select to_regclass('public.t') is null", dbname=name)


@pytest.mark.newer
def test_long_and_hostile_values(shared):
    """Nothing of a value gets out of its quotes, whatever its length."""
    other = shared.login()
    for value in ("'; drop table x; --", "\\'; select 1; --", "a" * 60, "''", "\\", "E'x'", "$$", "x'" * 25):
        c = shared.login(params={"application_name": value})
        other.query("select 1")
        assert c.value("show application_name") == value
        c.close()


# In these encodings the second byte of a character may be a backslash.
UNSAFE_ENCODINGS = ["SJIS", "SHIFT_JIS_2004", "BIG5", "GBK", "GB18030", "UHC", "JOHAB"]


@pytest.mark.ours
@pytest.mark.parametrize("encoding", UNSAFE_ENCODINGS)
def test_values_are_safe_in_any_encoding(shared, cluster, encoding):
    """The commands that restore parameters are read in the encoding of the client before."""
    table = f"smuggled_{encoding.lower()}"
    before = shared.login(params={"client_encoding": encoding})
    for lead in (b"\x81", b"\x83", b"\x88", b"\xa4", b"\xfe", b"\xff"):
        for rest in (b"\\'", b"'", b"\\\\'", b"\\"):
            tail = b"; create table %s(); --" % table.encode()
            c = shared.login(params={"application_name": lead + rest + tail})
            before.query("select 1")
            assert c.value("show application_name") == "?" + (rest + tail).decode()
            c.terminate()
    assert before.value(f"select to_regclass('{table}') is null") == "t"


@pytest.mark.ours
def test_names_beyond_ascii(shared):
    """As PostgreSQL makes them: a question mark for each byte."""
    other = shared.login()
    for encoding, name in (("UTF8", "Änne"), ("LATIN1", "Änne"), ("SJIS", "ソフト")):
        data = name.encode({"SJIS": "cp932"}.get(encoding, encoding))
        c = shared.login(params={"client_encoding": encoding, "application_name": data})
        other.query("select 1")
        wanted = "".join(chr(b) if b < 0x80 else "?" for b in data)
        assert c.value("show application_name") == wanted
        c.close()


@pytest.fixture
def strange_role(cluster):
    """A role whose name is ASCII in no encoding, and is spelled in all that the test uses."""
    name = f"schön_{os.getpid()}"
    cluster.sql(f'create role "{name}"')
    yield name
    cluster.sql(f'drop role "{name}"')


@pytest.mark.ours
def test_parameters_beyond_ascii(make_pooler, cluster, strange_role):
    """A value that the server reports in the encoding of the client is restored from that encoding."""
    p = make_pooler(
        {"app": cluster.dsn(user="postgres")},
        settings={**ONE_SERVER, "track_extra_parameters": "session_authorization"},
    )
    a, b, plain = p.login(params={"client_encoding": "LATIN1"}), p.login(params={"client_encoding": "UTF8"}), p.login()
    for c, encoding in ((a, "latin-1"), (b, "utf-8")):
        c.send(wire.query(f'set session authorization "{strange_role}"'.encode(encoding)))
        assert c.read_ready().tag == "SET"
    for n in range(4):
        if n % 2 == 0:
            assert plain.value("select session_user") == "postgres"
        for c, encoding in ((a, "latin-1"), (b, "utf-8")):
            c.send(wire.query("select session_user"))
            assert [m.body[6:] for m in c.read_ready().messages if m.type == "D"] == [strange_role.encode(encoding)]


@pytest.mark.newer
def test_long_value_of_a_parameter(make_pooler):
    """Longer than what fits into any small buffer: restored too."""
    p = make_pooler(
        settings={"pool_mode": "transaction", "default_pool_size": 1, "track_extra_parameters": "IntervalStyle"}
    )
    name = "n" * 63
    a, b = p.login(params={"application_name": name}), p.login(params={"application_name": "b"})
    for _ in range(2):
        assert a.value("show application_name") == name
        assert b.value("show application_name") == "b"


@pytest.mark.newer
def test_value_beyond_any_small_buffer(shared):
    """Hundreds of bytes of it, where PgBouncer gives up silently at some 125."""
    value = ", ".join(["SQL", "DMY"] * 60)
    other = shared.login()
    c = shared.login(params={"DateStyle": value})
    for _ in range(2):
        other.query("select 1")
        assert c.value("show datestyle") == "SQL, DMY"


class Recorder:
    """A server that reports search_path, as PostgreSQL 18 does, and keeps what it is sent."""

    def __init__(self, fake_server):
        self.queries = []
        self.server = fake_server(self.serve)

    def serve(self, conn, params):
        conn.greet([("search_path", '"$user", public')])
        while True:
            m = conn.recv()
            if m.type == "X":
                return
            sql = m.body[:-1].decode()
            self.queries.append(sql)
            if "set_config" in sql or sql.startswith("SET "):
                parts = [
                    wire.row_description("v") + wire.data_row("x") + wire.pack("C", wire.cstr("SELECT 1"))
                ] * sql.count("set_config(") + [wire.pack("C", wire.cstr("SET"))] * sql.count("SET ")
                conn.send(*parts, wire.pack("Z", b"I"))
            else:
                conn.send(wire.answer("ok"))


@pytest.mark.ours
@pytest.mark.parametrize("path", [", ".join(f"schema_{i}" for i in range(1000)), '"' + "'" * 60000 + '"'])
def test_one_query_restores_all(make_pooler, fake_server, path):
    """Everything that differs, and nothing else, with values of any length; the answers are for nobody."""
    server = Recorder(fake_server)
    p = make_pooler(
        {"app": server.server.dsn()}, settings={**ONE_SERVER, "track_extra_parameters": "IntervalStyle, search_path"}
    )
    c = p.login(
        params={
            "search_path": path,
            "timezone": "Asia/Tokyo",
            "client_encoding": "utf8",
            "application_name": "it's",
            "standard_conforming_strings": "ON",
        }
    )
    assert c.query("select 1").types == "TDCZ"
    sets = [sql for sql in server.queries if sql != "select 1" and sql]
    assert sets == [
        "SET TimeZone='Asia/Tokyo';SET application_name='it''s';"
        "SELECT pg_catalog.set_config('search_path','" + path.replace("'", "''") + "',false);"
    ]


@pytest.mark.ours
def test_search_path_follows_the_client(make_pooler, cluster):
    """Where the server reports it: lists, names in quotes, none at all, names in the encoding of each client."""
    if int(cluster.value("show server_version_num")) < 180000:
        pytest.skip("search_path is reported since PostgreSQL 18")
    p = make_pooler(settings={**ONE_SERVER, "track_extra_parameters": "search_path"})
    plain = p.login()
    latin, utf = p.login(params={"client_encoding": "LATIN1"}), p.login(params={"client_encoding": "UTF8"})
    start = p.login(params={"search_path": "pg_catalog, \"it's\""})
    none = p.login()
    assert none.query("set search_path = ''").tag == "SET"
    for c, encoding in ((latin, "latin-1"), (utf, "utf-8")):
        c.send(wire.query('set search_path = "schön, ""wirklich""", public, pg_temp'.encode(encoding)))
        assert c.read_ready().tag == "SET"
    for _ in range(3):
        assert plain.value("show search_path") == '"$user", public'
        assert start.value("show search_path") == "pg_catalog, \"it's\""
        assert none.value("show search_path") == '""'
        for c, encoding in ((latin, "latin-1"), (utf, "utf-8")):
            c.send(wire.query("show search_path"))
            row = [m.body[6:] for m in c.read_ready().messages if m.type == "D"]
            assert row == ['"schön, ""wirklich""", public, pg_temp'.encode(encoding)]


@pytest.mark.newer
def test_what_the_server_does_not_report_is_never_restored(make_pooler):
    p = make_pooler(settings={**ONE_SERVER, "track_extra_parameters": "work_mem"})
    c = p.login(params={"work_mem": "1234kB"})
    assert c.params["work_mem"] == "1234kB"
    assert c.value("show work_mem") != "1234kB"


@pytest.mark.ours
def test_restoring_does_not_depend_on_the_search_path(make_pooler, cluster, strange_role, database):
    """Functions of the same names in a schema that comes first are not called."""
    name = database()
    for function in ("set_config(text, text, boolean) returns text", "decode(text, text) returns bytea"):
        cluster.sql(
            f"create function public.{function} language plpgsql as $$begin raise 'shadowed'; end$$", dbname=name
        )
    p = make_pooler(
        {"app": cluster.dsn(user="postgres", dbname=name)},
        settings={**ONE_SERVER, "track_extra_parameters": "session_authorization"},
    )
    a, b = p.login(), p.login()
    a.query(f'set session authorization "{strange_role}"')
    b.query("set search_path = public, pg_catalog")
    assert b.query("select set_config('a.b', 'c', false)").error.text == "shadowed"
    assert a.value("select session_user") == strange_role


@pytest.mark.newer
def test_track_extra_parameters(make_pooler, cluster):
    p = make_pooler(
        settings={
            "pool_mode": "transaction",
            "default_pool_size": 1,
            "track_extra_parameters": "IntervalStyle, default_transaction_read_only",
        }
    )
    a = p.login(params={"intervalstyle": "iso_8601"})
    b = p.login()
    b.query("set intervalstyle = 'sql_standard'")
    assert a.value("show intervalstyle") == "iso_8601"
    assert b.value("show intervalstyle") == "sql_standard"
    a.query("set default_transaction_read_only = on")
    assert b.value("show default_transaction_read_only") == "off"
    assert a.value("show default_transaction_read_only") == "on"


def test_database_settings_of_the_connect_string(make_pooler, cluster):
    p = make_pooler(
        {
            "app": cluster.dsn(
                timezone="Asia/Tokyo", datestyle="'SQL,DMY'", application_name="fixed", client_encoding="LATIN1"
            )
        }
    )
    c = p.login()
    assert c.value("show timezone") == "Asia/Tokyo"
    assert c.value("show datestyle") == "SQL, DMY"
    assert c.value("show application_name") == "fixed"
    assert c.value("show client_encoding") == "LATIN1"


def test_new_value_is_reported_in_the_greeting_of_others(shared):
    """The greeting shows the server's defaults, not what another client made of them."""
    a = shared.login()
    a.query("set timezone = 'Asia/Tokyo'")
    b = shared.login()
    assert b.params["TimeZone"] == "UTC"
    assert b.value("show timezone") == "UTC"


def test_session_mode_starts_clean(make_pooler):
    p = make_pooler(settings={"default_pool_size": 1})
    a = p.login(params={"application_name": "first"})
    a.query("set timezone = 'Asia/Tokyo'")
    a.terminate()
    b = p.login()
    assert b.value("show timezone") == "UTC"
    assert b.value("show application_name") == ""
