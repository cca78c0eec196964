#!/usr/bin/env bash
# The package for Debian and Ubuntu, of a release that lies in a directory: the same host as install.sh makes, through
# maintainer scripts that carry layout.sh. The same files and SOURCE_DATE_EPOCH give the same bytes.
#   packaging/deb/build.sh RELEASE VERSION      writes RELEASE/mentat_VERSION_amd64.deb; with DEB_COMPRESSION=zstd in less
#                                               time than the usual xz, and three times as large
set -euo pipefail
release=$(cd "$1" && pwd)
version=$2
here=$(cd "$(dirname "$0")" && pwd)
: "${SOURCE_DATE_EPOCH:?the time that files of the package have}"
export SOURCE_DATE_EPOCH
umask 022

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 0755 "$tree"
put() { install -D -m "$1" "$release/$2" "$tree$3"; }
for program in mt mentat-server mentat-agent; do put 0755 "$program" "/opt/mentat/bin/$program"; done
for unit in mentat-server.service mentat-agent.service; do put 0644 "$unit" "/usr/lib/systemd/system/$unit"; done
put 0644 sysctl.conf /usr/lib/sysctl.d/60-mentat.conf
put 0644 tmpfiles.conf /usr/lib/tmpfiles.d/mentat.conf
put 0644 modules.conf /usr/lib/modules-load.d/mentat.conf
put 0644 server.yaml /usr/share/mentat/server.yaml
put 0644 agent.yaml /usr/share/mentat/agent.yaml
mkdir -p "$tree/DEBIAN"

sed "s/@VERSION@/$version/; s/@SIZE@/$(du -sk --apparent-size "$tree" | cut -f 1)/" "$here/control" >"$tree/DEBIAN/control"
for script in preinst postinst prerm postrm; do
    # #!/bin/sh, the functions, and what this script does with them.
    { echo '#!/bin/sh'; sed '/^# /d' "$release/layout.sh"; cat "$here/$script"; } >"$tree/DEBIAN/$script"
    chmod 0755 "$tree/DEBIAN/$script"
done
(cd "$tree" && find opt usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group "-Z${DEB_COMPRESSION:-xz}" --build "$tree" "$release/mentat_${version}_amd64.deb" >/dev/null
