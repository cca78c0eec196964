"""For the tests of the ingress: a table of routes without servers, replicas inside the test, and a client that counts."""
import contextlib
import glob
import http.client
import http.server
import json
import os
import socket
import sys
import threading
import time
import traceback
import urllib.parse

from lib import Agent, free_port, wait_for

HAPROXY = os.environ.get("MENTAT_HAPROXY", "/usr/sbin/haproxy")


class Quiet(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request, address):
        """Who hung up is no news. Anything else would look like the proxy's mistake: a replica that breaks off is a 502."""
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc()


class TableServer:
    """Speaks the agents' routes: no work, and the table of routes that the test sets."""

    def __init__(self):
        self.index, self.routes = 1, []
        self.report, self.changed = {}, threading.Condition()
        self.stopping = False
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self, status, body=None):
                text = json.dumps(body).encode() if body is not None else b""
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/v1/agent/register":
                    outer.node = body["node"]
                    self.answer(200, {"heartbeat": "1s", "index": 1, "servers": [], "cluster": "test"})
                    return
                if self.path == "/v1/agent/ingress":
                    with outer.changed:
                        outer.report = body
                        outer.changed.notify_all()
                self.answer(204)

            def do_GET(self):
                path, _, query = self.path.partition("?")
                index = int(urllib.parse.parse_qs(query).get("index", ["0"])[0])
                with outer.changed:
                    outer.changed.wait_for(lambda: outer.stopping or index == 0 or
                                           (path.endswith("/ingress") and index < outer.index), 5)
                    if path == "/v1/agent/ingress":
                        self.answer(200, {"index": outer.index, "routes": outer.routes})
                    else:
                        self.answer(200, {"index": 1, "full": True})

            def log_message(self, *args):
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def set(self, routes):
        """The table from now on; returns its index."""
        with self.changed:
            self.routes, self.index = routes, self.index + 1
            self.changed.notify_all()
            return self.index

    def applied(self, index=None, timeout=10):
        """Waits until the node says that the table is in force."""
        index = index or self.index
        with self.changed:
            if not self.changed.wait_for(lambda: self.report.get("applied", 0) >= index, timeout):
                raise AssertionError(f"table {index} is not in force; the last report: {self.report}")
            return self.report

    def idle(self, alloc, timeout=10):
        with self.changed:
            if not self.changed.wait_for(lambda: alloc in (self.report.get("idle") or []), timeout):
                raise AssertionError(f"{alloc} is not idle; the last report: {self.report}")

    def put(self, routes):
        self.set(routes)
        return self.applied()

    def stop(self):
        with self.changed:
            self.stopping = True
            self.changed.notify_all()
        self.http.shutdown()
        self.http.server_close()


