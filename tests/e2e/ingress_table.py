#!/usr/bin/env python3
"""The agent's proxy follows a table of routes: a real agent and a real HAProxy; the table is the test's own."""
import contextlib
import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from clients_lib import Load  # noqa: E402
from ingress_lib import HAPROXY, IngressAgent, Replica, TableServer, route  # noqa: E402
from lib import PATIENCE, free_port, metrics_in, wait_for  # noqa: E402


def ask(connection):
    connection.request("GET", "/silent", headers={"Host": "web.example.com"})
    return connection.getresponse().read().decode()


class TableTest(unittest.TestCase):
    def setUp(self):
        self.table = TableServer()
        self.addCleanup(self.table.stop)
        self.agent = IngressAgent(self.table, "n1").start()
        self.addCleanup(self.end)

    def end(self):
        """No replica of these tests breaks off: of a 502 the proxy's flags (end=) say who it was, so they are told in any case."""
        print(*(line for line in self.agent.access_log().splitlines() if " status=502 " in line), sep="\n", end="", flush=True)
        self.assertEqual(self.agent.end(), [])

    def replica(self, name, **more):
        r = Replica(name, **more)
        self.addCleanup(r.stop)
        return r

    def page(self, *args, **kw):
        status, _, body = self.agent.get_page(*args, **kw)
        return status, body

    def test_routes(self):
        a, b, c = (self.replica(n) for n in "abc")
        self.table.put([
            route("web", [a.target()]),
            route("api", [b.target()], path="/api"),
            route("any", [c.target()], host="*.example.com"),
            route("none", [], host="none.example.com"),
        ])
        self.assertTrue(self.table.node["ingress"])
        self.assertEqual(self.page("/x"), (200, "a /x"))
        self.assertEqual(self.page("/api"), (200, "b /api"))
        self.assertEqual(self.page("/api/v1?q=1"), (200, "b /api/v1?q=1"))
        self.assertEqual(self.page("/apix"), (200, "a /apix"))
        for host in "WEB.example.com:8080", "web.example.com.", "web.example.com.:80":
            self.assertEqual(self.page("/x", host=host), (200, "a /x"), host)
        self.assertEqual(self.page("/", host="other.example.com."), (200, "c /"))
        self.assertEqual(self.page("/", host=".")[0], 404)
        self.assertEqual(self.page("/", host="other.example.com"), (200, "c /"))
        self.assertEqual(self.page("/", host="a.b.example.com")[0], 404)
        for host, expected, text in ("nobody.org", 404, "No service of this cluster"), ("none.example.com", 503, "no healthy replica"):
            status, headers, body = self.agent.get_page("/", host=host)
            self.assertEqual((status, headers["content-length"]), (expected, str(len(body))))
            self.assertIn(text, body)

    def test_switches_and_drains_lose_nothing(self):
        """Blue and green in turn, and replicas that leave while a slow request is under way."""
        blue, green = self.replica("blue"), self.replica("green", version=2)
        both = lambda b, g: [route("web", [blue.target(b), green.target(g)])]  # noqa: E731
        self.table.put(both(100, 0))
        load = Load(self.agent)
        for i in range(10):
            load.more(20)
            self.table.put(both(0, 100) if i % 2 == 0 else both(100, 0))
            load.more(10)                            # what was under way
            self.assertEqual(load.next(20), {"green" if i % 2 == 0 else "blue"})
        slow = []
        thread = threading.Thread(target=lambda: slow.append(self.page("/slow?1.5")))
        self.table.put([route("web", [blue.target()])])
        thread.start()
        wait_for(lambda: any(p == "/slow?1.5" for p, _ in blue.requests), 5, "the slow request")
        self.table.put([route("web", [blue.target(leaving=True), green.target()])])
        self.assertNotIn(blue.alloc, self.table.report.get("idle") or [])
        load.more(50)
        self.assertEqual(slow, [])
        self.table.idle(blue.alloc)
        thread.join()
        self.assertEqual(slow, [(200, "blue /slow?1.5")])
        blue.stop()
        self.table.put([route("web", [green.target()])])
        load.more(50)
        self.assertEqual(load.stop(), [])

    def test_limits_of_requests(self):
        """Of a node and of a service: 413 for bodies, 429 for clients that ask too often."""
        self.assertEqual(self.agent.end(), [])
        self.agent.flags.update({"proxy.max_body_mb": 2, "proxy.requests_per_second": 200})
        self.agent.start()
        a, b = self.replica("a"), self.replica("b")
        self.table.put([route("web", [a.target()]),
                        route("small", [b.target()], host="small.example.com", max_body_mb=1, requests_per_second=20)])

        def post(host, mb):
            with socket.create_connection(("127.0.0.1", self.agent.http_port), 10) as s:
                s.sendall(f"POST /x HTTP/1.1\r\nHost: {host}\r\nContent-Length: {mb * 1048576}\r\n\r\n".encode())
                if mb <= 1:
                    s.sendall(b"x" * mb * 1048576)
                return int(s.recv(4096).split()[1])
        self.assertEqual([post("web.example.com", mb) for mb in (1, 3)], [200, 413])
        self.assertEqual([post("small.example.com", mb) for mb in (1, 2)], [200, 413])
        kept = http.client.HTTPConnection("127.0.0.1", self.agent.http_port, timeout=10)
        self.addCleanup(kept.close)

        def burst(host, n):
            found = []
            for _ in range(n):
                kept.request("GET", "/x", headers={"Host": host})
                response = kept.getresponse()
                response.read()
                found.append(response.status)
            return found
        wait_for(lambda: 429 in burst("small.example.com", 30), 20, "the service's limit")
        self.assertEqual(burst("web.example.com", 1), [200])
        wait_for(lambda: 429 in burst("web.example.com", 300), 20, "the node's limit")
        wait_for(lambda: burst("small.example.com", 1) == [200], 20, "the end of the limits")

    def test_a_canary_by_header(self):
        """The same value gets the same version; the parts of many values, and which way they move when the canary's grows."""
        old, new, newer = self.replica("old"), self.replica("new", version=2), self.replica("newer", version=2)

        def put(percent, targets):
            self.table.put([{**route("web", targets, sticky_header="X-User"), "canary_percent": percent}])

        def canary(r):
            return {**r.target(), "canary": True}
        kept = http.client.HTTPConnection("127.0.0.1", self.agent.http_port, timeout=10)
        self.addCleanup(kept.close)

        def version(user):
            kept.request("GET", "/x", headers={"Host": "web.example.com", **({"X-User": user} if user else {})})
            return kept.getresponse().read().decode().split()[0].removesuffix("er")
        users = [f"user-{i}" for i in range(2000)]
        put(0, [old.target()])
        put(20, [{**old.target(), "weight": 80}, {**canary(new), "weight": 20}])
        first = {u for u in users if version(u) == "new"}
        self.assertLess(abs(len(first) - 400), 72)           # four times the deviation of chance
        self.assertEqual({u for u in users if version(u) == "new"}, first)
        by_weight = [version(None) for _ in range(100)].count("new")
        self.assertLess(abs(by_weight - 20), 3)              # who has no header
        load = Load(self.agent)
        put(50, [{**old.target(), "weight": 2}, canary(new) | {"weight": 1}, canary(newer) | {"weight": 1}])
        second = {u for u in users if version(u) == "new"}
        self.assertLess(abs(len(second) - 1000), 90)
        self.assertLessEqual(first, second)
        for r in (new, newer):
            self.assertGreater(len([p for p, h in r.requests if h.get("x-user") in second]), 300)
        put(0, [{**old.target(), "leaving": True, "weight": 0}, new.target(), newer.target()])
        self.assertEqual({version(u) for u in users[:200]}, {"new"})
        self.table.idle(old.alloc)
        self.assertEqual(load.stop(), [])
        # A canary that is gone before the servers know: its values are answered by whoever is there.
        gone = self.replica("gone", version=2)
        gone.stop()
        put(50, [old.target(), canary(gone)])
        self.assertEqual({version(u) for u in users[:50]}, {"old"})

    def test_counters(self):
        """By service, status and version, over a reload."""
        a, b = self.replica("a"), self.replica("b", version=2)
        self.table.put([route("web", [a.target(75), b.target(25)])])
        for _ in range(100):
            self.page("/")
        self.table.put([route("web", [a.target(75), b.target(25)]), route("more", [], host="more.example.com")])
        for _ in range(100):
            self.page("/")
        self.page("/", host="more.example.com")
        self.page("/slow?0.3")

        def counted(name):
            found = metrics_in(self.agent.get("/v1/metrics").body.decode())
            return {key[len(name) + 1:-1]: value for key, value in found.items() if key.startswith(name + "{")}
        wait_for(lambda: counted("mentat_ingress_answers_total")['service="web",backend="web.http",status="2xx"'] == 201, 20, "counters")
        self.assertEqual(counted("mentat_ingress_answers_total")['service="more",backend="more.http",status="5xx"'], 1)
        versions = counted("mentat_ingress_version_requests_total")
        self.assertEqual(sum(versions.values()), 201)
        self.assertLess(abs(versions['service="web",version="2"'] - 50), 30)
        # How long they took, from the access log, over the reload too.
        own, prefix = 'service="web",backend="web.http"', "mentat_ingress_response_seconds"
        wait_for(lambda: counted(prefix + "_count").get(own) == 201, 20, "times")
        times = counted(prefix + "_bucket")
        self.assertEqual(times[own + ',le="+Inf"'], 201)
        self.assertLessEqual(times[own + ',le="0.256"'], 200)
        ends = [v for k, v in times.items() if k.startswith(own)]
        self.assertEqual(ends, sorted(ends))
        self.assertGreaterEqual(counted(prefix + "_sum")[own], 0.3)
        self.assertNotIn('service="more",backend="more.http"', counted(prefix + "_count"))      # nobody answered

    def test_reload_loses_nothing(self):
        """New services, new TCP ports and full slots need a new configuration."""
        a = self.replica("a")
        self.table.put([route("web", [a.target()])])
        load = Load(self.agent)
        load.more(50)
        # These say nothing until all that their process knew of has gone.
        silent = [http.client.HTTPConnection("127.0.0.1", self.agent.http_port, timeout=10) for _ in range(3)]
        for connection in silent:
            self.addCleanup(connection.close)
            self.assertEqual(ask(connection), "a /silent")
        long_one = []
        thread = threading.Thread(target=lambda: long_one.append(len(self.page("/slow?4")[1])))
        thread.start()
        wait_for(lambda: any(p == "/slow?4" for p, _ in a.requests), 5, "the slow request")
        before = self.agent.workers()
        b = self.replica("b")
        self.table.put([route("web", [a.target()]), route("more", [b.target()], host="more.example.com")])
        self.assertEqual(self.page("/", host="more.example.com"), (200, "b /"))
        self.assertNotEqual(self.agent.workers(), before)
        # The old process still has the long request: its replica is not idle, whatever the new one says.
        self.table.put([route("web", [a.target(leaving=True), b.target()])])
        load.more(100)
        self.assertEqual(long_one, [])
        self.assertNotIn(a.alloc, self.table.report.get("idle") or [])
        self.table.idle(a.alloc)
        thread.join()
        self.assertEqual(long_one, [len("a /slow?4")])
        self.table.put([route("web", [b.target()])])
        a.stop()
        for connection in silent:
            self.assertEqual(ask(connection), "b /silent")
        self.assertEqual([h["x-forwarded-for"] for p, h in b.requests if p == "/silent"], ["127.0.0.1"] * 3)
        many = [self.replica(f"m{i}") for i in range(9)]
        self.table.put([route("web", [b.target()] + [m.target() for m in many])])
        load.more(200)
        self.assertEqual(set(load.answers), {"a", "b"} | {f"m{i}" for i in range(9)})
        self.assertEqual(load.stop(), [])

    def test_another_kind_of_stickiness(self):
        """It makes a backend of another name, at once after another reload: the process before serves on until the new one does, and
        what it has of a replica under the name before is not cut, whoever watches over it."""
        a, b = self.replica("a"), self.replica("b")
        self.table.put([route("web", [a.target()])])
        load = Load(self.agent)
        load.more(20)
        slow = []
        thread = threading.Thread(target=lambda: slow.append(self.page("/slow?6")))
        thread.start()
        wait_for(lambda: any(p == "/slow?6" for p, _ in a.requests), 5, "the slow request")
        for sticky in {"sticky": True}, {"sticky_header": "X-User"}, {"sticky": True}:
            self.table.put([route("web", [a.target()], **sticky)])
        load.more(50)
        self.agent.kill()
        self.agent.start()
        self.table.put([route("web", [a.target(leaving=True), b.target()], sticky=True)])
        load.more(100)
        self.assertEqual(load.next(20), {"b"})
        self.assertEqual(slow, [])
        self.assertNotIn(a.alloc, self.table.report.get("idle") or [])
        self.table.idle(a.alloc, timeout=20)
        thread.join()
        self.assertEqual(slow, [(200, "a /slow?6")])
        self.assertEqual(load.stop(), [])

    def test_the_agent_dies(self):
        """kill -9 of the agent: the proxy serves on, and is driven on by the next agent without a reload."""
        a, b = self.replica("a"), self.replica("b")
        self.table.put([route("web", [a.target()])])
        load = Load(self.agent)
        load.more(20)
        pids = self.agent.proxy_pids()
        self.agent.kill()
        load.more(50)
        index = self.table.set([route("web", [a.target(leaving=True), b.target()])])
        self.agent.start()
        self.table.applied(index)
        self.table.idle(a.alloc)
        load.more(50)
        self.assertEqual(load.stop(), [])
        self.assertEqual(self.agent.proxy_pids(), pids)
        self.assertEqual(self.page("/x"), (200, "b /x"))

    def test_the_proxy_dies(self):
        """kill -9 of its processes, and of what watches them: it serves again within a second, by the agent's log, with all that
        it was told since its start."""
        a, b, c = (self.replica(n) for n in "abc")
        self.table.put([route("web", [a.target()]), route("other", [b.target()], host="other.example.com")])
        self.table.put([route("web", [c.target()]), route("other", [b.target()], path="/sub")])
        for n, victim in enumerate((lambda: self.agent.workers()[0], self.agent.master, self.agent.shim), 1):
            pids = self.agent.proxy_pids()
            os.kill(victim(), signal.SIGKILL)
            wait_for(lambda: len(self.agent.repairs()) == n, 5, "the proxy")
            self.assertLess(self.agent.repairs()[-1][1], 1000 * PATIENCE)
            self.assertEqual(set(pids) & set(self.agent.proxy_pids()), set())
            self.assertEqual(self.page("/sub/x"), (200, "b /sub/x"))
            self.assertEqual(self.page("/x"), (200, "c /x"))
            self.assertEqual(self.page("/", host="other.example.com")[0], 404)
            self.table.put(self.table.routes)

    def test_without_haproxy(self):
        """The node says so, does its other work, and serves when it is there."""
        self.assertEqual(self.agent.end(), [])
        program = self.agent.workdir.join("haproxy")
        self.table.report = {}
        self.agent.flags["proxy.haproxy"] = program
        self.agent.start()
        self.table.problem(f"{program}: there is no such program: install the package haproxy, or set proxy.haproxy")
        a = self.replica("a")
        self.table.set([route("web", [a.target()])])
        # One that refuses its configuration: of what it says, the cause is told.
        with open(program, "w", opener=lambda p, flags: os.open(p, flags, 0o755)) as f:
            f.write("#!/bin/sh\nexec >&2\necho \"[ALERT] (7) : config : parsing [haproxy.cfg:2] : unknown keyword 'x'.\"\n"
                    "echo '[ALERT] (7) : config : Error(s) found in configuration file : haproxy.cfg'\n"
                    "echo '[ALERT] (7) : config : Fatal errors found in configuration.'\nexit 1\n")
        self.table.problem("the proxy ended: exit code 1: config : parsing [haproxy.cfg:2] : unknown keyword 'x'.")
        os.unlink(program)
        os.symlink(HAPROXY, program)
        self.table.applied()
        self.assertEqual(self.page("/x"), (200, "a /x"))
        self.assertFalse(self.table.report.get("problem"))

    def test_ports_that_are_taken(self):
        """Of the web, and of services; it goes on when they are free."""
        self.assertEqual(self.agent.end(), [])
        web, tcp = socket.create_server(("127.0.0.1", self.agent.http_port)), socket.create_server(("127.0.0.1", 0))
        self.addCleanup(web.close)
        self.addCleanup(tcp.close)
        self.table.report = {}
        a = self.replica("a")
        listen = tcp.getsockname()[1]
        self.table.set([route("db", [a.target()], protocol="tcp", listen=listen, host=""), route("web", [a.target()])])
        self.agent.start()
        self.table.problem(f"port {self.agent.http_port}: is taken by another program on this node")
        web.close()
        self.table.applied()
        self.assertEqual(self.page("/x"), (200, "a /x"))
        self.table.problem("ingress of db: its `listen` port is taken on this node")

    # --- TLS ---

    def certificate(self, name, *hosts, days=30, broken=False):
        """A file in the node's certificates."""
        directory = self.agent.flags["proxy.certificates"]
        key, crt = os.path.join(directory, "key.new"), os.path.join(directory, "crt.new")
        request = subprocess.run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                                  "-subj", f"/CN={name}", "-addext", "subjectAltName=" + ",".join(f"DNS:{h}" for h in hosts)],
                                 check=True, capture_output=True).stdout
        subprocess.run(["openssl", "x509", "-req", "-signkey", key, "-out", crt, "-days", str(days), "-copy_extensions", "copy"],
                       input=request, check=True, capture_output=True)
        with open(crt) as c, open(key) as k, open(os.path.join(directory, f"{name}.new"), "w") as f:
            f.write(c.read() + ("" if broken else k.read()))
        os.unlink(key)
        os.unlink(crt)
        os.rename(os.path.join(directory, f"{name}.new"), os.path.join(directory, f"{name}.pem"))

    def tls(self, host):
        """Subject and serial number of what is shown for this host, and the protocol that is spoken."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2", "http/1.1"])
        with socket.create_connection(("127.0.0.1", self.agent.https_port), 10) as plain, \
                context.wrap_socket(plain, server_hostname=host) as s:
            text = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-subject", "-serial"], capture_output=True, check=True,
                                  input=s.getpeercert(True)).stdout.decode()
            return text.split("subject=CN = ")[1].split("\n")[0], text.split("serial=")[1].strip(), s.selected_alpn_protocol()

    def test_tls(self):
        a, b = self.replica("a"), self.replica("b")
        self.certificate("one", "one.example.com")
        self.table.put([
            route("web", [a.target()], host="one.example.com", tls=True),
            route("web", [a.target()], host="two.example.com", tls=True, redirect_https=False),
            route("web", [a.target()], host="acme.example.com", tls=True, acme=True),
            route("other", [b.target()], host="plain.example.com"),
        ])
        wait_for(lambda: self.tls("one.example.com")[0] == "one", 10, "the first certificate")
        self.assertEqual(self.tls("one.example.com")[2], "h2")
        self.assertEqual(self.tls("two.example.com")[0], "no certificate for this host")
        directory = self.agent.flags["proxy.certificates"]
        none = f"no file in {directory} of this node is for it; it is served with one that browsers warn of"
        acme = {"acme.example.com": "agent.yaml of this node has no proxy.acme_directory; tried again in .*"}
        self.table.certificates({"two.example.com": none, **acme})
        self.certificate("two", "two.example.com", days=-1)
        self.table.certificates({"two.example.com": "two.pem has expired on .*; it is served all the same", **acme})
        pids = self.agent.proxy_pids()
        self.certificate("two", "two.example.com", "*.wild.example.com")
        self.certificate("half", "three.example.com", broken=True)
        wait_for(lambda: self.tls("x.wild.example.com")[0] == "two", 10, "a new certificate")
        self.assertEqual(self.tls("two.example.com")[0], "two")
        self.table.certificates(acme)
        first = self.tls("one.example.com")[1]
        self.certificate("one", "one.example.com", days=60)
        wait_for(lambda: self.tls("one.example.com")[1] != first, 10, "the renewed certificate")
        os.unlink(os.path.join(self.agent.flags["proxy.certificates"], "two.pem"))
        wait_for(lambda: self.tls("two.example.com")[0] != "two", 10, "the end of a certificate")
        self.assertEqual(self.agent.proxy_pids(), pids)
        self.assertIn("half.pem: it holds no key", self.agent.process.text())

        def https(host, *more):
            at = f"{host}:{self.agent.https_port}"
            out = subprocess.run(["curl", "-sk", "--connect-to", f"{at}:127.0.0.1:{self.agent.https_port}", f"https://{at}/x",
                                  "-w", " %{http_code} %{http_version}", *more], capture_output=True, text=True, check=True, timeout=20)
            return out.stdout
        self.assertEqual(https("one.example.com"), "a /x 200 2", self.agent.access_log())
        self.assertEqual(https("one.example.com", "--http1.1"), "a /x 200 1.1", self.agent.access_log())
        self.assertEqual(a.requests[-1][1]["x-forwarded-proto"], "https")
        self.assertIn("404", https("plain.example.com"))
        status, headers, _ = self.agent.get_page("/x?q=1", host="one.example.com")
        self.assertEqual((status, headers["location"]), (308, f"https://one.example.com:{self.agent.https_port}/x?q=1"))
        self.assertEqual(self.page("/x", host="two.example.com"), (200, "a /x"))
        self.assertEqual(self.page("/x", host="plain.example.com"), (200, "b /x"))

    # --- other ways in ---

    def test_tcp_sticky_and_tunnels(self):
        echo = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(echo.close)

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    s = echo.accept()[0]
                    threading.Thread(target=repeat, args=(s,), daemon=True).start()

        def repeat(s):
            with s, contextlib.suppress(OSError):
                head = s.recv(4096)
                if head.startswith(b"GET"):
                    s.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                              b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
                else:
                    s.sendall(head)
                while data := s.recv(4096):
                    s.sendall(data)
        threading.Thread(target=serve, daemon=True).start()
        target = {"alloc": "eeeeeeeeeeee", "version": 1, "ip": "127.0.0.1", "port": echo.getsockname()[1], "weight": 1}
        a, b = self.replica("a"), self.replica("b")
        port, taken = free_port(), socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        routes = [
            route("raw", [target], protocol="tcp", listen=port, host=""),
            route("ws", [target], host="ws.example.com"),
            route("web", [a.target(), b.target()], sticky=True, tls=True, redirect_https=False),
        ]
        self.table.put(routes)
        with socket.create_connection(("127.0.0.1", port), 10) as s:
            s.sendall(b"hello")
            self.assertEqual(s.recv(100), b"hello")
        with socket.create_connection(("127.0.0.1", self.agent.http_port), 10) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: ws.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                      b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            self.assertIn(b"101 Switching", s.recv(4096))
            s.sendall(b"frame")
            self.assertEqual(s.recv(100), b"frame")
            # A tunnel is a connection of its replica: it leaves when that ends.
            self.table.put([route("ws", [{**target, "leaving": True}], host="ws.example.com")] + routes[2:])
            s.sendall(b"still")
            self.assertEqual(s.recv(100), b"still")
            self.assertNotIn("eeeeeeeeeeee", self.table.report.get("idle") or [])
        self.table.idle("eeeeeeeeeeee")
        with self.assertRaises(OSError):
            socket.create_connection(("127.0.0.1", port), 10).close()

        _, headers, body = self.agent.get_page("/x")
        cookie, *attributes = headers["set-cookie"].split("; ")
        self.assertIn("SameSite=Lax", attributes)
        self.assertNotIn("Secure", attributes)
        text = subprocess.run(["curl", "-skD-", "--connect-to", f"web.example.com:443:127.0.0.1:{self.agent.https_port}",
                               "https://web.example.com/x"], capture_output=True, text=True, check=True, timeout=20).stdout
        self.assertRegex(text, "(?m)^set-cookie: MENTAT=.*; HttpOnly; SameSite=Lax; Secure\r?$")
        for _ in range(6):
            self.assertEqual(self.page("/x", headers={"Cookie": cookie}), (200, body))
        mine, other = (a, b) if body == "a /x" else (b, a)
        self.table.put([route("web", [mine.target(leaving=True), other.target()], sticky=True)])
        self.assertEqual(self.page("/x", headers={"Cookie": cookie}), (200, f"{other.name} /x"))

        self.table.set([route("raw", [target], protocol="tcp", listen=taken.getsockname()[1], host=""), routes[2]])
        report = self.table.applied()
        self.assertEqual(report["problem"], "ingress of raw: its `listen` port is taken on this node")
        self.assertEqual(self.page("/x")[0], 200)

    def test_http2_load(self):
        """Switches, drains and reloads under HTTP/2 of many streams, as h2load counts it."""
        a, b = self.replica("a"), self.replica("b")
        self.table.put([route("web", [a.target()])])
        load = subprocess.Popen(["h2load", "-c", "2", "-m", "4", "-D", "6", "-H", ":authority: web.example.com",
                                 f"http://127.0.0.1:{self.agent.http_port}/x"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(load.kill)
        wait_for(lambda: len(a.requests) > 50, 10, "requests")
        for _ in range(5):
            self.table.put([route("web", [a.target(leaving=True), b.target()])])
            self.table.idle(a.alloc)
            self.table.put([route("web", [a.target(), b.target(leaving=True)])])
            self.table.idle(b.alloc)
        text = load.communicate(timeout=60)[0]
        self.assertRegex(text, r"requests: .* 0 failed, 0 errored, 0 timeout", text)
        self.assertRegex(text, r"status codes: \d+ 2xx, 0 3xx, 0 4xx, 0 5xx", text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
