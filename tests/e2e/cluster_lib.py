"""Several real servers as one cluster, and clients whose requests and answers are kept for a check of the history."""
import http.client
import threading
import time
import uuid

from lib import PATIENCE, Server, Workdir, bearer, call, exec_service, founding_flags, free_port, job, wait_for


def free_ports(count):
    """Distinct ones."""
    ports = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)


def first_admin_token(servers):
    """The first leader wrote it for root on its host."""
    return wait_for(lambda: next((t for t in map(Server.admin_token, servers) if t), None), 30, "the administrator's token")


class Cluster:
    """Servers s1, s2, … that find each other by their configuration, or join one after the other by tokens."""

    def __init__(self, count=3, start=True, secure=False, **flags):
        self.workdir = Workdir()
        self.flags = {**(founding_flags(self.workdir) if secure else {}), **flags}
        ports = free_ports(2 * count)
        self.addresses = [f"127.0.0.1:{p}" for p in ports[:count]]
        self.servers = [self.make(i, ports[i], ports[count + i]) for i in range(count)]
        if start:
            self.found()

    def make(self, i, port=None, raft_port=None, **flags):
        port, raft_port = (port, raft_port) if port else free_ports(2)
        s = Server(**{"name": f"s{i + 1}", "servers": self.addresses, "raft_port": raft_port, **self.flags, **flags})
        s.flags["port"] = s.port = port
        return s

    def found(self):
        for s in self.servers:
            s.start(wait=False)
        if self.flags.get("tls") == "auto":
            self.admin_token()
            for s in self.servers:
                s.meet()
        self.wait_ready(len(self.servers))

    def kill(self):
        for s in self.servers:
            if s.process:
                s.kill()

    def remove_files(self):
        for s in self.servers:
            s.workdir.remove()
        self.workdir.remove()

    def alive(self):
        return [s for s in self.servers if s.process and s.process.alive()]

    def status(self, server):
        return server.get("/v1/cluster", timeout=5).json

    def admin_token(self):
        """The administrator's first one, which is all servers' headers from then on."""
        token = first_admin_token(self.servers)
        for s in self.servers:
            s.headers = bearer(token)
        return token

    def leader(self):
        """The server that leads with the agreement of most; waits for one."""
        def look():
            for s in self.alive():
                status = self.status(s)
                if status["role"] == "leader" and s.get("/v1/jobs?limit=1&consistency=strong", timeout=5).status == 200:
                    return s
        return wait_for(look, 20, "a leader")

    def followers(self):
        leader = self.leader()
        return [s for s in self.alive() if s is not leader]

    def voters(self, server):
        return [m for m in self.status(server)["servers"] if m["membership"] == "voter"]

    def wait_ready(self, count, timeout=30):
        """Each of the living servers knows so many voters, by name, and a leader."""
        def ready(s):
            status = self.status(s)
            names = [m.get("name") for m in status["servers"] if m["membership"] == "voter"]
            return len(names) == count and all(names) and status["leader"] != "0" and status["membership"] == "voter"
        wait_for(lambda: all(ready(s) for s in self.alive()), timeout, f"{count} voters")

    def wait_equal(self, timeout=30):
        """All living servers hold the same state, bit for bit."""
        def equal():
            states = {(s["applied_index"], s["state_hash"]) for s in map(self.status, self.alive())}
            return len(states) == 1
        wait_for(equal, timeout, "equal states")


class History:
    """What clients asked for and were answered: jobs that are created once each, one counter that is set by compare-and-set.

    Each operation ends as done, refused, or unknown; the check knows what may be there."""

    def __init__(self):
        self.lock = threading.Lock()
        self.created = {}            # name: "done", "refused" or "unknown"
        self.sets = []               # (begin, end, expected index, count, outcome, index)
        self.answers = {}            # outcome: how often
        self.errors = []
        self.longest = 0.0           # seconds without a write that was done
        self.last_done = time.monotonic()

    def note(self, outcome):
        with self.lock:
            self.answers[outcome] = self.answers.get(outcome, 0) + 1
            if outcome == "done":
                now = time.monotonic()
                self.longest = max(self.longest, now - self.last_done)
                self.last_done = now


class Writer(threading.Thread):
    """Creates jobs of its own, each with a key, over any of the ports; what is not certain is asked again with the same key,
    until it is, or the end."""

    def __init__(self, n, ports, history, stop, as_whom, keep_asking=True, host="127.0.0.1"):
        super().__init__(daemon=True)
        self.n, self.ports, self.history, self.stop_event, self.keep_asking, self.host = n, ports, history, stop, keep_asking, host
        self.tls, self.headers = as_whom.tls, {**as_whom.headers, "X-Mentat-Timeout": "3s"}
        self.count = 0

    def once(self, name, key, turn):
        port = self.ports[turn % len(self.ports)]
        host, port = (self.host, port) if isinstance(port, int) else port
        try:
            answer = call(port, "POST", "/v1/jobs?expected_index=0", job(name, exec_service(name, 0)),
                          {"Idempotency-Key": key, **self.headers}, timeout=5 * PATIENCE, host=host, tls=self.tls)
        except (OSError, http.client.HTTPException):
            return "unknown"
        if answer.status == 200:
            return "done"
        if answer.status == 503:
            return "refused"         # nothing was done
        if answer.status == 504:
            return "unknown"
        with self.history.lock:
            self.history.errors.append((name, answer.status, answer.body[:300]))
        return "refused"

    def run(self):
        turn = self.n
        while not self.stop_event.is_set():
            name, key = f"w{self.n}-{self.count}", uuid.uuid4().hex
            outcome, ever_unknown = None, False
            while outcome is None or (outcome != "done" and self.keep_asking and not self.stop_event.is_set()):
                outcome = self.once(name, key, turn)
                ever_unknown |= outcome == "unknown"
                if outcome != "done":
                    turn += 1
                    time.sleep(0.01)
            if outcome == "refused" and ever_unknown:
                outcome = "unknown"
            self.history.note(outcome)
            with self.history.lock:
                self.history.created[name] = outcome
            self.count += 1


