"""Bytes through TLS on both sides: sizes around every threshold, records cut anywhere, ends at each step."""
import struct
import threading
import time

import pytest
from harness import wire
from harness.procs import open_fds, rss_kib, wait_until
from harness.wire import SYNC, bind, execute, extended, parse, query

VERSIONS = ("1.2", "1.3")
RECORD = 16384
THRESHOLDS = (RECORD, 2 * RECORD, 4 * RECORD, 8 * RECORD)  # a record, the scratch buffer and its multiples


def both_sides(pki, tls_cluster, **more):
    """Arguments of a pooler with TLS on both sides."""
    return {
        "databases": {"app": tls_cluster.dsn()},
        "settings": {**pki.client_settings(), **pki.server_settings("require"), **more},
    }


@pytest.fixture
def tls_pooler(make_pooler, pki, tls_cluster):
    return make_pooler(**both_sides(pki, tls_cluster))


# --- sizes


@pytest.mark.parametrize("version", VERSIONS)
def test_results_around_the_thresholds(tls_pooler, pki, version):
    c = tls_pooler.login(tls=pki.client_context(version=version))
    for threshold in THRESHOLDS:
        for size in range(threshold - 90, threshold + 3):
            got = c.query(f"select repeat('x', {size})")
            assert len(got.value()) == size and got.status == "I"


@pytest.mark.parametrize("version", VERSIONS)
def test_queries_around_the_thresholds(tls_pooler, pki, version):
    c = tls_pooler.login(tls=pki.client_context(version=version))
    rest = len(query("select length('')"))
    for threshold in THRESHOLDS:
        for size in range(threshold - rest - 3, threshold - rest + 4):
            assert c.value(f"select length('{'x' * size}')") == str(size)


@pytest.mark.parametrize("sizes", [(1,), (RECORD,), (RECORD - 1,), (RECORD - 1, 2), (5, RECORD, 1), (3,)])
def test_records_of_any_size(tls_pooler, pki, sizes):
    """A long query in records of these sizes by turns, all sent at once."""
    c = tls_pooler.login(tls=pki.client_context())
    length = 3000 if max(sizes) < 10 else 200000
    message, out, at, turn = query(f"select length('{'x' * length}')"), b"", 0, 0
    while at < len(message):
        size = sizes[turn % len(sizes)]
        out += c.tls.encrypted(message[at : at + size])
        at, turn = at + size, turn + 1
    c.tls.raw.sendall(out)
    assert c.read_ready().value() == str(length)


@pytest.mark.parametrize("version", VERSIONS)
def test_copy_both_ways(tls_pooler, pki, version):
    c = tls_pooler.login(tls=pki.client_context(version=version))
    c.query("create temp table t(i int, x text)")
    c.send(query("copy t from stdin"))
    assert c.recv().type == "G"
    count = 0
    for size in (10, 500, RECORD - 5, RECORD - 4, RECORD - 6, 4 * RECORD, 100000):
        lines = b"".join(b"%d\t%s\n" % (count + i, b"y" * (size - 20)) for i in range(20))
        count += 20
        for at in range(0, len(lines), size):
            c.send(wire.pack("d", lines[at : at + size]))
    c.send(wire.pack("c"))
    assert c.read_ready().tag == f"COPY {count}"
    sent = int(c.value("select sum(length(x)) from t"))
    c.send(query("copy t to stdout"))
    got = b"".join(m.body for m in c.read_ready().messages if m.type == "d")
    assert sum(len(line.split(b"\t")[1]) for line in got.splitlines()) == sent


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_pipelines(make_pooler, pki, tls_cluster, version, mode):
    """As many batches as fit, in one write; each is answered, in order."""
    p = make_pooler(**both_sides(pki, tls_cluster, pool_mode=mode))
    c = p.login(tls=pki.client_context(version=version))
    count = 300
    batches = [extended(f"select {i}, repeat('z', {i * 7})") + SYNC for i in range(count)]
    data = c.tls.encrypted(b"".join(batches))  # one thread at a time in the session
    sender = threading.Thread(target=c.tls.raw.sendall, args=(data,))
    sender.start()
    for i in range(count):
        got = c.read_ready()
        assert got.rows == [[str(i), "z" * (i * 7)]]
    sender.join()


# --- records and messages that do not end together


def small_messages():
    return parse("", "select $1::text || 'b'") + bind("", "", ["a"]) + execute() + SYNC + query("select 'c'")


