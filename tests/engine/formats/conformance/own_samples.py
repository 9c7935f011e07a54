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
