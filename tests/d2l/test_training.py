# ruff: noqa: N803, N806 (X, Y, K and W are the book's names)
from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fivebyfive as fbf
from fivebyfive import d2l
from fivebyfive.lib.errors import DataError, RecipeError

LAST_LINES = re.compile(
    r"training on cpu\nloss (\d\.\d{3}), train acc (\d\.\d{3}), test acc (\d\.\d{3})\n"
    r"\d+\.\d examples/sec on cpu\n"
)


def small_net():
    return nn.Sequential(
        nn.Conv2d(1, 3, 5, stride=3), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(192, 10)
    )


def textbook(net, train, test, num_epochs, lr):
    """Train by the plain loop; give the last epoch's mean loss, accuracy and test accuracy."""
    for layer in net:
        if type(layer) in (nn.Linear, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
    for _ in range(num_epochs):
        total, right, count = 0.0, 0, 0
        net.train()
        for X, y in train:
            loss = nn.functional.cross_entropy(scores := net(X), y)
            net.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.sub_(lr * parameter.grad)
            total += float(loss.detach() * len(X))
            right += int((scores.argmax(1) == y).sum())
            count += len(X)
        net.eval()
        tested = [(net(X).argmax(1) == y) for X, y in test]
    return total / count, right / count, torch.cat(tested).float().mean().item()


def test_train_ch6_computes_what_the_textbook_loop_does(bands, capsys):
    net = small_net()
    twin = copy.deepcopy(net)
    train, test = d2l.load_data_fashion_mnist(32)
    torch.manual_seed(3)
    d2l.train_ch6(net, train, test, 3, 0.1, "cpu")
    printed = LAST_LINES.fullmatch(capsys.readouterr().out).groups()

    whole = TensorDataset(bands.train.images / 255, bands.train.labels)
    torch.manual_seed(3)
    expected = textbook(twin, DataLoader(whole, 32, shuffle=True), test, 3, 0.1)
    assert printed == tuple(f"{value:.3f}" for value in expected)
    for mine, theirs in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert expected[2] > 0.5  # it has learnt, so there was something to compare


def test_train_ch6_takes_an_accelerated_network(bands, capsys):
    net = fbf.networks.build("lenet")
    twin = fbf.accelerate(copy.deepcopy(net))
    for each in (net, twin):
        torch.manual_seed(3)
        d2l.train_ch6(each, *d2l.load_data_fashion_mnist(32), 2, 0.5, "cpu")
    first, second = LAST_LINES.findall(capsys.readouterr().out)
    assert first == second
    for mine, theirs in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("batch_size", [230, 115, 58])  # 1, 2 and 4 batches: fewer than 5 points
def test_short_epochs_and_a_loader_of_ones_own(bands, capsys, batch_size):
    X, y = bands.train.images / 255, bands.train.labels
    loader = DataLoader(TensorDataset(X, y), batch_size)
    d2l.train_ch6(small_net(), loader, loader, 1, 0.1, torch.device("cpu"))
    assert LAST_LINES.fullmatch(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("epochs", "lr", "told"),
    [(0, 0.1, "num_epochs is 0"), (1, float("nan"), "lr is nan"), (1, -1.0, "lr is -1.0")],
)
def test_settings_that_cannot_be(bands, epochs, lr, told):
    train, test = d2l.load_data_fashion_mnist(32)
    with pytest.raises(RecipeError, match=told):
        d2l.train_ch6(small_net(), train, test, epochs, lr, "cpu")


def test_nothing_to_train_on():
    with pytest.raises(DataError, match="no batches"):
        d2l.train_ch6(small_net(), [], [], 1, 0.1, "cpu")
    with pytest.raises(DataError, match="no batch"):
        d2l.train_epoch_ch3(small_net(), [], nn.CrossEntropyLoss(reduction="none"), lambda _: None)


def flat():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def test_chapter_3_with_an_optimizer_and_by_hand_agree(bands):
    _, test = d2l.load_data_fashion_mnist(30)  # in order, and all batches of one size
    loss = nn.CrossEntropyLoss(reduction="none")
    net = flat()
    W, b = (p.detach().clone().requires_grad_() for p in net[1].parameters())

    def by_hand(X):
        return X.reshape(len(X), -1) @ W.T + b

    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    concise = d2l.train_epoch_ch3(net, test, loss, optimizer)
    scratch = d2l.train_epoch_ch3(by_hand, test, loss, lambda n: d2l.sgd([W, b], 0.1, n))
    assert concise == pytest.approx(scratch, rel=1e-5)
    torch.testing.assert_close(net[1].weight, W)
    assert 0 <= concise[1] <= 1


def test_train_ch3_and_predict_ch3(bands):
    train, test = d2l.load_data_fashion_mnist(64)
    net = flat()
    before = d2l.evaluate_accuracy(net, test)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    d2l.train_ch3(net, train, test, nn.CrossEntropyLoss(reduction="none"), 2, optimizer)
    assert d2l.evaluate_accuracy(net, test) > before
    d2l.predict_ch3(net, test, n=4)
    figure = d2l.plt.gcf()
    titles = [axes.get_title() for axes in figure.axes]
    d2l.plt.close(figure)
    assert len(titles) == 4
    assert [title.split("\n")[0] for title in titles] == d2l.get_fashion_mnist_labels(range(4))


def test_sgd_follows_the_mean_gradient_and_clears_it():
    w, unused = (torch.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    (w * torch.tensor([4.0, 8.0])).sum().backward()
    d2l.sgd([w, unused], lr=0.5, batch_size=4)
    assert w.tolist() == [0.5, 1.0]
    assert w.grad.tolist() == [0.0, 0.0]
    assert unused.tolist() == [1.0, 2.0]
