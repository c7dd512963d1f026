"""The twin of a network: the same to everyone, and right whatever comes."""

import copy
import pickle
import threading

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

from fivebyfive import networks
from fivebyfive.kernels.accelerate import _fused, accelerate, fuses_convolutions
from fivebyfive.kernels.fused_chain import FusedChain
from fivebyfive.kernels.library import VARIABLE

from .drawing import distance, gradients


def block(*after, **options):
    return nn.Sequential(nn.Conv2d(2, 3, 3, **options), *after)


def same(network, x, tolerance=1e-5):
    """The twin gives what the network gives, forward and backward."""
    out_grad = torch.randn(network(x).shape)
    found = gradients(accelerate(network), x, out_grad, torch.float32)
    expected = gradients(network, x, out_grad, torch.float64)
    assert all(distance(a, b) < tolerance for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["lenet", "convnet"])
@pytest.mark.parametrize("batch", [1, 17, 96])
def test_named_networks(passes, name, batch):
    torch.manual_seed(batch)
    same(networks.build(name), torch.rand(batch, 1, 28, 28))
    assert passes


def test_flat_images_work_as_with_the_network_itself(passes):
    same(networks.build("lenet"), torch.rand(5, 784))
    assert passes


def test_wide_networks_stay_in_pytorch():
    assert fuses_convolutions(networks.build("lenet"))
    assert fuses_convolutions(networks.build("convnet"))
    assert not fuses_convolutions(networks.build("alexnet"))
    assert not fuses_convolutions(nn.Sequential(nn.Linear(3, 2)))


def test_what_cannot_be_fused_runs_in_between(passes):
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 6), nn.Tanh(), nn.Linear(6, 3),
    )  # fmt: skip
    same(network, torch.rand(9, 2, 12, 12), tolerance=1e-4)
    assert len(passes) == 2


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


def test_an_optimizer_and_a_changed_layer_are_followed(passes):
    network = networks.build("lenet")
    twin = accelerate(network)
    x, y = torch.rand(8, 1, 28, 28), torch.arange(8)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    F.cross_entropy(twin(x), y).backward()
    optimizer.step()
    assert torch.allclose(twin(x), network(x), atol=1e-6)
    network[1] = nn.ReLU()
    assert torch.allclose(twin(x), network(x), atol=1e-6)
    network[0] = nn.Conv2d(1, 6, 5, padding=2)
    assert torch.allclose(twin(x), network(x), atol=1e-6)
    assert len(passes) == 4


# --- bad input: computed right or left to PyTorch -------------------------------------------------


def test_non_contiguous(passes):
    network = block(nn.ReLU(), nn.MaxPool2d(2))
    same(network, torch.rand(5, 9, 9, 2).permute(0, 3, 1, 2))
    same(network.to(memory_format=torch.channels_last), torch.rand(5, 2, 18, 9)[:, :, ::2])
    assert passes


