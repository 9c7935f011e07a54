"""The trained network as the files a user would bring: ONNX, TorchScript, and held-out data as .npz."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from demo.digits import DigitNet, Digits

#: Name of the input in both files, and so of the array in the data.
INPUT = "image"
_OPSET = 18


def write_onnx(network: DigitNet, path: Path) -> Path:
    """ONNX with a free batch axis and batch norm as nodes of its own, as training frameworks write it."""
    example = torch.zeros(2, 1, 8, 8)
    batch = torch.export.Dim("batch")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which nothing here needs
    with warnings.catch_warnings():  # the exporter warns of its own future
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (example,),
            input_names=[INPUT],
            output_names=["logits"],
            dynamic_shapes={INPUT: {0: batch}},
            opset_version=_OPSET,
            dynamo=True,
            optimize=False,  # folding batch norm into the convolution would hide it from the method
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the ONNX exporter gave nothing")
    program.save(path)
    return path


def write_torchscript(network: DigitNet, path: Path) -> Path:
    """A scripted module; its shapes are known from the data only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(network).save(str(path))  # type: ignore[no-untyped-call]
    return path


def write_everything(digits: Digits, path: Path) -> Path:
    """The images that the network was trained on, and beside them, as `validation/…`, those held out."""
    arrays: dict[str, Any] = {
        "image": digits.images.numpy(),
        "targets": digits.targets.numpy(),
        "validation/image": digits.held_out_images.numpy(),
        "validation/targets": digits.held_out_targets.numpy(),
    }
    np.savez(path, **arrays)
    return path


def write_held_out(digits: Digits, path: Path) -> Path:
    """Held-out images under the name of the input and their labels as `targets`."""
    np.savez(path, image=digits.held_out_images.numpy(), targets=digits.held_out_targets.numpy())
    return path
