#!/usr/bin/env bash
# Installs the packages that Mentat is built with, or (all) tested with too, or (bench) measured beside (Debian 12 and later,
# Ubuntu 24.04). Does nothing when all are there. "a|b": a where the distribution has it, else b.
set -euo pipefail

# llhttp is the maintained parser; older distributions have only its predecessor.
build=(gcc libc6-dev make meson ninja-build pkg-config git libuv1-dev libjansson-dev libyaml-dev libssl-dev
       liblmdb-dev libxxhash-dev libbsd-dev uthash-dev libcap-dev libseccomp-dev zlib1g-dev libzstd-dev
       'libllhttp-dev|libhttp-parser-dev' musl-tools linux-libc-dev)
tests=(libcmocka-dev python3 openssl curl iproute2 procps jq docker.io iptables busybox-static docker-registry
       zsh fish mandoc qemu-system-x86 cpio
       squashfs-tools e2fsprogs nftables kmod xz-utils zstd nats-server haproxy uacme nghttp2-client wrk
       mmdebstrap debootstrap)
bench=(jq etcd-server haproxy wrk)
# Hosts with systemd that are installed, and published to.
tests+=(systemd systemd-container openssh-client openssh-sftp-server dropbear-bin e2fsprogs)
# Ubuntu 24.04 has no package of it; the test that uses it says that it is skipped.
grep -q '^ID=ubuntu' /etc/os-release || tests+=(awscli)
# To boot small hosts with, where the machine has no kernel of its own (a container, say).
ls /boot/vmlinuz-* >/dev/null 2>&1 || tests+=('linux-image-cloud-amd64|linux-image-virtual')

case "${1:-build}" in
build) want=("${build[@]}") ;;
all)   want=("${build[@]}" "${tests[@]}") ;;
bench) want=("${build[@]}" "${bench[@]}") ;;
*)     echo "usage: $0 [build|all|bench]" >&2; exit 2 ;;
esac

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }
# choose TEST A|B: the first that passes; false when none does.
choose() { local p; for p in ${2//|/ }; do if "$1" "$p"; then echo "$p"; return; fi; done; return 1; }
offered() { apt-cache show "$1" >/dev/null 2>&1; }

missing=()
for p in "${want[@]}"; do
    choose installed "$p" >/dev/null || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=()
[ "$(id -u)" -eq 0 ] || sudo=(sudo)
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
install=()
for p in "${missing[@]}"; do
    install+=("$(choose offered "$p")") || { echo "this distribution has no package $p" >&2; exit 1; }
done
echo "installing: ${install[*]}"
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${install[@]}" >/dev/null
