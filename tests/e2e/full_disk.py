#!/usr/bin/env python3
"""Full disks under a real server and under its agent: clear refusals, reads and tasks go on, and so does everything
else once there is room, by itself."""
import json
import os
import signal
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import PATIENCE, Agent, Server, SmallDisk, exec_service, job, wait_for  # noqa: E402

GRACE = 2


@unittest.skipUnless(os.geteuid() == 0, "mounting a small file system needs root")
class FullDisk(unittest.TestCase):
    def setUp(self):
        self.server_disk, self.agent_disk = SmallDisk(24), SmallDisk(4)
        self.addCleanup(self.server_disk.remove)
        self.addCleanup(self.agent_disk.remove)
        self.server = Server(secure=True, data_dir=self.server_disk.join("state"), segment_mb=1, reserve_mb=2, heartbeat="300ms",
                             node_grace=f"{GRACE}s").start()
        self.addCleanup(lambda: self.server.stop())
        self.agent = Agent(self.server, "n1", data_dir=self.agent_disk.join("agent")).start()
        self.addCleanup(lambda: self.assertEqual(self.agent.end(), []))
        wait_for(lambda: self.server.items("/v1/nodes"), 20, "the node")
        script = "echo up; while :; do sleep 0.1; done"
        web = exec_service("web", 2, config={"command": ["/bin/sh"], "args": ["-c", script]}, restart={"delay": "10ms"})
        self.assertEqual(self.server.post("/v1/jobs", job("web", web)).status, 200)
        self.wait_running(2)
        self.wait_said(2)
        self.pids = self.task_pids()

    def allocs(self):
        return [a for a in self.server.items("/v1/allocs?service=web") if a["desired"] == "run"]

    def wait_running(self, count):
        wait_for(lambda: len([a for a in self.allocs() if a["state"] == "running"]) == count, 30, f"{count} running")

    def said(self):
        return self.server.mt("logs", "web").stdout.count(" | up\n")

    def wait_said(self, count):
        """One that runs may still have its first word before it."""
        wait_for(lambda: self.said() == count, 20, f"the word of {count}")

    def task_pids(self):
        return {a["id"]: a["pid"] for a in self.agent.get("/v1/allocs").json if a["pid"]}

    def scale(self, count):
        return self.server.post("/v1/services/web/scale", {"count": count})

    def assert_reads(self, starts=2):
        for path in ("/v1/services/web", "/v1/allocs", "/v1/nodes", "/v1/jobs/web", "/v1/cluster", "/v1/explain/web"):
            self.assertEqual(self.server.get(path).status, 200, path)
        self.assertEqual(self.server.mt("status", "web").returncode, 0)
        self.assertEqual(self.said(), starts)

    def fill_the_servers_disk(self):
        self.server_disk.fill()
        return wait_for(lambda: (a := self.scale(2)).status == 507 and a, 20, "the refusal")

    def test_under_the_server(self):
        refused = self.fill_the_servers_disk()
        self.assertEqual(refused.error["code"], "no_space")
        for word in ("disk", self.server.flags["data_dir"]):
            self.assertIn(word, refused.error["message"])
        self.assert_reads()
        by_mt = self.server.mt("scale", "web", "3")
        self.assertEqual(by_mt.returncode, 1)
        self.assertIn("disk", by_mt.stderr)
        self.assertEqual(self.server.mt("stop", "web").returncode, 1)
        # Agents are listened to all the time, and look after their tasks alone.
        victim, pid = next(iter(self.pids.items()))
        os.kill(pid, signal.SIGKILL)
        restarted = wait_for(lambda: (p := self.task_pids()).get(victim, pid) != pid and p, 20, "the restart")
        end = time.monotonic() + 2 * GRACE * PATIENCE
        while time.monotonic() < end:
            self.assertEqual(self.server.get("/v1/nodes/n1").json["state"], "ready")
            self.assertEqual(self.scale(3).status, 507)
            time.sleep(0.05)
        # A server that starts on a full disk is no worse off.
        self.server.kill()
        self.server.start()
        self.assert_reads(starts=3)
        self.assertEqual(self.scale(3).status, 507)
        self.assertEqual(self.server.get("/v1/services/web").json["current"]["spec"]["count"], 2)
        self.server_disk.make_room()
        wait_for(lambda: self.scale(3).status == 200, 20, "the end of the refusals")
        self.wait_running(3)
        wait_for(lambda: self.server.get(f"/v1/allocs/{victim}").json["restarts"] == 1, 20, "the agent's report")
        self.assertEqual({i: p for i, p in self.task_pids().items() if i in restarted}, restarted)
        self.assertEqual(self.server.get(f"/v1/allocs/{victim}").json["exit_signal"], signal.SIGKILL)

    def test_what_was_acknowledged_before_it_was_full_is_kept(self):
        self.server_disk.fill()
        kept = 0
        for i in range(100000):
            answer = self.server.post("/v1/jobs", job(f"j{i}", exec_service(f"j{i}", 0, meta={"text": "x" * 1000})))
            if answer.status == 507:
                break
            self.assertEqual(answer.status, 200, answer)
            kept = i + 1
        print(json.dumps({"name": "writes_on_a_full_disk", "value": kept, "unit": "writes"}))
        self.server.kill()
        self.server.start()
        names = {j["name"] for j in self.server.items("/v1/jobs?limit=1000")}
        self.assertEqual(names, {"web"} | {f"j{i}" for i in range(kept)})
        self.server_disk.make_room()
        wait_for(lambda: self.scale(3).status == 200, 20, "the end of the refusals")
        self.wait_running(3)

    def test_under_the_agent(self):
        self.agent_disk.fill()
        self.assertEqual(self.scale(4).status, 200)
        # Whichever comes first: the agent refused to start them, or had the servers send it nothing more.
        said = "cannot write its state"
        wait_for(lambda: said in json.dumps(self.server.get("/v1/explain/web").json), 20, "the reason")
        wait_for(lambda: not self.server.get("/v1/nodes/n1").json["drivers"][0]["healthy"], 20, "the node's own report")
        self.assertIn(said, self.server.mt("nodes", "n1").stdout)
        self.assertIn(said, self.server.mt("explain", "web").stdout)
        self.assert_reads()
        self.assertEqual({i: p for i, p in self.task_pids().items() if i in self.pids}, self.pids)
        self.agent.kill()
        self.agent.start()
        self.agent.wait_api()
        wait_for(lambda: self.task_pids() == self.pids, 20, "the adopted tasks")
        self.agent_disk.make_room()
        self.wait_running(4)
        self.assertEqual({i: p for i, p in self.task_pids().items() if i in self.pids}, self.pids)

    def test_under_both(self):
        self.fill_the_servers_disk()
        self.agent_disk.fill()
        self.server.kill()
        self.agent.kill()
        self.server.start()
        self.agent.start()
        self.agent.wait_api()
        self.assert_reads()
        self.assertEqual(self.task_pids(), self.pids)
        self.server_disk.make_room()
        wait_for(lambda: self.scale(3).status == 200, 20, "the end of the refusals")
        self.agent_disk.make_room()
        self.wait_running(3)
        self.assertEqual({i: p for i, p in self.task_pids().items() if i in self.pids}, self.pids)


if __name__ == "__main__":
    unittest.main(verbosity=2)
