"""The shell's words, turned into calls: no logic, and nothing heavy imported before it's used."""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from . import __version__, networks, recipes
from .errors import FiveByFiveError


@dataclass
class Outcome:
    """What a command has to say: ``value`` to programs, ``text`` to people."""

    value: Any
    text: Any = None
    status: int = 0


Command = Callable[[argparse.Namespace], Outcome]

#: The type of each setting's flag; the others are words.
NUMBERS: dict[str, type] = {
    "resize": int,
    "mean": float,
    "std": float,
    "batch_size": int,
    "epochs": int,
    "lr": float,
    "seed": int,
    "limit": int,
}


def program(arguments: Sequence[str] | None = None) -> int:
    """:func:`main` for a process of its own: what the shell calls.

    Importing PyTorch makes a million objects that stay till the end. Looking for garbage among
    them, as often as Python does by default and once more at the end, would cost a second.
    """
    gc.set_threshold(50_000, 20, 100)
    status = main(arguments)
    gc.freeze()
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 2 for what the user can mend, 130 for Ctrl-C."""
    options = parser().parse_args(arguments)
    try:
        return _run(options)
    except BrokenPipeError:
        # Whoever read our output, `head` say, has enough. Python would complain at its end, too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (FiveByFiveError, OSError) as error:
        if options.debug:
            raise
        print(f"fivebyfive: {error}", file=sys.stderr)
        return error.status if isinstance(error, FiveByFiveError) else 1
    except KeyboardInterrupt:
        if options.debug:
            raise
        print("fivebyfive: stopped.", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    command: Command = options.command
    # What a user's own file prints mustn't mix with what we do.
    with contextlib.redirect_stdout(sys.stderr):
        outcome = command(options)
    if options.json:
        text = json.dumps(outcome.value, ensure_ascii=False, allow_nan=False, default=str)
        print(text, flush=True)
    elif isinstance(outcome.text, str):
        print(outcome.text, flush=True)
    elif outcome.text is not None:
        from rich.console import Console

        # In a pipe there is no width to fit into; rich would take 80 columns and wrap.
        Console(width=None if sys.stdout.isatty() else 120).print(outcome.text)
    return outcome.status


def parser() -> argparse.ArgumentParser:
    """The whole grammar of the shell."""
    root = argparse.ArgumentParser(
        prog="fivebyfive",
        description="The classic convolutional networks, trained, watched, tested and looked into.",
        epilog="fivebyfive COMMAND --help tells more.",
    )
    root.add_argument("--version", action="version", version=f"fivebyfive {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _train(commands)
    _test(commands)
    _layers(commands)
    _reproduce(commands)
    _data(commands)
    _doctor(commands)
    return root


def _train(commands: Any) -> None:
    sub = _command(commands, "train", train, "train a network and leave a run folder")
    sub.add_argument(
        "what",
        metavar="RECIPE|NETWORK|FILE.py:NAME",
        nargs="?",
        help=f"recipes: {', '.join(recipes.names())}; networks: {', '.join(networks.names())}; "
        "default: lenet",
    )
    for name, meaning in recipes.SETTINGS.items():
        flags = [f"--{name.replace('_', '-')}"] + (["--data"] if name == "dataset" else [])
        choices = {"optimizer": ("sgd", "adam")}.get(name)
        sub.add_argument(
            *flags,
            dest=name,
            type=NUMBERS.get(name, str),
            metavar=None if choices else {int: "N", float: "X"}.get(NUMBERS.get(name, str), "WORD"),
            choices=choices,
            help=meaning,
        )
    _device(sub)
    sub.add_argument("--run", metavar="DIR", help="the new run folder")
    sub.add_argument("--config", metavar="FILE.toml", help="settings; flags win over them")
    sub.add_argument("--tensorboard", action="store_true", help="write event files, too")
    sub.add_argument("--quiet", action="store_true", help="show nothing, not even the result")
    _json(sub)


def _test(commands: Any) -> None:
    sub = _command(commands, "test", test, "test a run: accuracy, confusion matrix, mistakes")
    sub.add_argument("run", metavar="RUN", help="a run folder")
    sub.add_argument("--data", metavar="FOLDER", help="where the dataset's files are")
    sub.add_argument("--network", metavar="FILE.py:NAME", help="for runs of a network of your own")
    _device(sub, engine=False)
    _json(sub)


def _layers(commands: Any) -> None:
    sub = _command(commands, "layers", layers, "every layer's shape, parameters, FLOPs and memory")
    sub.add_argument("what", metavar="NETWORK|FILE.py:NAME|RUN", help="what to look into")
    sub.add_argument("--input", metavar="CxHxW", help="the shape of one image, e.g. 1x28x28")
    sub.add_argument("--batch-size", type=int, metavar="N", help="for the training memory")
    sub.add_argument("--optimizer", choices=("sgd", "adam"), help="for the training memory")
    sub.add_argument("--network", metavar="FILE.py:NAME", help="for runs of a network of your own")
    _json(sub)


def _reproduce(commands: Any) -> None:
    sub = _command(commands, "reproduce", reproduce, "train recipes and judge them")
    sub.add_argument("recipes", metavar="RECIPE", nargs="*", help="default: lenet-d2l")
    sub.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each (3)")
    sub.add_argument("--data", metavar="FOLDER", help="where the datasets' files are")
    sub.add_argument("--run", metavar="DIR", help="the new folder for the runs")
    _device(sub)
    _json(sub)


def _data(commands: Any) -> None:
    sub = _command(commands, "data", data, "list the datasets, or find, fetch and verify one")
    sub.add_argument("name", metavar="NAME", nargs="?", help="the dataset to find or fetch")
    sub.add_argument("--data", metavar="FOLDER", help="where to look first")
    _json(sub)


def _doctor(commands: Any) -> None:
    _json(_command(commands, "doctor", doctor, "what this machine and installation can do"))


def _command(commands: Any, name: str, run: Command, help_: str) -> argparse.ArgumentParser:
    sub: argparse.ArgumentParser = commands.add_parser(name, help=help_, description=help_)
    sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
    sub.set_defaults(command=run)
    return sub


def _device(sub: argparse.ArgumentParser, engine: bool = True) -> None:
    sub.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N|mps")
    if engine:
        sub.add_argument("--engine", default="auto", metavar="NAME", help="auto or eager")


def _json(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def train(options: argparse.Namespace) -> Outcome:
    """``fivebyfive train``: the training is shown on stderr."""
    from . import api

    run = api.train(
        options.what,
        device=options.device,
        engine=options.engine,
        run=options.run,
        config=options.config,
        tensorboard=options.tensorboard,
        watch="quiet" if options.quiet else "auto",
        **{name: getattr(options, name) for name in recipes.SETTINGS},
    )
    return Outcome(run.result)


def test(options: argparse.Namespace) -> Outcome:
    """``fivebyfive test``: the pictures go into the run folder."""
    from . import examine

    verdict = examine.test(
        options.run, data=options.data, network=options.network, device=options.device
    )
    return Outcome(verdict.as_dict(), verdict)


def layers(options: argparse.Namespace) -> Outcome:
    """``fivebyfive layers``."""
    from . import examine

    found = examine.layers(
        options.what,
        input=options.input,
        batch_size=options.batch_size,
        optimizer=options.optimizer,
        network=options.network,
    )
    return Outcome(found.as_dict(), found)


def reproduce(options: argparse.Namespace) -> Outcome:
    """``fivebyfive reproduce``: leaves with 1 when a figure lies outside its range."""
    from .reproduction import reproduce as run

    found = run(
        options.recipes or ["lenet-d2l"],
        options.seeds,
        data=options.data,
        device=options.device,
        engine=options.engine,
        run=options.run,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    return Outcome(found.as_dict(), found.table(), 0 if found.ok else 1)


def data(options: argparse.Namespace) -> Outcome:
    """``fivebyfive data``: without a name nothing is fetched."""
    from . import datasets

    if options.name is None:
        listings = datasets.describe()
        text = "\n".join(f"{each.name:14} {each.title}: {each.where}" for each in listings)
        return Outcome({"datasets": [asdict(each) for each in listings]}, text)
    report = datasets.obtain(options.name, options.data)
    shape = "×".join(map(str, report.shape))
    lines = [
        f"{report.name}: {report.train:,} + {report.test:,} images of {shape}, verified",
        f"  from     {report.source}",
        f"  classes  {', '.join(report.classes)}",
        *([f"  licence  {report.licence}"] if report.licence else []),
        *(f"  {note}" for note in report.notes),
    ]
    return Outcome(asdict(report), "\n".join(lines))


def doctor(_: argparse.Namespace) -> Outcome:
    """``fivebyfive doctor``."""
    from .doctor import examine

    findings = examine()
    width = max(map(len, findings))
    lines = (f"{name:{width}}  {finding}" for name, finding in findings.items())
    return Outcome(findings, "\n".join(lines))
