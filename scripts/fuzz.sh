#!/usr/bin/env bash
# Fuzzes the parsers with libFuzzer (needs clang and its compiler-rt: packages clang and libclang-rt-VERSION-dev).
#   scripts/fuzz.sh [--seconds N] [--merge] [TARGET…]
# Each target, or all, for N seconds (300 unless told). What is found along the way is kept in build-fuzz/corpus, inputs
# that crash in build-fuzz/crashes; --merge adds to tests/fuzz/corpus what reaches code that nothing there reaches.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
seconds=300 merge=
while [ $# -gt 0 ]; do
    case "$1" in
    --seconds) seconds=${2:?}; shift 2 ;;
    --merge)   merge=1; shift ;;
    -*)        usage ;;
    *)         break ;;
    esac
done

build=build-fuzz
[ -f $build/build.ninja ] || CC=clang meson setup $build -Dfuzz=true -Dwerror=false -Dstatic=false -Db_lundef=false \
    -Db_sanitize=address,undefined -Dc_args=-fsanitize=fuzzer-no-link
if [ $# -eq 0 ]; then
    mapfile -t all < <(ninja -C $build -t targets all | sed -n 's,^tests/fuzz/fuzz-\([a-z_]*\): .*LINKER.*,\1,p')
    set -- "${all[@]}"
fi
[ $# -gt 0 ] || { echo "no targets" >&2; exit 1; }
ninja --quiet -C $build "${@/#/tests/fuzz/fuzz-}"

failed=0
for target in "$@"; do
    mine=tests/fuzz/corpus/$target found=$build/corpus/$target
    mkdir -p "$mine" "$found" $build/crashes
    options=(-timeout=10 -rss_limit_mb=2048)
    [ ! -f "tests/fuzz/$target.dict" ] || options+=("-dict=tests/fuzz/$target.dict")
    echo "== $target"
    $build/tests/fuzz/fuzz-"$target" "${options[@]}" -max_total_time="$seconds" -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="$build/crashes/$target-" "$found" "$mine" || failed=$((failed + 1))
    [ -z "$merge" ] || $build/tests/fuzz/fuzz-"$target" "${options[@]}" -merge=1 -verbosity=0 "$mine" "$found"
done
[ $failed -eq 0 ] || { echo "$failed of $# targets found something: $build/crashes"; exit 1; }
