"""Drawn graphs: ONNX Runtime's own operators, as its optimizer writes them into files."""

from tests.zoo.drawings import draw

_INPUT = "(float[N,5,10] x) => (float[N,5,6] y)"
_PROJECTED = "q = MatMul(x, w1)\nk = MatMul(x, w2)\nv = MatMul(x, w3)"
_SMALL = "float[10,16] w1, float[10,16] w2, float[10,16] w3, float[16,6] w4"

draw(
    "fused_attention",
    f"""{_INPUT}
    <float[10,16] w1, float[16,48] w2, float[48] b2, float[16,16] w3, float[16] b3, float[16] slope,
     float[16] shift, float[16,6] w4>
    {{
        h = MatMul(x, w1)
        a = com.microsoft.Attention<num_heads=4>(h, w2, b2)
        o = MatMul(a, w3)
        n, m, i, s = com.microsoft.SkipLayerNormalization<epsilon=0.001>(o, h, slope, shift, b3)
        t = Add(n, s)
        y = MatMul(t, w4)
    }}""",
)
draw(
    "fused_attention_of_several_sizes",
    f"""{_INPUT}
    <float[10,40] w2, float[40] b2, float[8,6] w4, float[1,4,5,5] bias>
    {{
        a = com.microsoft.Attention<num_heads=4, qkv_hidden_sizes=[16, 16, 8], unidirectional=1>
            (x, w2, b2, , , bias)
        y = MatMul(a, w4)
    }}""",
)
draw(
    "fused_multi_head",
    f"""{_INPUT}
    <{_SMALL}, float[48] b1, float[1,4,5,5] bias>
    {{
        {_PROJECTED}
        a = com.microsoft.MultiHeadAttention<num_heads=4>(q, k, v, b1, , bias)
        y = MatMul(a, w4)
    }}""",
)
draw(
    "fused_grouped_query",
    """(float[1,5,32] x, float[1,2,3,16] past_key, float[1,2,3,16] past_value)
        => (float[1,5,32] y, float[1,2,8,16] present_key, float[1,2,8,16] present_value)
    <float[32] gain, float[32] gain2, float[32,128] w1, float[32,32] w2, float[32,32] w3, float[128,32] w4,
     float[32,48] up, float[48,32] down, float[8,8] cosines, float[8,8] sines, int32 seven = {7},
     int32[1] total = {8}>
    {
        batch = Shape<start=0, end=1>(x)
        lengths = Expand(seven, batch)
        n = SimplifiedLayerNormalization<axis=-1, epsilon=0.001>(x, gain)
        q = MatMul(n, w1)
        k = MatMul(n, w2)
        v = MatMul(n, w3)
        a, present_key, present_value = com.microsoft.GroupQueryAttention
            <num_heads=8, kv_num_heads=2, do_rotary=1>
            (q, k, v, past_key, past_value, lengths, total, cosines, sines)
        o = MatMul(a, w4)
        b, m, i, s = com.microsoft.SkipSimplifiedLayerNormalization<epsilon=0.001>(o, x, gain2)
        u = MatMul(b, up)
        g = com.microsoft.QuickGelu(u)
        d = MatMul(g, down)
        y = Add(d, s)
    }""",
)
draw(
    "fused_embedding",
    """(int32[N,5] x, int32[N,5] segments) => (float[N,5,6] y)
    <float[9,16] words, float[5,16] places, float[4,16] kinds, float[16] slope, float[16] shift,
     float[16,24] w1, float[24] b1, float[24,16] w2, float[16] slope2, float[16,6] w3>
    {
        e, m = com.microsoft.EmbedLayerNormalization<epsilon=0.001>
            (x, segments, words, places, kinds, slope, shift)
        h = MatMul(e, w1)
        g = com.microsoft.BiasGelu(h, b1)
        d = MatMul(g, w2)
        n = com.microsoft.SkipLayerNormalization<epsilon=0.001>(d, e, slope2)
        y = MatMul(n, w3)
    }""",
)
draw(
    "fused_products",
    f"""{_INPUT}
    <float[12,10] w1, float[10,12] w2, float[10,12] w3, float[12] b1, float[12,6] w4>
    {{
        q = com.microsoft.FusedMatMul<transB=1, alpha=0.5>(x, w1)
        k = MatMul(x, w2)
        h = MatMul(x, w3)
        v = com.microsoft.FastGelu(h, b1)
        s = com.microsoft.FusedMatMul<transB=1, alpha=0.3>(q, k)
        p = Softmax<axis=-1>(s)
        a = MatMul(p, v)
        y = MatMul(a, w4)
    }}""",
)
draw(
    "fused_convolutions",
    """(float[N,4,6,6] x) => (float[N,7] y)
    <float[12,4,3,3] w1, float[12] b1, float[12,12,3,3] w2, float[12] b2, float[9,12,1,1] w3, float[9,12] w4,
     float[12] b4, float[7,12] w5, float[7] b5>
    {
        h = com.microsoft.FusedConv<activation="Relu", pads=[1, 1, 1, 1], kernel_shape=[3, 3]>(x, w1, b1)
        r = com.microsoft.FusedConv<activation="Relu", pads=[1, 1, 1, 1], kernel_shape=[3, 3]>(h, w2, b2, h)
        c = com.microsoft.FusedConv
            <activation="LeakyRelu", activation_params=[0.1], kernel_shape=[1, 1]>(r, w3)
        p = GlobalAveragePool(c)
        f = Flatten(p)
        g = com.microsoft.FusedGemm<activation="Relu">(f, w4, b4)
        y = Gemm<transB=1>(g, w5, b5)
    }""",
)
draw(
    "fused_rotary",
    f"""{_INPUT}
    <{_SMALL}, float[8,2] cosines, float[8,2] sines, int64[1,5] places = {{0, 1, 2, 3, 4}}>
    {{
        {_PROJECTED}
        s = Shape<start=0, end=1>(x)
        five = Constant<value_ints=[5]>()
        target = Concat<axis=0>(s, five)
        ids = Expand(places, target)
        qr = com.microsoft.RotaryEmbedding(q, ids, cosines, sines)
        kr = com.microsoft.RotaryEmbedding(k, ids, cosines, sines)
        a = com.microsoft.MultiHeadAttention<num_heads=4>(qr, kr, v)
        y = MatMul(a, w4)
    }}""",
)
draw(
    "rotary_partly",
    f"""{_INPUT}
    <float[10,32] w1, float[10,16] w2, float[10,16] w3, float[8,2] cosines, float[8,2] sines, float[32,6] w4,
     int64[1,5] places = {{0, 1, 2, 3, 4}}>
    {{
        {_PROJECTED}
        s = Shape<start=0, end=1>(x)
        five = Constant<value_ints=[5]>()
        target = Concat<axis=0>(s, five)
        ids = Expand(places, target)
        qr = RotaryEmbedding<num_heads=4, rotary_embedding_dim=4>(q, cosines, sines, ids)
        kr = RotaryEmbedding<num_heads=2, rotary_embedding_dim=4>(k, cosines, sines, ids)
        a = Attention<q_num_heads=4, kv_num_heads=2>(qr, kr, v)
        y = MatMul(a, w4)
    }}""",
    opset=23,
    ir=11,
)
draw(
    "attention_one_key_head",
    f"""{_INPUT}
    <float[10,24] w1, float[10,6] w2, float[10,6] w3, float[24,6] w4>
    {{
        {_PROJECTED}
        a = Attention<q_num_heads=4, kv_num_heads=1>(q, k, v)
        y = MatMul(a, w4)
    }}""",
    opset=23,
    ir=11,
)
