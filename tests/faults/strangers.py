"""Run folders as a stranger may make them: a good one each, with one thing changed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fivebyfive.runs import checkpoints

from .strange_json import TEXTS, edited, every_string
from .strange_tensors import TENSORS, Alter

#: Changes a run folder; knows the folder of the canary, which nobody may touch, and has a seed.
Change = Callable[[Path, Path, random.Random], None]

GIGABYTE = 1 << 30


def changes() -> dict[str, Change]:
    """All of them, by name."""
    found: dict[str, Change] = {}
    for seed in range(60):
        found[f"run.json, seed {seed}"] = edit_info
    for seed in range(60):
        found[f"state.json, seed {seed}"] = edit_state
    for name, text in TEXTS.items():
        found[f"run.json is {name}"] = whole("run.json", text)
        found[f"state.json is {name}"] = whole("state.json", text)
        found[f"manifest.json is {name}"] = whole("manifest.json", text)
        found[f"metrics.jsonl is {name}"] = whole("metrics.jsonl", text)
    for target in TARGETS:
        for kind, make in SPECIAL.items():
            found[f"{target} is {kind}"] = special(target, make)
    for target in ("model.safetensors", "weights.safetensors", "optimizer.safetensors"):
        for kind, alter in TENSORS.items():
            found[f"{target} {kind}"] = tensors(target, alter)
    for name, alter_manifest in MANIFESTS.items():
        found[f"manifest {name}"] = manifest(alter_manifest)
    return {**found, **OTHERS}


def newest(run: Path) -> Path:
    """The folder of the newest checkpoint."""
    return checkpoints.place(run, checkpoints.numbers(run)[-1])


def find(run: Path, name: str) -> Path:
    """A file of the run folder or of its newest checkpoint, or that checkpoint itself."""
    if name == "checkpoint":
        return newest(run)
    in_run = ("run.json", "metrics.jsonl", "model.safetensors", "lock", "curves.png", "checkpoints")
    return run / name if name in in_run else newest(run) / name


def sign(folder: Path) -> None:
    """Make a checkpoint's manifest right for whatever lies there now."""
    path = folder / checkpoints.MANIFEST
    values = json.loads(path.read_bytes())
    for name, entry in values["files"].items():
        content = (folder / name).read_bytes()
        entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_text(json.dumps(values))


def edit_info(run: Path, canary: Path, chance: random.Random) -> None:
    tree = json.loads((run / "run.json").read_bytes())
    (run / "run.json").write_text(json.dumps(edited(tree, canary, chance)))


def edit_state(run: Path, canary: Path, chance: random.Random) -> None:
    path = newest(run) / checkpoints.STATE
    path.write_text(json.dumps(edited(json.loads(path.read_bytes()), canary, chance)))
    sign(newest(run))


def whole(name: str, text: Callable[[], bytes]) -> Change:
    def change(run: Path, canary: Path, chance: random.Random) -> None:
        find(run, name).write_bytes(text())
        if name == "state.json":
            sign(newest(run))

    return change


# Something else in a file's place ----------------------------------------------------------------

TARGETS = (
    "run.json",
    "metrics.jsonl",
    "model.safetensors",
    "lock",
    "curves.png",
    "checkpoints",
    "checkpoint",
    "manifest.json",
    "state.json",
    "weights.safetensors",
    "optimizer.safetensors",
)


def _sparse(path: Path, canary: Path) -> None:
    with path.open("wb") as file:
        file.truncate(8 * GIGABYTE)


def _garbage(path: Path, canary: Path) -> None:
    path.write_bytes(random.Random(7).randbytes(1_000_000))


SPECIAL: dict[str, Callable[[Path, Path], object]] = {
    "a FIFO": lambda path, _: os.mkfifo(path),
    "a link to a file outside": lambda path, canary: path.symlink_to(canary / "file.txt"),
    "a link to a folder outside": lambda path, canary: path.symlink_to(canary),
    "a link to /etc/passwd": lambda path, _: path.symlink_to("/etc/passwd"),
    "a link to nothing": lambda path, canary: path.symlink_to(canary / "touched"),
    "a link to itself": lambda path, _: path.symlink_to(path.name),
    "a link to endless zeros": lambda path, _: path.symlink_to("/dev/zero"),
    "a folder": lambda path, _: path.mkdir(),
    "8 GB of nothing": _sparse,
    "garbage": _garbage,
}


