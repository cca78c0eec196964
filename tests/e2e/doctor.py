#!/usr/bin/env python3
"""mt doctor: hosts made of files, a good one and what can be wrong with it, and this machine's ports and ways."""
import contextlib
import http.server
import json
import os
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from authority import Authority  # noqa: E402
from lib import PATIENCE, SmallDisk, Workdir, program, text_of  # noqa: E402

MENTAT, KVM, DOCKER = 987, 988, 989      # ids of the user and the groups

# The reference host: its files below the root. "->" begins a symbolic link's target.
GOOD = {
    "etc/os-release": 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nID=ubuntu\nVERSION_ID="24.04"\n',
    "etc/passwd": f"root:x:0:0:root:/root:/bin/sh\nmentat:x:{MENTAT}:{MENTAT}::/var/lib/mentat:/usr/sbin/nologin\n"
                  "haproxy:x:104:113::/var/lib/haproxy:/usr/sbin/nologin\n",
    "etc/group": f"root:x:0:\nkvm:x:{KVM}:other,mentat\ndocker:x:{DOCKER}:mentat\nmentat:x:{MENTAT}:\n",
    "proc/sys/kernel/osrelease": "6.8.0-45-generic\n",
    "proc/sys/kernel/random/entropy_avail": "256\n",
    "proc/cpuinfo": "".join(f"processor\t: {i}\nflags\t\t: fpu vme lm vmx hypervisor\n\n" for i in range(8)),
    "proc/meminfo": "MemTotal:       32866472 kB\nMemFree:         1000 kB\n",
    "proc/swaps": "Filename\t\t\t\tType\t\tSize\n",
    "proc/self/mountinfo": "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
                           "23 22 0:20 / /proc rw - proc proc rw\n"
                           "30 22 8:16 / /mnt/unikernel-volumes rw,relatime shared:9 - ext4 /dev/sdb rw\n",
    "proc/net/tcp": "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
                    "   0: 00000000:1226 00000000:0000 0A 00000000:00000000 00:00000000 00000000   987        0 5001 1 0\n"
                    "   1: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 5002 1 0\n",
    "proc/net/tcp6": "  sl  local_address\n"
                     "   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 5003 1\n",
    "proc/net/route": "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
                      "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
                      "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
                      "mentat0\t0000400A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
                      "eth0\t0001400A\t0200000A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
    "proc/71/comm": "mentat-server\n", "proc/71/fd/0": "->/dev/null", "proc/71/fd/9": "->socket:[5001]",
    "proc/73/comm": "editor\n", "proc/73/fd/5": "->socket:[5002]",
    "proc/72/comm": "haproxy\n", "proc/72/fd/3": "->socket:[5003]",
    "sys/block/sda/size": "293000000\n", "sys/block/sda/queue/rotational": "0\n", "sys/block/sda/sda1/size": "292968750\n",
    "sys/dev/block/8:1": "->../../block/sda/sda1",
    "sys/block/sdb/size": "1000215216\n", "sys/block/sdb/queue/rotational": "0\n", "sys/dev/block/8:16": "->../../block/sdb",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma\n",
    "sys/kernel/mm/ksm/run": "0\n",
    "sys/devices/system/cpu/smt/active": "1\n",
    "sys/devices/system/cpu/vulnerabilities/meltdown": "Not affected\n",
    "sys/devices/system/cpu/vulnerabilities/mds": "Mitigation: Clear CPU buffers; SMT vulnerable\n",
    "dev/kvm": "",
    "etc/mentat/server.yaml": 'servers: ["10.0.0.1:4646", "10.0.0.2:4646"]\nexpect: 2\n',
    "etc/mentat/agent.yaml": "servers: 10.0.0.1:4646\n",
    "opt/mentat/bin/mt": "", "opt/mentat/bin/mentat-server": "", "opt/mentat/bin/mentat-agent": "",
    "opt/mentat/bin/firecracker": "#!/bin/sh\necho 'Firecracker v1.7.0'; echo; echo 'Supported snapshot data format 2.0.0'\n",
    "usr/local/bin/jailer": "#!/bin/sh\necho 'Jailer v1.7.0'\n", "var/lib/mentat/kernel/vmlinux": "",
    "usr/sbin/haproxy": "#!/bin/sh\necho 'HAProxy version 2.8.5-1ubuntu3 2024/04/01 - https://haproxy.org/'\n",
    "usr/bin/uacme": "#!/bin/sh\n", "usr/bin/mksquashfs": "#!/bin/sh\n", "sbin/mke2fs": "#!/bin/sh\n", "usr/sbin/nft": "#!/bin/sh\n",
    "tmp/mentat/firecracker/": "", "var/lib/mentat/state/": "", "mnt/unikernel-volumes/": "",
}

