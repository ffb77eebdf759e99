"""Command line, start, daemon, pidfile and signals."""
import os
import re
import signal
import subprocess

import pytest
from harness import procs, wire
from harness.pooler import binary, is_pgbouncer
from harness.procs import wait_until


def run(*args, **kwargs):
    return procs.run([binary(), *args], check=False, **kwargs)


def test_version():
    for flag in ("-V", "--version"):
        done = run(flag)
        assert done.returncode == 0
        assert re.match(r"\S+ \d+\.\d+", done.stdout) and "libevent" in done.stdout


@pytest.mark.newer
def test_version_lines(make_pooler):
    """Name and number first, as monitoring cuts them out, then the parts; the log says the same."""
    lines = run("-V", "whatever.ini", "--and=more").stdout.splitlines()
    for line, pattern in zip(
        lines, (r"\S+ \d+\.\d+\.\d+$", r"libevent \d\S+$", r"adns: \S+", r"tls: OpenSSL \S+", r"systemd: yes$",
                r"ldap: (yes|no)$", r"pam: (yes|no)$")
    ):
        assert re.match(pattern, line), lines
    p = make_pooler()
    p.wait_for_log(rf"LOG process up: {re.escape(lines[0])}, {re.escape(lines[1])} \(\w+\), adns: ")


def test_help():
    for flag in ("-h", "--help"):
        done = run(flag)
        assert done.returncode == 0 and done.stderr == ""
        for word in ("--daemon", "--quiet", "--verbose", "--user", "--version", "--help") + (
            () if is_pgbouncer() else ("--check",)
        ):
            assert word in done.stdout, word


def test_bad_usage():
    for args in ((), ("--nonsense", "x.ini"), ("a.ini", "b.ini")):
        done = run(*args)
        assert done.returncode == 1, args
        assert done.stderr and not done.stdout
    assert '--help" for more information' in run("--nonsense").stderr


@pytest.mark.parametrize(
    "args", [("--nonsense", "x.ini"), ("-x", "x.ini"), ("-u",), ("--user",), ("--daemon=1", "x.ini")], ids=" ".join
)
def test_bad_option(args):
    done = run(*args)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.endswith(f'Try "{binary()} --help" for more information.\n')


def test_no_file_named():
    for args in ((), ("-q",), ("-v", "-d")):
        done = run(*args)
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.startswith(f"{binary()}: no configuration file specified\n")
        assert done.stderr.endswith(f'Try "{binary()} --help" for more information.\n')


