#!/usr/bin/env python3
"""From a release to a host that runs Mentat: install.sh and the package, in hosts with systemd, and on roots that are
directories. Installing again, upgrades under running tasks, what is refused, and what removal leaves."""
import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import PATIENCE, ROOT, Workdir, wait_for  # noqa: E402
from machine_lib import Machine, assemble_release, change_release, make_ssh_key, missing  # noqa: E402

UNITS = ("mentat-server.service", "mentat-agent.service")
WEB = """
name: web
driver: exec
config: {command: /bin/sleep, args: ["86400"]}
resources: {cpus: 0.1, memory_mb: 16}
"""
# Some that the agent keeps, some that its unit takes away.
CAPABILITIES = {"NET_ADMIN": 12, "SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_CHROOT": 18, "SYS_ADMIN": 21, "SYS_BOOT": 22, "SYS_TIME": 25,
                "MAC_ADMIN": 33}
PAGES = """
name: web
driver: exec
config: {command: /bin/busybox, args: [httpd, -f, -p, "${ip}:${port.http}", -h, /srv], user: nobody}
resources: {cpus: 0.1, memory_mb: 16}
ports: [{name: http, port: 80}]
health: {type: http, port: http, path: /, interval: 1s}
ingress: [{host: www.example.com, port: http}]
"""
# A new cluster lets no service be a host process that its policy does not name.
POLICY = "profiles: [{name: exec-internal, services: [web]}]\n"


def setUpModule():
    global work, release
    if missing():
        raise unittest.SkipTest(missing())
    work = Workdir()
    release = work.join("release")
    assemble_release(release)


def tearDownModule():
    work.remove()


def read(path):
    with open(path, "rb") as f:
        return f.read()


