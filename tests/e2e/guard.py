#!/usr/bin/env python3
"""Nodes that fall silent: one is replaced; most at once are not, for a while, and it is told why; a server that stood still
blames nobody."""
import os
import signal
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import PATIENCE, FakeAgent, Server, exec_service, job, wait_for  # noqa: E402


class GuardTest(unittest.TestCase):
    grace = 1.5 * PATIENCE
    flags = {}

    def setUp(self):
        ms = int(self.grace * 1000)
        self.server = Server(heartbeat=f"{ms // 5}ms", node_grace=f"{ms}ms", **self.flags).start()
        self.addCleanup(self.server.workdir.remove)
        self.addCleanup(self.server.kill)
        self.agents = [FakeAgent(self.server, node_id=f"{i:012x}", name=f"n{i}", cpus=1).start() for i in range(1, 6)]
        for a in self.agents:
            self.addCleanup(a.stop)
        self.server.post("/v1/jobs", job("web", exec_service("web", 5, spread="node")))
        self.first = {a["id"] for a in self.running(5)}

    def running(self, count):
        def look():
            allocs = [a for a in self.server.items("/v1/allocs?service=web") if a["state"] == "running"]
            return len(allocs) == count and allocs
        return wait_for(look, 20, f"{count} running")

    def states(self):
        return [n["state"] for n in sorted(self.server.items("/v1/nodes"), key=lambda n: n["name"])]

    def events(self, to):
        answer = self.server.get("/v1/events?kind=cluster", headers={"Accept": "application/json"})
        return [e for e in answer.json["items"] if e.get("to") == to]

    def silence(self, *which):
        for i in which:
            self.agents[i].stopping.set()

    def test_one_node_is_replaced(self):
        self.silence(0)
        wait_for(lambda: self.states() == ["down"] + ["ready"] * 4, 20, "the dead node")
        self.assertEqual(len(self.first & {a["id"] for a in self.running(5)}), 4)
        self.assertEqual(self.events("held"), [])

    def test_most_nodes_at_once_are_held_until_they_come_back(self):
        self.silence(0, 1, 2)
        held = wait_for(lambda: self.events("held"), 20, "the hold")[0]
        self.assertIn("3 of 5 nodes fell silent at the same time", held["reason"])
        self.assertIn("fell silent", self.server.get("/v1/cluster").json["hold"])
        time.sleep(2 * self.grace)           # nothing happens, for longer than the grace
        self.assertEqual(self.states(), ["ready"] * 5)
        self.assertEqual({a["id"] for a in self.running(5)}, self.first)
        for a in self.agents[:2]:            # two of them come back; one alone counts as dead
            a.stopping.clear()
            self.assertEqual(a.heartbeat().status, 200)
        wait_for(lambda: self.agents[0].heartbeat().status == self.agents[1].heartbeat().status == 200 and
                 self.states() == ["ready", "ready", "down", "ready", "ready"], 20, "the one that is dead")
        self.assertTrue(self.events("released"))
        self.assertFalse(self.server.get("/v1/cluster").json.get("hold"))

    def test_who_is_lost_for_good_is_not_waited_for(self):
        self.silence(0, 1, 2)
        wait_for(lambda: self.events("held"), 20, "the hold")
        for ask in (lambda: self.server.post("/v1/nodes/n4/lost"), lambda: self.server.call("DELETE", "/v1/nodes/n1")):
            answer = ask()
            self.assertEqual((answer.status, answer.error["code"]), (409, "conflict"), answer)
        self.agents[0].stop()                # also what it asked before
        self.assertEqual(self.server.post("/v1/nodes/n1/lost", {"reason": "it burnt"}).status, 200)
        self.assertIn("it burnt", self.server.get("/v1/nodes/n1").json["state_reason"])
        self.assertEqual(self.server.call("DELETE", "/v1/nodes/n1").status, 200)
        # Two of the four that are left are not most of them.
        wait_for(lambda: self.states() == ["down"] * 2 + ["ready"] * 2, 20, "the end of the hold")
        self.assertTrue(self.events("released"))

    def test_a_server_that_stood_still_blames_nobody(self):
        os.kill(self.server.process.pid, signal.SIGSTOP)
        time.sleep(3 * self.grace)
        os.kill(self.server.process.pid, signal.SIGCONT)
        time.sleep(2 * self.grace)
        self.assertEqual(self.states(), ["ready"] * 5)
        self.assertEqual({a["id"] for a in self.running(5)}, self.first)
        self.assertEqual(self.server.metric("mentat_nodes_down_total"), 0)


class HoldEnds(GuardTest):
    flags = {"mass_loss_hold": "1s"}

    def test_most_nodes_at_once_are_held_until_they_come_back(self):
        """Not here: they do not come back in time."""
        self.silence(0, 1, 2)
        wait_for(lambda: self.states() == ["down"] * 3 + ["ready"] * 2, 30, "the end of the hold")
        self.assertIn("taken for dead", self.events("released")[0]["reason"])
        self.assertTrue(self.events("held"))

    test_one_node_is_replaced = test_who_is_lost_for_good_is_not_waited_for = test_a_server_that_stood_still_blames_nobody = None


if __name__ == "__main__":
    unittest.main(verbosity=2)
