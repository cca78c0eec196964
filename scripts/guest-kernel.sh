#!/usr/bin/env bash
# Makes what microVMs boot with out of a distribution's kernel, where no kernel of one's own is at hand:
#
#   scripts/guest-kernel.sh DIRECTORY [VMLINUZ]
#
# writes DIRECTORY/vmlinux (uncompressed, as Firecracker wants it) and DIRECTORY/modules.cpio (the drivers that it has as
# modules, in the order in which mentat-init loads them). They are `firecracker.kernel` and `firecracker.modules` of
# agent.yaml. VMLINUZ: default the newest in /boot whose modules are installed. Does nothing when both are newer.
#
# Firecracker 1.7 tells a guest of its devices on the kernel's command line (CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES), which
# Debian's and Ubuntu's kernels do not read: with those, this script says so, and only a machine with ACPI can boot them.
set -euo pipefail
export LC_ALL=C
out=${1:?usage: guest-kernel.sh DIRECTORY [VMLINUZ]}
modules=(virtio_mmio virtio_blk virtio_net virtio_rng vmw_vsock_virtio_transport squashfs ext4 overlay af_packet)

kernel=${2:-}
if [ -z "$kernel" ]; then
    for k in $(ls -1v /boot/vmlinuz-* 2>/dev/null); do
        [ ! -d "/lib/modules/${k#/boot/vmlinuz-}" ] || kernel=$k
    done
fi
[ -n "$kernel" ] || { echo "no kernel with modules is installed; scripts/packages.sh all installs one" >&2; exit 1; }
[ -r "$kernel" ] || { echo "$kernel cannot be read by this user" >&2; exit 1; }
version=${kernel##*/vmlinuz-}
mkdir -p "$out"
[ "$out/vmlinux" -nt "$kernel" ] && [ "$out/modules.cpio" -nt "$kernel" ] && [ "$out/vmlinux" -nt "$0" ] && exit 0
work=$(mktemp -d "$out/new.XXXXXX")
trap 'rm -rf "$work"' EXIT

# try MAGIC COMMAND…: the first place with these bytes from which the command makes an ELF file.
try() {
    local magic=$1 offset
    shift
    command -v "$1" >/dev/null || return 1
    for offset in $(grep -abo -P "$magic" "$kernel" | cut -d: -f1); do
        tail -c +$((offset + 1)) "$kernel" | "$@" >"$work/vmlinux" 2>/dev/null || true
        [ "$(head -c 4 "$work/vmlinux" | tail -c 3)" != ELF ] || return 0
    done
    return 1
}
try '\x1f\x8b\x08' gzip -dc || try '\xfd7zXZ\x00' xz -dc || try '\x28\xb5\x2f\xfd' zstd -dc ||
    try '\x02\x21\x4c\x18' lz4 -dc || try 'BZh' bzip2 -dc || try '\x89LZO' lzop -dc ||
    { echo "cannot unpack $kernel: its compression is none of gzip, xz, zstd, lz4, bzip2, lzo, or the tool is missing" >&2; exit 1; }

# --- modules: each with what it needs, once, in that order ---
mkdir -p "$work/root/modules"
for module in "${modules[@]}"; do
    modprobe --show-depends -S "$version" "$module" 2>/dev/null || true
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r path; do
    name=$(basename "$path")
    case $name in
    *.xz) name=${name%.xz}; xz -dc "$path" ;;
    *.zst) name=${name%.zst}; zstd -dcq "$path" ;;
    *.gz) name=${name%.gz}; gzip -dc "$path" ;;
    *) cat "$path" ;;
    esac >"$work/module"
    mv "$work/module" "$work/root/modules/$name"
    echo "$name" >>"$work/root/modules/order"
done
touch "$work/root/modules/order"
(cd "$work/root" && find modules | sort | cpio --quiet -o -H newc -R 0:0) >"$work/modules.cpio"

config=/boot/config-$version
if [ -r "$config" ] && ! grep -q '^CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y' "$config"; then
    echo "note: $kernel does not read its devices from the command line; Firecracker 1.7 needs a kernel that does" >&2
fi
mv "$work/modules.cpio" "$work/vmlinux" "$out/"
