from tracker import Tracker


class Raising(Tracker):
    def tick(self, value):
        raise ValueError(f"can't take {value!r}: Grüße 世界")

    def predict(self, *args):
        raise RuntimeError("no idea")

    def refuse(self):
        raise SystemExit("I quit")
