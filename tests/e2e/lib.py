"""Helpers of the black-box tests: start the real programs, talk to them, wait for conditions, leave nothing behind.

Programs come from $MENTAT_BIN, else from build/bin of this repository. Only Python's standard library is used."""
import atexit
import contextlib
import datetime
import glob
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("MENTAT_BIN") or os.path.join(ROOT, "build", "bin")
# Slow machines and sanitizer builds may take longer: MENTAT_TEST_PATIENCE=5.
PATIENCE = float(os.environ.get("MENTAT_TEST_PATIENCE", "1"))


def program(name):
    path = os.path.join(BIN, name)
    if not os.access(path, os.X_OK):
        sys.exit(f"{path} is missing: build first, or set MENTAT_BIN")
    return path


def sanitized(name):
    """Whether the program is of a sanitizer build, which takes many times the memory."""
    with open(program(name), "rb") as f:
        return re.search(rb"__[at]san_", f.read()) is not None


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(condition, timeout=10, what="the condition", every=0.005):
    """Calls condition until it gives something true, and returns that. The pause only bounds the polling."""
    end = time.monotonic() + timeout * PATIENCE
    last = None
    while time.monotonic() < end:
        try:
            value = condition()
            if value:
                return value
        except (OSError, http.client.HTTPException, AssertionError, KeyError, IndexError) as e:
            last = e
        time.sleep(every)
    raise AssertionError(f"{what} did not come true within {timeout * PATIENCE:g} s" + (f"; last: {last!r}" if last else ""))


def duration_s(text):
    """Seconds of "500ms", "3s", "1m30s"."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    return sum(float(n) * units[u] for n, u in re.findall(r"([0-9.]+)(ms|[smhd])", text))


class Workdir:
    """A temporary directory that is gone afterwards; kept when MENTAT_KEEP is set."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="mentat-test-")
        atexit.register(self.remove)

    def remove(self):
        if not os.environ.get("MENTAT_KEEP"):
            shutil.rmtree(self.path, ignore_errors=True)

    def join(self, *parts):
        return os.path.join(self.path, *parts)


class SmallDisk(Workdir):
    """A file system of a few MB, for tests that fill it; needs root. Unmounted at the end, whatever happens."""

    def __init__(self, size_mb):
        super().__init__()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", self.path], check=True)

    def remove(self):
        if os.path.ismount(self.path):
            subprocess.run(["umount", "-l", self.path], check=True)
        super().remove()

    def fill(self):
        with open(self.join("hog"), "ab", buffering=0) as f, contextlib.suppress(OSError):
            for size in (65536, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        f.write(bytes(size))

    def make_room(self):
        os.unlink(self.join("hog"))


class Process:
    """One program under test; ended by its pid, whatever happens. command: what starts it where that is not the program's
    path; it must become the program (exec), whose pid is looked at."""

    def __init__(self, name, args, log, command=None):
        self.name, self.log_path = name, log
        self.log = open(log, "ab")
        self.child = subprocess.Popen([*(command or [program(name)]), *map(str, args)], stdin=subprocess.DEVNULL,
                                      stdout=self.log, stderr=self.log)
        self.pid = self.child.pid
        atexit.register(self.kill)

    def alive(self):
        return self.child.poll() is None

    def kill(self):
        """kill -9, and the end is awaited."""
        if self.alive():
            self.child.kill()
        self.child.wait()
        self.log.close()

    def stop(self, timeout=15):
        """SIGTERM; returns the exit status."""
        if self.alive():
            self.child.send_signal(signal.SIGTERM)
        try:
            status = self.child.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {timeout * PATIENCE:g} s of SIGTERM")
        self.log.close()
        return status

    def text(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def index(self):
        return int(self.headers.get("X-Mentat-Index", 0))

    @property
    def error(self):
        return self.json["error"]

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


def call(port, method, path, body=None, headers=None, timeout=70, host="127.0.0.1", tls=None):
    """One request on a connection of its own. body: bytes (JSON too, unless a header says otherwise), or something to send as
    JSON. tls: the context to speak by; None: plain."""
    headers = dict(headers or {})
    if body is not None and not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    if body is not None:
        headers.setdefault("Content-Type", "application/json")
    connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=tls) if tls else \
        http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def flag_list(flags):
    """As arguments; a list gives its flag several times."""
    return [f"--{k.replace('_', '-')}={v}" for k, vs in flags.items() for v in (vs if isinstance(vs, list) else [vs])]


class Server:
    """A mentat-server on a directory of its own; may be killed and started again on the same port and data."""
    host, command = "127.0.0.1", None        # where it is reached, and what starts it (see Process)

    def __init__(self, workdir=None, **flags):
        self.workdir = workdir or Workdir()
        self.port = free_port()
        self.flags = {"data_dir": self.workdir.join("state"), "port": self.port, "name": "s1", "reserve_mb": 1, **flags}
        self.process = None
        self.tls, self.headers = None, {}        # how the test speaks to it

    def start(self, wait=True):
        self.process = Process("mentat-server", flag_list(self.flags), self.workdir.join("server.log"), self.command)
        if wait:
            wait_for(self.ready, 20, "the server's readiness")
        return self

    def ready(self):
        assert self.process.alive(), "mentat-server ended: " + self.process.text()[-2000:]
        return self.get("/v1/readyz").status == 200

    def kill(self):
        self.process.kill()

    def stop(self):
        return self.process.stop()

    def call(self, method, path, body=None, headers=None, timeout=70):
        return call(self.port, method, path, body, {**self.headers, **(headers or {})}, timeout, self.host, self.tls)

    def get(self, path, **kw):
        return self.call("GET", path, **kw)

    def post(self, path, body=None, **kw):
        return self.call("POST", path, body, **kw)

    def items(self, path):
        """All items of a list, over all its pages."""
        out, cursor = [], ""
        while True:
            joint = "&" if "?" in path else "?"
            page = self.get(path + (f"{joint}cursor={urllib.parse.quote(cursor)}" if cursor else ""))
            assert page.status == 200, page
            out += page.json["items"]
            cursor = page.json["next_cursor"]
            if not cursor:
                return out

    def mt(self, *args, stdin="", timeout=60):
        """The real mt, as a user of this server runs it."""
        return subprocess.run([program("mt"), *args], input=stdin, capture_output=True, text=True, timeout=timeout * PATIENCE,
                              env={**os.environ, "MENTAT_ADDR": f"http://127.0.0.1:{self.port}"})

    def metric(self, name):
        for line in self.get("/v1/metrics").body.decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        raise KeyError(name)


class Agent:
    """A real mentat-agent of a Server, on a directory, loopback address and cgroup subtree of its own."""
    host, command = "127.0.0.1", None        # where its API is reached, and what starts it (see Process)

    def __init__(self, server, name, ip="127.0.0.1", **flags):
        self.workdir, self.name, self.ip, self.port = Workdir(), name, ip, free_port()
        self.group = f"mentat-e2e-{os.getpid()}-{name}"
        self.flags = {"data_dir": self.workdir.join("agent"), "volume_root": self.workdir.join("volumes"),
                      "port": self.port, "name": name, "ip": ip, "servers": f"127.0.0.1:{server.port}",
                      "cgroup_root": self.group, **flags}
        self.process = None
        self.tls = None          # how the test speaks to it

    def start(self, **more):
        flags = {**self.flags, **more}
        self.process = Process("mentat-agent", flag_list(flags), self.workdir.join("agent.log"), self.command)
        return self

    def kill(self):
        self.process.kill()

    def get(self, path):
        return call(self.port, "GET", path, timeout=10, host=self.host, tls=self.tls)
