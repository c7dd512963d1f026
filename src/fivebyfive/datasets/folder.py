"""The names of a dataset's four files, and finding them in a folder."""

from __future__ import annotations

from pathlib import Path

#: What the four files are called before ``-ubyte``; "idx4" is for images with channels.
_STEMS: dict[str, tuple[str, ...]] = {
    "train-images-idx3-ubyte": ("train-images-idx3", "train-images.idx3", "train-images-idx4"),
    "train-labels-idx1-ubyte": ("train-labels-idx1", "train-labels.idx1"),
    "t10k-images-idx3-ubyte": ("t10k-images-idx3", "t10k-images.idx3", "t10k-images-idx4"),
    "t10k-labels-idx1-ubyte": ("t10k-labels-idx1", "t10k-labels.idx1"),
}
#: The usual names of the four files: training images and labels, test images and labels.
NAMES = tuple(_STEMS)


def find(folder: Path, name: str) -> Path | None:
    """The file of ``folder`` that is the one usually called ``name``, or None.

    Where a file lies there both gzipped and not, as torchvision leaves them, the gzipped one is
    taken: it is the one that was downloaded, and it notices by itself when it is cut short. Some
    archives have a folder of the file's name around the file.
    """
    names = [f"{stem}-ubyte{end}" for stem in _STEMS[name] for end in (".gz", "")]
    found = [folder / each for each in names if (folder / each).exists()]
    inside = (around / each for around in found if around.is_dir() for each in names)
    files = (each for each in (*(f for f in found if not f.is_dir()), *inside) if each.is_file())
    return next(files, found[0] if found else None)


def missing(folder: Path) -> list[str]:
    """Which of the four files ``folder`` doesn't hold."""
    return [name for name in NAMES if find(folder, name) is None]
