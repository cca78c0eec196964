"""A Docker engine of the test's own: a dockerd in namespaces of its own, so that neither an engine of this machine nor
its network is touched, and so that everything ends with the test, whatever was killed."""
import base64
import ctypes
import glob
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import urllib.parse

from lib import Answer, Workdir, call, free_port, mounts_in, wait_for

INSIDE = "MENTAT_TEST_NAMESPACES"


def enter_namespaces():
    """Runs this script again as the child of process 1 of new namespaces (processes, mounts, network); does not return
    outside of them."""
    if os.environ.get(INSIDE):
        return
    for tool in ("dockerd", "docker-registry", "unshare", "ip", "iptables", "busybox"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing: run scripts/packages.sh all")
    if os.geteuid() != 0:
        print("a Docker engine needs root: skipped")
        sys.exit(77)
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable,
                          os.path.abspath(__file__), os.path.abspath(sys.argv[0])] + sys.argv[1:])


def init(argv):
    """Process 1: sets the namespaces up, runs the script, reaps what is left to it, ends with the script's status."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)       # no engine of this machine is seen
    child = os.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable] + argv)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, frame: os.kill(child, n))
    while True:
        pid, status = os.wait()
        if pid == child:
            sys.exit(os.waitstatus_to_exitcode(status) & 255)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=60):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def root_tar(extra=()):
    """A small root file system: busybox and its commands, two users. extra: (name, bytes, mode) of more files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        def add(name, data=None, mode=0o755, link=None):
            info = tarfile.TarInfo(name)
            info.mode = mode
            if link:
                info.type, info.linkname = tarfile.SYMTYPE, link
            elif data is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data) if data else None)
        for folder in ("bin", "etc", "proc", "sys", "dev", "data"):
            add(folder)
        add("tmp", mode=0o1777)
        with open(shutil.which("busybox"), "rb") as f:
            add("bin/busybox", f.read())
        for name in subprocess.check_output(["busybox", "--list"], text=True).split():
            if name != "busybox":
                add("bin/" + name, link="busybox")
        add("etc/passwd", b"root:x:0:0:root:/:/bin/sh\napp:x:1000:1001:app:/:/bin/sh\nzero:x:0:0:zero:/:/bin/sh\n", 0o644)
        add("etc/group", b"root:x:0:\napp:x:1001:\n", 0o644)
        for name, data, mode in extra:
            add(name, data, mode)
    return out.getvalue()


def with_libraries(program):
    """A program of this machine and what it is linked with, as more files of an image."""
    linked = re.findall(r"(/\S+) \(0x", subprocess.check_output(["ldd", program], text=True))
    files = []
    for path in [program, *linked]:
        with open(path, "rb") as f:
            files.append((path[1:], f.read(), 0o755))
    return files


