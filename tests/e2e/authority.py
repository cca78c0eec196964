"""A certificate authority by the openssl program, for tests with TLS: certificates of servers, agents and nobody."""
import datetime
import os
import ssl
import subprocess

from lib import Workdir

CONFIG = """
[ca]
default_ca = here
[here]
database = {0}/index
new_certs_dir = {0}
default_md = sha256
policy = any
rand_serial = yes
unique_subject = no
[any]
commonName = supplied
"""


class Authority:
    """Makes keys and certificates in a directory that is gone afterwards. Their time began `since_days` ago."""

    def __init__(self, name="test authority", since_days=0):
        self.workdir, self.since_days = Workdir(), since_days
        self.ca, self.ca_key = self.path("ca.pem"), self.path("ca.key")
        with open(self.path("ca.conf"), "w") as f:
            f.write(CONFIG.format(self.workdir.path))
        open(self.path("index"), "x").close()
        self.make(self.ca, self.ca_key, name, "basicConstraints=critical,CA:true", 30, "-selfsign")

    def make(self, cert, key, name, extensions, days, *how):
        """A key and the certificate of it, until `days` from now."""
        request, extension_file = key + ".csr", key + ".ext"
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request,
                     "-subj", f"/CN={name}")
        os.chmod(key, 0o600)
        with open(extension_file, "w") as f:
            f.write(extensions + "\n")
        now = datetime.datetime.now(datetime.timezone.utc)
        begin, end = (f"{now + datetime.timedelta(days=d):%Y%m%d%H%M%SZ}" for d in (-self.since_days, days))
        self.openssl("ca", "-batch", "-notext", "-config", self.path("ca.conf"), "-in", request, "-out", cert, "-keyfile",
                     self.ca_key, "-startdate", begin, "-enddate", end, "-extfile", extension_file, *how)

    def path(self, name):
        return self.workdir.join(name)

    def openssl(self, *args):
        subprocess.run(["openssl", *args], check=True, capture_output=True, timeout=60)

    def issue(self, name, *alt_names, days=1):
        """Files of a certificate and its key. alt_names: "DNS:7.server.mentat", "IP:127.0.0.1"."""
        cert, key = self.path(f"{name}.pem"), self.path(f"{name}.key")
        extensions = f"subjectAltName={','.join(alt_names)}" if alt_names else "subjectKeyIdentifier=none"
        self.make(cert, key, name, extensions, days, "-cert", self.ca)
        return cert, key

    def server_flags(self, server_id, address="127.0.0.1", days=1):
        return self.flags(f"server-{server_id}", f"DNS:{server_id}.server.mentat", address, days)

    def agent_flags(self, node, address="127.0.0.1", days=1):
        return self.flags(f"agent-{node}", f"DNS:{node}.agent.mentat", address, days)

    def flags(self, name, identity, address, days):
        cert, key = self.issue(name, identity, f"IP:{address}", "DNS:localhost", days=days)
        return {"tls_cert": cert, "tls_key": key, "tls_ca": self.ca}

    def context(self, cert=None, key=None):
        """For a client that believes this authority, with a certificate or without one."""
        context = ssl.create_default_context(cafile=self.ca)
        if cert:
            context.load_cert_chain(cert, key)
        return context
