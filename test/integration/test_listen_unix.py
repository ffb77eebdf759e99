"""Listening: addresses, the Unix socket with its modes, the abstract name space, and servers behind Unix sockets."""
import grp
import os
import socket
import stat

import pytest
from harness import procs, wire


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


def test_ipv6(make_pooler):
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 loopback here")
    p = make_pooler(settings={"listen_addr": "::1"})
    p.wait_for_log(rf"listening on \[::1\]:{p.port}")
    with wire.Conn.tcp(p.port, "::1") as c:
        c.login()
        assert c.value("select 1") == "1"
        p.wait_for_log(r"app/app@\[::1\]:\d+ login attempt")


def test_psql_over_both(make_pooler):
    p = make_pooler()
    assert p.psql("-c", "select 'tcp'").stdout == "tcp\n"
    assert p.psql("-c", "select 'unix'", host=p.dir).stdout == "unix\n"


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
