#!/usr/bin/env python3
"""`mt logs -f` against a real server and agent: replicas come and go, programs are killed, and no line is lost or doubled."""
import json
import os
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import PATIENCE, Agent, Server, job, program, wait_for  # noqa: E402

# Counts as fast as it may; each line says whose it is.
COUNTER = 'i=0; while :; do i=$((i+1)); echo "$MENTAT_ALLOC_ID $i"; sleep 0.02; done'


class Following:
    """`mt logs -f …`, its lines read as they come."""

    def __init__(self, server, *args):
        self.child = subprocess.Popen([program("mt"), "logs", "-f", *args], stdin=subprocess.DEVNULL, text=True,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      env={**os.environ, "MENTAT_ADDR": f"http://127.0.0.1:{server.port}"})
        self.lines, self.errors = [], []
        self.readers = [threading.Thread(target=self.read, args=p, daemon=True)
                        for p in ((self.child.stdout, self.lines), (self.child.stderr, self.errors))]
        for r in self.readers:
            r.start()

    @staticmethod
    def read(stream, lines):
        for line in stream:
            lines.append(line.rstrip("\n"))

    def alive(self):
        return self.child.poll() is None

    def end(self):
        """Its exit status, once it ends by itself."""
        status = self.child.wait(20 * PATIENCE)
        for r in self.readers:
            r.join()
        return status

    def kill(self):
        self.child.kill()
        self.child.wait()
        for r in self.readers:
            r.join()
        self.child.stdout.close()
        self.child.stderr.close()


