#!/usr/bin/env python3
"""The real mentat-agent against a fake server: tasks outlive it, nothing runs twice, full disks, its API, its end."""
import functools
import http.server
import json
import os
import random
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import unittest
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from authority import Authority  # noqa: E402
from lib import PATIENCE, Agent, SmallDisk, call, program, resident_kb, sanitized, wait_for  # noqa: E402


@functools.cache
def certificates():
    """Of one authority for all tests: how the server takes connections and makes them, and the flags of its agent n1."""
    ours = Authority()
    identity = ours.issue("server-1", "DNS:1.server.mentat", "IP:127.0.0.1")
    takes, makes = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ours.ca), ours.context(*identity)
    takes.load_cert_chain(*identity)
    takes.verify_mode, makes.check_hostname = ssl.CERT_REQUIRED, False
    return takes, makes, {"bind": "127.0.0.1", **ours.agent_flags("n1")}


class FakeServer:
    """Speaks the agents' routes of a server; the test says what the node is to run. tls: how it takes connections; None: plain."""

    def __init__(self, tls=None):
        self.changed = threading.Condition()
        self.index, self.services, self.allocs, self.gone = 1, {}, {}, []
        self.reports, self.registrations = {}, []
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536         # one segment for head and body: no wait for a delayed acknowledgement

            def log_message(self, *args):
                pass

            def answer(self, status, body=None):
                data = b"" if body is None else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/v1/agent/register":
                    with fake.changed:
                        fake.registrations.append(body["node"])
                    self.answer(200, {"heartbeat": "500ms", "index": fake.index})
                    return
                if self.path == "/v1/agent/report":
                    with fake.changed:
                        for a in body["allocs"]:
                            if a["id"] not in fake.reports or fake.reports[a["id"]]["seq"] < a["seq"]:
                                fake.reports[a["id"]] = a
                        fake.changed.notify_all()
                self.answer(204)

            def do_GET(self):
                query = dict(urllib.parse.parse_qsl(urllib.parse.urlparse(self.path).query))
                asked = int(query["index"])
                with fake.changed:
                    if asked:
                        fake.changed.wait_for(lambda: fake.index > asked, 20)
                    work = {"index": fake.index, "full": not asked, "services": list(fake.services.values()),
                            "allocs": list(fake.allocs.values()), "gone": fake.gone}
                self.answer(200, work)

        class Threaded(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 100

            def handle_error(self, *args):
                pass                 # an agent that was killed in the middle of a request

        self.http = Threaded(("127.0.0.1", 0), Handler)
        self.port = self.http.server_address[1]
        if tls:                      # each connection begins on its own thread
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()

    def service(self, name, script, **spec):
        config = {"command": ["/bin/sh"], "args": ["-c", script]}
        config.update(spec.pop("config", {}))
        self.services[name] = {"service": name, "job": name, "version": 1, "spec": {
            "name": name, "driver": "exec", "config": config, "resources": {"cpus": 0.01, "memory_mb": 16}, **spec}}

    def want(self, service, count=1, first=0):
        """Wants `count` more allocations of the service; returns their ids."""
        ids = []
        with self.changed:
            for i in range(first, first + count):
                ids.append(f"{random.getrandbits(48):012x}")
                self.allocs[ids[-1]] = {"id": ids[-1], "service": service, "job": service, "version": 1, "replica": i,
                                        "desired": "run", "state": "pending"}
            self.step()
        return ids

    def change(self, ids, **fields):
        with self.changed:
            for i in ids:
                self.allocs[i].update(fields)
            self.step()

    def forget(self, ids):
        with self.changed:
            for i in ids:
                del self.allocs[i]
            self.gone = list(ids)
            self.step()

    def step(self):
        self.index += 1
        self.changed.notify_all()

    def states(self, ids):
        with self.changed:
            return [self.reports.get(i, {}).get("state") for i in ids]

    def wait_states(self, ids, state, timeout=10):
        wait_for(lambda: all(s == state for s in self.states(ids)), timeout, f"{state} of {len(ids)} allocations")


class AgentTest(unittest.TestCase):
    flags, secure = {}, False

    def setUp(self):
        takes, makes, more = certificates() if self.secure else (None, None, {})
        self.server = FakeServer(takes)
        self.addCleanup(self.server.close)
        self.node = Agent(self.server, "n1", **self.flags, **more)
        self.node.tls = makes
        self.workdir, self.port, self.data = self.node.workdir, self.node.port, self.node.flags["data_dir"]
        self.get, self.wait_api, self.left_over = self.node.get, self.node.wait_api, self.node.left_over
        self.start()
        self.addCleanup(lambda: self.assertEqual(self.node.end(), []))

    def start(self):
        self.agent = self.node.start().process

    def log_of(self, alloc, stream="stdout"):
        return self.get(f"/v1/allocs/{alloc}/logs?stream={stream}").body.decode()

    def pid_of(self, alloc):
        return next((a["pid"] for a in self.get("/v1/allocs").json if a["id"] == alloc), 0)


class Outliving(AgentTest):
    secure = True

    def test_tasks_outlive_kills_and_none_runs_twice(self):
        starts, ends = self.workdir.join("starts"), self.workdir.join("ends")
        os.mkdir(starts)
        os.mkdir(ends)
        self.server.service("long", f"echo $$ >> {starts}/$MENTAT_ALLOC_ID; exec sleep 1000")
        self.server.service("short", f"echo $$ >> {starts}/$MENTAT_ALLOC_ID; echo begin; sleep 0.$((RANDOM % 9)); echo end; "
                            "exit $((10 + MENTAT_REPLICA))", mode="task", restart={"attempts": 0})
        long_ones, short_ones = self.server.want("long", 10), []
        for round_ in range(25):
            short_ones += self.server.want("short", 2, first=2 * round_)
            time.sleep(random.random() * 0.15)          # the moment of the kill is the point
            self.agent.kill()
            self.start()
        self.server.wait_states(short_ones, "failed", 60)
        self.server.wait_states(long_ones, "running", 30)
        self.wait_api()              # all of that may have been reported before the last kill
        for i, alloc in enumerate(short_ones):
            report = self.server.reports[alloc]
            self.assertEqual((report["exited"], report["exit_code"]), (True, 10 + i), report)
            self.assertEqual(self.log_of(alloc), "begin\nend\n")
        for alloc in long_ones + short_ones:
            with open(f"{starts}/{alloc}") as f:
                self.assertEqual(len(f.read().split()), 1, "started more than once")
        for alloc in long_ones:
            with open(f"{starts}/{alloc}") as f:
                self.assertEqual(int(f.read()), wait_for(lambda a=alloc: self.pid_of(a), 10, "the adopted task"))

    def test_an_upgrade_leaves_tasks_running_and_restarts_are_counted_on(self):
        self.server.service("s", "sleep 1000")
        alloc, = self.server.want("s")
        self.server.wait_states([alloc], "running")
        pid = wait_for(lambda: self.pid_of(alloc))
        self.assertEqual(self.agent.stop(), 0)
        os.kill(pid, 0)
        self.start()
        wait_for(lambda: self.pid_of(alloc) == pid, 10, "the adopted task")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.server.reports[alloc]["restarts"] == 1 and self.server.states([alloc]) == ["running"], 10,
                 "the restart")
        self.assertNotEqual(self.pid_of(alloc), pid)

    def test_a_lost_store_does_not_lose_the_tasks(self):
        self.server.service("s", "sleep 1000")
        kept, unwanted = self.server.want("s", 2)
        self.server.wait_states([kept, unwanted], "running")
        pids = [wait_for(lambda a=a: self.pid_of(a)) for a in (kept, unwanted)]
        self.agent.kill()
        os.unlink(self.data + "/store.mdb")
        with self.server.changed:
            del self.server.allocs[unwanted]
        self.server.change([kept], state="running")
        self.start()
        wait_for(lambda: self.pid_of(kept) == pids[0], 10, "the adopted task")
        wait_for(lambda: not os.path.exists(f"{self.data}/allocs/{unwanted}"), 20, "the end of the unwanted task")
        self.assertFalse(os.path.exists(f"/proc/{pids[1]}"))

    def test_servers_that_are_away_do_not_stop_restarts(self):
        self.server.service("s", "sleep 1000", restart={"attempts": 5, "delay": "10ms"})
        alloc, = self.server.want("s")
        self.server.wait_states([alloc], "running")
        self.server.close()
        pid = self.pid_of(alloc)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.pid_of(alloc) not in (0, pid), 10, "the restart")