# Name, what is different (None: not there), the check that notices, its state, words of what it found.
BAD = [
    ("another system", {"etc/os-release": 'PRETTY_NAME="Arch"\nID=arch\n'}, "os", "warning", "Arch"),
    ("an old kernel", {"proc/sys/kernel/osrelease": "5.4.0-42-generic\n"}, "kernel", "warning", "5.4.0-42"),
    ("a kernel that is too old", {"proc/sys/kernel/osrelease": "4.19.0\n"}, "kernel", "failed", "4.19.0"),
    ("cgroup v1", {"sys/fs/cgroup/cgroup.controllers": None, "sys/fs/cgroup/memory/": "", "sys/fs/cgroup/cpu/": ""},
     "cgroup", "warning", "cgroup v1"),
    ("no memory controller", {"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io pids\n"}, "cgroup", "failed",
     "controller memory is missing"),
    ("no control groups", {"sys/fs/cgroup/cgroup.controllers": None}, "cgroup", "failed", "no control groups"),
    ("few processors", {"proc/cpuinfo": "processor\t: 0\nflags\t\t: lm vmx\n"}, "cpu", "warning", "1 processor,"),
    ("no virtualisation", {"proc/cpuinfo": GOOD["proc/cpuinfo"].replace(" vmx", "")}, "virtualization", "failed", "neither"),
    ("no KVM", {"dev/kvm": None}, "kvm", "failed", "there is no /dev/kvm"),
    ("KVM for others only", {"etc/group": f"kvm:x:{KVM}:other\ndocker:x:{DOCKER}:mentat\n"}, "kvm", "failed",
     "mentat may not"),
    ("little memory", {"proc/meminfo": "MemTotal:  8000000 kB\n"}, "memory", "warning", "7.6 GB"),
    ("swap", {"proc/swaps": GOOD["proc/swaps"] + "/dev/sda2   partition 1000 0 -2\n"}, "memory-sharing", "warning",
     "swap on /dev/sda2"),
    ("same-page merging", {"sys/kernel/mm/ksm/run": "1\n"}, "memory-sharing", "warning", "same-page merging is on"),
    ("an open hole", {"sys/devices/system/cpu/vulnerabilities/meltdown": "Vulnerable\n"}, "mitigations", "warning",
     "open: meltdown"),
    ("a small boot disk", {"sys/block/sda/sda1/size": "40000000\n"}, "boot-disk", "warning", "20 GB"),
    ("a disk with heads", {"sys/block/sdb/queue/rotational": "1\n"}, "data-disk", "warning", "not an SSD"),
    ("no data disk", {"proc/self/mountinfo": GOOD["proc/self/mountinfo"].split("\n")[0] + "\n"}, "data-disk", "warning",
     "lies on the boot disk"),
    ("another file system", {"proc/self/mountinfo": GOOD["proc/self/mountinfo"].replace("- ext4 /dev/sdb", "- vfat /dev/sdb")},
     "data-disk", "warning", "vfat"),
    ("a program that nobody may run", {"opt/mentat/bin/mt": "-x"}, "layout", "failed", "not a program"),
    ("a state directory that is not there", {"var/lib/mentat/state/": None}, "layout", "warning",
     "no /var/lib/mentat/state"),
    ("a configuration that is none", {"etc/mentat/agent.yaml": "servers: [\n"}, "config", "failed", "agent.yaml:"),
    ("an old Firecracker", {"opt/mentat/bin/firecracker": "#!/bin/sh\necho Firecracker v1.4.1\n"}, "firecracker", "warning",
     "firecracker 1.4.1"),
    ("no jailer", {"usr/local/bin/jailer": None}, "firecracker", "failed", "there is no jailer"),
    ("a program that breaks", {"usr/local/bin/jailer": "#!/bin/sh\nexit 3\n"}, "firecracker", "failed", "does not tell"),
    ("no kernel for guests", {"var/lib/mentat/kernel/vmlinux": None}, "firecracker", "warning", "no kernel for guests at"),
    ("no tool for images", {"usr/bin/mksquashfs": None}, "firecracker", "failed", "there is no mksquashfs (package squashfs-tools)"),
    ("no tool for networks", {"usr/sbin/nft": None}, "firecracker", "failed", "there is no nft (package nftables)"),
    ("no tool for volumes", {"sbin/mke2fs": None}, "firecracker", "failed", "there is no mke2fs (package e2fsprogs)"),
    ("no ACME", {"usr/bin/uacme": None, "etc/mentat/agent.yaml": "ingress: true\n"}, "haproxy", "warning", "no uacme"),
    ("programs at other places", {"etc/mentat/agent.yaml": "firecracker: {binary: /srv/fc, jailer: none}\n"}, "firecracker",
     "failed", "no /srv/fc"),
    ("no HAProxy", {"usr/sbin/haproxy": None, "etc/mentat/agent.yaml": "ingress: true\n"}, "haproxy", "failed",
     "there is no haproxy"),
    ("an old HAProxy", {"usr/sbin/haproxy": "#!/bin/sh\necho 'HAProxy version 2.2.9'\n"}, "haproxy", "failed", "2.2.9"),
    ("no user for HAProxy", {"etc/passwd": f"mentat:x:{MENTAT}:{MENTAT}::/:/bin/sh\n", "etc/mentat/agent.yaml": "ingress: true\n"},
     "haproxy", "failed", "there is no user haproxy"),
    ("another web server", {"proc/72/comm": "nginx\n", "etc/mentat/agent.yaml": "ingress: true\n"}, "ports", "failed",
     "443 is taken by nginx"),
    ("ingress that does not run", {"proc/73/comm": "mentat-agent\n", "etc/mentat/agent.yaml": "port: 5000\ningress: true\n",
                                   "etc/mentat/server.yaml": None}, "ports", "failed", "80 is nobody's, though the agent runs"),
    ("a port that is another's", {"proc/71/comm": "nginx\n"}, "ports", "failed", "4646 is taken by nginx"),
    ("a port that is unknown's", {"proc/71/fd/9": None}, "ports", "warning", "4646 is taken, by whom only root sees"),
    ("a port that the configuration moved", {"etc/mentat/agent.yaml": "port: 5000\n", "etc/mentat/server.yaml": None}, "ports",
     "failed", "5000 is taken by editor"),
    ("a network that the host is in", {"etc/mentat/server.yaml": GOOD["etc/mentat/server.yaml"] + "network: {range: 10.0.0.0/16}\n"},
     "vm-network", "warning", "10.0.0.0/16 (eth0) overlaps with 10.0.0.0/16"),
    ("a network of the node's own that it is in", {"etc/mentat/agent.yaml": "firecracker: {network: 10.0.7.0/24}\n"},
     "vm-network", "warning", "10.0.0.0/16 (eth0) overlaps with 10.0.7.0/24"),
    ("little entropy", {"proc/sys/kernel/random/entropy_avail": "20\n"}, "entropy", "warning", "20 bits"),
]


