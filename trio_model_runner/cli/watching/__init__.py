"""What a running crunch does, for `watch` and `status`.

There are three sources, and all give the same events, as dicts with a ``type``: `socket_source` reads the
`StatusSocket` of a coordinator, `record_source` follows the file of a `RoundRecorder`, and `observer_source`
observes by itself. `picture` puts the events together and says what is worst; `screen` draws the picture, and
`lines` writes each event as one line, for a pipe. Only the last two know terminals. What comes from outside
is any JSON: `fields` reads it without trust.
"""