class LyingServer:
    """Stands between agents and a server. Leaving replicas look like all others to the agents, and are idle for the server."""

    def __init__(self, server):
        leaving = {}

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def pass_on(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
                ingress = self.path.startswith("/v1/agent/ingress")
                if ingress and body:
                    report = json.loads(body)
                    body = json.dumps({**report, "idle": sorted(leaving)}).encode()
                answer = server.call(self.command, self.path, body)
                text = answer.body
                if ingress and self.command == "GET" and answer.status == 200:
                    text = json.dumps(self.hide(answer.json)).encode()
                self.send_response(answer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def hide(self, table):
                for r in table["routes"]:
                    for t in r["targets"]:
                        if t.get("leaving"):
                            leaving[t["alloc"]] = True
                            t.update(leaving=False, weight=100)
                return table

            do_GET = do_POST = pass_on

            def log_message(self, *args):
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


class Replica:
    """Answers with its name; /slow?N takes N seconds, /size?N gives N bytes, others say what they were asked."""

    numbers = iter(range(1, 1 << 20))

    def __init__(self, name, version=1):
        self.name, self.version = name, version
        self.alloc = "%012x" % next(Replica.numbers)
        self.requests, self.peers = [], set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                outer.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                path, _, number = self.path.partition("?")
                body = f"{outer.name} {self.path}".encode()
                if path == "/slow":
                    time.sleep(float(number))
                if path == "/size":
                    body = b"x" * int(number)
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("X-Replica", outer.name)
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.do_GET()

            def log_message(self, *args):
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def target(self, weight=100, leaving=False):
        return {"alloc": self.alloc, "version": self.version, "ip": "127.0.0.1", "port": self.port, "weight": weight,
                "leaving": leaving}

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


class Load:
    """Clients that ask all the time and check every answer: half of them on kept connections, half on a new one for each
    request. Whatever is not a whole, right answer is an error."""

    def __init__(self, agent, host="web.example.com", clients=4, pause=0.002, method="GET", query=""):
        self.agent, self.host, self.pause, self.method, self.query = agent, host, pause, method, query
        self.errors, self.answers, self.lock = [], {}, threading.Lock()
        self.times = []              # of the answers: (when, by whom)
        self.asked = []              # when each of these was asked for
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(i % 2 == 0,), daemon=True) for i in range(clients)]
        for t in self.threads:
            t.start()

    def _run(self, keep):
        connection, number = None, 0
        while not self.stopping.is_set():
            number += 1
            path = f"/{threading.get_ident()}/{number}{self.query}"
            try:
                # A kept connection may be closed by the proxy between two requests, and says so when it does.
                connection = connection or http.client.HTTPConnection(self.agent.ip, self.agent.http_port, timeout=10)
                asked = time.monotonic()
                connection.request(self.method, path, headers={"Host": self.host, **({} if keep else {"Connection": "close"})})
                response = connection.getresponse()
                body = response.read().decode(errors="replace")
                closing = response.will_close
                self._count(response, body, path, asked)
            except (OSError, http.client.HTTPException) as e:
                with self.lock:
                    self.errors.append((time.monotonic(), repr(e), "kept" if keep else "new"))
                closing = True
            if closing and connection:
                connection.close()
                connection = None
            self.stopping.wait(self.pause)
        if connection:
            connection.close()

    def _count(self, response, body, path, asked):
        who = response.headers.get("X-Replica", "")
        with self.lock:
            if response.status != 200 or body != f"{who} {path}":
                self.errors.append((time.monotonic(), response.status, body[:200]))
            self.answers[who] = self.answers.get(who, 0) + 1
            self.times.append((time.monotonic(), who))
            self.asked.append(asked)

    def next(self, n):
        """Who answers the next n requests; those that are under way do not count."""
        before, since = len(self.times), time.monotonic()

        def answers():
            with self.lock:
                found = [who for (_, who), asked in zip(self.times[before:], self.asked[before:]) if asked >= since]
            return found[:n] if len(found) >= n else None
        return set(wait_for(answers, 20, "more answers"))

    def more(self, n, timeout=20):
        """Waits for n more answers."""
        wanted = len(self.times) + n
        wait_for(lambda: len(self.times) >= wanted, timeout, "more answers")

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join(30)
        return self.errors


