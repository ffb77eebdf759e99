"""
Who may run which command of the console.

The rows of EXPECTED are the lines of SHOW HELP: a command without a row fails, until somebody has decided who may run
it. Every row is tried by an administrator, a user of stats_users, a user of neither list, and by the owner of the
process over the Unix socket.
"""
import os

import pytest
from harness import procs, wire
from harness.cluster import bindir
from harness.wire import PgError

pytestmark = pytest.mark.ours

ALL, ADMIN = "all", "admin"
DENIED = "admin access needed"

# line of SHOW HELP: who may, and statements with the tag or the error that those who may get
EXPECTED = {
    **{
        f"SHOW {what}": (ALL, [(f"SHOW {what}", "SHOW"), (f"SELECT {what}", "SHOW")])
        for what in (
            "HELP CONFIG DATABASES POOLS CLIENTS SERVERS USERS VERSION PEERS PEER_POOLS SOCKETS ACTIVE_SOCKETS LISTS MEM "
            "STATE DNS_HOSTS DNS_ZONES STATS STATS_TOTALS STATS_AVERAGES TOTALS"
        ).split()
    },
    "SHOW FDS": (ADMIN, [("SHOW FDS", "SHOW"), ("SELECT FDS", "SHOW")]),
    "SET key = arg": (
        ADMIN,
        [("SET query_timeout = 0", "SET query_timeout=0"), ("SET nonsense TO 'x'", "SET failed")],
    ),
    "RELOAD": (ADMIN, [("RELOAD", "RELOAD"), ("RELOAD DRY RUN", "RELOAD DRY RUN")]),
    "PAUSE [<db>]": (ADMIN, [("PAUSE", "PAUSE"), ("RESUME", "RESUME"), ("PAUSE app", "PAUSE"), ("RESUME app", "RESUME")]),
    "RESUME [<db>]": (
        ADMIN,
        [("RESUME", "pooler is not paused/suspended"), ("RESUME app", "database app is not paused")],
    ),
    "DISABLE <db>": (ADMIN, [("DISABLE", "a database is required"), ("DISABLE app", "DISABLE")]),
    "ENABLE <db>": (ADMIN, [("ENABLE", "a database is required"), ("ENABLE app", "ENABLE")]),
    "RECONNECT [<db>]": (ADMIN, [("RECONNECT", "RECONNECT"), ("RECONNECT app", "RECONNECT")]),
    "KILL [<db>]": (ADMIN, [("KILL", "KILL"), ("KILL app", "KILL"), ("RESUME app", "RESUME")]),
    "KILL_CLIENT <client_id>": (
        ADMIN,
        [("KILL_CLIENT 4711", "client not found"), ("KILL_CLIENT x", "invalid client pointer supplied")],
    ),
    "SUSPEND": (ADMIN, [("SUSPEND", "SUSPEND"), ("RESUME", "RESUME")]),
    "DRAIN [<db>]": (
        ADMIN,
        [("DRAIN", "DRAIN"), ("RESUME", "RESUME"), ("DRAIN app", "DRAIN"), ("RESUME app", "RESUME")],
    ),
    "DRAIN [<db>] WITHIN <seconds>": (
        ADMIN,
        [("DRAIN WITHIN 5", "DRAIN"), ("RESUME", "RESUME"), ("DRAIN app WITHIN 5", "DRAIN"), ("ENABLE app", "ENABLE")]
        + [("DRAIN app WITHIN x", "invalid number of seconds: x")],
    ),
    "BREAKER OPEN|CLOSE|RESET <endpoint>": (ADMIN, [("BREAKER OPEN nowhere:1", "no such endpoint: nowhere:1")]),
    "WAIT_CLOSE [<db>]": (ADMIN, [("WAIT_CLOSE", "WAIT_CLOSE"), ("WAIT_CLOSE app", "WAIT_CLOSE")]),
    "SHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS": (ADMIN, [("SHUTDOWN WAIT_FOR_CLIENTS", "SHUTDOWN")]),
    "SHUTDOWN DRAIN": (ADMIN, [("SHUTDOWN DRAIN WITHIN 5s", "invalid number of seconds: 5s")]),
    "SHUTDOWN DRAIN WITHIN <seconds>": (ADMIN, [("SHUTDOWN DRAIN WITHIN x", "invalid number of seconds: x")]),
    "SHUTDOWN": (ADMIN, [("SHUTDOWN", None)]),
}

