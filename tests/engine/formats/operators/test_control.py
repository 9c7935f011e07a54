"""Bodies run eagerly: branches, loops that end early, scans in every direction."""

import numpy as np
import pytest

from tests.engine.formats.conformance.suite import by_torch
from tests.engine.formats.operators.nodes import both, parsed

_HEAD = '<ir_version: 8, opset_import: ["": 17]>'
_rng = np.random.default_rng(4)


def _same(text, *inputs):
    found, wanted = both(parsed(f"{_HEAD} {text}"), inputs)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    return found


@pytest.mark.parametrize("flag", [True, False])
def test_branches_see_what_is_around_them(flag):
    _same(
        """g (bool c, float[N] x) => (float[M] y) {
            z = Neg (x)
            y = If (c) <then_branch = a () => (float[P] p) {p = Mul (z, x)},
                        else_branch = b () => (float[Q] q) {q = Concat <axis = 0> (z, x)}>
        }""",
        np.array(flag),
        _rng.standard_normal(3).astype(np.float32),
    )


_LOOP = """g (int64 most, bool go, float[N] x) => (float[N] last, float[K, N] steps) {
    last, steps = Loop (most, go, x) <body = b (int64 i, bool c, float[N] s)
        => (bool d, float[N] t, float[N] u) {
        f = Cast <to = 1> (i)
        t = Add (s, f)
        m = ReduceMax <keepdims = 0> (t)
        limit = Constant <value_float = 4.0> ()
        d = Less (m, limit)
        u = Mul (t, x)
    }>
}"""


@pytest.mark.parametrize("most", [1, 3, 20])
def test_loops_end_by_count_or_by_condition(most):
    found = _same(_LOOP, np.array(most), np.array(True), np.array([0.5, -1.0], np.float32))
    assert len(found[1]) <= 5


def test_a_loop_that_never_runs_gives_its_state_back():
    state = np.array([0.5, -1.0], np.float32)
    model = parsed(f"{_HEAD} {_LOOP}")
    assert np.array_equal(by_torch(model)([np.array(0), np.array(True), state])[0], state)
    assert np.array_equal(by_torch(model)([np.array(5), np.array(False), state])[0], state)


_BODY = """body = b (float[2] s, float[2] a, float[2] e) => (float[2] t, float[2] o, float[2] r) {
    t = Add (s, a)
    o = Mul (t, e)
    r = Sub (a, e)
}"""


@pytest.mark.parametrize("directions", ["[0, 0]", "[1, 0]", "[1, 1]"])
@pytest.mark.parametrize("axes", ["[0, 1]", "[1, 0]"])
def test_scans(directions, axes):
    shapes = {"[0, 1]": ((4, 2), (2, 4)), "[1, 0]": ((2, 4), (4, 2))}[axes]
    given = [", ".join(map(str, shape)) for shape in shapes]
    _same(
        f"""g (float[2] s, float[{given[0]}] a, float[{given[1]}] e)
            => (float[2] t, float[2, 4] o, float[4, 2] r) {{
            t, o, r = Scan <num_scan_inputs = 2, scan_input_axes = {axes},
                scan_input_directions = {directions}, scan_output_axes = [1, 0],
                scan_output_directions = [0, 1], {_BODY}> (s, a, e)
        }}""",
        *(_rng.standard_normal(shape).astype(np.float32) for shape in ((2,), *shapes)),
    )


@pytest.mark.parametrize("directions", ["[0, 0]", "[1, 0]"])
def test_scans_of_opset_8_go_through_each_sample_by_itself(directions):
    text = f"""<ir_version: 4, opset_import: ["": 8]>
        g (int64[3] n, float[3, 2] s, float[3, 4, 2] a, float[3, 4, 2] e)
        => (float[3, 2] t, float[3, 4, 2] o, float[3, 4, 2] r) {{
        t, o, r = Scan <num_scan_inputs = 2, directions = {directions}, {_BODY}> (n, s, a, e)
    }}"""
    lengths = np.array([4, 2, 3])
    given = [_rng.standard_normal(shape).astype(np.float32) for shape in ((3, 2), (3, 4, 2), (3, 4, 2))]
    found, wanted = both(parsed(text), [lengths, *given])
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
