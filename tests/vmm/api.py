"""What Firecracker 1.7's API takes, as far as the driver speaks it, and the order in which it takes it. A request that the
real one would refuse is refused here, with the same status: an unknown field, a wrong type, a missing file, a second
start."""
import fcntl
import json
import os
import re
import stat
import struct

import metrics

TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x2, 0x1000, 0x4000
BODY_MAX = 51200
BOOT_ARGS_MAX = 2048


class Fault(Exception):
    pass


def text(v):
    return isinstance(v, str)


def flag(v):
    return isinstance(v, bool)


def whole(v):
    return isinstance(v, int) and not isinstance(v, bool) and v >= 0


def one_of(*words):
    return lambda v: v in words


def fields(required, **kinds):
    """A check of an object: every field known and of its kind, the required ones there."""
    def check(v):
        if not isinstance(v, dict):
            return False
        for key, value in v.items():
            if key not in kinds:
                raise Fault(f"unknown field `{key}`, expected one of {', '.join(kinds)}")
            if not kinds[key](value):
                raise Fault(f"invalid value of `{key}`: {value!r}")
        for key in required.split():
            if key not in v:
                raise Fault(f"missing field `{key}`")
        return True
    return check


BUCKET = fields("size refill_time", size=whole, one_time_burst=whole, refill_time=whole)
LIMITER = fields("", bandwidth=BUCKET, ops=BUCKET)
BODIES = {
    "/logger": fields("", log_path=text, level=one_of("Error", "Warning", "Info", "Debug", "Trace", "Off"), show_level=flag,
                      show_log_origin=flag, module=text),
    "/metrics": fields("metrics_path", metrics_path=text),
    "/machine-config": fields("mem_size_mib vcpu_count", mem_size_mib=whole, vcpu_count=whole, smt=flag,
                              track_dirty_pages=flag, cpu_template=text, huge_pages=one_of("None", "2M")),
    "/boot-source": fields("kernel_image_path", kernel_image_path=text, initrd_path=text, boot_args=text),
    "/drives/": fields("drive_id is_root_device path_on_host is_read_only", drive_id=text, is_root_device=flag,
                       path_on_host=text, is_read_only=flag, cache_type=one_of("Unsafe", "Writeback"),
                       io_engine=one_of("Sync", "Async"), rate_limiter=LIMITER, partuuid=text, socket=text),
    "/network-interfaces/": fields("iface_id host_dev_name", iface_id=text, host_dev_name=text, guest_mac=text,
                                   rx_rate_limiter=LIMITER, tx_rate_limiter=LIMITER),
    "/mmds/config": fields("network_interfaces", version=one_of("V1", "V2"), ipv4_address=text,
                           network_interfaces=lambda v: isinstance(v, list) and v and all(map(text, v))),
    "/snapshot/create": fields("mem_file_path snapshot_path", mem_file_path=text, snapshot_path=text,
                               snapshot_type=one_of("Full", "Diff")),
    "/snapshot/load": fields("snapshot_path mem_backend", snapshot_path=text, enable_diff_snapshots=flag, resume_vm=flag,
                             mem_backend=fields("backend_type backend_path", backend_type=one_of("File", "Uffd"),
                                                backend_path=text)),
    "/mmds": lambda v: isinstance(v, dict),
    "/entropy": fields("", rate_limiter=LIMITER),
    "/balloon": fields("amount_mib deflate_on_oom", amount_mib=whole, deflate_on_oom=flag, stats_polling_interval_s=whole),
    "/vsock": fields("guest_cid uds_path", guest_cid=whole, uds_path=text, vsock_id=text),
    "/actions": fields("action_type", action_type=one_of("FlushMetrics", "InstanceStart", "SendCtrlAltDel")),
}


def tap_open(device, name):
    """As a user who may make none: it must be there, in this network namespace, and be the user's."""
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    except OSError:
        os.close(fd)
        raise
    return fd


