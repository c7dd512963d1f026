"""Datasets: where they lie, how they are fetched and verified, and how pixels become numbers."""

from .catalog import names
from .loading import Listing, Report, describe, load, obtain, status

__all__ = ["Listing", "Report", "describe", "load", "names", "obtain", "status"]
