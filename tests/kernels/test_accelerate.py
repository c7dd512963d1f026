"""An accelerated network: to everyone else it is the network that it was."""

import copy
import pickle

import pytest
import torch
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

from fivebyfive import networks
from fivebyfive.kernels.accelerate import accelerate
from fivebyfive.kernels.fused_chain import FusedChain
from fivebyfive.kernels.library import VARIABLE

from .comparing import assert_same_values, block
from .drawing import distance


def test_it_stays_the_network_that_it_is():
    network = networks.build("lenet")
    kind, attributes, names = type(network), set(dir(network)), list(network.state_dict())
    fast = accelerate(network)
    assert fast is network
    assert accelerate(network) is network
    assert type(network) is kind
    assert set(dir(network)) == attributes
    assert list(network.state_dict()) == names


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))]
)
def test_copies_are_of_the_plain_network(passes, again):
    network = accelerate(networks.build("lenet"))
    x = torch.rand(3, 1, 28, 28)
    other = again(network)
    assert type(other) is type(network)
    assert torch.equal(other(x), network.forward(x))
    assert not passes
    assert accelerate(other) is other
    other(x)
    assert len(passes) == 1


class Branch(nn.Module):
    """With a forward of its own."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 3, 3), nn.Linear(27, 4)

    def forward(self, x):
        return self.fc(torch.flatten(torch.sigmoid(self.conv(x)), 1))


@pytest.fixture(params=["in order", "own forward"])
def network(request):
    """Networks that are seen in either way, for images of 2 channels and 5×5."""
    if request.param == "own forward":
        return Branch()
    return block(nn.Sigmoid(), nn.Flatten(), nn.Linear(27, 4))


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:.*is deprecated")  # on its way out
@pytest.mark.parametrize(
    "other",
    [
        torch.jit.script,
        fx.symbolic_trace,
        lambda n: torch.jit.trace(n, torch.rand(2, 2, 5, 5)),
        lambda n: torch.compile(n, backend="eager", fullgraph=True),
        lambda n: torch.export.export(n, (torch.rand(2, 2, 5, 5),)).module(),
        lambda n: accelerate(fx.symbolic_trace(n)),
        lambda n: accelerate(torch.jit.script(n)),
    ],
    ids=["script", "symbolic_trace", "trace", "compile", "export", "of a trace", "of a script"],
)
@pytest.mark.parametrize("called", [False, True])
def test_who_reads_the_network_reads_the_plain_one(network, other, called):
    accelerate(network)
    x = torch.rand(2, 2, 5, 5)
    if called:
        network(x)
    torch.testing.assert_close(other(network)(x), network.forward(x))


def test_a_trace_of_a_network_that_holds_it_looks_into_it(network):
    whole = nn.Sequential(accelerate(network), nn.ReLU())
    traced = fx.symbolic_trace(whole)
    assert len([node for node in traced.graph.nodes if node.op == "call_module"]) >= 3


@pytest.mark.parametrize("called", [False, True])
def test_functional_calls_are_with_the_weights_given(network, called):
    """Also their second derivatives, with other weights than the network has."""
    accelerate(network)
    x = torch.rand(2, 2, 5, 5, requires_grad=True)
    if called:
        network(x)
    weights = {name: torch.randn_like(p) for name, p in network.named_parameters()}
    for needs in (False, True):
        given = {name: w.clone().requires_grad_(needs) for name, w in weights.items()}
        results = []
        for net in (network, copy.deepcopy(network)):
            out = torch.func.functional_call(net, given, (x,))
            (grad,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
            by = [x, *(w for w in given.values() if needs)]
            results.append([grad, *torch.autograd.grad(grad.square().sum(), by, allow_unused=True)])
        for one, other in zip(*results, strict=True):
            if other is None:
                assert one is None or not one.any()
            else:
                assert distance(one, other.double()) < 1e-4


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:.*is deprecated")
def test_a_jacobian_computed_in_one_go(network):
    accelerate(network)
    x = torch.rand(2, 2, 5, 5)
    found, expected = (
        torch.autograd.functional.jacobian(each, x, vectorize=True)
        for each in (network, network.forward)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:.*is deprecated")
def test_models_are_stacked(network):
    models = [accelerate(network), accelerate(copy.deepcopy(network))]
    parameters, buffers = torch.func.stack_module_state(models)
    x = torch.rand(2, 2, 5, 5)
    base = copy.deepcopy(network)
    found = torch.func.vmap(
        lambda p, b: torch.func.functional_call(base, (p, b), (x,)), in_dims=(0, 0)
    )(parameters, buffers)
    for one, model in zip(found, models, strict=True):
        torch.testing.assert_close(one, model.forward(x))


def test_what_is_no_module_is_told():
    with pytest.raises(TypeError, match=r"the network is a str; expected a torch\.nn\.Module"):
        accelerate("lenet")


def test_turned_off(passes, monkeypatch):
    monkeypatch.setenv(VARIABLE, "none")
    assert_same_values(block(), torch.rand(1, 2, 5, 5))
    assert not passes


def test_memory_is_used_again(passes):
    network = accelerate(networks.build("lenet"))
    chain = None
    for _ in range(3):
        network(torch.rand(64, 1, 28, 28)).sum().backward()
        chain = passes[-1]._module
        passes.clear()
    assert isinstance(chain, FusedChain)
    assert len(chain.spare) == 1


@pytest.fixture
def other_defaults():
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


def test_default_types_and_devices_of_the_callers_own(passes, request, tolerances):
    network, x = networks.build("lenet"), torch.rand(3, 1, 28, 28)
    expected = network(x)
    request.getfixturevalue("other_defaults")
    found = accelerate(network)(x)
    found.sum().backward()
    assert (found.dtype, found.device) == (expected.dtype, expected.device)
    assert torch.allclose(found, expected, atol=tolerances.at_most(tolerances.LENET_DEPTH))
    assert passes


@pytest.mark.filterwarnings("ignore:`torch.jit")  # used in PyTorch itself
def test_function_transforms_stay_in_pytorch(passes):
    network = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    accelerate(network)
    x = torch.rand(4, 3)
    torch.testing.assert_close(
        torch.func.vmap(network)(x.unsqueeze(1)).squeeze(1), network.forward(x)
    )
    _, found = torch.func.jvp(network, (x,), (torch.ones_like(x),))
    _, expected = torch.func.jvp(network.forward, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(found, expected)


def test_who_counts_operations_counts_them_all():
    counted = []
    for network in (block(nn.ReLU()), accelerate(block(nn.ReLU()))):
        with FlopCounterMode(display=False) as counter:
            network(torch.rand(2, 2, 5, 5)).sum().backward()
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1] > 0
