#!/usr/bin/env python3
"""examples/streamforge.yaml: a real log broker with a Raft cluster of its own, in microVMs on three hosts, which find each other by
name. What it has acknowledged stays when a replica is killed, when the host of one loses its power, and when all hosts do."""
import base64
import itertools
import json
import os
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "vmm"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import ROOT, Workdir, call, wait_for  # noqa: E402
from vmm_lib import HostAgent, Vmm, WireServer, hosts_wire, isolate, missing  # noqa: E402

STREAM = "FORGE"


class Broker:
    """A client of one replica, as far as this test speaks NATS. Whatever failed, the next request has a connection of its own."""
    requests = itertools.count()

    def __init__(self, host):
        self.host, self.socket = host, None

    def connect(self):
        self.socket = socket.create_connection((self.host, 4222), timeout=5)
        self.file = self.socket.makefile("rb")
        self.send('CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\nSUB _INBOX.> 1\r\nPING\r\n')
        while self.words() != [b"PONG"]:
            pass

    def close(self):
        if self.socket:
            self.file.close()
            self.socket.close()
        self.socket = None

    def send(self, text):
        self.socket.sendall(text.encode())

    def words(self):
        words = self.file.readline().split()
        if not words:
            raise OSError("the broker closed the connection")
        return words

    def ask(self, subject, body=b""):
        """A request and its answer, which is JSON everywhere here."""
        try:
            if not self.socket:
                self.connect()
            return self.request(subject, body)
        except OSError:
            self.close()
            raise

    def request(self, subject, body):
        # Each has an inbox of its own: a new leader acknowledges once more what the one before it did not get to.
        inbox = f"_INBOX.{next(self.requests)}"
        self.send(f"PUB {subject} {inbox} {len(body)}\r\n{body.decode()}\r\n")
        while True:
            words = self.words()
            if words[0] == b"PING":
                self.send("PONG\r\n")
            if words[0] not in (b"MSG", b"HMSG"):
                continue
            data = self.file.read(int(words[-1]) + 2)[:-2]
            if words[1] != inbox.encode():
                continue
            if words[0] == b"HMSG":
                raise OSError(f"nobody answers {subject}: {data!r}")
            answer = json.loads(data)
            if "error" in answer:
                raise OSError(f"{subject}: {answer['error']}")
            return answer

    def insist(self, what, *request):
        """Asks until there is an answer, as clients do: while a new leader is chosen, there is none."""
        return wait_for(lambda: self.ask(*request), 60, what, every=0.2)