def test_a_non_contiguous_gradient():
    x = torch.rand(4, 2, 6, 6)
    twin = accelerate(network := block(nn.Sigmoid()))
    twin(x).sum().backward()  # an expanded gradient
    found = network[0].weight.grad.clone()
    network.zero_grad()
    network(x).sum().backward()
    assert torch.allclose(found, network[0].weight.grad, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(passes, dtype):
    network = block(nn.Sigmoid()).to(dtype)
    x = torch.rand(2, 2, 5, 5, dtype=dtype)
    assert torch.equal(accelerate(network)(x), network(x))
    assert not passes


def test_wrong_dtype_is_pytorchs_error():
    twin = accelerate(block())
    with pytest.raises(RuntimeError, match="type"):
        twin(torch.rand(2, 2, 5, 5, dtype=torch.float64))


def test_autocast(passes):
    network = block(nn.ReLU())
    x = torch.rand(2, 2, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert accelerate(network)(x).dtype == torch.bfloat16
    assert not passes


def test_empty_batch(passes):
    assert accelerate(block(nn.Tanh()))(torch.rand(0, 2, 5, 5)).shape == (0, 3, 3, 3)
    assert not passes


def test_kernel_larger_than_the_padded_image_is_pytorchs_error():
    with pytest.raises(RuntimeError, match="Kernel size"):
        accelerate(block())(torch.rand(1, 2, 2, 9))
    with pytest.raises(RuntimeError, match=r"[Oo]utput size"):
        accelerate(block(nn.MaxPool2d(3)))(torch.rand(1, 2, 4, 4))


def test_wrong_shape_is_pytorchs_error():
    with pytest.raises(RuntimeError, match="channels"):
        accelerate(block())(torch.rand(1, 3, 9, 9))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        accelerate(networks.build("lenet"))(torch.rand(1, 1, 32, 32))


@pytest.mark.parametrize(
    "network",
    [
        block(nn.MaxPool2d(2, ceil_mode=True)),
        block(nn.MaxPool2d(2, dilation=2)),
        block(nn.MaxPool2d(2, padding=1)),
        block(nn.AvgPool2d(2, padding=1)),
        block(nn.AvgPool2d(2, divisor_override=3)),
        block(nn.MaxPool2d((2, 3))),
        block(nn.MaxPool2d(4)),
        block(nn.ReLU(inplace=True), nn.AvgPool2d(2, ceil_mode=True)),
    ],
    ids=str,
)
def test_poolings_the_kernels_do_not_know_stay_in_pytorch(passes, network):
    same(network, torch.rand(3, 2, 9, 9))
    assert passes  # the convolution still runs in the kernels


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2}, {"dilation": 2}, {"padding": 3}, {"padding": "same"}, {"padding": (1, 0)},
        {"padding": 1, "padding_mode": "reflect"},
    ],
    ids=str,
)  # fmt: skip
def test_convolutions_the_kernels_do_not_know_stay_in_pytorch(passes, options):
    same(block(**options), torch.rand(3, 2, 9, 9))
    assert not passes


def test_groups_and_other_dimensions_stay_in_pytorch(passes):
    same(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.ReLU()), torch.rand(3, 4, 9, 9))
    same(nn.Sequential(nn.Conv1d(4, 4, 3), nn.ReLU(), nn.MaxPool1d(2)), torch.rand(3, 4, 9))
    same(nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.MaxPool3d(2)), torch.rand(3, 1, 6, 6, 6))
    same(block(nn.ReLU()), torch.rand(2, 9, 9))  # one image without a batch
    same(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.rand(2, 5, 4))
    assert not passes


def test_a_linear_layer_on_unflattened_images_is_not_taken_for_a_flat_one():
    same(block(nn.Linear(7, 4), nn.ReLU()), torch.rand(2, 2, 9, 9))


@pytest.mark.parametrize(
    "functional",
    [
        lambda x: F.avg_pool2d(torch.relu(x), 2),
        lambda x: F.max_pool2d(x.tanh(), (2, 2), 2),
        lambda x: F.max_pool2d(F.relu(x), kernel_size=2, stride=(1, 2)),
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: F.avg_pool2d(x, 2, count_include_pad=False),
        lambda x: F.avg_pool2d(input=x, kernel_size=2),
        lambda x: torch.flatten(x, 1),
        lambda x: x.view(x.size(0), -1),
        lambda x: x.view(-1, 3 * 7 * 7),
        lambda x: x.view(-1, 7),
        lambda x: x.reshape(x.shape[0], -1),
        lambda x: x.sigmoid() + x,
    ],
)
def test_functional_forms(passes, functional):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)

        def forward(self, x):
            return functional(self.conv(x))

    same(Network(), torch.rand(3, 2, 9, 9))
    assert passes


class View(nn.Module):
    """A tutorial's network whose view may or may not keep one row an image."""

    def __init__(self, width):
        super().__init__()
        self.conv, self.fc, self.width = nn.Conv2d(1, 4, 3), nn.Linear(width, 5), width

    def forward(self, x):
        return self.fc(F.relu(self.conv(x)).view(-1, self.width))


@pytest.mark.parametrize("width", [4 * 6 * 6, 2 * 6 * 6, 8 * 6 * 6])
def test_a_view_of_fixed_width(width):
    same(View(width), torch.rand(6, 1, 8, 8))


def test_a_module_used_twice_and_shared_parameters():
    linear = nn.Linear(6, 6)
    same(nn.Sequential(linear, nn.Tanh(), linear, nn.Tanh()), torch.rand(3, 6))
    other = nn.Linear(6, 6)
    other.weight = linear.weight
    same(nn.Sequential(linear, nn.Tanh(), other), torch.rand(3, 6))
    convolution = nn.Conv2d(2, 2, 3, padding=1)
    same(nn.Sequential(convolution, nn.ReLU(), convolution), torch.rand(3, 2, 5, 5))


