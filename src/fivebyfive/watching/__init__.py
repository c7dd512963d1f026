"""Watching: whoever listens to a training's events and shows or keeps them.

To add a listener, write its file beside this one, with ``on(event)`` and ``close()``.
"""

from .choice import choose

__all__ = ["choose"]