# A replica as a task: it answers with STATUS after DELAY milliseconds, and its check with HEALTH; /?ms=N takes that long,
# /?kb=N gives as much, in ten pieces over three seconds. It ends at once when it is told to: whatever it was doing is lost.
# With LIFE it crashes after so many seconds; with DEAF it never opens its port.
SERVICE = """
import http.server, os, sys, threading, time, urllib.parse
if "LIFE" in os.environ:
    threading.Timer(float(os.environ["LIFE"]), os._exit, [3]).start()
if "DEAF" in os.environ:
    time.sleep(1000)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        query = urllib.parse.parse_qs(self.path.partition("?")[2])
        who = os.environ["V"] + "/" + os.environ["MENTAT_ALLOC_ID"]
        status = int(os.environ.get("STATUS" if self.path != "/health" else "HEALTH", 200))
        delay = int(os.environ.get("DELAY", 0)) if self.path != "/health" else 0
        time.sleep((int(query.get("ms", ["0"])[0]) + delay) / 1000)
        kb = int(query.get("kb", ["0"])[0])
        body = b"x" * 1024 * kb if kb else (who + " " + self.path).encode()
        self.send_response(status)
        self.send_header("X-Replica", who)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for i in range(10 if kb else 1):
            part = len(body) // 10 if kb else len(body)
            self.wfile.write(body[i * part:(i + 1) * part])
            time.sleep(0.3 if kb else 0)
    do_POST = do_GET
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True
    def handle_error(self, *args):
        pass
Server((os.environ["MENTAT_IP"], int(os.environ["MENTAT_PORT_HTTP"])), Handler).serve_forever()
"""


def web_service(name="web", count=2, version="1", deploy=None, ingress=None, env=None, **more):
    return {"name": name, "driver": "exec", "count": count, "spread": "node",
            "config": {"command": [sys.executable], "args": ["-S", "-c", SERVICE.replace("${", "$${")], "env": {"V": version, **(env or {})}},
            "ports": [{"name": "http", "port": 80}], "resources": {"cpus": 0.05, "memory_mb": 64},
            "health": {"type": "http", "port": "http", "path": "/health", "interval": "200ms"},
            "kill": {"timeout": "10s"}, "deploy": deploy or {"strategy": "rolling"},
            "ingress": ingress or [{"host": f"{name}.example.com", "port": "http"}], **more}


def route(service, targets, host="web.example.com", path="/", port="http", **ingress):
    return {"service": service, "job": "j", "ingress": {"host": host, "path": path, "port": port, **ingress},
            "targets": targets}


class IngressAgent(Agent):
    """An agent with a proxy on free ports of loopback."""

    def __init__(self, server, name, ip="127.0.0.1", **flags):
        self.http_port, self.https_port = free_port(), free_port()
        super().__init__(server, name, ip, **{
            "ingress": "true", "proxy.haproxy": HAPROXY, "proxy.bind": ip, "proxy.http_port": self.http_port,
            "proxy.https_port": self.https_port, **flags})
        self.flags["proxy.certificates"] = self.workdir.join("certificates")
        os.mkdir(self.workdir.join("certificates"))

    def text_end(self):
        return self.process.text()[-2000:]

    def access_log(self):
        text = ""
        for path in glob.glob(self.directory() + "/logs/stdout.*.log"):
            with open(path) as f:
                text += f.read()
        return text

    def directory(self):
        return os.path.join(self.flags["data_dir"], "ingress")

    def master(self):
        """Its proxy's master: a process in that directory which is no shim and has no parent in it."""
        pids = self.proxy_pids()
        for pid in pids:
            with open(f"/proc/{pid}/stat") as f:
                parent = int(f.read().rsplit(")", 1)[1].split()[1])
            if parent not in pids:
                return pid
        return None

    def workers(self):
        return [pid for pid in self.proxy_pids() if pid != self.master()]

    def proxy_pids(self):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
                if words[0].decode() == HAPROXY and os.readlink(f"/proc/{pid}/cwd").startswith(self.directory()):
                    found.append(int(pid))
        return sorted(found)

    def get_page(self, path="/", host="web.example.com", method="GET", headers=None, timeout=10):
        connection = http.client.HTTPConnection(self.ip, self.http_port, timeout=timeout)
        try:
            connection.request(method, path, headers={"Host": host, **(headers or {})})
            response = connection.getresponse()
            body = response.read()
            return response.status, response.headers, body.decode()
        finally:
            connection.close()

    def left_over(self):
        left = super().left_over()
        if os.path.exists(self.directory()):
            left.append(self.directory())
        return left + [f"proxy {pid}" for pid in self.proxy_pids()]
