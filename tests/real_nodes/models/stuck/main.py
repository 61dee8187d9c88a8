import ctypes
import os
import re
import time

from tracker import Tracker


class Stuck(Tracker):
    def __init__(self, *args, **kwargs):
        self.history = []

    def tick(self, value):
        self.history.append(value)

    def ticks(self):
        return self.history

    def predict(self, how):
        """Be well, sleep or spin for ever, or hold the interpreter for seconds or until a pipe opens."""
        how, _, detail = how.partition(" ")
        if how != "well":
            print("Stuck is holding", flush=True)
        if how == "sleep":
            time.sleep(3600)
        while how == "spin":
            pass
        if how == "backtrack":
            backtrack(float(detail))
        if how == "block":
            block(detail)
        return how

    def train(self, release):
        return self.hold(release)


def backtrack(seconds):
    """Match a pattern that backtracks without end, nearly: in one call, which lets go of nothing."""
    text = "a" * 16 + "b"
    began = time.perf_counter()
    re.findall("(?:a+)+c", text * 8)
    one = (time.perf_counter() - began) / 8
    re.findall("(?:a+)+c", text * int(seconds / one))


def block(pipe):
    """Wait until somebody opens a pipe's other end: in one call, which lets go of nothing."""
    ctypes.PyDLL(None).open(pipe.encode(), os.O_RDONLY)
