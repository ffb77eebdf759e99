"""
Passwords outside ASCII under SCRAM, as PostgreSQL makes verifiers of them and as libpq proves with them: the pooler in
between, with the password in clear text in its auth_file, is let in and lets in whoever PostgreSQL itself would.
"""
import subprocess

import psycopg
import psycopg.sql
import pytest
from harness import wire
from harness.pooler import binary
from harness.procs import wait_until

PASSWORDS = {
    # what it shows: what is set, what else may be typed, what may not
    "composed": ("caf\u00e9", ["cafe\u0301"], ["cafe"]),
    "decomposed": ("cafe\u0301", ["caf\u00e9"], ["cafe"]),
    "no-break space": ("pa\u00a0ss", ["pa ss", "pa\u3000ss"], ["pass"]),
    "soft hyphen": ("pass\u00adwort", ["passwort"], ["pass-wort"]),
    "ligature": ("\ufb01n", ["fin"], ["\ufb02n"]),
    "half width": ("\uff8a\uff9f", ["\u30d1"], ["\u30cf"]),
    "roman numeral": ("\u2168", ["IX"], ["ix"]),
    "from right to left": ("\u05e9\u05dc\u05d5\u05dd", [], ["shalom"]),
    # those without a normal form are taken as they are
    "both directions": ("\u0627" + "1", [], ["1"]),
    "emoji": ("\U0001f600", [], ["\U0001f601"]),
    "control character": ("\u00e9\u0007", [], ["\u00e9"]),
    "soft hyphen alone": ("\u00ad", [], ["x"]),
    "old accent": ("a\u0340", [], ["a\u0300"]),
    "private use": ("\ue000", [], ["\ue001"]),
    "not in Unicode 3.2": ("\u0221", [], ["d"]),
}


@pytest.fixture(scope="module")
def normalises():
    linked = subprocess.run(["ldd", binary()], text=True, capture_output=True).stdout
    if "libidn.so" not in linked:
        pytest.skip("this build has no library for it")


def connect(port, user, password, **kwargs):
    return psycopg.connect(
        host="127.0.0.1", port=port, user=user, password=password, dbname="app", sslmode="disable", **kwargs
    )


def outcome(port, user, password):
    try:
        with connect(port, user, password) as c:
            return c.execute("select current_user").fetchone()[0]
    except psycopg.OperationalError as e:
        assert "authentication failed" in str(e), e
        return None


@pytest.mark.ours
def test_passwords_outside_ascii(make_pooler, private_cluster, normalises):
    cluster = private_cluster
    roles = {f"r{n}": what for n, what in enumerate(PASSWORDS)}
    cluster.sql("create role asked")
    with psycopg.connect(f"{cluster.dsn()} dbname=postgres user=postgres", autocommit=True) as c:
        c.execute("set password_encryption = 'scram-sha-256'")
        for role, what in roles.items():
            c.execute(f"create role {role} login in role asked password {psycopg.sql.quote(PASSWORDS[what][0])}")
    with open(f"{cluster.data}/pg_hba.conf", "r+") as f:
        rules = f.read()
        f.seek(0)
        f.write("host all +asked 127.0.0.1/32 scram-sha-256\n" + rules)
    cluster.sql("select pg_reload_conf()")
    wait_until(lambda: outcome(cluster.port, "r0", "wrong") is None, "PostgreSQL asks for passwords")
    p = make_pooler(
        {"app": cluster.dsn(dbname="app")},
        settings={"auth_type": "scram-sha-256"},
        secrets={role: PASSWORDS[what][0] for role, what in roles.items()},
    )
    for role, what in roles.items():
        password, same, other = PASSWORDS[what]
        for typed in [password, *same]:
            assert outcome(cluster.port, role, typed) == role, f"{what}: PostgreSQL itself"
            assert outcome(p.port, role, typed) == role, what
        for typed in other:
            assert outcome(cluster.port, role, typed) is None, f"{what}: PostgreSQL itself"
            assert outcome(p.port, role, typed) is None, what


@pytest.mark.ours
def test_verifiers_of_postgresql_with_other_methods(make_pooler, cluster, normalises):
    """A password in clear text against a stored verifier: its normal form counts there too."""
    p = make_pooler(
        {"app": cluster.dsn(user="app")},
        settings={"auth_type": "plain"},
        secrets={"u": wire.scram_secret("caf\u00e9")},
    )
    for password in ("caf\u00e9", "cafe\u0301"):
        assert p.login("u", password=password).value("select 1") == "1"
    assert p.login_error("u", password="cafe").text == "password authentication failed"
