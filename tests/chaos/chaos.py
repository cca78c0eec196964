#!/usr/bin/env python3
"""Three real servers and three agents, as hosts of their own, under faults from a seed; then what clients saw is checked.

usage: chaos.py [--seed S] [--minutes M] [--logs DIR]

The seed is printed; the same one gives the same faults at the same times, as far as the machine's own timing lets it. When
something is wrong, logs and all requests with their answers are left in DIR. Needs root."""
import argparse
import copy
import glob
import json
import os
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hosts import Hosts, enter  # noqa: E402
from clients import Clients, Crasher, Deployer, Scaler  # noqa: E402
from faults import LANES, Lane, plan  # noqa: E402
from history import (DONE, check_events, check_jobs, check_leaders, check_registers, check_starts, check_states,  # noqa: E402
                     check_tasks)
from lib import wait_for  # noqa: E402

TASK = "echo $MENTAT_ALLOC_ID >> {starts}; exec sleep 1000000"
CRASH = "[ -e {root}/$MENTAT_SERVICE ] && exec sleep 1000000; touch {root}/$MENTAT_SERVICE; sleep 0.5; exit 1"
CHURNED, CHURNED_MOST, ROLLED = "churned", 5, "rolled"


class Chaos:
    def __init__(self, run_name, seed, minutes):
        self.seed, self.seconds = seed, minutes * 60
        self.root = tempfile.gettempdir()
        self.starts = f"{self.root}/starts"
        open(self.starts, "x").close()
        self.hosts = Hosts(run_name)
        self.begin = time.monotonic()
        self.faults = []                 # what was found, in words

    def say(self, text):
        print(f"{time.monotonic() - self.begin:8.2f} {text}", flush=True)

    # --- before ---

    def service(self, name, count=1, script=TASK, **more):
        return {"name": name, "driver": "exec", "count": count, "resources": {"cpus": 0.01, "memory_mb": 8},
                "config": {"command": ["/bin/sh"], "args": ["-c", script.format(starts=self.starts, root=self.root)]}, **more}

    def submit(self):
        checked = {"type": "exec", "command": ["/bin/true"], "interval": "1s", "timeout": "2s"}
        services = [self.service("plain", 6), self.service("checked", 3, health=checked),
                    self.service("everywhere", mode="every-node")]
        # Faults are shorter than its time: a deployment that fails does for another reason, such as a clock.
        self.rolled = self.service(ROLLED, 3, deploy={"health_timeout_secs": 90})
        for name, of in (("steady", services), (CHURNED, [self.service(CHURNED, 0)]), (ROLLED, [self.rolled])):
            answer = self.hosts.servers[0].post("/v1/jobs", {"name": name, "services": of})
            assert answer.status == 200, answer
        wait_for(lambda: len(self.tasks()) == 12, 60, "twelve tasks")
        # Once the deployments are over, nothing is left to be done for them.
        wait_for(lambda: all(d["state"] == "successful" for d in self.hosts.servers[0].items("/v1/deployments")), 60,
                 "the deployments")
        self.before = self.tasks()
        self.applied = self.hosts.servers[0].status()["applied_index"]

    def tasks(self, job="steady"):
        """Allocation → pid, when that process began, and how often the agent started it again; of those that serve."""
        found = {}
        for agent in self.hosts.agents:
            pids = {a["id"]: a["pid"] for a in agent.get("/v1/allocs").json}
            for a in self.hosts.servers[0].items(f"/v1/allocs?node={agent.name}"):
                if a["state"] in ("running", "healthy") and a["desired"] == "run" and a["job"] == job:
                    found[a["id"]] = pids[a["id"]], began(pids[a["id"]]), a["restarts"]
        return found

    # --- under faults ---

    def strike(self):
        crash = self.service("crash", script=CRASH, restart={"attempts": 0})
        self.clients = Clients(self.hosts, f"{self.root}/requests.jsonl", self.seed, (Scaler, CHURNED, CHURNED_MOST),
                               (Deployer, self.rolled), (Crasher, crash))
        self.lanes = [Lane(name, row, self.hosts, self.say) for name, row in plan(self.seed, self.seconds).items()]
        end = time.monotonic() + self.seconds
        for lane in self.lanes:
            lane.start()
        while time.monotonic() < end and not self.went_wrong() and not self.hosts.ended():
            time.sleep(0.2)
        ended = self.hosts.ended()
        for lane in self.lanes:
            lane.end()
        self.faults += [f"fault {lane.problem}" for lane in self.lanes if lane.problem]
        self.faults += [f"the faults of {lane.name} did not end" for lane in self.lanes if lane.is_alive()]
        for h in self.hosts.all:
            h.set_clock(0)
        assert not ended, f"{ended} ended by themselves: see their logs"

    def went_wrong(self):
        return self.clients.record.faults or any(lane.problem for lane in self.lanes)

    # --- after ---

    def settle(self):
        """All faults are healed: the cluster serves again, and what was asked for is there."""
        self.say("all is healed")
        healed = time.monotonic()
        self.clients.end()
        record, first = self.clients.record, self.hosts.servers[0]
        wait_for(self.hosts.voters_are_all, 60, "three voters that agree")
        wait_for(lambda: all(n["state"] == "ready" for n in first.items("/v1/nodes")), 60, "all nodes")
        wait_for(lambda: len(self.tasks()) == len(self.before), 60, "all tasks")
        wait_for(self.worked_off, 90, "what was asked for", every=0.2)
        self.end_events()
        self.states = wait_for(self.equal_states, 60, "one index on all servers", every=0.2)
        self.clients.end_watching()
        self.say(f"all is well again after {time.monotonic() - healed:.1f} s")

    def worked_off(self):
        """What clients asked for while faults struck is done."""
        first = self.hosts.servers[0]
        clients = {c.name: c for c in self.clients.asking}
        current = {name: first.get(f"/v1/services/{name}").json["current"]["spec"] for name in (CHURNED, ROLLED)}
        scale, version = self.clients.record.scale, clients["deployer"].sure_version
        assert scale in (None, current[CHURNED]["count"]), f"{CHURNED} was scaled to {scale}: {current}"
        assert version in (None, current[ROLLED]["env"]["VALUE"]), f"{ROLLED} was brought to {version}: {current}"
        assert len(self.tasks(CHURNED)) == current[CHURNED]["count"], f"tasks of {CHURNED}"
        last = max(first.items(f"/v1/deployments?service={ROLLED}"), key=lambda d: d["version"])
        assert last["state"] == "successful" and len(self.tasks(ROLLED)) == 3, f"the last deployment of {ROLLED}: {last}"
        for name in clients["crasher"].kept:
            assert len(self.tasks(name)) == 1, f"task of {name}, which was to be tried again"
        return True

    def end_events(self):
        """The last event of all; each server has told it."""
        answer = self.hosts.servers[0].post("/v1/jobs", {"name": "the-end", "services": [self.service("the-end", 0)]})
        assert answer.status == 200, answer
        self.clients.record.jobs["the-end"] = "there"
        for f in self.clients.followers:
            wait_for(lambda: any(e["subject"] == "the-end" for _, e in f.events[-1000:]), 60, f"the last event of {f.name}")

    def equal_states(self):
        """Server → index and bytes of the state, as each has it, when they are of one index."""
        states = {}
        for s in self.hosts.servers:
            answer = s.get("/v1/snapshot?consistency=stale")
            assert answer.status == 200, answer
            states[s.name] = answer.index, state_of(answer.body)
        return states if len({index for index, _ in states.values()}) == 1 else None

    def evidence(self):
        """Each check with what it is given."""
        record = self.clients.record
        with open(self.starts) as f:
            starts = f.read().split()
        jobs = [j["name"] for j in self.hosts.servers[0].items("/v1/jobs?limit=1000&consistency=strong")]
        return {
            "registers": (check_registers, [dict(record.registers)]),
            "jobs": (check_jobs, [record.jobs, [j for j in jobs if j.startswith(("w", "the-end"))]]),
            "events": (check_events, [{f.name_of_server: f.events for f in self.clients.followers}]),
            "states": (check_states, [self.states]),
            "leaders": (check_leaders, [sorted(record.leaders)]),
            "tasks": (check_tasks, [self.before, self.tasks()]),
            "starts": (check_starts, [starts]),
        }

    def check(self):
        evidence = self.evidence()
        for name, (function, given) in evidence.items():
            found = function(*given)
            self.say(f"check of {name}: {len(found)} faults")
            self.faults += found
        self.faults += self.losses()
        for name, given in lies(evidence):
            if not evidence[name][0](*given):
                self.faults.append(f"the check of {name} did not notice a lie")
        self.faults += self.unfelt()

    def losses(self):
        """Events that tell of what must not happen: a node taken for dead, a task of the steady ones that changed."""
        found = []
        for i, e in self.clients.followers[0].events:
            if e["kind"] == "node" and e["to"] == "down":
                found.append(f"event {i}: node {e['subject']} was taken for dead: {e['reason']}")
            if e["kind"] == "deployment" and e["service"] == ROLLED and e["to"] in ("failed", "reverted"):
                found.append(f"event {i}: a deployment of {e['service']} {e['to']}: {e['reason']}")
            if e["kind"] == "alloc" and e["alloc"] in self.before and e["to"] not in ("running", "healthy"):
                found.append(f"event {i}: {e['alloc']} became {e['to']}: {e['reason']}")
        return found

    def counts(self):
        felt = {}
        for lane in self.lanes:
            for name in LANES[lane.name]:
                felt[name] = lane.counts.get(name, (0, 0))
        return felt

    def unfelt(self):
        return [f"fault {name} never struck (tried {tried} times)" for name, (felt, tried) in self.counts().items() if not felt]

    def report(self):
        print(f"\n{'fault':26} struck of")
        for name, (felt, tried) in self.counts().items():
            print(f"{name:26} {felt:6} {tried}")
        record = self.clients.record
        self.faults = record.faults + self.faults
        print(json.dumps({"name": "chaos", "seed": self.seed, "minutes": self.seconds / 60,
                          "answers": dict(sorted(record.counts.items())),
                          "registers": len(record.registers), "operations": sum(map(len, record.registers.values())),
                          "jobs": len(record.jobs), "events": [len(f.events) for f in self.clients.followers],
                          "terms": len({t for t, _ in record.leaders}), "longest_gap_s": round(record.longest_gap_s, 1)}))
        for text in self.faults:
            print(f"WRONG: {text}")
        end = "failed" if self.faults else "passed"
        print(f"chaos: {end} with --seed {self.seed} --minutes {self.seconds / 60:g}", flush=True)


