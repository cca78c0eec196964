#!/usr/bin/env python3
"""Containers under faults: agent and engine killed again and again, and an engine that answers nonsense."""
import contextlib
import datetime
import http.server
import json
import os
import random
import re
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import docker  # noqa: E402
from agent import AgentTest  # noqa: E402
from docker_lib import Engine, enter_namespaces  # noqa: E402
from lib import SmallDisk, Workdir, mounts_in, sanitized, wait_for  # noqa: E402

# By hand: MENTAT_ROUNDS=100 meson test -C build docker_faults
ROUNDS = int(os.environ.get("MENTAT_ROUNDS", "10" if sanitized("mentat-agent") else "20"))


def setUpModule():
    docker.setUpModule()


def tearDownModule():
    docker.tearDownModule()


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def lines_of(log):
    return [int(n) for n in re.findall(r"line (\d+)\n", log)]


class Kills(docker.DockerTest):
    secure = True

    def test_rounds_of_kills_lose_double_and_leave_nothing(self):
        """Three rounds in four kill the agent, one the engine, one in ten both. Without networks: Docker 20.10 itself never
        starts again when it is killed while it writes its networks' state (it panics over it in libnetwork)."""
        engine, data = docker.engine, self.workdir.join("volumes")
        volume = {"security": {"any_volume": True}, "config": {"network": "none"}, "volumes": [{"source": data + "/starts/${replica}", "target": "/data"}]}
        self.sh("long", "echo $MENTAT_ALLOC_ID >> /data/starts; i=0; while true; do i=$((i+1)); echo line $i; sleep 0.05; done",
                kill={"timeout": "0s"}, **volume)
        self.sh("short", "echo $MENTAT_ALLOC_ID >> /data/starts; echo begin; sleep 0.3; echo end; exit 7", mode="task",
                restart={"attempts": 0}, **volume)
        long_ones = self.up("long", 5)
        ids = {a: self.container(a)["Id"] for a in long_ones}
        short_ones, ended, away, chance = [], [], [], random.Random(ROUNDS)
        for round_ in range(ROUNDS):
            if round_ % 4 == 0:
                short_ones += self.server.want("short", 1, first=1000 + round_)
                away_before = len(away)
            # Some are asked for and end while agent or engine are away. Every other one does not.
            if round_ % 8 == 4:
                wait_for(lambda: self.server.states(short_ones[-1:])[0] not in (None, "pending", "starting"), 60, "the begin of a short one")
            if round_ % 8 == 7 and len(away) == away_before:
                ended += short_ones[-1:]
                wait_for(lambda: self.server.states(ended[-1:])[0] in ("failed", "complete"), 60, "the end of a short one")
            time.sleep(chance.random() * 0.3)                   # the moment of the kill is the point
            both = round_ % 10 == 9
            if both or round_ % 4 != 3:
                self.agent.kill()
            if both or round_ % 4 == 3:
                gone_at = time.time()
                engine.kill()
                engine.start()
                away.append((gone_at, time.time()))
            if not self.agent.alive():
                self.start()
        self.healthy()
        self.server.wait_states(long_ones, "running", 30)
        wait_for(lambda: all(s in ("failed", "complete") for s in self.server.states(short_ones)), 60, "the ends of the short ones")
        starts = {}
        for folder, _, files in os.walk(data):
            for name in files:
                with open(os.path.join(folder, name)) as f:
                    for alloc in f.read().split():
                        starts[alloc] = starts.get(alloc, 0) + 1
        for alloc in long_ones:
            self.assertEqual((self.container(alloc)["Id"], starts[alloc]), (ids[alloc], 1))
        self.assertEqual({self.server.reports[a].get("exit_code") for a in ended}, {7}, [self.server.reports[a] for a in ended])
        for alloc in short_ones:
            report = self.server.reports[alloc]
            self.assertLessEqual(starts.get(alloc, 0), 1, report)
            if report.get("exited"):
                self.assertEqual(starts.get(alloc), 1, report)
                if report["exit_code"] == 7:
                    # What a container writes as its last, while no engine reads it, goes with it.
                    alone = any(seconds(report["started_at"]) < b and a < seconds(report["finished_at"]) for a, b in away)
                    self.assertIn(self.log_of(alloc), ("", "begin\n", "begin\nend\n") if alone else ("begin\nend\n",))
        # An engine that is killed takes with it what it has read and not written yet: its log is the measure.
        theirs = {a: lines_of(engine.ok("GET", f"/containers/{ids[a]}/logs?stdout=1").body.decode(errors="replace"))
                  for a in long_ones}
        self.stop_all(long_ones)
        for alloc in long_ones:
            ours, lost = lines_of(self.log_of(alloc)), theirs[alloc][-1] - len(theirs[alloc])
            self.assertEqual(ours[:len(theirs[alloc])], theirs[alloc], "not what the engine has")
            self.assertEqual(ours, sorted(set(ours)), "a line is there twice")
            self.assertLessEqual(lost, len(away), "more is lost than a line for each engine that was killed")
        wait_for(lambda: not self.remains(), 60, "the removal of everything")


