"""Helpers of the black-box tests: start the real programs, talk to them, wait for conditions, leave nothing behind.

Programs come from $MENTAT_BIN, else from build/bin of this repository. Only Python's standard library is used."""
import atexit
import base64
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
import ssl
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


def text_of(path):
    with open(path) as f:
        return f.read()


def needles_of(*values):
    """What these values look like, as they are, in hexadecimal digits or in base64 at any offset."""
    needles = []
    for value in values:
        raw = value.encode()
        # Of a text in base64 the same three in four bytes stand wherever it begins.
        needles += [raw] + [base64.b64encode(b"\0" * i + raw)[4 * ((i + 2) // 3):-4] for i in range(3)] + [raw.hex().encode()]
    return needles


def memory_holding(pid, *values):
    """Where in the memory of a process one of these values stands; only root can look."""
    needles, found = needles_of(*values), []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for begin, end, what in re.findall(r"^(\w+)-(\w+) rw\S+ \S+ \S+ \S+ *(.*)$", maps.read(), re.M):
            memory.seek(int(begin, 16))
            data = memory.read(int(end, 16) - int(begin, 16))
            found += [(what, data[max(0, data.find(n) - 100):][:200]) for n in needles if n in data]
    return found


def holding(directory, *values):
    """Files below a directory in which one of these values stands (needles_of)."""
    needles, found = needles_of(*values), []
    for path in glob.glob(directory + "/**/*", recursive=True):
        if os.path.isfile(path):
            with open(path, "rb") as f:
                data = f.read()
            found += [path for needle in needles if needle in data][:1]
    return found


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


def metrics_in(text):
    """What a page of metrics says: the numbers by their names, with the labels as they stand there."""
    return {name: float(value) for name, value in re.findall(r"^(\w+(?:{.*})?) (\S+)$", text, re.M)}


def bearer(token):
    """The header that shows a token."""
    return {"Authorization": f"Bearer {token}"}


def unpadded(text):
    """Bytes of base64url, as a JWT has it."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def flag_list(flags):
    """As arguments; a list gives its flag several times."""
    return [f"--{k.replace('_', '-')}={v}" for k, vs in flags.items() for v in (vs if isinstance(vs, list) else [vs])]


SECRET = "0123456789abcdef0123456789abcdef"


def secret_file(workdir, name, text):
    path = workdir.join(name)
    with open(path, "w", opener=lambda p, how: os.open(p, how, 0o600)) as f:
        f.write(text + "\n")
    return path


def founding_flags(workdir):
    """Of the servers and agents of a cluster that makes its certificates itself and asks for tokens: they share a secret."""
    return {"tls": "auto", "bind": "127.0.0.1", "join_token_file": secret_file(workdir, "founding", SECRET)}


class Server:
    """A mentat-server on a directory of its own; may be killed and started again on the same port and data. secure: with
    certificates and tokens, as outside of tests; so are its agents then."""
    host, command = "127.0.0.1", None        # where it is reached, and what starts it (see Process)

    def __init__(self, workdir=None, secure=False, **flags):
        self.workdir = workdir or Workdir()
        self.port = free_port()
        self.flags = {"data_dir": self.workdir.join("state"), "port": self.port, "name": "s1", "reserve_mb": 1,
                      "new_cluster_policy": "open", **({"expect": 1, "tls": "auto", "bind": "127.0.0.1"} if secure else {}), **flags}
        self.process, self.program = None, "mentat-server"
        self.tls, self.headers = None, {}        # how the test speaks to it

    def start(self, wait=True):
        self.process = Process(self.program, flag_list(self.flags), self.workdir.join("server.log"), self.command)
        if wait:
            if self.flags.get("tls") == "auto" and not self.tls:
                self.headers = bearer(wait_for(self.admin_token, 30, "the administrator's token"))
                self.meet()
            wait_for(self.ready, 20, "the server's readiness")
        return self

    def authorities(self):
        """What its own host believes."""
        return os.path.join(self.flags["data_dir"], "tls", "authorities.pem")

    def believe(self):
        """The test believes what its own host does."""
        self.tls = ssl.create_default_context(cafile=self.authorities())

    def meet(self):
        """Once it has a certificate of the cluster's own authority, which follows the founders'."""
        wait_for(lambda: "this server has a new certificate" in self.process.text(), 60, "the server's certificate")
        self.believe()

    def as_peer(self, believed=None):
        """How it speaks itself, with agents and other servers: they show names, not addresses. believed: a server whose authorities
        hold for it, where its own do not."""
        context = ssl.create_default_context(cafile=(believed or self).authorities())
        context.check_hostname = False
        identity = os.path.join(self.flags["data_dir"], "tls", "identity.pem")
        context.load_cert_chain(identity, identity)
        return context

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
        env, trust = {**os.environ, "MENTAT_ADDR": f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"}, []
        if self.tls:
            env["MENTAT_TOKEN"], trust = self.headers["Authorization"].split()[1], ["--ca", self.authorities()]
        return subprocess.run([program("mt"), *trust, *args], input=stdin, capture_output=True, text=True, timeout=timeout * PATIENCE,
                              env=env)

    def admin_token(self):
        """What it wrote for root on its host; None: nothing yet."""
        path = os.path.join(self.flags["data_dir"], "admin-token")
        return text_of(path).strip() if os.path.exists(path) else None

    def join_token(self, workdir, *more):
        """A file with what an agent joins by."""
        made = self.mt("node", "token", "-q", *more)
        assert made.returncode == 0, made.stderr
        return secret_file(workdir, "join-token", made.stdout.strip())

    def metric(self, name):
        return metrics_in(self.get("/v1/metrics").body.decode())[name]


class Agent:
    """A real mentat-agent of a Server, on a directory, loopback address and cgroup subtree of its own."""
    host, command = "127.0.0.1", None        # where its API is reached, and what starts it (see Process)

    def __init__(self, server, name, ip="127.0.0.1", **flags):
        self.workdir, self.name, self.ip, self.port = Workdir(), name, ip, free_port()
        self.server = server
        self.secure = getattr(server, "flags", {}).get("tls") == "auto"
        if self.secure:
            flags = {"tls": "auto", "bind": "127.0.0.1", **flags}
            if "join_token_file" not in flags:
                flags["join_token_file"] = server.flags.get("join_token_file") or \
                    server.join_token(self.workdir, *(["--ingress"] if "ingress" in flags else []))
        self.group = f"mentat-e2e-{os.path.basename(self.workdir.path)[-8:]}-{name}"
        self.flags = {"data_dir": self.workdir.join("agent"), "volume_root": self.workdir.join("volumes"),
                      "port": self.port, "name": name, "ip": ip, "servers": f"127.0.0.1:{server.port}",
                      "cgroup_root": self.group, **flags}
        self.process = None
        self.tls = None          # how the test speaks to it, when it is not the server's way

    def start(self, **more):
        flags = {**self.flags, **more}
        self.process = Process("mentat-agent", flag_list(flags), self.workdir.join("agent.log"), self.command)
        return self

    def kill(self):
        self.process.kill()

    def get(self, path):
        tls = self.tls or (self.server.as_peer() if self.secure else None)
        return call(self.port, "GET", path, timeout=10, host=self.host, tls=tls)

    def wait_api(self):
        """A process that was just started does not listen yet; what it did before is no sign of it."""
        wait_for(lambda: self.get("/v1/healthz").status == 200, 20, "the agent's API")

    def groups(self):
        """The control groups of its tasks."""
        return glob.glob(f"/sys/fs/cgroup/**/{self.group}/*/*/", recursive=True)

    def processes(self):
        """Shims, tasks and their children: whoever works in a directory of an allocation."""
        return processes_in(self.flags["data_dir"] + "/allocs/")

    def left_over(self):
        return self.groups() + glob.glob(self.flags["data_dir"] + "/allocs/*") + mounts_in(self.flags["data_dir"]) + \
            [f"process {pid}" for pid in self.processes()]

    def end(self):
        """It stops all that it runs, whatever the test left; returns what is left of it: nothing."""
        try:
            if self.process.alive():
                self.process.stop()
            self.start(stop_tasks_on_exit="true")
            self.wait_api()
            status = self.process.stop(30)
            assert status == 0, self.process.text()[-2000:]
            return self.left_over()
        finally:
            self.sweep()

    def sweep(self):
        """What an agent that failed its test did not end."""
        for pid in self.processes():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self.processes(), 10, "the end of killed processes")
        for top in glob.glob(f"/sys/fs/cgroup/**/{self.group}", recursive=True):
            for directory, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)


def processes_in(directory):
    """The processes whose working directory is below this one."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/cwd").startswith(directory):
                found.append(int(pid))
    return found


def mounts_in(directory):
    """What is mounted below this one, in the order in which it was."""
    with open("/proc/self/mounts") as f:
        return [m for m in (line.split()[1] for line in f) if m.startswith(directory + "/")]


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as f:
        return int(f.read().rsplit(")", 1)[1].split()[1])


class FakeAgent:
    """Speaks the agents' routes like a mentat-agent whose tasks run at once, or as `behave` says.

    behave(alloc) gives the states to report for a new allocation, in order."""

    def __init__(self, server, node_id="aaaaaaaaaaaa", name="n1", cpus=8, memory_mb=16384, address="127.0.0.1:1",
                 behave=lambda alloc: ["running"], **node):
        self.server, self.node_id, self.behave = server, node_id, behave
        self.node = {"id": node_id, "name": name, "address": address, "ip": "127.0.0.1", "version": "test",
                     "arch": "x86_64", "kernel": "6.1.0", "cpus": cpus, "memory_mb": memory_mb, "disk_mb": 100000,
                     "drivers": [{"name": "exec", "healthy": True}], **node}
        self.allocs, self.seq, self.done = {}, {}, set()
        self.index, self.lock = 0, threading.Lock()
        self.stopping = threading.Event()
        self.threads, self.problems = [], []

    def register(self):
        a = self.server.post("/v1/agent/register", {"node": self.node})
        assert a.status == 200, a
        self.beat_s = duration_s(a.json["heartbeat"])
        return a

    def heartbeat(self):
        return self.server.post("/v1/agent/heartbeat", {"node_id": self.node_id})

    def start(self):
        self.register()
        for work in (self._sync, self._beat):
            t = threading.Thread(target=self._run, args=(work,), daemon=True)
            t.start()
            self.threads.append(t)
        return self

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join(30)

    def _run(self, work):
        while not self.stopping.is_set():
            try:
                work()
            except (OSError, http.client.HTTPException, ValueError):
                self.stopping.wait(0.05)
            except AssertionError as e:
                self.problems.append(str(e))
                self.stopping.wait(0.05)

    def _beat(self):
        self.stopping.wait(self.beat_s / 2)
        if self.heartbeat().status == 404:
            self.register()

    def _sync(self):
        a = self.server.get(f"/v1/agent/allocs?node={self.node_id}&index={self.index}&wait=2s")
        if a.status == 404:
            self.register()
            return
        assert a.status == 200, a
        self.take(a.json)

    def take(self, work):
        self.index = work["index"]
        with self.lock:
            for alloc in work.get("allocs") or []:
                self.allocs[alloc["id"]] = alloc
        reports = []
        for alloc in work.get("allocs") or []:
            reports += self.react(alloc)
        if reports:
            self.report(reports)

    def react(self, alloc):
        if alloc["desired"] == "stop":
            if (alloc["id"], "stop") in self.done:
                return []
            self.done.add((alloc["id"], "stop"))
            return [self.state(alloc["id"], "complete", "stopped")]
        generation = alloc.get("generation", 0)
        if (alloc["id"], generation) in self.done:
            return []
        self.done.add((alloc["id"], generation))
        if generation:
            return [self.state(alloc["id"], "starting", "restart asked for"), self.state(alloc["id"], "running")]
        return [self.state(alloc["id"], s) for s in self.behave(alloc)]

    def state(self, alloc_id, state, reason="test", **more):
        self.seq[alloc_id] = self.seq.get(alloc_id, 0) + 1
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"id": alloc_id, "seq": self.seq[alloc_id], "state": state, "reason": reason, "time": now,
                "started_at": now, **more}

    def report(self, reports):
        """One report for each step, so that every state is seen."""
        for r in reports:
            a = self.server.post("/v1/agent/report", {"node_id": self.node_id, "allocs": [r]})
            assert a.status == 204, a


class EventStream:
    """Reads GET /v1/events as server-sent events on a thread. timeout: seconds of silence that end it; servers say something
    every 15."""

    def __init__(self, port, query="", last_event_id=None, host="127.0.0.1", timeout=None, headers=None, tls=None):
        self.events, self.comments, self.closed = [], [], threading.Event()
        self.socket = socket.create_connection((host, port), timeout)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)
        more = {**(headers or {}), **({"Last-Event-ID": last_event_id} if last_event_id else {})}
        more = "".join(f"{name}: {value}\r\n" for name, value in more.items())
        self.socket.sendall(f"GET /v1/events{query} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode())
        self.response = http.client.HTTPResponse(self.socket)
        self.response.begin()
        self.status = self.response.status
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        event = {}
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            for line in self.response:
                line = line.decode().rstrip("\n")
                if line.startswith(":"):
                    self.comments.append((time.monotonic(), line))
                elif not line and event:
                    event["time"] = time.monotonic()
                    self.events.append(event)
                    event = {}
                elif line:
                    key, _, value = line.partition(": ")
                    event[key] = json.loads(value) if key == "data" else value
        self.closed.set()

    def find(self, **fields):
        """The events whose data has these fields."""
        return [e for e in list(self.events)
                if isinstance(e.get("data"), dict) and all(e["data"].get(k) == v for k, v in fields.items())]

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def exec_service(name, count=1, **more):
    return {"name": name, "driver": "exec", "count": count, "config": {"command": ["/bin/sleep"], "args": ["1000"]},
            "resources": {"cpus": 0.01, "memory_mb": 8}, **more}


def job(name, *services):
    return {"name": name, "services": list(services) or [exec_service(name)]}


def resident_kb(pid, what="VmRSS"):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(rf"{what}:\s+(\d+) kB", f.read()).group(1))
