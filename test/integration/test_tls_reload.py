"""TLS from clients: new settings and certificates without dropping anybody, and sessions that are resumed."""
import datetime
import os
import signal
import ssl
import threading

import psycopg
import pytest
from harness import wire
from harness.certs import Spec
from harness.pooler import is_pgbouncer
from harness.procs import wait_until
from test_tls_clients import handshake_fails

VERSIONS = ("1.2", "1.3")


class Live:
    """A certificate, key and authority under names that stay while what is in them changes."""

    def __init__(self, pki, name, cert="server", ca="root"):
        self.pki, self.name = pki, name
        self.put(cert)
        self.trust(ca)

    def put(self, cert):
        for kind in ("cert", "key"):
            with open(getattr(self.pki.files(cert), kind), "rb") as f:
                setattr(self, kind, self.pki.write(f"{self.name}.{kind}", f.read()))

    def trust(self, *names):
        with open(self.pki.ca(*names), "rb") as f:
            self.ca = self.pki.write(f"{self.name}.ca", f.read())

    def settings(self, mode="require", **more):
        out = {"client_tls_sslmode": mode, "client_tls_cert_file": self.cert, "client_tls_key_file": self.key}
        return {**out, "client_tls_ca_file": self.ca, **more}


@pytest.fixture
def live(pki, request):
    return Live(pki, f"live{os.getpid()}_{abs(hash(request.node.nodeid)) % 10**8}")


def shown(p, context):
    """The certificate that a new client is shown."""
    with p.tls(context) as c:
        return c.tls.certificate


def reload_by(p, how):
    mark = p.log_mark()
    if how == "sighup":
        p.signal(signal.SIGHUP)
        p.wait_for_log("got SIGHUP", since=mark)
        p.show("version")  # it is the control thread that answers, when it is done
    else:
        try:
            p.admin("RELOAD")
        except wire.PgError:
            return False
    return True


# --- new certificates


@pytest.mark.parametrize("how", ["command", "sighup"])
def test_new_certificate(make_pooler, pki, live, how):
    """New clients see it; those who are there go on, in the middle of whatever they do."""
    p = make_pooler(settings=live.settings())
    context = pki.client_context()
    old = [p.login(tls=pki.client_context(version=v)) for v in VERSIONS]
    for c in old:
        c.query("begin")
        c.query("create temp table mine(i int)")
    unfinished = p.raw()
    assert unfinished.ssl_request() == b"S"
    live.put("server2")
    assert reload_by(p, how)
    wait_until(lambda: shown(p, context) == pki.der("server2"), "the new certificate is shown")
    for c in old:
        assert c.query("select count(*) from mine").rows == [["0"]]
        assert c.query("commit").status == "I"
    unfinished.sock = wire.TlsSock(unfinished.sock, context)
    unfinished.sock.handshake()
    unfinished.login()
    assert unfinished.value("select 1") == "1"


def test_new_file_names(make_pooler, pki):
    p = make_pooler(settings=pki.client_settings())
    p.settings.update(pki.client_settings(cert="server2"))
    p.write_files()
    p.admin("RELOAD")
    assert shown(p, pki.client_context()) == pki.der("server2")


@pytest.mark.newer
def test_set_takes_effect(make_pooler, pki):
    """SET of one of the settings builds the context anew, and a bad value is refused."""
    p = make_pooler(settings=pki.client_settings())
    p.admin("SET client_tls_protocols = 'tlsv1.2'")
    assert p.tls(pki.client_context()).tls.version == "TLSv1.2"
    p.admin("SET client_tls_protocols = 'secure'")
    assert p.tls(pki.client_context()).tls.version == "TLSv1.3"


def spoil(pki, live, how):
    if how == "missing":
        os.unlink(live.cert)
    elif how == "garbage":
        pki.write(os.path.basename(live.cert), b"nothing of use")
    elif how == "key_of_another":
        with open(pki.files("server2").key, "rb") as f:
            pki.write(os.path.basename(live.key), f.read())
    elif how == "encrypted_key":
        with open(pki.encrypted_key("server"), "rb") as f:
            pki.write(os.path.basename(live.key), f.read())
    elif how == "no_authority":
        os.unlink(live.ca)
    elif how == "half":
        with open(live.cert, "rb") as f:
            pki.write(os.path.basename(live.cert), f.read()[:200])


@pytest.mark.parametrize("how", ["missing", "garbage", "key_of_another", "encrypted_key", "no_authority", "half"])
def test_reload_that_fails_keeps_the_old(make_pooler, pki, live, how):
    """And says why; when the files are good again, so is the next reload."""
    p = make_pooler(settings=live.settings("verify-full"))
    context = pki.client_context(cert="app")
    c = p.login(tls=context)
    spoil(pki, live, how)
    mark = p.log_mark()
    reload_by(p, "command")
    p.wait_for_log("(ERROR|WARNING).*(?i:tls)", since=mark)
    assert shown(p, context) == pki.der("server")
    assert p.login(tls=context).value("select 1") == "1"
    handshake_fails(p, pki.client_context(cert="app_stranger"))
    assert c.value("select 1") == "1"
    live.put("server2")
    live.trust("root")
    assert reload_by(p, "command")
    assert shown(p, context) == pki.der("server2")
    assert c.value("select 1") == "1"