class HostRestart(docker.DockerTest):
    secure = True

    def end_host(self):
        """All that a host loses when it goes down: every process, and what lies in /run. Disks stay."""
        engine = docker.engine
        self.agent.kill()
        engine.kill()
        def its_own():
            found = []
            for pid in filter(str.isdigit, os.listdir("/proc")):
                with contextlib.suppress(OSError):
                    with open(f"/proc/{pid}/cmdline", "rb") as f, open(f"/proc/{pid}/cgroup") as g:
                        if engine.workdir.path.encode() in f.read() and int(pid) != os.getpid() or engine.group in g.read():
                            found.append(int(pid))
            return found
        wait_for(lambda: [os.kill(pid, signal.SIGKILL) for pid in its_own()] == [], 20, "the end of every process")
        for mount in reversed(mounts_in(engine.workdir.path)):
            subprocess.run(["umount", "-l", mount], check=True)
        shutil.rmtree(engine.workdir.join("exec"), ignore_errors=True)

    def test_a_host_that_restarts(self):
        self.sh("stays", "echo up $$; exec sleep 1000", kill={"timeout": "0s"}, restart={"attempts": 3, "delay": "100ms"})
        self.sh("ends", "echo begin; exec sleep 1000", mode="task", restart={"attempts": 0})
        stays, ends = self.up("stays") + self.up("ends")
        wait_for(lambda: self.log_of(stays) and self.log_of(ends), what="their first lines")
        before = self.container(stays)["Id"]
        self.end_host()
        docker.engine.start()
        self.start()
        self.healthy()
        self.server.wait_states([ends], "failed", 30)
        report = self.server.reports[ends]
        self.assertNotEqual((report.get("exited"), report.get("exit_code", 0)), (True, 0), report)      # the engine says 255
        self.assertEqual(self.log_of(ends), "begin\n")
        wait_for(lambda: self.server.reports[stays].get("restarts") == 1 and self.server.states([stays]) == ["running"], 30, "its new start")
        self.assertNotEqual(self.container(stays)["Id"], before)
        self.stop_all([stays])


