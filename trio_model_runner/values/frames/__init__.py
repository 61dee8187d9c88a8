"""Data frames as bytes, and back: Parquet files and Arrow streams.

`writing` turns the coordinator's frames into bytes, of a table that `sent_tables` makes. All that a frame
holds must arrive on a node, whose pandas and pyarrow are others, or it is refused: its labels by
`label_trials`, its objects by `object_trials` (both compare by `equality`), types by `sent_types`, values by
`sent_values`.

What comes back was written by strangers, and is read in two steps. They may be in two processes: for bytes
that are made to do so, the first step may end its own.

- `reading` turns bytes into a plain table. It refuses what has other types than those of `plain_types` (and
  `time_zones`), reads the rest a batch at a time, weighs it (`bounds`), and leaves nothing of the stranger's
  metadata (`plain_arrays`, `views`). What pandas wrote about a frame is made anew by `pandas_metadata`, with
  `pandas_dtypes`, `pandas_labels` and `pandas_extensions`. It imports no pandas.
- `presenting` turns a plain table into what the coordinator wants. For a pandas frame, `objects` counts the
  Python objects, `slicing` makes them a few at a time, and `pandas_index` does so for an index.

Nothing here may know of the other types of values.
"""
