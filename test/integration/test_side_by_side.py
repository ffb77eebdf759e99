"""
The same scripts to the pooler under test and to a PgBouncer, and every line of the answers compared.

PGBOUNCER names the program to compare with, which may be any from 1.24 on; without it, one that is installed is taken.
What may differ stands in DELIBERATE, each with words of doc/differences.md, where the reason is.
"""
import collections
import os
import re
import struct

import pytest
from harness import pooler as pl
from harness import side as sd
from harness import wire
from harness.procs import wait_until
from harness.side import bytes_, cancel, console, do, hear, leave, login, open_, program, say, send

PROGRAM, VERSION = sd.reference()
needs_pgbouncer = pytest.mark.skipif(PROGRAM is None, reason=str(VERSION))
pytestmark = pytest.mark.ours

# In the steps whose "script/name" matches, the lines are changed before they are compared; an empty one is left out.
# `since`, `until`: only against these versions of PgBouncer.
Rule = collections.namedtuple("Rule", "step line becomes why since until", defaults=((0, 0), (99, 99)))

DELIBERATE = [
    # PgBouncer 1.26 is newer than what we stand in for.
    Rule(
        "",
        r"^parameter (pgbouncer\.|default_transaction_read_only|session_authorization).*",
        "",
        "three parameters of its own",
        since=(1, 26),
    ),
    Rule(
        "(search_path|read_only) in the startup packet",
        r".*",
        "",
        "tracks all parameters that servers report",
        since=(1, 26),
    ),
    Rule(
        "SHOW CONFIG",
        r"^row (track_extra_parameters|suspend_timeout) .*",
        "",
        "tracks all parameters that servers report",
        since=(1, 26),
    ),
    Rule("SHOW FDS|SUSPEND", r".*", "", "has no online restart any more", since=(1, 26)),
    Rule("SHOW STATE", r"^row suspended .*", "", "has no online restart any more", since=(1, 26)),
    Rule("", r"suspended/paused|paused/suspended", "paused", "has no online restart any more", since=(1, 26)),
    Rule("of ignore_startup_parameters", r".*", "", "beats what is tracked", since=(1, 26)),
    # What older ones lacked or had otherwise.
    Rule(
        "SHOW CONFIG",
        r"^row (server_check_query|max_prepared_statements|max_client_conn) .*",
        "",
        "are those of PgBouncer 1.25",
        until=(1, 24),
    ),
    Rule(": RELOAD$|startup packets/the log", r".*", "", "are those of PgBouncer 1.25", until=(1, 24)),
    Rule("SHOW (STATS|TOTALS)", r".*", "", "are those of PgBouncer 1.25", until=(1, 25)),
    Rule("extra_float_digits", r".*", "", "are those of PgBouncer 1.25", until=(1, 25)),
    Rule("ENABLE pgbouncer|: KILL$", r".*", "", "are those of PgBouncer 1.25", until=(1, 25)),
    Rule(
        "without a name|no terminator|of an odd number|of nothing",
        r".*",
        "",
        "are those of PgBouncer 1.25",
        until=(1, 25),
    ),
    Rule("", r"evicted for \w+", "evicted", "are those of PgBouncer 1.25", until=(1, 25)),
    # The console.
    Rule("(?i)HELP", r"Console usage.*", "Console usage", "SHOW HELP names our commands as well"),
    Rule("SHOW FDS", r"^row N \| (client|server) .*", "", "at any other time it is only a table"),
    Rule("SHOW ACTIVE_SOCKETS", r"^row C \| (admin|stats) \|.*", "", "the asking session itself is not among"),
    Rule(
        "SHOW CLIENTS",
        r"^(row C \| \w+ \| pgbouncer \| none \|) \w+",
        r"\1 STATE",
        "the session that asks is idle",
        until=(1, 25),
    ),
    Rule("SET log_stats = (on|yes)", r".*", "", "Switches may be written as on/off"),
    Rule("pgsluice as a database", r".*", "", "Its database is reached as `pgsluice`"),
    # Logins.
    Rule("blanks in options", r".*", "", "Blanks around the words in `options`"),
    Rule("secret of md5", r"^authentication 11$", "", "goes through the whole exchange of SCRAM"),
    Rule("a secret that is empty", r".*", "", "An empty secret in `auth_file` matches nothing"),
    # The log.
    Rule(
        "the log",
        r"^(LOG|ERROR) C-\S+: \S+ ([\w\" ]*authentication failed|SCRAM authentication failed|login rejected"
        r"|empty password returned by client|malformed SCRAM).*",
        "",
        "The log says why a login was refused",
    ),
    Rule("the log", r"^WARNING sbuf_connect failed to connect .*", "", "is logged as `sbuf_connect failed"),
    Rule(
        "the log", r"C-PTR: \((nodb)\)/nobody|C-PTR: pgbouncer/nobody", "C-PTR: DB/nobody", "a stranger at the console"
    ),
    Rule("the log", r".*pooler exits.*", "", "connections that a shutdown ends"),
    Rule("the log", r"^ERROR (hint: .*|S?ET failed)", "", "each with a hint"),
]


