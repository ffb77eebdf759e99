#!/usr/bin/env python3
"""Runs real client drivers through the pooler and says which of them work; test/drivers/README.md has the convention.

    test/drivers/run.py --pooler PATH [options]

Order of a run: PostgreSQL is started once. For each driver its directory is copied and built, then the program runs in
each of its modes directly on PostgreSQL (the reference), and in each mode through a pooler of 1 and of 3 servers that
is started for this driver. Everything runs as an ordinary user. What a program did not print, because it hung or died,
counts as failed; a hang is shown with what the pooler's console and PostgreSQL say about it.

The exit status is 0 when every step that works directly works through the pooler, too; the last line counts the steps.
"""

import argparse
import collections
import configparser
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path.insert(0, str(TOP / "test" / "integration"))
sys.dont_write_bytecode = True

import report  # noqa: E402
from harness import procs  # noqa: E402

STEPS = (
    "types nulls large error error_in_transaction transaction savepoint copy cancel reuse ddl deallocate many "
    "parameters reconnect pipeline tagged"
).split()
MODES = ("default", "prepared", "pipeline")  # what a driver has besides them is described in its driver.ini
USER, PASSWORD, DATABASE = "drv", "drvpw", "drv"
LINE = re.compile(r"^(ok|FAIL|skip) (\w+)(?::\s*(.*))?$")
BROKEN = re.compile(r"assertion failed|\w+Sanitizer:|runtime error:", re.I)
CLIENT_LIMIT_S = 300

Verdict = collections.namedtuple("Verdict", "word text")


class Driver:
    """A directory below test/drivers: what driver.ini says about the program in it."""

    def __init__(self, path):
        ini = configparser.ConfigParser(interpolation=None)
        ini.read_string((path / "driver.ini").read_text())
        row = ini["driver"]
        self.name, self.path, self.what = path.name, path, row["what"]
        self.apt, self.npm = row.get("apt", "").split(), row.getboolean("npm", False)
        self.build, self.command = row.get("build"), row["run"]
        self.modes = row.get("modes", "default").split()
        self.is_quick = row.getboolean("ci", False)
        self.limit_s = row.getint("timeout", CLIENT_LIMIT_S)
        self.dir = None
        self.own_modes = dict(ini["modes"]) if "modes" in ini else {}
        unknown = set(self.modes) - set(MODES) - set(self.own_modes)
        assert not unknown, f"{path}/driver.ini: a section [modes] must say what {' '.join(unknown)} is"

    def missing(self, cache):
        """Names of the packages that are not installed."""
        absent = []
        if self.apt and shutil.which("dpkg-query"):
            ask = ["dpkg-query", "-W", "-f=${Package} ${db:Status-Status}\n", *self.apt]
            shown = subprocess.run(ask, text=True, capture_output=True).stdout.splitlines()
            absent = [p for p in self.apt if f"{p} installed" not in shown]
        return absent + (["npm packages"] if self.npm and not self.has_modules(cache) else [])

    def has_modules(self, cache):
        """Are the npm packages of today's lock file in the cache?"""
        lock = cache / self.name / "package-lock.json"
        whole = (cache / self.name / "node_modules").is_dir() and lock.exists()
        return whole and lock.read_bytes() == (self.path / "package-lock.json").read_bytes()

    def install(self, cache):
        """Installs its packages; what it says in its trouble goes to the terminal."""
        if self.apt:
            subprocess.run([TOP / "contrib" / "packages.sh", f"driver-{self.name}"], stdin=subprocess.DEVNULL)
        if self.npm and shutil.which("npm"):
            where = cache / self.name
            where.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.path / "package.json", where)
            say = ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(where)]
            shutil.copy(self.path / "package-lock.json", where)
            subprocess.run(say, stdin=subprocess.DEVNULL)

    def prepare(self, work, cache):
        """Copies the directory to where the ordinary user may write, and builds it. Returns what went wrong, or None."""
        self.dir = work / self.name
        shutil.copytree(self.path, self.dir, ignore=shutil.ignore_patterns("node_modules"))
        if self.npm:
            shutil.copytree(cache / self.name / "node_modules", self.dir / "node_modules", symlinks=True)
        own(self.dir)
        if not self.build:
            return None
        try:
            done = procs.run(["sh", "-c", self.build], cwd=self.dir, check=False, timeout=600, env=environment(work))
        except subprocess.TimeoutExpired:
            return "the build took more than 600 s"
        return None if done.returncode == 0 else f"the build failed:\n{done.stdout}{done.stderr}"


