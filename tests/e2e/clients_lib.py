"""Clients that ask a service all the time, through the proxy of an IngressAgent. Each has the answers that it counted, by
version, and stop() gives what went wrong: whatever was not a whole, right answer."""
import atexit
import http.client
import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

from lib import PATIENCE, wait_for


def all_kinds(agent, host="web.example.com"):
    """HTTP/1.1 and HTTP/2, kept and new connections, one stream and several, requests that may be sent twice and such that may
    not."""
    return [Load(agent, host, clients=2, pause=0.01, method="POST", query="?ms=40"), Wrk(agent, host), Curl(agent, host),
            Streams(agent, host)]


class Load:
    """Clients that ask all the time and check every answer: half of them on kept connections, half on a new one for each
    request. Whatever is not a whole, right answer is an error."""

    def __init__(self, agent, host="web.example.com", clients=4, pause=0.002, method="GET", query=""):
        self.agent, self.host, self.pause, self.method, self.query = agent, host, pause, method, query
        self.answers, self.lock = {}, threading.Lock()
        self.errors = []             # (when it was asked for, what came, more)
        self.times = []              # of the answers: (when, by whom)
        self.asked = []              # when each of these was asked for
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(i % 2 == 0,), daemon=True) for i in range(clients)]
        for t in self.threads:
            t.start()

    def _run(self, keep):
        connection, number = None, 0
        while not self.stopping.is_set():
            number += 1
            path, asked = f"/{threading.get_ident()}/{number}{self.query}", time.monotonic()
            try:
                # A kept connection may be closed by the proxy between two requests, and says so when it does.
                connection = connection or http.client.HTTPConnection(self.agent.ip, self.agent.http_port, timeout=10)
                connection.request(self.method, path, headers={"Host": self.host, **({} if keep else {"Connection": "close"})})
                response = connection.getresponse()
                body = response.read().decode(errors="replace")
                closing = response.will_close
                self._count(response, body, path, asked)
            except (OSError, http.client.HTTPException) as e:
                with self.lock:
                    self.errors.append((asked, repr(e), "kept" if keep else "new"))
                closing = True
            if closing and connection:
                connection.close()
                connection = None
            self.stopping.wait(self.pause)
        if connection:
            connection.close()

    def _count(self, response, body, path, asked):
        who = response.headers.get("X-Replica", "")
        with self.lock:
            if response.status != 200 or body != f"{who} {path}":
                self.errors.append((asked, response.status, body[:200]))
            self.answers[who] = self.answers.get(who, 0) + 1
            self.times.append((time.monotonic(), who))
            self.asked.append(asked)

    def next(self, n):
        """Who answers the next n requests; those that are under way do not count."""
        before, since = len(self.times), time.monotonic()

        def answers():
            with self.lock:
                found = [who for (_, who), asked in zip(self.times[before:], self.asked[before:]) if asked >= since]
            return found[:n] if len(found) >= n else None
        return set(wait_for(answers, 20, "more answers"))

    def more(self, n, timeout=20):
        """Waits for n more answers."""
        wanted = len(self.times) + n
        wait_for(lambda: len(self.times) >= wanted, timeout, "more answers")

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join(30)
        return self.errors


