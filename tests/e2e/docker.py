#!/usr/bin/env python3
"""Containers under the real mentat-agent and a real Docker engine: their whole life, and what outlives what."""
import json
import os
import re
import socket
import struct
import sys
import threading
import time
import unittest
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from agent import AgentTest  # noqa: E402
from docker_lib import Engine, Registry, enter_namespaces  # noqa: E402
from lib import PATIENCE, call, wait_for  # noqa: E402

COUNTER = "i=0; while true; do i=$((i+1)); echo line $i; [ $((i % 10)) = 0 ] && echo err $i >&2; sleep 0.01; done"


def engine_process_listens(pid):
    """Whether something in the container listens at port 80."""
    with open(f"/proc/{pid}/net/tcp6") as f:
        return any(line.split()[1].endswith(":0050") and line.split()[3] == "0A" for line in f.readlines()[1:])


def setUpModule():
    global engine
    engine = Engine().start()
    engine.image("app:1", "CMD [\"/bin/sh\", \"-c\", \"echo from the image\"]", "USER 1000:1001", "ENV PATH=/bin")
    engine.image("rootly:1", "ENV PATH=/bin")
    engine.image("named:1", "USER app", "ENV PATH=/bin")
    engine.image("zero:1", "USER zero", "ENV PATH=/bin")


def tearDownModule():
    engine.end()


class DockerTest(AgentTest):
    """Each test has an agent of its own; all share the engine."""

    def start(self, **more):
        self.agent = self.node.start(**more).process

    def setUp(self):
        self.flags = {"docker.socket": engine.socket, "reserved_memory_mb": 0}
        self.addCleanup(lambda: self.assertEqual(self.remains(), []))       # after the agent's own end
        super().setUp()
        self.healthy()

    def healthy(self):
        def seen():
            info = {d["name"]: d for d in self.server.registrations[-1]["drivers"]}
            return info["docker"]["healthy"]
        wait_for(seen, 30, "the docker driver's health")

    def remains(self):
        return self.mine() + [n["Name"] for n in engine.ok("GET", "/networks").json if n["Name"].startswith("mentat-job-")]

    def mine(self):
        return engine.containers(mentat_agent=self.data)

    def docker(self, name, *command, image="app:1", args=None, **spec):
        config = {"image": image, "pull": "never"}
        if command:
            config["command"] = list(command)
        if args:
            config["args"] = args
        config.update(spec.pop("config", {}))
        self.server.services[name] = {"service": name, "job": name, "version": 1, "spec": {
            "name": name, "driver": "docker", "config": config, "resources": {"cpus": 0.01, "memory_mb": 32}, **spec}}

    def sh(self, name, script, **spec):
        self.docker(name, "/bin/sh", "-c", script, **spec)

    def run_to_end(self, name, timeout=30):
        alloc, = self.server.want(name)
        wait_for(lambda: self.server.states([alloc])[0] in ("complete", "failed"), timeout, f"the end of {name}")
        return alloc, self.server.reports[alloc]

    def task(self, script, **spec):
        name = f"t{len(self.server.services)}"
        self.sh(name, script, mode="task", restart={"attempts": 0}, **spec)
        return self.run_to_end(name)

    def up(self, name, count=1):
        allocs = self.server.want(name, count)
        self.server.wait_states(allocs, "running", 30)
        return allocs

    def container(self, alloc):
        found = engine.containers(mentat_alloc=alloc)
        self.assertEqual(len(found), 1, found)
        return engine.inspect(found[0]["Id"])

    def stop_all(self, allocs):
        self.server.change(allocs, desired="stop", desired_reason="test")
        self.server.wait_states(allocs, "complete", 30)

    def exec(self, alloc, command, stdin=b"", tty=None, resize=None):
        """Returns (stdout, stderr, exit code)."""
        query = {"command": json.dumps(command)}
        if tty:
            query.update(tty="true", rows=tty[0], cols=tty[1])
        out = {1: b"", 2: b""}
        with socket.create_connection(("127.0.0.1", self.port)) as s:
            s.settimeout(20 * PATIENCE)
            s.sendall(f"GET /v1/allocs/{alloc}/exec?{urllib.parse.urlencode(query)} HTTP/1.1\r\nHost: localhost\r\n"
                      "Connection: Upgrade\r\nUpgrade: mentat-exec\r\n\r\n".encode())
            f = s.makefile("rb")
            self.assertIn(b" 101 ", f.readline())
            while f.readline() != b"\r\n":
                pass
            if tty:
                s.sendall(struct.pack(">BI", 0, len(stdin)) + stdin)
            else:
                threading.Thread(target=lambda: s.sendall(
                    b"".join(struct.pack(">BI", 0, len(stdin[i:i + 60000])) + stdin[i:i + 60000]
                             for i in range(0, len(stdin), 60000)) + struct.pack(">BI", 5, 0)), daemon=True).start()
            while True:
                channel, length = struct.unpack(">BI", f.read(5))
                payload = f.read(length)
                if channel == 4:
                    return out[1], out[2], struct.unpack(">i", payload)[0]
                out[channel] += payload
                if resize and resize[0] in out[1]:
                    s.sendall(struct.pack(">BIHH", 3, 4, *resize[1]))
                    resize = None


