import pytest

from fivebyfive.datasets import folder


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("stem", ["train-images-idx3", "train-images.idx3", "train-images-idx4"])
def test_usual_spellings_are_found(tmp_path, stem, end):
    path = tmp_path / f"{stem}-ubyte{end}"
    path.touch()
    assert folder.find(tmp_path, "train-images-idx3-ubyte") == path


def test_the_archive_is_preferred(tmp_path):
    for end in ("", ".gz"):
        (tmp_path / f"t10k-labels-idx1-ubyte{end}").touch()
    assert folder.find(tmp_path, "t10k-labels-idx1-ubyte").suffix == ".gz"


def test_missing_names_what_isnt_there(tmp_path):
    assert folder.missing(tmp_path) == list(folder.NAMES)
    (tmp_path / "train-images-idx3-ubyte").touch()
    assert folder.missing(tmp_path) == list(folder.NAMES[1:])


def test_a_folder_of_the_files_name_is_looked_into(tmp_path):
    """As one archive unpacks: around the file, with or without the file beside it."""
    around = tmp_path / "train-images-idx3-ubyte"
    around.mkdir()
    assert folder.find(tmp_path, around.name) == around  # which the reader says is no file
    (around / "train-images-idx3-ubyte").touch()
    assert folder.find(tmp_path, around.name) == around / "train-images-idx3-ubyte"
    beside = tmp_path / "train-images.idx3-ubyte"
    beside.touch()
    assert folder.find(tmp_path, around.name) == beside
