#!/usr/bin/env python3
"""The attackers of SECURITY.md against a cluster of three servers and three agents with certificates and tokens, at each server,
which is the leader or another one. What each of them tries is refused, told by one line of one log, and counted once."""
import collections
import contextlib
import glob
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from authority import Authority  # noqa: E402
from auto_lib import Auto  # noqa: E402
from cluster_lib import Cluster  # noqa: E402
from docker_lib import Engine, enter_namespaces  # noqa: E402
from lib import PATIENCE, Agent, Server, bearer, call, exec_service, holding, job, metrics_in, text_of, wait_for  # noqa: E402

KNOWN = "correct-horse-battery-staple"
# What counts a refusal, and the line that tells it. Of connections ten lines in ten seconds are written, of each port: the tests together
# are refused less often at any.
SERVERS_REFUSALS = {"mentat_http_denied_total": "a request was refused",
                    "mentat_http_refused_connections_total": "a connection was refused",
                    "mentat_raft_refused_connections_total": "a server is refused"}
AGENTS_REFUSALS = {"mentat_agent_denied_total": "a request was refused",
                   "mentat_agent_refused_connections_total": "a connection was refused"}
# A workload that was taken over: asks whoever listens, and the three servers with its own token, too.
SPY = """
import http.client, json, ssl, sys
host, ports, token = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
def ask(port, headers):
    try:
        c = http.client.HTTPSConnection(host, port, context=ssl._create_unverified_context(), timeout=20)
        c.request("GET", "/v1/allocs", headers=headers)
        return c.getresponse().status
    except (OSError, http.client.HTTPException):             # a server among servers says why before it closes
        return "closed"
found = [ask(p, {}) for p in ports] + [ask(p, {"Authorization": "Bearer " + token}) for p in ports[:3]]
print("found", json.dumps(found), flush=True)
"""


