#!/usr/bin/env python3
"""The leader of three servers is killed at the steps of a deployment, for each strategy, while clients ask the service through
two real proxies: the deployment ends where it would have ended, and no request is lost. A step is an event of the service; how
many there are is seen in a first deployment without a kill.

  leader_kills.py            some steps of each strategy, by a seed that is printed
  LEADER_KILLS=all           every step; LEADER_KILLS=N: N of each strategy; LEADER_KILLS_SEED=S: the same ones again"""
import http.client
import os
import random
import sys
import time
import unittest
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster_lib import Cluster  # noqa: E402
from ingress_lib import IngressAgent, Load, web_service  # noqa: E402
from lib import job, wait_for  # noqa: E402

KILLS = os.environ.get("LEADER_KILLS", "1")
SEED = int(os.environ.get("LEADER_KILLS_SEED", time.time_ns() % 1000000))
STRATEGIES = {"rolling": {"strategy": "rolling"}, "blue-green": {"strategy": "blue-green", "standby_secs": 1},
              "canary": {"strategy": "canary", "canary_percent": 25}}
OVER = ("successful", "failed", "reverted", "cancelled")


class LeaderKills(unittest.TestCase):
    def setUp(self):
        self.cluster = Cluster(3)
        self.addCleanup(self.cluster.remove_files)
        self.addCleanup(self.cluster.kill)
        self.agents = [IngressAgent(self.cluster.servers[0], f"n{i}", f"127.0.0.{i + 1}", servers=self.cluster.addresses).start()
                       for i in (1, 2)]
        self.loads = []
        self.addCleanup(self.end)
        wait_for(lambda: len(self.ask("GET", "/v1/nodes").json["items"]) == 2, 20, "two nodes")
        self.version = 0

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
        return self.ask("GET", f"/v1/deployments/{status['deployment']}").json

    def events(self, server):
        a = server.get("/v1/events?service=web&limit=1000", headers={"Accept": "application/json"}, timeout=5)
        return [e for e in a.json["items"] if e["index"] > self.since]

    def submit(self, deploy):
        self.version += 1
        done = self.ask("POST", "/v1/jobs", job("web", web_service(version=f"v{self.version}", deploy=deploy)))
        self.assertEqual(done.status, 200, done)
        self.since = done.json["index"]

    def go_on(self, deployment):
        """What a person does of it: a canary that pauses is promoted, perhaps twice because of the kill."""
        if deployment["strategy"] == "canary" and deployment["state"] == "paused":
            answer = self.ask("POST", "/v1/services/web/promote", {})
            self.assertIn(answer.status, (200, 409), answer)

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
        for agent in self.agents:
            self.assertEqual(agent.get_page("/")[2].split("/")[0], f"v{self.version}")

    def kill_at(self, step, deploy):
        """False: it was over before it came to so many events, by one or two that are not told each time."""
        leader = self.cluster.leader()
        self.submit(deploy)
        wait_for(lambda: len(self.events(leader)) >= step or self.is_over(), 60, f"event {step}", every=0.002)
        reached = len(self.events(leader)) >= step
        leader.kill()
        leader.start(wait=False)
        self.finishes()
        self.cluster.wait_ready(3)
        return reached

    def test_at_each_step(self):
        self.submit(STRATEGIES["rolling"])
        self.finishes()
        self.loads = [Load(agent, clients=2, pause=0.01, **more) for agent in self.agents
                      for more in ({}, {"method": "POST", "query": "?ms=40"})]
        chosen = random.Random(SEED)
        for name, deploy in STRATEGIES.items():
            self.submit(deploy)
            self.finishes()
            steps = range(1, len(self.events(self.cluster.leader())) + 1)
            some = steps if KILLS == "all" else sorted(chosen.sample(steps, int(KILLS)))
            print(f"{name}: {len(steps)} steps, killed at {list(some)}, LEADER_KILLS_SEED={SEED}", flush=True)
            reached = [self.kill_at(step, deploy) for step in some]
            self.assertIn(True, reached)
        self.assertEqual([e for load in self.loads for e in load.stop()], [])
        self.assertGreater(sum(len(load.times) for load in self.loads), 100)
        self.cluster.wait_equal()


if __name__ == "__main__":
    unittest.main(verbosity=2)
