"""Users that a database knows: auth_query, auth_user, auth_dbname, and what is remembered of their answers."""
import concurrent.futures
import contextlib
import signal
import time

import psycopg
import pytest
from harness import wire
from harness.procs import wait_until

PASSWORD = "se cret'\"1"
SECRETS = {
    "u_plain": PASSWORD,
    "u_md5": wire.md5_secret("u_md5", PASSWORD),
    "u_scram": wire.scram_secret(PASSWORD),
}
FIND = "select name, secret from lookup.find($1)"
TRUSTED_S = 1  # a login that fails with an answer of this age has the next one ask
METHODS = ("plain", "md5", "scram-sha-256")


class Lookup:
    """A database with a table of users, which counts what it is asked, and can be made to take its time."""

    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name
        with cluster.connect(name) as c:
            c.execute(
                """
                create schema lookup;
                create table lookup.users (name text, secret text);
                create sequence lookup.calls;
                create function lookup.find(who text, out name text, out secret text) returns setof record
                    language plpgsql security definer as $$
                begin
                    perform pg_catalog.nextval('lookup.calls');
                    perform pg_catalog.pg_advisory_xact_lock_shared(7);
                    return query select u.name, u.secret from lookup.users u where u.name = who;
                end $$;
                grant usage on schema lookup to public;
                """
            )
        for user, secret in SECRETS.items():
            self.put(user, secret)

    def put(self, user, secret):
        self.cluster.sql("delete from lookup.users where name = %s", [user], dbname=self.name)
        self.cluster.sql("insert into lookup.users values (%s, %s)", [user, secret], dbname=self.name)

    def calls(self):
        return self.cluster.value(
            "select case when is_called then last_value else 0 end from lookup.calls", dbname=self.name
        )

    @contextlib.contextmanager
    def blocked(self):
        """Nothing is answered meanwhile."""
        with self.cluster.connect(self.name) as c:
            c.execute("select pg_advisory_lock(7)")
            yield

    def waiting(self):
        return self.cluster.value(
            "select count(*) from pg_locks l join pg_database d on d.oid = l.database "
            "where locktype = 'advisory' and not granted and datname = %s",
            [self.name],
        )


@pytest.fixture
def lookup(cluster, database):
    return Lookup(cluster, database())


@pytest.fixture
def make(make_pooler, cluster, lookup):
    """A pooler that knows nobody but auth_user and the admin; clients become app, whom the server trusts."""

    def make(
        auth_type="md5", query=FIND, databases=None, profile="pgbouncer", secrets=None, dsn=None, start=True, **settings
    ):
        dsn = dsn or cluster.dsn(dbname=lookup.name, user="app")
        return make_pooler(
            databases or {"app": dsn},
            settings={"auth_type": auth_type, "auth_user": "postgres", "auth_query": query, **settings},
            secrets=secrets or {"admin": "adminpw", "postgres": ""},
            profile=profile,
            start=start,
        )

    return make


def refused(p, user, password=PASSWORD, **kwargs):
    e = p.login_error(user, password=password, **kwargs)
    assert e.severity == "FATAL"
    return e.text


def test_who_is_kept_out_whoever_it_is_causes_no_query(make, lookup):
    """Rules that let nobody in from there: the database is not bothered."""
    p = make("hba", start=False)
    p.settings["auth_hba_file"] = f"{p.dir}/hba.conf"
    p.write(f"{p.dir}/hba.conf", "local all all md5\nhost app u_md5 all reject\nhost app all 10.0.0.0/8 md5\n")
    p.start()
    assert refused(p, "u_md5") == "login rejected"
    assert refused(p, "nobody") == "no authentication method is found"
    assert lookup.calls() == 0
    with p.raw_unix() as c:
        c.login("u_md5", "app", PASSWORD)
    assert lookup.calls() == 1


@pytest.mark.parametrize("auth_type", METHODS)
def test_methods_and_secrets(make, auth_type):
    p = make(auth_type)
    for user in SECRETS:
        if (user, auth_type) == ("u_md5", "scram-sha-256"):
            assert refused(p, user) == "SASL authentication failed"
            continue
        assert p.login(user, password=PASSWORD).value("select current_user") == "app"
        assert refused(p, user, "wrong").endswith("authentication failed")
    assert p.connect(user="u_scram", password=PASSWORD).execute("select 7").fetchone() == (7,)


