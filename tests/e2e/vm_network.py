#!/usr/bin/env python3
"""The network of microVMs over three hosts, each in a network namespace: machines of one job reach each other by name
wherever they are, others do not; what nodes that come, go and change mean for the links; nothing is left at the end."""
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "vmm"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from firecracker import WEB, WEB_MORE, SERVICE, busybox_root  # noqa: E402
from lib import PATIENCE, Workdir, wait_for  # noqa: E402
from vmm_lib import WIRE_ADDRESS, HostAgent, Vmm, WireServer, hosts_wire, isolate, missing  # noqa: E402

ASK = """
import socket, struct, sys
address, name, kind = sys.argv[1:]
question = b"".join(bytes([len(w)]) + w.encode() for w in name.split(".")) + b"\\0" + struct.pack("!HH", int(kind), 1)
s = socket.create_connection((address, 53), timeout=20)
message = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + question
s.sendall(struct.pack("!H", len(message)) + message)
f = s.makefile("rb")
answer = f.read(struct.unpack("!H", f.read(2))[0])
at, found = 12 + len(question), []
for _ in range(struct.unpack("!H", answer[6:8])[0]):
    kind, _, _, n = struct.unpack("!HHIH", answer[at + 2:at + 12])
    found.append(socket.inet_ntoa(answer[at + 12:at + 16]) if kind == 1 else str(struct.unpack("!H", answer[at + 16:at + 18])[0]))
    at += 12 + n
print(answer[3] & 15, *sorted(found))
"""


class Resolver:
    """A name server for all that is not Mentat's: 192.0.2.7, by UDP."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.port, self.asked = self.socket.getsockname()[1], []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            query, client = self.socket.recvfrom(4096)
            end = query.index(b"\0", 12) + 5
            self.asked.append(query[12:end - 5])
            is_a = query[end - 4:end - 2] == b"\0\1"
            self.socket.sendto(query[:2] + struct.pack("!HHHHH", 0x8180, 1, is_a, 0, 0) + query[12:end]
                               + (b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4" + socket.inet_aton("192.0.2.7") if is_a else b""), client)


class Hosts(unittest.TestCase):
    """A server, and three nodes that are hosts of their own."""
    vmm_settings, network = {}, {}

    @classmethod
    def setUpClass(cls):
        cls.vmm, cls.images = Vmm(**cls.vmm_settings), Workdir()
        cls.server = WireServer(node_grace=f"{2 * PATIENCE:g}s", heartbeat="200ms", mass_loss_hold="0s", **cls.network).start()
        busybox_root(cls.images.join("busybox"))
        cls.agents = []
        for i in range(3):
            cls.agents.append(cls.agent(f"n{i + 1}").start())
            # In this order, so that their parts are known.
            wait_for(lambda: f"n{i + 1}" in cls.parts(), 30, f"node n{i + 1}")

    @classmethod
    def agent(cls, name):
        return HostAgent(cls.server, name, cls.vmm, **{"firecracker.image-roots": cls.images.path})

    @classmethod
    def tearDownClass(cls):
        left = [x for a in cls.agents for x in a.end() + a.left_on_host()]
        cls.server.stop()
        assert not left, left

    @classmethod
    def parts(cls):
        return {n["name"]: n["network"].get("subnet") for n in cls.server.items("/v1/nodes")
                if any(d["name"] == "firecracker" and d["healthy"] for d in n["drivers"])}

    def mt(self, *args, **kw):
        a = self.server.mt(*args, **kw)
        self.assertEqual(a.returncode, 0, a.stdout + a.stderr)
        return a.stdout

    def run_services(self, job, *texts, more=()):
        text = f"job: {job}\nservices:\n" + "".join("  - " + t.strip().replace("\n", "\n    ") + "\n" for t in texts)
        self.mt("run", "-", *more, stdin=text, timeout=240)


class Played(Hosts):
    """Where only the nodes' side matters, no guest is booted. Plain routes, and parts of five addresses."""
    vmm_settings = {"VMM_NULL": "1"}
    network = {"network.range": "10.64.0.0/26", "network.node-bits": 29, "network.link": "routes"}

    def service(self, name, node, count=1):
        return SERVICE.format(name=name, script="sleep", config="", image=self.images.path + "/busybox",
                              more=f"count: {count}\nconstraints: [{{attribute: node.name, op: '=', value: {node}}}]")

    def allocs(self, service, state):
        return [a for a in self.server.items("/v1/allocs") if a["service"] == service and a["state"] == state]

    def test_routes_and_reasons(self):
        self.assertEqual(self.parts(), {"n1": "10.64.0.0/29", "n2": "10.64.0.8/29", "n3": "10.64.0.16/29"})
        # A host that is itself in the part that it was given.
        self.agents[2].run("ip", "addr", "add", "10.64.0.18/30", "dev", "eth0")
        self.run_services("a", self.service("full", "n1", 6), self.service("one", "n2"), self.service("none", "n3"), more=["--detach"])
        wait_for(lambda: len(self.allocs("full", "running")) == 5, 30, "five machines")
        self.assertIn("no address left", wait_for(lambda: self.allocs("full", "failed"), 30, "the sixth")[0]["reason"])
        self.assertRegex(wait_for(lambda: self.allocs("none", "failed"), 30, "the one that cannot")[0]["reason"],
                         "10.64.0.16/29 overlaps with 10.64.0.16/30, which this host reaches by eth0: set network.range")
        wait_for(lambda: self.allocs("one", "running"), 30, "the machine of n2")
        wait_for(lambda: len(self.agents[1].routes()) == 2, 10, "routes to the other nodes")
        self.assertIn("10.64.0.0/29 via 198.51.100.", self.agents[1].routes()[0])
        wait_for(lambda: sorted(self.agents[1].links()) == ["mentat0", *[f"mentat0.{i}" for i in range(2, 7)]], 10,
                 "its port, and those of machines to come")
        # A network of its own that another node has.
        self.agents[2].run("ip", "addr", "del", "10.64.0.18/30", "dev", "eth0")
        self.agents[2].process.stop()
        self.agents[2].start(**{"firecracker.network": "10.64.0.0/28"})
        wait_for(lambda: re.search("overlaps with 10.64.0.[08]/29 of node n[12]", self.mt("nodes", "n3")), 30, "the reason")
        self.mt("stop", "full")
        self.mt("stop", "one")


