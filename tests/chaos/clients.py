"""Clients whose requests and answers are kept. Each is a thread with a random generator of its own; any server is asked."""
import collections
import contextlib
import http.client
import json
import random
import threading
import time
import uuid

from hosts import API, PATIENCE
from history import CONFLICT, DONE, MISSING, UNKNOWN, Op
from lib import EventStream, call, exec_service, job

TIMEOUT = {"X-Mentat-Timeout": "3s"}
REFUSED = "refused"                  # nothing was done, says the server
EPOCH_S = 15                         # how long a register is used; a search is as dear as its history is long
REGISTERS = 3
JOBS_KEPT = 60                       # by each writer; older ones are deleted
LAST_ANSWER_S = 60


class Record:
    """What all clients saw."""

    def __init__(self, path, hosts):
        self.addresses, self.lock = [s.address for s in hosts.servers], threading.Lock()
        self.tls, self.headers = hosts.tls, {**TIMEOUT, **hosts.headers}
        self.file = open(path, "w")
        self.begin = time.monotonic()
        self.stop, self.over, self.give_up = threading.Event(), threading.Event(), threading.Event()
        self.registers = collections.defaultdict(list)   # name → Ops
        self.jobs = {}                                   # name → there, gone, unknown
        self.scale = None                                # what the churning service was last told
        self.leaders = set()                             # (term, id)
        self.faults = []                                 # what no check needs to find
        self.counts = collections.Counter()
        self.last_done, self.longest_gap_s = self.begin, 0.0

    def now(self):
        return time.monotonic() - self.begin

    def fault(self, text):
        with self.lock:
            self.faults.append(f"{self.now():.3f} {text}")

    def request(self, client, address, method, path, body=None, headers=None):
        """The answer, or None; which of both is written down with its times."""
        begin, answer, error = self.now(), None, ""
        try:
            answer = call(API, method, path, body, {**self.headers, **(headers or {})}, timeout=5 * PATIENCE, host=address,
                          tls=self.tls)
        except (OSError, http.client.HTTPException) as e:
            error = repr(e)
        end = self.now()
        line = {"begin": round(begin, 4), "end": round(end, 4), "client": client, "address": address,
                "method": method, "path": path, "key": (headers or {}).get("Idempotency-Key"),
                "body": body and json.dumps(body)[:300], "status": answer.status if answer else 0,
                "answer": answer.body.decode(errors="replace")[:1000] if answer else error}
        with self.lock:
            self.file.write(json.dumps(line) + "\n")
            if method != "GET" and answer is not None and answer.status == 200:
                self.longest_gap_s = max(self.longest_gap_s, end - max(self.last_done - self.begin, 0))
                self.last_done = self.begin + end
        return answer, begin, end

    def count(self, what):
        with self.lock:
            self.counts[what] += 1


def outcome(answer):
    """Of a write."""
    if answer is None or answer.status == 504:
        return UNKNOWN
    return {200: DONE, 409: CONFLICT, 404: MISSING, 503: REFUSED, 507: REFUSED}.get(answer.status, f"status {answer.status}")


class Client(threading.Thread):
    pause_s = 0.02

    def __init__(self, record, name, seed, ending=None):
        super().__init__(daemon=True, name=name)
        self.record, self.random = record, random.Random(f"{seed}-{name}")
        self.ending = ending or record.stop

    def run(self):
        try:
            while not self.ending.is_set():
                self.once()
                self.ending.wait(self.pause_s * (0.5 + self.random.random()))
        except Exception as e:       # noqa: BLE001  whatever it is, the run has failed
            self.record.fault(f"client {self.name} ended: {e!r}")
            raise

    def ask(self, method, path, body=None, headers=None):
        return self.record.request(self.name, self.random.choice(self.record.addresses), method, path, body, headers)

    def sure(self, method, path, body=None):
        """A write that is asked for again, with its key, until it is known what became of it. Returns that, whether it was
        unknown in between, and the answer."""
        headers, wondered = {"Idempotency-Key": uuid.UUID(int=self.random.getrandbits(128)).hex}, False
        while True:
            answer, _, _ = self.ask(method, path, body, headers)
            got = outcome(answer)
            self.record.count(f"writes with a key: {got}")
            if got not in (UNKNOWN, REFUSED):
                return got, wondered, answer
            wondered |= got == UNKNOWN
            if self.record.give_up.is_set():
                return (UNKNOWN if wondered else REFUSED), wondered, answer
            time.sleep(0.02)


