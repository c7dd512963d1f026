"""The twin of a network: to everyone else it is the network itself."""

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

from .twins import assert_same_values, block


def test_the_twin_is_the_network_to_everyone_else():
    network = networks.build("lenet")
    twin = accelerate(network)
    assert isinstance(twin, type(network))
    assert accelerate(twin) is twin
    assert list(twin.state_dict()) == list(network.state_dict())
    assert all(a is b for a, b in zip(twin.parameters(), network.parameters(), strict=True))
    assert repr(twin) == repr(network)
    assert twin[0] is network[0]
    twin.eval()
    assert not network.training
    twin.load_state_dict({k: torch.zeros_like(v) for k, v in network.state_dict().items()})
    assert not network[0].weight.any()


@pytest.mark.parametrize("again", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_copies_are_twins_of_copies(passes, again):
    twin = accelerate(networks.build("lenet"))
    x = torch.rand(3, 1, 28, 28)
    other = again(twin)
    assert other[0] is not twin[0]
    assert torch.equal(other(x), twin(x))
    with torch.no_grad():
        other[0].weight.zero_()
    assert not torch.equal(other(x), twin(x))
    assert len(passes) == 4


def test_a_shallow_copy_has_its_own_attributes():
    twin = accelerate(block())
    other = copy.copy(twin)
    other.name = "other"
    assert not hasattr(twin, "name")
    assert type(other).forward is type(twin).forward
    assert other[0] is twin[0]


@pytest.mark.filterwarnings("ignore:`torch.jit")  # on its way out
@pytest.mark.parametrize("other", [torch.jit.script, fx.symbolic_trace])
def test_networks_whose_classes_are_their_own_stay_as_they_are(other):
    network = other(block(nn.ReLU()))
    assert accelerate(network) is network


def test_what_is_no_module_is_told():
    with pytest.raises(TypeError, match=r"the network is a str; expected a torch\.nn\.Module"):
        accelerate("lenet")


def test_turned_off(passes, monkeypatch):
    monkeypatch.setenv(VARIABLE, "none")
    assert_same_values(block(), torch.rand(1, 2, 5, 5))
    assert not passes


def test_memory_is_used_again(passes):
    twin = accelerate(networks.build("lenet"))
    chain = None
    for _ in range(3):
        twin(torch.rand(64, 1, 28, 28)).sum().backward()
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
    twin = accelerate(network)
    x = torch.rand(4, 3)
    torch.testing.assert_close(torch.func.vmap(twin)(x.unsqueeze(1)).squeeze(1), network(x))
    _, found = torch.func.jvp(twin, (x,), (torch.ones_like(x),))
    _, expected = torch.func.jvp(network, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(found, expected)


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("gradients", [True, False])
def test_who_records_operations_gets_pytorchs(gradients):
    network = block(nn.ReLU())
    with torch.set_grad_enabled(gradients):
        traced = torch.jit.trace(accelerate(network), torch.rand(1, 2, 5, 5))
        x = torch.rand(3, 2, 7, 7)
        torch.testing.assert_close(traced(x), network(x))


def test_who_counts_operations_counts_them_all():
    counted = []
    for network in (block(nn.ReLU()), accelerate(block(nn.ReLU()))):
        with FlopCounterMode(display=False) as counter:
            network(torch.rand(2, 2, 5, 5)).sum().backward()
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1] > 0
