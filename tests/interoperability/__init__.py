"""Stubs on our channel against servers of other implementations of gRPC."""
