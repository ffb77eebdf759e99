"""
Certificates for the tests, made on demand: authorities, good ones of servers and clients, and every kind of bad one.

    pki.files("server")             the files of a leaf: .cert, .key
    pki.ca("root")                  the file of an authority's certificate, or of several
    pki.client_context(...)         an ssl.SSLContext for a client of the pooler
    pki.server_context(...)         one for a server that the test plays
    pki.client_settings("require")  what a pooler needs to offer TLS to clients; server_settings() towards servers

Keys are on the curve P-256, because making those takes no time, except where a test wants RSA. They belong to the
ordinary user, for nobody else to read, as PostgreSQL demands.
"""
import collections
import datetime
import hashlib
import ipaddress
import os
import shutil
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from . import procs

DAY = datetime.timedelta(days=1)
LOCAL = ("localhost", "127.0.0.1", "::1")

Files = collections.namedtuple("Files", "cert key")


class Spec:
    """What a certificate says. `days` is when it begins and ends, counted from now."""

    def __init__(self, cn, sans=(), by="root", days=(-1, 30), usage="server", key="ec", chain=(), digest="sha256"):
        self.cn, self.sans, self.by, self.days = cn, sans, by, days
        self.usage, self.key, self.chain, self.digest = usage, key, chain, digest


AUTHORITIES = {
    # name: (who signs it, days)
    "root": ("root", (-2, 60)),
    "middle": ("root", (-2, 60)),
    "stranger": ("stranger", (-2, 60)),
    "expired_root": ("expired_root", (-60, -2)),
}

LEAVES = {
    # servers
    "server": Spec("localhost", LOCAL),
    "server2": Spec("localhost", LOCAL),
    "server_rsa": Spec("localhost", LOCAL, key="rsa"),
    "server_sha384": Spec("localhost", LOCAL, digest="sha384"),
    "server_chained": Spec("localhost", LOCAL, by="middle", chain=("middle",)),
    "server_unchained": Spec("localhost", LOCAL, by="middle"),
    "server_expired": Spec("localhost", LOCAL, days=(-30, -1)),
    "server_not_yet": Spec("localhost", LOCAL, days=(1, 30)),
    "server_elsewhere": Spec("db.example.test", ("db.example.test", "192.0.2.1")),
    "server_wildcard": Spec("x", ("*.example.test",)),
    "server_cn_only": Spec("localhost"),
    "server_cn_beside_san": Spec("localhost", ("db.example.test",)),
    "server_stranger": Spec("localhost", LOCAL, by="stranger"),
    "server_self_signed": Spec("localhost", LOCAL, by=None),
    "server_for_clients": Spec("localhost", LOCAL, usage="client"),
    # clients
    "app": Spec("app", usage="client"),
    "app2": Spec("app2", usage="client"),
    "admin": Spec("admin", usage="client"),
    "upper": Spec("APP", usage="client"),
    "by_san": Spec("somebody", ("app",), usage="client"),
    "cn_beside_san": Spec("app", ("somebody",), usage="client"),
    "wildcard": Spec("*.example.test", ("*.example.test",), usage="client"),
    "app_chained": Spec("app", by="middle", chain=("middle",), usage="client"),
    "app_unchained": Spec("app", by="middle", usage="client"),
    "app_expired": Spec("app", days=(-30, -1), usage="client"),
    "app_not_yet": Spec("app", days=(1, 30), usage="client"),
    "app_stranger": Spec("app", by="stranger", usage="client"),
    "app_self_signed": Spec("app", by=None, usage="client"),
    "app_for_servers": Spec("app", usage="server"),
    "app_expired_root": Spec("app", by="expired_root", usage="client"),
}

USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


def _new_key(kind):
    return rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())


def _general_name(text):
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _name(cn):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)])


def _builder(subject, issuer, public_key, days):
    now = datetime.datetime.utcnow()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + days[0] * DAY)
        .not_valid_after(now + days[1] * DAY)
    )


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