def cleaned(name, lines):
    out = []
    for line in lines:
        for rule in DELIBERATE:
            if rule.since <= VERSION and VERSION[:2] <= rule.until and re.search(rule.step, name):
                line = re.sub(rule.line, rule.becomes, line)
        if line:
            out.append(line)
    return out


def compare(script, step, ours, theirs):
    """What differs, as text; nothing if all is well."""
    name = f"{script}/{step.name}"
    ours, theirs = cleaned(name, ours), cleaned(name, theirs)
    if not step.ordered:
        ours, theirs = sorted(set(ours)), sorted(set(theirs))
    if ours == theirs:
        return []
    lost, new = (list((a - b).elements()) for a, b in _pairs(ours, theirs))
    if step.more and not lost:
        return []
    lost, new = (lost, new) if lost or new else (theirs, ours)  # the order differs
    shown = [f"\n    PgBouncer: {line}" for line in lost] + [f"\n    pgsluice:  {line}" for line in new]
    return [name + "".join(shown)]


def _pairs(ours, theirs):
    a, b = collections.Counter(ours), collections.Counter(theirs)
    return (b, a), (a, b)


# --- the scripts

PASSWORD = lambda text: wire.pack("p", wire.cstr(text))  # noqa: E731
STARTUP = wire.startup_packet({"user": "app", "database": "app"})
MORE = "CONFIG LISTS MEM".split()  # tables that have rows of our own, too

TABLES = """
    HELP VERSION STATE DATABASES POOLS PEERS PEER_POOLS CLIENTS SERVERS SOCKETS ACTIVE_SOCKETS USERS LISTS CONFIG MEM
    DNS_HOSTS DNS_ZONES STATS STATS_TOTALS STATS_AVERAGES TOTALS FDS client_encoding default_transaction_isolation
    standard_conforming_strings datestyle timezone extra_float_digits server_version search_path foo
""".split()