@pytest.mark.parametrize("text", [None, "[pgbouncer]\nnonsense = 1\n"], ids=["missing", "faulty"])
def test_configuration_that_cannot_be_loaded(make_pooler, text):
    p = make_pooler(start=False)
    if text is not None:
        p.write(p.ini, text)
    done = run(p.ini)
    assert done.returncode == 1 and done.stdout == ""
    assert re.search(r"\] ERROR .*\n.*\] FATAL cannot load config file$", done.stderr, re.S)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_refuses_root(make_pooler):
    p = make_pooler(start=False)
    p.write_files()
    done = subprocess.run([binary(), p.ini], text=True, capture_output=True, timeout=20)
    assert done.returncode == 1
    assert re.search(r"FATAL \S+ should not run as root", done.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_user_switch(make_pooler):
    """As root with -u it becomes that user, and stays ordinary."""
    p = make_pooler(start=False)
    p.write_files()
    with open(p.log, "ab") as log:
        p.proc = subprocess.Popen([binary(), "-u", procs.ORDINARY_USER, p.ini], stdout=log, stderr=log, cwd=p.dir)
    p.start_offset = 0
    p.wait_up()
    with open(f"/proc/{p.proc.pid}/status") as f:
        uids = [line.split()[1:] for line in f if line.startswith("Uid:")][0]
    assert "0" not in uids
    assert p.login().value("select 1") == "1"


def start_as_root(p, *args):
    p.write_files()
    with open(p.log, "ab") as log:
        p.proc = subprocess.Popen([binary(), *args, p.ini], stdout=log, stderr=log, cwd=p.dir)
    p.start_offset = 0
    p.wait_up()
    with open(f"/proc/{p.proc.pid}/status") as f:
        return {key: value.split() for key, value in (line.split(":", 1) for line in f)}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_user_setting(make_pooler):
    """With all ids and groups of that user, and none of ours."""
    import pwd

    entry = pwd.getpwnam(procs.ORDINARY_USER)
    status = start_as_root(make_pooler(start=False, settings={"user": procs.ORDINARY_USER}))
    assert status["Uid"] == [str(entry.pw_uid)] * 4 and status["Gid"] == [str(entry.pw_gid)] * 4
    assert {int(g) for g in status["Groups"]} == set(os.getgrouplist(entry.pw_name, entry.pw_gid))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_option_beats_user_setting(make_pooler):
    import pwd

    status = start_as_root(make_pooler(start=False, settings={"user": "nobody"}), f"--user={procs.ORDINARY_USER}")
    assert status["Uid"] == [str(pwd.getpwnam(procs.ORDINARY_USER).pw_uid)] * 4


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_is_no_user_to_become(make_pooler):
    p = make_pooler(start=False, settings={"user": "root"})
    p.write_files()
    done = subprocess.run([binary(), p.ini], text=True, capture_output=True, timeout=20)
    assert done.returncode == 1 and "should not run as root" in done.stderr


def test_user_that_we_are_already(make_pooler):
    p = make_pooler(settings={"user": procs.os_user()})
    assert p.login().value("select 1") == "1"


def test_another_user_needs_root(make_pooler):
    p = make_pooler(start=False, settings={"user": "daemon"})
    p.start(wait=False)
    assert p.wait_exit() == 1
    p.proc = None
    p.wait_for_log("FATAL failed to assume identity of user 'daemon': ")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_unknown_user(make_pooler):
    p = make_pooler(start=False)
    p.write_files()
    done = subprocess.run([binary(), "-u", "no_such_user_here", p.ini], text=True, capture_output=True, timeout=20)
    assert done.returncode == 1 and "could not find user 'no_such_user_here' to switch to" in done.stderr


def test_start_lines(make_pooler):
    p = make_pooler()
    prefix = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+ \[" + str(p.proc.pid) + r"\] LOG "
    p.wait_for_log(
        prefix + r"kernel file descriptor limit: \d+ \(hard: \d+\); max_client_conn: 100, max expected fd use: \d+"
    )
    p.wait_for_log(prefix + rf"listening on 127\.0\.0\.1:{p.port}$")
    p.wait_for_log(prefix + rf"listening on unix:{re.escape(p.socket_path)}$")
    p.wait_for_log(prefix + r"process up: \S+ \S+, libevent \S+ \(\S+\), adns: .*, tls: ")


def test_pidfile(make_pooler):
    p = make_pooler()
    with open(p.pidfile) as f:
        assert f.read() == f"{p.proc.pid}\n"
    p.stop()
    assert not os.path.exists(p.pidfile)


@pytest.mark.newer
def test_live_pidfile_is_respected(make_pooler):
    p = make_pooler()
    q = make_pooler(start=False, settings={"pidfile": p.pidfile})
    q.start(wait=False)
    assert q.wait_exit() == 1
    q.proc = None
    q.wait_for_log(f"FATAL pidfile '{p.pidfile}' exists, another instance running")
    assert p.login().value("select 1") == "1"
    assert os.path.exists(p.pidfile)


def test_stale_pidfile_is_removed(make_pooler):
    p = make_pooler(start=False)
    dead = subprocess.Popen(["true"])
    dead.wait()
    p.write(p.pidfile, f"{dead.pid}\n")
    p.start()
    p.wait_for_log("stale pidfile, removing")
    with open(p.pidfile) as f:
        assert f.read() == f"{p.proc.pid}\n"


@pytest.mark.newer
@pytest.mark.parametrize("text", ["", "\n", "what?\n", "-1\n"], ids=["empty", "newline", "garbage", "negative"])
def test_pidfile_that_says_nothing(make_pooler, text):
    """It may be somebody's: the start is refused and the file left alone."""
    p = make_pooler(start=False)
    p.write(p.pidfile, text)
    p.start(wait=False)
    assert p.wait_exit() == 1
    p.proc = None
    p.wait_for_log(rf"FATAL pidfile '{p.pidfile}' exists, another instance running\?$")
    with open(p.pidfile) as f:
        assert f.read() == text


@pytest.mark.newer
def test_pidfile_that_cannot_be_written(make_pooler):
    """That is found after listening; nothing is left behind."""
    p = make_pooler(start=False, settings={"pidfile": "/nonexistent/pooler.pid"})
    p.start(wait=False)
    assert p.wait_exit() == 1
    p.proc = None
    p.wait_for_log("FATAL could not write pidfile '/nonexistent/pooler.pid': No such file or directory")
    assert p.log_count("listening on unix") == 1 and not os.path.exists(p.socket_path)


@pytest.mark.newer
def test_pidfile_of_another_is_left(make_pooler):
    """Whoever replaced the file meanwhile keeps his."""
    p = make_pooler()
    os.unlink(p.pidfile)
    p.write(p.pidfile, "1\n")
    p.stop()
    with open(p.pidfile) as f:
        assert f.read() == "1\n"


def test_same_unix_socket_is_refused(make_pooler):
    p = make_pooler()
    q = make_pooler(start=False, settings={"unix_socket_dir": p.dir, "listen_port": p.port})
    q.start(wait=False)
    assert q.wait_exit() == 1
    q.proc = None
    q.wait_for_log("FATAL unix socket is in use, cannot continue")
    assert p.raw_unix().login() and p.login().value("select 1") == "1"


@pytest.mark.newer
def test_occupied_port(make_pooler):
    p = make_pooler()
    q = make_pooler(start=False, settings={"listen_port": p.port})
    q.start(wait=False)
    assert q.wait_exit() == 1
    q.proc = None
    q.wait_for_log(rf"WARNING cannot listen on 127\.0\.0\.1:{p.port}: bind\(\): Address already in use")
    q.wait_for_log(r"FATAL failed to listen on any address in listen_addr list: 127\.0\.0\.1")


def test_nowhere_to_listen(make_pooler):
    q = make_pooler(start=False, settings={"listen_addr": "", "unix_socket_dir": ""})
    q.start(wait=False)
    assert q.wait_exit() == 1
    q.proc = None
    q.wait_for_log("FATAL nowhere to listen on")


def test_quiet(make_pooler):
    p = make_pooler(start=False, args=["-q"])
    p.settings["logfile"] = f"{p.dir}/own.log"
    p.start(wait=False)
    wait_until(lambda: os.path.exists(p.pidfile), "the pidfile")
    p.login().terminate()
    wait_until(lambda: "login attempt" in open(f"{p.dir}/own.log").read(), "the log file")
    assert p.log_text() == ""


def test_verbose(make_pooler):
    p = make_pooler(args=["-v"])
    p.login().terminate()
    p.wait_for_log(r"\] DEBUG ")
    assert p.config()["verbose"] == "1"
    q = make_pooler(args=["-vv"])
    q.login().terminate()
    q.wait_for_log(r"\] NOISE ")


def test_options_after_the_file(make_pooler):
    p = make_pooler(start=False)
    p.command = lambda *args: [binary(), p.ini, "-v"]
    p.start()
    assert p.config()["verbose"] == "1"


# --- daemon


def daemon_pid(p):
    with open(p.pidfile) as f:
        return int(f.read())


@pytest.mark.newer
def test_daemon(make_pooler):
    p = make_pooler(start=False)
    p.settings["logfile"] = f"{p.dir}/own.log"
    p.write_files()
    done = procs.run([binary(), "-d", p.ini], check=False, cwd=p.dir, umask=0o027)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: os.path.exists(p.pidfile) and open(p.pidfile).read(), "the pidfile")
    pid = daemon_pid(p)
    try:
        assert p.login().value("select 1") == "1"
        assert os.getsid(pid) not in (os.getsid(0), pid), "in a session of its own, which it does not lead"
        assert os.readlink(f"/proc/{pid}/cwd") == os.path.realpath(p.dir), "no chdir"
        assert [os.readlink(f"/proc/{pid}/fd/{n}") for n in range(3)] == ["/dev/null"] * 3
        with open(f"/proc/{pid}/status") as f:
            assert "Umask:\t0027\n" in f.readlines()
    finally:
        os.kill(pid, signal.SIGQUIT)
    wait_until(lambda: not os.path.exists(p.pidfile), "its end")
    assert "process up" in open(f"{p.dir}/own.log").read()


