# What an installation of Mentat is besides its files: the user, the directories, the settings of the kernel, the units.
# Shell functions for install.sh and for the maintainer scripts of the package, which carry them inside. POSIX sh. Every
# function may be run again; $root is the directory in whose place / is, "" for this host.

layout_units="mentat-server.service mentat-agent.service"

layout_die() {
    echo "mentat: $*" >&2
    exit 1
}

# Whether this host runs systemd, so that units can be asked for now.
layout_lives() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

layout_has() { grep -q "^$2:" "$root/etc/$1" 2>/dev/null; }

# layout_account PROGRAM ARGUMENT…: one of the programs for accounts, on the root.
layout_account() {
    account_program=$1
    shift
    if [ -n "$root" ]; then set -- -P "$root" "$@"; fi
    "$account_program" "$@"
}

# User mentat, who may use KVM and Docker. The groups are made where nothing else made them yet: a Docker that comes later
# takes the group that is there.
layout_user() {
    for group in kvm docker mentat; do
        layout_has group "$group" || layout_account groupadd -r "$group" || layout_die "group $group could not be made"
    done
    layout_has passwd mentat ||
        layout_account useradd -r -g mentat -d /var/lib/mentat -M -s /usr/sbin/nologin -c Mentat mentat 2>/dev/null ||
        layout_die "user mentat could not be made"
    layout_account usermod -a -G kvm,docker mentat || layout_die "user mentat could not be put into kvm and docker"
}

# layout_id passwd|group NAME: its number on the root.
layout_id() { sed -n "s/^$2:[^:]*:\([0-9]*\):.*/\1/p" "$root/etc/$1"; }

# layout_directory MODE USER GROUP PATH. A link, or a directory of another user, in the place of ours is somebody's trap.
layout_directory() {
    [ ! -L "$root$4" ] || layout_die "$4 is a symbolic link; remove it"
    owner=$(stat -c %u "$root$4" 2>/dev/null) || owner=0
    [ "$owner" = 0 ] || [ "$owner" = "$(layout_id passwd "$2")" ] || layout_die "$4 belongs to another user; remove it"
    install -d -m "$1" -o "$(layout_id passwd "$2")" -g "$(layout_id group "$3")" "$root$4" || layout_die "$4 could not be made"
}

layout_directories() {
    layout_directory 0755 root root /opt/mentat
    layout_directory 0755 root root /opt/mentat/bin
    layout_directory 0750 root mentat /etc/mentat
    layout_directory 0755 root root /var/lib/mentat
    layout_directory 0700 mentat mentat /var/lib/mentat/state
    layout_directory 0700 root root /var/lib/mentat/agent
    layout_directory 0755 root root /tmp/mentat
    layout_directory 0711 root root /tmp/mentat/firecracker
    # A mounted disk has an owner and a mode of its own, which are the operator's.
    [ -d "$root/mnt/unikernel-volumes" ] || layout_directory 0755 root root /mnt/unikernel-volumes
}

# layout_config DIRECTORY: server.yaml and agent.yaml, where there are none yet.
layout_config() {
    for name in server.yaml agent.yaml; do
        [ ! -e "$root/etc/mentat/$name" ] || continue
        install -m 0640 -o 0 -g "$(layout_id group mentat)" "$1/$name" "$root/etc/mentat/$name.new" &&
            mv "$root/etc/mentat/$name.new" "$root/etc/mentat/$name" || layout_die "/etc/mentat/$name could not be written"
    done
}

# The place of the command for all users, which may be the operator's own program.
layout_command_free() {
    link=$root/usr/local/bin/mt
    [ -e "$link" ] || [ -L "$link" ] || return 0
    [ "$(readlink "$link")" = /opt/mentat/bin/mt ] || layout_die "/usr/local/bin/mt is not Mentat's: move it away, and run this again"
}

# layout_kernel SYSCTL TMPFILES: settings that hold from the next start on, now. What this kernel lacks is passed over.
layout_kernel() {
    layout_lives || return 0
    sysctl -q -e -p "$1" 2>/dev/null || true
    systemd-tmpfiles --create "$2" 2>/dev/null || true
    modprobe -q tun 2>/dev/null || true
}

layout_enable() {
    if layout_lives; then
        systemctl daemon-reload
        systemctl -q enable $layout_units
    elif command -v systemctl >/dev/null; then
        systemctl -q --root="${root:-/}" enable $layout_units
    fi
}

# New programs for what runs: servers first, since they speak the older release's language as long as they must.
layout_restart() {
    layout_lives || return 0
    for unit in $layout_units; do systemctl try-restart "$unit"; done
}

layout_stop() {
    layout_lives || return 0
    systemctl -q disable --now $layout_units 2>/dev/null || true
}

# What still runs here of tasks, "processes 12 34 containers 0a1b": it outlives its agent, so nothing would end it. Containers
# have groups of their engine's. A process 0 is that of another host, which shares this one's groups: in a container.
layout_tasks() {
    [ -z "$root" ] || return 0
    processes=$(find /sys/fs/cgroup -path '*/mentat/*/*/cgroup.procs' -exec cat {} + 2>/dev/null | sort -un | sed '/^0$/d')
    containers=''
    if command -v docker >/dev/null; then
        containers=$(timeout 30 docker ps -q --filter label=mentat.alloc 2>/dev/null) || true
    fi
    echo ${processes:+processes $processes} ${containers:+containers $containers}
}

# What --purge and `apt purge` remove. Volumes of services stay in any case: /mnt/unikernel-volumes is never touched.
layout_purge() {
    rm -rf "$root/etc/mentat" "$root/var/lib/mentat" "$root/tmp/mentat"
    if layout_has passwd mentat; then layout_account userdel mentat || true; fi
    if layout_has group mentat; then layout_account groupdel mentat || true; fi
}