class Machine:
    """The state of one monitor. root: what its paths are below, with a jailer. guest: boot(machine) starts one, pause(True) lets it
    stand still, save(path) writes its memory, and load(machine, path) makes it of that, standing still."""
    kept = ("config", "boot", "drives", "interfaces", "vsock", "metadata_for", "entropy", "balloon")

    def __init__(self, root, guest):
        self.root, self.guest, self.paused = root, guest, False
        self.config = {"vcpu_count": 1, "mem_size_mib": 128}
        self.boot, self.drives, self.interfaces, self.vsock = None, [], [], None
        self.metadata_for, self.metadata, self.metrics = None, None, None
        self.taps = {}                   # descriptors by interface
        self.entropy = self.started = self.logged = False
        self.balloon = None

    def path(self, p):
        return self.root + p if self.root and p.startswith("/") else p

    def readable(self, p, what, write=False):
        real = self.path(p)
        try:
            with open(real, "r+b" if write else "rb") as f:
                if not stat.S_ISREG(os.fstat(f.fileno()).st_mode):
                    raise Fault(f"{what}: {p} is no file")
                return f.read(4)
        except OSError as e:
            raise Fault(f"{what}: {p}: {e.strerror}")

    def put(self, path, body):
        base, ident = path, None
        if path.startswith(("/drives/", "/network-interfaces/")):
            base, ident = path.rsplit("/", 1)
            base += "/"
            if not re.fullmatch(r"[A-Za-z0-9_]+", ident):
                raise Fault(f"invalid id {ident!r}")
        if base not in BODIES:
            raise Fault(f"Invalid request method and/or path: PUT {path}.")
        if not BODIES[base](body):
            raise Fault("the body is no object")
        if ident is not None and body.get("drive_id", body.get("iface_id")) != ident:
            raise Fault("The id from the path does not match the id from the body!")
        if self.started and base not in ("/actions", "/mmds", "/snapshot/create"):
            raise Fault("The requested operation is not supported after starting the microVM.")
        getattr(self, "put_" + re.sub("[-/]", "_", base.strip("/")))(body)

    def patch_vm(self, body):
        fields("state", state=one_of("Paused", "Resumed"))(body)
        if not self.started:
            raise Fault("The requested operation is not supported before starting the microVM.")
        self.paused = body["state"] == "Paused"
        self.guest.pause(self.paused)

    def put_snapshot_create(self, b):
        if not self.paused:
            raise Fault("Cannot save the microVM state: the microVM is not paused.")
        for key in ("snapshot_path", "mem_file_path"):
            self.readable(b[key], key, write=True)
        with open(self.path(b["snapshot_path"]), "w") as f:
            json.dump({k: getattr(self, k) for k in self.kept}, f)
        self.guest.save(self.path(b["mem_file_path"]))

    def put_snapshot_load(self, b):
        if self.boot or self.drives or self.interfaces or self.vsock:
            raise Fault("Loading a microVM snapshot not allowed after configuring boot-specific resources.")
        if b["mem_backend"]["backend_type"] != "File":
            raise Fault("only a file is known here")
        for key in (b["snapshot_path"], b["mem_backend"]["backend_path"]):
            self.readable(key, "snapshot")
        try:
            with open(self.path(b["snapshot_path"])) as f:
                kept = json.load(f)
        except ValueError:
            self.guest.broken = True
            raise Fault("Load microVM snapshot error: failed to restore: crc mismatch")
        self.config, self.boot, self.entropy, self.balloon = (kept[k] for k in ("config", "boot", "entropy", "balloon"))
        for d in kept["drives"]:
            self.put_drives(d)
        for n in kept["interfaces"]:
            self.put_network_interfaces(n)
        if kept["metadata_for"]:
            self.put_mmds_config(kept["metadata_for"])
        if kept["vsock"]:
            self.put_vsock(kept["vsock"])
        self.started = self.paused = True
        self.guest.load(self, self.path(b["mem_backend"]["backend_path"]))

    def put_logger(self, b):
        if self.logged:
            raise Fault("Logger is already initialized")
        self.logged = True
        self.readable(b["log_path"], "logger", write=True)

    def put_metrics(self, b):
        if self.metrics:
            raise Fault("Metrics are already initialized")
        try:
            self.metrics = metrics.Metrics(self.path(b["metrics_path"]))
        except OSError as e:
            raise Fault(f"metrics: {b['metrics_path']}: {e.strerror}")

    def put_machine_config(self, b):
        if not 1 <= b["vcpu_count"] <= 32 or b["mem_size_mib"] < 1:
            raise Fault("The vCPU number or memory size is invalid")
        self.config = b

    def put_boot_source(self, b):
        if self.readable(b["kernel_image_path"], "kernel") != b"\x7fELF":
            raise Fault("The kernel image is no ELF file")
        if "initrd_path" in b:
            self.readable(b["initrd_path"], "initrd")
        if len(b.get("boot_args", "")) > BOOT_ARGS_MAX:
            raise Fault("The kernel command line is too long")
        self.boot = b

    def put_drives(self, b):
        self.readable(b["path_on_host"], f"drive {b['drive_id']}", write=not b["is_read_only"])
        if b["is_root_device"] and any(d["is_root_device"] for d in self.drives):
            raise Fault("A root block device already exists")
        self.drives = [d for d in self.drives if d["drive_id"] != b["drive_id"]] + [b]

    def put_network_interfaces(self, b):
        if b["iface_id"] in self.taps:
            raise Fault(f"The network interface {b['iface_id']} was added before")
        try:
            self.taps[b["iface_id"]] = tap_open(self.path("/dev/net/tun"), b["host_dev_name"])
        except OSError as e:
            raise Fault(f"Open tap device failed: {b['host_dev_name']}: {e.strerror}")
        if "guest_mac" in b and not re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", b["guest_mac"]):
            raise Fault("the MAC address is invalid")
        self.interfaces.append(b)

    def put_mmds_config(self, b):
        unknown = set(b["network_interfaces"]) - {n["iface_id"] for n in self.interfaces}
        if unknown:
            raise Fault(f"The list of network interface IDs provided contains at least one ID that does not correspond to any "
                        f"existing network interface: {unknown}")
        if not re.fullmatch(r"169\.254\.\d+\.\d+", b.get("ipv4_address", "169.254.169.254")):
            raise Fault("The MMDS IPv4 address is not link local.")
        self.metadata_for = b

    def put_mmds(self, b):
        if not self.metadata_for:
            raise Fault("The MMDS data store is not initialized.")
        self.metadata = b

    def patch_balloon(self, body):
        fields("amount_mib", amount_mib=whole)(body)
        if not self.started:
            raise Fault("The requested operation is not supported before starting the microVM.")
        if not self.balloon:
            raise Fault("Balloon device not found.")
        self.put_balloon({**self.balloon, **body})

    def check_statistics(self):
        if not self.started:
            raise Fault("The requested operation is not supported before starting the microVM.")
        if not self.balloon:
            raise Fault("Balloon device not found.")
        if not self.balloon.get("stats_polling_interval_s"):
            raise Fault("Statistics for the balloon device are not enabled")

    def get_balloon_statistics(self):
        """What the balloon is to hold and holds; the rest only once the guest's kernel has told it."""
        self.check_statistics()
        memory = self.guest.memory()
        target, actual = self.balloon["amount_mib"], self.balloon["amount_mib"] if memory else 0
        return {"target_pages": target * 256, "actual_pages": actual * 256, "target_mib": target, "actual_mib": actual, **memory}

    def patch_balloon_statistics(self, body):
        fields("stats_polling_interval_s", stats_polling_interval_s=whole)(body)
        self.check_statistics()
        if not body["stats_polling_interval_s"]:
            raise Fault("Statistics for the balloon device cannot be switched off after the start")
        self.balloon |= body

    def put_entropy(self, b):
        self.entropy = True

    def put_balloon(self, b):
        if b["amount_mib"] > self.config["mem_size_mib"]:
            raise Fault("Amount of pages requested cannot be greater than the guest memory")
        self.balloon = b

    def put_vsock(self, b):
        if b["guest_cid"] < 3:
            raise Fault("the guest's CID is invalid")
        if os.path.exists(self.path(b["uds_path"])):
            raise Fault("Error binding to the host-side Unix socket: address in use")
        self.vsock = b

    def put_actions(self, b):
        if b["action_type"] == "FlushMetrics":
            self.flush_metrics()
            return
        if b["action_type"] != "InstanceStart":
            raise Fault(f"{b['action_type']} is not supported here")
        if self.started:
            raise Fault("The microVM is already running.")
        if not self.boot:
            raise Fault("Cannot start microvm without kernel configuration.")
        self.started = True
        self.guest.boot(self)
        self.flush_metrics()

    def flush_metrics(self):
        if self.metrics:
            self.metrics.flush([d["drive_id"] for d in self.drives], [n["iface_id"] for n in self.interfaces])