@pytest.mark.ours
@pytest.mark.parametrize("auth_type", ["trust", *METHODS])
def test_nobody_looks_like_a_wrong_password(make, auth_type):
    p = make(auth_type)
    c = p.raw()
    with pytest.raises(wire.PgError) as e:
        c.login("nobody", password=PASSWORD)
    wanted = {"trust": '"trust" authentication failed', "plain": "password authentication failed"}
    assert e.value.text == wanted.get(auth_type, "SASL authentication failed")
    if auth_type != "trust":
        assert c.auth == ("scram-sha-256" if auth_type == "md5" else auth_type), "there was no exchange"


@pytest.mark.ours
def test_nobody_looks_like_who_was_found_last_under_md5(make):
    """Whose secret is SCRAM has another exchange under md5: by that nobody is to be told from anybody."""
    p = make("md5")

    def exchange_with_nobody():
        c = p.raw()
        with pytest.raises(wire.PgError):
            c.login("nobody", password=PASSWORD)
        return c.auth

    assert exchange_with_nobody() == "scram-sha-256", "as PostgreSQL makes secrets by itself"
    p.login("u_md5", password=PASSWORD)
    assert exchange_with_nobody() == "md5"
    p.login("u_scram", password=PASSWORD)
    assert exchange_with_nobody() == "scram-sha-256"


def test_default_query(make_pooler, cluster):
    """Roles of PostgreSQL itself, in the pool of their own names: the secret that was found logs in to the server."""
    p = make_pooler(
        {"app": cluster.dsn()}, settings={"auth_type": "md5", "auth_user": "postgres"}, secrets={"admin": "adminpw"}
    )
    for user, password in (("md5user", "md5pw"), ("scramuser", "scrampw")):
        assert p.login(user, password=password).value("select current_user") == user
        assert refused(p, user, "wrong").endswith("authentication failed")


@pytest.mark.newer
def test_password_of_the_auth_user_is_in_auth_file(make_pooler, cluster, lookup):
    cluster.sql("grant select on lookup.users to scramuser", dbname=lookup.name)
    for secrets, works in (({"scramuser": "scrampw"}, True), ({}, False)):
        p = make_pooler(
            {"app": cluster.dsn(dbname=lookup.name, user="app")},
            settings={"auth_type": "md5", "auth_user": "scramuser", "auth_query": FIND},
            secrets={"admin": "adminpw", **secrets},
        )
        if works:
            assert p.login("u_md5", password=PASSWORD).value("select 1") == "1"
        else:
            assert "password authentication failed" in refused(p, "u_md5") or p.wait_for_log("server login failed")


def test_file_comes_first(make, lookup):
    p = make(secrets={"admin": "adminpw", "postgres": "", "u_plain": "other"})
    assert p.login("u_plain", password="other").value("select 1") == "1"
    assert refused(p, "u_plain") == "password authentication failed"
    assert lookup.calls() == 0


@pytest.mark.newer
def test_user_of_the_users_section_is_asked_for(make_pooler, cluster, lookup):
    p = make_pooler(
        {"app": cluster.dsn(dbname=lookup.name, user="app")},
        settings={"auth_type": "md5", "auth_user": "postgres", "auth_query": FIND},
        users={"u_md5": "pool_mode=transaction"},
        secrets={"admin": "adminpw"},
    )
    assert p.login("u_md5", password=PASSWORD).value("select 1") == "1"


def test_any_asks_nobody(make, lookup):
    p = make("any")
    assert p.login("whoever").value("select current_user") == "app"
    assert lookup.calls() == 0


def test_unknown_database_is_not_asked(make, lookup):
    p = make()
    assert refused(p, "u_md5", database="nowhere") == "password authentication failed"
    assert lookup.calls() == 0


def test_returned_name_replaces_the_presented_one(make_pooler, cluster):
    p = make_pooler(
        {"app": cluster.dsn()},
        settings={
            "auth_type": "md5",
            "auth_user": "postgres",
            "auth_query": "select 'md5user'::text, rolpassword from pg_authid where rolname = lower($1)",
        },
        secrets={"admin": "adminpw"},
    )
    c = p.raw()
    c.start("MD5USER")
    salt = c.recv().body[4:]
    c.send(wire.pack("p", wire.cstr(wire.md5_response("md5user", "md5pw", salt))))
    assert c.read_ready().error is None
    assert c.value("select current_user") == "md5user"
    assert [r["user"] for r in p.show("clients") if r["database"] == "app"] == ["md5user"]


def test_last_of_two_rows_counts(make):
    p = make(query="select * from (values ($1, 'first'), ($1, 'second')) v")
    assert refused(p, "u", "first") == "password authentication failed"
    assert p.login("u", password="second").value("select 1") == "1"


