"""Why can't I reach my models? The way to the orchestrator and to each node, stage by stage.

`findings` has the values: what each stage came to, and equal troubles of many models as one. `orchestrator`
and `nodes` go the way, over `streams`, and `advice` says what to do about a trouble. Nothing here prints, and
nothing here may send a node more than a health check, nor the orchestrator anything at all.
"""