class Engine(socketserver.UnixStreamServer):
    """Answers what a Docker engine is asked for here: its version."""

    def __init__(self, path):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps({"Version": self.server.version}).encode()
                self.send_response(200 if self.path == "/version" else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def address_string(self):
                return "client"

            def log_message(self, *args):
                pass
        super().__init__(path, Handler)
        self.version = "28.2.2"
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self):
        self.shutdown()
        self.thread.join()
        self.server_close()


def put(root, path, content):
    full = os.path.join(root, path)
    if content is None:
        shutil.rmtree(full) if path.endswith("/") else os.unlink(full)
        return
    if path.endswith("/"):
        os.makedirs(full, exist_ok=True)
        return
    os.makedirs(os.path.dirname(full), exist_ok=True)
    if content.startswith("->"):
        os.symlink(content[2:], full)
        return
    with open(full, "w") as f:
        f.write("" if content == "-x" else content)
    os.chmod(full, 0o644 if content == "-x" or "bin/" not in path else 0o755)


def doctor(*args, prefix=()):
    done = subprocess.run([*prefix, program("mt"), "doctor", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60 * PATIENCE)
    return done


@unittest.skipUnless(os.geteuid() == 0, "only root can give files to a group")
class Hosts(unittest.TestCase):
    def setUp(self):
        self.disk = SmallDisk(4)
        self.addCleanup(self.disk.remove)
        self.root = self.disk.join("host")

    def build(self, changes=()):
        shutil.rmtree(self.root, ignore_errors=True)
        for path, content in {**GOOD, **dict(changes)}.items():
            if content is not None:
                put(self.root, path, content)
        if os.path.exists(self.root + "/dev/kvm"):
            os.chown(self.root + "/dev/kvm", 0, KVM)
            os.chmod(self.root + "/dev/kvm", 0o660)
        if os.path.exists(self.root + "/var/lib/mentat/state"):
            os.chown(self.root + "/var/lib/mentat/state", MENTAT, MENTAT)
            os.chmod(self.root + "/var/lib/mentat/state", 0o700)
        os.makedirs(self.root + "/var/run")

    @contextlib.contextmanager
    def engine(self):
        path = self.root + "/var/run/docker.sock"
        engine = Engine(path)
        os.chown(path, 0, DOCKER)
        os.chmod(path, 0o660)
        try:
            yield engine
        finally:
            engine.close()
            os.unlink(path)

    def findings(self, *args):
        done = doctor("--root", self.root, "-o", "json", *args)
        return done.returncode, {row["check"]: row for row in json.loads(done.stdout)}

    def test_the_reference_host_is_well(self):
        self.build()
        with self.engine():
            status, rows = self.findings("--strict")
        # What no file shows is not judged from files.
        self.assertEqual({c for c, row in rows.items() if row["state"] == "skipped"}, {"certificates", "peers", "clock"})
        self.assertEqual({c: row["found"] for c, row in rows.items() if row["state"] not in ("ok", "skipped")}, {})
        self.assertEqual(status, 0)
        self.assertEqual(rows["ports"]["found"], "4646 is mentat-server's; 443 is haproxy's")
        self.assertEqual(rows["virtualization"]["found"], "VT-x, nested")
        self.assertTrue(rows["data-disk"]["found"].startswith("ext4; 512 GB; "), rows["data-disk"])
        self.assertTrue(all(row["mend"] is None and row["wanted"] for row in rows.values()))

    def test_what_is_wrong_is_found_and_nothing_else(self):
        for name, changes, check, state, words in BAD:
            with self.subTest(name):
                self.build(changes)
                with self.engine():
                    status, rows = self.findings()
                self.assertEqual(rows[check]["state"], state, rows[check])
                self.assertIn(words, rows[check]["found"])
                self.assertTrue(rows[check]["mend"])
                self.assertEqual(status, 1 if state == "failed" else 0)
                others = [r for c, r in rows.items() if c != check and r["state"] in ("warning", "failed")]
                self.assertEqual(others, [])

    def test_engines(self):
        self.build()
        status, rows = self.findings("docker")
        self.assertEqual((status, rows["docker"]["state"]), (1, "failed"))
        self.assertIn("no Docker engine at /var/run/docker.sock", rows["docker"]["found"])
        with self.engine() as engine:
            for version, state in (("28.2.2", "ok"), ("20.10.24+dfsg1", "ok"), ("19.3.5", "failed"), ("dev", "warning")):
                engine.version = version
                _, rows = self.findings("docker")
                self.assertEqual(rows["docker"]["state"], state, rows)
            engine.version = "28.2.2"
            put(self.root, "etc/group", f"kvm:x:{KVM}:mentat\ndocker:x:{DOCKER}:\n")
            _, rows = self.findings("docker")
            self.assertIn("mentat may not use", rows["docker"]["found"])
        put(self.root, "var/run/docker.sock", "")
        status, rows = self.findings("docker")
        self.assertEqual((status, rows["docker"]["state"]), (1, "failed"))

    def test_a_node_without_a_driver_needs_nothing_for_it(self):
        self.build({"etc/mentat/agent.yaml": "drivers: [exec]\n", "dev/kvm": None, "usr/local/bin/jailer": None,
                    "proc/cpuinfo": GOOD["proc/cpuinfo"].replace(" vmx", "")})
        status, rows = self.findings()
        self.assertEqual(status, 0)
        self.assertEqual({c for c, row in rows.items() if row["state"] == "skipped"},
                         {"certificates", "peers", "clock", "kvm", "virtualization", "firecracker", "docker", "vm-network"})

    def test_a_node_without_ingress_leaves_its_ports_to_others(self):
        for changes, found in (({}, "443 is taken by nginx, and this node has no ingress"),
                               ({"etc/mentat/agent.yaml": "proxy: {https_port: 0}\n"}, "4646 is mentat-server's")):
            self.build({"proc/72/comm": "nginx\n", **changes})
            _, rows = self.findings("ports")
            self.assertEqual(rows["ports"]["state"], "ok")
            self.assertTrue(rows["ports"]["found"].endswith(found), rows["ports"])

    def test_certificates(self):
        """Of the server by what the cluster gave it, of the agent by files of the operator's."""
        ours, stranger = Authority(since_days=20), Authority("stranger")
        config = "name: n1\ntls_cert: /etc/mentat/n1.pem\ntls_key: /etc/mentat/n1.key\ntls_ca: /etc/mentat/ca.pem\n"

        def look(server, agent, ca=ours, mode=0o600):
            self.build({"etc/mentat/agent.yaml": config, "var/lib/mentat/state/tls/identity.pem": "".join(map(text_of, server)),
                        "var/lib/mentat/state/tls/authorities.pem": text_of(ca.ca), "etc/mentat/ca.pem": text_of(ca.ca),
                        "etc/mentat/n1.pem": text_of(agent[0]), "etc/mentat/n1.key": text_of(agent[1])})
            os.chmod(self.root + "/var/lib/mentat/state/tls/identity.pem", 0o600)
            os.chmod(self.root + "/etc/mentat/n1.key", mode)
            status, rows = self.findings("certificates")
            return rows["certificates"]["state"], rows["certificates"]["found"]
        server, agent = (ours.issue(n, f"DNS:{n}.mentat", days=30) for n in ("1.server", "n1.agent"))
        state, found = look(server, agent)
        self.assertEqual(state, "ok", found)
        self.assertRegex(found, "^server: until .*; agent: until ")
        late, over, other = (ours.issue(n, "DNS:n1.agent.mentat", days=d) for n, d in (("late", 1), ("over", -1), ("other", 30)))
        for bad, state, words in (((server, late), "warning", "agent: its certificate expires at"),
                                  ((server, over), "failed", "agent: its certificate expired at"),
                                  ((server, (agent[0], other[1])), "failed", "agent: the key is not the certificate's"),
                                  ((agent, agent), "failed", "server: its certificate is for something else"),
                                  ((server, ours.issue("n2", "DNS:n2.agent.mentat", days=30)), "failed", "is for n2, and the configuration says n1"),
                                  ((server, agent, stranger), "failed", "do not vouch for its certificate: unable to get local issuer"),
                                  ((server, agent, ours, 0o644), "failed", "others may read its key (/etc/mentat/n1.key has mode 0644)"),
                                  ((server, agent, ours, 0o640), "warning", "mode 0640")):
            with self.subTest(words):
                self.assertEqual((state, words), (lambda s, f: (s, words if words in f else f))(*look(*bad)))

    def test_a_full_disk(self):
        self.build()
        self.disk.fill()
        status, rows = self.findings("data-disk", "boot-disk")
        self.assertEqual((status, list(rows)), (1, ["boot-disk", "data-disk"]))
        self.assertIn("0 % free", rows["data-disk"]["found"])

    def test_warnings_are_no_failure_unless_asked_for(self):
        self.build({"sys/kernel/mm/ksm/run": "1\n"})
        self.assertEqual(doctor("--root", self.root, "memory-sharing").returncode, 0)
        done = doctor("--root", self.root, "memory-sharing", "--strict")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"memory-sharing +warning +same-page merging is on")
        self.assertIn("\n  mend:   swapoff", done.stdout)

    def test_bad_usage(self):
        for args, words in ((["mitigation"], 'no check "mitigation"'), (["--root", "/no/such"], "no directory /no/such")):
            done = doctor(*args)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn(words, done.stderr)

    def test_an_empty_root_is_told_and_survived(self):
        os.makedirs(self.root)
        status, rows = self.findings()
        self.assertEqual(status, 1)
        self.assertEqual(rows["kvm"]["state"], "failed")