COMMANDS = """
    SHOW; SHOW POOLS app; show help ; ; select version; SELECT 1; select * from pools; BEGIN; DISCARD ALL; -- comment
    SET client_encoding = 'x'; SET extra_float_digits = 3; SET DateStyle TO 'ISO'; SET application_name = 'x'
    PAUSE nodb; PAUSE pgbouncer; PAUSE app app; PAUSE 'app'; RESUME; RESUME app; RESUME nodb; RESUME pgbouncer
    SUSPEND app; DISABLE; DISABLE nodb; DISABLE pgbouncer; DISABLE app; SHOW DATABASES; ENABLE app; ENABLE app; ENABLE
    ENABLE nodb; ENABLE pgbouncer; RECONNECT nodb; RECONNECT pgbouncer; RECONNECT app; RECONNECT; KILL nodb
    KILL pgbouncer; KILL app; SHOW DATABASES; RESUME app; KILL; RESUME app; RESUME; KILL_CLIENT; KILL_CLIENT abc
    KILL_CLIENT 99999; KILL_CLIENT -1; KILL_CLIENT 1 2; KILL_CLIENT 18446744073709551617; WAIT_CLOSE; WAIT_CLOSE app
    WAIT_CLOSE nodb; WAIT_CLOSE pgbouncer; RELOAD; RELOAD x; SHUTDOWN foo; PAUSE; PAUSE; PAUSE app; KILL; KILL app
    SUSPEND; SHOW STATE; RELOAD; RESUME app; RESUME; RESUME; EXPLAIN SELECT 1
    SET; SET foo; SET foo = 1; SET listen_port = 1; SET max_client_conn = 99; SET max_client_conn = abc
    SET max_client_conn = -1; SET max_client_conn = 0x10; SET max_client_conn = 99999999999999
    SET max_client_conn='100';; SET max_client_conn 100; SET pool_mode = foo; SET pool_mode = TRANSACTION
    SET query_timeout = 1.5; SET query_timeout = '-1'; SET query_timeout = '1s'; SET query_timeout = 0; SET verbose = on
    SET log_stats = on; SET log_stats = yes; SET log_stats = 2; SET server_tls_sslmode = foo
    SET client_tls_sslmode = require; SET client_tls_sslmode = disable; SET auth_type = foo; SET auth_type = trust
    SET conffile = '/nonexistent'; RELOAD; SET server_reset_query = 'it''s'; SET server_reset_query = DISCARD ALL
    SET track_extra_parameters = 'a, b'
"""
COMMANDS = [c.strip() for line in COMMANDS.strip().splitlines() for c in re.split(r";(?=\s|$)", line.strip())]
LONG = ["SET " + "a" * 90 + " = 1", "PAUSE " + "a" * 90, "A" * 90]


def options(text):
    return login(f"options {text!r}", params={"options": text}, then=["show timezone"])


def the_log():
    """What both have logged when they have ended; how often is a matter of the moment."""

    def run(side):
        side.pooler.stop()
        return side.log()

    return sd.Step("the log", run, ordered=False)


def both_run(tag):
    """Waits until the query with these words runs on either side."""

    def run(side):
        wait_until(
            lambda: side.cluster.value("select count(*) from pg_stat_activity where query = %s", (tag,)) == 2, tag
        )
        return []

    return sd.Step("both run", run)


