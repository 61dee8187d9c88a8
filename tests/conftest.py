"""Timing decides no test, so hypothesis has no deadline, whatever machine this is."""

from hypothesis import settings

settings.register_profile(
    "no deadline", parent=settings.get_profile(settings.get_current_profile_name()), deadline=None
)
settings.load_profile("no deadline")