# Not in SHOW HELP either: what a process asks that takes over.
HIDDEN = ["SHOW HANDOVER", "SELECT HANDOVER"]

# Not in SHOW HELP: what drivers send, and nonsense; the same for everybody.
FOR_EVERYBODY = [
    ("SHOW timezone", "SHOW"),
    ("SELECT client_encoding", "SHOW"),
    ("SET DateStyle = 'ISO'", "SET"),
    ("SHOW nonsense", "invalid command 'SHOW nonsense', use SHOW HELP;"),
    ("nonsense", "invalid command 'nonsense', use SHOW HELP;"),
]


def lines_of_help(console):
    """The lines of SHOW HELP, one for each table of SHOW."""
    lines = [line.strip() for line in console.conn.query("SHOW HELP").notices[0]["D"].splitlines() if line.strip()]
    assert lines[0].startswith("SHOW ")
    return [f"SHOW {what}" for what in lines[0].split()[1].split("|")] + lines[1:]


class Session:
    """Somebody on the console: ask() gives the tag or the text of the error; None when the session was closed."""

    def __init__(self, p, user, database="pgbouncer", password=None):
        self.console = p.console(user=user, database=database, password=password)

    def ask(self, sql):
        try:
            result = self.console.conn.query(sql)
        except AssertionError:
            return None
        if result.error:
            assert (result.error.severity, result.error.code) == ("ERROR", "08P01")
            return result.error.text
        return result.tag


class Owner:
    """The owner of the process on the Unix socket: psql, as only another process can have another uid."""

    def __init__(self, p):
        self.p = p

    def ask(self, sql):
        done = procs.run(
            [f"{bindir()}/psql", "-X", "-w", "-h", self.p.dir, "-p", str(self.p.port), "-U", "pgbouncer"]
            + ["-d", "pgbouncer", "-c", sql],
            check=False,
            env={**os.environ, "PGCONNECT_TIMEOUT": "10"},
        )
        if "closed the connection unexpectedly" in done.stderr:
            return None
        errors = [line[8:] for line in done.stderr.splitlines() if line.startswith("ERROR:  ")]
        if errors:
            return errors[0]
        if sql.split()[0] in ("SHOW", "SELECT"):
            return "SHOW"
        last = done.stdout.strip().splitlines()[-1]
        return sql if last.endswith("rows)") else last  # psql shows rows or a tag, not both


def walk(lines, ask, rights):
    """Every line, SHUTDOWN last."""
    for line in sorted(lines, key=lambda line: (line.startswith("SHUTDOWN"), -len(line))):
        who, statements = EXPECTED[line]
        for sql, outcome in statements:
            wanted = outcome if who == ALL or rights == ADMIN else DENIED
            assert ask(sql) == wanted, (line, sql, rights)
    for sql in HIDDEN if rights != ADMIN else []:
        assert ask(sql) == DENIED, sql
    for sql, outcome in FOR_EVERYBODY if rights != ADMIN else []:
        assert ask(sql) == outcome, sql


@pytest.fixture
def guarded(make_pooler):
    return make_pooler(settings={"auth_type": "plain"})


@pytest.fixture
def lines(guarded):
    return lines_of_help(guarded.console())


def test_every_command_has_an_expectation(lines):
    missing = [line for line in lines if line not in EXPECTED]
    assert not missing, f"say in EXPECTED who may run {missing}"
    assert not [line for line in EXPECTED if line not in lines], "commands that are gone"


def test_an_administrator_may_do_everything(guarded, lines):
    session = Session(guarded, "admin", password="adminpw")
    for sql, outcome in FOR_EVERYBODY:
        assert session.ask(sql) == outcome, sql
    walk(lines, session.ask, ADMIN)
    guarded.wait_exit()


