# The part of guest.sh for containers: what a service's limits become on a host with cgroup v2 alone, by what the kernel says
# of the container's own group, and by what a program in it can do. Sourced by guest.sh; ends where it returns.
mkdir -p /run /tmp/image/bin /tmp/image/tmp
export DOCKER_RAMDISK=true               # the root file system is one: it cannot be pivoted away
mkdir $G/../../engine                    # in the root group it would not find out that swap can be limited
sh -c 'echo $$ >/sys/fs/cgroup/engine/cgroup.procs; exec "$@"' sh dockerd --data-root /var/lib/docker --exec-root /run/docker --host unix:///var/run/docker.sock --bridge none --iptables=false \
    --ip-masq=false --ip-forward=false --storage-driver vfs >/tmp/dockerd.log 2>&1 &
until_ 120 "curl -s --unix-socket /var/run/docker.sock http://d/_ping | grep -q OK" ||
    { not_ok "dockerd starts" "$(tail -n 20 /tmp/dockerd.log)"; return 1; }
check "the engine uses cgroup v2" -n "$(curl -s --unix-socket /var/run/docker.sock http://d/info | grep '"CgroupVersion":"2"')"
cp /bin/busybox /tmp/image/bin/
for tool in sh sleep head sort cat; do ln -s busybox /tmp/image/bin/$tool; done
tar -C /tmp/image -c . | curl -s --unix-socket /var/run/docker.sock -H 'Content-Type: application/x-tar' -T - \
    -X POST 'http://d/images/create?fromSrc=-&repo=app&tag=1' >/tmp/import.log
until_ 60 'mt nodes host -o yaml | grep -A1 "name: docker" | grep -q "healthy: true"' ||
    { not_ok "the docker driver is healthy" "$(mt nodes host -o yaml)"; return 1; }

# container NAME LIMITS SCRIPT: sets $id, and $C to its group once it runs.
container() {
    printf 'name: %s\ndriver: docker\nrestart: {attempts: 0, then: fail}\nkill: {timeout: 0s}\nresources: %s\n' "$1" "$2" >/tmp/$1.yaml
    printf 'config: {image: "app:1", pull: never, user: "1000", network: none, command: [/bin/sh, "-c", "%s"]}\n' "$3" >>/tmp/$1.yaml
    mt run --detach /tmp/$1.yaml >/tmp/run.log 2>&1 || { not_ok "$1 is submitted" "$(cat /tmp/run.log)"; return 1; }
    until_ 30 "[ -n \"\$(alloc $1)\" ]"
    id=$(alloc $1)
    until_ 60 "case \$(state $id) in pending|starting) false ;; esac" || not_ok "$1 starts" "$(mt status $id)"
    engine_id=$(curl -s --unix-socket /var/run/docker.sock http://d/containers/mentat-$id/json | sed -n 's/^{"Id":"\([0-9a-f]*\).*/\1/p')
    C=/sys/fs/cgroup/docker/$engine_id
}

container plain '{cpus: 0.5, cpu_max: 0.75, memory_mb: 40, pids: 12}' 'exec sleep 1000'
check "memory.max of a container" "$(cat $C/memory.max)" = $((40 << 20))
check "it has no swap" "$(cat $C/memory.swap.max)" = 0
check "cpu.max of a container" "$(cat $C/cpu.max)" = "75000 100000"
check "cpu.weight of a container" "$(cat $C/cpu.weight)" = 20
check "pids.max of a container" "$(cat $C/pids.max)" = 12
check "statistics come from its group" -n "$(curl -s http://127.0.0.1:4647/v1/allocs | grep "\"memory_limit_bytes\":$((40 << 20))")"
check "mt exec runs in its group" "$(mt exec plain -- cat /proc/self/cgroup)" = "0::/"
mt stop plain >/dev/null
check "its group is gone once it is stopped" ! -e $C

container hog '{cpus: 0.1, memory_mb: 16}' 'head -c 60000000 /dev/zero | sort >/dev/null'
until_ 60 "[ \$(state $id) = failed ]" || mt status $id
check "what takes more memory than it may is killed" -n "$(mt status $id | grep 'out of memory')"

container forks '{cpus: 0.1, memory_mb: 32, pids: 6}' 'sh -c \"for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done\"; exec sleep 1000'
until_ 30 "[ \"\$(sed -n 's/^max //p' $C/pids.events)\" -gt 0 ]"
check "it forks up to its limit and no further" "$(cat $C/pids.current)" -le 6
check "and the kernel counts the refusals" "$(sed -n 's/^max //p' $C/pids.events)" -gt 0
mt stop forks >/dev/null
