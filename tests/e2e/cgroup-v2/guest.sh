#!/bin/sh
# The first process of the small host that host.sh boots: mounts cgroup v2 and nothing of v1, runs a server and an agent,
# and looks at what the kernel says of their tasks. Ends by switching the machine off.

for tool in $(/bin/busybox --list); do
    [ -e /bin/$tool ] || /bin/busybox ln -s busybox /bin/$tool
done
export PATH=/bin HOME=/root 
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts pts /dev/pts
mount -t tmpfs -o size=200m tmp /tmp
mount -t tmpfs -o size=200m lib /var/lib
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up

G=/sys/fs/cgroup/mentat/host
passed=0 failed=0
patience=$(sed -n 's/.*patience=\([0-9]*\).*/\1/p' /proc/cmdline)
export MENTAT_TEST_PATIENCE=$((patience * 10))      # software emulation is that much slower
ok() { passed=$((passed + 1)); echo "ok $1"; }
not_ok() { failed=$((failed + 1)); echo "not ok $1"; shift; echo "$@" | sed 's/^/    /'; }
# check NAME WORD… : the words are a condition, as for test.
check() { name=$1; shift; if [ "$@" ]; then ok "$name"; else not_ok "$name" "$@"; fi; }
# until_ SECONDS COMMAND: waits until the command succeeds.
until_() {
    end=$(($(cut -d. -f1 /proc/uptime) + $1 * patience * 3))
    shift
    until eval "$1" >/dev/null 2>&1; do
        [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ] || return 1
        sleep 0.1
    done
}
finish() {
    [ "$failed" -eq 0 ] || { echo "--- agent"; tail -n 40 /tmp/agent.log; }
    echo "all done: $failed failed, $passed passed"
    sync
    reboot -f
}

# --- the programs ---
agent() { mentat-agent --name host --data-dir /var/lib/agent --volume-root /var/lib/volumes "$@" >>/tmp/agent.log 2>&1 & agent=$!; }
state() { mt status "$1" -o yaml | sed -n 's/^state: //p'; }
field() { mt status "$1" -o yaml | sed -n "s/^$2: //p"; }
alloc() { mt allocs "$1" -q | head -n 1; }
# run NAME YAML…: a service of one replica; sets $id once it has a process.
run() {
    name=$1; shift
    printf 'name: %s\ndriver: exec\nresources: {cpus: 0.1, memory_mb: 32}\nrestart: {attempts: 0, then: fail}\n' "$name" >/tmp/$name.yaml
    [ "$1" != -r ] || { sed -i "s/^resources:.*/resources: $2/" /tmp/$name.yaml; shift 2; }
    printf '%s\n' "$@" >>/tmp/$name.yaml
    mt run --detach /tmp/$name.yaml >/tmp/run.log 2>&1 || { not_ok "$name is submitted" "$(cat /tmp/run.log)"; return 1; }
    until_ 30 "[ -n \"\$(alloc $name)\" ]"
    id=$(alloc $name)
    until_ 30 "case \$(state $id) in pending|starting) false ;; esac"
}

mentat-server --data-dir /var/lib/state --reserve-mb 1 --new-cluster-policy open >/tmp/server.log 2>&1 &
until_ 30 "mt nodes" || { not_ok "the server starts" "$(cat /tmp/server.log)" "$(mt nodes 2>&1; echo $?)"; finish; }
agent
until_ 60 '[ "$(mt nodes -q)" = host ]' || not_ok "the agent registers" "$(cat /tmp/agent.log)"

# --- the tree of groups ---
check "the agent finds every controller" -z "$(grep 'limits of tasks do not work' /tmp/agent.log)"
for c in cpu memory pids; do
    check "$c is passed on to the agent's subtree" -n "$(grep -w $c $G/cgroup.subtree_control)"
done
check "no version 1 is mounted" -z "$(grep ' cgroup ' /proc/mounts)"
if grep -q part=docker /proc/cmdline; then
    . /docker.sh
    finish
fi

# --- limits as they are written ---
run plain -r '{cpus: 0.5, cpu_max: 0.75, memory_mb: 40, pids: 12}' 'config: {command: /bin/sleep, args: ["1000"]}'
check "cpu.weight" "$(cat $G/$id/cpu.weight)" = 20
check "cpu.max" "$(cat $G/$id/cpu.max)" = "75000 100000"
check "memory.max" "$(cat $G/$id/memory.max)" = $((40 << 20))
check "pids.max" "$(cat $G/$id/pids.max)" = 12
check "the task is in its group" "$(wc -l <$G/$id/cgroup.procs)" = 1
check "no process stands in a group that has groups" -z "$(cat $G/cgroup.procs $G/../cgroup.procs)"
check "mt exec runs in the task's group" "$(mt exec plain -- cat /proc/self/cgroup)" = "0::/mentat/host/$id"
check "mt exec gives the command's exit status" "$(mt exec plain -- sh -c 'exit 9' >/dev/null 2>&1; echo $?)" = 9
mt stop plain >/dev/null
check "its group is gone once it is stopped" ! -e $G/$id

# --- cpu ---
spin='config: {command: /bin/sh, args: ["-c", "while :; do :; done"]}'
run small -r '{cpus: 0.1, memory_mb: 16}' "$spin"; small=$id
run big -r '{cpus: 0.4, memory_mb: 16}' "$spin"; big=$id
usage() { sed -n "s/^$2 //p" $G/$1/cpu.stat; }
s=$(usage $small usage_usec) b=$(usage $big usage_usec)
sleep 6
s=$(($(usage $small usage_usec) - s)) b=$(($(usage $big usage_usec) - b))
# 4 to 1, with room for a machine that is busy itself.
check "cpus is the share of a busy processor ($b to $s us)" $((b > 2 * s && b < 8 * s)) = 1
mt stop small >/dev/null; mt stop big >/dev/null