def own(path):
    """Gives a tree to the ordinary user when we are root."""
    if os.geteuid() == 0:
        for entry in [path, *path.rglob("*")]:
            shutil.chown(entry, procs.ORDINARY_USER, procs.ORDINARY_USER) if not entry.is_symlink() else None


def environment(work, **more):
    """The environment of programs: no settings of PostgreSQL's or of ours but those in `more`, and a home of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    return {**env, "HOME": str(work / "home"), "LC_ALL": "C.UTF-8", **more}


class Postgres:
    """The one server of a run: SCRAM logins, one role that owns its database."""

    def __init__(self, bindir):
        self.bin, self.port = bindir, procs.free_port()
        self.dir = pathlib.Path(procs.make_dir("drvpg-"))
        self.log, self.proc = self.dir / "postgres.log", None

    def start(self):
        data = self.dir / "data"
        procs.run([f"{self.bin}/initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-N"])
        (data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        (data / "postgresql.auto.conf").write_text(
            f"""
listen_addresses = '127.0.0.1'
port = {self.port}
unix_socket_directories = '{self.dir}'
max_connections = 200
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
jit = off
password_encryption = 'scram-sha-256'
timezone = 'UTC'
log_line_prefix = '%m [%p] %a '
"""
        )
        with open(self.log, "ab") as log:
            self.proc = procs.spawn([f"{self.bin}/postgres", "-D", data], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        procs.wait_until(self.is_ready, lambda: "PostgreSQL to start\n" + procs.tail(self.log), timeout=60, step=0.1)
        self.sql(f"create role {USER} login password '{PASSWORD}'")
        self.sql(f"create database {DATABASE} owner {USER}")
        self.sql(f"alter schema public owner to {USER}", DATABASE)

    def psql(self, *args, check=True, **env):
        env = dict(os.environ, PGHOST=str(self.dir), PGPORT=str(self.port), PGUSER="postgres", **env)
        return procs.run([f"{self.bin}/psql", "-X", "-q", *args], check=check, env=env, timeout=30)

    def is_ready(self):
        return self.psql("-c", "select 1", "postgres", check=False).returncode == 0

    def sql(self, text, dbname="postgres"):
        return self.psql("-v", "ON_ERROR_STOP=1", "-At", "-c", text, dbname).stdout.strip()

    def activity(self):
        return self.psql("-c", "select pid, application_name, state, wait_event, backend_start, left(query, 80) as query "
                         f"from pg_stat_activity where datname = '{DATABASE}'", "postgres", check=False).stdout

    def stop(self, keep):
        if self.proc:
            self.proc.send_signal(signal.SIGQUIT)
            self.proc.wait()
        shutil.rmtree(self.dir / "data" if keep else self.dir, ignore_errors=True)


class Pooler:
    """A pooler of `size` servers in front of `postgres`."""

    def __init__(self, options, program, postgres, size):
        self.dir, self.port = pathlib.Path(procs.make_dir("drvpool-")), procs.free_port()
        self.log, self.postgres, self.proc = self.dir / "pooler.log", postgres, None
        self.program, self.where = program, f"pool {size}"
        (self.dir / "users.txt").write_text(f'"{USER}" "{PASSWORD}"\n"boss" "bosspw"\n')
        lines = [
            "[databases]",
            f"{DATABASE} = host=127.0.0.1 port={postgres.port}",
            f"[{options.profile}]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {self.port}",
            "unix_socket_dir =",
            "auth_type = scram-sha-256",
            f"auth_file = {self.dir}/users.txt",
            "admin_users = boss",
            f"pool_mode = {options.pool_mode}",
            f"default_pool_size = {size}",
            "server_login_retry = 1",
            f"pidfile = {self.dir}/pooler.pid",
            *options.set,
        ]
        (self.dir / "pooler.ini").write_text("\n".join(lines) + "\n")
        own(self.dir)

    def start(self):
        env = environment(self.dir)
        env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":exitcode=99:detect_leaks=1"
        with open(self.log, "ab") as log:
            command = [self.program, str(self.dir / "pooler.ini")]
            self.proc = procs.spawn(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env, cwd=self.dir)
        procs.wait_until(self.is_up, lambda: "the pooler to start\n" + procs.tail(self.log), timeout=20)

    def is_up(self):
        if self.proc.poll() is not None:
            raise AssertionError(f"the pooler ended with {self.proc.returncode}\n{procs.tail(self.log)}")
        return "process up" in self.log.read_text(errors="replace")

    def show(self, what):
        args = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "boss", "-x", "-c", f"show {what}", "pgbouncer"]
        return self.postgres.psql(*args, check=False, PGPASSWORD="bosspw", PGCONNECT_TIMEOUT="5").stdout

    def dump(self):
        """What it knows about a hang: those who wait and those who work."""
        return "".join(f"== SHOW {what}\n{self.show(what)}" for what in ("pools", "servers", "clients"))

    def stop(self, keep):
        """Ends it and returns what was wrong with its end, or None."""
        rc = self.proc.poll()
        if rc is None:
            self.proc.send_signal(signal.SIGINT)
            self.proc.send_signal(signal.SIGTERM)
            try:
                rc = self.proc.wait(20)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                rc = self.proc.wait()
        log = self.log.read_text(errors="replace")
        found = BROKEN.search(log)
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)
        if found:
            return f"the pooler reports: {log[max(0, found.start() - 200):found.start() + 3000]}"
        return f"the pooler ended with status {rc}\n{log[-3000:]}" if rc not in (0, 1) else None


class Direct:
    """PostgreSQL itself in the place of a pooler."""

    where = "direct"

    def __init__(self, postgres):
        self.port = postgres.port

    def dump(self):
        return ""


class Result:
    """What one run of a program said: a verdict for each step that it was asked for."""

    def __init__(self, driver, mode, where, steps):
        self.driver, self.mode, self.where = driver, mode, where
        self.steps = {step: Verdict("FAIL", "no word of it") for step in steps}
        self.version, self.seconds, self.hang, self.output = "", 0.0, False, ""

    def read(self, output, rc):
        self.output = output
        said = set()
        for line in output.splitlines():
            found = LINE.match(line)
            if line.startswith("version "):
                self.version = line[len("version "):].strip()
            elif found and found[2] in self.steps:
                said.add(found[2])
                self.steps[found[2]] = Verdict(found[1], (found[3] or "").strip())
        unsaid = [step for step in self.steps if step not in said]
        if unsaid:
            how = "the program hangs here" if self.hang else f"the program ended with {rc} before"
            self.steps[unsaid[0]] = Verdict("FAIL", how)
        elif rc != 0 and not any(v.word == "FAIL" for v in self.steps.values()):
            self.steps[list(self.steps)[-1]] = Verdict("FAIL", f"the program ended with {rc}")

    def count(self, word):
        return sum(v.word == word for v in self.steps.values())

    def compare(self, direct):
        """Judges by the reference: what fails there as well is no failure, what is skipped here alone is one."""
        for step, verdict in self.steps.items():
            other = direct.steps[step].word
            if verdict.word == "FAIL" and other == "FAIL":
                self.steps[step] = Verdict("direct", f"fails without a pooler, too: {direct.steps[step].text}")
            elif verdict.word == "skip" and other == "ok":
                self.steps[step] = Verdict("FAIL", f"skipped through the pooler only: {verdict.text}")


class Run:
    """All of a run: options, the server, the results so far."""

    def __init__(self, options):
        self.options, self.began, self.results, self.unable = options, time.monotonic(), [], {}
        self.steps = [s for s in STEPS if not options.step or s in options.step]
        self.sizes = options.pool or [1, 3]
        self.work = pathlib.Path(procs.make_dir("drivers-"))
        self.cache = pathlib.Path(options.cache)
        self.program = options.pooler and self.readable(options.pooler)
        self.postgres = Postgres(options.bindir or find_postgres())
        self.runs = self.turns = 0
        (self.work / "home").mkdir()
        shutil.copytree(HERE / "lib", self.work / "lib")
        own(self.work)

    def readable(self, path):
        """A copy of the pooler for the ordinary user, who may not reach where it was built."""
        path = shutil.which(path) or sys.exit(f"run.py: no program {path}")
        if os.geteuid() != 0:
            return os.path.abspath(path)
        return shutil.copy2(path, self.work / os.path.basename(path))

    def say(self, text):
        print(f"[{time.monotonic() - self.began:4.0f}s] {text}", flush=True)

    def drivers(self):
        options = self.options
        known = {p.parent.name: Driver(p.parent) for p in sorted(HERE.glob("*/driver.ini"))}
        names = options.only or [n for n, d in known.items() if d.is_quick or not options.quick]
        unknown = set(names) - set(known)
        if unknown:
            sys.exit(f"run.py: no driver {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return [known[n] for n in names]

    def run_driver(self, driver):
        """All modes of one driver, everywhere."""
        if self.options.install and driver.missing(self.cache):
            self.say(f"{driver.name}: installing {' '.join(driver.missing(self.cache))}")
            driver.install(self.cache)
        trouble = driver.missing(self.cache)
        if trouble:
            self.unable[driver.name] = (False, f"not installed: {' '.join(trouble)}")
            self.say(f"{driver.name}: {self.unable[driver.name][1]}")
            return
        trouble = driver.prepare(self.work, self.cache)
        if trouble:
            self.unable[driver.name] = (True, trouble)
            self.say(f"{driver.name}: {trouble}")
            return
        modes = [m for m in driver.modes if not self.options.mode or m in self.options.mode]
        if self.options.quick and self.program:
            self.run_quickly(driver, modes)
            return
        direct = {mode: self.run_program(driver, mode, Direct(self.postgres)) for mode in modes}
        self.results += direct.values()
        for size in self.sizes if self.program else []:
            self.run_pool(driver, size, direct)

    def run_quickly(self, driver, modes):
        """Each mode on one of the pools only, taking turns, and directly only what has failed there."""
        for size in self.sizes:
            turn = {m: None for m in modes if self.sizes[(self.turns + modes.index(m)) % len(self.sizes)] == size}
            if turn:
                self.run_pool(driver, size, turn)
        self.turns += len(modes)

    def run_pool(self, driver, size, direct):
        """The modes of a driver through a pooler that lives for just that; each has its reference, or None."""
        pooler = Pooler(self.options, self.program, self.postgres, size)
        result = None
        pooler.start()
        try:
            for mode, reference in direct.items():
                result = self.run_program(driver, mode, pooler, reference)
                self.results.append(result)
                if result.hang:
                    break
        finally:
            trouble = pooler.stop(self.options.keep)
        if self.options.keep:
            self.say(f"{driver.name}: the pooler's log is {pooler.log}")
        if trouble and result:
            self.say(trouble)
            result.steps[self.steps[-1]] = Verdict("FAIL", trouble.splitlines()[0])

    def run_program(self, driver, mode, target, reference=None):
        """One run of one program; shows at once what is not good."""
        self.runs += 1
        tag = f"d{self.runs}"
        result = Result(driver, mode, target.where, self.steps)
        chosen = "".join(f" --step {s}" for s in self.steps) if self.options.step else ""
        command = f"exec {driver.command} --mode {mode} --clients {self.options.clients} --id {tag}{chosen}"
        env = environment(self.work, PGHOST="127.0.0.1", PGPORT=str(target.port), PGUSER=USER, PGPASSWORD=PASSWORD,
                          PGDATABASE=DATABASE, PGSSLMODE="disable", PATH=f"{self.postgres.bin}:{os.environ['PATH']}")
        out, err = self.work / f"{tag}.out", self.work / f"{tag}.err"
        began = time.monotonic()
        with open(out, "wb") as stdout, open(err, "wb") as stderr:
            proc = procs.spawn(["sh", "-c", command], stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL, env=env,
                               cwd=driver.dir, start_new_session=True)
            dump = self.wait_for(proc, result, driver, target)
        result.seconds = time.monotonic() - began
        result.read(out.read_text(errors="replace"), proc.returncode)
        if not reference and self.options.quick and result.count("FAIL") and target.where != "direct":
            reference = self.run_program(driver, mode, Direct(self.postgres))
        if reference:
            result.compare(reference)
        self.show_result(result, err.read_text(errors="replace"), dump)
        return result

    def wait_for(self, proc, result, driver, target):
        """Waits for the end of a program; past its time it and its children are ended. Returns what is known of a hang."""
        dump = ""
        try:
            proc.wait(driver.limit_s * self.options.patience)
        except subprocess.TimeoutExpired:
            result.hang = True
            dump = target.dump() + "== pg_stat_activity\n" + self.postgres.activity()
        try:
            os.killpg(proc.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        proc.wait()
        return dump

    def show_result(self, result, errors, dump):
        counts = [f"{result.count(w)} {w}" for w in ("ok", "FAIL", "direct", "skip") if result.count(w)]
        where = f"{result.driver.name} {result.mode}, {result.where}"
        self.say(f"{where}: {', '.join(counts)} ({result.seconds:.1f} s)")
        for step, verdict in result.steps.items():
            if verdict.word in ("FAIL", "direct") or self.options.verbose:
                print(f"        {verdict.word} {step}: {verdict.text}", flush=True)
        if result.count("FAIL") and errors.strip():
            print("        " + "\n        ".join(errors.strip().splitlines()[-30:]))
        if dump:
            print(dump)

    def cases(self):
        """(name, verdict) of each step of each run through the pooler, or of all when there is none."""
        for result in self.results:
            if result.where != "direct" or not self.program:
                for step, verdict in result.steps.items():
                    yield f"{result.driver.name} {result.mode} {result.where} {step}", verdict
        for name, (is_broken, text) in self.unable.items():
            yield name, Verdict("FAIL" if is_broken else "skip", text)

    def close(self):
        self.postgres.stop(self.options.keep)
        if self.options.keep:
            self.say(f"the log of PostgreSQL is {self.postgres.log}, what programs printed is in {self.work}")
        else:
            shutil.rmtree(self.work, ignore_errors=True)


def find_postgres():
    """The programs of the newest packaged PostgreSQL, or of the one in the path."""
    packaged = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[4]))
    found = packaged[-1] if packaged else shutil.which("initdb")
    return os.path.dirname(found) if found else sys.exit("run.py: no PostgreSQL; say --bindir")


def write_tap(path, run):
    """The cases for test/totals.py, the bad ones last."""
    words = {"ok": "ok {}", "FAIL": "not ok {}\n# {}", "direct": "ok {} # SKIP {}", "skip": "ok {} # SKIP {}"}
    lines = [(v.word == "FAIL", words[v.word].format(name, v.text.replace("\n", "\n# "))) for name, v in run.cases()]
    path.write_text("".join(line + "\n" for _, line in sorted(lines, key=lambda pair: pair[0])))


def parse_arguments():
    names = lambda text: [n for n in re.split(r"[,\s]+", text) if n]  # noqa: E731
    parser = argparse.ArgumentParser(description="Real client drivers through the pooler.")
    parser.add_argument("--pooler", required=True, help="the program; none = only directly on PostgreSQL")
    parser.add_argument("--bindir", help="where PostgreSQL's programs are")
    parser.add_argument("--only", type=names, help="only these drivers, NAME[,NAME]")
    parser.add_argument("--quick", action="store_true",
                        help="only drivers with ci = yes, and each of their modes on one of the pools")
    parser.add_argument("--install", action="store_true", help="install missing packages (apt, npm)")
    parser.add_argument("--cache", default=str(TOP / "build" / "drivers"), help="where npm packages are put")
    parser.add_argument("--profile", default="pgsluice", choices=("pgbouncer", "pgsluice"))
    parser.add_argument("--pool-mode", default="transaction")
    parser.add_argument("--set", action="append", default=[], metavar="LINE", help="one more line for the ini file")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--pool", type=int, action="append", help="servers of the pool; may be repeated (1 and 3)")
    parser.add_argument("--mode", action="append", help="only this mode; may be repeated")
    parser.add_argument("--step", action="append", choices=STEPS, help="only this step; may be repeated")
    parser.add_argument("--patience", type=float, default=1, help="multiplies the time limits")
    parser.add_argument("--verbose", action="store_true", help="show all steps")
    parser.add_argument("--keep", action="store_true", help="keep the directories and logs")
    parser.add_argument("--tap", type=pathlib.Path, help="write the cases to this file")
    parser.add_argument("--write-doc", type=pathlib.Path, nargs="?", const=TOP / "doc" / "drivers.md", metavar="FILE",
                        help="write the tables to doc/drivers.md, or another file; for runs of everything")
    options = parser.parse_args()
    options.pooler = None if options.pooler == "none" else options.pooler
    if options.write_doc and (options.only or options.quick or options.step or options.mode or not options.pooler):
        parser.error("--write-doc is for a run of everything")
    return options


def main():
    options = parse_arguments()
    run = Run(options)
    try:
        drivers = run.drivers()
        run.postgres.start()
        server = run.postgres.sql("show server_version")
        run.say(f"{len(drivers)} drivers, {options.clients} clients, PostgreSQL {server}")
        for driver in drivers:
            run.run_driver(driver)
    finally:
        run.close()
    if options.write_doc:
        report.write(options.write_doc, run, server)
    if options.tap:
        write_tap(options.tap, run)
    words = collections.Counter(verdict.word for _, verdict in run.cases())
    print(f"{words['ok']} passed, {words['FAIL']} failed, {words['skip'] + words['direct']} skipped")
    return 1 if words["FAIL"] or not words["ok"] else 0


if __name__ == "__main__":
    sys.exit(main())
