"""Readiness: what load balancers are told by HTTP and by SHOW READINESS, and what they may cost."""
import random
import socket

import pytest
from harness import wire
from harness.procs import free_port, open_fds, wait_until
from harness.wire import PgError

pytestmark = pytest.mark.ours


class Answer:
    def __init__(self, data):
        head, _, self.body = data.decode().partition("\r\n\r\n")
        lines = head.split("\r\n")
        assert lines[0].startswith(("HTTP/1.1 ", "HTTP/1.0 ")), data
        self.status = int(lines[0].split()[1])
        self.headers = dict(line.split(": ", 1) for line in lines[1:])


def connect(port, host="127.0.0.1"):
    return socket.create_connection((host, port), 10)


def ask_raw(port, data, host="127.0.0.1"):
    with connect(port, host) as s:
        s.sendall(data)
        out = b""
        while piece := s.recv(65536):
            out += piece
    return Answer(out)


def ask(port, path, method="GET", **kwargs):
    return ask_raw(port, f"{method} {path} HTTP/1.1\r\nHost: health\r\nUser-Agent: test\r\n\r\n".encode(), **kwargs)


def has_ended(s, words=b""):
    """Whether a connection is closed from the other side; something more is sent before asking."""
    try:
        s.sendall(words)
        return s.recv(65536) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def told(port, path="/ready"):
    a = ask(port, path)
    return a.status, a.body


@pytest.fixture
def healthy(make_pooler):
    """healthy(…) makes a pooler that listens for these questions: (pooler, port)."""

    def make(settings=None, **kwargs):
        port = free_port()
        return make_pooler(settings={"health_listen": port, **(settings or {})}, **kwargs), port

    return make


def test_questions_and_answers(healthy, cluster):
    p, port = healthy(databases={"app": cluster.dsn(), "my-db": cluster.dsn(dbname="app")})
    ready = ask(port, "/ready")
    assert (ready.status, ready.body) == (200, "ready\n")
    assert ready.headers.pop("Date").endswith(" GMT")
    assert ready.headers == {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": "6",
        "Cache-Control": "no-store",
        "Connection": "close",
    }
    assert told(port, "/live") == (200, "live\n")
    assert told(port, "/ready?verbose=1") == (200, "ready\n")
    assert told(port, "/ready/app") == told(port, "/ready/my%2ddb") == (200, "ready\n")
    assert told(port, "/ready/nowhere") == told(port, "/ready/pgbouncer") == (404, "no such database\n")
    assert told(port, "/ready/") == (404, "no such database\n")
    assert told(port, "/ready/%zz")[0] == told(port, "/ready/%4")[0] == told(port, "/ready/app%00")[0] == 404
    assert told(port, "/ready/" + "x" * 200)[0] == 404
    assert ask_raw(port, b"GET http://health/ready HTTP/1.1\r\nHost: health\r\n\r\n").status == 200
    assert told(port, "/")[0] == told(port, "/readyx")[0] == 404
    head = ask(port, "/ready", "HEAD")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, "", "6")
    for method in "POST", "OPTIONS", "TRACE", "BREW":
        refused = ask(port, "/ready", method)
        assert (refused.status, refused.headers["Allow"], refused.body) == (405, "GET, HEAD", "GET and HEAD only\n")