class Wrk:
    """wrk: HTTP/1.1, half of its connections kept."""

    def __init__(self, agent, host="web.example.com", pause_ms=20, seconds=3600):
        self.answers, self.errors = {}, []
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wrk.lua")
        self.child = subprocess.Popen(
            ["wrk", "-t2", "-c4", f"-d{seconds}", "--timeout", "10s", "-H", f"Host: {host}", "-s", script,
             f"http://{agent.ip}:{agent.http_port}", "--", str(pause_ms)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        atexit.register(self.child.kill)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        for line in self.child.stdout:
            words = line.rstrip("\n").split("\t")
            if words[0] == "answers":
                self.answers[words[1]] = self.answers.get(words[1], 0) + int(words[2])
            elif words[0] == "wrong":
                self.errors.append(("wrk", *words[1:]))
        if self.child.wait() != 0:
            self.errors.append(("wrk", f"it ended with {self.child.returncode}"))

    def stop(self):
        self.child.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self):
        """Until its time is over."""
        self.thread.join(60 * PATIENCE)
        return self.errors


class Curl:
    """curl: HTTP/2 over TLS, one request after the other on one connection."""

    def __init__(self, agent, host="web.example.com", rate=100):
        self.answers, self.errors, self.stopping = {}, [], False
        port = agent.https_port
        self.child = subprocess.Popen(
            ["curl", "-skN", "--http2", "--rate", f"{rate}/s", "--max-time", "10", "--connect-to", f"{host}:{port}:{agent.ip}:{port}",
             f"https://{host}:{port}/curl/[1-1000000]", "-w", "\\t%header{x-replica}\\t%{http_code} %{http_version} %{exitcode}\\n"],
            stdout=subprocess.PIPE, text=True)
        atexit.register(self.child.kill)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        for number, line in enumerate(self.child.stdout, 1):
            body, who, how = (line.rstrip("\n").split("\t") + ["", ""])[:3]
            version = who.split("/")[0]
            if (body, how) == (f"{who} /curl/{number}", "200 2 0"):
                self.answers[version] = self.answers.get(version, 0) + 1
            elif line.endswith("\n"):           # else it was told to end
                self.errors.append(("curl", line))
        if not self.stopping:
            self.errors.append(("curl", "it ended"))

    def stop(self):
        self.stopping = True
        self.child.terminate()
        self.thread.join(30)
        self.child.wait()
        return self.errors


class Streams:
    """HTTP/2 over TLS, four requests at once on one connection. By hand: when a proxy asks for a new connection (GOAWAY: a
    reload), h2load counts as failed what it did not send any more. Here the proxy must answer what it has taken, and the rest
    goes to a new connection, as browsers do it."""
    DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
    END_STREAM, ACK, END_HEADERS = 1, 1, 4

    def __init__(self, agent, host="web.example.com", pause=0.05):
        self.agent, self.host, self.pause = agent, host, pause
        self.answers, self.errors, self.stopping = {}, [], threading.Event()
        self.socket, self.number, self.again = None, 0, []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def stop(self):
        self.stopping.set()
        self.thread.join(60 * PATIENCE)
        return self.errors

    def _run(self):
        while not self.stopping.wait(self.pause):
            self.open = {}           # by number: (path, the first byte of its head, its body)
            try:
                self._ask()
                while self.open:
                    self._frame()
            except OSError as e:
                self.errors += [("stream", path, repr(e)) for path, _, _ in self.open.values()] or [("connection", repr(e))]
                self.socket = None
        if self.socket:
            self.socket.close()

    def _connect(self):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection((self.agent.ip, self.agent.https_port), 10)
        self.socket = context.wrap_socket(plain, server_hostname=self.host)
        self.input, self.next_stream = self.socket.makefile("rb"), 1
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self._send(self.SETTINGS, 0, 0, b"")

    def _ask(self):
        if not self.socket:
            self._connect()
        paths, self.again = self.again, []
        while len(paths) < 4:
            self.number += 1
            paths.append(f"/streams/{self.number}")
        for path in paths:
            self.open[self.next_stream] = [path, None, b""]
            # GET, https, and by literals the path and the host.
            head = b"\x82\x87" + b"".join(bytes([name, len(value)]) + value.encode() for name, value in ((4, path), (1, self.host)))
            self._send(self.HEADERS, self.END_STREAM | self.END_HEADERS, self.next_stream, head)
            self.next_stream += 2

    def _send(self, kind, flags, stream, payload):
        self.socket.sendall(struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload)

    def _read(self, n):
        data = self.input.read(n)
        if len(data) < n:
            raise OSError("the connection was closed")
        return data

    def _frame(self):
        length, kind, flags, stream = struct.unpack(">IBBI", b"\0" + self._read(9))
        payload = self._read(length)
        if kind in (self.SETTINGS, self.PING) and not flags & self.ACK:
            self._send(kind, self.ACK, 0, payload if kind == self.PING else b"")
        elif kind == self.GOAWAY:
            self._go_away(*struct.unpack(">II", payload[:8]))
        elif stream in self.open:
            self._of_stream(kind, flags, stream, payload)

    def _of_stream(self, kind, flags, stream, payload):
        of = self.open[stream]
        if kind == self.HEADERS:
            of[1] = payload[0]
        elif kind == self.DATA:
            of[2] += payload
            if payload:
                self._send(self.WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload)))
        elif kind == self.RST_STREAM:
            self.errors.append(("reset", of, payload))
        if kind == self.RST_STREAM or (kind in (self.HEADERS, self.DATA) and flags & self.END_STREAM):
            del self.open[stream]
        if kind in (self.HEADERS, self.DATA) and flags & self.END_STREAM:
            self._count(*of)

    def _count(self, path, first, body):
        who, _, said = body.decode(errors="replace").partition(" ")
        if (first, said) == (0x88, path):    # :status 200
            version = who.split("/")[0]
            self.answers[version] = self.answers.get(version, 0) + 1
        else:
            self.errors.append(("answer", path, first, body[:200]))

    def _go_away(self, last, code):
        """What has a higher number than the last was not taken."""
        self.again += [of[0] for stream, of in self.open.items() if stream > last]
        if code:
            self.errors.append(("connection", f"GOAWAY for {code}"))
        self.open = {stream: of for stream, of in self.open.items() if stream <= last}
        while self.open:
            self._frame()
        self.socket.close()
        self.socket = None