STARTUPS = [
    login("a first login", then=["select 1", "select 1/0", ""]),
    login("a second one"),
    login("no such database", database="nosuch"),
    login("no such user", user="nobody"),
    login("neither", user="nobody", database="nosuch"),
    login("no database", database=None),
    bytes_("no user", wire.startup_packet({"database": "app"})),
    bytes_("an empty user", wire.startup_packet({"user": "", "database": "app"})),
    bytes_("an empty database", wire.startup_packet({"user": "app", "database": ""}), last=False),
    login("a long user", user="u" * 128),
    login("a long database", database="d" * 200),
    login("unknown parameter", params={"foo": "bar"}),
    login("intervalstyle", params={"intervalstyle": "iso_8601"}, then=["show intervalstyle"]),
    login(
        "tracked",
        params={"client_encoding": "LATIN1", "DateStyle": "German", "application_name": "x"},
        then=["show datestyle"],
    ),
    login("nonsense", params={"TimeZone": "No/Where"}, then=["select 1"]),
    *map(
        options,
        (
            "-c timezone=GMT",
            "-ctimezone=GMT",
            "--timezone=GMT",
            "-c foo=bar",
            "",
            "-x",
            "-c",
            "-c x",
            "--x",
            "--",
            "-c timezone=GMT -c datestyle=German",
            "-c timezone=\\ GMT",
            "-c time-zone=x",
            "-c timezone=",
        ),
    ),
    login("options without a name", params={"options": "-c =x"}),
    login("replication=false", params={"replication": "false"}),
    login("an extension", params={"_pq_.foo": "bar"}),
    *(login(f"version {v:#x}", version=v) for v in (0x30001, 0x30002, 0x3270F, 0x40000, 0x20000)),
    bytes_("code 0", struct.pack("!ii", 8, 0)),
    bytes_("too short", struct.pack("!ii", 4, 0)),
    bytes_("zeros", bytes(16)),
    bytes_("SSL and more", struct.pack("!ii", 8, wire.CODE_SSL) + STARTUP),
    bytes_("GSS and more", struct.pack("!ii", 8, wire.CODE_GSSENC) + STARTUP),
    bytes_("cancel nobody", struct.pack("!ii", 16, wire.CODE_CANCEL) + b"12345678"),
    bytes_("cancel with a long key", struct.pack("!ii", 20, wire.CODE_CANCEL) + b"123456789012"),
    bytes_("no terminator", struct.pack("!ii", 17, 0x30000) + b"user\0app\0"),
    bytes_("packet of an odd number", struct.pack("!ii", 14, 0x30000) + b"user\0\0"),
    bytes_("packet of nothing", struct.pack("!ii", 8, 0x30000)),
    bytes_("a password first", PASSWORD("x")),
    bytes_("a query first", wire.query("select 1")),
    *(
        login(f"message {m!r}", then=[m])
        for m in (
            wire.pack("y"),
            PASSWORD("x"),
            b"Q\x7f\xff\xff\xff",
            b"Q\0\0\0\3",
            b"Q\xff\xff\xff\xff",
            wire.SYNC,
            wire.extended("select 1") + wire.SYNC,
            wire.parse("", "select foo") + wire.SYNC,
        )
    ),
    login("the console for a user", user="app", database="pgbouncer"),
    login("the console for nobody", user="nobody", database="pgbouncer"),
    *(
        login(f"the console gets {m!r}", user="admin", database="pgbouncer", then=[m])
        for m in (
            wire.SYNC,
            wire.FLUSH,
            wire.pack("y"),
            PASSWORD("x"),
            wire.describe("S"),
            wire.query("SHOW DNS_ZONES") * 2,
            wire.extended("show version"),
        )
    ),
    login(
        "the console with parameters",
        user="admin",
        database="pgbouncer",
        params={"client_encoding": "latin1", "application_name": "x", "DateStyle": "German"},
    ),
    the_log(),
]

OTHERWISE = [
    login("search_path in the startup packet", password="apppw", params={"search_path": "public"}),
    login("read_only in the startup packet", password="apppw", params={"default_transaction_read_only": "on"}),
    login("blanks in options", password="apppw", params={"options": " "}),
    login("pgsluice as a database", user="admin", password="adminpw", database="pgsluice"),
    login("a secret that is empty", user="empty", password=""),
]

LOGINS = [
    login("a good password", password="apppw"),
    login("a wrong one", password="no"),
    login("an unknown user", user="nobody", password="x"),
    login("an unknown database", database="nosuch", password="apppw"),
    login("an unknown database, a wrong password", database="nosuch", password="x"),
    login("a secret of md5", user="hashed", password="md5pw"),
    login("the console", user="admin", database="pgbouncer", password="adminpw"),
    login("the console, a wrong password", user="admin", database="pgbouncer", password="x"),
    login("the console, not allowed", database="pgbouncer", password="apppw"),
    the_log(),
]
HASHED = "md5e5b1aa51ec1ba9e7b9f5c9ac2b7b8d0a"


def limit(name, **settings):
    return [
        open_("a"),
        open_("b"),
        login("a third"),
        login("of another", user="app2"),
        login("the console", user="admin", database="pgbouncer"),
        login("an administrator", user="admin"),
        login("to nowhere", database="nosuch"),
        leave("a"),
        leave("b"),
        the_log(),
    ], {"settings": settings}


