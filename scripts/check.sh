#!/usr/bin/env bash
# Installs what the tests need, builds, and runs every test. Ends with "N passed, N failed" alone on a line.
#   scripts/check.sh             everything
#   scripts/check.sh unit sim    only these suites
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/packages.sh all

suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(unit sim e2e)

make all
rm -f build/meson-logs/testlog.json
arguments=()
for suite in "${suites[@]}"; do arguments+=(--suite "$suite"); done
meson test -C build --no-rebuild --print-errorlogs "${arguments[@]}" || true

# The log has one JSON object a test. What did not say OK, or SKIP, failed; so did a run that left no log.
log=build/meson-logs/testlog.json
[ -s "$log" ] || { echo "no test ran"; echo "0 passed, 1 failed"; exit 1; }
count() { jq -s --argjson want "$1" '[.[] | select(.result as $r | $want | index($r))] | length' "$log"; }
passed=$(count '["OK", "EXPECTEDFAIL"]')
skipped=$(count '["SKIP"]')
failed=$(($(jq -s length "$log") - passed - skipped))
line="$passed passed, $failed failed"
[ "$skipped" -eq 0 ] || line="$line, $skipped skipped"
echo "$line"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
