"""Programs: what people do to a network between calls, drawn at random, and done to two at once.

``python -m tests.kernels.programs [COUNT [SEED]]`` draws many, and prints those in which an
accelerated network doesn't do what the plain one does.
"""

from __future__ import annotations

import contextlib
import copy
import pickle
import random
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from fivebyfive.kernels.accelerate import accelerate
from fivebyfive.kernels.channels_last import convolution

from . import (
    kinds,
    wide_kinds,  # noqa: F401 (adds to the kinds)
)
from .kinds import KINDS

#: What is compared may differ by so much of its largest value: some steps of SGD, each rounded.
MOST = 1e-3
#: And where convolutions are computed by minimal filtering, which rounds ten times as much.
MOST_WIDE = 1e-2


class Pair:
    """An accelerated network and a plain one, to which all is done alike."""

    def __init__(self, network: nn.Module) -> None:
        self.networks = [accelerate(copy.deepcopy(network)), copy.deepcopy(network)]
        self.handles: list[list[Any]] = [[], []]

    def change(self, new: Callable[[nn.Module], nn.Module]) -> None:
        self.networks = [accelerate(new(self.networks[0])), new(self.networks[1])]


Draw = random.Random
Action = Callable[[nn.Module, Draw, list[Any]], Any]
ACTIONS: dict[str, Action] = {}


def action(done: Action) -> Action:
    ACTIONS[done.__name__] = done
    return done


def images(draw: Draw, count: int | None = None, **options: Any) -> Tensor:
    generator = torch.Generator().manual_seed(draw.randrange(1000))
    x = torch.randn(draw.choice([1, 2, 3, 5]) if count is None else count, 2, 6, 6,
                    generator=generator)  # fmt: skip
    if draw.random() < 0.15:
        x = x.to(memory_format=torch.channels_last)
    return x.requires_grad_(**options) if options else x


def kind_of(network: nn.Module) -> torch.dtype:
    return next((p.dtype for p in network.parameters()), torch.float32)


def tensors(value: Any) -> list[Any]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [each for one in value for each in tensors(one)]
    return [value]


def total(out: Any) -> Tensor:
    sums = [t.float().square().sum() for t in tensors(out) if t.is_floating_point()]
    return torch.stack(sums).sum()


def modules(network: nn.Module, *kinds_of: type[nn.Module]) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, kinds_of)]


# --- calls ----------------------------------------------------------------------------------------


