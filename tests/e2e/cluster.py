#!/usr/bin/env python3
"""Several real servers as one: any of them answers, leaders are killed under load, servers come, go, move and are replaced."""
import contextlib
import datetime
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster_lib import Cluster, Load, check_history  # noqa: E402
from lib import (  # noqa: E402
    PATIENCE, Agent, EventStream, FakeAgent, SmallDisk, exec_service, free_port, job, program, wait_for)


def mt(server, *args, **kw):
    env = {**os.environ, "MENTAT_ADDR": f"http://127.0.0.1:{server.port}"}
    return subprocess.run([program("mt"), *args], stdin=subprocess.DEVNULL, env=env, capture_output=True, text=True,
                          timeout=130 * PATIENCE, **kw)


class ClusterTest(unittest.TestCase):
    count = 3
    flags = {}

    def setUp(self):
        self.cluster = Cluster(self.count, **self.flags)
        self.addCleanup(self.cluster.remove_files)
        self.addCleanup(self.cluster.kill)

    def assert_mt(self, server, *args):
        done = mt(server, *args)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def submit(self, server, name, count=0, **kw):
        return server.post("/v1/jobs", job(name, exec_service(name, count)), **kw)


class AnyServer(ClusterTest):
    def test_every_server_takes_writes_and_reads(self):
        leader = self.cluster.leader()
        for s in self.cluster.servers:
            answer = self.submit(s, f"by-{s.flags['name']}")
            self.assertEqual(answer.status, 200, answer)
            # What was just acknowledged is read anywhere, at once.
            for other in self.cluster.servers:
                seen = other.get(f"/v1/jobs/by-{s.flags['name']}")
                self.assertEqual(seen.status, 200, seen)
                self.assertGreaterEqual(seen.index, answer.index)
        for s in self.cluster.servers:
            stale = s.get("/v1/jobs?consistency=stale")
            self.assertEqual(stale.status, 200)
            self.assertEqual("X-Mentat-Lag" in stale.headers, s is not leader)
            self.assertEqual(s.get("/v1/jobs?consistency=strong").status, 200)
        # Refusals come back as they are, with all that explains them.
        follower = self.cluster.followers()[0]
        bad = follower.post("/v1/jobs", job("x", {"name": "x", "driver": "exec", "count": -1, "config": {"command": ["/x"]}}))
        self.assertEqual((bad.status, bad.error["code"]), (400, "invalid"))
        self.assertTrue(bad.error["details"])
        self.assertEqual(follower.get("/v1/jobs/nowhere").status, 404)
        # A key works wherever the request comes in.
        key = {"Idempotency-Key": "one"}
        answers = [self.submit(s, "keyed", headers=key) for s in self.cluster.servers]
        self.assertEqual(len({a.body for a in answers}), 1, answers)
        patches = [s.call("PATCH", "/v1/services/keyed", {"count": 2}, headers={"Idempotency-Key": "two"})
                   for s in self.cluster.servers]
        self.assertEqual({(p.status, p.body) for p in patches}, {(200, patches[0].body)})
        self.cluster.wait_equal()

    def test_waiting_reads_and_events_on_followers(self):
        follower = self.cluster.followers()[0]
        stream = EventStream(follower.port)
        self.addCleanup(stream.close)
        self.submit(follower, "web")
        got = []

        def follow():
            seen = follower.get("/v1/services/web")
            while seen.json["current"]["spec"]["count"] != 3:
                got.append(seen)
                seen = follower.get(f"/v1/services/web?index={seen.index}&wait=30s")

        waiter = threading.Thread(target=follow, daemon=True)
        waiter.start()
        wait_for(lambda: got, what="the first answer")
        self.assertEqual(self.cluster.leader().post("/v1/services/web/scale", {"count": 3}).status, 200)
        waiter.join(20 * PATIENCE)
        self.assertFalse(waiter.is_alive(), "the change was not told")
        indexes = [g.index for g in got]
        self.assertEqual(indexes, sorted(set(indexes)), "an answer that was not newer")
        wait_for(lambda: stream.find(kind="service", subject="web"), what="the events on a follower")
        lists = [s.get("/v1/events?limit=1000", headers={"Accept": "application/json"}) for s in self.cluster.servers]
        self.cluster.wait_equal()
        lists = [s.get("/v1/events?limit=1000", headers={"Accept": "application/json"}).json["items"] for s in
                 self.cluster.servers]
        self.assertEqual(lists[0], lists[1])
        self.assertEqual(lists[0], lists[2])

    def test_without_a_majority_requests_wait_for_their_time_and_are_refused(self):
        self.submit(self.cluster.servers[0], "kept")
        self.cluster.wait_equal()
        survivor = self.cluster.followers()[0]
        for s in self.cluster.servers:
            if s is not survivor:
                s.kill()
        begin = time.monotonic()
        answer = self.submit(survivor, "never", headers={"X-Mentat-Timeout": "1s"})
        self.assertEqual((answer.status, answer.error["code"]), (503, "unavailable"), answer)
        self.assertIn("nothing was done", answer.error["message"])
        self.assertGreaterEqual(time.monotonic() - begin, 0.9)
        self.assertLess(time.monotonic() - begin, 5 * PATIENCE)
        for consistency in ("default", "strong"):
            self.assertEqual(survivor.get(f"/v1/jobs?consistency={consistency}", headers={"X-Mentat-Timeout": "300ms"}).status, 503)
        stale = survivor.get("/v1/jobs?consistency=stale")
        self.assertEqual([j["name"] for j in stale.json["items"]], ["kept"])
        wait_for(lambda: survivor.get("/v1/readyz").status == 503, 20, "the survivor to say that it is not ready")
        self.assertIn("s1", self.assert_mt(survivor, "cluster", "status"))
        # A request that waits is answered once there is a majority again.
        got = []
        waiter = threading.Thread(target=lambda: got.append(self.submit(survivor, "late", headers={"X-Mentat-Timeout": "60s"})))
        waiter.start()
        next(s for s in self.cluster.servers if s is not survivor).start(wait=False)
        waiter.join(60 * PATIENCE)
        self.assertEqual(got[0].status, 200, got)
        names = [j["name"] for j in survivor.items("/v1/jobs?consistency=strong")]
        self.assertEqual(names, ["kept", "late"])

    def test_an_outcome_that_is_not_known_is_told_so_and_safe_to_repeat(self):
        leader = self.cluster.leader()
        others = self.cluster.followers()
        for s in others:
            os.kill(s.process.pid, signal.SIGSTOP)
        self.addCleanup(lambda: [os.kill(s.process.pid, signal.SIGCONT) for s in others if s.process.alive()])
        answer = self.submit(leader, "perhaps")
        self.assertEqual((answer.status, answer.error["code"]), (504, "unknown_outcome"), answer)
        got = []
        waiter = threading.Thread(target=lambda: got.append(
            self.submit(leader, "once", headers={"Idempotency-Key": "k", "X-Mentat-Timeout": "60s"})))
        waiter.start()
        time.sleep(0.5)
        for s in others:
            os.kill(s.process.pid, signal.SIGCONT)
        waiter.join(60 * PATIENCE)
        self.assertEqual(got[0].status, 200, got)
        again = self.submit(others[0], "once", headers={"Idempotency-Key": "k"})
        self.assertEqual(again.body, got[0].body)
        self.cluster.wait_equal()


