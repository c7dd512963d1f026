"""Networks that this package wasn't made for: what other people train on digits."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (the name every PyTorch text uses)
from torch import Tensor, nn


class Example(nn.Module):
    """The network of PyTorch's own MNIST example (pytorch/examples, mnist/main.py)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3, 1), nn.Conv2d(32, 64, 3, 1)
        self.dropout1, self.dropout2 = nn.Dropout(0.25), nn.Dropout(0.5)
        self.fc1, self.fc2 = nn.Linear(9216, 128), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        x = torch.flatten(self.dropout1(F.max_pool2d(x, 2)), 1)
        out: Tensor = self.fc2(self.dropout2(F.relu(self.fc1(x))))
        return out


class Rows(nn.Module):
    """An LSTM that reads an image row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(28, 128, batch_first=True), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        scores: Tensor = self.fc(self.lstm(x.squeeze(1))[0][:, -1])
        return scores


class Transformer(nn.Module):
    """A small vision transformer: 16 patches of 7×7, four layers of 64."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 64, 7, 7)
        self.places = nn.Parameter(torch.zeros(1, 16, 64))
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
        self.layers, self.fc = nn.TransformerEncoder(layer, 4), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.places
        scores: Tensor = self.fc(self.layers(x).mean(1))
        return scores


class Mixing(nn.Module):
    """A layer of an MLP mixer: across the patches, then across the channels."""

    def __init__(self, patches: int, channels: int) -> None:
        super().__init__()
        self.across = nn.Sequential(nn.Linear(patches, 64), nn.GELU(), nn.Linear(64, patches))
        self.within = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 256), nn.GELU(), nn.Linear(256, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[N, patches, channels]`` again."""
        x = x + self.across(x.transpose(1, 2)).transpose(1, 2)
        return x + self.within(x)  # type: ignore[no-any-return]


class Mixer(nn.Module):
    """A small MLP mixer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 64, 4, 4)
        self.layers = nn.Sequential(*(Mixing(49, 64) for _ in range(4)))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores."""
        x = self.layers(self.patches(x).flatten(2).transpose(1, 2))
        scores: Tensor = self.fc(x.mean(1))
        return scores


def mlp() -> nn.Sequential:
    """The book's perceptron with one hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))


def small_cnn() -> nn.Sequential:
    """What tutorials build: three blocks of convolution, batch norm, ReLU and pooling."""
    layers: list[nn.Module] = []
    for channels, width in ((1, 32), (32, 64), (64, 128)):
        layers += [
            nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.MaxPool2d(2),
        ]  # fmt: skip
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 9, 10))


FOREIGN = {
    "example": Example,
    "rows": Rows,
    "transformer": Transformer,
    "mixer": Mixer,
    "mlp": mlp,
    "small-cnn": small_cnn,
}
