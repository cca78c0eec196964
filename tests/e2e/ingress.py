#!/usr/bin/env python3
"""Deploys lose no request: a real server, two agents with a real HAProxy each, replicas that end at once when they are told
to, and clients that check every answer. The same deploy is noticed when the drain is broken.

  ingress.py                 what CI runs
  ingress.py --deploys 30    only deploys, 30 of each strategy, and 10,000 requests for the canary's share"""
import json
import os
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ingress_lib import IngressAgent, LyingServer, Load, web_service  # noqa: E402
from lib import Server, job, wait_for  # noqa: E402

DEPLOYS, REQUESTS = 1, 300
LEAST_ANSWERS = 20                   # of each client, else it saw too little to say that nothing was lost


def health(path):
    return {"type": "http", "port": "http", "path": path, "interval": "200ms"}


class IngressTest(unittest.TestCase):
    through = None                   # what stands between the agents and the server

    def setUp(self):
        self.server = Server().start()
        self.addCleanup(lambda: self.server.stop())
        at = self.server
        if self.through:
            at = self.through(self.server)
            self.addCleanup(at.stop)
        self.agents = [IngressAgent(at, f"n{i}", f"127.0.0.{i + 1}").start() for i in (1, 2)]
        self.addCleanup(self.end)
        wait_for(lambda: len(self.server.items("/v1/nodes")) == 2, 20, "two nodes")
        self.version, self.loads = 0, []

    def end(self):
        for load in self.loads:
            load.stop()
        for agent in self.agents:
            self.assertEqual(agent.end(), [])

    def service(self):
        return self.server.get("/v1/services/web").json["status"]

    def submit(self, **more):
        """A new version; returns its deployment's id, when there is one."""
        self.version += 1
        answer = self.server.post("/v1/jobs", job("web", web_service(version=f"v{self.version}", **more)))
        self.assertLess(answer.status, 300, answer)
        return answer

    def deployment(self):
        """The one of the current version."""
        version = self.service()["version"]
        return next(d for d in self.server.items("/v1/deployments") if d["service"] == "web" and d["version"] == version)

    def reaches(self, state, timeout=40):
        try:
            wait_for(lambda: self.deployment()["state"] == state, timeout, f"a deployment that is {state}")
        except AssertionError:
            print(json.dumps([self.deployment(), self.server.items("/v1/allocs"), self.agents[0].text_end()], indent=1))
            raise

    def serves(self, *versions, timeout=20):
        """Waits until all proxies answer with all of these versions, and no other."""
        def look():
            for agent in self.agents:
                seen = {agent.get_page("/")[2].split("/")[0] for _ in range(4 * len(versions) + 4)}
                if seen != set(versions):
                    return False
            return True
        wait_for(look, timeout, f"answers of {versions}", every=0.05)

    def load(self):
        """For each proxy: kept and new connections; requests that may be sent twice and such that may not."""
        for agent in self.agents:
            self.loads.append(Load(agent, clients=2, pause=0.01))
            self.loads.append(Load(agent, clients=2, pause=0.01, method="POST", query="?ms=40"))

    def lost(self):
        """What went wrong for any of the clients, of whom each asked all the time."""
        wait_for(lambda: all(load.stopping.is_set() or len(load.times) >= LEAST_ANSWERS for load in self.loads), 20, "answers")
        return [e for load in self.loads for e in load.stop()]

    def first(self, **more):
        self.submit(**more)
        self.serves("v1")
        self.load()

    def tasks(self):
        """The process of each replica that runs."""
        return {a["id"]: a["pid"] for agent in self.agents for a in agent.get("/v1/allocs").json if a["pid"]}

    def download(self):
        """Half a MB over three seconds; what came of it is in the list that is returned, afterwards."""
        got = []
        thread = threading.Thread(target=lambda: got.append(len(self.agents[0].get_page("/?kb=500", timeout=30)[2])))
        thread.start()
        return thread, got