@action
def call(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    return network(images(draw).to(kind_of(network)))


@action
def learn(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    network.zero_grad()
    out = network(images(draw).to(kind_of(network)))
    total(out).backward()
    return [out, *(p.grad for p in network.parameters())]


@action
def step(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    optimizer.zero_grad()
    loss = total(network(images(draw).to(kind_of(network))))
    loss.backward()
    optimizer.step()
    return loss


@action
def test(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    network.eval()
    with draw.choice([torch.no_grad, torch.inference_mode])():
        out = network(images(draw).to(kind_of(network)))
    network.train()
    return out


@action
def call_oddly(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    x = draw.choice([images(draw)[0], images(draw).flatten(1), images(draw).double(),
                     torch.rand(0, 2, 6, 6), torch.rand(2, 3, 6, 6), torch.rand(2, 2, 2, 2), None,
                     torch.rand(3, 2, 12, 12)[:, :, ::2, ::2]])  # fmt: skip
    return network(x)


@action
def call_with_more(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    x = images(draw).to(kind_of(network))
    way = draw.randrange(4)
    if way == 0:
        return network(x, torch.tensor(2.0))
    if way == 1:
        return network(x, twice=True)
    return network(x=x) if way == 2 else network(x, scale=torch.tensor(3.0), twice=True)


@action
def call_under_autocast(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return network(images(draw)).float().mean()


@action
def in_another_thread(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    x = images(draw).to(kind_of(network))
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(network, x).result()


@action
def change_before_backward(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    out = network(images(draw).to(kind_of(network)))
    with torch.no_grad():
        next(network.parameters()).mul_(1.1)
    total(out).backward()
    return out


@action
def backward_twice(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    network.zero_grad()
    loss = total(network(images(draw).to(kind_of(network))))
    loss.backward(retain_graph=True)
    loss.backward()
    return [p.grad for p in network.parameters()]


# --- derivatives and transforms -------------------------------------------------------------------


@action
def second_derivative(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    x = images(draw, requires_grad=True).to(kind_of(network))
    (grad,) = torch.autograd.grad(total(network(x)), x, create_graph=True)
    by = [x, *network.parameters()]
    return torch.autograd.grad(grad.square().sum(), by, allow_unused=True)


@action
def jacobian(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    x = images(draw, 2).to(kind_of(network))
    return torch.autograd.functional.jacobian(network, x, vectorize=draw.random() < 0.7)


@action
def with_other_weights(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    needs = draw.random() < 0.5
    generator = torch.Generator().manual_seed(draw.randrange(1000))
    weights = {
        name: torch.randn(p.shape, generator=generator).to(p.dtype).requires_grad_(needs)
        for name, p in network.named_parameters()
    }
    x = images(draw, requires_grad=True).to(kind_of(network))
    out = torch.func.functional_call(network, weights, (x,))
    (grad,) = torch.autograd.grad(total(out), x, create_graph=True)
    by = [x, *(w for w in weights.values() if needs)]
    more = torch.autograd.grad(grad.square().sum(), by, allow_unused=True)
    return [out, grad, *more]


@action
def transformed(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    x = images(draw, 2).to(kind_of(network))
    way = draw.randrange(3)
    if way == 0:
        return torch.func.vmap(network, randomness="same")(x.unsqueeze(1))
    if way == 1:
        return torch.func.jvp(network, (x,), (torch.ones_like(x),))
    return torch.func.grad(lambda x: total(network(x)))(x)


@action
def checkpointed(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    network.zero_grad()
    out = checkpoint(network, images(draw).to(kind_of(network)), use_reentrant=False)
    total(out).backward()
    return [out, *(p.grad for p in network.parameters())]


@action
def counted(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    with FlopCounterMode(display=False) as counter:
        network(images(draw).to(kind_of(network)))
    return counter.get_total_flops()


@action
def listened_to(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    names: list[str] = []

    class Names(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            names.append(getattr(func, "__name__", str(func)))
            return func(*args, **(kwargs or {}))

    with Names():
        network(images(draw).to(kind_of(network)))
    return names


@action
def traced(network: nn.Module, draw: Draw, _: list[Any]) -> Any:
    return fx.symbolic_trace(network)(images(draw).to(kind_of(network)))


# --- changes --------------------------------------------------------------------------------------


@action
def switch_mode(network: nn.Module, draw: Draw, _: list[Any]) -> None:
    draw.choice(list(network.modules())).train(draw.random() < 0.5)


@action
def set_attribute(network: nn.Module, draw: Draw, _: list[Any]) -> None:
    network.scale = network.times = draw.choice([1, 2, 3])


@action
def set_within(network: nn.Module, draw: Draw, _: list[Any]) -> None:
    network.cfg["scale"] = draw.choice([0.5, 2.0, 4.0])
    network.items[draw.choice([0, -1])] = draw.choice([3.0, 5.0])


@action
def replace_layer(network: nn.Module, draw: Draw, _: list[Any]) -> None:
    holder = draw.choice(modules(network, nn.Sequential))
    place = draw.randrange(len(holder))  # type: ignore[arg-type]
    new: list[nn.Module] = [nn.Tanh(), nn.ReLU(), nn.Sigmoid(), nn.Identity(), nn.GELU()]
    if isinstance(holder[place], nn.Conv2d):  # type: ignore[index]
        new = [copy.deepcopy(holder[place])]  # type: ignore[index]
    holder[place] = draw.choice(new)  # type: ignore[index, operator]


@action
def change_setting(network: nn.Module, draw: Draw, _: list[Any]) -> None:
    layer = draw.choice(modules(network, nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d))
    if isinstance(layer, nn.Conv2d):
        layer.padding = draw.choice([(0, 0), (1, 1), (2, 2)])
    else:
        layer.ceil_mode = draw.random() < 0.5  # type: ignore[assignment]
        layer.kernel_size = draw.choice([1, 2, 3])  # type: ignore[assignment]


@action
def replace_parameter(network: nn.Module, draw: Draw, _: list[Any]) -> None:
    layer = draw.choice(modules(network, nn.Conv2d, nn.Linear))
    way = draw.randrange(4)
    if way == 0:
        layer.bias = None
    elif way == 1:
        layer.weight = nn.Parameter(layer.weight.detach() * 0.5)
    elif way == 2:
        layer.weight.data = layer.weight.data.clone().mul_(2)
    else:
        layer.weight = nn.Parameter(torch.cat([layer.weight, layer.weight]))


@action
def freeze(network: nn.Module, draw: Draw, _: list[Any]) -> None:
    draw.choice(list(network.parameters())).requires_grad_(draw.random() < 0.3)


@action
def hook(network: nn.Module, draw: Draw, handles: list[Any]) -> None:
    module, way = draw.choice(list(network.modules())), draw.randrange(4)
    if way == 0:
        handles.append(module.register_forward_hook(lambda m, i, o: o * 2))
    elif way == 1:
        handles.append(module.register_forward_pre_hook(lambda m, i: (i[0] + 1, *i[1:])))
    elif way == 2:
        handles.append(module.register_full_backward_hook(lambda m, i, o: None))
    else:
        original = module.forward
        module.forward = lambda *a, **k: original(*a, **k)


@action
def unhook(network: nn.Module, _: Draw, handles: list[Any]) -> None:
    while handles:
        handles.pop().remove()
    for module in network.modules():
        vars(module).pop("forward", None)


@action
def cast(network: nn.Module, draw: Draw, _: list[Any]) -> None:
    network.to(draw.choice([torch.float32, torch.float32, torch.float64]))


@action
def lay_out(network: nn.Module, draw: Draw, _: list[Any]) -> None:
    network.to(memory_format=draw.choice([torch.channels_last, torch.contiguous_format]))  # type: ignore[call-overload]


@action
def load(network: nn.Module, draw: Draw, _: list[Any]) -> None:
    state = {
        name: value * 0.9 if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(state, assign=draw.random() < 0.3)


@action
def parametrize(network: nn.Module, draw: Draw, _: list[Any]) -> None:
    layer = draw.choice(modules(network, nn.Conv2d, nn.Linear))
    nn.utils.parametrizations.weight_norm(layer)


@action
def add_layer(network: nn.Module, draw: Draw, _: list[Any]) -> None:
    holder = draw.choice(modules(network, nn.Sequential))
    holder.append(draw.choice([nn.Tanh(), nn.Identity(), nn.Dropout(0.3)]))  # type: ignore[operator]


# --- what is the same for both --------------------------------------------------------------------


def copied(pair: Pair, draw: Draw) -> None:
    again = draw.choice([copy.copy, copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
    if pair.handles[1] or any("forward" in vars(module) for module in pair.networks[1].modules()):
        return  # whose functions know the network that they were made for
    with contextlib.suppress(Exception):  # some can't be copied, or pickled
        again(pair.networks[1])
        pair.change(again)


def outside(pair: Pair, draw: Draw) -> None:
    """A global, a class attribute, or a class's forward is another from here on."""
    way = draw.randrange(3)
    kind: Any = type(pair.networks[1])
    if way == 0:
        kinds.SCALE = draw.choice([1.0, 2.0])
    elif way == 1 and issubclass(kind, kinds.Own):
        kind.factor = draw.choice([1.0, 3.0])
    elif kind.__module__ == kinds.__name__ and "forward" not in vars(kind):
        forward = kind.forward
        kind.forward = lambda self, *a, **k: forward(self, *a, **k)


BOTH: list[Callable[[Pair, Draw], None]] = [copied, outside]


def run(seed: int) -> list[str]:
    """Draw a program and do it; what went otherwise with the accelerated network."""
    draw = random.Random(seed)
    name = draw.choice(list(KINDS))
    # Small images, too: by itself the library computes only what it computes faster.
    convolution._pays = lambda *_: True
    torch.manual_seed(seed)
    pair, told = Pair(KINDS[name]()), [f"{seed}: {name}"]
    saved = {k: dict(vars(k)) for k in {type(n) for n in pair.networks}}
    try:
        for _ in range(draw.randint(3, 10)):
            if draw.random() < 0.08:
                what = draw.choice(BOTH)
                told.append(what.__name__)
                what(pair, draw)
                continue
            # Every other action is a call, or little would be compared.
            calls = ("call", "learn", "step", "test")
            done = draw.choice(calls) if draw.random() < 0.5 else draw.choice(list(ACTIONS))
            number = draw.randrange(1 << 30)
            told.append(done)
            results = [
                _do(done, n, number, h) for n, h in zip(pair.networks, pair.handles, strict=True)
            ]
            most = MOST_WIDE if name.startswith("Wide") else MOST
            if difference := _difference(*results, most):
                return [*told, difference]
            if difference := _difference(*map(_state, pair.networks), most):
                return [*told, f"state: {difference}"]
    finally:
        kinds.SCALE = 1.0
        for kind, was in saved.items():
            if kind.__module__ == kinds.__name__:
                for key in ("forward", "factor"):
                    if key in was:
                        setattr(kind, key, was[key])
                    elif key in vars(kind):
                        delattr(kind, key)
    return []


def _do(name: str, network: nn.Module, number: int, handles: list[Any]) -> Any:
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number % 2**32)
    kinds.SEEN.clear()
    try:
        result = ACTIONS[name](network, random.Random(number), handles)
    except Exception as error:
        return type(error), [], []
    return None, tensors(result), [*kinds.SEEN, torch.rand(()), random.random(), np.random.rand()]


def _state(network: nn.Module) -> Any:
    plain = {k: v for k, v in vars(network).items() if isinstance(v, int | float | dict | list)}
    public = [plain[key] for key in sorted(plain) if not key.startswith("_")]
    return (
        None,
        [*network.state_dict().values()],
        [type(network).__name__, list(network.state_dict()), public],
    )


def _difference(found: Any, expected: Any, most: float) -> str:
    if found[0] is not expected[0]:
        return f"{found[0]} instead of {expected[0]}"
    if len(found[1]) != len(expected[1]):
        return f"{len(found[1])} values instead of {len(expected[1])}"
    floats = [t.double().abs().max() for t in expected[1] if isinstance(t, Tensor) and t.numel()]
    # What is 0 but for rounding isn't compared with itself.
    least = max([1e-3, *(1e-3 * float(value) for value in floats if value.isfinite())])
    for one, other in zip(found[1], expected[1], strict=True):
        if not isinstance(one, Tensor) or not isinstance(other, Tensor):
            empty = (one is None and not other.any()) if isinstance(other, Tensor) else False
            empty |= (other is None and not one.any()) if isinstance(one, Tensor) else False
            if one != other and not empty:
                return f"{one} instead of {other}"
        elif one.shape != other.shape or one.dtype != other.dtype:
            return f"{one.shape} {one.dtype} instead of {other.shape} {other.dtype}"
        elif one.numel() and one.is_floating_point():
            apart = (one.double() - other.double()).abs().max()
            size = other.double().abs().max().clamp(min=least)
            if not apart <= most * size and not torch.equal(one.isnan(), other.isnan()):
                return f"apart by {float(apart / size):.2g}, or not a number"
            if apart > most * size:
                return f"apart by {float(apart / size):.2g}"
        elif not torch.equal(one, other):
            return f"{one} instead of {other}"
    for one, other in zip(found[2], expected[2], strict=True):
        same = torch.equal(one, other) if isinstance(one, Tensor) else one == other
        if not same:
            return f"{one} instead of {other}"
    return ""


def main(count: int = 5000, seed: int = 0) -> int:
    wrong = 0
    for number in range(seed, seed + count):
        try:
            told = run(number)
        except Exception:
            told = [f"{number}:", traceback.format_exc()]
        if told:
            wrong += 1
            print(" ".join(told), flush=True)
        if number % 500 == 499:
            print(f"{number + 1 - seed} programs, {wrong} went otherwise", flush=True)
    return wrong


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