def test_mode_changes(make_pooler, pki):
    """New clients follow the new mode, the others stay as they are."""
    p = make_pooler(settings=pki.client_settings("disable"))
    context = pki.client_context()
    stay = [p.login()]
    for mode in ("require", "prefer", "verify-full", "disable", "require"):
        p.settings["client_tls_sslmode"] = mode
        p.write_files()
        with p.raw_unix() as c:
            c.login("admin", "pgbouncer", "adminpw")
            assert c.query("RELOAD").tag == "RELOAD"
        if mode in ("require", "verify-full"):
            assert p.login_error().text == "SSL required"
        else:
            stay.append(p.login())
        if mode == "disable":
            assert p.raw().ssl_request() == b"N"
        elif mode == "verify-full":
            handshake_fails(p, context)
            stay.append(p.login(tls=pki.client_context(cert="app")))
        else:
            stay.append(p.login(tls=context))
        for c in stay:
            assert c.value("select 1") == "1"


def test_authority_removed(make_pooler, pki, live):
    """Revoked by removal: who came with its certificates stays, but does not come back."""
    live.trust("root", "stranger")
    p = make_pooler(settings=live.settings("verify-full"))
    stays = p.login(tls=pki.client_context(cert="app_stranger"))
    live.trust("root")
    assert reload_by(p, "command")
    handshake_fails(p, pki.client_context(cert="app_stranger"))
    assert stays.value("select 1") == "1"
    assert p.login(tls=pki.client_context(cert="app")).value("select 1") == "1"


def test_reloads_under_load(make_pooler, pki, live):
    """Certificates that change all the time: each client sees one or the other, and none is refused."""
    p = make_pooler(settings=live.settings("require", pool_mode="transaction"))
    known = {pki.der("server"), pki.der("server2")}
    failures, seen, stop = [], set(), threading.Event()

    def come_and_go():
        try:
            while not stop.is_set():
                with wire.Conn.tcp(p.port) as c:
                    c.start_tls(pki.client_context())
                    seen.add(c.tls.certificate)
                    c.login()
                    assert c.value("select 1") == "1"
        except Exception as e:
            failures.append(e)

    threads = [threading.Thread(target=come_and_go) for _ in range(3)]
    for t in threads:
        t.start()
    turns = 0
    while not failures and (turns < 10 or (seen != known and turns < 500)):
        live.put(("server2", "server")[turns % 2])
        assert reload_by(p, "command")
        turns += 1
    stop.set()
    for t in threads:
        t.join()
    assert not failures
    assert seen == known


# --- resumption


def session_of(p, context, **kwargs):
    """The session of a client that logged in and left: what it may come back with."""
    with p.tls(context, **kwargs) as c:
        c.login()
        assert c.value("select 1") == "1"
        session = c.tls.session
        c.terminate()
    return session


def resumes(p, context, session):
    """True when it comes back with that session, whose client is served in any case."""
    with p.tls(context, session=session) as c:
        c.login()
        assert c.value("select 1") == "1"
        reused = c.tls.reused
        c.terminate()
    return reused


def context_without_tickets(pki):
    context = pki.client_context(version="1.2")
    context.options |= ssl.OP_NO_TICKET
    return context


@pytest.mark.ours
@pytest.mark.parametrize("kind", ["1.3", "1.2", "1.2 by id"])
def test_resumption(make_pooler, pki, kind):
    p = make_pooler(settings=pki.client_settings(client_tls_session_cache=100))
    context = context_without_tickets(pki) if kind == "1.2 by id" else pki.client_context(version=kind)
    session = session_of(p, context)
    assert resumes(p, context, session)
    assert resumes(p, context, session_of(p, context))
    p.admin("RELOAD")
    assert resumes(p, context, session_of(p, context))


@pytest.mark.ours
@pytest.mark.parametrize("kind", ["1.3", "1.2", "1.2 by id"])
def test_no_resumption_without_a_cache(make_pooler, pki, kind):
    """Nor are there tickets, which would be for nothing."""
    p = make_pooler(settings=pki.client_settings(client_tls_session_cache=0))
    context = context_without_tickets(pki) if kind == "1.2 by id" else pki.client_context(version=kind)
    session = session_of(p, context)
    assert not session.has_ticket
    assert not resumes(p, context, session)


@pytest.mark.ours
def test_resumption_is_on_in_our_profile(make_pooler, pki):
    p = make_pooler(settings=pki.client_settings(), profile="pgsluice")
    context = pki.client_context()
    assert resumes(p, context, session_of(p, context))


