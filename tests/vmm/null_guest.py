#!/usr/bin/env python3
"""A guest without a machine: says what mentat-init says (src/guest/frame.h), with a service that writes a line to each stream
and what it is given of secrets, and runs until it is signalled, and commands that give back their input. null_guest.py VSOCK: over the socket VSOCK_4649, as
the monitor connects for its guest; without VSOCK over standard files, behind words as a kernel prints them."""
import hashlib
import signal
import socket
import struct
import sys
import zlib

MARK = b"\xf5MT\x01"
VSOCK_PORT = 4649


class Line:
    def __init__(self, vsock):
        self.buffer = b""
        if vsock:
            s = socket.socket(socket.AF_UNIX)
            s.connect(f"{vsock}_{VSOCK_PORT}")
            self.file = s.makefile("rwb", buffering=0)
            self.write = self.file.write
        else:
            self.file, self.write = sys.stdin.buffer.raw, self.write_out
            self.write(b"[    0.000000] Linux version 0 (null)\r\n")

    @staticmethod
    def write_out(data):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def send(self, kind, data=b"", ident=0, stream=0):
        head = kind.encode() + bytes([stream]) + struct.pack("<HI", len(data), ident)
        self.write(MARK + head + struct.pack("<I", zlib.crc32(head + data)) + data)

    def frames(self):
        while True:
            while len(self.buffer) >= 16 and len(self.buffer) >= 16 + struct.unpack_from("<H", self.buffer, 6)[0]:
                length, ident = struct.unpack_from("<HI", self.buffer, 6)
                frame, self.buffer = self.buffer[:16 + length], self.buffer[16 + length:]
                assert frame[:4] == MARK and zlib.crc32(frame[4:12] + frame[16:]) == struct.unpack_from("<I", frame, 12)[0]
                yield chr(frame[4]), ident, frame[16:], frame[5]
            data = self.file.read(4096)
            if not data:
                return
            self.buffer += data


def signal_of(data):
    return struct.unpack("<I", data)[0]


def records(data):
    """Of secrets: kind, name, value. A value of a variable ends with NUL."""
    assert struct.unpack_from("<I", data)[0] == len(data) - 4
    at = 4
    while at < len(data):
        length, = struct.unpack_from("<I", data, at + 1)
        kind, record = data[at:at + 1], data[at + 5:at + 5 + length]
        name, value = record.split(b"\0" if kind == b"F" else b"=", 1)
        yield kind, name, value if kind == b"F" else value[:-1]
        at += 5 + length


def main(vsock):
    line = Line(vsock)
    secrets = b""
    line.send("R", struct.pack("<I", 1))
    line.send("S", struct.pack("<III", 1, 0, 0))
    line.send("O", b"over " + (b"vsock" if vsock else b"the serial line") + b"\n", stream=1)
    line.send("O", b"trouble\n", stream=2)
    for kind, ident, data, more in line.frames():
        if kind == "P":
            secrets += data
            line.send("A", struct.pack("<I", len(data)))
            if not more:
                for record, name, value in records(secrets):
                    line.send("O", b"%s %s %s\n" % (record, name, hashlib.sha256(value).hexdigest().encode()), stream=1)
                secrets = b""
        elif kind == "K" and signal_of(data) == signal.SIGHUP:
            line.send("O", b"told\n", stream=1)
        elif kind == "K" and ident == 0:
            line.send("X", struct.pack("<III", 128 + signal_of(data), signal_of(data), 0))
        elif kind == "E":
            line.send("O", data[12:].replace(b"\0", b" ").strip() + b"\n", ident, stream=1)
        elif kind == "I" and data:
            line.send("A", struct.pack("<I", len(data)), ident)
            line.send("O", data, ident, stream=1)
        elif kind == "I":
            line.send("X", struct.pack("<III", 5, 0, 0), ident)
        elif kind == "B":
            return


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