def test_a_user_of_stats_users_may_look(guarded, lines):
    session = Session(guarded, "stats", password="statspw")
    walk(lines, session.ask, ALL)
    assert guarded.login(password="apppw").value("select 1") == "1", "nothing has happened"


def test_the_owner_of_the_process_may_do_everything(make_pooler):
    p = make_pooler(settings={"auth_type": "plain", "admin_users": "", "stats_users": "stats"})
    lines = lines_of_help(p.console(user="stats", password="statspw"))  # a session that stays: it keeps WAIT_FOR_CLIENTS
    # each question is a session of its own, and the end of the last session would end a suspension
    walk([line for line in lines if line != "SUSPEND"], Owner(p).ask, ADMIN)
    p.wait_exit()


def test_an_ordinary_user_may_not_come_in(guarded):
    """With the right password as with a wrong one: the password is not even asked for."""
    for password in ("apppw", "wrong", None):
        e = guarded.login_error("app", "pgbouncer", password=password)
        assert (e.severity, e.code, e.text) == ("FATAL", "08P01", "not allowed")
    assert guarded.login_error("ghost", "pgbouncer", password="x").text == "password authentication failed"


@pytest.mark.parametrize("auth_type", ["trust", "plain", "md5", "scram-sha-256"])
def test_the_lists_decide_whatever_the_method(make_pooler, auth_type):
    p = make_pooler(settings={"auth_type": auth_type})
    assert Session(p, "admin", password="adminpw").ask("RECONNECT") == "RECONNECT"
    assert Session(p, "stats", password="statspw").ask("RECONNECT") == DENIED
    assert p.login_error("app", "pgbouncer", password="apppw").text == "not allowed"
    if auth_type != "trust":
        assert "authentication failed" in p.login_error("admin", "pgbouncer", password="wrong").text
    with pytest.raises(PgError, match="authentication failed"):
        p.console(user="ghost", password="x")


def test_auth_type_any_lets_everybody_look(make_pooler, cluster):
    p = make_pooler({"app": cluster.dsn(user="app")}, settings={"auth_type": "any"})
    lines = lines_of_help(p.console())
    walk(lines, Session(p, "whoever").ask, ALL)
    walk(lines, Session(p, "stats").ask, ALL)
    walk(lines, Session(p, "admin").ask, ADMIN)
    p.wait_exit()


def test_lists_take_effect_for_new_sessions(make_pooler):
    p = make_pooler()
    old = Session(p, "stats")
    p.settings["admin_users"], p.settings["stats_users"] = "stats", "admin"
    p.write_files()
    p.admin("RELOAD")
    assert old.ask("RECONNECT") == DENIED
    assert Session(p, "stats").ask("RECONNECT") == "RECONNECT"
    assert Session(p, "admin").ask("RECONNECT") == DENIED


def test_the_extended_protocol_has_the_same_rights(make_pooler):
    p = make_pooler(settings={"console_extended": 1})
    for user, password, wanted in (("admin", "adminpw", None), ("stats", "statspw", DENIED)):
        with p.connect("pgbouncer", user, password=password) as conn:
            rows = conn.execute("SHOW VERSION", prepare=True).fetchall()
            assert len(rows) == 1
            if wanted is None:
                conn.execute("RECONNECT", prepare=True)
            else:
                with pytest.raises(Exception, match=wanted):
                    conn.execute("RECONNECT", prepare=True)


def test_console_extended_is_by_profile_unless_set(make_pooler):
    """Off under [pgbouncer], where drivers are refused as ever; on under [pgsluice]."""

    def is_served(p):
        c = p.login("admin", "pgbouncer", "adminpw")
        c.send(wire.extended("SHOW VERSION"), wire.SYNC)
        try:
            return bool(c.read_ready().rows)
        except AssertionError:
            return False

    assert not is_served(make_pooler())
    assert is_served(make_pooler(profile="pgsluice"))
    assert not is_served(make_pooler(profile="pgsluice", settings={"console_extended": 0}))
    p = make_pooler(settings={"console_extended": 1})
    assert is_served(p)
    p.admin("SET console_extended = 0")
    assert not is_served(p)
