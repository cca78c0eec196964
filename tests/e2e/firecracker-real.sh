#!/usr/bin/env bash
# The tests of microVMs with Firecracker and its jailer themselves, where they are on PATH, /dev/kvm works, and there is a
# kernel that they can boot (docs/firecracker.md says what it needs):
#   MENTAT_GUEST_KERNEL=/path/vmlinux [MENTAT_GUEST_MODULES=/path/modules.cpio] tests/e2e/firecracker-real.sh
# Exit status 77: skipped, with the reason.
set -euo pipefail
cd "$(dirname "$0")"
skip() { echo "skipped: $1"; exit 77; }
[ "$(id -u)" -eq 0 ] || skip "needs root"
for program in firecracker jailer; do
    command -v "$program" >/dev/null || skip "$program is not on PATH"
done
firecracker --version | grep -q 'Firecracker v1\.7\.' || skip "$(firecracker --version | head -n 1) is not 1.7"
[ -r "${MENTAT_GUEST_KERNEL:-}" ] || skip "MENTAT_GUEST_KERNEL names no kernel"
[ -w /dev/kvm ] || skip "/dev/kvm cannot be used"
# Whether a guest boots here at all: one without anything panics for want of a root, which ends the monitor.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/machine.json" <<JSON
{"boot-source": {"kernel_image_path": "$MENTAT_GUEST_KERNEL", "boot_args": "console=ttyS0 reboot=k panic=1 pci=off"},
 "drives": [], "machine-config": {"vcpu_count": 1, "mem_size_mib": 128}}
JSON
timeout 60 firecracker --no-api --config-file "$work/machine.json" >"$work/console" 2>&1 </dev/null || true
grep -q 'Kernel panic' "$work/console" || skip "no guest comes up on this host's /dev/kvm: $(tail -n 1 "$work/console")"
MENTAT_REAL_FIRECRACKER=1 python3 firecracker.py
