"""Listening: addresses, the Unix socket with its modes, the abstract name space, and servers behind Unix sockets."""
import datetime
import grp
import os
import pwd
import signal
import socket
import stat

import pytest
from harness import procs, wire
from harness.procs import wait_until


def test_unix_socket(make_pooler):
    p = make_pooler(settings={"unix_socket_mode": "0750"})
    mode = os.stat(p.socket_path).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o750
    c = p.raw_unix()
    assert c.ssl_request() == b"N"
    c.login()
    assert c.value("select 1") == "1"
    row = [r for r in p.show("clients") if r["addr"].startswith("unix")][0]
    assert (row["port"], row["remote_pid"]) == (p.port, os.getpid())
    p.wait_for_log(r"app/app@unix(\(\d+\))?:\d+ login attempt")


def test_default_mode_is_open(make_pooler):
    p = make_pooler()
    assert stat.S_IMODE(os.stat(p.socket_path).st_mode) == 0o777


@pytest.mark.skipif(os.geteuid() != 0, reason="the ordinary user must be known to have this group")
def test_unix_socket_group(make_pooler):
    import pwd

    name = grp.getgrgid(pwd.getpwnam(procs.ORDINARY_USER).pw_gid).gr_name
    p = make_pooler(settings={"unix_socket_group": name})
    assert grp.getgrgid(os.stat(p.socket_path).st_gid).gr_name == name


def ordinary_group():
    return grp.getgrgid(pwd.getpwnam(procs.os_user()).pw_gid)


@pytest.mark.parametrize("form", ["name", "number"])
def test_unix_socket_group_forms(make_pooler, form):
    group = ordinary_group()
    value = group.gr_name if form == "name" else group.gr_gid
    p = make_pooler(settings={"unix_socket_group": value, "unix_socket_mode": "0770"})
    found = os.stat(p.socket_path)
    assert found.st_gid == group.gr_gid and stat.S_IMODE(found.st_mode) == 0o770


@pytest.mark.newer
def test_unix_socket_group_that_does_not_exist(make_pooler):
    p = make_pooler(start=False, settings={"unix_socket_group": "nosuchgroup"})
    p.start(wait=False)
    assert p.wait_exit() == 1
    p.proc = None
    p.wait_for_log("FATAL could not find unix_socket_group 'nosuchgroup'")


@pytest.mark.newer
def test_unix_socket_dir_that_does_not_exist(make_pooler):
    p = make_pooler(start=False, settings={"unix_socket_dir": "/nonexistent"})
    p.start(wait=False)
    assert p.wait_exit() == 1
    p.proc = None
    p.wait_for_log(rf"WARNING cannot listen on unix:/nonexistent/\.s\.PGSQL\.{p.port}: bind\(\): No such file")
    p.wait_for_log("FATAL failed to create unix socket")


def test_unix_only(make_pooler):
    p = make_pooler(settings={"listen_addr": None})
    c = p.raw_unix()
    c.login()
    assert c.value("select 1") == "1"
    with pytest.raises(ConnectionRefusedError):
        wire.Conn.tcp(p.port)


def test_tcp_only(make_pooler):
    p = make_pooler(settings={"unix_socket_dir": ""})
    assert not os.path.exists(p.socket_path)
    assert p.login().value("select 1") == "1"


def test_abstract_socket(make_pooler):
    name = f"@sluice-test-{os.getpid()}"
    p = make_pooler(settings={"unix_socket_dir": name})
    p.wait_for_log(rf"listening on unix:{name}/\.s\.PGSQL\.{p.port}")
    c = wire.Conn.unix(f"\0{name[1:]}/.s.PGSQL.{p.port}")
    c.login()
    assert c.value("select 1") == "1"
    c.close()


@pytest.mark.newer
def test_abstract_socket_is_guarded_too(make_pooler):
    name = f"@sluice-guard-{os.getpid()}"
    p = make_pooler(settings={"unix_socket_dir": name})
    q = make_pooler(start=False, settings={"unix_socket_dir": name, "listen_port": p.port})
    q.start(wait=False)
    assert q.wait_exit() == 1
    q.proc = None
    q.wait_for_log("FATAL unix socket is in use, cannot continue")
    assert p.login().value("select 1") == "1"


@pytest.mark.newer
def test_file_that_is_no_socket_is_left_alone(make_pooler):
    p = make_pooler(start=False)
    p.write(p.socket_path, "precious\n")
    p.start(wait=False)
    assert p.wait_exit() == 1
    p.proc = None
    p.wait_for_log("FATAL failed to create unix socket")
    with open(p.socket_path) as f:
        assert f.read() == "precious\n"


def test_leftover_socket_file_is_replaced(make_pooler):
    p = make_pooler(start=False)
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(p.socket_path)
    dead.close()
    os.chown(p.socket_path, os.stat(p.dir).st_uid, -1)
    p.start()
    c = p.raw_unix()
    c.login()
    assert c.value("select 1") == "1"


def test_socket_of_a_postgresql_is_left_alone(make_pooler):
    p = make_pooler(start=False)
    p.write(p.socket_path + ".lock", "1\n")
    p.start(wait=False)
    assert p.wait_exit() == 1
    p.proc = None
    p.wait_for_log(rf"FATAL unix port {p.port} is in use")


def test_listen_on_everything(make_pooler):
    p = make_pooler(settings={"listen_addr": "*"})
    assert p.login().value("select 1") == "1"
    p.wait_for_log(rf"listening on 0\.0\.0\.0:{p.port}")