class DeploysTest(IngressTest):
    def test_rolling(self):
        self.first()
        thread, got = self.download()
        for _ in range(DEPLOYS * 2):
            self.submit()
            self.reaches("successful")
            self.serves(f"v{self.version}")
        thread.join()
        self.assertEqual(got, [500 * 1024])
        self.assertEqual(self.lost(), [])

    def test_blue_green(self):
        deploy = {"strategy": "blue-green", "standby_secs": 2}
        self.first(deploy=deploy)
        for _ in range(DEPLOYS):
            self.submit(deploy=deploy)
            self.serves(f"v{self.version}")
            self.reaches("successful")
        # Back while blue still stands by: nothing is started.
        self.submit(deploy={**deploy, "standby_secs": 60})
        self.serves(f"v{self.version}")
        allocs = {a["id"] for a in self.server.items("/v1/allocs")}
        answer = self.server.post("/v1/services/web/rollback", {})
        self.assertLess(answer.status, 300, answer)
        self.serves(f"v{self.version - 1}")
        self.assertEqual({a["id"] for a in self.server.items("/v1/allocs")} - allocs, set())
        self.assertEqual(self.lost(), [])

    def test_canary(self):
        deploy = {"strategy": "canary", "canary_percent": 20}
        self.submit(deploy=deploy)
        self.serves("v1")
        self.submit(deploy=deploy)
        self.reaches("paused")
        self.assert_share("v2", "v1", 0.20)
        self.load()
        stable = "v1"
        for i in range(DEPLOYS * 2):
            if i:
                self.submit(deploy=deploy)
                self.reaches("paused")
            new = f"v{self.version}"
            self.serves(stable, new)
            action = "abort" if i % 2 == 0 else "promote"
            answer = self.server.post(f"/v1/services/web/{action}")
            self.assertLess(answer.status, 300, answer)
            stable = new if action == "promote" else stable
            self.serves(stable)
        self.assertEqual(self.lost(), [])

    def assert_share(self, new, old, share):
        """Of what one client asks in turn, while nobody else does: within a point."""
        for agent in self.agents:
            for _ in range(100):     # a replica comes in with the next round of the proxy's turns
                agent.get_page("/")
            seen = [agent.get_page("/")[2].split("/")[0] for _ in range(REQUESTS)]
            self.assertEqual(set(seen), {new, old})
            self.assertLess(abs(seen.count(new) / len(seen) - share), 0.01, seen.count(new))


class AnalysisTest(IngressTest):
    def test_a_canary_is_judged_by_its_requests(self):
        """A good one gets all requests by itself; one that answers 500s and one that is slow are taken back."""
        analysis = {"window_secs": 2, "min_requests": 50, "max_p99_ratio": 1000}
        deploy = {"strategy": "canary", "canary_percent": 20, "analysis": analysis}
        self.first(deploy=deploy)
        self.submit(deploy=deploy)
        self.reaches("successful")
        self.serves("v2")
        self.assertEqual(self.lost(), [])
        self.load()
        self.assert_taken_back({"STATUS": "500"}, "requests failed", deploy)
        self.assert_taken_back({"DELAY": "3000"}, "answers took up to", {**deploy, "analysis": {**analysis, "min_requests": 10, "max_p99_ratio": 3}})
        self.assertEqual({(e[1], e[2].split("/")[0]) for e in self.lost()}, {(500, "v3")})

    def assert_taken_back(self, env, why, deploy):
        self.submit(deploy=deploy, env=env)
        canary = self.deployment()["id"]
        wait_for(lambda: self.server.get(f"/v1/deployments/{canary}").json["state"] == "reverted", 60, "an analysis that fails")
        done = self.server.get(f"/v1/deployments/{canary}").json
        self.assertIn(why, done["reason"])
        self.assertEqual(done["analysis"]["outcome"], "failed")
        self.assertGreater(done["analysis"]["stable"]["requests"], done["analysis"]["canary"]["requests"])
        self.version += 1                                  # the one that takes it back
        self.reaches("successful")
        self.serves("v2")


class BadVersionsTest(IngressTest):
    def test_they_are_taken_back(self):
        """One that crashes soon after it was healthy, one that never opens its port, one whose check fails: the version before
        serves on, and users lose at most what each of them had under way when a replica crashed."""
        bad = {"restart": {"attempts": 0}, "deploy": {"min_healthy_secs": 3, "health_timeout_secs": 4}}
        self.submit(**bad)
        self.reaches("successful")
        for agent in self.agents:
            self.loads.append(Load(agent, pause=0.01))
        for env, why in (({"LIFE": "1.5"}, "failed on"), ({"DEAF": "1"}, "is not healthy"), ({"HEALTH": "500"}, "is not healthy")):
            self.submit(env=env, **bad)
            before = self.deployment()["id"]
            wait_for(lambda: self.server.get(f"/v1/deployments/{before}").json["state"] == "reverted", 60, f"the end of {env}")
            self.assertIn(why, self.server.get(f"/v1/deployments/{before}").json["reason"])
            self.version += 1                              # the one that takes it back
            self.reaches("successful")
            self.serves("v1")
        answers = {who.split("/")[0] for load in self.loads for _, who in load.times}
        self.assertEqual(answers, {"v1", "v2"})
        self.assertLessEqual(len(self.lost()), sum(len(load.threads) for load in self.loads))


