#!/usr/bin/env python3
"""The real mt on a real cluster, made by `mt dev`: run, look, logs, exec, change, and that nothing is left at the end."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import unittest
from unittest import mock
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import PATIENCE, Process, Workdir, parent_of, processes_in, program, sanitized, wait_for  # noqa: E402

WEB = """
job: shop
services:
  - name: web
    driver: exec
    count: 2
    config:
      command: %s
      args: ["-u", "-m", "http.server", "${port.http}", "--bind", "127.0.0.1"]
    ports: [{name: http, port: 8000}]
    health: {type: http, port: http, path: /, interval: 200ms}
    resources: {cpus: 0.05, memory_mb: 64}
  - name: talker
    driver: exec
    config: {command: /bin/sh, args: ["-c", "for i in 1 2 3; do echo line $i; done; echo trouble >&2; ${TAIL}"]}
    resources: {cpus: 0.05, memory_mb: 16}
  - name: once
    driver: exec
    mode: task
    config: {command: /bin/echo, args: ["done", "$MENTAT_SERVICE"]}
    resources: {cpus: 0.05, memory_mb: 16}
""" % sys.executable

BROKEN = """
name: broken
driver: exec
config: {command: /nonexistent/program}
restart: {attempts: 0, then: fail}
"""


class Dev:
    """A cluster by `mt dev`."""

    def __init__(self, *args):
        self.work = Workdir()
        self.process = Process("mt", ["dev", "--port", "0", *args], self.work.join("dev.log"))
        wait_for(lambda: "ready" in self.process.text() or not self.process.alive(), 60, "the cluster's readiness")
        assert self.process.alive(), self.process.text()
        self.address = re.search(r"http://[0-9.:,/htp]+[0-9]", self.process.text()).group(0)
        self.dir = re.search(r"files in (\S+)", self.process.text()).group(1)

    def mt(self, *args, stdin=""):
        env = {**os.environ, "MENTAT_ADDR": self.address}
        return subprocess.run([program("mt"), *args], input=stdin, env=env, capture_output=True, text=True,
                              timeout=60 * PATIENCE)

    def json(self, *args):
        return json.loads(self.mt(*args, "-o", "json").stdout)

    def file(self, name, text):
        path = self.work.join(name)
        with open(path, "w") as f:
            f.write(text)
        return path


def processes_of(dev, allocs):
    """The processes of the cluster: its programs by their parent, and each whose environment has one of the allocations."""
    marks = [f"MENTAT_ALLOC_ID={a}".encode() for a in allocs]
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as e:
                environment = e.read()
                if parent_of(pid) == dev.process.pid or any(m in environment for m in marks):
                    found.add(int(pid))
        except OSError:
            continue
    return found


def name_of(pid):
    with open(f"/proc/{pid}/comm") as f:
        return f.read().strip()


class MtTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dev = Dev()
        path = cls.dev.file("web.yaml", WEB)
        cls.first = cls.dev.mt("run", path, "--var", "TAIL=sleep 1000")
        cls.path = path

    @classmethod
    def tearDownClass(cls):
        status = cls.dev.process.stop(60)
        assert status == 0, (status, cls.dev.process.text()[-2000:])

    def test_run_follows_each_service_to_its_end(self):
        self.assertEqual(self.first.returncode, 0, self.first)
        for word in ("web: version 1: 2 of 2 healthy", "talker: version 1: 1 of 1", "once: complete"):
            self.assertIn(word, self.first.stdout)

    def test_what_runs_answers_where_the_list_says(self):
        allocs = [a for a in self.dev.json("allocs", "web") if a["desired"] == "run"]
        self.assertGreaterEqual(len(allocs), 2)
        for a in allocs:
            with urllib.request.urlopen(f"http://{a['ip']}:{a['ports'][0]['host']}/", timeout=10) as answer:
                self.assertEqual(answer.status, 200)

    def test_a_file_that_changes_nothing_changes_nothing(self):
        before = {a["id"] for a in self.dev.json("allocs")}
        plan = self.dev.json("plan", self.path, "--var", "TAIL=sleep 1000")
        self.assertEqual([s["action"] for s in plan["services"] if s["name"] == "talker"], ["keep"])
        done = self.dev.mt("run", self.path, "--var", "TAIL=sleep 1000")
        self.assertIn("talker: unchanged", done.stdout)
        self.assertTrue({a["id"] for a in self.dev.json("allocs", "talker")} <= before)

    def test_a_failed_deployment_is_exit_status_1_with_its_reason(self):
        done = self.dev.mt("run", self.dev.file("broken.yaml", BROKEN))
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("/nonexistent/program", done.stderr)
        self.assertEqual(self.dev.mt("stop", "--purge", "broken").returncode, 0)

    def test_a_bad_file_is_exit_status_2_with_its_place(self):
        path = self.dev.file("bad.yaml", "name: x\ndriver: exec\nconfig: {command: /bin/true}\ncuont: 3\n")
        done = self.dev.mt("run", path)
        self.assertEqual(done.returncode, 2)
        self.assertIn(f"{path}:4:1", done.stderr)
        self.assertIn("count", done.stderr)

    def test_what_is_wrong_is_told_with_its_exit_status(self):
        for status, part, args in [
                (1, "`mt services` lists them", ("versions", "nosuch")), (1, "`mt services` lists them", ("allocs", "nosuch")),
                (1, "`mt nodes` lists them", ("node", "drain", "nosuch")), (2, "the port must be", ("status", "--address", "a:b")),
                (2, "deployment", ("events", "--kind", "nosuch")), (2, "No such file", ("run", "/nosuch.yaml")),
                (3, "no server reached", ("status", "--address", "127.0.0.1:1,127.0.0.1:2"))]:
            done = self.dev.mt(*args)
            self.assertEqual((done.returncode, done.stdout), (status, ""), args)
            self.assertIn(part, done.stderr)
        self.assertEqual(self.dev.mt("nodes", "-q", "--address", f"127.0.0.1:1,{self.dev.address}").stdout, "dev\n")

    def test_a_file_that_is_there_is_not_written_over_by_an_import(self):
        compose = self.dev.file("compose.yaml", "services: {web: {image: 'nginx:1'}}\n")
        out = self.dev.file("mine.yaml", "mine\n")
        done = self.dev.mt("import", compose, "--out", out)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("--force", done.stderr)
        with open(out) as f:
            self.assertEqual(f.read(), "mine\n")
        self.assertEqual(self.dev.mt("import", compose, "--out", out, "--force").returncode, 0)
        self.assertEqual(self.dev.mt("validate", out).returncode, 0)

    def test_a_policy_names_a_profile_once(self):
        before = self.dev.mt("policy", "get").stdout
        done = self.dev.mt("policy", "set", self.dev.file("policy.yaml", """profiles:
  - {name: docker-legacy, services: [a]}
  - {name: docker-legacy, services: [b]}
