"""Tests against the node software that is deployed, `crunch-model-runner`, in processes of its own."""
