#!/usr/bin/python3
"""
What prepared statements take of the pooler's memory.

Each of many clients prepares the same texts under names of its own, and each of the servers is given all of them.
Printed is the resident memory of the pooler before, with the statements on all servers, and with the names of all
clients; then the same under a limit (prepared_statement_memory), which has to hold.

    PGSLUICE=./pgsluice /usr/bin/python3 test/bench/statements.py --clients 1000 --statements 1000 --servers 20
"""
import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
sys.dont_write_bytecode = True

from harness import cluster as pg  # noqa: E402
from harness import pooler as pl  # noqa: E402
from harness import procs, wire  # noqa: E402

TEXT = (
    "select account_id, owner_name, balance, {} as tag from accounts_of_the_bank where branch_id = $1 and balance > $2"
)
MIB = 1 << 20


def store(p):
    """Rows of SHOW MEM about statements: {name: bytes}."""
    rows = p.show("mem")
    return {r["name"]: r["memtotal"] for r in rows if "statement" in r["name"] or "prep" in r["name"]}


def say(p, what, before):
    rss = procs.rss_kib(p.proc.pid) * 1024
    print(f"{what:44} {rss / MIB:8.1f} MiB  {(rss - before) / MIB:+8.1f}   {store(p)}", flush=True)
    return rss


def prepare_all(conn, count, prefix):
    """All texts in one batch; returns how many were taken, and the first error."""
    conn.send(*(wire.parse(f"{prefix}_{i}", TEXT.format(i)) for i in range(count)), wire.SYNC)
    result = conn.read_ready()
    return result.types.count("1"), result.error


def fill_servers(p, args):
    """A transaction on each of the servers, in which all texts are parsed there, and one bound."""
    conns = [p.login("app", "app", timeout=600) for _ in range(args.servers)]
    for c in conns:
        c.query("begin")
    for i, c in enumerate(conns):
        taken, error = prepare_all(c, args.statements, f"server{i}")
        assert error is None or error.code == "53400", error.fields
    for c in conns:
        c.query("commit")
    return conns


def measure(args, template, limit):
    settings = {
        "pool_mode": "transaction",
        "max_client_conn": args.clients + args.servers + 100,
        "default_pool_size": args.servers,
        "max_prepared_statements": args.statements,
        "log_connections": 0,
        "log_disconnections": 0,
        "prepared_statement_memory": limit,
    }
    p = pl.Pooler({"app": template.dsn()}, settings=settings, profile="pgsluice")
    p.start()
    try:
        print(f"prepared_statement_memory {limit}")
        clients = [p.login("app", "app", timeout=600) for _ in range(args.clients)]
        for c in clients:
            c.query("select 1")
        rss = before = say(p, f"{args.clients} clients, no statements", 0)
        holders = fill_servers(p, args)
        rss = say(p, f"{args.statements} statements on {len(p.show('servers'))} servers", rss)
        taken, refused = 0, 0
        for i, c in enumerate(clients):
            n, error = prepare_all(c, args.statements, f"client{i}")
            taken, refused = taken + n, refused + (error is not None)
        rss = say(p, f"{taken} names; {refused} clients were refused some", rss)
        total = sum(store(p).values())
        print(f"all statements and names: {(rss - before) / MIB:.1f} MiB resident\n")
        assert refused or taken == args.clients * args.statements
        assert refused == 0 or total <= 2 * limit, (total, limit)
        del holders
    finally:
        p.finish()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--statements", type=int, default=1000)
    parser.add_argument("--servers", type=int, default=20)
    parser.add_argument("--limit", type=int, default=16 * MIB, help="the second run's, in bytes")
    args = parser.parse_args()
    template = pg.Cluster()
    template.start()
    template.create_objects()
    with template.connect("app") as c:
        c.execute("create table accounts_of_the_bank (branch_id int, account_id int, owner_name text, balance int)")
    try:
        measure(args, template, 256 * MIB)
        measure(args, template, args.limit)
    finally:
        template.remove()


if __name__ == "__main__":
    main()
