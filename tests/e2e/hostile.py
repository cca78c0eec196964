#!/usr/bin/env python3
"""Bad input to the real programs: files, requests, bodies, clients that are slow on purpose, tasks that cannot run. Each
gets a clear answer, and everybody else is served meanwhile."""
import concurrent.futures
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import (PATIENCE, ROOT, Agent, Server, Workdir, call, exec_service, free_port, job, program,  # noqa: E402
                 resident_kb, sanitized, wait_for)

MB = 1 << 20


def connect(port):
    s = socket.create_connection(("127.0.0.1", port), timeout=20 * PATIENCE)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def answer_of(s):
    """All that comes until the other end closes; what was cut off by its closing is no answer."""
    got = b""
    with contextlib.suppress(OSError):
        while data := s.recv(65536):
            got += data
    return got


POST = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


class Files(unittest.TestCase):
    def validate(self, *args, **kw):
        return subprocess.run([program("mt"), "validate", *args], capture_output=True, text=True, timeout=60 * PATIENCE, **kw)

    def test_broken_files_are_exit_status_2_with_place_and_reason(self):
        folder = os.path.join(ROOT, "tests", "data", "bad-yaml")
        names = sorted(n for n in os.listdir(folder) if n.endswith(".yaml"))
        self.assertGreaterEqual(len(names), 60)
        for name in names[::7]:          # the unit tests look at each of them; here it is what mt makes of it
            done = self.validate(name, cwd=folder)
            with open(os.path.join(folder, name[:-4] + "expected")) as f:
                expected = f.read()
            self.assertEqual((done.returncode, done.stdout), (2, ""), name)
            self.assertIn(expected.strip(), done.stderr, name)

    def test_what_is_no_file_of_services_is_told(self):
        work = Workdir()
        self.addCleanup(work.remove)
        with open(work.join("huge.yaml"), "wb") as f:
            f.truncate(100 * MB)
        with open(work.join("binary.yaml"), "wb") as f:
            f.write(os.urandom(65536))
        bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi"))
        with open(work.join("bomb.yaml"), "w") as f:
            f.write(bomb)
        for name, word in [("missing.yaml", "No such file"), (".", "is a directory"), ("huge.yaml", "larger than"),
                           ("binary.yaml", "binary.yaml:"), ("bomb.yaml", "bomb.yaml:")]:
            done = self.validate(work.join(name), preexec_fn=lambda: resource.setrlimit(
                resource.RLIMIT_AS, (resource.RLIM_INFINITY if sanitized("mt") else 256 * MB, resource.RLIM_INFINITY)))
            self.assertEqual(done.returncode, 2, (name, done.stderr))
            self.assertIn(word.lower(), done.stderr.lower(), name)


class ServerTest(unittest.TestCase):
    def setUp(self):
        self.server = Server().start()
        self.addCleanup(self.server.workdir.remove)
        self.addCleanup(lambda: self.assertEqual(self.server.stop(), 0))

    def peak_kb(self):
        return resident_kb(self.server.process.pid, "VmHWM")

    def assert_bounded(self, before, allowed_mb):
        grown = self.peak_kb() - before
        print(json.dumps({"name": self.id().rsplit(".", 1)[1], "value": grown, "unit": "kB"}), flush=True)
        if not sanitized("mentat-server"):
            self.assertLess(grown, allowed_mb * 1024)


def wrong_values(schema):
    """Values of other types than the schema's, as JSON text."""
    kind = schema.get("type", "object" if "$ref" in schema else None)
    rows = {"integer": ['"three"', "1.5", "[]", "{}", "1e999", "99999999999999999999"], "number": ['"x"', "[]", "{}", "1e999"],
            "string": ["7", "[]", "{}"], "boolean": ['"yes please"', "7", "[]"], "array": ["7", '[{"zz":1}, 7]'],
            "object": ["7", '"x"', "[]"]}
    return rows.get(kind, ["[[[]]]"])


