#!/usr/bin/python3
"""
What a storm of logins does to those who are in, and what a login by TLS costs.

    make check TESTS= check_PROGRAMS=test/bench/storm
    PGSLUICE=./pgsluice PGBOUNCER=/usr/sbin/pgbouncer STORM=test/bench/storm /usr/bin/python3 test/bench/storm.py

storm      32 clients run SELECT 1, first alone, then while 2000 others log in with TLS and SCRAM and leave, over and
           over, with a lower priority (--nice); once with a login thread and once with login_threads = 0
reconnect  CPU time of the pooler for a login with TLS and SCRAM, with and without resumption of the session
tls        32 clients run SELECT 1 through TLS: CPU time of the pooler per transaction
bulk       one client reads 100 MB through TLS

Each figure is the median of the rounds, which alternate between the subjects.
"""
import argparse
import contextlib
import glob
import os
import resource
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
sys.dont_write_bytecode = True

from harness import certs  # noqa: E402
from harness import cluster as pg  # noqa: E402
from harness import pooler as pl  # noqa: E402
from harness import procs  # noqa: E402

USER, PASSWORD = "app", "apppw"
STORM = os.environ.get("STORM", "test/bench/storm")
ROWS = 500_000  # of 200 bytes


def cpu_seconds(pid):
    """User and system time of a process so far."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settings(pki, binary, args, **more):
    own = {} if "pgbouncer" in os.path.basename(binary) else {"threads": 1, "client_tls_session_cache": 20000}
    return {
        **pki.client_settings("allow"),
        "auth_type": "scram-sha-256",
        "pool_mode": "transaction",
        "default_pool_size": 20,
        "max_client_conn": args.clients + 1000,
        "listen_backlog": 4096,
        "log_connections": 0,
        "log_disconnections": 0,
        **own,
        **more,
    }


@contextlib.contextmanager
def running(binary, template, given):
    """A pooler of that program; its warnings about a storm are of no interest here."""
    os.environ["PGSLUICE"] = binary
    p = pl.Pooler({"app": template.dsn()}, settings=given, secrets={USER: PASSWORD, "admin": "adminpw"})
    p.start()
    try:
        yield p
    finally:
        p.proc.kill()
        p.proc.wait()


def pgbench(template, p, directory, seconds, sslmode="disable"):
    """Latencies of 32 clients in ms: (p50, p99, transactions per second)."""
    script, prefix = f"{directory}/select1.sql", f"{directory}/log"
    with open(script, "w") as f:
        f.write("SELECT 1;\n")
    for old in glob.glob(f"{prefix}.*"):
        os.unlink(old)
    command = [f"{template.bin}/pgbench", "-n", "-T", str(seconds), "-c", "32", "-j", "1", "-M", "simple", "-f", script]
    env = dict(os.environ, PGPASSWORD=PASSWORD, PGSSLMODE=sslmode)
    done = subprocess.run(
        command + ["-l", f"--log-prefix={prefix}", "-h", "127.0.0.1", "-p", str(p.port), "-U", USER, "app"],
        env=env,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0 and "aborted" not in done.stderr, done.stderr
    with open(glob.glob(f"{prefix}.*")[0]) as f:
        took = sorted(int(line.split()[2]) for line in f)
    return took[len(took) // 2] / 1000, took[len(took) * 99 // 100] / 1000, len(took) / seconds


def start_storm(p, clients, seconds, mode="tls", nice=19):
    args = [STORM, str(p.port), str(clients), str(seconds), USER, PASSWORD, "app", mode]
    return subprocess.Popen(["nice", "-n", str(nice)] + args, text=True, stdout=subprocess.PIPE)


def storm_result(process):
    out = process.communicate()[0]
    return dict(pair.split("=") for pair in out.split())


def median(rows, i):
    return statistics.median(row[i] for row in rows)


def measure_storm(args, template, pki, directory, binaries):
    subjects = [(f"{os.path.basename(b)}, login_threads {n}", b, {"login_threads": n}) for b in binaries[:1] for n in (1, 0)]
    subjects += [(os.path.basename(b), b, {}) for b in binaries[1:]]
    found = {name: ([], []) for name, _, _ in subjects}
    for _ in range(args.rounds):
        for name, binary, more in subjects:
            with running(binary, template, settings(pki, binary, args, **more)) as p:
                pgbench(template, p, directory, 1)
                found[name][0].append(pgbench(template, p, directory, args.seconds))
                process = start_storm(p, args.clients, args.seconds + 2, nice=args.nice)
                time.sleep(1)  # until it is at its height
                during = pgbench(template, p, directory, args.seconds)
                result = storm_result(process)
                found[name][1].append(during + (float(result["per_second"]), float(result["failures"])))
    print(f"\n{args.clients} clients log in with TLS and SCRAM, 32 run SELECT 1; ms\n")
    print("| pooler | p50 alone | p50 in the storm | p99 alone | p99 in the storm | p99, ratio | logins/s | failed |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, (alone, during) in found.items():
        ratio = statistics.median(d[1] / a[1] for a, d in zip(alone, during))
        print(
            f"| {name} | {median(alone, 0):.2f} | {median(during, 0):.2f} | {median(alone, 1):.2f} | "
            f"{median(during, 1):.2f} | {ratio:.2f} | {median(during, 3):.0f} | {median(during, 4):.0f} |",
            flush=True,
        )


def measure_reconnect(args, template, pki, binaries):
    found = {}
    for _ in range(args.rounds):
        for binary in binaries:
            with running(binary, template, settings(pki, binary, args)) as p:
                for mode in ("plain", "tls", "resume"):
                    storm_result(start_storm(p, 16, 1, mode, nice=0))
                    before = cpu_seconds(p.proc.pid)
                    result = storm_result(start_storm(p, 16, args.seconds, mode, nice=0))
                    took = (cpu_seconds(p.proc.pid) - before) / int(result["logins"]) * 1e6
                    share = int(result["resumed"]) / int(result["logins"])
                    found.setdefault((os.path.basename(binary), mode), []).append((took, share))
    print("\nA login with SCRAM, 16 clients that reconnect: CPU time of the pooler in microseconds\n")
    print("| pooler | TLS | CPU us per login | sessions resumed |")
    print("| --- | --- | ---: | ---: |")
    for (name, mode), rows in found.items():
        what = {"plain": "no", "tls": "full handshake", "resume": "resumed where the pooler allows it"}[mode]
        print(f"| {name} | {what} | {median(rows, 0):.0f} | {100 * median(rows, 1):.0f} % |", flush=True)


def measure_tls(args, template, pki, directory, binaries):
    found = {}
    for _ in range(args.rounds):
        for binary in binaries:
            with running(binary, template, settings(pki, binary, args)) as p:
                pgbench(template, p, directory, 1, "require")
                before = cpu_seconds(p.proc.pid)
                row = pgbench(template, p, directory, args.seconds, "require")
                took = (cpu_seconds(p.proc.pid) - before) / (row[2] * args.seconds) * 1e6
                found.setdefault(os.path.basename(binary), []).append(row + (took,))
    print("\n32 clients run SELECT 1 through TLS\n\n| pooler | tps | CPU us/tx | p50 ms | p99 ms |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, rows in found.items():
        print(
            f"| {name} | {median(rows, 2):.0f} | {median(rows, 3):.2f} | {median(rows, 0):.2f} | {median(rows, 1):.2f} |",
            flush=True,
        )


def measure_bulk(args, template, pki, binaries):
    found = {}
    env = dict(os.environ, PGPASSWORD=PASSWORD, PGSSLMODE="require")
    query = f"COPY (SELECT repeat('x', 199) FROM generate_series(1, {ROWS})) TO STDOUT"
    for _ in range(args.rounds):
        for binary in binaries:
            with running(binary, template, settings(pki, binary, args)) as p:
                command = [f"{template.bin}/psql", "-h", "127.0.0.1", "-p", str(p.port), "-U", USER, "-qc"]
                subprocess.run(command + ["select 1", "app"], env=env, check=True, stdout=subprocess.DEVNULL)
                cpu, begin = cpu_seconds(p.proc.pid), time.monotonic()
                subprocess.run(command + [query, "app"], env=env, check=True, stdout=subprocess.DEVNULL)
                took = time.monotonic() - begin
                megabytes = ROWS * 200 / 1e6
                row = megabytes / took, (cpu_seconds(p.proc.pid) - cpu) / megabytes * 1e6
                found.setdefault(os.path.basename(binary), []).append(row)
    print("\n100 MB of COPY through TLS\n\n| pooler | MB/s | CPU ms per GB |\n| --- | ---: | ---: |")
    for name, rows in found.items():
        print(f"| {name} | {median(rows, 0):.0f} | {median(rows, 1):.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["storm", "reconnect", "tls", "bulk"], help="one or more")
    parser.add_argument("--clients", type=int, default=2000, help="in the storm")
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nice", type=int, default=19, help="priority of those who storm: the lower, the more they do")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    binaries = [b for b in (os.environ.get("PGSLUICE"), os.environ.get("PGBOUNCER")) if b]
    template, pki, directory = pg.Cluster(), certs.Pki(), procs.make_dir("sluicestorm-")
    template.start()
    template.create_objects()
    try:
        if "storm" in args.what:
            measure_storm(args, template, pki, directory, binaries)
        if "reconnect" in args.what:
            measure_reconnect(args, template, pki, binaries)
        if "tls" in args.what:
            measure_tls(args, template, pki, directory, binaries)
        if "bulk" in args.what:
            measure_bulk(args, template, pki, binaries)
    finally:
        template.remove()
        pki.remove()


if __name__ == "__main__":
    main()
