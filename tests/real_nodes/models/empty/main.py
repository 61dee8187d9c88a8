from tracker import Tracker  # noqa: F401  and forgets to subclass it