class Attackers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.addClassCleanup(cls.end)
        cls.agents, cls.engine = [], Engine()
        cls.engine.launch()
        cls.auto, cls.stranger = Auto(), Authority("stranger")
        cls.cluster = Cluster(3, start=False, bind="0.0.0.0", tls="auto", join_token_file=cls.auto.secret, failure_rate=1000,
                              address_rate=1000)
        for s, address in zip(cls.cluster.servers, cls.cluster.addresses):
            s.flags["advertise"] = address
        cls.auto.found(cls.cluster)
        cls.engine.wait_up()
        cls.engine.image("app:1", "USER 1000:1001", "ENV PATH=/bin")
        for name in ("n1", "n2", "n3"):
            agent = Agent(cls.server(), name, bind="0.0.0.0", tls="auto", servers=cls.cluster.addresses,
                          join_token_file=cls.auto.secret, **{"docker.socket": cls.engine.socket, "reserved_memory_mb": 0})
            cls.agents.append(agent.start())
        # Only what the programs themselves keep to themselves keeps others out.
        for p in [*cls.cluster.servers, *cls.agents]:
            os.chmod(p.workdir.path, 0o755)
        wait_for(lambda: len(cls.server().items("/v1/nodes")) == 3, 20, "three nodes")
        # From here on the test can issue certificates of the cluster's authority.
        cls.authority = Authority("an authority of ours", since_days=2)
        done = cls.auto.mt(cls.server(), "ca", "import", "--certificate", cls.authority.ca, "--private-key", cls.authority.ca_key)
        assert done.returncode == 0, done.stderr
        for s in cls.cluster.servers:
            s.believe()
        for agent in cls.agents:
            agent.tls = cls.nameless(cls.identity(cls.server()))
        cls.nodes = {n["name"]: n["id"] for n in cls.server().items("/v1/nodes")}
        assert cls.auto.mt(cls.server(), "secret", "put", "key", "--file", cls.auto.file("key", KNOWN)).returncode == 0
        cls.victim = cls.run_service("victim", "exec", {"command": ["/bin/sleep"], "args": ["1000"], "user": "nobody"})
        cls.eyes = {}

    @classmethod
    def end(cls):
        try:
            left = [agent.end() for agent in cls.agents]
            assert not any(left), left
        finally:
            cls.engine.end()
            cls.cluster.kill()
            cls.cluster.remove_files()

    # --- helpers ---

    @classmethod
    def server(cls, i=0):
        return cls.cluster.servers[i]

    @staticmethod
    def identity(who):
        """The certificate with its key of a server or agent."""
        return os.path.join(who.flags["data_dir"], "tls", "identity.pem")

    @classmethod
    def context(cls, *cert):
        context = ssl.create_default_context(cafile=cls.server().authorities())
        if cert:
            context.load_cert_chain(*cert)
        return context

    @classmethod
    def nameless(cls, *cert):
        """For who carries a name in place of an address: agents, and servers among each other."""
        context = cls.context(*cert)
        context.check_hostname = False
        return context

    def ask(self, i, method, path, body=None, token=None, cert=(), headers=None):
        headers = {**(bearer(token) if token else {}), **(headers or {})}
        return call(self.server(i).port, method, path, body, headers, 30, tls=self.context(*cert))

    @classmethod
    def run_service(cls, name, driver, config, node="n1"):
        spec = {**exec_service(name), "driver": driver, "config": config, "secrets": [{"name": "key", "file": "key"}],
                "identity": {"audience": ["test"], "file": "who.jwt"}, "kill": {"timeout": "0s"},
                "constraints": [{"attribute": "node.name", "op": "=", "value": [node]}],
                "resources": {"cpus": 0.01, "memory_mb": 64}}
        answer = cls.server().post("/v1/jobs", job(name, spec))
        assert answer.status == 200, answer
        return wait_for(lambda: [a for a in cls.server().items(f"/v1/allocs?service={name}") if a["state"] == "running"], 40, name)[0]

    def make_token(self, name, *roles, ttl="1h"):
        answer = self.server().post("/v1/tokens", {"name": name, "roles": list(roles), "ttl": ttl})
        self.assertEqual(answer.status, 200, answer)
        return answer.json["token"]

    def metrics(self, who):
        """By a connection that is kept."""
        eye = self.eyes.setdefault(who, http.client.HTTPSConnection("127.0.0.1", who.port, context=who.tls, timeout=20))
        for fresh in (False, True):              # one that was idle for too long is closed
            try:
                eye.request("GET", "/v1/metrics", headers=getattr(who, "headers", {}))
                text = eye.getresponse().read().decode()
                break
            except (OSError, http.client.HTTPException):
                eye.close()
                if fresh:
                    raise
        return metrics_in(text)

    def refusals(self):
        """How many each server and agent counted, and how many it told."""
        found = collections.Counter()
        for who, table in [(s, SERVERS_REFUSALS) for s in self.cluster.servers] + [(a, AGENTS_REFUSALS) for a in self.agents]:
            metrics, log = self.metrics(who), who.process.text()
            for metric, line in table.items():
                found[who.flags["name"], metric] = metrics[metric]
                found[who.flags["name"], metric, "told"] = log.count(f'msg="{line}"')
        return found

    @contextlib.contextmanager
    def refused(self, metric, reason, times=1):
        """Inside, this much is refused by one server or agent, which says why; and nobody refuses anything else."""
        before = self.refusals()
        yield
        with contextlib.suppress(AssertionError):            # what is missing then shows below
            wait_for(lambda: sum((self.refusals() - before).values()) >= 2 * times, 10)
        changed = self.refusals() - before
        names = {name for name, *_ in changed}
        self.assertEqual(len(names), 1, changed)
        name = names.pop()
        self.assertEqual(changed, {(name, metric): times, (name, metric, "told"): times})
        log = next(w for w in [*self.cluster.servers, *self.agents] if w.flags["name"] == name).process.text()
        said = [line for line in log.splitlines() if {**SERVERS_REFUSALS, **AGENTS_REFUSALS}[metric] in line][-times:]
        for line in said:
            self.assertRegex(line, reason)

    def denied(self, reason, *args, status=403, **kw):
        """One request that is refused."""
        with self.refused("mentat_http_denied_total", reason):
            answer = self.ask(*args, **kw)
        self.assertEqual(answer.status, status, answer)
        self.assertNotIn(KNOWN.encode(), answer.body)
        return answer

    # --- somebody who reaches port 4646 ---

    def test_nobody(self):
        for i in range(3):
            for method, path, body in (("GET", "/v1/jobs", None), ("POST", "/v1/jobs", job("x", exec_service("x", 0))),
                                       ("GET", "/v1/metrics", None), ("GET", "/v1/events", None), ("GET", "/v1/snapshot", None),
                                       ("POST", "/v1/cluster/init", None), ("POST", "/v1/cluster/tokens", {}),
                                       ("GET", "/v1/tokens", None), ("GET", "/v1/secrets/key/value", None),
                                       ("GET", "/v1/agent/allocs?node=" + self.nodes["n1"], None)):
                self.denied(f"path={path.split('?')[0]} .*say who you are", i, method, path, body, status=401)
            # Nor does it help to claim something.
            for headers in ({"X-Mentat-Agent": "n1"}, {"X-Mentat-Forwarded": "s1"}, {"Authorization": "Basic cm9vdDpyb290"}):
                self.denied("say who|write", i, "GET", "/v1/jobs", headers=headers, status=401)
            self.assertEqual([self.ask(i, "GET", p).status for p in ("/v1/healthz", "/v1/version", "/v1/jwks")], [200] * 3)

    def test_tokens_that_are_not_good(self):
        short, leaked = self.make_token("short", "admin", ttl="1s"), self.make_token("leaked", "admin")
        self.assertEqual(self.server().call("DELETE", "/v1/tokens/" + leaked.split(".")[0]).status, 200)
        for i in range(3):
            wait_for(lambda: {self.ask(i, "GET", "/v1/nodes", token=t).status for t in (short, leaked)} == {401}, 10, "their end")
            for token, reason in ((short, "has expired"), (leaked, "does not know this token"), (leaked.split(".")[0] + "." + "0" * 32, "does not know this token"),
                                  ("0" * 12 + "." + "0" * 32, "does not know this token"), ("nonsense", "this is no token")):
                for method, path, body in (("GET", "/v1/nodes", None), ("POST", "/v1/jobs", job("x", exec_service("x", 0)))):
                    self.denied(reason, i, method, path, body, token=token, status=401)

    def test_a_role_that_has_not_the_right(self):
        role = {"name": "web-team", "rules": [{"allow": ["read", "logs", "submit", "exec"], "services": ["web-*"]}]}
        self.assertEqual(self.server().call("PUT", "/v1/roles/web-team", role).status, 200)
        reader, web = self.make_token("eye", "reader"), self.make_token("web", "web-team")
        for i in range(3):
            wait_for(lambda: self.ask(i, "GET", "/v1/services", token=web).status == 200, 10, "the new role")
            for method, path, body in (("POST", "/v1/jobs", job("x", exec_service("x", 0))), ("GET", "/v1/tokens", None),
                                       ("POST", f"/v1/nodes/{self.nodes['n1']}/drain", {}), ("GET", "/v1/secrets/key/value", None),
                                       ("GET", f"/v1/allocs/{self.victim['id']}/exec?command=[]", None), ("GET", "/v1/snapshot", None)):
                self.denied("eye has not the right", i, method, path, body, token=reader)
            for method, path, body in (("POST", "/v1/jobs", job("x", exec_service("x", 0))), ("GET", "/v1/services/victim", None),
                                       ("GET", f"/v1/allocs/{self.victim['id']}/logs", None), ("DELETE", "/v1/jobs/victim", None)):
                self.denied("web has not the right", i, method, path, body, token=web)

    def test_a_token_in_an_address_is_of_no_use_and_in_no_file(self):
        token = self.make_token("careless", "admin")
        role = {"name": "some", "rules": [{"allow": ["read"], "services": ["web-*"]}]}
        self.assertEqual(self.server().call("PUT", "/v1/roles/some", role).status, 200)
        some = self.make_token("some", "some")
        for i in range(3):
            self.denied("say who you are", i, "GET", f"/v1/jobs?token={token}", status=401)
            self.denied("say who you are", i, "DELETE", f"/v1/jobs/victim?access_token={token}", status=401)
            wait_for(lambda: self.ask(i, "GET", "/v1/services", token=some).status == 200, 10, "the new role")
            self.denied("path=/v1/services/victim .*some has not the right", i, "GET", "/v1/services/victim?wait=7s&index=1", token=some)
            self.assertEqual(self.ask(i, "GET", f"/v1/nothing?token={token}").status, 404)
        with self.refused("mentat_agent_denied_total", "path=/v1/allocs "):
            cert = self.authority.issue("agent-n7", "DNS:n7.agent.mentat")
            answer = call(self.agents[0].port, "GET", f"/v1/allocs?token={token}", timeout=10, tls=self.nameless(*cert))
            self.assertEqual(answer.status, 403)
        for p in [*self.cluster.servers, *self.agents]:
            self.assertEqual(holding(p.workdir.path, token.split(".")[1]), [])
        for s in self.cluster.servers:
            self.assertNotIn(self.auto.admin.split(".")[1], s.process.text())

    # --- at the handshake ---

    def doors(self):
        """Each port of a server or an agent, and what counts who is refused there."""
        for s in self.cluster.servers:
            yield s.port, "mentat_http_refused_connections_total"
            yield s.flags["raft_port"], "mentat_raft_refused_connections_total"
        for a in self.agents:
            yield a.port, "mentat_agent_refused_connections_total"

    def knock(self, port, context):
        """A client that is refused hears so when it wants an answer."""
        with self.assertRaises((OSError, http.client.HTTPException)):
            answer = call(port, "GET", "/v1/healthz", timeout=10, tls=context)
            raise AssertionError(answer)

    def test_older_tls_weak_suites_and_plain_text(self):
        old = self.nameless()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        weak = ["openssl", "s_client", "-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_8_SHA256", "-connect"]
        for port, metric in self.doors():
            with self.refused(metric, "unsupported protocol"):
                self.knock(port, old)
            with self.refused(metric, "no shared cipher"):
                done = subprocess.run([*weak, f"127.0.0.1:{port}"], input=b"", capture_output=True, timeout=20 * PATIENCE)
                self.assertNotEqual(done.returncode, 0)
            with self.refused(metric, "does not speak TLS"), contextlib.suppress(OSError, http.client.HTTPException):
                call(port, "GET", "/v1/healthz", timeout=10)

    def test_certificates_that_are_not_good(self):
        expired = self.authority.issue("expired", "DNS:1.server.mentat", days=-1)
        foreign = self.stranger.issue("foreign", "DNS:1.server.mentat")
        agent = self.authority.issue("agent-n8", "DNS:n8.agent.mentat")
        for port, metric in self.doors():
            with self.refused(metric, "certificate has expired"):
                self.knock(port, self.nameless(*expired))
            with self.refused(metric, "unable to get local issuer"):
                self.knock(port, self.nameless(*foreign))
            if "raft" in metric:
                with self.refused(metric, "not a server's"):
                    self.knock(port, self.nameless(*agent))
            if "http" not in metric:
                with self.refused(metric, "has no certificate"):
                    self.knock(port, self.nameless())

    # --- an agent that was taken over ---

    def test_an_agent_speaks_for_its_own_node_alone(self):
        n1, n2, alloc = self.nodes["n1"], self.nodes["n2"], self.victim["id"]
        cert = (self.identity(self.agents[1]),)
        request = self.certificate_request()
        report = {"id": alloc, "seq": 99, "state": "failed", "reason": "by another", "time": "2026-01-01T00:00:00Z"}
        for i in range(3):
            for method, path, body in (("GET", f"/v1/agent/allocs?node={n1}", None), ("GET", f"/v1/agent/network?node={n1}", None),
                                       ("GET", f"/v1/agent/secrets?node={n1}&alloc={alloc}", None),
                                       ("POST", "/v1/agent/heartbeat", {"node_id": n1}),
                                       ("POST", "/v1/agent/report", {"node_id": n1, "allocs": [report]}),
                                       ("POST", "/v1/agent/register", {"node": {"id": n1, "name": "n2"}}),
                                       ("POST", "/v1/agent/register", {"node": {"id": "ffff", "name": "n1"}})):
                self.denied("n2 may not speak for", i, method, path, body, cert=cert)
            self.denied("is no ingress node", i, "GET", f"/v1/agent/ingress?node={n2}", cert=cert)
            self.denied("has no allocation", i, "GET", f"/v1/agent/secrets?node={n2}&alloc={alloc}", cert=cert)
            for method, path, body in (("GET", "/v1/jobs", None), ("POST", "/v1/jobs", job("x", exec_service("x", 0))),
                                       ("GET", f"/v1/allocs/{alloc}/logs", None), ("GET", "/v1/secrets/key/value", None),
                                       ("GET", f"/v1/allocs/{alloc}/exec?command=[]", None), ("GET", "/v1/snapshot", None),
                                       ("PUT", "/v1/cluster/keys", {"keys": "0" * 64})):
                self.denied("n2 has not the right", i, method, path, body, cert=cert)
            for role, name in (("agent", "n1"), ("server", "1")):
                self.denied(f"{role} {name} gets a certificate by its present one", i, "POST", "/v1/certificates",
                            {"request": request, "role": role, "name": name}, cert=cert)
        with self.refused("mentat_agent_denied_total", "its certificate is not a server's"):
            answer = call(self.agents[0].port, "GET", f"/v1/allocs/{alloc}/logs", timeout=10, tls=self.nameless(*cert))
            self.assertEqual(answer.status, 403)
        # What only ingress nodes get is not had by asking for it.
        facts = self.server().get(f"/v1/nodes/{n2}").json
        self.assertEqual(self.ask(0, "POST", "/v1/agent/register", {"node": {**facts, "ingress": True}}, cert=cert).status, 200)
        self.assertIn("mt node ingress n2", self.server().get(f"/v1/nodes/{n2}").json["ingress_problems"][0])
        for i in range(3):
            self.denied("is no ingress node", i, "GET", f"/v1/agent/ingress?node={n2}", cert=cert)
            self.denied("is no ingress node", i, "GET", f"/v1/agent/certificate?node={n2}&secret=key", cert=cert)
        self.assertEqual(self.ask(0, "POST", "/v1/agent/register", {"node": facts}, cert=cert).status, 200)
        now = next(a for a in self.server().items("/v1/allocs?service=victim") if a["id"] == alloc)
        self.assertEqual(now["state"], "running")
        # Its own agent gets what the others did not.
        own = self.ask(0, "GET", f"/v1/agent/secrets?node={n1}&alloc={alloc}", cert=(self.identity(self.agents[0]),))
        self.assertEqual([s["name"] for s in own.json["secrets"]], ["key"])

    # --- join tokens ---

    def certificate_request(self):
        key = self.authority.path("request.key")
        self.authority.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-subj",
                               "/CN=x", "-out", key + ".csr")
        return text_of(key + ".csr")

    def test_join_tokens_that_are_not_good(self):
        def fresh(*args):
            done = self.auto.mt(self.server(), *args, "-q")
            self.assertEqual(done.returncode, 0, done.stderr)
            return ".".join(done.stdout.split(".")[:2])
        request, used, short = self.certificate_request(), fresh("node", "token"), fresh("node", "token", "--ttl", "1s")
        made = time.time()
        servers = fresh("cluster", "token")

        def join(i, token, role="agent", name="n10"):
            return i, "POST", "/v1/certificates", {"request": request, "role": role, "name": name, "token": token}
        self.assertEqual(self.ask(*join(0, used, name="n9")).status, 200)
        wait_for(lambda: time.time() > made + 1, 10, "the end of a join token")
        for i in range(3):
            self.denied("n10: the join token was used already, by node n9", *join(i, used))
            self.denied("the join token has expired", *join(i, short))
            self.denied("does not know the join token", *join(i, used.split(".")[0] + "." + "f" * 32))
            self.denied("does not know the join token", *join(i, "0" * 12 + "." + "f" * 32))
            self.denied("the join token is for servers", *join(i, servers))
            self.denied("the join token is for agents", *join(i, used, role="server", name="77"))

    # --- a workload that was taken over ---

    def ports(self):
        return [s.port for s in self.cluster.servers] + [s.flags["raft_port"] for s in self.cluster.servers] + [a.port for a in self.agents]

    def spied(self, attack):
        """What a workload hears at all ports, each refusal counted where it was; attack() gives what it prints."""
        before = self.refusals()
        found = json.loads(re.search("found (.*)", attack())[1])
        self.assertEqual(found, [401] * 3 + ["closed"] * 6 + [401] * 3)
        expected = collections.Counter()
        for who in (s.flags["name"] for s in self.cluster.servers):
            for metric, times in (("mentat_http_denied_total", 2), ("mentat_raft_refused_connections_total", 1)):
                expected[who, metric] = expected[who, metric, "told"] = times
        for a in self.agents:
            metric = "mentat_agent_refused_connections_total"
            expected[a.flags["name"], metric] = expected[a.flags["name"], metric, "told"] = 1
        wait_for(lambda: self.refusals() - before == expected, 10, "each refusal told and counted")

    def secrets_of(self, alloc):
        return glob.glob(f"/run/mentat-secrets-*/{alloc['id']}") + glob.glob(f"/dev/shm/mentat-secrets-*/{alloc['id']}")

    def test_a_process_of_a_host(self):
        # What it finds as its user: keys, tokens and values in the directories of servers, agents and other tasks, and in
        # the memory and environment of their processes.
        everybody = [*self.cluster.servers, *self.agents]
        places = [p.workdir.path for p in everybody] + ["/run", "/dev/shm", "$MENTAT_SECRETS_DIR"]
        search = "grep -rlaE 'PRIVATE KE[Y]|[0-9a-f]{12}[.][0-9a-f]{32}|correct-horse' " + " ".join(places) + " 2>/dev/null; cat " + \
            " ".join(f"/proc/{p.process.pid}/{what}" for p in everybody for what in ("environ", "maps")) + " 2>/dev/null"
        spy = ["/usr/bin/python3", "-c", SPY, "127.0.0.1", json.dumps(self.ports())]
        script = f'{search}; echo searched; "$@" "$(cat $MENTAT_SECRETS_DIR/who.jwt)"; exec sleep 1000'
        config = {"command": ["/bin/sh"], "args": ["-c", script, "sh", *spy], "user": "daemon"}

        def attack():
            alloc = self.run_service("spy", "exec", config)
            self.addCleanup(lambda: self.server().call("DELETE", "/v1/jobs/spy?purge=true"))
            said = lambda: self.server().get(f"/v1/allocs/{alloc['id']}/logs").body.decode()  # noqa: E731
            text = wait_for(lambda: "found" in said() and said(), 30, "what it found")
            own = self.secrets_of(alloc)[0]
            searched = text.split("searched")[0].split()
            self.assertEqual(sorted(searched), [own + "/key"])           # its own secret, and nobody else's
            return text
        self.spied(attack)

    def test_a_container(self):
        alloc = self.run_service("box", "docker", {"image": "app:1", "command": ["/bin/sleep", "1000"]})
        self.addCleanup(lambda: self.server().call("DELETE", "/v1/jobs/box?purge=true"))
        container = self.engine.inspect(self.engine.containers(mentat_alloc=alloc["id"])[0]["Id"])
        inside = self.auto.mt(self.server(), "exec", "box/0", "--", "sh", "-c", "cd /run/secrets && ls && cat who.jwt")
        names, token = inside.stdout.split()[:-1], inside.stdout.split()[-1]
        self.assertEqual(names, ["key", "who.jwt"], inside.stderr)
        gateway = next(iter(container["NetworkSettings"]["Networks"].values()))["Gateway"]

        def attack():                        # from where it is on the network, by a program that its image lacks
            done = subprocess.run(["nsenter", f"--net=/proc/{container['State']['Pid']}/ns/net", sys.executable, "-c", SPY, gateway,
                                   json.dumps(self.ports()), token], capture_output=True, text=True, timeout=60 * PATIENCE)
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout
        self.spied(attack)

    # --- a stolen backup ---

    def test_a_snapshot_without_the_key(self):
        snapshot = self.server().get("/v1/snapshot")
        self.assertEqual(snapshot.status, 200)
        self.assertNotIn(KNOWN.encode(), snapshot.body)
        thief = Server()
        self.addCleanup(thief.workdir.remove)
        self.addCleanup(thief.start().kill)
        path = thief.workdir.join("stolen")
        with open(path, "wb") as f:
            f.write(snapshot.body)
        restored = thief.mt("snapshot", "restore", path, "--yes")
        self.assertEqual(restored.returncode, 0, restored.stderr)
        got = thief.mt("secret", "get", "key")
        self.assertNotEqual(got.returncode, 0)
        self.assertIn("has not the key", got.stderr)
        self.assertEqual(holding(thief.workdir.path, KNOWN, "PRIVATE KEY", self.auto.admin.split(".")[1]), [])


if __name__ == "__main__":
    enter_namespaces()
    unittest.main(verbosity=2)
