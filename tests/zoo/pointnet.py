"""PointNet: 1-D convolutions over points, T-Nets that transform by batched products, maximum over points."""

from typing import final

import torch
from torch import Tensor, nn

from tests.zoo.entry import Sample, net


def point_conv(c_in: int, c_out: int) -> nn.Module:
    """1×1 convolution over points, batch norm, ReLU."""
    return nn.Sequential(nn.Conv1d(c_in, c_out, 1), nn.BatchNorm1d(c_out), nn.ReLU())


def dense(c_in: int, c_out: int) -> nn.Module:
    """Linear, batch norm over the batch, ReLU."""
    return nn.Sequential(nn.Linear(c_in, c_out), nn.BatchNorm1d(c_out), nn.ReLU())


@final
class TNet(nn.Module):
    """A k×k matrix per cloud: the identity plus what was learned."""

    def __init__(self, k: int, w: int) -> None:
        super().__init__()
        self.k = k
        self.points = nn.Sequential(point_conv(k, w), point_conv(w, 2 * w), point_conv(2 * w, 16 * w))
        self.cloud = nn.Sequential(dense(16 * w, 8 * w), dense(8 * w, 4 * w), nn.Linear(4 * w, k * k))
        self.register_buffer("identity", torch.eye(k))

    def forward(self, x: Tensor) -> Tensor:
        y = self.cloud(self.points(x).amax(2))
        return y.view(-1, self.k, self.k) + self.identity


@final
class PointNet(nn.Module):
    """Input transform, feature transform, global feature, classifier with log-softmax."""

    def __init__(self, w: int, classes: int) -> None:
        super().__init__()
        self.input_transform = TNet(3, w)
        self.first = point_conv(3, w)
        self.feature_transform = TNet(w, w)
        self.second = point_conv(w, 2 * w)
        self.third = nn.Sequential(nn.Conv1d(2 * w, 16 * w, 1), nn.BatchNorm1d(16 * w))
        self.head = nn.Sequential(dense(16 * w, 8 * w), dense(8 * w, 4 * w), nn.Linear(4 * w, classes))

    def forward(self, points: Tensor) -> Tensor:
        x = torch.bmm(points.transpose(1, 2), self.input_transform(points)).transpose(1, 2)
        x = self.first(x)
        x = torch.bmm(x.transpose(1, 2), self.feature_transform(x)).transpose(1, 2)
        x = self.third(self.second(x)).max(2)[0]
        return torch.log_softmax(self.head(x), 1)


@net({"points": Sample((3, 64))}, {"points": Sample((3, 1024))}, tags="points conv1d")
def pointnet(reduced: bool) -> nn.Module:
    return PointNet(8, 10) if reduced else PointNet(64, 40)
