"""Reads strangers' data frames in processes of their own.

A participant's answer can be a Parquet file or an Arrow stream, and pyarrow was not made for hostile bytes:
some end the process in a C++ check that no exception can catch, some take gigabytes or many seconds. So such
bytes are read by reader processes, and a frame that ends its reader costs nobody but its model a result. What
a reader sends back is plain: Arrow of a known set of types, with metadata of our own making
(`values.frames.reading` says which).

The room knows values and their bytes. It must not know of models, calls or who is to blame.

To be read in this order:

- `messages`: what goes through the pipes, without I/O; `streams`: a table as bytes.
- `program`: what a reader does, in its process, which has imported pyarrow and little else. `confinement` is
  the limits that it puts itself under. ``python -m trio_model_runner.frame_readers`` runs it.
- `process`: one reader, as seen from here: started, sent frames, ended.
- `queue`: the frames that wait, in the order in which they are read.
- `readers`: the readers of a cluster. It decides which reader gets what, and what follows when one is slow,
  or ends.

The readers are started with `trio.lowlevel.open_process`. `multiprocessing` would run the coordinator's
``__main__`` once more in each of them.
"""
