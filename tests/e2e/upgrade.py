#!/usr/bin/env python3
"""A cluster is upgraded from one release to the next, one server after the other, under load: nothing is lost, tasks do not
notice, and what the older release does not know is not used until no server runs it any more."""
import glob
import json
import os
import shutil
import sys
import tarfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster_lib import Cluster, Load, check_history  # noqa: E402
from lib import ROOT, Agent, FakeAgent, Server, exec_service, job, wait_for  # noqa: E402

# Joined to the path of the programs.
OLDER = os.path.join("..", "tests", "e2e", "mentat-server-older")
NEWER = "mentat-server"


class Upgrade(unittest.TestCase):
    def setUp(self):
        self.cluster = Cluster(3, start=False)
        self.addCleanup(self.cluster.remove_files)
        self.addCleanup(self.cluster.kill)
        for s in self.cluster.servers:
            s.program = OLDER
            s.start(wait=False)
        self.cluster.wait_ready(3)

    def restart(self, server, name):
        server.stop()
        server.program = name
        server.start(wait=False)

    def releases(self):
        return sorted(m["version"] for m in self.cluster.status(self.cluster.leader())["servers"])

    def put_secret(self, server):
        """What only the newer release knows."""
        return server.call("PUT", "/v1/secrets/team", {"value": "eA=="})

    def test_one_after_the_other_under_load(self):
        agent = Agent(self.cluster.servers[0], "n1", servers=self.cluster.addresses).start()
        self.addCleanup(lambda: self.assertEqual(agent.end(), []))
        any_server = self.cluster.servers[0]
        wait_for(lambda: any_server.items("/v1/nodes"), 20, "the node")
        self.assertEqual(any_server.post("/v1/jobs", job("web", exec_service("web", 2))).status, 200)

        def pids():
            allocs = agent.get("/v1/allocs").json
            return {a["id"]: a["pid"] for a in allocs if a["state"] == "running"}
        first = wait_for(lambda: len(pids()) == 2 and pids(), 30, "two replicas")
        load = Load(self.cluster, writers=3, setters=1)
        load.wait_more(20)
        # A follower, then the leader, then the last.
        for done in range(3):
            refused = self.put_secret(self.cluster.leader())
            self.assertEqual((refused.status, refused.error["code"]), (501, "unsupported"), refused)
            self.assertIn("upgrade it first", refused.error["message"])
            old = [s for s in self.cluster.servers if s.program == OLDER]
            leader = self.cluster.leader()
            server = leader if done == 1 and leader in old else next((s for s in old if s is not leader), old[0])
            self.restart(server, NEWER)
            self.cluster.wait_ready(3)
            wait_for(lambda: self.releases().count("0.0.9") == 2 - done, 20, "the word on its release")
            load.wait_more(20)
        wait_for(lambda: self.put_secret(any_server).status == 200, 20, "what only the newer release knows")
        for s in self.cluster.servers:
            self.assertIn("team", [r["name"] for r in s.items("/v1/secrets")])
        load.wait_more(20)
        history = load.stop()
        self.cluster.wait_equal()
        check_history(self, history, self.cluster.leader())
        self.assertEqual(pids(), first)

    def test_back_to_the_older_release(self):
        # As long as only some are new, it is as good as forward.
        server = self.cluster.followers()[0]
        self.restart(server, NEWER)
        self.cluster.wait_ready(3)
        wait_for(lambda: self.releases().count("0.0.9") == 2, 20, "the word on its release")
        self.restart(server, OLDER)
        self.cluster.wait_ready(3)
        wait_for(lambda: self.releases() == ["0.0.9"] * 3, 20, "the word on its release")
        # Once all are, and used what is new, an older one does not start with what it would misunderstand.
        for s in self.cluster.servers:
            self.restart(s, NEWER)
            self.cluster.wait_ready(3)
        wait_for(lambda: self.put_secret(server).status == 200, 20, "what only the newer release knows")
        self.cluster.wait_equal()
        self.restart(server, OLDER)
        self.assertEqual(server.process.child.wait(30), 1)
        self.assertIn("does not know", server.process.text())
        self.assertIn("start the newer release again", server.process.text())
        self.restart(server, NEWER)
        self.cluster.wait_ready(3)
        self.cluster.wait_equal()
        # Nor does an older one come in.
        stranger = self.cluster.make(3, servers=[], expect=0)
        stranger.program = OLDER
        self.cluster.servers.append(stranger)
        stranger.start(wait=False)
        wait_for(lambda: stranger.get("/v1/healthz").status == 200, 20, "the API")
        token = json.loads(self.cluster.leader().mt("cluster", "token", "-o", "json").stdout)["token"]
        self.assertEqual(stranger.post("/v1/cluster/join", {"token": token}).status, 200)
        wait_for(lambda: "runs release 0.0.9, which is older" in (self.cluster.status(stranger)["forming"] or ""), 20,
                 "the refusal")
        self.assertEqual(len(self.cluster.voters(self.cluster.leader())), 3)