class FullDisk(docker.DockerTest):
    """Of the engine, not of the agent."""
    secure = True

    @classmethod
    def setUpClass(cls):
        cls.other = docker.engine
        cls.disk = SmallDisk(64)
        docker.engine = Engine(workdir=cls.disk)
        docker.engine.config = {"bridge": "none"}    # that is the other engine's
        docker.engine.start().image("app:1", "USER 1000:1001", "ENV PATH=/bin")

    @classmethod
    def tearDownClass(cls):
        docker.engine.end()
        docker.engine = cls.other

    def test_containers_wait_for_room_and_running_ones_go_on(self):
        network = {"config": {"network": "none"}}
        self.sh("early", "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.05; done", kill={"timeout": "0s"}, **network)
        early, = self.up("early")
        wait_for(lambda: lines_of(self.log_of(early)), what="its first lines")
        self.disk.fill()
        self.sh("late", "exec sleep 1000", kill={"timeout": "0s"}, restart={"attempts": 0}, **network)
        late, = self.server.want("late")
        wait_for(lambda: "no space left on device" in self.server.reports.get(late, {}).get("reason", ""), 30, "the want of room to be told")
        self.assertEqual(self.server.states([late]), ["starting"])
        self.disk.make_room()
        self.server.wait_states([late], "running", 30)
        seen = lines_of(self.log_of(early))[-1]
        wait_for(lambda: lines_of(self.log_of(early))[-1] > seen, 20, "new lines of the one that ran")
        self.stop_all([early, late])