class Store(AgentTest):
    def test_a_damaged_store_is_a_clear_error(self):
        self.server.service("s", "sleep 1000")
        alloc, = self.server.want("s")
        self.server.wait_states([alloc], "running")
        self.agent.kill()
        with open(self.data + "/store.mdb", "r+b") as f:
            f.truncate(8192 + 100)
        self.start()
        self.assertEqual(self.agent.child.wait(10 * PATIENCE), 1)
        self.assertRegex(self.agent.text(), r"store\.mdb: the agent's store is damaged.*move the file away")
        os.unlink(self.data + "/store.mdb")

    def test_two_agents_do_not_share_a_data_dir(self):
        self.wait_api()
        second = subprocess.run([program("mentat-agent"), "--data-dir", self.data, "--port", "0", "--name", "n2"],
                                capture_output=True, text=True, timeout=20)
        self.assertEqual(second.returncode, 1)
        self.assertIn("another agent uses this data_dir", second.stderr)


@unittest.skipUnless(os.geteuid() == 0, "mounting a small file system needs root")
class FullDisk(AgentTest):
    secure = True

    def setUp(self):
        self.disk = SmallDisk(3)
        self.addCleanup(self.disk.remove)
        self.flags = {"data_dir": self.disk.join("agent")}
        super().setUp()

    def test_tasks_go_on_new_ones_wait_and_start_once_there_is_room(self):
        self.server.service("s", "while :; do echo line; sleep 0.05; done")
        first, = self.server.want("s")
        self.server.wait_states([first], "running")
        pid = wait_for(lambda: self.pid_of(first))
        self.disk.fill()
        late = self.server.want("s", 3, first=1)
        wait_for(lambda: all("cannot write its state" in self.server.reports.get(i, {}).get("reason", "") for i in late),
                 20, "the reason of the refusal")
        self.assertEqual(self.server.states(late), ["starting"] * 3)
        wait_for(lambda: not self.server.registrations[-1]["drivers"][0]["healthy"], 10, "the node's own report")
        os.kill(pid, 0)
        self.assertEqual(self.get("/v1/healthz").status, 200)
        self.disk.make_room()
        self.server.wait_states(late, "running", 20)
        wait_for(lambda: self.server.registrations[-1]["drivers"][0]["healthy"], 10, "the node's recovery")
        self.assertEqual(self.pid_of(first), pid)


