#!/usr/bin/env bash
# Installs what the tests need, builds, and runs the tests. Ends with "N passed, N failed" alone on a line.
#   scripts/check.sh             everything
#   scripts/check.sh unit sim    only these: unit, sim, e2e, release, asan, tsan; asan-long, tsan-long (not in everything)
#
# asan: unit, and portions of sim and e2e, with AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer; asan-long:
# all of e2e. tsan: what has threads, with ThreadSanitizer; tsan-long: the slow rest of that. Each report of a sanitizer
# counts as failed, whichever process made it.
set -euo pipefail
cd "$(dirname "$0")/.."

passed=0 failed=0 skipped=0 complete=

# However it ends, the last line is true: a build that failed, or a run that died or was ended, is a failure more.
finish() {
    trap - EXIT
    if [ -z "$complete" ]; then
        echo "$0 ended early"
        failed=$((failed + 1))
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
    local build=$1 suite=$2 log=$1/meson-logs/testlog.json status=0 ok skip bad
    echo "== $suite in $build"
    rm -f "$log"
    "${@:3}" meson test -C "$build" --no-rebuild --print-errorlogs -t "${MENTAT_TEST_PATIENCE:-1}" --suite "$suite" ||
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
        sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
    esac
}

trap finish EXIT
scripts/packages.sh all
[ $# -gt 0 ] || set -- unit sim e2e release asan tsan
for what in "$@"; do check "$what"; done
complete=1
