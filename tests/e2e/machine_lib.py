"""A small host for tests: systemd as its first process, on this machine's /usr (what is changed there is not
this machine's) with everything else empty, in namespaces of its own (systemd-nspawn). What is installed there touches nothing outside, and is gone with it."""
import atexit
import os
import shutil
import subprocess
import tempfile
import uuid

from lib import BIN, PATIENCE, ROOT, wait_for


def missing():
    """Why there can be no such host here; "" when there can."""
    if os.geteuid() != 0:
        return "only root can start a host"
    if not shutil.which("systemd-nspawn"):
        return "systemd-nspawn is not installed; scripts/packages.sh all does that"
    return ""


def assemble_release(directory):
    """A release of the programs under test, as `make release` lays it out."""
    subprocess.run([os.path.join(ROOT, "scripts", "release.sh"), "--assemble", os.path.dirname(BIN), directory], check=True,
                   stdout=subprocess.DEVNULL)


class Machine:
    """binds: {path in the host: directory of this machine}, read-only."""

    def __init__(self, binds):
        self.work = tempfile.mkdtemp(prefix="mentat-machine-")
        self.name = "mentat-" + uuid.uuid4().hex[:8]
        options = [f"--bind-ro={outside}:{inside}" for inside, outside in binds.items()]
        self.console = open(os.path.join(self.work, "console"), "wb")
        # Its own units are enough: those of this machine's packages have nothing to do there.
        self.child = subprocess.Popen(
            ["systemd-nspawn", "-q", "-D", "/", "--volatile=yes", "--boot", "--register=no", "--keep-unit", "--private-network",
             "--console=pipe", "--overlay=/usr::/usr", f"--machine={self.name}", *options, "systemd.unit=basic.target", "systemd.firstboot=no",
             "systemd.mask=systemd-networkd-wait-online.service"],
            stdin=subprocess.DEVNULL, stdout=self.console, stderr=self.console)
        atexit.register(self.stop)
        self.pid = None
        wait_for(self.booted, 60, "the host's start")

    def booted(self):
        if self.child.poll() is not None:
            with open(os.path.join(self.work, "console"), errors="replace") as f:
                raise RuntimeError("the host ended: " + f.read()[-2000:])
        # Before its first process there are others, which prepare.
        with open(f"/proc/{self.child.pid}/task/{self.child.pid}/children") as f:
            self.pid = f.read().split()[0]
        return self.run("systemctl", "is-active", "basic.target", check=False).stdout.strip() == "active"

    def run(self, *command, check=True, stdin=""):
        done = subprocess.run(["nsenter", "-t", self.pid, "-m", "-u", "-i", "-n", "-p", *command], input=stdin,
                              capture_output=True, text=True, timeout=120 * PATIENCE,
                              env={"PATH": "/opt/mentat/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"})
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def path(self, path):
        """A file of the host, seen from outside."""
        return f"/proc/{self.pid}/root{path}"

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
