#!/usr/bin/env python3
"""tls: auto: the cluster makes its certificates itself, hands them to whoever may join, and renews and changes them while it
works. All connections of the test are as strict as those of the programs."""
import contextlib
import glob
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import ssl
import sys
import threading
import time
import unittest
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from authority import Authority  # noqa: E402
from auto_lib import Auto, wait_log  # noqa: E402
from lib import Agent, PATIENCE, SECRET, Server, bearer, call, exec_service, job, text_of, wait_for  # noqa: E402


READS = [("GET", path, None) for path in ("/v1/services", "/v1/cluster", "/v1/services?consistency=stale", "/v1/jobs/web?index=1000000&wait=1s")]
WRITES = [("POST", "/v1/jobs", job("side", exec_service("side", 0))), ("POST", "/v1/services/side/scale", {"count": 0})]


class Asker(threading.Thread):
    """A client of a server that asks one thing after the other, on a connection that is kept or on new ones, until told to end."""

    def __init__(self, server, keep, headers=None, asks=(("GET", "/v1/services", None),), pause=0.02):
        super().__init__(daemon=True)
        self.server, self.keep, self.headers, self.asks, self.pause = server, keep, headers, asks, pause
        self.ending, self.connection = threading.Event(), None
        self.answers = []            # (when it began, what it asked, the status or what went wrong)

    def ask(self, method, path, body):
        self.connection = self.connection or http.client.HTTPSConnection("127.0.0.1", self.server.port, context=self.server.tls,
                                                                         timeout=60 * PATIENCE)
        headers = {"Content-Type": "application/json", "X-Mentat-Timeout": "60s", **(self.headers or self.server.headers)}
        if method != "GET":
            headers["Idempotency-Key"] = uuid.uuid4().hex
        self.connection.request(method, path, body and json.dumps(body), headers)
        answer = self.connection.getresponse()
        answer.read()
        if not self.keep:
            self.close()
        return answer.status

    def close(self):
        self.connection.close()
        self.connection = None

    def run(self):
        for method, path, body in itertools.cycle(self.asks):
            if self.ending.wait(self.pause):
                break
            begin = time.monotonic()
            try:
                status = self.ask(method, path, body)
            except (OSError, http.client.HTTPException) as e:
                status = repr(e)
                self.close()
            self.answers.append((begin, method, status))
        if self.connection:
            self.close()


class Load:
    """Clients of each server, on connections that are kept and on new ones. kinds: what they ask and how often, as Asker has it."""

    def __init__(self, servers, headers=None, kinds=((),)):
        self.askers = [Asker(s, keep, headers, *kind) for s in servers for keep in (True, False) for kind in kinds]
        for a in self.askers:
            a.start()

    def answers(self):
        return [answer for a in self.askers for answer in list(a.answers)]

    def wait_more(self):
        """Some more answers for each client."""
        before = [len(a.answers) for a in self.askers]
        wait_for(lambda: all(len(a.answers) > n + 5 for a, n in zip(self.askers, before)), 60, "more answers for everybody")

    def end(self):
        """What went wrong, where each was answered a few times at least."""
        for a in self.askers:
            a.ending.set()
        for a in self.askers:
            a.join()
        assert all(len(a.answers) > 5 for a in self.askers), "too little was asked to say anything"
        return [answer for answer in self.answers() if answer[2] != 200]


class Follower(threading.Thread):
    """A client that reads an answer without an end."""

    def __init__(self, server, headers, path):
        super().__init__(daemon=True)
        self.connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=server.tls, timeout=60 * PATIENCE)
        self.connection.request("GET", path, headers=headers)
        self.response = self.connection.getresponse()
        self.heard, self.over = 0, threading.Event()
        assert self.response.status == 200, self.response.status
        self.start()

    def run(self):
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            while self.response.read1(4096):
                self.heard += 1
        self.over.set()

    def hears_more(self):
        before = self.heard
        wait_for(lambda: self.heard > before + 2, 30, "more of a stream")

    def end(self):
        with contextlib.suppress(OSError):
            self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.join()
        self.response.close()
        self.connection.close()


