"""Checks of what clients saw. Each returns a list of faults, in words; none is good.

A register is a job that clients write, delete, and change by compare-and-set on its modify_index, where each write has a
value of its own. Its history is linearizable when all operations can be put into one order in which each gives the answer
that it gave, and none stands before one that had ended when it began. The search is Wing and Gong's, with Lowe's memory of
what was tried. An operation of unknown outcome may take effect at any time after it began, once or never; one that was
refused must not."""
import collections
import dataclasses
import math

UNSEEN = object()                    # the value of a write that nobody saw
NEXT = 2 ** -20                      # from an index to one that nobody saw: never to one that was told
DONE, CONFLICT, MISSING, UNKNOWN = "done", "conflict", "missing", "unknown"


@dataclasses.dataclass
class Op:
    """One request of a client on a register."""
    kind: str                        # read, write, cas, delete
    begin: float
    end: float                       # of no meaning when the outcome is unknown
    outcome: str                     # done; conflict (cas, 409); missing (delete, 404); unknown
    value: str | None = None         # written, or read (None: absent)
    index: int = 0                   # of the answer: of the change, or of what was read
    expected: int = 0                # cas
    client: str = ""

    def __str__(self):
        what = {"read": f"read {self.value}@{self.index}", "write": f"write {self.value}@{self.index}",
                "cas": f"cas {self.expected} -> {self.value}@{self.index}", "delete": f"delete @{self.index}"}[self.kind]
        return f"{self.client} [{self.begin:.4f}, {self.end:.4f}] {what}: {self.outcome}"


class Register:
    """How operations change a register: a state is (value, index of the newest change or deletion)."""
    start = (None, 0)

    def __init__(self, ops):
        # An unknown write that was seen later has the index with which it was seen.
        self.index_of = {op.value: op.index for op in ops if op.index and op.value and op.outcome == DONE}

    def set(self, state, value, index):
        index = index or self.index_of.get(value)
        if not index:
            return UNSEEN, state[1] + NEXT     # compares unequal with any that was ever told
        return (value, index) if index > state[1] else None      # indexes rise

    def step(self, state, op):
        """The state after op, None when it cannot have been answered so in this state."""
        value, index = state
        if op.kind == "read":
            return state if op.value == value and (value is None or op.index == index) else None
        if op.kind == "write":
            return self.set(state, op.value, op.index)
        if op.kind == "cas":
            equal = op.expected == (index if value is not None else 0)
            if op.outcome == CONFLICT:
                return None if equal else state
            return self.set(state, op.value, op.index) if equal else None
        if op.outcome == MISSING:
            return state if value is None else None
        if value is None:
            return None
        return self.set(state, None, op.index) and (None, op.index or index + NEXT)


class Search:
    """For an order of one register's operations. A place in it is (which are done, which ghosts were used, state).

    What changes nothing is put into the order as soon as it may stand there, which never hurts. Ghosts are operations of
    unknown outcome that nobody saw: they may be left out, so one is put in only right before what it alone explains, and it
    does not matter which of those that do the same."""

    def __init__(self, ops):
        self.model = Register(ops)
        seen = {op.value for op in ops if op.kind == "read" and op.value}
        is_ghost = [op.outcome == UNKNOWN and op.value not in seen for op in ops]
        # Less useful ones first: a compare-and-set of which the time has come may not be of use any more later.
        self.ghosts = sorted((op for op, ghost in zip(ops, is_ghost) if ghost), key=lambda op: (op.kind != "cas", op.begin))
        self.ops = sorted((op for op, ghost in zip(ops, is_ghost) if not ghost), key=lambda op: op.begin)
        self.ends = [math.inf if op.outcome == UNKNOWN else op.end for op in self.ops]
        self.latest, self.stuck = -math.inf, None

    def ready(self, done):
        """What may come next: all that began before the first end of what is not done. And that first end."""
        first, found = math.inf, []
        for i, op in enumerate(self.ops):
            if op.begin > first:
                break
            if not done >> i & 1:
                found.append(i)
                first = min(first, self.ends[i])
        return [i for i in found if self.ops[i].begin <= first], first

    def skip_readers(self, done, state):
        while True:
            ready, first = self.ready(done)
            same = [i for i in ready if self.model.step(state, self.ops[i]) == state]
            if not same:
                return done, ready, first
            for i in same:
                done |= 1 << i

    def with_ghost(self, used, state, op, first):
        """States after a ghost and then op, with the ghosts that are used then."""
        tried = set()
        for i, ghost in enumerate(self.ghosts):
            does = "delete" if ghost.kind == "delete" else "set"
            if used >> i & 1 or does in tried or ghost.begin > first:
                continue
            between = self.model.step(state, ghost)
            after = between and self.model.step(between, op)
            if after:
                tried.add(does)
                yield used | 1 << i, after

    def run(self):
        """Whether there is an order. If not, stuck is the first operation for which there was no room."""
        stack, visited = [(0, 0, self.model.start)], set()
        while stack:
            done, used, state = stack.pop()
            done, ready, first = self.skip_readers(done, state)
            if first == math.inf:
                return True
            if (done, used, state) in visited:
                continue
            visited.add((done, used, state))
            if first > self.latest:
                self.latest, self.stuck = first, next(self.ops[i] for i in ready if self.ends[i] == first)
            plain = []
            for i in ready:
                after = self.model.step(state, self.ops[i])
                if after:
                    plain.append((done | 1 << i, used, after))
                else:
                    stack += [(done | 1 << i, *more) for more in self.with_ghost(used, state, self.ops[i], first)]
            stack += plain           # these first
        return False