class Network(Hosts):
    network = {"network.range": "10.64.0.0/20"}

    @classmethod
    def setUpClass(cls):
        cls.resolver = Resolver(WIRE_ADDRESS)
        super().setUpClass()

    @classmethod
    def agent(cls, name):
        return HostAgent(cls.server, name, cls.vmm, **{"firecracker.image-roots": cls.images.path,
                                                       "firecracker.dns": f"{WIRE_ADDRESS}:{cls.resolver.port}"})

    def inside(self, alloc, command):
        return self.server.mt("exec", alloc["id"], "--", "sh", "-c", command, timeout=60)

    def page(self, alloc, address, patience_s=5):
        """The last line of the page, "" when there is none. (Busybox's own wget needs glibc's files to find a name.)"""
        out = self.inside(alloc, f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w {patience_s} {address} 8080").stdout
        return out.splitlines()[-1] if out else ""

    def page_by_name(self, alloc, name):
        found = self.addresses(alloc, name)
        self.assertEqual(len(found), 1, f"{name}: {found}")
        return self.page(alloc, found[0])

    def addresses(self, alloc, name):
        """What a machine is told of a name."""
        return sorted(re.findall(r"^Address: *([0-9.]+)$", self.inside(alloc, f"nslookup -type=a {name} | grep -A9 ^Name").stdout, re.M))

    def ask(self, agent, address, name, kind=1):
        return agent.run(sys.executable, "-c", ASK, address, name, str(kind)).split()

    def test_machines_of_three_hosts(self):
        self.assertEqual(self.parts(), {"n1": "10.64.0.0/24", "n2": "10.64.1.0/24", "n3": "10.64.2.0/24"})
        image = self.images.path + "/busybox"
        spread = "count: 3\nspread: node\nconstraints: [{attribute: node.name, op: distinct}]\n"
        self.run_services("a", SERVICE.format(name="web", script=WEB, more=spread + WEB_MORE, config="", image=image))
        # The same names in another namespace are another job's.
        self.mt("namespace", "put", "team")
        self.run_services("a", SERVICE.format(name="web", script=WEB, config="", image=image,
                          more="constraints: [{attribute: node.name, op: '=', value: n1}]\n" + WEB_MORE), more=["-N", "team"])
        web = {a["replica"]: a for a in self.server.items("/v1/allocs")}
        other = self.server.items("/v1/allocs?namespace=team")[0]
        self.assertEqual(sorted(a["address"].rsplit(".", 1)[0] for a in web.values()), ["10.64.0", "10.64.1", "10.64.2"])
        self.check_names(web, other)
        self.check_metadata(web)
        self.check_strangers(web, other)
        self.check_health(web)
        self.check_nodes(web)

    def check_names(self, web, other):
        for i in range(3):
            self.assertEqual(self.page_by_name(web[(i + 1) % 3], f"{i}.web.mentat"), f"web-{i}")
        self.assertEqual(self.addresses(web[0], "web.mentat"), sorted(a["address"] for a in web.values()))
        # As large as the link takes it, and larger.
        mtu = json.loads(self.agents[0].run("ip", "-j", "link", "show", "eth0"))[0]["mtu"] - 50
        self.assertEqual(self.inside(web[0], "cat /sys/class/net/eth0/mtu").stdout, f"{mtu}\n")
        self.assertEqual(self.inside(web[0], f"ping -c 1 -W 5 -s 4000 {web[1]['address']}").returncode, 0)
        # Other names are asked for elsewhere, those of the zone never.
        self.assertEqual(self.addresses(web[0], "www.example.org"), ["192.0.2.7"])
        self.assertNotEqual(self.inside(web[0], "nslookup -type=a nobody.mentat").returncode, 0)
        self.assertFalse([n for n in self.resolver.asked if n.endswith(b"mentat")])
        # The host, and containers, by TCP here: where the nodes publish the replicas.
        agent = self.agents[0]
        self.assertEqual(self.ask(agent, "10.64.0.1", "web.mentat"), ["0", *sorted(a["ip"] for a in web.values())])
        self.assertEqual(self.ask(agent, "10.64.0.1", "_http._tcp.web.mentat", 33),
                         ["0", *sorted(str(a["ports"][0]["host"]) for a in web.values())])
        self.assertEqual(self.ask(agent, "10.64.0.1", "3.web.mentat"), ["3"])

    def check_strangers(self, web, other):
        self.assertEqual(self.addresses(other, "web.mentat"), [other["address"]])
        self.assertEqual(self.addresses(other, "1.web.mentat"), [])
        for a in web.values():
            self.assertEqual(self.page(other, a["address"], 1), "", f"other reaches {a['address']}")
            self.assertEqual(self.page(a, other["address"], 1), "", f"{a['address']} reaches other")
        # Nor does a host by its own address, and what no node sent is not taken for a node's.
        self.assertIn("198.51.100.12", self.agents[0].run("nft", "list", "set", "inet", "mentat_mentat0", "members"))
        with self.assertRaises(OSError):
            socket.create_connection((web[0]["address"], 8080), timeout=2).close()

    def check_metadata(self, web):
        """What a cloud tells its hosts is not for machines; theirs is answered by their monitors."""
        agent, address = self.agents[0], "169.254.169.254"
        agent.run("ip", "addr", "add", f"{address}/32", "dev", "lo")
        self.addCleanup(agent.run, "ip", "addr", "del", f"{address}/32", "dev", "lo")
        cloud = subprocess.Popen([*agent.inside, sys.executable, "-m", "http.server", "8080", "--bind", address],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(cloud.wait)
        self.addCleanup(cloud.kill)
        look = [*agent.inside, sys.executable, "-c", f"import socket; socket.create_connection(('{address}', 8080))"]
        wait_for(lambda: subprocess.run(look, stderr=subprocess.DEVNULL).returncode == 0, 20, "the cloud's answer to its host")
        self.assertEqual(self.page(next(a for a in web.values() if a["node_name"] == agent.name), address, 1), "")

    def check_health(self, web):
        """Who is not healthy leaves the service's name, and keeps its own."""
        self.inside(web[2], "killall -STOP httpd")
        wait_for(lambda: self.addresses(web[0], "web.mentat") == sorted(web[i]["address"] for i in (0, 1)), 30, "two in the name")
        self.assertEqual(self.addresses(web[0], "2.web.mentat"), [web[2]["address"]])
        self.inside(web[2], "killall -CONT httpd")
        wait_for(lambda: len(self.addresses(web[0], "web.mentat")) == 3, 30, "three in the name")

    def link_index(self, agent):
        return json.loads(agent.run("ip", "-j", "link", "show", "mentat0.vx"))[0]["ifindex"]

    def check_other_link(self, web, by_node):
        """The servers' configuration changes under running machines: from then on the nodes' own routes carry them."""
        self.server.stop()
        self.server.flags["network.link"] = "routes"
        self.server.start()
        first, second = self.agents[0], self.agents[1]
        wait_for(lambda: first.routes() and all(" via 198.51.100." in r and " dev eth0" in r for r in first.routes()), 60, "plain routes")
        wait_for(lambda: second.routes() and all(" dev eth0" in r for r in second.routes()), 60, "plain routes back")
        wait_for(lambda: "mentat0.vx" not in [*first.links(), *second.links()], 10, "the end of the VXLAN")
        to = by_node["n2"]
        wait_for(lambda: self.page(by_node["n1"], to["address"]) == f"web-{to['replica']}", 30, "a page over routes")
        self.assertEqual(self.page_by_name(to, f"{by_node['n1']['replica']}.web.mentat"), f"web-{by_node['n1']['replica']}")

    def check_nodes(self, web):
        by_node = {a["node_name"]: a for a in web.values()}
        first = self.agents[0]
        self.assertEqual(len(first.routes()), 2)
        # What the servers say makes no link anew that is as it should be.
        link = self.link_index(first)
        self.inside(web[1], "killall -STOP httpd")
        wait_for(lambda: len(self.addresses(web[0], "web.mentat")) == 2, 30, "two in the name")
        self.inside(web[1], "killall -CONT httpd")
        wait_for(lambda: len(self.addresses(web[0], "web.mentat")) == 3, 30, "three in the name")
        # An agent that comes back finds all as it was; machines did not notice.
        first.kill()
        self.assertEqual(self.inside(by_node["n2"], f"ping -c 1 -W 5 {by_node['n1']['address']}").returncode, 0)
        first.start()
        first.wait_api()
        wait_for(lambda: self.server.mt("exec", by_node["n1"]["id"], "--", "true").returncode == 0, 30, "the adopted machine")
        wait_for(lambda: self.parts().get("n1") == "10.64.0.0/24", 30, "its part")
        self.assertEqual(self.link_index(first), link)
        number = by_node["n2"]["replica"]
        wait_for(lambda: self.page_by_name(by_node["n1"], f"{number}.web.mentat") == f"web-{number}", 30, "its names")
        self.check_other_link(web, by_node)
        # A node that is removed has no way to it any more.
        third = self.agents[2]
        self.mt("stop", "web")
        self.assertEqual(third.end() + third.left_on_host(), [])
        wait_for(lambda: {n["name"]: n["state"] for n in self.server.items("/v1/nodes")}["n3"] == "down", 30, "the node's end")
        self.mt("node", "remove", "n3")
        wait_for(lambda: [r.split()[0] for r in first.routes()] == ["10.64.1.0/24"], 30, "the end of its route")
        self.assertNotIn("198.51.100.13", first.run("bridge", "fdb"))
        self.assertNotIn("10.64.2.", first.run("ip", "neigh"))
        self.assertNotIn("198.51.100.13", first.run("nft", "list", "set", "inet", "mentat_mentat0", "members"))
        third.start()


if __name__ == "__main__":
    why = missing()
    if why:
        print("skipped:", why)
        sys.exit(77)
    isolate()
    hosts_wire()
    unittest.main(verbosity=2)
