#!/usr/bin/env python3
"""Certificates by ACME: two real agents with a real proxy and uacme each, and an ACME server of the test's own, which checks
signatures, asks every proxy for the challenge, and signs with openssl."""
import base64
import glob
import hashlib
import http.server
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ingress_lib import IngressAgent, web_service  # noqa: E402
from lib import Server, Workdir, job, unpadded, wait_for  # noqa: E402

CA_CONFIG = """
[ca]
default_ca = own
[own]
database = {0}/index.txt
new_certs_dir = {0}
serial = {0}/serial
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = optional
"""


def thumbprint(jwk):
    """RFC 7638, of an RSA key."""
    text = json.dumps({k: jwk[k] for k in ("e", "kty", "n")}, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def rs256_good(jwk, message, signature):
    n, e = (int.from_bytes(unpadded(jwk[k]), "big") for k in ("n", "e"))
    size = (n.bit_length() + 7) // 8
    digest = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(message).digest()
    padded = b"\0\1" + b"\xff" * (size - len(digest) - 3) + b"\0" + digest
    return pow(int.from_bytes(signature, "big"), e, n).to_bytes(size, "big") == padded


class AcmeServer:
    """RFC 8555, as much as uacme asks of it. proxies(): where every challenge is asked for."""

    def __init__(self, proxies):
        self.workdir, self.proxies = Workdir(), proxies
        self.root, self.key = self.workdir.join("ca.pem"), self.workdir.join("ca.key")
        self.run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key, "-out",
                 self.root, "-days", "10", "-subj", "/CN=ca of the test", "-addext", "basicConstraints=critical,CA:true")
        with open(self.workdir.join("ca.cnf"), "w") as f:
            f.write(CA_CONFIG.format(self.workdir.path))
        with open(self.workdir.join("serial"), "w") as f:
            f.write("1000\n")
        open(self.workdir.join("index.txt"), "w").close()
        self.lock = threading.RLock()
        self.accounts, self.orders, self.issued, self.nonces, self.refuses = [], [], {}, set(), set()
        self.objections = []             # what a client may not do
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                base = outer.url("")
                names = {"newNonce": "nonce", "newAccount": "account", "newOrder": "order", "revokeCert": "revoke", "keyChange": "key"}
                if self.path == "/nonce":
                    self.answer(204, "")
                else:
                    self.answer(200, {k: base + v for k, v in names.items()})

            def do_POST(self):
                jws = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    self.answer(*outer.post(self.path[1:], jws))

            def answer(self, status, body, location=None):
                text = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                nonce = os.urandom(12).hex()
                outer.nonces.add(nonce)
                kind = "application/pem-certificate-chain" if isinstance(body, str) else \
                    "application/problem+json" if status >= 400 else "application/json"
                for name, value in (("Content-Type", kind), ("Content-Length", str(len(text))), ("Replay-Nonce", nonce),
                                    ("Location", location and outer.url(location))):
                    if value:
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def run(self, *args, stdin=None):
        done = subprocess.run(["openssl", *args], input=stdin, capture_output=True)
        if done.returncode:
            raise AssertionError(done.stderr.decode())
        return done.stdout

    def url(self, path):
        return f"http://127.0.0.1:{self.http.server_address[1]}/{path}"

    def post(self, path, jws):
        head = json.loads(unpadded(jws["protected"]))
        jwk = head.get("jwk") or self.accounts[int(head["kid"].rsplit("/", 1)[1])]
        signed = f"{jws['protected']}.{jws['payload']}".encode()
        if not rs256_good(jwk, signed, unpadded(jws["signature"])) or head["nonce"] not in self.nonces or head["url"] != self.url(path):
            self.objections.append(head)
            return 400, {"type": "urn:ietf:params:acme:error:malformed", "detail": "bad signature"}
        self.nonces.discard(head["nonce"])
        payload = json.loads(unpadded(jws["payload"]) or b"{}")
        what, _, number = path.partition("/")
        if what == "account":
            known = jwk in self.accounts
            if not known and payload.get("onlyReturnExisting"):
                return 400, {"type": "urn:ietf:params:acme:error:accountDoesNotExist", "detail": "no such account"}
            if not known:
                self.accounts.append(jwk)
            return 200 if known else 201, {"status": "valid"}, f"account/{self.accounts.index(jwk)}"
        if what == "order" and not number:
            host = payload["identifiers"][0]["value"]
            self.orders.append({"host": host, "status": "pending", "token": os.urandom(16).hex(), "jwk": jwk, "challenge": "pending"})
            return 201, self.order(len(self.orders) - 1), f"order/{len(self.orders) - 1}"
        order = self.orders[int(number)]
        if what == "challenge" and order["challenge"] == "pending":
            self.validate(order)
        if what == "finalize":
            self.sign(order, payload["csr"])
        if what == "certificate":
            return 200, order["certificate"]
        return 200, self.order(int(number)) if what in ("order", "finalize") else self.authorization(int(number), what), \
            f"order/{number}" if what == "finalize" else None

    def order(self, number):
        o = self.orders[number]
        return {"status": o["status"], "identifiers": [{"type": "dns", "value": o["host"]}],
                "authorizations": [self.url(f"authorization/{number}")], "finalize": self.url(f"finalize/{number}"),
                **({"certificate": self.url(f"certificate/{number}")} if "certificate" in o else {})}

    def authorization(self, number, what):
        o = self.orders[number]
        challenge = {"type": "http-01", "url": self.url(f"challenge/{number}"), "token": o["token"], "status": o["challenge"]}
        if "problem" in o:
            challenge["error"] = {"type": "urn:ietf:params:acme:error:unauthorized", "detail": o["problem"]}
        return challenge if what == "challenge" else {"status": o["challenge"], "challenges": [challenge],
                                                      "identifier": {"type": "dns", "value": o["host"]}}

    def validate(self, order):
        wanted = f"{order['token']}.{thumbprint(order['jwk'])}"
        got = [agent.get_page(f"/.well-known/acme-challenge/{order['token']}", host=order["host"]) for agent in self.proxies()]
        bad = [(status, body[:60]) for status, _, body in got if status != 200 or body.strip() != wanted]
        if order["host"] in self.refuses:
            bad = ["the test says no"]
        order["challenge"] = "invalid" if bad else "valid"
        order["status"] = "invalid" if bad else "ready"
        if bad:
            order["problem"] = f"the challenge is not answered: {bad}"

    def sign(self, order, csr):
        """The first two certificates of a host are at the end of their lives."""
        pem, out = self.workdir.join("csr.pem"), self.workdir.join("out.pem")
        self.run("req", "-inform", "DER", "-out", pem, stdin=unpadded(csr))
        count = self.issued[order["host"]] = self.issued.get(order["host"], 0) + 1
        start = time.time() - (86400 * 100 if count <= 2 else 3600)
        stamp = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(t)) for t in (start, time.time() + 86400 * 9)]
        self.run("ca", "-batch", "-notext", "-config", self.workdir.join("ca.cnf"), "-cert", self.root, "-keyfile", self.key, "-in", pem,
                 "-out", out, "-startdate", stamp[0], "-enddate", stamp[1])
        with open(out) as leaf, open(self.root) as root:
            order["certificate"] = leaf.read() + root.read()
        order["status"] = "valid"

    def stop(self):
        self.http.shutdown()
        self.http.server_close()
        self.workdir.remove()