@pytest.mark.ours
def test_function_that_returns_one_record(make, lookup):
    """As the manuals have it: for nobody it returns NULLs, which is no fault, and closes no server."""
    with lookup.cluster.connect(lookup.name) as c:
        c.execute(
            "create function lookup.one(in who text, out name text, out secret text) language plpgsql as "
            "$$ begin select u.name, u.secret from lookup.users u where u.name = who into name, secret; end $$"
        )
    p = make(query="select * from lookup.one($1)")
    for _ in range(2):
        assert refused(p, "nobody") == "SASL authentication failed"
    assert p.login("u_md5", password=PASSWORD).value("select 1") == "1"
    assert p.log_count("S-0x.* closing because") == 0


@pytest.mark.ours
@pytest.mark.parametrize("auth_type", METHODS)
@pytest.mark.parametrize("password", ["", "md5", "NULL", "\\N"])
def test_null_secret_matches_nothing(make, auth_type, password):
    p = make(auth_type, query="select $1::text, null::text")
    assert "password" in refused(p, "u", password) or refused(p, "u", password) == "SASL authentication failed"


@pytest.mark.ours
@pytest.mark.parametrize(
    "query, why",
    [
        ("select $1::text", "expected 2 columns from auth_query, not 1"),
        ("select $1::text, 'x', 'y'", "expected 2 columns from auth_query, not 3"),
        ("select ''::text, $1::text", "user name that is empty or too long"),
        ("select repeat($1::text, 200), 'x'", "user name that is empty or too long"),
        ("select $1, 'x' from nowhere.nothing", 'relation "nowhere.nothing" does not exist'),
        ("select $1::text, (1/0)::text", "division by zero"),
        ("select $1::text, 'x', $2::text", "bind message supplies 1 parameters"),
        ("select $1::text, repeat('x', 70000)", "unexpected response from auth_query"),
        ("no sql, $1", "syntax error"),
        ("copy (select 1, 2) to stdout", "."),
        ("set application_name = 'x'", "."),
    ],
)
def test_query_that_is_no_good(make, query, why):
    p = make(query=query)
    assert refused(p, "u_md5") == "bouncer config error"
    p.wait_for_log(f"ERROR S: error in auth_query: .*{why}")
    p.admin("SET auth_query = '" + FIND.replace("'", "''") + "'")
    assert p.login("u_md5", password=PASSWORD).value("select 1") == "1"


@pytest.mark.newer
def test_auth_dbname(make_pooler, cluster, lookup):
    """The global one, one of the database, one that the * entry makes, none that there is."""
    databases = {
        "app": cluster.dsn(user="app"),
        "own": cluster.dsn(dbname="app", user="app") + " auth_dbname=nowhere",
        "off": cluster.dsn(dbname="app", user="app") + " auth_dbname=other",
        "other": cluster.dsn(dbname=lookup.name),
        "pgb": cluster.dsn(dbname="app", user="app") + " auth_dbname=pgbouncer",
        "users": cluster.dsn(dbname=lookup.name),
    }
    p = make_pooler(
        databases,
        settings={"auth_type": "md5", "auth_user": "postgres", "auth_query": FIND, "auth_dbname": "users"},
        secrets={"admin": "adminpw"},
    )
    assert p.login("u_md5", password=PASSWORD).value("select current_database()") == "app"
    assert refused(p, "u_md5", database="own") == "bouncer config error"
    p.wait_for_log(r'authentication database "nowhere" is not configured\.')
    assert refused(p, "u_md5", database="pgb") == "bouncer config error"
    p.wait_for_log('cannot use the reserved "pgbouncer" database as an auth_dbname')
    assert p.login("u_md5", "off", password=PASSWORD).value("select current_database()") == "app"
    p.admin("DISABLE other")
    assert refused(p, "u_md5", database="off") == 'authentication database "other" is disabled'


@pytest.mark.newer
def test_settings_of_a_database(make_pooler, cluster, lookup):
    dsn = cluster.dsn(dbname=lookup.name, user="app")
    query = "auth_query='select $1::text, current_user::text'"
    p = make_pooler(
        {"app": dsn, "mine": f"{dsn} auth_user=app2 {query}", "yours": f"{dsn} auth_user=postgres"},
        settings={"auth_type": "md5", "auth_query": FIND},
        secrets={"admin": "adminpw"},
    )
    assert p.login("whoever", "mine", password="app2").value("select 1") == "1"
    assert p.login("u_md5", "yours", password=PASSWORD).value("select 1") == "1"
    assert refused(p, "u_md5") == "password authentication failed"


