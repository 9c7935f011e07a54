"""The pruned ONNX file against the uploaded one: still valid, and nothing but weights is different."""

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from api_schemas.report import CheckResult

_CHECKER = "ONNX checker"
Facts = dict[str, object]


def check_structure(before: Path, after: Path) -> list[CheckResult]:
    """Compare two ONNX files; external data must lie beside them. Weights' values are not looked at."""
    try:
        old, new = (onnx.load(str(path), load_external_data=False) for path in (before, after))
    except (DecodeError, OSError, ValueError) as error:
        return [CheckResult(name="ONNX file", passed=False, detail=f"cannot be read: {str(error)[:200]}")]
    return [
        check_validity(before, after),
        _compared("inputs and outputs", _interface(old), _interface(new)),
        _compared("opsets and metadata", _metadata(old), _metadata(new)),
        _compared("nodes and names", *_alike(_nodes(old), _nodes(new))),
        _compared("tensors", _tensors(old), _tensors(new)),
    ]


def check_smaller(before: Path, after: Path) -> list[CheckResult]:
    """The same for a file whose channels left it: nodes and tensors may differ, what a user sees may not."""
    old, new = (onnx.load(str(path), load_external_data=False) for path in (before, after))
    return [
        check_validity(before, after),
        _compared("inputs and outputs", _interface(old), _interface(new)),
        _compared("opsets and metadata", _metadata(old), _metadata(new)),
    ]


def check_validity(before: Path, after: Path) -> CheckResult:
    """The ONNX checker, as strict as the uploaded file itself passes it; the detail says how strict."""
    for full, words in ((True, "full check, with shape inference"), (False, "basic check")):
        if _fault(before, full=full) is None:
            fault = _fault(after, full=full)
            detail = _passed_as(words, full=full) if fault is None else f"{words}: {fault}"
            return CheckResult(name=_CHECKER, passed=fault is None, detail=detail)
    fault = _fault(before, full=False)
    return CheckResult(
        name=_CHECKER, passed=True, detail=f"not applied, as the uploaded file does not pass it: {fault}"
    )


def _passed_as(words: str, *, full: bool) -> str:
    return words if full else f"{words}; the uploaded file passes no stricter one"


def _fault(path: Path, *, full: bool) -> str | None:
    try:
        onnx.checker.check_model(str(path), full_check=full)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return " ".join(str(error).split())[:200]
    except (RuntimeError, ValueError, OSError) as error:  # what the C++ side throws besides
        return " ".join(str(error).split())[:200]
    return None


def _compared(name: str, old: Facts, new: Facts) -> CheckResult:
    different = [key for key in old.keys() | new.keys() if old.get(key) != new.get(key)]
    if not different:
        return CheckResult(name=name, passed=True, detail=f"the same ({len(old)} compared)")
    first = ", ".join(sorted(different)[:3])[:300]
    return CheckResult(name=name, passed=False, detail=f"{len(different)} differ: {first}")


def _interface(model: ModelProto) -> Facts:
    stored = {tensor.name for tensor in model.graph.initializer}
    fed = [value for value in model.graph.input if value.name not in stored]
    values = [("input", fed), ("output", list(model.graph.output))]
    return {
        f"{kind} {index}": (value.name, value.type.SerializeToString(deterministic=True))
        for kind, listed in values
        for index, value in enumerate(listed)
    }


def _metadata(model: ModelProto) -> Facts:
    facts: Facts = {f"opset {item.domain or 'ai.onnx'}": item.version for item in model.opset_import}
    facts.update({f"metadata {item.key}": item.value for item in model.metadata_props})
    for name in ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string"):
        facts[name] = getattr(model, name)
    return facts | {"graph name": model.graph.name, "graph doc_string": model.graph.doc_string}


def _nodes(model: ModelProto) -> Facts:
    """Every node of the graph, its subgraphs and the functions, by place: what it is and what it joins."""
    facts: Facts = {}
    for where, nodes in _scopes(model):
        for index, node in enumerate(nodes):
            attributes = tuple(sorted((item.name, _plain(item)) for item in node.attribute))
            joins = (tuple(node.input), tuple(node.output))
            facts[f"{where}{node.op_type} {index}"] = (node.domain, node.name, *joins, attributes)
    return facts


def _alike(old: Facts, new: Facts) -> tuple[Facts, Facts]:
    """Both without the ConstantOfShape nodes whose weights were written: they come back as Constants, under
    the same names in the same places. What these hold is checked weight by weight."""
    whole = {key: key.replace("ConstantOfShape ", "Constant ") for key in old.keys() - new.keys()}
    became = {
        first: second
        for first, second in whole.items()
        if second not in old and second in new and _named(old[first]) == _named(new[second])
    }
    gone, come = set(became), set(became.values())
    return (
        {key: fact for key, fact in old.items() if key not in gone},
        {key: fact for key, fact in new.items() if key not in come},
    )


def _named(fact: object) -> object:
    """Domain, name and outputs of a node."""
    return (fact[0], fact[1], fact[3]) if isinstance(fact, tuple) else fact


def _scopes(model: ModelProto) -> Iterator[tuple[str, list[NodeProto]]]:
    for graph_name, graph in _graphs(model.graph, ""):
        yield graph_name, list(graph.node)
    for function in model.functions:
        name = f"{function.domain}:{function.name}/"
        yield name, list(function.node)
        for index, node in enumerate(function.node):
            for attribute in node.attribute:
                for inner_name, inner in _inner(attribute, f"{name}{node.op_type} {index}/{attribute.name}/"):
                    yield inner_name, list(inner.node)


def _graphs(graph: GraphProto, name: str) -> Iterator[tuple[str, GraphProto]]:
    """A graph and the graphs inside its nodes."""
    yield name, graph
    for index, node in enumerate(graph.node):
        for attribute in node.attribute:
            yield from _inner(attribute, f"{name}{node.op_type} {index}/{attribute.name}/")


def _inner(attribute: AttributeProto, name: str) -> Iterator[tuple[str, GraphProto]]:
    if attribute.HasField("g"):
        yield from _graphs(attribute.g, name)
    for index, graph in enumerate(attribute.graphs):
        yield from _graphs(graph, f"{name}{index}/")


def _plain(attribute: AttributeProto) -> bytes:
    """An attribute's content; of tensors only type and shape, as their values may have been pruned."""
    if attribute.HasField("g") or attribute.graphs:
        return b"graph"  # its nodes are compared on their own
    if not attribute.HasField("t") and not attribute.tensors:
        return bytes(attribute.SerializeToString(deterministic=True))
    tensors = [attribute.t, *attribute.tensors]
    return repr([(tensor.data_type, tuple(tensor.dims)) for tensor in tensors]).encode()


def _tensors(model: ModelProto) -> Facts:
    facts: Facts = {}
    for name, graph in _graphs(model.graph, ""):
        for tensor in graph.initializer:
            facts[f"{name}{tensor.name}"] = _form(tensor)
        for sparse in graph.sparse_initializer:
            facts[f"{name}{sparse.values.name}"] = ("sparse", tuple(sparse.dims))
    return facts


def _form(tensor: TensorProto) -> tuple[object, ...]:
    return (tensor.data_type, tuple(tensor.dims))
