"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# A slow machine is no failure, and a run of the suite finds what the last one found.
settings.register_profile("farthing", deadline=None, derandomize=True)
settings.load_profile("farthing")
