"""What each of the shell's words does: its options to a call, the result to an :class:`Outcome`.

Each command imports what it needs, so that the shell answers at once where nothing heavy is asked.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from typing import Any

from . import recipes
from .lib.errors import DataError, RecipeError


@dataclass
class Outcome:
    """What a command has to say: ``value`` to programs, ``text`` to people."""

    value: Any
    text: Any = None
    status: int = 0


def train(options: argparse.Namespace) -> Outcome:
    """``fivebyfive train``: the training is shown on stderr."""
    from .engines.process_group import init_process_group
    from .verbs.resume import resume
    from .verbs.train import train as run_training

    settings = {name: getattr(options, name) for name in recipes.SETTINGS}
    common: dict[str, Any] = {
        "device": options.device,
        "engine": options.engine,
        "micro_batch": options.micro_batch,
        "tensorboard": options.tensorboard,
        "watch": "quiet" if options.quiet else "auto",
    }
    if options.checkpoint_every is not None:
        common["checkpoint_every"] = options.checkpoint_every
    if options.resume is None:
        if options.allow_change:
            raise RecipeError("--allow-change goes with --resume RUN only.")
        run = run_training(
            options.what, run=options.run, config=options.config, **common, **settings
        )
        return Outcome(run.result if init_process_group().is_main else None)
    for flag in ("run", "config"):
        if getattr(options, flag) is not None:
            raise RecipeError(f"--{flag} doesn't go with --resume: the run has its own already.")
    data, network = settings.pop("dataset"), settings.pop("network") or options.what
    run = resume(
        options.resume,
        network=network,
        data=data,
        allow=options.allow_change,
        **common,
        **settings,
    )
    if not init_process_group().is_main:
        return Outcome(None)
    if run.trained is not None or options.quiet:
        return Outcome(run.result)
    more = f"fivebyfive train --resume {run.shown} --epochs N --allow-change recipe"
    return Outcome(run.result, f"{run.shown} has finished already. For more epochs: {more}")


def test(options: argparse.Namespace) -> Outcome:
    """``fivebyfive test``: the pictures go into the run folder."""
    from .verbs.test import test as run

    evaluation = run(options.run, data=options.data, network=options.network, device=options.device)
    return Outcome(evaluation.as_dict(), evaluation)


def layers(options: argparse.Namespace) -> Outcome:
    """``fivebyfive layers``."""
    from .verbs.layers import layers as describe

    found = describe(
        options.what,
        input=options.input,
        batch_size=options.batch_size,
        optimizer=options.optimizer,
        network=options.network,
    )
    return Outcome(found.as_dict(), found)


def reproduce(options: argparse.Namespace) -> Outcome:
    """``fivebyfive reproduce``: leaves with 1 when a figure lies outside its range."""
    from .verbs.reproduce import reproduce as run

    found = run(
        options.recipes or ["lenet-d2l"],
        options.seeds,
        data=options.data,
        device=options.device,
        engine=options.engine,
        run=options.run,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    return Outcome(found.as_dict(), found, 0 if found.ok else 1)


def data(options: argparse.Namespace) -> Outcome:
    """``fivebyfive data``: without a name nothing is fetched."""
    from . import datasets

    if options.name is None:
        for flag, rest in (("verify", ""), ("data", " PATH")):
            if getattr(options, flag):
                way = f"fivebyfive data NAME --{flag}{rest}"
                raise DataError(f"--{flag} goes with the NAME of a dataset: {way}")
        listings = datasets.describe()
        text = "\n".join(f"{each.name:14} {each.title}: {each.where}" for each in listings)
        return Outcome({"datasets": [asdict(each) for each in listings]}, text)
    report = datasets.obtain(options.name, options.data, verify=options.verify)
    shape = "×".join(map(str, report.shape))
    lines = [
        f"{report.name}: {report.train:,} + {report.test:,} images of {shape}, verified",
        f"  from     {report.source}",
        f"  classes  {', '.join(report.classes)}",
        *([f"  licence  {report.licence}"] if report.licence else []),
        *(
            f"  ok       {file.path}: {file.size:,} bytes, content SHA-256 {file.sha256}"
            for file in (report.checked if options.verify else ())
        ),
        *(f"  {note}" for note in report.notes),
    ]
    return Outcome(asdict(report), "\n".join(lines))


def doctor(_: argparse.Namespace) -> Outcome:
    """``fivebyfive doctor``."""
    from .verbs.doctor import examine

    findings = examine()
    width = max(map(len, findings))
    lines = (f"{name:{width}}  {finding}" for name, finding in findings.items())
    return Outcome(findings, "\n".join(lines))