@pytest.mark.newer
def test_auth_dbname_made_by_the_star_entry(make_pooler, cluster, lookup):
    p = make_pooler(
        {"app": cluster.dsn(user="app"), "*": cluster.dsn()},
        settings={"auth_type": "md5", "auth_user": "postgres", "auth_query": FIND, "auth_dbname": lookup.name},
        secrets={"admin": "adminpw"},
    )
    assert p.login("u_md5", password=PASSWORD).value("select current_database()") == "app"
    p.wait_for_log(f"registered new auto-database: {lookup.name}")


@pytest.mark.newer
@pytest.mark.parametrize("auth_dbname", [None, "app"])
def test_console_needs_a_global_database(make, auth_dbname):
    p = make("md5", admin_users="u_md5", auth_dbname=auth_dbname, secrets={"postgres": ""})
    if auth_dbname is None:
        assert refused(p, "u_md5", database="pgbouncer") == "bouncer config error"
        p.wait_for_log('cannot use the reserved "pgbouncer" database as an auth_dbname')
    else:
        assert p.login("u_md5", "pgbouncer", password=PASSWORD).query("SHOW VERSION").error is None
        assert refused(p, "u_plain", database="pgbouncer") == "not allowed"


@pytest.mark.parametrize("pool_mode", ["session", "transaction", "statement"])
def test_pool_modes(make, lookup, pool_mode):
    p = make("scram-sha-256", pool_mode=pool_mode, default_pool_size=1)
    for _ in range(3):
        for user in ("u_plain", "u_scram"):
            p.login(user, password=PASSWORD).terminate()
    assert lookup.calls() == 6
    assert len([r for r in p.show("servers") if r["user"] == "postgres"]) == 1, "one server was enough for all"


def test_secret_that_was_found_logs_in_to_servers(make_pooler, cluster, request):
    """A role of the server; its password changes, and later logins to servers must know."""
    role = "aq_changing"
    cluster.sql(f"drop role if exists {role}")
    cluster.sql(f"set password_encryption = 'scram-sha-256'; create role {role} login password 'one'")
    request.addfinalizer(lambda: cluster.sql(f"drop role if exists {role}"))
    server = cluster.dsn()
    p = make_pooler(
        {"app": server},
        settings={"auth_type": "scram-sha-256", "auth_user": "postgres", "pool_mode": "transaction"},
        secrets={"admin": "adminpw"},
    )
    with p.login(role, password="one") as c:
        assert c.value("select current_user") == role
    cluster.sql(f"set password_encryption = 'scram-sha-256'; alter role {role} password 'two'")
    p.admin("RECONNECT")
    with p.login(role, password="two") as c:
        assert c.value("select current_user") == role
    assert refused(p, role, "one") == "SASL authentication failed"


@pytest.mark.newer
def test_inner_clients_count_nowhere(make, lookup):
    p = make(max_client_conn=1, max_db_client_connections=1)
    c = p.login("u_md5", password=PASSWORD)
    assert c.value("select 1") == "1"
    assert p.lists()["used_clients"] == 2, "the client and the console"
    stats = {r["database"]: r for r in p.show("stats")}
    assert stats["app"]["total_client_login_count"] == "1"


@pytest.mark.ours
def test_waiting_login_is_shown(make, lookup):
    p = make()
    with lookup.blocked():
        c = p.raw()
        c.start("u_md5")
        wait_until(lambda: lookup.waiting() == 1, "the query runs")
        pools = {(r["database"], r["user"]): r for r in p.show("pools")}
        assert pools[("app", "postgres")]["cl_active"] == 1
        assert [r["user"] for r in p.show("clients") if r["database"] == "app"] == ["postgres"]
    assert c.recv().type == "R"


@pytest.mark.ours
def test_early_end_of_the_asker_ends_the_query(make, lookup):
    p = make()
    with lookup.blocked():
        c = p.raw()
        c.start("u_md5")
        wait_until(lambda: lookup.waiting() == 1, "the query runs")
        c.close()
        p.wait_pool(user="postgres", cl_active=0, sv_active=0, sv_idle=0)
    assert p.login("u_md5", password=PASSWORD).value("select 1") == "1"


@pytest.mark.newer
def test_pool_of_the_auth_user_is_full(make, lookup):
    p = make(default_pool_size=1, query_wait_timeout=1, auth_dbname="app")
    with lookup.blocked():
        first = p.raw()
        first.start("u_md5")
        wait_until(lambda: lookup.waiting() == 1, "the query runs")
        assert refused(p, "u_plain") == "query_wait_timeout"
    assert first.recv().type == "R"


