"""Sizes, counts and times as people write them, the same everywhere."""

from __future__ import annotations

_THOUSANDS = ("", "k", "M", "G", "T")


def scaled(amount: float, digits: int, unit: str = "") -> str:
    """``amount`` with so many digits, in powers of 1000: ``2.264 M``, ``18.8 kB``."""
    amount = float(amount)
    for prefix in _THOUSANDS[:-1]:
        if amount < 999.5:
            return f"{amount:.{digits}g} {prefix}{unit}".rstrip()
        amount /= 1000
    return f"{amount:.{digits}g} {_THOUSANDS[-1]}{unit}"


def size(count: float) -> str:
    """Bytes with three digits: ``18.8 kB``."""
    return scaled(count, 3, "B")


def duration(seconds: float) -> str:
    """A time, as exact as it is worth: ``40 s``, ``3 min 20 s``, ``25 min``, ``2 h 5 min``."""
    whole = max(1, round(seconds))
    if whole >= 600:
        whole = 60 * round(whole / 60)
    if whole >= 86_400:
        whole = 3600 * round(whole / 3600)
    units = {"day": 86_400, "h": 3600, "min": 60, "s": 1}
    parts = []
    for unit, length in units.items():
        number, whole = divmod(whole, length)
        if number:
            parts.append(f"{number} {unit}{'s' if unit == 'day' and number > 1 else ''}")
    return " ".join(parts)


def clock(seconds: float) -> str:
    """A time that runs: ``0:07``, ``12:30``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
