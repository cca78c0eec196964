#!/usr/bin/env python3
"""A volume that two hosts have, as by NFS: whatever becomes of the one that uses it, the other gets its replica only when
nothing uses it there any more. The replica itself writes down, in the volume, when it was where."""
import itertools
import json
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "vmm"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import PATIENCE, Agent, Workdir, program, text_of, wait_for  # noqa: E402
from vmm_lib import WIRE_ADDRESS, Host, WireServer, hosts_wire, isolate  # noqa: E402

LEASE_S = 2 * PATIENCE
# Deaf to SIGTERM, as what hangs is.
WRITER = """job: j
services:
  - name: db
    driver: exec
    config:
      command: /bin/sh
      args:
        - -c
        - |
          trap "" TERM
          while :; do
            echo $MENTAT_NODE >>$MENTAT_VOLUME_DATA/log
            sleep 0.05
          done
    kill: {timeout: 1s}
    volumes: [{source: %s/db, target: /data}]
"""


class SharedVolumes(unittest.TestCase):
    def setUp(self):
        hosts_wire()
        self.volumes = Workdir()
        self.server = WireServer(heartbeat="200ms", node_grace=f"{PATIENCE:g}s", mass_loss_hold="0s").start()
        self.addCleanup(self.server.stop)
        self.hosts, self.agents = {}, {}
        for number in (1, 2):
            host, name = Host(number), f"n{number}"
            agent = Agent(self.server, name, ip=host.address, servers=f"{WIRE_ADDRESS}:{self.server.port}", bind=host.address,
                          allow_insecure="true", drivers="exec", volume_root=self.volumes.path, shared_volumes="true",
                          volume_lease=f"{LEASE_S:g}s")
            agent.command, agent.host = [*host.inside, program("mentat-agent")], host.address
            self.hosts[name], self.agents[name] = host, agent
            self.addCleanup(agent.sweep)

    def mt(self, *args, **kw):
        a = self.server.mt(*args, **kw)
        self.assertEqual(a.returncode, 0, a.stdout + a.stderr)
        return a.stdout

    def node(self, name):
        return next((n for n in self.server.items("/v1/nodes") if n["name"] == name), None)

    def replica(self):
        return max(self.server.items("/v1/allocs"), key=lambda a: a["create_index"])

    def wait_on(self, name, state="running"):
        return wait_for(lambda: (a := self.replica())["node_name"] == name and a["state"] == state and a, 30 + 2 * LEASE_S, f"db on {name}")

    def lines(self):
        return text_of(self.volumes.path + "/db/0/log").split()

    def is_silent(self):
        before = len(self.lines())
        time.sleep(0.5)                  # ten times as long as it takes to write a line
        return len(self.lines()) == before

    def spans(self):
        """The nodes that wrote, one after the other: two that did at the same time would take turns."""
        return [node for node, _ in itertools.groupby(self.lines())]

    def volumes_of(self, name):
        return [v for v in json.loads(self.mt("volumes", "-o", "json")) if v["node_name"] == name]

    def refused(self, word, *args):
        a = self.server.mt("volume", *args)
        self.assertNotEqual(a.returncode, 0, a.stdout)
        self.assertIn(word, a.stderr)

    def check_deletion(self):
        """The replica is on n1, and its data is what n2 has, too: it is deleted when neither needs it, and not before."""
        self.refused("say --yes", "delete", "n1", "db/0")
        self.refused("told of no volume", "delete", "n1", "../db", "--yes")
        self.refused("16", "create", "n1", "web/0", "--size-mb", "1")
        self.refused("such as web/0", "create", "n1", "web")
        self.refused("no microVMs", "create", "n1", "web/0")
        self.agents["n1"].kill()
        self.agents["n1"].start()
        wait_for(lambda: self.volumes_of("n1"), 20, "word of the volume")
        self.refused("has volume db/0", "delete", "n1", "db/0", "--yes")
        self.mt("node", "disable", "n1")
        self.mt("scale", "db", "0")
        self.mt("scale", "db", "1", "--detach")
        self.refused("db wants volume db/0", "delete", "n1", "db/0", "--yes")
        self.mt("stop", "db", "--purge")
        self.mt("volume", "delete", "n1", "db/0", "--yes")
        wait_for(lambda: os.listdir(self.volumes.path + "/db") == [], 10, "its files gone")
        wait_for(lambda: not self.volumes_of("n1"), 10, "word of that")

    def test_one_user_whatever_happens(self):
        self.agents["n1"].start()
        wait_for(lambda: self.node("n1"), 20, "n1")
        self.mt("run", "-", stdin=WRITER % self.volumes.path)
        first = self.wait_on("n1")
        self.agents["n2"].start()
        wait_for(lambda: self.node("n2"), 20, "n2")
        # It found whose the files are.
        volume, = self.volumes_of("n2")
        self.assertEqual([volume[k] for k in ("name", "service", "replica", "size_mb", "state")], ["db/0", "db", 0, 0, "free"])
        # Away for less than the lease: everything goes on where it is.
        self.hosts["n1"].cable("down")
        self.assertIn("lease on volumes", self.wait_on("n1", "unhealthy")["reason"])
        self.assertIn("may still use volumes", self.server.mt("node", "remove", "n1").stderr)
        self.hosts["n1"].cable("up")
        again = self.wait_on("n1")
        self.assertEqual((again["id"], again["restarts"]), (first["id"], 0))
        # No server for longer than that: it ends, and goes on once one says so.
        self.server.kill()
        wait_for(self.is_silent, 30, "its end")
        written = len(self.lines())
        self.server.start()
        wait_for(lambda: len(self.lines()) > written, 30, "its next run")
        self.assertEqual(self.wait_on("n1")["id"], first["id"])
        # For longer, while its agent lives.
        self.hosts["n1"].cable("down")
        self.wait_on("n2")
        self.mt("node", "remove", "n1")
        self.hosts["n1"].cable("up")
        wait_for(lambda: (self.node("n1") or {}).get("state") == "ready", 20, "n1 again")
        # And where the agent is killed: then its shims are alone. What the other node had in mind is still there.
        self.agents["n2"].kill()
        self.wait_on("n1")
        wait_for(lambda: len(self.spans()) > 2, 10, "a third span")
        begun = len(self.lines())
        wait_for(lambda: len(self.lines()) > begun + 20, 10, "some more of it")
        self.assertEqual(self.spans(), ["n1", "n2", "n1"])
        self.check_deletion()
        self.assertEqual(sum((a.end() for a in self.agents.values()), []), [])


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root")
        sys.exit(77)
    isolate()
    unittest.main(verbosity=2)
