#!/bin/sh
# Installs Mentat on this host, from a release: the directory that this script lies in, or --from DIR.
#
#   install.sh [install]      lays out the host, puts the programs there, enables the services. On a host that has Mentat
#                             already this is an upgrade: what runs is restarted, and tasks go on
#   install.sh uninstall      removes programs and services; configuration, state and volumes stay
#
#   --from DIR        where the release is
#   --start           starts the services too
#   --downgrade       lets an older release take the place of a newer one
#   --data-disk DEV   mounts this disk at /mnt/unikernel-volumes, by its UUID in /etc/fstab. An empty one gets ext4; one that
#                     has the data disk of an earlier installation (its label is mentat-data) is taken as it is; one in
#                     which anything else is found is refused and not touched. One of up to 1 GB is read whole, of others
#                     both ends and 64 KB in each 64 MB
#   --purge           with uninstall: configuration and state go too. Volumes stay
#   --root DIR        installs into a directory that is a system's root: an image, a chroot. Nothing is started
#
# May be run again after any end: every step is done anew, or was done. Exit status: 0 done, 1 failed, 2 wrong usage.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
programs="mt mentat-server mentat-agent"
files="mentat-server.service mentat-agent.service sysctl.conf tmpfiles.conf modules.conf server.yaml agent.yaml layout.sh"
label=mentat-data
mount_point=/mnt/unikernel-volumes

usage() {
    [ $# -eq 0 ] || echo "install.sh: $*" >&2
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p;}' "$0" >&2
    exit 2
}

action=install from=$here root='' start=false downgrade=false purge=false data_disk=''
while [ $# -gt 0 ]; do
    case "$1" in
    install | uninstall) action=$1 ;;
    --from | --root | --data-disk)
        [ $# -ge 2 ] || usage "$1 needs a value"
        case "$1" in
        --from) from=$2 ;;
        --root) root=$2 ;;
        --data-disk) data_disk=$2 ;;
        esac
        shift
        ;;
    --start) start=true ;;
    --downgrade) downgrade=true ;;
    --purge) purge=true ;;
    *) usage "unknown: $1" ;;
    esac
    shift
done
[ "$action" = uninstall ] || ! $purge || usage "--purge belongs to uninstall"

die() {
    echo "install.sh: $*" >&2
    exit 1
}

[ "$(id -u)" -eq 0 ] || die "run it as root"
from=$(cd "$from" 2>/dev/null && pwd) || die "--from: there is no such directory"
if [ -n "$root" ]; then
    root=$(cd "$root" 2>/dev/null && pwd) || die "--root: there is no such directory"
    [ "$root" != / ] || root=''
fi
[ -r "$from/layout.sh" ] || die "$from is no release: layout.sh is missing"
. "$from/layout.sh"
bin=$root/opt/mentat/bin

# --- what is checked before anything is changed ---

# Each file is the one that was released. Sums of files that are not used here may be of files that were not copied.
check_sums() {
    [ -r "$from/SHA256SUMS" ] || die "$from/SHA256SUMS is missing: copy the whole release"
    sums=$(mktemp)
    for file in $programs $files install.sh; do
        grep "^[0-9a-f]\{64\}  $file\$" "$from/SHA256SUMS" >>"$sums" || { rm "$sums"; die "SHA256SUMS has no line for $file"; }
    done
    (cd "$from" && sha256sum --quiet -c "$sums") || { rm "$sums"; die "the release is damaged: copy it again"; }
    rm "$sums"
}

# release_of PROGRAM: "0.1.0"; "" when it does not run.
release_of() { "$1" --version 2>/dev/null | sed -n 's/^mt //p'; }

check_release() {
    new=$(release_of "$from/mt")
    if [ -z "$new" ]; then
        case ",$(findmnt -nro OPTIONS -T "$from")," in
        *,noexec,*) die "$from is on a file system that is mounted noexec: copy the release elsewhere, such as to /root" ;;
        esac
        die "$from/mt does not run on this host: Mentat needs Linux on x86_64"
    fi
    [ -x "$bin/mt" ] || return 0
    old=$(release_of "$bin/mt")
    [ -n "$old" ] && [ "$old" != "$new" ] || return 0
    newest=$(printf '%s\n%s\n' "$old" "$new" | sort -V | tail -n 1)
    [ "$newest" = "$new" ] || $downgrade ||
        die "release $old is installed, which is newer than $new; --downgrade takes the older one all the same"
}

