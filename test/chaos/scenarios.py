"""
The scenarios: functions of a bench and parameters with defaults. The first paragraph of the docstring is what the
report calls it. `quick` has the parameters of the short run, and marks those that belong to it.
"""
import inspect
import os
import random
import signal
import statistics
import threading
import time

import psycopg

from harness import procs
from harness.wire import Closed
from relay import FAULTS, logins_at_once
from rig import Result, Rig

ALL = {}
PATIENCE = 30.0  # seconds more for the first write, where nobody measures how long it takes


def scenario(quick=None):
    def register(function):
        ALL[function.__name__.replace("_", "-")] = (function, quick)
        return function

    return register


def title_of(function):
    return " ".join(inspect.getdoc(function).split("\n\n")[0].split())


class Bench:
    """What a scenario is handed: it makes the rig, lets the clients loose, and keeps what came of it."""

    def __init__(self, template, name, function):
        self.template, self.result = template, Result(name, title_of(function))

    def rig(self, **kwargs):
        """The parts of the scenario; the end of the pooler's log is kept for the report."""
        rig = Rig(self.template, **kwargs)
        rig.parts.callback(lambda: setattr(self.result, "log", rig.pooler.log_tail(40)))
        return rig

    def under_load(self, rig, fault, before=3.0, after=4.0, node=0, **load):
        """
        Lets clients work for `before` seconds, calls fault(), which returns when recovery may begin, and lets them work
        for `after` more. The rows are then looked for at the node of that number.
        """
        work = rig.workload(**load)
        time.sleep(before)
        now = time.monotonic()
        rate = work.rate(now - before / 2, now)
        since = fault() or time.monotonic()
        time.sleep(after)
        end = time.monotonic() + PATIENCE
        while work.first_write_after(since) is None and time.monotonic() < end:
            time.sleep(0.1)
        self.finish(rig, work, now, since, rate, node)
        return work

    def finish(self, rig, work, begin, end, rate, node=0):
        work.stop()
        self.result.judge_recovery(work, begin, end, rate)
        self.result.judge(work, lambda sql: rig.query(sql, rig.nodes[node]))


# --- the books


@scenario(quick={"work": 0.5})
def tampered(bench, work=2.0, clients=10):
    """nothing fails, but rows are taken away, doubled and forged afterwards: the books must show it"""
    with bench.rig() as rig:
        load = rig.workload(clients=clients)
        time.sleep(work)
        load.stop()
        bench.result.judge(load, rig.query)
        rows = [row for row, state in load.clients[0].rows.items() if state == "committed"]
        rig.query(f"delete from ledger where client = 1 and seq = {rows[0]}")
        rig.query(f"insert into ledger values (1, {rows[1]}), (1, 1000000)")
        counts, _ = load.compare(rig.query)
        found = {kind: counts[kind] for kind in ("lost", "doubled", "strange")}
        if found != {"lost": 1, "doubled": 1, "strange": 1}:
            bench.result.fail(f"the books showed {found}")


# --- one server dies


@scenario(quick={"before": 1.0, "after": 1.5})
def kill_backend(bench, before=3.0, after=4.0, clients=20):
    """`kill -9` of one backend; the server throws out all sessions and recovers"""
    with bench.rig() as rig:

        def fault():
            with rig.primary.connect() as witness:
                os.kill(rig.backend(rig.primary), signal.SIGKILL)
                procs.wait_until(lambda: is_lost(witness), "the server throws out its sessions")
            procs.wait_until(rig.primary._is_ready, "the server takes connections again", 30)

        bench.under_load(rig, fault, before, after, clients=clients)


def is_lost(connection):
    try:
        connection.execute("select 1")
    except psycopg.OperationalError:
        return True
    return False


@scenario()
def terminate_backends(bench, before=3.0, after=3.0, clients=20):
    """`pg_terminate_backend` of all sessions at once"""
    with bench.rig() as rig:

        def fault():
            rig.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")

        bench.under_load(rig, fault, before, after, clients=clients)


