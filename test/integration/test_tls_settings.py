"""What is said about settings of TLS that cannot be put into force, at the start, later, and before."""
import os

import pytest
from harness import procs, wire
from harness.pooler import binary

pytestmark = pytest.mark.ours

KEPT = "ERROR TLS configuration could not be reloaded, keeping old configuration"


def without(settings, *names):
    return {k: v for k, v in settings.items() if k not in names}


def faults(pki):
    """name -> (settings, the beginning of what is said)"""
    good = pki.client_settings("verify-full")
    return {
        "no key": (without(good, "client_tls_key_file"), "client_tls_key_file: not set"),
        "no certificate": (without(good, "client_tls_cert_file"), "client_tls_cert_file: not set"),
        "neither": ({"client_tls_sslmode": "prefer"}, "client_tls_key_file: not set"),
        "missing key": ({**good, "client_tls_key_file": "/nowhere"}, 'client_tls_key_file: could not read "/nowhere"'),
        "other key": ({**good, "client_tls_key_file": pki.files("app").key}, "client_tls_key_file: the key in"),
        "no authority": (without(good, "client_tls_ca_file"), "client_tls_ca_file: not set"),
        "empty authority": ({**good, "client_tls_ca_file": "/dev/null"}, 'client_tls_ca_file: could not read "/dev'),
        "protocols": ({**good, "client_tls_protocols": "sslv3"}, 'client_tls_protocols: "sslv3" is no protocol'),
        "ciphers": ({**good, "client_tls_ciphers": "nonsense"}, 'client_tls_ciphers: "nonsense"'),
        "suites": ({**good, "client_tls13_ciphers": "nonsense"}, 'client_tls13_ciphers: "nonsense"'),
        "dh": ({**good, "client_tls_dheparams": "legacy"}, 'client_tls_dheparams: "legacy"'),
        "curve": ({**good, "client_tls_ecdhcurve": "round"}, 'client_tls_ecdhcurve: "round"'),
        "cert": ({**pki.client_settings("require"), "auth_type": "cert"}, "auth_type = cert takes clients by"),
        "to servers": (pki.server_settings(ca=None, server_tls_ca_file="/nowhere"), "server_tls_ca_file: could not"),
    }


FAULTS = ["no key", "no certificate", "neither", "missing key", "other key", "no authority", "empty authority"]
FAULTS += ["protocols", "ciphers", "suites", "dh", "curve", "cert", "to servers"]


@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
@pytest.mark.parametrize("fault", FAULTS)
def test_start_fails(make_pooler, pki, fault, profile):
    settings, text = faults(pki)[fault]
    p = make_pooler(settings=settings, profile=profile, start=False)
    p.start(wait=False)
    assert p.wait_exit() == 1
    p.proc = None
    assert f"FATAL TLS setup failed: {text}" in p.log_text()


def test_files_of_a_side_that_is_off_are_not_read(make_pooler):
    names = ("key_file", "cert_file", "ca_file")
    settings = {f"{side}_tls_{name}": "/nowhere" for side in ("client", "server") for name in names}
    settings.update(client_tls_sslmode="disable", server_tls_sslmode="disable")
    assert make_pooler(settings=settings).login().value("select 1") == "1"


def test_what_may_not_be_meant(make_pooler, pki):
    p = make_pooler(settings={**pki.client_settings("verify-ca", ca=None), **pki.server_settings("require")})
    p.wait_for_log("WARNING client_tls_ca_file is not set: certificates of all authorities")
    p.wait_for_log("WARNING server_tls_ca_file is not used: server_tls_sslmode = require checks nothing")
    mark = p.log_mark()
    with p.raw_unix() as c:
        c.login("admin", "pgbouncer", "adminpw")
        assert c.query("RELOAD").tag == "RELOAD"
    assert "tls_ca_file" not in p.log_text(mark), "once is enough"


def reload_error(p, settings):
    p.settings.update(settings)
    p.write_files()
    with p.raw_unix() as c:
        c.login("admin", "pgbouncer", "adminpw")
        error = c.query("RELOAD").error
    assert (error.code, error.text) == ("F0000", "RELOAD failed, see logs for additional details")
    return error


def test_reload_under_pgbouncer_takes_all_but_tls(make_pooler, pki):
    p = make_pooler(settings=pki.client_settings())
    p.settings["query_wait_timeout"] = 33
    mark = p.log_mark()
    reload_error(p, {"client_tls_sslmode": "disable", "server_tls_ciphers": "nonsense"})
    p.wait_for_log('ERROR TLS setup failed: server_tls_ciphers: "nonsense"', since=mark)
    p.wait_for_log(KEPT, since=mark)
    p.settings["client_tls_sslmode"] = "require"  # as it still is, though SHOW CONFIG has what was asked for
    assert p.config()["query_wait_timeout"] == "33"
    assert p.config()["client_tls_sslmode"] == "disable"
    assert p.login_error().text == "SSL required", "the mode belongs to what is kept"
    assert p.login(tls=pki.client_context()).value("select 1") == "1"
    p.settings.update(client_tls_sslmode="disable", server_tls_ciphers="default")
    p.write_files()
    with p.raw_unix() as c:
        c.login("admin", "pgbouncer", "adminpw")
        assert c.query("RELOAD").tag == "RELOAD"
    assert p.login().value("select 1") == "1"


