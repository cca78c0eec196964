"""For tests of microVMs: the stand-ins as programs of a directory, a guest kernel, and agents that use both."""
import atexit
import contextlib
import ctypes
import functools
import glob
import json
import os
import shutil
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
from lib import ROOT, Agent, Server, Workdir, mounts_in, program  # noqa: E402

# One that other users can run too: this one may be somebody's own.
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable

PORTS_READY = 20                     # of a node that has machines, for those to come

WIRE = "198.51.100."                 # between hosts of tests
WIRE_ADDRESS = WIRE + "1"
CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000


def isolate():
    """A network and mounts of this process's own: nothing of a test is seen outside, and all of it goes with the test."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET | CLONE_NEWNS) or libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "cannot make namespaces")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def missing(*more):
    """Why microVMs, or what needs more programs, cannot be tested here; None: they can."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("qemu-system-x86_64", "mksquashfs", "mke2fs", "nft", "modprobe", "cpio", *more):
        if not shutil.which(program):
            return f"{program} is not installed; scripts/packages.sh all does that"
    if not os.path.exists("/dev/net/tun"):
        return "/dev/net/tun does not exist"
    return None


@functools.cache
def guest_kernel():
    """The directory of vmlinux and modules.cpio, made out of the distribution's kernel."""
    work = Workdir()
    os.chmod(work.path, 0o755)
    subprocess.run([os.path.join(ROOT, "scripts", "guest-kernel.sh"), work.path], check=True, stderr=subprocess.DEVNULL)
    return work.path


class RealVmm:
    """Firecracker and its jailer themselves: firecracker-real.sh."""
    guest, settings = "firecracker\0--id", {"firecracker.overhead-mb": 64, "firecracker.kvm-check": "true"}

    def __init__(self):
        self.firecracker, self.jailer = shutil.which("firecracker"), shutil.which("jailer")
        kernel = os.environ["MENTAT_GUEST_KERNEL"]
        self.kernel, self.modules = kernel, os.environ.get("MENTAT_GUEST_MODULES")

    def requests(self):
        return None                  # nobody writes them down


class Vmm:
    """The stand-ins, as users other than root can run them too; what they record."""

    guest = "qemu-system"            # in the arguments of the process that is the guest
    # Software emulation takes several times the memory of its guest.
    settings = {"firecracker.overhead-mb": 512, "firecracker.kvm-check": "false"}

    def __init__(self, **settings):
        self.workdir = Workdir()
        os.chmod(self.workdir.path, 0o755)
        directory = guest_kernel()
        self.kernel, self.modules = directory + "/vmlinux", directory + "/modules.cpio"
        self.record = self.workdir.join("requests")
        with open(self.record, "w"):
            os.chmod(self.record, 0o666)
        for name in ("api.py", "metrics.py", "vmm.py", "jailer.py", "null_guest.py"):
            shutil.copy(os.path.join(HERE, name), self.workdir.join(name))
        settings = {"VMM_RECORD": self.record, **settings}
        exports = "".join(f"export {k}='{v}'\n" for k, v in settings.items())
        self.firecracker = self.script("firecracker", exports + f"exec {PYTHON} {self.workdir.join('vmm.py')} \"$@\"\n")
        self.jailer = self.script("jailer", f"exec {PYTHON} {self.workdir.join('jailer.py')} \"$@\"\n")

    def script(self, name, text):
        path = self.workdir.join(name)
        with open(path, "w") as f:
            f.write("#!/bin/sh\n" + text)
        os.chmod(path, 0o755)
        return path

    def requests(self):
        with open(self.record) as f:
            return [json.loads(line) for line in f]


