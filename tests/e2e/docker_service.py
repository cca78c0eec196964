#!/usr/bin/env python3
"""Containers by way of the real programs: mt, mentat-server, mentat-agent and a real Docker engine."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from deploys_lib import BLUE_GREEN, CANARY, ROLLING, IngressTest  # noqa: E402
from docker_lib import Engine, Registry, enter_namespaces, with_libraries  # noqa: E402
from ingress_lib import HAPROXY, fast_service  # noqa: E402
from lib import PATIENCE, Agent, Server, call, free_port, holding, program, text_of, wait_for  # noqa: E402

POLICY = "profiles: [{name: docker-legacy, services: ['*']}, {name: exec-internal, services: ['*']}]\n"


def setUpModule():
    global engine
    engine = Engine().start()
    engine.image("app:1", "USER 1000:1001", "ENV PATH=/bin", "ENV FROM=image", "WORKDIR /data")


def tearDownModule():
    engine.end()


class ServiceTest(unittest.TestCase):
    secure = False

    def setUp(self):
        self.server = Server(secure=self.secure).start()
        self.addCleanup(self.server.stop)
        self.agent = Agent(self.server, "n1", **{"docker.socket": engine.socket, "reserved_memory_mb": 0})
        self.agent.start()
        self.addCleanup(self.end_agent)
        wait_for(lambda: [d for d in self.server.items("/v1/nodes")[0]["drivers"] if d["name"] == "docker" and d["healthy"]],
                 30, "the docker driver's health")

    def end_agent(self):
        self.assertEqual(self.agent.end(), [])
        wait_for(lambda: not engine.containers(mentat_agent=self.agent.flags["data_dir"]), 20, "the end of its containers")

    def file(self, text, name="services.yaml"):
        path = self.server.workdir.join(name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def mt(self, *args, status=0, **more):
        done = self.server.mt(*args, **more)
        self.assertEqual(done.returncode, status, (args, done.stdout, done.stderr))
        return done

    def policy(self, text):
        self.mt("policy", "set", self.file(text, "policy.yaml"))

    def alloc(self, service):
        found = [a for a in self.server.items(f"/v1/allocs?service={service}") if a["state"] in ("running", "healthy", "unhealthy")]
        self.assertEqual(len(found), 1, found)
        return found[0]

    def run_container(self, name, command, host=None, **config):
        engine.ok("POST", f"/containers/create?name={name}", {"Image": "app:1", "Cmd": command, "HostConfig": host or {}, **config})
        engine.ok("POST", f"/containers/{name}/start")
        self.addCleanup(lambda: engine.call("DELETE", f"/containers/{name}?force=1&v=1"))
        return engine.inspect(name)


WEB = """
name: web
driver: docker
count: COUNT
config:
  image: app:1
  command: [/bin/sh, "-c", "echo up $MENTAT_REPLICA; echo peers ${peers.http} >&2; echo $MENTAT_REPLICA > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"]
resources: {cpus: 0.05, memory_mb: 32, pids: 40}
ports: [{name: http, port: 8080}]
health: {type: http, port: http, path: /index.html, interval: 200ms}
kill: {timeout: 0s}
spread: node
"""


# What a replica writes down stays in its volume.
TEAM_WEB = """
job: shop
services:
  - name: web
    driver: docker
    config: {image: "app:1", command: [/bin/sh, "-c", "echo $MENTAT_NAMESPACE >> /store/index.html; exec httpd -f -p 8080 -h /store"]}
    resources: {cpus: 0.05, memory_mb: 32, pids: 40}
    ports: [{name: http, port: 8080}]
    volumes: [{source: STORE, target: /store}]
    health: {type: http, port: http, path: /index.html, interval: 200ms}
    kill: {timeout: 0s}