# The programs come beside those that run, so a full disk is told before anything is changed.
check_room() {
    place=$root/opt
    [ -d "$place" ] || place=${root:-/}
    set -- $(cd "$from" && du -ck $programs | tail -n 1) $(df -Pk "$place" | tail -n 1)
    [ "$6" -gt "$1" ] || die "$place has $(($6 / 1024)) MB free, and the programs take $(($1 / 1024 + 1)): nothing was changed." \
        "Make room, and run it again: apt-get clean; journalctl --vacuum-size=100M; docker system prune"
}

check_package() {
    [ ! -e "$root/var/lib/dpkg/info/mentat.list" ] ||
        die "this host has the package mentat: use apt to upgrade or remove it"
}

# --- the data disk ---

# found_in DISK FROM BYTES: what is there besides zeros.
found_in() {
    status=0
    cmp -s -i "$2:0" -n "$3" "$1" /dev/zero || status=$?
    case $status in
    0) ;;
    1) echo "data that is not zeros, in the $3 bytes from $2 on" ;;
    *) echo "what cannot be read, in the $3 bytes from $2 on" ;;
    esac
}

# The first data of a disk that is found. One of up to 1 GB is read whole; of others 16 MB at either end, where tables of
# partitions, RAID and file systems begin and are kept twice, and 64 KB at each 64 MB, where file systems have copies of what
# they begin with; at 4096 places at most, so that it ends soon.
disk_data() {
    size=$(blockdev --getsize64 "$1") || { echo "what cannot be read"; return; }
    whole=$((1 << 30)) end=$((16 << 20)) every=$((64 << 20)) piece=$((64 << 10)) most=4096
    if [ "$size" -le "$whole" ]; then
        found_in "$1" 0 "$size"
        return
    fi
    while [ $((size / every)) -gt $most ]; do every=$((every * 2)); done
    found=$(found_in "$1" 0 $end)$(found_in "$1" $((size - end)) $end)
    at=$every
    while [ -z "$found" ] && [ $((at + piece)) -le "$size" ]; do
        found=$(found_in "$1" $at $piece)
        at=$((at + every))
    done
    echo "$found"
}

# What a disk holds; "" when it is empty. A disk without anything that is known by name may be a database's own, or have lost
# no more than its first sectors.
disk_holds() {
    known=$(blkid -p -o value -s TYPE -s PTTYPE "$1" 2>/dev/null | tr '\n' ' ')
    if [ -n "$known" ]; then
        echo "$known"
    elif [ -n "$(lsblk -nro NAME "$1" 2>/dev/null | tail -n +2)" ]; then
        echo "partitions or volumes"
    else
        disk_data "$1"
    fi
}

# fstab_line UUID TYPE: the one line of that disk at the mount point, as it was written if it is there. Those of disks that were
# replaced go: of several, systemd takes the first.
fstab_line() {
    # The start of the host goes on without it; Mentat, which needs it, is started when it comes, however late that is.
    options=defaults,nofail,x-systemd.device-timeout=0,nodev,nosuid,discard
    awk -v at="$mount_point" -v disk="UUID=$1" -v line="UUID=$1 $mount_point $2 $options 0 2" '
        $2 == at && $1 ~ /^UUID=/ { if ($1 == disk && !found++) print; next }
        { print }
        END { if (!found) print line }' "$fstab" >"$fstab.new"
    chmod --reference="$fstab" "$fstab.new"
    mv "$fstab.new" "$fstab"
}

mount_data_disk() {
    [ -b "$data_disk" ] || die "--data-disk: $data_disk is no disk"
    disk=$(readlink -f "$data_disk")
    if [ "$(findmnt -nro SOURCE "$root$mount_point" 2>/dev/null)" = "$disk" ]; then return; fi
    ! findmnt -nro TARGET -S "$disk" >/dev/null || die "--data-disk: $data_disk is mounted at $(findmnt -nro TARGET -S "$disk" | head -n 1)"
    ! mountpoint -q "$root$mount_point" || die "--data-disk: another disk is mounted at $mount_point"
    fstab=$root/etc/fstab
    other=$(awk -v at="$mount_point" '$2 == at && $1 !~ /^(#|UUID=)/ { print $1 }' "$fstab" 2>/dev/null) || true
    [ -z "$other" ] || die "--data-disk: /etc/fstab has $other for $mount_point: remove that line, or mount it and leave --data-disk out"
    holds=$(disk_holds "$disk")
    if [ -z "$holds" ]; then
        mkfs.ext4 -q -L "$label" "$disk" || die "$data_disk could not be formatted"
    elif [ "$(blkid -p -o value -s LABEL "$disk")" != "$label" ]; then
        die "--data-disk: $data_disk holds something ($holds); it was not touched. To use it all the same, and lose that, format it yourself, and run this again: wipefs -a $data_disk && mkfs.ext4 -L $label $data_disk"
    fi
    uuid=$(blkid -p -o value -s UUID "$disk")
    install -d "$root$mount_point"
    # First the line, so that no end between the two leaves a disk that is gone with the next start.
    [ -e "$fstab" ] || install -m 0644 /dev/null "$fstab"
    cp -p "$fstab" "$fstab.before"
    fstab_line "$uuid" "$(blkid -p -o value -s TYPE "$disk")"
    mount -o nodev,nosuid "$disk" "$root$mount_point" || { mv "$fstab.before" "$fstab"; die "$data_disk could not be mounted"; }
    rm "$fstab.before"
    ! layout_lives || systemctl daemon-reload
}