@scenario(quick={"before": 1.0, "down": 0.5, "after": 1.5})
def kill_postmaster(bench, before=3.0, down=3.0, after=4.0, clients=20):
    """`kill -9` of the postmaster and its children, started again later"""
    with bench.rig() as rig:

        def fault():
            rig.primary.kill()
            rig.relay.fault("a", "refuse")
            time.sleep(down)
            rig.relay.fault("a", "pass")
            rig.primary.start()

        bench.under_load(rig, fault, before, after, clients=clients)


@scenario(quick={"before": 1.0, "down": 0.2, "after": 1.5})
def immediate_restart(bench, before=3.0, down=1.0, after=4.0, clients=20):
    """immediate stop of the server, and a start"""
    with bench.rig() as rig:

        def fault():
            rig.primary.stop(signal.SIGQUIT)
            time.sleep(down)
            rig.primary.start()

        bench.under_load(rig, fault, before, after, clients=clients)


@scenario()
def fast_restart(bench, before=3.0, down=1.0, after=4.0, clients=20):
    """fast stop of the server, as by an administrator, and a start"""
    with bench.rig() as rig:

        def fault():
            rig.stop_fast(rig.primary)
            time.sleep(down)
            rig.primary.start()

        bench.under_load(rig, fault, before, after, clients=clients)


@scenario()
def stopped_server(bench, before=3.0, stopped=60.0, after=5.0, clients=20):
    """all processes of the server stopped by SIGSTOP for a minute"""
    with bench.rig() as rig:

        def fault():
            rig.signal_all(rig.primary, signal.SIGSTOP)
            time.sleep(stopped)
            rig.signal_all(rig.primary, signal.SIGCONT)

        bench.under_load(rig, fault, before, after, clients=clients)


# --- the server is there, and says no


@scenario()
def full_slots(bench, before=3.0, full=5.0, after=4.0, clients=20):
    """other sessions take all connection slots of the server, and the pooler's are thrown out"""
    with bench.rig(node_settings={"max_connections": 30}) as rig:

        def fault():
            rig.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
            others = []
            end = time.monotonic() + full
            while time.monotonic() < end:
                try:
                    others.append(rig.primary.connect(user="app", dbname="postgres", connect_timeout=1))
                    rig.primary.sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'app'")
                except Exception:
                    time.sleep(0.1)
            for other in others:
                other.close()

        bench.under_load(rig, fault, before, after, clients=clients)


@scenario(quick={"before": 0.7, "full": 0.5, "after": 0.7})
def disk_full(bench, before=3.0, full=3.0, after=3.0, clients=20):
    """every write is answered by 53100, as from a full disk"""
    with bench.rig() as rig:
        rig.query(
            "create function no_space() returns trigger language plpgsql as"
            " $$begin raise 'could not extend file: No space left on device' using errcode = '53100'; end$$"
        )

        def fault():
            rig.query("create trigger full_disk before insert on ledger for each row execute function no_space()")
            time.sleep(full)
            rig.query("drop trigger full_disk on ledger")

        work = bench.under_load(rig, fault, before, after, clients=clients)
        if set(work.errors) - {"53100", "25P02", "40P01"}:
            bench.result.fail(f"other errors than the server's own: {dict(work.errors)}")


# --- the network


def relayed(bench, fault, before, during, after, clients, **args):
    with bench.rig() as rig:

        def disturb():
            rig.relay.fault("a", fault, **args)
            time.sleep(during)
            rig.relay.fault("a", "pass")

        return bench.under_load(rig, disturb, before, after, clients=clients)


@scenario(quick={"before": 1.0, "during": 0.3, "after": 1.5})
def reset(bench, before=3.0, during=1.0, after=4.0, clients=20):
    """all connections to the server are reset, and new ones, too, for a second"""
    relayed(bench, "reset", before, during, after, clients)


@scenario()
def half_close(bench, before=3.0, during=0.5, after=4.0, clients=20):
    """the server's side of all connections ends, while it goes on to read"""
    relayed(bench, "half_close", before, during, after, clients)


@scenario(quick={"before": 0.7, "during": 0.5, "after": 1.0, "count": 3})
def corrupt(bench, before=3.0, during=2.0, after=4.0, clients=20, count=30):
    """answers of the server begin with a byte that no message begins with"""
    relayed(bench, "corrupt", before, during, after, clients, count=count)