"""


class Life(ServiceTest):
    def run_web(self, count):
        self.mt("run", self.file(WEB.replace("COUNT", str(count))))
        return self.replicas("web")

    def replicas(self, service):
        """By number, as they are when all are healthy."""
        found = [a for a in self.server.items(f"/v1/allocs?service={service}") if a["desired"] == "run" and a["state"] == "healthy"]
        return {a["replica"]: a for a in found}

    def test_a_service_from_its_file_to_its_end(self):
        first = self.run_web(1)[0]
        port = first["ports"][0]["host"]
        self.assertEqual(call(port, "GET", "/index.html").body, b"0\n")
        self.assertIn("up 0", self.mt("logs", "web").stdout)
        done = self.mt("exec", first["id"], "--", "sh", "-c", "cat; id -u; echo no >&2; exit 3", stdin="hello\n", status=3)
        self.assertEqual((done.stdout, done.stderr), ("hello\n1000\n", "no\n"))
        self.mt("scale", "web", "2")
        two = wait_for(lambda: len(self.replicas("web")) == 2 and self.replicas("web"), 30, "the second replica")
        self.assertEqual(two[0]["id"], first["id"])
        before = engine.containers(mentat_alloc=first["id"])[0]["Id"]
        self.mt("restart", "web")
        after = engine.containers(mentat_alloc=first["id"])[0]["Id"]
        self.assertNotEqual(before, after)
        wait_for(lambda: self.mt("logs", first["id"]).stdout.count("up 0") == 2, what="what both containers wrote")
        self.mt("stop", "web")
        wait_for(lambda: not engine.containers(mentat_service="web"), 20, "the end of its containers")
        self.assertIn("up 0", self.mt("logs", first["id"]).stdout)

    def test_two_namespaces_have_a_service_of_one_name_side_by_side(self):
        teams, web = ("team-a", "team-b"), {}
        stores = {team: os.path.join(self.agent.flags["volume_root"], f"{team}.web") for team in teams}
        files = {team: self.file(TEAM_WEB.replace("STORE", stores[team]), f"{team}.yaml") for team in teams}
        for team in teams:
            self.mt("namespace", "put", team)
            self.mt("run", files[team], "-N", team)
            web[team] = self.server.items(f"/v1/allocs?service=web&namespace={team}")[0]
        ports = {team: a["ports"][0]["host"] for team, a in web.items()}
        self.assertEqual(len(set(ports.values())), 2)
        for team in teams:
            self.assertEqual(call(ports[team], "GET", "/index.html").body.decode(), f"{team}\n")
            # By its name each reaches its own, and has its own data.
            for name in ("web", "0.web"):
                said = self.mt("exec", web[team]["id"], "--", "wget", "-q", "-O", "-", f"http://{name}:8080/index.html")
                self.assertEqual(said.stdout, f"{team}\n")
            self.assertEqual(text_of(os.path.join(stores[team], "0", "index.html")), f"{team}\n")
        self.mt("stop", "web", "-N", "team-a")
        wait_for(lambda: not engine.containers(mentat_service="team-a.web"), 20, "the end of its containers")
        self.assertEqual(len(engine.containers(mentat_service="team-b.web")), 1)
        self.assertEqual(call(ports["team-b"], "GET", "/index.html").body.decode(), "team-b\n")
        # What comes again finds what it left.
        self.mt("run", files["team-a"], "-N", "team-a")
        again = next(a for a in self.server.items("/v1/allocs?service=web&namespace=team-a") if a["state"] == "healthy")
        self.assertEqual(call(again["ports"][0]["host"], "GET", "/index.html").body.decode(), "team-a\n" * 2)
        self.assertEqual([a["restarts"] for a in self.server.items("/v1/allocs?service=web&namespace=team-b")], [0])
        for team in teams:
            self.mt("stop", "web", "-N", team)

    def test_secrets_as_files_and_variables_and_the_login_of_a_registry(self):
        registry = Registry(password="a robot's known password")
        self.addCleanup(registry.end)
        image = registry.push(engine, "app:1", "private:1")
        engine.call("DELETE", f"/images/{image}")
        for name, value in ("key", "a-known-file"), ("word", "a-known-word"), ("login", f"robot:{registry.password}"):
            self.mt("secret", "put", name, stdin=value)
        self.mt("run", self.file(f"""
