#!/usr/bin/env python3
"""The checks of histories: good ones pass, each kind of lie is found."""
import os
import random
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from history import (CONFLICT, DONE, MISSING, UNKNOWN, Op, Register, check_events, check_jobs, check_leaders,  # noqa: E402
                     check_register, check_starts, check_states, check_tasks)


def read(begin, end, value, index):
    return Op("read", begin, end, DONE, value, index)


def write(begin, end, value, index=0, outcome=DONE):
    return Op("write", begin, end, outcome, value, index)


def cas(begin, end, expected, value, index=0, outcome=DONE):
    return Op("cas", begin, end, outcome, value, index, expected)


def delete(begin, end, index=0, outcome=DONE):
    return Op("delete", begin, end, outcome, index=index)


class Registers(unittest.TestCase):
    def good(self, *ops):
        self.assertEqual(check_register("r", list(ops)), [])

    def bad(self, *ops):
        self.assertEqual(len(check_register("r", list(ops))), 1)

    def test_one_after_the_other(self):
        self.good()
        self.good(read(0, 1, None, 0), write(2, 3, "a", 5), read(4, 5, "a", 5), cas(6, 7, 5, "b", 8), read(8, 9, "b", 8),
                  cas(10, 11, 5, "c", outcome=CONFLICT), delete(12, 13, 9), read(14, 15, None, 0),
                  delete(16, 17, outcome=MISSING), cas(18, 19, 0, "d", 12), read(20, 21, "d", 12))

    def test_at_the_same_time(self):
        self.good(write(0, 10, "a", 5), read(1, 2, None, 0), read(3, 4, "a", 5))
        self.good(write(0, 10, "a", 5), write(0, 10, "b", 4), read(1, 2, "b", 4), read(3, 4, "a", 5))
        self.good(cas(0, 10, 0, "a", 5), cas(0, 10, 0, "b", outcome=CONFLICT))

    def test_stale_reads(self):
        self.bad(write(0, 1, "a", 5), read(2, 3, None, 0))
        self.bad(write(0, 1, "a", 5), write(2, 3, "b", 6), read(4, 5, "a", 5))
        self.bad(write(0, 10, "a", 5), read(1, 2, "a", 5), read(3, 4, None, 0))
        self.bad(write(0, 1, "a", 5), delete(2, 3, 6), read(4, 5, "a", 5))

    def test_reads_of_what_was_never_there(self):
        self.bad(read(0, 1, "a", 5))
        self.bad(read(0, 1, "a", 5), write(2, 3, "a", 5))
        self.bad(write(0, 1, "a", 5), read(2, 3, "a", 6))
        self.bad(write(0, 1, "a", 5), write(2, 3, "b", 4), read(4, 5, "b", 4))     # an index that fell

    def test_lost_updates(self):
        self.bad(write(0, 1, "a", 5), cas(2, 10, 5, "b", 6), cas(2, 10, 5, "c", 7))
        self.bad(cas(0, 1, 0, "a", 5), cas(2, 3, 0, "b", 6))
        self.bad(write(0, 1, "a", 5), cas(2, 3, 5, "b", outcome=CONFLICT))         # nobody had changed it
        self.bad(write(0, 1, "a", 5), delete(2, 3, outcome=MISSING))
        self.bad(delete(0, 1, 5))

    def test_unknown_outcomes(self):
        unknown = write(0, 1, "b", outcome=UNKNOWN)
        self.good(unknown, read(2, 3, None, 0))
        self.good(unknown, read(2, 3, None, 0), read(4, 5, "b", 7), read(6, 7, "b", 7))    # late, and still once
        self.bad(unknown, read(4, 5, "b", 7), write(6, 7, "c", 8), read(8, 9, "b", 7))     # twice
        self.bad(unknown, read(4, 5, "b", 7), write(6, 7, "c", 8), read(8, 9, "b", 9))     # twice, as two changes
        self.bad(read(0, 1, "b", 7), write(2, 3, "b", outcome=UNKNOWN))                    # before it began
        # Nobody saw it, but it explains a refusal: it stood there for a while.
        self.good(write(0, 1, "a", 5), write(2, 3, "b", outcome=UNKNOWN), cas(4, 5, 5, "c", outcome=CONFLICT))
        self.good(write(0, 1, "a", 5), delete(2, 3, outcome=UNKNOWN), delete(4, 5, outcome=MISSING))
        self.good(write(0, 1, "a", 5), cas(2, 3, 5, "b", outcome=UNKNOWN), read(4, 5, "b", 6))
        self.bad(write(0, 1, "a", 5), cas(2, 3, 4, "b", outcome=UNKNOWN), read(4, 5, "b", 6))
        self.good(cas(0, 1, 0, "a", outcome=UNKNOWN), cas(2, 3, 7, "b", 9), read(4, 5, "b", 9), read(0, 2, "a", 7))

    def random_history(self, rng, clients=5, ops=120):
        """What clients of a real register see: each operation takes effect at a moment between its begin and its end."""
        state, index, value, history, known = (None, 0), 0, 0, [], [0]
        free, now = [0.0] * clients, 0.0
        for _ in range(ops):
            client = min(range(clients), key=lambda c: free[c])
            now = max(now, free[client]) + rng.random()
            begin, end = max(now - rng.random() * 3, free[client]), now + rng.random() * 3
            free[client] = end
            op = Op(rng.choice(["read", "read", "write", "cas", "cas", "delete"]), begin, end, DONE)
            index += rng.randrange(1, 3)
            if op.kind == "read":
                op.value, op.index = state
            elif op.kind == "delete":
                op.outcome, op.index = (MISSING, 0) if state[0] is None else (DONE, index)
                state = (None, 0)
            else:
                value += 1
                op.value, op.expected = f"v{value}", rng.choice(known[-2:]) if op.kind == "cas" else 0
                if op.kind == "write" or op.expected == state[1]:
                    op.index, state = index, (op.value, index)
                else:
                    op.outcome = CONFLICT
            if op.kind != "read" and rng.random() < 0.1:
                op.outcome, op.index = UNKNOWN, 0
            if op.index:
                known.append(op.index)       # a client can only expect what some client was told
            history.append(op)
        return history

    def test_histories_of_a_real_register_pass_and_their_lies_are_found(self):
        lies = 0
        for seed in range(40):
            history = self.random_history(random.Random(seed))
            self.assertEqual(check_register(seed, history), [], f"seed {seed}")
            writes = [op for op in history if op.outcome == DONE and op.kind in ("write", "cas")]
            for liar in [op for op in history if op.kind == "read"]:
                gone = [w for w in writes for later in writes if w.end < later.begin and later.end < liar.begin]
                if gone:
                    was = liar.value, liar.index
                    liar.value, liar.index = gone[-1].value, gone[-1].index
                    self.assertEqual(len(check_register(seed, history)), 1, f"seed {seed}")
                    liar.value, liar.index = was
                    lies += 1
        self.assertGreater(lies, 500)


    def by_trying_all(self, ops, model=None, state=Register.start):
        """Linearizability by its definition, for a few operations."""
        model = model or Register(ops)
        if all(op.outcome == UNKNOWN for op in ops):
            return True
        for op in ops:
            rest = [o for o in ops if o is not op]
            after = model.step(state, op) if all(o.outcome == UNKNOWN or o.end >= op.begin for o in rest) else None
            if after and self.by_trying_all(rest, model, after):
                return True
        return False

    def test_the_search_says_what_trying_all_orders_says(self):
        said = []
        for seed in range(1500):
            rng = random.Random(seed)
            history = self.random_history(rng, clients=3, ops=rng.randint(3, 7))
            for op in rng.sample(history, rng.randrange(3)):
                lie = rng.randrange(4)
                if lie == 0 and op.kind != "read":
                    op.outcome, op.index = UNKNOWN, 0
                elif lie == 1:
                    op.begin, op.end = op.begin + 3, op.end + 3
                elif lie == 2 and op.kind == "read":
                    op.value, op.index = None, 0
                elif lie == 3 and op.kind == "cas":
                    op.expected = rng.randrange(8)
            expected = self.by_trying_all(history)
            self.assertEqual(check_register(seed, history) == [], expected, f"seed {seed}: {[*map(str, history)]}")
            said.append(expected)
        self.assertGreater(sum(said), 200)
        self.assertGreater(said.count(False), 200)