@pytest.mark.parametrize("version", VERSIONS)
def test_client_cuts_records_at_every_offset(make_pooler, pki, version):
    """Several messages in two records, the cut at each offset, in one segment: what came last is not forgotten."""
    p = make_pooler(settings=pki.client_settings(pool_mode="transaction"))
    c = p.login(tls=pki.client_context(version=version))
    data = small_messages()
    for cut in range(1, len(data)):
        c.tls.raw.sendall(c.tls.encrypted(data[:cut]) + c.tls.encrypted(data[cut:]))
        assert c.read_ready().rows == [["ab"]] and c.read_ready().value() == "c"


def test_client_cuts_segments_at_every_offset(make_pooler, pki):
    """One record in two segments; the pooler has seen the first before the second is sent."""
    p = make_pooler(settings=pki.client_settings(pool_mode="transaction"), threads=1)
    c, other = p.login(tls=pki.client_context()), p.login(tls=pki.client_context())
    cut, length = 1, 2
    while cut < length:
        record = c.tls.encrypted(query("select 'c'"))
        length = len(record)
        c.tls.raw.sendall(record[:cut])
        assert other.value("select 'meanwhile'") == "meanwhile"
        c.tls.raw.sendall(record[cut:])
        assert c.read_ready().value() == "c"
        cut += 1
    assert cut > 30


@pytest.mark.parametrize("version", VERSIONS)
def test_client_packs_messages_across_full_records(make_pooler, pki, version):
    """A first message that leaves k bytes of a full record to those behind it, for each k."""
    p = make_pooler(settings=pki.client_settings(pool_mode="transaction"))
    c = p.login(tls=pki.client_context(version=version))
    tail = small_messages()
    head = len(query("select length('')"))
    for left in range(len(tail) + 2):
        size = RECORD - head - left
        c.tls.raw.sendall(c.tls.encrypted(query(f"select length('{'x' * size}')") + tail))
        assert c.read_ready().value() == str(size)
        assert c.read_ready().rows == [["ab"]] and c.read_ready().value() == "c"


def cutting_server(conn, params):
    """Each query says how its answer is cut: `cut K`, `pack K`."""
    conn.greet()
    while True:
        m = conn.recv()
        if m.type == "X":
            return
        word, number = m.body[:-1].decode().split()
        rows = wire.row_description("v") + wire.data_row("one") + wire.data_row("two")
        tail = wire.pack("C", b"SELECT 2\0") + wire.pack("Z", b"I")
        if word == "cut":
            data = rows + tail
            conn.tls.raw.sendall(conn.tls.encrypted(data[: int(number)]) + conn.tls.encrypted(data[int(number) :]))
        else:
            big = wire.data_row("x" * (RECORD - len(wire.row_description("v")) - 11 - int(number)))
            rest = wire.data_row("one") + wire.data_row("two") + tail
            conn.tls.raw.sendall(conn.tls.encrypted(wire.row_description("v") + big + rest))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("client", ["plain", "tls"])
def test_server_packs_messages_across_records(make_pooler, pki, fake_server, version, client):
    s = fake_server(cutting_server, tls=pki.server_context(version=version))
    settings = {**pki.server_settings("require"), **pki.client_settings("prefer")}
    p = make_pooler({"app": s.dsn()}, settings=settings)
    c = p.login(tls=pki.client_context(version=version) if client == "tls" else None)
    for number in range(1, 70):
        assert c.query(f"cut {number}").rows == [["one"], ["two"]]
        got = c.query(f"pack {number}")
        assert got.rows[1:] == [["one"], ["two"]] and set(got.rows[0][0]) == {"x"}


@pytest.mark.parametrize("side", ["client", "server"])
def test_empty_records(make_pooler, pki, fake_server, side):
    """Records without data are allowed, and mean nothing."""
    s = fake_server(lambda conn, params: wire.serve_queries(conn), tls=pki.server_context(version="1.2"))
    p = make_pooler({"app": s.dsn()}, settings={**pki.client_settings(), **pki.server_settings("require")})
    c = p.login(tls=pki.client_context(version="1.2"))
    for _ in range(5):
        c.tls.tls.write(b"")
        c.tls.flush()
        assert c.value("select 1") == "ok"


# --- new keys


