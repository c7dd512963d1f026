from __future__ import annotations

from pathlib import Path

import pytest

from fivebyfive import config
from fivebyfive.lib.errors import RecipeError


def test_reads_settings_with_either_spelling(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('recipe = "lenet-mnist"\nbatch-size = 64\nlr = 0.5\ndata = "mnist"\n')
    assert config.read(file) == {
        "recipe": "lenet-mnist",
        "batch_size": 64,
        "lr": 0.5,
        "dataset": "mnist",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"epochs = ", "isn't TOML"),
        (b"\xff\xfe", "isn't TOML"),
        (b"epoch = 3", "unknown setting 'epoch'. Did you mean 'epochs'?"),
        (b'"" = 3', "unknown setting ''"),
        (b"[train]\nepochs = 3", "unknown setting 'train'"),
        (b"recipe = 3", "recipe is 3; expected a name in quotes"),
        (b'optimizer = ["sgd"]', "optimizer is ['sgd']; expected one of sgd, adam"),
        (b'recipe = "lenet-d21"', "unknown recipe 'lenet-d21'. Did you mean 'lenet-d2l'"),
        (b'network = "alexnett"', "unknown network 'alexnett'. Did you mean 'alexnet'"),
        (b"network = 3", "network is 3; expected a name"),
        (b"data = true", "dataset is True; expected a name"),
        (b'epochs = "3"', "epochs is '3'; expected a whole number of at least 1"),
        (b"batch-size = 1.5", "batch_size is 1.5; expected a whole number of at least 1"),
        (b'lr = "fast"', "lr is 'fast'; expected a finite number"),
        (b"lr = 1" + 400 * b"0", "expected a finite number"),
        (b"lr = 1" + 9000 * b"0", "isn't TOML"),
        (b'data = "mnist"\ndataset = "sample"', "sets something twice: data, dataset"),
        (b"std = 0", "std is 0; expected a finite number above 0"),
        (b"[mean]\nred = 1", "mean is {'red': 1}; expected a finite number"),
        (b'network = "net.py:Net"', "Code of your own is only run where you name it"),
        (b'recipe = "net.py:Net"', "Code of your own is only run where you name it"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        config.read(file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No such file"):
        config.read(tmp_path / "none.toml")
