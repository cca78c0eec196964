"""A small host for tests: systemd as its first process, on this machine's /usr (what is changed there is not
this machine's) with everything else empty, in namespaces of its own (systemd-nspawn). What is installed there touches nothing outside, and is gone with it."""
import atexit
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import uuid

from lib import BIN, PATIENCE, ROOT, wait_for


# Of this machine only /usr, and what is changed there is not this machine's.
NSPAWN = ["systemd-nspawn", "-q", "-D", "/", "--volatile=yes", "--overlay=/usr::/usr", "--register=no", "--keep-unit"]


@functools.cache
def missing():
    """Why there can be no such host here; "" when there can."""
    if os.geteuid() != 0:
        return "only root can start a host"
    if not shutil.which("systemd-nspawn"):
        return "systemd-nspawn is not installed; scripts/packages.sh all does that"
    done = subprocess.run([*NSPAWN, "--private-network", "--pipe", "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return "" if done.returncode == 0 else "systemd-nspawn does not work here: " + done.stderr[-300:]


def assemble_release(directory):
    """A release of the programs under test, as `make release` lays it out."""
    subprocess.run([os.path.join(ROOT, "scripts", "release.sh"), "--assemble", os.path.dirname(BIN), directory], check=True,
                   stdout=subprocess.DEVNULL)


def change_release(source, target, skip=(), **files):
    """A copy of a release with other contents of some files, and the sums of these. What begins with + is added to a file."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*skip))
    for name, content in files.items():
        with open(os.path.join(target, name.replace("_", "-")), "ab" if content.startswith(b"+") else "wb") as f:
            f.write(content.removeprefix(b"+"))
    os.unlink(os.path.join(target, "SHA256SUMS"))
    names = sorted(os.listdir(target))
    sums = subprocess.run(["sha256sum", *names], cwd=target, check=True, capture_output=True, text=True).stdout
    with open(os.path.join(target, "SHA256SUMS"), "w") as f:
        f.write(sums)


def make_ssh_key(path):
    """A key for SSH: path, and path.pub."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


class Network:
    """Namespaces that share one network, for hosts of that name each; `addresses` has theirs. In the namespace of the switch,
    which has an address too, are programs that reach the hosts from outside."""

    def __init__(self, names):
        self.prefix = f"mentat-{os.getpid()}"
        self.addresses = {name: f"10.20.0.{10 + i}" for i, name in enumerate(names)}
        atexit.register(self.remove)
        subprocess.run(["ip", "netns", "add", f"{self.prefix}-switch"], check=True)
        self.ip("switch", "link", "add", "bridge", "type", "bridge")
        self.ip("switch", "address", "add", "10.20.0.1/24", "dev", "bridge")
        self.ip("switch", "link", "set", "bridge", "up")
        for name, address in self.addresses.items():
            subprocess.run(["ip", "netns", "add", f"{self.prefix}-{name}"], check=True)
            self.ip("switch", "link", "add", f"to-{name}", "type", "veth", "peer", "host0", "netns", f"{self.prefix}-{name}")
            self.ip("switch", "link", "set", f"to-{name}", "master", "bridge", "up")
            self.ip(name, "link", "set", "lo", "up")
            self.ip(name, "address", "add", f"{address}/24", "dev", "host0")
            self.ip(name, "link", "set", "host0", "up")

    def ip(self, name, *words):
        subprocess.run(["ip", "-n", f"{self.prefix}-{name}", *words], check=True)

    def path(self, name):
        return f"/run/netns/{self.prefix}-{name}"

    def remove(self):
        for name in ("switch", *self.addresses):
            if os.path.exists(self.path(name)):
                subprocess.run(["ip", "netns", "delete", f"{self.prefix}-{name}"], check=True)


class Machine:
    """binds, writable: {path in the host: path of this machine}. namespace: its network; default: one without a way out."""

    def __init__(self, binds, namespace=None, writable=None):
        self.work = tempfile.mkdtemp(prefix="mentat-machine-")
        self.name = "mentat-" + uuid.uuid4().hex[:8]
        options = [f"--bind-ro={outside}:{inside}" for inside, outside in binds.items()]
        options += [f"--bind={outside}:{inside}" for inside, outside in (writable or {}).items()]
        options.append(f"--network-namespace-path={namespace}" if namespace else "--private-network")
        self.console = open(os.path.join(self.work, "console"), "wb")
        # Its own units are enough: those of this machine's packages have nothing to do there.
        self.child = subprocess.Popen(
            [*NSPAWN, "--boot", "--console=pipe", f"--machine={self.name}", *options, "systemd.unit=basic.target",
             "systemd.firstboot=no", "systemd.mask=systemd-networkd-wait-online.service"],
            stdin=subprocess.DEVNULL, stdout=self.console, stderr=self.console)
        atexit.register(self.stop)
        self.pid = None
        wait_for(self.booted, 60, "the host's start")
        self.add_proxy_user()

    def add_proxy_user(self):
        """What the package haproxy makes besides its files in /usr."""
        self.run("useradd", "-r", "-U", "-d", "/var/lib/haproxy", "-s", "/usr/sbin/nologin", "haproxy")

    def booted(self):
        if self.child.poll() is not None:
            with open(os.path.join(self.work, "console"), errors="replace") as f:
                raise RuntimeError("the host ended: " + f.read()[-2000:])
        # Before its first process there are others, which prepare.
        with open(f"/proc/{self.child.pid}/task/{self.child.pid}/children") as f:
            self.pid = f.read().split()[0]
        return self.run("systemctl", "is-active", "basic.target", check=False).stdout.strip() == "active"

    def command(self, *words):
        """The words as a command in the host."""
        return ["nsenter", "-t", self.pid, "-m", "-u", "-i", "-n", "-p", "env", "-i", "LC_ALL=C",
                "PATH=/opt/mentat/bin:/usr/sbin:/usr/bin:/sbin:/bin", *words]

    def run(self, *command, check=True, stdin=""):
        done = subprocess.run(self.command(*command), input=stdin, capture_output=True, text=True, timeout=120 * PATIENCE)
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def path(self, path):
        """A file of the host, seen from outside."""
        return f"/proc/{self.pid}/root{path}"

    def accept_ssh(self, key, listen):
        """Root comes in with the key, at listen (address:port)."""
        self.run("sh", "-c", "usermod -p '*' -s /bin/sh root; mkdir -p -m 0700 /root/.ssh /etc/dropbear; echo /bin/sh >/etc/shells")
        with open(self.path("/root/.ssh/authorized_keys"), "wb", opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
            with open(key + ".pub", "rb") as public:
                f.write(public.read())
        self.run("dropbear", "-R", "-s", "-p", listen)

    def cut_power(self):
        """Everything in it ends at once, with the first process."""
        os.kill(int(self.pid), signal.SIGKILL)
        self.child.wait(60 * PATIENCE)

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(20 * PATIENCE)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.console.close()
        shutil.rmtree(self.work, ignore_errors=True)