@scenario(quick={"before": 0.7, "during": 0.7, "after": 0.7})
def delay(bench, before=3.0, during=3.0, after=3.0, clients=20, seconds=0.1):
    """each packet takes 0.1 s longer"""
    work = relayed(bench, "delay", before, during, after, clients, seconds=seconds)
    if work.errors:
        bench.result.fail(f"errors: {dict(work.errors)}")


@scenario()
def throttle(bench, before=3.0, during=4.0, after=3.0, clients=20, rate=500):
    """500 bytes per second and connection"""
    work = relayed(bench, "throttle", before, during, after, clients, rate=rate)
    if work.errors:
        bench.result.fail(f"errors: {dict(work.errors)}")


@scenario()
def split(bench, before=3.0, during=10.0, after=5.0, clients=20):
    """the only server is cut off for ten seconds; what was connected comes back to life"""
    relayed(bench, "blackhole", before, during, after, clients)


@scenario()
def split_lost(bench, before=3.0, during=10.0, after=5.0, clients=20):
    """the only server is cut off for ten seconds; what was connected is then reset"""
    with bench.rig() as rig:

        def disturb():
            rig.relay.fault("a", "blackhole")
            time.sleep(during)
            rig.relay.fault("a", "pass", reset=True)

        bench.under_load(rig, disturb, before, after, clients=clients)


@scenario()
def blackhole_of_two(bench, before=3.0, during=15.0, after=4.0, clients=20, health_timeout=1, connect_timeout=2):
    """one of two endpoints becomes a black hole; both lead to one server"""
    limits = {"health_timeout": health_timeout, "health_interval": 1, "server_connect_timeout": connect_timeout}
    with bench.rig(twice=True, settings=limits, database="load_balance_hosts=round-robin") as rig:

        def fault():
            rig.relay.fault("b", "blackhole")
            time.sleep(during)
            rig.relay.fault("b", "pass", reset=True)

        work = bench.under_load(rig, fault, before, after, clients=clients)
        bench.result.fact(
            "blackhole of one of two: longest time that a client waited",
            work.longest_stall() * 1000,
            "ms",
            (health_timeout + connect_timeout) * 1000,
        )


@scenario(quick={"before": 0.5, "during": 4.0, "after": 3.0})
def storm(bench, before=2.0, during=30.0, after=8.0, clients=30, seed=1):
    """faults of all kinds at random, at two endpoints that lead to one server"""
    with bench.rig(twice=True, settings={"breaker_recovery_timeout": 0.2}) as rig:
        rng = random.Random(seed)

        def fault():
            end = time.monotonic() + during
            while time.monotonic() < end:
                kind = rng.choice(FAULTS + ("terminate",))
                if kind == "terminate":
                    rig.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
                else:
                    rig.relay.fault(rng.choice("ab"), kind, seconds=0.05, rate=2000, count=3, reset=rng.random() < 0.2)
                time.sleep(rng.random() * 0.6)
            for name in "ab":
                rig.relay.fault(name, "pass", reset=True)

        bench.under_load(rig, fault, before, after, clients=clients)


@scenario(quick={"before": 0.7, "rounds": 3, "after": 1.0})
def terminate_with_retry(bench, before=2.0, rounds=20, after=3.0, clients=20):
    """sessions are terminated again and again, and `retry` is `safe`"""
    with bench.rig(settings={"retry": "safe"}) as rig:

        def fault():
            for _ in range(rounds):
                rig.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
                time.sleep(0.2)

        bench.under_load(rig, fault, before, after, clients=clients)


@scenario(quick={"work": 1.0, "clients": 5})
def conflicts_with_retry(bench, work=5.0, clients=10):
    """each write also updates a row that all share, as repeatable read, and `retry` is `safe`"""
    with bench.rig(settings={"retry": "safe"}) as rig:
        for command in (
            "create table hot (n int)",
            "insert into hot values (0)",
            "grant all on hot to app",
            "alter database app set default_transaction_isolation = 'repeatable read'",
        ):
            rig.query(command)
        insert = "with h as (update hot set n = n + 1) insert into ledger values (%s, %s)"
        load = rig.workload(clients=clients, insert=insert)
        time.sleep(work)
        load.stop()
        bench.result.judge(load, rig.query)
        if rig.query("select n from hot") != rig.query("select count(*) from ledger"):
            bench.result.fail("the shared row and the ledger do not agree")


