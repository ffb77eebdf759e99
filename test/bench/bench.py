#!/usr/bin/env python3
"""Measures pgsluice beside a direct connection, a byte relay and PgBouncer: same machine, same run, interleaved rounds.

    test/bench/bench.py [--pgsluice PATH] [--workloads LIST] [--subjects LIST] [--seconds N] [--rounds N] [--json FILE]

Subjects: direct (no pooler), relay (test/bench/relay.c, the floor), pgbouncer (when installed), pgsluice-1 and
pgsluice-2 (with that many worker threads). PgBouncer and pgsluice read the same settings.

Workloads: simple extended prepared txn one many bulk idle reconnect reconnect-scram; --help-workloads explains them.

Every round runs each subject once, in an order that rotates from round to round; the figures are medians over the
rounds. CPU is user and system time of all threads of the pooler, from /proc. Latencies come from pgbench's log of
single transactions. It makes its own PostgreSQL in a directory below $TMPDIR and removes it; as root it runs all
servers as the user postgres. doc/benchmark.md says how to read the result.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import pwd
import re
import resource
import shlex
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
USER = "bench"
PASSWORD = "benchpw"
POOL_SIZE = 20
SERVERS_USER = "postgres"
TICKS = os.sysconf("SC_CLK_TCK")
QUIET = dict(stdin=subprocess.DEVNULL, text=True, capture_output=True)


class Failure(Exception):
    """Something that ends one measurement, or the whole run when nothing is measured yet."""


# --- the machine


def find_program(name):
    """A program of PostgreSQL: the newest server's, else one in PATH."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: float(p.parts[-3]))
    path = str(found[-1]) if found else shutil.which(name)
    if not path:
        raise Failure(f"{name} is not installed; contrib/packages.sh bench installs what is needed")
    return path


