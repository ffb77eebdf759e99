"""The first packet: encryption requests, protocol versions, parameters, `options`, and packets that are none."""
import os
import socket
import struct

import pytest
from harness import wire


def negotiation(body):
    version, count = struct.unpack("!ii", body[:8])
    names = [n.decode() for n in body[8:].split(b"\0")[:-1]]
    assert len(names) == count, body
    return version, names


@pytest.mark.parametrize("code", [wire.CODE_SSL, wire.CODE_GSSENC])
def test_encryption_is_refused_with_n(pooler, code):
    c = pooler.raw()
    assert c.ssl_request(code) == b"N"
    c.login()
    assert c.value("select 1") == "1"


@pytest.mark.parametrize("code", [wire.CODE_SSL, wire.CODE_GSSENC])
def test_encryption_is_refused_on_a_unix_socket(pooler, code):
    c = pooler.raw_unix()
    assert c.ssl_request(code) == b"N"
    assert c.ssl_request(code) == b"N"
    c.login()
    assert c.value("select 1") == "1"


def test_requests_may_follow_each_other(pooler):
    c = pooler.raw()
    assert c.ssl_request(wire.CODE_GSSENC) == b"N"
    assert c.ssl_request(wire.CODE_SSL) == b"N"
    c.login()


@pytest.mark.newer
@pytest.mark.parametrize(
    "code,text",
    [
        (wire.CODE_SSL, "received unencrypted data after SSL request"),
        (wire.CODE_GSSENC, "received unencrypted data after GSSAPI encryption request"),
    ],
)
def test_plaintext_behind_a_request_is_refused(pooler, code, text):
    c = pooler.raw()
    c.send(struct.pack("!ii", 8, code) + wire.startup_packet({"user": "app", "database": "app"}))
    result = c.read_exact(1)
    if result == b"N":
        result = c.read_exact(1)
    assert result == b"E"
    size = struct.unpack("!i", c.read_exact(4))[0]
    fields = wire.fields_of(c.read_exact(size - 4))
    assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", "08P01", text)
    c.expect_close()


@pytest.mark.newer
def test_newer_minor_version_is_negotiated_down(pooler):
    for minor in (1, 2, 9999):
        c = pooler.raw()
        c.login(version=wire.PROTO_3_0 + minor)
        assert negotiation(c.negotiated) == (wire.PROTO_3_0, [])
        assert len(c.key) == 8
        assert c.value("select 1") == "1"


@pytest.mark.newer
def test_protocol_options_are_named_back(pooler):
    c = pooler.raw()
    c.login(params={"_pq_.alpha": "1", "_pq_.beta": "x"})
    assert negotiation(c.negotiated) == (wire.PROTO_3_0, ["_pq_.alpha", "_pq_.beta"])
    c = pooler.raw()
    c.login(version=wire.PROTO_3_0 + 2, params={"_pq_.alpha": "1"})
    assert negotiation(c.negotiated) == (wire.PROTO_3_0, ["_pq_.alpha"])


def test_version_2_is_refused(pooler):
    c = pooler.raw()
    c.send(struct.pack("!ii", 296, 0x00020000) + b"\0" * 288)
    e = c.expect_error_close()
    assert (e.severity, e.code, e.text) == ("FATAL", "08P01", "old V2 protocol not supported")


@pytest.mark.newer
@pytest.mark.parametrize(
    "packet",
    [struct.pack("!ii", 8, 0x00040000), struct.pack("!ii", 8, 0x12345678), b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 16],
)
def test_other_codes_are_refused(pooler, packet):
    c = pooler.raw()
    c.send(packet)
    e = c.expect_error_close()
    assert e.text == f"bad packet header: '{packet[:8].hex()}'"
    assert e.code == "08P01"


def test_password_before_the_startup_packet(pooler):
    c = pooler.raw()
    c.send(wire.pack("p", b"secret\0"))
    assert c.expect_error_close().text == "client password pkt before startup packet"


