"""Three servers and three agents as hosts of their own: each in a network namespace with an address, on a bridge, with a
disk and a wall clock that is its own.

All of it stands in namespaces of its own too (enter): of networks, mounts and processes. The kernel ends the processes
and takes away the rest when the first process in there ends, however that happens; only a folder and empty control groups
can be left, which the next run removes."""
import contextlib
import glob
import json
import mmap
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("MENTAT_BIN", f"{ROOT}/build/tests/chaos")      # programs whose clocks can be stepped
sys.path.insert(0, f"{ROOT}/tests/e2e")
from authority import Authority  # noqa: E402
from cluster_lib import first_admin_token  # noqa: E402
from lib import PATIENCE, Agent, Server, SmallDisk, bearer, program, wait_for  # noqa: E402

PREFIX = "mentat-chaos-"
INSIDE = "MENTAT_CHAOS_INSIDE"       # the run's own name; set in the namespaces
NET = "10.99.0."
BRIDGE_ADDRESS = NET + "254"
API, AGENT_API, RAFT = 4646, 4647, 4648
MOUNTED = "/sys/fs/cgroup"
SERVER_DISK_MB = 96
CERTIFICATE_DAYS = 10                # from before and after now: clocks are stepped


def run(*command, **kw):
    done = subprocess.run(command, capture_output=True, text=True, **kw)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def sweep(name):
    """Control groups of a run that is over."""
    for top in glob.glob(f"{MOUNTED}/**/{name}*", recursive=True):
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def sweep_dead():
    """What runs that were killed left behind."""
    names = {os.path.basename(p) for p in glob.glob(f"{MOUNTED}/**/{PREFIX}*", recursive=True) + glob.glob(f"/tmp/{PREFIX}*")}
    for name in names:
        pid = name[len(PREFIX):].split("-")[0]
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            sweep(name)
            shutil.rmtree(f"/tmp/{name}", ignore_errors=True)


def enter():
    """Starts this script again, in namespaces of its own. Returns there; outside, ends with what it ends with."""
    if INSIDE in os.environ:
        root = f"/tmp/{os.environ[INSIDE]}"
        run("mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", root)
        tempfile.tempdir = root
        return os.environ[INSIDE]
    if os.geteuid():
        sys.exit("network namespaces and mounts need root")
    sweep_dead()
    name = f"{PREFIX}{os.getpid()}"
    os.mkdir(f"/tmp/{name}")
    # In a row: each ends with the one before.
    child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork",
                              "--kill-child=KILL", "--mount-proc", sys.executable, *sys.argv], env={**os.environ, INSIDE: name})
    signal.signal(signal.SIGTERM, lambda *_: child.kill())
    status = None
    while status is None:
        with contextlib.suppress(KeyboardInterrupt):     # the one inside has it too, and makes its report
            status = child.wait()
    sweep(name)
    shutil.rmtree(f"/tmp/{name}", ignore_errors=True)
    sys.exit(status if status >= 0 else 1)


