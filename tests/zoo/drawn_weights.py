"""Drawings: weights behind nodes, in other places, of other types, shared, quantised."""

from onnx import ModelProto, TensorProto, helper

from tests.zoo.drawings import conv_chain, draw

draw(
    "identity_weights",
    """(float[N,4,8,8] x) => (float[N,6,8,8] y)
    <float[12,4,3,3] w1, float[12,12,3,3] w2, float[12] b, float[6,12,1,1] w4, float[6] b4>
    {
        shared = Identity(b)
        again = Identity(shared)
        w3 = Identity(w2)
        c1 = Conv<pads=[1,1,1,1]>(x, w1, b)
        h1 = Relu(c1)
        c2 = Conv<pads=[1,1,1,1]>(h1, w2, shared)
        h2 = Relu(c2)
        c3 = Conv<pads=[1,1,1,1]>(h2, w3, again)
        h3 = Relu(c3)
        y = Conv(h3, w4, b4)
    }""",
)
draw(
    "constant_of_shape_weights",
    """(float[N,10] x) => (float[N,6] y)
    <float[16,10] w1, int64[2] shape = {16, 12}, int64[1] length = {12}, float[12,6] w3>
    {
        filled = ConstantOfShape<value = float[1] {0.125}>(shape)
        zeros = ConstantOfShape(length)
        a = Gemm<transB=1>(x, w1)
        h = Relu(a)
        b = Gemm(h, filled, zeros)
        t = Tanh(b)
        y = MatMul(t, w3)
    }""",
)
draw(
    "computed_weights",
    """(float[N,10] x) => (float[N,6] y)
    <float[10,4,4] w1, int64[2] shape = {10, 16}, float[12,16] w2, float[6,12] w3, float[6,1] v>
    {
        reshaped = Reshape(w1, shape)
        turned = Transpose<perm=[1,0]>(w2)
        scaled = Mul(w3, v)
        a = MatMul(x, reshaped)
        h = Relu(a)
        b = MatMul(h, turned)
        t = Tanh(b)
        y = Gemm<transB=1>(t, scaled)
    }""",
)
draw(
    "weight_as_output",
    """(float[N,10] x) => (float[N,6] y, float[16,10] w1)
    <float[16,10] w1, float[16] b1, float[6,16] w2>
    {
        a = Gemm<transB=1>(x, w1, b1)
        h = Relu(a)
        y = Gemm<transB=1>(h, w2)
    }""",
)
draw(
    "weight_two_layouts",
    """(float[N,12] x) => (float[N,12] y)
    <float[12,12] w, float[12] b>
    {
        a = Gemm<transB=1>(x, w, b)
        h = Relu(a)
        y = MatMul(h, w)
    }""",
)
draw(
    "gemm_data_transposed",
    """(float[10,N] x) => (float[6,N] y)
    <float[10,16] w1, float[16] b1, float[6,16] w2, float[6,1] b2>
    {
        a = Gemm<transA=1>(x, w1, b1)
        h = Relu(a)
        y = Gemm<transB=1>(w2, h, b2)
    }""",
)
draw(
    "gemm_biases",
    """(float[N,10] x) => (float[N,6] y)
    <float[16,10] w1, float[1,16] b1, float[16,16] w2, float b2, float[16,16] w3, float[16,6] w4>
    {
        a = Gemm<transB=1, beta=0.5>(x, w1, b1)
        h = Relu(a)
        b = Gemm<alpha=0.5>(h, w2, b2)
        c = Gemm(h, w3, b)
        t = Tanh(c)
        y = Gemm(t, w4)
    }""",
)
draw(
    "bias_first",
    """(float[N,5,10] x) => (float[N,5,6] y)
    <float[10,16] w1, float[16] b1, float[16,6] w2, float[1,1,6] b2>
    {
        a = MatMul(x, w1)
        s = Add(b1, a)
        h = Relu(s)
        o = MatMul(h, w2)
        y = Add(b2, o)
    }""",
)
draw(
    "old_format",
    """(float[N,4,8,8] x, float[12,4,3,3] w1, float[12] b1, float[6,12,1,1] w2) => (float[N,6,8,8] y)
    {
        c = Conv<pads=[1,1,1,1]>(x, w1, b1)
        h = Relu(c)
        d = Dropout<ratio=0.5>(h)
        y = Conv(d, w2)
    }""",
    opset=9,
    ir=3,
    edit=lambda model: store_inputs(model),
)
draw(
    "float64",
    """(double[N,10] x) => (double[N,6] y)
    <double[16,10] w1, double[16] b1, double[6,16] w2>
    {
        a = Gemm<transB=1>(x, w1, b1)
        h = Relu(a)
        y = Gemm<transB=1>(h, w2)
    }""",
)
draw(
    "float16",
    """(float[N,10] x) => (float[N,6] y)
    <float16[10,16] w1, float16[16] b1, float16[16,6] w2>
    {
        half = Cast<to=10>(x)
        a = MatMul(half, w1)
        s = Add(a, b1)
        h = Relu(s)
        o = MatMul(h, w2)
        y = Cast<to=1>(o)
    }""",
)
draw(
    "quantised_weights",
    """(float[N,4,8,8] x) => (float[N,6,8,8] y)
    <int8[12,4,3,3] q1, float[12] vq1, int8[12] z1 = {0,0,0,0,0,0,0,0,0,0,0,0}, float[12] b1,
     uint8[6,12,1,1] q2, float vq2, uint8 z2 = {128}>
    {
        w1 = DequantizeLinear<axis=0>(q1, vq1, z1)
        w2 = DequantizeLinear(q2, vq2, z2)
        c = Conv<pads=[1,1,1,1]>(x, w1, b1)
        h = Relu(c)
        y = Conv(h, w2)
    }""",
    edit=lambda model: spread_bytes(model),
)
draw(
    "quantised_throughout",
    """(float[N,4,8,8] x) => (float[N,6,8,8] y)
    <float s = {0.05}, uint8 z = {128}, float[12,4,3,3] w1, float[12] b1, float[6,12,1,1] w2>
    {
        xq = QuantizeLinear(x, s, z)
        xd = DequantizeLinear(xq, s, z)
        c = Conv<pads=[1,1,1,1]>(xd, w1, b1)
        h = Relu(c)
        hq = QuantizeLinear(h, s, z)
        hd = DequantizeLinear(hq, s, z)
        y = Conv(hd, w2)
    }""",
)
draw(
    "computed_kernel",
    """(float[1,4,8,8] x, float[10] style) => (float[1,6,8,8] y)
    <float[10,48] w1, int64[4] shape = {12, 4, 1, 1}, float[6,12,1,1] w2>
    {
        flat = MatMul(style, w1)
        kernel = Reshape(flat, shape)
        c = Conv(x, kernel)
        h = Relu(c)
        y = Conv(h, w2)
    }""",
)
draw(
    "scale_and_shift_unsqueezed",
    conv_chain(
        """n = BatchNormalization(c, v1, b3, m1, v2)
        scale = Unsqueeze(v3, axes)
        shift = Unsqueeze(b4, axes)
        m = Mul(n, scale)
        s = Add(m, shift)
        g = Relu(s)""",
        "float[12] v1, float[12] b3, float[12] m1, float[12] v2, "
        "float[12] v3, float[12] b4, int64[2] axes = {1, 2}",
    ),
)


def store_inputs(model: ModelProto) -> None:
    """The first IR versions list initializers among the inputs, as `old_format` does: give them values."""
    for value in model.graph.input[1:]:
        shape = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        size = 1
        for axis in shape:
            size *= axis
        values = [((7 * index) % 23 - 11) / 23 for index in range(size)]
        tensor = helper.make_tensor(value.name, TensorProto.FLOAT, shape, values)
        model.graph.initializer.append(tensor)


def spread_bytes(model: ModelProto) -> None:
    """Unsigned weights around their zero point of 128."""
    for tensor in model.graph.initializer:
        if tensor.name == "q2":
            values = [(37 * index) % 251 for index in range(72)]
            tensor.CopyFrom(helper.make_tensor("q2", TensorProto.UINT8, [6, 12, 1, 1], values))