class Hosts(unittest.TestCase):
    def setUp(self):
        newer = work.join("newer")
        if not os.path.exists(newer):
            # The same programs with a byte more, which is another release to everything but themselves.
            change_release(release, newer, mt=b"+\0", mentat_server=b"+\0", mentat_agent=b"+\0")
        self.host = Machine({"/release": release, "/newer": newer})
        self.addCleanup(self.host.stop)

    def install(self, *args, release="/release", status=0):
        done = self.host.run("sh", f"{release}/install.sh", *args, check=False)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def stub(self, name, script):
        """A program of the host that is this script from now on."""
        self.host.run("sh", "-c", f"cat >/usr/sbin/{name} && chmod 0755 /usr/sbin/{name}", stdin=f"#!/bin/sh\n{script}\n")

    def active(self):
        return [self.host.run("systemctl", "is-active", unit, check=False).stdout.strip() for unit in UNITS]

    def ready(self):
        wait_for(lambda: '"ready"' in self.host.run("mt", "nodes", "-o", "json", check=False).stdout, 30, "the node")

    def main_pids(self):
        return [self.host.run("systemctl", "show", "-P", "MainPID", unit).stdout.strip() for unit in UNITS]

    def run_task(self):
        self.host.run("mt", "policy", "set", "-", stdin=POLICY)
        self.host.run("mt", "run", "-", stdin=WEB)
        return self.task()

    def task(self):
        """The one task: its allocation, its restarts, and its process."""
        allocs = json.loads(self.host.run("mt", "allocs", "web", "-o", "json").stdout)
        self.assertEqual(len(allocs), 1, allocs)
        return allocs[0]["id"], allocs[0]["restarts"], self.task_process()

    def task_process(self):
        pids = self.host.run("sh", "-c", "grep -lx sleep /proc/[0-9]*/comm").stdout.split()
        self.assertEqual(len(pids), 1, pids)
        return pids[0]

    def test_from_nothing_to_gone(self):
        self.assertIn("systemctl start", self.install())
        self.assertEqual(self.active(), ["inactive"] * 2)
        self.install("--start")
        self.assertEqual(self.active(), ["active"] * 2)
        self.ready()
        self.check_layout()
        task = self.run_task()

        # Again: nothing changes, so nothing is restarted.
        before = self.main_pids()
        self.install()
        self.assertEqual(self.main_pids(), before)

        # Restarts, however they come, leave the task alone.
        self.host.run("systemctl", "restart", *UNITS)
        self.ready()
        self.assertEqual(self.task(), task)
        self.host.run("systemctl", "kill", "-s", "KILL", "--kill-whom=main", "mentat-agent")
        wait_for(lambda: self.active() == ["active"] * 2, 30, "the agent's return")
        self.ready()
        self.assertEqual(self.task(), task)
        before = self.main_pids()
        self.install(release="/newer")
        after = self.main_pids()
        self.assertFalse(set(before) & set(after) or "0" in after, (before, after))
        self.ready()
        self.assertEqual(self.task(), task)

        # An upgrade that is cut off before its restarts is made whole by the next.
        before = self.main_pids()
        self.stub("systemctl", '[ "$1" != try-restart ] || { kill -9 $PPID; exit; }\nexec /usr/bin/systemctl "$@"')
        self.install(status=-signal.SIGKILL)
        self.host.run("rm", "/usr/sbin/systemctl")
        self.assertEqual(self.main_pids(), before)
        self.install()
        after = self.main_pids()
        self.assertFalse(set(before) & set(after) or "0" in after, (before, after))
        self.ready()
        self.assertEqual(self.task(), task)

        # What still runs would be nobody's.
        self.assertIn("tasks still run here", self.install("uninstall", status=1))
        self.assertEqual(self.active(), ["active"] * 2)
        self.host.run("mt", "stop", "web", "--purge")
        self.stub("docker", '[ "$*" != "ps -q --filter label=mentat.alloc" ] || echo 0a1b2c')
        self.assertIn("tasks still run here (containers 0a1b2c)", self.install("uninstall", status=1))
        self.assertEqual(self.active(), ["active"] * 2)
        self.stub("docker", "exit 1")       # the engine is gone, and its containers with it
        self.host.run("sh", "-c", "echo kept >/mnt/unikernel-volumes/file; echo '# mine' >>/etc/mentat/agent.yaml")
        self.host.run("sh", "/opt/mentat/share/install.sh", "uninstall")
        self.assertEqual(self.active(), ["inactive"] * 2)
        for path in ("/opt/mentat", "/usr/local/bin/mt", "/etc/sysctl.d/60-mentat.conf", *(f"/etc/systemd/system/{u}" for u in UNITS)):
            self.assertFalse(os.path.lexists(self.host.path(path)), path)
        self.assertTrue(glob.glob(self.host.path("/var/lib/mentat/state/*")))

        # Configuration and state of before; then nothing but the volumes.
        self.install("--start")
        self.ready()
        self.assertTrue(read(self.host.path("/etc/mentat/agent.yaml")).endswith(b"# mine\n"))
        self.install("uninstall", "--purge")
        for path in ("/etc/mentat", "/var/lib/mentat", "/tmp/mentat"):
            self.assertFalse(os.path.exists(self.host.path(path)), path)
        self.assertEqual(self.host.run("id", "mentat", check=False).returncode, 1)
        self.assertTrue(os.path.exists(self.host.path("/mnt/unikernel-volumes/file")))

    def check_layout(self):
        groups = self.host.run("id", "-nG", "mentat").stdout.split()
        self.assertEqual(sorted(groups), ["docker", "kvm", "mentat"])
        user = self.host.run("systemctl", "show", "-P", "User", UNITS[0]).stdout.strip()
        self.assertEqual(user, "mentat")
        rows = self.doctor()
        for check in ("layout", "config", "ports"):
            self.assertEqual(rows[check]["state"], "ok", rows[check])
        self.assertIn("4647 is mentat-agent's", rows["ports"]["found"])
        reserved = self.host.run("sysctl", "-n", "net.ipv4.ip_local_reserved_ports").stdout.strip()
        self.assertEqual(reserved, "20000-32000")
        # The server has no rights and no files but its own; the agent cannot make anything the kernel's.
        server, agent = (self.status(pid) for pid in self.main_pids())
        self.assertEqual(server["CapEff"], "0" * 16)
        left = {name for name, number in CAPABILITIES.items() if int(agent["CapBnd"], 16) >> number & 1}
        self.assertEqual(left, {"NET_ADMIN", "SYS_CHROOT", "SYS_ADMIN"})
        self.assertEqual(agent["Seccomp"], "2")

    def doctor(self):
        return {r["check"]: r for r in json.loads(self.host.run("mt", "doctor", "-o", "json", check=False).stdout)}

    def status(self, pid):
        return dict(line.split(":\t", 1) for line in self.host.run("cat", f"/proc/{pid}/status").stdout.splitlines() if ":\t" in line)

    def test_ingress(self):
        """Port 80 answers, by processes that may nothing; and without a user for these, the host says so."""
        host = self.host
        host.run("sh", "-c", "userdel haproxy; groupdel haproxy")
        self.install()
        host.run("sh", "-c", "echo 'ingress: true' >>/etc/mentat/agent.yaml; mkdir /srv; echo hello >/srv/index.html")
        host.run("systemctl", "start", *UNITS)
        self.ready()
        host.run("mt", "policy", "set", "-", stdin=POLICY)
        host.run("mt", "run", "--detach", "-", stdin=PAGES)
        node = json.loads(host.run("mt", "nodes", "-o", "json").stdout)[0]["name"]
        for command in (["mt", "nodes", node], ["mt", "explain", "web"]):
            wait_for(lambda: "user haproxy: there is no such user" in host.run(*command).stdout, 30, f"{command} to say why")
        rows = self.doctor()
        self.assertEqual((rows["haproxy"]["state"], rows["ports"]["state"]), ("failed", "failed"))
        self.assertIn("there is no user haproxy", rows["haproxy"]["found"])
        self.assertIn("80 is nobody's", rows["ports"]["found"])

        host.add_proxy_user()
        page = ("curl", "-s", "-H", "Host: www.example.com", "http://127.0.0.1/")
        wait_for(lambda: host.run(*page, check=False).stdout == "hello\n", 30, "the page")
        self.assertIn("404 Not here", host.run(*page[:2], page[-1]).stdout)
        rows = self.doctor()
        self.assertEqual(rows["haproxy"]["state"], "ok" if "uacme" not in rows["haproxy"]["found"] else "warning", rows["haproxy"])
        self.assertRegex(rows["ports"]["found"], "80 is haproxy's; 443 is haproxy's$")
        self.assertNotIn("Not served", host.run("mt", "nodes", node).stdout)
        processes = host.run("sh", "-c", "grep -lx haproxy /proc/[0-9]*/comm").stdout.split()
        statuses = {pid: self.status(pid) for pid in (path.split("/")[2] for path in processes)}
        worker, = (pid for pid, status in statuses.items() if status["PPid"] in statuses)
        user, group = (host.run("id", option, "haproxy").stdout.strip() for option in ("-u", "-g"))
        self.assertEqual((statuses[worker]["Uid"].split(), statuses[worker]["Gid"].split()), ([user] * 4, [group] * 4))
        self.assertEqual((statuses[worker]["Groups"].strip(), statuses[worker]["CapEff"]), ("", "0" * 16))
        self.assertEqual(host.run("readlink", f"/proc/{worker}/root").stdout, "/var/lib/mentat/agent/ingress/empty\n")

    def test_publish(self):
        """Over SSH, onto a host whose task goes on."""
        host, key = self.host, make_ssh_key(work.join("key"))
        host.accept_ssh(key, "127.0.0.1:2222")

        def publish(directory, *args):
            return subprocess.run(
                ["nsenter", "-t", host.pid, "-n", os.path.join(ROOT, "scripts", "publish.sh"), "--from", directory,
                 "--ssh-option", "Port=2222", "--ssh-option", f"IdentityFile={key}", "--ssh-option",
                 "StrictHostKeyChecking=no", "--ssh-option", f"UserKnownHostsFile={key}.known", "root@127.0.0.1", *args],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120 * PATIENCE)

        done = publish(release, "--", "--start")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.ready()
        task, before = self.run_task(), self.main_pids()
        done = publish(work.join("newer"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertFalse(set(before) & set(self.main_pids()))
        self.ready()
        self.assertEqual(self.task(), task)
        self.assertEqual(glob.glob(host.path("/tmp/mentat-release.*")), [])
        # A release that does not start is told, not left for the users to notice.
        broken = work.join("broken")
        change_release(release, broken, mentat_server=b"#!/bin/sh\nexit 1\n")
        done = publish(broken)
        self.assertEqual(done.returncode, 1)
        self.assertIn("do not stay up", done.stderr)
        damaged = work.join("damaged")
        shutil.copytree(release, damaged)
        os.truncate(f"{damaged}/mt", 1000)
        self.assertIn("is damaged", publish(damaged).stderr)
        self.assertEqual(self.task_process(), task[2])

    def test_the_package(self):
        """As install.sh, by dpkg, whose own database is new here."""
        self.host.run("sh", "-c", "mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates /var/log /var/cache && touch /var/lib/dpkg/status")
        deb = os.path.basename(glob.glob(f"{release}/*.deb")[0])
        dpkg = ["dpkg", "--force-depends"]
        self.host.run("sh", "-c", "mkdir -p /usr/local/bin && : >/usr/local/bin/mt")
        done = self.host.run(*dpkg, "-i", f"/release/{deb}", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("/usr/local/bin/mt is not Mentat's", done.stderr)
        self.host.run("rm", "/usr/local/bin/mt")
        self.host.run(*dpkg, "-i", f"/release/{deb}")
        self.host.run("systemctl", "start", *UNITS)
        self.ready()
        self.check_layout()
        # By its name it is the first of PATH, before that for tapes.
        self.assertEqual(self.host.run("env", "PATH=/usr/local/bin:/usr/bin", "sh", "-c", "readlink -f $(command -v mt)").stdout, "/opt/mentat/bin/mt\n")
        task = self.run_task()
        before = self.main_pids()
        self.host.run(*dpkg, "-i", f"/release/{deb}")        # an upgrade to the same
        self.assertFalse(set(before) & set(self.main_pids()))
        self.ready()
        self.assertEqual(self.task(), task)
        self.assertIn("use apt", self.install(status=1))
        self.assertEqual(self.host.run(*dpkg, "-r", "mentat", check=False).returncode, 1)
        self.host.run("mt", "stop", "web", "--purge")
        self.host.run(*dpkg, "-r", "mentat")
        self.assertEqual(self.active(), ["inactive"] * 2)
        for path in ("/opt/mentat/bin", "/usr/local/bin/mt"):
            self.assertFalse(os.path.lexists(self.host.path(path)), path)
        self.assertTrue(glob.glob(self.host.path("/var/lib/mentat/state/*")))
        self.host.run("dpkg", "--purge", "mentat")
        self.assertFalse(os.path.exists(self.host.path("/var/lib/mentat")))
        # The two ways do not mix.
        self.install()
        done = self.host.run(*dpkg, "-i", f"/release/{deb}", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("install.sh uninstall", done.stderr)


class Root(unittest.TestCase):
    """A directory that is a system's root: nothing is started there, so what is refused is seen quickly."""

    def setUp(self):
        self.work = Workdir()
        self.addCleanup(self.work.remove)
        self.root = self.work.join("root")
        for directory in ("etc", "tmp", "mnt", "var/lib"):
            os.makedirs(os.path.join(self.root, directory))
        for name, text in (("passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("group", "root:x:0:\n"), ("shadow", ""), ("gshadow", "")):
            with open(os.path.join(self.root, "etc", name), "w") as f:
                f.write(text)

    def run_script(self, *args, source=None, root=True):
        return subprocess.run(["sh", os.path.join(source or release, "install.sh"), *(["--root", self.root] if root else []), *args],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60 * PATIENCE)

    def install(self, *args, source=None):
        done = self.run_script(*args, source=source)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def refused(self, words, *args, status=1, **kw):
        before = self.files()
        done = self.run_script(*args, **kw)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        self.assertIn(words, done.stderr)
        self.assertEqual(self.files(), before, "something was changed all the same")

    def files(self):
        found = {}
        for directory, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(directory, name)
                found[path] = os.readlink(path) if os.path.islink(path) else read(path)
        return found


class Directories(Root):
    def test_again_and_after_any_half(self):
        self.install()
        whole = self.files()
        self.assertTrue(os.path.islink(f"{self.root}/etc/systemd/system/multi-user.target.wants/{UNITS[0]}"))
        self.install()
        self.assertEqual(self.files(), whole)
        # Halves that a power loss may leave: what is missing is made, what was being written is written again.
        for path in ("opt/mentat/bin/mentat-agent", f"etc/systemd/system/{UNITS[1]}", "etc/sysctl.d/60-mentat.conf"):
            os.rename(f"{self.root}/{path}", f"{self.root}/{path}.new")
            with open(f"{self.root}/{path}.new", "r+b") as f:
                f.truncate(10)
        shutil.rmtree(f"{self.root}/var/lib/mentat")
        self.install()
        self.assertEqual(self.files(), whole)

    def test_sums(self):
        damaged = self.work.join("damaged")
        shutil.copytree(release, damaged)
        with open(f"{damaged}/mentat-agent", "r+b") as f:
            f.seek(100000)
            f.write(b"x")
        self.refused("the release is damaged", source=damaged)
        os.unlink(f"{damaged}/SHA256SUMS")
        self.refused("SHA256SUMS is missing", source=damaged)
        os.unlink(f"{damaged}/layout.sh")
        self.refused("is no release", source=damaged)

    def test_a_full_disk_is_told_before_anything_is_changed(self):
        self.install()
        opt, most = f"{self.root}/opt", sum(os.stat(f"{release}/{p}").st_size for p in ("mt", "mentat-server", "mentat-agent"))
        kept = self.work.join("kept")
        os.rename(opt, kept)
        os.mkdir(opt)
        # Room for those that are installed and for no second ones.
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={most + (4 << 20)}", "none", opt], check=True)
        self.addCleanup(lambda: subprocess.run(["umount", opt], check=True))
        shutil.copytree(kept, opt, dirs_exist_ok=True)
        self.refused("MB free, and the programs take")
        self.refused("apt-get clean; journalctl --vacuum-size=100M; docker system prune")
        subprocess.run(["mount", "-o", f"remount,size={4 * most}", opt], check=True)
        self.install()

    def test_an_older_release_only_when_told(self):
        self.install()
        with open(f"{self.root}/opt/mentat/bin/mt", "w") as f:
            f.write("#!/bin/sh\necho mt 99.1.0\n")
        self.refused("release 99.1.0 is installed, which is newer")
        self.install("--downgrade")
        self.assertEqual(read(f"{release}/mt"), read(f"{self.root}/opt/mentat/bin/mt"))

    def test_traps_in_a_directory_that_all_may_write(self):
        os.symlink("/etc", f"{self.root}/tmp/mentat")
        done = self.run_script()
        self.assertEqual(done.returncode, 1)
        self.assertIn("/tmp/mentat is a symbolic link", done.stderr)
        os.unlink(f"{self.root}/tmp/mentat")
        os.mkdir(f"{self.root}/tmp/mentat")
        os.chown(f"{self.root}/tmp/mentat", 12345, 12345)
        done = self.run_script()
        self.assertEqual(done.returncode, 1)
        self.assertIn("/tmp/mentat belongs to another user", done.stderr)
        os.rmdir(f"{self.root}/tmp/mentat")
        self.install()

    def test_a_release_on_a_disk_without_programs(self):
        place = self.work.join("noexec")
        os.mkdir(place)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "none", place], check=True)
        self.addCleanup(lambda: subprocess.run(["umount", place], check=True))
        shutil.copytree(release, f"{place}/release", ignore=shutil.ignore_patterns("*.deb", "*.gz"))
        self.refused("is mounted noexec", source=f"{place}/release")

    def test_a_command_of_the_operator_s_own(self):
        os.makedirs(f"{self.root}/usr/local/bin")
        for make in (lambda path: open(path, "w").close(), lambda path: os.symlink("/opt/tapes/mt", path)):
            make(f"{self.root}/usr/local/bin/mt")
            self.refused("/usr/local/bin/mt is not Mentat's")
            os.unlink(f"{self.root}/usr/local/bin/mt")
        self.install()

    def test_bad_usage(self):
        for args in (["--purge"], ["--from"], ["instal"], ["--data_disk", "x"]):
            self.refused("", *args, status=2)
        self.refused("no such directory", "--from", "/no/such/directory")

    def test_removal(self):
        before = self.files()
        self.install()
        self.install("uninstall")
        self.assertTrue(os.path.exists(f"{self.root}/etc/mentat/server.yaml"))
        self.install("uninstall", "--purge")
        self.install("uninstall", "--purge")
        after = {path: text for path, text in self.files().items() if not path.endswith("-")}       # copies of useradd
        gone = {path.removeprefix(self.root) for path in set(before) ^ set(after)}
        self.assertEqual(gone, set())


class DataDisk(Root):
    """Disks that are files."""

    def setUp(self):
        super().setUp()
        self.image = self.work.join("disk")
        self.mount = f"{self.root}/mnt/unikernel-volumes"

    @contextlib.contextmanager
    def disk(self, make=None, content=b"", size=64 << 20, at=3 << 20):
        """A new disk, made into something by a program, or with bytes of its own at a place (from the end, if negative)."""
        with open(self.image, "wb") as f:
            f.truncate(size)
            f.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
            f.write(content)
        if make:
            subprocess.run([*make, self.image], check=True, capture_output=True)
        done = subprocess.run(["losetup", "--find", "--show", self.image], capture_output=True, text=True)
        if done.returncode != 0:
            self.skipTest("no loop device can be had: " + done.stderr)
        try:
            yield done.stdout.strip()
        finally:
            subprocess.run(["umount", "-q", self.mount])
            subprocess.run(["losetup", "-d", done.stdout.strip()], check=True)

    def test_an_empty_disk_is_formatted_and_a_known_one_mounted(self):
        with self.disk() as disk:
            self.install("--data-disk", disk)
            self.assertTrue(os.path.ismount(self.mount))
            with open(f"{self.mount}/file", "w") as f:
                f.write("kept")
            fstab = read(f"{self.root}/etc/fstab")
            self.assertRegex(fstab.decode(), r"^UUID=[-0-9a-f]{36} /mnt/unikernel-volumes ext4 \S*nofail,x-systemd.device-timeout=0,\S* 0 2\n$")
            self.install("--data-disk", disk)
            # The host is made anew, the disk stays.
            subprocess.run(["umount", self.mount], check=True)
            self.install("--data-disk", disk)
            self.assertEqual(read(f"{self.mount}/file"), b"kept")
            self.assertEqual(read(f"{self.root}/etc/fstab"), fstab)

    def test_fstab_has_one_line_for_the_disk(self):
        """Of two lines for one place systemd takes the first."""
        fstab, others = f"{self.root}/etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n#UUID=1 /mnt/unikernel-volumes ext4 defaults 0 2\n"
        with open(fstab, "w") as f:
            f.write(others)
        os.chmod(fstab, 0o640)
        lines = []
        for _ in range(2):                      # the second takes the first one's place
            with self.disk() as disk:
                self.install("--data-disk", disk)
                uuid = subprocess.run(["blkid", "-p", "-o", "value", "-s", "UUID", disk], capture_output=True, text=True, check=True).stdout.strip()
            lines.append(read(fstab).decode().removeprefix(others))
            self.assertRegex(lines[-1], rf"^UUID={uuid} [^\n]*\n$")
        self.assertNotEqual(*lines)
        self.assertEqual(os.stat(fstab).st_mode & 0o777, 0o640)
        # What cannot be mounted leaves no line: here a known label, of something else.
        before = self.files()
        with self.disk(["mkswap", "-L", "mentat-data"]) as disk:
            self.assertIn("could not be mounted", self.run_script("--data-disk", disk).stderr)
        self.assertEqual(self.files(), before)
        # A line of the operator's own.
        with open(fstab, "w") as f:
            f.write("LABEL=mine /mnt/unikernel-volumes ext4 defaults 0 2\n")
        with self.disk() as disk:
            self.refused("/etc/fstab has LABEL=mine for /mnt/unikernel-volumes", "--data-disk", disk)
            self.assertEqual(read(self.image).strip(b"\0"), b"")

    def test_a_disk_that_holds_something_is_not_touched(self):
        for make, content, words in ((["mkfs.ext4", "-q", "-L", "photos"], b"", "ext4"), (["mkswap"], b"", "swap"),
                                     (None, b"a database without a label", "data that is not zeros")):
            with self.disk(make, content) as disk:
                before = read(self.image)
                done = self.run_script("--data-disk", disk)
                self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
                self.assertIn(f"holds something ({words}", done.stderr)
                self.assertFalse(os.path.ismount(self.mount))
                self.assertTrue(read(self.image) == before, "the disk was changed")

    def test_data_is_found_wherever_it_is(self):
        """A disk that lost what it began with. Those that are read whole, and one of which pieces are read."""
        for size, at in ((64 << 20, 40_000_000), (64 << 20, -512), (8 << 30, -512), (8 << 30, 5 << 30), (8 << 30, -(64 << 20))):
            with self.subTest(size=size, at=at), self.disk(content=b"EFI PART", size=size, at=at) as disk:
                done = self.run_script("--data-disk", disk)
                self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
                self.assertIn("holds something (data that is not zeros, in the", done.stderr)
                self.assertLess(os.stat(self.image).st_blocks, 64, "the disk was changed")
        with self.disk(size=2 << 20) as disk:
            self.install("--data-disk", disk)
        # What the refusal says one may do.
        with self.disk(["mkfs.ext4", "-q", "-L", "mentat-data"], b"before") as disk:
            self.install("--data-disk", disk)

    def test_what_is_no_disk(self):
        done = self.run_script("--data-disk", "/dev/null")
        self.assertEqual(done.returncode, 1)
        self.assertIn("is no disk", done.stderr)


class Units(unittest.TestCase):
    def test_systemd_takes_them(self):
        """Every line is known to systemd, and the sandboxes stay as tight as they are (docs/security.md)."""
        directory = os.path.join(ROOT, "packaging")
        files = [os.path.join(directory, unit) for unit in UNITS]
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True)
        complaints = [line for line in done.stderr.splitlines() if "is not executable" not in line and "mentat" in line]
        self.assertEqual(complaints, [])
        for file, most in zip(files, (12, 74)):
            done = subprocess.run(["systemd-analyze", "security", "--offline=yes", f"--threshold={most}", file],
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout[-300:])


if __name__ == "__main__":
    unittest.main(verbosity=2)
