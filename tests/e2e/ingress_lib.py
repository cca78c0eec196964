"""For the tests of the ingress: agents with a proxy, a table of routes without servers, and replicas inside the test and as tasks."""
import contextlib
import datetime
import glob
import http.client
import http.server
import json
import os
import re
import sys
import threading
import time
import traceback
import urllib.parse

from lib import Agent, free_port, parent_of

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

    def problem(self, expected, timeout=10):
        """Waits until the node says that this keeps it from following."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.report.get("problem") == expected, timeout):
                raise AssertionError(f"it does not say {expected}; the last report: {self.report}")

    def certificates(self, expected, timeout=10):
        """Waits until the node says this of the hosts whose certificates are not as they should be: patterns."""
        def said():
            found = {c["host"]: c["problem"] for c in self.report.get("acme", {}).get("certificates") or [] if c.get("problem")}
            return found.keys() == expected.keys() and all(re.fullmatch(expected[h], found[h]) for h in found)
        with self.changed:
            if not self.changed.wait_for(said, timeout):
                raise AssertionError(f"it does not say {expected}; the last report: {self.report}")

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
    """Stands between agents and a server. While it lies, leaving replicas look like all others to the agents, and are idle for
    the server."""

    def __init__(self, server):
        leaving, self.lies = {}, True
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def pass_on(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
                ingress = outer.lies and self.path.startswith("/v1/agent/ingress")
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


# A replica as a task: it answers with STATUS after DELAY milliseconds, and its check with HEALTH; /?ms=N takes that long,
# /?kb=N gives as much, in ten pieces over three seconds. It ends at once when it is told to: whatever it was doing is lost.
# With LIFE it crashes after so many seconds; with DEAF it never opens its port. A volume at /data it must have for itself, and
# writes down its version there.
SERVICE = """
import http.server, os, sys, threading, time, urllib.parse
if "LIFE" in os.environ:
    threading.Timer(float(os.environ["LIFE"]), os._exit, [3]).start()
if "MENTAT_VOLUME_DATA" in os.environ:
    import fcntl
    starts = open(os.environ["MENTAT_VOLUME_DATA"] + "/starts", "a")
    fcntl.flock(starts, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print(os.environ["V"], file=starts, flush=True)
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
    return {"name": name, "driver": "exec", "spread": "node", **({"count": count} if "mode" not in more else {}),
            "config": {"command": [sys.executable], "args": ["-S", "-c", SERVICE.replace("${", "$${")], "env": {"V": version, **(env or {})}},
            "ports": [{"name": "http", "port": 80}], "resources": {"cpus": 0.05, "memory_mb": 64},
            "health": {"type": "http", "port": "http", "path": "/health", "interval": "200ms"},
            "kill": {"timeout": "10s"}, "deploy": deploy or {"strategy": "rolling"},
            "ingress": ingress or [{"host": f"{name}.example.com", "port": "http", "tls": True, "redirect_https": False}], **more}


# A replica that answers as fast as a proxy does, and POST after 40 ms. It ends at once, too.
FAST = """
defaults
    mode http
    timeout client 60s
    timeout tarpit 40ms
frontend web
    bind "BIND"
    http-request set-var-fmt(txn.who) %[env(V)]/%[env(MENTAT_ALLOC_ID)]
    http-request set-var-fmt(txn.text) "%[var(txn.who)] %[pathq]"
    http-request tarpit status 200 content-type text/plain hdr X-Replica %[var(txn.who)] lf-string %[var(txn.text)] if METH_POST
    http-request return status 200 content-type text/plain hdr X-Replica %[var(txn.who)] lf-string %[var(txn.text)]
"""


def fast_service(name, bind="$MENTAT_IP:$MENTAT_PORT_HTTP", directory=".", **more):
    service = web_service(name, **more)
    service["config"].update(command=["/bin/sh"], args=["-c", f'echo "$0" >{directory}/web.cfg; exec {HAPROXY} -f {directory}/web.cfg',
                                                        FAST.replace("BIND", bind)])
    return service


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
        return next((pid for pid in pids if parent_of(pid) not in pids), None)

    def shim(self):
        return parent_of(self.master())

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

    def repairs(self):
        """When its proxy served again after it had ended (monotonic), and how many milliseconds it had not; as it logs it."""
        now = time.time() - time.monotonic()
        found = re.findall(r'time=(\S+) .*msg="the proxy serves again" ms=(\d+)', self.process.text())
        return [(datetime.datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp() - now, int(ms)) for at, ms in found]

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