class Certificates(unittest.TestCase):
    def setUp(self):
        self.auto = Auto()
        self.addCleanup(self.auto.workdir.remove)

    def found(self, count=3, **flags):
        cluster = self.auto.cluster(count, **flags)
        self.addCleanup(cluster.remove_files)
        self.addCleanup(cluster.kill)
        self.auto.found(cluster)
        return cluster

    def agent(self, server, name, **flags):
        agent = Agent(server, name, bind="127.0.0.1", tls="auto", **flags)
        self.addCleanup(lambda: self.assertEqual(self.speak(agent, server).end(), []))
        return agent

    def speak(self, agent, server):
        """It answers servers alone: as this one."""
        agent.server = server
        return agent

    def status(self, server):
        return server.get("/v1/ca/status").json

    def settled(self, server, authorities=None):
        status = self.status(server)
        return not status["behind"] and (authorities is None or len(status["authorities"]) == authorities) and status

    def test_founders_share_a_secret_and_agents_have_it_too(self):
        passphrase = self.auto.file("passphrase", "a passphrase that is kept elsewhere")
        cluster = self.found(cluster_key_command=f"cat {passphrase}")
        server = cluster.leader()
        status = self.status(server)
        self.assertEqual(sorted(a["state"] for a in status["authorities"]), ["leaving", "signing"])
        outside = {"ingress": "true", "proxy.haproxy": "/nonexistent"}
        agent = self.agent(server, "n1", servers=cluster.addresses, join_token_file=self.auto.secret, **outside).start()
        wait_for(lambda: server.items("/v1/nodes"), 20, "the node")
        wait_for(lambda: self.settled(server), 20, "certificates of the cluster's own authority")
        wait_log(agent.process, "this agent has a new certificate")
        # Keys are nobody else's; the cluster's own lie under the passphrase.
        for s in cluster.servers:
            with open(os.path.join(s.flags["data_dir"], "cluster-keys")) as f:
                self.assertRegex(f.read(), "^locked [0-9A-Za-z+/=]+$")
            for name in ("tls/identity.pem", "cluster-keys"):
                self.assertEqual(os.stat(os.path.join(s.flags["data_dir"], name)).st_mode & 0o777, 0o600)
        # Any leader signs: the next one, too.
        server.kill()
        alive = cluster.leader()
        token = self.auto.mt(alive, "node", "token", "-q")
        self.assertEqual(token.returncode, 0, token.stderr)
        second = self.agent(alive, "n2", servers=cluster.addresses, join_token_file=self.auto.file("n2", token.stdout.strip()),
                            **outside).start()
        wait_for(lambda: len(alive.items("/v1/nodes")) == 2, 20, "the second node")
        # Who has the secret may be what it says; who came by a token may what that says.
        self.assertEqual({n["name"]: n.get("ingress", False) for n in alive.items("/v1/nodes")}, {"n1": True, "n2": False})
        self.assertEqual(alive.post("/v1/jobs", job("web", exec_service("web", 2))).status, 200)
        wait_for(lambda: len([a for a in alive.items("/v1/allocs") if a["state"] == "running"]) == 2, 30, "two replicas")
        self.assertIn("/", self.auto.mt(alive, "exec", "web/0", "--", "/bin/pwd").stdout)
        self.assertEqual(second.process.alive(), True)
        # Without the passphrase a server has no keys, and says so instead of going on without.
        self.auto.file("passphrase", "another one")
        server.start(wait=False)
        wait_for(lambda: not server.process.alive(), 20, "the end of a server without its keys")
        self.assertIn("the passphrase is not the right one", server.process.text())
        self.auto.file("passphrase", "a passphrase that is kept elsewhere")
        server.start(wait=False)
        cluster.wait_ready(3)

    def test_certificates_and_authorities_change_under_load(self):
        passphrase = self.auto.file("passphrase", "a passphrase that is kept elsewhere")
        cluster = self.found(certificate_renewal="2s", cluster_key_command=f"cat {passphrase}")
        leader = cluster.leader()
        agent = self.agent(leader, "n1", servers=cluster.addresses, join_token_file=self.auto.secret).start()
        self.assertEqual(leader.post("/v1/jobs", job("web", exec_service("web", 1))).status, 200)

        def running():
            allocs = agent.get("/v1/allocs").json
            return [a["pid"] for a in allocs if a["state"] == "running"]
        first = wait_for(running, 30, "a replica")
        before = wait_for(lambda: self.settled(leader), 20, "certificates of the cluster's own authority")["hash"]
        load = Load(cluster.servers)
        try:
            # By themselves, several times.
            for process in [agent.process, *(s.process for s in cluster.servers)]:
                wait_log(process, "has a new certificate", 4)
            rotated = self.auto.mt(leader, "ca", "rotate")
            self.assertEqual(rotated.returncode, 0, rotated.stdout + rotated.stderr)
            after = self.settled(leader, 2)
            self.assertNotEqual(after["hash"], before)
            self.assertNotIn(before, [a["id"] for a in after["authorities"]])
            self.assertRegex(rotated.stdout, "coming(.|\n)*signing(.|\n)*leaving(.|\n)*done; hash")
            for s in cluster.servers:
                s.believe()             # who is two authorities behind knows none of them
            ours = Authority("an authority of ours", since_days=3)
            bad = self.auto.mt(leader, "ca", "import", "--certificate", ours.ca, "--private-key", ours.issue("x")[1])
            self.assertEqual(bad.returncode, 2, bad.stderr)
            self.assertIn("it is not the certificate's", bad.stderr)
            done = self.auto.mt(leader, "ca", "import", "--certificate", ours.ca, "--private-key", ours.ca_key)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        finally:
            failed = load.end()
        self.assertEqual(failed, [])
        self.assertEqual(running(), first)
        leader = cluster.leader()            # another one, where this machine was slow; no connection was lost for a certificate:
        # Who believes that authority alone believes the cluster now; and the log says nothing of refused connections.
        self.assertEqual(self.auto.mt(leader, "services", ca=ours.ca).returncode, 0)
        for s in cluster.servers:
            self.assertEqual(re.findall("a server is refused|no connection to a server.*certificate", s.process.text()), [])
        self.check_off_past_the_end(cluster, agent, ours)
        first = wait_for(running, 30, "the replica, as its node was down")
        self.check_the_cluster_key_changes(cluster)
        self.check_the_leader_dies_in_a_rotation(cluster)
        self.assertEqual(running(), first)

    def expire(self, program, ours, name, identity):
        """Puts a certificate that is over in the place of the program's own, as if it had been off since."""
        path = os.path.join(program.flags["data_dir"], "tls", "identity.pem")
        cert, key = ours.issue(name, identity, "IP:127.0.0.1", days=-1)
        head = text_of(path).splitlines(keepends=True)[0]
        with open(path, "w") as out:
            out.write(head + "".join(map(text_of, (cert, ours.ca, key))))

    def check_off_past_the_end(self, cluster, agent, ours):
        """All were off until after the end of their certificates: servers have the authority's key and help themselves, an
        agent needs a token, once its node is down."""
        server_ids = {s: str(cluster.status(s)["id"]) for s in cluster.servers}
        agent.kill()
        cluster.kill()
        for s, ident in server_ids.items():
            self.expire(s, ours, ident, f"DNS:{ident}.server.mentat")
        self.expire(agent, ours, "n1", "DNS:n1.agent.mentat")
        for s in cluster.servers:
            s.start(wait=False)
        cluster.wait_ready(3)
        agent.flags["join_token_file"] = self.auto.workdir.join("later")
        agent.start()
        wait_log(agent.process, "the one that it had expired at .*it waits for a join token in .*later: mt node token")
        self.auto.file("later", self.auto.mt(cluster.leader(), "node", "token", "-q").stdout.strip())
        wait_for(lambda: re.search('this agent has a certificate.*of="?the cluster', agent.process.text()), 60, "its certificate")
        wait_for(lambda: cluster.leader().items("/v1/nodes")[0]["state"] == "ready", 20, "the node again")

    def check_the_cluster_key_changes(self, cluster):
        """The authority's key is sealed with the new one: the old one is forgotten, and certificates are given."""
        leader = cluster.leader()
        before = self.status(leader)["cluster_key"]
        changed = self.auto.mt(leader, "secret", "rotate-key")
        self.assertEqual(changed.returncode, 0, changed.stderr)
        self.assertNotEqual(self.status(leader)["cluster_key"], before)
        renewed = leader.process.text().count("has a new certificate")
        wait_log(leader.process, "has a new certificate", renewed + 2)
        for s in cluster.servers:
            wait_log(s.process, "forgot a key of the cluster")

    def check_the_leader_dies_in_a_rotation(self, cluster):
        leader, others = cluster.leader(), cluster.followers()
        before = self.status(leader)["hash"]
        for s in cluster.servers:
            s.believe()
        load = Load(others)
        try:
            answer = leader.post("/v1/ca/rotate")
            self.assertEqual(answer.status, 200, answer)
            wait_for(lambda: "coming" in [a["state"] for a in self.status(others[0])["authorities"]], 20, "the rotation")
            leader.kill()
            leader.start(wait=False)

            def over():
                status = self.settled(others[0])
                return status and status["hash"] != before and not [
                    a for a in status["authorities"] if a["state"] == "coming" or (a["state"], a["since"] == a["created_at"]) == ("leaving", False)]
            wait_for(over, 60, "the end of the rotation")
        finally:
            failed = load.end()
        self.assertEqual(failed, [])

    def pids(self, agents, service):
        """The processes of a service by the allocation, as the agents have them."""
        ours = {a["id"] for a in agents[0].server.items(f"/v1/allocs?service={service}")}
        return {a["id"]: a["pid"] for agent in agents for a in agent.get("/v1/allocs").json if a["id"] in ours and a["state"] == "running"}

    @staticmethod
    def make_admin(server, name):
        made = server.post("/v1/tokens", {"name": name, "roles": ["admin"], "ttl": "1h"})
        assert made.status == 200, made
        return made.json["token"]

    @staticmethod
    def without_the_unsure(answers):
        """Without those of a server that could not tell at that moment, in an election, a token that is gone from one that it has
        not heard of yet: it takes neither, and says 503."""
        return [a for a in answers if a[2] != 503]

    @staticmethod
    def refusals(cluster):
        """How many were counted, and how many were told."""
        return (sum(s.metric("mentat_http_denied_total") for s in cluster.servers),
                sum(s.process.text().count("a request was refused") for s in cluster.servers))

    @staticmethod
    def audit_lines(cluster):
        """Of what clients asked, each where it asked."""
        files = [f for s in cluster.servers for f in glob.glob(os.path.join(s.flags["data_dir"], "audit", "*"))]
        lines = [json.loads(line) for f in files for line in text_of(f).splitlines()]
        return [line for line in lines if "status" in line and not line.get("handed_on")]

    def test_a_leaked_administrators_token_is_revoked_under_load(self):
        """From the answer on it is worthless at every server, on every connection and for what it has begun; nobody else loses
        a request, and no task is touched. Half of the load is by the leaked token."""
        cluster = self.found(failure_rate=100000, address_rate=100000)
        server = cluster.servers[0]
        agents = [self.agent(server, name, servers=cluster.addresses, join_token_file=self.auto.secret).start() for name in ("n1", "n2")]
        wait_for(lambda: len(server.items("/v1/nodes")) == 2, 20, "two nodes")
        web = exec_service("web", 2, config={"command": ["/bin/sh"], "args": ["-c", "while :; do echo up; sleep 0.1; done"]})
        for j in (job("web", web), WRITES[0][2], job("busy", exec_service("busy"))):
            self.assertEqual(server.post("/v1/jobs", j).status, 200)
        first = wait_for(lambda: (p := self.pids(agents, "web")) and len(p) == 2 and p, 30, "two replicas")
        leaked, others = self.auto.admin, bearer(self.make_admin(server, "somebody"))
        denied, told = self.refusals(cluster)
        bad, good = (Load(cluster.servers, h, ((READS,), (WRITES, 0.1))) for h in (bearer(leaked), others))
        scaler = Asker(server, True, others, [("POST", "/v1/services/busy/scale", {"count": n}) for n in (2, 1)], 0.5)
        scaler.start()
        good.askers.append(scaler)
        paths = ["/v1/events"] + [f"/v1/allocs/{alloc}/logs?follow=true" for alloc in first]
        cut, kept = ([Follower(s, h, path) for s in cluster.servers for path in paths] for h in (bearer(leaked), others))
        try:
            for f in cut + kept:
                f.hears_more()
            bad.wait_more(), good.wait_more()
            self.auto.take_token(cluster.servers, self.make_admin(server, "the next"))
            self.assertEqual([a for a in bad.answers() if a[2] != 200], [])
            self.assertEqual(cluster.followers()[0].call("DELETE", f"/v1/tokens/{leaked.split('.')[0]}").status, 200)
            answered = time.monotonic()
            for f in cut:
                self.assertTrue(f.over.wait(20 * PATIENCE), "a stream goes on")
            bad.wait_more(), good.wait_more()
            for f in kept:
                f.hears_more()
        finally:
            refused, failed = self.without_the_unsure(bad.end()), good.end()
            for f in cut + kept:
                f.end()
        self.assertEqual(failed, [])
        self.assertEqual({status for at, _, status in self.without_the_unsure(bad.answers()) if at > answered}, {401})
        self.assertEqual({status for _, _, status in refused}, {401})
        # Each refusal is counted and told once; of the changes, written down once where it was asked for.
        self.assertEqual(self.refusals(cluster), (denied + len(refused), told + len(refused)))
        lines = self.audit_lines(cluster)
        self.assertEqual([line["status"] for line in lines].count(401), [r[1] for r in refused].count("POST"))
        self.assertEqual([(line["who"], line["status"]) for line in lines if line["method"] == "DELETE"], [("the next", 200)])
        self.assertEqual(self.pids(agents, "web"), first)
        self.check_the_leader_dies_in_a_revocation(cluster)
        self.assertEqual(self.pids(agents, "web"), first)
        self.assertEqual({a.get("restarts", 0) for a in server.items("/v1/allocs?service=web")}, {0})

    def check_the_leader_dies_in_a_revocation(self, cluster):
        """It is decided, and one server has not heard of that when the leader dies: the answer comes when it has."""
        leader, (asked, deaf) = cluster.leader(), cluster.followers()
        leaked = self.make_admin(asked, "leaked again")
        bad, good = (Load([asked, deaf], h, ((READS,), (WRITES, 0.1))) for h in (bearer(leaked), None))
        answers = []

        def revoke():
            headers = {"Idempotency-Key": uuid.uuid4().hex, "X-Mentat-Timeout": "60s"}
            answer = asked.call("DELETE", f"/v1/tokens/{leaked.split('.')[0]}", headers=headers)
            answers.append((answer.status, time.monotonic()))
        thread = threading.Thread(target=revoke, daemon=True)
        try:
            bad.wait_more(), good.wait_more()
            os.kill(deaf.process.pid, signal.SIGSTOP)
            thread.start()
            wait_for(lambda: asked.get("/v1/cluster", headers=bearer(leaked)).status == 401, 20, "the decision")
            self.assertEqual(answers, [])
            leader.kill()
            leader.start(wait=False)
            os.kill(deaf.process.pid, signal.SIGCONT)
            thread.join(60 * PATIENCE)
            (status, answered), = answers
            self.assertEqual(status, 200)
            seen = set()

            def knows(s):
                now = {s.get(path, headers=bearer(leaked)).status for _, path, _ in READS}
                seen.update(now)
                return now == {401}
            for s in cluster.servers:
                wait_for(lambda: knows(s), 20, "a server that can tell")
            self.assertLessEqual(seen, {401, 503})
            bad.wait_more(), good.wait_more()
        finally:
            os.kill(deaf.process.pid, signal.SIGCONT)
            bad.end()
            failed = good.end()
        self.assertEqual(failed, [])
        self.assertEqual({status for at, _, status in self.without_the_unsure(bad.answers()) if at > answered}, {401})

    def test_a_host_with_empty_disks_joins_again_by_two_tokens(self):
        """As after the first day, when nobody believes the founding secret any more: what stands in its file is another one."""
        grace = f"{int(2000 * PATIENCE)}ms"
        cluster = self.found(heartbeat="300ms", node_grace=grace, dead_server_after=grace)
        leader, lost = cluster.leader(), cluster.followers()[0]
        agent = self.agent(leader, "n1", servers=cluster.addresses, join_token_file=self.auto.secret).start()
        first = wait_for(lambda: leader.items("/v1/nodes"), 20, "the node")[0]["id"]
        wait_for(lambda: self.settled(leader), 20, "certificates of the cluster's own authority")
        listened = lost.process.text().count("msg=listening")
        for p in (lost, agent):
            p.kill()
            shutil.rmtree(p.flags["data_dir"])
            p.flags["join_token_file"] = self.auto.file(f"late-{p.flags['name']}", SECRET[::-1])
            p.start(wait=False) if p is lost else p.start()
        wait_log(lost.process, "msg=listening", listened + 1)
        wait_log(leader.process, "a connection was refused.*(unknown ca|certificate)")
        token = self.auto.mt(leader, "cluster", "token", "-q").stdout.strip()
        joined = self.auto.mt(lost, "cluster", "join", "--token", token, token=False)
        self.assertEqual(joined.returncode, 0, joined.stdout + joined.stderr)
        wait_for(lambda: lost.process.alive() and "this server has a new certificate" in lost.process.text(), 20, "its certificate")
        lost.believe()
        self.auto.file("late-n1", self.auto.mt(leader, "node", "token", "-q").stdout.strip())
        wait_for(lambda: [n for n in leader.items("/v1/nodes") if n["state"] == "ready" and n["id"] != first], 30, "the new node")
        cluster.wait_ready(3)
        cluster.wait_equal()

    def test_mt_follows_the_authorities_that_login_fetched(self):
        server = Server(secure=True)
        self.addCleanup(server.workdir.remove)
        self.addCleanup(lambda: server.kill())
        server.start()
        self.auto.admin_of([server])
        ca_hash = wait_for(lambda: self.settled(server), 20, "a certificate of the cluster's own authority")["hash"]
        homes = [self.auto.workdir.join(name) for name in ("often", "once")]

        def mt(home, *args):
            return self.auto.mt(server, *args, home=home, token=False)
        for home in homes:
            os.mkdir(home)
            done = mt(home, "login", "--address", f"https://127.0.0.1:{server.port}", "--ca-hash", ca_hash, "--token", self.auto.admin)
            self.assertEqual(done.returncode, 0, done.stderr)
        kept = os.path.join(homes[0], ".config", "mentat", "ca.pem")
        for _ in range(2):
            before = text_of(kept)
            rotated = self.auto.mt(server, "ca", "rotate")
            self.assertEqual(rotated.returncode, 0, rotated.stdout + rotated.stderr)
            server.believe()
            self.assertEqual((mt(homes[0], "nodes").returncode, text_of(kept)), (0, before))       # fetched a moment ago
            os.utime(kept, (1, 1))
            self.assertEqual(mt(homes[0], "nodes").returncode, 0)
            self.assertNotEqual(text_of(kept), before)
        # Who was away for both knows nobody any more.
        done = mt(homes[1], "nodes")
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn("the peer's certificate is refused", done.stderr)
        # Who rotates has the new one at once.
        before = text_of(kept)
        self.assertEqual(mt(homes[0], "ca", "rotate").returncode, 0)
        self.assertNotEqual(text_of(kept), before)

    def test_who_joins_by_a_token_and_who_does_not(self):
        first = Server(tls="auto", bind="127.0.0.1", expect=0, name="s1", heartbeat="300ms", node_grace="2s")
        self.addCleanup(first.workdir.remove)
        self.addCleanup(lambda: first.kill())
        first.start(wait=False)
        wait_log(first.process, "msg=listening")
        init = self.auto.mt(first, "cluster", "init")
        self.assertEqual(init.returncode, 0, init.stderr)
        self.auto.take_token([first], re.search(r"^  ([0-9a-f]+\.[0-9a-f]+)$", init.stdout, re.M).group(1))
        login = re.search(r"mt (login --address \S+ --ca-hash ([0-9a-f]{64}))", init.stdout)
        first.believe()
        # The user's machine knows the hash alone; a wrong one believes nobody.
        home = self.auto.workdir.join("home")
        os.mkdir(home)
        wrong = login.group(1).replace(login.group(2), "0" * 64).split()
        done = self.auto.mt(first, *wrong, "--token", self.auto.admin, home=home)
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn("the peer's certificate is refused", done.stderr)
        done = self.auto.mt(first, *login.group(1).split(), "--token", self.auto.admin, home=home)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.auto.mt(first, "cluster", "status", home=home, token=False).returncode, 0)
        # A server, by its own token alone.
        second = Server(tls="auto", bind="127.0.0.1", expect=0, name="s2", heartbeat="300ms", node_grace="2s")
        self.addCleanup(second.workdir.remove)
        self.addCleanup(lambda: second.kill())
        second.start(wait=False)
        wait_log(second.process, "msg=listening")
        agents = self.auto.mt(first, "node", "token", "-q").stdout.strip()
        refused = self.auto.mt(second, "cluster", "join", "--token", agents, token=False)
        self.assertEqual(refused.returncode, 4, refused.stderr)
        self.assertIn("the join token is for agents", refused.stderr)
        wait_log(first.process, "a request was refused.*the join token is for agents")
        token = self.auto.mt(first, "cluster", "token", "-q").stdout.strip()
        forged = token.replace(token.split(".")[2].split("@")[0], "f" * 32)
        refused = self.auto.mt(second, "cluster", "join", "--token", forged, token=False)
        self.assertEqual(refused.returncode, 4, refused.stderr)
        self.assertIn("certificate is refused", refused.stderr)
        joined = self.auto.mt(second, "cluster", "join", "--token", token, token=False)
        self.assertEqual(joined.returncode, 0, joined.stdout + joined.stderr)
        wait_for(lambda: self.settled(first), 20, "its own certificate")
        # An agent; its token is no good a second time, nor its name while it lives.
        agent = self.agent(first, "n1", join_token_file=self.auto.file("agent", agents)).start()
        wait_for(lambda: first.items("/v1/nodes"), 20, "the node")
        outside = {"ingress": "true", "proxy.haproxy": "/nonexistent"}
        thief = self.agent(first, "n2", join_token_file=self.auto.file("thief", agents), **outside).start()
        wait_log(thief.process, "the join token was used already, by node n1")
        double = Agent(first, "n1", bind="127.0.0.1", tls="auto",
                       join_token_file=self.auto.file("double", self.auto.mt(first, "node", "token", "-q").stdout.strip()))
        double.start()
        wait_log(double.process, "node n1 lives")
        double.kill()
        double.sweep()
        # What it waits for may come later.
        self.auto.file("thief", self.auto.mt(first, "node", "token", "--ingress", "-q").stdout.strip())
        wait_for(lambda: len(first.items("/v1/nodes")) == 2, 20, "the second node")
        self.assertTrue(agent.process.alive())
        # A token that was not copied to its end is no founding secret, and one that is none of this cluster's lets nobody in; a
        # token in its place does.
        stranger = self.agent(first, "n3", servers=f"127.0.0.1:{first.port}",
                              join_token_file=self.auto.file("stranger", agents.split("@")[0]), **outside).start()
        wait_log(stranger.process, "this join token lacks the servers' addresses")
        self.auto.file("stranger", "f" * 32)
        wait_log(stranger.process, "certificate is refused")
        self.auto.file("stranger", self.auto.mt(first, "node", "token", "-q").stdout.strip())
        wait_for(lambda: len(first.items("/v1/nodes")) == 3, 20, "the third node")
        self.check_who_takes_requests_from_outside(first)
        self.check_who_was_removed(first, second, agent)

    def check_who_takes_requests_from_outside(self, first):
        """n2 and n3 ask for it, n2's token allows it."""
        def node(name):
            return first.get("/v1/nodes/" + name).json
        self.assertTrue(node("n2")["ingress"])
        self.assertFalse(node("n3").get("ingress"))
        self.assertEqual(node("n3")["ingress_problems"], ["its agent.yaml says `ingress: true`, but nobody let it take requests from "
                                                          "outside: mt node ingress n3"])
        plain = self.auto.mt(first, "node", "ingress", "n1")
        self.assertEqual((plain.returncode, "set `ingress: true` in its agent.yaml first" in plain.stderr), (1, True), plain.stderr)
        self.assertEqual(self.auto.mt(first, "node", "ingress", "n3").returncode, 0)
        self.assertTrue(node("n3")["ingress"])
        # By itself it asks again, and gets the routes.
        wait_for(lambda: "/nonexistent: there is no such" in "".join(node("n3").get("ingress_problems", [])), 40, "the word of n3's proxy")

    def check_who_was_removed(self, first, second, agent):
        """A certificate that is good for days is worth nothing once its node or server was removed."""
        agent.kill()
        wait_for(lambda: self.auto.mt(first, "node", "remove", "--lost", "n1").returncode == 0, 20, "the removal")
        agent.start()
        wait_log(first.process, "a connection was refused.*n1.agent.mentat: certificate revoked")
        wait_log(agent.process, "it had was revoked, as its node was removed from the cluster.*mt node token")
        self.assertEqual(sorted(n["name"] for n in first.items("/v1/nodes")), ["n2", "n3"])
        self.assertEqual([r["name"] for r in self.status(first)["revoked"]], ["n1.agent"])
        self.auto.file("agent", self.auto.mt(first, "node", "token", "-q").stdout.strip())
        wait_for(lambda: len(first.items("/v1/nodes")) == 3, 20, "the node with a certificate of its own again")
        # A server: kept and new connections, by whichever port.
        self.speak(agent, second)
        self.assertEqual(agent.get("/v1/allocs").status, 200)
        kept = http.client.HTTPSConnection("127.0.0.1", first.port, context=second.as_peer(first), timeout=20)
        kept.request("GET", "/v1/nodes")
        self.assertEqual(kept.getresponse().read()[:1], b"{")
        removed = self.auto.mt(first, "cluster", "remove", "s2")
        self.assertEqual(removed.returncode, 0, removed.stderr)
        kept.request("GET", "/v1/nodes")
        answer = kept.getresponse()
        self.assertEqual((answer.status, b"was revoked" in answer.read()), (403, True))
        kept.close()
        for port in (first.port, agent.port):
            wait_for(lambda: self.refused(port, second.as_peer(first)), 20, "the refusal")
        wait_log(second.process, "not a member of its cluster any more.*removed, and its certificate with it")
        self.speak(agent, first)
        self.assertEqual(agent.get("/v1/allocs").status, 200)

    @staticmethod
    def refused(port, context):
        try:
            call(port, "GET", "/v1/allocs", tls=context, timeout=20)
        except ssl.SSLError as e:
            return "REVOKED" in str(e).upper()


if __name__ == "__main__":
    unittest.main(verbosity=2)