class Requests(ServerTest):
    RAW = [b"{", b"nul", b"[1,2]", b'"text"', b"7", b"\xff\xfe\x00", b'{"zz":1}', b'{"name":"a"} {"name":"b"}',
           b'{"name":"a\\u0000b","name":1}', b"[" * 200000, b'{"a":' * 100000, b'{"name":"\xc3\x28"}', b'{"name":' + b"9" * 100000 + b"}"]

    def operations(self):
        """Path and schema of each operation that takes a body."""
        document = self.server.get("/v1/openapi.json").json
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if method in ("post", "put", "patch"):
                    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
                    name = body.get("$ref", "").rsplit("/", 1)[-1]
                    yield method.upper(), path, document["components"]["schemas"].get(name, {})

    def refused(self, method, path, body):
        answer = self.server.call(method, path, body, {"Content-Type": "application/json"})
        self.assertIn(answer.status, (400, 404, 409, 413), (method, path, body[:80], answer))
        self.assertTrue(answer.error["code"] and answer.error["message"], answer)

    def test_every_operation_refuses_what_it_is_not_made_for(self):
        self.assertLess(self.server.post("/v1/jobs", job("web", exec_service("web", 0))).status, 300)
        wait_for(lambda: self.server.items("/v1/deployments")[0]["state"] == "successful", what="a settled service")
        look = lambda: [self.server.get(path).json["items"] for path in (     # noqa: E731
            "/v1/jobs", "/v1/services", "/v1/services/web/versions", "/v1/allocs", "/v1/nodes")]
        before, count = look(), 0
        for method, path, schema in self.operations():
            path = path.replace("{job}", "web").replace("{service}", "web").replace("{alloc}", "aaaaaaaaaaaa")
            path = path.replace("{node}", "n1")
            bodies = self.RAW + [f'{{"{name}":{value}}}'.encode() for name, of in schema.get("properties", {}).items()
                                 for value in wrong_values(of)]
            for body in bodies:
                self.refused(method, path, body)
                count += 1
        self.assertGreater(count, 300)
        self.assertEqual(look(), before)
        self.assertNotIn('status="5xx"', self.server.get("/v1/metrics").body.decode())

    def test_what_is_no_http_is_cut_off_with_an_answer(self):
        for sent, status in [(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500), b"400"),
                             (b"hello\r\n\r\n", b"400"), (b"GET\r\n\r\n", b"400"),
                             (b"GET / HTTP/1.1\r\nHost x\r\n\r\n", b"400"),
                             (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"414"),
                             (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 10000 + b"\r\n", b"431"),
                             (POST + b"Content-Length: -1\r\n\r\n", b"400"),
                             (POST + b"Content-Length: 99999999999999999999999\r\n\r\n", b"4"),
                             (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
                             (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
                              b"400")]:
            with connect(self.server.port) as s:
                s.sendall(sent)
                s.shutdown(socket.SHUT_WR)
                got = answer_of(s)
                self.assertTrue(got.startswith(b"HTTP/1.1 " + status), (sent[:60], got[:100]))
        for target in ("/v1/jobs/../../etc/passwd", "/v1/jobs/%2e%2e%2fx", "/v1/jobs/%00", "//v1/jobs", "/v1/jobs/%zz", "/v2/jobs"):
            self.assertIn(self.server.get(target).status, (400, 404), target)
        self.assertEqual(self.server.get("/v1/healthz").status, 200)

    def send_100_mb(self, head, piece):
        """How much of it was taken, and the answer."""
        taken = 0
        with connect(self.server.port) as s:
            s.sendall(head)
            with contextlib.suppress(OSError):
                while taken < 100 * MB:
                    taken += s.send(piece)
            return taken, answer_of(s)

    def test_bodies_of_100_mb_are_refused_early(self):
        before = self.peak_kb()
        head = POST
        block = b"x" * 65536
        kinds = [(head + b"Content-Length: 104857600\r\n\r\n", block),
                 (head + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n" % (len(block), block))]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            done = list(pool.map(lambda i: self.send_100_mb(*kinds[i % 2]), range(16)))
        for taken, _ in done:
            self.assertLess(taken, 20 * MB)         # what fits into both sockets' buffers, and no more
        self.assertTrue(any(b" 413 " in got for _, got in done), "nobody was told why")
        self.assert_bounded(before, 16 * 4)
        self.assertEqual(self.server.get("/v1/healthz").status, 200)


class Slow(ServerTest):
    def setUp(self):
        super().setUp()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        self.open = []
        self.addCleanup(self.close)

    def close(self):
        for s in self.open:
            s.close()

    def drip(self, port, count, head, pieces):
        """So many clients that send the head and then, round after round, one more piece each, until all are cut off.
        Returns the thread."""
        self.open = [connect(port) for _ in range(count)]

        def run():
            live = list(self.open)
            for s in live:
                s.sendall(head)
            for piece in pieces:
                for s in list(live):
                    try:
                        s.sendall(piece)
                    except OSError:
                        live.remove(s)
                if not live:
                    return
                time.sleep(0.2)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def serve_meanwhile(self, thread, work):
        """A normal client's times, as long as the others are there."""
        times = []
        while thread.is_alive() or len(times) < 50:
            begin = time.monotonic()
            work(len(times))
            times.append(time.monotonic() - begin)
            time.sleep(0.002)
        times.sort()
        print(json.dumps({"name": self.id().rsplit(".", 1)[1], "value": round(times[len(times) // 2] * 1000, 2), "unit": "ms",
                          "p99": round(times[len(times) * 99 // 100] * 1000, 2), "requests": len(times)}), flush=True)

    def read_and_write(self, i):
        self.assertEqual(self.server.get("/v1/services").status, 200)
        if i % 20 == 0:
            self.assertLess(self.server.post("/v1/jobs", job("web", exec_service("web", 0, meta={"n": str(i)}))).status, 300)

    def told(self, word):
        return sum(word in answer_of(s) for s in self.open)

    def test_2000_clients_that_never_end_their_head(self):
        before = self.peak_kb()
        thread = self.drip(self.server.port, 2000, b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", [b"a"] * 1000)
        self.serve_meanwhile(thread, self.read_and_write)
        self.assert_bounded(before, 2000 * 0.025)
        wait_for(lambda: len(os.listdir(f"/proc/{self.server.process.pid}/fd")) < 100, 30, "the end of the slow connections")
        self.assertGreater(self.told(b" 408 "), 0)

    def test_500_clients_that_never_end_their_body(self):
        before = self.peak_kb()
        thread = self.drip(self.server.port, 500, POST + b"Content-Length: 1000000\r\n\r\n",
                           [b"{"] * 1000)
        self.serve_meanwhile(thread, self.read_and_write)
        self.assert_bounded(before, 500 * 0.05)
        self.assertGreater(self.told(b" 408 "), 0)

    def test_500_slow_clients_of_an_agent(self):
        agent = Agent(self.server, "n1").start()
        self.addCleanup(lambda: self.assertEqual(agent.end(), []))
        wait_for(lambda: self.server.items("/v1/nodes"), 20, "the node")
        thread = self.drip(agent.port, 500, b"GET /v1/allocs HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", [b"a"] * 1000)

        def scale(i):
            count = i % 3 + 1
            self.assertLess(self.server.post("/v1/jobs", job("web", exec_service("web", count))).status, 300)
            wait_for(lambda: self.server.get("/v1/services/web").json["status"]["running"] == count, 20, "the replicas")
            self.assertEqual(call(agent.port, "GET", "/v1/healthz").status, 200)
        self.serve_meanwhile(thread, scale)


class Tasks(ServerTest):
    def setUp(self):
        super().setUp()
        self.agent = Agent(self.server, "n1").start()
        self.addCleanup(lambda: self.assertEqual(self.agent.end(), []))
        wait_for(lambda: self.server.items("/v1/nodes"), 20, "the node")
        self.files = Workdir()
        self.addCleanup(self.files.remove)

    def write(self, name, text="", mode=0o644):
        with open(self.files.join(name), "w") as f:
            f.write(text)
        os.chmod(f.name, mode)
        return f.name

    def run_mt(self, name, **more):
        """Of a service that tries once, unless told otherwise."""
        service = exec_service(name, restart={"attempts": 0, "then": "fail"}, **more)
        return self.server.mt("run", self.write(name + ".json", json.dumps(service)))       # JSON is YAML too

    def assert_fails(self, name, *words, **more):
        done = self.run_mt(name, **more)
        self.assertEqual(done.returncode, 1, done)
        for word in words:
            self.assertIn(word, done.stderr)
        self.assertIn(words[0], self.server.mt("explain", name).stdout)

    def test_what_cannot_run_says_why_and_leaves_nothing(self):
        missing, folder = self.files.join("missing"), self.files.path
        plain, script = self.write("plain"), self.write("script", "#!/no/such/interpreter\n", 0o755)
        command = lambda path, **more: {"config": {"command": [path], "args": [], **more}}       # noqa: E731
        self.assert_fails("missing", missing, "n1", **command(missing))
        self.assert_fails("plain", plain, "not executable", **command(plain))
        self.assert_fails("folder", folder, **command(folder))
        self.assert_fails("script", script, "interpreter", **command(script))
        self.assert_fails("user", "nobody-at-all", "n1", **command("/bin/true", user="nobody-at-all"))
        self.assert_fails("workdir", missing, **command("/bin/true", workdir=missing))
        self.assert_fails("meta", "nowhere", **command("/bin/echo", args=["${meta.nowhere}"]))
        self.assertEqual(self.agent.processes() + self.agent.groups(), [])
        self.assertEqual(self.server.mt("stop", "--purge", "missing", "plain", "folder", "script", "user", "workdir", "meta")
                         .returncode, 0)
        wait_for(lambda: not self.agent.left_over(), 20, "nothing left on the node")

    def test_a_port_of_another_program_is_told_and_taken_once_it_is_free(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            ports = [{"name": "http", "port": 80, "host": port}]
            self.assert_fails("web", f"host port {port}/tcp", "taken by another program", ports=ports)
        self.assertEqual(self.run_mt("web", ports=ports, env={"TRY": "2"}).returncode, 0)

    def test_a_port_of_another_service_is_told_and_taken_once_it_is_free(self):
        ports = [{"name": "http", "port": 80, "host": free_port()}]
        self.assertEqual(self.run_mt("first", ports=ports).returncode, 0)
        path = self.write("second.json", json.dumps(exec_service("second", ports=ports)))
        self.assertEqual(self.server.mt("run", "--detach", path).returncode, 0)
        wait_for(lambda: f"host port {ports[0]['host']}/tcp is taken" in self.server.mt("status").stdout, 20, "the reason")
        self.assertIn("is taken", self.server.mt("plan", self.write("third.json", json.dumps(
            exec_service("third", ports=ports)))).stdout)
        self.assertEqual(self.server.mt("stop", "first").returncode, 0)
        wait_for(lambda: self.server.get("/v1/services/second").json["status"]["running"] == 1, 20, "the second service")

    def test_tasks_that_misbehave_do_not_spoil_the_others(self):
        """One ends at once again and again, one floods its log, one forks away and ignores SIGTERM."""
        sh = lambda script: {"config": {"command": ["/bin/sh"], "args": ["-c", script]}}         # noqa: E731
        services = [exec_service("good"),
                    exec_service("crasher", 5, restart={"attempts": 1000000, "delay": "1ms"}, **sh("exit 3")),
                    exec_service("flood", logs={"max_files": 2, "max_mb": 1}, **sh("yes a flood of lines")),
                    exec_service("stubborn", kill={"timeout": "500ms"},
                                 **sh("trap '' TERM; (setsid sleep 100000 &); while :; do sleep 100; done"))]
        self.assertEqual(self.server.post("/v1/jobs", job("mixed", *services)).status, 200)
        wait_for(lambda: all(self.server.get(f"/v1/services/{n}").json["status"]["running"] == 1
                             for n in ("good", "flood", "stubborn")), 30, "the others")
        pid = next(a["pid"] for a in self.agent.get("/v1/allocs").json if a["service"] == "good")
        wait_for(lambda: sum(a["restarts"] for a in self.server.items("/v1/allocs?service=crasher")) >= 15, 60, "restarts")
        flood, = self.server.items("/v1/allocs?service=flood")
        folder = f"{self.agent.flags['data_dir']}/allocs/{flood['id']}/logs"
        first = set(os.listdir(folder))
        wait_for(lambda: not first & set(os.listdir(folder)), 30, "every first log file rotated away")
        self.assertLess(sum(os.stat(os.path.join(folder, f)).st_size for f in os.listdir(folder)), 3 * MB)
        begin = time.monotonic()
        self.assertEqual(self.server.mt("stop", "stubborn").returncode, 0)
        self.assertGreater(time.monotonic() - begin, 0.4)
        good, = self.server.items("/v1/allocs?service=good")
        self.assertEqual((good["state"], good["restarts"]), ("running", 0))
        os.kill(pid, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
