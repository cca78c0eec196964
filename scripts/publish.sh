#!/usr/bin/env bash
# Brings a release to hosts, one after the other: copies it, checks its sums there, and lets its install.sh upgrade the host
# (or install it) while tasks go on. The next host comes when this one's services stay up, and its server is ready and has all
# that the leader has (`mt cluster wait`). A host that does not come back well ends it, with the hosts after it untouched.
#   scripts/publish.sh [--from DIST] [--ssh-option KEY=VALUE]… USER@HOST… [-- ARGUMENT…]
#
#   --from DIST    the release; default: dist, as `make release` builds it
#   --ssh-option   as ssh -o: Port=2222, IdentityFile=…; what is in ~/.ssh/config holds too
#   ARGUMENT       for install.sh: --start, --downgrade, …
#
# A user other than root needs sudo without a password there.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    [ $# -eq 0 ] || echo "$0: $*" >&2
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p;}' "$0" >&2
    exit 2
}

dist=dist hosts=() options=(-o BatchMode=yes) arguments=()
while [ $# -gt 0 ]; do
    case "$1" in
    --from) dist=${2:?--from needs a value}; shift ;;
    --ssh-option) options+=(-o "${2:?--ssh-option needs a value}"); shift ;;
    --) shift; arguments=("$@"); break ;;
    -*) usage "unknown: $1" ;;
    *) hosts+=("$1") ;;
    esac
    shift
done
[ ${#hosts[@]} -gt 0 ] || usage "no host is given"
[ -r "$dist/SHA256SUMS" ] || { echo "there is no release in $dist: make release" >&2; exit 1; }
(cd "$dist" && sha256sum --quiet -c SHA256SUMS) || { echo "the release in $dist is damaged: make release" >&2; exit 1; }

# The package, the archive and the SBOM are of no use to install.sh.
files=()
for file in "$dist"/*; do
    case "$file" in *.deb | *.json | *.tar.gz) ;; *) files+=("$file") ;; esac
done

# What runs there once the release is: as root, with the directory of the release and install.sh's arguments.
# shellcheck disable=SC2016
remote='
set -eu
directory=$1; shift
trap "rm -rf \"$directory\"" EXIT
sudo=; [ "$(id -u)" -eq 0 ] || sudo="sudo -n"
was=$(systemctl is-active mentat-server mentat-agent 2>/dev/null || true)
$sudo sh "$directory/install.sh" "$@"
# What ran runs again, and goes on doing so for longer than a program that cannot start would.
case "$was" in *inactive*) exit 0 ;; active*) ;; *) exit 0 ;; esac
calm=0 tries=0
while [ "$calm" -lt 4 ]; do
    tries=$((tries + 1))
    restarts=$(($(systemctl show -P NRestarts mentat-server) + $(systemctl show -P NRestarts mentat-agent)))
    if [ "$tries" -gt 60 ] || [ "$restarts" -gt $((${first:=$restarts} + 3)) ]; then
        echo "the services do not stay up: journalctl -u mentat-server -u mentat-agent" >&2
        exit 1
    fi
    if $sudo /opt/mentat/bin/mt doctor ports -o json | grep -q "mentat-server.*mentat-agent"; then calm=$((calm + 1)); else calm=0; fi
    sleep 1
done
# Asked with the server`s own certificate, so that no token is needed.
setting() { $sudo sed -n "s/^$1: *\"\{0,1\}\([^\"# ]*\).*/\1/p" /etc/mentat/server.yaml; }
state=$(setting data_dir) certificate=$(setting tls_cert) at=$(setting advertise)
[ -n "$at" ] || at=$(setting bind)
case "$at" in "" | 0.0.0.0) at=127.0.0.1 ;; esac
case "$at" in *:*) ;; *) port=$(setting port); at=$at:${port:-4646} ;; esac
own=${state:-/var/lib/mentat/state}/tls
if [ -n "$certificate" ]; then
    set -- --address "https://$at" --ca "$(setting tls_ca)" --cert "$certificate" --key "$(setting tls_key)"
elif $sudo test -e "$own/identity.pem"; then
    set -- --address "https://$at" --ca "$own/authorities.pem" --cert "$own/identity.pem" --key "$own/identity.pem"
else
    set -- --address "http://$at"
fi
$sudo /opt/mentat/bin/mt "$@" cluster wait --timeout 10m
'

for host in "${hosts[@]}"; do
    echo "== $host"
    directory=$(ssh "${options[@]}" "$host" mktemp -d /tmp/mentat-release.XXXXXXXX)
    scp -q "${options[@]}" "${files[@]}" "$host:$directory/"
    # ssh joins its words with blanks and gives them to a shell.
    ssh "${options[@]}" "$host" "sh -s $(printf '%q ' "$directory" "${arguments[@]}")" <<<"$remote"
done
