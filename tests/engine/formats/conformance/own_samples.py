"""Models of one node for operators of which the suite has no differentiable case."""

from typing import Any

import numpy as np

_rng = np.random.default_rng(7)
_MICROSOFT = "com.microsoft"


def _floats(*shape: int) -> Any:
    return _rng.standard_normal(shape).astype(np.float32)


def _bytes(*shape: int) -> Any:
    return _rng.integers(0, 255, shape, np.uint8)


def _model(inputs: str, output: str, node: str, opset: int = 17) -> str:
    imports = f'"": {opset}, "{_MICROSOFT}": 1'
    return f"<ir_version: 8, opset_import: [{imports}]> g ({inputs}) => ({output}) {{ {node} }}"


_BRANCHES = (
    "then_branch = a () => (float[3] p) {p = Exp (x)}, else_branch = b () => (float[3] q) {q = Sin (x)}"
)


def _quantised(name: str, output: str, parts: int, shape: tuple[int, ...], attributes: str = "") -> Any:
    """A model of quantised inputs, each followed by its scale and zero point, and those of the output."""
    lengths = ",".join(map(str, shape))
    inputs = [f"uint8[{lengths}] x{i}, float s{i}, uint8 z{i}" for i in range(parts)]
    names = [f"x{i}, s{i}, z{i}" for i in range(parts)]
    order = ["s, z", *names] if name == "QLinearConcat" else [*names, "s, z"]
    node = f"y = {_MICROSOFT}.{name} {attributes} ({', '.join(order)})"
    values: list[Any] = []
    for place in range(parts):
        values += [_bytes(*shape), np.array(0.03 + 0.01 * place, np.float32), np.array(120, np.uint8)]
    target = [np.array(0.05, np.float32), np.array(100, np.uint8)]
    return _model(f"{', '.join(inputs)}, float s, uint8 z", output, node), [*values, *target]


_POOLED = [_floats(2, 2, 6, 6), np.array([[0, 1, 1, 4, 5], [1, 0, 2, 5, 4]], np.float32)]
_GEMM = "uint8[2,3] a, float s, uint8 p, uint8[3,4] b, float t, uint8 q"


