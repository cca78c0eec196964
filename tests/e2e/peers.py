#!/usr/bin/env python3
"""Replicas on several nodes reach each other by ${peers.NAME}: one server, three agents, real listeners."""
import os
import signal
import sys
import unittest
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import Agent, Server, call, job, wait_for  # noqa: E402

# Each replica serves what it was told: its arguments and the variable.
TALKER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (sys.argv[2] + " " + os.environ["MENTAT_PEERS_HTTP"]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
host, port = sys.argv[1].rsplit(":", 1)
http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"""


def told(address):
    """What the replica at this address was told of its peers."""
    with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
        args, env = answer.read().decode().split(" ")
    assert args == env, (args, env)
    return args.split(",")


class PeersTest(unittest.TestCase):
    def setUp(self):
        self.server = Server().start()
        self.addCleanup(self.server.stop)
        self.agents = [Agent(self.server, f"n{i}", f"127.0.0.{i + 1}").start() for i in range(1, 4)]
        self.addCleanup(self.end)
        wait_for(lambda: len(self.server.items("/v1/nodes")) == 3, 20, "three nodes")

    def end(self):
        for agent in self.agents:
            self.assertEqual(agent.end(), [])

    def submit(self, count):
        answer = self.server.post("/v1/jobs", job("web", {
            "name": "web", "driver": "exec", "count": count, "spread": "node",
            "config": {"command": [sys.executable],
                       "args": ["-c", TALKER, "${ip}:${port.http}", "${peers.http}"]},
            "ports": [{"name": "http", "port": 80}], "resources": {"cpus": 0.05, "memory_mb": 64},
            "health": {"type": "http", "port": "http", "path": "/", "interval": "200ms"},
            "restart": {"attempts": 3, "delay": "100ms"}}))
        self.assertLess(answer.status, 300, answer)

    def healthy(self, count):
        """The addresses of the replicas in their order, once all are healthy."""
        def look():
            allocs = [a for a in self.server.items("/v1/allocs") if a["desired"] == "run"]
            assert len(allocs) == count and all(a["state"] == "healthy" for a in allocs), allocs
            return sorted(allocs, key=lambda a: a["replica"])
        self.allocs = wait_for(look, 30, f"{count} healthy replicas", every=0.05)
        return [f"{a['ip']}:{a['ports'][0]['host']}" for a in self.allocs]

    def test_replicas_on_three_nodes_know_each_other_from_the_first_start_on(self):
        self.submit(3)
        addresses = self.healthy(3)
        self.assertEqual(len({a["node_name"] for a in self.allocs}), 3)
        self.assertEqual([told(a) for a in addresses], [addresses] * 3)

        # One more: nobody is restarted for it, the new one knows all, and who starts later does too.
        self.submit(4)
        grown = self.healthy(4)
        self.assertEqual(grown[:3], addresses)
        self.assertEqual([told(a) for a in grown], [addresses] * 3 + [grown])
        first = self.allocs[0]
        home = next(a for a in self.agents if a.name == first["node_name"])
        pid = next(t["pid"] for t in self.agent_allocs(home) if t["id"] == first["id"])
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: told(addresses[0]) == grown, 30, "the word to a task that starts again", every=0.05)

    def agent_allocs(self, agent):
        return call(agent.port, "GET", "/v1/allocs", timeout=10).json


if __name__ == "__main__":
    unittest.main(verbosity=2)
