#!/usr/bin/env python3
"""tls: auto: the cluster makes its certificates itself, hands them to whoever may join, and renews and changes them while it
works. All connections of the test are as strict as those of the programs."""
import os
import re
import ssl
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster_lib import Cluster  # noqa: E402
from lib import Agent, PATIENCE, Server, Workdir, call, exec_service, job, program, wait_for  # noqa: E402

SECRET = "0123456789abcdef0123456789abcdef"


class Auto:
    """What a test of such a cluster needs: files with secrets, and how to speak to the servers."""

    def __init__(self):
        self.workdir = Workdir()
        self.secret = self.file("founding", SECRET)
        self.admin = None

    def file(self, name, text, mode=0o600):
        path = self.workdir.join(name)
        with open(path, "w") as f:
            f.write(text + "\n")
        os.chmod(path, mode)
        return path

    def authorities(self, server):
        return os.path.join(server.flags["data_dir"], "tls", "authorities.pem")

    def believe(self, server):
        """What the server's own host knows."""
        server.tls = ssl.create_default_context(cafile=self.authorities(server))

    def mt(self, server, *args, ca=None, token=True, home="/nonexistent"):
        env = {k: v for k, v in os.environ.items() if not k.startswith("MENTAT_") and k != "XDG_CONFIG_HOME"}
        env["HOME"] = home
        if token and self.admin:
            env["MENTAT_TOKEN"] = self.admin
        trust = ["--address", f"https://127.0.0.1:{server.port}", "--ca", ca or self.authorities(server)]
        return subprocess.run([program("mt"), *(trust if home == "/nonexistent" else []), *args], capture_output=True, text=True, env=env,
                              timeout=60 * PATIENCE)


class Load(threading.Thread):
    """A client with one kept connection and one with a new one for each request, until told to end."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.stop, self.done, self.failed = server, threading.Event(), 0, []

    def run(self):
        while not self.stop.is_set():
            try:
                answer = self.server.get("/v1/services", timeout=10)
                if answer.status != 200:
                    self.failed.append(answer.status)
            except OSError as e:
                self.failed.append(repr(e))
            self.done += 1


class Certificates(unittest.TestCase):
    def setUp(self):
        self.auto = Auto()
        self.addCleanup(self.auto.workdir.remove)

    def wait_log(self, process, pattern, count=1):
        wait_for(lambda: len(re.findall(pattern, process.text())) >= count, 20, f"{pattern} in the log of {process.name}")

    def admin_of(self, servers):
        def look():
            for s in servers:
                path = os.path.join(s.flags["data_dir"], "admin-token")
                if os.path.exists(path):
                    with open(path) as f:
                        return f.read().strip()
        self.auto.admin = wait_for(look, 30, "the administrator's token")
        for s in servers:
            s.headers = {"Authorization": f"Bearer {self.auto.admin}"}

    def found(self, count=3, lifetime="1h"):
        cluster = Cluster(count, start=False, bind="127.0.0.1", tls="auto", join_token_file=self.auto.secret,
                          certificate_lifetime=lifetime)
        self.addCleanup(cluster.remove_files)
        self.addCleanup(cluster.kill)
        for s in cluster.servers:
            s.start(wait=False)
        self.admin_of(cluster.servers)
        for s in cluster.servers:
            self.wait_log(s.process, "this server has a new certificate")
            self.auto.believe(s)
        cluster.wait_ready(count)
        return cluster

    def agent(self, server, name, **flags):
        agent = Agent(server, name, bind="127.0.0.1", tls="auto", **flags)
        # It answers servers alone; what it shows carries its name, not an address.
        agent.tls = ssl.create_default_context(cafile=self.auto.authorities(server))
        agent.tls.check_hostname = False
        identity = os.path.join(server.flags["data_dir"], "tls", "identity.pem")
        agent.tls.load_cert_chain(identity, identity)
        self.addCleanup(lambda: self.assertEqual(agent.end(), []))
        return agent

    def status(self, server):
        return server.get("/v1/ca/status").json

    def settled(self, server, authorities=None):
        status = self.status(server)
        return not status["behind"] and (authorities is None or len(status["authorities"]) == authorities) and status

    def test_founders_share_a_secret_and_agents_have_it_too(self):
        cluster = self.found()
        server = cluster.leader()
        status = self.status(server)
        self.assertEqual(sorted(a["state"] for a in status["authorities"]), ["leaving", "signing"])
        agent = self.agent(server, "n1", servers=cluster.addresses, join_token_file=self.auto.secret).start()
        wait_for(lambda: server.items("/v1/nodes"), 20, "the node")
        wait_for(lambda: self.settled(server), 20, "certificates of the cluster's own authority")
        self.wait_log(agent.process, "this agent has a new certificate")
        # Keys are nobody else's, and the cluster's key is the same everywhere.
        keys = set()
        for s in cluster.servers:
            with open(os.path.join(s.flags["data_dir"], "cluster-keys")) as f:
                keys.add(f.read())
            for name in ("tls/identity.pem", "cluster-keys"):
                self.assertEqual(os.stat(os.path.join(s.flags["data_dir"], name)).st_mode & 0o777, 0o600)
        self.assertEqual(len(keys), 1)
        # Any leader signs: the next one, too.
        server.kill()
        alive = cluster.leader()
        token = self.auto.mt(alive, "node", "token", "-q")
        self.assertEqual(token.returncode, 0, token.stderr)
        second = self.agent(alive, "n2", servers=cluster.addresses, join_token_file=self.auto.file("n2", token.stdout.strip())).start()
        wait_for(lambda: len(alive.items("/v1/nodes")) == 2, 20, "the second node")
        self.assertEqual(alive.post("/v1/jobs", job("web", exec_service("web", 2))).status, 200)
        wait_for(lambda: len([a for a in alive.items("/v1/allocs") if a["state"] == "running"]) == 2, 30, "two replicas")
        self.assertIn("/", self.auto.mt(alive, "exec", "web/0", "--", "/bin/pwd").stdout)
        self.assertEqual(second.process.alive(), True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
