#!/usr/bin/env python3
"""Security profiles against a real engine: a program inside tries to break out, under each profile and under plain
Docker, where the same attempts succeed."""
import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import docker  # noqa: E402
from docker_lib import enter_namespaces  # noqa: E402
from lib import BIN, wait_for  # noqa: E402

BREAKOUT = os.path.join(os.path.dirname(BIN), "tests", "e2e", "breakout")
# What docker-legacy gives away: root inside, its own files, and what Docker's own filter and capabilities let through.
LEGACY_GIVES = {"write_root", "write_etc", "write_bin", "be_root", "setuid", "setuid_program", "capability", "chown", "chroot",
                "mknod", "raw_socket", "packet_socket", "ptrace", "fill_tmp"}
# … and what depends on the release of Docker and the kernel's configuration.
LEGACY_MAY_GIVE = {"io_uring", "vmsplice", "modify_ldt", "alg_socket", "vsock", "call_32", "kcmp", "pidfd_getfd", "process_vm_readv",
                   "name_to_handle", "clone3_user"}


def setUpModule():
    docker.setUpModule()
    with open(BREAKOUT, "rb") as f:
        program = f.read()
    extra = [("bin/breakout", program, 0o755), ("bin/breakout-setuid", program, 0o4755)]
    docker.engine.image("breakout:1", "USER 1000", "ENV PATH=/bin", extra=extra)
    docker.engine.image("breakout:root", "ENV PATH=/bin", extra=extra)


def tearDownModule():
    docker.tearDownModule()


def results(text):
    found = dict(re.findall(r"^(\w+) (done|refused: [^\r\n]*)\r?$", text, re.M))
    assert len(found) > 50, text
    return found


def done(found):
    return {name for name, how in found.items() if how == "done"}


def own_capabilities():
    """All that this machine has to give: --privileged would want those too that it has not."""
    with open("/proc/self/status") as f:
        bits = int(re.search(r"CapBnd:\s+(\w+)", f.read()).group(1), 16)
    names = ("CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
             "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
             "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
             "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ").split()
    return [name for bit, name in enumerate(names) if bits >> bit & 1]


class Breakout(docker.DockerTest):
    def attempts(self, image="breakout:1", **spec):
        name = f"b{len(self.server.services)}"
        self.docker(name, "/bin/breakout", image=image, mode="task", restart={"attempts": 0},
                    resources={"cpus": 0.1, "memory_mb": 1024}, **spec)
        alloc, report = self.run_to_end(name, 60)
        self.assertEqual(report["state"], "complete", report)
        return results(self.log_of(alloc))

    def test_nothing_of_docker_hardened_breaks(self):
        found = self.attempts()
        self.assertEqual(done(found), set(), found)
        self.assertIn("No space left", found["fill_tmp"])
        self.assertIn("Resource temporarily unavailable", found["forks"])
        self.assertIn("Read-only file system", found["write_root"].replace("Permission denied", "Read-only file system"))

    def test_root_by_an_exception_has_still_nothing_else(self):
        found = self.attempts(image="breakout:root", security={"root": True})
        # Root without capabilities may name itself root again, and enter what belongs to root.
        self.assertEqual(done(found) - {"be_root", "setuid", "setuid_program"}, set(), found)
        self.assertIn("Read-only file system", found["write_root"])

    def test_docker_legacy_gives_what_it_says_and_no_more(self):
        found = self.attempts(image="breakout:root", security={"profile": "docker-legacy"})
        self.assertEqual(LEGACY_GIVES - done(found), set(), found)
        self.assertEqual(done(found) - LEGACY_GIVES - LEGACY_MAY_GIVE, set(), found)

    def test_each_attempt_can_succeed(self):
        """Under plain Docker or with all that it can give; but for what this machine itself cannot do."""
        engine = docker.engine
        plain = results(engine.plain("breakout:root", ["/bin/breakout"]))
        devices = [{"PathOnHost": d, "PathInContainer": d, "CgroupPermissions": "rwm"} for d in ("/dev/kmsg", "/dev/mem", "/dev/vda",
                   "/dev/sda", "/dev/nvme0n1") if os.path.exists(d)]
        privileged = results(engine.plain("breakout:root", ["/bin/breakout"], Binds=[
            engine.socket + ":/docker.sock", "/sys/fs/cgroup:/sys/fs/cgroup"], PidMode="host", Devices=devices,
            SecurityOpt=["seccomp=unconfined", "apparmor=unconfined"], CapAdd=own_capabilities(), MaskedPaths=[], ReadonlyPaths=[]))
        self.assertLess({"write_root", "be_root", "mknod", "forks", "fill_tmp"}, done(plain), plain)
        never = set(privileged) - done(plain) - done(privileged)
        here = subprocess.check_output([BREAKOUT] + sorted(never), text=True)
        self.assertNotIn(" done", here, privileged)
        self.assertLess(len(never), 12, never)

    def test_another_jobs_container_is_not_reached(self):
        self.sh("victim", "echo secret > /tmp/index.html; exec httpd -f -p 8000 -h /tmp", kill={"timeout": "0s"})
        victim, = self.up("victim")
        address = next(iter(self.container(victim)["NetworkSettings"]["Networks"].values()))["IPAddress"]
        ask = f"printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} 8000"
        wait_for(lambda: b"secret" in self.exec(victim, ["sh", "-c", ask])[0], what="the victim's own answer")
        self.sh("attacker", "sleep 1000", kill={"timeout": "0s"})
        attacker, = self.up("attacker")
        self.assertEqual(self.exec(attacker, ["sh", "-c", ask])[0], b"")
        engine = docker.engine          # the test can fail: a container in the victim's network gets the answer
        network = next(iter(self.container(victim)["NetworkSettings"]["Networks"]))
        self.assertIn("secret", engine.plain("app:1", ["/bin/sh", "-c", ask], NetworkMode=network))