run held -r '{cpus: 0.1, cpu_max: 0.2, memory_mb: 16}' "$spin"
t=$(sed 's/\.//; s/ .*//' /proc/uptime) u=$(usage $id usage_usec)
sleep 5
t=$(($(sed 's/\.//; s/ .*//' /proc/uptime) - t)) u=$(($(usage $id usage_usec) - u))
check "cpu_max holds ($u us in $t hundredths)" $((u < t * 10000 * 28 / 100 && u > t * 10000 * 8 / 100)) = 1
check "it was throttled" "$(usage $id nr_throttled)" -gt 10
mt stop held >/dev/null

# --- memory ---
run hungry -r '{cpus: 0.5, memory_mb: 24}' 'config: {command: /bin/sh, args: ["-c", "x=$(head -c 100000000 /dev/zero | tr \"\\0\" a); echo $x | wc -c"]}'
until_ 60 "[ \$(state $id) = failed ]"
check "a task beyond its memory fails" "$(state $id)" = failed
check "it is said to be out of memory" "$(field $id oom)" = true
check "the reason names the limit" -n "$(field $id reason | grep 'out of memory.*24 MB')"

# --- processes ---
run forks -r '{cpus: 0.5, memory_mb: 32, pids: 6}' \
    'config: {command: /bin/sh, args: ["-c", "(for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done); sleep 1000"]}'
until_ 30 "mt logs forks --stderr 2>&1 | grep -q fork"
check "no more processes than pids" "$(cat $G/$id/pids.current)" -le 6
check "the next fork fails" -n "$(mt logs forks --stderr 2>&1 | grep -i fork)"
mt stop forks >/dev/null

# --- the end of a whole tree ---
cat >/bin/tree <<'TREE'
#!/bin/sh
trap '' TERM
for i in 1 2 3 4 5; do
    setsid sh -c 'trap "" TERM; while :; do sleep 4321; done' &
done
while :; do (sleep 0.01); done
TREE
chmod 755 /bin/tree
run tree 'config: {command: /bin/tree}' 'kill: {timeout: 1s}'
until_ 30 "[ \$(wc -l <$G/$id/cgroup.procs) -ge 11 ]"
check "the tree has grown" "$(wc -l <$G/$id/cgroup.procs)" -ge 11
mt stop tree >/dev/null
check "none of it is left" -z "$(ps | grep '[s]leep 4321')"
check "its group is gone" ! -e $G/$id

# --- a dead agent ---
run stays 'config: {command: /bin/sleep, args: ["5000"]}'; stays=$id pid=$(cat $G/$id/cgroup.procs)
run ends 'config: {command: /bin/sh, args: ["-c", "while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 7"]}'; ends=$id
kill -9 $agent
wait $agent 2>/dev/null
touch /tmp/end
until_ 30 "[ -z \"\$(cat $G/$ends/cgroup.procs 2>/dev/null)\" ]"
agent
until_ 60 "[ \$(state $ends) = failed ]"
check "the exit status of a task that ended meanwhile is known" "$(field $ends exit_code)" = 7
until_ 60 "mt exec stays -- true"
check "the other one was adopted" "$(cat $G/$stays/cgroup.procs)" = "$pid"
check "it was not started again" "$(field $stays restarts)" = 0

# --- nothing is left ---
mt stop stays >/dev/null
kill $agent; wait $agent
agent --stop-tasks-on-exit=true
until_ 60 "grep -c 'registered' /tmp/agent.log | grep -q 3"
kill $agent; wait $agent
check "the agent ends well" $? = 0
check "no group is left" ! -e /sys/fs/cgroup/mentat
check "no file of a task is left" -z "$(ls /var/lib/agent/allocs 2>/dev/null)"
check "no process is left" -z "$(ps | grep '[m]entat-agent')"

# --- hosts that pass on less: part of the tree mounted in the place of all of it ---
cat >/tmp/once.yaml <<'ONCE'
name: once
driver: exec
mode: task
config: {command: /bin/echo, args: [done]}
resources: {cpus: 0.1, memory_mb: 16}
ONCE
limited() {
    mount --bind /sys/fs/cgroup/$1 /sys/fs/cgroup
    : >/tmp/agent.log
    agent
    until_ 30 "grep -q registered /tmp/agent.log"
    warning=$(grep 'limits of tasks do not work' /tmp/agent.log)
    mt run --detach /tmp/once.yaml >/dev/null
    until_ 30 "mt status once | grep -q 'State  *complete'"
    check "a task runs nevertheless" "$(mt logs once)" = done
    mt stop --purge once >/dev/null
    kill $agent; wait $agent
    umount /sys/fs/cgroup
}
echo '+cpu +memory +pids' >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/crowded /sys/fs/cgroup/poor
sleep 6000 & sleeper=$!
echo $sleeper >/sys/fs/cgroup/crowded/cgroup.procs
limited crowded
check "processes beside groups are named as the reason" -n "$(echo "$warning" | grep 'cpu, memory, pids.*processes stand in')"
kill $sleeper
echo '+cpu +pids' >/sys/fs/cgroup/poor/cgroup.subtree_control
mkdir /sys/fs/cgroup/poor/inner
limited poor/inner
check "a controller that is not offered is named" -n "$(echo "$warning" | grep 'memory.*not among the controllers')"

# --- the unit tests of tasks, here on version 2 ---
test-agent-task >/tmp/unit.log 2>&1
check "the unit tests of tasks pass" $? = 0
grep -E '^\[ *(FAILED|ERROR|LINE) *\]' /tmp/unit.log
grep -E '^\[ *PASSED' /tmp/unit.log
finish
