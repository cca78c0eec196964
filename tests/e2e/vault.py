#!/usr/bin/env python3
"""Secrets: a cluster of three servers with TLS and tokens, where known values must come to those who may have them, and be in
no file that anybody writes."""
import base64
import contextlib
import glob
import hashlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from authority import Authority
from cluster_lib import Cluster
from lib import Agent, PATIENCE, bearer, call, exec_service, holding, job, memory_holding, program, text_of, unpadded, wait_for

KNOWN = "correct-horse-battery-staple"       # looked for in all files at the end
KNOWN_2 = "tr0ub4dor-and-3-known-values"


class Secrets(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.authority = Authority()
        cls.cluster = Cluster(3, start=False, access="tokens", bind="127.0.0.1", snapshot_mb=1)
        for i, s in enumerate(cls.cluster.servers):
            s.flags.update({"server_id": i + 1, **cls.authority.server_flags(i + 1)})
            s.tls = cls.authority.context()
            s.start(wait=False)
        cls.admin = cls.cluster.admin_token()
        cls.cluster.wait_ready(3)
        cls.agents = {name: cls.make_agent(name) for name in ("n1", "n2")}
        wait_for(lambda: len(cls.cluster.servers[0].items("/v1/nodes")) == 2, 20, "the nodes")

    @classmethod
    def make_agent(cls, name):
        agent = Agent(cls.cluster.servers[0], name, servers=cls.cluster.addresses, bind="127.0.0.1",
                      **cls.authority.agent_flags(name))
        agent.tls = cls.authority.context(*cls.authority.issue("asker", "DNS:1.server.mentat"))
        return agent.start()

    @classmethod
    def tearDownClass(cls):
        try:
            left = [cls.agents[name].end() for name in cls.agents] + [list(cls.places())]
            assert not any(left), left
        finally:
            cls.cluster.kill()
            cls.cluster.remove_files()

    @classmethod
    def places(cls):
        """Directories of secrets on this host, of these agents."""
        ids = [n["id"] for n in cls.cluster.servers[0].items("/v1/nodes")]
        return {d for i in ids for d in glob.glob(f"/run/mentat-secrets-{i}*") + glob.glob(f"/dev/shm/mentat-secrets-{i}*")}

    # --- helpers ---

    def server(self, i=0):
        return self.cluster.servers[i]

    def ask(self, method, path, body=None, token=None, cert=None, i=0):
        return call(self.server(i).port, method, path, body, bearer(token) if token else {}, 30,
                    tls=self.authority.context(*(cert or ())))

    def mt(self, *args, stdin="", check=0):
        env = {k: v for k, v in os.environ.items() if not k.startswith("MENTAT_")}
        done = subprocess.run([program("mt"), *args, "--address", f"https://127.0.0.1:{self.server().port}", "--ca",
                               self.authority.ca], input=stdin, capture_output=True, text=True, timeout=60 * PATIENCE,
                              env={**env, "MENTAT_TOKEN": self.admin, "HOME": "/nonexistent"})
        self.assertEqual(done.returncode, check, done.stdout + done.stderr)
        return done.stdout if check == 0 else done.stderr

    def put(self, name, value, *more):
        return self.mt("secret", "put", name, *more, stdin=value)

    def make_token(self, name, *allow):
        role = {"name": name, "rules": [{"allow": list(allow)}]}
        self.assertEqual(self.ask("PUT", f"/v1/roles/{name}", role, self.admin).status, 200)
        answer = self.ask("POST", "/v1/tokens", {"name": name, "roles": [name], "ttl": "1h"}, self.admin)
        self.assertEqual(answer.status, 200, answer)
        return answer.json["token"]

    def nowhere(self, *values):
        """In no log, snapshot, audit file, store or other file of a server or agent, nor in an event."""
        for program in [*self.cluster.servers, *self.agents.values()]:
            self.assertEqual(holding(program.workdir.path, *values), [])
        events = self.server().call("GET", "/v1/events?limit=1000", headers={"Accept": "application/json"})
        self.assertEqual((events.status, [v for v in values if v.encode() in events.body]), (200, []))

    def run_service(self, name, script, secrets, node="n1", **more):
        """A process that runs a shell script on a node; gives its running allocation."""
        spec = exec_service(name, constraints=[{"attribute": "node.name", "op": "=", "value": [node]}], secrets=secrets, **more)
        spec["config"] = {**spec["config"], "command": ["/bin/sh"], "args": ["-c", script], "user": "daemon"}
        answer = self.ask("POST", "/v1/jobs", job(name, spec), self.admin)
        self.assertEqual(answer.status, 200, answer)
        self.addCleanup(lambda: self.ask("DELETE", f"/v1/jobs/{name}?purge=true", token=self.admin))

    def allocs(self, service, *states):
        return [a for a in self.server().items(f"/v1/allocs?service={service}") if a["state"] in states]

    def running(self, service):
        return wait_for(lambda: self.allocs(service, "running"), 30, f"{service} runs")[0]

    def said(self, service, text, count=1):
        """Waits until a task of the service wrote this so often; where it is written, everybody may read it: not values."""
        def look():
            logs = [self.ask("GET", f"/v1/allocs/{a['id']}/logs", token=self.admin).body.decode()
                    for a in self.server().items(f"/v1/allocs?service={service}")]
            return "".join(logs).count(text) >= count
        wait_for(look, 30, f"{service} says {text} {count} times")

    @staticmethod
    def digest(value):
        return hashlib.sha256(value.encode()).hexdigest()

    # --- what tasks get ---

    FILE = "cd $MENTAT_SECRETS_DIR && stat -c 'file %a %U %s' key && sha256sum < key"

    def test_a_task_gets_files_and_variables_and_nothing_of_them_is_kept(self):
        self.put("d-file", KNOWN)
        self.put("d-env", KNOWN_2)
        self.run_service("d-web", self.FILE + "; printf %s \"$WORD\" | sha256sum; stat -fc 'on %T' .; exec sleep 1000",
                         [{"name": "d-file", "file": "key"}, {"name": "d-env", "env": "WORD"}])
        alloc = self.running("d-web")
        for text in (f"file 400 daemon {len(KNOWN)}", self.digest(KNOWN), self.digest(KNOWN_2), "on tmpfs"):
            self.said("d-web", text)
        place = next(d for d in glob.glob("/run/mentat-secrets-*/" + alloc["id"]) + glob.glob("/dev/shm/mentat-secrets-*/" + alloc["id"]))
        self.assertEqual(text_of(place + "/key"), KNOWN)
        # A restart by policy needs no servers: the agent has the values.
        for s in self.cluster.servers:
            os.kill(s.process.pid, signal.SIGSTOP)
        try:
            agent = self.agents["n1"]
            pid = next(a["pid"] for a in agent.get("/v1/allocs").json if a["id"] == alloc["id"])
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: [a for a in agent.get("/v1/allocs").json
                              if a["id"] == alloc["id"] and a["state"] == "running" and a["pid"] not in (0, pid)], 40, "the restart")
            self.assertEqual(text_of(place + "/key"), KNOWN)
        finally:
            for s in self.cluster.servers:
                os.kill(s.process.pid, signal.SIGCONT)
        self.nowhere(KNOWN, KNOWN_2)
        # Who names it keeps it from being deleted; with the task its files are gone.
        self.assertIn("service d-web names secret d-file", self.mt("secret", "delete", "d-file", check=1))
        self.ask("DELETE", "/v1/jobs/d-web", token=self.admin)
        wait_for(lambda: not os.path.exists(place), 20, "the end of the files")
        self.mt("secret", "delete", "d-file")

    def test_only_the_agent_of_its_node_gets_it_and_only_over_tls(self):
        self.put("e-key", KNOWN)
        self.run_service("e-web", "exec sleep 1000", [{"name": "e-key", "file": "key"}])
        alloc, nodes = self.running("e-web"), {n["name"]: n["id"] for n in self.server().items("/v1/nodes")}

        def fetch(node, cert):
            cert = self.authority.path(f"agent-{cert}.pem"), self.authority.path(f"agent-{cert}.key")
            return self.ask("GET", f"/v1/agent/secrets?node={nodes[node]}&alloc={alloc['id']}", cert=cert)
        mine = fetch("n1", "n1")
        self.assertEqual([s["name"] for s in mine.json["secrets"]], ["e-key"])
        for node, cert in (("n1", "n2"), ("n2", "n2"), ("n2", "n1")):
            answer = fetch(node, cert)
            self.assertEqual((answer.status, KNOWN.encode() in answer.body), (403, False), (node, cert))
        self.assertEqual(self.ask("GET", f"/v1/agent/secrets?node={nodes['n1']}&alloc={alloc['id']}", token=self.admin).status, 403)
        self.assertTrue(any('"n1"' in l and "/v1/agent/secrets" in l for s in self.cluster.servers
                            for p in glob.glob(s.flags["data_dir"] + "/audit/*") for l in text_of(p).splitlines()))
        # Once it is stopped, not even that one.
        self.ask("DELETE", "/v1/jobs/e-web", token=self.admin)
        wait_for(lambda: fetch("n1", "n1").status == 403, 20, "the refusal")

    def test_a_change_restarts_or_signals_the_service(self):
        self.put("f-restart", "one")
        self.put("f-signal", "one")
        script = "cd $MENTAT_SECRETS_DIR; trap 'echo told $(cat key)' HUP; echo began $(cat key); while :; do sleep 0.05; done"
        self.run_service("f-again", script, [{"name": "f-restart", "file": "key"}], count=2)
        self.run_service("f-told", script, [{"name": "f-signal", "file": "key", "on_change": "signal"}])
        self.said("f-again", "began one", 2)
        self.said("f-told", "began one")
        before = self.running("f-told")
        self.put("f-restart", "two")
        self.put("f-signal", "two")
        self.said("f-told", "told two")
        self.said("f-again", "began two", 2)
        after = self.running("f-told")
        self.assertEqual((after["id"], after["restarts"], after["started_at"]), (before["id"], 0, before["started_at"]))
        # What changes while its agent is away is told when that comes back.
        agent = self.agents["n1"]
        agent.kill()
        self.put("f-signal", "three")
        agent.start()
        self.said("f-told", "told three")

    def verified(self, token):
        """The claims of a token whose signature another implementation (openssl) finds good."""
        head, claims, signature = token.split(".")
        key_id = json.loads(unpadded(head))["kid"]
        key = next(k for k in self.ask("GET", "/v1/jwks").json["keys"] if k["kid"] == key_id)
        self.assertEqual((key["kty"], key["crv"], key["alg"]), ("EC", "P-256", "ES256"))
        point = b"\x04" + unpadded(key["x"]) + unpadded(key["y"])
        spki = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200") + point
        number = lambda n: (lambda b: b"\x02" + bytes([len(b)]) + b)(n.to_bytes(n.bit_length() // 8 + 1, "big"))  # noqa: E731
        raw = unpadded(signature)
        body = number(int.from_bytes(raw[:32], "big")) + number(int.from_bytes(raw[32:], "big"))
        with tempfile.TemporaryDirectory() as d:
            for name, data in (("key", spki), ("sig", b"\x30" + bytes([len(body)]) + body), ("text", f"{head}.{claims}".encode())):
                with open(os.path.join(d, name), "wb") as f:
                    f.write(data)
            done = subprocess.run(["openssl", "dgst", "-sha256", "-verify", "key", "-keyform", "DER", "-signature", "sig", "text"],
                                  cwd=d, capture_output=True, text=True)
        return json.loads(unpadded(claims)) if done.stdout.strip() == "Verified OK" else None

    def test_a_task_proves_which_one_it_is(self):
        self.run_service("h-web", "cat $MENTAT_SECRETS_DIR/who.jwt; echo; exec sleep 1000", [],
                         identity={"audience": ["vault", "https://example.org"], "file": "who.jwt", "ttl": "10m"})
        alloc = self.running("h-web")
        token = wait_for(lambda: self.ask("GET", f"/v1/allocs/{alloc['id']}/logs", token=self.admin).body.decode().strip(), 20,
                         "the token")
        claims = self.verified(token)
        cluster = self.server().get("/v1/cluster").json["cluster_id"]
        self.assertEqual({k: claims[k] for k in ("iss", "sub", "aud", "service", "alloc", "node", "job", "replica")},
                         {"iss": cluster, "sub": f"h-web/{alloc['id']}", "aud": ["vault", "https://example.org"], "service": "h-web",
                          "alloc": alloc["id"], "node": "n1", "job": "h-web", "replica": 0})
        self.assertEqual(claims["exp"] - claims["iat"], 600)
        self.assertLess(abs(claims["iat"] - time.time()), 60)
        # One bit of it changed, and it is nobody's.
        head, body, signature = token.split(".")
        forged = base64.urlsafe_b64encode(unpadded(body).replace(b"h-web", b"x-web")).decode().rstrip("=")
        self.assertIsNone(self.verified(f"{head}.{forged}.{signature}"))
        # A restarted agent gets a new one for the task that runs.
        path = glob.glob(f"/run/mentat-secrets-*/{alloc['id']}/who.jwt") + glob.glob(f"/dev/shm/mentat-secrets-*/{alloc['id']}/who.jwt")
        agent = self.agents["n1"]
        agent.kill()
        agent.start()
        renewed = wait_for(lambda: text_of(path[0]) != token and text_of(path[0]), 20, "a new token")
        self.assertEqual(self.verified(renewed)["sub"], claims["sub"])
        # The private key is nowhere in the clear: what the state has is the public one, and the sealed one.
        self.mt("secret", "rotate-key")
        self.assertIsNotNone(self.verified(renewed))

    def test_what_is_missing_or_not_for_a_service_is_refused_or_waited_for(self):
        self.put("g-key", KNOWN, "--services", "other-*")
        for name, text in (("g-none", "there is no secret g-none"), ("g-key", "g-key is not for this service")):
            spec = exec_service("g-web", secrets=[{"name": name, "file": "key"}])
            for path in ("/v1/jobs", "/v1/plan"):
                answer = self.ask("POST", path, job("g-web", spec), self.admin)
                self.assertIn(answer.status, (400, 403))
                self.assertIn(text, answer.error["message"])
        for bad, text in (({"file": "../key"}, "plain name"), ({"env": "A", "on_change": "signal"}, "cannot be changed"),
                          ({}, "either `env` or `file`")):
            answer = self.ask("POST", "/v1/jobs", job("g-web", exec_service("g-web", secrets=[{"name": "g-key", **bad}])), self.admin)
            self.assertEqual((answer.status, text in str(answer.json)), (400, True), answer)
        # Taken back from a service that has it, and given again: the next start waits in between.
        self.put("g-key", KNOWN, "--services", "*")
        self.run_service("g-web", "exec sleep 1000", [{"name": "g-key", "file": "key", "on_change": "none"}])
        alloc = self.running("g-web")
        self.put("g-key", KNOWN, "--services", "other-*")
        self.assertEqual(self.ask("POST", f"/v1/allocs/{alloc['id']}/restart", {}, self.admin).status, 200)
        wait_for(lambda: [a for a in self.allocs("g-web", "starting") if "g-key is not for service g-web" in a["reason"]], 20, "the reason")
        self.put("g-key", KNOWN, "--services", "g-*")
        self.running("g-web")

    # --- what the servers keep ---

    def test_a_secret_is_put_read_listed_and_deleted_by_who_may(self):
        self.put("a-one", KNOWN)
        self.assertIn("version 2", self.put("a-one", KNOWN_2, "--services", "web,api-*"))
        self.assertEqual(self.mt("secret", "get", "a-one"), KNOWN_2)
        self.assertEqual(self.mt("secret", "get", "a-one", "--version", "1"), KNOWN)
        row = next(r for r in json.loads(self.mt("secret", "list", "-o", "json")) if r["name"] == "a-one")
        self.assertEqual((row["version"], row["bytes"], row["services"], row["modified_by"]),
                         (2, len(KNOWN_2), ["web", "api-*"], "administrator"))
        versions = json.loads(self.mt("secret", "history", "a-one", "-o", "json"))
        self.assertEqual([(v["version"], v["bytes"]) for v in versions], [(1, len(KNOWN)), (2, len(KNOWN_2))])
        self.assertNotIn("sealed", versions[0])
        # Each right alone.
        keeper, revealer, reader = self.make_token("keeper", "secrets"), self.make_token("revealer", "reveal"), \
            self.make_token("plain-reader", "read", "logs", "submit")
        value, row = "/v1/secrets/a-one/value", "/v1/secrets/a-one"
        self.assertEqual([self.ask("GET", p, token=t).status for t in (keeper, revealer, reader) for p in (value, row)],
                         [403, 200, 200, 403, 403, 403])
        self.assertEqual(self.ask("PUT", row, {"value": "eA=="}, revealer).status, 403)
        self.assertEqual(self.ask("GET", value).status, 401)
        # Any server answers, and each keeps the key and the sealed value alone.
        for i in range(3):
            self.assertEqual(base64.b64decode(self.ask("GET", value, token=revealer, i=i).json["value"]).decode(), KNOWN_2)
        # Reading is written down where it was asked for.
        audit = "".join(map(text_of, glob.glob(self.server(1).flags["data_dir"] + "/audit/*")))
        line = next(json.loads(l) for l in audit.splitlines() if '"revealer"' in l and value in l)
        self.assertEqual((line["method"], line["status"]), ("GET", 200))
        self.mt("secret", "delete", "a-one")
        self.assertEqual(self.ask("GET", row, token=keeper).status, 404)
        # A name that comes back goes on counting: what was sealed for an old version does not open as a new one.
        self.assertIn("version 3", self.put("a-one", KNOWN))
        for i in range(3):
            self.assertEqual(self.ask("GET", value, token=revealer, i=i).status, 200)
            if not os.geteuid():                 # nor in memory that a server has used for it
                wait_for(lambda: memory_holding(self.server(i).process.pid, KNOWN) == [], 5, f"memory of server {i} without the value")
        self.nowhere(KNOWN, KNOWN_2)

    def test_the_search_for_values_finds_them(self):
        with tempfile.TemporaryDirectory() as directory:
            for i, text in enumerate((KNOWN, base64.b64encode(b"12" + KNOWN.encode() + b"3").decode(), KNOWN.encode().hex())):
                with open(os.path.join(directory, "x"), "w") as f:
                    f.write("before " + text + " after")
                self.assertEqual(len(holding(directory, KNOWN)), 1, i)

    def test_bad_values_and_names_are_refused_without_being_repeated(self):
        for name, body in (("b-bad", {"value": "no base64!" + KNOWN}), ("b-bad", {"value": ""}), ("b-bad", {}),
                           ("B_BAD", {"value": "eA=="}), ("b-bad", {"value": base64.b64encode(bytes(65537)).decode()})):
            answer = self.ask("PUT", f"/v1/secrets/{name}", body, self.admin)
            self.assertIn(answer.status, (400, 413), body)
            self.assertNotIn(KNOWN.encode(), answer.body)
        self.assertIn("65536", self.mt("secret", "put", "b-big", stdin="x" * 65537, check=1))
        self.assertIn("is empty", self.mt("secret", "put", "b-none", stdin="", check=2))
        self.put("b-bytes", "\n", "--file", "-")
        self.assertEqual(self.mt("secret", "get", "b-bytes"), "\n")

    @staticmethod
    def key_in_force(server):
        return server.get("/v1/ca/status?consistency=strong").json["cluster_key"]

    @staticmethod
    @contextlib.contextmanager
    def no_keys_written(*servers):
        """Servers that cannot keep the keys that they are given."""
        files = [os.path.join(s.flags["data_dir"], "cluster-keys") for s in servers]
        for file in files:
            os.rename(file, file + ".kept")
            os.mkdir(file)
        try:
            yield
        finally:
            for file in files:
                os.rmdir(file)
                os.rename(file + ".kept", file)

    def lead(self, leader, server):
        answer = leader.post("/v1/cluster/transfer", {"to": server.flags["name"]})
        self.assertEqual(answer.status, 204, answer)

    def test_a_rotation_is_done_when_its_key_is_in_force_and_no_leader_goes_back(self):
        self.put("e-turn", KNOWN)
        leader, (first, second) = self.cluster.leader(), self.cluster.followers()
        before, answers = self.key_in_force(leader), []
        made = leader.process.text().count("made a key of the cluster")
        rotation = threading.Thread(target=lambda: answers.append(leader.call("POST", "/v1/secrets/rotate", timeout=60 * PATIENCE)))
        with self.no_keys_written(first, second):
            rotation.start()
            wait_for(lambda: leader.process.text().count("made a key of the cluster") > made, 20, "a key that nobody else has")
            self.lead(leader, first)
            rotation.join()
            self.assertEqual(answers[0].status, 504, answers)
            self.assertEqual(answers[0].error["code"], "unknown_outcome")
        self.assertEqual(self.key_in_force(self.cluster.leader()), before)
        wait_for(lambda: all(len(k) == 1 and k == self.keys()[0] for k in self.keys()), 30, "the old key alone")
        # One that leads before it got the key lets who has it lead.
        leader, (first, second) = self.cluster.leader(), self.cluster.followers()
        with self.no_keys_written(second):
            self.assertEqual(leader.post("/v1/secrets/rotate").status, 204)
            key = self.key_in_force(leader)
            self.assertNotEqual(key, before)
            self.lead(leader, second)
            wait_for(lambda: "lets a server lead that has the key" in second.process.text(), 20, "a leader without the key")
            wait_for(lambda: self.cluster.leader() is not second, 20, "another leader")
        wait_for(lambda: all(len(k) == 1 and k == self.keys()[0] for k in self.keys()), 30, "the new key alone")
        self.assertEqual(self.key_in_force(self.cluster.leader()), key)
        self.assertEqual(self.mt("secret", "get", "e-turn"), KNOWN)

    def keys(self):
        return [text_of(s.flags["data_dir"] + "/cluster-keys").split() for s in self.cluster.servers]

    def test_another_key_comes_into_force_and_the_old_one_is_forgotten(self):
        keys = self.keys
        self.put("c-turn", KNOWN)
        before = keys()
        self.assertTrue(all(k == before[0] and len(k) == 1 for k in before), before)
        self.mt("secret", "rotate-key")
        wait_for(lambda: all(len(k) == 1 and k != before[0] and k == keys()[0] for k in keys()), 20, "the new key alone")
        self.assertEqual(self.mt("secret", "get", "c-turn"), KNOWN)
        self.nowhere(KNOWN)


if __name__ == "__main__":
    unittest.main(verbosity=2)