class Limits(docker.DockerTest):
    def refused(self, **spec):
        name = f"r{len(self.server.services)}"
        image = spec.pop("image", "breakout:1")
        self.docker(name, "/bin/true", image=image, mode="task", restart={"attempts": 0}, **spec)
        _, report = self.run_to_end(name)
        self.assertEqual(report["state"], "failed", report)
        return report["reason"]

    def test_volumes_of_others_and_links_out_of_the_root(self):
        root = self.workdir.join("volumes")
        os.makedirs(os.path.join(root, "other"), exist_ok=True)
        why = self.refused(config={"volumes": [{"source": root + "/other", "target": "/data"}]})
        self.assertIn("gives a service what is below", why)
        self.assertIn("is not below", self.refused(config={"volumes": [{"source": "/var/run", "target": "/data"}]}))
        os.makedirs(os.path.join(root, "r2"), exist_ok=True)
        os.symlink("/", os.path.join(root, "r2", "0"))
        why = self.refused(config={"volumes": [{"source": root + "/r2", "target": "/data"}]})
        self.assertIn("leads to /, which is not below the volume root", why)
        why = self.refused(config={"volumes": [{"source": root + "/r2", "target": "/data"}]}, security={"profile": "docker-legacy"})
        self.assertIn("leads to", why)

    def test_the_node_forbids_what_a_server_lets_through(self):
        self.agent.stop()
        self.start(**{"security.profiles": "docker-hardened", "security.privileges": "none"})
        self.healthy()
        self.assertIn("this node does not run profile docker-legacy", self.refused(security={"profile": "docker-legacy"}))
        self.assertIn("this node does not let a task have root", self.refused(image="breakout:root", security={"root": True}))
        self.assertIn("capabilities.NET_ADMIN", self.refused(security={"capabilities": ["NET_ADMIN"]}))
        self.assertIn("no profile allows", self.refused(config={"network": "host"}))
        _, report = self.task("exit 0")
        self.assertEqual(report["state"], "complete", report)
        self.server.service("host", "exit 0", mode="task", restart={"attempts": 0})
        _, report = self.run_to_end("host")
        self.assertIn("this node does not run profile exec-internal", report["reason"])


if __name__ == "__main__":
    enter_namespaces()
    unittest.main(verbosity=2)