class Script(http.server.BaseHTTPRequestHandler):
    """An engine that is well until `faults` says what it does wrong: (method, end of the path) → what."""
    protocol_version = "HTTP/1.1"
    container = {"Id": "ab" * 32, "State": {"Status": "running", "Pid": 0, "StartedAt": "2026-01-01T00:00:00Z"}}

    def log_message(self, *args):
        pass

    def answer(self, status, body, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def raw(self, data):
        self.wfile.write(data)
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def do(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.body = json.loads(body) if body else None
        path = re.sub(r"^/v1\.\d+", "", self.path).split("?")[0]
        self.server.seen.append((self.command, path))
        self.server.raw_paths.append(self.path)
        for (method, end), fault in self.server.faults.items():
            if method == self.command and path.endswith(end):
                return fault(self)
        return self.well(path)

    do_GET = do_POST = do_DELETE = do

    def well(self, path):
        labels = (self.server.created or {}).get("Labels", {})
        if path == "/version":
            return self.answer(200, self.server.version)
        if path.startswith("/images/"):
            return self.answer(200, {"Id": "sha256:" + "cd" * 32, "Config": {"User": "1000"}})
        if path.endswith("/containers/create"):
            self.server.created = self.body
            return self.answer(201, {"Id": "ab" * 32})
        if self.command == "DELETE" and "/containers/" in path:
            self.server.created = None
            return self.answer(204, b"")
        if path.endswith("/wait"):
            self.server.ended.wait(60)
            return self.answer(200, {"StatusCode": 5})
        if path.endswith("/logs"):
            self.server.ended.wait(60)
            return self.answer(200, b"")
        if path.startswith("/containers/") and path.endswith("/json") and path != "/containers/json":
            if not self.server.created:
                return self.answer(404, {"message": "No such container"})
            state = dict(self.container["State"], Status="exited" if self.server.ended.is_set() else "running", ExitCode=5,
                         FinishedAt=self.server.finished_at)
            return self.answer(200, dict(self.container, State=state, Config={"Labels": labels}))
        if path in ("/containers/json", "/networks"):
            return self.answer(200, [])
        if path == "/networks/create":
            return self.answer(201, {"Id": "ef" * 32})
        return self.answer(200, {})


class FakeEngine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path):
        self.faults, self.seen, self.created, self.ended = {}, [], None, threading.Event()
        self.raw_paths = []
        self.finished_at, self.version = "2026-01-01T00:00:01Z", {"ApiVersion": "1.47", "MinAPIVersion": "1.24", "Version": "27.0"}
        super().__init__(path, Script)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def get_request(self):
        request, _ = super().get_request()
        return request, ("unix", 0)

    def handle_error(self, *args):
        pass


CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"Id\":"
BAD_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\nhello\r\n"


def frame(stream, text):
    return struct.pack(">BBBBI", stream, 0, 0, 0, len(text)) + text


class Nonsense(AgentTest):
    """The engine of a script: only for answers that no real one gives on demand."""

    def setUp(self):
        folder = Workdir()
        self.addCleanup(folder.remove)
        self.fake = FakeEngine(folder.join("fake.sock"))
        self.addCleanup(self.fake.server_close)
        self.addCleanup(self.fake.shutdown)
        self.flags = {"docker.socket": folder.join("fake.sock")}
        super().setUp()
        self.addCleanup(self.mend)       # before the agent's own end

    def mend(self):
        self.fake.faults.clear()
        self.fake.ended.set()

    def run_one(self):
        name = f"f{len(self.server.services)}"
        self.server.services[name] = {"service": name, "job": name, "version": 1, "spec": {
            "name": name, "driver": "docker", "mode": "task", "config": {"image": "x:1"}, "restart": {"attempts": 0},
            "resources": {"cpus": 0.01, "memory_mb": 16}}}
        alloc, = self.server.want(name)
        return alloc

    def reason(self, alloc):
        wait_for(lambda: self.server.states([alloc])[0] in ("failed", "complete"), 60, "the end")
        self.assertTrue(self.agent.alive(), self.agent.text()[-2000:])
        return self.server.reports[alloc]["reason"]

    def faulty(self, faults, part):
        self.fake.faults = faults
        self.fake.created = None
        why = self.reason(self.run_one())
        self.assertIn(part, why)
        self.assertIsNone(self.fake.created, "a container was left behind")

    def test_broken_answers_fail_the_start_and_leave_nothing(self):
        look = ("GET", "/images/x:1/json")
        self.faulty({look: lambda h: h.raw(CUT)}, "did not answer")
        self.faulty({look: lambda h: h.raw(b"nonsense\r\n\r\n")}, "did not answer")
        self.faulty({look: lambda h: h.raw(BAD_CHUNK)}, "did not answer")
        self.faulty({look: lambda h: h.answer(200, b"[{]")}, "not JSON")
        self.faulty({look: lambda h: h.answer(500, {"message": "disk on fire"})}, "disk on fire")
        self.faulty({("POST", "/create"): lambda h: h.answer(500, {"message": "no luck"})}, "no luck")
        self.faulty({("POST", "/create"): lambda h: h.answer(400, b"")}, "it gave no reason")
        self.faulty({("POST", "/containers/create"): lambda h: h.answer(409, {"message": "the name is taken"})}, "the name is taken")
        self.faulty({("POST", "/start"): lambda h: h.answer(500, {"message": "exec format error"})}, "exec format error")

    def test_each_release_is_spoken_to_in_the_newest_version_that_both_know(self):
        """Of releases that cannot be installed here, by what they say of themselves; MinAPIVersion is 1.44 from Docker 29 on."""
        def paths():
            return {p.split("/")[1] for p in self.fake.raw_paths if p.startswith("/v1.")}
        for release, least, most, spoken in (("24.0.9", "1.12", "1.43", "v1.43"), ("28.5.1", "1.24", "1.51", "v1.50"),
                                             ("29.0.0", "1.44", "1.52", "v1.50")):
            self.agent.kill()
            self.fake.version = {"ApiVersion": most, "MinAPIVersion": least, "Version": release}
            self.fake.raw_paths.clear()
            self.fake.ended.clear()
            self.fake.created = None
            self.agent = self.node.start().process
            alloc = self.run_one()
            self.server.wait_states([alloc], "running", 30)
            self.assertEqual(paths(), {spoken}, release)
            self.fake.ended.set()
            self.assertEqual(self.reason(alloc), "exit code 5")
        # From 1.50 on an image's description leaves out what is empty: no user is root.
        self.faulty({("GET", "/images/x:1/json"): lambda h: h.answer(200, {"Id": "sha256:" + "cd" * 32})}, "runs as root")
        self.fake.faults = {}
        for release, least, most, text in (("19.03.15", "1.12", "1.40", "upgrade Docker to 20.10 or newer"),
                                           ("35.0.0", "1.51", "1.60", "upgrade this agent")):
            self.agent.kill()
            self.fake.version = {"ApiVersion": most, "MinAPIVersion": least, "Version": release}
            self.agent = self.node.start().process
            self.assertIn(text, self.reason(self.run_one()))

    def test_a_create_whose_answer_is_cut_is_found_again(self):
        once = []

        def cut(h):
            if not once:
                once.append(1)
                h.server.created = h.body
                return h.raw(CUT)        # it was created all the same
            return h.well("/containers/create")
        self.fake.faults = {("POST", "/containers/create"): cut}
        alloc = self.run_one()
        self.server.wait_states([alloc], "running", 30)
        self.assertEqual([p for m, p in self.fake.seen].count("/containers/create"), 1)
        self.fake.ended.set()
        self.assertEqual(self.reason(alloc), "exit code 5")

    def test_logs_that_are_cut_damaged_or_endless_do_not_hide_the_end(self):
        stamp = b"2026-01-01T00:00:00.00000000%dZ "
        answers = [
            frame(1, stamp % 1 + b"one\n") + frame(2, stamp % 2 + b"err\n") + frame(1, stamp % 3 + b"two\n")[:-3],
            frame(1, stamp % 1 + b"one\n") + b"\x09\x00\x00\x00\x00\x00\x00\x01x",
            frame(1, stamp % 3 + b"two\n") + frame(1, b"no time\n"),
        ]

        def logs(h):
            if answers:
                return h.raw(b"HTTP/1.1 200 OK\r\nContent-Type: x\r\n\r\n" + answers.pop(0))
            self.fake.ended.wait(60)
            return h.answer(200, frame(1, stamp % 3 + b"two\n") + frame(1, stamp % 4 + b"three\n"))
        self.fake.faults = {("GET", "/logs"): logs}
        alloc = self.run_one()
        wait_for(lambda: not answers, 30, "all broken answers to be taken")
        self.fake.ended.set()
        self.assertEqual(self.reason(alloc), "exit code 5")
        self.assertEqual(self.log_of(alloc), "one\ntwo\nthree\n")
        self.assertEqual(self.log_of(alloc, "stderr"), "err\n")

    def test_an_end_that_the_engine_made_up_is_not_told_as_one(self):
        """An engine that was killed while it started a container says so of it later."""
        self.fake.finished_at = "0001-01-01T00:00:00Z"
        alloc = self.run_one()
        self.server.wait_states([alloc], "running", 30)
        self.fake.ended.set()
        self.assertEqual(self.reason(alloc), "lost: the Docker engine does not know how it ended")
        self.assertFalse(self.server.reports[alloc].get("exited"))

    def test_a_log_that_stalls_is_fetched_again(self):
        entry, stalled, go = frame(1, b"2026-01-01T00:00:00.000000001Z one\n"), [], threading.Event()
        self.addCleanup(go.set)

        def logs(h):
            if "follow=1" in h.path:
                self.fake.ended.wait(60)
                return h.answer(200, b"")
            if stalled:
                return h.answer(200, entry)
            stalled.append(1)
            h.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(entry) + entry[:-3])
            h.wfile.flush()
            go.wait(60)
            h.close_connection = True
        self.fake.faults = {("GET", "/logs"): logs}
        alloc = self.run_one()
        self.server.wait_states([alloc], "running", 30)
        self.fake.ended.set()
        self.assertEqual(self.reason(alloc), "exit code 5")
        self.assertTrue(stalled)
        self.assertEqual(self.log_of(alloc), "one\n")

    def test_a_wait_that_lies_and_one_that_stalls(self):
        self.fake.faults = {("POST", "/wait"): lambda h: h.answer(200, {})}
        alloc = self.run_one()
        self.server.wait_states([alloc], "running", 30)
        count = len(self.fake.seen)
        time.sleep(1)                    # a busy loop would be seen in the number of requests
        self.assertLess(len(self.fake.seen) - count, 60)
        self.fake.ended.set()
        self.assertEqual(self.reason(alloc), "exit code 5")


if __name__ == "__main__":
    enter_namespaces()
    unittest.main(verbosity=2)