def as_ordinary_user(command):
    """The command, run as an ordinary user when we are root; servers refuse to run as root."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", f"--reuid={SERVERS_USER}", f"--regid={SERVERS_USER}", "--clear-groups", "--", *command]


def run(command, **kw):
    done = subprocess.run(command, **{**QUIET, **kw})
    if done.returncode:
        said = (done.stderr or done.stdout or "").strip().splitlines()
        raise Failure(f"{pathlib.Path(command[0]).name} ended with {done.returncode}: {said[-1] if said else ''}")
    return done.stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def describe_machine(subjects):
    cpu = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    facts = {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "postgresql": run([find_program("postgres"), "--version"]).strip(),
    }
    for subject in subjects:
        if subject.binary and subject.kind != "relay":
            facts[subject.kind] = run([subject.binary, "--version"]).splitlines()[0]
    return facts


class Postgres:
    """A throw-away server, tuned to be no bottleneck: nothing is synced to disk."""

    def __init__(self, directory):
        self.dir, self.port, self.data = directory, free_port(), f"{directory}/data"

    def env(self):
        return dict(os.environ, PGHOST="127.0.0.1", PGPORT=str(self.port), PGUSER="postgres", PGDATABASE="postgres")

    def start(self):
        initdb = [find_program("initdb"), "-D", self.data, "-A", "trust", "-U", "postgres", "--no-sync"]
        run(as_ordinary_user(initdb), cwd=self.dir)
        settings = dict(port=self.port, listen_addresses="'127.0.0.1'", unix_socket_directories="''",
                        max_connections=600, shared_buffers="512MB", fsync="off", synchronous_commit="off",
                        full_page_writes="off", autovacuum="off", jit="off", log_min_messages="fatal")
        with open(f"{self.data}/postgresql.conf", "a", encoding="ascii") as conf:
            conf.writelines(f"{key} = {value}\n" for key, value in settings.items())
        run(as_ordinary_user([find_program("pg_ctl"), "-D", self.data, "-w", "-l", f"{self.dir}/pg.log", "start"]),
            cwd=self.dir, capture_output=False, stdout=subprocess.DEVNULL)
        psql = find_program("psql")
        run([psql, "-Xqc", f"create role {USER} superuser login password '{PASSWORD}'"], env=self.env())
        run([psql, "-Xqc", f"create database {USER}"], env=self.env())
        run([find_program("pgbench"), "-i", "-q", "-s", "10", USER], env=self.env())

    def stop(self):
        pg_ctl = [find_program("pg_ctl"), "-D", self.data, "-m", "immediate", "stop"]
        subprocess.run(as_ordinary_user(pg_ctl), cwd=self.dir, **QUIET)


# --- what is measured


def knows_prepared_statements(subject):
    """PgBouncer carries prepared statements across servers since 1.21; the setting is unknown to older ones."""
    found = re.search(r"PgBouncer (\d+)\.(\d+)", run([subject.binary, "--version"]))
    return not found or tuple(map(int, found.groups())) >= (1, 21)


@dataclasses.dataclass
class Subject:
    """What clients talk to. A direct connection is a subject without a process."""

    name: str
    kind: str
    binary: str = None
    threads: int = None
    process: subprocess.Popen = None
    port: int = 0

    def write_ini(self, directory, postgres, auth):
        own = pathlib.Path(directory, self.name)
        own.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(own, SERVERS_USER)
        (own / "users.txt").write_text(f'"{USER}" "{PASSWORD}"\n')
        settings = dict(listen_addr="127.0.0.1", listen_port=self.port, unix_socket_dir="", auth_type=auth,
                        auth_file=own / "users.txt", pool_mode="transaction", default_pool_size=POOL_SIZE,
                        max_client_conn=15000, log_connections=0, log_disconnections=0, logfile=own / "log",
                        pidfile=own / "pid")
        if knows_prepared_statements(self):
            settings["max_prepared_statements"] = 200
        if self.threads:
            settings["threads"] = self.threads
        lines = ["[databases]", f"{USER} = host=127.0.0.1 port={postgres.port} dbname={USER}", "[pgbouncer]"]
        lines += [f"{key} = {value}" for key, value in settings.items()]
        (own / "pooler.ini").write_text("\n".join(lines) + "\n")
        return str(own / "pooler.ini")

    def start(self, directory, postgres, auth="trust"):
        if self.kind == "direct":
            self.port = postgres.port
            return
        self.port = free_port()
        if self.kind == "relay":
            command = [self.binary, str(self.port), str(postgres.port)]
        else:
            command = [self.binary, self.write_ini(directory, postgres, auth)]
        log = f"{directory}/{self.name}.out"
        with open(log, "w", encoding="utf-8") as out:
            self.process = subprocess.Popen(as_ordinary_user(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            cwd=directory)
        for _ in range(200):
            if self.process.poll() is not None:
                raise Failure(f"{self.name} ended: {pathlib.Path(log).read_text(errors='replace').strip()[-300:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                return
            time.sleep(0.05)
        raise Failure(f"{self.name} does not listen")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT if self.kind != "relay" else signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def cpu_seconds(self):
        if not self.process:
            return 0.0
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:15])) / TICKS

    def pss_bytes(self):
        rollup = pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Pss:\s+(\d+)", rollup, re.M)[1]) * 1024

    def env(self):
        return dict(os.environ, PGHOST="127.0.0.1", PGPORT=str(self.port), PGUSER=USER, PGPASSWORD=PASSWORD,
                    PGDATABASE=USER, PGSSLMODE="disable", PGGSSENCMODE="disable")


@dataclasses.dataclass
class Workload:
    """What the clients do. `measure` returns the figures of one round; see COLUMNS for their names."""

    name: str
    help: str
    measure: object
    auth: str = "trust"
    without: tuple = ()
    rounds: int = None


def pgbench_workload(options, script=None):
    """A measure function: pgbench with these options, its script written on first use."""

    def measure(subject, directory, seconds, _args):
        command = [find_program("pgbench"), "-n", "-T", str(seconds), *shlex.split(options)]
        if script:
            path = pathlib.Path(directory, "script.sql")
            path.write_text(script)
            command += ["-f", str(path)]
        for old in pathlib.Path(directory).glob("latency.*"):
            old.unlink()
        before = subject.cpu_seconds()
        done = subprocess.run(command + ["-l", f"--log-prefix={directory}/latency"], env=subject.env(),
                              timeout=seconds * 6 + 60, **QUIET)
        cpu = subject.cpu_seconds() - before
        count = re.search(r"number of transactions actually processed: (\d+)", done.stdout)
        if done.returncode or "aborted" in done.stderr or not count or not int(count[1]):
            said = done.stderr.splitlines() or ["no output"]
            raise Failure(next((line for line in said if "error" in line), said[0])[:160])
        micros = sorted(int(line.split()[2]) for log in pathlib.Path(directory).glob("latency.*") for line in open(log)
                        if line.split()[2].isdigit())
        return {
            "rate": float(re.findall(r"tps = ([\d.]+)", done.stdout)[-1]),
            "cpu": cpu / int(count[1]) * 1e6 if subject.process else None,
            "p50": micros[len(micros) // 2] / 1000,
            "p99": micros[min(len(micros) - 1, len(micros) * 99 // 100)] / 1000,
            "max": micros[-1] / 1000,
        }

    return measure


def measure_bulk(subject, _directory, _seconds, args):
    """COPY to one client: megabytes per second, and milliseconds of CPU per gigabyte."""
    rows = args.bulk_mb * 1000000 // 200
    copy = f"copy (select repeat('x', 199) from generate_series(1, {rows})) to stdout"
    cpu, began = subject.cpu_seconds(), time.monotonic()
    run([find_program("psql"), "-Xqc", copy], env=subject.env(), capture_output=False, stdout=subprocess.DEVNULL)
    taken = time.monotonic() - began
    cpu = subject.cpu_seconds() - cpu
    return {"rate": args.bulk_mb / taken, "cpu": cpu / args.bulk_mb * 1e6 if subject.process else None}


class RawClient:
    """As little client as one needs to log in without a password and run one query."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        words = f"user {USER} database {USER} application_name idle client_encoding UTF8 ".encode().replace(b" ", b"\0")
        self.socket.sendall(struct.pack("!II", len(words) + 9, 3 << 16) + words + b"\0")
        self.wait_ready()
        self.socket.sendall(b"Q" + struct.pack("!I", 13) + b"SELECT 1\0")
        self.wait_ready()

    def wait_ready(self):
        seen = b""
        while seen[-6:-1] != b"Z\0\0\0\5":
            more = self.socket.recv(8192)
            if not more:
                raise Failure(f"closed by the pooler: {seen[-100:]!r}")
            seen += more