def test_reload_under_pgsluice_changes_nothing(make_pooler, pki):
    p = make_pooler(settings=pki.client_settings(), profile="pgsluice")
    error = reload_error(p, {"query_wait_timeout": 33, "client_tls_key_file": "/nowhere"})
    assert error.fields["D"].startswith('client_tls_key_file: could not read "/nowhere"')
    assert p.config()["query_wait_timeout"] != "33"
    assert p.config()["client_tls_key_file"] == pki.files("server").key
    assert p.login(tls=pki.client_context()).value("select 1") == "1"
    assert KEPT not in p.log_text()


def run_set(p, command):
    """The texts of the notices."""
    with p.raw_unix() as c:
        c.login("admin", "pgbouncer", "adminpw")
        result = c.query(command)
        if result.error:
            raise result.error
        return [n["M"] for n in result.notices]


def test_set_under_pgbouncer_may_come_in_steps(make_pooler, pki):
    """A key and its certificate are two settings: in between nothing fits."""
    p = make_pooler(settings=pki.client_settings())
    fresh = pki.files("server2")
    notice = "TLS settings could not be applied, still using old configuration"
    assert run_set(p, f"SET client_tls_key_file = '{fresh.key}'") == [notice]
    p.wait_for_log(KEPT)
    with p.tls(pki.client_context()) as c:
        assert c.tls.certificate == pki.der("server")
    assert p.config()["client_tls_key_file"] == fresh.key
    assert run_set(p, f"SET client_tls_cert_file = '{fresh.cert}'") == []
    with p.tls(pki.client_context()) as c:
        assert c.tls.certificate == pki.der("server2")


def test_set_under_pgsluice_fails(make_pooler, pki):
    p = make_pooler(settings=pki.client_settings(), profile="pgsluice")
    with pytest.raises(wire.PgError) as e:
        run_set(p, "SET client_tls_protocols = 'sslv3'")
    assert e.value.text == "SET failed"
    assert p.config()["client_tls_protocols"] == "secure"
    p.wait_for_log('ERROR TLS setup failed: client_tls_protocols: "sslv3"')


def test_set_of_something_else_reads_no_files(make_pooler, pki):
    name = f"unread{os.getpid()}.crt"
    with open(pki.files("server").cert, "rb") as f:
        cert = pki.write(name, f.read())
    p = make_pooler(settings=pki.client_settings(client_tls_cert_file=cert))
    os.unlink(cert)
    assert run_set(p, "SET query_wait_timeout = 33") == []
    assert p.login(tls=pki.client_context()).value("select 1") == "1"


@pytest.mark.parametrize("profile", ["pgbouncer", "pgsluice"])
def test_dry_run(make_pooler, pki, tls_cluster, profile):
    """It says what would fail, and which files have another content."""
    name = f"dry{profile}{os.getpid()}.ca"
    ca = pki.write(name, open(pki.ca("root"), "rb").read())
    settings = {**pki.client_settings(client_tls_ca_file=ca), **pki.server_settings("verify-ca", server_tls_ca_file=ca)}
    settings["client_tls_sslmode"] = "prefer"
    dsn = f"host=localhost port={tls_cluster.port} dbname=app"
    p = make_pooler({"app": dsn}, settings=settings, profile=profile)

    def dry_run():
        result = p.login("admin", "pgbouncer", "adminpw").query("RELOAD DRY RUN")
        if result.error:
            raise result.error
        return result.rows

    assert dry_run() == []
    p.login().value("select 1")
    pki.write(name, open(pki.ca("root", "stranger"), "rb").read())
    effect = "now, new servers" if profile == "pgsluice" else "now"
    assert [r[:5] for r in dry_run()] == [
        ["change", "files", "client_tls", "key or certificates", "now"],
        ["change", "files", "server_tls", "key or certificates", effect],
    ]
    p.settings["server_tls_sslmode"] = "verify-full"
    p.write_files()
    (row,) = [r for r in dry_run() if r[2] == "server_tls_sslmode"]
    assert row[3:] == ["verify-ca -> verify-full", "now, new servers", "1", "0"]
    os.unlink(ca)
    with pytest.raises(wire.PgError) as e:
        dry_run()
    assert e.value.text.startswith("RELOAD would fail: client_tls_ca_file: could not read")


def test_key_that_may_not_be_read_any_more(make_pooler, pki):
    """Root may have read it at the start. It belongs to the certificate, so while that stays, nothing is missing."""
    files = []
    for kind in ("cert", "key"):
        with open(getattr(pki.files("server"), kind), "rb") as f:
            files.append(pki.write(f"denied{os.getpid()}.{kind}", f.read()))
    cert, key = files
    p = make_pooler(
        settings=pki.client_settings("prefer", client_tls_cert_file=cert, client_tls_key_file=key), profile="pgsluice"
    )
    os.chmod(key, 0)
    p.admin("RELOAD")
    with p.tls(pki.client_context()) as c:
        assert c.tls.certificate == pki.der("server")
    with open(pki.files("server2").cert, "rb") as f:
        pki.write(os.path.basename(cert), f.read())
    error = reload_error(p, {})
    assert error.fields["D"].startswith("client_tls_key_file: could not read")


def test_check(make_pooler, pki):
    p = make_pooler(settings=pki.client_settings(), start=False)
    p.write_files()
    assert procs.run([binary(), "--check", p.ini], check=False).returncode == 0
    p.settings["client_tls_key_file"] = pki.files("app").key
    p.write_files()
    done = procs.run([binary(), "--check", p.ini], check=False)
    assert done.returncode == 1
    assert "ERROR TLS setup failed: client_tls_key_file: the key in" in done.stderr
    assert "setting\tclient_tls_key_file" in done.stdout, "the report comes all the same"
