"""The datasets by name: their files, the digests that prove them, and where they may be found.

To add a dataset of the MNIST family, add its :class:`Entry` to :data:`CATALOG`; everything else
(search, download, checks, tests) follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..lib.errors import UnknownNameError


@dataclass(frozen=True)
class File:
    """One IDX file of a dataset.

    ``size`` in bytes and ``sha256`` are of the content, decompressed, so that a recompressed copy
    is as good as the original; ``md5`` is of the ``.gz`` archive as the mirrors have it, or None if
    there are none.
    """

    name: str
    size: int
    sha256: str
    md5: str | None = None


@dataclass(frozen=True)
class Entry:
    """A named dataset.

    ``files`` are the training images and labels, then the test images and labels. ``folders`` are
    the sub-folders of a data folder it may lie in, ``homes`` the fixed places where it may be
    installed, and ``mirrors`` the addresses its ``.gz`` files are downloaded from, best first.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    files: tuple[File, File, File, File]
    licence: str
    folders: tuple[str, ...] = ()
    homes: tuple[Path, ...] = ()
    mirrors: tuple[str, ...] = ()
    package: str | None = None  # the Debian package that installs it
    stand_in: str | None = None  # what may be used in its place when the user named no dataset


_CLOTHES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

FASHION_MNIST = Entry(
    name="fashion-mnist",
    title="Fashion-MNIST: 60,000 + 10,000 pictures of clothes, 28×28, 10 classes",
    classes=_CLOTHES,
    files=(
        File(
            "train-images-idx3-ubyte",
            47_040_016,
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        ),
        File(
            "train-labels-idx1-ubyte",
            60_008,
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "25c81989df183df01b3e8a0aad5dffbe",
        ),
        File(
            "t10k-images-idx3-ubyte",
            7_840_016,
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "bef4ecab320f06d8554ea6380940ec79",
        ),
        File(
            "t10k-labels-idx1-ubyte",
            10_008,
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    licence="MIT, © 2017 Zalando SE",
    folders=("fashion-mnist", "FashionMNIST/raw"),
    homes=(Path("/usr/share/datasets/fashion-mnist"),),
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com",
    ),
    package="dataset-fashion-mnist",
    stand_in="sample",
)

MNIST = Entry(
    name="mnist",
    title="MNIST: 60,000 + 10,000 handwritten digits, 28×28, 10 classes",
    classes=tuple("0123456789"),
    files=(
        File(
            "train-images-idx3-ubyte",
            47_040_016,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        ),
        File(
            "train-labels-idx1-ubyte",
            60_008,
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "d53e105ee54ea40749a09fcbcd1e9432",
        ),
        File(
            "t10k-images-idx3-ubyte",
            7_840_016,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "9fb629c4189551a2d022fa330f9573f3",
        ),
        File(
            "t10k-labels-idx1-ubyte",
            10_008,
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ),
    licence="© Yann LeCun and Corinna Cortes, commonly given as CC BY-SA 3.0",
    folders=("mnist", "MNIST/raw"),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    ),
)

#: Ships inside this package; made by tools/make_sample.py.
SAMPLE = Entry(
    name="sample",
    title="Sample of Fashion-MNIST that ships with fivebyfive: 6,000 + 1,000 pictures of clothes",
    classes=_CLOTHES,
    files=(
        File(
            "train-images-idx3-ubyte",
            4_704_016,
            "cf313073c7eb485392848071d5c433571d7166043e971e3345b095cc30518084",
        ),
        File(
            "train-labels-idx1-ubyte",
            6_008,
            "097b93fbcf9bd5bc648b1a457ddc55c9e4ab49afb33f9ecae8ce068399a75e3a",
        ),
        File(
            "t10k-images-idx3-ubyte",
            784_016,
            "7cee33c3c6414b1b86c25e665a6c4f41584269de3b7cc9768b1d351922845eef",
        ),
        File(
            "t10k-labels-idx1-ubyte",
            1_008,
            "3128d790775889812b73c4f13923559c8b9e281d112c6ea7862acf60a206a909",
        ),
    ),
    licence="MIT, © 2017 Zalando SE",
    homes=(Path(__file__).with_name("sample"),),
)

CATALOG: dict[str, Entry] = {e.name: e for e in (FASHION_MNIST, MNIST, SAMPLE)}


def names() -> list[str]:
    """The named datasets, sorted."""
    return sorted(CATALOG)


def get(name: str) -> Entry:
    """The dataset called ``name``.

    Raises:
        UnknownNameError: with the nearest names.
    """
    try:
        return CATALOG[name]
    except KeyError:
        hint = "A dataset of your own goes by the path of its folder, with a / in it."
        raise UnknownNameError("dataset", name, CATALOG, hint) from None