def check_register(name, ops):
    """Linearizability of one register."""
    search = Search(ops)
    if search.run():
        return []
    stuck = search.stuck
    near = sorted((op for op in ops if op.begin <= stuck.end and (op.outcome == UNKNOWN or op.end >= stuck.begin - 1)),
                  key=lambda op: op.begin)
    return [f"register {name} is not linearizable; no order has room for\n    {stuck}\n  among\n    "
            + "\n    ".join(map(str, near[-30:]))]


def check_registers(histories):
    """histories: name → operations."""
    return [fault for name, ops in sorted(histories.items()) for fault in check_register(name, ops)]


def check_jobs(wanted, present):
    """wanted: name → "there", "gone" or "unknown", as it was answered; present: names at the end, each once."""
    names = collections.Counter(present)
    faults = [f"job {n} was acknowledged, and is lost" for n, w in wanted.items() if w == "there" and n not in names]
    faults += [f"job {n} was refused, or deleted, and is there" for n, w in wanted.items() if w == "gone" and n in names]
    faults += [f"job {n} is listed {k} times" for n, k in names.items() if k > 1]
    return faults + [f"job {n} was never asked for" for n in names if n not in wanted]


def event_id(text):
    index, seq = text.split("-")
    return int(index), int(seq)


def check_events(streams):
    """streams: server → [(id, event)] as it told them, over all its connections. Each one rises, and over what two have in
    common they are the same."""
    faults = []
    for name, events in streams.items():
        ids = [event_id(i) for i, _ in events]
        faults += [f"events of {name}: {b} came after {a}" for a, b in zip(ids, ids[1:]) if b <= a]
    names = sorted(streams)
    for a, b in zip(names, names[1:]):
        one, other = dict(streams[a]), dict(streams[b])
        if not one or not other:
            faults.append(f"events of {a} and {b} cannot be compared: {len(one)} and {len(other)} of them")
            continue
        first = max(event_id(next(iter(one))), event_id(next(iter(other))))
        last = min(event_id(next(reversed(one))), event_id(next(reversed(other))))
        for i in sorted(one.keys() | other.keys(), key=event_id):
            if first <= event_id(i) <= last and one.get(i) != other.get(i):
                faults.append(f"event {i} is {one.get(i)} on {a}, and {other.get(i)} on {b}")
    return faults


def check_states(states):
    """states: server → (index, bytes)."""
    faults = []
    (first, (index, state)), *others = sorted(states.items())
    for name, (other_index, other) in others:
        if other_index != index:
            faults.append(f"{name} is at index {other_index}, {first} at {index}")
        elif other != state:
            at = next((i for i, (x, y) in enumerate(zip(state, other)) if x != y), min(len(state), len(other)))
            faults.append(f"the states of {first} and {name} differ at index {index}, from byte {at} on "
                          f"({len(state)} and {len(other)} bytes)")
    return faults


def check_leaders(seen):
    """seen: (term, id of a server that said it leads). One in each term."""
    by_term = collections.defaultdict(set)
    for term, server in seen:
        by_term[term].add(server)
    return [f"term {term} had {len(ids)} leaders: {sorted(ids)}" for term, ids in by_term.items() if len(ids) > 1]


def check_tasks(before, after):
    """Allocation → what tells one run of its task from another."""
    faults = [f"task {a} is gone" for a in before if a not in after]
    faults += [f"task {a} was {before[a]}, and is {after[a]}" for a in before if a in after and before[a] != after[a]]
    return faults + [f"task {a} was not there before" for a in after if a not in before]


def check_starts(starts):
    """The ids of allocations, as their tasks wrote them down when they started."""
    return [f"the task of allocation {a} started {k} times" for a, k in collections.Counter(starts).items() if k > 1]
