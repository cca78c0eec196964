#!/usr/bin/env bash
# One whole run of the measurements, on a machine that does nothing else meanwhile; about five minutes.
#   bench/run.sh            prints a JSON line about the machine, then one for each figure
#   bench/run.sh --write    puts them into docs/performance.md too
# The programs come from $MENTAT_BIN, else from build/bin; servers and agents keep their state below $TMPDIR or /var/tmp.
set -euo pipefail
cd "$(dirname "$0")/.."
bench=${MENTAT_BIN:-$PWD/build/bin}/mentat-bench
marker='<!-- From here on made by `bench/run.sh --write`. -->'

machine() {
    local cpu memory_mb os filesystem
    cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
    memory_mb=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    os=$(. /etc/os-release && echo "$PRETTY_NAME")
    filesystem=$(stat -f -c %T "${TMPDIR:-/var/tmp}")
    jq -nc --arg cpu "$cpu" --argjson cores "$(nproc)" --argjson memory_mb "$memory_mb" --arg os "$os" \
        --arg kernel "$(uname -r | cut -d - -f 1)" --arg filesystem "$filesystem" --arg virtual "$(systemd-detect-virt 2>/dev/null || true)" \
        --argjson load "$(cut -d ' ' -f 1 /proc/loadavg)" --arg compiler "$(cc --version | head -n 1)" \
        --arg commit "$(git describe --always --dirty 2>/dev/null || true)" --arg date "$(date -u +%F)" \
        '{name: "machine", cpu: $cpu, cores: $cores, memory_mb: $memory_mb, os: $os, kernel: $kernel,
          filesystem: $filesystem, virtual: $virtual, load_before: $load, compiler: $compiler, commit: $commit, date: $date}'
}

figures() {
    local nodes allocs servers
    for nodes in 1000 5000 10000; do
        for allocs in 300 1200; do
            "$bench" scheduler --nodes "$nodes" --allocs "$allocs"
            "$bench" scheduler --nodes "$nodes" --allocs "$allocs" --spread
        done
    done
    "$bench" submit --count 100
    "$bench" idle
    "$bench" api
    "$bench" api --tls
    for servers in 1 3; do
        "$bench" commit --servers "$servers"
    done
    "$bench" state
    "$bench" agents
    "$bench" agents --tls
    python3 tests/e2e/failover.py 100
    "$bench" ingress
}

# The lines as Markdown.
tables() {
    echo '| machine | |'
    echo '| --- | --- |'
    jq -r 'select(.name == "machine") | del(.name) | to_entries[] | select(.value != "") | "| \(.key) | \(.value) |"' "$1"
    echo
    echo '| figure | of | value | unit |'
    echo '| --- | --- | ---: | --- |'
    jq -r 'select(.name != "machine") | . as $f | [del(.name, .value, .unit, .version) | to_entries[] | "\(.key) \(.value)"]
           | "| `\($f.name)` | \(join(", ")) | \($f.value | if . >= 100 then round else (. * 100 | round / 100) end) | \($f.unit) |"' "$1"
}

write() {
    local text
    text=$(awk -v marker="$marker" '$0 == marker {exit} {print}' docs/performance.md; printf '%s\n\n' "$marker"; tables "$1")
    printf '%s\n' "$text" >docs/performance.md
}

case "${1:-}" in
'' | --write) ;;
*) echo "usage: $0 [--write]" >&2; exit 2 ;;
esac
awk '$1 > 0.5 {print "the machine is busy (load " $1 "): the figures will be worse than they are" >"/dev/stderr"}' /proc/loadavg
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
{ machine; figures; } | tee "$lines"
[ "${1:-}" != --write ] || write "$lines"
