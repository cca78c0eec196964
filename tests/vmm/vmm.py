#!/usr/bin/env python3
"""Stands in for `firecracker`: serves its API on a unix socket (api.py) and, at InstanceStart, boots the same kernel,
initial file system, drives and tap under QEMU's microvm machine in software, with the serial line on its own standard
files, as the real one has it. There is no vsock device behind /vsock: the guest finds none.

Settings by environment: VMM_ROOT (set by the jailer: paths are below it), VMM_RECORD (file to which each request is
appended, a line of JSON), VMM_NULL (no guest is booted: null_guest.py says what one would, over vsock when that is
configured), VMM_QEMU (more arguments), VMM_METRICS_S (how often metrics are written; the real one: 60 s)."""
import ctypes
import json
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import api  # noqa: E402

VERSION = "1.7.0"
PR_SET_PDEATHSIG = 1
# Of a guest that is played.
NULL_MEMORY = {"swap_in": 0, "swap_out": 0, "major_faults": 12, "minor_faults": 3456, "free_memory": 41_000_000, "total_memory": 96_000_000,
               "available_memory": 62_000_000, "disk_caches": 8_000_000, "hugetlb_allocations": 0, "hugetlb_failures": 0}


def arguments(argv):
    known = {"--id", "--api-sock", "--start-time-us", "--start-time-cpu-us", "--parent-cpu-time-us"}
    out = {"--id": "anonymous-instance", "--api-sock": "/run/firecracker.socket"}
    rest = list(argv)
    while rest:
        key = rest.pop(0)
        if key == "--version":
            print(f"Firecracker v{VERSION}\n")
            sys.exit(0)
        if key not in known or not rest:
            print(f"Arguments parsing error: unexpected argument '{key}'", file=sys.stderr)
            sys.exit(153)
        out[key] = rest.pop(0)
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", out["--id"]):
        print("Invalid instance ID", file=sys.stderr)
        sys.exit(153)
    return out


def host_khz():
    with open("/proc/cpuinfo") as f:
        found = re.search(r"^cpu MHz\s*: ([0-9.]+)", f.read(), re.M)
    return int(float(found.group(1)) * 1000) if found else 2000000


def qemu_command(m):
    """The reference for each part is what the real one does with the same configuration."""
    # A distribution's kernel finds its devices by ACPI alone, and there the keyboard controller too.
    args = " ".join(a for a in m.boot.get("boot_args", "").split() if a != "i8042.nopnp" and a != "pci=off")
    # A guest on a busy host would take its TSC for unstable, and go by ticks from then on, of which it misses some.
    args = args.replace("reboot=k", "reboot=t") + f" tsc_early_khz={host_khz()} tsc=reliable"
    command = ["qemu-system-x86_64", "-M", "microvm,acpi=on,pcie=off,rtc=on", "-accel", "tcg", "-cpu", "max",
               "-m", str(m.config["mem_size_mib"]), "-smp", str(m.config["vcpu_count"]), "-nodefaults", "-no-user-config",
               "-display", "none", "-no-reboot", "-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial",
               "-kernel", m.path(m.boot["kernel_image_path"]), "-append", args]
    if "initrd_path" in m.boot:
        command += ["-initrd", m.path(m.boot["initrd_path"])]
    # The root drive comes first, the others in the order in which they were put.
    for d in sorted(m.drives, key=lambda d: not d["is_root_device"]):
        cache = "writeback" if d.get("cache_type") == "Writeback" else "unsafe"
        command += ["-drive", f"id={d['drive_id']},file={m.path(d['path_on_host'])},format=raw,if=none,cache={cache},"
                    f"readonly={'on' if d['is_read_only'] else 'off'}", "-device", f"virtio-blk-device,drive={d['drive_id']}"]
    for n in m.interfaces:
        command += ["-netdev", f"tap,id={n['iface_id']},fd={m.taps[n['iface_id']]}",
                    "-device", f"virtio-net-device,netdev={n['iface_id']},mac={n.get('guest_mac', '06:00:00:00:00:01')}"]
    if m.entropy:
        command += ["-device", "virtio-rng-device"]
    return command + ["-device", "i8042"] + shlex.split(os.environ.get("VMM_QEMU", ""))


def connect(path):
    """QEMU makes the socket when it begins."""
    for _ in range(3000):
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(path)
            return s
        except OSError:
            s.close()
            time.sleep(0.01)
    raise api.Fault("the guest does not come up")


