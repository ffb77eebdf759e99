"""auth_type pam, with a real service of PAM."""
import os
import signal
import socket

import pytest
from harness import pam
from harness.pooler import has_feature
from harness.procs import wait_until
from harness.wire import PgError, pack

pytestmark = [
    pytest.mark.newer,
    pytest.mark.skipif(not has_feature("pam"), reason="built without PAM"),
    pytest.mark.skipif(not pam.can(), reason="a file in /etc/pam.d needs root, or sudo without a password"),
]

FAILED = "PAM authentication failed"
PASSWORDS = {"app": "pam app pw", "app2": 'pam "app2" \\pw', "admin": "adminpw", "scramuser": "scrampw", "absent": "here"}


@pytest.fixture
def service():
    with pam.PamService(PASSWORDS) as made:
        yield made


@pytest.fixture
def make(make_pooler, service):
    """A pooler that asks the service; auth_file has nobody."""

    def start(**kwargs):
        settings = {"auth_type": "pam", "auth_pam_service": service.name, **kwargs.pop("settings", {})}
        return make_pooler(settings=settings, secrets={}, **kwargs)

    return start


def is_let_in(p, user):
    return p.login(user, password=PASSWORDS[user]).value("select current_user") == user


def test_passwords(make, service):
    p = make()
    assert is_let_in(p, "app") and is_let_in(p, "app2")
    for user, password in [("app", "wrong"), ("app", PASSWORDS["app2"]), ("stranger", "x"), ("app", "x" * 65000)]:
        e = p.login_error(user, password=password)
        assert (e.severity, e.code, e.text) == ("FATAL", "08P01", FAILED)
    p.wait_for_log(r"WARNING .*app@.*could not check the password: pam_authenticate: .*/auth failed: exit code 1")
    for password in ("pam app pw", "wrong"):
        assert password not in p.log_text()


def test_empty_password_is_not_asked_about(make, service):
    p = make()
    assert p.login_error("app", password="").text == "empty password returned by client"
    assert service.calls() == []


def test_account(make, service):
    """The password is right, but the account may not be used."""
    p = make()
    service.deny("app")
    assert p.login_error("app", password=PASSWORDS["app"]).text == FAILED
    p.wait_for_log(r"app@.* could not check the password: pam_acct_mgmt: .*/account failed")
    assert is_let_in(p, "app2")
    service.deny()
    assert is_let_in(p, "app")


def test_where_the_client_comes_from(make, service):
    p = make()
    assert is_let_in(p, "app")
    conn = p.raw_unix()
    conn.login("app", "app", PASSWORDS["app"])
    assert service.calls() == [
        ("auth", "app", "127.0.0.1"),
        ("account", "app", "127.0.0.1"),
        ("auth", "app", "[local]"),
        ("account", "app", "[local]"),
    ]


def test_programs_that_modules_start_hear_signals(make, service):
    """They inherit neither the blocked signals of a helper thread nor that SIGPIPE is ignored."""
    p = make()
    assert is_let_in(p, "app")
    with open(f"{service.dir}/signals", encoding="utf-8") as f:
        state = dict(line.split() for line in f)
    assert int(state["SigBlk:"], 16) == 0
    assert int(state["SigIgn:"], 16) & 1 << (signal.SIGPIPE - 1) == 0


def test_service_that_is_not_there(make_pooler):
    """PAM then asks the service `other`, which lets nobody in as we are."""
    p = make_pooler(settings={"auth_type": "pam", "auth_pam_service": "pgsluice-test-none"}, secrets={})
    assert p.login_error("app", password=PASSWORDS["app"]).text == FAILED


def test_services_by_profile(make_pooler):
    for profile, name in (("pgbouncer", "pgbouncer"), ("pgsluice", "pgsluice")):
        p = make_pooler(profile=profile, settings={"auth_type": "trust"})
        assert p.config()["auth_pam_service"] == name


def test_console(make, service):
    p = make()
    assert p.show("version")
    assert p.login_error("app", "pgbouncer", PASSWORDS["app"]).text == "not allowed"


def test_users_that_no_file_knows(make, service):
    p = make(settings={"max_user_client_connections": 1})
    p.login_error("app", password="wrong")
    assert "app" not in [row["name"] for row in p.show("users")]
    first = p.login("app", password=PASSWORDS["app"])
    assert "app" in [row["name"] for row in p.show("users")]
    e = p.login_error("app", password=PASSWORDS["app"])
    assert e.text == "client connections exceeded (max_user_client_connections)"
    first.terminate()


def test_password_serves_for_servers(make, service):
    p = make()
    assert is_let_in(p, "scramuser")
    with pytest.raises(PgError, match='role "absent" does not exist'):
        is_let_in(p, "absent")


def ask_without_answer(p, user="app"):
    conn = p.raw()
    conn.start(user, "app")
    assert conn.recv().type == "R"
    conn.send(pack("p", PASSWORDS[user].encode() + b"\0"))
    return conn


def test_hanging_module(make, service):
    """Those who are in feel nothing; who waits gets in when the module answers."""
    p = make(settings={"auth_helper_threads": 1})
    inside = p.login("app", password=PASSWORDS["app"])
    service.hang()
    first, second = ask_without_answer(p), ask_without_answer(p, "app2")
    wait_until(lambda: len(service.calls()) == 3, "the module is asked")
    for _ in range(50):
        assert inside.value("select 1") == "1"
    assert first.is_silent() and second.is_silent()
    service.let_go()
    for conn in (first, second):
        conn.finish_login("app", None)
        assert conn.value("select 1") == "1"


def test_end_with_a_module_that_hangs(make, service):
    p = make()
    service.hang()
    ask_without_answer(p)
    wait_until(lambda: len(service.calls()) == 1, "the module is asked")
    p.stop()
    assert "pam: 1 calls into a library have not returned; leaving them" in p.log_text()
    assert not os.path.exists(p.pidfile)


def test_rules(make, service):
    """A rule may name a service of its own, and ask for the name of the client's host."""
    p = make(start=False)
    p.settings.update(auth_type="hba", auth_hba_file=f"{p.dir}/hba.conf", auth_pam_service="pgsluice-test-none")
    rules = [f"host all app all pam pamservice={service.name} pam_use_hostname=1", "host all all all pam"]
    p.write(f"{p.dir}/hba.conf", "".join(f"{rule}\n" for rule in rules))
    p.start()
    assert is_let_in(p, "app")
    assert service.calls()[0][2] == socket.getnameinfo(("127.0.0.1", 0), 0)[0]
    assert p.login_error("app2", password=PASSWORDS["app2"]).text == FAILED
    assert len(service.calls()) == 2
