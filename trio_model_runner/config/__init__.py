"""What a coordinator can set.

Read in this order: `settings` has the classes with every field (`Backoff` has the waits between attempts to
connect), `validators` refuses wrong values, and `settings_file` reads TOML and the environment. Nothing here
may know what other rooms do with a setting.
"""

from .settings import Backoff, ClusterConfig, Health, Keepalive, Limits, OrchestratorConfig

__all__ = ["Backoff", "ClusterConfig", "Health", "Keepalive", "Limits", "OrchestratorConfig"]