@pytest.mark.newer
def test_everything_includes_ipv6(make_pooler):
    """With sockets of their own, so that neither family answers for the other."""
    if not has_ipv6():
        pytest.skip("no IPv6 loopback here")
    p = make_pooler(settings={"listen_addr": "*"})
    p.wait_for_log(rf"listening on \[::\]:{p.port}")
    with wire.Conn.tcp(p.port, "::1") as c:
        c.login()
        assert c.value("select 1") == "1"
    assert p.login().value("select 1") == "1"
    p.wait_for_log(r"app/app@127\.0\.0\.1:\d+ login attempt")


@pytest.mark.newer
def test_names_of_one_address(make_pooler):
    """A name and the literal that it stands for: one socket."""
    p = make_pooler(settings={"listen_addr": "127.0.0.1 , localhost,, 127.0.0.1"})
    assert p.log_count(r"listening on 127\.0\.0\.1:") == 1
    assert p.log_count("WARNING") == 0


def test_list_of_addresses(make_pooler):
    p = make_pooler(settings={"listen_addr": "127.0.0.1, 127.0.0.2"})
    for host in ("127.0.0.1", "127.0.0.2"):
        with wire.Conn.tcp(p.port, host) as c:
            c.login()
            assert c.value("select 1") == "1"


def test_one_bad_address_only_warns(make_pooler):
    p = make_pooler(settings={"listen_addr": "127.0.0.1,192.0.2.77"})
    p.wait_for_log(r"WARNING cannot listen on 192\.0\.2\.77:")
    assert p.login().value("select 1") == "1"


def test_unresolvable_address_is_fatal(make_pooler):
    p = make_pooler(start=False, settings={"listen_addr": "no-such-host.invalid"})
    p.start(wait=False)
    assert p.wait_exit() == 1
    p.proc = None
    p.wait_for_log(r"FATAL getaddrinfo\('no-such-host\.invalid', '\d+'\) = ")


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


def test_ipv6(make_pooler):
    if not has_ipv6():
        pytest.skip("no IPv6 loopback here")
    p = make_pooler(settings={"listen_addr": "::1"})
    p.wait_for_log(rf"listening on \[::1\]:{p.port}")
    with pytest.raises(ConnectionRefusedError):
        wire.Conn.tcp(p.port)
    with wire.Conn.tcp(p.port, "::1") as c:
        c.login()
        assert c.value("select 1") == "1"
        p.wait_for_log(r"app/app@\[::1\]:\d+ login attempt")


def test_psql_over_both(make_pooler):
    p = make_pooler()
    assert p.psql("-c", "select 'tcp'").stdout == "tcp\n"
    assert p.psql("-c", "select 'unix'", host=p.dir).stdout == "unix\n"


@pytest.mark.newer
def test_three_processes_on_one_port(make_pooler):
    """so_reuseport: the kernel spreads connections over them, and one may go while the others serve."""
    first = make_pooler(settings={"so_reuseport": 1})
    same = {"so_reuseport": 1, "listen_port": first.port}
    poolers = [first, make_pooler(settings=same), make_pooler(settings=same)]
    for p in poolers:
        p.port = first.port
    seen = [0, 0, 0]
    for _ in range(200):
        first.login().terminate()
        seen = [p.log_count("login attempt") for p in poolers]
        if all(seen):
            break
    assert all(seen), seen
    poolers[1].signal(signal.SIGTERM)
    assert poolers[1].wait_exit() == 0
    for _ in range(20):
        assert first.login().value("select 1") == "1"


@pytest.mark.newer
@pytest.mark.parametrize("defer", [0, 1])
def test_client_that_says_nothing_for_a_while(make_pooler, defer):
    """Without tcp_defer_accept it is there when it has connected; either way it keeps nobody out and is served."""
    p = make_pooler(settings={"tcp_defer_accept": defer})
    silent = p.raw()
    if defer == 0:
        wait_until(lambda: p.lists()["login_clients"] == 1, "the silent client")
    talker = p.login()  # comes later, and is served
    assert talker.value("select 1") == "1"
    silent.start()
    silent.finish_login("app", None)
    assert silent.value("select 2") == "2"


def log_time(line):
    return datetime.datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S.%f")


@pytest.mark.newer
def test_out_of_file_descriptors(make_pooler):
    """Accepting pauses, those who are in go on, and it recovers by itself."""
    p = make_pooler(
        start=False, settings={"max_client_conn": 500, "tcp_defer_accept": 0, "pool_mode": "transaction"}, threads=1
    )
    plain = p.command
    p.command = lambda *args: ["prlimit", "--nofile=70:70", "--", *plain(*args)]
    p.start()
    inside = p.login()
    assert inside.value("select 1") == "1"
    crowd = [wire.Conn.tcp(p.port) for _ in range(120)]
    p.wait_for_log("accept\\(\\) failed: ")
    assert inside.value("select 2") == "2"
    for c in crowd:
        c.close()
    late = p.raw(timeout=20)
    late.login()
    assert late.value("select 3") == "3"
    # It rests for five seconds, as the log shows, whatever the machine does meanwhile.
    lines = p.log_text().splitlines()
    failed = max(n for n, line in enumerate(lines) if "accept() failed: " in line)
    came = next(line for line in lines[failed:] if "login attempt" in line)
    assert (log_time(came) - log_time(lines[failed])).total_seconds() >= 4.99
