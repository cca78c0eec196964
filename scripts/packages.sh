#!/usr/bin/env bash
# Installs the packages that Mentat is built and tested with (Debian 12, Ubuntu 24.04). Does nothing when all are there.
set -euo pipefail

build=(gcc make meson ninja-build pkg-config git libuv1-dev libjansson-dev libyaml-dev libssl-dev
       liblmdb-dev libxxhash-dev libbsd-dev uthash-dev libcap-dev libseccomp-dev)
tests=(libcmocka-dev python3 curl iproute2 procps jq docker.io iptables busybox-static docker-registry zsh fish mandoc)
# llhttp is the maintained parser; older distributions have only its predecessor.
if apt-cache show libllhttp-dev >/dev/null 2>&1; then build+=(libllhttp-dev); else build+=(libhttp-parser-dev); fi

case "${1:-build}" in
build) want=("${build[@]}") ;;
all)   want=("${build[@]}" "${tests[@]}") ;;
*)     echo "usage: $0 [build|all]" >&2; exit 2 ;;
esac

missing=()
for p in "${want[@]}"; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=()
[ "$(id -u)" -eq 0 ] || sudo=(sudo)
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
