#!/usr/bin/env python3
"""examples/oxidestore.yaml: a real S3-compatible store in a microVM, used by Debian's AWS CLI. What it has stored is there
after its machine is killed and after a new version of it. MENTAT_OBJECT_MB is the size of the object put in parts;
MENTAT_OXIDESTORE a directory in which the image is kept for the next run."""
import filecmp
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "vmm"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import PATIENCE, ROOT, Server, Workdir, holding, wait_for  # noqa: E402
from vmm_lib import VmAgent, Vmm, isolate, missing  # noqa: E402

OBJECT_MB = int(os.environ.get("MENTAT_OBJECT_MB", "20"))
AWS = "/usr/bin/aws"
KEY = "a-known-value-of-the-store"


class OxideStore(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.vmm = Vmm()
        cls.server = Server().start()
        cls.agent = VmAgent(cls.server, "n1", cls.vmm, **{"firecracker.image-roots": IMAGES}).start()
        cls.work = Workdir()
        with open(cls.work.join("config"), "w") as f:
            f.write("[default]\nregion = us-east-1\ns3 =\n  multipart_threshold = 8MB\n  multipart_chunksize = 8MB\n")
        wait_for(lambda: any(d["name"] == "firecracker" and d["healthy"] for n in cls.server.items("/v1/nodes")
                             for d in n["drivers"]), 30, "the driver")

    @classmethod
    def tearDownClass(cls):
        left = cls.agent.end() + cls.agent.left_on_host()
        cls.server.stop()
        assert not left, left

    def aws(self, *args):
        a = subprocess.run([AWS, "--endpoint-url", "http://127.0.0.1:8333", *args], capture_output=True, text=True,
                           timeout=300 * PATIENCE, cwd=self.work.path, env={
                               "PATH": "/usr/bin:/bin", "HOME": self.work.path, "AWS_CONFIG_FILE": self.work.join("config"),
                               "AWS_ACCESS_KEY_ID": "oxidestore:admin", "AWS_SECRET_ACCESS_KEY": KEY, "AWS_PAGER": ""})
        self.assertEqual(a.returncode, 0, a.stdout + a.stderr)
        return a.stdout

    def listed(self):
        return {line.split()[3]: int(line.split()[2]) for line in self.aws("s3", "ls", "s3://backups").splitlines()}

    def run_example(self, **replace):
        with open(os.path.join(ROOT, "examples", "oxidestore.yaml")) as f:
            text = f.read()
        for old, new in {"/srv/images": IMAGES, "/mnt/unikernel-volumes": self.agent.flags["volume_root"],
                         # In software emulation a start takes thirty times as long.
                         "grace: 1m": "grace: 10m", "health_timeout_secs: 120": "health_timeout_secs: 600", **replace}.items():
            self.assertIn(old, text)
            text = text.replace(old, new)
        a = self.server.mt("run", "-", stdin=text, timeout=600)
        self.assertEqual(a.returncode, 0, a.stdout + a.stderr)

    def alloc(self):
        return max(self.server.items("/v1/allocs"), key=lambda a: a["create_index"])

    def kill_machine(self):
        restarts = self.alloc()["restarts"]
        self.agent.kill_programs("qemu-system")

        def again():
            a = self.alloc()
            assert a["state"] == "healthy" and a["restarts"] > restarts, a
            return a
        wait_for(again, 300, "the machine again")

    def test_what_was_stored_stays(self):
        a = self.server.mt("secret", "put", "oxidestore-key", "--services", "oxidestore", stdin=KEY)
        self.assertEqual(a.returncode, 0, a.stderr)
        self.run_example()
        with open(self.work.join("big"), "wb") as f:
            f.write(os.urandom(OBJECT_MB << 20))
        with open(self.work.join("small"), "w") as f:
            f.write("some words\n")
        self.aws("s3", "mb", "s3://backups")
        self.aws("s3", "cp", "small", "s3://backups/small")
        self.aws("s3", "cp", "big", "s3://backups/big")
        wanted = {"small": 11, "big": OBJECT_MB << 20}
        self.assertEqual(self.listed(), wanted)
        self.kill_machine()
        self.assertEqual(self.listed(), wanted)
        self.aws("s3", "cp", "s3://backups/big", "back")
        self.assertTrue(filecmp.cmp(self.work.join("big"), self.work.join("back"), shallow=False))
        self.run_example(**{"memory_mb: 512": "memory_mb: 500"})
        self.assertEqual(self.listed(), wanted)
        self.assertEqual(self.aws("s3", "cp", "s3://backups/small", "-"), "some words\n")
        self.aws("s3", "rm", "s3://backups/small")
        self.assertEqual(self.listed(), {"big": OBJECT_MB << 20})
        for directory in (self.agent.workdir, self.agent.runs, self.server.workdir):
            self.assertEqual(holding(directory.path, KEY), [])


if __name__ == "__main__":
    why = missing("mmdebstrap", AWS)
    if why:
        print("skipped:", why)
        sys.exit(77)
    # Its packages come from the distribution's archive, which the test's own network does not reach.
    IMAGES = os.environ.get("MENTAT_OXIDESTORE") or Workdir().path
    if not os.listdir(IMAGES):
        subprocess.run([os.path.join(ROOT, "examples", "oxidestore-image.sh"), IMAGES + "/oxidestore"], check=True)
    isolate()
    unittest.main(verbosity=2)
