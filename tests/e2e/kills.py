#!/usr/bin/env python3
"""kill -9 of the agent, the server, and both at once, at random moments, while services and tasks are submitted, scaled,
changed and stopped: no task dies or runs twice, nothing acknowledged is lost, what ended meanwhile is told right.

The tasks themselves leave the evidence, in files of the test. A failed run is repeated by MENTAT_SEED, as far as the
machine's own timing lets it."""
import glob
import http.client
import json
import os
import random
import sys
import threading
import time
import unittest
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import PATIENCE, Agent, Server, Workdir, job, sanitized, wait_for  # noqa: E402

ROUNDS = int(os.environ.get("MENTAT_ROUNDS", "20" if sanitized("mentat-agent") else "200"))
SEED = int(os.environ.get("MENTAT_SEED", time.time_ns() // 1000 % 1000000))

# Runs until it is told to stop: a death is found by the missing last word. Where it has a volume, nobody else may have
# it: two at a time are found by the lock.
LONG = """
trap 'echo stopped >> {0}/stops/$MENTAT_ALLOC_ID; exit 0' TERM
if [ -n "$MENTAT_VOLUME_DATA" ]; then
    exec 9> $MENTAT_VOLUME_DATA/lock
    flock -n 9 || {{ echo $MENTAT_ALLOC_ID >> {0}/twice; exit 99; }}
fi
echo $$ >> {0}/starts/$MENTAT_ALLOC_ID
echo up
sleep 100000 &
wait
"""
SHORT = """
echo $$ >> {0}/starts/$MENTAT_ALLOC_ID
echo begin
seq 1 {1}
sleep {2}
echo end >&2
exit {3}
"""


def long_service(test, name, count, change=0):
    """Those whose name ends in "v" have volumes."""
    volumes = [{"source": test.agent.flags["volume_root"] + "/" + name, "target": "/data"}] if name[-1] == "v" else []
    return {"name": name, "driver": "exec", "count": count, "env": {"CHANGE": str(change)},
            "config": {"command": ["/bin/sh"], "args": ["-c", LONG.format(test.workdir.path)]}, "volumes": volumes,
            "resources": {"cpus": 0.01, "memory_mb": 16}, "kill": {"timeout": "60s"},
            "deploy": {"health_timeout_secs": 600, "max_unavailable": 2}}


def short_service(test, name, lines, seconds, code):
    return {"name": name, "driver": "exec", "mode": "task", "restart": {"attempts": 0, "then": "fail"},
            "config": {"command": ["/bin/sh"], "args": ["-c", SHORT.format(test.workdir.path, lines, seconds, code)]},
            "resources": {"cpus": 0.01, "memory_mb": 16}}


class Client:
    """One that does not give up: a call is repeated, with its key, until the server has answered it."""

    def __init__(self, server, stop):
        self.server, self.stop = server, stop

    def call(self, method, path, body=None):
        headers = {"Idempotency-Key": uuid.uuid4().hex} if method != "GET" else {}
        while not self.stop.is_set():
            try:
                answer = self.server.call(method, path, body, headers, timeout=20)
                if answer.status != 503:
                    return answer
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.005)
        raise AssertionError(f"no answer to {method} {path} until the end")

    def write(self, method, path, body=None):
        answer = self.call(method, path, body)
        assert answer.status < 300, (method, path, answer)
        return answer


class Writer(threading.Thread):
    """Makes changes until told to end; what failed is in `problem`."""

    def __init__(self, test, number):
        super().__init__(daemon=True)
        self.random = random.Random(f"{SEED}-{number}")
        self.client = Client(test.server, test.give_up)
        self.test, self.changes, self.problem = test, 0, None

    def run(self):
        try:
            while not self.test.ending.is_set():
                self.change()
                self.changes += 1
                time.sleep(self.random.random() * 0.1)
        except Exception as e:       # noqa: BLE001  whatever it is, the test tells it
            self.problem = e


class LongWriter(Writer):
    """Submits, scales, changes and stops a few services, of which it is the only writer: each is as it was left."""

    def __init__(self, test, number, names):
        super().__init__(test, number)
        self.changed = 0
        self.wanted = {n: None for n in names}      # count and change; None: never submitted or stopped

    def check(self, name):
        answer = self.client.call("GET", f"/v1/services/{name}")
        wanted = self.wanted[name]
        if wanted:
            spec = answer.json["current"]["spec"]
            assert (spec["count"], spec["env"]["CHANGE"]) == wanted, (name, wanted, answer.json)
            assert answer.json["status"]["state"] not in ("stopping", "stopped"), answer.json
        else:
            assert answer.status == 404 or answer.json["status"]["state"] in ("stopping", "stopped"), (name, answer.json)

    def change(self):
        name = self.random.choice(list(self.wanted))
        self.check(name)
        kind, count = self.random.random(), self.random.randint(1, 4)
        if self.wanted[name] and kind < 0.5:
            self.client.write("POST", f"/v1/services/{name}/scale", {"count": count})
            self.wanted[name] = (count, self.wanted[name][1])
        elif self.wanted[name] and kind < 0.7:
            self.client.write("DELETE", f"/v1/services/{name}")
            self.wanted[name] = None
        else:
            self.changed += 1
            self.client.write("POST", "/v1/jobs", job(name, long_service(self.test, name, count, self.changed)))
            self.wanted[name] = (count, str(self.changed))


class ShortWriter(Writer):
    """Submits tasks that end by themselves soon, each in its own way."""

    def __init__(self, test, number):
        super().__init__(test, number)
        self.tasks = {}              # name: lines, exit code

    def change(self):
        name = f"task-{len(self.tasks)}"
        lines, code = self.random.choice([0, 3, 3000]), self.random.choice([0, 0, self.random.randint(1, 125)])
        seconds = round(self.random.random() * 0.8, 2)
        self.client.write("POST", "/v1/jobs", job(name, short_service(self.test, name, lines, seconds, code)))
        self.tasks[name] = (lines, code)


class Kills(unittest.TestCase):
    def setUp(self):
        print(json.dumps({"seed": SEED, "rounds": ROUNDS}), flush=True)
        self.random = random.Random(SEED)
        self.workdir = Workdir()
        for name in ("starts", "stops"):
            os.mkdir(self.workdir.join(name))
        self.ending, self.give_up = threading.Event(), threading.Event()
        self.server = Server(secure=True, node_grace="10m").start()
        self.addCleanup(lambda: self.server.stop())
        self.agent = Agent(self.server, "n1", cpus=64, memory_mb=100000, gc_max_allocs=100000).start()
        self.addCleanup(lambda: self.assertEqual(self.agent.end(), []))
        self.addCleanup(self.give_up.set)
        self.agent.wait_api()

    def words(self, directory, alloc):
        try:
            with open(self.workdir.join(directory, alloc)) as f:
                return f.read().split()
        except FileNotFoundError:
            return []

    def kill_round(self):
        victims = self.random.choice([[self.agent], [self.server], [self.agent, self.server]])
        time.sleep(self.random.random() * self.random.choice([0.05, 0.3, 0.8]))      # the moment is the point
        for v in victims:
            v.process.child.kill()
        for v in victims:
            v.kill()
        time.sleep(self.random.random() * self.random.choice([0, 0, 0.4]))           # so is how long it is away
        if self.server in victims:
            self.server.start(wait=False)
        if self.agent in victims:
            self.agent.start()

    def service(self, name):
        return self.server.get(f"/v1/services/{name}").json["status"]

    def wait_settled(self, writers, tasks):
        ended = ("complete", "failed", "lost")

        def settled(name, count):
            """Nor is it on the way to another version, also where a replica stops before its successor starts: between two
            batches as many run as are wanted."""
            def look():
                status = self.service(name)
                if self.server.get(f"/v1/deployments/{status['deployment']}").json["state"] in ("running", "paused"):
                    return False
                wanted = [a for a in self.server.items(f"/v1/allocs?service={name}&limit=1000")
                          if a["desired"] == "run" and a["state"] not in ended]
                return len(wanted) == count and status["running"] == count
            return look

        for name, count in writers.items():
            wait_for(settled(name, count), 120, f"{count} running of {name}", every=0.05)
        for name in tasks:
            wait_for(lambda n=name: self.service(n)["state"] in ("complete", "failed"), 120, f"the end of {name}", every=0.05)
        wait_for(lambda: all(a["desired"] == "run" or a["state"] in ended
                             for a in self.server.items("/v1/allocs?limit=1000")), 120, "the end of what is stopped", every=0.05)

    def test_two_hundred_rounds(self):
        steady = {"steady-a": 3, "steady-v": 2}
        for name, count in steady.items():
            answer = self.server.post("/v1/jobs", job(name, long_service(self, name, count)))
            self.assertEqual(answer.status, 200, answer)
        long_ones = [LongWriter(self, i, [f"busy-{i}-{k}" for k in "abcv"]) for i in range(2)]
        short_ones = ShortWriter(self, "short")
        for w in long_ones + [short_ones]:
            w.start()
        for _ in range(ROUNDS):
            self.kill_round()
        self.ending.set()
        for w in long_ones + [short_ones]:
            w.join(60 * PATIENCE)
            self.assertFalse(w.is_alive(), "a write was never answered")
            self.assertIsNone(w.problem)
        wait_for(self.server.ready, 60, "the server's readiness")
        self.agent.wait_api()
        busy = {n: wanted for w in long_ones for n, wanted in w.wanted.items()}
        self.wait_settled({**steady, **{n: w[0] for n, w in busy.items() if w}}, short_ones.tasks)
        allocs = self.server.items("/v1/allocs?limit=1000")
        self.check_writes(long_ones)
        self.check_running(allocs, {**steady, **{n: w[0] if w else 0 for n, w in busy.items()}})
        self.check_steady(allocs, steady)
        self.check_tasks(allocs, short_ones.tasks)
        print(json.dumps({"name": "kills", "rounds": ROUNDS, "changes": sum(w.changes for w in long_ones),
                          "tasks": len(short_ones.tasks), "starts": len(os.listdir(self.workdir.join("starts")))}))
        self.check_the_end(allocs)

    def check_writes(self, writers):
        for w in writers:
            for name in w.wanted:
                w.check(name)

    def check_running(self, allocs, wanted):
        """What is wanted runs once, as the process that was started first; what is not was told to stop."""
        self.assertFalse(os.path.exists(self.workdir.join("twice")), "two at a time had a volume")
        pids = {a["id"]: a["pid"] for a in self.agent.get("/v1/allocs").json if a["pid"]}
        live = {a["id"]: a for a in allocs if a["desired"] == "run" and a["state"] == "running"}
        self.assertEqual(set(pids), set(live))
        for name, count in wanted.items():
            self.assertEqual(sorted(a["replica"] for a in live.values() if a["service"] == name), list(range(count)), name)
        for alloc, a in live.items():
            self.assertEqual(a.get("restarts", 0), 0, a)
            self.assertEqual(self.words("starts", alloc), [str(pids[alloc])], a)
            self.assertEqual(self.words("stops", alloc), [], a)
        short_ids = {a["id"] for a in allocs if a["service"].startswith("task-")}
        for alloc in set(os.listdir(self.workdir.join("starts"))) - set(live) - short_ids:
            self.assertEqual(len(self.words("starts", alloc)), 1, f"{alloc} was started again")
            self.assertEqual(self.words("stops", alloc), ["stopped"], f"{alloc} died")
        for a in allocs:
            if a["id"] not in short_ids and a["id"] not in live:
                self.assertEqual((a["desired"], a["state"]), ("stop", "complete"), a)

    def check_steady(self, allocs, steady):
        for name, count in steady.items():
            own = [a for a in allocs if a["service"] == name]
            self.assertEqual(len(own), count, "a replica was replaced")
            for a in own:
                log = self.server.get(f"/v1/allocs/{a['id']}/logs")
                self.assertEqual((log.status, log.body), (200, b"up\n"))

    def check_tasks(self, allocs, tasks):
        for name, (lines, code) in tasks.items():
            own = [a for a in allocs if a["service"] == name]
            self.assertEqual(len(own), 1, f"{name} was run again")
            a = own[0]
            self.assertEqual((a["state"], a.get("exited", False), a.get("exit_code", 0)),
                             ("failed" if code else "complete", True, code), a)
            self.assertEqual(len(self.words("starts", a["id"])), 1, a)
            out = self.server.get(f"/v1/allocs/{a['id']}/logs?stream=stdout").body.decode()
            self.assertEqual(out, "begin\n" + "".join(f"{i}\n" for i in range(1, lines + 1)), a)
            self.assertEqual(self.server.get(f"/v1/allocs/{a['id']}/logs?stream=stderr").body, b"end\n", a)

    def check_the_end(self, allocs):
        for j in self.server.items("/v1/jobs?limit=1000"):
            self.assertLess(self.server.call("DELETE", f"/v1/jobs/{j['name']}?purge=true").status, 300)
        wait_for(lambda: not self.agent.left_over(), 60, "nothing left on the node", every=0.1)
        self.assertEqual(self.server.items("/v1/allocs"), [])
        self.assertTrue(glob.glob(self.workdir.join("stops", "*")))


if __name__ == "__main__":
    unittest.main(verbosity=2)
