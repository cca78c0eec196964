#!/usr/bin/env python3
"""The managed proxy beside the same HAProxy configured by hand, in turns, how fast the managed one follows, and how long users
wait for deployments. This is `mentat-bench ingress`, and prints JSON lines as that does. Needs haproxy and wrk."""
import argparse
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
from clients_lib import Load  # noqa: E402
from ingress_lib import HAPROXY, IngressAgent, TableServer, route, web_service  # noqa: E402
from lib import EventStream, Server, free_port, job, wait_for  # noqa: E402

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

    def pids(self):
        return [self.child.pid] + [int(p) for p in subprocess.run(["pgrep", "-P", str(self.child.pid)], capture_output=True,
                                                                   text=True).stdout.split()]

    def join(self, pid):
        """Into the control groups of that process: under load the kernel shares the processors among groups."""
        with open(f"/proc/{pid}/cgroup") as f:
            groups = [line.strip().split(":", 2)[1:] for line in f]
        for controllers, path in groups:
            top = "/sys/fs/cgroup" if not controllers else f"/sys/fs/cgroup/{controllers.replace('name=', '')}"
            for one in self.pids():
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


def processor_us(pids):
    """What they have had of the processors; other than a rate it says much on a busy machine too."""
    total = 0
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat") as f:
                total += int(f.read().split()[0])
    return total / 1000


def loaded(port, pids, seconds):
    """Requests a second, p99, and processor time a request of these processes."""
    before = processor_us(pids)
    rate, p99 = wrk(port, seconds)
    return rate, p99, (processor_us(pids) - before) / (rate * seconds)


def throughput(agent, by_hand, hand_port, seconds):
    """Of the managed one counts who reads its log, too."""
    with open(f"/proc/{agent.master()}/stat") as f:
        reader = int(f.read().rsplit(")", 1)[1].split()[1])
    managed, hand = [], []
    for _ in range(5):
        hand.append(loaded(hand_port, by_hand.pids(), seconds))
        managed.append(loaded(agent.http_port, [reader, *agent.workers()], seconds))
    for name, runs in (("by hand", hand), ("managed", managed)):
        for i, (what, unit) in enumerate((("requests", "1/s"), ("p99", "ms"), ("processor time", "us/request"))):
            figure(f"ingress {what}", statistics.median(r[i] for r in runs), unit, proxy=name)
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
    for new in range(4):
        table.set(routes[:services - 3 + new])
        at = time.monotonic()
        table.applied(timeout=120)
        if new:
            figure("ingress reload", time.monotonic() - at, "s", services=services - 3 + new)
        time.sleep(1)                    # so that none waits for what could be gathered into it
    at = time.monotonic()
    routes[0]["targets"][0]["weight"] = 50
    table.put(routes)
    figure("ingress change", (time.monotonic() - at) * 1000, "ms", services=services)


class Real:
    """A server and an agent with a proxy, and who watches both: the events, and each answer of a client that asks all the time."""

    def __init__(self):
        self.server = Server().start()
        self.agent = IngressAgent(self.server, "bench").start()
        wait_for(lambda: self.server.items("/v1/nodes"), 20, "the node")
        self.events = EventStream(self.server.port, "?kind=alloc")
        self.load, self.version = None, 0

    def deploy(self, count, strategy):
        """A new version; returns when its submission began."""
        self.version += 1
        deploy = {"strategy": strategy, "health_timeout_secs": 120, **({"standby_secs": 600} if strategy == "blue-green" else {})}
        at = time.monotonic()
        answer = self.server.post("/v1/jobs", job("web", web_service(version=f"v{self.version}", count=count, deploy=deploy)))
        assert answer.status == 200, answer
        return at

    def in_force(self, version, count):
        """Waits until all answers are of that version, by so many replicas."""
        wait_for(lambda: self.agent.get_page("/")[2].startswith(f"v{version}/"), 60, f"version {version}")
        self.load = self.load or Load(self.agent, clients=2, pause=0.001)

        def reached():
            who = self.load.next(4 * count + 4)
            return len(who) == count and {w.split("/")[0] for w in who} == {f"v{version}"}
        wait_for(reached, 60, f"{count} replicas of version {version}")

    def healthy(self, version):
        """When each replica of the version was told to be healthy, by its allocation."""
        allocs = {a["id"] for a in self.server.items("/v1/allocs?service=web") if a["version"] == version}
        return {e["data"]["alloc"]: e["time"] for e in self.events.find(to="healthy") if e["data"].get("alloc") in allocs}

    def first(self, part, since):
        """When one answered whose name has that part."""
        return wait_for(lambda: next((at for at, who in list(self.load.times) if at > since and part in who), None), 60, part)

    def first_requests(self, rounds):
        self.deploy(1, "rolling")
        self.in_force(self.version, 1)
        took = []
        for _ in range(rounds):
            self.deploy(1, "rolling")
            self.in_force(self.version, 1)
            (alloc, at), = self.healthy(self.version).items()
            took.append((self.first(alloc, at) - at) * 1000)
        figure("ingress first request", statistics.median(took), "ms", part="median")
        figure("ingress first request", max(took), "ms", part="longest", replicas=rounds)

    def blue_green(self, count):
        self.deploy(count, "rolling")
        self.in_force(self.version, count)
        wait_for(lambda: not self.under_way("running"), 60, "the end of the deployment")
        blue = f"v{self.version}/"
        at = self.deploy(count, "blue-green")
        self.in_force(self.version, count)
        switched = self.first(f"v{self.version}/", at)
        figure("ingress blue-green", switched - at, "s", part="from submission to green's first answer", replicas=count)
        figure("ingress blue-green", (switched - max(self.healthy(self.version).values())) * 1000, "ms",
               part="from green's last health to its first answer", replicas=count)
        wait_for(lambda: self.under_way("paused"), 60, "the standby")
        at = time.monotonic()
        done = self.server.mt("rollback", "web")
        assert done.returncode == 0, done
        figure("ingress blue-green", (self.first(blue, at) - at) * 1000, "ms", part="from mt rollback to blue's first answer",
               replicas=count)

    def under_way(self, state):
        return any(d["state"] == state for d in self.server.items("/v1/deployments") if d["service"] == "web")

    def end(self):
        errors = self.load.stop() if self.load else []
        self.events.close()
        left = self.agent.end()
        self.server.stop()
        self.server.workdir.remove()
        return errors + left


def deployments(rounds, replicas):
    real = Real()
    try:
        real.first_requests(rounds)
        real.blue_green(replicas)
    finally:
        left = real.end()
    return left


def proxies(seconds, services):
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
            throughput(agent, others[1], hand_port, seconds)
            switches(table, targets[0], targets[1])
            reload(table, targets[0], services)
        finally:
            for other in others:
                other.end()
            left = agent.end()
            table.stop()
    return left


def number(text):
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def main():
    parser = argparse.ArgumentParser(prog="mentat-bench ingress", description=__doc__)
    parser.add_argument("--seconds", type=number, default=5, help="of one load")
    parser.add_argument("--services", type=number, default=1000, help="in the table that is loaded anew")
    parser.add_argument("--rounds", type=number, default=10, help="new replicas whose first request is awaited")
    parser.add_argument("--replicas", type=number, default=10, help="of the service that is switched and rolled back")
    asked = parser.parse_args()
    left = proxies(asked.seconds, asked.services) + deployments(asked.rounds, asked.replicas)
    for line in left:
        print(f"mentat-bench ingress: {line}", file=sys.stderr)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
