#!/usr/bin/env python3
"""Deploys lose no request: a real server, two agents with a real HAProxy each, replicas that end at once when they are told
to, and clients that check every answer. The same deploys are noticed when the drain is broken.

  ingress.py                 what CI runs
  ingress.py --deploys 30    only deploys: 30 of each strategy, and as many with each fault"""
import collections
import os
import signal
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from clients_lib import Load, Wrk, all_kinds  # noqa: E402
from deploys_lib import BLUE_GREEN, CANARY, ROLLING, IngressTest  # noqa: E402
from ingress_lib import LyingServer, fast_service, web_service  # noqa: E402
from lib import Workdir, job, text_of, wait_for  # noqa: E402

DEPLOYS = 2
FAULTS = 1                           # of each kind, for each strategy


def health(path):
    return {"type": "http", "port": "http", "path": path, "interval": "200ms"}


class DeploysTest(IngressTest):
    def setUp(self):
        self.volumes, self.downloads = Workdir(), []
        self.agent_flags = {"volume_root": self.volumes.path}          # of both nodes
        super().setUp()

    def begin(self, deploy):
        self.first(deploy=deploy)
        self.downloads = [self.download(agent) for agent in self.agents]

    def download(self, agent):
        """Half a MB over three seconds; what came of it is in the list that is returned, afterwards."""
        got = []
        thread = threading.Thread(target=lambda: got.append(len(agent.get_page("/?kb=500", timeout=30)[2])))
        thread.start()
        return thread, got

    def assert_nothing_lost(self):
        for thread, got in self.downloads:
            thread.join()
            self.assertEqual(got, [500 * 1024])
        self.assertEqual(self.lost(), [])

    def test_rolling(self):
        self.begin(ROLLING)
        for _ in range(DEPLOYS):
            self.deploy(ROLLING)
        self.assert_nothing_lost()

    def test_blue_green(self):
        self.begin(BLUE_GREEN)
        for _ in range(DEPLOYS):
            self.deploy(BLUE_GREEN)
        # Back while blue still stands by: nothing is started.
        self.submit(deploy={**BLUE_GREEN, "standby_secs": 60})
        self.serves(f"v{self.versions['web']}")
        self.reaches("paused")
        allocs = {a["id"] for a in self.server.items("/v1/allocs")}
        self.act("rollback")
        self.serves(f"v{self.versions['web'] - 1}")
        self.assertEqual({a["id"] for a in self.server.items("/v1/allocs")} - allocs, set())
        self.assert_nothing_lost()

    def test_canary(self):
        self.begin(CANARY)
        stable = "v1"
        for i in range(DEPLOYS):
            self.submit(deploy=CANARY)
            self.reaches("paused")
            new = f"v{self.versions['web']}"
            self.serves(stable, new)
            if i % 2:
                stable = new
            self.act("promote" if i % 2 else "abort")
            self.versions["web"] += 1 - i % 2              # an abort makes a version of its own
            self.reaches("successful")
            self.serves(stable)
        self.assert_nothing_lost()

    def test_volumes_and_every_node(self):
        """Replicas with a volume stop before their successors start, one at a time; those of every node have them beside."""
        services = {"store": {"volumes": [{"source": self.volumes.join("store"), "target": "/data"}]}, "each": {"mode": "every-node"}}
        for name, more in services.items():
            self.first(name, **more)
        for _ in range(DEPLOYS):
            for name, more in services.items():
                self.submit(name, **more)
            for name in services:
                self.reaches("successful", name=name)
                self.serves(f"v{self.versions[name]}", name=name)
        self.assert_nothing_lost()
        for replica in "01":
            self.assertEqual(text_of(self.volumes.join("store", replica, "starts")).split(),
                             [f"v{version + 1}" for version in range(DEPLOYS + 1)])


class ShareTest(IngressTest):
    def test_the_canarys_share(self):
        """Of 10,000 requests through each proxy, on kept and on new connections, within a point of what was asked."""
        services = {"many": (10, 7), "pair": (1, 30)}

        def deploy(state):
            for name, (count, percent) in services.items():
                self.submit(name, fast_service, count=count, deploy={"strategy": "canary", "canary_percent": percent})
            for name in services:
                self.reaches(state, name=name)
        deploy("successful")
        deploy("paused")
        for name, (count, percent) in services.items():
            allocs = self.server.items(f"/v1/allocs?service={name}")
            self.assertEqual(sorted(a["version"] for a in allocs), [1] * count + [2])
            for agent in self.agents:
                seen = collections.Counter()
                while seen.total() < 10000:
                    load = Wrk(agent, f"{name}.example.com", pause_ms=0, seconds=1)
                    self.assertEqual(load.wait(), [])
                    seen.update(load.answers)
                self.assertEqual(set(seen), {"v1", "v2"})
                share = 100 * seen["v2"] / seen.total()
                print(f"{count} + 1: {share:.2f} % of {seen.total()} for {percent} %", flush=True)
                self.assertLess(abs(share - percent), 1)