@pytest.mark.parametrize("mtype", "QSX")
def test_other_message_before_the_startup_packet(pooler, mtype):
    """Closed without a word; the log has the reason."""
    c = pooler.raw()
    c.send(wire.pack(mtype))
    assert c.expect_close().messages == []
    pooler.wait_for_log(r"C-.*\(nodb\)/\(nouser\)@.* closing because: bad packet \(age=")


@pytest.mark.parametrize("mtype", "QdX")
def test_other_message_instead_of_a_password(make_pooler, mtype):
    p = make_pooler(settings={"auth_type": "md5"})
    c = p.raw()
    c.start()
    assert c.recv().type == "R"
    c.send(wire.pack(mtype))
    assert c.expect_close().messages == []
    p.wait_for_log(r"C-.*app/app@.* closing because: bad packet \(age=")


def test_startup_packet_again(make_pooler):
    p = make_pooler(settings={"auth_type": "md5"})
    c = p.raw()
    c.start()
    assert c.recv().type == "R"
    c.start()
    e = c.expect_error_close()
    assert (e.severity, e.code, e.text) == ("FATAL", "08P01", "client re-sent startup pkt")


@pytest.mark.ours
def test_no_packet_of_the_startup_instead_of_a_password(make_pooler):
    p = make_pooler(settings={"auth_type": "md5"})
    c = p.raw()
    c.start()
    assert c.recv().type == "R"
    c.send(struct.pack("!ii", 8, wire.CODE_SSL))
    assert c.expect_error_close().text == "bad packet header: '0000000804d2162f'"


def test_missing_user(pooler):
    c = pooler.raw()
    c.send(wire.startup_packet({"database": "app"}))
    assert c.expect_error_close().text == "no username supplied"
    c = pooler.raw()
    c.send(wire.startup_packet({"user": "", "database": "app"}))
    assert c.expect_error_close().text == "no username supplied"


@pytest.mark.newer
def test_too_long_user(pooler):
    assert pooler.login_error("u" * 127).text == '"trust" authentication failed'
    assert pooler.login_error("u" * 128).text == "username too long"
    pooler.wait_for_log(r"LOG C-.*: \(nodb\)/\(nouser\)@\S+ login failed: db=app user=u{128}$")
    assert pooler.login_error("u" * 5000).text == "username too long"


@pytest.mark.newer
def test_missing_terminator(pooler):
    c = pooler.raw()
    body = struct.pack("!i", wire.PROTO_3_0) + wire.cstr("user") + wire.cstr("app")
    c.send(struct.pack("!i", len(body) + 4) + body)
    assert c.expect_error_close().text == "invalid startup packet layout: expected terminator as last byte"


def test_unsupported_parameter(pooler):
    for name in ("search_path", "work_mem", "nonsense"):
        e = pooler.login_error(params={name: "x"})
        assert (e.code, e.text) == ("08P01", f"unsupported startup parameter: {name}")
    pooler.wait_for_log("WARNING .*unsupported startup parameter: nonsense=x")


def test_unsupported_parameter_before_password(make_pooler):
    p = make_pooler(settings={"auth_type": "md5"})
    assert p.login_error("ghost", params={"work_mem": "1"}).text == "unsupported startup parameter: work_mem"


def test_ignored_parameters(make_pooler):
    p = make_pooler(settings={"ignore_startup_parameters": "extra_float_digits, work_mem  search_path"})
    p.login(params={"extra_float_digits": "2", "work_mem": "1", "search_path": "x"})
    assert p.login_error(params={"Work_Mem": "1"}).text == "unsupported startup parameter: Work_Mem"


@pytest.mark.ours
def test_what_common_drivers_send_is_ignored(make_pooler):
    """pgjdbc and lib/pq say extra_float_digits to everybody."""
    make_pooler(profile="pgsluice").login(params={"extra_float_digits": "2"})
    assert make_pooler(profile="pgbouncer").login_error(params={"extra_float_digits": "2"}).code == "08P01"


