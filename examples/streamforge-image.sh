#!/usr/bin/env bash
# The image of examples/streamforge.yaml: a directory with nats-server, the libraries it needs, busybox, and /sbin/init, which
# starts it. Needs Debian's or Ubuntu's packages nats-server and busybox-static.
#   examples/streamforge-image.sh /srv/images/streamforge
set -euo pipefail
out=${1:?usage: streamforge-image.sh DIRECTORY}
server=$(PATH=$PATH:/usr/sbin command -v nats-server) || { echo "nats-server is not installed" >&2; exit 1; }
mkdir -p "$out"/{bin,sbin,etc,data,usr/bin}
cp "$server" "$out/usr/bin/nats-server"
cp "$(command -v busybox)" "$out/bin/busybox"
for tool in sh sed mount; do ln -sf busybox "$out/bin/$tool"; done
ldd "$server" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$out$(dirname "$library")"
    cp -L "$library" "$out$library"
done
printf 'root:x:0:0::/root:/bin/sh\n' >"$out/etc/passwd"
cat >"$out/sbin/init" <<'INIT'
#!/bin/sh
# A message is acknowledged once most replicas have written it down, but nats-server leaves it to the kernel for minutes: with
# its machine or its host, each would lose what it has promised to have. So a write returns when it is on the disk.
mount -o remount,sync /data || exit
# PEERS is "host:port,host:port" of all replicas, this one among them.
routes=$(echo "$PEERS" | sed 's/[^,][^,]*/nats:\/\/&/g')
exec /usr/bin/nats-server --addr 0.0.0.0 --port 4222 --http_port 8222 --cluster_name streamforge \
    --cluster nats://0.0.0.0:6222 --routes "$routes" --jetstream --store_dir /data "$@"
INIT
chmod 755 "$out/sbin/init"