class Engine:
    """dockerd; may be stopped, killed and started again on the same data."""

    def __init__(self, live_restore=True, workdir=None):
        self.workdir = workdir or Workdir()
        self.socket = self.workdir.join("docker.sock")
        self.group = f"mentat-docker-{os.getpid()}-{os.path.basename(self.workdir.path)}"
        self.live_restore, self.process, self.config = live_restore, None, {}

    def start(self, wait=True):
        self.launch()
        if wait:
            self.wait_up()
        return self

    def launch(self):
        config = self.workdir.join("daemon.json")
        with open(config, "w") as f:
            json.dump(self.config, f)
        pidfile = self.workdir.join("pid")
        if os.path.exists(pidfile):
            os.unlink(pidfile)       # of one that was killed; its pid may be somebody else's by now
        with open(self.workdir.join("dockerd.log"), "ab") as log:
            self.process = subprocess.Popen(
                ["dockerd", "--config-file", config, "--data-root", self.workdir.join("data"), "--exec-root",
                 self.workdir.join("exec"), "--pidfile", pidfile, "--host", "unix://" + self.socket, "--cgroup-parent",
                 self.group, "--shutdown-timeout", "5"] + (["--live-restore"] if self.live_restore else []),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_up(self):
        wait_for(self.answers, 60, "the Docker engine", every=0.05)

    def answers(self):
        # A child of an engine that was killed may hold the lock of its database for a moment. Elsewhere systemd starts the
        # engine again.
        if self.process.poll() is not None and self.log().rstrip().endswith("metadata database: timeout"):
            self.launch()
        assert self.process.poll() is None, "dockerd ended: " + self.log()[-2000:]
        return self.call("GET", "/_ping").status == 200

    def log(self):
        with open(self.workdir.join("dockerd.log"), errors="replace") as f:
            return f.read()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def end(self):
        """Everything goes: containers, engine, files, control groups."""
        try:
            if self.process.poll() is not None:
                self.start()
            for c in self.containers():
                self.call("DELETE", f"/containers/{c['Id']}?force=1")
            self.stop()
        finally:
            if self.process.poll() is None:
                self.kill()
            for mount in reversed(mounts_in(self.workdir.path)):
                subprocess.run(["umount", "-l", mount], check=False)
            for group in glob.glob(f"/sys/fs/cgroup/**/{self.group}", recursive=True):
                for folder, _, _ in os.walk(group, topdown=False):
                    try:
                        os.rmdir(folder)
                    except OSError:
                        pass
            self.workdir.remove()

    # --- its API ---

    def call(self, method, path, body=None, headers=None, timeout=60):
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection = UnixConnection(self.socket, timeout)
        try:
            connection.request(method, "/v1.41" + path if path != "/_ping" else path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def ok(self, method, path, body=None):
        a = self.call(method, path, body)
        assert a.status < 400, (method, path, a)
        return a

    def plain(self, image, command, **host_config):
        """What a command prints as `docker run --rm` runs it."""
        return self.run_wait(image, command, **host_config)[0]

    def image(self, name, *changes, extra=()):
        """docker import; changes are lines of a Dockerfile."""
        repo, tag = name.rsplit(":", 1)
        query = urllib.parse.urlencode([("fromSrc", "-"), ("repo", repo), ("tag", tag)] + [("changes", c) for c in changes])
        a = self.call("POST", "/images/create?" + query, root_tar(extra))
        assert a.status == 200 and b"error" not in a.body, a

    def containers(self, **labels):
        query = urllib.parse.quote(json.dumps({"label": [f"{k.replace('_', '.')}={v}" for k, v in labels.items()]}))
        return self.ok("GET", f"/containers/json?all=1&filters={query}").json

    def inspect(self, container):
        return self.ok("GET", f"/containers/{container}/json").json

    def run(self, name, image, command, **host_config):
        """docker run -d."""
        self.ok("POST", f"/containers/create?name={name}", {"Image": image, "Cmd": command, "HostConfig": host_config})
        self.ok("POST", f"/containers/{name}/start")

    def run_wait(self, image, command, user=None, **host_config):
        """docker run --rm: what it printed, and its status."""
        a = self.ok("POST", "/containers/create", {"Image": image, "Cmd": command, "User": user or "", "Tty": True,
                                                   "HostConfig": host_config})
        ident = a.json["Id"]
        self.ok("POST", f"/containers/{ident}/start")
        status = self.ok("POST", f"/containers/{ident}/wait").json["StatusCode"]
        text = self.ok("GET", f"/containers/{ident}/logs?stdout=1&stderr=1").body.decode(errors="replace")
        self.ok("DELETE", f"/containers/{ident}?force=1")
        return text, status


class Registry:
    """docker-registry on a free port of this machine, with a login when a password is given."""

    def __init__(self, password=None):
        self.workdir, self.port = Workdir(), free_port()
        self.name = f"127.0.0.1:{self.port}"
        config = self.workdir.join("config.yml")
        text = (f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {self.workdir.join('data')}}}}}\n"
                f"http: {{addr: '{self.name}'}}\n")
        if password:
            with open(self.workdir.join("htpasswd"), "w") as f:
                f.write("robot:" + bcrypt(password) + "\n")
            text += f"auth: {{htpasswd: {{realm: test, path: {self.workdir.join('htpasswd')}}}}}\n"
        with open(config, "w") as f:
            f.write(text)
        self.password = password
        self.process = subprocess.Popen(["docker-registry", "serve", config], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.answers, 20, "the registry")

    def answers(self):
        return call(self.port, "GET", "/v2/").status in (200, 401)

    def login(self):
        return base64.urlsafe_b64encode(json.dumps(
            {"username": "robot", "password": self.password} if self.password else {}).encode()).decode()

    def auth_file(self):
        """As `docker login` writes it."""
        path = self.workdir.join("config.json")
        with open(path, "w") as f:
            json.dump({"auths": {self.name: {"auth": base64.b64encode(f"robot:{self.password}".encode()).decode()}}}, f)
        return path

    def push(self, engine, image, name):
        """Puts a local image into the registry; returns its reference there. It does not stay in the engine."""
        repo, tag = name.split(":")
        engine.ok("POST", f"/images/{image}/tag?repo={self.name}/{repo}&tag={tag}")
        a = engine.call("POST", f"/images/{self.name}/{repo}/push?tag={tag}", b"", {"X-Registry-Auth": self.login()})
        assert a.status == 200 and b"error" not in a.body, a
        engine.ok("DELETE", f"/images/{self.name}/{name}")
        return f"{self.name}/{name}"

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.workdir.remove()


def bcrypt(password):
    """By the C library's crypt(3), which Python's own module is leaving out."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    return library.crypt(password.encode(), b"$2b$05$abcdefghijklmnopqrstuu").decode()


if __name__ == "__main__":
    init(sys.argv[1:])