name: keeper
driver: docker
config:
  image: {image}
  registry_auth: login
  command: [/bin/sh, "-c", "stat -c '%a %u %s' /run/secrets/key.txt; echo $WORD | wc -c; trap 'echo told; wc -c /run/secrets/key.txt' HUP; while :; do sleep 0.1; done"]
resources: {{cpus: 0.05, memory_mb: 32, pids: 40}}
kill: {{timeout: 0s}}
secrets: [{{name: key, file: key.txt, on_change: signal}}, {{name: word, env: WORD}}]
"""))
        logs = lambda text: wait_for(lambda: text in self.mt("logs", "keeper").stdout, 20, f"the word {text!r}")  # noqa: E731
        logs("400 1000 12\n13\n")
        alloc = self.alloc("keeper")
        mounts = engine.inspect(engine.containers(mentat_alloc=alloc["id"])[0]["Id"])["Mounts"]
        self.assertEqual([(m["Destination"], m["RW"]) for m in mounts], [("/run/secrets", False)])
        self.mt("secret", "put", "key", stdin="another-value")
        logs("told\n13 /run/secrets/key.txt")
        self.assertEqual(self.alloc("keeper")["restarts"], 0)
        # The engine keeps variables in its own files (docs/secrets.md); Mentat keeps nothing.
        for where in (self.server.workdir.path, self.agent.workdir.path):
            self.assertEqual(holding(where, "a-known-file", "a-known-word", "another-value", registry.password), [])
        self.mt("stop", "keeper")
        wait_for(lambda: not os.path.exists(mounts[0]["Source"]), 20, "the end of its files")
        engine.call("DELETE", f"/images/{image}")

    def test_a_terminal_that_resizes(self):
        first = self.run_web(1)[0]
        main, end = pty.openpty()
        self.addCleanup(os.close, main)
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 91, 0, 0))
        child = subprocess.Popen([program("mt"), "exec", first["id"], "--", "sh", "-c",
                                  "until [ \"$(stty size 2>&1)\" = '30 91' ]; do sleep 0.05; done; stty size; "
                                  "until [ \"$(stty size)\" = '40 101' ]; do sleep 0.05; done; stty size; read x; echo got $x; exit 6"],
                                 stdin=end, stdout=end, stderr=end, start_new_session=True,
                                 env={**os.environ, "MENTAT_ADDR": f"http://127.0.0.1:{self.server.port}"})
        self.addCleanup(child.kill)
        os.close(end)
        seen = b""
        def until(text):
            nonlocal seen
            while text not in seen:
                ready, _, _ = select.select([main], [], [], 20 * PATIENCE)
                self.assertTrue(ready, seen)
                seen += os.read(main, 4096)
        until(b"30 91")
        fcntl.ioctl(main, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 101, 0, 0))
        child.send_signal(signal.SIGWINCH)       # a terminal that is not its controlling one sends none
        until(b"40 101")
        os.write(main, b"word\n")
        until(b"got word")
        self.assertEqual(child.wait(20 * PATIENCE), 6)

    def test_replicas_on_two_nodes_reach_each_other_by_published_ports(self):
        for address in ("10.99.0.1", "10.99.0.2"):
            subprocess.run(["ip", "address", "add", address + "/32", "dev", "lo"], check=True)
            self.addCleanup(subprocess.run, ["ip", "address", "del", address + "/32", "dev", "lo"], check=True)
        for name, address in (("a", "10.99.0.1"), ("b", "10.99.0.2")):
            agent = Agent(self.server, name, ip=address, advertise="127.0.0.1", **{"docker.socket": engine.socket, "reserved_memory_mb": 0}).start()
            self.addCleanup(lambda agent=agent: self.assertEqual(agent.end(), []))
        wait_for(lambda: len([n for n in self.server.items("/v1/nodes") for d in n["drivers"]
                              if n["name"] in "ab" and d["name"] == "docker" and d["healthy"]]) == 2, 30, "two more nodes")
        self.mt("node", "disable", "n1")
        # One after the other: two agents that share an engine, as no two hosts do, could make the job's network twice.
        self.run_web(1)
        self.mt("scale", "web", "2")
        self.mt("restart", "web")        # what runs is not told of newcomers
        two = wait_for(lambda: len(self.replicas("web")) == 2 and self.replicas("web"), 30, "both replicas")
        self.assertEqual({a["node_name"] for a in two.values()}, {"a", "b"})
        addresses = [f"{two[k]['ip']}:{two[k]['ports'][0]['host']}" for k in (0, 1)]
        for k in (0, 1):
            wait_for(lambda: self.mt("logs", two[k]["id"], "--stderr").stderr.splitlines()[-1] == f"peers {','.join(addresses)}",
                     what="the addresses of both in the log")
            for other, address in enumerate(addresses):
                self.assertEqual(self.mt("exec", two[k]["id"], "--", "wget", "-q", "-O", "-", f"http://{address}/index.html").stdout,
                                 f"{other}\n")
        self.mt("stop", "web")


class Deploys(IngressTest):
    """Each strategy, of containers: no request is lost. (More of it, with tasks of the exec driver: ingress.py.)"""
    nodes = 1

    def setUp(self):
        engine.image("web:1", "USER 1000:1001", "ENV PATH=/bin", extra=with_libraries(HAPROXY))
        self.agent_flags = {"docker.socket": engine.socket, "reserved_memory_mb": 0}
        super().setUp()

    @staticmethod
    def container(name, **more):
        service = fast_service(name, bind=":8080", directory="/tmp", **more)
        service.update(driver="docker", ports=[{"name": "http", "port": 8080}])
        service["config"]["image"] = "web:1"
        return service

    def test_each_strategy(self):
        self.first(make=self.container)
        for strategy in (ROLLING, BLUE_GREEN, CANARY):
            self.deploy(strategy, make=self.container)
        self.assertEqual(self.lost(), [])


class Adopt(ServiceTest):
    secure = True

    def setUp(self):
        super().setUp()
        self.policy(POLICY)

    def web(self, port):
        data = os.path.join(self.agent.flags["volume_root"], "shop-web", "0")
        os.makedirs(data, exist_ok=True)
        os.chmod(data, 0o777)
        return self.run_container(
            "shop_web", ["/bin/sh", "-c", "echo before; echo hi > /data/index.html; trap 'echo bye; exit 5' USR1; "
                         "httpd -p 8080 -h /data; while true; do sleep 0.05; done"],
            Env=["A=${B} $C", "QUOTED=a \"b\" 'c'"], ExposedPorts={"8080/tcp": {}}, StopSignal="SIGUSR1", StopTimeout=20,
            Labels={"team": "shop"}, Healthcheck={"Test": ["CMD-SHELL", "test -e ${PWD}/index.html"], "Interval": 10**9, "Retries": 2},
            host={"PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}, "CapDrop": ["MKNOD"],
                  "RestartPolicy": {"Name": "always"}, "Memory": 48 << 20, "NanoCpus": 1500000000, "PidsLimit": 77,
                  "Binds": [data + ":/data"], "Ulimits": [{"Name": "nofile", "Soft": 500, "Hard": 600}]})

    def test_a_container_becomes_a_service_without_a_restart(self):
        port = free_port()
        before = self.web(port)
        dry = self.mt("adopt", "shop_web", "--dry-run")
        self.assertEqual(self.server.items("/v1/services"), [])
        done = self.mt("adopt", "shop_web")
        self.assertEqual(done.stdout, dry.stdout)
        self.assertIn("the engine's own restart policy (always) is switched off", done.stderr)
        self.assertIn("later versions do not have its 1 label", done.stderr)
        after = engine.inspect("shop_web")
        self.assertEqual((after["Id"], after["State"]["Pid"], after["State"]["StartedAt"]),
                         (before["Id"], before["State"]["Pid"], before["State"]["StartedAt"]))
        self.assertEqual(after["HostConfig"]["RestartPolicy"]["Name"], "no")
        # The file says the same as what runs.
        path = self.file(done.stdout)
        self.mt("validate", path)
        plan = self.mt("plan", path).stdout
        self.assertIn("shop-web: keep", plan)
        self.assertRegex(plan, r"shop-web/0 +keep .* nothing changes for it")
        for line in ("memory_mb: 48", "pids: 77", "cpu_max: 1.5", f"host: {port}", "nofile: \"500:600\"", "signal: SIGUSR1",
                     "profile: docker-legacy", "- attribute: node.name"):
            self.assertIn(line, done.stdout)
        # It is a service like others: health, command, logs, statistics, another agent.
        wait_for(lambda: self.alloc("shop-web")["state"] == "healthy", 30, "its health")
        alloc = self.alloc("shop-web")
        self.assertEqual(self.mt("exec", alloc["id"], "--", "sh", "-c", "echo $A $FROM").stdout, "${B} $C image\n")
        self.assertEqual(call(port, "GET", "/index.html").body, b"hi\n")
        self.agent.kill()
        self.agent.start()
        self.agent.wait_api()
        wait_for(lambda: [a for a in self.agent.get("/v1/allocs").json if a["phase"] == "up"], 30, "its adoption")
        self.assertEqual(engine.inspect("shop_web")["State"]["Pid"], before["State"]["Pid"])
        # Its end is that of its kill settings; what follows is made by Mentat.
        self.mt("restart", "shop-web")
        self.assertEqual(self.alloc("shop-web")["id"], alloc["id"])
        self.assertEqual(engine.call("GET", f"/containers/{before['Id']}/json").status, 404)
        second, = engine.containers(mentat_alloc=alloc["id"])
        made = engine.inspect(second["Id"])
        self.assertEqual((made["Config"]["Cmd"], made["HostConfig"]["Memory"], made["HostConfig"]["PidsLimit"]),
                         (before["Config"]["Cmd"], 48 << 20, 77))
        self.assertEqual({e for e in before["Config"]["Env"]} - {e for e in made["Config"]["Env"]}, set())
        wait_for(lambda: call(port, "GET", "/index.html").body == b"hi\n", what="the answer of the new container")
        self.assertEqual(self.mt("logs", "shop-web", "--tail", "2").stdout.split()[-2:], ["bye", "before"])
        self.mt("stop", "shop-web", "--purge")

    def test_the_engine_may_restart_and_the_agent_may_be_killed_in_between(self):
        self.run_container("plain", ["/bin/sh", "-c", "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.02; done"],
                           host={"RestartPolicy": {"Name": "unless-stopped"}})
        self.mt("adopt", "plain", "--name", "renamed")
        for _ in range(3):
            self.agent.kill()
            engine.kill()
            engine.start()
            self.agent.start()
        wait_for(lambda: [a for a in self.agent.get("/v1/allocs").json if a["phase"] == "up"], 30, "its adoption")
        seen = int(re.findall(r"line (\d+)", self.mt("logs", "renamed").stdout)[-1])
        def lines():
            return [int(n) for n in re.findall(r"line (\d+)", self.mt("logs", "renamed").stdout)]
        wait_for(lambda: lines()[-1] > seen, 20, "new lines")
        numbers = lines()
        self.assertEqual(numbers, sorted(set(numbers)))
        # Removed by hand, it is replaced.
        engine.ok("DELETE", "/containers/plain?force=1")
        alloc = wait_for(lambda: engine.containers(mentat_service="renamed"), 30, "its replacement")
        self.assertEqual(len(alloc), 1)
        self.mt("stop", "renamed", "--purge")

    def test_what_cannot_be_a_service_is_refused_and_not_touched(self):
        def refused(name, text, *args, host=None, **config):
            before = self.run_container(name, ["sleep", "1000"], host, **config)
            done = self.mt("adopt", name, *args, status=4)
            self.assertIn(text, done.stderr)
            self.assertEqual(done.stdout, "")
            after = engine.inspect(name)
            self.assertEqual(after["State"]["StartedAt"], before["State"]["StartedAt"])
            self.assertEqual(after["HostConfig"]["RestartPolicy"], before["HostConfig"]["RestartPolicy"])
        refused("privileged", "it is privileged, which no security profile allows", host={"Privileged": True})
        refused("hostnet", "uses the host's network", host={"NetworkMode": "host"})
        refused("hostpid", "sees the host's processes", host={"PidMode": "host"})
        refused("socket", "docker.sock", host={"Binds": [engine.socket + ":/var/run/docker.sock"]})
        refused("etc", "/etc of the host", host={"Binds": ["/etc:/host-etc:ro"]})
        refused("device", "devices of the host", host={"Devices": [
            {"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}]})
        refused("unfiltered", "seccomp=unconfined", host={"SecurityOpt": ["seccomp=unconfined"]})
        refused("caps", "capabilities.NET_ADMIN goes beyond profile docker-legacy", host={"CapAdd": ["NET_ADMIN"]})
        self.policy("profiles: [{name: docker-legacy, services: [nobody]}]")
        refused("policy", "docker-legacy", host={})
        self.policy(POLICY)
        engine.ok("POST", "/containers/create?name=created", {"Image": "app:1", "Cmd": ["sleep", "1"]})
        self.addCleanup(lambda: engine.ok("DELETE", "/containers/created"))
        self.assertIn("does not run (created)", self.mt("adopt", "created", status=4).stderr)
        self.assertIn("no node that answers has a container nobody", self.mt("adopt", "nobody", status=1).stderr)
        self.assertIn("neither the name nor the id", self.mt("adopt", "--node", "n1", "b@d", status=2).stderr)
        self.assertEqual(self.server.items("/v1/services"), [])

    def test_data_that_would_be_lost_needs_a_word(self):
        self.run_container("db", ["sleep", "1000"], host={"Binds": ["dbdata:/data"]})
        self.addCleanup(lambda: engine.ok("DELETE", "/volumes/dbdata?force=1"))
        done = self.mt("adopt", "db", status=1)
        self.assertIn("what is in /data, which is in the engine's volume dbdata", done.stderr)
        self.mt("adopt", "db", "--leave-volumes")
        self.mt("stop", "db", "--purge")
        wait_for(lambda: engine.call("GET", "/containers/db/json").status == 404, what="its removal")
        self.assertEqual(engine.call("GET", "/volumes/dbdata").status, 200)

    def test_an_agents_own_word_counts(self):
        self.run_container("mine", ["sleep", "1000"])
        self.agent.process.stop()
        self.agent.start(**{"security.profiles": "docker-hardened"})
        self.agent.wait_api()
        done = wait_for(lambda: (d := self.server.mt("adopt", "mine")).returncode == 4 and d, 30, "the agent's refusal")
        self.assertIn("docker-legacy", done.stderr)


class Policy(unittest.TestCase):
    """Who may use which profile, from the first moment of a cluster on; no agent is needed."""

    def setUp(self):
        self.server = Server(new_cluster_policy="restricted").start()
        self.addCleanup(self.server.stop)

    def mt(self, *args, status=0, stdin=""):
        done = self.server.mt(*args, stdin=stdin)
        self.assertEqual(done.returncode, status, (args, done.stdout, done.stderr))
        return done

    def run_job(self, text, status=0):
        return self.mt("run", "--detach", "-", stdin=text, status=status).stderr

    def test_a_new_cluster_names_who_may_do_more(self):
        wait_for(lambda: re.findall("name: (.*)", self.mt("policy", "get").stdout) == ["docker-legacy", "exec-internal"],
                 what="the policy of a new cluster")
        docker = "name: app\ndriver: docker\nconfig: {image: 'app:1'}\n"
        process = "name: tool\ndriver: exec\nconfig: {command: /bin/sleep, args: ['1']}\n"
        self.run_job(docker)
        legacy = docker.replace("app", "old", 1) + "security: {profile: docker-legacy}\n"
        self.assertIn("does not let it use profile docker-legacy; what would: profiles: [{name: docker-legacy, services: [old]}]",
                      self.run_job(legacy, 4))
        self.assertIn("profile exec-internal", self.run_job(process, 4))
        many = docker.replace("app", "many", 1) + "resources: {pids: 600}\nsecurity: {tmpfs_mb: 100}\n"
        self.assertIn("tmpfs_mb goes beyond profile docker-hardened", self.run_job(many, 4))
        self.mt("policy", "set", "-", stdin="""