class Ways(unittest.TestCase):
    """This machine's network: what listens, what does not, and where there is no way."""

    def listeners(self):
        """Three neighbouring ports."""
        for base in range(33000, 60000, 3):
            sockets = []
            try:
                for port in range(base, base + 3):
                    s = socket.socket()
                    sockets.append(s)
                    s.bind(("127.0.0.1", port))
                    s.listen()
                return base, sockets
            except OSError:
                for s in sockets:
                    s.close()
        raise AssertionError("no three free ports")

    def peers(self, *args, prefix=()):
        done = doctor("peers", "-o", "json", *args, prefix=prefix)
        return done.returncode, json.loads(done.stdout)[0]

    def test_open_refused_and_unreachable(self):
        work = Workdir()
        self.addCleanup(work.remove)
        base, sockets = self.listeners()
        self.addCleanup(lambda: [s.close() for s in sockets])
        with open(work.join("server.yaml"), "w") as f:
            f.write(f"port: {base}\nservers: ['127.0.0.1:{base}']\n")
        with open(work.join("agent.yaml"), "w") as f:
            f.write(f"port: {base + 1}\nservers: 'http://127.0.0.1:{base}'\n")
        status, row = self.peers("--config-dir", work.path)
        self.assertEqual((status, row["state"]), (0, "ok"), row)
        self.assertEqual(row["found"], f"127.0.0.1: {base} open, {base + 1} open, {base + 2} open")
        sockets[1].close()
        status, row = self.peers("--config-dir", work.path)
        self.assertEqual((status, row["state"]), (0, "warning"), row)
        self.assertIn(f"{base} open, {base + 1} nothing listens, {base + 2} open", row["found"])

    @staticmethod
    def speaks_tls(listener, cert, key):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)

        def serve():
            while True:
                try:
                    s = listener.accept()[0]
                except OSError:
                    return
                with s, contextlib.suppress(OSError):        # who only knocks shakes no hands
                    context.wrap_socket(s, server_side=True).close()
        threading.Thread(target=serve, daemon=True).start()

    def test_who_answers_has_to_be_of_this_cluster(self):
        work, own, other = Workdir(), Authority(since_days=2), Authority("another one")
        base, sockets = self.listeners()
        for cleanup in (work.remove, own.workdir.remove, other.workdir.remove, *(s.close for s in sockets),
                        *(lambda s=s: s.shutdown(socket.SHUT_RDWR) for s in sockets)):
            self.addCleanup(cleanup)
        for s, cert in zip(sockets, (own.issue("good"), other.issue("strange"), own.issue("old", days=-1))):
            self.speaks_tls(s, *cert)
        files = "".join(f"{key}: {value}\n" for key, value in own.server_flags(1).items())
        with open(work.join("server.yaml"), "w") as f:
            f.write(f"port: {base}\nservers: ['127.0.0.1:{base}']\n" + files)
        with open(work.join("agent.yaml"), "w") as f:
            f.write(f"port: {base + 1}\n")
        status, row = self.peers("--config-dir", work.path)
        self.assertEqual((status, row["state"]), (1, "failed"), row)
        self.assertEqual(row["found"], f"127.0.0.1: {base} open, " + ", ".join(
            f"{port} open, but TLS with 127.0.0.1:{port}: the peer's certificate is refused: {why}"
            for port, why in ((base + 1, "unable to get local issuer certificate"), (base + 2, "certificate has expired"))))
        self.assertIn("run mt doctor certificates on both hosts", row["mend"])

    @unittest.skipUnless(os.geteuid() == 0, "only root can make a network namespace")
    def test_no_way(self):
        status, row = self.peers("--config-dir", "/nonexistent", "--peer", "10.0.0.9", "--peer", "[::1:1",
                                 prefix=("unshare", "-n"))
        self.assertEqual((status, row["state"]), (1, "failed"))
        self.assertEqual(row["found"], "[::1:1 is not host:port; 10.0.0.9: 4646 no way, 4647 no way, 4648 no way")

    def test_nothing_configured(self):
        self.assertEqual(self.peers("--config-dir", "/nonexistent")[1]["state"], "skipped")


if __name__ == "__main__":
    unittest.main(verbosity=2)