class Api(AgentTest):
    def setUp(self):
        super().setUp()
        self.server.service("s", "trap 'echo got it' HUP; echo one; echo two; echo bad >&2; while :; do sleep 0.05; done",
                            ports=[])
        self.alloc, = self.server.want("s")
        self.server.wait_states([self.alloc], "running")

    def test_logs_tail_and_follow_to_the_end(self):
        wait_for(lambda: self.log_of(self.alloc) == "one\ntwo\n")
        wait_for(lambda: self.log_of(self.alloc, "stderr") == "bad\n")
        self.assertEqual(self.get(f"/v1/allocs/{self.alloc[:8]}/logs?tail=1").body, b"two\n")
        with socket.create_connection(("127.0.0.1", self.port)) as s:
            s.sendall(f"GET /v1/allocs/{self.alloc}/logs?follow=true HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            s.settimeout(10 * PATIENCE)
            seen = b""
            while b"two\n" not in seen:
                seen += s.recv(4096)
            answer = call(self.port, "POST", f"/v1/allocs/{self.alloc}/signal", {"signal": "SIGHUP"})
            self.assertEqual(answer.status, 204, answer)
            while b"got it\n" not in seen:
                seen += s.recv(4096)
            self.server.change([self.alloc], desired="stop", desired_reason="scaled down")
            while not seen.endswith(b"0\r\n\r\n"):
                more = s.recv(4096)
                self.assertTrue(more, "cut off before the end of the answer")
                seen += more
        self.server.wait_states([self.alloc], "complete")
        self.assertEqual(self.server.reports[self.alloc]["reason"], "scaled down")

    def test_web_pages_cannot_use_the_agent(self):
        path, signal = f"/v1/allocs/{self.alloc}/signal", b'{"signal":"SIGHUP"}'
        for status, headers in [(415, {"Content-Type": "text/plain"}), (403, {"Host": "evil.example"}),
                                (403, {"Origin": "http://evil.example"})]:
            self.assertEqual(call(self.port, "POST", path, signal, headers).status, status, headers)
        upgrade = {"Connection": "Upgrade", "Upgrade": "mentat-exec", "Origin": "http://evil.example"}
        answer = call(self.port, "GET", f"/v1/allocs/{self.alloc}/exec?command=%5B%22id%22%5D", headers=upgrade)
        self.assertEqual(answer.status, 403, answer)

    def exec(self, command, stdin=b""):
        """Returns (stdout, exit code)."""
        query = urllib.parse.urlencode({"command": json.dumps(command)})
        with socket.create_connection(("127.0.0.1", self.port)) as s:
            s.settimeout(10 * PATIENCE)
            s.sendall(f"GET /v1/allocs/{self.alloc}/exec?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                      "Upgrade: mentat-exec\r\n\r\n".encode())
            f = s.makefile("rb")
            self.assertIn(b" 101 ", f.readline())
            while f.readline() != b"\r\n":
                pass
            threading.Thread(target=lambda: s.sendall(
                b"".join(struct.pack(">BI", 0, len(stdin[i:i + 60000])) + stdin[i:i + 60000]
                         for i in range(0, len(stdin), 60000)) + struct.pack(">BI", 5, 0)), daemon=True).start()
            out = b""
            while True:
                channel, length = struct.unpack(">BI", f.read(5))
                payload = f.read(length)
                if channel == 4:
                    return out, struct.unpack(">i", payload)[0]
                out += payload

    def test_exec_runs_in_the_task_with_its_environment_and_exit_code(self):
        self.assertEqual(self.exec(["/bin/sh", "-c", "echo $MENTAT_SERVICE; exit 7"]), (b"s\n", 7))
        data = os.urandom(3_000_000)
        self.assertEqual(self.exec(["/bin/cat"], data), (data, 0))
        out, code = self.exec(["/no/such/program"])
        self.assertNotEqual(code, 0)
        self.assertTrue(out)

    def test_bad_requests_get_clear_errors(self):
        for method, path, body, status in [
                ("GET", "/v1/nothing", None, 404), ("GET", "/v1/allocs/ffffffffffff/logs", None, 404),
                ("GET", f"/v1/allocs/{self.alloc}/logs?tail=x", None, 400),
                ("GET", f"/v1/allocs/{self.alloc}/logs?stream=x", None, 400),
                ("GET", f"/v1/allocs/{self.alloc}/logs?since=x", None, 400),
                ("GET", f"/v1/allocs/{self.alloc}/exec?command=[]", None, 400),
                ("POST", f"/v1/allocs/{self.alloc}/signal", {"signal": "SIGNOPE"}, 400),
                ("POST", f"/v1/allocs/{self.alloc}/signal", {"sig": 1}, 400),
                ("POST", f"/v1/allocs/{self.alloc}/signal", b"{", 400)]:
            answer = call(self.port, method, path, body)
            self.assertEqual(answer.status, status, (path, answer))
            self.assertTrue(answer.error["message"])

    def test_metrics_count(self):
        text = self.get("/v1/metrics").body.decode()
        self.assertIn('mentat_agent_allocs{state="running"} 1\n', text)
        self.assertIn("mentat_agent_starts_total 1\n", text)


class Bad(AgentTest):
    def test_what_cannot_run_fails_with_a_reason(self):
        quick = {"restart": {"attempts": 1, "delay": "10ms"}}
        rows = {
            "missing": ({"config": {"command": ["/no/such/program"], "args": []}}, "/no/such/program"),
            "nouser": ({"config": {"user": "no-such-user"}}, "no-such-user"),
            "meta": ({"env": {"X": "${meta.nowhere}"}}, "nowhere"),
            "volume": ({"volumes": [{"source": "/etc", "target": "/x"}]}, "volume_root"),
        }
        for name, (spec, _) in rows.items():
            self.server.service(name, "sleep 1000", **{**quick, **spec})
        ids = {name: self.server.want(name)[0] for name in rows}
        self.server.wait_states(list(ids.values()), "failed", 20)
        for name, (_, word) in rows.items():
            self.assertIn(word, self.server.reports[ids[name]]["reason"])

    def test_bad_configuration_is_refused(self):
        for args, word in [(["--no-such-key=1"], "no-such-key"), (["--port=99999"], "port"), (["--bind=0.0.0.0", "--tls=off"], "tls"),
                           (["--data-dir=relative"], "absolute"), (["--tls-cert=x"], "tls_key")]:
            done = subprocess.run([program("mentat-agent")] + args, capture_output=True, text=True, timeout=10)
            self.assertEqual(done.returncode, 2, (args, done.stderr))
            self.assertIn(word, done.stderr.replace("_", "-") if word == "no-such-key" else done.stderr)


class Volumes(AgentTest):
    def order(self, method, name, service="db", replica=0, **more):
        query = urllib.parse.urlencode({"service": service, "replica": replica, **more})
        a = call(self.port, method, f"/v1/volumes/{urllib.parse.quote(name, safe='')}?{query}")
        return a.status, a.error["message"] if a.status >= 400 else ""

    def told(self):
        """As the servers were told last."""
        return [(v["name"], v["service"], v["replica"], v.get("size_mb", 0)) for v in self.server.registrations[-1].get("volumes", [])]

    def test_volumes_are_made_and_deleted_and_nothing_else_is(self):
        root = self.node.flags["volume_root"]
        outside = self.workdir.join("outside")
        for path in (root, outside + "/0", root + "/bare/0"):
            os.makedirs(path)
        os.symlink(outside, root + "/link")
        for path in (outside, root + "/link", root + "/bare"):
            with open(path + "/0.owner", "w") as f:
                f.write("db 0\n")
        self.server.service("db", "echo word >$MENTAT_VOLUME_DATA/file; exec sleep 1000", volumes=[{"source": "db", "target": "/data"}])
        db, = self.server.want("db")
        self.server.wait_states([db], "running")
        wait_for(lambda: os.path.exists(root + "/db/0/file"), 10, "its file")
        for name, status, word in (("db/0", 409, db), ("db", 409, db), ("../outside/0", 400, "below the volume root"), ("/etc", 400, "below"),
                                   ("bare/../db", 400, "below"), ("", 400, ""), (".", 400, "below"), ("a/b/c", 400, "below"),
                                   ("link/0", 403, "leads to"), ("nothing/0", 404, "no volume"), ("bare", 404, "no volume")):
            with self.subTest(name):
                got, text = self.order("DELETE", name)
                self.assertTrue(got == status or not name and got >= 400, (got, text))
                self.assertIn(word, text)
        status, text = self.order("DELETE", "bare/0", replica=1)
        self.assertEqual(status, 409, text)
        self.server.forget([db])
        wait_for(lambda: not self.left_over(), 20, "its end")
        self.assertTrue(os.path.exists(root + "/db/0/file"))
        # What an agent that was killed left of a deletion is a volume, too.
        os.rename(root + "/bare/0", root + "/bare/0.deleted")
        os.rename(root + "/bare/0.owner", root + "/bare/0.deleted.owner")
        for name in ("db/0", "bare/0.deleted"):
            self.assertEqual(self.order("DELETE", name), (204, ""))
        wait_for(lambda: os.listdir(root + "/db") + os.listdir(root + "/bare") == [], 10, "their files gone")
        # An image, which only its own machine may have.
        self.assertEqual(self.order("PUT", "web/2", "web", 2, size_mb=16), (204, ""))
        wait_for(lambda: self.told() == [("web/2", "web", 2, 16)], 10, "word of it")
        image = root + "/web/2/volume.ext4"
        subprocess.run(["e2fsck", "-fn", image], check=True, capture_output=True)
        for name, more, status, word in (("web/2", {}, 409, "already"), ("big/0", {"size_mb": 1 << 30}, 507, "left"), ("link/1", {}, 403, "leads to"),
                                         ("a/b/c", {}, 400, "below")):
            got, text = self.order("PUT", name, "web", 2, **{"size_mb": 16, **more})
            self.assertEqual(got, status, text)
            self.assertIn(word, text)
        self.assertFalse(os.path.exists(root + "/big/0"))
        with open(image, "r+b"):
            status, text = self.order("DELETE", "web/2", "web", 2)
            self.assertEqual(status, 409, text)
            self.assertIn(f"process {os.getpid()}", text)
        self.assertEqual(self.order("DELETE", "web/2", "web", 2), (204, ""))
        self.assertFalse(os.path.exists(root + "/web/2"))
        wait_for(lambda: self.told() == [], 10, "word of that")
        self.assertEqual(sorted(os.listdir(outside)), ["0", "0.owner"])


class Many(AgentTest):
    def test_a_thousand_tasks_start_and_leave_nothing(self):
        self.server.service("s", "", config={"command": ["/bin/sleep"], "args": ["1000"]},
                            resources={"cpus": 0.001, "memory_mb": 8})
        wait_for(lambda: self.server.registrations)
        begin = time.monotonic()
        ids = self.server.want("s", 1000)
        self.server.wait_states(ids, "running", 60)
        print(json.dumps({"name": "agent_start_1000_tasks", "value": round(time.monotonic() - begin, 2), "unit": "s"}))
        print(json.dumps({"name": "agent_memory_1000_tasks", "value": resident_kb(self.agent.pid), "unit": "kB"}))
        if not sanitized("mentat-agent"):
            self.assertLess(resident_kb(self.agent.pid), 20 * 1024)
        self.agent.kill()
        self.start()
        wait_for(lambda: sum(1 for a in self.get("/v1/allocs").json if a["phase"] == "up") == 1000, 30, "adoption")
        begin = time.monotonic()
        self.server.forget(ids)
        wait_for(lambda: not self.left_over(), 60, "nothing left", every=0.1)
        print(json.dumps({"name": "agent_stop_1000_tasks", "value": round(time.monotonic() - begin, 2), "unit": "s"}))


if __name__ == "__main__":
    unittest.main(verbosity=2)