@pytest.mark.ours
def test_a_session_comes_back_to_any_thread(make_pooler, pki):
    settings = pki.client_settings(client_tls_session_cache=1000, login_threads=3, pool_mode="transaction")
    p = make_pooler(settings=settings, threads=2)
    contexts = [pki.client_context(), pki.client_context(version="1.2"), context_without_tickets(pki)]
    sessions = [session_of(p, c) for c in contexts]
    for _ in range(12):
        assert all(resumes(p, c, s) for c, s in zip(contexts, sessions))


@pytest.mark.ours
def test_the_cache_is_bounded(make_pooler, pki):
    """The oldest sessions are forgotten first; who comes with one does the whole handshake."""
    p = make_pooler(settings=pki.client_settings(client_tls_session_cache=3))
    context = context_without_tickets(pki)
    sessions = [session_of(p, context) for _ in range(5)]
    assert resumes(p, context, sessions[-1])
    assert not resumes(p, context, sessions[0])


@pytest.mark.ours
@pytest.mark.parametrize("version", VERSIONS)
def test_certificates_of_resumed_clients(make_pooler, pki, version):
    """Who showed a good one need not show it again; its session is of no use under another authority."""
    live = Live(pki, f"resumed{os.getpid()}{version}", ca="root")
    live.trust("root", "stranger")
    p = make_pooler(settings=live.settings("verify-full", client_tls_session_cache=100))
    context = pki.client_context(cert="app_stranger", version=version)
    session = session_of(p, context)
    assert resumes(p, context, session)
    live.trust("root")
    assert reload_by(p, "command")
    assert handshake_fails(p, context, session=session)
    other = pki.client_context(cert="app", version=version)
    assert p.login(tls=other).value("select 1") == "1"


@pytest.mark.ours
@pytest.mark.parametrize("kind", ["1.3", "1.2", "1.2 by id"])
def test_resumed_clients_keep_their_names(make_pooler, pki, kind):
    """The certificate of the first time says who it is: the same user, and no other."""
    p = make_pooler(settings=pki.client_settings("verify-full", client_tls_session_cache=100, auth_type="cert"))
    context = pki.client_context(cert="app", version=kind[:3])
    if kind == "1.2 by id":
        context.options |= ssl.OP_NO_TICKET
    session = session_of(p, context)
    assert resumes(p, context, session)
    with p.tls(context, session=session_of(p, context)) as c:
        with pytest.raises(wire.PgError, match="certificate authentication failed"):
            c.login("app2")
        assert c.tls.reused
    other = pki.client_context(cert="app2", version=kind[:3])
    with p.tls(other) as c:
        c.login("app2")
        assert c.value("select current_user") == "app2"


@pytest.mark.ours
@pytest.mark.parametrize("version", VERSIONS)
def test_session_without_a_certificate_is_of_no_use_where_one_is_demanded(make_pooler, pki, version):
    p = make_pooler(settings=pki.client_settings("require", client_tls_session_cache=100))
    context = pki.client_context(version=version)
    session = session_of(p, context)
    p.settings["client_tls_sslmode"] = "verify-full"
    p.write_files()
    assert reload_by(p, "command")
    assert handshake_fails(p, context, session=session)


@pytest.mark.ours
@pytest.mark.parametrize("version", VERSIONS)
def test_session_of_another_pooler(make_pooler, pki, version):
    """Its tickets are read by nobody else."""
    settings = pki.client_settings(client_tls_session_cache=100)
    one, two = make_pooler(settings=settings), make_pooler(settings=settings)
    context = pki.client_context(version=version)
    assert not resumes(two, context, session_of(one, context))


@pytest.mark.ours
@pytest.mark.parametrize("version", VERSIONS)
def test_certificate_that_expires_meanwhile(make_pooler, pki, version):
    """A session is no way round the end of a certificate's life."""
    p = make_pooler(settings=pki.client_settings("verify-full", client_tls_session_cache=100))
    seconds = 4
    spec = Spec("app", usage="client", days=(-1, seconds / 86400))
    ends = datetime.datetime.utcnow() + datetime.timedelta(seconds=seconds + 1)
    files = pki.make(f"brief{os.getpid()}{version}", spec)[1]
    context = pki.client_context(version=version)
    context.load_cert_chain(*files)
    session = session_of(p, context)
    wait_until(lambda: datetime.datetime.utcnow() > ends, "the certificate is past its end")
    assert handshake_fails(p, pki_context_with(pki, files, version))
    assert handshake_fails(p, context, session=session)


def pki_context_with(pki, files, version):
    context = pki.client_context(version=version)
    context.load_cert_chain(*files)
    return context


@pytest.mark.ours
def test_libpq_is_served_with_a_cache(make_pooler, pki):
    """libpq never resumes; it must not be troubled by what others are offered."""
    assert not is_pgbouncer()
    p = make_pooler(settings=pki.client_settings(client_tls_session_cache=10))
    for _ in range(5):
        with psycopg.connect(host="127.0.0.1", port=p.port, user="app", dbname="app", sslmode="require") as conn:
            assert conn.execute("select 1").fetchone() == (1,)
