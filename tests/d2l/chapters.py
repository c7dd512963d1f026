# ruff: noqa: B905, E741, N803, N806, PLW2901, RUF010 (readers write like this)
"""Programs that lean on the helpers as the book's CNN chapters do, short and on few images.

test_book.py runs this file as a script, and its cells as a notebook.
"""

# %% start: the reader's imports, with the one line changed; the dataset is made small
import torch
from torch import nn

from fivebyfive import d2l, datasets

whole = datasets.load
datasets.load = lambda *_, **__: whole("sample", limit=200)
torch.manual_seed(1)


# %% conv-layer, channels
stripes = torch.ones((6, 8))
stripes[:, 2:6] = 0
print("edges", d2l.corr2d(stripes, torch.tensor([[1.0, -1.0]]))[0].tolist())


def channels_by_loops(X, K):
    maps = [sum(d2l.corr2d(plane, kernel) for plane, kernel in zip(X, k)) for k in K]
    return d2l.stack(maps, 0)


def channels_by_matrices(X, K):
    flat = d2l.matmul(d2l.reshape(K, K.shape[:2]), d2l.reshape(X, (X.shape[0], -1)))
    return d2l.reshape(flat, (K.shape[0], *X.shape[1:]))


volume, ones = d2l.normal(0, 1, (3, 4, 5)), d2l.normal(0, 1, (2, 3, 1, 1))
difference = channels_by_loops(volume, ones) - channels_by_matrices(volume, ones)
assert float(d2l.reduce_sum(d2l.abs(difference))) < 1e-4

# %% pooling
grid = d2l.reshape(d2l.arange(9, dtype=d2l.float32), (3, 3))
pooled = d2l.zeros((2, 2))
for i in range(2):
    for j in range(2):
        pooled[i, j] = grid[i : i + 2, j : j + 2].max()
print("pooled", pooled.tolist())
both = d2l.concat((d2l.ones(1, 1, 4, 4), d2l.rand(1, 1, 4, 4)), 1)
print("pooled", tuple(nn.MaxPool2d(3, padding=1, stride=2)(both).shape))

# %% lenet, with a loop of the reader's own over the helpers


class Square(nn.Module):
    def forward(self, x):
        return x.view(-1, 1, 28, 28)


def learn(net, batches, tests, epochs, lr, device):
    print("training on", device)
    net.to(device)
    sgd, entropy = torch.optim.SGD(net.parameters(), lr=lr), nn.CrossEntropyLoss()
    names = ["train loss", "train acc", "test acc"]
    animator = d2l.Animator(xlabel="epoch", xlim=[1, epochs], legend=names)
    timer, count = d2l.Timer(), len(batches)
    for epoch in range(epochs):
        sums = d2l.Accumulator(3)
        net.train()
        for i, (X, y) in enumerate(batches):
            timer.start()
            X, y = X.to(device), y.to(device)
            scores = net(X)
            l = entropy(scores, y)
            sgd.zero_grad()
            l.backward()
            sgd.step()
            sums.add(l * X.shape[0], d2l.accuracy(scores, y), X.shape[0])
            timer.stop()
            if (i + 1) % (count // 5) == 0:
                shown = sums[0] / sums[2], sums[1] / sums[2], None
                animator.add(epoch + (i + 1) / count, shown)
        animator.add(epoch + 1, (None, None, d2l.evaluate_accuracy_gpu(net, tests)))
    print(f"{sums[2] * epochs / timer.sum():.1f} examples/sec on {str(device)}")
    d2l.plt.show()


lenet = nn.Sequential(
    *(Square(), nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2)),
    *(nn.Conv2d(6, 16, 5), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten()),
    *(nn.Linear(400, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid(), nn.Linear(84, 10)),
)
train_iter, test_iter = d2l.load_data_fashion_mnist(batch_size=32)
learn(lenet, train_iter, test_iter, 2, 0.9, d2l.try_gpu())

# %% vgg
layers, channels = [], 1
for wide in (4, 8):
    layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    channels = wide
vgg = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(32), nn.Dropout(0.5), nn.Linear(32, 10))
train_iter, test_iter = d2l.load_data_fashion_mnist(64, resize=32)
vgg(next(iter(test_iter))[0])
d2l.train_ch6(vgg, train_iter, test_iter, 1, 0.05, d2l.try_gpu())

