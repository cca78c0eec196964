#!/usr/bin/env python3
"""The leader of three servers is killed at the steps of a deployment, for each strategy and each way on and back, while clients
ask the service through two real proxies: the deployment ends where it would have ended, and no request is lost. A step is an
event of the service; which ones there are is seen in a first deployment without a kill.

  leader_kills.py            at one step of each kind, in a deployment that has it, by a seed that is printed
  LEADER_KILLS=all           at every step of each; LEADER_KILLS_SEED=S: the same ones again"""
import http.client
import os
import random
import re
import sys
import time
import unittest
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from clients_lib import all_kinds  # noqa: E402
from cluster_lib import Cluster  # noqa: E402
from ingress_lib import IngressAgent, web_service  # noqa: E402
from lib import job, wait_for  # noqa: E402

SEED = int(os.environ.get("LEADER_KILLS_SEED", time.time_ns() % 1000000))
BLUE_GREEN, CANARY = {"strategy": "blue-green", "standby_secs": 600}, {"strategy": "canary", "canary_percent": 25}
# What a person does each time that the deployment pauses.
SCENARIOS = {
    "rolling": ({"strategy": "rolling"}, []),
    "blue-green": ({**BLUE_GREEN, "standby_secs": 1}, []),
    "blue-green, promoted": (BLUE_GREEN, ["promote"]),
    "blue-green, rolled back": (BLUE_GREEN, ["rollback"]),
    "canary": (CANARY, ["promote", "promote"]),
    "canary, aborted": (CANARY, ["promote", "abort"]),
}
OVER = ("successful", "failed", "reverted", "cancelled")


class LeaderKills(unittest.TestCase):
    def setUp(self):
        self.cluster = Cluster(3, secure=True)
        self.addCleanup(self.cluster.remove_files)
        self.addCleanup(self.cluster.kill)
        self.agents = [IngressAgent(self.cluster.servers[0], f"n{i}", f"127.0.0.{i + 1}", servers=self.cluster.addresses).start()
                       for i in (1, 2)]
        self.loads = []
        self.addCleanup(self.end)
        wait_for(lambda: len(self.ask("GET", "/v1/nodes").json["items"]) == 2, 20, "two nodes")
        self.version, self.shown = 0, ""     # of the service; what its replicas say

    def end(self):
        for load in self.loads:
            load.stop()
        for agent in self.agents:
            self.assertEqual(agent.end(), [])

    def ask(self, method, path, body=None):
        """Whichever server can answer, with the key of one request, until one does."""
        key = {"Idempotency-Key": uuid.uuid4().hex} if method == "POST" else {}

        def once():
            for s in self.cluster.alive():
                try:
                    answer = s.call(method, path, body, {"X-Mentat-Timeout": "3s", **key}, timeout=5)
                except (OSError, http.client.HTTPException):
                    continue
                if answer.status not in (503, 504):
                    return answer
            return None
        return wait_for(once, 40, f"an answer to {method} {path}", every=0.02)

    def deployment(self):
        status = self.ask("GET", "/v1/services/web?consistency=strong").json["status"]
        return self.ask("GET", f"/v1/deployments/{status['deployment']}?consistency=strong").json

    def events(self, server):
        a = server.get(f"/v1/events?service=web&limit=1000&index={self.since}", headers={"Accept": "application/json"}, timeout=5)
        return a.json["items"]

    def submit(self, scenario):
        deploy, self.acts = SCENARIOS[scenario]
        self.version += 1
        self.before, self.shown = self.shown, f"v{self.version}"
        done = self.ask("POST", "/v1/jobs", job("web", web_service(version=self.shown, deploy=deploy)))
        self.assertEqual(done.status, 200, done)
        self.since = done.json["index"]

    def go_on(self, deployment):
        if deployment["state"] != "paused" or not self.acts or deployment["version"] != self.version:
            return
        act, *self.acts = self.acts
        half = act == "promote" and self.acts
        answer = self.ask("POST", f"/v1/services/web/{act}", {"percent": 50} if half else None)
        self.assertEqual(answer.status, 200, answer)
        if act != "promote":
            self.version, self.shown = self.version + 1, self.before

    def is_over(self):
        """The deployment ended, and no replica of another version is left."""
        d = self.deployment()
        self.go_on(d)
        if d["version"] != self.version or d["state"] not in OVER:
            return False
        self.assertEqual(d["state"], "successful", d["reason"])
        allocs = self.ask("GET", "/v1/allocs?service=web&consistency=strong").json["items"]
        return [a["version"] for a in allocs if a["state"] not in ("complete", "failed", "lost")] == [self.version] * 2

    def finishes(self):
        wait_for(self.is_over, 60, "the end of the deployment", every=0.05)
        self.assertEqual(self.acts, [])
        for agent in self.agents:
            self.assertEqual(agent.get_page("/")[2].split("/")[0], self.shown)

    def kill_at(self, scenario, step):
        """False: it was over before it came to so many events, by one or two that are not told each time."""
        leader = self.cluster.leader()
        self.submit(scenario)
        wait_for(lambda: len(self.events(leader)) >= step or self.is_over(), 60, f"event {step}", every=0.002)
        reached = len(self.events(leader)) >= step
        leader.kill()
        leader.start(wait=False)
        self.finishes()
        self.cluster.wait_ready(3)
        return reached

    def steps(self):
        """Where each kind of step is found: {kind: [(scenario, number)]}."""
        found = {}
        for scenario in SCENARIOS:
            self.submit(scenario)
            self.finishes()
            events = self.events(self.cluster.leader())
            print(f"{scenario}: {len(events)} steps", flush=True)
            for number, e in enumerate(events, 1):
                says = re.sub(r"[0-9]+", "N", e["reason"].split(":")[0])
                kind = (e["kind"], e.get("from"), e.get("to"), says if e.get("from") == e.get("to") or e["kind"] != "alloc" else "")
                found.setdefault(kind, []).append((scenario, number))
        return found

    def test_at_each_step(self):
        self.submit("rolling")
        self.finishes()
        self.loads = [load for agent in self.agents for load in all_kinds(agent)]
        found, chosen = self.steps(), random.Random(SEED)
        some = sorted(sum(found.values(), []) if os.environ.get("LEADER_KILLS") == "all" else map(chosen.choice, found.values()))
        print(f"{len(found)} kinds of steps, killed at {some}, LEADER_KILLS_SEED={SEED}", flush=True)
        reached = [self.kill_at(*at) for at in some]
        self.assertGreater(sum(reached), 0.8 * len(some))
        self.assertEqual([e for load in self.loads for e in load.stop()], [])
        for load in self.loads:
            self.assertGreater(sum(load.answers.values()), 100)
        self.cluster.wait_equal()


if __name__ == "__main__":
    unittest.main(verbosity=2)