class Others(unittest.TestCase):
    def test_jobs(self):
        wanted = {"a": "there", "b": "gone", "c": "unknown", "d": "unknown"}
        self.assertEqual(check_jobs(wanted, ["a", "c"]), [])
        for present in (["c"], ["a", "b"], ["a", "a"], ["a", "x"]):
            self.assertEqual(len(check_jobs(wanted, present)), 1, present)

    def test_events(self):
        one = [("4-0", "x"), ("4-1", "y"), ("10-0", "z")]
        self.assertEqual(check_events({"s1": one, "s2": one[1:], "s3": one[:2]}), [])
        for other in ([("4-0", "x"), ("10-0", "z")],                 # one is missing
                      [("4-0", "x"), ("4-1", "q"), ("10-0", "z")],   # another one
                      []):
            self.assertTrue(check_events({"s1": one, "s2": other}), other)
        self.assertTrue(check_events({"s1": one, "s2": [one[0], one[2], one[1]]}))      # another order
        self.assertTrue(check_events({"s1": one, "s2": one + [one[-1]]}))               # twice

    def test_states(self):
        self.assertEqual(check_states({"s1": (4, b"x"), "s2": (4, b"x")}), [])
        self.assertTrue(check_states({"s1": (4, b"x"), "s2": (4, b"y")}))
        self.assertTrue(check_states({"s1": (4, b"x"), "s2": (5, b"x")}))

    def test_leaders(self):
        self.assertEqual(check_leaders([(1, "a"), (1, "a"), (2, "b"), (3, "a")]), [])
        self.assertEqual(len(check_leaders([(1, "a"), (2, "b"), (2, "a")])), 1)

    def test_tasks(self):
        before = {"a": (10, 5), "b": (11, 5)}
        self.assertEqual(check_tasks(before, dict(before)), [])
        for after in ({"a": (10, 5)}, {"a": (10, 6), "b": (11, 5)}, {**before, "c": (1, 1)}):
            self.assertEqual(len(check_tasks(before, after)), 1, after)
        self.assertEqual(check_starts(["a", "b"]), [])
        self.assertEqual(len(check_starts(["a", "b", "a"])), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