class StreamForge(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.vmm = Vmm()
        cls.server = WireServer().start()
        # The same paths on every node, as on hosts of their own.
        cls.images, cls.volumes = Workdir(), Workdir()
        subprocess.run([os.path.join(ROOT, "examples", "streamforge-image.sh"), cls.images.join("streamforge")], check=True)
        cls.agents = [HostAgent(cls.server, f"n{i + 1}", cls.vmm, volume_root=cls.volumes.path,
                                **{"firecracker.image-roots": cls.images.path}).start() for i in range(3)]
        cls.hosts = {a.name: a.host_of_its_own.address for a in cls.agents}
        wait_for(lambda: sum(d["name"] == "firecracker" and d["healthy"] for n in cls.server.items("/v1/nodes")
                             for d in n["drivers"]) == 3, 30, "three nodes")

    @classmethod
    def tearDownClass(cls):
        left = [x for a in cls.agents for x in a.end()]
        left += [x for a in cls.agents for x in a.left_on_host()]
        cls.server.stop()
        assert not left, left

    def healthy(self):
        allocs = [a for a in self.server.items("/v1/allocs") if a["state"] == "healthy"]
        assert len(allocs) == 3, [(a["node_name"], a["state"], a["reason"]) for a in self.server.items("/v1/allocs")]
        return {a["replica"]: a for a in allocs}

    def publish(self, host, count):
        """Each message until it is acknowledged, with the number under which it is in the stream."""
        b = Broker(host)
        for i in range(len(self.acknowledged), len(self.acknowledged) + count):
            text = f"message {i}"
            self.acknowledged[b.insist(f"acknowledgement of {text}", "forge.log", text.encode())["seq"]] = text
        b.close()

    def copy(self, alloc):
        """What a replica itself has of the stream. STREAM.INFO would not tell: the leader answers it, whoever is asked, and for its
        first seconds the replica that the stream was first given to, whatever it has."""
        port = next(p["host"] for p in alloc["ports"] if p["name"] == "monitor")
        page = call(port, "GET", "/jsz?streams=true", timeout=5, host=self.hosts[alloc["node_name"]]).json
        return [s["state"] for a in page["account_details"] for s in a["stream_detail"] if s["name"] == STREAM][0]

    def has_all(self, alloc):
        """Followers hear with the leader's next heartbeat that the last message is in force."""
        last, state = max(self.acknowledged), self.copy(alloc)
        assert state["last_seq"] >= last and state["messages"] == state["last_seq"], (last, state)
        return True

    def check(self):
        """Each replica has all that was acknowledged, and so have clients of each."""
        for alloc in wait_for(self.healthy, 60, "three replicas").values():
            wait_for(lambda: self.has_all(alloc), 60, f"what was acknowledged, on replica {alloc['replica']}")
        for host in self.hosts.values():
            b = Broker(host)

            def read(seq):
                request = f"$JS.API.STREAM.MSG.GET.{STREAM}", json.dumps({"seq": seq}).encode()
                return base64.b64decode(b.insist(f"message {seq} through {host}", *request)["message"]["data"]).decode()
            self.assertEqual({seq: read(seq) for seq in self.acknowledged}, self.acknowledged, f"what {host} has")
            b.close()

    def survives(self, victims, harm, mend=lambda host: None):
        """Messages before and after something is done to the hosts of these replicas; after it through one that is left."""
        def run(alloc):
            return alloc["id"], alloc["restarts"]

        before = wait_for(self.healthy, 60, "three replicas")
        names = {r: a["node_name"] for r, a in before.items()}
        other = self.hosts[names[(victims[-1] + 1) % 3]]
        harmed = [a for a in self.agents if a.name in [names[v] for v in victims]]
        self.publish(other, 10)
        for host in harmed:
            harm(host)
        if len(harmed) < 3:
            self.publish(other, 10)
        for host in harmed:
            mend(host)

        def again():
            now = self.healthy()
            assert all(run(now[v]) != run(before[v]) for v in victims), now
            return now
        self.assertEqual({r: a["node_name"] for r, a in wait_for(again, 300, "three replicas again").items()}, names)
        self.check()

    def test_what_was_acknowledged_stays(self):
        with open(os.path.join(ROOT, "examples", "streamforge.yaml")) as f:
            text = f.read()
        for old, new in {"/srv/images": self.images.path, "/mnt/unikernel-volumes": self.volumes.path,
                         # In software emulation a start takes thirty times as long.
                         "grace: 2m": "grace: 10m", "health_timeout_secs: 120": "health_timeout_secs: 600"}.items():
            self.assertIn(old, text)
            text = text.replace(old, new)
        a = self.server.mt("run", "-", stdin=text, timeout=600)
        self.assertEqual(a.returncode, 0, a.stdout + a.stderr)
        before = wait_for(self.healthy, 60, "three replicas")
        self.assertEqual(len({x["node_name"] for x in before.values()}), 3)
        b = Broker(self.hosts["n1"])
        b.insist("the stream", f"$JS.API.STREAM.CREATE.{STREAM}", json.dumps(
            {"name": STREAM, "subjects": ["forge.>"], "num_replicas": 3, "storage": "file"}).encode())
        b.close()
        self.acknowledged = {}
        self.survives([0], lambda host: host.kill_programs("qemu-system"))
        self.survives([1], HostAgent.cut_power, HostAgent.restore_power)
        self.survives([0, 1, 2], HostAgent.cut_power, HostAgent.restore_power)


if __name__ == "__main__":
    why = missing()
    if why:
        print("skipped:", why)
        sys.exit(77)
    isolate()
    hosts_wire()
    unittest.main(verbosity=2)