@unittest.skipUnless(os.geteuid() == 0, "mounting small file systems needs root")
class FullDisks(unittest.TestCase):
    def test_a_refusal_by_the_next_leader_says_nothing_of_what_the_lost_one_had(self):
        cluster = Cluster(3, start=False, secure=True, segment_mb=1, reserve_mb=2)
        self.addCleanup(cluster.kill)
        disks = {}
        for s in cluster.servers:
            disks[s] = SmallDisk(24)
            self.addCleanup(disks[s].remove)
            s.flags["data_dir"] = disks[s].join("state")
        cluster.found()
        leader, others = cluster.leader(), cluster.followers()
        for s in others:
            disks[s].fill()
        os.kill(leader.process.pid, signal.SIGSTOP)
        self.addCleanup(os.kill, leader.process.pid, signal.SIGCONT)
        # The first server that it is handed to has it, and says nothing.
        answer = others[0].post("/v1/jobs", job("perhaps"), headers={"Idempotency-Key": "k", "X-Mentat-Timeout": "30s"})
        self.assertEqual((answer.status, answer.error["code"]), (504, "unknown_outcome"), answer)
        refused = others[0].post("/v1/jobs", job("no"), headers={"Idempotency-Key": "l", "X-Mentat-Timeout": "30s"})
        self.assertEqual((refused.status, refused.error["code"]), (507, "no_space"), refused)


