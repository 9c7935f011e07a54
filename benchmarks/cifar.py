"""CIFAR-10, and Conv-6 and VGG-11 of the LAP protocol: reading, training, writing as ONNX."""

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

_MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32)
_DEVIATION = np.array([0.247, 0.243, 0.261], np.float32)
_RATE, _BATCH = 3e-4, 60

Array = np.ndarray[Any, np.dtype[Any]]


@final
@dataclass(frozen=True)
class Images:
    """Normalised images (rows, 3, 32, 32) and their classes."""

    x: Tensor
    y: Tensor


def read(archive: Path, rows: int) -> Images:
    """A zip of class folders: the same number of images of every class, in a fixed random order."""
    with zipfile.ZipFile(archive) as files:
        names = sorted(name for name in files.namelist() if name.endswith((".jpg", ".png")))
        kinds = sorted({Path(name).parent.name for name in names})
        rng = np.random.default_rng(0)
        chosen = [
            name
            for kind in kinds
            for name in rng.permutation([n for n in names if Path(n).parent.name == kind])[
                : rows // len(kinds)
            ]
        ]
        chosen = [chosen[index] for index in rng.permutation(len(chosen))]
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(files.read(name)))) for name in chosen])
    classes = np.array([kinds.index(Path(name).parent.name) for name in chosen])
    x = (pixels.astype(np.float32) / 255 - _MEAN) / _DEVIATION
    return Images(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), torch.from_numpy(classes))


def conv6(width: float, seed: int) -> nn.Sequential:
    """Six 3×3 convolutions with pooling after each pair, three linear layers; `width` scales every one."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    before = 3
    for channels in (round(64 * width), round(128 * width), round(256 * width)):
        layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        before = channels
    hidden = round(256 * width)
    layers += [nn.Flatten(), nn.Linear(before * 16, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
    return _initialised(nn.Sequential(*layers, nn.Linear(hidden, 10)))


def vgg11(width: float, seed: int) -> nn.Sequential:
    """Eight 3×3 convolutions with batch norm and one linear layer; `width` scales every one."""
    torch.manual_seed(seed)
    return _initialised(nn.Sequential(*_vgg_layers(width)))


def _vgg_layers(width: float) -> Iterator[nn.Module]:
    before = 3
    for planes, pooled in ((64, 1), (128, 1), (256, 0), (256, 1), (512, 0), (512, 1), (512, 0), (512, 1)):
        channels = round(planes * width)
        yield from (nn.Conv2d(before, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())
        if pooled:
            yield nn.MaxPool2d(2)
        before = channels
    yield from (nn.Flatten(), nn.Linear(before, 10))


def _initialised(net: nn.Sequential) -> nn.Sequential:
    for part in net.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.xavier_normal_(part.weight)
            assert part.bias is not None
            nn.init.zeros_(part.bias)
    return net


@final
@dataclass(frozen=True)
class Network:
    """One network of the protocol: how it is made, from width and seed; the shares that one iteration removes
    of what is left, layer by layer; and the iterations that are shown."""

    title: str
    fresh: Callable[[float, int], nn.Sequential]
    step_ratios: tuple[float, ...]
    iterations: tuple[int, ...]


NETWORKS: Final = {
    "conv6": Network("Conv-6", conv6, (0.15,) * 6 + (0.2, 0.2, 0.1), (12, 14, 16, 18)),
    "vgg11": Network("VGG-11", vgg11, (0.15,) * 8 + (0.1,), (13, 17, 21, 25)),
}


def train(net: nn.Sequential, images: Images, steps: int, seed: int) -> nn.Sequential:
    """Adam at the protocol's constant rate; the network is trained in place."""
    net.train()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net.to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=_RATE)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        rows = torch.from_numpy(rng.choice(len(images.x), _BATCH, replace=False))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images.x[rows].to(device)), images.y[rows].to(device))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net.cpu()


def error_percent(run: Callable[[Array], Array], images: Images) -> float:
    """Share of images whose class is not found, in percent."""
    wrong = 0
    for start in range(0, len(images.x), 250):
        scores = run(images.x[start : start + 250].numpy())
        wrong += int((scores.argmax(1) != images.y[start : start + 250].numpy()).sum())
    return 100.0 * wrong / len(images.y)


def write_onnx(net: nn.Sequential, path: Path) -> Path:
    """The network as a user would export it, with an open batch."""
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        net.eval(),
        (torch.zeros(2, 3, 32, 32),),
        str(path),
        input_names=["x"],
        output_names=["scores"],
        dynamic_shapes=({0: batch},),
        dynamo=True,
        optimize=False,  # batch norm stays a layer of its own, as in training
        verbose=False,
        external_data=False,
    )
    return path


def weight_names(net: nn.Sequential) -> list[str]:
    """The weights of all layers in order, as the file calls them."""
    return [f"{name}.weight" for name, part in net.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