class Life(DockerTest):
    def test_the_image_says_what_runs_and_the_service_changes_it(self):
        self.docker("plain", mode="task")
        alloc, report = self.run_to_end("plain")
        self.assertEqual((report["state"], report["exit_code"]), ("complete", 0), report)
        self.assertEqual(self.log_of(alloc), "from the image\n")
        self.docker("changed", mode="task", args=["-c", "echo $A $B $MENTAT_SERVICE $MENTAT_REPLICA; pwd; id -u; id -g; echo oops >&2"],
                    config={"entrypoint": ["/bin/sh"], "env": {"A": "a b"}, "user": "4000:5000", "workdir": "/data"},
                    env={"A": "x", "B": "two"})
        alloc, report = self.run_to_end("changed")
        self.assertEqual(self.log_of(alloc), "a b two changed 0\n/data\n4000\n5000\n")
        self.assertEqual(self.log_of(alloc, "stderr"), "oops\n")

    def test_how_it_ended_is_told(self):
        _, report = self.task("exit 7")
        self.assertEqual((report["exited"], report["exit_code"], report["state"]), (True, 7, "failed"), report)
        self.sh("shot", "exec sleep 1000", restart={"attempts": 0, "then": "fail"})
        alloc, = self.up("shot")
        engine.ok("POST", f"/containers/mentat-{alloc}/kill")
        self.server.wait_states([alloc], "failed")
        report = self.server.reports[alloc]
        self.assertEqual((report["exit_signal"], report["exit_code"]), (9, 137), report)
        _, report = self.task("x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo ${#x}")
        self.assertTrue(report.get("oom"), report)
        self.assertIn("out of memory", report["reason"])
        self.docker("none", "/no/such/program", mode="task", restart={"attempts": 0})
        _, report = self.run_to_end("none")
        self.assertEqual(report["state"], "failed")
        self.assertIn("/no/such/program", report["reason"])
        self.docker("absent", image="no/such:image", mode="task", restart={"attempts": 0})
        _, report = self.run_to_end("absent")
        self.assertIn("there is no image no/such:image on this node", report["reason"])

    def test_stop_signal_and_timeout(self):
        self.sh("polite", "trap 'echo bye; exit 3' USR1; echo up; while true; do sleep 0.05; done",
                kill={"signal": "SIGUSR1", "timeout": "30s"})
        polite, = self.up("polite")
        wait_for(lambda: self.log_of(polite) == "up\n", what="its first line")
        self.stop_all([polite])
        self.assertEqual(self.log_of(polite), "up\nbye\n")
        self.assertEqual(self.server.reports[polite]["exit_code"], 3)
        self.sh("deaf", "trap '' TERM; echo up; while true; do sleep 0.05; done", kill={"timeout": "300ms"})
        deaf, = self.up("deaf")
        wait_for(lambda: self.log_of(deaf) == "up\n", what="its first line")
        began = time.monotonic()
        self.stop_all([deaf])
        self.assertGreaterEqual(time.monotonic() - began, 0.3)
        self.assertEqual(self.server.reports[deaf]["exit_signal"], 9)
        wait_for(lambda: not self.mine(), what="the containers' removal")

    def test_ports_health_limits_volumes_and_stats(self):
        self.sh("web", "echo hello > /data/index.html; ulimit -n; exec httpd -f -p 8080 -h /data",
                ports=[{"name": "http", "port": 8080}], health={"type": "http", "port": "http", "path": "/index.html", "interval": "200ms"},
                resources={"cpus": 0.5, "cpu_max": 1.5, "memory_mb": 48, "pids": 33},
                config={"ulimits": {"nofile": "111:222"}, "volumes": [{"source": self.workdir.join("volumes", "web"), "target": "/data"}]})
        alloc, = self.server.want("web")
        self.server.change([alloc], ports=[{"name": "http", "port": 8080, "host": 23456}])
        self.server.wait_states([alloc], "healthy", 30)
        self.assertEqual(call(23456, "GET", "/index.html").body, b"hello\n")
        self.assertEqual(self.log_of(alloc), "111\n")
        host = self.container(alloc)["HostConfig"]
        self.assertEqual((host["NanoCpus"], host["Memory"], host["MemorySwap"], host["PidsLimit"], host["CpuShares"]),
                         (1500000000, 48 << 20, 48 << 20, 33, 512))
        stats = next(a for a in self.get("/v1/allocs").json if a["id"] == alloc)
        self.assertEqual(stats["stats"]["memory_limit_bytes"], 48 << 20, stats)
        self.assertGreater(stats["stats"]["memory_bytes"], 0)

    def test_health_by_a_command_in_the_container(self):
        self.sh("h", "sleep 1000", kill={"timeout": "0s"}, health={"type": "exec", "command": ["/bin/sh", "-c", "test -e /tmp/ok || { echo not yet; exit 1; }"],
                                           "interval": "100ms", "unhealthy": 1})
        alloc, = self.server.want("h")
        self.server.wait_states([alloc], "unhealthy", 30)
        self.assertIn("exit code 1: not yet", self.server.reports[alloc]["reason"])
        self.assertEqual(self.exec(alloc, ["touch", "/tmp/ok"])[2], 0)
        self.server.wait_states([alloc], "healthy", 30)

    def test_exec_with_pipes_and_with_a_terminal(self):
        self.sh("s", "sleep 1000", kill={"timeout": "0s"}, env={"V": "value"})
        alloc, = self.up("s")
        self.assertEqual(self.exec(alloc, ["sh", "-c", "echo $V; echo no >&2; exit 7"]), (b"value\n", b"no\n", 7))
        data = os.urandom(3 << 20)
        out, _, code = self.exec(alloc, ["cat"], data)
        self.assertEqual((out == data, code), (True, 0))
        self.assertNotEqual(self.exec(alloc, ["/no/such/program"])[2], 0)
        script = "stty size; echo ready; i=0; while [ \"$(stty size)\" != '50 90' ] && [ $i -lt 500 ]; do sleep 0.02; i=$((i+1)); done; stty size; exit 4"
        out, _, code = self.exec(alloc, ["sh", "-c", "sleep 0.3; " + script], tty=(33, 77), resize=(b"ready", (50, 90)))
        self.assertEqual((re.findall(rb"\d+ \d+", out), code), ([b"33 77", b"50 90"], 4), out)

    def test_a_command_ends_with_its_connection(self):
        self.sh("s", "sleep 1000", kill={"timeout": "0s"})
        alloc, = self.up("s")
        query = urllib.parse.urlencode({"command": json.dumps(["sh", "-c", "echo on; exec sleep 777"])})
        with socket.create_connection(("127.0.0.1", self.port)) as s:
            s.sendall(f"GET /v1/allocs/{alloc}/exec?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                      "Upgrade: mentat-exec\r\n\r\n".encode())
            s.settimeout(20 * PATIENCE)
            seen = b""
            while b"on\n" not in seen:
                seen += s.recv(1000)
        wait_for(lambda: b"sleep 777" not in self.exec(alloc, ["ps"])[0], what="the end of the command")

    def test_who_it_runs_as(self):
        self.docker("root", "id", image="rootly:1", mode="task", restart={"attempts": 0})
        _, report = self.run_to_end("root")
        self.assertIn("runs as root, which profile docker-hardened does not allow: set config.user", report["reason"])
        self.docker("zero", "id", image="zero:1", mode="task", restart={"attempts": 0})
        _, report = self.run_to_end("zero")
        self.assertIn("runs as root", report["reason"])
        self.docker("named", "id", image="named:1", mode="task", config={
            "volumes": [{"source": self.workdir.join("volumes", "named"), "target": "/data"}]})
        alloc, report = self.run_to_end("named")
        self.assertEqual(self.log_of(alloc), "uid=1000(app) gid=1001(app) groups=1001(app)\n", report)
        self.docker("missing", "id", image="rootly:1", config={"user": "nobody-there"}, mode="task", restart={"attempts": 0})
        _, report = self.run_to_end("missing")
        self.assertEqual(report["state"], "failed")
        self.docker("legacy", "id", image="rootly:1", mode="task", security={"profile": "docker-legacy"})
        alloc, _ = self.run_to_end("legacy")
        self.assertTrue(self.log_of(alloc).startswith("uid=0(root)"))

    def test_jobs_have_networks_of_their_own(self):
        web = "echo hi > /tmp/index.html; httpd -f -p 80 -h /tmp"
        self.sh("a", web, kill={"timeout": "0s"}, config={"user": "1000"}, security={"profile": "docker-legacy"})
        self.sh("b", web, kill={"timeout": "0s"}, security={"profile": "docker-legacy"})
        a, = self.up("a")
        b, = self.up("b")
        address = {x: next(iter(self.container(x)["NetworkSettings"]["Networks"].values()))["IPAddress"] for x in (a, b)}
        def fetch(address):
            return self.exec(a, ["sh", "-c", f"printf 'GET /index.html HTTP/1.0\r\n\r\n' | nc -w 2 {address} 80"])[0]
        wait_for(lambda: b"\r\nhi\n" in fetch("0.a"), what="an answer from its own job, by name")
        wait_for(lambda: engine_process_listens(self.container(b)["State"]["Pid"]), what="the other's server")
        self.assertIn("0.a", self.container(a)["NetworkSettings"]["Networks"]["mentat-job-a"]["Aliases"])
        self.assertEqual(fetch(address[b]), b"")
        self.stop_all([a, b])
        wait_for(lambda: not self.remains(), what="the removal of the networks")

    def test_strangers_are_left_alone_and_nobodys_containers_are_removed(self):
        engine.run("stranger", "app:1", ["sleep", "1000"])
        self.addCleanup(lambda: engine.ok("DELETE", "/containers/stranger?force=1"))
        self.sh("s", "sleep 1000", kill={"timeout": "0s"})
        alloc, = self.up("s")
        self.agent.kill()
        engine.ok("POST", "/containers/create?name=lost", {"Image": "app:1", "Labels": {
            "mentat.agent": self.data, "mentat.alloc": "ffffffffffff"}})
        self.start()
        wait_for(lambda: not engine.containers(mentat_alloc="ffffffffffff"), 30, "the removal of what nobody has")
        self.assertEqual(engine.inspect("stranger")["State"]["Status"], "running")
        self.assertEqual(self.container(alloc)["State"]["Status"], "running")


class Outliving(DockerTest):
    def whole(self, text, word):
        """Each line once and in order."""
        numbers = [int(n) for n in re.findall(rf"^{word} (\d+)$", text, re.M)]
        step = 10 if word == "err" else 1
        self.assertEqual(text, "".join(f"{word} {n}\n" for n in numbers))
        self.assertEqual(numbers, list(range(step, step * (len(numbers) + 1), step)))
        return len(numbers)

    def test_containers_outlive_agents_with_status_and_logs(self):
        self.sh("count", COUNTER, kill={"timeout": "0s"})
        self.sh("short", "echo begin; sleep 2; echo end; exit 5", mode="task", restart={"attempts": 0})
        counting, = self.up("count")
        pid = self.container(counting)["State"]["Pid"]
        for _ in range(12):
            time.sleep(0.2)              # the moment of the kill is the point
            self.agent.kill()
            self.start()
        self.healthy()
        short, = self.up("short")
        self.agent.kill()
        wait_for(lambda: self.container(short)["State"]["Status"] == "exited", what="the end of the short one")
        self.start()
        self.server.wait_states([short], "failed", 30)
        self.assertEqual(self.server.reports[short]["exit_code"], 5)
        self.assertEqual(self.log_of(short), "begin\nend\n")
        self.assertEqual(self.container(counting)["State"]["Pid"], pid)
        self.healthy()
        self.stop_all([counting])
        self.assertGreater(self.whole(self.log_of(counting), "line"), 100)
        self.assertGreater(self.whole(self.log_of(counting, "stderr"), "err"), 10)

    def test_containers_live_on_under_an_engine_that_restores_them(self):
        self.sh("count", COUNTER, kill={"timeout": "0s"})
        counting, = self.up("count")
        pid = self.container(counting)["State"]["Pid"]
        for end in (engine.kill, engine.stop, engine.kill):
            time.sleep(0.3)
            end()
            time.sleep(0.2)
            engine.start()
        self.healthy()
        self.assertEqual(self.container(counting)["State"]["Pid"], pid)
        self.stop_all([counting])
        self.assertGreater(self.whole(self.log_of(counting), "line"), 50)
        self.assertEqual(self.server.reports[counting]["state"], "complete")

    def test_a_stop_waits_for_the_engine(self):
        self.sh("s", "exec sleep 1000", kill={"timeout": "100ms"})
        alloc, = self.up("s")
        engine.kill()
        self.server.change([alloc], desired="stop", desired_reason="test")
        self.server.wait_states([alloc], "stopping")
        info = wait_for(lambda: next((d for d in self.server.registrations[-1]["drivers"] if d["name"] == "docker" and not d["healthy"]), None),
                        30, "the engine's absence to be told")
        self.assertIn(info["detail"], [f"no Docker engine answers at {engine.socket}: {why}" for why in ("connection refused", "no such file or directory")])
        self.sh("late", "exit 0", mode="task", restart={"attempts": 0})
        _, report = self.run_to_end("late")
        self.assertIn("no Docker engine answers", report["reason"])
        engine.start()
        self.server.wait_states([alloc], "complete", 30)
        wait_for(lambda: not self.mine(), what="the container's removal")

    def test_without_live_restore_the_ends_are_told(self):
        engine.stop()
        engine.live_restore = False
        engine.start()
        try:
            self.healthy()
            # Without a network: see Kills in docker_faults.py.
            self.sh("s", "echo up; exec sleep 1000", restart={"attempts": 50, "delay": "100ms"}, kill={"timeout": "100ms"},
                    config={"network": "none"})
            alloc, = self.up("s")
            first = self.container(alloc)["Id"]
            engine.stop()
            engine.start()
            wait_for(lambda: self.server.reports[alloc].get("restarts") and self.server.states([alloc]) == ["running"], 60, "the restart")
            self.assertNotEqual(self.container(alloc)["Id"], first)
            self.assertEqual(set(self.log_of(alloc).split()), {"up"})
            self.stop_all([alloc])
            wait_for(lambda: not self.remains(), 30, "the removal of container and network")
        finally:
            engine.stop()
            engine.live_restore = True
            engine.start()

    def test_a_container_that_is_removed_by_hand_is_told_and_replaced(self):
        self.sh("s", "exec sleep 1000", kill={"timeout": "0s"}, restart={"attempts": 5, "delay": "100ms"})
        alloc, = self.up("s")
        first = self.container(alloc)["Id"]
        engine.ok("DELETE", f"/containers/{first}?force=1")
        wait_for(lambda: self.server.reports[alloc].get("restarts") and self.server.states([alloc]) == ["running"], 30, "the restart")
        self.assertNotEqual(self.container(alloc)["Id"], first)

    def test_an_image_deleted_under_a_stopped_container(self):
        engine.image("gone:1", "USER 1000", "ENV PATH=/bin")
        self.docker("s", "sh", "-c", "echo up; exit 1", image="gone:1", restart={"attempts": 1, "delay": "2s", "then": "fail"})
        alloc, = self.server.want("s")
        wait_for(lambda: self.server.reports.get(alloc, {}).get("restarts"), 30, "the first end")
        wait_for(lambda: engine.call("DELETE", "/images/gone:1?force=1").status < 400, what="the image's removal")
        self.server.wait_states([alloc], "failed", 30)
        self.assertIn("there is no image gone:1", self.server.reports[alloc]["reason"])


class Images(DockerTest):
    def registry(self, **options):
        registry = Registry(**options)
        self.addCleanup(registry.end)
        return registry

    def restart_agent(self, **flags):
        self.agent.stop()
        self.start(**flags)
        self.healthy()

    def pulled(self, image, **config):
        self.docker(f"p{len(self.server.services)}", "/bin/echo", "pulled", image=image, mode="task", restart={"attempts": 0},
                    config={"pull": "missing", **config})
        return self.run_to_end(f"p{len(self.server.services) - 1}", 60)

    def forget(self, image):
        engine.call("DELETE", f"/images/{image}")

    def test_pull_by_tag_and_digest_as_the_policy_says(self):
        registry = self.registry()
        image = registry.push(engine, "app:1", "tools/app:2")
        alloc, report = self.pulled(image)
        self.assertEqual(report["state"], "complete", report)
        self.assertEqual(self.log_of(alloc), "pulled\n")
        digest = engine.ok("GET", f"/images/{image}/json").json["RepoDigests"][0]
        self.forget(image)
        _, report = self.pulled(digest)
        self.assertEqual(report["state"], "complete", report)
        # The tag comes to mean another image: `missing` keeps the old one, `always` takes the new.
        _, report = self.pulled(image)
        old = engine.ok("GET", f"/images/{image}/json").json["Id"]
        engine.image("newer:1", "USER 1000", "ENV PATH=/bin", "ENV NEW=1")
        engine.ok("POST", f"/images/{image}/tag?repo=keep&tag=old")
        registry.push(engine, "newer:1", "tools/app:2")
        engine.ok("POST", f"/images/keep:old/tag?repo={registry.name}/tools/app&tag=2")
        self.pulled(image)
        self.assertEqual(engine.ok("GET", f"/images/{image}/json").json["Id"], old)
        self.pulled(image, pull="always")
        self.assertNotEqual(engine.ok("GET", f"/images/{image}/json").json["Id"], old)
        for name in (image, digest, "keep:old"):
            self.forget(name)

    def test_what_cannot_be_pulled_is_told(self):
        registry = self.registry()
        _, report = self.pulled(f"{registry.name}/no/such:1")
        self.assertEqual(report["state"], "failed")
        self.assertIn(f"the image {registry.name}/no/such:1 cannot be pulled", report["reason"])
        _, report = self.pulled("127.0.0.1:1/nobody/there:1")
        self.assertIn("connection refused", report["reason"])
        _, report = self.pulled("b@d na:me")
        self.assertIn("is not the name of an image", report["reason"])

    def test_a_login_comes_from_the_credentials_file(self):
        registry = self.registry(password="secret of the robot")
        image = registry.push(engine, "app:1", "private:1")
        _, report = self.pulled(image)
        self.assertIn("the registry wants a login, see docker.auth_file in agent.yaml", report["reason"])
        self.restart_agent(**{"docker.auth_file": registry.auth_file()})
        _, report = self.pulled(image)
        self.assertEqual(report["state"], "complete", report)
        self.assertNotIn("secret of the robot", self.agent.text())
        self.forget(image)

    def test_only_what_was_pulled_is_cleared_away(self):
        registry = self.registry()
        theirs = registry.push(engine, "app:1", "theirs:1")
        engine.ok("POST", f"/images/app:1/tag?repo={registry.name}/theirs&tag=1")
        def tags():
            return {t for i in engine.ok("GET", "/images/json").json for t in i["RepoTags"] or []}
        before = tags()
        self.assertIn(theirs, before)
        self.restart_agent(**{"docker.image_gc_age": "1s"})
        # The id of a pulled image must be a new one: otherwise it was there before.
        engine.image("fresh:1", "USER 1000", "ENV PATH=/bin", "ENV FRESH=1")
        fresh = registry.push(engine, "fresh:1", "fresh:2")
        engine.ok("DELETE", "/images/fresh:1")
        self.sh("user", "exec sleep 1000", image=fresh, kill={"timeout": "0s"}, config={"pull": "missing"})
        user, = self.up("user")
        self.pulled(theirs)
        time.sleep(3)                    # longer than its age: a container uses it
        self.assertEqual(engine.call("GET", f"/images/{fresh}/json").status, 200)
        self.stop_all([user])
        wait_for(lambda: tags() == before, 30, "the removal of the unused image, and of nothing else")
        self.forget(theirs)


if __name__ == "__main__":
    enter_namespaces()
    unittest.main(verbosity=2)