@pytest.mark.parametrize("where", [0, 1, 2])
def test_hooks_inside_are_called(passes, where):
    network = block(nn.ReLU(), nn.Sequential(nn.MaxPool2d(2)))
    twin = accelerate(network)
    x = torch.rand(2, 2, 9, 9)
    twin(x)
    assert len(passes) == 1
    seen = []
    handle = network[where].register_forward_hook(lambda *a: seen.append(a))
    twin(x)
    assert len(seen) == len(passes) == 1
    handle.remove()
    twin(x)
    assert len(passes) == 2


def test_hooks_on_the_network_itself_are_called(passes):
    network = block()
    seen = []
    network.register_forward_hook(lambda *a: seen.append(a))
    accelerate(network)(torch.rand(2, 2, 9, 9))
    assert len(seen) == len(passes) == 1


@pytest.mark.parametrize("activation", [nn.Sigmoid(), nn.Tanh()])
def test_double_backward(activation):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), activation, nn.Flatten(), nn.Linear(8, 2))
    x = torch.rand(3, 1, 4, 4, requires_grad=True)

    def penalty(net):
        (grad,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), [x, *net.parameters()], allow_unused=True)

    for found, expected in zip(penalty(accelerate(network)), penalty(network), strict=True):
        if expected is None:
            assert found is None or not found.any()
        else:
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_backward_twice_and_accumulated(passes):
    network = block(nn.Sigmoid(), nn.AvgPool2d(2))
    twin = accelerate(network)
    a, b = torch.rand(3, 2, 9, 9), torch.rand(18, 2, 9, 9)
    loss = twin(a).square().sum() + twin(b).square().sum()  # two forwards before a backward
    loss.backward(retain_graph=True)
    loss.backward()
    found = network[0].weight.grad.clone()
    network.zero_grad()
    for _ in range(2):
        (network(a).square().sum() + network(b).square().sum()).backward()
    torch.testing.assert_close(found, network[0].weight.grad, rtol=1e-4, atol=1e-5)
    assert len(passes) == 2


def test_a_parameter_changed_before_backward_is_an_error():
    network = block()
    out = accelerate(network)(torch.rand(1, 2, 5, 5)).sum()
    with torch.no_grad():
        network[0].weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


@pytest.mark.parametrize("frozen", [["0.weight"], ["0.bias"], ["0.weight", "0.bias"], ["3.weight"]])
def test_frozen_parameters_and_inputs(frozen):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(18, 4))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)
    x = torch.rand(3, 1, 5, 5)  # needs no gradient
    accelerate(network)(x).sum().backward()
    found = {n: p.grad for n, p in network.named_parameters()}
    network.zero_grad()
    network(x).sum().backward()
    for name, parameter in network.named_parameters():
        assert (found[name] is None) == (name in frozen)
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-5)


def test_dropout_follows_the_mode(passes):
    network = block(nn.ReLU(), nn.Dropout(0.5))
    twin = accelerate(network)
    x = torch.rand(4, 2, 9, 9)
    torch.manual_seed(0)
    found = twin(x)
    torch.manual_seed(0)
    assert torch.allclose(found, network(x), atol=1e-6)
    twin.eval()
    assert torch.allclose(twin(x), network(x), atol=1e-6)
    assert len(passes) == 2


def test_a_forward_that_cannot_be_traced_stays_in_pytorch(passes):
    class Branching(nn.Sequential):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    same(Branching(nn.Conv2d(2, 2, 3)), torch.rand(1, 2, 5, 5))
    assert not passes