class Setter(threading.Thread):
    """Changes one job by compare-and-set, without keys: an outcome may stay unknown."""

    def __init__(self, n, ports, history, stop, as_whom, host="127.0.0.1"):
        super().__init__(daemon=True)
        self.n, self.ports, self.history, self.stop_event, self.host = n, ports, history, stop, host
        self.tls, self.headers = as_whom.tls, {**as_whom.headers, "X-Mentat-Timeout": "3s"}
        self.count = 0

    def once(self, turn):
        port = self.ports[turn % len(self.ports)]
        host, port = (self.host, port) if isinstance(port, int) else port
        ask = {"timeout": 5 * PATIENCE, "host": host, "headers": self.headers, "tls": self.tls}
        try:
            now = call(port, "GET", "/v1/jobs?prefix=counter&consistency=strong", **ask)
            expected = now.json["items"][0]["modify_index"] if now.status == 200 and now.json["items"] else 0
            if now.status != 200:
                return
        except (OSError, http.client.HTTPException, ValueError):
            return
        begin, outcome, index = time.monotonic(), "unknown", 0
        body = job("counter", exec_service("counter", 0, env={"VALUE": f"{self.n}-{self.count}"}))
        try:
            answer = call(port, "POST", f"/v1/jobs?expected_index={expected}", body, **ask)
            outcome = {200: "done", 409: "refused", 503: "refused", 504: "unknown"}.get(answer.status, f"status {answer.status}")
            index = answer.json["index"] if answer.status == 200 else 0
        except (OSError, http.client.HTTPException):
            pass
        with self.history.lock:
            self.history.sets.append((begin, time.monotonic(), expected, outcome, index))

    def run(self):
        while not self.stop_event.is_set():
            self.once(self.n + self.count)
            self.count += 1
            time.sleep(0.005)


def check_sets(test, history):
    """Compare-and-set is linearizable: what was done forms one chain, in which nobody overtakes one that ended before."""
    done = sorted((s for s in history.sets if s[3] == "done"), key=lambda s: s[4])
    strange = [s for s in history.sets if s[3].startswith("status")]
    test.assertEqual(strange, [])
    expected = [s[2] for s in done]
    test.assertEqual(len(expected), len(set(expected)), "two changes of one and the same state were done")
    for before, after in zip(done, done[1:]):
        test.assertLessEqual(before[4], after[2], "a change was done to a state that was gone")
    for s in sorted(done, key=lambda s: s[0]):
        for other in done:
            if other[1] < s[0]:
                test.assertLess(other[4], s[4], "a change that began later came before one that had ended")
    return len(done)


class Load:
    """Writers over all servers of a cluster, until stop()."""

    def __init__(self, cluster, writers=6, setters=2, ports=None, host="127.0.0.1"):
        self.history, self.stop_event = History(), threading.Event()
        ports, as_whom = ports or [s.port for s in cluster.servers], cluster.servers[0]
        self.writers = [Writer(n, ports, self.history, self.stop_event, as_whom, host=host) for n in range(writers)]
        self.writers += [Setter(n, ports, self.history, self.stop_event, as_whom, host=host) for n in range(setters)]
        for w in self.writers:
            w.start()

    def done(self):
        return self.history.answers.get("done", 0)

    def wait_more(self, count=20, timeout=30):
        before = self.done()
        wait_for(lambda: self.done() >= before + count, timeout, f"{count} more writes")

    def stop(self):
        self.stop_event.set()
        for w in self.writers:
            w.join(60 * PATIENCE)
        return self.history


def check_history(test, history, server):
    """Acknowledged jobs are there, refused ones are not, none twice; each job was made by one command."""
    jobs = {j["name"]: j for j in server.items("/v1/jobs?limit=1000&consistency=strong")}
    lost = [n for n, o in history.created.items() if o == "done" and n not in jobs]
    ghosts = [n for n, o in history.created.items() if o == "refused" and n in jobs]
    test.assertEqual(lost, [], "acknowledged and lost")
    test.assertEqual(ghosts, [], "refused and there")
    test.assertEqual(history.errors, [])
    # A write that was applied twice would have made a second version.
    services = {s["name"]: s for s in server.items("/v1/services?limit=1000")}
    check_sets(test, history)
    twice = [n for n in jobs if n.startswith("w") and services[n]["version"] != 1]
    test.assertEqual(twice, [], "applied twice")