class Wire:
    """The cable of a host (see wire.c)."""

    def __init__(self, namespace, name):
        self.lock = threading.Lock()
        self.child = subprocess.Popen([program("chaos-wire"), namespace, "eth0", f"to-{name}"], text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.child.stdout.readline() != "up\n":
            raise RuntimeError(f"the cable of {name} does not work; is there /dev/net/tun?")

    def delay(self, least_ms, most_ms):
        """Returns how many frames were held since the last call."""
        with self.lock:
            self.child.stdin.write(f"{least_ms} {most_ms}\n")
            self.child.stdin.flush()
            return int(self.child.stdout.readline())


class Host:
    """A namespace with an address, programs, and a clock."""

    def __init__(self, name, number, top):
        self.name, self.address, self.top = name, f"{NET}{number}", top
        self.down = False                # its program was killed, and is not to run now
        os.makedirs(f"{top}/bin")
        self.namespace = f"{top}/network"
        open(self.namespace, "x").close()
        run("unshare", f"--net={self.namespace}", "true")
        self.wire = Wire(self.namespace, name)
        run("ip", "link", "set", f"to-{name}", "master", "bridge", "up")
        for command in (["addr", "add", f"{self.address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"],
                        ["link", "set", "lo", "up"]):
            self.inside("ip", *command)
        with open(f"{top}/bin/clock", "wb+") as f:
            f.write(bytes(8))
            f.flush()
            self.clock = mmap.mmap(f.fileno(), 8)

    def inside(self, *command, **kw):
        return run("nsenter", f"--net={self.namespace}", *command, **kw)

    def command(self, name):
        """What starts one of the programs here. Each host has its own file of it, by which it finds its clock."""
        path = f"{self.top}/bin/{name}"
        if not os.path.exists(path):
            shared = f"{os.path.dirname(self.top)}/{name}"
            if not os.path.exists(shared):
                shutil.copy(program(name), shared)
            os.link(shared, path)
        return ["nsenter", f"--net={self.namespace}", path]

    def set_clock(self, offset_s):
        self.clock[:] = struct.pack("=q", int(offset_s * 1e9))

    # --- what is done to packets that come in; each fault has a table of its own ---

    def add_filter(self, table, *rules):
        lines = "\n".join(["type filter hook input priority 0", "iif lo accept", *rules])
        self.inside("nft", "-f", "-", input=f"table ip {table} {{\nchain input {{\n{lines}\n}}\n}}\n")

    def remove_filter(self, table):
        """Returns how many packets it dropped."""
        listed = json.loads(self.inside("nft", "-j", "list", "table", "ip", table))
        dropped = 0
        for item in listed["nftables"]:
            for part in item.get("rule", {}).get("expr", []):
                dropped += part.get("counter", {}).get("packets", 0)
        self.inside("nft", "delete", "table", "ip", table)
        return dropped


class ServerHost(Host, Server):
    """Its disk is small, and can be filled and wiped."""
    kind = "server"

    def __init__(self, name, number, top, servers, authority):
        Host.__init__(self, name, number, top)
        self.id, self.authority = number, authority
        self.disk = SmallDisk(SERVER_DISK_MB)
        Server.__init__(self, name=name, data_dir=self.disk.join("state"), servers=servers, bind=self.address,
                        access="tokens", segment_mb=1, snapshot_mb=2, reserve_mb=4,
                        node_grace=f"{15 * PATIENCE:g}s", mass_loss_hold="0s")
        self.become(self.id)
        self.host, self.command = self.address, Host.command(self, "mentat-server")
        self.port = self.flags["port"] = API

    def become(self, server_id):
        self.id = server_id
        self.flags.update({"server_id": server_id,
                           **self.authority.server_flags(server_id, self.address, days=CERTIFICATE_DAYS)})

    def wipe(self):
        """What it had is gone, so that it may not vote under the id that it had."""
        shutil.rmtree(self.flags["data_dir"])
        self.become(self.id + 10)

    def status(self, timeout=2):
        """Raises while it does not know the token: it has just started, say."""
        answer = self.get("/v1/cluster", timeout=timeout)
        if answer.status != 200:
            raise OSError(f"{self.name}: {answer}")
        return answer.json


class AgentHost(Host, Agent):
    kind = "agent"

    def __init__(self, name, number, top, servers, authority, run_name):
        Host.__init__(self, name, number, top)
        Agent.__init__(self, _Nowhere, name, self.address, servers=servers, bind=self.address,
                       drivers="exec", cpus=16, memory_mb=4096,
                       **authority.agent_flags(name, self.address, days=CERTIFICATE_DAYS))
        self.host, self.command = self.address, Host.command(self, "mentat-agent")
        self.port = self.flags["port"] = AGENT_API
        self.group = self.flags["cgroup_root"] = f"{run_name}-{name}"


class _Nowhere:
    """Agents are told of all servers, not of one."""
    port = 0


class Hosts:
    """All of them, on a bridge where the clients are too."""

    def __init__(self, run_name):
        root = tempfile.gettempdir()
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "bridge", "type", "bridge")
        run("ip", "addr", "add", f"{BRIDGE_ADDRESS}/24", "dev", "bridge")
        run("ip", "link", "set", "bridge", "up")
        addresses = [f"{NET}{i}:{API}" for i in (1, 2, 3)]
        authority = Authority(since_days=CERTIFICATE_DAYS)
        self.servers = [ServerHost(f"s{i}", i, f"{root}/s{i}", addresses, authority) for i in (1, 2, 3)]
        self.agents = [AgentHost(f"a{i}", 10 + i, f"{root}/a{i}", addresses, authority, run_name) for i in (1, 2, 3)]
        self.all = self.servers + self.agents
        self.by_name = {h.name: h for h in self.all}
        # How all of them are spoken to: as one that may ask agents too.
        cert, key = authority.issue("asks", "DNS:99.server.mentat", days=CERTIFICATE_DAYS)
        self.tls, self.headers = authority.context(cert, key), {}
        for h in self.all:
            h.tls = self.tls
            h.curl = ["curl", "-s", "-m", "5", "--cacert", authority.ca, "--cert", cert, "--key", key]

    def ended(self):
        """Names of those whose programs ended by themselves."""
        return [h.name for h in self.all if not h.down and not h.process.alive()]

    def statuses(self, timeout=2):
        """Name and status of each server that answers."""
        found = {}
        for s in self.servers:
            with contextlib.suppress(Exception):
                found[s.name] = s.status(timeout)
        return found

    def leader(self):
        """Name of the server that leads in the highest term, as far as it is seen; None."""
        leading = [(status["term"], name) for name, status in self.statuses(0.5).items() if status["role"] == "leader"]
        return max(leading)[1] if leading else None

    def voters_are_all(self, statuses=None):
        """Each server lives, is a voter, and all name the same three as voters, each by the id that it has."""
        statuses = statuses if statuses is not None else self.statuses()
        ids = {s["id"] for s in statuses.values()}
        return len(ids) == 3 and all(
            {m["id"] for m in s["servers"] if m["membership"] == "voter"} == ids and len(s["servers"]) == 3
            and s["leader"] in ids for s in statuses.values())

    def start(self):
        for s in self.servers:
            s.start(wait=False)
        self.headers.update(bearer(first_admin_token(self.servers)))
        for s in self.servers:
            s.headers = self.headers
        wait_for(self.voters_are_all, 30, "three voters")
        for a in self.agents:
            a.start()
        wait_for(lambda: len(self.servers[0].items("/v1/nodes")) == 3, 30, "three nodes")

    def end(self):
        """Ends all; what agents left behind."""
        left = []
        for a in self.agents:
            left += a.end()
        for s in self.servers:
            s.kill()
        return left
