"""Lookahead factors on graphs that are no chains, against sums written out by hand over the drawing."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from worker.engine import formats
from worker.engine.formats.base import LoadOptions, Network
from worker.engine.graph import weights
from worker.engine.graph.analysis import Graph
from worker.engine.graph.build import build
from worker.engine.graph.chain import chain_links
from worker.engine.graph.energies import Energies, links

Array = np.ndarray[Any, np.dtype[Any]]


def _load(tmp_path: Path, text: str, **initializers: Array) -> tuple[Network, Graph]:
    model = onnx.parser.parse_model(text)
    for name, array in initializers.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "m.onnx")
    network = formats.load(tmp_path / "m.onnx", LoadOptions(scratch=tmp_path))
    return network, build(network)


def _factors(network: Network, graph: Graph, *, chain: bool = False) -> dict[str, tuple[Array, Array]]:
    """(in, out) per layer, flat."""
    along = chain_links(graph) if chain else links(graph)
    energies = Energies(graph, along, lambda use: weights.read(network, use.view))
    return {
        layer.name: (
            energies.incoming(layer.uses[0]).reshape(-1),
            energies.outgoing(layer.uses[0]).reshape(-1),
        )
        for layer in graph.layers
    }


def _rows(weight: Array) -> Array:
    return (weight.astype(np.float32).astype(np.float64) ** 2).reshape(weight.shape[0], -1).sum(1)


def _columns(weight: Array) -> Array:
    return (
        np.moveaxis(weight.astype(np.float32).astype(np.float64) ** 2, 1, 0)
        .reshape(weight.shape[1], -1)
        .sum(1)
    )


HEAD = '<ir_version: 9, opset_import: ["" : 17]>'


def test_residual_energies_add_where_branches_join(tmp_path: Path) -> None:
    """y = a(x); z = y + b(y); c(z): c reads from a and b, a is read by b and c."""
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(6, 3, 3, 3)), rng.normal(size=(6, 6, 3, 3)), rng.normal(size=(4, 6, 1, 1))
    text = f"""{HEAD} g (float[1,3,8,8] x) => (float[1,4,8,8] o) {{
        y = Conv<pads=[1,1,1,1]>(x, a)
        r = Relu(y)
        t = Conv<pads=[1,1,1,1]>(r, b)
        z = Add(r, t)
        o = Conv(z, c)
    }}"""
    found = _factors(*_load(tmp_path, text, a=a, b=b, c=c))
    np.testing.assert_allclose(found["a"][1], _columns(b) + _columns(c))
    np.testing.assert_allclose(found["b"][0], _rows(a))
    np.testing.assert_allclose(found["b"][1], _columns(c))
    np.testing.assert_allclose(found["c"][0], _rows(a) + _rows(b))
    np.testing.assert_array_equal(found["c"][1], np.ones(4))


def test_concat_keeps_the_parts_apart_and_split_undoes_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(3, 2, 1, 1)), rng.normal(size=(5, 2, 1, 1))
    c, d = rng.normal(size=(4, 6, 1, 1)), rng.normal(size=(4, 2, 1, 1))
    text = f"""{HEAD} g (float[1,2,4,4] x) => (float[1,4,4,4] o, float[1,4,4,4] p) {{
        u = Conv(x, a)
        v = Conv(x, b)
        j = Concat<axis=1>(u, v)
        s, t = Split<axis=1>(j, sizes)
        o = Conv(s, c)
        p = Conv(t, d)
    }}"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(np.array([6, 2], dtype=np.int64), "sizes"))
    for name, array in {"a": a, "b": b, "c": c, "d": d}.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(model, tmp_path / "m.onnx")
    network = formats.load(tmp_path / "m.onnx", LoadOptions(scratch=tmp_path))
    found = _factors(network, build(network))
    np.testing.assert_allclose(found["a"][1], _columns(c)[:3])
    np.testing.assert_allclose(found["b"][1], np.concatenate([_columns(c)[3:], _columns(d)]))
    np.testing.assert_allclose(found["c"][0], np.concatenate([_rows(a), _rows(b)[:3]]))
    np.testing.assert_allclose(found["d"][0], _rows(b)[3:])