@pytest.mark.ours
def test_server_that_is_lost_in_the_middle(make, lookup):
    p = make()
    with lookup.blocked():
        c = p.raw()
        c.start("u_md5")
        wait_until(lambda: lookup.waiting() == 1, "the query runs")
        lookup.cluster.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and wait_event = 'advisory'",
            [lookup.name],
        )
        assert c.expect_error_close().text == "bouncer config error"
    p.wait_for_log("error in auth_query: ")
    assert p.login("u_md5", password=PASSWORD).value("select 1") == "1"


@pytest.mark.ours
def test_errors_of_the_auth_users_login_reach_the_client(make, cluster):
    """PgBouncer tells strangers what the server says; our own profile keeps that to the log."""
    dsn = cluster.dsn(dbname="no_such_database", user="app")
    p = make(dsn=dsn, server_login_retry=1000)
    e = p.login_error("u_md5")
    assert (e.code, e.text) == ("3D000", 'database "no_such_database" does not exist')
    e = p.login_error("u_md5")
    assert (e.code, e.text) == ("3D000", 'database "no_such_database" does not exist') or "cached error" in e.text


@pytest.mark.newer
def test_server_comes_back(make_pooler, private_cluster):
    """While it is away, who logs in is told so at once; then it is asked again, though nobody waits for it."""
    private_cluster.sql("create table public.people as select 'u'::text as name, 'pw'::text as secret")
    p = make_pooler(
        {"app": private_cluster.dsn(dbname="postgres", user="postgres")},
        settings={
            "auth_type": "plain",
            "auth_user": "postgres",
            "auth_query": "select name, secret from public.people where name = $1",
            "server_login_retry": 1,
            "auth_dbname": "app",
        },
        secrets={"admin": "adminpw"},
    )
    private_cluster.stop()
    with p.raw() as first:
        first.start("u")  # waits for its turn, as those who come before the failure do
        p.wait_for_log("connect failed")
        assert "server login has been failing, cached error: connect failed" in refused(p, "v", "pw")
    private_cluster.start()
    wait_until(lambda: _logs_in(p, "u", "pw"), "logins work again", timeout=30)


@pytest.mark.ours
def test_errors_of_the_auth_users_login_stay_here(make, cluster):
    dsn = cluster.dsn(dbname="no_such_database", user="app")
    p = make("scram-sha-256", dsn=dsn, profile="pgsluice", server_login_retry=1000)
    for _ in range(3):
        e = p.login_error("u_md5")
        assert e.code == "08001"
        assert e.text == "login failed" or e.text.startswith("server login has been failing, cached error: login failed")
    p.wait_for_log('server login failed: FATAL database "no_such_database" does not exist')


def test_database_of_the_star_entry_asks_itself(make_pooler, cluster, lookup):
    p = make_pooler(
        {"*": cluster.dsn()},
        settings={"auth_type": "md5", "auth_user": "postgres", "auth_query": FIND},
        secrets={"admin": "adminpw"},
    )
    lookup.put("app", "apppw")
    assert p.login("app", lookup.name, password="apppw").value("select current_database()") == lookup.name


@pytest.mark.ours
def test_reload_adds_and_removes_it(make, lookup):
    p = make()
    p.settings.pop("auth_user")
    p.settings.pop("auth_query")
    p.write_files()
    p.admin("RELOAD")
    p.admin("SET auth_user = ''")
    assert refused(p, "u_md5") == "password authentication failed"
    assert lookup.calls() == 0


# ---- schemas


@pytest.mark.ours
def test_names_without_a_schema(make, lookup, cluster):
    """Old files work, with a warning; our own profile refuses and says why."""
    cluster.sql("create table public.plain_users as select * from lookup.users", dbname=lookup.name)
    query = "select name, secret from plain_users where name = $1"
    p = make(query=query)
    assert p.login("u_md5", password=PASSWORD).value("select 1") == "1"
    p.wait_for_log("WARNING names in auth_query should have schemas.*plain_users")
    for _ in range(3):
        assert p.login("u_md5", password=PASSWORD).value("select 1") == "1"
    assert p.log_count("names in auth_query should have schemas") == 1, "once is enough"
    cluster.sql("drop table public.plain_users", dbname=lookup.name)
    assert refused(p, "u_md5") == "bouncer config error"
    cluster.sql("create table public.plain_users as select * from lookup.users", dbname=lookup.name)
    assert p.login("u_md5", password=PASSWORD).value("select 1") == "1"
    p = make("scram-sha-256", query=query, profile="pgsluice")
    assert refused(p, "u_plain") == "bouncer config error"
    p.wait_for_log("need the names of their schemas.*plain_users")