def began(pid):
    """When a process began, in ticks since the boot."""
    with open(f"/proc/{pid}/stat") as f:
        return int(f.read().rpartition(")")[2].split()[19])


def state_of(file):
    """The state in a snapshot's file: a line, the head's length and the head, the state's length and the state, a hash."""
    at = file.index(b"\n") + 1
    at += 4 + int.from_bytes(file[at:at + 4], "little")
    size = int.from_bytes(file[at:at + 8], "little")
    state = file[at + 8:-8]
    assert len(state) == size, (len(state), size)
    return state


def lies(evidence):
    """The same evidence with one lie each, which must be noticed: else a check that found nothing says nothing."""
    registers, = evidence["registers"][1]
    name, ops = max(registers.items(), key=lambda r: len(r[1]))
    reads = [op for op in ops if op.kind == "read" and op.value]
    seen = {op.value for op in reads}
    lost = next(op for op in ops if op.kind in ("write", "cas") and op.value in seen)
    yield "registers", [{name: [op for op in ops if op is not lost]}]       # read, although nobody wrote it
    end = max(op.end for op in ops)
    stale = copy.copy(min(reads, key=lambda op: op.index))
    stale.begin, stale.end = end + 1, end + 2
    if any(op.index > stale.index and op.outcome == DONE and op.kind != "read" for op in ops):
        yield "registers", [{name: [*ops, stale]}]
    wanted, present = evidence["jobs"][1]
    there = next(n for n in present if wanted[n] == "there")
    yield "jobs", [wanted, [n for n in present if n != there]]
    streams, = evidence["events"][1]
    one, events = next(iter(streams.items()))
    middle = len(events) // 2
    yield "events", [{**streams, one: events[:middle] + [events[middle + 1], events[middle]] + events[middle + 2:]}]
    yield "events", [{**streams, one: events[:middle] + events[middle + 1:]}]
    states, = evidence["states"][1]
    one, (index, state) = next(iter(states.items()))
    yield "states", [{**states, one: (index, state[:-1] + bytes([state[-1] ^ 1]))}]
    leaders, = evidence["leaders"][1]
    yield "leaders", [[*leaders, (leaders[0][0], "another")]]
    before, after = evidence["tasks"][1]
    one, (pid, begin, restarts) = next(iter(after.items()))
    yield "tasks", [before, {**after, one: (pid, begin + 1, restarts)}]
    starts, = evidence["starts"][1]
    yield "starts", [[*starts, starts[0]]]