def test_depthwise_and_grouped_convolutions(tmp_path: Path) -> None:
    """A depthwise weight reads one channel; a grouped one the channels of its group."""
    rng = np.random.default_rng(2)
    a, depthwise = rng.normal(size=(8, 3, 1, 1)), rng.normal(size=(8, 1, 3, 3))
    grouped, last = rng.normal(size=(6, 4, 1, 1)), rng.normal(size=(2, 6, 1, 1))
    text = f"""{HEAD} g (float[1,3,8,8] x) => (float[1,2,8,8] o) {{
        t = Conv(x, a)
        u = Conv<pads=[1,1,1,1], group=8>(t, depthwise)
        v = Conv<group=2>(u, grouped)
        o = Conv(v, last)
    }}"""
    found = _factors(*_load(tmp_path, text, a=a, depthwise=depthwise, grouped=grouped, last=last))
    np.testing.assert_allclose(found["a"][1], _rows(depthwise))
    np.testing.assert_allclose(found["depthwise"][0], _rows(a))
    halves = [_columns(grouped[:3]), _columns(grouped[3:])]
    np.testing.assert_allclose(found["depthwise"][1], np.concatenate(halves))
    np.testing.assert_allclose(found["grouped"][0], _rows(depthwise))
    np.testing.assert_allclose(found["last"][0], _rows(grouped))


def test_channel_shuffle_is_followed(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(6, 2, 1, 1)), rng.normal(size=(3, 6, 1, 1))
    text = f"""{HEAD} g (float[1,2,4,4] x) => (float[1,3,4,4] o)
        <int64[5] apart = {{1,2,3,4,4}}, int64[4] together = {{1,6,4,4}}> {{
        t = Conv(x, a)
        u = Reshape(t, apart)
        v = Transpose<perm=[0,2,1,3,4]>(u)
        w = Reshape(v, together)
        o = Conv(w, b)
    }}"""
    found = _factors(*_load(tmp_path, text, a=a, b=b))
    order = np.arange(6).reshape(2, 3).T.reshape(-1)
    np.testing.assert_allclose(found["b"][0], _rows(a)[order])
    expected = np.empty(6)
    expected[order] = _columns(b)
    np.testing.assert_allclose(found["a"][1], expected)


def test_transposed_convolution_and_pixel_shuffle(tmp_path: Path) -> None:
    """ConvTranspose stores (in, out); DepthToSpace makes one channel of b² of them."""
    rng = np.random.default_rng(4)
    a, up, last = rng.normal(size=(8, 3, 1, 1)), rng.normal(size=(8, 4, 2, 2)), rng.normal(size=(2, 1, 1, 1))
    text = f"""{HEAD} g (float[1,3,4,4] x) => (float[1,2,16,16] o) {{
        t = Conv(x, a)
        u = ConvTranspose<strides=[2,2]>(t, up)
        d = DepthToSpace<blocksize=2>(u)
        o = Conv(d, last)
    }}"""
    found = _factors(*_load(tmp_path, text, a=a, up=up, last=last))
    np.testing.assert_allclose(found["up"][0], _rows(a))
    np.testing.assert_allclose(found["a"][1], _rows(up))
    np.testing.assert_allclose(found["up"][1], np.full(4, _columns(last)[0]))
    np.testing.assert_allclose(found["last"][0], [_columns(up).sum()])