def test_a_forward_that_makes_its_own_numbers_stays_in_pytorch(passes):
    class Noisy(nn.Sequential):
        def forward(self, x):
            return super().forward(x) + torch.rand(1)

    twin = accelerate(Noisy(nn.Conv2d(2, 2, 3)))
    x = torch.rand(1, 2, 5, 5)
    assert not torch.equal(twin(x), twin(x))
    assert not passes


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # PyTorch's own
def test_function_transforms_stay_in_pytorch(passes):
    network = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    twin = accelerate(network)
    x = torch.rand(4, 3)
    torch.testing.assert_close(torch.func.vmap(twin)(x.unsqueeze(1)).squeeze(1), network(x))
    _, found = torch.func.jvp(twin, (x,), (torch.ones_like(x),))
    _, expected = torch.func.jvp(network, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(found, expected)


def test_turned_off(passes, monkeypatch):
    monkeypatch.setenv(VARIABLE, "none")
    same(block(), torch.rand(1, 2, 5, 5))
    assert not passes


def test_several_threads_of_the_callers_own():
    twin = accelerate(networks.build("lenet"))
    x = torch.rand(40, 1, 28, 28)
    with torch.no_grad():
        expected = twin(x)
    found = []

    def work():
        with torch.no_grad():
            found.extend(torch.equal(twin(x), expected) for _ in range(20))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 80
    assert all(found)


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


def test_default_types_and_devices_of_the_callers_own(passes, request):
    network, x = networks.build("lenet"), torch.rand(3, 1, 28, 28)
    expected = network(x)
    request.getfixturevalue("other_defaults")
    found = accelerate(network)(x)
    found.sum().backward()
    assert (found.dtype, found.device) == (expected.dtype, expected.device)
    assert torch.allclose(found, expected, atol=1e-6)
    assert passes


@pytest.mark.parametrize(
    ("weight", "bias"),
    [((2, 2, 3, 3), 2), ((3, 2, 5, 5), 3), ((3, 2, 3, 1), 3), ((3, 1, 3, 3), 3), ((5, 2, 3, 3), 5)],
)
def test_parameters_of_other_shapes_than_the_layer_was_made_with(passes, weight, bias):
    network = block(nn.ReLU())
    twin = accelerate(network)
    twin(torch.rand(2, 2, 9, 9))
    network[0].weight = nn.Parameter(torch.randn(weight))
    network[0].bias = nn.Parameter(torch.randn(bias))
    same(network, torch.rand(2, weight[1], 9, 9))
    if weight[1] != 2:
        with pytest.raises(RuntimeError, match="channels"):
            twin(torch.rand(2, 2, 9, 9))
    assert len(passes) == 1


def test_a_bias_that_is_spread_over_the_outputs():
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    network[0].bias = nn.Parameter(torch.ones(1))
    same(network, torch.rand(5, 4))


@pytest.mark.parametrize("size", [lambda y: y.size(0), lambda y: y.size()[0], len])
def test_a_layer_of_which_only_the_size_is_used(size):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)

        def forward(self, x):
            n = size(self.conv(x))
            return x.reshape(n, -1) * n

    network, x = Network(), torch.rand(3, 2, 5, 5)
    assert torch.equal(accelerate(network)(x), network(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
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


def test_many_gradients_at_once(passes):
    network = block(nn.Sigmoid(), nn.AvgPool2d(2))
    x, many = torch.rand(2, 2, 6, 6), torch.randn(4, 2, 3, 2, 2)
    found, expected = (
        torch.autograd.grad(each(x), list(network.parameters()), many, is_grads_batched=True)
        for each in (accelerate(network), network)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert passes


@pytest.mark.parametrize("make", [torch._neg_view, lambda t: torch._efficientzerotensor(t.shape)])
def test_numbers_that_do_not_lie_in_memory_as_they_are(make):
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    x, upstream = torch.randn(5, 4), torch.randn(5, 3)
    found = []
    for each, of in ((accelerate(network), make), (network, lambda t: make(t).clone())):
        network.zero_grad()
        out = each(of(x))
        out.backward(of(upstream))
        found.append([out, network[0].weight.grad, network[0].bias.grad])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("other", [torch.jit.script, fx.symbolic_trace])
def test_networks_whose_classes_are_their_own_stay_as_they_are(other):
    network = other(block(nn.ReLU()))
    assert accelerate(network) is network


def test_a_shallow_copy_has_its_own_attributes():
    twin = accelerate(block())
    other = copy.copy(twin)
    other.name = "other"
    assert not hasattr(twin, "name")
    assert type(other).forward is type(twin).forward
    assert other[0] is twin[0]


def test_a_workspace_is_taken_by_one_thread_only():
    class Gone(list):
        """The moment in which another thread takes it."""

        def __len__(self):
            return 1

    twin = accelerate(block())
    x = torch.rand(2, 2, 5, 5)
    expected = twin(x).detach()
    for chain in _fused(twin).modules():
        if isinstance(chain, FusedChain):
            chain.spare = Gone()
    assert torch.equal(twin(x), expected)


def test_what_is_no_module_is_told():
    with pytest.raises(TypeError, match=r"the network is a str; expected a torch\.nn\.Module"):
        accelerate("lenet")
