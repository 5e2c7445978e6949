"""Hypothesis without a deadline: how long an example takes depends on who else uses the machine."""

from hypothesis import settings

settings.register_profile("unfloat", deadline=None)
settings.load_profile("unfloat")
