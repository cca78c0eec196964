#!/usr/bin/env python3
"""Images of microVMs: what each kind of source becomes, that it is built once, and that hostile and broken ones are refused
with their reason and leave nothing."""
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import BIN, Workdir  # noqa: E402

TOOL = os.path.join(os.path.dirname(BIN), "tests", "vmm", "image-tool")


def entry(name, data=b"", kind=tarfile.REGTYPE, link="", mode=0o755, **more):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def folder(name):
    return entry(name, kind=tarfile.DIRTYPE)


def tar(*entries, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as t:
        for info, data in entries:
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def sha(data):
    return hashlib.sha256(data).hexdigest()


CONFIG = {"architecture": "amd64", "os": "linux",
          "config": {"Entrypoint": ["/bin/app"], "Cmd": ["--default"], "Env": ["A=1"], "User": "web", "WorkingDir": "/srv"}}


def oci(layers, config=CONFIG, packed=gzip.compress, breaks=lambda blobs: None):
    """An OCI layout; breaks may change the blobs behind their digests."""
    blobs = {}

    def blob(data):
        blobs[sha(data)] = data
        return {"digest": "sha256:" + sha(data), "size": len(data)}
    descriptors = [blob(packed(layer)) for layer in layers]
    config = {**config, "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha(layer) for layer in layers]}}
    manifest = {"schemaVersion": 2, "config": blob(json.dumps(config).encode()), "layers": descriptors}
    index = {"schemaVersion": 2, "manifests": [{**blob(json.dumps(manifest).encode()),
                                                "platform": {"architecture": "amd64", "os": "linux"}}]}
    breaks(blobs)
    return tar(entry("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'), entry("index.json", json.dumps(index).encode()),
               *[entry("blobs/sha256/" + name, data) for name, data in blobs.items()])


def docker_save(layers, config=CONFIG, wrong=b""):
    config = json.dumps({**config, "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha(layer) for layer in layers]}}).encode()
    manifest = [{"Config": sha(config) + ".json", "RepoTags": ["app:1"],
                 "Layers": [f"{i}/layer.tar" for i in range(len(layers))]}]
    return tar(entry(sha(config) + ".json", config), *[entry(f"{i}/layer.tar", layer + wrong) for i, layer in enumerate(layers)],
               entry("manifest.json", json.dumps(manifest).encode()))


class Images(unittest.TestCase):
    def setUp(self):
        self.work = Workdir()
        self.sources, self.cache = self.work.join("sources"), self.work.join("cache")
        os.mkdir(self.sources)

    def tearDown(self):
        self.work.remove()

    def source(self, name, data):
        path = os.path.join(self.sources, name)
        with open(path, "wb") as f:
            f.write(data)
        return path

    def run_tool(self, path, max_mb=64):
        return subprocess.run([TOOL, self.cache, self.sources, str(max_mb), path], capture_output=True, text=True, timeout=60)

    def get(self, path, **kw):
        r = self.run_tool(path, **kw)
        self.assertEqual(r.returncode, 0, r.stderr)
        out = {}
        for line in r.stdout.splitlines():
            key, _, value = line.partition(" ")
            out.setdefault(key, []).append(value)
        self.image = out["path"][0]
        return out

    def build(self, data, **kw):
        return self.get(self.source("image", data), **kw)

    def refused(self, data, words, **kw):
        r = self.run_tool(self.source("image", data), **kw)
        self.assertEqual(r.returncode, 1, r.stdout)
        self.assertRegex(r.stderr, words)
        left = [f for d, _, files in os.walk(self.cache) for f in files]
        self.assertEqual(left, [], "something is left of it")

    def files(self):
        """Paths of the built image, with what `ls` shows of each."""
        out = subprocess.run(["unsquashfs", "-lls", "-d", "", self.image], capture_output=True, text=True, check=True).stdout
        found = {}
        for line in out.splitlines():
            words = line.split(None, 5)
            if len(words) == 6:
                found[words[5].split(" -> ")[0] or "/"] = words
        return found

    def cat(self, path):
        return subprocess.run(["unsquashfs", "-cat", self.image, path], capture_output=True, check=True).stdout

    # --- what there is ---

    def test_a_static_program_gets_a_root_file_system(self):
        with open("/bin/busybox", "rb") as f:
            program = f.read()
        out = self.get(self.source("app", program))
        self.assertEqual(out["entrypoint"], ["/app"])
        self.assertEqual(self.cat("app"), program)
        self.assertIn("/tmp", self.files())

    def test_a_dynamic_program_is_refused(self):
        with open("/usr/bin/env", "rb") as f:
            self.refused(f.read(), "dynamic program.*link it statically")

    def test_a_directory_is_packed_and_again_when_it_changes(self):
        tree = os.path.join(self.sources, "tree")
        os.makedirs(tree + "/sbin")
        for text in ("one", "two"):
            with open(tree + "/sbin/init", "w") as f:
                f.write(text)
            out = self.get(tree)
            self.assertEqual(self.cat("sbin/init"), text.encode())
        self.assertEqual(out["entrypoint"], ["/sbin/init"])
        self.assertEqual(len([f for f in os.listdir(self.cache + "/images") if f.endswith(".squashfs")]), 2)

    def test_what_is_built_is_used_again(self):
        data = tar(entry("init", b"x"))
        first = self.build(data)["path"]
        at = os.stat(first[0]).st_ino
        self.assertEqual(self.get(os.path.join(self.sources, "image"))["path"], first)
        self.assertEqual(os.stat(first[0]).st_ino, at)
        # The same content from another place, at another time, is the same image.
        time.sleep(1)
        self.assertEqual(self.get(self.source("other", data))["path"], first)

    def test_tar_in_all_its_forms(self):
        long = "d" * 90 + "/" + "f" * 90
        for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            data = tar(folder("./bin"), entry("./bin/app", b"app"), entry("bin/same", kind=tarfile.LNKTYPE, link="./bin/app"),
                       entry("/absolute", b"a", uid=71234, gid=81234, mode=0o4750), entry(long, b"long"),
                       entry("sh", kind=tarfile.SYMTYPE, link="/bin/app"), entry("up", kind=tarfile.SYMTYPE, link="bin/../bin/app"),
                       form=form)
            for packed in (data, gzip.compress(data), subprocess.run(["zstd", "-c"], input=data, capture_output=True).stdout):
                self.build(packed)
                files = self.files()
                self.assertEqual(self.cat("bin/same"), b"app")
                self.assertEqual(self.cat(long), b"long")
                self.assertEqual(files["/absolute"][0], "-rwsr-x---")
                self.assertEqual(files["/absolute"][1], "71234/81234")
                self.assertIn("/sh", files)

    def test_file_system_images(self):
        tree = os.path.join(self.sources, "tree")
        os.makedirs(tree + "/sbin")
        ext4, squashfs = os.path.join(self.sources, "ext4"), os.path.join(self.sources, "squashfs")
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, ext4, "4M"], check=True)
        subprocess.run(["mksquashfs", tree, squashfs, "-quiet", "-no-progress"], check=True, stdout=subprocess.DEVNULL)
        self.assertEqual(self.get(ext4)["type"], ["ext4"])
        self.assertEqual(self.get(squashfs)["type"], ["squashfs"])
        for path in (ext4, squashfs):
            with open(path, "rb") as f:
                whole = f.read()
            subprocess.run(["rm", "-rf", self.cache])
            self.refused(whole[:len(whole) // 2 if path == ext4 else 90], "cut off")
        with open(ext4, "rb") as f:
            damaged = bytearray(f.read())
        damaged[4096:8192] = os.urandom(4096)
        subprocess.run(["rm", "-rf", self.cache])
        self.refused(bytes(damaged), "damaged ext4 image")

    def test_layers_lie_over_each_other(self):
        below = tar(folder("bin"), entry("bin/app", b"old"), entry("bin/gone", b"x"), folder("etc"), entry("etc/a", b"a"),
                    folder("etc/deep"), entry("etc/deep/b", b"b"), folder("data"), entry("data/old", b"x"), entry("swap", b"file"))
        above = tar(entry("bin/app", b"new"), entry("bin/.wh.gone"), entry("etc/.wh.deep"), entry("data/.wh..wh..opq"),
                    entry("data/new", b"n"), folder("swap"), entry("swap/in", b"in"))
        for make in (oci, docker_save):
            out = self.build(make([below, above]))
            files = self.files()
            self.assertEqual(self.cat("bin/app"), b"new")
            self.assertEqual(self.cat("etc/a"), b"a")
            self.assertEqual(self.cat("swap/in"), b"in")
            for gone in ("/bin/gone", "/etc/deep", "/etc/deep/b", "/data/old"):
                self.assertNotIn(gone, files)
            self.assertIn("/data/new", files)
            self.assertFalse([f for f in files if ".wh." in f])
            self.assertEqual((out["entrypoint"], out["command"], out["env"], out["user"], out["workdir"]),
                             (["/bin/app"], ["--default"], ["A=1"], ["web"], ["/srv"]))

    # --- what is refused ---

    def test_paths_that_climb(self):
        for name in ("../evil", "a/../../evil", "/../evil"):
            self.refused(tar(entry(name, b"x")), r"climbs with \.\.")
            self.refused(oci([tar(entry(name, b"x"))]), r"climbs with \.\.")
        self.refused(tar(entry("a", b"x"), entry("b", kind=tarfile.LNKTYPE, link="../../etc/shadow")), r"climbs with \.\.")

    def test_links_that_leave_the_root(self):
        for link in ("../etc/shadow", "/../etc", "a/../../x"):
            self.refused(tar(entry("l", kind=tarfile.SYMTYPE, link=link)), "leaves the root")

    def test_entries_that_go_through_links(self):
        self.refused(tar(entry("l", kind=tarfile.SYMTYPE, link="/etc"), entry("l/passwd", b"x")), "which is no directory")
        self.refused(tar(entry("f", b""), entry("f/x", b"x")), "which is no directory")

    def test_devices_pipes_and_the_like(self):
        for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            self.refused(tar(entry("null", kind=kind, devmajor=1, devminor=3)), "is a device")
        self.refused(tar(entry("p", kind=tarfile.FIFOTYPE)), "is a pipe")
        self.refused(tar(entry("x", b"1"), entry("x", b"2")), "twice in the archive")
        self.refused(tar(entry("l", kind=tarfile.LNKTYPE, link="nothing")), "not there before it")

    def test_bombs(self):
        bomb = gzip.compress(tar(entry("zeros", bytes(40 << 20))), 9)
        self.assertLess(len(bomb), 1 << 20)
        self.refused(bomb, "unpacks to more than", max_mb=16)
        self.refused(oci([tar(entry("zeros", bytes(40 << 20)))]), "unpacks to more than", max_mb=16)

    def test_digests_that_do_not_fit(self):
        layer = tar(folder("bin"), entry("bin/app", b"app"))
        other = tar(folder("bin"), entry("bin/app", b"evil"))
        self.refused(oci([layer], packed=bytes, breaks=lambda blobs: blobs.update({sha(layer): other})),
                     "digest of .* is named for it")

        def change_config(blobs):
            for name, data in list(blobs.items()):
                if b"Entrypoint" in data:
                    blobs[name] = data.replace(b"/bin/app", b"/bin/bad")
        self.refused(oci([layer], breaks=change_config), "digest of .* is named for it")
        self.refused(docker_save([layer], wrong=bytes(1024)), "digest of .* is named for it")

    def test_archives_that_lack_something(self):
        layer = tar(entry("a", b"x"))
        self.refused(oci([layer], packed=bytes, breaks=lambda blobs: blobs.pop(sha(layer))), "is missing in the archive")
        self.refused(oci([layer], config={**CONFIG, "architecture": "arm64"}), "not for linux on amd64")
        self.refused(oci([]), "do not name the same layers")
        whole = tar(entry("a", b"x" * 5000))
        self.refused(whole[:2000], "cut off")
        self.refused(gzip.compress(whole)[:-40], "cut off|damaged")
        self.refused(gzip.compress(whole)[:30] + b"\xff" * 30, "damaged")
        self.refused(b"hello", "it is none of")
        self.refused(b"", "it is none of")
        broken = bytearray(whole)
        broken[0] ^= 1
        self.refused(bytes(broken), "damaged")

    def test_no_bytes_of_an_archive_crash_it(self):
        """Whatever is changed in it, it is built or refused."""
        import random
        rng = random.Random(5)
        layer = tar(folder("bin"), entry("bin/app", b"app" * 100), entry("x" * 120, b"y"))
        for whole in (oci([layer], packed=bytes), tar(folder("bin"), entry("bin/app", b"app"), entry("y" * 150, b"z"))):
            for _ in range(12):
                data = bytearray(whole)
                for _ in range(rng.randrange(1, 6)):
                    data[rng.randrange(len(data))] = rng.randrange(256)
                r = self.run_tool(self.source("image", bytes(data)))
                self.assertIn(r.returncode, (0, 1), r.stderr)

    def test_what_lies_elsewhere_is_not_read(self):
        self.assertRegex(self.run_tool("/etc/passwd").stderr, "not below firecracker.image_roots")
        os.symlink("/etc", os.path.join(self.sources, "etc"))
        self.assertRegex(self.run_tool(os.path.join(self.sources, "etc")).stderr, "not below firecracker.image_roots")
        self.assertRegex(self.run_tool(os.path.join(self.sources, "none")).stderr, "No such file")


if __name__ == "__main__":
    for tool in ("mksquashfs", "unsquashfs", "mke2fs", "zstd"):
        if subprocess.run(["which", tool], capture_output=True).returncode:
            print(f"skipped: {tool} is not installed; scripts/packages.sh all does that")
            sys.exit(77)
    unittest.main(verbosity=2)
