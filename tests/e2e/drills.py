#!/usr/bin/env python3
"""The drills of docs/backup-and-restore.md: a disk, a host and all hosts are lost, and a deployment goes wrong. Three hosts, each
a server and an agent with its own directories, in a cluster that makes its own certificates and asks for tokens; what the page
tells to type is what is typed here."""
import glob
import json
import os
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from auto_lib import Auto, wait_log  # noqa: E402
from lib import PATIENCE, Agent, Workdir, program, wait_for  # noqa: E402

WEB = """
name: web
driver: exec
count: {count}
config: {{command: /bin/sh, args: ["-c", "{script}"]}}
resources: {{cpus: 0.01, memory_mb: 16}}
restart: {{attempts: 0, then: fail}}
deploy: {{health_timeout_secs: {patience}}}
"""
GOOD, OTHER, BROKEN = "echo good; exec sleep 1000", "echo other; exec sleep 1000", "echo broken; exit 1"


class Hosts:
    """Three of them, h1 to h3, whose servers found a cluster."""

    def __init__(self, **flags):
        self.auto, self.agents = Auto(), []
        self.cluster = self.auto.cluster(3, heartbeat="300ms", node_grace=f"{int(3000 * PATIENCE)}ms",
                                         dead_server_after=f"{int(3000 * PATIENCE)}ms", **flags)

    def found(self):
        self.auto.found(self.cluster)
        for i, server in enumerate(self.cluster.servers):
            self.add_agent(server, i, self.auto.secret)

    def add_agent(self, server, i, join_token_file):
        ip = f"127.0.0.{i + 1}"
        self.agents.append(Agent(server, f"h{i + 1}", ip, bind=ip, tls="auto", join_token_file=join_token_file).start())

    def lose(self, i, *disks):
        """The power of a host goes, and with it these of its disks: state (of the server), agent."""
        self.cluster.servers[i].kill()
        self.agents[i].kill()
        self.agents[i].sweep()
        if "state" in disks:
            shutil.rmtree(self.cluster.servers[i].flags["data_dir"])
        if "agent" in disks:
            shutil.rmtree(self.agents[i].flags["data_dir"])

    def start(self, i):
        self.cluster.servers[i].start(wait=False)
        self.agents[i].start()

    def remove(self):
        for agent in self.agents:
            agent.kill()
            agent.sweep()
            agent.workdir.remove()
        self.cluster.kill()
        self.cluster.remove_files()
        self.auto.workdir.remove()


class Drill(unittest.TestCase):
    def new_hosts(self, **flags):
        self.hosts = Hosts(**flags)
        self.addCleanup(self.hosts.remove)
        self.hosts.found()
        return self.hosts

    def setUp(self):
        self.work = Workdir()
        self.addCleanup(self.work.remove)

    def mt(self, server, *args, stdin="", status=0, token=True):
        """At the hosts that were made last."""
        done = self.hosts.auto.mt(server, *args, stdin=stdin, token=token)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def run_web(self, server, script, count=3, status=0):
        return self.mt(server, "run", "-", status=status,
                       stdin=WEB.format(count=count, script=script, patience=int(20 * PATIENCE)))

    def replicas(self, server, count, service="web"):
        """Their nodes once so many run, on nodes that are there, by id."""
        def look():
            there = [n["id"] for n in server.items("/v1/nodes") if n["state"] == "ready"]
            allocs = [a for a in server.items(f"/v1/allocs?service={service}")
                      if a["state"] in ("running", "healthy") and a["node_id"] in there]
            return len(allocs) == count and {a["id"]: a["node_name"] for a in allocs}
        return wait_for(look, 60, f"{count} replicas of {service}")

    def nodes_ready(self, server, count):
        wait_for(lambda: [n["state"] for n in server.items("/v1/nodes")].count("ready") == count, 60, f"{count} ready nodes")


class OneDisk(Drill):
    def test_the_servers_disk(self):
        """Nothing is to be done but to start it: it comes back from the others."""
        hosts = self.new_hosts()
        self.nodes_ready(hosts.cluster.leader(), 3)
        self.run_web(hosts.cluster.leader(), GOOD)
        lost = hosts.cluster.servers.index(hosts.cluster.followers()[0])
        hosts.lose(lost, "state", "agent")
        self.run_web(hosts.cluster.leader(), OTHER)          # the others go on
        done = hosts.cluster.status(hosts.cluster.leader())["commit_index"]
        hosts.start(lost)
        hosts.cluster.wait_ready(3, 60)
        self.mt(hosts.cluster.servers[lost], "cluster", "wait")
        self.assertGreaterEqual(hosts.cluster.status(hosts.cluster.servers[lost])["applied_index"], done)
        hosts.cluster.wait_equal()
        self.nodes_ready(hosts.cluster.leader(), 3)
        names = [n["name"] for n in hosts.cluster.leader().items("/v1/nodes") if n["state"] == "ready"]
        self.assertEqual(sorted(names), ["h1", "h2", "h3"])
        self.replicas(hosts.cluster.servers[lost], 3)