def keep_logs(chaos, logs):
    shutil.rmtree(logs, ignore_errors=True)
    os.makedirs(logs)
    for h in chaos.hosts.all:
        for path in glob.glob(f"{h.workdir.path}/*.log"):
            shutil.copy(path, f"{logs}/{h.name}.log")
    for path in glob.glob(f"{chaos.root}/requests.jsonl") + [chaos.starts]:
        shutil.copy(path, logs)
    if hasattr(chaos, "clients"):
        with open(f"{logs}/registers.json", "w") as f:
            json.dump({n: [str(op) for op in ops] for n, ops in chaos.clients.record.registers.items()}, f, indent=1)
    print(f"logs, requests and answers are in {logs}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", default=str(time.time_ns() // 1000 % 1000000))
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--logs", help="default: /tmp/mentat-chaos-logs-SEED")
    options = parser.parse_args()
    run_name = enter()
    print(f"chaos: --seed {options.seed} --minutes {options.minutes:g}", flush=True)
    chaos = Chaos(run_name, options.seed, options.minutes)
    try:
        chaos.hosts.start()
        chaos.submit()
        chaos.strike()
        chaos.settle()
        chaos.check()
        chaos.faults += [f"left behind: {left}" for left in chaos.hosts.end()]
    except (Exception, KeyboardInterrupt) as e:      # noqa: BLE001  the report is made in any case
        chaos.faults.append(f"the run ended early: {e!r}")
        if not isinstance(e, (AssertionError, KeyboardInterrupt)):
            raise
    finally:
        if hasattr(chaos, "lanes"):
            chaos.report()
        for text in chaos.faults if not hasattr(chaos, "lanes") else []:
            print(f"WRONG: {text}")
        if chaos.faults or sys.exc_info()[0]:
            keep_logs(chaos, options.logs or f"/tmp/mentat-chaos-logs-{options.seed}")
    sys.exit(1 if chaos.faults else 0)


if __name__ == "__main__":
    main()
