#!/usr/bin/env python3
"""TLS on every connection of the real programs: servers among each other, agents, mt. Who has not the right certificate is
refused, and both sides say why."""
import os
import re
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from authority import Authority  # noqa: E402
from cluster_lib import Cluster  # noqa: E402
from lib import Agent, PATIENCE, Server, exec_service, job, program, wait_for  # noqa: E402


class Tls(unittest.TestCase):
    def setUp(self):
        self.authority, self.stranger = Authority(), Authority("stranger")
        self.operator = self.authority.issue("operator")
        self.cluster = Cluster(3, start=False, bind="127.0.0.1")
        self.addCleanup(self.cluster.remove_files)
        self.addCleanup(self.cluster.kill)
        for i, s in enumerate(self.cluster.servers):
            self.equip(s, i + 1)
            s.start(wait=False)
        self.cluster.wait_ready(3)

    def equip(self, server, server_id):
        server.flags.update({"server_id": server_id, **self.authority.server_flags(server_id)})
        server.tls = self.authority.context(*self.operator)
        return server

    def mt(self, server, *args, ca=None, cert=None, scheme="https"):
        cert, key = cert or self.operator
        tls = ["--ca", ca or self.authority.ca, "--cert", cert, "--key", key] if scheme == "https" else []
        return subprocess.run([program("mt"), "--address", f"{scheme}://127.0.0.1:{server.port}", *tls, *args],
                              capture_output=True, text=True, timeout=60 * PATIENCE)

    def assert_mt(self, server, *args):
        done = self.mt(server, *args)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def wait_log(self, process, pattern):
        wait_for(lambda: re.search(pattern, process.text()), 20, f"{pattern} in the log of {process.name}")

    def new_server(self, server_id, **flags):
        s = self.cluster.make(len(self.cluster.servers), bind="127.0.0.1", **{"servers": [], "expect": 0, **flags})
        self.equip(s, server_id)
        self.cluster.servers.append(s)
        return s

    def test_a_cluster_lives_by_tls_alone(self):
        agent = Agent(self.cluster.servers[0], "n1", servers=self.cluster.addresses, bind="127.0.0.1",
                      **self.authority.agent_flags("n1")).start()
        agent.tls = self.authority.context(*self.authority.issue("asks", "DNS:99.server.mentat"))   # it answers servers
        self.addCleanup(lambda: self.assertEqual(agent.end(), []))
        any_server = self.cluster.servers[0]
        wait_for(lambda: any_server.items("/v1/nodes"), 20, "the node")
        service = exec_service("web", 2)
        service["config"] = {"command": ["/bin/sh"], "args": ["-c", "echo served; exec sleep 1000"]}
        self.assertEqual(any_server.post("/v1/jobs", job("web", service)).status, 200)

        def running(server, count):
            return len([a for a in server.items("/v1/allocs?service=web") if a["state"] == "running"]) == count
        wait_for(lambda: running(any_server, 2), 30, "two replicas")
        wait_for(lambda: "served" in self.mt(any_server, "logs", "web/0").stdout, 20, "what the task wrote, from the agent")
        self.assertEqual(self.assert_mt(any_server, "exec", "web/0", "--", "/bin/echo", "inside"), "inside\n")
        # The leader dies; the others go on, and so does the agent.
        leader = self.cluster.leader()
        leader.kill()
        alive = self.cluster.leader()
        self.assert_mt(alive, "scale", "web", "3")
        wait_for(lambda: running(alive, 3), 30, "three replicas")
        leader.start(wait=False)
        self.cluster.wait_ready(3)
        # One more server, by a token, and one that is let in by its certificate alone, as it founded with others.
        fourth = self.new_server(4).start(wait=False)
        wait_for(lambda: fourth.get("/v1/healthz").status == 200, 20, "the API")
        token = self.assert_mt(alive, "cluster", "token", "-q").strip()
        self.assert_mt(fourth, "cluster", "join", "--token", token)
        fifth = self.new_server(5, servers=self.cluster.addresses, expect=3).start(wait=False)
        self.cluster.wait_ready(5)
        self.cluster.wait_equal()
        self.assertIn("s5", self.assert_mt(fifth, "cluster", "status"))
        for s in self.cluster.servers:
            self.assertEqual(re.findall("does not speak TLS|is refused", s.process.text()), [])

    def test_clients_that_are_refused_know_why_and_so_does_the_server(self):
        server = self.cluster.servers[0]
        expired = self.authority.issue("expired", days=0)
        time.sleep(1.1)                      # its last second is over
        foreign = self.stranger.issue("foreign")
        for args, status, said, logged in (
                ({"ca": self.stranger.ca}, 4, "the peer's certificate is refused: self-signed", "unknown ca"),
                ({"cert": foreign}, 4, "refused our certificate", "certificate is refused: unable to get local issuer"),
                ({"cert": expired}, 4, "refused our certificate: sslv3 alert certificate expired",
                 "certificate is refused: certificate has expired"),
                ({"scheme": "http"}, 3, "perhaps it speaks TLS", "does not speak TLS")):
            done = self.mt(server, "services", **args)
            self.assertEqual(done.returncode, status, done.stderr)
            self.assertIn(said, done.stderr)
            self.wait_log(server.process, f"a connection was refused.*{logged}")
        # A server whose certificate has not the name under which it is asked.
        named = Server(bind="127.0.0.1", server_id=9)
        self.addCleanup(lambda: named.process.kill())
        cert, key = self.authority.issue("elsewhere", "DNS:9.server.mentat", "DNS:elsewhere.example")
        named.flags.update({"tls_cert": cert, "tls_key": key, "tls_ca": self.authority.ca})
        named.start(wait=False)
        self.wait_log(named.process, "msg=listening")
        done = self.mt(named, "services")
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn("IP address mismatch", done.stderr)
        self.wait_log(named.process, "a connection was refused.*bad certificate")

    def test_agents_that_are_refused_say_so(self):
        server = self.cluster.servers[0]
        cert, key = self.stranger.issue("n2", "DNS:n2.agent.mentat", "IP:127.0.0.1")
        for flags, said, logged in (
                ({"tls_cert": cert, "tls_key": key, "tls_ca": self.authority.ca}, "refused our certificate", "unable to get local issuer"),
                ({**self.authority.agent_flags("n2"), "tls_ca": self.stranger.ca}, "certificate is refused", "unknown ca"),
                ({}, "perhaps it speaks TLS", "does not speak TLS")):
            agent = Agent(server, "n2", bind="127.0.0.1", **flags).start()
            try:
                self.wait_log(agent.process, said)
                self.wait_log(server.process, f"a connection was refused.*{logged}")
            finally:
                agent.kill()
                agent.sweep()
        self.assertEqual(server.items("/v1/nodes"), [])

    def test_servers_that_are_refused_stay_outside_and_say_so(self):
        leader = self.cluster.leader()
        token = self.assert_mt(leader, "cluster", "token", "-q").strip()
        # Another server's certificate: id 7 says that it is 6.
        wrong = self.new_server(6)
        cert, key = self.authority.issue("seven", "DNS:7.server.mentat", "IP:127.0.0.1")
        wrong.flags.update({"tls_cert": cert, "tls_key": key})
        wrong.start(wait=False)
        wait_for(lambda: wrong.get("/v1/healthz").status == 200, 20, "the API")
        done = self.mt(wrong, "cluster", "join", "--token", token)
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn("lacks the name DNS:6.server.mentat", done.stderr)
        self.wait_log(wrong.process, "lacks the name DNS:6.server.mentat")
        wrong.kill()
        # A member whose certificate is replaced by a wrong one is cut off, on both sides with the reason.
        member = self.cluster.followers()[0]
        others = [s for s in self.cluster.servers[:3] if s is not member]
        good = {k: member.flags[k] for k in ("tls_cert", "tls_key", "tls_ca")}
        cert, key = self.stranger.issue("stranger", f"DNS:{member.flags['server_id']}.server.mentat", "IP:127.0.0.1")
        expired = self.authority.issue("old", f"DNS:{member.flags['server_id']}.server.mentat", "IP:127.0.0.1", days=0)
        time.sleep(1.1)
        for bad, here, there in (
                ({"tls_cert": cert, "tls_key": key}, "refused our certificate: tlsv1 alert unknown ca", "unable to get local issuer"),
                ({"tls_ca": self.stranger.ca}, "certificate is refused: self-signed|certificate is refused: unable to get",
                 "refused our certificate: tlsv1 alert unknown ca"),
                ({"tls_cert": expired[0], "tls_key": expired[1]}, "alert certificate expired", "certificate has expired"),
                ({"tls_cert": None}, "does not speak TLS|perhaps it speaks TLS|speaks TLS, and this server has none",
                 "does not speak TLS")):
            member.kill()
            member.flags.update(good)
            member.flags.update(bad)
            plain = bad.get("tls_cert", "") is None
            flags = dict(member.flags)
            if plain:
                for k in good:
                    del member.flags[k]
            seen = [len(s.process.text()) for s in others]
            member.start(wait=False)
            self.wait_log(member.process, f"(no connection to a server|a server is refused).*({here})")
            wait_for(lambda: any(re.search(f"(no connection to a server|a server is refused).*({there})", s.process.text()[n:])
                                 for s, n in zip(others, seen)), 20, f"{there} in the log of another server")
            member.flags = flags
        # And comes back with the right one.
        member.kill()
        member.flags.update(good)
        member.start(wait=False)
        self.cluster.wait_ready(3)
        self.cluster.wait_equal()


if __name__ == "__main__":
    unittest.main(verbosity=2)
