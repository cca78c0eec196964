#!/usr/bin/env bash
# From nothing to three hosts, on virtual machines: Debian with its cloud kernel under QEMU in software, systemd, cgroup v2
# alone, a data disk each, and the cloud-init document that Terraform renders. The hosts make a cluster of themselves, with TLS
# and tokens, and run processes and containers, which have a secret; one loses its power and comes back; all are lost, and a
# backup is restored into fresh ones.
#
#   tests/e2e/host-vm.sh [BUILD]             BUILD: where the programs were built; default: build
#   tests/e2e/host-vm.sh --if-changed [BUILD]
#
# Whoever changes what makes a host runs it; when all went well it writes host-vm.stamp beside itself, the hash of those parts,
# which is committed with the change. With --if-changed, which is what CI runs, nothing is done while the stamp fits.
#
# Takes 15 to 40 minutes, root, 4 GB of memory and 12 GB of disk under $TMPDIR. The root file system, which is made with
# debootstrap and so needs Debian's archive, is kept in BUILD/host-vm for as long as it is made in the same way. Prints how long
# what took; exit status 0: all went well.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
stamp=$here/host-vm.stamp

# What makes a host, and this test of it: not the programs, nor what only people read.
parts() {
    cd "$root"
    find packaging Terraform/modules/host-bootstrap tests/e2e/host-vm.sh tests/e2e/bootstrap_lib.py -type f ! -path '*/.*' \
        ! -path 'packaging/deb/*' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum | cut -d ' ' -f 1
}
if [ "${1:-}" = --if-changed ]; then
    shift
    if [ "$(parts)" = "$(cat "$stamp" 2>/dev/null)" ]; then
        echo "it passed for these parts as they are"
        exit 0
    fi
    echo "what makes a host is other than when this passed last"
fi
made_of=$(parts)
build=$(cd "${1:-$root/build}" && pwd)
cache=$build/host-vm
names=(h1 h2 h3)
network=mentat-vm-$$
memory=${MENTAT_VM_MB:-900}
patience=${MENTAT_TEST_PATIENCE:-1}

for program in qemu-system-x86_64 debootstrap mke2fs jq ssh; do
    command -v "$program" >/dev/null || { echo "$program is not installed" >&2; exit 1; }