@scenario(quick={"before": 0.7, "rounds": 2, "after": 1.0})
def restart_of_the_pooler(bench, before=2.0, rounds=5, after=3.0, clients=30):
    """the pooler is restarted with -R again and again, right after all sessions with the server were terminated"""
    with bench.rig() as rig:

        def fault():
            for _ in range(rounds):
                rig.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
                rig.pooler.restart()

        bench.under_load(rig, fault, before, after, clients=clients, transaction_think=0.05)


# --- failover


def await_first_write(bench, work, accepts):
    """The figure of a promotion."""
    first = work.first_write_after(accepts)
    bench.result.fact(
        f"{bench.result.name}: from when the server takes writes until the first write",
        first * 1000 if first else None,
        "ms",
        1000,
    )


FAILOVER = {"standby": True, "database": "target_session_attrs=read-write"}


@scenario(quick={"before": 1.0, "after": 1.5})
def promote(bench, before=3.0, after=5.0, clients=20):
    """the primary is stopped and `pg_promote` called on its synchronous standby"""
    with bench.rig(**FAILOVER) as rig:
        accepts = []

        def fault():
            rig.stop_fast(rig.primary)
            rig.relay.fault("a", "refuse")
            accepts.append(rig.promote(rig.standby))
            return accepts[0]

        work = bench.under_load(rig, fault, before, after, node=1, clients=clients)
        await_first_write(bench, work, accepts[0])


@scenario()
def promote_after_crash(bench, before=3.0, noticed=2.0, after=5.0, clients=20):
    """`kill -9` of the primary, and two seconds later a promotion"""
    with bench.rig(**FAILOVER) as rig:
        accepts = []

        def fault():
            rig.primary.kill()
            rig.relay.fault("a", "refuse")
            time.sleep(noticed)
            accepts.append(rig.promote(rig.standby))
            return accepts[0]

        work = bench.under_load(rig, fault, before, after, node=1, clients=clients)
        await_first_write(bench, work, accepts[0])


@scenario(quick={"before": 1.0, "noticed": 0.5, "together": 0.1, "after": 1.0})
def promote_with_split(bench, before=3.0, noticed=2.0, together=5.0, after=3.0, clients=20):
    """the primary is cut off and its standby promoted; then the old primary is back, and takes writes, too

    It comes back when the pooler has let go of it: what it answers earlier than that nobody could tell from the truth.
    """
    with bench.rig(**FAILOVER) as rig:
        accepts = []

        def fault():
            rig.wait_probed()
            rig.relay.fault("a", "blackhole")
            time.sleep(noticed)
            accepts.append(rig.promote(rig.standby))
            time.sleep(together)
            procs.wait_until(lambda: not rig.servers_at("a"), "the old primary has been left", 20)
            rig.primary.sql("alter system set synchronous_standby_names = ''")
            rig.primary.sql("select pg_reload_conf()")
            rig.relay.fault("a", "pass")
            return accepts[0]

        work = bench.under_load(rig, fault, before, together + after, node=1, clients=clients)
        await_first_write(bench, work, accepts[0])


@scenario()
def demote(bench, before=3.0, after=5.0, clients=20):
    """a switchover: the standby is promoted, and the old primary comes back as its standby"""
    with bench.rig(**FAILOVER) as rig:
        accepts = []

        def fault():
            rig.stop_fast(rig.primary)
            accepts.append(rig.promote(rig.standby))
            rig.primary.set(synchronous_standby_names="")
            rig.primary.rejoin(rig.standby)
            return accepts[0]

        work = bench.under_load(rig, fault, before, after, node=1, clients=clients)
        await_first_write(bench, work, accepts[0])


@scenario()
def old_primary_returns(bench, before=3.0, away=2.0, after=5.0, clients=20):
    """the standby is promoted, and the old primary starts again as if nothing had happened, on its old timeline;
    then all sessions with the new one are terminated"""
    with bench.rig(**FAILOVER) as rig:
        accepts = []

        def fault():
            rig.stop_fast(rig.primary)
            accepts.append(rig.promote(rig.standby))
            time.sleep(away)
            rig.primary.set(synchronous_standby_names="")
            rig.primary.start()
            time.sleep(away)
            rig.standby.sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
            return accepts[0]

        work = bench.under_load(rig, fault, before, after, node=1, clients=clients)
        await_first_write(bench, work, accepts[0])


