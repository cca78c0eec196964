#!/usr/bin/env python3
"""MicroVMs by the real programs: the firecracker driver on stand-ins of Firecracker and its jailer, which boot real Linux
guests under QEMU in software. MENTAT_ROUNDS is the number of rounds of kills."""
import contextlib
import glob
import hashlib
import json
import mmap
import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
import unittest
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "vmm"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import PATIENCE, Server, holding, metrics_in, mounts_in, program, wait_for  # noqa: E402
from vmm_lib import PORTS_READY, RealVmm, VmAgent, Vmm, isolate, missing  # noqa: E402

REAL = bool(os.environ.get("MENTAT_REAL_FIRECRACKER"))     # firecracker-real.sh
ROUNDS = int(os.environ.get("MENTAT_ROUNDS", "6"))

SERVICE = """
name: {name}
driver: firecracker
{more}
config:
  image: {image}
  command: [/bin/sh, -c]
  args: ["{script}"]
  {config}
restart: {{attempts: 0, then: fail}}
deploy: {{health_timeout_secs: 120, auto_revert: false}}
resources: {{cpus: 0.1, pids: 32}}
"""
# What may be killed: the agent, and by their arguments the guest, the monitor and the shim.
VICTIMS = ["agent", *(["firecracker\0--id"] if REAL else ["qemu-system", "vmm.py"]), "mentat-agent\0shim"]
WEB = "mkdir -p /www; hostname >/www/index.html; exec httpd -f -p 8080 -h /www"
WEB_MORE = """ports: [{name: http, port: 8080}]
health: {type: http, port: http, path: /, interval: 500ms, timeout: 400ms}"""

# Of a service: known values, which are looked for in all files at the end. The large one takes several frames.
KEYS = ["correct-horse-battery-staple", "tr0ub4dor-and-3-known-values", "hunter2-was-never-a-good-one"]
BIG, WORD = "0123456789abcdef-a-large-known-value-" * 1200, "xyzzy-a-known-word-of-magic"
SECRETS = """
secrets:
  - {name: key, file: key.pem, on_change: signal}
  - {name: big, file: big}
  - {name: word, env: WORD}
identity: {audience: tests}"""


def digest(value):
    return hashlib.sha256(value.encode()).hexdigest()


def busybox_root(directory):
    """A root file system of busybox alone."""
    for name in ("bin", "etc"):
        os.makedirs(f"{directory}/{name}")
    subprocess.run(["cp", "/bin/busybox", directory + "/bin/busybox"], check=True)
    for tool in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
        if tool != "busybox":
            os.symlink("busybox", f"{directory}/bin/{tool}")
    with open(directory + "/etc/passwd", "w") as f:
        f.write("root:x:0:0::/root:/bin/sh\nweb:x:100:101::/:/bin/sh\n")
    with open(directory + "/etc/group", "w") as f:
        f.write("root:x:0:\nweb:x:101:\nmore:x:102:web\n")
    return directory


@contextlib.contextmanager
def devices(*names, kvm=None):
    """A /dev of only these, and with a mode of a /dev/kvm, in the mounts of this test."""
    numbers = {name: os.stat("/dev/" + name).st_rdev for name in names}
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "devices", "/dev"], check=True)
    try:
        for name, number in numbers.items():
            os.mknod("/dev/" + name, stat.S_IFCHR | 0o666, number)
            os.chmod("/dev/" + name, 0o666)
        if kvm is not None:
            os.mknod("/dev/kvm", stat.S_IFCHR | kvm, os.makedev(1, 3))
        yield
    finally:
        subprocess.run(["umount", "-l", "/dev"], check=True)


def page(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20 * PATIENCE) as a:
        return a.read().decode().strip()


class Machines(unittest.TestCase):
    """One server and one agent for all of a class; each test ends with a host on which nothing is left."""
    settings, flags, secure = {}, {}, False

    @classmethod
    def setUpClass(cls):
        cls.vmm = RealVmm() if REAL else Vmm(**cls.settings)
        cls.server = Server(secure=cls.secure).start()
        cls.agent = VmAgent(cls.server, "n1", cls.vmm, **cls.flags).start()
        cls.root = busybox_root(cls.agent.images.join("busybox"))
        wait_for(cls.healthy, 30, "the driver")

    @classmethod
    def tearDownClass(cls):
        left = cls.agent.end() + cls.agent.left_on_host()
        cls.server.stop()
        assert not left, left

    @classmethod
    def healthy(cls):
        nodes = cls.server.get("/v1/nodes").json["items"]
        return nodes and any(d["name"] == "firecracker" and d["healthy"] for d in nodes[0]["drivers"])

    def tearDown(self):
        for s in self.server.items("/v1/services"):
            self.server.mt("stop", s["name"], "--purge")
        wait_for(lambda: not self.machines(), 30, "the end of all machines")

    def machines(self):
        slots = self.agent.flags["data_dir"] + "/firecracker/slots"
        return os.listdir(slots) if os.path.isdir(slots) else []

    def submit(self, name, script="exec sleep 10000", more="", config="", image=None, wait=False):
        text = SERVICE.format(name=name, script=script, more=more, config=config, image=image or self.root)
        a = self.server.mt("run", "-", *([] if wait else ["--detach"]), stdin=text, timeout=180)
        self.assertEqual(a.returncode, 0, a.stdout + a.stderr)

    def alloc(self, service):
        found = [a for a in self.server.items("/v1/allocs") if a["service"] == service]
        return max(found, key=lambda a: a["create_index"]) if found else None

    def wait_state(self, service, *states, timeout=60):
        def there():
            a = self.alloc(service)
            assert a and a["state"] in states, a
            return a
        return wait_for(there, timeout, f"{service} as {states}")

    def mt(self, *args, **kw):
        a = self.server.mt(*args, **kw)
        self.assertEqual(a.returncode, 0, a.stdout + a.stderr)
        return a.stdout

    def run_task(self, name, script, **kw):
        """A service that ends; what is said of its end."""
        self.submit(name, script, **kw)
        return self.wait_state(name, "failed", "complete", "lost")

    def processes(self, word):
        """Those of this test with the word in their arguments: of its mounts, which the stand-ins stay in."""
        found, own = [], os.readlink("/proc/self/ns/mnt")
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as f:
                if word.encode() in f.read() and (REAL or os.readlink(f"/proc/{pid}/ns/mnt") == own):
                    found.append(int(pid))
        return found


