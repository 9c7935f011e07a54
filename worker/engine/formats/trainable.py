"""A network as a torch module: what training, gradients and statistics of activations work on."""

import abc
from collections.abc import Mapping

import onnx_ir as ir
import torch


class Trainable(abc.ABC):
    """A network that torch runs and differentiates. Its tensors belong to handles of the structure.

    It stands beside the network: nothing reaches the file before `store`.
    """

    #: What optimisers, state dicts and DDP see. Called with the inputs in order, gives a tuple of outputs.
    module: torch.nn.Module
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    #: Floating-point weights by handle; batch norm's running statistics are not among them.
    parameters: Mapping[ir.Value, torch.nn.Parameter]
    #: Running means and variances of batch norm by handle.
    statistics: Mapping[ir.Value, torch.Tensor]

    @abc.abstractmethod
    def batch_norm(self, *, training: bool) -> None:
        """Normalise by each batch's own statistics, updating the running ones, or by the stored (default)."""

    @abc.abstractmethod
    def store(self) -> None:
        """Write parameters and statistics to the network, in the file's own types.

        Tensors that did not change stay bit for bit what they were.
        """
