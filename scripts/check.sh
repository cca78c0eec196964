#!/usr/bin/env bash
# Installs what the tests need, builds, and runs the tests. Ends with "N passed, N failed" alone on a line.
#   scripts/check.sh             everything, in two lanes: the tests that only compute, and the sanitizers' runs, go beside the
#                                others, with the lowest priority and a network of their own, so that no port is shared
#   scripts/check.sh unit sim    only these: unit, sim, e2e, release, asan, tsan; asan-long, tsan-long (not in everything)
#
# asan: unit, and portions of sim and e2e, with AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer; asan-long:
# all of e2e. tsan: what has threads, with ThreadSanitizer; tsan-long: the slow rest of that. Each report of a sanitizer
# counts as failed, whichever process made it.
set -euo pipefail
cd "$(dirname "$0")/.."

passed=0 failed=0 skipped=0 complete= beside=

# However it ends, the last line is true: a build that failed, or a run that died or was ended, is a failure more.
finish() {
    trap - EXIT
    if [ -z "$complete" ]; then
        echo "$0 ended early"
        failed=$((failed + 1))
        [ -z "$beside" ] || kill -- "-$beside" 2>/dev/null || true
    fi
    local line="$passed passed, $failed failed"
    [ "$skipped" -eq 0 ] || line+=", $skipped skipped"
    echo "$line"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ] && exit 0
    exit 1
}

# Tests of the log, which has one JSON object for each, that had one of these results.
count() { jq -s '[.[].result | select(. as $r | $ARGS.positional | index($r))] | length' "$1" --args "${@:2}"; }

# run BUILD SUITE [COMMAND…]: the suite's tests, under the command.
run() {
    local build=$1 suite=$2 log=$1/meson-logs/$2.json status=0 ok skip bad
    echo "== $suite in $build"
    rm -f "$log"
    "${@:3}" meson test -C "$build" --no-rebuild --print-errorlogs -t "${MENTAT_TEST_PATIENCE:-1}" \
        --logbase "$suite" --suite "$suite" ||
        status=$?
    if [ ! -s "$log" ]; then
        echo "no test ran"
        failed=$((failed + 1))
        return
    fi
    ok=$(count "$log" OK EXPECTEDFAIL)
    skip=$(count "$log" SKIP)
    bad=$(($(jq -s length "$log") - ok - skip))
    # A run that was cut off leaves good results, and a status.
    [ "$status" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
    passed=$((passed + ok)) skipped=$((skipped + skip)) failed=$((failed + bad))
}

# run_sanitized asan|tsan SUITE…
run_sanitized() {
    local build=build-$1 suite report command=()
    local -x MENTAT_TEST_PATIENCE=${MENTAT_TEST_PATIENCE:-5}
    make "$1"
    rm -f "$build"/reports/*
    # ThreadSanitizer needs addresses where it expects them.
    if [ "$1" = tsan ] && setarch -R true 2>/dev/null; then command=(setarch -R); fi
    for suite in "${@:2}"; do run "$build" "$suite" "${command[@]}"; done
    for report in "$build"/reports/*; do
        [ -e "$report" ] || continue
        echo "== $report"
        head -n 80 "$report"
        failed=$((failed + 1))
    done
}

check() {
    case "$1" in
    unit | sim | e2e | release)
        make all
        run build "$1"
        ;;
    asan) run_sanitized asan unit sim e2e-quick ;;
    asan-long) run_sanitized asan e2e ;;
    tsan) run_sanitized tsan threads ;;
    tsan-long) run_sanitized tsan threads-long ;;
    *)
        sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
    esac
}

# Starts itself beside, on these; what it prints is in the file.
start_beside() {
    setsid nice -n 19 unshare -n sh -c 'ip link set lo up && exec "$0" "$@"' "$0" "$@" >build/beside.log 2>&1 </dev/null &
    beside=$!
}

# Waits for it, and adds what its last line says.
join_beside() {
    local status=0 words
    wait "$beside" || status=$?
    beside=
    cat build/beside.log
    read -ra words < <(tail -n 1 build/beside.log)
    if [ "${words[1]:-}" = passed, ]; then
        passed=$((passed + words[0])) failed=$((failed + words[2])) skipped=$((skipped + ${words[4]:-0}))
    elif [ "$status" -eq 0 ]; then
        status=1
    fi
    # One that fails says how many tests did, or that it ended early.
    [ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
}

trap finish EXIT
scripts/packages.sh all
if [ $# -gt 0 ]; then
    for what in "$@"; do check "$what"; done
else
    make all
    start_beside sim asan tsan
    for what in unit e2e release; do check "$what"; done
    join_beside
fi
complete=1
