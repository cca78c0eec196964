#!/usr/bin/env python3
"""The managed proxy beside the same HAProxy configured by hand, in turns, and how fast the managed one follows.

Prints JSON lines as mentat-bench does. Needs haproxy and wrk. usage: bench/ingress.py [SECONDS of one load, 5] [services, 1000]"""
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests", "e2e"))
from ingress_lib import HAPROXY, IngressAgent, TableServer, route  # noqa: E402
from lib import free_port, wait_for  # noqa: E402

HOST = "web.example.com"
ORIGINS = 4


def figure(name, value, unit, **params):
    print(json.dumps({"name": name, "value": round(value, 4), "unit": unit, **params}), flush=True)


class Haproxy:
    """One that runs by a file of this script."""

    def __init__(self, directory, name, text):
        path = os.path.join(directory, name)
        with open(path, "w") as f:
            f.write(text)
        self.log = open(path + ".log", "wb")
        self.child = subprocess.Popen([HAPROXY, "-W", "-f", path], cwd=directory, stdout=self.log, stderr=self.log)

    def join(self, pid):
        """Into the control groups of that process: under load the kernel shares the processors among groups."""
        with open(f"/proc/{pid}/cgroup") as f:
            groups = [line.strip().split(":", 2)[1:] for line in f]
        mine = [self.child.pid] + [int(p) for p in subprocess.run(["pgrep", "-P", str(self.child.pid)], capture_output=True,
                                                                   text=True).stdout.split()]
        for controllers, path in groups:
            top = "/sys/fs/cgroup" if not controllers else f"/sys/fs/cgroup/{controllers.replace('name=', '')}"
            for one in mine:
                with contextlib.suppress(OSError), open(f"{top}{path}/cgroup.procs", "w") as f:
                    f.write(str(one))

    def end(self):
        self.child.terminate()
        self.child.wait()
        self.log.close()


def origins(ports):
    """Replicas that answer as fast as can be."""
    return "defaults\n mode http\n timeout client 1m\n timeout server 1m\n timeout connect 1s\n" + "".join(
        f"frontend o{p}\n bind 127.0.0.1:{p}\n http-request return status 200 content-type text/plain string \"o{p}\"\n" for p in ports)


def by_hand(port, ports):
    """What somebody would write for one service of some replicas, with a log, health checks, and what it takes to lose no
    request at a reload or with a replica."""
    return f"""global
 log stdout format raw local0
 maxconn 9000
defaults
 mode http
 log global
 option httplog
 option forwardfor
 option idle-close-on-response
 option redispatch 1
 retry-on conn-failure empty-response
 timeout client 1m
 timeout server 1m
 timeout connect 2s
 default-server check inter 1s
frontend web
 bind 127.0.0.1:{port}
 http-request disable-l7-retry unless {{ method GET HEAD OPTIONS }}
 http-request set-header X-Forwarded-Proto http
 use_backend web if {{ req.hdr(host) -i {HOST} }}
backend web
""" + "".join(f" server s{i} 127.0.0.1:{p}\n" for i, p in enumerate(ports))


def wrk(port, seconds):
    out = subprocess.run(["wrk", "-t", "1", "-c", "32", "-d", f"{seconds}s", "--latency", "-H", f"Host: {HOST}", f"http://127.0.0.1:{port}/"],
                         capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in out and "Socket errors" not in out, out
    unit = {"us": 0.001, "ms": 1, "s": 1000}
    value, name = re.search(r"99%\s+([0-9.]+)(us|ms|s)", out).groups()
    return float(re.search(r"Requests/sec:\s+([0-9.]+)", out).group(1)), float(value) * unit[name]


def throughput(agent, hand_port, seconds):
    managed, hand = [], []
    for _ in range(3):
        hand.append(wrk(hand_port, seconds))
        managed.append(wrk(agent.http_port, seconds))
    for name, runs in (("by hand", hand), ("managed", managed)):
        figure("ingress requests", statistics.median(r for r, _ in runs), "1/s", proxy=name)
        figure("ingress p99", statistics.median(p for _, p in runs), "ms", proxy=name)
    figure("ingress ratio", statistics.median(m[0] / h[0] for m, h in zip(managed, hand)), "", runs=len(hand))


def switches(table, blue, green, count=50):
    """From the new table to the node's word that it is in force, read back; that of a replica that became healthy is the same."""
    took = []
    for i in range(count):
        weights = (0, 100) if i % 2 == 0 else (100, 0)
        at = time.monotonic()
        table.put([route("web", [{**blue, "weight": weights[0]}, {**green, "weight": weights[1]}])])
        took.append((time.monotonic() - at) * 1000)
    figure("ingress switch", statistics.median(took), "ms", part="median")
    figure("ingress switch", max(took), "ms", part="longest", switches=count)


def reload(table, target, services):
    routes = [route(f"s{i}", [{**target, "alloc": "%012x" % (i + 1000)}], host=f"s{i}.example.com") for i in range(services)]
    for new in (0, 1, 2):
        table.set(routes[:services - 2 + new])
        at = time.monotonic()
        table.applied(timeout=120)
        if new:
            figure("ingress reload", time.monotonic() - at, "s", services=services - 2 + new)
            time.sleep(3)                # reloads are gathered over two seconds: the next is to be at once
    at = time.monotonic()
    routes[0]["targets"][0]["weight"] = 50
    table.put(routes)
    figure("ingress change", (time.monotonic() - at) * 1000, "ms", services=services)


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    services = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    ports, hand_port = [free_port() for _ in range(ORIGINS)], free_port()
    targets = [{"alloc": "%012x" % (i + 1), "version": 1, "ip": "127.0.0.1", "port": p, "weight": 100} for i, p in enumerate(ports)]
    table = TableServer()
    agent = IngressAgent(table, "bench").start()
    with tempfile.TemporaryDirectory() as directory:
        others = [Haproxy(directory, "origins.cfg", origins(ports)), Haproxy(directory, "hand.cfg", by_hand(hand_port, ports))]
        try:
            table.put([route("web", targets)])
            wait_for(lambda: agent.get_page("/")[0] == 200, 10, "the managed proxy")
            time.sleep(1)                # the checks by hand
            others[1].join(agent.master())
            throughput(agent, hand_port, seconds)
            switches(table, targets[0], targets[1])
            reload(table, targets[0], services)
        finally:
            for other in others:
                other.end()
            left = agent.end()
            table.stop()
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
