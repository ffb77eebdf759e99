"""What the tests of replication have in common: both kinds of requests, and a stream from either side."""
from . import wire

MODES = ("session", "transaction", "statement")
LOGICAL = {"replication": "database"}
PHYSICAL = {"replication": "yes"}

START = b"START_REPLICATION 0/0\0"


def copy_both(conn):
    """Reads START_REPLICATION, begins to stream."""
    m = conn.recv()
    assert m == wire.Msg("Q", START)
    conn.send(wire.pack("W", b"\0\0\0"))


def streaming_server(fake_server, script):
    """A server that runs script(conn) once it streams; the startup packets it got are in .startups."""
    startups = []

    def handler(conn, startup):
        startups.append(startup)
        conn.greet()
        copy_both(conn)
        script(conn)

    server = fake_server(handler)
    server.startups = startups
    return server


def start_streaming(p, **kwargs):
    c = p.login("app", "app", params=PHYSICAL, **kwargs)
    c.send(wire.pack("Q", START))
    assert c.recv().type == "W"
    return c


def end_of_stream(conn):
    """The client's CopyDone, then ours, and the end of the command."""
    while conn.recv().type != "c":
        pass
    conn.send(wire.pack("c"), wire.pack("C", b"START_STREAMING\0"), wire.pack("Z", b"I"))


def identify(conn):
    """IDENTIFY_SYSTEM over a raw connection: a row of four columns."""
    result = conn.query("IDENTIFY_SYSTEM")
    assert result.error is None and len(result.rows) == 1 and len(result.rows[0]) == 4
    return result


def replication_column(p, what, kind="S"):
    return sorted(r["replication"] for r in p.show(what) if r["type"] == kind and r["database"] != "pgbouncer")
