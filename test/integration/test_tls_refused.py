"""Until TLS is there, a configuration that demands it is refused instead of being served in the clear."""
import pytest
from harness import wire

pytestmark = pytest.mark.ours

DEMANDS = [(side, mode) for side in ("client", "server") for mode in ("require", "verify-ca", "verify-full")]


@pytest.mark.parametrize("side, mode", DEMANDS)
def test_start_is_refused(make_pooler, side, mode):
    p = make_pooler(settings={f"{side}_tls_sslmode": mode}, start=False)
    p.start(wait=False)
    assert p.wait_exit() == 1
    p.proc = None
    assert f"ERROR {side}_tls_sslmode demands TLS" in p.log_text()


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_what_may_do_without_is_served(make_pooler, mode):
    p = make_pooler(settings={"client_tls_sslmode": mode, "server_tls_sslmode": mode})
    assert p.login("app", "app").value("select 1") == "1"
    assert ("WARNING setting client_tls_sslmode is not effective" in p.log_text()) == (mode != "disable")


def test_reload_and_set_change_nothing(make_pooler):
    p = make_pooler()
    p.settings["client_tls_sslmode"] = "require"
    p.write_files()
    for command in ("RELOAD", "SET server_tls_sslmode = 'verify-full'"):
        with pytest.raises(wire.PgError):
            p.admin(command)
    p.wait_for_log("ERROR client_tls_sslmode demands TLS")
    p.wait_for_log("ERROR server_tls_sslmode demands TLS")
    config = p.config()
    assert (config["client_tls_sslmode"], config["server_tls_sslmode"]) == ("disable", "prefer")
    assert p.login("app", "app").value("select 1") == "1"