def test_tracked_parameters_in_any_case(pooler):
    c = pooler.login(params={"APPLICATION_NAME": "loud", "datestyle": "German, DMY", "TIMEZONE": "Asia/Tokyo"})
    assert c.value("show application_name") == "loud"
    assert c.value("show datestyle") == "German, DMY"
    assert c.value("show timezone") == "Asia/Tokyo"


@pytest.mark.newer
def test_keys_of_the_protocol_have_their_case(pooler):
    for name in ("User", "DATABASE", "Options", "Replication", "_PQ_.x"):
        assert pooler.login_error(params={name: "x"}).text == f"unsupported startup parameter: {name}"


@pytest.mark.newer
def test_last_of_two_counts(pooler):
    c = pooler.raw()
    pairs = [("user", "nobody"), ("user", "app"), ("database", "nowhere"), ("TimeZone", "UTC"), ("database", "app")]
    c.send(wire.startup_packet(pairs + [("timezone", "Asia/Tokyo")]))
    c.finish_login("app", None)
    assert c.value("select current_user") == "app"
    assert c.value("show timezone") == "Asia/Tokyo"


def options_login(p, options, **params):
    return p.login(params={"options": options, **params})


@pytest.mark.newer
@pytest.mark.parametrize(
    "options",
    [
        "-c timezone=Asia/Tokyo",
        "-ctimezone=Asia/Tokyo",
        "--timezone=Asia/Tokyo",
        "  -c   timezone=Asia/Tokyo  ",
        "-c datestyle=ISO -c timezone=Asia/Tokyo",
        "-c TimeZone=Asia/Tokyo",
        "\t-c\n\v\f\rtimezone=Asia/Tokyo\n",
        "-c timezone=UTC --TIMEZONE=Asia/Tokyo",
        r"-c time\zone=As\ia/Tokyo",
        "-c timezone=Asia/Tokyo\\",
    ],
)
def test_options(pooler, options):
    assert options_login(pooler, options).value("show timezone") == "Asia/Tokyo"


@pytest.mark.newer
def test_options_escapes(pooler):
    c = options_login(pooler, r"-c application_name=a\ b\\c")
    assert c.value("show application_name") == r"a b\c"


@pytest.mark.newer
@pytest.mark.parametrize("options,value", [("", ""), ("a=b=c", "a=b=c"), ("\\ -c\\ x=y", " -c x=y"), ("'x'", "'x'")])
def test_options_values(pooler, options, value):
    c = options_login(pooler, f"-c application_name={options}")
    assert c.value("show application_name") == value


@pytest.mark.ours
def test_a_parameter_beats_the_options(pooler):
    """As in PostgreSQL, in whatever order a driver sends them."""
    for pairs in (
        [("options", "-c timezone=UTC -c application_name=o"), ("timezone", "Asia/Tokyo"), ("application_name", "p")],
        [("timezone", "Asia/Tokyo"), ("application_name", "p"), ("options", "-c timezone=UTC -c application_name=o")],
    ):
        c = pooler.raw()
        c.send(wire.startup_packet([("user", "app"), *pairs]))
        c.finish_login("app", None)
        assert (c.value("show timezone"), c.value("show application_name")) == ("Asia/Tokyo", "p")


@pytest.mark.newer
def test_long_options(pooler):
    c = options_login(pooler, "-c datestyle=ISO " * 3000 + "-c application_name=" + "x" * 10000)
    assert c.value("show application_name") == "x" * 63


@pytest.mark.newer
@pytest.mark.parametrize(
    "options,text",
    [
        ("-c work_mem=1", "unsupported startup parameter in options: work_mem"),
        ("--search_path=x", "unsupported startup parameter in options: search_path"),
        ("-d 5", "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"),
        ("-c novalue", "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"),
        ("geqo=off", "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"),
        ("-c application-name=x", "unsupported startup parameter in options: application-name"),
        ("--time-zone=UTC", "unsupported startup parameter in options: time-zone"),
        ("-c", "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"),
        ("-c =x", "unsupported startup parameter in options: "),
        ("--", "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"),
        (
            "-C timezone=UTC",
            "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed",
        ),
    ],
)
def test_options_refused(pooler, options, text):
    e = pooler.login_error(params={"options": options})
    assert (e.code, e.text) == ("08P01", text)
    if "in options: " in text:
        pooler.wait_for_log(f"WARNING C-.*@.* {text}=")


