"""Networks that find no memory in one of several processes, as the text of a file of networks.

The text goes on from :data:`.conftest.NETWORKS`.
"""

from __future__ import annotations

#: For ``hungry`` the second of several processes never has room for more than four images. For the
#: others one has none from their ninth step on: in the forward, or in the midst of the backward,
#: when the gradients of what is behind it, more than the first bucket of 1 MiB, are being added up.
HUNGRY = """

import os

import torch


class Hungry(nn.Sequential):
    def forward(self, images):
        rank = os.environ.get("RANK")
        if self.training and rank == "1" and len(images) > 4 and images.device.type != "meta":
            raise MemoryError
        return super().forward(images)


def hungry():
    return Hungry(*alexnet_small())


class Short(torch.autograd.Function):
    @staticmethod
    def forward(ctx, images, ask):
        ctx.ask = ask
        return images.view_as(images)

    @staticmethod
    def backward(ctx, gradients):
        ctx.ask(gradients)
        return gradients, None


class Late(nn.Sequential):
    def begin(self, place, rank):
        self.place, self.rank, self.steps, self.weight = place, rank, 0, None
        return self

    def ask(self, images):
        mine = os.environ.get("RANK", self.rank) == self.rank
        if mine and self.steps > 8 and len(images) > 4:
            raise MemoryError

    def forward(self, images):
        weight = self[0].weight.detach().sum()
        if self.training and images.device.type != "meta" and weight != self.weight:
            self.steps, self.weight = self.steps + 1, weight
        if self.training and self.place == "forward":
            self.ask(images)
        for number, layer in enumerate(self):
            if number == 7 and self.training and self.place == "backward":
                images = Short.apply(images, self.ask)
            images = layer(images)
        return images


def late(place, rank):
    wide = [nn.Linear(12 * 6 * 6, 600), nn.Tanh(), nn.Linear(600, 600), nn.Tanh()]
    return Late(*features(), *wide, nn.Linear(600, 10)).begin(place, rank)


def late_forward():
    return late("forward", "1")


def late_backward():
    return late("backward", "1")


def late_other():
    return late("backward", "0")
"""
