"""The three programs need nothing but a kernel: they are static, and run in a root directory that is empty otherwise."""
import os
import shutil
import signal
import subprocess
import sys
import unittest

from lib import PATIENCE, Workdir, call, free_port, program, sanitized, wait_for

PROGRAMS = ("mt", "mentat-server", "mentat-agent")


class Alone(unittest.TestCase):
    def setUp(self):
        if any(sanitized(p) for p in PROGRAMS):
            self.skipTest("a sanitizer's programs need its libraries")
        self.work = Workdir()
        self.addCleanup(self.work.remove)
        self.root = self.work.join("root")
        for name in ("state", "agent"):
            os.makedirs(os.path.join(self.root, name))
        for name in PROGRAMS:
            shutil.copy(program(name), self.root)

    def inside(self, *args):
        """The command line of a program in the root."""
        return ["chroot", self.root, *map(str, args)]

    def start(self, *args):
        with open(self.work.join("log"), "ab") as log:
            child = subprocess.Popen(self.inside(*args), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        return child

    def log(self):
        with open(self.work.join("log")) as f:
            return f.read()

    def healthy(self, child, port):
        self.assertIsNone(child.poll(), self.log())
        return call(port, "GET", "/v1/healthz").status == 200

    def test_they_need_no_library(self):
        for name in PROGRAMS:
            done = subprocess.run(["ldd", program(name)], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
            self.assertRegex(done.stdout + done.stderr, "not a dynamic executable|statically linked", name)

    @unittest.skipIf(os.geteuid() != 0, "chroot needs root")
    def test_they_run_in_an_empty_root(self):
        for name in PROGRAMS:
            done = subprocess.run(self.inside(f"/{name}", "--version"), capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""), name)
            self.assertTrue(done.stdout.startswith(name + " "), done.stdout)
        port, agent_port = free_port(), free_port()
        server = self.start("/mentat-server", "--name=s1", "--data-dir=/state", f"--port={port}", "--reserve-mb=1", "--new-cluster-policy=open")
        wait_for(lambda: self.healthy(server, port), 20, "the server's health")
        wait_for(lambda: call(port, "GET", "/v1/readyz").status == 200, 20, "the server's readiness")
        agent = self.start("/mentat-agent", "--name=n1", "--data-dir=/agent", "--volume-root=/volumes",
                           f"--servers=127.0.0.1:{port}", f"--port={agent_port}", f"--cgroup-root=mentat-alone-{os.getpid()}")
        wait_for(lambda: self.healthy(agent, agent_port), 20, "the agent's health")
        nodes = wait_for(lambda: call(port, "GET", "/v1/nodes").json["items"], 20, "the node")
        self.assertEqual((nodes[0]["name"], nodes[0]["state"]), ("n1", "ready"))
        # Without /dev and /proc no task can run, and the node says so.
        driver = {d["name"]: d for d in nodes[0]["drivers"]}["exec"]
        self.assertEqual((driver["healthy"], driver["detail"]), (False, "/dev/null cannot be opened"))
        done = subprocess.run(self.inside("/mt", "nodes", "--address", f"http://127.0.0.1:{port}"), capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("n1", done.stdout)
        for child in (agent, server):
            child.send_signal(signal.SIGTERM)
            self.assertEqual(child.wait(20 * PATIENCE), 0, self.log())


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
