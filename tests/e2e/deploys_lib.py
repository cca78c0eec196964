"""What tests of deploys under load have in common: a server, agents with a real proxy each, a service in versions, and clients
that ask through all proxies."""
import collections
import json
import unittest

from clients_lib import all_kinds
from ingress_lib import IngressAgent, web_service
from lib import Server, job, wait_for

LEAST_ANSWERS = 20                   # of each client, else it saw too little to say that nothing was lost
ROLLING, CANARY = {"strategy": "rolling"}, {"strategy": "canary", "canary_percent": 20}
BLUE_GREEN = {"strategy": "blue-green", "standby_secs": 1}


class IngressTest(unittest.TestCase):
    nodes, agent_flags, secure = 2, {}, False

    def setUp(self):
        self.server = Server(secure=self.secure).start()
        self.addCleanup(lambda: self.server.stop())
        self.agents = [IngressAgent(self.between(), f"n{i}", f"127.0.0.{i + 1}", **self.agent_flags).start()
                       for i in range(1, self.nodes + 1)]
        self.addCleanup(self.end)
        wait_for(lambda: len(self.server.items("/v1/nodes")) == self.nodes, 20, "the nodes")
        self.versions, self.loads = collections.Counter(), []

    def between(self):
        """What the agents take for the server."""
        return self.server

    def end(self):
        for load in self.loads:
            load.stop()
        for agent in self.agents:
            self.assertEqual(agent.end(), [])

    def submit(self, name="web", make=web_service, **more):
        """A new version; returns its deployment, when there is one."""
        self.versions[name] += 1
        answer = self.server.post("/v1/jobs", job(name, make(name, version=f"v{self.versions[name]}", **more)))
        self.assertLess(answer.status, 300, answer)
        return answer.json["services"][0]["deployment"]

    def act(self, action, name="web"):
        answer = self.server.post(f"/v1/services/{name}/{action}")
        self.assertLess(answer.status, 300, answer)

    def deployment(self, name="web"):
        """The one of the current version."""
        version = self.server.get(f"/v1/services/{name}").json["status"]["version"]
        return next(d for d in self.server.items("/v1/deployments") if d["service"] == name and d["version"] == version)

    def reaches(self, state, timeout=40, name="web"):
        try:
            wait_for(lambda: self.deployment(name)["state"] == state, timeout, f"a deployment that is {state}")
        except AssertionError:
            print(json.dumps([self.deployment(name), self.server.items("/v1/allocs"), self.agents[0].text_end()], indent=1))
            raise

    def serves(self, *versions, timeout=20, name="web"):
        """Waits until all proxies answer with all of these versions, and no other."""
        def look():
            for agent in self.agents:
                seen = {agent.get_page("/", host=f"{name}.example.com")[2].split("/")[0] for _ in range(4 * len(versions) + 4)}
                if seen != set(versions):
                    return False
            return True
        wait_for(look, timeout, f"answers of {versions}", every=0.05)

    def load(self, name="web"):
        """For each proxy, all kinds of clients."""
        self.loads += [load for agent in self.agents for load in all_kinds(agent, f"{name}.example.com")]

    def lost(self):
        """What went wrong for any of the clients, of whom each asked all the time."""
        wait_for(lambda: all(sum(list(load.answers.values())) >= LEAST_ANSWERS for load in self.loads), 20, "answers")
        errors = [e for load in self.loads for e in load.stop()]
        print(f"{sum(sum(load.answers.values()) for load in self.loads)} answers, {len(errors)} errors", flush=True)
        return errors

    def first(self, name="web", **more):
        """The first version, of which all replicas serve, and clients."""
        self.submit(name, **more)
        self.reaches("successful", name=name)
        self.serves("v1", name=name)
        self.load(name)

    def deploy(self, strategy, fault=lambda: None, **more):
        """A new version that gets all requests in the end, whatever happens on the way."""
        self.submit(deploy=strategy, **more)
        fault()
        if strategy["strategy"] == "canary":
            self.reaches("paused", 60)
            self.act("promote")
        self.reaches("successful", 60)
        self.serves(f"v{self.versions['web']}")
