#!/usr/bin/env python3
"""Who may do what: a cluster of three servers that asks for tokens, an agent with a certificate, and everybody else."""
import base64
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest

from authority import Authority
from cluster_lib import Cluster
from lib import (
    Agent, PATIENCE, ROOT, Server, SmallDisk, Workdir, bearer, call, exec_service, job, metrics_in, program, sanitized, text_of,
    wait_for)

REFUSED = "a request was refused"


class Access(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.authority = Authority()
        cls.cluster = Cluster(3, start=False, access="tokens", bind="127.0.0.1")
        for i, s in enumerate(cls.cluster.servers):
            s.flags.update({"server_id": i + 1, **cls.authority.server_flags(i + 1)})
            s.tls = cls.authority.context()
            s.start(wait=False)
        cls.admin = cls.cluster.admin_token()
        cls.cluster.wait_ready(3)
        cls.agent = Agent(cls.cluster.servers[0], "n1", servers=cls.cluster.addresses, bind="127.0.0.1",
                          **cls.authority.agent_flags("n1"))
        cls.agent.start()
        wait_for(lambda: cls.cluster.servers[0].items("/v1/nodes"), 20, "the node")

    @classmethod
    def tearDownClass(cls):
        try:
            if cls.agent.process.alive():
                cls.agent.process.stop()
        finally:
            cls.agent.sweep()
            cls.cluster.kill()
            cls.cluster.remove_files()

    # --- helpers ---

    def server(self, i=0):
        return self.cluster.servers[i]

    def ask(self, method, path, body=None, token=None, cert=None, i=0, headers=None):
        return call(self.server(i).port, method, path, body, {**(bearer(token) if token else {}), **(headers or {})}, 30,
                    tls=self.authority.context(*(cert or ())))

    def mt(self, *args, token=None, home=None, stdin="", address=True, check=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith("MENTAT_") and k != "XDG_CONFIG_HOME"}
        env["HOME"] = home or "/nonexistent"
        if token:
            env["MENTAT_TOKEN"] = token
        where = ["--address", f"https://127.0.0.1:{self.server().port}", "--ca", self.authority.ca] if address else []
        end = args.index("--") if "--" in args else len(args)
        done = subprocess.run([program("mt"), *args[:end], *where, *args[end:]], input=stdin, capture_output=True, text=True, env=env,
                              timeout=60 * PATIENCE)
        if check is not None:
            self.assertEqual(done.returncode, check, done.stdout + done.stderr)
        return done

    def make_token(self, name, role, ttl="1h"):
        answer = self.ask("POST", "/v1/tokens", {"name": name, "roles": [role], "ttl": ttl}, self.admin)
        self.assertEqual(answer.status, 200, answer)
        return answer.json["token"]

    def set_role(self, name, *rules):
        answer = self.ask("PUT", f"/v1/roles/{name}", {"name": name, "rules": list(rules)}, self.admin)
        self.assertEqual(answer.status, 200, answer)

    def submit(self, token, name, count=0):
        return self.ask("POST", "/v1/jobs", job(name, exec_service(name, count)), token)

    def node_id(self):
        return self.server().items("/v1/nodes")[0]["id"]

    # --- tokens ---

    def test_roles_that_are_always_there(self):
        reader, deployer = self.make_token("eye", "reader"), self.make_token("ci", "deployer")
        self.assertEqual(self.submit(reader, "seen").status, 403)
        self.assertEqual(self.submit(deployer, "seen").status, 200)
        self.assertEqual(self.ask("GET", "/v1/services/seen", token=reader).status, 200)
        self.assertEqual(self.ask("POST", "/v1/services/seen/scale", {"count": 0}, reader).status, 403)
        self.assertEqual(self.ask("POST", f"/v1/nodes/{self.node_id()}/drain", {}, deployer).status, 403)
        self.assertEqual(self.ask("POST", "/v1/cluster/tokens", {}, deployer).status, 403)
        self.assertEqual(self.ask("GET", "/v1/tokens", token=deployer).status, 403)
        # Its name is in what it did.
        versions = self.ask("GET", "/v1/services/seen/versions", token=reader).json["items"]
        self.assertEqual(versions[-1]["submitted_by"], "ci")

    def test_a_role_may_be_for_some_services_only(self):
        self.set_role("web-team", {"allow": ["read", "logs", "submit", "scale", "exec"], "services": ["web-*"]})
        token = self.make_token("web", "web-team")
        self.assertEqual(self.submit(self.admin, "db").status, 200)
        self.assertEqual(self.submit(token, "web-a").status, 200)
        refused = self.submit(token, "db")
        self.assertEqual(refused.status, 403)
        self.assertIn("service db", refused.error["message"])
        # A job of its own name that would stop another's service, and one that holds another's.
        self.assertEqual(self.ask("PUT", "/v1/jobs/db", {**job("db", exec_service("web-b", 0))}, token).status, 403)
        self.assertEqual(self.ask("DELETE", "/v1/jobs/db", token=token).status, 403)
        self.assertEqual(self.ask("POST", "/v1/services/db/scale", {"count": 1}, token).status, 403)
        self.assertEqual(self.ask("POST", "/v1/services/web-a/scale", {"count": 0}, token).status, 200)
        self.assertEqual(self.ask("GET", "/v1/services/db", token=token).status, 403)
        self.assertEqual(self.ask("GET", "/v1/explain/db", token=token).status, 403)
        names = [s["name"] for s in self.ask("GET", "/v1/services", token=token).json["items"]]
        self.assertIn("web-a", names)
        self.assertNotIn("db", names)
        jobs = [j["name"] for j in self.ask("GET", "/v1/jobs", token=token).json["items"]]
        self.assertNotIn("db", jobs)
        events = self.ask("GET", "/v1/events?limit=1000", token=token, headers={"Accept": "application/json"}).json["items"]
        self.assertTrue(any(e.get("service") == "web-a" for e in events))
        self.assertEqual([e for e in events if e.get("service") == "db"], [])
        # Another rule is another right, at once, for the same token.
        self.set_role("web-team", {"allow": ["read"], "services": ["web-*", "db"]})
        wait_for(lambda: self.ask("GET", "/v1/services/db", token=token).status == 200, 10, "the new right")
        self.assertEqual(self.submit(token, "web-a").status, 403)

    # --- namespaces ---

    def put_namespace(self, name, **quota):
        answer = self.ask("PUT", f"/v1/namespaces/{name}", {"name": name, "quota": quota}, self.admin)
        self.assertEqual(answer.status, 200, answer)

    def make_team(self, name):
        """A namespace with all that a team has, and a token that may do everything in it, and nothing elsewhere."""
        self.put_namespace(name)
        self.set_role(name, {"allow": ["read", "logs", "submit", "scale", "deploy", "exec", "secrets", "reveal"], "namespaces": [name]})
        token = self.make_token(name, name)
        where = f"?namespace={name}"
        self.assertEqual(self.ask("PUT", f"/v1/secrets/key{where}", {"value": base64.b64encode(name.encode()).decode()}, token).status, 200)
        web = exec_service("web", 1, secrets=[{"name": "key", "env": "KEY"}])
        self.assertEqual(self.ask("POST", "/v1/jobs", {**job("shop", web), "namespace": name}, token).status, 200)
        self.assertEqual(self.ask("POST", f"/v1/jobs{where}", job("other", exec_service("other", 0)), token).status, 200)
        return token

    def replica(self, token, namespace):
        items = self.ask("GET", f"/v1/allocs?service=web&namespace={namespace}", token=token).json["items"]
        return next((a for a in items if a["state"] == "running"), None)

    def test_namespaces_keep_teams_apart(self):
        a, b = self.make_team("team-a"), self.make_team("team-b")
        mine, theirs = (wait_for(lambda: self.replica(t, n), 30, "its replica") for t, n in ((a, "team-a"), (b, "team-b")))
        # Names are the same, what they are of is not.
        self.assertEqual((mine["service"], mine["namespace"], mine["job"]), ("web", "team-a", "shop"))
        for name, token, alloc in (("team-a", a, mine), ("team-b", b, theirs)):
            said = self.mt("exec", "-N", name, "web/0", "--", "/bin/sh", "-c", "echo $MENTAT_SERVICE $MENTAT_NAMESPACE $KEY",
                           token=token, check=0)
            self.assertEqual(said.stdout.split(), ["web", name, name])
            self.assertEqual(self.mt("status", alloc["id"], "-o", "json", token=token, check=0).returncode, 0)
        self.assertIn("token team-a has not the right", self.mt("exec", "-N", "team-b", "web/0", "--", "true", token=a, check=4).stderr)
        self.wrong_namespace_at_each_route(a, theirs)
        # One that is named beside an id must be the right one.
        for where, status in (("team-a", 200), ("team-b", 404)):
            self.assertEqual(self.ask("GET", f"/v1/allocs/{mine['id']}/logs?namespace={where}", token=self.admin).status, status)
        # Nor is there anything for it in default.
        self.assertEqual(self.submit(self.admin, "db").status, 200)
        self.assertEqual(self.ask("GET", "/v1/services/db", token=a).status, 403)
        self.assertEqual(self.submit(a, "web").status, 403)
        # Nor do lists tell which services others have.
        for name in ("web", "nothing"):
            hidden = self.ask("GET", f"/v1/allocs?service={name}&namespace=team-b", token=a)
            self.assertEqual((hidden.status, hidden.json["items"]), (200, []), name)
        self.assertEqual(self.ask("GET", "/v1/allocs?service=nothing&namespace=team-a", token=a).status, 404)
        # Its lists are of its own, also when it asks for all there is.
        for path in ("/v1/jobs", "/v1/services", "/v1/allocs", "/v1/deployments", "/v1/secrets"):
            found = {i.get("namespace") for i in self.ask("GET", f"{path}?namespace=*", token=a).json["items"]}
            self.assertEqual(found, {"team-a"}, path)
        self.assertEqual([n["name"] for n in self.ask("GET", "/v1/namespaces", token=a).json["items"]], ["team-a"])
        seen = self.ask("GET", "/v1/events?namespace=*&limit=1000", token=a, headers={"Accept": "application/json"}).json["items"]
        self.assertEqual({e["namespace"] for e in seen if e["kind"] in ("job", "service", "alloc", "deployment", "secret")}, {"team-a"})
        self.assertIn("secret", {e["kind"] for e in seen})
        self.assertNotIn("access", {e["kind"] for e in seen})      # names of other teams' roles and tokens
        everything = self.ask("GET", "/v1/events?namespace=*&kind=access&limit=1000", token=self.admin,
                              headers={"Accept": "application/json"}).json["items"]
        self.assertIn("team-b", {e["subject"] for e in everything})
        self.set_role("looker", {"allow": ["read"], "namespaces": ["team-a"]})
        seen = self.ask("GET", "/v1/events?namespace=team-a&limit=1000", token=self.make_token("looker", "looker"),
                        headers={"Accept": "application/json"}).json["items"]
        self.assertEqual([{"job", "secret"} & {e["kind"] for e in seen}], [{"job"}])       # which secrets there are is a right of its own
        # A secret is its namespace's: another one cannot even name it.
        self.assertEqual(self.ask("DELETE", "/v1/secrets/key?namespace=team-b", token=b).status, 409)
        self.assertEqual(self.ask("PUT", "/v1/secrets/only-b?namespace=team-b", {"value": "eA=="}, b).status, 200)
        steals = exec_service("thief", 0, secrets=[{"name": "only-b", "env": "X"}])
        refused = self.ask("POST", "/v1/jobs?namespace=team-a", job("thief", steals), a)
        self.assertEqual(refused.status, 400)
        self.assertIn("there is no secret only-b in its namespace", refused.error["message"])
        # Nor does a key that was used show what another one was answered.
        first, other = (self.ask("POST", f"/v1/services/web/scale?namespace={name}", {"count": 1}, token, headers={"Idempotency-Key": "k"})
                        for name, token in (("team-a", a), ("team-b", b)))
        self.assertEqual((first.status, other.status), (200, 200))
        self.assertNotEqual(first.body, other.body)
        self.nodes_tell_each_of_his_own(a, b)
        self.quotas_are_kept(a)
        self.namespaces_go(a, b)

    def nodes_tell_each_of_his_own(self, a, b):
        """An ingress node is for all, what it cannot serve is not."""
        flags, node = self.authority.agent_flags("edge"), {"id": "f" * 12, "name": "edge", "ip": "127.0.0.1", "ingress": True}
        cert = (flags["tls_cert"], flags["tls_key"])
        way = {"host": "b.example.com", "port": "http", "tls": True}
        front = exec_service("front", 0, ports=[{"name": "http", "port": 80}], ingress=[way])
        self.assertEqual(self.ask("POST", "/v1/jobs?namespace=team-b", job("front", front), b).status, 200)
        self.assertEqual(self.ask("POST", "/v1/agent/register", {"node": node}, cert=cert).status, 200)
        self.mt("node", "ingress", "edge", token=self.make_token("eye", "reader"), check=4)
        self.mt("node", "ingress", "edge", token=self.admin, check=0)
        mine, theirs, host = ("ingress of team-a.web: too long", "ingress of team-b.web: too wide",
                              "certificate for b.example.com: nobody answers")
        report = {"node_id": node["id"], "problem": f"{mine}; {theirs}", "acme": {
            "seq": 1, "certificates": [{"host": way["host"], "problem": "nobody answers"}]}}
        self.assertEqual(self.ask("POST", "/v1/agent/ingress", report, cert=cert).status, 204)
        for token, wanted in ((a, [mine]), (b, [theirs, host]), (self.admin, [mine, theirs, host])):
            self.assertEqual(self.ask("GET", "/v1/nodes/edge", token=token).json["ingress_problems"], wanted)
            seen = self.ask("GET", "/v1/events?namespace=*&limit=1000", token=token, headers={"Accept": "application/json"}).json["items"]
            told = [e["reason"].replace("ingress: ", "").replace("no certificate", "certificate") for e in seen if e.get("subject") == "edge"]
            self.assertEqual(sorted(reason for reason in told if reason.startswith(("ingress of", "certificate"))), sorted(wanted))
        self.assertEqual(self.ask("POST", "/v1/agent/ingress", {**report, "problem": "the proxy ended: b.example.com"}, cert=cert).status, 204)
        self.assertEqual(self.ask("GET", "/v1/nodes/edge", token=a).json["ingress_problems"], ["the proxy ended"])
        self.assertEqual(self.ask("DELETE", "/v1/jobs/front?purge=true&namespace=team-b", token=b).status, 200)
        wait_for(lambda: self.mt("node", "remove", "--lost", "edge", token=self.admin).returncode == 0, 60, "its removal")
        for i in range(3):
            known = self.ask("GET", "/v1/nodes?consistency=stale", token=self.admin, i=i).json["items"]
            self.assertEqual([n["name"] for n in known], ["n1"], f"server {i + 1} knew nothing of it when it was answered")

    # What walking the table needs to fill in; a route with anything else fails the walk.
    WALK = {"job": "shop", "service": "web", "subject": "web", "secret": "key", "namespace": "team-b"}
    BODIES = {"/v1/services/{service}/scale": {"count": 1}, "/v1/services/{service}/deploy": {"env": {"A": "b"}},
              "/v1/allocs/{alloc}/signal": {"signal": "SIGHUP"}, "/v1/secrets/{secret}": {"value": "eA=="},
              "/v1/services/{service}": {"meta": {"a": "b"}}}

    def wrong_namespace_at_each_route(self, attacker, theirs):
        """All of the API that speaks of something with a namespace, by its own description."""
        def denied():
            return sum(s.process.text().count(REFUSED) for s in self.cluster.servers)
        ids = {**self.WALK, "alloc": theirs["id"],
               "deployment": self.ask("GET", "/v1/deployments?namespace=team-b", token=self.admin).json["items"][0]["id"]}
        refused = 0
        paths = self.ask("GET", "/v1/openapi.json").json["paths"]
        for path, operations in paths.items():
            for method, operation in operations.items():
                names = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
                query = {p["name"] for p in operation["parameters"] if p["in"] == "query"}
                in_path = names == ["namespace"] and method == "get"
                if not ("namespace" in query or in_path) or operation["x-mentat-right"] == "adopt":
                    continue
                where = path.format(**{n: ids[n] for n in names}) + ("" if in_path else "?namespace=team-b")
                headers = {"Accept": "application/json"}
                if path.endswith("/exec"):
                    where += "&command=%5B%22id%22%5D"
                    headers.update({"Connection": "Upgrade", "Upgrade": "mentat-exec"})
                body = None
                if "requestBody" in operation:
                    body = self.BODIES.get(path, job("shop", exec_service("web", 1)) if path in ("/v1/jobs", "/v1/jobs/{job}", "/v1/plan") else {})
                before = denied()
                answer = self.ask(method.upper(), where, body, attacker, headers=headers)
                if not names and method == "get":
                    self.assertEqual((answer.status, [i for i in answer.json["items"] if i.get("namespace")]), (200, []), where)
                    continue
                self.assertEqual((answer.status, answer.error["code"]), (403, "denied"), (method, where))
                self.assertEqual(denied(), before + 1, (method, where))
                refused += 1
                if "alloc" in names or "deployment" in names:      # nor by the id alone
                    self.assertEqual(self.ask(method.upper(), where.replace("namespace=team-b&", "").replace("?namespace=team-b", ""),
                                              body, attacker, headers=headers).status, 403, where)
                    self.assertNotIn("team-b", answer.error["message"])      # nor is told whose it is
        self.assertEqual(self.ask("GET", f"/v1/allocs/{theirs['id'][:8]}", token=attacker).status, 404)      # nor that there is one
        self.assertEqual(self.ask("GET", f"/v1/allocs/{theirs['id'][:8]}", token=self.admin).status, 200)
        self.assertGreater(refused, 20)

    def quotas_are_kept(self, token):
        self.put_namespace("team-a", replicas=2)
        where = "?namespace=team-a"
        grown = self.ask("POST", f"/v1/services/web/scale{where}", {"count": 3}, token)
        self.assertEqual(grown.status, 403)
        self.assertIn("allows 2 replicas, its services want 1, and with this 3", grown.error["message"])
        self.assertEqual(self.ask("POST", f"/v1/services/web/scale{where}", {"count": 2}, token).status, 200)
        for path in ("/v1/jobs", "/v1/plan"):
            self.assertEqual(self.ask("POST", path + where, job("more", exec_service("more", 1)), token).status, 403, path)
        shown = self.ask("GET", "/v1/namespaces/team-a", token=token).json
        self.assertEqual((shown["quota"]["replicas"], shown["wanted"]["replicas"], shown["jobs"]), (2, 2, 2))
        # Another limit leaves those that are there; 0 takes one away.
        for options, quota in ((["--memory-mb", "8GiB", "--cpus", "2.5"], (2, 8192, 2.5)), (["--replicas", "3", "--cpus", "0"], (3, 8192, 0)),
                               (["--memory-mb", "0", "--replicas", "2"], (2, 0, 0))):
            self.mt("namespace", "put", "team-a", *options, token=self.admin, check=0)
            now = self.ask("GET", "/v1/namespaces/team-a", token=token).json["quota"]
            self.assertEqual((now["replicas"], now["memory_mb"], now["cpus"]), quota, options)
        # To be given more is not the team's to decide.
        self.assertEqual(self.ask("PUT", "/v1/namespaces/team-a", {"name": "team-a"}, token).status, 403)

    def namespaces_go(self, *tokens):
        for name, token in zip(("team-a", "team-b"), tokens):
            refused = self.ask("DELETE", f"/v1/namespaces/{name}", token=self.admin)
            self.assertEqual((refused.status, "has job" in refused.error["message"]), (409, True))
            for j in ("shop", "other"):
                self.assertEqual(self.ask("DELETE", f"/v1/jobs/{j}?purge=true&namespace={name}", token=token).status, 200)
            for secret in self.ask("GET", f"/v1/secrets?namespace={name}", token=token).json["items"]:
                self.assertEqual(self.ask("DELETE", f"/v1/secrets/{secret['name']}?namespace={name}", token=token).status, 200)
            wait_for(lambda: self.ask("DELETE", f"/v1/namespaces/{name}", token=self.admin).status == 200, 30, "its end")

    def test_a_token_is_good_and_worthless_everywhere_once_that_is_answered(self):
        for i in range(9):
            made = self.ask("POST", "/v1/tokens", {"name": f"short-{i}", "roles": ["reader"]}, self.admin, i=i % 3)
            self.assertEqual(made.status, 200, made)
            token = made.json["token"]
            paths = ("/v1/cluster", "/v1/services", "/v1/services?consistency=stale", "/v1/tokens/self")
            self.assertEqual([self.ask("GET", path, token=token, i=s).status for s in range(3) for path in paths], [200] * 12)
            self.assertEqual(self.ask("DELETE", f"/v1/tokens/{token.split('.')[0]}", token=self.admin, i=i // 3).status, 200)
            self.assertEqual([self.ask("GET", path, token=token, i=s).status for s in range(3) for path in paths], [401] * 12)

    def test_what_a_revoked_token_has_begun_ends(self):
        """Streams, commands, and what would wait for a change for ten minutes."""
        token = self.make_token("leaked", "admin")
        self.assertEqual(self.submit(self.admin, "chatty", 1).status, 200)
        alloc = wait_for(lambda: [a for a in self.server().items("/v1/allocs?service=chatty") if a["state"] in ("running", "healthy")],
                         30, "its replica")[0]["id"]
        wait = f"index={self.ask('GET', '/v1/jobs/chatty', token=self.admin).index}&wait=10m"
        begun, status, over = [], {}, {}

        def read(name, server, path):
            c = http.client.HTTPSConnection("127.0.0.1", self.server(server).port, context=self.authority.context(), timeout=60 * PATIENCE)
            c.request("GET", path, headers=bearer(token))
            begun.append(name)
            with contextlib.suppress(OSError, http.client.HTTPException):
                r = c.getresponse()
                status[name] = r.status
                while r.read(1):
                    pass
            c.close()
            over[name].set()
        for i in range(3):
            for what, path in (("events", "/v1/events"), ("quiet events", "/v1/events?service=nothing"),
                               ("logs", f"/v1/allocs/{alloc}/logs?follow=true"), ("wait", f"/v1/jobs/chatty?{wait}")):
                over[what, i] = threading.Event()
                threading.Thread(target=read, args=((what, i), i, path), daemon=True).start()
        command = subprocess.Popen([program("mt"), "exec", "chatty/0", "--address", f"https://127.0.0.1:{self.server(1).port}", "--ca",
                                    self.authority.ca, "--", "/bin/sh", "-c", "echo in; sleep 1000"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, env={**os.environ, "MENTAT_TOKEN": token}, text=True)
        try:
            self.assertEqual(command.stdout.readline(), "in\n")
            wait_for(lambda: len(begun) == 12 and len(status) == 9, 20, "all streams")
            self.assertFalse(any(e.is_set() for e in over.values()))
            self.assertEqual(self.ask("DELETE", f"/v1/tokens/{token.split('.')[0]}", token=self.admin).status, 200)
            for name, event in over.items():
                self.assertTrue(event.wait(20 * PATIENCE), f"{name} goes on")
            self.assertNotEqual(command.wait(20 * PATIENCE), 0)
        finally:
            command.kill()
            command.stdout.close()
        self.assertEqual(status, {name: 401 if name[0] == "wait" else 200 for name in over})
        self.assertEqual(self.ask("DELETE", "/v1/jobs/chatty?purge=true", token=self.admin).status, 200)

    def test_the_list_of_tokens_shows_no_secret(self):
        token = self.make_token("hidden", "reader")
        text = self.ask("GET", "/v1/tokens", token=self.admin).body.decode()
        self.assertIn(token.split(".")[0], text)
        self.assertNotIn(token.split(".")[1], text)
        self.assertNotIn("hash", text)

    def test_a_cluster_without_an_administrator_gets_a_new_one(self):
        """All that can make tokens are revoked; root on the leader's host is not shut out."""
        ids = [t["id"] for t in self.ask("GET", "/v1/tokens", token=self.admin).json["items"] if "admin" in t["roles"]]
        last = self.admin.split(".")[0]
        for token_id in sorted(ids, key=lambda t: t == last):
            self.assertEqual(self.ask("DELETE", f"/v1/tokens/{token_id}", token=self.admin).status, 200)

        def fresh():
            for s in self.cluster.servers:
                path = os.path.join(s.flags["data_dir"], "admin-token")
                if os.path.exists(path):
                    self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
                    with open(path) as f:
                        token = f.read().strip()
                    if token != self.admin and self.ask("GET", "/v1/tokens", token=token).status == 200:
                        return token
        type(self).admin = wait_for(fresh, 20, "another administrator's token")
        for s in self.cluster.servers:
            s.headers = bearer(self.admin)

    # --- agents and servers ---

    def test_the_agents_own_api_is_for_servers_alone(self):
        for cert in (self.authority.issue("someone", "DNS:someone"), self.authority.issue("agent-n3", "DNS:n3.agent.mentat")):
            answer = call(self.agent.port, "GET", "/v1/allocs", timeout=10, tls=self.authority.context(*cert))
            self.assertEqual(answer.status, 403)
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            call(self.agent.port, "GET", "/v1/allocs", timeout=10, tls=self.authority.context())
        good = self.authority.issue("server-9", "DNS:9.server.mentat")
        self.assertEqual(call(self.agent.port, "GET", "/v1/allocs", timeout=10, tls=self.authority.context(*good)).status, 200)

    # --- what the processes took from themselves ---

    @staticmethod
    def thread_facts(pid):
        """Of each thread: what /proc/PID/status says."""
        facts = []
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status") as f:
                facts.append(dict(re.findall(r"^(\w+):\s*(.*)$", f.read(), re.M)))
        return facts

    def test_servers_and_mt_have_a_filter_of_system_calls(self):
        server = self.server(0).process
        watching = subprocess.Popen([program("mt"), "events", "-f", "--address", f"https://127.0.0.1:{self.server().port}", "--ca",
                                     self.authority.ca], env={**os.environ, "MENTAT_TOKEN": self.admin}, stdout=subprocess.DEVNULL)
        try:
            for name, pid in (("mentat-server", server.pid), ("mt", watching.pid)):
                mode = "0" if sanitized(name) else "2"
                wait_for(lambda: {(f["NoNewPrivs"], f["Seccomp"]) for f in self.thread_facts(pid)} == {("1", mode)}, 10,
                         f"the filter of {name}")
        finally:
            watching.kill()
            watching.wait()
        self.assertGreater(len(self.thread_facts(server.pid)), 2)
        self.assertRegex(server.text(), r'msg=sandbox system_calls=(filtered|all) paths=(restricted|all)')
        self.assertIsNone(re.search("the sandbox is wider", server.text()))

    @unittest.skipIf(os.geteuid(), "only root has something to lose")
    def test_the_agent_keeps_the_capabilities_that_the_documents_say(self):
        with open(os.path.join(ROOT, "docs", "security.md")) as f:
            line = next(l for l in f if l.startswith("| keeps"))
        with open("/usr/include/linux/capability.h") as f:
            numbers = dict(re.findall(r"#define CAP_(\w+)\s+(\d+)\n", f.read()))
        own = sum(1 << int(numbers[name]) for name in re.findall(r"`([A-Z_]+)`", line))
        facts = self.thread_facts(self.agent.process.pid)
        mine = int(self.thread_facts(os.getpid())[0]["CapEff"], 16)
        self.assertEqual({int(f["CapEff"], 16) for f in facts}, {own & mine})
        with open(os.path.join(ROOT, "packaging", "mentat-agent.service")) as f:
            taken = re.findall(r"CAP_([A-Z_]+)", "".join(l for l in f if l.startswith("CapabilityBoundingSet=~")))
        nobodys = sum(1 << int(numbers[name]) for name in taken)
        bound = int(self.thread_facts(os.getpid())[0]["CapBnd"], 16)
        self.assertEqual({int(f["CapBnd"], 16) for f in facts}, {bound & ~nobodys})

    # --- mt ---

    def test_mt(self):
        home = Workdir()
        self.assertIn("say who you are", self.mt("services", check=4).stderr)
        made = self.mt("token", "create", "ops", "--role", "operator", "-q", token=self.admin, check=0).stdout.strip()
        self.assertRegex(made, r"^\w+\.[0-9a-f]{32}$")
        self.assertIn("ops", self.mt("token", "whoami", token=made, check=0).stdout)
        self.assertEqual(self.mt("login", home=home.path, stdin="wrong.0123\n").returncode, 4)
        self.mt("login", home=home.path, stdin=made + "\n", check=0)
        kept = home.join(".config", "mentat", "mt.yaml")
        self.assertEqual(os.stat(kept).st_mode & 0o777, 0o600)
        self.mt("nodes", home=home.path, address=False, check=0)
        # The token goes to no other address than the one that it was kept for.
        self.assertEqual(self.mt("nodes", home=home.path).returncode, 4)
        os.chmod(kept, 0o644)
        self.assertIn("chmod 600", self.mt("nodes", home=home.path, address=False, check=4).stderr)
        os.chmod(kept, 0o600)
        self.mt("logout", home=home.path, address=False, check=0)
        self.assertFalse(os.path.exists(kept))
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
            f.write("name: shop-team\nrules: [{allow: [read, reed], services: [shop-*]}]\n")
            f.flush()
            bad = self.mt("role", "set", f.name, token=self.admin, check=2)
            self.assertIn("is no right", bad.stderr)
            f.seek(0), f.truncate()
            f.write("name: shop-team\nrules: [{allow: [read], services: [shop-*]}]\n")
            f.flush()
            self.mt("role", "set", f.name, token=self.admin, check=0)
        self.assertIn("shop-team", self.mt("role", "list", token=self.admin, check=0).stdout)
        self.mt("token", "create", "x", "--role", "shop-teem", token=self.admin, check=2)
        self.mt("role", "delete", "shop-team", token=self.admin, check=0)
        self.mt("token", "revoke", made.split(".")[0], token=self.admin, check=0)
        self.mt("nodes", token=made, check=4)


    # --- audit ---

    def audit_lines(self, i=0):
        lines = []
        folder = os.path.join(self.server(i).flags["data_dir"], "audit")
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name)) as f:
                lines += [json.loads(line) for line in f]
        return lines

    def test_it_is_written_down_who_did_what(self):
        token = self.make_token("auditee", "deployer")
        self.assertEqual(self.submit(self.admin, "watched", 1).status, 200)
        made = self.submit(token, "watched", 1)
        self.ask("POST", "/v1/cluster/tokens", {}, token)
        alloc = wait_for(lambda: [a for a in self.server().items("/v1/allocs?service=watched") if a["state"] in ("running", "healthy")],
                         30, "its replica")[0]["id"]
        self.ask("GET", f"/v1/allocs/{alloc}/logs", token=token)
        self.ask("GET", "/v1/services", token=token)
        self.ask("POST", "/v1/jobs", {}, "nobody.0123")
        lines = self.audit_lines()
        mine = [(l["method"], l["path"], l["status"]) for l in lines if l.get("token") == token.split(".")[0]]
        self.assertEqual(mine, [("POST", "/v1/jobs", 200), ("POST", "/v1/cluster/tokens", 403), ("GET", f"/v1/allocs/{alloc}/logs", 200)])
        by_id = {l.get("request"): l for l in lines}
        line = by_id[made.headers["X-Mentat-Request"]]
        self.assertEqual((line["who"], line["job"]), ("auditee", "watched"))
        self.assertIn("cluster", next(l for l in lines if l.get("token") == token.split(".")[0] and l["status"] == 403)["error"])
        self.assertTrue(any(l.get("kind") == "nobody" and l["status"] == 401 for l in lines))
        self.assertEqual([l for l in lines if l.get("path", "").startswith("/v1/agent/") and l["status"] == 200], [])
        # What a follower hands on has the same id in the leader's file.
        leader = self.cluster.servers.index(self.cluster.leader())
        answer = call(self.server((leader + 1) % 3).port, "POST", "/v1/services/watched/scale", {"count": 0}, bearer(token), 30,
                      tls=self.authority.context())
        self.assertEqual(answer.status, 200)
        there = [l for l in self.audit_lines(leader) if l.get("request") == answer.headers["X-Mentat-Request"]]
        self.assertEqual([(l["who"], l.get("handed_on")) for l in there], [("auditee", True)])
        folder = os.path.join(self.server().flags["data_dir"], "audit")
        self.mt("audit", "verify", folder, address=False, check=0)
        # A copy in which one word was changed.
        copy = Workdir()
        name = sorted(os.listdir(folder))[0]
        with open(os.path.join(folder, name)) as f:
            text = f.read().replace('"who":"auditee"', '"who":"nobody"', 1)
        with open(copy.join(name), "w") as f:
            f.write(text)
        self.assertIn("the chain is broken here", self.mt("audit", "verify", copy.path, address=False, check=1).stderr)


class FullAudit(unittest.TestCase):
    """audit: required on a disk that is full."""

    def test_writes_are_refused_until_there_is_room(self):
        disk = SmallDisk(1)
        self.addCleanup(disk.remove)
        s = Server(audit="required", audit_dir=disk.join("audit"))
        self.addCleanup(lambda: s.kill())
        s.start()
        other = Server(audit="on", audit_dir=disk.join("other"))
        self.addCleanup(lambda: other.kill())
        other.start()
        self.assertEqual(s.post("/v1/jobs", job("a", exec_service("a", 0))).status, 200)
        disk.fill()
        # The one that fills the file is done, and told of; from then on nothing is.
        wait_for(lambda: s.post("/v1/jobs", job("b", exec_service("b", 0))).status == 507, 20, "the refusal")
        self.assertIn("audit: required", s.post("/v1/jobs", job("c", exec_service("c", 0))).error["message"])
        self.assertEqual(s.get("/v1/jobs").status, 200)
        self.assertNotIn("c", [j["name"] for j in s.items("/v1/jobs")])

        # With `audit: on` everything goes on, and the log says so.
        def told(what):
            self.assertEqual(other.post("/v1/jobs", job("d", exec_service("d", 0))).status, 200)
            return what in other.process.text()
        wait_for(lambda: told("the audit file cannot be written"), 20, "the word of it")
        disk.make_room()
        wait_for(lambda: told("the audit file can be written again"), 20, "the end of it")
        self.assertEqual(s.post("/v1/jobs", job("c", exec_service("c", 0))).status, 200)
        self.assertIn("the audit file cannot be written", s.process.text())
        done = subprocess.run([program("mt"), "audit", "verify", disk.join("audit")], capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 0, done.stderr)


class Limits(unittest.TestCase):
    """What one client can take of a server whose limits are low; each allowance holds ten seconds' worth."""

    @classmethod
    def setUpClass(cls):
        cls.authority = Authority()
        cls.server = s = Server(access="tokens", bind="127.0.0.1", server_id=5, token_rate=2, address_rate=200, failure_rate=1,
                                http_threads=1, max_per_address=6, audit_sink="command",
                                **cls.authority.server_flags(5))
        s.flags["audit_command"] = f"cat >> {s.workdir.join('copy')}"
        s.tls = cls.authority.context()
        s.start()
        cls.admin = wait_for(s.admin_token, 20, "the administrator's token")
        wait_for(lambda: s.call("GET", "/v1/tokens", headers=bearer(cls.admin)).status == 200, 20, "its force")

    @classmethod
    def tearDownClass(cls):
        cls.server.kill()

    def ask(self, path, token=None, cert=None):
        return call(self.server.port, "GET", path, headers=bearer(token) if token else None, timeout=30,
                    tls=self.authority.context(*(cert or ())))

    def until_limited(self, path, token, otherwise):
        """How many went through before one came too often."""
        for n in range(1000):
            answer = self.ask(path, token)
            if answer.status == 429:
                self.assertGreaterEqual(int(answer.headers["Retry-After"]), 1)
                self.assertEqual(answer.error["code"], "too_many")
                return n
            self.assertEqual(answer.status, otherwise)
        self.fail("nothing limits this")

    def test_a_token_that_asks_too_often_waits_and_nobody_else_does(self):
        made = self.server.call("POST", "/v1/tokens", {"name": "busy", "roles": ["reader"], "ttl": "1h"}, bearer(self.admin))
        self.assertGreaterEqual(self.until_limited("/v1/nodes", made.json["token"], 200), 20)
        agent = self.authority.issue("agent-n7", "DNS:n7.agent.mentat")
        for _ in range(30):
            self.assertEqual(self.ask("/v1/agent/allocs?node=ffff", cert=agent).status, 404)
        self.assertEqual(self.ask("/v1/healthz").status, 200)
        self.assertIn("requests come too often", self.server.process.text())

    def test_failures_are_bounded_and_keep_nobody_out(self):
        n = self.until_limited("/v1/tokens?token=s3cr3t", "nobody.0123", 401)
        self.assertGreater(n, 0)                            # some of its ten went while the first token came into force
        metrics = self.ask("/v1/metrics", self.admin)
        self.assertEqual(metrics.status, 200)
        text = self.server.process.text()
        self.assertLessEqual(text.count(REFUSED), n + 20)
        self.assertNotIn("s3cr3t", text)                    # what is in an address by mistake is not in the log
        folder = os.path.join(self.server.flags["data_dir"], "audit")
        self.assertNotIn("s3cr3t", "".join(text_of(os.path.join(folder, name)).strip() for name in os.listdir(folder)))
        self.assertGreaterEqual(metrics_in(metrics.body.decode())["mentat_http_limited_total"], 1)

    def test_one_address_cannot_take_all_connections(self):
        held, refused = [], 0
        try:
            for _ in range(12):
                try:
                    held.append(self.authority.context().wrap_socket(
                        socket.create_connection(("127.0.0.1", self.server.port), timeout=20), server_hostname="127.0.0.1"))
                except OSError:
                    refused += 1
            self.assertEqual((len(held), refused), (6, 6))
            # Another one has its own.
            other = http.client.HTTPSConnection("127.0.0.1", self.server.port, context=self.authority.context(), timeout=30,
                                                source_address=("127.0.0.2", 0))
            other.request("GET", "/v1/healthz")
            self.assertEqual(other.getresponse().status, 200)
            other.close()
        finally:
            for s in held:
                s.close()
        wait_for(lambda: self.ask("/v1/healthz").status == 200, 10, "room after they left")

    def test_a_command_gets_what_is_written_down(self):
        """Each line as it is in the files, whatever ends the command."""
        def parts():
            folder = os.path.join(self.server.flags["data_dir"], "audit")
            lines = "\n".join(text_of(os.path.join(folder, name)).strip() for name in sorted(os.listdir(folder))).splitlines()
            return {l for l in lines if '"after"' not in l}, text_of(self.server.workdir.join("copy")).strip().splitlines()
        def same():
            written, copied = parts()
            return len(written) > 1 and written == set(copied)
        agent = self.authority.issue("agent-n8", "DNS:n8.agent.mentat")
        self.server.call("DELETE", "/v1/jobs/none")
        self.assertEqual(call(self.server.port, "DELETE", "/v1/jobs/none", tls=self.authority.context(*agent)).status, 403)
        wait_for(same, 20, "the copy")
        readers = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if self.reads_copy(pid)]
        self.assertTrue(readers)
        for pid in readers:
            os.kill(int(pid), signal.SIGKILL)
        wait_for(lambda: not any(map(self.reads_copy, readers)), 10, "the end of the command")
        self.assertEqual(call(self.server.port, "DELETE", "/v1/jobs/other", tls=self.authority.context(*agent)).status, 403)
        wait_for(same, 20, "the copy by another one")

    def reads_copy(self, pid):
        try:
            return os.readlink(f"/proc/{pid}/fd/1") == self.server.workdir.join("copy")
        except OSError:
            return False


class Founding(unittest.TestCase):
    def test_the_first_token_is_printed_by_init_on_the_servers_own_host(self):
        authority = Authority()
        s = Server(expect=0, access="tokens", bind="127.0.0.1", server_id=5, **authority.server_flags(5))
        s.tls = authority.context()
        self.addCleanup(lambda: s.process.kill())
        s.start(wait=False)
        wait_for(lambda: s.get("/v1/healthz").status == 200, 20, "the API")
        env = {**os.environ, "HOME": "/nonexistent"}
        where = ["--address", f"https://127.0.0.1:{s.port}", "--ca", authority.ca]
        done = subprocess.run([program("mt"), "cluster", "init", *where], capture_output=True, text=True, env=env,
                              timeout=60 * PATIENCE)
        self.assertEqual(done.returncode, 0, done.stderr)
        token = re.search(r"\w+\.[0-9a-f]{32}", done.stdout)[0]
        wait_for(lambda: s.call("GET", "/v1/tokens", headers=bearer(token)).status == 200, 20, "the token")
        self.assertEqual(s.get("/v1/jobs").status, 401)
        self.assertEqual(s.post("/v1/cluster/init").status, 401)

    def test_tokens_want_tls(self):
        done = subprocess.run([program("mentat-server"), "--access=tokens", "--data-dir=/nonexistent"], capture_output=True, text=True,
                              timeout=20 * PATIENCE)
        self.assertEqual(done.returncode, 2)
        self.assertIn("tls_cert", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
