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

# The cluster that it starts, whatever other the caller's environment names.
unset MENTAT_ADDR MENTAT_TOKEN
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
MENTAT_ADDR=$(sed -n 's/^server at \([^,]*\),.*/\1/p' "$log")
dir=$(sed -n 's/^server at .* files in //p' "$log")
export MENTAT_ADDR
[ -d "$dir" ] && [ -n "$MENTAT_ADDR" ] || { cat "$log" >&2; echo "mt dev did not say where it is; its output is above" >&2; exit 1; }

# Processes of the cluster. Tasks have sessions of their own, and outlive an agent that dies: what is common to all is that
# they work in the cluster's directory, or were started with a path of it.
processes() {
    local p
    for p in /proc/[0-9]*; do
        case "$(readlink "$p/cwd" 2>/dev/null)" in
        "$dir" | "$dir"[/\ ]*) echo "${p#/proc/}"; continue ;;
        esac
        if [ "$p" != "/proc/$$" ] && tr '\0' '\n' 2>/dev/null <"$p/cmdline" | grep -qF "$dir/"; then echo "${p#/proc/}"; fi
    done
}
cgroups() { find /sys/fs/cgroup -type d -name "mentat-dev-$dev" 2>/dev/null || true; }

bold= plain=
if [ -t 1 ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
show() { printf '\n%s$ mt %s%s\n' "$bold" "$*" "$plain"; "$mt" "$@"; }
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
    before=$(processes)
    # Server, agent, and the four tasks that run: a look that does not find these would find nothing left either.
    [ "$(wc -w <<<"$before")" -ge 6 ] || { echo "found too few processes of the cluster: $before" >&2; exit 1; }
    stop
    left=
    for pid in $before; do
        kill -0 "$pid" 2>/dev/null && left+="process $pid"$'\n'
    done
    left+=$(processes | sed 's/^/process /'; cgroups | sed 's/^/cgroup /'; [ ! -e "$dir" ] || echo "directory $dir")
    [ -z "$left" ] || { printf 'this is left:\n%s\n' "$left" >&2; exit 1; }
    echo "everything was healthy; no process, no cgroup and no file of the cluster is left"
else
    echo
    echo "The cluster goes on until Ctrl-C. In another terminal: $PWD/build/bin/mt status -w"
    wait "$dev"
fi