class Followers(ClusterTest):
    def start_mt(self, servers, *args):
        address = ",".join(f"http://127.0.0.1:{s.port}" for s in servers)
        out, err = (self.cluster.servers[0].workdir.join(f"{args[0]}-{len(servers)}.{what}") for what in ("out", "err"))
        with open(out, "wb") as o, open(err, "wb") as e:
            child = subprocess.Popen([program("mt"), *args], stdin=subprocess.DEVNULL, stdout=o, stderr=e,
                                     env={**os.environ, "MENTAT_ADDR": address})
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        return child, out, err

    def read(self, path):
        with open(path) as f:
            return f.read()

    def events_of(self, out):
        return [(e["index"], e["seq"]) for e in map(json.loads, self.read(out).splitlines())]

    def test_commands_that_follow_go_on_without_gap_or_doubling(self):
        follower = self.cluster.followers()[0]
        self.submit(follower, "first")
        wait_for(lambda: self.cluster.followers()[0].get("/v1/services/first").status == 200, 20, "the service")
        any_of, one, status = (self.start_mt(self.cluster.servers, "events", "-f", "-o", "json"),
                               self.start_mt([follower], "events", "-f", "-o", "json"),
                               self.start_mt([follower], "status", "-w"))
        for _, out, _ in (any_of, one, status):
            wait_for(lambda out=out: "first" in self.read(out), 20, "the first event")
        # Any server may be the one that is followed, and that dies.
        for i, server in enumerate(s for s in self.cluster.servers if s is not follower):
            server.kill()
            self.assertEqual(self.submit(follower, f"killed-{i}", headers={"X-Mentat-Timeout": "30s"}).status, 200)
            server.start(wait=False)
            self.cluster.wait_ready(3)
        # One that lives, but has no leader for so long that it says so.
        others = [s for s in self.cluster.servers if s is not follower]
        for s in others:
            s.kill()
        for _, _, err in (one, status):
            wait_for(lambda err=err: "going on when a server answers" in self.read(err), 40, "a word on the loss")
        for s in others:
            s.start(wait=False)
        self.cluster.wait_ready(3)
        self.assertEqual(self.submit(follower, "again", headers={"X-Mentat-Timeout": "30s"}).status, 200)
        wait_for(lambda: "answers; going on" in self.read(one[2]), 30, "a word on the return")
        # And one that dies while nobody else is to be asked.
        follower.kill()
        self.assertEqual(self.submit(others[0], "last", headers={"X-Mentat-Timeout": "30s"}).status, 200)
        follower.start(wait=False)
        self.cluster.wait_ready(3)
        listed = self.cluster.leader().get("/v1/events?limit=1000", headers={"Accept": "application/json"}).json["items"]
        expected = [(e["index"], e["seq"]) for e in listed]
        for child, out, err in (any_of, one):
            wait_for(lambda out=out: len(self.events_of(out)) >= len(expected), 30, "all events")
            self.assertEqual(self.events_of(out), expected)
            self.assertIsNone(child.poll())
        wait_for(lambda: "last" in self.read(status[1]), 20, "the last service in the status")
        self.assertIsNone(status[0].poll())
        losses = self.read(one[2]).splitlines()
        self.assertEqual([("going on when" in line, "answers; going on" in line) for line in losses],
                         [(True, False), (False, True)] * 2, losses)