def special(target: str, make: Callable[[Path, Path], object]) -> Change:
    def change(run: Path, canary: Path, chance: random.Random) -> None:
        path = find(run, target)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        make(path, canary)

    return change


def tensors(target: str, alter: Alter) -> Change:
    def change(run: Path, canary: Path, chance: random.Random) -> None:
        path = find(run, target)
        path.write_bytes(alter(path.read_bytes(), canary))
        if target != "model.safetensors":
            sign(newest(run))

    return change


# Manifests ---------------------------------------------------------------------------------------


def _each(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda tree: [entry.update(values) for entry in tree["files"].values()]


MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "of negative sizes": _each(bytes=-1),
    "of endless sizes": _each(bytes=float("inf")),
    "of sizes in words": _each(bytes="many"),
    "of sizes in lists": _each(bytes=[1]),
    "of digests in lists": _each(sha256=[1]),
    "of no entries": lambda tree: tree.update(files={}),
    "of entries in a list": lambda tree: tree.update(files=[1, 2]),
    "of files outside": lambda tree: tree["files"].update({"../../../canary/file.txt": {}}),
    "of number True": lambda tree: tree.update(number=True),
    "of a format in words": lambda tree: tree.update(format="../canary"),
}


def manifest(alter: Callable[[dict[str, Any]], object]) -> Change:
    def change(run: Path, canary: Path, chance: random.Random) -> None:
        path = newest(run) / checkpoints.MANIFEST
        tree = json.loads(path.read_bytes())
        alter(tree)
        path.write_text(json.dumps(tree))

    return change


# Others ------------------------------------------------------------------------------------------


def _info(alter: Callable[[dict[str, Any], Path], object]) -> Change:
    def change(run: Path, canary: Path, chance: random.Random) -> None:
        tree = json.loads((run / "run.json").read_bytes())
        changed = alter(tree, canary)
        (run / "run.json").write_text(json.dumps(changed if isinstance(changed, dict) else tree))

    return change


def _outgrown(run: Path, canary: Path, chance: random.Random) -> None:
    shutil.copytree(newest(run), run / "checkpoints" / "999999999")
    tree = json.loads((run / "checkpoints" / "999999999" / "manifest.json").read_bytes())
    (run / "checkpoints" / "999999999" / "manifest.json").write_text(
        json.dumps({**tree, "number": 999_999_999})
    )


def _crowded(run: Path, canary: Path, chance: random.Random) -> None:
    for number in range(1000, 3000):
        checkpoints.place(run, number).mkdir()


def _linked_parts(run: Path, canary: Path, chance: random.Random) -> None:
    (run / ".run.json.0123456789ab.part").symlink_to(canary)
    (run / "checkpoints" / ".000001.0123456789ab.part").symlink_to(canary)


def _events(run: Path, canary: Path, chance: random.Random) -> None:
    (run / "events.out.tfevents.1").symlink_to(canary / "file.txt")


OTHERS: dict[str, Change] = {
    "paths outside": _info(lambda tree, _: every_string(tree, "../canary")),
    "whole paths outside": _info(lambda tree, canary: every_string(tree, str(canary))),
    "data outside": _info(lambda tree, canary: tree["recipe"].update(dataset=str(canary))),
    "code to run": _info(
        lambda tree, canary: tree["recipe"].update(network=f"{canary}/code.py:Net")
    ),
    "a wide AlexNet": _info(
        lambda tree, _: (
            tree["recipe"].update(network="alexnet", resize=224),
            tree["data"].update(shape=[4096, 28, 28]),
        )
    ),
    "images of 4096": _info(lambda tree, _: tree["recipe"].update(resize=4096)),
    "images of 2**40": _info(lambda tree, _: tree["recipe"].update(resize=2**40)),
    "a batch of 2**70": _info(lambda tree, _: tree["recipe"].update(batch_size=2**70)),
    "2**40 classes": _info(lambda tree, _: tree["data"].update(classes=["x"] * 100_000)),
    "a checkpoint of the highest number": _outgrown,
    "2000 empty checkpoints": _crowded,
    "temporary names that are links": _linked_parts,
    "events that are a link": _events,
}