class FaultsTest(IngressTest):
    def test_changes_that_touch_no_replica(self):
        """Ways in, checks, count and words: what runs goes on, by the new checks, also of an agent that was killed."""
        self.first()
        before, spec = self.tasks(), {"version": "v1"}

        def change(**more):
            spec.update(more)
            answer = self.server.post("/v1/jobs", job("web", web_service(**spec)))
            self.assertEqual((answer.status, answer.json["services"][0]["deployment"]), (200, None), answer)

        def checked_at(path):
            wait_for(lambda: all(f"{path}: status 200" in a["reason"] for a in self.server.items("/v1/allocs")), 20, f"checks of {path}")

        change(health=health("/better"))
        checked_at("/better")
        self.assertEqual(self.tasks(), before)
        for agent in self.agents:
            agent.kill()
            agent.start()
        change(health=health("/best"), meta={"team": "x"}, ingress=[{"host": f"{h}.example.com", "port": "http"} for h in ("web", "new")])
        wait_for(lambda: all(a.get_page("/", host="new.example.com")[0] == 200 for a in self.agents), 20, "the new host")
        checked_at("/best")
        self.assertEqual(self.tasks(), before)
        change(count=3)
        wait_for(lambda: len(self.tasks()) == 3, 20, "the third replica")
        self.assertEqual(before.items() - self.tasks().items(), set())
        self.assertEqual(self.lost(), [])
        # A check that none passes takes all of them out, and going back brings them in again.
        change(health={"type": "exec", "command": ["/bin/false"], "interval": "200ms"})
        wait_for(lambda: self.agents[0].get_page("/")[0] == 503, 20, "no healthy replica")
        self.assertEqual(self.server.post("/v1/services/web/rollback").status, 200)
        self.serves("v1")
        change(health={"type": "none"})
        wait_for(lambda: {a["state"] for a in self.server.items("/v1/allocs")} == {"running"}, 20, "replicas without checks")
        self.serves("v1")
        load = Load(self.agents[0])      # who served without checks serves until they say otherwise
        self.loads.append(load)
        change(health=health("/good"))
        checked_at("/good")
        self.assertEqual(load.stop(), [])
        self.assertEqual(before.items() - self.tasks().items(), set())

    def test_drain_and_kills(self):
        """A node is drained, the agents, then the server are killed and come back, in the middle of deploys."""
        self.first()
        self.submit()
        self.agents[0].kill()
        self.agents[0].start()
        self.reaches("successful", 60)
        self.submit()
        self.server.kill()
        self.server.start()
        self.reaches("successful", 60)
        self.serves(f"v{self.version}")
        node = next(n for n in self.server.items("/v1/nodes") if n["name"] == "n2")
        answer = self.server.post(f"/v1/nodes/{node['id']}/drain", {})
        self.assertLess(answer.status, 300, answer)
        wait_for(lambda: not [a for a in self.server.items("/v1/allocs")
                              if a["node_name"] == "n2" and a["state"] in ("running", "healthy", "stopping")], 40, "the drained node")
        self.serves(f"v{self.version}")
        self.assertEqual(self.lost(), [])


class BrokenDrainTest(IngressTest):
    """Replicas are said to be idle as soon as they leave, and the proxies are not told: the clients must notice."""
    through = LyingServer

    def test_it_is_noticed(self):
        self.first()
        for _ in range(2):
            self.submit()
            self.reaches("successful")
        self.assertNotEqual(self.lost(), [])


if __name__ == "__main__":
    if "--deploys" in sys.argv:
        at = sys.argv.index("--deploys")
        DEPLOYS, REQUESTS = int(sys.argv[at + 1]), 10000
        del sys.argv[at:at + 2]
        sys.argv += ["DeploysTest"]
    unittest.main(verbosity=2)