class Pki:
    """All certificates of a run in one directory; each is made when it is asked for the first time."""

    def __init__(self):
        self.dir = procs.make_dir("sluicetls-")
        self.authorities, self.leaves = {}, {}

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    def write(self, name, data, mode=0o600):
        """A file of the ordinary user; the path comes back. Nobody ever sees half of it."""
        path = f"{self.dir}/{name}"
        with open(path + ".new", "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
        os.chmod(path + ".new", mode)
        if os.geteuid() == 0:
            shutil.chown(path + ".new", procs.ORDINARY_USER, procs.ORDINARY_USER)
        os.replace(path + ".new", path)
        return path

    # --- authorities

    def authority(self, name):
        """(certificate, key)"""
        if name not in self.authorities:
            issuer, days = AUTHORITIES[name]
            key, subject = _new_key("ec"), _name(f"pgsluice test {name}")
            signer, signer_key = (None, key) if issuer == name else self.authority(issuer)
            builder = _builder(subject, signer.subject if signer else subject, key.public_key(), days).add_extension(
                x509.BasicConstraints(ca=True, path_length=None), critical=True
            )
            self.authorities[name] = (builder.sign(signer_key, hashes.SHA256()), key)
        return self.authorities[name]

    def ca(self, *names):
        """The path of a file with these authorities' certificates; without a name that of a file with nothing in it."""
        return self.write(f"ca-{'-'.join(names)}.crt", b"".join(_pem(self.authority(n)[0]) for n in names), 0o644)

    # --- leaves

    def leaf(self, name):
        """The certificate as an object and its Files."""
        if name not in self.leaves:
            self.leaves[name] = self.make(name, LEAVES[name])
        return self.leaves[name]

    def make(self, name, spec):
        """A certificate of its own for a test that needs one which is not in the table."""
        key = _new_key(spec.key)
        signer, signer_key = self.authority(spec.by) if spec.by else (None, key)
        subject = _name(spec.cn)
        builder = _builder(subject, signer.subject if signer else subject, key.public_key(), spec.days)
        if spec.sans:
            names = x509.SubjectAlternativeName([_general_name(s) for s in spec.sans])
            builder = builder.add_extension(names, critical=False)
        if spec.usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([USAGES[spec.usage]]), critical=False)
        certificate = builder.sign(signer_key, {"sha256": hashes.SHA256(), "sha384": hashes.SHA384()}[spec.digest])
        text = _pem(certificate) + b"".join(_pem(self.authority(n)[0]) for n in spec.chain)
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return certificate, Files(self.write(f"{name}.crt", text, 0o644), self.write(f"{name}.key", secret))

    def files(self, name):
        return self.leaf(name)[1]

    def encrypted_key(self, name):
        """The path of a copy of a key that asks for a passphrase."""
        with open(self.files(name).key, "rb") as f:
            key = serialization.load_pem_private_key(f.read(), None)
        text = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
        return self.write(f"{name}-encrypted.key", text)

    def der(self, name):
        return self.leaf(name)[0].public_bytes(serialization.Encoding.DER)

    def end_point_hash(self, name):
        """What tls-server-end-point channel binding binds to."""
        certificate = self.leaf(name)[0]
        return hashlib.new(certificate.signature_hash_algorithm.name, self.der(name)).digest()

    # --- contexts

    def client_context(self, cert=None, verify=None, version=None, ciphers=None, alpn=None):
        """
        For a client: the leaf that it shows, the authority that it trusts (None: anybody), the only version it speaks
        ("1.2" or "1.3"), ciphers up to 1.2, the protocols that it offers.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = verify is not None
        context.verify_mode = ssl.CERT_NONE if verify is None else ssl.CERT_REQUIRED
        if verify is not None:
            context.load_verify_locations(self.ca(verify))
        if cert is not None:
            context.load_cert_chain(*self.files(cert))
        return _narrowed(context, version, ciphers, alpn)

    def server_context(self, cert="server", clients=None, version=None, ciphers=None, alpn=None):
        """For a server: its leaf, and the authority of client certificates, which it then demands."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files(cert))
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca(clients))
        return _narrowed(context, version, ciphers, alpn)

    # --- settings of a pooler

    def client_settings(self, mode="require", cert="server", ca="root", **more):
        out = {"client_tls_sslmode": mode, "client_tls_cert_file": self.files(cert).cert}
        out["client_tls_key_file"] = self.files(cert).key
        if ca is not None:
            out["client_tls_ca_file"] = self.ca(ca)
        return {**out, **more}

    def server_settings(self, mode="verify-full", cert=None, ca="root", **more):
        out = {"server_tls_sslmode": mode}
        if ca is not None:
            out["server_tls_ca_file"] = self.ca(ca)
        if cert is not None:
            out["server_tls_cert_file"], out["server_tls_key_file"] = self.files(cert)
        return {**out, **more}


VERSIONS = {"1.0": ssl.TLSVersion.TLSv1, "1.1": ssl.TLSVersion.TLSv1_1}
VERSIONS.update({"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3})


def _narrowed(context, version, ciphers, alpn):
    if version is not None:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    if ciphers is not None:
        context.set_ciphers(ciphers)
    if alpn is not None:
        context.set_alpn_protocols(alpn)
    return context
