import time

from tracker import Tracker


class Hanging(Tracker):
    def __init__(self, *args, **kwargs):
        print("Hanging is holding", flush=True)  # noqa: T201
        time.sleep(3600)
