#!/usr/bin/env bash
# Documents that are made from the programs' own tables.
#   scripts/docs.sh               writes the generated parts of docs/*.md again
#   scripts/docs.sh --check       fails when the committed ones differ from the tables, or an example or a link is wrong
#   scripts/docs.sh --install DIR writes manual pages and shell completions below DIR; meson install does it with PREFIX/share
# The programs come from $MENTAT_BIN, else from build/bin. What stands in a document above its marker is written by hand.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${MENTAT_BIN:-${MESON_BUILD_ROOT:-$PWD/build}/bin}
marker='<!-- From here on made by `make docs` from the tables of the programs. -->'

generate() {
    case "$1" in
    services-yaml) "$bin/mt" schema --markdown ;;
    security)      "$bin/mt" schema --profiles ;;
    access)        "$bin/mt" schema --roles ;;
    http-api)      "$bin/mentat-server" --print-api-docs ;;
    configuration) "$bin/mentat-server" --print-config-docs; "$bin/mentat-agent" --print-config-docs ;;
    esac
}

# The whole document: its part above the marker, the marker, and what the tables give.
assemble() {
    sed "/^$marker\$/,\$d" "docs/$1.md"
    printf '%s\n\n' "$marker"
    generate "$1"
}
documents=(services-yaml http-api configuration security access)

update() {
    local document text
    for document in "${documents[@]}"; do
        text=$(assemble "$document")
        printf '%s\n' "$text" >"docs/$document.md"
    done
}

check_generated() {
    local document
    for document in "${documents[@]}"; do
        grep -qxF -e "$marker" "docs/$document.md" || { echo "docs/$document.md: the marker is missing"; failed=1; }
        diff -u "docs/$document.md" <(printf '%s\n' "$(assemble "$document")") ||
            { echo "docs/$document.md is not what the tables give: run make docs"; failed=1; }
    done
}

# Each example in a document is a file that mt takes, and so is each file of examples/.
check_examples() {
    local document example
    for document in README.md docs/*.md; do
        awk -v to="$work/$(basename "$document")" '/^```yaml$/ {n++; inside = 1; next} /^```$/ {inside = 0}
            inside {print > (to "-" n ".yaml")}' "$document"
    done
    for example in examples/*.yaml "$work"/*.yaml; do
        "$bin/mt" validate "$example" >"$work/said" 2>&1 || { echo "$example: not valid"; cat "$work/said"; failed=1; }
    done
}

# Links to files of the repository, and to headings of the same document. The README is the index: it leads to all.
check_links() {
    local document link
    for document in docs/*.md; do
        grep -qF "($document)" README.md || { echo "README.md does not lead to $document"; failed=1; }
    done
    for document in README.md docs/*.md; do
        while read -r link; do
            case "$link" in
            http*) ;;
            '#'*)  grep -qiE "^#+${link//[#-]/[ -]}\$" "$document" || { echo "$document: there is no heading $link"; failed=1; } ;;
            *)     [ -e "$(dirname "$document")/${link%%#*}" ] || { echo "$document: there is no file $link"; failed=1; } ;;
            esac
        done < <(grep -oE '\]\([^)]+\)' "$document" | sed 's/^](//; s/)$//' | sort -u)
    done
}

# Each page must be roff that a formatter takes without a complaint, where one is installed.
check_manual() {
    install_to "$work/share"
    if command -v mandoc >/dev/null && mandoc -T lint -W warning "$work"/share/man/man*/* | grep -v 'missing date'; then
        failed=1
    fi
}

install_to() {
    local share=$1
    mkdir -p "$share"/man/man{1,5,8} "$share"/bash-completion/completions "$share"/zsh/site-functions \
        "$share"/fish/vendor_completions.d
    "$bin/mt" --man-pages "$share/man"
    "$bin/mentat-server" --man >"$share/man/man8/mentat-server.8"
    "$bin/mentat-agent" --man >"$share/man/man8/mentat-agent.8"
    "$bin/mt" completion bash >"$share/bash-completion/completions/mt"
    "$bin/mt" completion zsh >"$share/zsh/site-functions/_mt"
    "$bin/mt" completion fish >"$share/fish/vendor_completions.d/mt.fish"
}

check() {
    failed=0
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    check_generated
    check_examples
    check_links
    check_manual
    return "$failed"
}

case "${1:-}" in
'')        update ;;
--check)   check ;;
--install) install_to "${2:-${MESON_INSTALL_DESTDIR_PREFIX:?a directory is needed}/share}" ;;
*)         echo "usage: $0 [--check | --install DIR]" >&2; exit 2 ;;
esac