# --- figures


@scenario()
def thousand_waiting(bench, before=4.0, down=30.0, after=8.0, clients=1000, think=1.0, parallel=4):
    """the server is away for half a minute and comes back under 1000 clients that wait"""
    with bench.rig(settings={"server_login_concurrency": parallel}) as rig:

        def fault():
            rig.relay.fault("a", "refuse")
            rig.primary.stop(signal.SIGQUIT)
            time.sleep(down)
            rig.primary.start()
            rig.relay.clear("a")
            rig.relay.fault("a", "pass")

        work = bench.under_load(rig, fault, before, after, clients=clients, think=think)
        events = rig.relay.stats("a")["events"]
        result = bench.result
        result.fact(
            "1000 waiting: logins at once when the server returns", logins_at_once(events, "app/"), "", parallel
        )
        result.fact("1000 waiting: logins in all", sum(e == "ready" for _, e, _ in events), "")
        full = result.full_rate
        result.fact("1000 waiting: until the full rate", full * 1000 if full is not None else None, "ms", 3000)


@scenario()
def breaker_open(bench, before=1.0, attempts=2000, clients=5):
    """the server refuses connections, the breaker is open and clients are told so"""
    with bench.rig(settings={"breaker_open_action": "fail", "breaker_recovery_timeout": 30}) as rig:
        work = rig.workload(clients=clients)
        time.sleep(before)
        with rig.pooler.login("app", "app", timeout=60) as asker:
            asker.value("select 1")
            work.stop()
            rig.relay.fault("a", "refuse", reset=False)
            rig.stop_fast(rig.primary)
            procs.wait_until(lambda: refused(asker, "08006"), lambda: f"refusals, last {refused.last}", 20, 0.05)
            times = []
            for _ in range(attempts):
                begin = time.perf_counter()
                result = asker.query("select 1")
                times.append(time.perf_counter() - begin)
                if not result.error or result.error.code != "08006":
                    bench.result.fail(f"not refused by 08006: {result.error}")
                    break
        times.sort()
        fact = bench.result.fact
        fact("breaker open: refusal, median", statistics.median(times) * 1000, "ms", 1)
        fact("breaker open: refusal, 90th percentile", times[len(times) * 9 // 10] * 1000, "ms", 1)
        fact("breaker open: refusal, 99th percentile", times[len(times) * 99 // 100] * 1000, "ms")
        rig.primary.start()
        bench.result.judge(work, rig.query)


def refused(conn, code):
    """Is a query refused by this error, the client staying connected?"""
    refused.last = conn.query("select 1").error
    return refused.last is not None and refused.last.code == code


refused.last = None


@scenario(quick={"rounds": 1})
def query_timeout(bench, clients=10, rounds=5, timeout=0.5):
    """`query_timeout` of 0.5 s before statements that take long"""
    with bench.rig(settings={"query_timeout": timeout, "default_pool_size": clients + 2}) as rig:
        late, problems = [], []

        def ask():
            try:
                with rig.pooler.login("app", "app") as conn:
                    for _ in range(rounds):
                        begin = time.perf_counter()
                        error = conn.query("select pg_sleep(20)").error
                        late.append((time.perf_counter() - begin - timeout) * 1000)
                        if error is None or error.code != "57014":
                            problems.append(f"answered by {error}")
            except (Closed, AssertionError) as e:
                problems.append(str(e))

        work = rig.workload(clients=2)
        threads = [threading.Thread(target=ask) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        work.stop()
        opened = sum(event == "ready" and name.startswith("app/") for _, event, name in rig.relay.stats("a")["events"])
        fact = bench.result.fact
        fact("`query_timeout` fires late by, median", statistics.median(late) if late else None, "ms", 50)
        fact("`query_timeout` fires late by, at most", max(late, default=None), "ms", 50)
        fact(f"... of {len(late)} statements; servers that were opened for them all", opened, "", clients + 2)
        for problem in problems[:3]:
            bench.result.fail(f"query_timeout: {problem}")
        bench.result.judge(work, rig.query)
