#!/usr/bin/env bash
# The image of examples/oxidestore.yaml: a directory with OpenStack Swift and its S3 interface, out of the packages of Debian
# 12 or Ubuntu 24.04. Needs the package mmdebstrap and, to unpack as root, root; nothing of Swift is installed on the host.
#   examples/oxidestore-image.sh /srv/images/oxidestore
set -euo pipefail
out=${1:?usage: oxidestore-image.sh DIRECTORY}
. /etc/os-release
mmdebstrap --quiet --variant=extract --include=swift-proxy,swift-account,swift-container,swift-object,memcached \
    "$VERSION_CODENAME" "$out"
# A guest makes its own devices.
rm -rf "$out"/dev/* "$out"/usr/share/{doc,man,locale,info,perl} "$out"/etc/swift/*.conf
# As the packages' own scripts would have done: else each start compiles it all.
chroot "$out" python3 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3/dist-packages
printf 'root:x:0:0::/root:/bin/sh\nswift:x:100:100::/:/bin/sh\n' >"$out/etc/passwd"
printf 'root:x:0:\nswift:x:100:\n' >"$out/etc/group"
mkdir -p "$out"/{data,proc,run,var/backups/swift}

# Each kind of what is stored has a ring that says where it is: here, all of it once, on the volume.
port=6200
for ring in object container account; do
    chroot "$out" swift-ring-builder "/etc/swift/$ring.builder" create 8 1 1 >/dev/null
    chroot "$out" swift-ring-builder "/etc/swift/$ring.builder" add "r1z1-127.0.0.1:$port/volume" 1 >/dev/null
    chroot "$out" swift-ring-builder "/etc/swift/$ring.builder" rebalance 1 >/dev/null || [ $? -eq 1 ]
    cat >"$out/etc/swift/$ring-server.conf" <<CONF
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $port
workers = 0
devices = /data
mount_check = false
log_level = WARNING
conn_timeout = 30
node_timeout = 60
# An object is listed before its request is answered, however long that takes.
container_update_timeout = 60
[pipeline:main]
pipeline = $ring-server
[app:$ring-server]
use = egg:swift#$ring
CONF
    port=$((port + 1))
done
cat >"$out/etc/swift/swift.conf" <<'CONF'
[swift-hash]
swift_hash_path_prefix = oxide
swift_hash_path_suffix = store
CONF
cat >"$out/etc/swift/proxy-server.conf.in" <<'CONF'
[DEFAULT]
bind_ip = 0.0.0.0
bind_port = 8080
workers = 0
log_level = WARNING
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats s3api tempauth copy slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
conn_timeout = 30
node_timeout = 60
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:11211
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
[filter:tempauth]
use = egg:swift#tempauth
user_oxidestore_admin = @SECRET_KEY@ .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
CONF

cat >"$out/sbin/init" <<'INIT'
#!/usr/bin/python3
"""Swift's four servers and a memcached for what they know of each other, from one process, so that their code is
loaded once. When one of them ends, so does this, and the machine with all."""
import os
import signal
import sys

os.environ["EVENTLET_NO_GREENDNS"] = "yes"      # nobody is asked for by name, and it is a third of all code
import swift.account.server, swift.container.server, swift.obj.server, swift.proxy.server  # noqa: E401, E402, F401
from swift.common.db import DatabaseBroker  # noqa: E402
from swift.common.wsgi import run_wsgi  # noqa: E402

note = DatabaseBroker.put_record


def put_record(self, record):
    """Swift notes what a bucket holds in a file that is not flushed, since other copies of it have it too. Here is only
    this one: each note goes into the bucket's database, on disk, before the request is answered."""
    note(self, record)
    self._commit_puts_stale_ok()


DatabaseBroker.put_record = put_record

# With the key in it: in memory, for Swift's user alone.
CONF = "/run/proxy-server.conf"
with open("/etc/swift/proxy-server.conf.in") as template, open(os.environ["MENTAT_SECRETS_DIR"] + "/key") as key, \
        open(os.open(CONF, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400), "w") as conf:
    conf.write(template.read().replace("@SECRET_KEY@", key.read().strip()))
os.chown(CONF, 100, 100)
os.makedirs("/data/volume", exist_ok=True)
os.chown("/data/volume", 100, 100)
servers = [os.spawnl(os.P_NOWAIT, "/usr/bin/memcached", "memcached", "-u", "swift", "-l", "127.0.0.1", "-m", "16")]
for name in ("object", "container", "account", "proxy"):
    pid = os.fork()
    if not pid:
        sys.exit(run_wsgi(CONF if name == "proxy" else f"/etc/swift/{name}-server.conf", f"{name}-server", verbose=True))
    servers.append(pid)


def stop(*_):
    for pid in servers:
        os.kill(pid, signal.SIGTERM)
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
ended, status = os.wait()
sys.exit(f"a server ended with {os.waitstatus_to_exitcode(status)}")
INIT
chmod 755 "$out/sbin/init"