#: By operator: models, each with its inputs.
OWN: dict[tuple[str, str], list[tuple[str, list[Any]]]] = {
    ("", "GlobalLpPool"): [
        (
            _model("float[2,3,4,5] x", "float[2,3,1,1] y", "y = GlobalLpPool <p = 3> (x)"),
            [_floats(2, 3, 4, 5)],
        )
    ],
    ("", "If"): [
        (
            _model("bool c, float[3] x", "float[3] y", f"y = If (c) <{_BRANCHES}>"),
            [np.array(flag), _floats(3)],
        )
        for flag in (True, False)
    ],
    ("", "MaxRoiPool"): [
        (
            _model(
                "float[2,2,6,6] x, float[2,5] r",
                "float[2,2,2,3] y",
                "y = MaxRoiPool <pooled_shape = [2, 3], spatial_scale = 0.9> (x, r)",
            ),
            _POOLED,
        )
    ],
    ("", "Trilu"): [
        (_model("float[2,3,4] x", "float[2,3,4] y", f"y = Trilu <upper = {upper}> (x)"), [_floats(2, 3, 4)])
        for upper in (0, 1)
    ],
    ("", "Upsample"): [
        (
            _model(
                "float[1,2,3,4] x, float[4] s",
                "float[1,2,6,8] y",
                f'y = Upsample <mode = "{mode}"> (x, s)',
                9,
            ),
            [_floats(1, 2, 3, 4), np.array([1, 1, 2, 2], np.float32)],
        )
        for mode in ("nearest", "linear")
    ],
    **{
        (_MICROSOFT, name): [
            (_model("float[2,3] x", "float[2,3] y", f"y = {_MICROSOFT}.{name} (x)"), [_floats(2, 3)])
        ]
        for name in ("Gelu", "FastGelu", "QuickGelu")
    },
    (_MICROSOFT, "BiasGelu"): [
        (
            _model("float[2,3] x, float[3] b", "float[2,3] y", f"y = {_MICROSOFT}.BiasGelu (x, b)"),
            [_floats(2, 3), _floats(3)],
        )
    ],
    (_MICROSOFT, "FusedMatMul"): [
        (
            _model(
                "float[2,4,3] a, float[2,5,4] b",
                "float[2,3,5] y",
                f"y = {_MICROSOFT}.FusedMatMul <transA = 1, transB = 1, alpha = 0.5> (a, b)",
            ),
            [_floats(2, 4, 3), _floats(2, 5, 4)],
        )
    ],
    (_MICROSOFT, "SimplifiedLayerNormalization"): [
        (
            _model(
                "float[2,3,4] x, float[4] w",
                "float[2,3,4] y",
                f"y = {_MICROSOFT}.SimplifiedLayerNormalization (x, w)",
            ),
            [_floats(2, 3, 4), _floats(4)],
        )
    ],
    (_MICROSOFT, "SkipLayerNormalization"): [
        (
            _model(
                "float[2,3,4] x, float[2,3,4] s, float[4] g, float[4] b",
                "float[2,3,4] y",
                f"y = {_MICROSOFT}.SkipLayerNormalization (x, s, g, b)",
            ),
            [_floats(2, 3, 4), _floats(2, 3, 4), _floats(4), _floats(4)],
        )
    ],
    (_MICROSOFT, "SkipSimplifiedLayerNormalization"): [
        (
            _model(
                "float[2,3,4] x, float[2,3,4] s, float[4] g",
                "float[2,3,4] y",
                f"y = {_MICROSOFT}.SkipSimplifiedLayerNormalization (x, s, g)",
            ),
            [_floats(2, 3, 4), _floats(2, 3, 4), _floats(4)],
        )
    ],
    (_MICROSOFT, "EmbedLayerNormalization"): [
        (
            _model(
                "int32[2,3] w, int32[2,3] k, float[5,4] a, float[3,4] b, float[2,4] c, "
                "float[4] g, float[4] h",
                "float[2,3,4] y, int32[2] m",
                f"y, m = {_MICROSOFT}.EmbedLayerNormalization <epsilon = 0.01> (w, k, a, b, c, g, h)",
            ),
            [
                *(_rng.integers(0, 2, (2, 3), np.int32) for _ in range(2)),
                *(_floats(rows, 4) for rows in (5, 3, 2)),
                *(_floats(4) for _ in range(2)),
            ],
        )
    ],
    (_MICROSOFT, "Attention"): [
        (
            _model(
                "float[2,3,4] x, float[4,12] w, float[12] b",
                "float[2,3,4] y",
                f"y = {_MICROSOFT}.Attention <num_heads = 2, unidirectional = 1> (x, w, b)",
            ),
            [_floats(2, 3, 4), _floats(4, 12), _floats(12)],
        )
    ],
    (_MICROSOFT, "MultiHeadAttention"): [
        (
            _model(
                "float[2,3,4] q, float[2,5,4] k, float[2,5,4] v, float[12] b",
                "float[2,3,4] y",
                f"y = {_MICROSOFT}.MultiHeadAttention <num_heads = 2> (q, k, v, b)",
            ),
            [_floats(2, 3, 4), _floats(2, 5, 4), _floats(2, 5, 4), _floats(12)],
        )
    ],
    (_MICROSOFT, "GroupQueryAttention"): [
        (
            _model(
                "float[1,3,32] q, float[1,3,16] k, float[1,3,16] v, int32[1] l, int32[1] t",
                "float[1,3,32] y, float[1,2,3,8] p, float[1,2,3,8] r",
                f"y, p, r = {_MICROSOFT}.GroupQueryAttention <num_heads = 4, kv_num_heads = 2> "
                "(q, k, v, , , l, t)",
            ),
            [
                *(_floats(1, 3, size) for size in (32, 16, 16)),
                np.array([2], np.int32),
                np.array([3], np.int32),
            ],
        )
    ],
    (_MICROSOFT, "RotaryEmbedding"): [
        (
            _model(
                "float[1,3,8] x, int64[1,3] p, float[4,2] c, float[4,2] s",
                "float[1,3,8] y",
                f"y = {_MICROSOFT}.RotaryEmbedding (x, p, c, s)",
            ),
            [_floats(1, 3, 8), np.arange(3)[None], _floats(4, 2), _floats(4, 2)],
        )
    ],
    (_MICROSOFT, "FusedConv"): [
        (
            _model(
                "float[1,2,4,4] x, float[3,2,3,3] w, float[3] b, float[1,3,2,2] z",
                "float[1,3,2,2] y",
                f'y = {_MICROSOFT}.FusedConv <activation = "Tanh", kernel_shape = [3, 3]> (x, w, b, z)',
            ),
            [_floats(1, 2, 4, 4), _floats(3, 2, 3, 3), _floats(3), _floats(1, 3, 2, 2)],
        )
    ],
    (_MICROSOFT, "FusedGemm"): [
        (
            _model(
                "float[2,3] a, float[3,4] b, float[4] c",
                "float[2,4] y",
                f'y = {_MICROSOFT}.FusedGemm <activation = "Sigmoid", alpha = 0.5> (a, b, c)',
            ),
            [_floats(2, 3), _floats(3, 4), _floats(4)],
        )
    ],
    (_MICROSOFT, "QLinearAdd"): [_quantised("QLinearAdd", "uint8[2,3,4] y", 2, (2, 3, 4))],
    (_MICROSOFT, "QLinearMul"): [_quantised("QLinearMul", "uint8[2,3,4] y", 2, (2, 3, 4))],
    (_MICROSOFT, "QLinearSigmoid"): [_quantised("QLinearSigmoid", "uint8[2,3] y", 1, (2, 3))],
    (_MICROSOFT, "QLinearLeakyRelu"): [
        _quantised("QLinearLeakyRelu", "uint8[2,3] y", 1, (2, 3), "<alpha = 0.3>")
    ],
    (_MICROSOFT, "QLinearGlobalAveragePool"): [
        _quantised("QLinearGlobalAveragePool", "uint8[2,3,1,1] y", 1, (2, 3, 4, 5))
    ],
    (_MICROSOFT, "QLinearConcat"): [_quantised("QLinearConcat", "uint8[2,6] y", 2, (2, 3), "<axis = 1>")],
    (_MICROSOFT, "QGemm"): [
        (
            _model(_GEMM, "float[2,4] y", f"y = {_MICROSOFT}.QGemm (a, s, p, b, t, q)"),
            [
                _bytes(2, 3),
                np.array(0.1, np.float32),
                np.array(120, np.uint8),
                _bytes(3, 4),
                np.array(0.2, np.float32),
                np.array(130, np.uint8),
            ],
        )
    ],
}
#: Registered in ONNX Runtime's own domain only under the name of ONNX, which ONNX's checker refuses.
UNKNOWN_TO_ONNXRUNTIME = {(_MICROSOFT, "SimplifiedLayerNormalization")}
