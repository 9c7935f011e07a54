"""Operations that neural networks are made of, as ONNX operators: norms, pooling, attention, LSTM."""

import math

import onnx_ir as ir

from worker.engine.formats.torch_operators import Call, Untranslated, Values, each, translates
from worker.engine.formats.torch_signature import to_array

_LSTM_MODE = 2


@translates("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "batch_norm")
def _batch_norm(call: Call) -> Values:
    channels = call["input"].shape[1]
    weight = call.optional("weight") or _filled(call, channels, 1)
    bias = call.optional("bias") or _filled(call, channels, 0)
    if call["running_mean"] is None or call.get("training", False):
        raise Untranslated
    statistics = [call.value("running_mean"), call.value("running_var")]
    operands = [call.value("input"), weight, bias, *statistics]
    return call.emit("BatchNormalization", operands, {"epsilon": float(call.get("eps", call.get("epsilon")))})


def _filled(call: Call, size: int, number: int) -> ir.Value:
    return call.sink.constant(to_array(call.made[0].new_full((size,), number)))


@translates("native_layer_norm", "layer_norm")
def _layer_norm(call: Call) -> Values:
    shape = call["normalized_shape"]
    weight = call.optional("weight") or call.sink.constant(to_array(call.made[0].new_ones(shape)))
    operands = [call.value("input"), weight]
    if call["bias"] is not None:
        operands.append(call.value("bias"))
    return call.emit("LayerNormalization", operands, {"axis": -len(shape), "epsilon": float(call["eps"])})


@translates("native_group_norm", "group_norm")
def _group_norm(call: Call) -> Values:
    channels = call["input"].shape[1]
    weight = call.optional("weight") or _filled(call, channels, 1)
    bias = call.optional("bias") or _filled(call, channels, 0)
    groups = call.get("group", call.get("num_groups"))
    attributes = {"num_groups": groups, "epsilon": float(call["eps"])}
    return call.emit("GroupNormalization", [call.value("input"), weight, bias], attributes)


def _window(call: Call) -> dict[str, list[int]]:
    spatial = call.made[0].dim() - 2
    kernel = each(call["kernel_size"], spatial)
    return {
        "kernel_shape": kernel,
        "strides": each(call["stride"], spatial) or kernel,
        "pads": each(call["padding"], spatial) * 2,
    }


@translates(
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_pool2d_with_indices",
    "max_pool3d_with_indices",
    "mkldnn_max_pool2d",
    "mkldnn_max_pool3d",
)
def _max_pool(call: Call) -> Values:
    attributes: dict[str, object] = {**_window(call), "ceil_mode": int(call["ceil_mode"])}
    attributes["dilations"] = each(call["dilation"], call.made[0].dim() - 2)
    return call.emit("MaxPool", [call.value("self")], attributes)


@translates("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _average_pool(call: Call) -> Values:
    attributes: dict[str, object] = {**_window(call), "ceil_mode": int(call["ceil_mode"])}
    attributes["count_include_pad"] = int(call["count_include_pad"])
    return call.emit("AveragePool", [call.value("self")], attributes)


@translates(
    "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d", "mkldnn_adaptive_avg_pool2d"
)
def _adaptive_average_pool(call: Call) -> Values:
    given, made = call["self"].shape[2:], call.made[0].shape[2:]
    if all(size == 1 for size in made):
        return call.emit("GlobalAveragePool", [call.value("self")])
    if any(size % parts for size, parts in zip(given, made, strict=True)):
        raise Untranslated
    window = [size // parts for size, parts in zip(given, made, strict=True)]
    return call.emit("AveragePool", [call.value("self")], {"kernel_shape": window, "strides": window})


def _reduction(operator: str) -> None:
    def reduce(call: Call) -> Values:
        dims = call.get("dim")
        dims = [dims] if isinstance(dims, int) else dims
        operands = [call.value("self")]
        if dims:
            operands.append(call.ints(*(dim % call["self"].dim() for dim in dims)))
        return call.emit(operator, operands, {"keepdims": int(bool(call.get("keepdim", False)))})

    translates(_REDUCTIONS[operator])(reduce)


_REDUCTIONS = {"ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "amax", "ReduceMin": "amin"}
for _name in _REDUCTIONS:
    _reduction(_name)


@translates(
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "upsample_linear1d",
    "upsample_bilinear2d",
)
def _resize(call: Call) -> Values:
    """Nearest ones take the pixel before, the others keep pixel centres unless corners are aligned."""
    corners = call.get("align_corners")
    attributes: dict[str, object] = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    if corners is not None:
        where = "align_corners" if corners else "pytorch_half_pixel"
        attributes = {"mode": "linear", "coordinate_transformation_mode": where}
    return call.emit("Resize", [call.value("self"), None, None, call.ints(*call.made[0].shape)], attributes)


@translates("pixel_shuffle")
def _pixel_shuffle(call: Call) -> Values:
    attributes = {"blocksize": call["upscale_factor"], "mode": "CRD"}
    return call.emit("DepthToSpace", [call.value("self")], attributes)


def _padding(mode: str, *names: str) -> None:
    translates(*names)(lambda call: _pad(call, mode))


_padding("constant", "constant_pad_nd")
_padding("reflect", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
_padding("edge", "replication_pad1d", "replication_pad2d", "replication_pad3d")


def _pad(call: Call, mode: str) -> Values:
    """torch names pads from the last axis on, two for each; ONNX all begins, then all ends."""
    pads = call.get("pad", call.get("padding"))
    rank = call["self"].dim()
    begins, ends = [0] * rank, [0] * rank
    for place in range(len(pads) // 2):
        begins[rank - 1 - place], ends[rank - 1 - place] = pads[2 * place], pads[2 * place + 1]
    operands = [call.value("self"), call.ints(*begins, *ends)]
    if call.get("value"):
        operands.append(call.sink.constant(to_array(call.made[0].new_tensor(call["value"]))))
    return call.emit("Pad", operands, {"mode": mode})


@translates(
    "scaled_dot_product_attention",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
)
def _attention(call: Call) -> Values:
    """Softmax(Q·Kᵀ·scale)·V; a mask changes no channel and is left out."""
    rank = call["key"].dim()
    order = [*range(rank - 2), rank - 1, rank - 2]
    turned = call.emit("Transpose", [call.value("key")], {"perm": order})
    scores = call.emit("MatMul", [call.value("query"), *turned])
    scale = call.get("scale") or 1 / math.sqrt(call["query"].shape[-1])
    factor = call.sink.constant(to_array(call.made[0].new_tensor(scale)))
    weights = call.emit("Softmax", call.emit("Mul", [*scores, factor]), {"axis": rank - 1})
    return call.emit("MatMul", [*weights, call.value("value")])


@translates("mkldnn_rnn_layer")
def _rnn_layer(call: Call) -> Values:
    """One direction of one layer; ONNX has an axis of directions that torch has not."""
    if call["mode"] != _LSTM_MODE:
        raise Untranslated
    lead = call.ints(0)
    weights = [call.emit("Unsqueeze", [call.value(name), lead])[0] for name in ("weight0", "weight1")]
    attributes = {
        "hidden_size": call["hidden_size"],
        "direction": "reverse" if call["reverse"] else "forward",
    }
    outputs = call.emit("LSTM", [call.value("input"), *weights], attributes, outputs=3)
    (sequence,) = call.emit("Squeeze", [outputs[0], call.ints(1)])
    return [sequence, outputs[1], outputs[2]]