@pytest.mark.newer
def test_options_ignored(make_pooler):
    p = make_pooler(settings={"ignore_startup_parameters": "work_mem"})
    assert options_login(p, "-c work_mem=1 -c timezone=Asia/Tokyo").value("show timezone") == "Asia/Tokyo"
    p = make_pooler(settings={"ignore_startup_parameters": "options"})
    assert options_login(p, "-c whatever=1 -c timezone=Asia/Tokyo").value("show timezone") == "Asia/Tokyo"
    text = "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"
    assert p.login_error(params={"options": "-c timezone=UTC -d 5"}).text == text


def test_second_startup_packet(make_pooler):
    p = make_pooler(settings={"auth_type": "md5"})
    c = p.raw()
    c.start()
    assert c.recv().type == "R"
    c.start()
    e = c.expect_error_close()
    assert e.code == "08P01"
    assert p.login(password="apppw").value("select 1") == "1"


def test_password_before_startup(pooler):
    c = pooler.raw()
    c.send(wire.pack("p", b"secret\0"))
    assert c.expect_error_close().code == "08P01"


@pytest.mark.newer
def test_packet_in_single_bytes(pooler):
    c = pooler.raw()
    for byte in wire.startup_packet({"user": "app", "database": "app", "application_name": "slow"}):
        c.send(bytes([byte]))
    c.finish_login("app", None)
    assert c.value("show application_name") == "slow"


def test_startup_and_first_query_in_one_segment(pooler):
    c = pooler.raw()
    c.send(wire.startup_packet({"user": "app", "database": "app"}) + wire.query("select 5") + wire.query("select 6"))
    c.finish_login("app", None)
    assert c.read_ready().rows == [["5"]]
    assert c.read_ready().rows == [["6"]]


@pytest.mark.newer
def test_large_startup_packet(make_pooler):
    """Larger than pkt_buf, smaller than the limit of 64 KiB."""
    p = make_pooler(settings={"pkt_buf": 512, "ignore_startup_parameters": "filler"})
    c = p.login(params={"filler": "x" * 60000, "application_name": "big"})
    assert c.value("show application_name") == "big"


@pytest.mark.newer
@pytest.mark.parametrize("pieces", [1, 3, 50])
def test_largest_startup_packet(make_pooler, pieces):
    """65535 bytes in all; one more is no startup packet."""
    p = make_pooler(settings={"ignore_startup_parameters": "filler"})
    packet = wire.startup_packet({"user": "app", "filler": ""})
    packet = wire.startup_packet({"user": "app", "filler": "x" * (65535 - len(packet))})
    assert len(packet) == 65535
    c = p.raw()
    step = len(packet) // pieces + 1
    for at in range(0, len(packet), step):
        c.send(packet[at : at + step])
        if pieces > 1:
            c.is_silent()  # let them arrive one by one
    c.finish_login("app", None)
    assert c.value("select 1") == "1"
    c = p.raw()
    c.send(wire.startup_packet({"user": "app", "filler": "x" * (65536 - 25)})[:8])
    assert c.expect_error_close().text.startswith("bad packet header: '")


def test_too_large_startup_packet(pooler):
    c = pooler.raw()
    c.send(struct.pack("!ii", 1 << 20, wire.PROTO_3_0))
    assert c.expect_error_close().text.startswith("bad packet header")