"""))
        self.assertEqual(done.returncode, 2, done)
        self.assertIn("named twice", done.stderr)
        self.assertEqual(self.dev.mt("policy", "get").stdout, before)

    def test_json_is_there_for_what_only_acts(self):
        self.assertEqual(self.dev.json("node", "disable", "dev")["state"], "ineligible")
        self.assertEqual(self.dev.json("node", "enable", "dev")["state"], "ready")
        job = json.loads(self.dev.mt("validate", self.path, "--var", "TAIL=true", "-o", "json").stdout)
        self.assertEqual([s["name"] for s in job["services"]], ["web", "talker", "once"])

    def test_a_reader_that_leaves_is_no_error(self):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run([program("mt"), "schema"], stdout=write, stderr=subprocess.PIPE, timeout=60, text=True)
        os.close(write)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_logs_keep_the_streams_apart_and_take_a_tail(self):
        done = self.dev.mt("logs", "talker")
        self.assertEqual((done.stdout, done.stderr), ("line 1\nline 2\nline 3\n", "trouble\n"))
        self.assertEqual(self.dev.mt("logs", "talker/0", "--tail", "1", "--stdout").stdout, "line 3\n")
        self.assertEqual(self.dev.mt("logs", "once").stdout, "done $MENTAT_SERVICE\n")

    def test_exec_passes_input_output_and_exit_status(self):
        done = self.dev.mt("exec", "talker", "--", "/bin/sh", "-c", "cat; echo bad >&2; exit 5", stdin="hello\n")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (5, "hello\n", "bad\n"))
        self.assertEqual(self.dev.mt("exec", "talker", "--", "nonexistent-program").returncode, 127)

    def test_scale_restart_rollback_and_stop_end_when_it_is_so(self):
        service = self.dev.file("s.yaml", "name: s\ndriver: exec\ncount: 1\nresources: {cpus: 0.05, memory_mb: 16}\n"
                                          "config: {command: /bin/sleep, args: [\"1000\"]}\n")
        live = lambda: [a for a in self.dev.json("allocs", "s") if a["state"] == "running"]  # noqa: E731
        self.assertEqual(self.dev.mt("run", service).returncode, 0)
        self.assertEqual(self.dev.mt("scale", "s", "3").returncode, 0)
        self.assertEqual(len(live()), 3)
        started = {a["id"]: a["started_at"] for a in live()}
        self.assertEqual(self.dev.mt("restart", "s").returncode, 0)
        self.assertTrue(all(a["started_at"] != started.get(a["id"]) for a in live()))
        self.assertEqual(self.dev.mt("rollback", "s", "--to", "1").returncode, 0)
        self.assertEqual(self.dev.json("versions", "s")[-1]["why"], "rollback to 1")
        self.assertEqual(self.dev.mt("scale", "s", "0").returncode, 0)
        wait_for(lambda: not live(), what="the end of the last replica")
        self.assertEqual(self.dev.json("versions", "s")[-1]["spec"]["count"], 0)
        self.assertEqual(self.dev.mt("stop", "s", "--purge").returncode, 0)
        self.assertEqual(self.dev.mt("status", "s").returncode, 1)

    def test_all_services_of_a_job_are_stopped_by_its_name(self):
        one = "{driver: exec, resources: {cpus: 0.02, memory_mb: 16}, config: {command: /bin/sleep, args: ['1000']}, name: %s}"
        running = lambda service: [a for a in self.dev.json("allocs", service) if a["state"] == "running"]  # noqa: E731
        for job, services in (("duo", ("duo-a", "duo-b")), ("pair", ("pair", "other"))):
            text = f"job: {job}\nservices: [{', '.join(one % s for s in services)}]\n"
            self.assertEqual(self.dev.mt("run", self.dev.file("job.yaml", text)).returncode, 0)
        done = self.dev.mt("stop", "duo")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(running("duo-a") + running("duo-b"), [])
        # A name of both is not guessed.
        done = self.dev.mt("stop", "pair")
        self.assertEqual(done.returncode, 2)
        self.assertIn("pair is a service (of job pair) and a job (of services pair, other)", done.stderr)
        self.assertEqual((len(running("pair")), len(running("other"))), (1, 1))
        self.assertEqual(self.dev.mt("stop", "--service", "pair").returncode, 0)
        self.assertEqual((len(running("pair")), len(running("other"))), (0, 1))
        self.assertEqual(self.dev.mt("stop", "--job", "pair", "--purge").returncode, 0)
        self.assertEqual(self.dev.mt("status", "other").returncode, 1)
        for args, word in ((("--job", "nosuch"), "nosuch"), (("nosuch",), "nosuch"), (("--job", "--service", "pair"), "exclude")):
            done = self.dev.mt("stop", *args)
            self.assertIn(done.returncode, (1, 2))
            self.assertIn(word, done.stderr)
        self.dev.mt("stop", "--purge", "duo-a", "duo-b")

    def test_a_key_of_the_file_format_in_json_is_hinted_at(self):
        request = urllib.request.Request(self.dev.address + "/v1/jobs", b'{"job": "x", "services": []}', method="POST",
                                         headers={"Content-Type": "application/json"})
        with self.assertRaises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        self.assertIn("job: unknown key; did you mean `name`?", json.loads(refused.exception.read())["error"]["message"])
        refused.exception.close()

    def test_namespaces_by_flag_file_and_variable(self):
        dev = self.dev
        single = dev.file("one.yaml", "namespace: team-a\nname: web\ndriver: exec\ncount: 2\nconfig: {command: /bin/sleep, args: ['1000']}\n")
        refused = dev.mt("run", single, "--detach")
        self.assertEqual(refused.returncode, 2, refused.stderr)
        self.assertIn("mt namespace put team-a", refused.stderr)
        made = dev.mt("namespace", "put", "team-a", "--replicas", "4", "--memory-mb", "1GiB")
        self.assertEqual(made.returncode, 0, made.stderr)
        self.assertRegex(made.stdout, r"Replicas +0 of 4")
        self.assertEqual(dev.mt("run", single, "-N", "team-b").returncode, 2)
        self.assertIn("the file is for namespace team-a", dev.mt("plan", single, "-N", "team-b").stderr)
        ran = dev.mt("run", single)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(len(dev.json("allocs", "-N", "team-a")), 2)
        rows = dev.json("services", "-N", "*")
        self.assertEqual({r.get("namespace") for r in rows if r["name"] == "web"}, {None, "team-a"})
        self.assertIn("team-a.web", dev.mt("services", "-q", "-N", "*").stdout.split())
        self.assertIn("NAMESPACE", dev.mt("services", "-N", "*").stdout)
        self.assertNotIn("NAMESPACE", dev.mt("services").stdout)
        # By the variable, and with the namespace before the name.
        with mock.patch.dict(os.environ, MENTAT_NAMESPACE="team-a"):
            self.assertEqual(dev.json("status", "web")["status"]["namespace"], "team-a")
            self.assertEqual(dev.mt("scale", "web", "1").returncode, 0)
        self.assertEqual(dev.json("status", "team-a.web")["status"]["desired"], 1)
        over = dev.mt("scale", "web", "5", "-N", "team-a")
        self.assertEqual((over.returncode, "allows 4 replicas" in over.stderr), (4, True), over.stderr)
        self.assertIn("team-a", dev.mt("namespace", "list", "-q").stdout.split())
        kept = dev.mt("namespace", "delete", "team-a")
        self.assertEqual((kept.returncode, "has job web" in kept.stderr), (1, True), kept.stderr)
        self.assertEqual(dev.mt("stop", "web", "--purge", "-N", "team-a").returncode, 0)
        self.assertEqual(dev.mt("namespace", "delete", "team-a").returncode, 0)

    def test_status_explain_and_events_speak_of_the_same(self):
        alloc = self.dev.json("allocs", "talker")[0]["id"]
        self.assertEqual(self.dev.json("status", alloc[:8])["id"], alloc)
        self.assertIn(alloc, self.dev.mt("status", "talker").stdout)
        self.assertIn("fits", json.dumps(self.dev.json("explain", "talker")))
        self.assertIn(alloc, self.dev.mt("events", "talker").stdout)
        self.assertEqual(self.dev.mt("nodes", "-q").stdout, "dev\n")

    def test_events_are_followed_from_what_was_shown_on(self):
        self.assertIn("talker", self.dev.mt("events").stdout)      # there are some to go on from
        log = self.dev.work.join("events.log")
        with mock.patch.dict(os.environ, MENTAT_ADDR=self.dev.address):
            follower = Process("mt", ["events", "-f", "-o", "json"], log)
        wait_for(lambda: "talker" in follower.text() or not follower.alive(), 20, "what is kept")
        shown = follower.text()
        self.assertTrue(follower.alive(), shown)
        self.assertEqual(self.dev.mt("node", "disable", "dev").returncode, 0)
        self.assertEqual(self.dev.mt("node", "enable", "dev").returncode, 0)
        wait_for(lambda: follower.text().count("\n") > shown.count("\n") or not follower.alive(), 20, "a new event")
        self.assertTrue(follower.alive(), follower.text())
        follower.kill()
        ids = [(e["index"], e.get("seq", 0)) for e in map(json.loads, follower.text().splitlines())]
        self.assertEqual(ids, sorted(set(ids)), "in order, and nothing twice")


class DevTest(unittest.TestCase):
    def test_nothing_is_left_after_ctrl_c(self):
        dev = Dev()
        self.assertEqual(dev.mt("run", dev.file("web.yaml", WEB), "--var", "TAIL=sleep 1000").returncode, 0)
        tree = processes_of(dev, [a["id"] for a in dev.json("allocs")])
        self.assertGreaterEqual(len(tree), 5, "server, agent, two of web, talker")
        dev.process.child.send_signal(signal.SIGINT)
        self.assertEqual(dev.process.child.wait(60 * PATIENCE), 0)
        self.assertFalse(os.path.exists(dev.dir))
        wait_for(lambda: not [p for p in tree if os.path.exists(f"/proc/{p}")], 10, "the end of every process")

    def test_a_second_ctrl_c_kills_what_does_not_end(self):
        dev = Dev()
        path = dev.file("stubborn.yaml", "name: stubborn\ndriver: exec\nkill: {timeout: 10m}\nresources: {memory_mb: 16}\nconfig: "
                        "{command: /bin/sh, args: [-c, \"trap 'echo asked' TERM; echo up; while :; do sleep 0.1; done\"]}\n")
        self.assertEqual(dev.mt("run", path).returncode, 0)
        wait_for(lambda: dev.mt("logs", "stubborn").stdout == "up\n", 10, "the task's first word")
        tree = processes_of(dev, [a["id"] for a in dev.json("allocs")])
        log = os.path.join(dev.dir, "agent", "allocs", dev.json("allocs")[0]["id"], "logs", "stdout.0.log")
        dev.process.child.send_signal(signal.SIGINT)
        wait_for(lambda: os.path.getsize(log) == len("up\nasked\n"), 10, "the first signal's arrival at the task")
        dev.process.child.send_signal(signal.SIGINT)
        self.assertEqual(dev.process.child.wait(30 * PATIENCE), 0)
        self.assertIn("killing the tasks", dev.process.text())
        self.assertFalse(os.path.exists(dev.dir))
        wait_for(lambda: not [p for p in tree if os.path.exists(f"/proc/{p}")], 10, "the end of every process")

    def test_an_agent_that_is_killed_leaves_nothing(self):
        """Neither its tasks nor its proxy."""
        dev = Dev("--ingress")
        self.assertEqual(dev.mt("run", dev.file("web.yaml", WEB), "--var", "TAIL=sleep 1000").returncode, 0)
        proxy = {pid for pid in processes_in(dev.dir) if name_of(pid) == "haproxy"}
        self.assertTrue(proxy, "it is there when the cluster is ready")
        tree = processes_of(dev, [a["id"] for a in dev.json("allocs")])
        self.assertGreaterEqual(len(tree), 5, "server, agent, two of web, talker")
        agent = next(pid for pid in tree if name_of(pid) == "mentat-agent" and parent_of(pid) == dev.process.pid)
        os.kill(agent, signal.SIGKILL)
        self.assertEqual(dev.process.child.wait(60 * PATIENCE), 1)
        self.assertIn("mentat-agent was ended by signal 9", dev.process.text())
        self.assertFalse(os.path.exists(dev.dir))
        wait_for(lambda: not [p for p in tree | proxy if os.path.exists(f"/proc/{p}")], 10, "the end of every process")

    def test_three_servers_lose_one_and_leave_nothing(self):
        dev = Dev("--servers", "3")
        rows = dev.json("cluster", "status")
        self.assertEqual([r["server"]["membership"] for r in rows], ["voter"] * 3)
        leader = next(r["status"]["address"] for r in rows if r["status"]["role"] == "leader")
        self.assertEqual(dev.mt("run", dev.file("web.yaml", WEB), "--var", "TAIL=sleep 1000").returncode, 0)
        tree = processes_of(dev, [a["id"] for a in dev.json("allocs")])
        self.assertGreaterEqual(len(tree), 7, "three servers, agent, two of web, talker")

        def leads(pid):
            with open(f"/proc/{pid}/cmdline") as f:
                words = f.read().split("\0")
            if words[0] != "mentat-server":
                return False
            with open(words[2]) as f:
                return f"\nport: {leader.rsplit(':', 1)[1]}\n" in f.read()
        os.kill(next(filter(leads, tree)), signal.SIGKILL)
        wait_for(lambda: "the others go on" in dev.process.text(), 10, "a word on the loss")
        self.assertEqual(dev.mt("scale", "web", "3").returncode, 0)
        dev.process.child.send_signal(signal.SIGINT)
        self.assertEqual(dev.process.child.wait(60 * PATIENCE), 0)
        self.assertFalse(os.path.exists(dev.dir))
        wait_for(lambda: not [p for p in tree if os.path.exists(f"/proc/{p}")], 10, "the end of every process")
        done = subprocess.run([program("mt"), "dev", "--servers", "2"], capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 2)
        self.assertIn("1, 3 or 5", done.stderr)

    @unittest.skipIf(sanitized("mt"), "a sanitizer's programs need libraries")
    def test_without_proc_it_says_so(self):
        root = Workdir()
        self.addCleanup(root.remove)
        os.mkdir(root.join("tmp"))
        for name in ("mt", "mentat-server", "mentat-agent"):
            shutil.copy(program(name), root.join(name))
        done = subprocess.run(["chroot", root.path, "/mt", "dev", "--port", "0"], capture_output=True, text=True, timeout=30,
                              env={**os.environ, "TMPDIR": "/tmp"})
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("mount -t proc proc /proc", done.stderr)
        self.assertEqual(os.listdir(root.join("tmp")), [])

    def test_a_taken_port_is_told(self):
        dev = Dev()
        port = dev.address.rsplit(":", 1)[1]
        done = subprocess.run([program("mt"), "dev", "--port", port], capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"port {port} is taken", done.stderr)
        self.assertEqual(dev.process.stop(60), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