# ---- what is remembered


def login(p, user="u_md5", password=PASSWORD):
    with p.login(user, password=password) as c:
        assert c.value("select 1") == "1"


@pytest.mark.ours
def test_answers_are_remembered(make, lookup):
    p = make(auth_query_cache_ttl=1000)
    for _ in range(3):
        login(p)
        login(p, "u_plain")
    assert lookup.calls() == 2
    p.admin("SET auth_query_cache_ttl = 0")
    login(p)
    login(p)
    assert lookup.calls() == 4


@pytest.mark.ours
def test_our_profile_remembers_and_the_other_asks_each_time(make, lookup):
    p = make("scram-sha-256")
    for _ in range(3):
        login(p, "u_scram")
    assert lookup.calls() == 3
    p = make("scram-sha-256", profile="pgsluice")
    assert p.config()["auth_query_cache_ttl"] == "5"
    login(p, "u_scram")


@pytest.mark.ours
def test_absent_names_are_remembered(make, lookup):
    p = make(auth_query_cache_ttl=1000)
    began = time.monotonic()
    for _ in range(3):
        assert refused(p, "nobody") == "SASL authentication failed"
    if time.monotonic() - began < TRUSTED_S:
        assert lookup.calls() == 1


@pytest.mark.ours
def test_new_user_gets_in_after_a_failure(make, lookup):
    """However long answers are remembered: that there was no such user is asked again after a failed login."""
    p = make("plain", auth_query_cache_ttl=1000)
    assert refused(p, "u_new") == "password authentication failed"
    lookup.put("u_new", "created")
    wait_until(lambda: _logs_in(p, "u_new", "created"), "the new user gets in")
    assert lookup.calls() == 2


@pytest.mark.ours
def test_reload_forgets_when_the_database_is_another(make, lookup, cluster):
    p = make(auth_query_cache_ttl=1000)
    login(p)
    p.admin("RELOAD")
    login(p)
    assert lookup.calls() == 1
    p.databases["app"] += " application_name=x"
    p.write_files()
    p.admin("RELOAD")
    login(p)
    assert lookup.calls() == 1, "the same server"
    p.databases["app"] = p.databases["app"].replace("127.0.0.1", "localhost")
    assert "localhost" in p.databases["app"]
    p.write_files()
    p.admin("RELOAD")
    login(p)
    assert lookup.calls() == 2


@pytest.mark.ours
def test_changed_password_after_a_failure(make, lookup):
    """The old one is remembered; a login that fails with it has the database asked again at the next."""
    p = make("plain", auth_query_cache_ttl=1000)
    login(p, "u_plain")
    lookup.put("u_plain", "changed")
    wait_until(lambda: _logs_in(p, "u_plain", "changed"), "the new password works")
    assert lookup.calls() == 2
    assert refused(p, "u_plain") == "password authentication failed"


def _logs_in(p, user, password):
    try:
        p.login(user, password=password)
    except wire.PgError:
        return False
    return True


@pytest.mark.ours
def test_wrong_passwords_do_not_flood_the_database(make, lookup):
    p = make("plain", auth_query_cache_ttl=1000)
    began = time.monotonic()
    for _ in range(20):
        refused(p, "u_plain", "wrong")
    assert lookup.calls() <= 2 + time.monotonic() - began


@pytest.mark.ours
@pytest.mark.parametrize("ttl", [0, 1000])
@pytest.mark.parametrize("login_threads", [0, 1, 3])
def test_equal_look_ups_are_joined(make, lookup, ttl, login_threads):
    p = make("plain", auth_query_cache_ttl=ttl, login_threads=login_threads, threads=2)
    with lookup.blocked():
        conns = []
        for _ in range(12):
            conns.append(p.raw())
            conns[-1].start("u_plain")
        for c in conns[:3]:
            c.close()  # among them perhaps the one for whom it is asked
        wait_until(lambda: lookup.waiting() == 1, "one query runs")
        wait_until(lambda: p.lists()["login_clients"] == 9, "all logins wait")
        assert lookup.waiting() == 1
    for c in conns[3:]:
        assert c.finish_login("u_plain", PASSWORD) is not None
    assert lookup.calls() == 1