class Kills(ClusterTest):
    flags = {"secure": True}

    def test_leaders_are_killed_under_load(self):
        load = Load(self.cluster)
        rounds = int(os.environ.get("MENTAT_ROUNDS", "6"))
        for i in range(rounds):
            load.wait_more(30)
            leader = self.cluster.leader()
            leader.kill()
            load.wait_more(15)               # the others go on
            leader.start(wait=False)
        load.wait_more(30)
        history = load.stop()
        self.cluster.wait_ready(3)
        self.cluster.wait_equal()
        check_history(self, history, self.cluster.leader())
        self.assertGreater(history.answers["done"], 40 * rounds)
        print("\n" + json.dumps({"name": "writes_during_leader_kills", "kills": rounds, "answers": history.answers,
                          "sets": len(history.sets), "longest_gap_s": round(history.longest, 3)}))

    def test_rolling_restarts_under_load(self):
        load = Load(self.cluster)
        for s in self.cluster.servers:
            load.wait_more(20)
            self.assertEqual(s.stop(), 0)
            s.start(wait=False)
            self.cluster.wait_ready(3)
        load.wait_more(20)
        history = load.stop()
        self.cluster.wait_equal()
        check_history(self, history, self.cluster.leader())

    def test_all_are_killed_at_once(self):
        load = Load(self.cluster)
        for _ in range(3):
            load.wait_more(30)
            for s in self.cluster.servers:
                s.process.child.kill()
            for s in self.cluster.servers:
                s.kill()
                s.start(wait=False)
            self.cluster.leader()
        load.wait_more(10)
        history = load.stop()
        self.cluster.wait_equal()
        check_history(self, history, self.cluster.leader())


class Agents(ClusterTest):
    flags = {"heartbeat": "500ms", "node_grace": f"{int(4000 * PATIENCE)}ms"}

    def test_tasks_and_nodes_live_through_the_loss_of_leaders(self):
        agents = [Agent(self.cluster.servers[i], f"n{i}", f"127.0.0.{i + 1}").start() for i in range(3)]
        for a in agents:
            self.addCleanup(lambda a=a: self.assertEqual(a.end(), []))
        any_server = self.cluster.servers[0]
        wait_for(lambda: len(any_server.items("/v1/nodes")) == 3, 20, "three nodes")
        self.assertEqual(self.submit(any_server, "web", 6).status, 200)

        def running(server):
            allocs = [a for a in server.items("/v1/allocs?service=web") if a["state"] == "running"]
            return len(allocs) == 6 and {a["id"] for a in allocs}
        first = wait_for(lambda: running(any_server), 30, "six replicas")
        pids = {a["id"]: a["pid"] for agent in agents for a in agent.get("/v1/allocs").json}
        for _ in range(3):
            leader = self.cluster.leader()
            leader.kill()
            alive = self.cluster.leader()
            time.sleep(1)                    # agents of the dead one have moved, and nothing else happened
            self.assertEqual({n["state"] for n in alive.items("/v1/nodes")}, {"ready"})
            leader.start(wait=False)
            self.cluster.wait_ready(3)
        leader = self.cluster.leader()
        self.assertEqual(running(leader), first)
        self.assertEqual({a["id"]: a["pid"] for agent in agents for a in agent.get("/v1/allocs").json}, pids)
        self.assertEqual(self.submit(leader, "web", 7).status, 200)
        wait_for(lambda: len([a for a in leader.items("/v1/allocs?service=web") if a["state"] == "running"]) == 7, 30,
                 "one more replica")

    def test_a_new_leader_gives_nodes_a_fresh_grace(self):
        # These do not move to another server: none of theirs may be the one that is killed.
        agents = [FakeAgent(self.cluster.followers()[i % 2], node_id=f"{i:012x}", name=f"n{i}").start() for i in range(1, 4)]
        for a in agents:
            self.addCleanup(a.stop)
        wait_for(lambda: len(self.cluster.servers[0].items("/v1/nodes")) == 3, 20, "three nodes")
        agents[0].stopping.set()
        begin = time.monotonic()
        leader = self.cluster.leader()
        time.sleep(2 * PATIENCE)             # half of the grace is over
        leader.kill()
        alive = self.cluster.leader()
        elected = time.monotonic()
        wait_for(lambda: alive.get("/v1/nodes/n1").json["state"] == "down", 30, "the dead node")
        self.assertGreater(time.monotonic() - elected, 3 * PATIENCE)
        self.assertGreater(elected - begin, 1.5 * PATIENCE)