class OneHost(Drill):
    def test_another_takes_its_place(self):
        hosts = self.new_hosts()
        cluster = hosts.cluster
        self.nodes_ready(cluster.leader(), 3)
        self.run_web(cluster.leader(), GOOD)
        lost = cluster.servers.index(cluster.followers()[0])
        hosts.lose(lost, "state", "agent")
        self.replicas(cluster.leader(), 3)
        # As the page says it: a token each for server and agent, which the new host joins with; the lost one goes by itself.
        tokens = [self.mt(cluster.leader(), kind, "token", "-q").strip() for kind in ("cluster", "node")]
        new = cluster.make(3, servers=[], expect=0, join_token_file=self.work.join("none"))
        new.start(wait=False)
        wait_log(new.process, "msg=listening")
        waits = wait_for(lambda: (d := hosts.auto.mt(new, "cluster", "wait", "--timeout", "1ms", token=False)).returncode == 1 and d.stderr,
                         20, "the new server's API")
        self.assertIn("is not as it should be: this server is not in a cluster yet", waits)
        self.mt(new, "cluster", "join", "--token", "-", stdin=tokens[0] + "\n", token=False)
        new.believe()
        new.headers = cluster.leader().headers
        cluster.servers.append(new)
        gone = f"s{lost + 1}"
        wait_for(lambda: sorted(m["name"] for m in cluster.voters(cluster.leader())) == sorted(
            {"s1", "s2", "s3", "s4"} - {gone}), 60, f"{gone} out, s4 in")
        hosts.add_agent(new, 3, hosts.auto.file("h4", tokens[1]))
        self.nodes_ready(cluster.leader(), 3)
        self.run_web(new, OTHER, count=4)
        self.assertIn("h4", self.replicas(cluster.leader(), 4).values())


class AllHosts(Drill):
    def test_the_newest_backup_into_fresh_hosts(self):
        copies = self.work.join("elsewhere")
        os.mkdir(copies)
        hosts = self.new_hosts(backup_every="1s", backup_command=f'cp "$MENTAT_SNAPSHOT" {copies}/')
        self.nodes_ready(hosts.cluster.leader(), 3)
        self.run_web(hosts.cluster.leader(), GOOD)
        self.mt(hosts.cluster.leader(), "secret", "put", "password", stdin="of the backup")
        shutil.copy(os.path.join(hosts.cluster.leader().flags["data_dir"], "cluster-keys"), self.work.join("keys"))
        with open(self.work.join("junk"), "w") as f:
            f.write("no keys\n")
        index = hosts.cluster.leader().get("/v1/secrets").index

        def newest():
            for file in sorted(glob.glob(f"{copies}/snapshot-*"), reverse=True):
                done = subprocess.run([program("mt"), "snapshot", "inspect", file, "-o", "json"], capture_output=True, text=True)
                if done.returncode == 0 and json.loads(done.stdout)["index"] >= index:
                    return file
            return None
        file = wait_for(newest, 30, "a copied backup of what was done")
        for i in range(3):
            hosts.lose(i, "state", "agent")

        fresh = self.new_hosts()
        leader = fresh.cluster.leader()
        self.nodes_ready(leader, 3)
        self.assertEqual(leader.items("/v1/services"), [])
        junk = self.mt(leader, "snapshot", "restore", file, "--cluster-keys", self.work.join("junk"), "--yes", status=1)
        self.assertIn("a line of 64 hexadecimal digits", junk)
        self.assertEqual(leader.items("/v1/services"), [])
        authority = leader.get("/v1/ca/status").json["hash"]
        self.mt(leader, "snapshot", "restore", file, "--cluster-keys", self.work.join("keys"), "--yes")
        # The tokens of the backup hold again, and no others; the authority is that of the new servers.
        self.mt(leader, "services", status=4)
        fresh.auto.take_token(fresh.cluster.servers, hosts.auto.admin)
        fresh.cluster.wait_equal()
        self.assertEqual(leader.get("/v1/ca/status").json["hash"], authority)
        for server in fresh.cluster.servers:
            self.assertEqual(self.mt(server, "secret", "get", "password"), "of the backup")
        # The hosts of the backup are silent, and most at once, so the servers wait for them; the new ones of the same names
        # wait outside. No program can know that the old ones are no more, nor that names are those of new hosts now.
        leader = fresh.cluster.leader()
        wait_for(lambda: "fell silent at the same time" in self.mt(leader, "cluster", "status"), 60, "the wait for the old hosts")
        self.mt(leader, "node", "remove", "--lost", "--keep-certificate", "h1", "h2", "h3")
        self.nodes_ready(leader, 3)
        nodes = self.replicas(leader, 3).values()
        self.assertTrue(set(nodes) <= {"h1", "h2", "h3"})
        self.run_web(leader, OTHER)                          # it is a cluster like any other


class WrongDeploy(Drill):
    def setUp(self):
        super().setUp()
        self.server = self.new_hosts().cluster.leader()
        self.nodes_ready(self.server, 3)
        self.run_web(self.server, GOOD)

    def said(self, word):
        return wait_for(lambda: word in self.mt(self.server, "logs", "web"), 30, f"{word} in the logs")

    def test_one_that_fails_takes_itself_back(self):
        before = self.replicas(self.server, 3)
        self.run_web(self.server, BROKEN, status=1)
        service = wait_for(lambda: [s for s in self.server.items("/v1/services") if s["state"] == "running"], 60, "its return")
        self.assertEqual(len(service), 1)
        after = self.replicas(self.server, 3)
        # One replica at a time, so the others never noticed.
        self.assertGreaterEqual(len(set(before) & set(after)), 2)
        self.said("good")

    def test_one_that_only_you_know_is_wrong(self):
        self.run_web(self.server, OTHER)
        self.said("other")
        self.mt(self.server, "rollback", "web")
        self.said("good")
        self.replicas(self.server, 3)

    def test_what_was_purged_by_mistake(self):
        file = self.work.join("backup")
        self.mt(self.server, "snapshot", "save", file)
        self.mt(self.server, "stop", "web", "--purge")
        wait_for(lambda: not self.server.items("/v1/services"), 30, "the purge")
        self.mt(self.server, "snapshot", "restore", file, "--yes")      # its own cluster has the keys
        self.replicas(self.server, 3)


if __name__ == "__main__":
    unittest.main(verbosity=2)