class Writer(Client):
    """Creates jobs with names of their own, and deletes the oldest ones. What was acknowledged is there at once, for whoever
    asks."""

    def __init__(self, record, name, seed):
        super().__init__(record, name, seed)
        self.made, self.kept = 0, collections.deque()

    def know(self, name, state):
        with self.record.lock:
            self.record.jobs[name] = state

    def once(self):
        name = f"{self.name}-{self.made}"
        self.made += 1
        # Some are long, so that logs grow and snapshots are taken.
        text = "x" * (100000 if self.random.random() < 0.1 else 100)
        got, _, answer = self.sure("POST", "/v1/jobs?expected_index=0", job(name, exec_service(name, 0, meta={"text": text})))
        self.know(name, {DONE: "there", REFUSED: "gone", UNKNOWN: "unknown"}.get(got, "unknown"))
        if got == DONE:
            self.kept.append(name)
        elif got not in (REFUSED, UNKNOWN):
            self.record.fault(f"creating {name}, which nobody else does, ended as {got}: {answer}")
        if self.kept and self.random.random() < 0.2:
            self.look(self.random.choice(self.kept))
        if len(self.kept) > JOBS_KEPT:
            self.delete(self.kept.popleft())

    def look(self, name):
        answer, _, _ = self.ask("GET", f"/v1/jobs/{name}")
        if answer is not None and answer.status == 404:
            self.record.fault(f"job {name} was acknowledged, and is not read: {answer}")

    def delete(self, name):
        self.know(name, "unknown")
        got, _, answer = self.sure("DELETE", f"/v1/jobs/{name}?purge=true")
        if got == DONE:
            self.know(name, "gone")
        elif got == REFUSED:
            self.know(name, "there")
        elif got != UNKNOWN:
            self.record.fault(f"deleting {name}, which was acknowledged, ended as {got}: {answer}")


class Registrar(Client):
    """Reads, writes, deletes and compares-and-sets a few jobs, each of which is used for a while."""
    pause_s = 0.03

    def __init__(self, record, name, seed):
        super().__init__(record, name, seed)
        self.known, self.values = {}, 0

    def once(self):
        name = f"register-{int(self.record.now() / EPOCH_S)}-{self.random.randrange(REGISTERS)}"
        kind = self.random.choices(["read", "write", "cas", "delete"], [4, 1, 4, 1])[0]
        op = self.read(name) if kind == "read" else self.delete(name) if kind == "delete" else self.put(name, kind)
        if op:
            op.client = self.name
            if op.outcome == DONE or kind == "read":
                self.known[name] = op.index if kind != "delete" else 0
            with self.record.lock:
                self.record.registers[name].append(op)
                self.record.counts[f"{kind}: {op.outcome}"] += 1

    def read(self, name):
        consistency = self.random.choice(["default", "strong"])
        answer, begin, end = self.ask("GET", f"/v1/services/{name}?consistency={consistency}")
        if answer is None or answer.status in (503, 504):
            return None
        if answer.status == 404:
            return Op("read", begin, end, DONE)
        if answer.status != 200:
            self.record.fault(f"reading {name}: {answer}")
            return None
        current = answer.json["current"]
        return Op("read", begin, end, DONE, current["spec"]["env"]["VALUE"], current["create_index"])

    def put(self, name, kind):
        self.values += 1
        value, expected = f"{self.name}-{self.values}", self.known.get(name, 0) if kind == "cas" else 0
        path = f"/v1/jobs/{name}" + (f"?expected_index={expected}" if kind == "cas" else "")
        # A key lets servers repeat it among themselves.
        key = {"Idempotency-Key": f"{self.name}-{self.values}"} if self.random.random() < 0.5 else {}
        answer, begin, end = self.ask("PUT", path, job(name, exec_service(name, 0, env={"VALUE": value})), key)
        got = outcome(answer)
        if got == REFUSED:
            return None
        if got not in (DONE, UNKNOWN) and not (kind == "cas" and got == CONFLICT):
            self.record.fault(f"{kind} of {name} ended as {got}: {answer}")
            return None
        return Op(kind, begin, end, got, value, answer.json["index"] if got == DONE else 0, expected)

    def delete(self, name):
        answer, begin, end = self.ask("DELETE", f"/v1/jobs/{name}?purge=true")
        got = outcome(answer)
        if got == REFUSED:
            return None
        if got not in (DONE, MISSING, UNKNOWN):
            self.record.fault(f"deleting {name} ended as {got}: {answer}")
            return None
        return Op("delete", begin, end, got, index=answer.json["index"] if got == DONE else 0)