class Membership(unittest.TestCase):
    flags = {}

    def setUp(self):
        self.cluster = Cluster(1, servers=[], **self.flags)
        self.addCleanup(self.cluster.remove_files)
        self.addCleanup(self.cluster.kill)

    assert_mt, submit = ClusterTest.assert_mt, ClusterTest.submit

    def new_server(self, **flags):
        s = self.cluster.make(len(self.cluster.servers), **{"servers": [], **flags})
        self.cluster.servers.append(s)
        return s

    def token(self, server):
        return json.loads(self.assert_mt(server, "cluster", "token", "-o", "json"))["token"]

    def join(self, **flags):
        s = self.new_server(**flags).start(wait=False)
        wait_for(lambda: s.get("/v1/healthz").status == 200, 20, "the new server's API")
        self.assert_mt(s, "cluster", "join", "--token", self.token(self.cluster.leader()))
        return s

    def remove(self, server):
        other = next(s for s in self.cluster.alive() if s is not server)
        self.assert_mt(other, "cluster", "remove", server.flags["name"])
        server.kill()

    def test_growing_to_five_and_shrinking_under_load(self):
        first = self.cluster.servers[0]
        ports = [first.port]
        load = Load(self.cluster, ports=ports)
        load.wait_more()
        for expect in (0, 1, 0, 1):          # waiting servers, and servers with an empty cluster of their own
            s = self.join(expect=expect)
            ports.append(s.port)
            load.wait_more()
        self.cluster.wait_ready(5)
        self.assert_mt(first, "cluster", "transfer", "s4")
        wait_for(lambda: self.cluster.leader().flags["name"] == "s4", 20, "the chosen leader")
        load.wait_more()
        for name in ("s4", "s1", "s3", "s5"):     # the leader too
            server = next(s for s in self.cluster.servers if s.flags["name"] == name)
            ports.remove(server.port)
            self.remove(server)
            load.wait_more()
        last = self.cluster.leader()
        self.assertEqual(last.flags["name"], "s2")
        history = load.stop()
        self.cluster.wait_ready(1)
        check_history(self, history, last)
        self.assertEqual([m["name"] for m in self.cluster.status(last)["servers"]], ["s2"])

    def test_a_server_that_was_removed_while_it_was_down_says_so_and_comes_back(self):
        first, second, third = self.cluster.servers[0], self.join(), self.join()
        self.cluster.wait_ready(3)
        third.kill()
        self.assert_mt(first, "cluster", "remove", "s3")
        third.start(wait=False)
        said = wait_for(lambda: self.cluster.status(third).get("removed"), 30, "its own word on its removal")
        for word in ("s3 was removed at", "removed by an operator", "mt cluster join --token"):
            self.assertIn(word, said)
        self.assertIn("not a member of its cluster any more", third.process.text())
        begin = time.monotonic()
        answer = self.submit(third, "nowhere", headers={"X-Mentat-Timeout": "60s"})
        self.assertEqual((answer.status, answer.error["code"]), (503, "unavailable"))
        self.assertIn("removed by an operator", answer.error["message"])
        self.assertLess(time.monotonic() - begin, 30)        # nobody waits for a leader that will not come
        self.assertIn("removed by an operator", self.assert_mt(third, "cluster", "status"))
        self.assert_mt(third, "cluster", "join", "--token", self.token(second))
        self.cluster.wait_ready(3)
        self.assertIsNone(self.cluster.status(third).get("removed"))
        self.assertEqual(self.submit(third, "here").status, 200)
        # One that lost its leader for another reason says nothing of the kind.
        first.kill()
        second.kill()
        wait_for(lambda: self.cluster.status(third)["leader_contact_ms"] > 6500, 20, "a while without a leader")
        self.assertIsNone(self.cluster.status(third).get("removed"))

    def test_a_cluster_is_founded_by_the_first_command(self):
        server = self.new_server(expect=0).start(wait=False)
        wait_for(lambda: server.get("/v1/healthz").status == 200, 20, "the API")
        done = self.assert_mt(server, "cluster", "init", "-q")
        self.assertRegex(done, r"[0-9a-f]{32}@")

    def test_tokens_are_good_once_and_say_why_not(self):
        first = self.cluster.servers[0]
        token = self.token(first)
        second = self.new_server(expect=0).start(wait=False)
        wait_for(lambda: second.get("/v1/healthz").status == 200, 20, "the API")
        self.assertIn("mt cluster init", self.cluster.status(second)["forming"])
        self.assertEqual(self.submit(second, "no", headers={"X-Mentat-Timeout": "200ms"}).status, 503)
        bad = mt(second, "cluster", "join", "--token", "nonsense")
        self.assertEqual(bad.returncode, 2)
        forged = token.split(".")[0] + "." + "0" * 32 + "@" + token.split("@")[1]
        done = mt(second, "cluster", "join", "--token", forged)
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn("does not know the join token", done.stderr)
        self.assert_mt(second, "cluster", "join", "--token", token)
        third = self.new_server(expect=0).start(wait=False)
        wait_for(lambda: third.get("/v1/healthz").status == 200, 20, "the API")
        done = mt(third, "cluster", "join", "--token", token)
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn("used already", done.stderr)
        self.assertEqual(len(self.cluster.status(first)["servers"]), 2)
        # A fresh one is taken, also where most of its addresses refuse connections.
        dead = ",".join(f"127.0.0.1:{port}" for port in range(1, 6))
        self.assert_mt(third, "cluster", "join", "--token", self.token(first).replace("@", f"@{dead},"))
        self.cluster.wait_ready(3)

    def test_a_server_with_a_cluster_of_its_own_is_not_let_in_by_mistake(self):
        first = self.cluster.servers[0]
        other = self.new_server(expect=1).start()
        self.assertEqual(self.submit(other, "precious").status, 200)
        done = mt(other, "cluster", "join", "--token", self.token(first))
        self.assertEqual(done.returncode, 1)
        self.assertIn("would be lost", done.stderr)
        self.assertEqual([j["name"] for j in other.items("/v1/jobs")], ["precious"])
        # And one that knocks with another cluster's id is refused.
        answer = first.post("/v1/cluster/servers", {"id": "77", "name": "sx", "address": "127.0.0.1:1", "raft_address":
                                                    "127.0.0.1:2", "version": "9", "level": 1000, "cluster_id": "12345"})
        self.assertEqual((answer.status, answer.error["code"]), (409, "conflict"))
        self.assertEqual(len(self.cluster.status(first)["servers"]), 1)
        # Nor is one with a name, or an address, that lives.
        for facts in ({"name": "s1", "raft_address": "127.0.0.1:2"},
                      {"name": "sx", "raft_address": self.cluster.status(first)["raft_address"]}):
            answer = first.post("/v1/cluster/servers", {"id": "77", "address": "127.0.0.1:1", "version": "9", "level": 1000,
                                                        "token": self.token(first), **facts})
            self.assertEqual(answer.status, 409, answer)
        # Nor is one without a token that the configuration does not list, whatever it says of itself.
        answer = first.post("/v1/cluster/servers", {"id": "77", "name": "sx", "address": f"127.0.0.1:{first.port}",
                                                    "raft_address": "127.0.0.1:2", "version": "9", "level": 1000})
        self.assertEqual((answer.status, answer.error["code"]), (403, "denied"))
        self.assertIn("mt cluster token", answer.error["message"])
        self.assertEqual(len(self.cluster.status(first)["servers"]), 1)

    def test_noise_at_the_port_for_servers_changes_nothing(self):
        first = self.cluster.servers[0]
        self.join()
        self.join()
        self.cluster.wait_ready(3)
        before = self.cluster.status(first)
        rng = random.Random(7)
        for i in range(60):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", first.flags["raft_port"]), timeout=5) as s:
                if i % 3 == 0:
                    s.sendall(rng.randbytes(rng.randrange(1, 5000)))
                elif i % 3 == 1:
                    s.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10)
                else:
                    s.sendall(b"\xff" * 64)      # lengths beyond all limits
        load = Load(self.cluster, writers=2)
        load.wait_more()
        check_history(self, load.stop(), self.cluster.leader())
        after = self.cluster.status(first)
        self.assertEqual((before["term"], before["servers"][0]["id"]), (after["term"], after["servers"][0]["id"]))
        self.assertTrue(first.process.alive())


