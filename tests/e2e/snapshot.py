#!/usr/bin/env python3
"""Backups of the control plane: saved, inspected, damaged, restored into a new cluster while tasks go on, by schedule."""
import glob
import json
import os
import shutil
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import PATIENCE, Agent, Server, Workdir, exec_service, job, program, wait_for  # noqa: E402


def mt(server, *args):
    env = {**os.environ, "MENTAT_ADDR": f"http://127.0.0.1:{server.port}"}
    return subprocess.run([program("mt"), *args], stdin=subprocess.DEVNULL, env=env, capture_output=True, text=True,
                          timeout=60 * PATIENCE)


class Files(unittest.TestCase):
    def setUp(self):
        self.work = Workdir()
        self.addCleanup(self.work.remove)
        self.server = Server(self.work).start()
        self.addCleanup(lambda: self.server.kill())
        self.file = self.work.join("state.snapshot")

    def submit(self, name, count=0):
        answer = self.server.post("/v1/jobs", job(name, exec_service(name, count)))
        self.assertEqual(answer.status, 200, answer)

    def jobs(self):
        return [j["name"] for j in self.server.items("/v1/jobs?limit=1000")]

    def save(self):
        done = mt(self.server, "snapshot", "save", self.file)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def restore(self, *more):
        return mt(self.server, "snapshot", "restore", self.file, *more)

    def test_a_state_of_many_pieces_comes_back(self):
        names = sorted(f"job-{i:04}" for i in range(400))
        for name in names:
            self.submit(name)
        self.assertIn("400 services", self.save())
        info = json.loads(mt(self.server, "snapshot", "inspect", self.file, "-o", "json").stdout)
        self.assertEqual((info["services"], info["server"]), (400, "s1"))
        self.assertGreater(info["state_bytes"], 2 * 96 * 1024)
        for name in names[::2]:
            self.server.call("DELETE", f"/v1/jobs/{name}?purge=true")
        self.submit("later")
        seen = self.server.get("/v1/jobs").index
        done = self.restore("--yes")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.jobs(), names)
        self.assertGreater(self.server.get("/v1/jobs").index, seen)
        self.server.kill()                   # the restored state is durable
        self.server.start()
        self.assertEqual(self.jobs(), names)

    def test_what_is_damaged_cut_or_no_snapshot_is_refused_and_changes_nothing(self):
        self.submit("mine")
        self.save()
        self.submit("later")
        with open(self.file, "rb") as f:
            whole = f.read()
        for bad in (whole[:-1], whole[:100], whole[:len(whole) // 2] + b"\0" + whole[len(whole) // 2 + 1:], b"", b"hello",
                    whole.replace(b"SNAPSHOT 1", b"SNAPSHOT 9")):
            with open(self.file, "wb") as f:
                f.write(bad)
            self.assertIn(mt(self.server, "snapshot", "inspect", self.file).returncode, (1, 2), bad[:20])
            self.assertIn(self.restore("--yes").returncode, (1, 2))
            answer = self.server.call("PUT", "/v1/snapshot", bad)
            self.assertGreaterEqual(answer.status, 400, bad[:20])
        self.assertEqual(self.jobs(), ["later", "mine"])

    def test_restore_asks_first(self):
        self.save()
        done = self.restore()
        self.assertEqual(done.returncode, 2)
        self.assertIn("--yes", done.stderr)

    def test_a_failed_save_leaves_the_older_file(self):
        self.save()
        with open(self.file, "rb") as f:
            before = f.read()
        self.server.kill()
        self.assertEqual(mt(self.server, "snapshot", "save", self.file).returncode, 3)
        with open(self.file, "rb") as f:
            self.assertEqual(f.read(), before)
        self.assertEqual(glob.glob(self.file + ".*"), [])


class Drill(unittest.TestCase):
    """The servers are lost with their disks; their state comes back from a snapshot, and tasks never knew."""

    def setUp(self):
        self.work = Workdir()
        self.addCleanup(self.work.remove)
        self.server = Server(self.work).start()
        self.addCleanup(lambda: self.server.kill())
        self.agent = Agent(self.server, "n1", "127.0.0.1").start()
        self.addCleanup(lambda: self.assertEqual(self.agent.end(), []))

    def running(self, service, count):
        def look():
            allocs = [a for a in self.server.items(f"/v1/allocs?service={service}") if a["state"] == "running"]
            return len(allocs) == count and allocs
        return wait_for(look, 20, f"{count} running of {service}")

    def pids(self):
        return {a["id"]: a["pid"] for a in self.agent.get("/v1/allocs").json if a.get("pid")}

    def test_into_a_new_cluster_while_tasks_go_on(self):
        file = self.work.join("state.snapshot")
        self.server.post("/v1/jobs", job("web", exec_service("web", 3)))
        kept = {a["id"] for a in self.running("web", 3)}
        self.assertEqual(mt(self.server, "snapshot", "save", file).returncode, 0)
        self.server.post("/v1/jobs", job("later", exec_service("later", 2)))
        later = {a["id"] for a in self.running("later", 2)}
        before = wait_for(lambda: len(self.pids()) == 5 and self.pids(), what="five tasks")

        self.server.kill()
        shutil.rmtree(self.server.flags["data_dir"])
        self.server.start()
        # The agent comes to the new, empty cluster, which does not know its tasks: it is refused, and they go on.
        wait_for(lambda: "runs 5 tasks of cluster" in self.agent.process.text(), 30, "the refusal")
        self.assertEqual(self.server.items("/v1/nodes"), [])
        self.assertEqual(self.pids(), before)

        done = mt(self.server, "snapshot", "restore", "--yes", file)
        self.assertEqual(done.returncode, 0, done.stderr)
        wait_for(lambda: set(self.pids()) == kept, 40, "the end of what the snapshot does not know")
        self.assertEqual(self.pids(), {a: before[a] for a in kept})
        self.assertEqual({a["id"] for a in self.running("web", 3)}, kept)
        self.assertFalse(later & kept)
        self.assertEqual(self.server.post("/v1/services/web/scale", {"count": 4}).status, 200)
        self.running("web", 4)
        self.assertEqual({a: p for a, p in self.pids().items() if a in kept}, {a: before[a] for a in kept})

    def test_a_lost_cluster_is_given_up_by_a_flag(self):
        self.server.post("/v1/jobs", job("web", exec_service("web", 1)))
        self.running("web", 1)
        self.server.kill()
        shutil.rmtree(self.server.flags["data_dir"])
        self.server.start()
        wait_for(lambda: "runs 1 tasks of cluster" in self.agent.process.text(), 30, "the refusal")
        self.agent.kill()
        self.agent.flags["new_cluster"] = "true"
        self.agent.start()
        wait_for(lambda: [n["state"] for n in self.server.items("/v1/nodes")] == ["ready"], 30, "the registration")
        wait_for(lambda: not self.agent.processes(), 30, "the end of the old cluster's task")


class Schedule(unittest.TestCase):
    def start(self, **flags):
        self.work = Workdir()
        self.addCleanup(self.work.remove)
        self.dir = self.work.join("kept")
        os.mkdir(self.dir)
        self.server = Server(self.work, backup_dir=self.dir, **flags)
        self.addCleanup(lambda: self.server.kill())

    def files(self):
        return sorted(os.listdir(self.dir))

    def test_files_are_written_kept_for_a_while_and_handed_on(self):
        self.start(backup_every="1s", backup_keep="1h")
        os.mkdir(self.work.join("copies"))
        self.server.flags["backup_command"] = f'cp "$MENTAT_SNAPSHOT" {self.work.join("copies")}/'
        old, other = "snapshot-20200101T000000Z-5.mentat", "notes.txt"
        for name in (old, other):
            with open(os.path.join(self.dir, name), "w") as f:
                f.write("x")
        self.server.start()
        wait_for(lambda: len([f for f in self.files() if f.startswith("snapshot-2") and f != old]) >= 3, 30, "three files")
        wait_for(lambda: old not in self.files(), what="the end of the old file")
        self.assertIn(other, self.files())
        wait_for(lambda: len(os.listdir(self.work.join("copies"))) >= 2, what="copies by the hook")
        listed = json.loads(mt(self.server, "snapshot", "list", "-o", "json").stdout)
        names = [s["name"] for s in listed]
        self.assertEqual(names, sorted(names, reverse=True))
        done = mt(self.server, "snapshot", "inspect", listed[0]["path"])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.server.metric("mentat_backup_failures_total"), 0)
        self.assertGreater(self.server.metric("mentat_backup_last_time_seconds"), time.time() - 60 * PATIENCE)

    def test_a_hook_that_fails_and_a_directory_that_cannot_be_written_are_told(self):
        self.start(backup_every="1s", backup_command="exit 3")
        self.server.start()
        wait_for(lambda: self.server.metric("mentat_backup_failures_total") >= 1, 20, "the failure")
        self.assertIn("ended with status 3", self.server.process.text())
        self.assertEqual(len(self.files()), 1)
        self.server.stop()
        self.server.flags["backup_dir"] = os.path.join(self.server.process.log_path, "below-a-file")
        self.server.start()
        wait_for(lambda: self.server.metric("mentat_backup_failures_total") >= 1, 20, "the failure")
        self.assertEqual(self.server.get("/v1/readyz").status, 200)


if __name__ == "__main__":
    unittest.main(verbosity=2)