# --- what is done ---

# put MODE SOURCE TARGET: whole or not at all. A program that runs keeps its old file, which a shim still needs.
put() {
    install -D -m "$1" "$from/$2" "$root$3.new"
    mv -f "$root$3.new" "$root$3"
}

put_files() {
    for program in $programs; do put 0755 "$program" "/opt/mentat/bin/$program"; done
    for unit in $layout_units; do put 0644 "$unit" "/etc/systemd/system/$unit"; done
    put 0644 sysctl.conf /etc/sysctl.d/60-mentat.conf
    put 0644 tmpfiles.conf /etc/tmpfiles.d/mentat.conf
    put 0644 modules.conf /etc/modules-load.d/mentat.conf
    # For uninstalling, when the release is long gone.
    put 0644 layout.sh /opt/mentat/share/layout.sh
    put 0755 install.sh /opt/mentat/share/install.sh
    install -d "$root/usr/local/bin"
    ln -sfn /opt/mentat/bin/mt "$root/usr/local/bin/mt"
}

do_install() {
    check_package
    layout_command_free
    check_sums
    check_release
    check_room
    layout_user
    [ -z "$data_disk" ] || mount_data_disk
    layout_directories
    # Set down, so that what an end between here and the restarts leaves is finished by the next installation.
    unfinished=$root/opt/mentat/unfinished
    changed=false
    [ ! -e "$unfinished" ] || changed=true
    for program in $programs; do cmp -s "$from/$program" "$bin/$program" || changed=true; done
    for unit in $layout_units; do cmp -s "$from/$unit" "$root/etc/systemd/system/$unit" || changed=true; done
    ! $changed || : >"$unfinished"
    put_files
    layout_config "$from"
    layout_kernel "$root/etc/sysctl.d/60-mentat.conf" "$root/etc/tmpfiles.d/mentat.conf"
    layout_enable
    ! $changed || layout_restart
    rm -f "$unfinished"
    if $start && layout_lives; then systemctl start $layout_units; fi
    echo "Mentat $new is installed"
    $start || [ -n "$root" ] || systemctl -q is-active mentat-agent 2>/dev/null || {
        echo "next: write /etc/mentat/server.yaml and agent.yaml, look with \`mt doctor\`, and start it:"
        echo "  systemctl start $layout_units"
    }
}

do_uninstall() {
    check_package
    tasks=$(layout_tasks)
    [ -z "$tasks" ] || die "tasks still run here ($tasks): move them away first, mt node drain $(hostname)"
    layout_stop
    for program in $programs; do rm -f "$bin/$program" "$bin/$program.new"; done
    for unit in $layout_units; do
        rm -f "$root/etc/systemd/system/$unit" "$root/etc/systemd/system/multi-user.target.wants/$unit"
    done
    rm -f "$root/etc/sysctl.d/60-mentat.conf" "$root/etc/tmpfiles.d/mentat.conf" "$root/etc/modules-load.d/mentat.conf"
    if [ "$(readlink "$root/usr/local/bin/mt")" = /opt/mentat/bin/mt ]; then rm "$root/usr/local/bin/mt"; fi
    rm -rf "$root/opt/mentat/share" "$root/opt/mentat/unfinished"
    rmdir "$bin" "$root/opt/mentat" 2>/dev/null || true
    ! layout_lives || systemctl daemon-reload
    if $purge; then
        layout_purge
        echo "Mentat is gone, with its configuration and state; volumes are still at $mount_point"
    else
        echo "Mentat is removed; configuration, state and volumes are still there"
    fi
}

do_"$action"