def measure_idle(subject, _directory, _seconds, args):
    """Memory per client that is logged in and has run one query."""
    clients = []
    time.sleep(0.5)
    before = subject.pss_bytes()
    try:
        for _ in range(args.idle_clients):
            clients.append(RawClient(subject.port))
        time.sleep(1)
        return {"bytes": (subject.pss_bytes() - before) / args.idle_clients, "base": before / 1024}
    finally:
        for client in clients:
            client.socket.close()


SELECT_1 = "SELECT 1;\n"
TRANSACTION = ("\\set aid random(1, 1000000)\nBEGIN;\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n"
               "SELECT 1;\nEND;\n")

WORKLOADS = [
    Workload("simple", "32 clients, SELECT 1 by the simple protocol",
             pgbench_workload("-c 32 -j 1 -M simple", SELECT_1)),
    Workload("extended", "32 clients, one row by key, extended protocol, unnamed statements",
             pgbench_workload("-c 32 -j 1 -M extended -S")),
    Workload("prepared", "32 clients, one row by key, named prepared statements",
             pgbench_workload("-c 32 -j 1 -M prepared -S")),
    Workload("txn", "32 clients, a transaction of four statements",
             pgbench_workload("-c 32 -j 1 -M simple", TRANSACTION)),
    Workload("one", "1 client, SELECT 1: what the pooler adds to the latency",
             pgbench_workload("-c 1 -j 1 -M simple", SELECT_1)),
    Workload("many", f"1000 clients on {POOL_SIZE} servers, SELECT 1: everybody waits for a server",
             pgbench_workload("-c 1000 -j 1 -M simple", SELECT_1), without=("direct", "relay")),
    Workload("reconnect", "16 clients that log in for every SELECT 1, without a password",
             pgbench_workload("-C -c 16 -j 1 -M simple", SELECT_1)),
    Workload("reconnect-scram", "the same with SCRAM-SHA-256 between client and pooler",
             pgbench_workload("-C -c 16 -j 1 -M simple", SELECT_1), auth="scram-sha-256", without=("direct", "relay")),
    Workload("bulk", "one client reads a large COPY", measure_bulk),
    Workload("idle", "memory per idle client", measure_idle, without=("direct", "relay"), rounds=1),
]

