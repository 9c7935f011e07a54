"""Drawings: control flow, functions, foreign operators, shape arithmetic, operators PyTorch seldom writes."""

from tests.zoo.drawings import conv_chain, draw

draw("lrn", conv_chain("g = LRN<size=5, alpha=0.01, beta=0.75>(h)"))
draw("variadic", conv_chain("s = Sum(h, c, h)\nm = Max(s, c)\ng = Mean(m, h, s)"))
draw("same_twice", conv_chain("a = Add(h, h)\nb = Mul(a, h)\ng = Concat<axis=1>(b, h, b)", channels=36))
draw(
    "upsample_old",
    conv_chain('g = Upsample<mode="nearest">(h, scales)', "float[4] scales = {1.0, 1.0, 2.0, 2.0}"),
    opset=9,
)
draw(
    "resize_sizes",
    conv_chain('g = Resize<mode="linear">(h, , , sizes)', "int64[4] sizes = {2, 12, 5, 7}", batch="2"),
)
draw("depth_to_space", conv_chain('g = DepthToSpace<blocksize=2, mode="DCR">(h)', channels=3))
draw("depth_to_space_crd", conv_chain('g = DepthToSpace<blocksize=2, mode="CRD">(h)', channels=3))
draw("space_to_depth", conv_chain("g = SpaceToDepth<blocksize=2>(h)", channels=48))
draw("split_equal", conv_chain("a, b = Split<axis=1>(h)\nt = Tanh(a)\ng = Add(t, b)", channels=6))
draw("split_attribute", conv_chain("a, b = Split<axis=1, split=[4,8]>(h)\ng = Relu(b)", channels=8), opset=11)
draw(
    "reversed_channels",
    conv_chain(
        "r = Slice(h, first, last, axis, step)\ng = Add(r, h)",
        "int64[1] first = {-1}, int64[1] last = {-100}, int64[1] axis = {1}, int64[1] step = {-1}",
    ),
)
draw(
    "concat_constant",
    conv_chain(
        "k = Expand(w3, sizes)\ng = Concat<axis=1>(h, k)",
        "float[1,3,8,8] w3, int64[4] sizes = {2, 3, 8, 8}",
        channels=15,
        batch="2",
    ),
)
draw("pad_channels_front", conv_chain("g = Pad(h, pads)", "int64[8] pads = {0,2,1,0,0,1,0,0}", channels=15))
draw("tiled_channels", conv_chain("g = Tile(h, times)", "int64[4] times = {1,2,1,1}", channels=24))
draw("global_pools", conv_chain("a = GlobalMaxPool(h)\nb = GlobalLpPool(h)\ng = Sub(a, b)"))
draw(
    "pool_indices",
    conv_chain(
        """p, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(h)
        g = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(p, i)"""
    ),
)
draw(
    "channel_norm",
    conv_chain("""a = LpNormalization<axis=1, p=2>(h)
        b = MeanVarianceNormalization<axes=[0,2,3]>(a)
        g = Add(a, b)"""),
)
draw("channel_maximum", conv_chain("i = ArgMax<axis=1, keepdims=1>(h)\nf = Cast<to=1>(i)\ng = Mul(h, f)"))
draw("channel_top", conv_chain("g, i = TopK<axis=1>(h, k)", "int64[1] k = {5}", channels=5))
draw("running_sum", conv_chain("g = CumSum(h, axis)", "int64 axis = {1}"))
draw("channel_softmax", conv_chain("s = Softmax<axis=1>(c)\ng = Mul(s, h)"))
draw("masked", conv_chain("p = Greater(c, zero)\nn = Neg(c)\ng = Where(p, c, n)", "float zero = {0.0}"))
draw(
    "clip_optional",
    conv_chain(
        "a = Clip(c, , top)\nb = Clip(c, zero)\ng = Sub(a, b)", "float top = {0.5}, float zero = {0.0}"
    ),
)
draw(
    "prelu_shapes",
    conv_chain("a = PRelu(c, w3)\nb = PRelu(c, w4)\ng = Sub(a, b)", "float[12,1,1] w3, float[1] w4"),
)
draw("dead_branch", conv_chain("d = Conv(h, w3)\ne = Relu(d)\ng = Tanh(h)", "float[5,12,1,1] w3"))
draw("foreign_operator", conv_chain("g = com.microsoft.QuickGelu<alpha=1.7>(h)"))
draw("einsum_map", conv_chain('g = Einsum<equation="nchw,cd->ndhw">(h, w3)', "float[12,10] w3", channels=10))
draw(
    "norm_operators",
    conv_chain(
        "i = InstanceNormalization(c, v1, b3)\nr = Relu(i)\ng = GroupNormalization<num_groups=3>(r, v2, b4)",
        "float[12] v1, float[12] b3, float[12] v2, float[12] b4",
    ),
    opset=21,
    ir=10,
)
draw(
    "activations",
    conv_chain(
        """a = Mish(c)
        b = HardSwish(a)
        d = Gelu(b)
        e = ThresholdedRelu(d)
        f = Softplus(e)
        k = Celu(f)
        g = Selu(k)"""
    ),
    opset=20,
    ir=9,
)
draw("not_zero_at_zero", conv_chain("a = Sigmoid(c)\nb = Exp(c)\nd = Cos(c)\ne = Add(a, b)\ng = Mul(e, d)"))
draw(
    "rms_norm",
    """(float[N,5,10] x) => (float[N,5,6] y)
    <float[10,16] w1, float[16] v1, float[16,6] w2>
    {
        a = MatMul(x, w1)
        n = RMSNormalization<axis=-1>(a, v1)
        y = MatMul(n, w2)
    }""",
    opset=23,
    ir=11,
)
draw(
    "reshape_zero",
    """(float[N,4,8,8] x) => (float[N,6] y)
    <float[12,4,3,3] w1, int64[3] grouped = {0, 3, -1}, int64[4] back = {0, 12, 8, 8},
     int64[2] flat = {0, -1},
     float[768,20] w2, float[20,6] w3>
    {
        c = Conv<pads=[1,1,1,1]>(x, w1)
        h = Relu(c)
        r = Reshape(h, grouped)
        m = Reshape(r, back)
        f = Reshape(m, flat)
        d = MatMul(f, w2)
        t = Tanh(d)
        y = MatMul(t, w3)
    }""",
)
draw(
    "reshape_arithmetic",
    """(float[N,4,8,8] x) => (float[N,6] y)
    <float[12,4,3,3] w1, int64 zero = {0}, int64 one = {1}, int64[1] axis = {0}, int64[1] rest = {-1},
     float[12,20] w2, float[20,6] w3>
    {
        c = Conv<pads=[1,1,1,1]>(x, w1)
        h = Relu(c)
        s = Shape(h)
        n = Gather(s, zero)
        k = Gather(s, one)
        n1 = Unsqueeze(n, axis)
        k1 = Unsqueeze(k, axis)
        target = Concat<axis=0>(n1, k1, rest)
        r = Reshape(h, target)
        p = ReduceMean<axes=[2], keepdims=0>(r)
        d = MatMul(p, w2)
        t = Tanh(d)
        y = MatMul(t, w3)
    }""",
)
draw(
    "channels_last",
    """(float[N,8,8,4] x) => (float[N,8,8,6] y)
    <float[12,4,3,3] w1, float[12] b1, float[6,12,1,1] w2>
    {
        t = Transpose<perm=[0,3,1,2]>(x)
        c = Conv<auto_pad="SAME_UPPER">(t, w1)
        l = Transpose<perm=[0,2,3,1]>(c)
        s = Add(l, b1)
        h = Relu(s)
        b = Transpose<perm=[0,3,1,2]>(h)
        d = Conv(b, w2)
        y = Transpose<perm=[0,2,3,1]>(d)
    }""",
)
draw(
    "if_bodies",
    """(float[N,4,8,8] x, bool[1] flag) => (float[N,6,8,8] y)
    <float[12,4,3,3] w1, float[12,12,3,3] w2, float[12,12,1,1] w3, float[6,12,1,1] w4>
    {
        c = Conv<pads=[1,1,1,1]>(x, w1)
        h = Relu(c)
        g = If (flag) <
            then_branch = yes () => (float[N,12,8,8] a) { a = Conv<pads=[1,1,1,1]>(h, w2) },
            else_branch = no () => (float[N,12,8,8] b) { b = Conv(h, w3) }
        >
        r = Relu(g)
        y = Conv(r, w4)
    }""",
)
draw(
    "loop_body",
    """(float[N,10] x) => (float[N,6] y)
    <float[10,16] w1, float[16,16] w2, float[16,6] w3, int64 times = {3}, bool go = {1}>
    {
        a = MatMul(x, w1)
        h = Relu(a)
        g = Loop (times, go, h) <
            body = step (int64 i, bool goes, float[N,16] state) => (bool still, float[N,16] next)
            {
                still = Identity(goes)
                m = MatMul(state, w2)
                next = Tanh(m)
            }
        >
        y = MatMul(g, w3)
    }""",
)
draw(
    "scan_body",
    """(float[5,N,10] x, float[N,16] start) => (float[N,6] y)
    <float[10,16] w1, float[16,16] w2, float[16,6] w3>
    {
        u = MatMul(x, w1)
        last, all = Scan (start, u) <
            num_scan_inputs = 1,
            body = step (float[N,16] state, float[N,16] one) => (float[N,16] next, float[N,16] out)
            {
                m = MatMul(state, w2)
                s = Add(m, one)
                next = Tanh(s)
                out = Identity(next)
            }
        >
        y = MatMul(last, w3)
    }""",
)
draw(
    "local_function",
    """(float[N,10] x) => (float[N,6] y)
    <float[10,16] w1, float[16] b1, float[16,12] w2, float[12] b2, float[12,6] w3>
    {
        a = zoo.dense(x, w1, b1)
        b = zoo.dense(a, w2, b2)
        y = MatMul(b, w3)
    }
    <domain: "zoo", opset_import: ["": 17]>
    dense (data, weight, bias) => (out)
    {
        product = MatMul(data, weight)
        shifted = Add(product, bias)
        out = Relu(shifted)
    }""",
)
draw(
    "sequence",
    conv_chain(
        "parts = SplitToSequence<axis=1>(h, six)\ng = ConcatFromSequence<axis=1>(parts)", "int64 six = {6}"
    ),
)
draw(
    "input_is_output",
    """(float[N,10] x) => (float[N,6] y, float[N,10] copy)
    <float[10,16] w1, float[16,6] w2>
    {
        a = MatMul(x, w1)
        h = Relu(a)
        y = MatMul(h, w2)
        copy = Identity(x)
    }""",
)
draw(
    "lstm_states",
    """(float[5,N,10] x) => (float[N,6] y)
    <float[1,48,10] w1, float[1,48,12] r1, float[1,96] b1, int64[1] axis = {0}, float[12,6] w2>
    {
        all, h, c = LSTM<hidden_size=12>(x, w1, r1, b1)
        s = Squeeze(h, axis)
        y = MatMul(s, w2)
    }""",
)
draw(
    "flatten_elsewhere",
    """(float[2,4,8,8] x) => (float[24,6] y)
    <float[12,4,3,3] w1, float[64,10] w2, float[10,6] w3>
    {
        c = Conv<pads=[1,1,1,1]>(x, w1)
        h = Relu(c)
        f = Flatten<axis=2>(h)
        d = MatMul(f, w2)
        t = Tanh(d)
        y = MatMul(t, w3)
    }""",
)
