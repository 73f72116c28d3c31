"""What a task was when, and whether an answer is that of a version that held while it was asked for."""

import threading
import time
from dataclasses import dataclass
from math import inf

REMOVED = None


@dataclass
class State:
    """A version of a task and what stands behind it, or REMOVED; from some moment of its change on."""
    version: int
    variant: object
    began: float
    ended: float = inf


class History:
    """The changes of one task, one at a time. Threads: all calls in parallel."""

    def __init__(self):
        self.states, self.lock = [State(0, REMOVED, -inf, -inf)], threading.Lock()

    @property
    def now(self):
        return self.states[-1]

    def begin(self, variant):
        """A change to the next version, or to REMOVED, may be seen from now on."""
        version = 0 if variant is REMOVED else 1 + max(state.version for state in self.states)
        with self.lock:
            self.states.append(State(version, variant, time.monotonic()))
        return self.now

    def end(self):
        """It must be seen from now on."""
        self.now.ended = time.monotonic()

    def possible(self, sent, done):
        """The states of which one at least held at some moment from `sent` to `done`."""
        with self.lock:
            states = list(self.states)
        seen = []
        for state in reversed(states):
            if state.began <= done:
                seen.append(state)
            if state.ended < sent:
                break
        return seen


def may_be(history, version, sent, done):
    """The state that an answer of this version (0: there is none) comes from; None: it cannot have come."""
    return next((state for state in history.possible(sent, done) if state.version == version), None)
