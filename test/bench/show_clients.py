#!/usr/bin/python3
"""
What SHOW CLIENTS costs those who are served meanwhile.

10000 clients sit idle on a pooler while pgbench keeps it busy; in each odd second somebody asks SHOW CLIENTS, in the
even ones nobody does. Printed are the medians, over the seconds of either kind, of the percentiles of the latencies in
one second: so what else the machine does, which is mostly the same for both, does not count.

    PGSLUICE=./pgsluice /usr/bin/python3 test/bench/show_clients.py --rate 3000 --seconds 120
"""
import argparse
import glob
import math
import os
import socket
import statistics
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
sys.dont_write_bytecode = True

from harness import cluster as pg  # noqa: E402
from harness import pooler as pl  # noqa: E402
from harness import procs, wire  # noqa: E402

READY = wire.pack("Z", b"I")


def idle_clients(port, count):
    """Connections that say hello and nothing more."""
    packet = wire.startup_packet([("user", "app"), ("database", "app"), ("application_name", "idle")])
    socks = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(packet)
        data = b""
        while not data.endswith(READY):
            data += sock.recv(4096)
        socks.append(sock)
    return socks


def ask(p, command, begin, seconds, took):
    """A monitoring tool that asks at the beginning of each odd second, reads fast and looks at nothing."""
    with wire.Conn.tcp(p.port, timeout=60) as c:
        c.login("admin", "pgbouncer", "adminpw")
        for second in range(1, seconds, 2):
            time.sleep(max(0, begin + second + 0.1 - time.time()))
            start, size, tail = time.monotonic(), 0, b""
            c.send(wire.query(command))
            while not tail.endswith(READY):
                data = c.sock.recv(1 << 20)
                size, tail = size + len(data), (tail + data)[-len(READY) :]
            took.append((size, time.monotonic() - start))


def pgbench(p, script, args, seconds):
    """(end of the transaction in seconds since the epoch, latency in microseconds) of all transactions."""
    prefix = f"{p.dir}/latency"
    for old in glob.glob(prefix + "*"):
        os.unlink(old)
    cmd = [f"{pg.bindir()}/pgbench", "-n", "-h", "127.0.0.1", "-p", str(p.port), "-U", "app", "-f", script]
    cmd += ["-c", str(args.clients), "-j", "1", "-T", str(seconds), "-l", "--log-prefix", prefix]
    procs.run(cmd + (["-R", str(args.rate)] if args.rate else []) + ["app"], timeout=seconds + 60)
    out = []
    for path in glob.glob(prefix + "*"):
        with open(path) as f:
            for line in f:
                words = line.split()
                out.append((int(words[4]) + int(words[5]) / 1e6, int(words[2])))
    return out


def percentile(latencies, q):
    latencies = sorted(latencies)
    return latencies[min(len(latencies) - 1, int(len(latencies) * q))]


def report(args, begin, transactions, took):
    """Percentiles of each second, and their medians over the odd and over the even ones."""
    seconds = {}
    for end, latency in transactions:
        seconds.setdefault(int(end - begin), []).append(latency)
    whole = [n for n in seconds if 1 <= n < args.seconds]
    p99 = {}
    for odd in (0, 1):
        mine = [seconds[n] for n in whole if n % 2 == odd]
        row = [statistics.median(percentile(s, q) for s in mine) for q in (0.5, 0.99, 0.999)]
        p99[odd] = row[1]
        print(f"{args.command if odd else 'nothing':13} p50 {row[0]:6.0f} us  p99 {row[1]:6.0f} us  p99.9 {row[2]:6.0f} us"
              f"  {statistics.mean(len(s) for s in mine):6.0f}/s")
    print(f"p99 moves by {100 * (p99[1] / p99[0] - 1):+.1f} %; an answer has {took[-1][0]} bytes and takes "
          f"{statistics.median(t for _, t in took) * 1000:.0f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle", type=int, default=10000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rate", type=int, default=0, help="transactions per second; 0: as many as possible")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--command", default="SHOW CLIENTS")
    args = parser.parse_args()
    template = pg.Cluster()
    template.start()
    template.create_objects()
    settings = {"pool_mode": "transaction", "max_client_conn": args.idle + 100, "log_connections": 0}
    p = pl.Pooler({"app": template.dsn()}, settings={**settings, "log_disconnections": 0}, threads=args.threads)
    p.start()
    try:
        script = f"{p.dir}/one.sql"
        p.write(script, "select 1;\n")
        socks, took, begin = idle_clients(p.port, args.idle), [], math.ceil(time.time() + 1)
        asker = threading.Thread(target=ask, args=(p, args.command, begin, args.seconds, took))
        asker.start()
        transactions = pgbench(p, script, args, args.seconds + 3)
        asker.join()
        report(args, begin, transactions, took)
        del socks
    finally:
        p.finish()
        template.remove()


if __name__ == "__main__":
    main()