# Key, title, digits; the titles of bulk differ.
COLUMNS = [("rate", "tps", 0), ("cpu", "CPU µs/tx", 2), ("p50", "p50 ms", 2), ("p99", "p99 ms", 2), ("max", "max ms", 1)]
BULK_COLUMNS = [("rate", "MB/s", 0), ("cpu", "CPU ms/GB", 0)]
IDLE_COLUMNS = [("bytes", "bytes/client", 0), ("base", "KiB before", 0)]


def columns_of(workload):
    return {"bulk": BULK_COLUMNS, "idle": IDLE_COLUMNS}.get(workload, COLUMNS)


# --- measuring and showing


def progress(text):
    print(text, file=sys.stderr, flush=True)


def measure_workload(workload, subjects, directory, postgres, args):
    """{subject: {"rounds": [...], "error": text or None}}; a subject that fails once is left alone from then on."""
    results = {s.name: {"rounds": [], "error": None} for s in subjects if s.kind not in workload.without}
    running = []
    try:
        for subject in (s for s in subjects if s.name in results):
            try:
                subject.start(directory, postgres, workload.auth)
                running.append(subject)
                if workload.measure not in (measure_bulk, measure_idle):
                    workload.measure(subject, directory, 1, args)  # fills the pool and the caches
            except (Failure, OSError, subprocess.SubprocessError) as error:
                results[subject.name]["error"] = str(error)
        for number in range(workload.rounds or args.rounds):
            turn = number % len(running) if running else 0
            for subject in running[turn:] + running[:turn]:
                result = results[subject.name]
                if result["error"]:
                    continue
                try:
                    result["rounds"].append(workload.measure(subject, directory, args.seconds, args))
                except (Failure, OSError, subprocess.SubprocessError) as error:
                    result["error"] = str(error)
                progress(f"  {workload.name} round {number + 1} {subject.name}: " + show_round(result))
    finally:
        for subject in running:
            subject.stop()
    return results


def show_round(result):
    if result["error"]:
        return result["error"]
    return " ".join(f"{key}={value:.2f}" for key, value in result["rounds"][-1].items() if value is not None)


def median(result, key):
    values = [r[key] for r in result["rounds"] if r.get(key) is not None]
    return statistics.median(values) if values else None


def table_of(workload, results):
    """Rows of text, the head first. Ratios are against PgBouncer where it was measured."""
    columns = columns_of(workload)
    ratio_keys = [(key, title) for key, title, _ in columns if key in ("rate", "cpu", "p99", "bytes")]
    reference = results.get("pgbouncer", {"rounds": []})
    ratio_titles = [title.split()[0] + " x" for _, title in ratio_keys]
    rows = [["subject"] + [title for _, title, _ in columns] + ratio_titles]
    for name, result in results.items():
        if result["error"]:
            rows.append([name, "failed: " + result["error"].replace("|", "/")])
            continue
        row = [name]
        for key, _, digits in columns:
            value = median(result, key)
            row.append("-" if value is None else f"{value:.{digits}f}")
        for key, _ in ratio_keys:
            mine, theirs = median(result, key), median(reference, key)
            row.append(f"{mine / theirs:.2f}" if mine is not None and theirs else "-")
        rows.append(row)
    return rows


def as_text(rows):
    width = len(rows[0])
    widths = [max(len(row[i]) for row in rows if len(row) == width) for i in range(width)]
    widths[0] = max(len(row[0]) for row in rows)
    lines = []
    for row in rows:
        if len(row) < width:
            lines.append(f"  {row[0]:<{widths[0]}}  {row[1]}")
        else:
            cells = [f"{row[0]:<{widths[0]}}"] + [f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:])]
            lines.append("  " + "  ".join(cells))
    return "\n".join(lines)


