"""Faults: each strikes, stays for a while, is healed, and says whether it was felt.

A plan is a row of them for each of three lanes, made of a seed alone, in which every fault of a lane comes once before any
comes again. The lanes run side by side, so that faults of servers, of the network and of agents meet. Which server is "the
leader" is found out when the fault strikes."""
import contextlib
import os
import random
import signal
import threading
import time

from hosts import BRIDGE_ADDRESS, PATIENCE
from lib import wait_for

REST_S = 0.3, 2.0                    # between two faults of a lane
FULL_MOST_S = 10                     # longer that a disk stays full until that is felt
STEPS_S = [0.5, 2, 30, 600, 5 * 3600, 3 * 86400]     # of wall clocks, both ways

FAULTS = {}                          # name → function(context, random generator, seconds) → whether it struck
LANES = {"servers": {}, "network": {}, "agents": {}}     # name → shortest and longest time that it stays


def fault(lane, shortest, longest):
    def register(function):
        FAULTS[function.__name__] = function
        LANES[lane][function.__name__] = shortest, longest
        return function
    return register


class Context:
    """What the faults of a lane work on."""

    def __init__(self, lane, hosts, say):
        self.lane, self.hosts, self.say, self.end, self.number = lane, hosts, say, threading.Event(), 0

    def stay(self, seconds):
        self.end.wait(seconds)

    def table(self):
        self.number += 1
        return f"{self.lane}{self.number}"

    def server(self, rng, leading=None):
        """One of them by chance, or the one that leads."""
        chosen = rng.choice(self.hosts.servers)
        if leading if leading is not None else rng.random() < 0.4:
            return self.hosts.by_name.get(self.hosts.leader(), chosen)
        return chosen

    @contextlib.contextmanager
    def cut(self, links):
        """Nothing gets from one address to the other: {(from, to)}. Gives a function: how many packets were dropped."""
        table, dropped = self.table(), []
        into = {}
        for source, target in links:
            into.setdefault(target, []).append(source)
        hosts = [h for h in self.hosts.all if h.address in into]
        try:
            for h in hosts:
                h.add_filter(table, f"ip saddr {{ {', '.join(sorted(into[h.address]))} }} counter drop")
            yield lambda: sum(dropped)
        finally:
            dropped += [h.remove_filter(table) for h in hosts]

    def stay_cut(self, links, seconds, name):
        self.say(name)
        with self.cut(links) as dropped:
            self.stay(seconds)
        return dropped() > 0


def names(hosts):
    return ", ".join(h.name for h in hosts)


def addresses(hosts):
    return [h.address for h in hosts]


def both_ways(ones, others):
    return {(a, b) for a in ones for b in others} | {(b, a) for a in ones for b in others}


def one_way(sources, targets):
    return {(a, b) for a in sources for b in targets if a != b}


# --- processes ---

def killed(host):
    """kill -9, when it ran."""
    ran, host.down = host.process.alive(), True
    host.process.kill()
    return ran and host.process.child.returncode == -signal.SIGKILL


def start(host):
    if host.kind == "server":
        host.start(wait=False)
    else:
        host.start()
    host.down = False


def kill(c, hosts, seconds):
    c.say(names(hosts))
    struck = [killed(h) for h in hosts]
    try:
        c.stay(seconds)
    finally:
        for h in hosts:
            start(h)
    return all(struck)


def stands_still(host):
    with open(f"/proc/{host.process.pid}/stat") as f:
        return f.read().rpartition(")")[2].split()[0] == "T"


def stop(c, host, seconds):
    """SIGSTOP, and SIGCONT later."""
    c.say(host.name)
    os.kill(host.process.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: stands_still(host), 5, f"{host.name} to stand still")
        c.stay(seconds)
    finally:
        os.kill(host.process.pid, signal.SIGCONT)
    return True


@fault("servers", 0.2, 4)
def kill_server(c, rng, seconds):
    return kill(c, [c.server(rng, leading=False)], seconds)


@fault("servers", 0.2, 4)
def kill_leader(c, rng, seconds):
    return kill(c, [c.server(rng, leading=True)], seconds)


@fault("servers", 0.1, 2)
def kill_all_servers(c, rng, seconds):
    return kill(c, c.hosts.servers, seconds)


@fault("servers", 1, 6)
def stop_server(c, rng, seconds):
    return stop(c, c.server(rng, leading=False), seconds)


@fault("servers", 1, 6)
def stop_leader(c, rng, seconds):
    return stop(c, c.server(rng, leading=True), seconds)