class LogsTest(unittest.TestCase):
    def setUp(self):
        self.server = Server().start()
        self.addCleanup(self.server.kill)
        self.agent = Agent(self.server, "n1").start()
        self.addCleanup(lambda: self.assertEqual(self.agent.end(), []))
        wait_for(lambda: self.server.items("/v1/nodes"), 20, "the node")

    def submit(self, name="web", script=COUNTER, **more):
        answer = self.server.post("/v1/jobs", job(name, {
            "name": name, "driver": "exec", "config": {"command": ["/bin/sh"], "args": ["-c", script]},
            "resources": {"cpus": 0.02, "memory_mb": 16}, "restart": {"attempts": 0, "delay": "100ms"},
            "kill": {"timeout": "500ms"}, **more}))
        self.assertLess(answer.status, 300, answer)

    def running(self, name="web"):
        return [a for a in self.server.items(f"/v1/allocs?service={name}") if a["state"] == "running"]

    def follow(self, *args):
        f = Following(self.server, *args)
        self.addCleanup(f.kill)
        return f

    def check_complete(self, lines, begin=1):
        """Each allocation's lines count from `begin` on without a gap or a repetition; returns the allocations."""
        seen = {}
        for line in lines:
            alloc, number = line.split("| ")[-1].split()
            self.assertEqual(int(number), seen.get(alloc, begin - 1) + 1, line)
            seen[alloc] = int(number)
        return set(seen)

    def test_replacements_and_new_replicas_are_followed_until_the_service_is_stopped(self):
        self.submit(count=2)
        wait_for(lambda: len(self.running()) == 2, 20, "two replicas")
        f = self.follow("web")
        first = {a["id"] for a in self.running()}
        wait_for(lambda: len(f.lines) > 20, 20, "lines")
        self.server.post("/v1/services/web/scale", {"count": 3})
        wait_for(lambda: any(line.startswith("web/2 | ") for line in f.lines), 20, "the new replica's lines")
        gone = self.running()[0]
        self.server.post(f"/v1/allocs/{gone['id']}/stop")
        replacement = wait_for(lambda: [a for a in self.running() if a["replica"] == gone["replica"] and a["id"] != gone["id"]],
                               20, "the replacement")[0]
        wait_for(lambda: any(replacement["id"] in line for line in f.lines), 20, "the replacement's lines")
        self.server.call("DELETE", "/v1/jobs/web")
        self.assertEqual(f.end(), 0, f.errors)
        self.assertTrue(self.check_complete(f.lines) >= first | {replacement["id"]})
        self.assertEqual(f.errors, [])

    def test_one_replica_is_followed_from_allocation_to_allocation(self):
        self.submit(count=2)
        wait_for(lambda: len(self.running()) == 2, 20, "two replicas")
        f = self.follow("web/1")
        old = next(a["id"] for a in self.running() if a["replica"] == 1)
        wait_for(lambda: f.lines, 20, "lines")
        self.server.post(f"/v1/allocs/{old}/stop")
        wait_for(lambda: len({line.split()[0] for line in f.lines}) == 2, 20, "the replacement's lines")
        self.server.post("/v1/services/web/scale", {"count": 1})
        self.assertEqual(f.end(), 0, f.errors)          # there will be no replica 1 any more
        self.check_complete(f.lines)

    def test_nothing_is_lost_or_doubled_when_server_and_agent_are_killed(self):
        self.submit()
        wait_for(self.running, 20, "the replica")
        f = self.follow("web")
        for program_ in (self.agent, self.server, self.agent, self.server):
            n = len(f.lines)
            wait_for(lambda: len(f.lines) > n + 20, 30, "lines")
            program_.kill()
            program_.start()
        n = len(f.lines)
        wait_for(lambda: len(f.lines) > n + 20, 30, "lines")
        self.assertEqual(len(self.check_complete(f.lines)), 1)
        wait_for(lambda: self.server.call("DELETE", "/v1/jobs/web").status < 300, 20, "the stop")
        self.assertEqual(f.end(), 0, f.errors)

    def test_a_follower_waits_for_the_first_replica(self):
        self.submit(constraints=[{"attribute": "meta.zone", "op": "=", "value": "a"}])
        f = self.follow("web")
        self.assertEqual(f.lines, [])
        self.submit()
        wait_for(lambda: f.lines, 20, "lines")
        self.assertTrue(f.alive())

    def test_a_purged_service_ends_its_follower(self):
        self.submit()
        wait_for(self.running, 20, "the replica")
        f = self.follow("web")
        wait_for(lambda: f.lines, 20, "lines")
        self.assertLess(self.server.call("DELETE", "/v1/jobs/web?purge=true").status, 300)
        self.assertEqual(f.end(), 0, f.errors)
        self.check_complete(f.lines)

    def test_replicas_on_every_node_are_told_apart_by_their_nodes(self):
        other = Agent(self.server, "n2").start()
        self.addCleanup(lambda: self.assertEqual(other.end(), []))
        wait_for(lambda: len(self.server.items("/v1/nodes")) == 2, 20, "the second node")
        self.submit("each", "echo on $MENTAT_NODE; exec sleep 1000", mode="every-node")
        wait_for(lambda: len(self.running("each")) == 2, 20, "a replica on each node")
        wait_for(lambda: sorted(self.server.mt("logs", "each").stdout.splitlines()) == ["each@n1 | on n1", "each@n2 | on n2"], 20,
                 "the lines of both")
        self.assertEqual(self.server.mt("logs", "each@n2").stdout, "on n2\n")
        self.assertEqual(self.server.mt("exec", "each@n2", "--", "/bin/sh", "-c", "echo in $MENTAT_NODE").stdout, "in n2\n")
        for args, word in ((("exec", "each", "--", "/bin/true"), "say which, such as each@n"),
                           (("logs", "each/0"), "say which: each@n"), (("logs", "each@n3"), "runs nothing on node n3")):
            done = self.server.mt(*args)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(word, done.stderr)
        f, both = self.follow("each@n1"), self.follow("each")
        wait_for(lambda: f.lines and len(both.lines) == 2, 20, "the lines")
        self.server.call("DELETE", "/v1/jobs/each")
        self.assertEqual((f.end(), f.lines), (0, ["on n1"]))
        self.assertEqual((both.end(), sorted(both.lines)), (0, ["each@n1 | on n1", "each@n2 | on n2"]))

    def test_a_task_ends_its_follower(self):
        self.submit("once", "echo one; sleep 0.3; echo two", mode="task")
        f = self.follow("once")
        self.assertEqual((f.end(), f.lines), (0, ["one", "two"]))
        alloc = self.server.items("/v1/allocs?service=once")[0]["id"]
        again = self.follow(alloc)
        self.assertEqual((again.end(), again.lines), (0, ["one", "two"]))

    def test_a_server_that_stays_away_is_told_of_once_and_waited_for(self):
        self.submit()
        wait_for(self.running, 20, "the replica")
        f = self.follow("web")
        wait_for(lambda: f.lines, 20, "lines")
        self.server.kill()
        wait_for(lambda: any("no server reached" in line for line in f.errors), 20, "a word on the loss")
        before = len(f.lines)
        self.server.start()
        wait_for(lambda: len(f.lines) > before, 20, "more lines")
        self.assertEqual(len([line for line in f.errors if "no server reached" in line]), 1, f.errors)

    def test_tail_since_streams_and_json(self):
        self.submit("talk", "for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf '\\377 open'; sleep 1000")
        wait_for(lambda: self.running("talk"), 20, "the replica")

        def mt(*args):
            done = subprocess.run([program("mt"), "logs", *args], capture_output=True, timeout=60 * PATIENCE,
                                  env={**os.environ, "MENTAT_ADDR": f"http://127.0.0.1:{self.server.port}"})
            return done.returncode, done.stdout, done.stderr
        # The streams are read one without the other.
        wait_for(lambda: b"open" in (said := mt("talk"))[1] and b"err 3\n" in said[2], 20, "all lines")
        self.assertEqual(mt("talk", "--tail", "2"), (0, b"out 3\n\xff open", b"err 2\nerr 3\n"))
        self.assertEqual(mt("talk", "--tail", "2", "--stderr"), (0, b"", b"err 2\nerr 3\n"))
        self.assertEqual(mt("talk", "--since", "1h", "--stdout")[1], b"out 1\nout 2\nout 3\n\xff open")
        self.assertEqual(mt("talk", "--since", "2999-01-01T00:00:00Z")[1], b"")
        status, _, err = mt("talk", "--since", "yesterday")
        self.assertEqual(status, 2)
        self.assertIn(b"10m", err)
        lines = [json.loads(line) for line in mt("talk", "-o", "json")[1].decode().splitlines()]
        self.assertEqual([(e["stream"], e["line"]) for e in lines],
                         [("stdout", f"out {i}") for i in (1, 2, 3)] + [("stdout", "\ufffd open")] +
                         [("stderr", f"err {i}") for i in (1, 2, 3)])
        self.assertEqual({e["service"] for e in lines}, {"talk"})


if __name__ == "__main__":
    unittest.main(verbosity=2)