class Golden(unittest.TestCase):
    """What earlier releases wrote is read by this one: a server's directory with log files and snapshots, and a backup."""

    def unpack(self):
        """A server that does not run yet for each of them, with its files in its workdir."""
        archives = sorted(glob.glob(os.path.join(GOLDEN, "server-*.tar.xz")))
        self.assertTrue(archives)
        for archive in archives:
            server = Server()
            self.addCleanup(server.workdir.remove)
            self.addCleanup(lambda server=server: server.process and server.kill())
            with tarfile.open(archive) as tar:
                tar.extractall(server.workdir.path)
            yield archive, server

    def test_the_directory_of_a_server(self):
        for archive, server in self.unpack():
            with self.subTest(archive):
                names = os.listdir(server.flags["data_dir"])
                self.assertTrue([n for n in names if n.startswith("snapshot-")] and [n for n in names if n.startswith("log-")])
                self.check(server.start())

    def test_a_backup(self):
        for archive, server in self.unpack():
            with self.subTest(archive):
                shutil.rmtree(server.flags["data_dir"])
                done = server.start().mt("snapshot", "restore", "--yes", server.workdir.join("backup"))
                self.assertEqual(done.returncode, 0, done.stderr)
                self.check(server)

    def check(self, server):
        jobs = {j["name"]: j for j in server.items("/v1/jobs")}
        self.assertEqual(len([n for n in jobs if n.startswith("bulk-")]), BULK)
        self.assertEqual(jobs["shop"]["services"], ["web", "each", "cron"])
        web = server.get("/v1/services/web").json
        self.assertEqual((web["current"]["version"], web["current"]["spec"]["count"]), (2, 3))
        self.assertEqual(server.get("/v1/services/cron").json["current"]["spec"]["schedule"], "5 4 * * *")
        self.assertEqual([n["name"] for n in server.items("/v1/nodes")], ["n1"])
        self.assertEqual(len([a for a in server.items("/v1/allocs?service=web") if a["desired"] == "run"]), 3)
        self.assertIn("team", [r["name"] for r in server.items("/v1/roles")])
        # And it goes on from there.
        self.assertEqual(server.post("/v1/services/web/scale", {"count": 4}).status, 200)
        self.assertEqual(server.post("/v1/jobs", job("new", exec_service("new", 0))).status, 200)


GOLDEN = os.path.join(ROOT, "tests", "data", "golden")
BULK = 40


def make_golden(name):
    """Run once for a release, and again only for the next one: `upgrade.py --make-golden 0.1.0`."""
    server = Server(segment_mb=1, snapshot_mb=1).start()
    agent = FakeAgent(server).start()
    web = exec_service("web", 2, ports=[{"name": "http", "port": 80}], env={"A": "1"})
    rest = [exec_service("each", mode="every-node"), exec_service("cron", mode="task", schedule="5 4 * * *")]
    assert server.post("/v1/jobs", job("shop", web, *rest)).status == 200
    wait_for(lambda: len([a for a in server.items("/v1/allocs?service=web") if a["state"] == "running"]) == 2, 20, "replicas")
    assert server.call("PUT", "/v1/roles/team", {"name": "team", "rules": [{"allow": ["read"]}]}).status == 200
    assert server.post("/v1/jobs", job("shop", {**web, "count": 3, "env": {"A": "2"}}, *rest)).status == 200
    for i in range(BULK):
        bulk = exec_service(f"bulk-{i}", 0, env={"TEXT": f"{i} " * 10000})
        assert server.post("/v1/jobs", job(f"bulk-{i}", bulk)).status == 200
    wait_for(lambda: len([a for a in server.items("/v1/allocs?service=web")
                          if a["state"] == "running" and a["version"] == 2]) == 3, 30, "the second version")
    wait_for(lambda: server.get("/v1/cluster").json["snapshot_index"], 20, "a snapshot")
    assert server.mt("snapshot", "save", server.workdir.join("backup")).returncode == 0
    agent.stop()
    assert server.stop() == 0
    with tarfile.open(os.path.join(GOLDEN, f"server-{name}.tar.xz"), "w:xz") as tar:
        for part in ("state", "backup"):
            tar.add(server.workdir.join(part), arcname=part)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make-golden"]:
        make_golden(sys.argv[2])
    else:
        unittest.main(verbosity=2)
