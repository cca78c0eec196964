#!/usr/bin/env bash
# Limits of tasks on a host that has only cgroup v2. The machine that runs the tests may mount v1 or both, so a small host
# of its own is booted under QEMU in software (no KVM): a distribution's kernel, a root file system in memory with
# busybox, the three programs and the unit tests of tasks, and guest.sh as its first process. guest.sh prints "ok …" and
# "not ok …" on the serial console, which is this test's output. Takes about a minute on a quiet machine.
#
#   tests/e2e/cgroup-v2/host.sh [BUILD [docker]]     BUILD: where the programs were built; default: build
#
# With "docker" the host has a Docker engine too, and docker.sh looks at the limits of containers instead.
# Needs qemu-system-x86, busybox-static, cpio and a kernel in /boot (scripts/packages.sh all). Exit status 77: skipped,
# with the reason.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:-$here/../../../build}" && pwd)
part=${2:-}
patience=${MENTAT_TEST_PATIENCE:-1}

skip() { echo "skipped: $1"; exit 77; }
for program in qemu-system-x86_64 busybox cpio strip; do
    command -v "$program" >/dev/null || skip "$program is not installed; scripts/packages.sh all does that"
done
kernel=$(ls -1v /boot/vmlinuz-* 2>/dev/null | tail -n 1)
[ -n "$kernel" ] || skip "there is no kernel in /boot; scripts/packages.sh all installs one"
[ -r "$kernel" ] || skip "$kernel cannot be read by this user"
file -L "$(command -v busybox)" 2>/dev/null | grep -q 'dynamically' && skip "busybox is not static; install busybox-static"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# --- the root file system ---
root=$work/root
mkdir -p "$root"/{bin,dev,proc,sys,etc,tmp,var/lib,root,lib64}
cp "$(command -v busybox)" "$root/bin/busybox"
for name in mt mentat-server mentat-agent; do
    strip -o "$root/bin/$name" "$build/bin/$name"
done
# Dynamic programs bring their libraries, at their own paths: the unit tests, and what busybox's own is too little for.
dynamic=("$build/tests/unit/agent_task/test-agent-task" "$(command -v seq)" "$(command -v sh)")
memory=512
if [ "$part" = docker ]; then
    dynamic=("$(command -v seq)" "$(command -v sh)")
    memory=1536
    for program in dockerd containerd containerd-shim-runc-v2 runc curl; do
        command -v "$program" >/dev/null || skip "$program is not installed; scripts/packages.sh all does that"
        dynamic+=("$(command -v "$program")")
    done
fi
for program in "${dynamic[@]}"; do
    strip -o "$root/bin/$(basename "$program")" "$program"
    ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
done
cp "$here/guest.sh" "$root/init"
cp "$here/docker.sh" "$root/docker.sh"
chmod 755 "$root/init"
printf 'root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
(cd "$root" && find . -print0 | cpio --quiet -0 -o -H newc) >"$work/initrd"

# --- the machine ---
# Without the clock's rate most boots hang while it is measured.
khz=$(awk -F: '/^cpu MHz/ { printf "%d", $2 * 1000; exit }' /proc/cpuinfo)
console=$work/console
status=0
timeout $((${patience%.*} * 600)) qemu-system-x86_64 -M microvm,acpi=on,pcie=off,rtc=on -accel tcg -cpu max -m "$memory" -smp 1 \
    -nodefaults -no-user-config -display none -serial "file:$console" -no-reboot \
    -kernel "$kernel" -initrd "$work/initrd" \
    -append "console=ttyS0 reboot=t panic=1 quiet tsc_early_khz=${khz:-2000000} patience=${patience%.*} part=$part" \
    </dev/null || status=$?

tr -d '\r' <"$console"
[ "$status" -eq 0 ] || { echo "the machine did not come to its end (status $status); its console is above"; exit 1; }
grep -q '^all done: 0 failed' "$console"