@fault("agents", 0.2, 4)
def kill_agent(c, rng, seconds):
    return kill(c, [rng.choice(c.hosts.agents)], seconds)


@fault("agents", 0.2, 3)
def kill_all_agents(c, rng, seconds):
    return kill(c, c.hosts.agents, seconds)


@fault("agents", 1, 4)
def stop_agent(c, rng, seconds):
    return stop(c, rng.choice(c.hosts.agents), seconds)


# --- disks ---

def fill_disk(c, s, seconds):
    """Felt when the server says so: a leader refuses writes then, a follower cannot go on with its log. That may take some
    time: space for the next writes is reserved ahead."""
    c.say(s.name)
    before = len(s.process.text())

    def felt():
        said = s.process.text()[before:]
        return "the disk is full" in said or "no space for" in said

    s.disk.fill()
    try:
        c.stay(seconds)
        end = time.monotonic() + FULL_MOST_S
        while not felt() and time.monotonic() < end and not c.end.is_set():
            c.stay(0.5)
    finally:
        s.disk.make_room()
    return felt()


@fault("servers", 3, 6)
def fill_disk_of_leader(c, rng, seconds):
    return fill_disk(c, c.server(rng, leading=True), seconds)


@fault("servers", 3, 6)
def fill_disk_of_server(c, rng, seconds):
    return fill_disk(c, c.server(rng, leading=False), seconds)


@fault("servers", 0.2, 3)
def wipe_disk(c, rng, seconds):
    """All that one server has is gone; it comes back as another one, in the same place. Only one at a time: what most
    servers have must live."""
    s = c.server(rng)
    wait_for(c.hosts.voters_are_all, 60, f"three voters, before {s.name} is wiped")
    old = s.status()["id"]
    c.say(f"{s.name}, id {old}")
    killed(s)
    s.wipe()
    c.stay(seconds)
    start(s)
    wait_for(c.hosts.voters_are_all, 60, f"three voters, after {s.name} was wiped")
    return s.status()["id"] != old


# --- clocks ---

def step(c, host, rng):
    """A step of the wall clock, which stays until the next one."""
    seconds = rng.choice(STEPS_S) * rng.choice([-1, 1])
    c.say(f"{host.name} to {seconds:+g} s")
    host.set_clock(seconds)
    date = host.inside(*host.curl, "-o", "/dev/null", "-w", "%header{date}",
                       f"https://{host.address}:{host.port}/v1/healthz")
    seen = time.mktime(time.strptime(date, "%a, %d %b %Y %H:%M:%S GMT")) - time.timezone
    return abs(seen - time.time() - seconds) < 5


@fault("servers", 0.5, 3)
def step_server_clock(c, rng, seconds):
    struck = step(c, c.server(rng), rng)
    c.stay(seconds)
    return struck


@fault("agents", 0.5, 3)
def step_agent_clock(c, rng, seconds):
    struck = step(c, rng.choice(c.hosts.agents), rng)
    c.stay(seconds)
    return struck


# --- partitions ---

@fault("network", 1, 6)
def isolate_server(c, rng, seconds):
    """From servers, agents and clients."""
    s = c.server(rng)
    others = addresses(h for h in c.hosts.all if h is not s) + [BRIDGE_ADDRESS]
    return c.stay_cut(both_ways([s.address], others), seconds, s.name)


@fault("network", 1, 6)
def cut_off_peers(c, rng, seconds):
    """A server from the other servers; clients and agents still reach it."""
    s = c.server(rng)
    return c.stay_cut(both_ways([s.address], addresses(o for o in c.hosts.servers if o is not s)), seconds, s.name)


@fault("network", 1, 6)
def cut_one_link(c, rng, seconds):
    """Two servers from each other; the third has both."""
    a, b = rng.sample(c.hosts.servers, 2)
    return c.stay_cut(both_ways([a.address], [b.address]), seconds, names([a, b]))


@fault("network", 1, 6)
def cut_one_way(c, rng, seconds):
    """What one server sends to another is lost; the answers are not."""
    a, b = rng.sample(c.hosts.servers, 2)
    return c.stay_cut({(a.address, b.address)}, seconds, f"{a.name} to {b.name}")


@fault("network", 1, 6)
def deafen_server(c, rng, seconds):
    """It hears no server, all hear it."""
    s = c.server(rng)
    return c.stay_cut(one_way(addresses(c.hosts.servers), [s.address]), seconds, s.name)


@fault("network", 1, 6)
def mute_server(c, rng, seconds):
    """No server hears it, it hears all."""
    s = c.server(rng)
    return c.stay_cut(one_way([s.address], addresses(c.hosts.servers)), seconds, s.name)