@pytest.mark.parametrize(
    "request_bytes, status",
    [
        (b"GET /ready HTTP/1.0\r\n\r\n", 200),
        (b"GET /ready HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200),
        (b"GET /ready HTTP/1.1\r\nConnection: keep-alive\r\n\r\nGET /live HTTP/1.1\r\n\r\n", 200),
        (b"POST /ready HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", 413),
        (b"GET /ready HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 413),
        (b"GET /ready HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /ready HTTP/1.1\r\nContent-Length: 5\r\nExpect: miracles\r\n\r\n", 417),
        (b"GET /ready HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /ready\r\n\r\n", 400),
        (b"GET  HTTP/1.1\r\n\r\n", 400),
        (b"GET /ready HTTP/2.0\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\0\xff\r\n\r\n", 400),
    ],
)
def test_odd_requests(healthy, request_bytes, status):
    """Each is answered once, and hung up on whatever it wishes."""
    _, port = healthy()
    a = ask_raw(port, request_bytes)
    assert (a.status, a.headers["Connection"]) == (status, "close")
    assert "HTTP/1" not in a.body


def test_random_requests(healthy):
    """Whatever is sent, there is one whole answer or none, and the next one is served."""
    _, port = healthy()
    rng = random.Random(4711)
    words = [b"GET", b"HEAD", b" ", b"/ready", b"/ready/", b"/live", b"%41", b"%", b"%6", b"?", b"HTTP/1.1", b"HTTP/1."]
    words += [b"\r\n", b"\r", b"\n", b"\0", b"\xff", b"app", b"x" * 300]
    for _ in range(300):
        data = b"".join(rng.choice(words) for _ in range(rng.randrange(1, 12)))
        with connect(port) as s:
            s.sendall(data + rng.choice([b"", b"\r\n\r\n"]))
            s.shutdown(socket.SHUT_WR)
            out = b""
            try:
                while piece := s.recv(65536):
                    out += piece
            except ConnectionError:
                out = b""
        assert out == b"" or Answer(out).status in (200, 400, 404, 405), data
    assert told(port) == (200, "ready\n")


def test_a_question_behind_which_nothing_more_comes(healthy):
    """Who closes its own direction at once, as nc does, is told all the same."""
    _, port = healthy()
    with connect(port) as s:
        s.sendall(b"GET /live HTTP/1.1\r\n\r\n")
        s.shutdown(socket.SHUT_WR)
        assert s.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "piece",
    [b"x" * 100000, b"x: y\r\n" * 2000, b":\r\n" * 5000, b" x\r\n" * 5000],
    ids=["one line", "many lines", "empty headers", "one header"],
)
def test_a_request_that_is_too_long(healthy, piece):
    """It is refused by an answer, which gets lost when the kernel has more to read than anybody wants."""
    p, port = healthy()
    with connect(port) as s:
        try:
            s.sendall(b"GET /ready HTTP/1.1\r\nx: y\r\n" + piece)
            assert s.recv(65536).startswith(b"HTTP/1.1 400 ")
        except ConnectionError:
            pass
    assert told(port) == (200, "ready\n")


@pytest.mark.parametrize(
    "start, trickle",
    [
        (b"", b""),
        (b"GET /ready HTTP/1.1\r\n", b"x: y\r\n"),
        (b"GET /ready HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"\r\n"),
        (b"GET /ready HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"x" * 1000),
    ],
    ids=["silence", "headers", "no chunks", "no end of a line"],
)
def test_who_takes_long_is_hung_up_on(healthy, start, trickle):
    """A connection lasts five seconds, whatever comes meanwhile."""
    p, port = healthy()
    fds = open_fds(p.proc.pid)
    with connect(port) as s:
        s.settimeout(0.2)
        s.sendall(start)
        wait_until(lambda: has_ended(s, trickle), "the end of it", timeout=30)
    wait_until(lambda: open_fds(p.proc.pid) == fds, "its descriptor to be free")


def test_a_request_in_pieces(healthy):
    _, port = healthy()
    with connect(port) as s:
        for byte in b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n":
            s.sendall(bytes([byte]))
        assert s.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        assert s.recv(1) == b""


@pytest.mark.parametrize("words", [b"", b"GET /live HTTP/1.1\r\nHost: x", b"GET /live HTTP/1.1\r\n\r\n"])
def test_a_crowd_does_not_keep_honest_ones_out(healthy, words):
    """There are never more than 64, however they come; the oldest goes, not the new one."""
    p, port = healthy()
    fds = open_fds(p.proc.pid)
    crowd = []
    for _ in range(800):
        crowd.append(connect(port))
        crowd[-1].sendall(words)
        if len(crowd) % 100 == 0:
            assert told(port) == (200, "ready\n")
            assert open_fds(p.proc.pid) <= fds + 70
    for s in crowd[:700]:
        s.settimeout(10)
        try:
            while s.recv(65536):
                pass
        except ConnectionError:
            pass
    assert told(port) == (200, "ready\n")
    for s in crowd:
        s.close()
    wait_until(lambda: open_fds(p.proc.pid) == fds, "the descriptors to be free", timeout=30)


@pytest.mark.parametrize("how", ["reload", "shutdown", "restart"])
def test_connections_do_not_outlive_the_address(healthy, how):
    p, port = healthy()
    crowd = [connect(port) for _ in range(10)]
    for s in crowd[5:]:
        s.sendall(b"GET /live HTTP/1.1\r\n")
    assert told(port) == (200, "ready\n")
    if how == "reload":
        p.admin("SET health_listen = ''")
    elif how == "shutdown":
        p.stop()
    else:
        p.restart()
        wait_until(lambda: not refuses(port), "the new one", timeout=30)
        assert told(port) == (200, "ready\n")
    for s in crowd:
        assert has_ended(s)
        s.close()


def rows(p):
    return {r["database"]: (r["ready"], r["reason"]) for r in p.show("readiness")}


def test_the_flag_turns_before_anything_else(healthy):
    p, port = healthy({"drain_delay": 600, "pool_mode": "transaction"})
    c = p.login()
    c.query("select 1")
    assert rows(p) == {None: (1, None), "app": (1, None)}
    console = p.console()
    console.conn.send(wire.query("DRAIN app"))
    wait_until(lambda: told(port, "/ready/app") == (503, "draining\n"), "the flag of the database")
    assert told(port) == (200, "ready\n")
    assert rows(p) == {None: (1, None), "app": (0, "draining")}
    assert c.query("select 2").rows == [["2"]]
    p.login().query("select 3")
    p.admin("RESUME app")
    assert told(port, "/ready/app") == (200, "ready\n")
    assert console.conn.read_ready().error.text == "DRAIN was undone before it was complete"
    console.conn.send(wire.query("DRAIN"))
    wait_until(lambda: told(port) == (503, "draining\n"), "the flag of all")
    assert told(port, "/ready/app") == (503, "draining\n")
    assert told(port, "/live") == (200, "live\n")
    assert c.query("select 2").rows == [["2"]]
    p.admin("RESUME")
    assert told(port) == (200, "ready\n")


def test_shutdown_turns_it(healthy):
    p, port = healthy({"drain_delay": 600, "pool_mode": "transaction"})
    c = p.login()
    p.exit_wanted = True
    p.admin("SHUTDOWN DRAIN")
    assert told(port) == (503, "shutting down\n")
    assert c.query("select 1").rows == [["1"]]
    p.admin("SHUTDOWN WAIT_FOR_CLIENTS")
    assert told(port) == (503, "shutting down\n")
    c.terminate()
    assert p.wait_exit() == 0


def test_other_reasons(healthy):
    p, port = healthy()
    console = p.console()
    console.run("PAUSE")
    assert told(port) == (200, "ready\n"), "a pause is not for load balancers to notice"
    console.run("RESUME")
    console.run("DISABLE app")
    assert told(port, "/ready/app") == (503, "disabled\n") and told(port) == (200, "ready\n")
    console.run("ENABLE app")
    console.run("SUSPEND")
    assert told(port) == (503, "suspended\n")
    console.run("RESUME")
    assert told(port) == told(port, "/ready/app") == (200, "ready\n")


def refuses(port):
    try:
        connect(port).close()
    except OSError:
        return True
    return False


def test_reload_moves_it(healthy):
    p, port = healthy()
    other = free_port()
    assert told(port)[0] == 200
    p.admin(f"SET health_listen = '127.0.0.1:{other}'")
    wait_until(lambda: not refuses(other) and told(other)[0] == 200, "the new port", timeout=20)
    assert refuses(port)
    p.admin("SET health_listen = ''")
    wait_until(lambda: refuses(other), "the end of it", timeout=20)


def test_a_port_that_is_taken_is_tried_again(make_pooler):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        p = make_pooler(settings={"health_listen": f"127.0.0.1:{port}"})
        p.wait_for_log("health_listen: cannot listen on 127.0.0.1:")
        assert p.login().query("select 1").rows == [["1"]]
        p.admin("SET stats_period = 1")
        wait_until(lambda: p.log_count("LOG stats:") > 3, "it to be tried more than once", timeout=20)
        assert p.log_count("cannot listen on 127.0.0.1:") == 2  # the listener says why, once
    wait_until(lambda: not refuses(port) and told(port)[0] == 200, "the port to be ours", timeout=30)


def test_an_online_restart(healthy):
    """The next process answers as soon as it can have the port, and says at most once that it cannot."""
    p, port = healthy()
    mark = p.restart()
    wait_until(lambda: not refuses(port) and told(port)[0] == 200, "the port to be the successor's", timeout=30)
    assert p.log_count("cannot listen on ", mark) in (0, 2)  # the listener says why, too


def test_addresses(make_pooler):
    port = free_port()
    make_pooler(settings={"health_listen": f"*:{port}"})
    assert told(port) == (200, "ready\n")
    port = free_port()
    make_pooler(settings={"health_listen": f"[::1]:{port}"})
    assert ask(port, "/ready", host="::1").status == 200
    assert refuses(port)


def test_an_address_that_is_none(make_pooler):
    p = make_pooler(settings={"health_listen": "1.2.3.4"}, start=False)
    p.expected_rc = 1
    p.start(wait=False)
    assert p.wait_exit() == 1
    assert p.log_count('invalid value "1.2.3.4" for parameter health_listen') == 1
    q = make_pooler()
    with pytest.raises(PgError, match="SET failed"):
        q.admin("SET health_listen = 'a:b'")