def as_markdown(rows):
    width = len(rows[0])
    lines = ["| " + " | ".join(row + [""] * (width - len(row))) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" + " ---: |" * (width - 1)] + lines[1:])


def markdown_report(report):
    facts = "\n".join(f"- {key}: {value}" for key, value in report["machine"].items())
    parts = [facts, "- {rounds} rounds of {seconds} s, medians".format(**report["settings"])]
    for workload in WORKLOADS:
        if workload.name in report["results"]:
            table = as_markdown(table_of(workload.name, report["results"][workload.name]))
            parts.append(f"\n### {workload.name}: {workload.help}\n\n{table}")
    return "\n".join(parts) + "\n"


# --- the run


def build_relay(directory):
    path = f"{directory}/relay"
    source = (HERE / "relay.c").read_text().replace('#include "config.h"', "#define _GNU_SOURCE 1")
    run(["cc", "-O2", "-std=gnu11", "-x", "c", "-", "-o", path], stdin=None, input=source)
    return path


def find_pgsluice(named):
    places = [named] if named else [TOP / "build/quickstart/pgsluice", pathlib.Path("pgsluice").resolve()]
    for path in places:
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return str(path)
    raise Failure("no pgsluice at " + " or ".join(map(str, places)) + "; name one with --pgsluice")


def readable_copy(binary, directory):
    """The servers' user may not be able to reach the build."""
    target = f"{directory}/{pathlib.Path(binary).name}"
    shutil.copyfile(binary, target)
    os.chmod(target, 0o755)
    return target


def choose_subjects(args, directory):
    wanted = args.subjects.split(",")
    subjects = []
    for name in wanted:
        kind = name.split("-")[0]
        if kind == "direct":
            subjects.append(Subject(name, kind))
        elif kind == "relay":
            subjects.append(Subject(name, kind, build_relay(directory)))
        elif kind == "pgbouncer":
            binary = args.pgbouncer or shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin")
            if binary:
                subjects.append(Subject(name, kind, binary))
            else:
                progress("no PgBouncer here; leaving it out")
        elif re.fullmatch(r"pgsluice-\d+", name):
            binary = readable_copy(find_pgsluice(args.pgsluice), directory)
            subjects.append(Subject(name, kind, binary, int(name.split("-")[1])))
        else:
            raise Failure(f"no subject '{name}'; there are direct, relay, pgbouncer and pgsluice-N with N threads")
    return subjects


def choose_workloads(names):
    known = {w.name: w for w in WORKLOADS}
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        raise Failure(f"no workload '{unknown[0]}'; there are {' '.join(known)}")
    return [known[name] for name in names.split(",")]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pgsluice", help="the program; build/quickstart/pgsluice or ./pgsluice unless named")
    parser.add_argument("--pgbouncer", help="the program; from PATH unless named")
    parser.add_argument("--subjects", default="direct,relay,pgbouncer,pgsluice-1,pgsluice-2")
    parser.add_argument("--workloads", default=",".join(w.name for w in WORKLOADS))
    parser.add_argument("--seconds", type=int, default=4, help="length of one measurement (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of which the median counts (default 3)")
    parser.add_argument("--idle-clients", type=int, default=4000)
    parser.add_argument("--bulk-mb", type=int, default=400)
    parser.add_argument("--json", help="write every round to this file")
    parser.add_argument("--markdown", help="write the tables to this file, as in doc/benchmark.md")
    parser.add_argument("--help-workloads", action="store_true", help="say what the workloads do")
    return parser.parse_args()


def raise_file_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 20000 if hard == resource.RLIM_INFINITY else min(20000, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def bench(args, directory):
    workloads, subjects = choose_workloads(args.workloads), choose_subjects(args, directory)
    settings = {"rounds": args.rounds, "seconds": args.seconds}
    report = {"machine": describe_machine(subjects), "settings": settings, "results": {}}
    postgres = Postgres(directory)
    try:
        postgres.start()
        for workload in workloads:
            results = measure_workload(workload, subjects, directory, postgres, args)
            report["results"][workload.name] = results
            print(f"\n{workload.name}: {workload.help}\n{as_text(table_of(workload.name, results))}", flush=True)
    finally:
        postgres.stop()
        if args.json:
            pathlib.Path(args.json).write_text(json.dumps(report, indent=1) + "\n")
        if args.markdown:
            pathlib.Path(args.markdown).write_text(markdown_report(report))
    return any(result["rounds"] for results in report["results"].values() for result in results.values())


def main():
    args = parse_arguments()
    if args.help_workloads:
        print("\n".join(f"{w.name:16} {w.help}" for w in WORKLOADS))
        return 0
    raise_file_limit()
    try:
        with tempfile.TemporaryDirectory(prefix="pgsluice-bench-") as directory:
            os.chmod(directory, 0o755)
            if os.geteuid() == 0:
                shutil.chown(directory, pwd.getpwnam(SERVERS_USER).pw_uid)
            return 0 if bench(args, directory) else 1
    except Failure as failure:
        print(f"bench.py: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