@pytest.mark.ours
@pytest.mark.parametrize("stale", [0, 1000])
def test_database_is_down(make_pooler, private_cluster, stale):
    """What was found goes on to be used while the database cannot be asked, if that is wanted."""
    private_cluster.sql("create table public.people as select 'u'::text as name, 'pw'::text as secret")
    p = make_pooler(
        {"app": private_cluster.dsn(dbname="postgres", user="postgres")},
        settings={
            "auth_type": "plain",
            "auth_user": "postgres",
            "auth_query": "select name, secret from public.people where name = $1",
            "auth_query_cache_ttl": 0,
            "auth_query_stale": stale,
            "query_wait_timeout": 3,
            "admin_users": "admin",
            "stats_users": "u",
        },
        secrets={"admin": "adminpw"},
    )
    p.settings["auth_dbname"] = "app"
    p.write_files()
    p.admin("RELOAD")
    login(p, "u", "pw")
    private_cluster.stop()
    if stale == 0:
        with pytest.raises(wire.PgError):
            p.raw().login("u", "pgbouncer", password="pw")
        return
    for _ in range(3):
        c = p.raw()
        c.login("u", "pgbouncer", password="pw")
        assert c.query("SHOW VERSION").error is None
    with pytest.raises(wire.PgError, match="password authentication failed"):
        p.raw().login("u", "pgbouncer", password="wrong")
    private_cluster.start()


@pytest.mark.ours
def test_stale_answer_when_the_query_hangs(make, lookup):
    p = make("plain", auth_query_stale=1000)
    login(p, "u_plain")
    with lookup.blocked():
        assert _logs_in(p, "u_plain", PASSWORD)
    p.wait_for_log("the last one is used again")


@pytest.mark.ours
def test_no_row_beats_a_stale_answer(make, lookup, cluster):
    p = make("plain", auth_query_stale=1000)
    login(p, "u_plain")
    cluster.sql("delete from lookup.users", dbname=lookup.name)
    assert refused(p, "u_plain") == "password authentication failed"


@pytest.mark.ours
def test_many_names_in_a_crowd(make, lookup):
    """Many different look-ups at once over a small pool."""
    for i in range(30):
        lookup.put(f"crowd{i}", PASSWORD)
    p = make("scram-sha-256", default_pool_size=2, auth_query_cache_ttl=1000, login_threads=2)
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        results = list(pool.map(lambda i: _logs_in(p, f"crowd{i % 30}", PASSWORD), range(90)))
    assert all(results)
    assert lookup.calls() <= 90


@pytest.mark.ours
def test_suspended_while_a_login_asks(make, lookup):
    """SUSPEND waits for the login; nothing of the look-up is left behind."""
    p = make(suspend_timeout=30)
    with lookup.blocked():
        c = p.raw()
        c.start("u_md5")
        wait_until(lambda: lookup.waiting() == 1, "the query runs")
        console = p.console().conn
        console.send(wire.query("SUSPEND"))
        p.wait_for_log("SUSPEND command issued")
        assert console.is_silent()
        c.close()
        assert console.read_ready().tag == "SUSPEND"
        assert console.query("SHOW FDS").rows[0][1] == "pooler"
    assert console.query("RESUME").tag == "RESUME"
    assert p.login("u_md5", password=PASSWORD).value("select 1") == "1"


@pytest.mark.ours
def test_psycopg(make):
    p = make("scram-sha-256")
    with pytest.raises(psycopg.OperationalError, match="SASL authentication failed"):
        p.connect(user="nobody", password="x")
    assert p.connect(user="u_plain", password=PASSWORD).execute("select 7").fetchone() == (7,)


@pytest.mark.ours
@pytest.mark.parametrize("user, password", [("md5user", "md5pw"), ("scramuser", "scrampw")])
def test_secret_goes_with_an_online_restart(make_pooler, cluster, database, user, password):
    """A client that is carried over needs a new server, and nobody has logged in to the new process."""
    db = database()
    p = make_pooler(
        {"app": cluster.dsn(dbname=db)},
        settings={"auth_type": "md5", "auth_user": "postgres", "pool_mode": "transaction"},
        secrets={"admin": "adminpw"},
    )
    c = p.login(user, password=password)
    pid = c.value("select pg_backend_pid()")
    p.restart()
    cluster.sql("select pg_terminate_backend(%s)", [int(pid)])
    wait_until(lambda: cluster.backends(db, user) == 0, "the server is gone")
    p.wait_pool(user=user, sv_idle=0)
    assert c.value("select current_user") == user