PREPARED = [
    open_("a"),
    open_("b"),
    say("a", wire.parse("s1", "select 1") + wire.SYNC),
    say("a", wire.bind("", "s1") + wire.execute() + wire.SYNC),
    say("a", wire.describe("S", "s1") + wire.SYNC),
    say("b", wire.parse("x", "select 1") + wire.bind("", "x") + wire.execute() + wire.SYNC),
    say("a", wire.close("S", "s1") + wire.close("S", "nope") + wire.SYNC),
    say("a", "select name, statement from pg_prepared_statements order by 1"),
    say("a", wire.parse("bad", "select foo") + wire.SYNC),
    say("a", "deallocate all"),
    say(
        "a",
        wire.parse("z", "select 3")
        + wire.close("S", "z")
        + wire.parse("z", "select 4")
        + wire.bind("", "z")
        + wire.execute()
        + wire.SYNC,
    ),
    say("a", wire.parse("d", "select 5") + wire.SYNC),
    say("a", wire.parse("d", "select 6") + wire.SYNC),
    say("b", wire.bind("", "nope") + wire.execute() + wire.SYNC),
]

ADMINISTRATION = [
    open_("a"),
    say("a", "select 1"),
    console("DISABLE app"),
    login("to what is disabled"),
    login("a stranger, too", user="nobody"),
    console("ENABLE app"),
    console("KILL app"),
    hear("a"),
    console("RESUME app"),
    open_("b"),
    say("b", "select 1"),
    do(
        "KILL_CLIENT",
        lambda p: [p.admin("KILL_CLIENT %d" % next(r["id"] for r in p.show("clients") if r["database"] == "app"))],
    ),
    hear("b"),
    open_("c"),
    say("c", "select 1"),
    console("RECONNECT app"),
    say("c", "select 2"),
    leave("c"),
    console("WAIT_CLOSE app"),
]

TIMEOUTS = [
    open_("a"),
    say("a", "begin"),
    open_("b"),
    send("b", "select 1"),
    hear("b"),
    say("a", "commit"),
    hear("a"),
    the_log(),
]

CANCELS = [
    open_("a"),
    send("a", "select pg_sleep(60), 'side by side'"),
    both_run("select pg_sleep(60), 'side by side'"),
    cancel("a"),
    hear("a"),
    cancel("a"),
    say("a", "select 1"),
    leave("a"),
]

PARAMETERS = [
    open_("a", params={"TimeZone": "GMT", "application_name": "A"}),
    open_("b", params={"DateStyle": "German"}),
    say("a", "show timezone"),
    say("b", "show timezone"),
    say("b", "set timezone = 'Europe/Paris'"),
    say("a", "show timezone"),
    say("b", "show timezone"),
    say("a", "show application_name"),
    say("b", "show application_name"),
    say("a", "set timezone = 'No/Where'"),
    say("a", "show datestyle"),
]

IGNORED = [
    login("ignored", params={"foo": "x", "extra_float_digits": "1"}),
    *map(options, ("-c foo=1 -c bar=2", "-c foo=1 -c other=2")),
    login("tracked, of ignore_startup_parameters", params={"TimeZone": "GMT"}, then=["show timezone"]),
]

SERVERS = [login(f"to {name}", database=name) for name in ("nodb", "badpw", "badmd5", "plainbad", "full")]
SERVERS += [
    login("without a role", user="norole"),
    login("to badquery", database="badquery", then=["select 1"]),
    open_("a"),
    say("a", "select 1"),
    leave("a"),
    the_log(),
]

PEERS = [
    console("SHOW PEERS"),
    console("SHOW PEER_POOLS"),
    bytes_("cancel at a peer", struct.pack("!ii", 16, wire.CODE_CANCEL) + b"\1\3\0\4\5\6\7\x0b", last=False),
    console("SHOW PEER_POOLS"),
    bytes_("cancel nowhere", struct.pack("!ii", 16, wire.CODE_CANCEL) + b"\1\x09\0\4\5\6\7\x0b"),
    bytes_("cancel here", struct.pack("!ii", 16, wire.CODE_CANCEL) + b"\1\1\0\4\5\6\7\x0b"),
]

