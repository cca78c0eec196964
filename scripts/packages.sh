#!/usr/bin/env bash
# Installs the packages that Mentat is built with, or (all) tested with too, or (bench) measured beside (Debian 12 and later,
# Ubuntu 24.04). Does nothing when all are there. "a|b": a where the distribution has it, else b.
set -euo pipefail

# llhttp is the maintained parser; older distributions have only its predecessor.
build=(gcc libc6-dev make meson ninja-build pkg-config git libuv1-dev libjansson-dev libyaml-dev libssl-dev
       liblmdb-dev libxxhash-dev libbsd-dev uthash-dev libcap-dev libseccomp-dev zlib1g-dev libzstd-dev
