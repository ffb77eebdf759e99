"""Named statements in transaction and statement mode: virtual, and answered as PostgreSQL would answer each client."""
import pytest
from harness import differential as diff
from harness.bench import alone, crowd, play_cases
from harness.cases import BLOCKS, CASES, UNKNOWN_NAMES, positions, rows
from harness.load import adds_up
from harness.pooler import servers_of
from harness.wire import SYNC, close

pytestmark = pytest.mark.newer

PROFILES = ["pgbouncer", "pgsluice"]


def named(messages, name=b"n1"):
    """The same pipeline with a named statement in place of the unnamed one."""
    out = []
    for m in messages:
        kind, body = m[:1], m[5:]
        if kind == b"P" and body.startswith(b"\0"):
            out.append(close("S", name.decode()))
            body = name + body
        elif kind == b"B" and b"\0" in body:
            portal, rest = body.split(b"\0", 1)
            body = portal + b"\0" + (name if rest.startswith(b"\0") else b"") + rest
        elif kind in (b"D", b"C") and body == b"S\0":
            body = b"S" + name + b"\0"
        out.append(kind + (len(body) + 4).to_bytes(4, "big") + body)
    return out


# How a pooler is set up so that statements are found, missing or just evicted on the server.
SETUPS = {
    "kept": {},
    "evicted": {"max_prepared_statements": 1},
    "new server each time": {"server_lifetime": 0},
}


# In an aborted transaction PostgreSQL parses nothing; a pooler may know the text, and says so.
ABORTED = {"begin_fails_sync_commit"}


def cases_for(profile, setup, left_out=frozenset()):
    left_out = left_out | ABORTED | ({"notifications"} if setup == "new server each time" else set())
    left_out |= UNKNOWN_NAMES if profile == "pgbouncer" else set()
    return {n: named(m) for n, m in CASES.items() if n not in left_out}


@pytest.mark.parametrize("cut", [diff.cut_whole, diff.cut_single])
@pytest.mark.parametrize("setup", sorted(SETUPS))
@pytest.mark.parametrize("profile", PROFILES)
def test_named_pipelines(bench, profile, setup, cut):
    """Every pipeline that has a name, with a named statement, whether the server has it or not."""
    b = bench(profile=profile, **SETUPS[setup])
    play_cases(b, cases_for(profile, setup), cut)
    adds_up(b.pooler)


@pytest.mark.parametrize("setup", sorted(SETUPS))
@pytest.mark.parametrize("profile", PROFILES)
def test_named_pipelines_in_statement_mode(bench, profile, setup):
    b = bench(profile=profile, pool_mode="statement", **SETUPS[setup])
    play_cases(b, cases_for(profile, setup, BLOCKS), diff.cut_steps)
    adds_up(b.pooler)


@pytest.mark.parametrize("cut", [diff.cut_whole, diff.cut_single])
def test_errors_at_each_position_of_named_pipelines(bench, cut):
    b = bench(profile="pgsluice")
    for n, messages in enumerate(positions()):
        try:
            b.check(cut(named(messages + [SYNC] + rows("select 'after'") + [SYNC]), None))
        except diff.Difference as e:
            raise AssertionError(f"position {n}: {e}") from None
    adds_up(b.pooler)


@pytest.mark.parametrize("cut", sorted(diff.CUTS))
@pytest.mark.parametrize("setup", sorted(SETUPS))
def test_random_named_pipelines(bench, setup, cut):
    """Sound and unsound, names that exist already or never did: all as PostgreSQL answers."""
    b = bench(profile="pgsluice", **SETUPS[setup])
    alone(b, f"named {setup} {cut}", diff.CUTS[cut], 50, carried=False)
    adds_up(b.pooler)


@pytest.mark.parametrize("servers", [1, 3])
@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_random_named_pipelines_in_a_crowd(bench, mode, servers):
    b = bench(profile="pgsluice", clients=20, pool_mode=mode, default_pool_size=servers, threads=2)
    crowd(b, f"named {mode}", 20, 10, carried=False, transactions=mode != "statement")
    assert servers_of(b.pooler.pool()) <= servers
    adds_up(b.pooler)
