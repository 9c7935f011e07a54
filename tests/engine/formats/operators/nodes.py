"""Models of a single node, computed by the module and by ONNX Runtime."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from tests.engine.formats.conformance.suite import by_onnxruntime, by_torch

Array = np.ndarray[Any, np.dtype[Any]]


def node_model(
    name: str,
    inputs: Sequence[Array | None],
    outputs: Sequence[int],
    attributes: Mapping[str, Any] | None = None,
    opset: int = 22,
    domain: str = "",
) -> ModelProto:
    """One node that the graph feeds; None leaves an input out. Outputs are element types, 0 for none."""
    names = ["" if one is None else f"x{place}" for place, one in enumerate(inputs)]
    results = [f"y{place}" if code else "" for place, code in enumerate(outputs)]
    node = helper.make_node(name, names, results, domain=domain, **(attributes or {}))
    given = [
        helper.make_tensor_value_info(label, helper.np_dtype_to_tensor_dtype(one.dtype), one.shape)
        for label, one in zip(names, inputs, strict=True)
        if one is not None
    ]
    made = [
        helper.make_tensor_value_info(label, code, None)
        for label, code in zip(results, outputs, strict=True)
        if code
    ]
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    graph = helper.make_graph([node], "g", given, made)
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def shaped(model: ModelProto, outputs: Sequence[Array]) -> ModelProto:
    """The model with shapes of its outputs, which the checker wants."""
    model = ModelProto.FromString(model.SerializeToString())
    for value, array in zip(model.graph.output, outputs, strict=True):
        code = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(value.name, code, array.shape))
    return model


def both(model: ModelProto, inputs: Sequence[Array | None]) -> tuple[list[Array], list[Array]]:
    """Outputs of the module and of ONNX Runtime."""
    given = [one for one in inputs if one is not None]
    wanted = list(by_onnxruntime(model)(given))
    return list(by_torch(shaped(model, wanted))(given)), wanted


def agree(
    name: str,
    inputs: Sequence[Array | None],
    outputs: Sequence[int] = (TensorProto.FLOAT,),
    attributes: Mapping[str, Any] | None = None,
    opset: int = 22,
    domain: str = "",
    atol: float = 1e-5,
) -> list[Array]:
    """The module's outputs, after finding them to be ONNX Runtime's."""
    found, wanted = both(node_model(name, inputs, outputs, attributes, opset, domain), inputs)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=atol)
    return found


def parsed(text: str) -> ModelProto:
    """A model in ONNX's own notation."""
    return onnx.parser.parse_model(text)
