#!/usr/bin/env bash
# The three programs as they are given away: static, stripped, with their SHA-256, in dist/. The same source gives the same
# bytes, wherever it lies; only the compiler and the distribution's libraries have a say.
#   scripts/release.sh            builds
#   scripts/release.sh --verify   builds them twice, from copies in directories of different names, and compares;
#                                 dist/ stays as it is
set -euo pipefail
cd "$(dirname "$0")/.."
programs=(mt mentat-server mentat-agent)
most_bytes=8000000

# build DIST: from the source in this directory.
build() {
    [ -f build-release/build.ninja ] || meson setup build-release --buildtype=release -Dtests=false >/dev/null
    ninja -C build-release "${programs[@]/#/bin/}" >/dev/null
    rm -rf "$1" && mkdir -p "$1"
    for program in "${programs[@]}"; do strip -o "$1/$program" "build-release/bin/$program"; done
    (cd "$1" && sha256sum "${programs[@]}" >SHA256SUMS)
}

# check DIST: each program is what is promised.
check() {
    local program size libraries
    for program in "${programs[@]}"; do
        size=$(stat -c %s "$1/$program")
        [ "$size" -le "$most_bytes" ] || { echo "$program has $size bytes, more than $most_bytes" >&2; return 1; }
        libraries=$(LC_ALL=C ldd "$1/$program" 2>&1 || true)
        [[ $libraries == *"not a dynamic executable"* ]] || { echo "$program needs libraries: $libraries" >&2; return 1; }
        "$1/$program" --version >/dev/null
    done
}

verify() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    local name copy
    # A compiler cache would give the first build's objects to the second.
    local -x CCACHE_DISABLE=1
    for name in first the-second-of-them; do
        copy=$work/$name
        mkdir "$copy"
        tar -c --exclude='./build*' --exclude=./dist --exclude=./.git . | tar -x -C "$copy"
        (cd "$copy" && build "$copy/dist")
        check "$copy/dist"
    done
    diff "$work/first/dist/SHA256SUMS" "$work/the-second-of-them/dist/SHA256SUMS" ||
        { echo "two builds of the same source differ" >&2; return 1; }
    cat "$work/first/dist/SHA256SUMS"
}

case "${1:-}" in
'')       build "$PWD/dist"; check "$PWD/dist"; ls -l dist; cat dist/SHA256SUMS ;;
--verify) verify ;;
*)        echo "usage: $0 [--verify]" >&2; exit 2 ;;
esac