profiles: [{name: docker-legacy, services: [old]}, {name: exec-internal, services: ["to*"]}]
exceptions: [{services: [many], allow: ["pids:600", "tmpfs_mb:100"]}]""")
        for text in (legacy, process, many):
            self.run_job(text)
        self.assertIn('what would allow it: exceptions: [{services: [many], allow: ["pids:601"]}]',
                      self.run_job(many.replace("600", "601"), 4))
        self.assertIn("is not a privilege", self.mt("policy", "set", "-", stdin="exceptions: [{services: [a], allow: ['pids:x']}]",
                                                    status=2).stderr)
        # What was set stays, whoever leads.
        before = self.mt("policy", "get").stdout
        self.server.kill()
        self.server.start()
        self.assertEqual(self.mt("policy", "get").stdout, before)


COMPOSE = """
x-env: &env {LOG: info}
services:
  web:
    image: app:${TAG:-1}
    command: sh -c "echo $$FROM $$LOG $${HI} > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"
    environment: {<<: *env, HI: "${GREETING?}", EMPTY: "${NOTHING:-}"}
    env_file: app.env
    ports: ["127.0.0.1:PORT:8080"]
    healthcheck: {test: "test -s /tmp/index.html && [ $${HI} = hi ]", interval: 1s, timeout: 1s}
    mem_limit: 48m
    pids_limit: 50
    stop_grace_period: 0s
    privileged: true
    lables: [x]
  idle:
    image: app:1
    profiles: [extra]
