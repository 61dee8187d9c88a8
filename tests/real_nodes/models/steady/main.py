import math

import pandas
from tracker import Tracker


class Steady(Tracker):
    def __init__(self, *args, start=0, scale=1.0):
        self.made_with = {"args": list(args), "start": start, "scale": scale}
        self.history = []

    def tick(self, value):
        self.history.append(value)

    def ticks(self):
        return self.history

    def predict(self, base=1.5, factor=1):
        return base * factor

    def constructor(self):
        return self.made_with

    def describe(self, first=None, second=None, *, third=None):
        return [[type(value).__name__, repr(value)] for value in (first, second, third)]

    def describe_frame(self, frame):
        return {
            "columns": list(frame.columns),
            "dtypes": [str(dtype) for dtype in frame.dtypes],
            "index": [str(label) for label in frame.index],
            "index_name": frame.index.name,
            "index_dtype": str(frame.index.dtype),
            "rows": frame.astype(str).values.tolist(),
        }

    def echo(self, value):
        return value

    def answer(self, kind):
        return {
            "float": 2.5,
            "nan": math.nan,
            "int": -(2**62),
            "too large an int": 2**63,
            "bool": True,
            "str": "Grüße, 世界 🐦",
            "lone surrogate": ["\ud800"],
            "dict": {"a": [1, None, {"b": 2.0}], "nan": math.nan, "inf": math.inf},
            "list": [1, "two", 3.0, None, True],
            "empty dict": {},
            "none": None,
            "frame": pandas.DataFrame(
                {"price": [1.5, math.nan], "size": [1, 2], "name": ["a", None]},
                index=pandas.DatetimeIndex(["2026-01-01", "2026-01-02"], name="at"),
            ),
            "empty frame": pandas.DataFrame({"price": pandas.Series(dtype="float32")}),
            "tuple": (1, 2),
            "set": {1},
            "series": pandas.Series([1.0]),
            "not json": {"a": object()},
        }[kind]

    def text(self, length):
        self.history.append("text")
        return "x" * length

    def calibrate(self):
        return "calibrated"
