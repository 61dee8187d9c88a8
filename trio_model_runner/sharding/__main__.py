"""Runs `program`."""

from .program import main

main()
