#!/usr/bin/env python3
"""The agent's proxy follows a table of routes: a real agent and a real HAProxy; the table is the test's own."""
import http.client
import os
import signal
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ingress_lib import IngressAgent, Load, Replica, TableServer, route  # noqa: E402
from lib import wait_for  # noqa: E402


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
        self.assertEqual(self.page("/", host="WEB.example.com:8080")[0], 200)
        self.assertEqual(self.page("/", host="other.example.com"), (200, "c /"))
        self.assertEqual(self.page("/", host="a.b.example.com")[0], 404)
        status, body = self.page("/", host="nobody.org")
        self.assertEqual(status, 404)
        self.assertIn("No service of this cluster", body)
        status, body = self.page("/", host="none.example.com")
        self.assertEqual(status, 503)
        self.assertIn("no healthy replica", body)

    def test_switches_and_drains_lose_nothing(self):
        """Blue and green in turn, and replicas that leave while a slow request is under way."""
        blue, green = self.replica("blue"), self.replica("green", version=2)
        both = lambda b, g: [route("web", [blue.target(b), green.target(g)])]  # noqa: E731
        self.table.put(both(100, 0))
        load = Load(self.agent)
        for i in range(10):
            load.more(20)
            at = time.monotonic()
            self.table.put(both(0, 100) if i % 2 == 0 else both(100, 0))
            took = time.monotonic() - at
            load.more(20)
            gone = load.last("blue" if i % 2 == 0 else "green") - at
            self.assertLess(gone, took + 0.5)        # an answer that was under way
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
        """kill -9 of its processes: it is there again within a second, with all that it was told since its start."""
        a, b, c = (self.replica(n) for n in "abc")
        self.table.put([route("web", [a.target()]), route("other", [b.target()], host="other.example.com")])
        self.table.put([route("web", [c.target()]), route("other", [b.target()], path="/sub")])
        for victim in (lambda: self.agent.workers()[0], self.agent.master):
            pids = self.agent.proxy_pids()
            os.kill(victim(), signal.SIGKILL)
            wait_for(lambda: not set(pids) & set(self.agent.proxy_pids()), 5, "the end of the proxy")
            died = time.monotonic()
            wait_for(lambda: self.page("/sub/x") == (200, "b /sub/x"), 5, "the proxy")
            self.assertLess(time.monotonic() - died, 5)
            self.assertEqual(self.page("/x"), (200, "c /x"))
            self.assertEqual(self.page("/", host="other.example.com")[0], 404)
            self.table.put(self.table.routes)


if __name__ == "__main__":
    unittest.main(verbosity=2)
