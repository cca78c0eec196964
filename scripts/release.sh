#!/usr/bin/env bash
# A release in dist/: the three programs, static and stripped; install.sh with what it installs, also as one
# mentat-VERSION.tar.gz; the package for Debian and Ubuntu; sbom.cdx.json, which names what is linked into the programs; and
# SHA256SUMS of all. The same source gives the same bytes, wherever it lies; only the compiler and the distribution's
# libraries have a say.
#   scripts/release.sh                  builds
#   scripts/release.sh --verify         builds twice, from copies in directories of different names, and compares; dist/
#                                       stays as it is
#   scripts/release.sh --assemble BUILD DIR   a release in DIR from the programs of another build, without an SBOM
set -euo pipefail
cd "$(dirname "$0")/.."
programs=(mt mentat-server mentat-agent)
most_bytes=8000000
# The time that files in packages have: that of the last change, or, where there is no history, a day that never changes.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1700000000)}
export SOURCE_DATE_EPOCH
umask 022

sums() { (cd "$1" && rm -f SHA256SUMS && LC_ALL=C sha256sum -- * >.sums && mv .sums SHA256SUMS); }

# assemble BUILD DIR: the release of what was built there.
assemble() {
    local build=$1 dist=$2 program version
    rm -rf "$dist" && mkdir -p "$dist"
    for program in "${programs[@]}"; do strip -o "$dist/$program" "$build/bin/$program"; done
    install -m 0644 packaging/*.service packaging/*.conf packaging/*.yaml packaging/layout.sh "$dist/"
    install -m 0755 packaging/install.sh "$dist/"
    version=$("$dist/mt" --version | sed 's/^mt //')
    # What install.sh needs as one file, with the sums of what is in it.
    sums "$dist"
    tar -C "$dist" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -c . | gzip -n \
        >"$dist.tar.gz"
    mv "$dist.tar.gz" "$dist/mentat-$version.tar.gz"
    packaging/deb/build.sh "$dist" "$version"
}

# build DIST: from the source in this directory.
build() {
    [ -f build-release/build.ninja ] || meson setup build-release --buildtype=release -Dtests=false >/dev/null
    ninja -C build-release "${programs[@]/#/bin/}" >/dev/null
    assemble build-release "$1"
    scripts/sbom.py build-release "$1" >"$1/sbom.cdx.json"
    sums "$1"
}

# check DIST: each program is what is promised.
check() {
    local program size libraries
    for program in "${programs[@]}"; do
        size=$(stat -c %s "$1/$program")
        [ "$size" -le "$most_bytes" ] || { echo "$program has $size bytes, more than $most_bytes" >&2; return 1; }
        libraries=$(LC_ALL=C ldd "$1/$program" 2>&1 || true)
        [[ $libraries =~ "not a dynamic executable"|"statically linked" ]] ||
            { echo "$program needs libraries: $libraries" >&2; return 1; }
        check_hardening "$1/$program" "build-release/bin/$program" || return 1
        "$1/$program" --version >/dev/null
    done
    # The SBOM speaks of these programs, and knows what each has at least.
    for program in "${programs[@]}"; do
        jq -e --arg program "$program" --arg sum "$(sha256sum "$1/$program" | cut -d ' ' -f 1)" '
            (.components[] | select(.name == $program) | .hashes[0].content == $sum) and
            (.dependencies[] | select(.ref == $program) | .dependsOn |
             all(("libc6-dev", "libssl-dev") as $name | any(.[]; contains("/" + $name + "@")); .))' \
            "$1/sbom.cdx.json" >/dev/null || { echo "the SBOM does not describe $program" >&2; return 1; }
    done
    (cd "$1" && sha256sum --quiet -c SHA256SUMS)
}

# check_hardening STRIPPED UNSTRIPPED: what the compiler and the linker were asked for is in the file. The agent has fixed
# addresses: meson.build says why.
check_hardening() {
    local headers symbols kind=DYN
    [[ $1 != */mentat-agent ]] || kind=EXEC
    headers=$(readelf -hlW "$1") symbols=$(nm "$2")
    [[ $headers =~ Type:\ +$kind ]] || { echo "$1 is not of type $kind" >&2; return 1; }
    [[ $headers == *GNU_RELRO* ]] || { echo "$1: relocations stay writable" >&2; return 1; }
    [[ $headers =~ GNU_STACK[^$'\n']*\ RW\  ]] || { echo "$1: its stack is executable" >&2; return 1; }
    ! [[ $headers =~ LOAD[^$'\n']*RWE ]] || { echo "$1: memory is writable and executable" >&2; return 1; }
    [[ $symbols == *__stack_chk_fail* && $symbols == *__chk_fail* ]] ||
        { echo "$1: no stack protector, or no fortified functions" >&2; return 1; }
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
        (cd "$copy" && build "$copy/dist" && check "$copy/dist")
    done
    diff "$work/first/dist/SHA256SUMS" "$work/the-second-of-them/dist/SHA256SUMS" ||
        { echo "two builds of the same source differ" >&2; return 1; }
    cat "$work/first/dist/SHA256SUMS"
}

case "${1:-}" in
'')         build "$PWD/dist"; check "$PWD/dist"; ls -l dist; cat dist/SHA256SUMS ;;
--verify)   verify ;;
--assemble) [ $# -eq 3 ] || { echo "usage: $0 --assemble BUILD DIR" >&2; exit 2; }
            DEB_COMPRESSION=zstd assemble "$2" "$3"; sums "$3" ;;
*)          echo "usage: $0 [--verify | --assemble BUILD DIR]" >&2; exit 2 ;;
esac