@pytest.mark.ours
def test_secrets_are_in_no_show(make, lookup):
    p = make("plain", auth_query_cache_ttl=1000)
    lookup.put("u_plain", "verysecret")
    c = p.login("u_plain", password="verysecret")
    assert c.value("select 1") == "1"
    for what in ("AUTH_CACHE", "CLIENTS", "USERS", "FDS", "CONFIG", "POOLS", "SOCKETS", "MEM", "LISTS"):
        assert "verysecret" not in str(p.show(what)), what
    assert "verysecret" not in p.log_text()


@pytest.mark.ours
def test_counts_of_the_cache(make, lookup):
    p = make("plain", auth_query_cache_ttl=1000)
    refused(p, "nobody")
    for _ in range(3):
        login(p)
    counts = {r["name"]: int(r["value"]) for r in p.show("auth_cache")}
    assert (counts["misses"], counts["hits"], counts["found"], counts["absent"]) == (2, 2, 1, 1)
    assert counts["asking"] == counts["stale"] == counts["failures"] == 0
    assert 0 < counts["memory"] < 10000


@pytest.mark.newer
@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM, signal.SIGINT])
def test_shutdown_while_a_login_asks(make, lookup, number):
    """At once, or when the login has had its answer: it is a client, and the query runs on a server."""
    p = make()
    with lookup.blocked():
        c = p.raw()
        c.start("u_md5")
        wait_until(lambda: lookup.waiting() == 1, "the query runs")
        p.signal(number)
        if number == signal.SIGQUIT:
            c.expect_close()
            assert p.wait_exit() == 0
            return
        p.wait_for_log("got SIG(TERM|INT)")
        assert p.proc.poll() is None
    with pytest.raises(wire.PgError, match="shutting down"):
        c.finish_login("u_md5", PASSWORD)
    assert p.wait_exit() == 0


@pytest.mark.ours
def test_online_restart_while_a_login_asks(make, lookup):
    """The login ends in the old process; nothing of its question goes to the new one."""
    p = make(pool_mode="transaction")
    kept = p.login("u_plain", password=PASSWORD)
    assert kept.value("select 1") == "1"
    c = p.raw()
    block = contextlib.ExitStack()
    block.enter_context(lookup.blocked())
    c.start("u_md5")
    wait_until(lambda: lookup.waiting() == 1, "the query runs")

    def go_on():
        with block:
            p.wait_for_log("SUSPEND command issued")
        return c.finish_login("u_md5", PASSWORD)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        done = pool.submit(go_on)
        p.restart()
        assert done.result(30) is not None
    assert kept.value("select 2") == c.value("select 2") == "2"
    assert p.log_count("not taking over") == 0
    users = [(r["user"], r["database"]) for r in p.show("clients")]
    assert sorted(u for u, d in users if d == "app") == ["u_md5", "u_plain"]


@pytest.mark.ours
@pytest.mark.parametrize("command", ["KILL app", "KILL_CLIENT"])
def test_question_that_is_killed(make, lookup, command):
    p = make()
    with lookup.blocked():
        c = p.raw()
        c.start("u_md5")
        wait_until(lambda: lookup.waiting() == 1, "the query runs")
        if command == "KILL_CLIENT":
            (row,) = [r for r in p.show("clients") if r["user"] == "postgres"]
            command += f" {row['id']}"
        p.admin(command)
        assert c.expect_error_close().text in ("bouncer config error", "database removed")
    if command == "KILL app":
        p.admin("RESUME app")
    assert p.login("u_md5", password=PASSWORD).value("select 1") == "1"


def test_paused_database_is_not_asked(make, lookup):
    p = make()
    p.admin("PAUSE app")
    c = p.raw()
    c.start("u_md5")
    p.wait_pool(user="postgres", cl_waiting=1)
    assert lookup.calls() == 0
    p.admin("RESUME app")
    assert c.finish_login("u_md5", PASSWORD) is not None


@pytest.mark.newer
def test_reload_takes_the_database_away_meanwhile(make, lookup, cluster):
    p = make(auth_dbname="app")
    p.databases["other"] = p.databases["app"]
    p.write_files()
    p.admin("RELOAD")
    with lookup.blocked():
        c = p.raw()
        c.start("u_md5", "other")
        wait_until(lambda: lookup.waiting() == 1, "the query runs")
        del p.databases["app"]
        p.write_files()
        p.admin("RELOAD")
        assert c.expect_error_close().text == "bouncer config error"
    assert refused(p, "u_md5", database="other") == "bouncer config error"
    p.wait_for_log('authentication database "app" is not configured')
