"""A certificate authority by the openssl program, for tests with TLS: certificates of servers, agents and nobody."""
import os
import ssl
import subprocess

from lib import Workdir


class Authority:
    """Makes keys and certificates in a directory that is gone afterwards."""

    def __init__(self, name="test authority"):
        self.workdir = Workdir()
        self.ca, self.ca_key = self.path("ca.pem"), self.path("ca.key")
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.ca_key,
                     "-out", self.ca, "-days", "2", "-subj", f"/CN={name}")

    def path(self, name):
        return self.workdir.join(name)

    def openssl(self, *args):
        subprocess.run(["openssl", *args], check=True, capture_output=True, timeout=60)

    def issue(self, name, *alt_names, days=1):
        """Files of a certificate and its key. alt_names: "DNS:7.server.mentat", "IP:127.0.0.1"."""
        cert, key, request, extensions = (self.path(f"{name}.{end}") for end in ("pem", "key", "csr", "ext"))
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request,
                     "-subj", f"/CN={name}")
        os.chmod(key, 0o600)
        with open(extensions, "w") as f:
            f.write(f"subjectAltName={','.join(alt_names)}\n" if alt_names else "")
        self.openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.ca_key, "-CAcreateserial", "-out", cert,
                     "-days", str(days), "-extfile", extensions)
        return cert, key

    def server_flags(self, server_id):
        cert, key = self.issue(f"server-{server_id}", f"DNS:{server_id}.server.mentat", "IP:127.0.0.1", "DNS:localhost")
        return {"tls_cert": cert, "tls_key": key, "tls_ca": self.ca}

    def agent_flags(self, node):
        cert, key = self.issue(f"agent-{node}", f"DNS:{node}.agent.mentat", "IP:127.0.0.1", "DNS:localhost")
        return {"tls_cert": cert, "tls_key": key, "tls_ca": self.ca}

    def context(self, cert=None, key=None):
        """For a client that believes this authority, with a certificate or without one."""
        context = ssl.create_default_context(cafile=self.ca)
        if cert:
            context.load_cert_chain(cert, key)
        return context
