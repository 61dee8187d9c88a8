"""Tests of a model's life and calls on whole clusters run over shards, too."""

from helpers.over_shards import kind_of_cluster, pytest_generate_tests

__all__ = ["kind_of_cluster", "pytest_generate_tests"]