class AnalysisTest(IngressTest):
    def load(self, name="web"):
        """Such as say whom each of their errors is from."""
        for agent in self.agents:
            self.loads += [Load(agent, clients=2, pause=0.01), Load(agent, clients=2, pause=0.01, method="POST", query="?ms=40")]

    def test_a_canary_is_judged_by_its_requests(self):
        """A good one gets all requests by itself; one that answers 500s and one that is slow are taken back."""
        analysis = {"window_secs": 2, "min_requests": 50, "max_p99_ratio": 1000}
        deploy = {**CANARY, "analysis": analysis}
        self.first(deploy=deploy)
        self.submit(deploy=deploy)
        self.reaches("successful")
        self.serves("v2")
        self.assertEqual(self.lost(), [])
        self.load()
        self.assert_taken_back({"STATUS": "500"}, "requests failed", deploy)
        self.assert_taken_back({"DELAY": "3000"}, "answers took up to", {**deploy, "analysis": {**analysis, "min_requests": 10, "max_p99_ratio": 3}})
        self.assertEqual({(e[1], e[2].split("/")[0]) for e in self.lost()}, {(500, "v3")})

    def test_so_is_the_first_batch_of_a_rollout(self):
        """One that answers 500s while its checks pass is taken back, before a second batch; users saw nothing but its part of errors."""
        deploy = {**ROLLING, "analysis": {"window_secs": 2, "min_requests": 50, "max_p99_ratio": 1000}}
        self.first(deploy=deploy, count=3)
        self.submit(deploy=deploy, count=3)
        self.reaches("successful")
        self.assertEqual(self.deployment()["analysis"]["outcome"], "passed")
        self.serves("v2")
        self.assertEqual(self.lost(), [])
        self.load()
        self.assert_taken_back({"STATUS": "500"}, "requests failed", deploy, count=3)
        self.assertEqual({(e[1], e[2].split("/")[0]) for e in self.lost()}, {(500, "v3")})
        self.assertEqual(len({e[2].split(" ")[0] for load in self.loads for e in load.errors}), 1)     # of one replica

    def assert_taken_back(self, env, why, deploy, **more):
        canary = self.submit(deploy=deploy, env=env, **more)
        wait_for(lambda: self.server.get(f"/v1/deployments/{canary}").json["state"] == "reverted", 60, "an analysis that fails")
        done = self.server.get(f"/v1/deployments/{canary}").json
        self.assertIn(why, done["reason"])
        self.assertEqual(done["analysis"]["outcome"], "failed")
        self.assertGreater(done["analysis"]["stable"]["requests"], done["analysis"]["canary"]["requests"])
        self.versions["web"] += 1                          # the one that takes it back
        self.reaches("successful")
        self.serves("v2")


class BadVersionsTest(IngressTest):
    BAD = (({"LIFE": "5"}, "failed on"), ({"DEAF": "1"}, "is not healthy"), ({"HEALTH": "500"}, "is not healthy"))
    STRATEGIES = {"rolling": ROLLING, "canary": CANARY}    # a service of each

    def test_they_are_taken_back(self):
        """One that crashes five seconds after its start, one that never opens its port, one whose check fails: the version
        before serves on, and users lose at most what each of them had under way when a replica crashed. (One that fails for
        users alone: AnalysisTest.)"""
        for name in self.STRATEGIES:
            self.submit_bad(name)
        for name in self.STRATEGIES:
            self.reaches("successful", name=name)
            self.serves("v1", name=name)
        for agent in self.agents:
            self.loads += [Load(agent, host=f"{name}.example.com", pause=0.01) for name in self.STRATEGIES]
        for env, why in self.BAD:
            ids = {name: self.submit_bad(name, env) for name in self.STRATEGIES}
            for name, bad in ids.items():
                wait_for(lambda: self.server.get(f"/v1/deployments/{bad}").json["state"] == "reverted", 60, f"the end of {env}")
                self.assertIn(why, self.server.get(f"/v1/deployments/{bad}").json["reason"])
                self.versions[name] += 1                   # the one that takes it back
                self.reaches("successful", name=name)
                self.serves("v1", name=name)
        for load in self.loads:
            errors = load.stop()
            self.assertEqual({who.split("/")[0] for _, who in load.times}, {"v1", "v2"})
            self.assertLessEqual(len(errors), len(load.threads), errors)

    def submit_bad(self, name, env=None):
        """A rollout must watch longer than the crash takes; a canary pauses meanwhile. Only what is never healthy is not waited for
        long: others start as fast as the machine lets them."""
        crashes = "LIFE" in (env or {})
        deploy = {**self.STRATEGIES[name], "health_timeout_secs": 3 if env and not crashes else 30,
                  "min_healthy_secs": 7 if name == "rolling" and crashes else 0}
        return self.submit(name, env=env, deploy=deploy, restart={"attempts": 0})