RELOADS = [
    open_("a"),
    console("RELOAD"),
    do("a fault", lambda p: p.settings.update(pool_mode="foo") or p.write_files()),
    console("RELOAD"),
    say("a", "select 1"),
    do("a stranger", lambda p: p.settings.update(pool_mode="session", foo="x") or p.write_files()),
    console("RELOAD"),
    do(
        "bad TLS",
        lambda p: p.settings.update(foo="", client_tls_sslmode="require") or p.settings.pop("foo") or p.write_files(),
    ),
    console("RELOAD"),
    do("no database", lambda p: p.settings.pop("client_tls_sslmode") and p.databases.clear() or p.write_files()),
    console("RELOAD"),
    hear("a"),
    login("to what is gone"),
]

TRANSACTIONS = {"pool_mode": "transaction", "default_pool_size": 1}
SCRIPTS = {
    "tables for an administrator": (
        [open_("a"), say("a", "select 1"), *(console(f"SHOW {t}", more=t in MORE) for t in TABLES)],
        {},
    ),
    "tables for others": ([console(f"SHOW {t}", "stats", more=t in MORE) for t in TABLES], {}),
    "commands of an administrator": ([console(c) for c in COMMANDS + LONG], {}),
    "commands of others": ([console(c, "stats") for c in COMMANDS if "SHOW" not in c], {}),
    "startup packets": (STARTUPS, {}),
    "logins that are treated otherwise": (OTHERWISE, {"settings": {"auth_type": "scram-sha-256"}, "since": (1, 25)}),
    **{
        f"logins by {method}": (LOGINS, {"settings": {"auth_type": method}})
        for method in ("plain", "md5", "scram-sha-256")
    },
    "max_client_conn": limit("max_client_conn", max_client_conn=2),
    "max_db_client_connections": limit("db", max_db_client_connections=2),
    "max_user_client_connections": limit("user", max_user_client_connections=2),
    "prepared statements": (PREPARED, {"settings": TRANSACTIONS}),
    "prepared statements of sessions": (PREPARED[:-3], {}),
    "prepared statements, not followed": (PREPARED[:-3], {"settings": {**TRANSACTIONS, "max_prepared_statements": 0}}),
    "administration": (ADMINISTRATION, {}),
    "timeouts": (TIMEOUTS, {"settings": {**TRANSACTIONS, "query_wait_timeout": 1, "client_idle_timeout": 2}}),
    "queries that take too long": (
        [open_("a"), say("a", "select pg_sleep(9)"), the_log()],
        {"settings": {"query_timeout": 1}},
    ),
    "transactions that wait": (
        [open_("a"), say("a", "begin"), hear("a")],
        {"settings": {"idle_transaction_timeout": 1}},
    ),
    "long transactions": (
        [open_("a"), say("a", "begin"), hear("a")],
        {"settings": {"transaction_timeout": 1}, "since": (1, 25)},
    ),
    "cancel requests": (CANCELS, {"settings": TRANSACTIONS}),
    "parameters": (PARAMETERS, {"settings": TRANSACTIONS}),
    "ignored parameters": (
        IGNORED,
        {"settings": {"ignore_startup_parameters": "foo, extra_float_digits bar,TimeZone"}},
    ),
    "servers that refuse": (SERVERS, {}),
    "reloads": (RELOADS, {}),
    "peers": (
        PEERS,
        {
            "settings": {"peer_id": 1, "cancel_wait_timeout": 1},
            "peers": {"1": "host=/tmp", "3": "host=127.0.0.1 port=1 pool_size=5"},
        },
    ),
    "a notice at the login": (
        [login("a client"), login("the console", user="admin", database="pgbouncer")],
        {"settings": {"login_notify_message": "hello"}, "since": (1, 26)},
    ),
    "names of hosts": (
        [login("a", params={"application_name": "x"}, then=["show application_name"])],
        {"settings": {"application_name_add_host": 1}},
    ),
    "no simple queries": ([login("a", then=["select 1"])], {"settings": {"disable_pqexec": 1}}),
}


