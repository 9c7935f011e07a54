"""An ONNX file to train: its graph as a torch module, written back tensor by tensor."""

from typing import final

from worker.engine.formats.base import Network
from worker.engine.formats.graph_module import graph_module
from worker.engine.formats.graph_tensors import to_array
from worker.engine.formats.trainable import Trainable


@final
class GraphTrainable(Trainable):
    """`module` holds the weights as they are written now; half precision has masters in float32."""

    def __init__(self, network: Network, device: str) -> None:
        self._network = network
        self.module = module = graph_module(network, device)
        self.input_names, self.output_names = module.input_names, module.output_names
        self.parameters, self.statistics = module.weights, module.running
        self._graph = module

    def batch_norm(self, *, training: bool) -> None:
        self._graph.batch_norm(training=training)

    def store(self) -> None:
        for value, tensor in (*self.parameters.items(), *self.statistics.items()):
            before = self._network.read(value)
            array = to_array(tensor, before.dtype)
            if array.tobytes() != before.tobytes() and self._network.writable(value):
                self._network.write(value, array)