class Guest(Machines):
    def test_a_service_in_a_machine(self):
        """One machine, looked at from all sides, as booting it takes the longest."""
        for name, value in (("key", KEYS[0]), ("big", BIG), ("word", WORD)):
            self.mt("secret", "put", name, stdin=value)
        self.submit("web", "echo out $GREETING; echo trouble >&2; id; trap 'echo told $(sha256sum </run/secrets/key.pem)' HUP; "
                    + WEB.replace("exec httpd", "httpd") + " & while :; do wait; done", WEB_MORE + SECRETS, wait=True,
                    config="env: {GREETING: hello}\n  vcpus: 2\n  rate_limits: {disk_ops_per_second: 5000}")
        a = self.alloc("web")
        port = a["ports"][0]["host"]
        self.assertEqual(page(port), "web-0")
        logs = self.server.mt("logs", "web")
        self.assertEqual(logs.stdout.splitlines(), ["out hello", "uid=0(root) gid=0(root)"])
        self.assertEqual(logs.stderr.splitlines(), ["trouble"])
        self.check_requests(a)
        self.check_namespace()
        self.check_commands()
        self.check_environment(a)
        self.check_secrets()
        self.check_adoption(a, port)
        self.check_pause(a, port)
        # They were on no file system but those in memory, nor on the console.
        for directory in (self.agent.workdir, self.agent.runs, self.agent.images, self.server.workdir):
            self.assertEqual(holding(directory.path, *KEYS, BIG[:40], WORD), [])
        # Stopped: the guest's program is asked to end.
        self.mt("stop", "web")
        self.assertEqual(self.alloc("web")["state"], "complete")

    def check_requests(self, a):
        """What the monitor was told, in order; the stand-in has refused what the real one would."""
        if REAL:
            return
        seen = [r for r in self.vmm.requests() if r["id"].startswith(a["id"])]
        self.assertEqual([r["path"] for r in seen],
                         ["/logger", "/metrics", "/machine-config", "/boot-source", "/drives/config", "/drives/image",
                          "/network-interfaces/eth0", "/mmds/config", "/mmds", "/entropy", "/vsock", "/actions"])
        by_path = {r["path"]: r["body"] for r in seen}
        self.assertEqual(by_path["/machine-config"], {"vcpu_count": 2, "mem_size_mib": 128})
        self.assertEqual(by_path["/drives/image"]["rate_limiter"], {"ops": {"size": 5000, "refill_time": 1000}})
        self.assertTrue(by_path["/drives/image"]["is_read_only"])
        self.assertEqual(by_path["/boot-source"]["kernel_image_path"], "/vmlinux")
        self.assertEqual(by_path["/mmds/config"]["version"], "V2")
        self.assertEqual(by_path["/mmds"], {"mentat": {"service": "web", "job": "web", "replica": "0", "version": "1", "namespace": "default",
                                                       "node": "n1", "alloc_id": a["id"]}})

    def check_namespace(self):
        """The monitor is alone with its tap: nothing of the host's network is where it is, and no address to speak from."""
        monitor = self.processes(self.vmm.guest)[0]
        self.assertNotEqual(os.readlink(f"/proc/{monitor}/ns/net"), os.readlink("/proc/self/ns/net"))
        enter = ["nsenter", f"--net=/proc/{monitor}/ns/net", "ip"]
        links = json.loads(subprocess.run([*enter, "-j", "link"], capture_output=True, check=True).stdout)
        self.assertEqual(sorted(link["ifname"] for link in links), ["bridge", "host", "lo", "tap0"])
        self.assertEqual(subprocess.run([*enter, "-brief", "addr", "show", "up"], capture_output=True, check=True, text=True)
                         .stdout.count("/"), 0)

    def check_commands(self):
        run = lambda *args, **kw: self.server.mt("exec", "web", "--", *args, **kw)  # noqa: E731
        a = run("sh", "-c", "cat; echo problem >&2; exit 7", stdin="from the host\n")
        self.assertEqual((a.returncode, a.stdout, a.stderr), (7, "from the host\n", "problem\n"))
        # More than any window, both ways.
        big = "0123456789abcdef" * 20000
        a = run("sh", "-c", "tee /tmp/x | md5sum; wc -c </tmp/x", stdin=big)
        self.assertEqual(a.stdout.split()[-1], str(len(big)), a.stdout + a.stderr)
        a = run("cat", "/tmp/x")
        self.assertEqual(len(a.stdout), len(big))
        self.assertEqual(a.stdout, big)
        a = run("/no/such")
        self.assertNotEqual(a.returncode, 0)
        self.assertIn("does not exist in the image", a.stderr)
        # The root file system is the image's, written over.
        self.assertEqual(run("sh", "-c", "touch /bin/new && ls /bin/new").stdout, "/bin/new\n")
        self.assertFalse(os.path.exists(self.root + "/bin/new"))

    def check_environment(self, a):
        env = self.mt("exec", "web", "--", "env")
        for line in ("MENTAT_SERVICE=web", "MENTAT_REPLICA=0", "MENTAT_PORT_HTTP=8080", f"MENTAT_ALLOC_ID={a['id']}", "GREETING=hello"):
            self.assertIn(line, env.splitlines())
        self.assertIn(" web-0", self.mt("exec", "web", "--", "cat", "/etc/hosts"))
        self.assertEqual(self.mt("exec", "web", "--", "nproc").strip(), "2")
        # As many processes as resources.pids says, those of commands too.
        a = self.server.mt("exec", "web", "--", "sh", "-c", "for i in $(seq 40); do sleep 60 & done")
        self.assertNotEqual(a.returncode, 0)
        self.assertIn("fork", a.stderr)
        self.mt("exec", "web", "--", "killall", "sleep")
        gateway = self.mt("exec", "web", "--", "sh", "-c", "ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p'").strip()
        self.mt("exec", "web", "--", "ping", "-c", "1", "-W", "5", gateway)

    def sums(self, *names):
        """Of files of the guest's secrets directory."""
        return self.mt("exec", "web", "--", "sh", "-c", f"cd /run/secrets && sha256sum {' '.join(names)}").split()[::2]

    def check_secrets(self):
        self.assertEqual(self.sums("key.pem", "big"), [digest(KEYS[0]), digest(BIG)])
        self.assertEqual(self.mt("exec", "web", "--", "sh", "-c", "printf %s $WORD | sha256sum").split()[0], digest(WORD))
        self.assertEqual(self.mt("exec", "web", "--", "sh", "-c", "cd /run/secrets; stat -c '%a %U' . key.pem; stat -fc %T ."),
                         "700 root\n400 root\ntmpfs\n")
        self.mt("secret", "put", "key", stdin=KEYS[1])
        wait_for(lambda: f"told {digest(KEYS[1])}" in self.mt("logs", "web"), 30, "the signal, behind the file")

    def check_adoption(self, a, port):
        guests, token = self.processes(self.vmm.guest), self.sums("identity.jwt")
        self.agent.kill()
        self.mt("secret", "put", "key", stdin=KEYS[2])
        self.assertEqual(page(port), "web-0")
        self.agent.start()
        self.agent.wait_api()
        wait_for(lambda: self.server.mt("exec", "web", "--", "true").returncode == 0, 30, "the adopted machine")
        self.assertEqual(self.processes(self.vmm.guest), guests)
        self.assertEqual(self.alloc("web")["id"], a["id"])
        self.assertEqual(self.alloc("web")["restarts"], 0)
        wait_for(lambda: f"told {digest(KEYS[2])}" in self.mt("logs", "web"), 30, "what changed while the agent was away")
        self.assertNotEqual(self.sums("identity.jwt"), token)

    def check_pause(self, a, port):
        """It stands still, without requests, whatever becomes of the agent, and goes on as it was."""
        self.mt("pause", "web/0")
        said = lambda word: wait_for(lambda: self.alloc("web")["reason"] == word, 30, word)  # noqa: E731
        said("paused")
        self.assertIn("paused", self.mt("status", "web"))
        refused = self.server.mt("exec", "web", "--", "true")
        self.assertIn("the guest is paused", refused.stderr)
        self.assertIn("is paused: resume it first", self.server.mt("restart", a["id"]).stderr)
        if not REAL:
            self.assertEqual(self.vmm.requests()[-1]["body"], {"state": "Paused"})
        self.agent.kill()
        self.agent.start()
        self.agent.wait_api()
        self.mt("resume", "web/0")
        self.wait_state("web", "healthy")
        self.assertEqual(page(port), "web-0")
        before = time.time()
        self.assertTrue(before - 3 < int(self.mt("exec", "web", "--", "date", "+%s")) < time.time() + 3)
        self.assertEqual((self.alloc("web")["id"], self.alloc("web")["restarts"]), (a["id"], 0))
        # Stopped while it stands still: it goes on, so that it can end.
        self.mt("pause", "web/0")
        said("paused")

    def test_users_and_ends(self):
        self.assertEqual(self.run_task("code", "id; exit 3", config="user: web")["exit_code"], 3)
        self.assertEqual(self.mt("logs", "code").strip(), "uid=100(web) gid=101(web) groups=102(more)")
        a = self.run_task("oom", "dd if=/dev/zero of=/dev/null bs=30M & exec dd if=/dev/zero of=/dev/null bs=60M", config="memory_mb: 96")
        self.assertTrue(a["oom"], a)
        self.assertRegex(a["reason"], "out of memory.*96 MB")
        a = self.run_task("fine", "echo done", more="mode: task")
        self.assertEqual((a["state"], a["exit_code"]), ("complete", 0))
        # A monitor that is killed takes its machine with it.
        self.submit("killed")
        self.wait_state("killed", "running")
        for pid in self.processes(self.vmm.guest):
            os.kill(pid, signal.SIGKILL)
        self.assertRegex(self.wait_state("killed", "failed")["reason"], "ended by itself")

    def test_stops(self):
        self.submit("asked", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done", more="kill: {timeout: 30s}")
        self.submit("deaf", "trap '' TERM; echo ready; while :; do sleep 0.1; done", more="kill: {timeout: 1s}")
        for name in ("asked", "deaf"):
            wait_for(lambda: "ready" in self.server.mt("logs", name).stdout, 60, f"{name} to be ready")
            self.mt("stop", name)
        self.assertIn("bye", self.mt("logs", "asked"))
        self.assertEqual(self.alloc("deaf")["exit_signal"], 9)

    def test_what_cannot_start_says_why(self):
        text = os.path.join(self.agent.images.path, "text")
        with open(text, "w") as f:
            f.write("nothing to boot")
        for name, words, kw in (
                ("nofile", "No such file", {"image": self.agent.images.join("none")}),
                ("elsewhere", "not below firecracker.image_roots", {"image": "/etc"}),
                ("text", "it is none of", {"image": text}),
                ("kernel", "no uncompressed kernel", {"config": f"kernel: {text}"}),
                ("command", "`/bin/nothing` does not exist in the image", {"script": "", "config": "", "command": "/bin/nothing"}),
                ("user", "user `nobody` does not exist in the image", {"config": "user: nobody"}),
                ("panic", "ended by itself.*Kernel panic", {"config": "kernel_args: rdinit=/nothing root=/dev/nothing"})):
            command = kw.pop("command", None)
            if command:
                kw["image"] = self.root
                spec = SERVICE.format(name=name, script="", more="", config="", image=self.root).replace("[/bin/sh, -c]", f"[{command}]")
                self.server.mt("run", "-", "--detach", stdin=spec)
            else:
                self.submit(name, **kw)
            self.assertRegex(self.wait_state(name, "failed")["reason"], words)
        wait_for(lambda: not self.machines(), 10, "the end of what could not start")


class Snapshots(Machines):
    # It sets its clock wrong, and draws random numbers all the time.
    script = ("mkdir -p /www; cat /proc/sys/kernel/random/uuid >/www/born; date -s @1000000000; httpd -p 8080 -h /www; "
              "(while [ ! -e /www/enough ] && read x </proc/sys/kernel/random/uuid; do echo $x; done >/www/draws) & "
              "trap 'cp /run/mentat/environment /www/now' USR1; echo up; while :; do sleep 0.1; done")
    more = """count: {count}
ports: [{{name: http, port: 8080}}]
health: {{type: http, port: http, path: /born, interval: 500ms, timeout: 400ms}}"""

    def run_copies(self, count):
        self.submit("copy", self.script, self.more.format(count=count), config="snapshot: true\n  snapshot_signal: USR1", wait=True)

    def replica(self, n):
        return next(a for a in self.server.items("/v1/allocs") if a["replica"] == n and a["desired"] == "run")

    def say(self, n, command):
        return self.mt("exec", f"copy/{n}", "--", "sh", "-c", command).strip()

    def kept(self):
        folder = self.agent.flags["data_dir"] + "/firecracker/snapshots"
        found = os.listdir(folder) if os.path.isdir(folder) else []
        return [f"{folder}/{name}" for name in found if not name.endswith(".new")]

    def paths(self, n):
        a = self.replica(n)
        return [r["path"] for r in self.vmm.requests() if r["id"].startswith(a["id"])]

    def get(self, n, path):
        url = f"http://127.0.0.1:{self.replica(n)['ports'][0]['host']}/{path}"
        with urllib.request.urlopen(url, timeout=20 * PATIENCE) as answer:
            return answer.read()

    def check_clock(self, n, told, known):
        """It was told the time of the host between the two, and is behind by what its way took at most."""
        before = time.time()
        says = int(self.say(n, "date +%s"))
        self.assertTrue(before - (known - told) - 1 < says <= time.time(), (n, before, says, known - told))

    def check_draws(self):
        """What both have drawn is what the copied memory has: none of it was drawn later."""
        for n in (0, 1):
            self.say(n, "touch /www/enough")
        first, second = (self.get(n, "draws").split() for n in (0, 1))
        same = len(os.path.commonprefix([first, second]))
        self.assertTrue(0 < same < min(len(first), len(second)), (same, len(first), len(second)))
        self.assertFalse(set(first[same:]) & set(second))
        last = first[same - 1]
        with open(self.kept()[0] + "/snapshot_memory", "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            # In halves: where two pages meet, one of them may be torn.
            self.assertTrue(any(memory.find(part) >= 0 for part in (last[:18], last[18:])), (same, len(first), len(second)))

    def test_later_replicas_begin_with_the_memory_of_the_first(self):
        told, known = {0: time.time()}, {}
        self.run_copies(1)
        wait_for(self.kept, 30, "its snapshot")
        self.assertEqual(self.say(0, "hostname"), "copy-0")
        known[0] = time.time()
        self.assertIn("up", self.mt("logs", "copy/0"))
        # What the machine wrote takes no disk beside what is kept, though its jail holds the files.
        wait_for(lambda: sum(os.stat(p).st_blocks for p in glob.glob(self.agent.runs.path + "/*/*/root/snapshot_*")) == 0, 10,
                 "the end of its own files")
        told[1] = time.time()
        self.mt("scale", "copy", "2")
        wait_for(lambda: self.replica(1)["state"] == "healthy", 60, "the second one")
        known[1] = time.time()
        self.check_draws()
        self.assertIn("begins with the memory", self.mt("events"))
        if not REAL:
            self.assertEqual(self.paths(1), ["/logger", "/metrics", "/snapshot/load", "/mmds", "/vm"])
        # The same memory, and yet somebody else.
        self.assertEqual(self.say(0, "cat /www/born"), self.say(1, "cat /www/born"))
        self.assertEqual(self.say(1, "hostname; cat /etc/hosts").split()[0], "copy-1")
        for command in ("cat /proc/sys/kernel/random/uuid", "head -c 16 /dev/urandom | md5sum", "cat /sys/class/net/eth0/address"):
            self.assertNotEqual(self.say(0, command), self.say(1, command))
        for n in (0, 1):
            a = self.replica(n)
            self.assertIn(a["address"] + "/", self.say(n, "ip addr show eth0"))
            self.check_clock(n, told[n], known[n])
            self.assertEqual(self.get(n, "born").decode().strip(), self.say(n, "cat /www/born"))
        wait_for(lambda: "MENTAT_REPLICA=1" in self.say(1, "cat /www/now").splitlines(), 30, "its new environment")
        self.mt("exec", "copy/1", "--", "ping", "-c", "1", "-W", "5", self.say(1, "ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p'"))
        # One that is not complete is none, and gives way to the next.
        os.unlink(self.kept()[0] + "/snapshot_memory")
        self.mt("scale", "copy", "3")
        wait_for(lambda: self.replica(2)["state"] == "healthy", 60, "one that boots")
        self.assertEqual(self.replica(2)["restarts"], 0)
        self.assertNotEqual(self.say(0, "cat /www/born"), self.say(2, "cat /www/born"))
        wait_for(lambda: os.path.exists(self.kept()[0] + "/snapshot_memory"), 30, "another snapshot")
        # One that has ended begins anew, whatever its memory was.
        self.mt("restart", "copy/1")
        wait_for(lambda: self.replica(1)["state"] == "healthy", 60, "its restart")
        self.assertNotEqual(self.say(0, "cat /www/born"), self.say(1, "cat /www/born"))
        # One that is damaged is dropped, and the machine boots.
        with open(self.kept()[0] + "/snapshot_state", "wb") as f:
            f.write(b"nothing that a monitor would know")
        self.mt("scale", "copy", "4")
        wait_for(lambda: self.replica(3)["state"] == "healthy", 60, "the one that begins with it")
        self.assertIn("starts anew", self.mt("events"))
        self.assertEqual(self.replica(3)["restarts"], 0)
        self.assertNotEqual(self.say(2, "cat /www/born"), self.say(3, "cat /www/born"))


@unittest.skipIf(REAL, "the real one has vsock in all the others")
class Vsock(Machines):
    """The line that QEMU has not: the host's side of it, with a guest that is played."""
    settings = {"VMM_NULL": "1", "VMM_METRICS_S": "0.2"}

    def test_a_guest_over_vsock(self):
        a = self.server.mt("run", "-", stdin=SERVICE.format(name="web", script="", more="", image=self.root, config="balloon_mb: 128"))
        self.assertIn("balloon_mb: must be less than `memory_mb`", a.stderr)
        for name, value in (("key", KEYS[0]), ("big", BIG), ("word", WORD)):
            self.mt("secret", "put", name, stdin=value)
        self.submit("web", config="balloon_mb: 32", wait=True, more=SECRETS)
        first = self.alloc("web")["id"]
        self.assertEqual(self.asked_of_balloon()[0], {"amount_mib": 32, "deflate_on_oom": True, "stats_polling_interval_s": 30})
        self.submit("web", config="balloon_mb: 48", wait=True, more=SECRETS)
        wait_for(lambda: self.asked_of_balloon()[-1] == {"amount_mib": 48}, 30, "a larger balloon")
        wait_for(lambda: self.check_memory(48), 30, "the guest's memory in the metrics")
        wait_for(lambda: self.server.mt("logs", "web").stdout.count("\n") == 5, 30, "what it was given")
        logs = self.server.mt("logs", "web")
        lines = logs.stdout.splitlines()
        self.assertEqual((lines[0], logs.stderr), ("over vsock", "trouble\n"))
        given = {f"E WORD {digest(WORD)}", f"F key.pem {digest(KEYS[0])}", f"F big {digest(BIG)}"}
        self.assertEqual({line for line in lines[1:] if "identity.jwt" not in line}, given)
        self.mt("secret", "put", "key", stdin=KEYS[1])
        wait_for(lambda: self.server.mt("logs", "web").stdout.splitlines()[5::2] == [f"F key.pem {digest(KEYS[1])}", "told"], 30, "the change")
        a = self.server.mt("exec", "web", "--", "some", "words", stdin="and input")
        self.assertEqual((a.returncode, a.stdout), (5, "some words\nand input"))
        seen = wait_for(self.check_metrics, 30, "two lines of metrics")
        self.agent.kill()
        self.submit("web", config="balloon_mb: 40", more=SECRETS)
        self.agent.start()
        self.agent.wait_api()
        wait_for(lambda: self.server.mt("exec", "web", "--", "x").returncode == 5, 30, "the adopted machine")
        wait_for(lambda: self.asked_of_balloon()[-1] == {"amount_mib": 40}, 30, "the balloon that it missed")
        self.assertEqual((self.alloc("web")["id"], self.alloc("web")["version"], self.alloc("web")["restarts"]), (first, 3, 0))
        wait_for(lambda: self.check_metrics() > seen, 30, "metrics that go on where they were")
        wait_for(lambda: self.check_memory(40), 30, "its balloon in the metrics")
        self.submit("plain", wait=True)
        wait_for(lambda: any(name.startswith("mentat_vm_") and 'service="plain"' in name for name in self.metrics()), 30, "metrics of another")
        self.assertFalse([name for name in self.metrics() if "balloon_bytes" in name and 'service="plain"' in name])
        self.mt("stop", "plain")
        self.mt("stop", "web")
        self.assertEqual(self.alloc("web")["exit_signal"], 15)

    def asked_of_balloon(self):
        return [r["body"] for r in self.vmm.requests() if r["path"] == "/balloon" and r["id"].startswith(self.alloc("web")["id"])]

    def metrics(self):
        return metrics_in(self.agent.get("/v1/metrics").body.decode())

    def check_memory(self, balloon_mb):
        """What the guest and its balloon tell of its memory (vmm.py)."""
        labels = f'job="web",service="web",replica="0",alloc="{self.alloc("web")["id"]}"'
        wanted = {"guest_memory_bytes": {"total": 96e6, "free": 41e6, "available": 62e6, "disk caches": 8e6},
                  "balloon_bytes": {"target": balloon_mb << 20, "actual": balloon_mb << 20}}
        of = self.metrics()
        return all(of.get(f'mentat_vm_{name}{{{labels},kind="{kind}"}}') == value
                   for name, kinds in wanted.items() for kind, value in kinds.items())

    def check_metrics(self):
        """How many lines of the monitor's have come, by what the agent tells of them; None: not two yet."""
        text = self.agent.get("/v1/metrics").body.decode()
        a = self.alloc("web")
        labels = f'job="web",service="web",replica="0",alloc="{a["id"]}"'
        of = metrics_in(text)
        if f"mentat_vm_monitor_startup_seconds{{{labels}}}" not in of:
            return None
        lines = of[f'mentat_vm_vcpu_exits_total{{{labels},reason="io_in"}}'] / 11
        # Two drives, config and image.
        self.assertEqual(of[f'mentat_vm_block_bytes_total{{{labels},op="read"}}'], lines * 2 * 4096)
        self.assertEqual(of[f'mentat_vm_network_drops_total{{{labels},direction="out",reason="spoofed"}}'], lines)
        self.assertEqual(of[f"mentat_vm_monitor_startup_seconds{{{labels}}}"], 0.012)
        self.assertGreater(of[f"mentat_task_memory_bytes{{{labels}}}"], 0)
        heads = [line for line in text.splitlines() if line.startswith("# HELP")]
        self.assertEqual(len(heads), len(set(heads)))
        return lines if lines >= 2 else None


@unittest.skipIf(REAL, "these are the driver's own troubles, for which no guest is needed")
class Trouble(Machines):
    """What a host may lack: each time the reason is told, and nothing is left."""
    settings = {"VMM_NULL": "1"}
    flags = {"firecracker.network": "10.88.77.0/29"}

    def test_no_address_is_left(self):
        self.submit("many", more="count: 6")

        def settled():
            allocs = [a for a in self.server.items("/v1/allocs") if a["service"] == "many"]
            self.assertEqual(sorted(a["state"] for a in allocs), ["failed"] + 5 * ["running"])
            return next(a for a in allocs if a["state"] == "failed")
        self.assertRegex(wait_for(settled, 60, "five machines and no sixth")["reason"], "no address left for another microVM")
        self.mt("stop", "many")
        self.submit("after", wait=True)

    @contextlib.contextmanager
    def small_disk(self, size):
        """For allocations."""
        allocs = self.agent.flags["data_dir"] + "/allocs"
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "small", allocs], check=True)
        try:
            yield allocs
        finally:
            subprocess.run(["umount", "-l", allocs], check=True)

    def ports(self, *numbers):
        """The links of the bridge, once its ports have these numbers, by name."""
        bridge = self.agent.bridge

        def there():
            found = self.agent.links()
            self.assertEqual(sorted(found), [bridge, *[f"{bridge}.{n}" for n in numbers]])
            return found
        return wait_for(there, 30, f"ports {numbers}")

    def test_ports_for_machines_to_come(self):
        """None before an agent's first machine; those that come take them; none is left by an agent that is killed."""
        self.submit("before", wait=True)
        self.mt("stop", "before", "--purge")
        wait_for(lambda: not self.machines(), 30, "its end")
        self.agent.kill()
        self.agent.start()
        self.agent.wait_api()
        self.ports()
        self.submit("first", wait=True)
        address = self.bridge_address()
        own = int(self.machines()[0])
        self.ports(2, 3, 4, 5, 6)
        self.agent.kill()
        self.ports(own)
        self.agent.start()
        self.agent.wait_api()
        ready = self.ports(2, 3, 4, 5, 6)
        self.submit("second", wait=True)
        self.submit("third", wait=True)
        self.assertEqual(self.ports(2, 3, 4, 5, 6), ready)
        # Whatever comes and goes: guests know the bridge by it.
        self.assertEqual(self.bridge_address(), address)

    def bridge_address(self):
        """In hardware."""
        return json.loads(self.agent.run("ip", "-j", "link", "show", self.agent.bridge))[0]["address"]

    def test_no_room_for_what_is_written(self):
        with self.small_disk("192k") as allocs:
            text = SERVICE.format(name="full", script="", more="", config="", image=self.root)
            self.server.mt("run", "-", "--detach", stdin=text.replace("{cpus: 0.1,", "{disk_mb: 4096, cpus: 0.1,"))
            self.assertRegex(self.wait_state("full", "failed")["reason"], "the file that is written to over the image.*[Nn]o space")
            self.mt("stop", "full", "--purge")
            wait_for(lambda: not os.listdir(allocs), 30, "the end of what it left")

    def test_no_room_for_a_snapshot(self):
        """It is not begun: the machine runs on, and the log says why."""
        with self.small_disk("300m"):
            self.submit("copy", config="snapshot: true", wait=True)
            wait_for(lambda: re.search(r"no snapshot of a microVM was kept.*allocs/.* MiB left: the snapshot takes 144 while",
                                       self.agent.process.text()), 30, "the reason")
            self.assertEqual([r["path"] for r in self.vmm.requests() if r["id"].startswith(self.alloc("copy")["id"])][-1], "/actions")
            wait_for(lambda: not os.listdir(self.agent.flags["data_dir"] + "/firecracker/snapshots"), 10, "the end of what was begun")
            self.assertEqual((self.alloc("copy")["state"], self.alloc("copy")["restarts"]), ("running", 0))
            self.mt("stop", "copy", "--purge")
            wait_for(lambda: not self.machines(), 30, "its end")

    def wait_driver(self, agent, **wanted):
        """Until the node tells this of its driver."""
        wait_for(lambda: self.driver_of(agent).items() >= wanted.items(), 30, f"{wanted} of {agent.name}")

    def test_an_image_that_somebody_has_open(self):
        """As a monitor would that outlived its shim and the agent's memory of it."""
        volume = f"volumes: [{{source: {self.agent.flags['volume_root']}/kept, target: /data, size_mb: 16}}]"
        self.submit("kept", config=volume, wait=True)
        self.mt("stop", "kept", "--purge")
        with open(f"{self.agent.flags['volume_root']}/kept/0/volume.ext4", "r+b"):
            self.submit("kept", config=volume)
            self.assertRegex(self.wait_state("kept", "failed")["reason"], f"is in use: process {os.getpid()} writes to it")
            self.mt("stop", "kept", "--purge")
        self.submit("kept", config=volume, wait=True)

    def driver_of(self, agent):
        found = [d for n in self.server.items("/v1/nodes") if n["name"] == agent.name for d in n["drivers"]]
        self.assertEqual([d["name"] for d in found], ["firecracker"])
        return found[0]

    def test_without_kvm(self):
        agent = VmAgent(self.server, "n2", self.vmm, **{"firecracker.kvm-check": "true"})
        with devices("null", "random", "urandom"):
            agent.start()
            self.wait_driver(agent, healthy=False, version="1.7.0")
            self.assertIn("/dev/kvm does not exist", self.driver_of(agent)["detail"])
        self.assertEqual(agent.end(), [])

    def test_jails_in_a_directory_of_somebody_else(self):
        agent = VmAgent(self.server, "n4", self.vmm)
        os.chown(agent.runs.path, 65534, 65534)
        agent.start()
        self.assertNotEqual(agent.process.child.wait(30 * PATIENCE), 0)
        self.assertIn("must be a directory that the agent's user owns", agent.process.text())

    def test_an_agent_that_is_not_root(self):
        """It runs machines without a jail, without a network, and only where it may open /dev/kvm."""
        agent = VmAgent(self.server, "n3", self.vmm, **{"firecracker.kvm-check": "true",
                                                        "firecracker.image-roots": self.agent.images.path})
        os.chmod(self.agent.images.path, 0o755)
        agent.command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program("mentat-agent")]
        for directory in (agent.workdir.path, agent.runs.path):
            os.chown(directory, 65534, 65534)
        with devices("null", "random", "urandom", kvm=0o600):
            agent.start()
            self.wait_driver(agent, healthy=False, version="1.7.0")
            self.assertIn("/dev/kvm cannot be opened by the agent's user", self.driver_of(agent)["detail"])
            agent.kill()
        agent.start(**{"firecracker.kvm-check": "false"})
        self.wait_driver(agent, healthy=True)
        self.submit("plain", more="constraints: [{attribute: node.name, value: n3}]", wait=True)
        self.assertEqual(self.mt("logs", "plain"), "over vsock\n")
        # Nobody else speaks with the agent in the machine's place.
        self.assertEqual(stat.S_IMODE(os.stat(glob.glob(agent.runs.path + "/*/*/root")[0]).st_mode), 0o700)
        self.mt("stop", "plain")
        self.assertEqual(agent.end() + agent.left_on_host(), [])


