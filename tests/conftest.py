"""For all tests: hypothesis has no deadline, since timing decides no test; and pytest says what is tested.

Hypothesis tries 40 examples where a test does not say how many, and others in each run: with more, the run of
all tests would take too long.
"""

import gc
from pathlib import Path

from hypothesis import settings

import trio_model_runner

settings.register_profile(
    "no deadline",
    parent=settings.get_profile(settings.get_current_profile_name()),
    deadline=None,
    max_examples=40,
)
settings.load_profile("no deadline")


def pytest_report_header() -> str:
    """Which package it is: that of the work tree, or an installed one."""
    return f"trio_model_runner: {Path(trio_model_runner.__file__).parent}"


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what is there by now, 800,000 objects that stay."""
    gc.collect()
    gc.freeze()
