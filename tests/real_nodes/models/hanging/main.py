import time

from tracker import Tracker


class Hanging(Tracker):
    def __init__(self, *args, **kwargs):
        print("Hanging is holding", flush=True)
        time.sleep(3600)
