#!/usr/bin/env python3
"""Secrets: a cluster of three servers with TLS and tokens, where known values must come to those who may have them, and be in
no file that anybody writes."""
import base64
import glob
import json
import os
import subprocess
import tempfile
import unittest

from authority import Authority
from cluster_lib import Cluster
from lib import Server, PATIENCE, call, program, wait_for

KNOWN = "correct-horse-battery-staple"       # looked for in all files at the end
KNOWN_2 = "tr0ub4dor-and-3-known-values"


def text_of(path):
    with open(path) as f:
        return f.read()


def holding(directory, *values):
    """Files below a directory in which one of these values stands, as it is or in base64 at any offset."""
    needles = []
    for value in values:
        raw = value.encode()
        # Of a text in base64 the same three in four bytes stand wherever it begins.
        needles += [raw] + [base64.b64encode(b"\0" * i + raw)[4 * ((i + 2) // 3):-4] for i in range(3)] + [raw.hex().encode()]
    found = []
    for path in glob.glob(directory + "/**/*", recursive=True):
        if os.path.isfile(path):
            with open(path, "rb") as f:
                data = f.read()
            found += [path for needle in needles if needle in data][:1]
    return found


class Secrets(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.authority = Authority()
        cls.cluster = Cluster(3, start=False, access="tokens", bind="127.0.0.1", snapshot_mb=1)
        for i, s in enumerate(cls.cluster.servers):
            s.flags.update({"server_id": i + 1, **cls.authority.server_flags(i + 1)})
            s.tls = cls.authority.context()
            s.start(wait=False)

        def admin_token():
            for path in (os.path.join(s.flags["data_dir"], "admin-token") for s in cls.cluster.servers):
                if os.path.exists(path):
                    return text_of(path).strip()
        cls.admin = wait_for(admin_token, 30, "the administrator's token")
        for s in cls.cluster.servers:
            s.headers = cls.bearer(cls.admin)
        cls.cluster.wait_ready(3)

    @classmethod
    def tearDownClass(cls):
        cls.cluster.kill()
        cls.cluster.remove_files()

    # --- helpers ---

    @staticmethod
    def bearer(token):
        return {"Authorization": f"Bearer {token}"}

    def server(self, i=0):
        return self.cluster.servers[i]

    def ask(self, method, path, body=None, token=None, cert=None, i=0):
        return call(self.server(i).port, method, path, body, self.bearer(token) if token else {}, 30,
                    tls=self.authority.context(*(cert or ())))

    def mt(self, *args, stdin="", check=0):
        env = {k: v for k, v in os.environ.items() if not k.startswith("MENTAT_")}
        done = subprocess.run([program("mt"), *args, "--address", f"https://127.0.0.1:{self.server().port}", "--ca",
                               self.authority.ca], input=stdin, capture_output=True, text=True, timeout=60 * PATIENCE,
                              env={**env, "MENTAT_TOKEN": self.admin, "HOME": "/nonexistent"})
        self.assertEqual(done.returncode, check, done.stdout + done.stderr)
        return done.stdout if check == 0 else done.stderr

    def put(self, name, value, *more):
        return self.mt("secret", "put", name, *more, stdin=value)

    def make_token(self, name, *allow):
        role = {"name": name, "rules": [{"allow": list(allow)}]}
        self.assertEqual(self.ask("PUT", f"/v1/roles/{name}", role, self.admin).status, 200)
        answer = self.ask("POST", "/v1/tokens", {"name": name, "roles": [name], "ttl": "1h"}, self.admin)
        self.assertEqual(answer.status, 200, answer)
        return answer.json["token"]

    def nowhere(self, *values):
        """In no log, snapshot, audit file or other file of a server."""
        for s in self.cluster.servers:
            self.assertEqual(holding(s.workdir.path, *values), [])

    # --- what the servers keep ---

    def test_a_secret_is_put_read_listed_and_deleted_by_who_may(self):
        self.put("a-one", KNOWN)
        self.assertIn("version 2", self.put("a-one", KNOWN_2, "--services", "web,api-*"))
        self.assertEqual(self.mt("secret", "get", "a-one"), KNOWN_2)
        self.assertEqual(self.mt("secret", "get", "a-one", "--version", "1"), KNOWN)
        row = next(r for r in json.loads(self.mt("secret", "list", "-o", "json")) if r["name"] == "a-one")
        self.assertEqual((row["version"], row["bytes"], row["services"], row["modified_by"]),
                         (2, len(KNOWN_2), ["web", "api-*"], "administrator"))
        versions = json.loads(self.mt("secret", "history", "a-one", "-o", "json"))
        self.assertEqual([(v["version"], v["bytes"]) for v in versions], [(1, len(KNOWN)), (2, len(KNOWN_2))])
        self.assertNotIn("sealed", versions[0])
        # Each right alone.
        keeper, revealer, reader = self.make_token("keeper", "secrets"), self.make_token("revealer", "reveal"), \
            self.make_token("plain-reader", "read", "logs", "submit")
        value, row = "/v1/secrets/a-one/value", "/v1/secrets/a-one"
        self.assertEqual([self.ask("GET", p, token=t).status for t in (keeper, revealer, reader) for p in (value, row)],
                         [403, 200, 200, 403, 403, 403])
        self.assertEqual(self.ask("PUT", row, {"value": "eA=="}, revealer).status, 403)
        self.assertEqual(self.ask("GET", value).status, 401)
        # Any server answers, and each keeps the key and the sealed value alone.
        for i in range(3):
            self.assertEqual(base64.b64decode(self.ask("GET", value, token=revealer, i=i).json["value"]).decode(), KNOWN_2)
        # Reading is written down where it was asked for.
        audit = "".join(map(text_of, glob.glob(self.server(1).flags["data_dir"] + "/audit/*")))
        line = next(json.loads(l) for l in audit.splitlines() if '"revealer"' in l and value in l)
        self.assertEqual((line["method"], line["status"]), ("GET", 200))
        self.mt("secret", "delete", "a-one")
        self.assertEqual(self.ask("GET", row, token=keeper).status, 404)
        # A name that comes back goes on counting: what was sealed for an old version does not open as a new one.
        self.assertIn("version 3", self.put("a-one", KNOWN))
        self.nowhere(KNOWN, KNOWN_2)

    def test_the_search_for_values_finds_them(self):
        with tempfile.TemporaryDirectory() as directory:
            for i, text in enumerate((KNOWN, base64.b64encode(b"12" + KNOWN.encode() + b"3").decode(), KNOWN.encode().hex())):
                with open(os.path.join(directory, "x"), "w") as f:
                    f.write("before " + text + " after")
                self.assertEqual(len(holding(directory, KNOWN)), 1, i)

    def test_bad_values_and_names_are_refused_without_being_repeated(self):
        for name, body in (("b-bad", {"value": "no base64!" + KNOWN}), ("b-bad", {"value": ""}), ("b-bad", {}),
                           ("B_BAD", {"value": "eA=="}), ("b-bad", {"value": base64.b64encode(bytes(65537)).decode()})):
            answer = self.ask("PUT", f"/v1/secrets/{name}", body, self.admin)
            self.assertIn(answer.status, (400, 413), body)
            self.assertNotIn(KNOWN.encode(), answer.body)
        self.assertIn("65536", self.mt("secret", "put", "b-big", stdin="x" * 65537, check=1))
        self.assertIn("is empty", self.mt("secret", "put", "b-none", stdin="", check=2))
        self.put("b-bytes", "\n", "--file", "-")
        self.assertEqual(self.mt("secret", "get", "b-bytes"), "\n")

    def test_another_key_comes_into_force_and_the_old_one_is_forgotten(self):
        def keys():
            return [text_of(s.flags["data_dir"] + "/cluster-keys").split() for s in self.cluster.servers]
        self.put("c-turn", KNOWN)
        before = keys()
        self.assertTrue(all(k == before[0] and len(k) == 1 for k in before), before)
        self.mt("secret", "rotate-key")
        wait_for(lambda: all(len(k) == 1 and k != before[0] and k == keys()[0] for k in keys()), 20, "the new key alone")
        self.assertEqual(self.mt("secret", "get", "c-turn"), KNOWN)
        # A snapshot of now opens with the key of now: of another cluster, with all of it, nothing.
        snapshot = self.ask("GET", "/v1/snapshot", token=self.admin)
        self.assertEqual(snapshot.status, 200)
        self.assertNotIn(KNOWN.encode(), snapshot.body)
        thief = Server()
        self.addCleanup(thief.workdir.remove)
        self.addCleanup(thief.start().kill)
        path = thief.workdir.join("stolen")
        with open(path, "wb") as f:
            f.write(snapshot.body)
        restored = thief.mt("snapshot", "restore", path, "--yes")
        self.assertEqual(restored.returncode, 0, restored.stderr)
        got = thief.mt("secret", "get", "c-turn")
        self.assertNotEqual(got.returncode, 0)
        self.assertIn("has not the key", got.stderr)
        self.assertEqual(holding(thief.workdir.path, KNOWN), [])
        self.nowhere(KNOWN)


if __name__ == "__main__":
    unittest.main(verbosity=2)
