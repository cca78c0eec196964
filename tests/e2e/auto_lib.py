"""A cluster with tls: auto, for tests: its founders share a secret, and whoever speaks to it has a token and believes its authority."""
import os
import re
import subprocess

from cluster_lib import Cluster, first_admin_token
from lib import PATIENCE, SECRET, Workdir, bearer, program, secret_file, wait_for


def wait_log(process, pattern, count=1):
    wait_for(lambda: len(re.findall(pattern, process.text())) >= count, 60, f"{pattern} in the log of {process.name}")


class Auto:
    """What a test of such a cluster needs: files with secrets, and how to speak to the servers."""

    def __init__(self):
        self.workdir = Workdir()
        self.secret = self.file("founding", SECRET)
        self.admin = None

    def file(self, name, text):
        return secret_file(self.workdir, name, text)

    def take_token(self, servers, token):
        """The tests are whoever has it."""
        self.admin = token
        for s in servers:
            s.headers = bearer(token)

    def admin_of(self, servers):
        self.take_token(servers, first_admin_token(servers))

    def found(self, cluster):
        """Starts the servers of a cluster."""
        cluster.found()
        self.admin_of(cluster.servers)

    def cluster(self, count, **flags):
        """Its servers, to be founded."""
        return Cluster(count, start=False, secure=True, join_token_file=self.secret, **flags)

    def mt(self, server, *args, ca=None, token=True, home="/nonexistent", stdin=""):
        env = {k: v for k, v in os.environ.items() if not k.startswith("MENTAT_") and k != "XDG_CONFIG_HOME"}
        env["HOME"] = home
        if token and self.admin:
            env["MENTAT_TOKEN"] = self.admin
        trust = ["--address", f"https://127.0.0.1:{server.port}", "--ca", ca or server.authorities()]
        return subprocess.run([program("mt"), *(trust if home == "/nonexistent" else []), *args], input=stdin, capture_output=True,
                              text=True, env=env, timeout=60 * PATIENCE)