def databases(cluster):
    dsn = cluster.dsn
    return {
        "app": dsn(),
        "nodb": dsn(dbname="nosuchdb"),
        "badpw": dsn(dbname="app", user="scramuser", password="x"),
        "badmd5": dsn(dbname="app", user="md5user", password="x"),
        "full": dsn(dbname="app", user="limited"),
        "plainbad": dsn(dbname="app", user="plainuser", password="x"),
        "badquery": dsn(dbname="app") + " connect_query='select foo'",
    }


@needs_pgbouncer
@pytest.mark.parametrize("name", SCRIPTS)
def test_same_answers(make_pooler, cluster, name):
    steps, kwargs = SCRIPTS[name][0], dict(SCRIPTS[name][1])
    if VERSION < kwargs.pop("since", sd.OLDEST):
        pytest.skip("this PgBouncer is too old")
    secrets = {**pl.SECRETS, "empty": "", "hashed": HASHED, "norole": ""}
    sides = [
        sd.Side(make_pooler(databases(cluster), secrets=secrets, program=path, **kwargs), cluster)
        for path in (None, PROGRAM)
    ]
    found = []
    try:
        for step in steps:
            ours, theirs = (step.run(side) for side in sides)
            found += compare(name, step, ours, theirs)
    finally:
        for side in sides:
            side.close()
    assert not found, "\n".join(["", *found])


# --- files and the command line

FAULTS = r"""
    unknown_key = 1; max_client_conn = abc; max_client_conn =; max_client_conn = 10.5; pool_mode = foo; auth_type = foo
    server_lifetime = -1; server_lifetime = 1h; verbose = 1x; unix_socket_mode = 0999; auth_dbname = pgbouncer
    user = nosuchuser; listen_addr = no.such.host.invalid; client_tls_sslmode = foo; broken line; max_client_conn 5
    [nosection]; [pgbouncer; %foo; %include /nonexistent/file; pkt_buf = abc; dns_max_ttl = -1; query_timeout = 5s
    [users]\nx = pool_mode=foo; [users]\nx = foo=1; [users]\nx; [databases]\npgbouncer = host=x; [databases]\ny = foo=1
    [databases]\ny = host; [databases]\ny = host=; [databases]\ny = host=''; [databases]\ny = host='a
    [databases]\ny = port=0; [databases]\ny = pool_mode=foo; [databases]\ny = load_balance_hosts=foo
    [databases]\n"a b" = host=a; service_name = x
"""
FAULTS = [f.strip() for line in FAULTS.strip().splitlines() for f in line.strip().split("; ")]
INI = "[pgbouncer]\nlisten_addr = 127.0.0.1\nunix_socket_dir = DIR\nauth_file = DIR/users.txt\n{}\n"
OURS_ALONE = re.compile(r"hint: |max expected fd use|could not open auth_file|parameter .* is missing")
FUNCTION = re.compile(r"(ERROR )\w+: (main section|value without)")


def said(path, args, ini=""):
    lines = [FUNCTION.sub(r"\1\2", line) for line in program(path, args, ini)]
    return [line for line in lines if not OURS_ALONE.search(line) and "fill_defaults" not in line]


@needs_pgbouncer
@pytest.mark.parametrize("fault", FAULTS)
def test_same_complaints_about_a_file(fault):
    """A hint more is in order."""
    ini = INI.format(fault.replace("\\n", "\n"))
    assert said(pl.binary(), ["INI"], ini) == said(PROGRAM, ["INI"], ini)


@needs_pgbouncer
@pytest.mark.parametrize(
    "args", [[], ["--foo"], ["-x"], ["-u"], ["/nonexistent.ini"], ["-u", "nosuchuser", "INI"], ["-d", "INI"]]
)
def test_same_command_line(args):
    ini = INI.format("")
    assert said(pl.binary(), args, ini) == said(PROGRAM, args, ini)


def test_reasons_are_documented():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../doc/differences.md")
    with open(path) as f:
        text = " ".join(f.read().split())
    assert [rule.why for rule in DELIBERATE if " ".join(rule.why.split()) not in text] == []
