"""What somebody without a password can find out: whether a name is a user must not show, nor may he cost others much."""
import pytest
from harness import wire
from harness.procs import wait_until

SCRAM = {"auth_type": "scram-sha-256"}
USERS = {f"user{i}": f"password {i}" for i in range(6)}


def derived(p):
    """How often the pooler has derived a key from a password: what logins cost."""
    return int(next(r["value"] for r in p.show("auth_cache") if r["name"] == "derived"))


def wait_derived(p):
    """Until it has derived all that it derives ahead: the logins in which we ask cost something before."""
    wait_until(lambda: derived(p) == derived(p), "verifiers are derived ahead")


def cost(p, user, password):
    before = derived(p)
    try:
        p.login(user, password=password)
    except wire.PgError as e:
        assert e.text == "SASL authentication failed"
    return derived(p) - before


def challenge(p, user):
    """Salt and iterations that a name is shown."""
    client = wire.ScramClient("guess")
    with p.raw() as c:
        c.start(user)
        assert c.recv().body[:4] == b"\0\0\0\x0a"
        first = client.first()
        c.send(wire.pack("p", wire.cstr("SCRAM-SHA-256") + len(first).to_bytes(4, "big") + first))
        client.final(c.recv().body[4:])
    return client.salt, client.iterations


def challenges(p):
    """Of a user with a plain secret, and of a name that is none."""
    return challenge(p, "user1"), challenge(p, "nobody")


@pytest.fixture
def make(make_pooler, cluster):
    def make(secrets=USERS, profile="pgsluice", **settings):
        secrets = {"admin": "adminpw", **secrets}
        p = make_pooler(
            {"app": cluster.dsn(user="app")}, settings={**SCRAM, **settings}, secrets=secrets, profile=profile
        )
        wait_derived(p)
        return p

    return make


@pytest.mark.ours
def test_no_login_derives_a_verifier(make):
    """The first login of a user with a plain secret costs what that of a name costs that is none."""
    p = make()
    assert cost(p, "user1", USERS["user1"]) == 0
    assert cost(p, "user2", "wrong") == 0
    assert cost(p, "nobody", "wrong") == 0
    p.secrets["user3"] = "another"
    p.write_files()
    p.admin("RELOAD")
    wait_derived(p)
    assert cost(p, "user3", "another") == 0
    assert p.login("user1", password=USERS["user1"]).value("select 1") == "1"


@pytest.mark.ours
def test_other_iterations_hold_for_all(make):
    p = make(scram_iterations=1000)
    assert {c[1] for c in challenges(p)} == {1000}
    p.settings["scram_iterations"] = 2000
    p.write_files()
    p.admin("RELOAD")
    wait_derived(p)
    assert {c[1] for c in challenges(p)} == {2000}
    assert p.login("user1", password=USERS["user1"]).value("select 1") == "1"


@pytest.mark.ours
@pytest.mark.parametrize("source", ["setting", "tls", "machine"])
def test_salts_outlive_the_process(make, pki, source):
    """Of a user and of a name that is none: after a start, and in another process of the same configuration."""
    settings = {"setting": {"scram_salt_secret": "a secret"}, "tls": pki.client_settings("allow"), "machine": {}}[source]
    if source == "machine" and len(_machine_id()) < 32:
        pytest.skip("this machine has no identity")
    p = make(**settings)
    before = challenges(p)
    assert before[0] != before[1]
    assert challenges(p) == before
    p.stop()
    p.start()
    assert challenges(p) == before, "after a start"
    assert challenges(make(**settings)) == before
    assert challenges(make(scram_salt_secret="another"))[1] != before[1]


def _machine_id():
    try:
        with open("/etc/machine-id") as f:
            return f.read().strip()
    except OSError:
        return ""


@pytest.mark.ours
def test_salts_outlive_an_online_restart(make):
    """Even if what they follow from is another by then, as with a key for TLS that was renewed."""
    p = make(scram_salt_secret="before")
    before = challenges(p)
    p.settings["scram_salt_secret"] = "after"
    p.write_files()
    for _ in range(2):
        p.restart()
        assert challenges(p) == before


@pytest.mark.ours
def test_salt_secret_is_secret(make):
    p = make(scram_salt_secret="hushhush")
    assert p.config()["scram_salt_secret"] == "****"
    for what in ("CONFIG", "AUTH_CACHE", "HANDOVER"):
        assert "hushhush" not in str(p.show(what))
    assert not [r for r in p.show("HANDOVER") if r["task"] == "salts"], "for who takes over, not for who looks"
    assert "hushhush" not in p.log_text()


@pytest.mark.ours
@pytest.mark.parametrize("ttl", [0, 1000])
def test_look_ups_of_plain_secrets_cost_alike(make_pooler, cluster, database, ttl):
    """An answer with a password costs a derivation, once; so does the answer that there is nobody."""
    name = database()
    cluster.sql("create table secrets (name text, secret text)", dbname=name)
    cluster.sql("insert into secrets values ('joe', 'pw'), ('jim', 'pw')", dbname=name)
    p = make_pooler(
        {"app": cluster.dsn(dbname=name, user="app")},
        settings={
            **SCRAM,
            "auth_user": "postgres",
            "auth_query": "select name, secret from public.secrets where name = $1",
            "auth_query_cache_ttl": ttl,
        },
        secrets={"admin": wire.scram_secret("adminpw"), "postgres": ""},
    )
    assert cost(p, "jim", "pw") == 1
    again = 1 if ttl == 0 else 0
    for user, password in (("joe", "pw"), ("nobody", "wrong"), ("jam", "pw")):
        assert [cost(p, user, password) for _ in range(2)] == [1, again], user
