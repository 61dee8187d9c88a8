"""What a coordinator can set.

Read in this order: `settings` has the classes with every field (`Backoff` has the waits between attempts to
connect), `validators` refuses wrong values, `together` tells all that are wrong at once,
and `settings_file` reads TOML and the environment. Nothing here may know what other rooms do with a setting.
"""

from .settings import Backoff, ClusterConfig, Health, Keepalive, Limits, OrchestratorConfig
from .together import rule_of

__all__ = ["Backoff", "ClusterConfig", "Health", "Keepalive", "Limits", "OrchestratorConfig", "rule_of"]
