#!/usr/bin/env python3
"""Blue-green and canary deployments as their users see them: a real server and mt; the agent is the test's own."""
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import PATIENCE, FakeAgent, Server, exec_service, job, program, wait_for  # noqa: E402


class Rollouts(unittest.TestCase):
    def setUp(self):
        self.server = Server().start()
        self.addCleanup(self.server.workdir.remove)
        self.addCleanup(lambda: self.server.process.alive() and self.assertEqual(self.server.stop(), 0))
        agent = FakeAgent(self.server).start()
        self.addCleanup(agent.stop)

    def mt(self, *args):
        env = {**os.environ, "MENTAT_ADDR": f"http://127.0.0.1:{self.server.port}"}
        return subprocess.run([program("mt"), *args], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60 * PATIENCE)

    def assert_fails(self, status, part, *args):
        done = self.mt(*args)
        self.assertEqual((done.returncode, done.stdout), (status, ""), args)
        self.assertIn(part, done.stderr)

    def assert_refused(self, name, status, code, text, **service):
        """A service that cannot be submitted."""
        answer = self.server.post("/v1/jobs", job(name, exec_service(name, **service)))
        self.assertEqual((answer.status, answer.error["code"], answer.error["message"]), (status, code, text))

    def assert_done(self, part, *args):
        done = self.mt(*args)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(part, done.stdout)

    def submit(self, strategy, count=4, **deploy):
        web = exec_service("web", count=count, health={"min_running": "0s"}, deploy={"strategy": strategy, **deploy})
        self.assertEqual(self.server.post("/v1/jobs", job("shop", web)).status, 200)
        wait_for(lambda: self.deployment()["state"] == "successful", what="the first version")

    def deployment(self):
        status = self.server.get("/v1/services/web").json["status"]
        return self.server.get(f"/v1/deployments/{status['deployment']}").json

    def versions(self):
        """How many replicas are wanted of each version."""
        found = {}
        for a in self.server.items("/v1/allocs?service=web"):
            if a["desired"] == "run" and a["state"] not in ("complete", "failed", "lost"):
                found[a["version"]] = found.get(a["version"], 0) + 1
        return found

    def events(self):
        a = self.server.get("/v1/events?service=web&kind=deployment&limit=1000", headers={"Accept": "application/json"})
        return [e["reason"] for e in a.json["items"]]

    def test_a_canary_in_steps(self):
        self.submit("canary", canary_percent=25)
        self.assert_done("paused: the canary is at 25 %", "deploy", "web", "--env", "A=1")
        self.assertEqual(self.versions(), {1: 4, 2: 1})
        status = self.mt("status", "web").stdout
        for part in "paused", "`mt promote web`", "canary":
            self.assertIn(part, status)
        self.assertEqual([line.split()[:3] for line in status.splitlines() if line.startswith("      ")][:2],
                         [["2", "1", "1"], ["1", "4", "4"]])
        self.assert_done("paused: the canary is at 50 %", "promote", "web", "--to", "50")
        self.assertEqual(self.versions(), {1: 4, 2: 2})
        self.assert_fails(2, "between 51", "promote", "web", "--to", "50")
        self.assert_done("version 2: 4 of 4 healthy", "promote", "web")
        self.assertEqual(self.versions(), {2: 4})
        self.assertEqual(self.deployment()["state"], "successful")
        self.assertIn("promoted by operator", self.events())

    def test_scaling_ends_while_a_deployment_pauses(self):
        """Where two versions stand beside each other more replicas are wanted than the service has."""
        for strategy, up, down in ("canary", [1, 5], [1, 2]), ("blue-green", [4, 5], [2, 2]):
            with self.subTest(strategy):
                self.submit(strategy, canary_percent=10)
                self.mt("deploy", "web", "--env", "A=1")
                self.assert_done("5 of 5 healthy", "scale", "web", "5")
                self.assertEqual(sorted(self.versions().values()), up)
                self.assert_done("2 of 2 healthy", "scale", "web", "2")
                self.assertEqual(sorted(self.versions().values()), down)
                self.assertEqual(self.deployment()["state"], "paused")
                self.mt("abort", "web")

    def test_an_aborted_canary(self):
        self.submit("canary", canary_percent=10)
        self.mt("deploy", "web", "--env", "A=1")
        before = {a["id"] for a in self.server.items("/v1/allocs?service=web") if a["version"] == 1}
        self.assert_done("version 3: 4 of 4 healthy", "abort", "web")
        self.assertEqual(self.versions(), {3: 4})
        self.assertEqual({a["id"] for a in self.server.items("/v1/allocs?service=web") if a["version"] == 3}, before)
        self.assertIn("aborted by operator", self.events())

    def test_blue_green_and_the_ways_on_and_back(self):
        self.submit("blue-green", count=2)
        self.assert_done("the one before stands by", "deploy", "web", "--env", "A=1")
        self.assertEqual(self.versions(), {1: 2, 2: 2})
        self.assertIn("Standby until", self.mt("status", "web").stdout)
        self.assert_fails(2, "only a canary", "promote", "web", "--to", "50")
        self.assert_done("version 3: 2 of 2 healthy", "rollback", "web")
        self.assertEqual(self.versions(), {3: 2})
        self.assertEqual(len(self.server.items("/v1/allocs?service=web")), 4)     # none was started for it
        self.assert_done("stands by", "deploy", "web", "--env", "A=2")
        self.assert_done("version 4: 2 of 2 healthy", "promote", "web")
        self.assertEqual(self.versions(), {4: 2})
        listed = self.mt("versions", "web").stdout
        for part in "env.A: 1", "rollback to 1", "operator", "(removed)":
            self.assertIn(part, listed)

    def test_a_standby_that_ends_by_itself(self):
        self.submit("blue-green", count=1, standby_secs=1)
        self.mt("deploy", "web", "--env", "A=1")
        wait_for(lambda: self.deployment()["state"] == "successful", what="the end of the standby")
        self.assertEqual(self.versions(), {2: 1})
        self.assertIn("its standby is over: the version before leaves", self.events())

    def test_what_cannot_be(self):
        self.submit("rolling")
        unknown = "mt: there is no service nosuch; `mt services` lists them\n"
        self.assert_fails(1, unknown, "deploy", "nosuch", "--env", "A=1")
        self.assert_fails(2, "nothing is to change", "deploy", "web")
        self.assert_fails(2, "NAME=VALUE", "deploy", "web", "--env", "A")
        self.assert_fails(2, "strategy", "deploy", "web", "--strategy", "sometimes")
        self.assert_fails(2, "has no images", "deploy", "web", "--image", "x")
        for command in "promote", "abort":
            self.assert_fails(1, "mt: no deployment of service web is under way\n", command, "web")
            self.assert_fails(1, unknown, command, "nosuch")
        self.assert_fails(1, unknown, "rollback", "nosuch")
        self.assert_fails(1, "mt: service web has no older version that did not fail and differs from the current one; `mt versions web` "
                          "lists them, name the one to go back to\n", "rollback", "web")
        self.assert_fails(2, 'mt: --to: "101" is not a whole number from 1 to 100\n', "promote", "web", "--to", "101")
        for percent in 0, 101:
            self.assert_refused("other", 400, "invalid", "the body is not a valid job: services[0].deploy.canary_percent: must be 1 to "
                                f"100, is {percent}", deploy={"strategy": "canary", "canary_percent": percent})
        web, raw = {"host": "a.example.com", "port": "http"}, {"port": "http", "protocol": "tcp", "listen": 99}
        http_only = ("is for `protocol: http`: with `protocol: tcp` all that comes to the port of `listen` goes to the service as it is; "
                     "remove it")
        for way, part in (({**web, "sticky_header": "X User"}, "sticky_header: is not the name of a header: use letters, digits, `-` and `_`, "
                                                               "at most 64"),
                          ({**web, "sticky_header": "X-User", "sticky": True}, "sticky_header: give either `sticky` or `sticky_header`, not both"),
                          ({**web, "host": "A.example.com"}, "host: must be in lower case; requests in any case are served"),
                          ({**web, "path": "api"}, "path: must begin with /"),
                          *(({**raw, key: value}, f"{key}: {http_only}") for key, value in (
                              ("host", "a.example.com"), ("path", "/api"), ("tls", True), ("sticky", True), ("sticky_header", "X-User"),
                              ("max_body_mb", 1), ("requests_per_second", 1)))):
            bad = exec_service("other", ports=[{"name": "http", "port": 80}], ingress=[way])
            self.assertIn("services[0].ingress[0]." + part, self.server.post("/v1/jobs", job("other", bad)).error["message"])
        for more in ({"mode": "every-node"}, {"volumes": [{"source": "/data", "target": "/data"}]},
                     {"ports": [{"name": "http", "port": 80, "host": 8080}]}):
            bad = exec_service("other", deploy={"strategy": "blue-green"}, **more)
            answer = self.server.post("/v1/jobs", job("other", bad))
            self.assertEqual((answer.status, answer.error["code"]), (400, "invalid"))
            self.assertIn("deploy.strategy", answer.error["message"])

    def test_ways_in_that_cannot_be(self):
        """Who has a host or a port, and certificates that are not there."""
        web, raw = [{"host": "a.example.com", "port": "http"}], [{"protocol": "tcp", "listen": 5432, "port": "http"}]
        port = [{"name": "http", "port": 80}]
        for name, ways in ("one", web), ("three", raw):
            self.assertEqual(self.server.post("/v1/jobs", job(name, exec_service(name, ports=port, ingress=ways))).status, 200)
        another = "; give it another one, or take it out there first"
        for ways, status, code, text in (
                (web, 409, "conflict", "ingress of service two: service one of job one has host a.example.com with path / already" + another),
                (raw, 409, "conflict", "ingress of service two: service three of job three has port 5432 already" + another),
                ([{**web[0], "host": "b.example.com"}] * 2, 400, "invalid", "the body is not a valid job: services[0].ingress[1]: is the "
                 "same way in as services[0].ingress[0]: give it another host or path, or take one out"),
                ([{**web[0], "host": "b.example.com", "tls": True, "certificate": "nosuch"}], 400, "invalid",
                 "service two: ingress: there is no secret nosuch; `mt secret put nosuch` makes it"),
                ([{**web[0], "host": "b.example.com", "redirect_https": True}], 400, "invalid", "the body is not a valid job: "
                 "services[0].ingress[0].redirect_https: is for `tls: true`: without it nothing is served where the requests would be sent"),
                ([{**web[0], "host": "b.example.com", "requests_per_second": 5}, {**web[0], "host": "c.example.com"}], 400, "invalid",
                 "the body is not a valid job: services[0].ingress[1]: has other limits than ingress[0], which leads to the same port: "
                 "give both the same `max_body_mb` and `requests_per_second`")):
            self.assert_refused("two", status, code, text, ports=port, ingress=ways)

    def test_a_second_submit_supersedes_the_first(self):
        self.submit("canary", canary_percent=50)
        self.mt("deploy", "web", "--env", "A=1")
        self.assert_done("paused", "deploy", "web", "--env", "A=2")
        wait_for(lambda: self.versions() == {1: 4, 3: 2}, what="the end of the first canary")
        self.assertIn("a newer version was submitted", self.events())

    def test_a_pause_survives_the_server(self):
        self.submit("blue-green", count=2)
        self.mt("deploy", "web", "--env", "A=1")
        self.server.process.kill()
        self.server.start()
        self.assertEqual(self.deployment()["state"], "paused")
        self.assertEqual(self.versions(), {1: 2, 2: 2})
        self.assert_done("version 3: 2 of 2 healthy", "rollback", "web")


if __name__ == "__main__":
    unittest.main(verbosity=2)
