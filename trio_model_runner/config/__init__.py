"""What a coordinator can set.

`settings` has the classes with every field: read it first. `validators` refuses wrong values, and
`settings_file` reads TOML and the environment. Nothing here knows what a setting makes others do.
"""

from .settings import Backoff, ClusterConfig, Health, Keepalive, Limits, OrchestratorConfig

__all__ = ["Backoff", "ClusterConfig", "Health", "Keepalive", "Limits", "OrchestratorConfig"]