# %% nin


def pixelwise(before, after, size, stride):
    first = nn.Conv2d(before, after, size, stride)
    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(after, after, 1), nn.ReLU())


nin = nn.Sequential(
    *(pixelwise(1, 8, 5, 2), nn.MaxPool2d(3, stride=2), pixelwise(8, 10, 3, 1)),
    *(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()),
)
X = torch.rand(size=(1, 1, 32, 32))
for layer in nin:
    X = layer(X)
    print(layer.__class__.__name__, "output shape:\t", X.shape)
d2l.train_ch6(nin, train_iter, test_iter, 1, 0.1, d2l.try_gpu())

# %% googlenet


class Branches(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.paths = nn.ModuleList(nn.Conv2d(channels, 4, s, padding=s // 2) for s in (1, 3, 5))
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, x):
        return torch.relu(torch.cat([*(path(x) for path in self.paths), self.pool(x)], dim=1))


google = nn.Sequential(
    *(nn.Conv2d(1, 4, 7, stride=2, padding=3), Branches(4)),
    *(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(16, 10)),
)
d2l.train_ch6(google, train_iter, test_iter, 1, 0.1, d2l.try_gpu())

# %% batch-norm, from scratch: it knows training from testing by whether gradients are kept


class Standardised(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.dims = [0, *range(2, len(shape) + 1)]
        self.gamma, self.beta = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.mean, self.var = torch.zeros(shape), torch.ones(shape)

    def forward(self, X):
        mean, var = self.mean.to(X.device), self.var.to(X.device)
        if torch.is_grad_enabled():
            now = X.mean(self.dims, keepdim=True)
            spread = ((X - now) ** 2).mean(self.dims, keepdim=True)
            self.mean = 0.9 * mean + 0.1 * now[0].detach()
            self.var = 0.9 * var + 0.1 * spread[0].detach()
            mean, var = now, spread
        return self.gamma * (X - mean) / torch.sqrt(var + 1e-5) + self.beta


normed = nn.Sequential(
    *(nn.Conv2d(1, 6, 5), Standardised(6, 1, 1), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten()),
    *(nn.Linear(6 * 12 * 12, 32), Standardised(32), nn.Sigmoid(), nn.Linear(32, 10)),
)
train_iter, test_iter = d2l.load_data_fashion_mnist(64)
d2l.train_ch6(normed, train_iter, test_iter, 2, 1.0, d2l.try_gpu())
print("gamma", tuple(d2l.reshape(normed[1].gamma, (-1,)).shape))

# %% resnet
halving = d2l.Residual(3, 6, use_1x1conv=True, strides=2)
print("residual", tuple(halving(d2l.rand(4, 3, 6, 6)).shape))
resnet = nn.Sequential(
    *(nn.Conv2d(1, 4, 3, stride=2, padding=1), d2l.Residual(4, 4)),
    *(d2l.Residual(4, 8, use_1x1conv=True, strides=2), d2l.Residual(8, 8)),
    *(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(8, 10)),
)
train_iter, test_iter = d2l.load_data_fashion_mnist(64, resize=24)
d2l.train_ch6(resnet, train_iter, test_iter, 1, 0.05, d2l.try_gpu())

# %% densenet


class Grown(nn.Module):
    def __init__(self, channels):
        super().__init__()
        conv = nn.Conv2d(channels, 3, 3, padding=1)
        self.new = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), conv)

    def forward(self, X):
        return torch.cat((X, self.new(X)), dim=1)


dense = nn.Sequential(
    *(nn.Conv2d(1, 4, 3, stride=2, padding=1), Grown(4), Grown(7), nn.BatchNorm2d(10)),
    *(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(10, 10)),
)
d2l.train_ch6(dense, train_iter, test_iter, 1, 0.1, d2l.try_gpu())
d2l.use_svg_display()
d2l.predict_ch3(dense, test_iter)
d2l.plt.show()
