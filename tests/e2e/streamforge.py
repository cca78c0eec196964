#!/usr/bin/env python3
"""examples/streamforge.yaml: a real log broker with a Raft cluster of its own, in microVMs on three hosts, which find each other by
name. What it has acknowledged stays while any one replica, or the host that it is on, is killed."""
import base64
import json
import os
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "vmm"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import ROOT, Workdir, wait_for  # noqa: E402
from vmm_lib import HostAgent, Vmm, WireServer, hosts_wire, isolate, missing  # noqa: E402

STREAM = "FORGE"


class Broker:
    """A connection to one replica, as far as this test speaks NATS."""

    def __init__(self, host, port=4222, timeout=5):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.file = self.socket.makefile("rb")
        assert self.file.readline().startswith(b"INFO ")
        self.send('CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\nSUB _INBOX.> 1\r\nPING\r\n')
        while self.file.readline() != b"PONG\r\n":
            pass

    def send(self, text):
        self.socket.sendall(text.encode())

    def ask(self, subject, body=b""):
        """A request and its answer, which is JSON everywhere here."""
        self.send(f"PUB {subject} _INBOX.1 {len(body)}\r\n{body.decode()}\r\n")
        while True:
            words = self.file.readline().split()
            assert words, "the broker closed the connection"
            if words[0] == b"PING":
                self.send("PONG\r\n")
            if words[0] in (b"MSG", b"HMSG"):
                data = self.file.read(int(words[-1]) + 2)[:-2]
                if words[0] == b"HMSG":
                    raise OSError(f"nobody answers {subject}: {data!r}")
                answer = json.loads(data)
                if "error" in answer:
                    raise OSError(f"{subject}: {answer['error']}")
                return answer

    def close(self):
        self.file.close()
        self.socket.close()


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
        cls.hosts = [a.host_of_its_own.address for a in cls.agents]
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

    def run_of(self, victim):
        """Which run of a replica this host is at; all three are healthy."""
        return next((a["id"], a["restarts"]) for a in self.healthy().values() if a["node_name"] == self.agents[victim].name)

    def broker(self, host):
        """A connection once the broker takes requests: it must have found the others first."""
        def answers():
            b = Broker(host)
            try:
                b.ask("$JS.API.INFO")
                return b
            except OSError:
                b.close()
                raise
        return wait_for(answers, 60, f"the broker on {host}", every=0.1)

    def publish(self, host, first, count):
        """Each message until it is acknowledged, as a client does: while a new leader is chosen nobody answers."""
        b = self.broker(host)

        def put(i):
            nonlocal b
            try:
                return b.ask("forge.log", f"message {i}".encode())
            except OSError:
                b.close()
                b = Broker(host)
                raise
        for i in range(first, first + count):
            wait_for(lambda: put(i), 60, f"acknowledgement of message {i}", every=0.2)
        b.close()

    def messages(self, host):
        b = self.broker(host)
        last = b.ask(f"$JS.API.STREAM.INFO.{STREAM}")["state"]["last_seq"]
        out = [base64.b64decode(b.ask(f"$JS.API.STREAM.MSG.GET.{STREAM}", json.dumps({"seq": s}).encode())["message"]["data"]).decode()
               for s in range(1, last + 1)]
        b.close()
        return out

    def test_what_was_acknowledged_stays(self):
        with open(os.path.join(ROOT, "examples", "streamforge.yaml")) as f:
            text = f.read()
        text = text.replace("/srv/images", self.images.path).replace("/mnt/unikernel-volumes", self.volumes.path)
        a = self.server.mt("run", "-", stdin=text, timeout=240)
        self.assertEqual(a.returncode, 0, a.stdout + a.stderr)
        before = wait_for(self.healthy, 60, "three replicas")
        self.assertEqual(len({x["node_name"] for x in before.values()}), 3)
        b = self.broker(self.hosts[0])
        wait_for(lambda: b.ask(f"$JS.API.STREAM.CREATE.{STREAM}", json.dumps(
            {"name": STREAM, "subjects": ["forge.>"], "num_replicas": 3, "storage": "file"}).encode()), 60, "the stream", every=0.2)
        b.close()
        sent = 0
        for victim in range(2):
            self.publish(self.hosts[(victim + 1) % 3], sent, 10)
            sent += 10
            was = self.run_of(victim)
            # The machine on this host is killed; the second time the host itself.
            if victim:
                self.agents[victim].cut_power()
            else:
                self.agents[victim].kill_programs("qemu-system")
            self.publish(self.hosts[(victim + 1) % 3], sent, 10)
            sent += 10
            if victim:
                self.agents[victim].restore_power()
            wait_for(lambda: self.run_of(victim) != was, 120, "three replicas again")
            self.assertEqual({r: x["node_name"] for r, x in self.healthy().items()}, {r: x["node_name"] for r, x in before.items()})
        wanted = {f"message {i}" for i in range(sent)}
        for host in self.hosts:
            self.assertLessEqual(wanted, set(self.messages(host)), f"what {host} has")


if __name__ == "__main__":
    why = missing()
    if why:
        print("skipped:", why)
        sys.exit(77)
    isolate()
    hosts_wire()
    unittest.main(verbosity=2)