class Scaler(Client):
    """Changes how many replicas a service has, so that agents have work while faults strike."""
    pause_s = 1.5

    def __init__(self, record, name, seed, service, most):
        super().__init__(record, name, seed)
        self.service, self.most = service, most

    def once(self):
        count = self.random.randint(0, self.most)
        got, _, answer = self.sure("POST", f"/v1/services/{self.service}/scale", {"count": count})
        self.record.scale = count if got == DONE else None
        if got not in (DONE, REFUSED, UNKNOWN):
            self.record.fault(f"scaling {self.service} ended as {got}: {answer}")


class Deployer(Client):
    """Brings out one version of a service after the other."""
    pause_s = 8

    def __init__(self, record, name, seed, service):
        super().__init__(record, name, seed)
        self.service, self.version, self.sure_version = service, 0, None

    def once(self):
        self.version += 1
        spec = {**self.service, "env": {"VALUE": str(self.version)}}
        got, _, answer = self.sure("POST", "/v1/jobs", {"name": spec["name"], "services": [spec]})
        self.sure_version = str(self.version) if got == DONE else None
        if got not in (DONE, REFUSED, UNKNOWN):
            self.record.fault(f"changing {spec['name']} ended as {got}: {answer}")


class Crasher(Client):
    """Submits services whose task ends with an error once, and then goes on: it must be tried again, whatever happened to
    clocks between."""
    pause_s = 6

    def __init__(self, record, name, seed, service):
        super().__init__(record, name, seed)
        self.service, self.made, self.kept = service, 0, collections.deque()

    def once(self):
        name = f"crash-{self.made}"
        self.made += 1
        got, _, answer = self.sure("POST", "/v1/jobs", {"name": name, "services": [{**self.service, "name": name}]})
        if got == DONE:
            self.kept.append(name)
        elif got not in (REFUSED, UNKNOWN):
            self.record.fault(f"submitting {name} ended as {got}: {answer}")
        if len(self.kept) > 4:
            self.sure("DELETE", f"/v1/jobs/{self.kept.popleft()}?purge=true")


class Follower(Client):
    """Reads the events of one server, from the last one it has after each cut."""
    pause_s = 0.3

    def __init__(self, record, host, from_index):
        super().__init__(record, f"events-{host.name}", 0, record.over)
        self.name_of_server = host.name
        self.address, self.last, self.events = host.address, f"{from_index}", []

    def once(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.follow()

    def follow(self):
        stream = EventStream(API, last_event_id=self.last, host=self.address, timeout=20, headers=self.record.headers,
                             tls=self.record.tls)
        taken = 0
        try:
            while not (stream.closed.is_set() and taken == len(stream.events)) and not self.ending.wait(0.05):
                taken += self.take(stream.events[taken:])
        finally:
            stream.close()
            stream.thread.join()
        self.take(stream.events[taken:])

    def take(self, events):
        for e in events:
            # A server that lost its leader ends the stream with that word, which is no loss: it is asked again.
            if e.get("event") == "error" and e["data"]["error"]["code"] != "unavailable":
                raise RuntimeError(f"after {self.last}: {e['data']}")
            if "id" in e:
                self.events.append((e["id"], e["data"]))
                self.last = e["id"]
        return len(events)


class Watcher(Client):
    """Looks who leads."""
    pause_s = 0.2

    def __init__(self, record, host):
        super().__init__(record, f"status-{host.name}", 0, record.over)
        self.host = host

    def once(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            status = self.host.status()
            if status["role"] == "leader":
                with self.record.lock:
                    self.record.leaders.add((status["term"], status["id"]))


class Clients:
    def __init__(self, hosts, path, seed, *workers):
        """workers: what else asks, as a class with what it takes besides the record, its name and the seed."""
        self.record = Record(path, hosts)
        from_index = hosts.servers[0].status()["applied_index"]
        self.followers = [Follower(self.record, s, from_index) for s in hosts.servers]
        self.asking = [Writer(self.record, f"w{i}", seed) for i in range(3)] + \
            [Registrar(self.record, f"r{i}", seed) for i in range(5)] + \
            [kind(self.record, kind.__name__.lower(), seed, *more) for kind, *more in workers]
        self.watching = [Watcher(self.record, s) for s in hosts.servers] + self.followers
        for client in self.asking + self.watching:
            client.start()

    def end(self):
        """Ends those who ask, once each has its last answer."""
        self.record.stop.set()
        end = time.monotonic() + LAST_ANSWER_S * PATIENCE
        for client in self.asking:
            client.join(max(end - time.monotonic(), 0))
            if client.is_alive():
                self.record.give_up.set()
                self.record.fault(f"client {client.name} had no answer within {LAST_ANSWER_S * PATIENCE:g} s of the last fault")

    def end_watching(self):
        self.record.over.set()
        for client in self.watching:
            client.join()
        self.record.file.close()