class VmAgent(Agent):
    """An agent with the firecracker driver on the stand-ins; its own bridge, network, users and directories."""
    count = 0
    inside = []                          # what runs a command where its network is

    def __init__(self, server, name, vmm, ip="127.0.0.1", **flags):
        VmAgent.count += 1
        number = VmAgent.count
        self.images = Workdir()
        self.runs = Workdir()
        os.chmod(self.runs.path, 0o755)
        self.bridge = f"mtt{number}"
        super().__init__(server, name, ip=ip, drivers="firecracker", **{
            "firecracker.binary": vmm.firecracker, "firecracker.jailer": vmm.jailer,
            "firecracker.kernel": vmm.kernel, **({"firecracker.modules": vmm.modules} if vmm.modules else {}),
            "firecracker.run-dir": self.runs.path, "firecracker.image-roots": self.images.path,
            "cpus": 16, **vmm.settings, "firecracker.bridge": self.bridge,
            "firecracker.network": f"10.88.{number}.0/24", "firecracker.uid-base": 870000 + 1000 * number,
            # A guest reaches other nodes, so theirs must be no loopback addresses then.
            **({} if ip.startswith("127.") else {"bind": ip, "allow_insecure": "true"}), **flags})
        self.host = ip if "bind" in self.flags else self.host
        atexit.register(self.sweep_host)

    def left_on_host(self):
        """Taps, bridges, rules, jails, mounts, numbers: what is left of machines."""
        links = list(self.links())
        rules = self.run("nft", "list", "tables")
        return links + self.routes() + [line for line in rules.splitlines() if self.bridge in line] + mounts_in(self.runs.path) \
            + glob.glob(self.runs.path + "/*/*") + glob.glob(self.flags["data_dir"] + "/firecracker/slots/*") \
            + glob.glob(self.flags["data_dir"] + "/firecracker/net/*")

    def run(self, *command):
        return subprocess.run([*self.inside, *command], capture_output=True, text=True, check=True).stdout

    def links(self):
        """Their indices by name."""
        out = self.run("ip", "-j", "link")
        return {i["ifname"]: i["ifindex"] for i in json.loads(out) if i["ifname"].startswith(self.bridge)}

    def routes(self):
        """To the machines of other nodes."""
        return self.run("ip", "route", "show", "proto", "77").splitlines()

    def sweep_host(self):
        """After a failed test."""
        for path in reversed(mounts_in(self.runs.path)):
            subprocess.run(["umount", "-l", path])
        self.kill_programs()

    def kill_programs(self, name=""):
        """Those whose command line begins so and has this agent's directory of machines: its own too, when name is empty."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", errors="replace") as f:
                line = f.read()
                if line.startswith(name) and self.runs.path in line:
                    os.kill(int(pid), signal.SIGKILL)


class WireServer(Server):
    """One that hosts reach, at the test's own address on their wire (hosts_wire)."""
    host = WIRE_ADDRESS

    def __init__(self, **flags):
        super().__init__(bind=WIRE_ADDRESS, allow_insecure="true", **flags)


class Host:
    """A network namespace, with an address on the wire of hosts_wire; far_end is its cable."""

    def __init__(self, number):
        self.workdir = Workdir()
        namespace = self.workdir.join("network")
        self.address, self.far_end = f"{WIRE}{10 + number}", f"host{number}"
        with open(namespace, "x"):
            pass
        subprocess.run(["unshare", f"--net={namespace}", "true"], check=True)
        self.inside = ["nsenter", f"--net={namespace}"]
        subprocess.run(["ip", "link", "add", self.far_end, "master", "wire", "up", "type", "veth", "peer", "name", "eth0",
                        "netns", namespace], check=True)
        for command in (f"addr add {self.address}/24 dev eth0", "link set eth0 up", "link set lo up",
                        f"route add default via {WIRE_ADDRESS}"):
            subprocess.run([*self.inside, "ip", *command.split()], check=True)

    def cable(self, state):
        """It is pulled out, or put in again: down, up."""
        subprocess.run(["ip", "link", "set", self.far_end, state], check=True)


class HostAgent(VmAgent):
    """One that is a host of its own: a network namespace, on a wire with the test's own (hosts_wire)."""

    def __init__(self, server, name, vmm, **flags):
        self.host_of_its_own = Host(VmAgent.count + 1)
        self.inside, address = self.host_of_its_own.inside, self.host_of_its_own.address
        self.command = [*self.inside, program("mentat-agent")]
        super().__init__(server, name, vmm, ip=address, servers=f"{WIRE_ADDRESS}:{server.port}",
                         **{"firecracker.bridge": "mentat0", "firecracker.network": "auto", **flags})
        self.bridge = "mentat0"

    def cut_power(self):
        """It is off the wire, and all of it ends: agent, shims, machines. What they left on it stays."""
        self.host_of_its_own.cable("down")
        self.kill()
        for pid in self.processes():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.kill_programs()

    def restore_power(self):
        self.host_of_its_own.cable("up")
        self.start()


def hosts_wire():
    """The network between hosts, with the test's own address on it."""
    for command in ("link add wire type bridge", f"addr add {WIRE_ADDRESS}/24 dev wire", "link set wire up"):
        subprocess.run(["ip", *command.split()], check=True)
