"""The measurements: each prints its figures as JSON lines, and leaves nothing behind, also when it is interrupted."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest

from lib import PATIENCE, program, wait_for

SMALL = [
    ("scheduler", ["--nodes", "50", "--allocs", "10"], ["first_placement_ms", "placements_per_second"]),
    ("submit", ["--count", "3"], ["submit_to_running_p50_ms", "submit_to_running_p99_ms", "request_to_running_p50_ms",
                                  "request_to_running_p99_ms"]),
    ("idle", ["--seconds", "1"], [f"{p}_idle_{what}" for p in ("server", "agent")
                                  for what in ("resident_mb", "private_mb", "wakeups_per_second")]),
    ("api", ["--allocs", "200", "--connections", "2", "--seconds", "1"],
     ["api_requests_per_second", "api_p50_ms", "api_p99_ms"]),
    ("api", ["--allocs", "100", "--connections", "2", "--seconds", "1", "--tls"],
     ["api_requests_per_second", "api_connections_per_second", "api_p50_ms", "api_p99_ms", "api_tls_ratio"]),
    ("agents", ["--count", "20", "--tls"],
     ["agents_register_ms", "agents_told_ms", "agents_told_after_leader_kill_ms", "agents_lost"]),
    ("commit", ["--servers", "3", "--inflight", "2", "--milliseconds", "50"],
     ["commits_per_second", "commit_p50_ms", "commit_p99_ms"]),
    ("state", ["--allocs", "200"],
     ["leader_state_resident_mb", "follower_state_resident_mb", "snapshot_mb", "snapshot_ms", "write_while_snapshots_p50_ms",
      "write_while_snapshots_worst_ms", "restart_ms", "restart_by_snapshot_ms", "elections_meanwhile"]),
]


def processes_below(directory):
    """The processes whose command line names a file of the directory."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if directory.encode() in f.read():
                    found.append(int(pid))
        except OSError:
            pass
    return found


class Bench(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="mentat-test-")
        self.addCleanup(self.dir.cleanup)

    def start(self, name, *args):
        where = [] if name == "scheduler" else ["--dir", self.dir.name]
        return subprocess.Popen([program("mentat-bench"), name, *args, *where], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def assert_nothing_left(self):
        self.assertEqual(os.listdir(self.dir.name), [])
        self.assertEqual(processes_below(self.dir.name), [])

    def test_each_prints_its_figures(self):
        for name, args, figures in SMALL:
            with self.subTest(name, args=args):
                child = self.start(name, *args)
                out, err = child.communicate(timeout=120 * PATIENCE)
                self.assertEqual(child.returncode, 0, err)
                lines = [json.loads(line) for line in out.splitlines()]
                self.assertEqual(sorted({line["name"] for line in lines}), sorted(figures))
                for line in lines:
                    self.assertGreaterEqual(line["value"], 0)
                    self.assertTrue(line["unit"])
                self.assert_nothing_left()

    def test_an_interrupted_one_leaves_nothing(self):
        child = self.start("submit", "--count", "10000")
        wait_for(lambda: any("sleep" in line for line in self.tasks()), 60, "a running task")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=120 * PATIENCE)
        self.assertEqual(child.returncode, 1)
        self.assertEqual(out, "")
        self.assertIn("interrupted", err)
        self.assert_nothing_left()
        self.assertEqual(self.tasks(), [])

    def tasks(self):
        """Command lines of the processes that work in the directory."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/cwd").startswith(self.dir.name):
                    with open(f"/proc/{pid}/cmdline") as f:
                        found.append(f.read())
            except OSError:
                pass
        return found

    def test_wrong_arguments_are_told(self):
        for args in (["submit", "--count", "0"], ["idle", "--seconds", "soon"], ["api", "more"], ["commit", "--servers", "2"],
                     ["ingress", "--seconds", "0"], ["none"], []):
            done = subprocess.run([program("mentat-bench"), *args], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stdout), (2, ""), args)
            self.assertIn("usage: mentat-bench", done.stderr)

    def test_a_directory_that_is_not_there_is_told(self):
        done = subprocess.run([program("mentat-bench"), "idle", "--dir", "/nowhere"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nowhere", done.stderr)


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
