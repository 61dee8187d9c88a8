"""The command ``timeline``: a page, made of a record of rounds, that shows which models have what trouble.

Somebody opens it the morning after, or at 3 a.m., and must see within seconds who stopped answering, who is
late and who got slower, among a thousand models over ten thousand rounds. So nearly all of it is left out:
rounds are counted in cells, ten models a category are drawn, and the reason stands beside each in words.

The way of a record through this room is also the order in which to read it:

- `record` reads lines into rounds, and counts what is none;
- `measuring` counts rounds in memory that stays as it is, however many come;
- `durations` has the times of a round, and the percentiles of all;
- `ranking` has the rules by which a model is in a category;
- `shading` has those by which a cell has its colour, and the picture of all models;
- `words` says numbers, `charts` draws, and `page` writes the page: there, all text from outside is made safe;
- `parquet` writes the record as a table, for whoever has questions of their own;
- `command` has the options, and says what went wrong.

Nothing here knows clusters, models that run, or who wrote the record.
"""

from __future__ import annotations

from .command import timeline

__all__ = ["timeline"]