@pytest.mark.newer
def test_greeting(pooler):
    c = pooler.raw()
    c.start(params={"application_name": "greeter", "client_encoding": "latin1"})
    result = c.read_ready()
    assert result.types[0] == "R" and result.types.endswith("KZ")
    assert result.status == "I"
    assert result.params["application_name"] == "greeter"
    assert result.params["client_encoding"].lower() == "latin1"
    for name in (
        "server_version",
        "server_encoding",
        "DateStyle",
        "TimeZone",
        "standard_conforming_strings",
        "IntervalStyle",
        "integer_datetimes",
        "is_superuser",
        "session_authorization",
    ):
        assert name in result.params, name
    key = [m for m in result.messages if m.type == "K"][0].body
    assert len(key) == 8 and key[0] < 0x80, "a driver may read the first half as a positive number"


@pytest.mark.newer
def test_order_of_the_greeting(make_pooler):
    """The server's parameters, then those that follow the client, with the value that it sent, as it sent it."""
    p = make_pooler(settings={"track_extra_parameters": "IntervalStyle, is_superuser"})
    c = p.raw()
    c.start(params={"datestyle": "german", "TIMEZONE": "asia/tokyo", "intervalstyle": "ISO_8601"})
    result = c.read_ready()
    shown = [tuple(m.body[:-1].decode().split("\0")) for m in result.messages if m.type == "S"]
    tracked = ["DateStyle", "client_encoding", "TimeZone", "standard_conforming_strings", "application_name"]
    tracked += ["IntervalStyle", "is_superuser"]
    assert [name for name, _ in shown][-len(tracked) :] == tracked
    assert "server_version" in [name for name, _ in shown][: -len(tracked)]
    assert [value for _, value in shown][-7:] == ["german", "UTF8", "asia/tokyo", "on", "", "ISO_8601", "off"]


def test_application_name_add_host(make_pooler):
    p = make_pooler(settings={"application_name_add_host": 1})
    c = p.login(params={"application_name": "me"})
    port = c.sock.getsockname()[1]
    assert c.value("show application_name") == f"me - 127.0.0.1:{port}"
    c = p.login()
    assert c.value("show application_name") == f"app - 127.0.0.1:{c.sock.getsockname()[1]}"


def test_application_name_add_host_over_other_sockets(make_pooler):
    p = make_pooler(settings={"application_name_add_host": 1, "listen_addr": "127.0.0.1,::1"})
    c = p.raw_unix()
    c.login(params={"application_name": "me"})
    assert c.value("show application_name") == f"me - unix({os.getpid()}@{socket.gethostname()}):{p.port}"
    c.query("set application_name = 'mine'")
    assert c.value("show application_name") == "mine", "what is set later stays as it is"
    if p.log_count(r"listening on \[::1\]"):
        with wire.Conn.tcp(p.port, "::1") as c:
            c.login()
            assert c.value("show application_name") == f"app - [::1]:{c.sock.getsockname()[1]}"


def test_application_name_with_host_is_cut(make_pooler, fake_server):
    """At 399 bytes, whatever PostgreSQL makes of the rest."""
    sent = []
    server = fake_server(
        lambda conn, params: wire.serve_queries(conn, lambda sql: sent.append(sql) or wire.answer("ok"))
    )
    p = make_pooler({"app": server.dsn()}, settings={"application_name_add_host": 1, "pool_mode": "transaction"})
    c = p.login(params={"application_name": "n" * 390})
    name = {r["type"] + r["user"]: r for r in p.show("clients")}["Capp"]["application_name"]
    wanted = "n" * 390 + f" - 127.0.0.1:{c.sock.getsockname()[1]}"
    assert name == wanted[:399]


@pytest.mark.ours
def test_disable_pqexec(make_pooler, cluster):
    """No simple queries, but the extended protocol and the console are untouched."""
    p = make_pooler(settings={"disable_pqexec": 1})
    c, d = p.login(), p.login()
    c.send(wire.query("select 1"))
    assert c.expect_error_close().text == "PQexec disallowed"
    d.send(wire.extended("select 'extended'"), wire.SYNC)
    assert d.read_ready().rows == [["extended"]]
    assert p.config()["disable_pqexec"] == "1"
