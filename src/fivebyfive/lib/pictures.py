"""Letters in pictures: names of data and classes may be in any script."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

#: Fonts with Chinese, Japanese and Korean characters that systems come with, or that are free.
_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "Microsoft YaHei",
    "PingFang SC", "Hiragino Sans GB", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "SimHei",
    "Arial Unicode MS",
)  # fmt: skip


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """While drawing: what matplotlib's own font lacks is taken from one that is installed.

    Where none is, boxes are drawn, and nobody is warned letter by letter.
    """
    import matplotlib as mpl
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    families = [*mpl.rcParams["font.sans-serif"], *(f for f in _FONTS if f in installed)]
    with warnings.catch_warnings(), mpl.rc_context({"font.family": _present(families, installed)}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def _present(families: list[str], installed: set[str]) -> list[str]:
    """Those that are there, each once; matplotlib complains of others."""
    return [name for name in dict.fromkeys(families) if name in installed] or ["sans-serif"]
