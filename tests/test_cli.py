from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fivebyfive import cli, commands, networks, recipes


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> tuple[str, str]:
    assert cli.main([str(word) for word in words]) == status
    return capsys.readouterr()


TRAIN_KEYS = {
    "run", "recipe", "network", "data", "device", "epochs", "train_loss", "train_acc", "test_loss",
    "test_acc", "seconds", "images_per_s", "images_per_s_compute", "data_share",
}  # fmt: skip


def test_train_test_and_layers_from_the_shell(
    here: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--data", tiny_folder, "--json")
    out, err = call(capsys, "train", "lenet", "--epochs", 2, "--run", "r", *words)
    result = json.loads(out)
    assert result.keys() == TRAIN_KEYS
    assert (result["run"], result["data"], result["epochs"]) == ("r", "tiny", 2)
    assert "epoch 2/2" in err
    out, _ = call(capsys, "test", "r", *words)
    assert json.loads(out)["images"] == 20
    out, _ = call(capsys, "test", "r", "--data", tiny_folder)
    assert "Test set: Average loss: " in out
    out, _ = call(capsys, "layers", "r", "--json")
    assert len(json.loads(out)["rows"]) == 12
    out, _ = call(capsys, "layers", "lenet", "--batch-size", 2, "--input", "1×28×28")
    assert "6×14×14" in out
    assert not any(line.endswith(" ") for line in out.splitlines())  # for files and pipes


def test_quiet_shows_nothing(
    here: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = call(capsys, "train", "--data", tiny_folder, "--epochs", 1, "--quiet")
    assert out == err == ""


def test_data_lists_and_verifies(capsys: pytest.CaptureFixture[str], tiny_folder: Path) -> None:
    out, _ = call(capsys, "data")
    assert {line.split()[0] for line in out.splitlines()} >= {"fashion-mnist", "mnist", "sample"}
    out, _ = call(capsys, "data", "--json")
    assert {entry["name"] for entry in json.loads(out)["datasets"]} >= {"fashion-mnist", "mnist"}
    out, _ = call(capsys, "data", "sample")
    assert "6,000 + 1,000 images of 1×28×28, verified" in out
    out, _ = call(capsys, "data", "mnist", "--data", tiny_folder, "--json")
    assert json.loads(out)["name"] == "tiny"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train lnet", "Did you mean 'lenet'"),
        ("train --batch-size 0", "batch_size is 0"),
        ("train --lr nan", "lr is nan"),
        ("train --device cuda:9", "there is no device"),
        ("train --device toaster", "is unknown"),
        ("train --config none.toml", "can't read the settings"),
        ("train --config bad.toml", "unknown setting 'epcohs'. Did you mean 'epochs'?"),
        ("train none.py:Net", "there is no file none.py"),
        ("train bad.py:Net", "raised ZeroDivisionError"),
        ("train --optimizer adamw", "optimizer is 'adamw'; expected one of sgd, adam"),
        ("train good.py:number", "is of type int; expected a torch.nn.Module"),
        ("train --run taken", "taken exists and isn't empty"),
        ("train --run taken/file/x", "can't write the run folder"),
        ("train --network alexnet", "--resize 224"),
        ("test nowhere", "there is no run at nowhere"),
        ("layers lenet --input 1x32x32", "--input"),
        ("layers lenet --input 28", "--input is '28'; expected CHANNELSxHEIGHTxWIDTH"),
        ("layers lenet --batch-size 0", "batch_size is 0"),
        ("layers lenet --optimizer rms", "optimizer is 'rms'; expected one of adam, sgd"),
        ("layers lenet --network good.py:Net", "--network goes with a run folder only"),
        ("layers runs/none", "there is no run at runs/none"),
        ("reproduce lenet-mnist", "no figures are published for lenet-mnist"),
        ("reproduce --seeds 0", "seeds is 0"),
        ("data mnits", "Did you mean 'mnist'"),
        ("data --verify", "fivebyfive data NAME --verify"),
        ("data --data taken", "fivebyfive data NAME --data PATH"),
    ],
)
def test_one_clear_message_and_status_2(
    words: str,
    message: str,
    here: Path,
    tiny_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (here / "taken").mkdir()
    (here / "taken" / "file").write_text("")
    (here / "bad.toml").write_text("epcohs = 1")
    (here / "bad.py").write_text("1 / 0")
    (here / "good.py").write_text("number = 3")
    before = sorted(here.rglob("*"))
    more = ["--data", tiny_folder] if words.startswith("train") else []
    out, err = call(capsys, *words.split(), *more, status=2)
    assert out == ""
    assert err.startswith("fivebyfive: ")
    assert message in err
    assert "Traceback" not in err
    assert sorted(p for p in here.rglob("*") if "__pycache__" not in p.parts) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nonsense", "invalid choice: 'nonsense'"),
        ("train --epochs many", "--epochs: invalid int value: 'many'"),
        ("train --nonsense", "unrecognized arguments: --nonsense"),
        ("test", "required: RUN"),
    ],
)
def test_words_that_arent_of_the_grammar_get_one_line(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(words.split())
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fivebyfive: ")
    assert message in err
    assert err.endswith(" --help tells more.\n")
    assert err.count("\n") == 1


def test_without_words_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = call(capsys, status=2)
    assert out == ""
    assert re.search("^    reproduce +train recipes", err, re.MULTILINE)  # on one line


def test_a_finished_run_says_so(
    here: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(capsys, "train", "lenet", "--data", tiny_folder, "--epochs", 1, "--run", "r", "--quiet")
    more = "fivebyfive train --resume r --epochs N --allow-change recipe"
    for words in ((), ("lenet",), ("lenet-d2l", "--epochs", 1)):
        out, _ = call(capsys, "train", *words, "--resume", "r")
        assert out == f"r has finished already. For more epochs: {more}\n"
    assert call(capsys, "train", "--resume", "r", "--quiet") == ("", "")
    out, _ = call(capsys, "train", "--resume", "r", "--json")
    assert json.loads(out)["epochs"] == 1
    _, err = call(capsys, "train", "convnet", "--resume", "r", status=2)
    assert "the run's network is lenet, its recipe lenet-d2l; 'convnet' can't resume" in err


def test_debug_shows_the_traceback(here: Path) -> None:
    with pytest.raises(Exception, match="Did you mean"):
        cli.main(["train", "lnet", "--debug"])


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "layers", interrupt)
    _, err = call(capsys, "layers", "lenet", status=130)
    assert err == "fivebyfive: stopped.\n"
    with pytest.raises(KeyboardInterrupt):
        cli.main(["layers", "lenet", "--debug"])


def test_every_setting_has_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    text = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')}" in text for name in recipes.SETTINGS)


def test_what_a_users_file_prints_doesnt_mix_with_the_json(
    here: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "net.py").write_text(
        "from torch import nn\nprint('hello')\n"
        "def Net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 3))\n"
    )
    words = ("train", "net.py:Net", "--data", tiny_folder, "--epochs", 1, "--json")
    out, err = call(capsys, *words)
    assert json.loads(out)["recipe"] == "net"
    assert "hello" in err


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = call(capsys, "doctor", "--json")
    findings = json.loads(out)
    assert findings["torch"].startswith(torch.__version__)
    assert findings["engine"] in ("cpu", "eager")
    assert all(f"{name} on a cpu" in findings for name in networks.names())
    out, _ = call(capsys, "doctor")
    assert all(finding in out for finding in findings.values())


@pytest.mark.slow
def test_a_reader_that_has_enough_and_a_disk_that_is_full(
    tmp_path: Path, tiny_folder: Path
) -> None:
    program = f"'{sys.executable}' -m fivebyfive"
    done = subprocess.run(
        f"{program} layers alexnet --json | head -c 10; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    words = f"train lenet --data '{tiny_folder}' --epochs 1 --run r"
    done = subprocess.run(
        f"ulimit -f 100; {program} {words}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert "can't write r/checkpoints/000001: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "r" / "run.json").read_text())["state"] == "failed"


def test_help_and_bad_words_load_no_torch() -> None:
    script = (
        "import sys\nfrom fivebyfive import cli\n"
        "try:\n    cli.main(sys.argv[1:])\n"
        "except SystemExit:\n    pass\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'matplotlib', 'rich')))"
    )
    for words in ([], ["--help"], ["train", "--help"], ["--version"], ["nonsense"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, check=False
        )
        assert done.returncode == 0, (words, done.stderr)


@pytest.mark.slow
def test_a_locale_without_our_signs_is_no_error(tiny_folder: Path, tmp_path: Path) -> None:
    def said(*words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "fivebyfive", *words],
            capture_output=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            check=True,
        ).stdout.decode("ascii")

    assert "6?28?28" in said("layers", "lenet")
    words = ("--data", str(tiny_folder), "--epochs", "1", "--run", "é")
    assert json.loads(said("train", "lenet", "--json", *words))["run"] == "é"


def test_as_a_module_in_a_pipe(tiny_folder: Path, tmp_path: Path) -> None:
    words = ["train", "lenet", "--data", str(tiny_folder), "--epochs", "1", "--run", "r"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "fivebyfive", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=True,
    )
    assert done.stdout == ""
    assert "epoch 1/1" in done.stderr
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