@pytest.mark.newer
def test_daemon_that_cannot_listen(make_pooler):
    """The one who called is gone by then: what went wrong is in the log only, and there is no pidfile."""
    p = make_pooler()
    q = make_pooler(start=False, settings={"listen_port": p.port})
    q.settings["logfile"] = f"{q.dir}/own.log"
    q.write_files()
    done = procs.run([binary(), "--daemon", q.ini], check=False, cwd=q.dir)
    assert done.returncode == 0
    log = f"{q.dir}/own.log"
    wait_until(lambda: os.path.exists(log) and "FATAL failed to listen on any" in open(log).read(), "the reason")
    assert not os.path.exists(q.pidfile)


@pytest.mark.newer
def test_daemon_finds_another_instance_in_time(make_pooler):
    """That is looked for before the background, so the caller hears of it."""
    p = make_pooler()
    done = procs.run([binary(), "-d", p.ini], check=False, cwd=p.dir)
    assert done.returncode == 1 and "FATAL unix socket is in use, cannot continue" in done.stderr
    p.settings["unix_socket_dir"] = ""
    p.write_files()
    done = procs.run([binary(), "-d", p.ini], check=False, cwd=p.dir)
    assert done.returncode == 1 and f"FATAL pidfile '{p.pidfile}' exists, another instance running?" in done.stderr


def test_daemon_needs_a_pidfile(make_pooler):
    p = make_pooler(start=False, settings={"pidfile": None})
    p.write_files()
    done = procs.run([binary(), "-d", p.ini], check=False)
    assert done.returncode == 1 and "daemon needs pidfile configured" in done.stderr


# --- signals