def test_key_updates_of_a_client(tls_pooler, pki):
    c = tls_pooler.login(tls=pki.client_context(version="1.3"))
    c.query("create temp table t(x text)")
    for ask in (False, True, True):
        c.tls.key_update(ask)
        assert c.value("select 'fresh'") == "fresh"
    c.send(query("copy t from stdin"))
    assert c.recv().type == "G"
    for i in range(20):
        c.tls.key_update(i % 2 == 0)
        c.send(wire.pack("d", b"x" * 20000 + b"\n"))
    c.send(wire.pack("c"))
    assert c.read_ready().tag == "COPY 20"
    c.send(query("select x from t"))
    c.tls.key_update(True)
    assert len(c.read_ready().rows) == 20


def test_key_updates_of_a_server(make_pooler, pki, fake_server):
    def handler(conn, params):
        conn.greet()
        turn = 0
        while True:
            m = conn.recv()
            if m.type == "X":
                return
            conn.tls.key_update(turn % 2 == 0)
            conn.send(wire.answer("x" * 30000))
            turn += 1

    s = fake_server(handler, tls=pki.server_context(version="1.3"))
    p = make_pooler({"app": s.dsn()}, settings=pki.server_settings("require"))
    c = p.login()
    for _ in range(20):
        assert len(c.value("select 1")) == 30000


@pytest.mark.parametrize("ask", [False, True])
def test_key_updates_that_nobody_waits_for(make_pooler, pki, fake_server, ask):
    """
    They are no messages: not behind an answer in the same segment, when the server is about to be given back, nor from
    a server or a client that is idle. Nobody is closed, and the session stays good.
    """
    go_on = threading.Event()

    def handler(conn, params):
        conn.greet()
        while (m := conn.recv()).type == "Q":
            conn.tls.hold = True
            conn.send(wire.answer("ok"))
            conn.tls.key_update(ask)
            conn.tls.hold = False
            conn.tls.release()
            if m.body == b"later\0":
                assert go_on.wait(20)
                conn.tls.key_update(ask)

    s = fake_server(handler, tls=pki.server_context(version="1.3"))
    settings = {**pki.server_settings("require"), **pki.client_settings("require"), "pool_mode": "transaction"}
    p = make_pooler({"app": s.dsn()}, settings=settings)
    c = p.login(tls=pki.client_context(version="1.3"))
    for _ in range(20):
        assert c.value("select 1") == "ok"
        c.tls.key_update(ask)
    assert c.value("later") == "ok"
    p.wait_pool(sv_idle=1)
    go_on.set()
    c.tls.key_update(ask)
    for _ in range(20):
        assert c.value("select 1") == "ok"
    assert s.logins == 1


# --- who does not read


@pytest.mark.parametrize("version", VERSIONS)
def test_client_that_does_not_read(tls_pooler, pki, tls_cluster, version):
    """The result waits at its server, not in the pooler; nothing of it is lost."""
    p = tls_pooler
    c = p.login(tls=pki.client_context(version=version))
    c.value("select 1")
    before = rss_kib(p.proc.pid)
    tag = f"held back {p.port}"
    c.send(query(f"select repeat('x', 100000) from generate_series(1, 600) /* {tag} */"))
    wait_until(
        lambda: tls_cluster.value(
            "select count(*) from pg_stat_activity where wait_event = 'ClientWrite' and query like %s", (f"%{tag}%",)
        ),
        "the server waits until it may write",
    )
    assert rss_kib(p.proc.pid) - before < 20 * 1024
    assert p.login(tls=pki.client_context()).value("select 'served meanwhile'") == "served meanwhile"
    assert sum(len(row[0]) for row in c.read_ready().rows) == 600 * 100000


@pytest.mark.parametrize("version", VERSIONS)
def test_server_that_does_not_read(make_pooler, pki, fake_server, version):
    """What a client sends waits at the client."""
    go_on, total, sizes = threading.Event(), 400, []

    def handler(conn, params):
        conn.greet()
        assert conn.recv().type == "Q"
        conn.send(wire.pack("G", b"\0\0\0"))
        assert go_on.wait(30)
        while (m := conn.recv()).type == "d":
            sizes.append(len(m.body))
        conn.send(wire.pack("C", b"COPY 1\0"), wire.pack("Z", b"I"))
        conn.recv()

    s = fake_server(handler, tls=pki.server_context(version=version))
    p = make_pooler({"app": s.dsn()}, settings={**pki.client_settings(), **pki.server_settings("require")})
    c = p.login(tls=pki.client_context(version=version), timeout=30)
    before = rss_kib(p.proc.pid)
    c.send(query("copy t from stdin"))
    assert c.recv().type == "G"
    progress = []

    def send_all():
        for _ in range(total):
            c.send(wire.pack("d", b"y" * 100000))
            progress.append(1)
        c.send(wire.pack("c"))

    sender = threading.Thread(target=send_all)
    sender.start()
    wait_standstill(lambda: len(progress))
    assert len(progress) < total, "all of it went into the pooler"
    assert rss_kib(p.proc.pid) - before < 20 * 1024
    go_on.set()
    sender.join()
    assert c.read_ready().tag == "COPY 1"
    assert sizes == [100000] * total