class FaultsTest(IngressTest):
    def tasks(self):
        """The process of each replica that runs."""
        return {a["id"]: a["pid"] for agent in self.agents for a in agent.get("/v1/allocs").json if a["pid"]}

    def test_changes_that_touch_no_replica(self):
        """Ways in, checks, count and words: what runs goes on, by the new checks, also of an agent that was killed."""
        self.first()
        before, spec = self.tasks(), {"version": "v1", "ingress": self.ways("web")}

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
        change(health=health("/best"), meta={"team": "x"}, ingress=self.ways("web", "new"))
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

    @staticmethod
    def ways(*names):
        return [{"host": f"{name}.example.com", "port": "http", "tls": True, "redirect_https": False} for name in names]


class KillsTest(IngressTest):
    secure = True
    STRATEGIES = (ROLLING, BLUE_GREEN, CANARY)

    def test_agents_servers_and_drains(self):
        """In the middle of deploys an agent and the server are killed and come back, or a node is drained."""
        self.first()
        for strategy in self.STRATEGIES * FAULTS:
            for fault in (self.kill, self.drain):
                self.deploy(strategy, fault)
        self.assertEqual(self.lost(), [])

    def kill(self):
        self.agents[0].kill()
        self.agents[0].start()
        self.server.kill()
        self.server.start()

    def drain(self):
        node = next(n["id"] for n in self.server.items("/v1/nodes") if n["name"] == "n2")
        self.assertLess(self.server.post(f"/v1/nodes/{node}/drain", {}).status, 300)
        wait_for(lambda: not [a for a in self.server.items("/v1/allocs") if a["node_name"] == "n2"
                              and a["state"] in ("running", "healthy", "stopping")], 40, "the drained node")
        self.assertLess(self.server.post(f"/v1/nodes/{node}/enable", {}).status, 300)

    def test_proxies(self):
        """A proxy is killed in the middle of deploys, of which each ends as it would have. The other proxy's clients notice
        nothing. Those of the killed one lose what they ask until it serves again, by its agent's log, and nothing after that.
        (Within a second: ingress_table.py.)"""
        self.deploy(ROLLING)
        self.loads = all_kinds(self.agents[1])
        load = Load(self.agents[0], pause=0.001)
        self.addCleanup(load.stop)
        victims = (self.agents[0].master, lambda: self.agents[0].workers()[0])
        for n, strategy in enumerate(self.STRATEGIES * FAULTS):
            seen = len(load.errors)
            self.deploy(strategy, lambda: os.kill(victims[n % 2](), signal.SIGKILL))
            wait_for(lambda: len(self.agents[0].repairs()) > n, 10, "the proxy")
            load.more(10)
            at, _ = self.agents[0].repairs()[n]
            for error in load.errors[seen:]:
                self.assertLess(error[0], at, error)
        load.stop()
        self.assertNotEqual(load.errors, [])               # it was noticed at all
        self.assertEqual(self.lost(), [])


class BrokenDrainTest(IngressTest):
    """Replicas are said to be idle as soon as they leave, and the proxies are not told: the clients must notice, and what they
    notice is that."""

    def between(self):
        if not hasattr(self, "liar"):
            self.liar = LyingServer(self.server)
            self.addCleanup(self.liar.stop)
        return self.liar

    def test_it_is_noticed(self):
        for lies in (False, True):
            self.liar.lies, self.loads = lies, []
            self.deploy(ROLLING)
            self.load()
            self.deploy(ROLLING)
            self.deploy(ROLLING)
            self.assertEqual(bool(self.lost()), lies)


if __name__ == "__main__":
    if "--deploys" in sys.argv:
        at = sys.argv.index("--deploys")
        DEPLOYS = FAULTS = int(sys.argv[at + 1])
        del sys.argv[at:at + 2]
        sys.argv += ["DeploysTest", "KillsTest"]
    unittest.main(verbosity=2)
