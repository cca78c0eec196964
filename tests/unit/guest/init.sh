#!/bin/sh
# mentat-init is static, below 200 KB, and does nothing outside a guest but say so.
set -eu
size=$(wc -c <"$1")
[ "$size" -lt 204800 ] || { echo "mentat-init has $size bytes"; exit 1; }
if readelf -l "$1" | grep -q INTERP; then echo "mentat-init is not static"; exit 1; fi
