"""A cluster of thirty node processes and an orchestrator, to which everything happens that can happen."""