class Losses(ClusterTest):
    flags = {"dead_server_after": f"{int(2000 * PATIENCE)}ms"}

    def test_a_wiped_server_comes_back_by_itself(self):
        load = Load(self.cluster, writers=3)
        load.wait_more()
        victim = self.cluster.followers()[0]
        old = self.cluster.status(victim)["id"]
        victim.kill()
        shutil.rmtree(victim.flags["data_dir"])
        load.wait_more()
        victim.start(wait=False)
        self.cluster.wait_ready(3)
        self.assertNotEqual(self.cluster.status(victim)["id"], old)
        load.wait_more()
        history = load.stop()
        self.cluster.wait_equal()
        check_history(self, history, victim)

    def test_a_wiped_server_that_keeps_its_id_begins_anew(self):
        # Under its old id it would be a voter that forgot its votes and its log.
        victim = self.cluster.followers()[0]
        victim.flags["server_id"] = 4711
        for _ in range(2):
            victim.kill()
            shutil.rmtree(victim.flags["data_dir"])
            self.submit(self.cluster.leader(), "meanwhile")
            victim.start(wait=False)
            wait_for(lambda: self.cluster.status(victim)["membership"] == "voter", 20, "its vote")
        self.cluster.wait_ready(3)
        self.assertEqual(self.cluster.status(victim)["id"], "4711")
        events = self.cluster.leader().get("/v1/events?limit=1000&kind=server", headers={"Accept": "application/json"})
        self.assertIn("it begins anew with an empty directory", [e["reason"] for e in events.json["items"]])
        self.cluster.wait_equal()
        self.assertEqual([j["name"] for j in victim.items("/v1/jobs?consistency=stale")], ["meanwhile"])

    def test_a_server_whose_files_are_gone_says_which_and_does_not_start(self):
        victim = self.cluster.followers()[0]
        self.submit(victim, "kept")
        self.cluster.wait_equal()
        state, aside = victim.flags["data_dir"], victim.workdir.join("aside")
        for gone, word in ((["log-0000000000000001"], "log-0000000000000001 is missing"),
                           (["log-0000000000000001", "log-0000000000000002"], "all log-* files are missing"),
                           (["meta-1", "meta-2"], "meta-1 and meta-2 are missing")):
            victim.kill()
            os.mkdir(aside)
            for name in gone:
                os.rename(os.path.join(state, name), os.path.join(aside, name))
            victim.start(wait=False)
            self.assertEqual(victim.process.child.wait(20 * PATIENCE), 1)
            said = victim.process.text()
            self.assertIn(word, said)
            self.assertIn("mt cluster remove", said)
            for name in gone:
                os.rename(os.path.join(aside, name), os.path.join(state, name))
            os.rmdir(aside)
            victim.start(wait=False)             # nothing was changed by the attempt
            self.cluster.wait_ready(3)
        self.cluster.wait_equal()

    def test_a_dead_server_goes_once_another_is_there_and_not_before(self):
        victim = self.cluster.followers()[0]
        victim.kill()
        leader = self.cluster.leader()
        time.sleep(3 * PATIENCE)             # longer than dead_server_after: it stays, since there are only two others
        self.assertEqual(len(self.cluster.voters(leader)), 3)
        new = self.cluster.make(3, servers=[], expect=0)
        self.cluster.servers.append(new)
        new.start(wait=False)
        wait_for(lambda: new.get("/v1/healthz").status == 200, 20, "the API")
        token = json.loads(self.assert_mt(leader, "cluster", "token", "-o", "json"))["token"]
        self.assert_mt(new, "cluster", "join", "--token", token)

        def names():
            return sorted(m.get("name") or "" for m in self.cluster.voters(self.cluster.leader()))
        expected = sorted(s.flags["name"] for s in self.cluster.alive())
        wait_for(lambda: names() == expected, 30, "the removal of the dead server")
        self.cluster.wait_equal()

    def test_a_server_that_nobody_heard_of_yet_has_as_long_as_any(self):
        """The second one joins when its leader leads for so long already that it may remove who is dead."""
        leader = self.cluster.leader()

        def times(name):
            events = leader.get("/v1/events?limit=1000&kind=server", headers={"Accept": "application/json"}).json["items"]
            return [datetime.datetime.fromisoformat(e["time"].replace("Z", "+00:00")) for e in events if e["subject"] == name]
        for name, number in (("silent-1", 101), ("silent-2", 102)):
            token = json.loads(self.assert_mt(leader, "cluster", "token", "-o", "json"))["token"]
            answer = leader.post("/v1/cluster/servers", {
                "id": str(number), "name": name, "address": f"127.0.0.1:{free_port()}", "raft_address": f"127.0.0.1:{free_port()}",
                "version": "1.0", "level": 99, "token": token})
            self.assertEqual(answer.status, 200, answer)
            wait_for(lambda: len(times(name)) == 2, 30, f"{name} joined and removed")
        joined, removed = times("silent-2")
        self.assertGreaterEqual((removed - joined).total_seconds(), 2 * PATIENCE)
        self.assertEqual(len(self.cluster.voters(leader)), 3)

    def test_a_server_moves_to_other_addresses(self):
        mover = self.cluster.followers()[0]
        self.submit(mover, "before")
        self.assertEqual(mover.stop(), 0)
        fresh = self.cluster.make(9)
        mover.port = mover.flags["port"] = fresh.port
        mover.flags["raft_port"] = fresh.flags["raft_port"]
        mover.start(wait=False)
        self.cluster.wait_ready(3)
        leader = self.cluster.leader()

        def moved():
            view = next(m for m in self.cluster.status(leader)["servers"] if m["name"] == mover.flags["name"])
            return view["address"].endswith(f":{mover.port}") and view["raft_address"].endswith(f":{mover.flags['raft_port']}")
        wait_for(moved, 30, "the new addresses")
        other = next(s for s in self.cluster.servers if s is not mover and s is not leader)
        other.kill()                         # the moved one is needed now
        self.assertEqual(self.submit(mover, "after", headers={"X-Mentat-Timeout": "20s"}).status, 200)

    def test_recovery_when_the_majority_is_gone_for_good(self):
        agent = Agent(self.cluster.servers[0], "n1", "127.0.0.1").start()
        self.addCleanup(lambda: self.assertEqual(agent.end(), []))
        self.assertEqual(self.submit(self.cluster.servers[0], "web", 2).status, 200)

        def running(server):
            return [a["id"] for a in server.items("/v1/allocs?service=web") if a["state"] == "running"]
        wait_for(lambda: len(running(self.cluster.leader())) == 2, 30, "two replicas")
        pids = {a["id"]: a["pid"] for a in agent.get("/v1/allocs").json}
        self.cluster.wait_equal()
        self.cluster.kill()
        left, lost = self.cluster.servers[0], self.cluster.servers[1:]
        for s in lost:
            shutil.rmtree(s.flags["data_dir"])
        # Not while it runs, and not without being meant.
        left.start(wait=False)
        wait_for(lambda: left.get("/v1/healthz").status == 200, 20, "the API")
        recover = [program("mentat-server"), "recover", f"--data-dir={left.flags['data_dir']}", f"--port={left.port}",
                   f"--raft-port={left.flags['raft_port']}"]
        self.assertNotEqual(subprocess.run(recover + ["--yes"], capture_output=True, timeout=60).returncode, 0)
        left.kill()
        looked = subprocess.run(recover, capture_output=True, text=True, timeout=60)
        self.assertEqual(looked.returncode, 0, looked.stderr)
        self.assertIn("3 voters", looked.stdout)
        done = subprocess.run(recover + ["--yes"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        left.start()
        self.assertEqual(len(self.cluster.voters(left)), 1)
        self.assertEqual(sorted(j["name"] for j in left.items("/v1/jobs")), ["web"])
        # The others come back empty and join; the tasks never knew.
        for s in lost:
            s.start(wait=False)
        self.cluster.wait_ready(3, 60)
        self.cluster.wait_equal()
        wait_for(lambda: [n["state"] for n in left.items("/v1/nodes")] == ["ready"], 40, "the node")
        self.assertEqual(self.submit(self.cluster.followers()[0], "web", 3).status, 200)
        wait_for(lambda: len(running(left)) == 3, 30, "three replicas")
        now = {a["id"]: a["pid"] for a in agent.get("/v1/allocs").json}
        self.assertEqual({i: now[i] for i in pids}, pids)

    def test_a_snapshot_is_restored_into_three_servers(self):
        file = os.path.join(self.cluster.servers[0].workdir.path, "state.snapshot")
        for i in range(20):
            self.submit(self.cluster.servers[i % 3], f"job-{i:02}")
        self.assert_mt(self.cluster.followers()[0], "snapshot", "save", file)
        new = Cluster(3, **self.flags)
        self.addCleanup(new.remove_files)
        self.addCleanup(new.kill)
        self.submit(new.servers[0], "gone")
        self.assert_mt(new.followers()[0], "snapshot", "restore", "--yes", file)
        new.wait_equal()
        for s in new.servers:
            self.assertEqual(len(s.items("/v1/jobs")), 20)
        leader = new.leader()
        leader.kill()
        self.assertEqual(len(new.leader().items("/v1/jobs")), 20)
        self.assertEqual(sorted(m["name"] for m in new.voters(new.leader())), ["s1", "s2", "s3"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
