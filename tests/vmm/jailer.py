#!/usr/bin/env python3
"""Stands in for Firecracker's `jailer`: checks its arguments as that does, makes the jail's directories, sets limits, joins
the network namespace and the control group, becomes the user, and runs the monitor. It does not change the root, since
what stands in for the monitor could not run there; VMM_ROOT tells that one where its root is."""
import os
import re
import resource
import stat
import sys

KNOWN = {"--id", "--exec-file", "--uid", "--gid", "--chroot-base-dir", "--netns", "--cgroup-version", "--cgroup",
         "--parent-cgroup", "--resource-limit"}


def fail(text):
    print(f"jailer: {text}", file=sys.stderr)
    sys.exit(1)


def main(argv):
    args = {"--chroot-base-dir": ["/srv/jailer"], "--cgroup-version": ["1"]}
    own, rest = argv, []
    if "--" in argv:
        own, rest = argv[:argv.index("--")], argv[argv.index("--") + 1:]
    while own:
        key, own = own[0], own[1:]
        if key not in KNOWN or not own:
            fail(f"unexpected argument {key}")
        args.setdefault(key, [])
        args[key] = args[key] + [own[0]] if key in ("--cgroup", "--resource-limit") else [own[0]]
        own = own[1:]
    for key in ("--id", "--exec-file", "--uid", "--gid"):
        if key not in args:
            fail(f"argument {key} is required")
    ident, program, base = args["--id"][0], args["--exec-file"][0], args["--chroot-base-dir"][0]
    name = os.path.basename(program)
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", ident):
        fail(f"invalid instance id {ident}")
    if "firecracker" not in name or not os.path.isfile(program):
        fail(f"{program}: its name must contain firecracker")
    if not os.path.isdir(base):
        fail(f"{base} is no directory")
    uid, gid = int(args["--uid"][0]), int(args["--gid"][0])
    root = os.path.join(os.path.realpath(base), name, ident, "root")
    os.makedirs(root, exist_ok=True)
    if os.path.exists(root + "/dev"):
        fail(f"the jail {root} was used before")
    if "--netns" in args:
        with open(args["--netns"][0]) as f:
            os.setns(f.fileno(), os.CLONE_NEWNET)
    for limit in args.get("--resource-limit", ["no-file=2048"]):
        key, value = limit.split("=")
        which = {"fsize": resource.RLIMIT_FSIZE, "no-file": resource.RLIMIT_NOFILE}[key]
        resource.setrlimit(which, (int(value), int(value)))
    if args["--cgroup-version"][0] == "2" and "--parent-cgroup" in args:
        with open(f"/sys/fs/cgroup/{args['--parent-cgroup'][0]}/cgroup.procs", "w") as f:
            f.write(str(os.getpid()))
    for directory in ("", "/dev", "/dev/net", "/run"):
        os.makedirs(root + directory, exist_ok=True)
        os.chmod(root + directory, 0o700)
        os.chown(root + directory, uid, gid)
    os.mknod(root + "/dev/net/tun", stat.S_IFCHR | 0o600, os.makedev(10, 200))
    os.chown(root + "/dev/net/tun", uid, gid)
    with open(root + "/firecracker.pid", "w") as f:
        f.write(str(os.getpid()))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    os.execve(program, [program, "--id", ident, "--start-time-us", "1", "--start-time-cpu-us", "1", "--parent-cpu-time-us", "1",
                        *rest], {"VMM_ROOT": root})


if __name__ == "__main__":
    main(sys.argv[1:])