class Monitor:
    def __init__(self, args):
        root = os.environ.get("VMM_ROOT", "")
        self.machine = api.Machine(root, self)
        self.id, self.guest, self.broken, self.control = args["--id"], None, False, None
        self.control_path = os.path.join(os.path.dirname(root + args["--api-sock"]), "qmp")
        path = root + args["--api-sock"] if root else args["--api-sock"]
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(8)
        self.connections = {}
        self.flush_s = float(os.environ.get("VMM_METRICS_S", "60"))
        # A child's end wakes the loop.
        self.wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *a: None)

    def boot(self, machine, *more):
        libc = ctypes.CDLL(None)
        command = [*qemu_command(machine), "-qmp", f"unix:{self.control_path},server=on,wait=off", *more]
        if os.environ.get("VMM_NULL"):
            vsock = machine.path(machine.vsock["uds_path"]) if machine.vsock else ""
            command = [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "null_guest.py"), vsock]
        self.guest = subprocess.Popen(command, stdin=0, stdout=1, stderr=2, pass_fds=machine.taps.values(),
                                      env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
                                      preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))

    def pause(self, paused):
        if os.environ.get("VMM_NULL"):
            os.kill(self.guest.pid, signal.SIGSTOP if paused else signal.SIGCONT)
        else:
            self.qmp("stop" if paused else "cont")

    def save(self, path):
        """Large pages of nothing cost nothing, so it takes a part of a second."""
        self.qmp("migrate", uri=f"exec:cat >{path}")
        while (status := self.qmp("query-migrate")["status"]) not in ("completed", "failed"):
            time.sleep(0.01)
        if status == "failed":
            raise api.Fault("Cannot write the memory of the microVM")

    def load(self, machine, path):
        self.boot(machine, "-S", "-incoming", f"exec:cat {path}")
        while (status := self.qmp("query-status")["status"]) == "inmigrate":
            time.sleep(0.01)
        if status not in ("paused", "prelaunch"):
            raise api.Fault(f"Load microVM snapshot error: {status}")

    def memory(self):
        """As the guest's kernel tells it by its balloon, which QEMU is given none of here."""
        return NULL_MEMORY if os.environ.get("VMM_NULL") else {}

    def qmp(self, command, **arguments):
        """One command to QEMU; its answer."""
        if not self.control:
            self.control = connect(self.control_path).makefile("rw")
            self.control.readline()
            self.qmp("qmp_capabilities")
        self.control.write(json.dumps({"execute": command, "arguments": arguments}))
        self.control.flush()
        for line in self.control:
            answer = json.loads(line)
            if "event" not in answer:
                if "error" in answer:
                    raise api.Fault(answer["error"]["desc"])
                return answer["return"]
        raise api.Fault("the guest has ended")

    def record(self, method, path, body):
        if os.environ.get("VMM_RECORD"):
            with open(os.environ["VMM_RECORD"], "a") as f:
                f.write(json.dumps({"id": self.id, "method": method, "path": path, "body": body}) + "\n")

    def request(self, method, path, raw):
        """Status and body of the answer."""
        try:
            body = json.loads(raw) if raw else None
            self.record(method, path, body)
            if method == "GET" and path == "/":
                state = "Paused" if self.machine.paused else "Running" if self.machine.started else "Not started"
                return 200, json.dumps({"id": self.id, "state": state, "vmm_version": VERSION, "app_name": "Firecracker"})
            if method == "GET" and path == "/balloon/statistics":
                return 200, json.dumps(self.machine.get_balloon_statistics())
            if method == "PATCH" and path in ("/vm", "/balloon", "/balloon/statistics"):
                getattr(self.machine, "patch_" + path[1:].replace("/", "_"))(body)
                return 204, ""
            if method != "PUT":
                raise api.Fault(f"Invalid request method and/or path: {method} {path}.")
            if body is None:
                raise api.Fault("Empty PUT request.")
            self.machine.put(path, body)
            return 204, ""
        except (api.Fault, ValueError) as e:
            return 400, json.dumps({"fault_message": str(e)})

    def readable(self, c):
        data = c.recv(65536)
        if not data:
            self.connections.pop(c)
            c.close()
            return
        buffer = self.connections[c] = self.connections[c] + data
        head, separator, rest = buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        lines = head.decode().split("\r\n")
        length = next((int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")), 0)
        if length > api.BODY_MAX:
            c.sendall(b"HTTP/1.1 400 \r\nContent-Length: 0\r\n\r\n")
            return
        if len(rest) < length:
            return
        method, path, _ = lines[0].split(" ", 2)
        self.connections[c] = rest[length:]
        status, body = self.request(method, path, rest[:length].decode())
        words = {200: "OK", 204: "No Content", 400: "Bad Request"}[status]
        length = "" if status == 204 else f"Content-Length: {len(body)}\r\n"
        c.sendall(f"HTTP/1.1 {status} {words}\r\nServer: Firecracker API\r\nConnection: keep-alive\r\n{length}\r\n{body}".encode())

    def run(self):
        flush_at = None
        while not self.broken and (self.guest is None or self.guest.poll() is None):
            now = time.monotonic()
            if self.guest and flush_at is None:
                flush_at = now + self.flush_s
            if flush_at is not None and now >= flush_at:
                self.machine.flush_metrics()
                flush_at = now + self.flush_s
            ready, _, _ = select.select([self.listener, self.wake, *self.connections], [], [],
                                        None if flush_at is None else flush_at - now)
            for r in ready:
                if r is self.wake:
                    os.read(self.wake, 64)
                elif r is self.listener:
                    self.connections[self.listener.accept()[0]] = b""
                else:
                    self.readable(r)
        return 0 if self.guest and self.guest.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(Monitor(arguments(sys.argv[1:])).run())
