#!/usr/bin/env bash
# From a bare checkout to running services: installs what the build needs, builds, starts a cluster on this machine,
# runs examples/hello.yaml, shows it, and stays until Ctrl-C.
#   scripts/demo.sh          stay
#   scripts/demo.sh --once   end after showing; exit status 0 only when everything was healthy and nothing is left
set -euo pipefail
cd "$(dirname "$0")/.."

once=false
case "${1:-}" in
'') ;;
--once) once=true ;;
*) echo "usage: $0 [--once]" >&2; exit 2 ;;
esac

scripts/packages.sh all
make all

mt=build/bin/mt
log=$(mktemp)
setsid "$mt" dev >"$log" 2>&1 </dev/null &
dev=$!
stop() {
    trap - EXIT INT TERM
    kill -TERM "$dev" 2>/dev/null || true
    wait "$dev" || true
    rm -f "$log"
}
trap stop EXIT
trap 'exit 130' INT TERM

# Its own word, not an answer on the port, which could be another cluster's.
until grep -q '^ready' "$log"; do
    kill -0 "$dev" 2>/dev/null || { cat "$log" >&2; echo "mt dev ended; its output is above" >&2; exit 1; }
    sleep 0.1
done

show() { printf '\n\033[1m$ mt %s\033[0m\n' "$*"; "$mt" "$@"; }
show run examples/hello.yaml
show status
show allocs
show logs worker --tail 3
show logs greeting
echo
ports=$("$mt" allocs -o json | jq -r '.[] | select(.service == "web" and .state == "healthy") | .ports[0].host')
healthy=0
for port in $ports; do
    printf '$ curl http://127.0.0.1:%s/   ' "$port"
    curl -fsS -o /dev/null -w '%{http_code}\n' "http://127.0.0.1:$port/"
    healthy=$((healthy + 1))
done
[ "$healthy" -eq 3 ] || { echo "wanted 3 healthy replicas of web, found $healthy" >&2; exit 1; }

if $once; then
    tree=$(pgrep -s "$dev" | tr '\n' ' ')
    stop
    for pid in $tree; do
        kill -0 "$pid" 2>/dev/null && { echo "process $pid is left" >&2; exit 1; }
    done
    echo "everything was healthy, and nothing is left running"
else
    echo
    echo "The cluster goes on until Ctrl-C. In another terminal: $PWD/build/bin/mt status -w"
    wait "$dev"
fi
