#!/usr/bin/env python3
"""A thousand tasks on one agent, by the real mt: all run, each shim is small, and nothing is left once they are stopped.
Times are printed, not judged."""
import json
import os
import re
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import Agent, EventStream, Server, Workdir, resident_kb, sanitized, wait_for  # noqa: E402

COUNT = 1000
SHIM_KB, AGENT_KB = 400, 20 * 1024
FILE = f"""
name: sleepers
driver: exec
count: {COUNT}
config: {{command: /bin/sleep, args: ["100000"]}}
resources: {{cpus: 0.001, memory_mb: 8}}
deploy: {{health_timeout_secs: 600}}
"""


def figure(name, value, unit):
    print(json.dumps({"name": name, "value": value, "unit": unit, "tasks": COUNT}), flush=True)


def private_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(kb) for kb in re.findall(r"^Private_\w+:\s+(\d+) kB", f.read(), re.M))


def command_line(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as f:
        return f.read().split(b"\0")


class Many(unittest.TestCase):
    def setUp(self):
        self.workdir = Workdir()
        self.server = Server().start()
        self.addCleanup(lambda: self.assertEqual(self.server.stop(), 0))
        self.agent = Agent(self.server, "n1", cpus=64, memory_mb=100000).start()
        self.addCleanup(lambda: self.assertEqual(self.agent.end(), []))
        wait_for(lambda: self.server.items("/v1/nodes"), 20, "the node")

    def running(self):
        return self.server.get("/v1/services/sleepers").json["status"]["running"]

    def run_mt(self, *args):
        """In the background; the result is awaited by what this returns."""
        done = []
        thread = threading.Thread(target=lambda: done.append(self.server.mt(*args, timeout=120)))
        thread.start()

        def result():
            thread.join()
            self.assertEqual(done[0].returncode, 0, done[0].stderr)
            return done[0]
        return result

    def test_a_thousand_tasks_run_and_leave_nothing(self):
        path = self.workdir.join("sleepers.yaml")
        with open(path, "w") as f:
            f.write(FILE)
        events = EventStream(self.server.port)
        self.addCleanup(events.close)
        begin = time.monotonic()
        result = self.run_mt("run", path)
        wait_for(lambda: len({e["data"]["alloc"] for e in events.find(kind="alloc", to="running")}) == COUNT, 120,
                 "all tasks running", every=0.02)
        figure("tasks_running", round(events.find(kind="alloc", to="running")[-1]["time"] - begin, 2), "s")
        result()
        self.assertEqual(self.running(), COUNT)
        self.check_memory()
        begin = time.monotonic()
        result = self.run_mt("stop", "sleepers", "--purge")
        wait_for(lambda: not self.agent.left_over(), 120, "nothing left on the node", every=0.1)
        figure("tasks_stopped", round(time.monotonic() - begin, 2), "s")
        result()
        self.assertEqual(self.server.items("/v1/allocs?limit=1000"), [])

    def check_memory(self):
        shims = [p for p in self.agent.processes() if command_line(p)[1] == b"shim"]
        self.assertEqual(len(shims), COUNT)
        sizes = sorted(private_kb(p) for p in shims)
        figure("shim_private_median", sizes[COUNT // 2], "kB")
        figure("shim_private_most", sizes[-1], "kB")
        figure("agent_resident", resident_kb(self.agent.process.pid), "kB")
        figure("agent_private", private_kb(self.agent.process.pid), "kB")
        figure("server_resident", resident_kb(self.server.process.pid), "kB")
        if not sanitized("mentat-agent"):
            self.assertLessEqual(sizes[-1], SHIM_KB)
            self.assertLess(resident_kb(self.agent.process.pid), AGENT_KB)


if __name__ == "__main__":
    unittest.main(verbosity=2)