class Network(Machines):
    @classmethod
    def setUpClass(cls):
        # As a Docker engine leaves a host.
        for rule in ("-P FORWARD DROP", "-N DOCKER-USER", "-A FORWARD -j DOCKER-USER", "-A DOCKER-USER -j RETURN"):
            subprocess.run(["iptables", *rule.split()], check=True)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        rules = subprocess.run(["iptables", "-S", "DOCKER-USER"], capture_output=True, text=True, check=True).stdout
        assert rules.splitlines() == ["-N DOCKER-USER", "-A DOCKER-USER -j RETURN"], rules
        for rule in ("-P FORWARD ACCEPT", "-F", "-X"):
            subprocess.run(["iptables", *rule.split()], check=True)

    def test_machines_of_a_job_reach_each_other_and_no_others(self):
        with open(os.path.join(self.agent.images.path, "job.yaml"), "w") as f:
            f.write("job: pair\nservices:\n")
            for name in ("one", "two"):
                text = SERVICE.format(name=name, script=WEB, more=WEB_MORE, config="", image=self.root)
                f.write("  - " + text.strip().replace("\n", "\n    ") + "\n")
        self.mt("run", f.name, timeout=180)
        self.submit("other", WEB, WEB_MORE, wait=True)
        address = {n: re.search(r"inet ([0-9.]+)", self.mt("exec", n, "--", "ip", "addr", "show", "eth0")).group(1)
                   for n in ("one", "two", "other")}

        def get(at, ip):
            return self.server.mt("exec", at, "--", "sh", "-c", f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {ip} 8080")
        a = get("one", address["two"])
        self.assertTrue(a.stdout.endswith("two-0\n"), f"{a}")
        for at, to in (("one", "other"), ("other", "one")):
            self.assertEqual(get(at, address[to]).stdout, "", f"{at} reaches {to}")
        # A machine cannot take another's address.
        self.mt("exec", "other", "--", "ip", "addr", "add", address["one"] + "/24", "dev", "eth0")
        a = self.server.mt("exec", "other", "--", "ping", "-c", "1", "-W", "2", "-I", address["one"], address["two"])
        self.assertNotEqual(a.returncode, 0)


class Volumes(Machines):
    secure = True

    def image(self, name):
        return f"{self.agent.flags['volume_root']}/{name}/0/volume.ext4"

    def volume(self, name, size_mb):
        return f"volumes: [{{source: {self.agent.flags['volume_root']}/{name}, target: /data, size_mb: {size_mb}}}]"

    def listed(self):
        """The volumes of this class's node, once it has told of what it holds now."""
        def told():
            v = json.loads(self.mt("volumes", "-o", "json"))
            assert v and all((x["state"] == "used") == bool(x.get("alloc")) for x in v), v
            return [(x["name"], x["size_mb"], x["state"]) for x in v]
        return wait_for(told, 30, "word of the volumes")

    def test_a_volume_stays_grows_and_is_checked(self):
        script = "echo start >>/data/starts; sync; cat /data/starts | wc -l; df -m /data | tail -n 1; exec sleep 1000"
        self.mt("volume", "create", "n1", "data/0", "--size-mb", "16")
        self.assertEqual(self.listed(), [("data/0", 16, "free")])
        for round, size in ((1, 16), (2, 40), (3, 8)):
            self.submit("data", script, config=self.volume("data", size) + "\n  user: web", wait=True)
            wait_for(lambda: "/data" in self.server.mt("logs", "data").stdout, 30, "its words")
            logs = self.mt("logs", "data").split()
            self.assertEqual(int(logs[0]), round)
            self.assertAlmostEqual(int(logs[2]), max(16, size if round < 3 else 40), delta=12)
            self.assertEqual(self.listed(), [("data/0", max(size, 40 if round == 3 else 0), "used")])
            self.mt("stop", "data", "--purge")
            wait_for(lambda: not self.machines(), 30, "its end")
            subprocess.run(["e2fsck", "-fn", self.image("data")], check=True, capture_output=True)
        self.mt("volume", "delete", "n1", "data/0", "--yes")
        wait_for(lambda: json.loads(self.mt("volumes", "-o", "json")) == [], 30, "word of that")

    def check_round(self, name):
        """On the host is what one machine needs, and nothing of those before; its volume is as a loss of power may leave it."""
        one, agent = self.machines(), self.agent
        self.assertEqual(len(one), 1)
        self.assertEqual(len(agent.links()), 2 + PORTS_READY, "a bridge, a port, and those that are ready")
        jails = glob.glob(agent.runs.path + "/*/*")
        self.assertEqual(len(jails), 1)
        self.assertEqual([m for m in mounts_in(agent.runs.path) if not m.startswith(jails[0])], [])
        self.assertEqual({group.rstrip("/").rsplit("/", 1)[1] for group in agent.groups()} - {"shims"}, {self.alloc(name)["id"]})
        for path in glob.glob("/sys/block/loop*/loop/backing_file"):
            with open(path) as f:
                self.assertNotIn("mentat", f.read())
        inode = f":{os.stat(self.image(name)).st_ino} "
        with open("/proc/locks") as f:
            self.assertEqual(len([line for line in f if "FLOCK" in line and inode in line and "->" not in line]), 1)
        self.check_image(self.image(name))
        return True

    def check_image(self, path):
        """A copy, taken while the guest stands still. What its journal holds is no damage."""
        guests = self.processes(self.vmm.guest)
        copy = self.vmm.workdir.join("copy.ext4")
        for pid in guests:
            os.kill(pid, signal.SIGSTOP)
        try:
            subprocess.run(["cp", "--sparse=always", path, copy], check=True)
        finally:
            for pid in guests:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGCONT)
        a = subprocess.run(["e2fsck", "-p", copy], capture_output=True, text=True)
        self.assertIn(a.returncode, (0, 1), a.stdout)
        subprocess.run(["e2fsck", "-fn", copy], check=True, capture_output=True)

    def test_rounds_of_kills(self):
        """Whatever is killed, at any step: the service comes back with its data, nothing is left, nothing is damaged."""
        seed = int(os.environ.get("MENTAT_SEED", random.randrange(1 << 30)))
        print("MENTAT_SEED", seed, flush=True)
        rng = random.Random(seed)
        script = "echo $MENTAT_ALLOC_ID >>/data/starts; sync; " + WEB
        text = SERVICE.format(name="hard", script=script, more=WEB_MORE, config=self.volume("hard", 16), image=self.root).replace(
            "{attempts: 0, then: fail}", "{attempts: 1000, window: 1h, delay: 100ms}")
        self.server.mt("run", "-", "--detach", stdin=text)
        self.wait_state("hard", "healthy", timeout=120)
        for _ in range(ROUNDS):
            victim = rng.choice(VICTIMS)
            time.sleep(rng.random() * 3)         # anywhere between a start and a long life
            if victim == "agent":
                self.agent.kill()
                time.sleep(rng.random())
                self.agent.start()
                self.agent.wait_api()
            else:
                for pid in self.processes(victim):
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
            if rng.random() < 0.3:
                continue                         # the next blow falls while it comes up
            self.wait_state("hard", "healthy", timeout=120)
            wait_for(lambda: self.check_round("hard"), 60, "the end of what was killed")
        # What was killed last may be healthy still, as far as is known.
        wait_for(lambda: page(self.wait_state("hard", "healthy", timeout=120)["ports"][0]["host"]) == "hard-0", 120, "its page")
        self.assertLessEqual(len(self.processes(self.vmm.guest)), 1, "two machines have the volume")
        self.assertGreaterEqual(len(self.mt("exec", "hard", "--", "cat", "/data/starts").split()), 1)
        self.mt("stop", "hard")
        wait_for(lambda: not self.machines(), 30, "its end")
        wait_for(lambda: not any(map(self.processes, VICTIMS[1:])), 10, "the end of its processes")
        subprocess.run(["e2fsck", "-fn", self.image("hard")], check=True, capture_output=True)


if __name__ == "__main__":
    why = missing()
    if why:
        print("skipped:", why)
        sys.exit(77)
    isolate()
    unittest.main(verbosity=2)
