"""Whole programs, to be copied and changed. Each says at its head how to run it; the tests run all of them.

- `bird_game`: models that keep a history, exact for each of them, and a stop in the middle of a round.
- `assets_and_horizons`: many questions at once, and every answer in a database.
- `web_service`: a web service on Trio, which answers what is open before it stops.
- `from_asyncio`: a cluster for a program on asyncio, for one with threads, and for a notebook.
- `guarded_crunch`: credentials, a check of the way before the start, alarms, and reports of one's own.
"""