class Acme(unittest.TestCase):
    def setUp(self):
        self.server = Server().start()
        self.addCleanup(self.server.stop)
        self.agents = []
        self.ca = AcmeServer(lambda: self.agents)
        self.addCleanup(self.ca.stop)
        flags = {"proxy.acme_directory": self.ca.url("directory"), "proxy.acme_email": "ops@example.com", "proxy.acme_retry": "1s"}
        self.agents = [IngressAgent(self.server, f"n{i}", f"127.0.0.{i + 1}", **flags).start() for i in (1, 2)]
        self.addCleanup(lambda: self.assertEqual([left for a in self.agents for left in a.end()], []))
        wait_for(lambda: len(self.server.items("/v1/nodes")) == 2, 20, "two nodes")

    def submit(self, host, **more):
        name = host.split(".")[0]
        ways = [{"host": host, "port": "http", "tls": True, "acme": True, **more}]
        return self.server.post("/v1/jobs", job(name, web_service(name, ingress=ways)))

    def served(self, agent, host):
        """The number of the certificate that the proxy has for the host, which must be one of the CA's and lead to the service;
        None: it has no such certificate."""
        context = ssl.create_default_context(cafile=self.ca.root)
        try:
            with socket.create_connection((agent.ip, agent.https_port), 5) as plain:
                with context.wrap_socket(plain, server_hostname=host) as tls:
                    tls.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                    answer = b""
                    while part := tls.recv(4096):
                        answer += part
                    self.assertTrue(answer.startswith(b"HTTP/1.1 200"), answer)
                    return tls.getpeercert()["serialNumber"]
        except ssl.SSLCertVerificationError:
            return None

    def wait_served(self, host):
        return wait_for(lambda: all(self.served(a, host) for a in self.agents) and [self.served(a, host) for a in self.agents], 60,
                        f"certificates of {host}", every=0.2)

    def events(self):
        a = self.server.get("/v1/events?kind=node&limit=1000", headers={"Accept": "application/json"})
        return [e.get("reason") or "" for e in a.json["items"]]

    def test_certificates_come_fail_and_are_renewed(self):
        self.assertEqual(self.submit("a.example.com").status, 200)
        first = self.wait_served("a.example.com")
        processes = [a.master() for a in self.agents]
        wait_for(lambda: len([e for e in self.events() if e.startswith("it has a certificate for a.example.com until ")]) >= 2, 20,
                 "the events")
        # One that cannot be had is told, tried again, and in nobody's way.
        self.ca.refuses.add("b.example.com")
        self.assertEqual(self.submit("b.example.com", redirect_https=False).status, 200)
        wait_for(lambda: any("no certificate for b.example.com" in e and "tried again in" in e for e in self.events()), 40, "the failure")
        self.assertEqual(self.agents[0].get_page(host="b.example.com")[0], 200)
        self.ca.refuses.clear()
        self.wait_served("b.example.com")
        # At the end of its life it is renewed, by the same processes of the proxies, also when the agent is another one.
        self.agents[0].kill()
        self.agents[0].start()
        wait_for(lambda: self.ca.issued["a.example.com"] >= 4, 60, "new certificates")
        wait_for(lambda: not set(first) & set(self.wait_served("a.example.com")), 30, "the new ones in the proxies")
        self.assertEqual(processes[0], self.agents[0].master())
        self.assertEqual(len(self.ca.accounts), 2)
        self.assertEqual(self.ca.objections, [])
        self.assert_no_key_in_the_state()
        wait_for(lambda: not any(a.get_page(f"/.well-known/acme-challenge/{o['token']}", host=o["host"])[2].startswith(o["token"])
                                 for a in self.agents for o in self.ca.orders), 20, "the end of the challenges")

    def assert_no_key_in_the_state(self):
        for path in glob.glob(self.server.flags["data_dir"] + "/**", recursive=True):
            if os.path.isfile(path):
                with open(path, "rb") as f:
                    self.assertNotIn(b"PRIVATE KEY", f.read(), path)

    def make(self, host, ends_in):
        """A certificate with its key, as PEM."""
        key, csr, out = (self.ca.workdir.join(name) for name in ("own.key", "own.csr", "own.pem"))
        self.ca.run("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", csr,
                    "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}")
        stamp = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + t)) for t in (-86400 * 9, ends_in)]
        self.ca.run("ca", "-batch", "-notext", "-config", self.ca.workdir.join("ca.cnf"), "-cert", self.ca.root, "-keyfile",
                    self.ca.key, "-in", csr, "-out", out, "-startdate", stamp[0], "-enddate", stamp[1])
        with open(key) as k, open(out) as o:
            return o.read() + k.read()

    def put(self, name, value):
        answer = self.server.call("PUT", f"/v1/secrets/{name}", {"value": base64.b64encode(value.encode()).decode()})
        self.assertEqual(answer.status, 200, answer)

    def test_certificates_that_are_secrets(self):
        way = {"acme": False, "certificate": "c-cert"}
        answer = self.submit("c.example.com", **way)
        self.assertEqual(answer.status, 400, answer)
        self.assertIn("there is no secret c-cert", answer.error["message"])
        self.put("c-cert", self.make("c.example.com", 86400))
        self.assertEqual(self.submit("c.example.com", **way).status, 200)
        first = self.wait_served("c.example.com")
        self.assertEqual(first[0], first[1])
        processes = self.agents[0].proxy_pids()
        self.put("c-cert", self.make("c.example.com", 86400))
        wait_for(lambda: not set(first) & set(self.wait_served("c.example.com")), 20, "the new version in the proxies")
        self.assertEqual(self.agents[0].proxy_pids(), processes)
        second = self.wait_served("c.example.com")
        self.put("c-cert", "no certificate")               # which changes nothing but the events
        wait_for(lambda: any("version 3 of secret c-cert cannot be used" in e for e in self.events()), 20, "the event")
        self.put("c-cert", self.make("other.example.com", 86400))
        wait_for(lambda: any("it is for other.example.com, not for c.example.com" in e for e in self.events()), 20, "the event")
        self.assertEqual(self.wait_served("c.example.com"), second)
        self.put("c-cert", self.make("c.example.com", -3600))
        wait_for(lambda: any("version 5 of secret c-cert has expired" in e for e in self.events()), 20, "the event")
        for what in ("status", "c"), ("explain", "c"), ("nodes", "n2"):
            wait_for(lambda w=what: "certificate for c.example.com: that of version 5 of secret c-cert has expired; it is served all "
                     "the same" in self.server.mt(*w).stdout, 20, f"mt {what}")
        self.assertEqual(self.server.call("DELETE", "/v1/secrets/c-cert").status, 409)
        self.assert_no_key_in_the_state()

    def test_bad_input(self):
        for ways, part in (({"tls": False}, "is for `tls: true`"), ({"host": "*.example.com"}, "cannot prove all hosts"),
                           ({"certificate": "x"}, "not both")):
            answer = self.submit(**{"host": "a.example.com", **ways})
            self.assertEqual(answer.status, 400, answer)
            self.assertIn(part, answer.body.decode() if isinstance(answer.body, bytes) else answer.body)


if __name__ == "__main__":
    unittest.main(verbosity=2)
