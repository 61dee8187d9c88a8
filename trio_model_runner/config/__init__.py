"""What a coordinator can set.

`settings` has the classes with every field; `validators` says no to a wrong value, and `settings_file`
reads TOML and the environment.
"""

from .settings import Backoff, ClusterConfig, Health, Keepalive, Limits, OrchestratorConfig

__all__ = ["Backoff", "ClusterConfig", "Health", "Keepalive", "Limits", "OrchestratorConfig"]