def test_the_published_chain_ignores_skips_and_projections(tmp_path: Path) -> None:
    """stem → block (c1, c2, projection p) → block (c3, c4, identity) → head; only the main path counts."""
    rng = np.random.default_rng(5)
    stem, c1, c2 = rng.normal(size=(4, 3, 3, 3)), rng.normal(size=(6, 4, 3, 3)), rng.normal(size=(6, 6, 3, 3))
    p, c3, c4 = rng.normal(size=(6, 4, 1, 1)), rng.normal(size=(6, 6, 3, 3)), rng.normal(size=(6, 6, 3, 3))
    head = rng.normal(size=(5, 6, 1, 1))
    pads = "<pads=[1,1,1,1]>"
    text = f"""{HEAD} g (float[1,3,8,8] x) => (float[1,5,8,8] o) {{
        s = Conv{pads}(x, stem)
        a = Conv{pads}(s, c1)
        b = Conv{pads}(a, c2)
        q = Conv(s, p)
        j = Add(b, q)
        d = Conv{pads}(j, c3)
        e = Conv{pads}(d, c4)
        k = Add(e, j)
        o = Conv(k, head)
    }}"""
    found = _factors(
        *_load(tmp_path, text, stem=stem, c1=c1, c2=c2, p=p, c3=c3, c4=c4, head=head), chain=True
    )
    for before, after in [("stem", "c1"), ("c1", "c2"), ("c2", "c3"), ("c3", "c4"), ("c4", "head")]:
        values = {"stem": stem, "c1": c1, "c2": c2, "c3": c3, "c4": c4, "head": head}
        np.testing.assert_allclose(found[before][1], _columns(values[after]), err_msg=before)
        np.testing.assert_allclose(found[after][0], _rows(values[before]), err_msg=after)
    np.testing.assert_array_equal(found["p"][0], np.ones(4))
    np.testing.assert_array_equal(found["p"][1], np.ones(6))


def test_an_unknown_operator_is_a_boundary_with_a_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(4, 5))
    text = """<ir_version: 9, opset_import: ["" : 17, "here" : 1]> g (float[2,3] x) => (float[2,5] o) {
        t = Gemm<transB=1>(x, a)
        u = here.Strange(t)
        o = MatMul(u, b)
    }"""
    model = onnx.parser.parse_model(text)
    for name, array in {"a": a, "b": b}.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(model, tmp_path / "m.onnx")
    network = formats.load(tmp_path / "m.onnx", LoadOptions(scratch=tmp_path))
    graph = build(network)
    found = _factors(network, graph)
    np.testing.assert_array_equal(found["a"][1], np.ones(4))
    np.testing.assert_array_equal(found["b"][0], np.ones(4))
    assert any("here:Strange" in reason for reason in graph.boundaries.values())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), width=st.integers(2, 6), norm=st.booleans())
def test_flatten_repeats_the_channel_over_its_positions(
    tmp_path_factory: pytest.TempPathFactory, seed: int, width: int, norm: bool
) -> None:
    """Column c of the linear layer belongs to channel c // r (reference page §1.3), batch norm between."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(width, 3, 1, 1)), rng.normal(size=(7, width * 6))
    extra = {f"bn_{k}": np.abs(rng.normal(size=width)) + 0.1 for k in ("scale", "bias", "mean", "var")}
    line = (
        "u = BatchNormalization<epsilon=0.01>(t, bn_scale, bn_bias, bn_mean, bn_var)"
        if norm
        else "u = Relu(t)"
    )
    text = f"""{HEAD} g (float[1,3,2,3] x) => (float[1,7] o) {{
        t = Conv(x, a)
        {line}
        f = Flatten(u)
        o = Gemm<transB=1>(f, b)
    }}"""
    found = _factors(*_load(tmp_path_factory.mktemp("flat"), text, a=a, b=b, **(extra if norm else {})))
    scale, var = extra["bn_scale"].astype(np.float32), extra["bn_var"].astype(np.float32)
    slope = scale.astype(np.float64) ** 2 / (var.astype(np.float64) + 0.01) if norm else np.ones(width)
    np.testing.assert_allclose(found["b"][0], np.repeat(_rows(a) * slope, 6), rtol=1e-6)
    np.testing.assert_allclose(found["a"][1], _columns(b).reshape(width, 6).sum(1) * slope, rtol=1e-6)