"""


class Import(ServiceTest):
    def test_a_compose_file_runs(self):
        self.policy(POLICY)
        port = free_port()
        compose = self.file(COMPOSE.replace("PORT", str(port)), "compose.yaml")
        self.file("# comment\nexport GREETING='hi'\n", ".env")
        self.file("LOG=lost\nFROM=file # not the image\n", "app.env")
        out = self.server.workdir.join("services.yaml")
        done = self.mt("import", compose, "--out", out, "--name", "shop")
        for line in (":9:13: services.web.ports: `127.0.0.1:", ":14:5: services.web.privileged: no security profile allows it",
                     ":15:5: services.web.lables: Mentat has nothing like it", ":16:3: services.idle: the service is started by"):
            self.assertIn(line, done.stderr)
        with open(out) as f:
            text = f.read()
        self.assertIn("#   15:5: services.web.lables: Mentat has nothing like it\n", text)
        self.mt("validate", out)
        self.mt("run", out)
        wait_for(lambda: self.alloc("web")["state"] == "healthy", 30, "its health")
        self.assertEqual(call(port, "GET", "/index.html").body, b"file info hi\n")
        self.mt("stop", "web")
        self.assertIn("idle", self.mt("import", compose, "--profile", "extra").stdout)

    def test_what_is_no_compose_file_is_told(self):
        def refused(text, *words):
            done = self.mt("import", self.file(text, "bad.yaml"), status=2)
            self.assertEqual(done.stdout, "")
            for word in words:
                self.assertIn(word, done.stderr)
        refused("a: b", "bad.yaml:1:1: no compose file")
        refused("services: {a: {image: *x}}", ":1:23: no anchor")
        refused("services: {a: 5}", "no service can be taken over")
        bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"a{k}: &a{k} [{','.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 9)) + "services: {x: {image: y}}\n"
        refused(bomb, "aliases stand for too much")


if __name__ == "__main__":
    enter_namespaces()
    unittest.main(verbosity=2)