@pytest.mark.newer
@pytest.mark.parametrize(
    "number,text",
    [
        (signal.SIGTERM, "got SIGTERM, shutting down, waiting for all clients disconnect"),
        (signal.SIGINT, "got SIGINT, shutting down, waiting for all servers connections to be released"),
    ],
)
def test_idle_pooler_ends_at_the_first_signal(make_pooler, number, text):
    p = make_pooler()
    p.signal(number)
    assert p.wait_exit() == 0
    p.wait_for_log(text)
    assert not os.path.exists(p.socket_path)


@pytest.mark.newer
def test_sigquit(make_pooler):
    p = make_pooler()
    c = p.login()
    c.query("begin")
    p.signal(signal.SIGQUIT)
    assert not c.expect_close().messages
    assert p.wait_exit() == 0
    p.wait_for_log("got SIGQUIT, fast exit")


@pytest.mark.newer
def test_sigterm_waits_for_clients(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login()
    p.signal(signal.SIGTERM)
    p.wait_for_log("got SIGTERM")
    for n in range(5):
        assert c.query(f"select {n}").rows == [[str(n)]]
    wait_until(lambda: p.refuses_tcp(), "TCP is closed")
    c.terminate()
    assert p.wait_exit() == 0


@pytest.mark.newer
def test_sigint_waits_for_servers(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c, idle = p.login(), p.login()
    c.query("begin"), idle.query("select 1")
    p.signal(signal.SIGINT)
    p.wait_for_log("got SIGINT")
    assert c.query("select 1").rows == [["1"]]
    assert c.query("commit").status == "I"
    assert p.wait_exit() == 0
    p.wait_for_log("server connections dropped, exiting")


@pytest.mark.newer
@pytest.mark.parametrize(
    "first,second", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)]
)
def test_second_signal_ends_at_once(make_pooler, first, second):
    p = make_pooler()
    c = p.login()
    c.query("begin")
    p.signal(first)
    p.wait_for_log(f"got {first.name}")
    p.signal(second)
    assert p.wait_exit() == 0
    p.wait_for_log(f"got {second.name} while shutting down, fast exit")
    assert not c.expect_close().messages


def test_sigusr1_and_sigusr2(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    c = p.login()
    c.query("select 1")
    p.signal(signal.SIGUSR1)
    p.wait_for_log("got SIGUSR1, pausing all activity")
    c.send(wire.query("select 2"))
    p.wait_pool(cl_waiting=1)
    p.signal(signal.SIGUSR1)
    p.wait_for_log("got SIGUSR1, but already paused/suspended")
    p.signal(signal.SIGUSR2)
    p.wait_for_log("got SIGUSR2, continuing from PAUSE")
    assert c.read_ready().rows == [["2"]]
    p.signal(signal.SIGUSR2)
    p.wait_for_log("got SIGUSR2, but not paused/suspended")


@pytest.mark.newer
def test_sigusr1_and_the_console_mean_the_same_pause(make_pooler):
    p = make_pooler(settings={"pool_mode": "transaction"})
    p.login().query("select 1")
    p.signal(signal.SIGUSR1)
    p.wait_for_log("got SIGUSR1, pausing all activity")
    console = p.console()
    assert console.conn.query("PAUSE").error.text == "already suspended/paused"
    assert console.run("RESUME") == "RESUME"
    assert console.run("PAUSE") == "PAUSE"
    p.signal(signal.SIGUSR2)
    p.wait_for_log("got SIGUSR2, continuing from PAUSE")
    assert console.conn.query("RESUME").error.text == "pooler is not paused/suspended"


@pytest.mark.newer
def test_signals_in_a_crowd(make_pooler):
    """Pauses and reloads by signal while four threads serve: nobody loses anything."""
    p = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 4}, threads=4)
    conns = [p.login() for _ in range(16)]
    for n in range(30):
        for c in conns:
            c.send(wire.query(f"select {n}"))
        mark = p.log_mark()
        p.signal(signal.SIGUSR1)
        p.wait_for_log("got SIGUSR1, pausing all activity", since=mark)
        p.signal(signal.SIGHUP)
        p.signal(signal.SIGUSR2)  # signals keep no order among each other, so each pause is waited for
        p.wait_for_log("got SIGUSR2, continuing from PAUSE", since=mark)
        for c in conns:
            assert c.read_ready().rows == [[str(n)]]


@pytest.mark.newer
def test_sigusr2_while_shutting_down(make_pooler):
    p = make_pooler()
    p.login()
    p.signal(signal.SIGTERM)
    p.wait_for_log("got SIGTERM")
    p.signal(signal.SIGUSR2)
    p.wait_for_log("got SIGUSR2 while shutting down, ignoring")


def test_sigpipe_is_harmless(make_pooler):
    p = make_pooler()
    p.signal(signal.SIGPIPE)
    assert p.login().value("select 1") == "1"