def wait_standstill(value, seconds=0.5):
    """Until it has not changed for so long."""
    seen = [value(), time.monotonic()]

    def is_still():
        if value() != seen[0]:
            seen[:] = [value(), time.monotonic()]
        return time.monotonic() - seen[1] > seconds

    wait_until(is_still, "nothing changes any more", timeout=30)


# --- ends at each step


def at_request(p, pki):
    return p.raw()


def behind_the_request(p, pki):
    c = p.raw()
    assert c.ssl_request() == b"S"
    return c


def amid_the_hello(p, pki):
    c = behind_the_request(p, pki)
    c.sock = wire.TlsSock(c.sock, pki.client_context())
    c.sock.hold = True
    c.sock.step()
    c.sock.raw.sendall(c.sock.held[:50])
    return c


def behind_the_hello(p, pki):
    c = behind_the_request(p, pki)
    c.sock = wire.TlsSock(c.sock, pki.client_context())
    c.sock.step()
    return c


def amid_the_finish(p, pki):
    c = behind_the_hello(p, pki)
    c.sock.hold = True
    while not c.sock.step() and not c.sock.held:
        c.sock.feed(c.sock.raw.recv(65536))
    c.sock.raw.sendall(c.sock.held[: len(c.sock.held) // 2])
    return c


def behind_the_handshake(p, pki):
    return p.tls(pki.client_context())


def amid_the_startup_packet(p, pki):
    c = behind_the_handshake(p, pki)
    c.send(wire.startup_packet({"user": "app", "database": "app"})[:13])
    return c


def asked_for_a_password(p, pki):
    c = behind_the_handshake(p, pki)
    c.start()
    assert c.recv().type == "R"
    return c


def amid_scram(p, pki):
    c = asked_for_a_password(p, pki)
    first = wire.ScramClient("apppw").first()
    c.send(wire.pack("p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first))
    assert c.recv().type == "R"
    return c


def logged_in(p, pki):
    return p.login(password="apppw", tls=pki.client_context())


def in_a_transaction(p, pki):
    c = logged_in(p, pki)
    c.query("begin")
    return c


def amid_a_message(p, pki):
    c = in_a_transaction(p, pki)
    c.send(query("select 'never finished'")[:9])
    return c


def amid_a_record(p, pki):
    c = in_a_transaction(p, pki)
    c.tls.raw.sendall(c.tls.encrypted(query("select 'never finished'"))[:17])
    return c


def amid_a_result(p, pki):
    c = logged_in(p, pki)
    c.send(query("select repeat('x', 100000) from generate_series(1, 300)"))
    c.read_exact(50000)
    return c


def amid_copy(p, pki):
    c = in_a_transaction(p, pki)
    c.query("create temp table t(x text)")
    c.send(query("copy t from stdin"))
    assert c.recv().type == "G"
    c.send(wire.pack("d", b"x" * 50000))
    return c


STEPS = [at_request, behind_the_request, amid_the_hello, behind_the_hello, amid_the_finish, behind_the_handshake]
STEPS += [amid_the_startup_packet, asked_for_a_password, amid_scram, logged_in, in_a_transaction, amid_a_message]
STEPS += [amid_a_record, amid_a_result, amid_copy]


def end_reset(c):
    sock = c.tls.raw if c.tls else c.sock
    wire.Conn(sock).reset()


def end_close(c):
    c.close()


def end_half(c):
    """Only our direction; what the pooler still sends is read to its end."""
    (c.tls.raw if c.tls else c.sock).shutdown(1)
    drain(c)


def end_notify(c):
    """The orderly end of TLS, with the socket left open: the pooler closes it."""
    c.tls.close_notify()
    drain(c)


def end_alert(c):
    """A fatal alert, which only before the end of the handshake is in the clear."""
    (c.tls.raw if c.tls else c.sock).sendall(b"\x15\x03\x03\x00\x02\x02\x28")
    drain(c)


def drain(c):
    raw = c.tls.raw if c.tls else c.sock
    try:
        while raw.recv(1 << 20):
            pass
    except ConnectionResetError:
        pass
    raw.close()


ENDS = [end_reset, end_close, end_half, end_notify, end_alert]


def can_end(step, end):
    """An alert has no meaning in the middle of another record, nor has the end of a session before it has begun."""
    if end == end_alert:
        return step not in (at_request, amid_the_hello, amid_the_finish, amid_a_record)
    return end != end_notify or STEPS.index(step) >= STEPS.index(behind_the_handshake) and step != amid_a_record


def go_all(p, pki, end):
    """One client for each step, beside another whom they must not disturb; then everybody is sent away."""
    console = p.console_conn()
    console.login("admin", "pgbouncer", "adminpw")
    bystander = p.login(password="apppw", tls=pki.client_context())
    bystander.query("begin")
    bystander.query("create temp table mine(i int)")
    for step in STEPS:
        if not can_end(step, end):
            continue
        try:
            end(step(p, pki))
        except TimeoutError:
            raise AssertionError(f"{step.__name__}: the pooler does not close") from None
        assert bystander.query("select count(*) from mine").rows == [["0"]], step.__name__
    wait_until(lambda: len(console.query("show clients").rows) == 2, lambda: str(console.query("show clients").rows))
    wait_until(lambda: p.pool()["sv_active"] == 1, "one server is in use")
    assert bystander.query("rollback").status == "I"
    p.admin("KILL app")
    wait_until(lambda: not console.query("show servers").rows, "no server is left")
    p.admin("RESUME app")
    console.terminate()


@pytest.mark.parametrize("end", ENDS, ids=lambda f: f.__name__)
def test_ends_at_each_step(make_pooler, pki, tls_cluster, end):
    """Whoever goes, and however: nobody else notices, and nothing is left behind."""
    arguments = both_sides(pki, tls_cluster, auth_type="scram-sha-256", pool_mode="transaction", default_pool_size=5)
    p = make_pooler(**arguments)
    go_all(p, pki, end)
    descriptors = open_fds(p.proc.pid)
    go_all(p, pki, end)
    wait_until(lambda: open_fds(p.proc.pid) <= descriptors, lambda: f"{open_fds(p.proc.pid)} > {descriptors} are open")
    assert p.login(password="apppw", tls=pki.client_context()).value("select 'alive'") == "alive"


@pytest.mark.parametrize("version", VERSIONS)
def test_close_notify_is_sent(make_pooler, pki, version):
    """A client can tell the end of the session from a connection that was cut."""
    p = make_pooler(settings=pki.client_settings())
    c = p.login(tls=pki.client_context(version=version))
    c.send(wire.TERMINATE)
    assert not c.expect_close().messages
    assert c.tls.ended_cleanly
    c = p.tls(pki.client_context(version=version))
    c.start(user="app", database="nowhere")
    assert c.expect_error_close()
    assert c.tls.ended_cleanly


@pytest.mark.parametrize("how", ["reset", "close", "notify", "truncated"])
@pytest.mark.parametrize("when", ["idle", "amid_a_result"])
def test_server_goes_away(make_pooler, pki, fake_server, how, when):
    """Its client is told; the next query gets a new server."""
    is_idle = threading.Event()

    def handler(conn, params):
        conn.greet()
        while (m := conn.recv()).type == "Q":
            if m.body == b"die\0":
                rows = wire.row_description("v") + wire.data_row("x" * 50000)
                if when == "amid_a_result":
                    conn.send(rows[:-1000])
                else:
                    conn.send(wire.answer("dying"))
                    assert is_idle.wait(20)
                if how == "reset":
                    wire.Conn(conn.tls.raw).reset()
                elif how == "notify":
                    conn.tls.close_notify()
                    conn.tls.raw.recv(1)
                elif how == "truncated":
                    conn.tls.raw.sendall(conn.tls.encrypted(b"x" * 100)[:50])
                return
            conn.send(wire.answer("ok"))

    s = fake_server(handler, tls=pki.server_context())
    p = make_pooler({"app": s.dsn()}, settings={**pki.server_settings("require"), "pool_mode": "transaction"})
    c = p.login()
    c.send(query("die"))
    if when == "idle":
        assert c.read_ready().value() == "dying"
        p.wait_pool(sv_idle=1)
        is_idle.set()
        p.wait_pool(sv_idle=0)
        assert c.value("again") == "ok"
    else:
        drain(c)
    assert p.login().value("again") == "ok"