@fault("network", 1, 4)
def split_in_two(c, rng, seconds):
    """Servers and agents in two parts, each with a server; clients reach both."""
    servers, agents = rng.sample(c.hosts.servers, 3), rng.sample(c.hosts.agents, 3)
    one = servers[:1] + agents[:rng.randrange(4)]
    two = [h for h in c.hosts.all if h not in one]
    return c.stay_cut(both_ways(addresses(one), addresses(two)), seconds, f"{names(one)} from {names(two)}")


@fault("agents", 3, 6)
def cut_off_agent(c, rng, seconds):
    a = rng.choice(c.hosts.agents)
    return c.stay_cut(both_ways([a.address], addresses(c.hosts.servers)), seconds, a.name)


@fault("agents", 3, 6)
def cut_agent_one_way(c, rng, seconds):
    """No server hears it, or it hears none."""
    a, servers = rng.choice(c.hosts.agents), addresses(c.hosts.servers)
    deaf = rng.random() < 0.5
    return c.stay_cut(one_way(servers, [a.address]) if deaf else one_way([a.address], servers), seconds,
                      f"{a.name} {'hears nobody' if deaf else 'is not heard'}")


# --- packets ---

def drop(c, hosts, percent, seconds):
    c.say(f"{percent}% of what comes to {names(hosts)}")
    table = c.table()
    for h in hosts:
        h.add_filter(table, f"numgen random mod 100 < {percent} counter drop")
    try:
        c.stay(seconds)
    finally:
        dropped = [h.remove_filter(table) for h in hosts]
    return sum(dropped) > 0


def delay(c, hosts, least_ms, most_ms, seconds):
    c.say(f"{least_ms} to {most_ms} ms of {names(hosts)}")
    for h in hosts:
        h.wire.delay(least_ms, most_ms)
    try:
        c.stay(seconds)
    finally:
        held = [h.wire.delay(0, 0) for h in hosts]
    return sum(held) > 0


@fault("network", 2, 6)
def drop_packets(c, rng, seconds):
    return drop(c, rng.sample(c.hosts.servers, rng.randint(1, 3)), rng.choice([2, 10, 30]), seconds)


@fault("network", 2, 6)
def delay_packets(c, rng, seconds):
    least = rng.choice([0, 5, 40])
    return delay(c, rng.sample(c.hosts.servers, rng.randint(1, 3)), least, least + rng.choice([10, 60, 200]), seconds)


@fault("agents", 3, 6)
def drop_packets_of_agents(c, rng, seconds):
    # They send little: with less, nothing might be hit.
    return drop(c, rng.sample(c.hosts.agents, rng.randint(2, 3)), rng.choice([25, 50]), seconds)


@fault("agents", 2, 5)
def delay_packets_of_agents(c, rng, seconds):
    least = rng.choice([0, 5, 100])
    return delay(c, rng.sample(c.hosts.agents, rng.randint(1, 3)), least, least + rng.choice([10, 100, 400]), seconds)


# --- the plan ---

def plan(seed, seconds):
    """Lane → [(name, seed, stay, rest)], for so many seconds."""
    lanes = {}
    for lane, kinds in LANES.items():
        rng, row, at = random.Random(f"{seed}-{lane}"), [], 0
        while at < seconds:
            for name in rng.sample(sorted(kinds), len(kinds)):
                stay, rest = rng.uniform(*kinds[name]), rng.uniform(*REST_S)
                row.append((name, f"{seed}-{lane}-{len(row)}", stay, rest))
                at += stay + rest
        lanes[lane] = row
    return lanes


class Lane(threading.Thread):
    """Carries out its part of a plan, until it is told to end: the last fault is healed before its time, then."""

    def __init__(self, name, row, hosts, say):
        super().__init__(daemon=True, name=name)
        self.row, self.counts, self.problem, self.current = row, {}, None, ""
        self.context = Context(name, hosts, lambda text: say(f"{self.current} {text}"))

    def run(self):
        try:
            for self.current, seed, stay, rest in self.row:
                if self.context.end.is_set():
                    return
                struck = FAULTS[self.current](self.context, random.Random(seed), stay)
                if self.context.end.is_set():
                    return           # cut short: not counted
                felt, all_of_them = self.counts.get(self.current, (0, 0))
                self.counts[self.current] = felt + bool(struck), all_of_them + 1
                self.context.stay(rest)
        except Exception as e:       # noqa: BLE001  whatever it is, the run has failed
            self.problem = f"{self.current}: {e!r}"

    def end(self):
        self.context.end.set()
        self.join(120 * PATIENCE)
