"""The shell's words, turned into calls: no logic, and nothing heavy imported before it's used."""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from . import commands, networks, recipes
from .commands import Outcome
from .lib.errors import FiveByFiveError
from .version import __version__

Command = Callable[[argparse.Namespace], Outcome]


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, where argparse would print the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        """Leave with the message."""
        self.exit(2, f"fivebyfive: {message}. {self.prog} --help tells more.\n")


def program(arguments: Sequence[str] | None = None) -> int:
    """:func:`main` for a process of its own: what the shell calls.

    Importing PyTorch makes a million objects that stay till the end. Looking for garbage among
    them, as often as Python does by default and once more at the end, would cost a second.
    """
    gc.set_threshold(50_000, 20, 100)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A sign that the locale doesn't have, or half a file name, is a "?" and no error.
        sys.stdout.reconfigure(errors="replace")
    status = main(arguments)
    gc.freeze()
    if os.environ.get("WORLD_SIZE", "1") != "1":
        # One of several processes: their connections, left to Python's end, now and then abort it.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 2 for what the user can mend, 130 for Ctrl-C."""
    grammar = parser()
    options = grammar.parse_args(arguments)
    if "command" not in options:
        grammar.print_help(sys.stderr)
        return 2
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
    except KeyboardInterrupt as stop:
        if options.debug:
            raise
        print(f"fivebyfive: {str(stop) or 'stopped.'}", file=sys.stderr)
        # As shells have it: 128 plus the signal's number, 2 for Ctrl-C.
        return 128 + int(getattr(stop, "signal", 2))


def _run(options: argparse.Namespace) -> int:
    command: Command = options.command
    # What a user's own file prints mustn't mix with what we do.
    with contextlib.redirect_stdout(sys.stderr):
        outcome = command(options)
    if options.json and outcome.value is not None:
        print(json.dumps(outcome.value, allow_nan=False, default=str), flush=True)
    elif outcome.text is not None and (isinstance(outcome.text, str) or not sys.stdout.isatty()):
        print(outcome.text, flush=True)
    elif outcome.text is not None:
        from rich.console import Console

        Console().print(outcome.text)
    return outcome.status


def parser() -> argparse.ArgumentParser:
    """The whole grammar of the shell."""
    root = Parser(
        prog="fivebyfive",
        description="Train, watch, test and inspect the classic convolutional networks.",
        epilog="fivebyfive COMMAND --help tells more.",
    )
    root.add_argument("-V", "--version", action="version", version=f"fivebyfive {__version__}")
    words = root.add_subparsers(title="commands", metavar="COMMAND")
    _train(words)
    _test(words)
    _layers(words)
    _reproduce(words)
    _data(words)
    _doctor(words)
    return root


def _train(words: Any) -> None:
    sub = _command(words, "train", commands.train, "train a network and leave a run folder")
    sub.add_argument(
        "what",
        metavar="RECIPE|NETWORK|FILE.py:NAME",
        nargs="?",
        help=f"recipes: {', '.join(recipes.names())}; networks: {', '.join(networks.names())}; "
        "default: lenet",
    )
    for name, setting in recipes.SETTINGS.items():
        sub.add_argument(
            *setting.flags, dest=name, type=setting.type, metavar=setting.metavar, help=setting.help
        )
    _device(sub)
    sub.add_argument(
        "--micro-batch", type=int, metavar="N", help="compute N images of a batch at a time"
    )
    sub.add_argument("--run", metavar="DIR", help="the new run folder (runs/TIME-RECIPE)")
    sub.add_argument("--config", metavar="FILE.toml", help="settings; flags win over them")
    sub.add_argument("--resume", metavar="RUN", help="resume a run that was cut short")
    sub.add_argument(
        "--allow-change",
        action="append",
        default=[],
        metavar="data|recipe",
        help="with --resume: go on although this isn't the run's",
    )
    sub.add_argument(
        "--checkpoint-every",
        type=float,
        metavar="SECONDS",
        help="between checkpoints in an epoch (30); each epoch's end is one, too",
    )
    sub.add_argument("--tensorboard", action="store_true", help="write event files, too")
    sub.add_argument("--quiet", action="store_true", help="show nothing, not even the result")
    _json(sub)


def _test(words: Any) -> None:
    sub = _command(words, "test", commands.test, "test a run: accuracy, confusion matrix, mistakes")
    sub.add_argument("run", metavar="RUN", help="a run folder")
    sub.add_argument("--data", metavar="PATH", help="where the dataset's files are")
    sub.add_argument("--network", metavar="FILE.py:NAME", help="for runs of a network of your own")
    _device(sub, engine=False)
    _json(sub)


def _layers(words: Any) -> None:
    sub = _command(
        words, "layers", commands.layers, "every layer's shape, parameters, FLOPs and memory"
    )
    sub.add_argument("what", metavar="NETWORK|FILE.py:NAME|RUN", help="what to inspect")
    sub.add_argument("--input", metavar="CxHxW", help="the shape of one image, e.g. 1x28x28")
    sub.add_argument("--batch-size", type=int, metavar="N", help="for the training memory")
    sub.add_argument("--optimizer", metavar="sgd|adam", help="for the training memory")
    sub.add_argument("--network", metavar="FILE.py:NAME", help="for runs of a network of your own")
    _json(sub)


def _reproduce(words: Any) -> None:
    sub = _command(words, "reproduce", commands.reproduce, "train recipes and judge them")
    sub.add_argument("recipes", metavar="RECIPE", nargs="*", help="default: lenet-d2l")
    sub.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each (3)")
    sub.add_argument("--data", metavar="PATH", help="where the datasets' files are")
    sub.add_argument("--run", metavar="DIR", help="the new folder for the runs")
    _device(sub)
    _json(sub)


def _data(words: Any) -> None:
    sub = _command(words, "data", commands.data, "list the datasets, or find, fetch and verify one")
    sub.add_argument("name", metavar="NAME", nargs="?", help="the dataset to find or fetch")
    sub.add_argument("--data", metavar="PATH", help="where to look first")
    sub.add_argument(
        "--verify",
        action="store_true",
        help="read every copy on this machine in full, and repair the one in the cache",
    )
    _json(sub)


def _doctor(words: Any) -> None:
    _json(_command(words, "doctor", commands.doctor, "what this machine and installation can do"))


def _command(words: Any, name: str, run: Command, help_: str) -> argparse.ArgumentParser:
    sub: argparse.ArgumentParser = words.add_parser(name, help=help_, description=help_)
    sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
    sub.set_defaults(command=run)
    return sub


def _device(sub: argparse.ArgumentParser, engine: bool = True) -> None:
    help_ = "where it runs; auto: a CUDA GPU, else Apple's, else the processor"
    sub.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N|mps", help=help_)
    if engine:
        help_ = "who computes the steps; auto: compiled kernels on a processor, else PyTorch"
        sub.add_argument("--engine", default="auto", metavar="auto|cpu|cuda|eager", help=help_)


def _json(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="print one JSON object on stdout")