done
[ "$(id -u)" -eq 0 ] || { echo "run it as root" >&2; exit 1; }
kernel=$(ls -1v /boot/vmlinuz-*-cloud-amd64 2>/dev/null | tail -n 1)
[ -n "$kernel" ] || { echo "there is no cloud kernel in /boot: apt install linux-image-cloud-amd64" >&2; exit 1; }
release=${kernel#/boot/vmlinuz-}

work=$(mktemp -d)
declare -A pids=()
finish() {
    local name
    for name in "${!pids[@]}"; do cut_power "$name" 2>/dev/null || true; done
    ip netns delete "$network" 2>/dev/null || true
    if [ -n "${failed:-}" ]; then
        for name in "${names[@]}"; do
            echo "--- console of $name"
            tail -n 40 "$work/$name.console" 2>/dev/null | tr -d '\r' || true
        done
    fi
    rm -rf "$work"
}
trap finish EXIT
failed=1
die() { echo "FAILED: $*" >&2; exit 1; }
start=$SECONDS
note() { printf '%5d s  %s\n' $((SECONDS - start)) "$*"; }
# What the hosts have computed so far, in seconds of a processor.
computed() {
    local name stat total=0
    for name in "${!pids[@]}"; do
        read -r stat <"/proc/${pids[$name]}/stat" || die "the machine of $name ended: $(cat "$work/$name.qemu")"
        set -- ${stat##*) }
        total=$((total + (${12} + ${13}) / ticks))
    done
    echo "$total"
}
ticks=$(getconf CLK_TCK)
# until_ SECONDS WHAT COMMAND…: the seconds are those that the hosts compute in the meantime, so that it does not matter what
# else this machine does. Hosts that hang compute nothing: then an hour is the end.
until_() {
    local end=$(($(computed) + $1 * patience)) hour=$((SECONDS + 3600 * patience)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$(computed)" -lt "$end" ] && [ "$SECONDS" -lt "$hour" ] || die "$what did not come true"
        sleep 1
    done
}

# --- what all hosts have: Debian, the packages, and this machine's kernel modules ---
packages=$(PYTHONPATH=$here python3 -c 'import bootstrap_lib; print(*bootstrap_lib.packages())')
make_base() {
    base=$cache/$( (echo "$packages"; declare -f make_base) | sha256sum | cut -c 1-12)
    [ ! -e "$base/made" ] || return 0
    rm -rf "$cache" && mkdir -p "$cache"
    debootstrap --variant=minbase --include=systemd-sysv,dbus,udev,kmod,iproute2,procps,e2fsprogs bookworm "$base" >/dev/null
    rm -f "$base/etc/apt/sources.list"
    cp -r /etc/apt/sources.list* /etc/apt/apt.conf.d "$base/etc/apt/" 2>/dev/null || true
    cp /etc/resolv.conf "$base/etc/"
    printf '#!/bin/sh\nexit 101\n' >"$base/usr/sbin/policy-rc.d"
    chmod 755 "$base/usr/sbin/policy-rc.d"
    # Nothing of whoever runs this: a TMPDIR, say, that is not there.
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive \
        unshare -m sh -c "mount -t proc proc $base/proc && chroot $base sh -c '
        apt-get update -qq && apt-get install -y -qq --no-install-recommends cloud-init busybox-static dropbear-bin $packages &&
        apt-get clean'" >/dev/null
    rm "$base/usr/sbin/policy-rc.d" "$base/etc/resolv.conf"
    systemctl --root="$base" -q enable systemd-networkd
    touch "$base/made"
}
# Once for each run: the modules of the kernel, the release, the secret that the hosts share, an image for containers, and SSH.
make_common() {
    cp -a --reflink=auto "$base" "$work/tree"
    mkdir -p "$work/tree/lib/modules" "$work/tree/srv"
    cp -a "/lib/modules/$release" "$work/tree/lib/modules/"
    "$root/scripts/release.sh" --assemble "$build" "$work/dist"
    cp "$work"/dist/*.tar.gz "$work/tree/srv/mentat.tar.gz"
    # The operator's image, loaded where Docker is; nothing of Mentat.
    mkdir -p "$work/image/bin"
    cp "$work/tree/bin/busybox" "$work/image/bin/"
    tar -C "$work/image" -c . >"$work/tree/srv/probe.tar"
    cat >"$work/tree/etc/systemd/system/probe-image.service" <<'END'
[Unit]
After=docker.service
Requires=docker.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'docker image inspect probe:1 >/dev/null 2>&1 || docker import /srv/probe.tar probe:1'
[Install]
WantedBy=multi-user.target
END
    (umask 077 && head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$work/tree/srv/join-secret")
    ssh-keygen -q -t ed25519 -N '' -f "$work/key"
    install -D -m 0600 "$work/key.pub" "$work/tree/root/.ssh/authorized_keys"
    chmod 0700 "$work/tree/root" "$work/tree/root/.ssh"
    install -d "$work/tree/etc/dropbear"
    cat >"$work/tree/etc/systemd/system/remote.service" <<'END'
[Service]
ExecStart=/usr/sbin/dropbear -F -E -R -s
[Install]
WantedBy=multi-user.target
END
    systemctl --root="$work/tree" -q enable probe-image remote
    # Of no use here, and all of it is computed.
    systemctl --root="$work/tree" -q mask e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
    rm -f "$work/tree/etc/machine-id" && : >"$work/tree/etc/machine-id"
}

# --- a host: root disk with the cloud-init document in it, empty data disk ---
address() { echo "10.20.0.$((10 + ${1#h}))"; }
fresh_host() {
    local name=$1 seed=$work/tree/var/lib/cloud/seed/nocloud
    rm -rf "$seed" && mkdir -p "$seed"
    printf 'instance-id: %s-%s\nlocal-hostname: %s\n' "$name" "$RANDOM" "$name" >"$seed/meta-data"
    cp "$work/$name.cloud-init" "$seed/user-data"
    printf 'version: 2\nethernets:\n  eth0:\n    addresses: [%s/24]\n    optional: false\n' "$(address "$name")" >"$seed/network-config"
    rm -f "$work/$name.root" "$work/$name.data" "$work/$name.console"
    mke2fs -q -t ext4 -d "$work/tree" "$work/$name.root" 3G >/dev/null
    truncate -s 2G "$work/$name.data"
}
make_documents() {
    PYTHONPATH=$here python3 - "$work" "$(sha256sum "$work/tree/srv/mentat.tar.gz" | cut -d ' ' -f 1)" <<'END'
import sys
import bootstrap_lib
work, digest = sys.argv[1:]
scripts = bootstrap_lib.scripts({f"h{i}": f"10.20.0.{10 + i}" for i in (1, 2, 3)}, 'cp /srv/mentat.tar.gz "$1"', digest,
                                bootstrap_lib.packages(), data_disk="/dev/vdb", fetch_join_secret='cp /srv/join-secret "$1"')
for name, document in bootstrap_lib.cloud_init(scripts).items():
    with open(f"{work}/{name}.cloud-init", "w") as f:
        f.write(document)
END
}
make_network() {
    ip netns add "$network"
    ip -n "$network" link add bridge type bridge
    ip -n "$network" address add 10.20.0.1/24 dev bridge
    ip -n "$network" link set bridge up
    ip -n "$network" link set lo up
    local name
    for name in "${names[@]}"; do
        ip -n "$network" tuntap add "tap-$name" mode tap
        ip -n "$network" link set "tap-$name" master bridge up
    done
}
power_on() {
    # In software emulation a disk's word that it is done is lost now and then, and the boot hangs, unless devices are told
    # and tell without a detour: no events of the host's kernel, interrupts that stay until they are taken.
    local name=$1 number=${1#h} told=ioeventfd=off,vectors=0 khz
    # Without the clock's rate most boots hang while it is measured; and the timer's interrupts, which the kernel counts at its start,
    # may be late by more than it bears. A kernel that panics all the same ends its machine.
    khz=$(awk -F: '/^cpu MHz/ { printf "%d", $2 * 1000; exit }' /proc/cpuinfo)
    ip netns exec "$network" qemu-system-x86_64 -M q35 -accel tcg -cpu max -m "$memory" -smp 1 -nodefaults -no-user-config \
        -display none -serial "file:$work/$name.console" -kernel "$kernel" -initrd "/boot/initrd.img-$release" \
        -append "root=/dev/vda rw console=ttyS0 net.ifnames=0 cgroup_no_v1=all tsc_early_khz=${khz:-2000000} no_timer_check panic=-1" -no-reboot \
        -drive "id=root,file=$work/$name.root,format=raw,if=none" -device "virtio-blk-pci,drive=root,$told" \
        -drive "id=data,file=$work/$name.data,format=raw,if=none" -device "virtio-blk-pci,drive=data,$told" \
        -netdev "tap,id=net,ifname=tap-$name,script=no,downscript=no" \
        -device "virtio-net-pci,netdev=net,mac=52:54:00:00:00:0$number,$told" \
        -device virtio-rng-pci </dev/null >"$work/$name.qemu" 2>&1 &
    pids[$name]=$!
}
cut_power() {
    kill -9 "${pids[$1]}"
    wait "${pids[$1]}" 2>/dev/null || true
    unset "pids[$1]"
}
# When a host said something, in whole seconds of its own clock.
at_second() { tr -d '\r' <"$work/$1.console" | sed -n "s/^\[ *\([0-9]*\)\.[0-9]*\] cloud-init.*mentat-bootstrap: $2.*/\1/p" | head -n 1; }
said() { grep -aq "mentat-bootstrap: $2" "$work/$1.console"; }
wait_cluster() {
    local name
    for name in "${names[@]}"; do until_ 3000 "$name's boot" said "$name" "$name begins"; done
    note "all three have booted, and begin"
    for name in "${names[@]}"; do
        until_ 3000 "the cluster on $name" said "$name" "\(cluster ready\|failed\)"
        ! said "$name" failed || die "bootstrap of $name"
    done
    note "cluster ready"
    for name in "${names[@]}"; do
        until_ 60 "the console of $name" grep -aq "cloud-init.*cluster ready" "$work/$name.console"
        note "$name, by its own clock: booted $(at_second "$name" "$name begins") s after power-on, installed $(at_second "$name" \
            "$name is installed") s, cluster ready $(at_second "$name" "cluster ready") s"
    done
}

# --- what a user sees: hosts by SSH, the cluster by a token and the hash of its authority ---
on() {
    ip netns exec "$network" ssh -F none -i "$work/key" -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o LogLevel=ERROR "root@$(address "$1")" "$2" </dev/null
}
mt() { env -i HOME="$work/home" PATH=/usr/sbin:/usr/bin:/sbin:/bin ip netns exec "$network" "$build/bin/mt" "$@"; }
state=/var/lib/mentat/state
# The administrator's token is on one of the hosts, and stands on no command line.
log_in() {
    local name addresses=
    for name in "${names[@]}"; do
        addresses+=${addresses:+,}https://$(address "$name"):4646
        if on "$name" "cat $state/admin-token" >"$work/found" 2>/dev/null; then
            mv "$work/found" "$work/admin-token"
            hash=$(on "$name" "MENTAT_TOKEN=\$(cat $state/admin-token) mt ca status" | sed -n 's/^hash.*: \([0-9a-f]*\)$/\1/p')
        fi
    done
    rm -rf "$work/home" && mkdir -p "$work/home"
    mt login --address "$addresses" --ca-hash "$hash" <"$work/admin-token"
}
nodes_ready() { [ "$(mt nodes -o json | jq '[.[] | select(.state == "ready")] | length')" -eq "$1" ]; }
# running SERVICE COUNT [HOSTS]: so many replicas, on so many hosts, on any number without.
running() {
    mt allocs "$1" -o json | jq -e --argjson count "$2" --argjson hosts "${3:-null}" '
        [.[] | select(.state == "running" or .state == "healthy") | .node_name] |
        length == $count and ($hosts == null or (unique | length) == $hosts)'
}
# The proxy of the distribution's package answers at port 80, and what it answers with is not root's.
ingress_answers() {
    ip netns exec "$network" curl -s "http://$(address "$1")/" | grep -q "404 Not here" &&
        on "$1" 'grep -q "^Uid:.$(id -u haproxy)" /proc/[0-9]*/status'
}
log_in_again() { mt login <"$work/token-of-the-backup"; }
waits_for_the_lost() { mt cluster status | grep -q "fell silent at the same time"; }
reads_secret() { mt exec "$1/0" -- /bin/busybox sh -c "/bin/busybox cat $2/lab" | cmp -s - <(printf %s "$secret"); }
secret="known to $$"
submit() {
    printf %s "$secret" | mt secret put lab
    mt policy set - <<<'profiles: [{name: exec-internal, services: [proc]}]'
    mt run --detach - <<'END'
job: lab
services:
  - {name: proc, driver: exec, count: 3, spread: node, secrets: [{name: lab, file: lab}], config: {command: /bin/sleep, args: ["1000000"]}, resources: {cpus: 0.1, memory_mb: 16}}
  - {name: box, driver: docker, count: 3, spread: node, secrets: [{name: lab, file: lab}], config: {image: "probe:1", pull: never, user: "1000:1000", command: [/bin/busybox, sleep, "1000000"]}, resources: {cpus: 0.1, memory_mb: 16}}
END
}

make_base
note "root file system"
make_common
make_documents
make_network
for name in "${names[@]}"; do fresh_host "$name"; done
note "disks"
for name in "${names[@]}"; do power_on "$name"; done
note "power on"
wait_cluster
log_in
submit >/dev/null
until_ 600 "three processes on three hosts" running proc 3 3
until_ 1500 "three containers on three hosts" running box 3 3
until_ 300 "their secret in a process" reads_secret proc '$MENTAT_SECRETS_DIR'
note "three processes and three containers run on three hosts"
for name in "${names[@]}"; do until_ 300 "the ingress of $name" ingress_answers "$name"; done

# --- the power of one goes ---
leader=$(mt cluster status -o json | jq -r '.[] | select(.status.role == "leader") | .server.name')
cut_power "$leader"
until_ 300 "a change without $leader" mt scale proc 4
until_ 600 "all processes on the two others" running proc 4 2
until_ 1500 "all containers on the two others" running box 3 2
note "$leader, the leader, lost its power: everything runs on the two others"
power_on "$leader"
until_ 3000 "$leader's return" nodes_ready 3
note "$leader is back"

# --- all are lost; a backup is not ---
mt snapshot save "$work/backup" >/dev/null
on h1 "cat $state/cluster-keys" >"$work/cluster-keys"
for name in "${names[@]}"; do cut_power "$name"; done
for name in "${names[@]}"; do fresh_host "$name"; done
note "all three are lost, with their disks; fresh ones"
for name in "${names[@]}"; do power_on "$name"; done
wait_cluster
mv "$work/admin-token" "$work/token-of-the-backup"
log_in
[ "$(mt services -o json | jq length)" -eq 0 ] || die "fresh hosts know services"
mt snapshot restore "$work/backup" --cluster-keys "$work/cluster-keys" --yes >/dev/null
until_ 60 "a login with a token of the backup" log_in_again
# The backup's word is all that says that anything runs; only the operator knows that it does not.
until_ 600 "the wait for the hosts of the backup" waits_for_the_lost
mt node remove --lost --keep-certificate "${names[@]}"
until_ 600 "three fresh nodes" nodes_ready 3
# On the hosts that came first: others may be late, and nothing moves for an even spread.
until_ 1500 "the services of the backup" running proc 4
until_ 1500 "the containers of the backup" running box 3
for service in proc box; do until_ 600 "a command in $service" mt exec "$service/0" -- /bin/busybox true; done
until_ 300 "the secret of the backup in a process" reads_secret proc '$MENTAT_SECRETS_DIR'
until_ 300 "the secret of the backup in a container" reads_secret box /run/secrets
note "the backup is restored, and its services run and have their secret"
echo "$made_of" >"$stamp"
failed=
echo "all went well"
