"""Drawn graphs: attention and norms as operators of their own, in the forms that exporters do not choose."""

from tests.zoo.drawings import draw

_PROJECTED = "q = MatMul(x, w1)\nk = MatMul(x, w2)\nv = MatMul(x, w3)"
_INPUT = "(float[N,5,10] x) => (float[N,5,6] y)"

draw(
    "attention_operator",
    f"""{_INPUT}
    <float[10,16] w1, float[10,16] w2, float[10,24] w3, float[16] b1, float[16] b2, float[24,6] w4,
     int64[4] narrow = {{0, 5, 4, 4}}, int64[4] wide = {{0, 5, 4, 6}}, int64[3] flat = {{0, 5, 24}}>
    {{
        {_PROJECTED}
        qb = Add(q, b1)
        kb = Add(k, b2)
        q4 = Reshape(qb, narrow)
        k4 = Reshape(kb, narrow)
        v4 = Reshape(v, wide)
        qh = Transpose<perm=[0, 2, 1, 3]>(q4)
        kh = Transpose<perm=[0, 2, 1, 3]>(k4)
        vh = Transpose<perm=[0, 2, 1, 3]>(v4)
        a = Attention<is_causal=1>(qh, kh, vh)
        t = Transpose<perm=[0, 2, 1, 3]>(a)
        f = Reshape(t, flat)
        y = MatMul(f, w4)
    }}""",
    opset=23,
    ir=11,
)
draw(
    "attention_side_by_side",
    f"""{_INPUT}
    <float[10,24] w1, float[10,12] w2, float[10,18] w3, float[6,5,5] mask, float[36,6] w4>
    {{
        {_PROJECTED}
        a = Attention<q_num_heads=6, kv_num_heads=3>(q, k, v, mask)
        y = MatMul(a, w4)
    }}""",
    opset=23,
    ir=11,
)
draw(
    "rotary_operator",
    f"""{_INPUT}
    <float[10,16] w1, float[10,16] w2, float[10,16] w3, float[1,5,2] cosines, float[1,5,2] sines,
     float[16,6] w4, float one = {{0.5}}, int64[4] by_head = {{0, 5, 4, 4}}, int64[3] flat = {{0, 5, 16}}>
    {{
        {_PROJECTED}
        q4 = Reshape(q, by_head)
        k4 = Reshape(k, by_head)
        v4 = Reshape(v, by_head)
        qh = Transpose<perm=[0, 2, 1, 3]>(q4)
        kh = Transpose<perm=[0, 2, 1, 3]>(k4)
        vh = Transpose<perm=[0, 2, 1, 3]>(v4)
        s = Shape<start=0, end=1>(x)
        rest = Constant<value_ints=[1, 1]>()
        times = Concat<axis=0>(s, rest)
        c = Tile(cosines, times)
        n = Tile(sines, times)
        qr = RotaryEmbedding(qh, c, n)
        kr = RotaryEmbedding(kh, c, n)
        kt = Transpose<perm=[0, 1, 3, 2]>(kr)
        m = MatMul(qr, kt)
        p = Mul(m, one)
        w = Softmax<axis=-1>(p)
        a = MatMul(w, vh)
        t = Transpose<perm=[0, 2, 1, 3]>(a)
        f = Reshape(t, flat)
        y = MatMul(f, w4)
    }}""",
    opset=23,
    ir=11,
)
draw(
    "rotary_interleaved",
    f"""{_INPUT}
    <float[10,16] w1, float[10,16] w2, float[10,16] w3, float[8,2] cosines, float[8,2] sines, float[16,6] w4,
     int64[4] by_head = {{0, 5, 4, 4}}, int64[3] flat = {{0, 5, 16}}, int64[1,5] places = {{0, 1, 2, 3, 4}}>
    {{
        {_PROJECTED}
        s = Shape<start=0, end=1>(x)
        five = Constant<value_ints=[5]>()
        target = Concat<axis=0>(s, five)
        ids = Expand(places, target)
        q4 = Reshape(q, by_head)
        k4 = Reshape(k, by_head)
        v4 = Reshape(v, by_head)
        qh = Transpose<perm=[0, 2, 1, 3]>(q4)
        kh = Transpose<perm=[0, 2, 1, 3]>(k4)
        vh = Transpose<perm=[0, 2, 1, 3]>(v4)
        qr = RotaryEmbedding<interleaved=1>(qh, cosines, sines, ids)
        kr = RotaryEmbedding<interleaved=1>(kh, cosines, sines, ids)
        a = Attention<scale=0.4>(qr, kr, vh)
        t = Transpose<perm=[0, 2, 1, 3]>(a)
        f = Reshape(t, flat)
        y = MatMul(f, w4)
    }}""",
    opset=23,
    ir=11,
)
draw(
    "layer_norm_written_out",
    f"""{_INPUT}
    <float[10,16] w1, float[16] slope, float[16] shift, float[16,6] w2, float two = {{2.0}},
     float tiny = {{0.00001}}>
    {{
        h = MatMul(x, w1)
        m = ReduceMean<axes=[-1]>(h)
        d = Sub(h, m)
        s = Pow(d, two)
        v = ReduceMean<axes=[-1]>(s)
        e = Add(v, tiny)
        r = Sqrt(e)
        n = Div(d, r)
        g = Mul(n, slope)
        b = Add(g, shift)
        y = MatMul(b, w2)
    }}""",
    opset=14,
)
draw(
    "layer_norm_on_channels_first",
    """(float[N,4,6,6] x) => (float[N,6,6,6] y)
    <float[12,4,3,3] w1, float[12] v1, float[12,1,1] slope, float[12,1,1] shift, float[6,12,1,1] w2,
     int64[1] axes = {1}, float tiny = {0.00001}>
    {
        h = Conv<pads=[1, 1, 1, 1]>(x, w1, v1)
        m = ReduceMean(h, axes)
        d = Sub(h, m)
        s = Mul(d, d)
        v = ReduceMean(s, axes)
        e = Add(v, tiny)
        r = Sqrt(e)
        n = Div(d, r)
        g = Mul(n, slope)
        b = Add(g, shift)
        y = Conv(b, w2)
    }""",
    opset=18,
)
draw(
    "unit_vectors",
    f"""{_INPUT}
    <float[10,16] w1, float[16,6] w2, int64[1] axes = {{-1}}, float tiny = {{0.00001}}>
    {{
        h = MatMul(x, w1)
        l = ReduceL2(h, axes)
        s = Max(l, tiny)
        n = Div(h, s)
        y = MatMul(n, w2)
    }}""",
    opset=18,
)
draw(
    "group_norm_per_channel",
    """(float[N,4,6,6] x) => (float[N,6,6,6] y)
    <float[12,4,3,3] w1, float[12] v1, float[12] slope, float[12] shift, float[6,12,1,1] w2>
    {
        h = Conv<pads=[1, 1, 1, 1]>(x, w1, v1)
        n = GroupNormalization<num_groups=4>(h, slope, shift)
        r = Relu(n)
        y = Conv(r, w2)
    }""",
    opset=21,
    ir=10,
)
draw(
    "tokens_beside",
    f"""{_INPUT}
    <float[10,16] w1, float[1,1,16] token, float[1,2,16] others, float[1,8,16] places, float[16] slope,
     float[16,6] w2, int64[1] starts = {{3}}, int64[1] ends = {{8}}, int64[1] axes = {{1}}>
    {{
        h = MatMul(x, w1)
        s = Shape<start=0, end=1>(x)
        rest = Constant<value_ints=[1, 1]>()
        target = Concat<axis=0>(s, rest)
        both = Concat<axis=1>(token, others)
        wide = Expand(both, target)
        c = Concat<axis=1>(wide, h)
        p = Add(c, places)
        n = LayerNormalization<axis=-1>(p, slope)
        t = Slice(n, starts, ends, axes)
        y = MatMul(t, w2)
    }}""",
)
draw(
    "tied_table",
    """(int64[N,5] x) => (float[N,5,9] y)
    <float[9,16] table, float[16] slope, float[16,12] w1, float[12,16] w2>
    {
        e = Gather<axis=0>(table, x)
        u = MatMul(e, w1)
        r = Relu(u)
        d = MatMul(r, w2)
        s = Add(e, d)
        n = LayerNormalization<axis=-1>(s, slope)
        t = Transpose<perm=[1, 0]>(table)
        y = MatMul(n, t)
    }""",
)
draw(
    "channel_steps",
    """(float[N,4,6,6] x) => (float[N,6,6,6] y)
    <float[12,4,3,3] w1, float[6,12,1,1] w2, int64[1] zero = {0}, int64[1] one = {1}, int64[1] end = {12},
     int64[1] axes = {1}, int64[1] two = {2}>
    {
        h = Conv<pads=[1, 1, 1, 1]>(x, w1)
        a = Slice(h, zero, end, axes, two)
        b = Slice(h, one, end, axes, two)
        c = Concat<axis=1>(b, a)
        y = Conv(c, w2)
    }""",
)
draw(
    "shuffle_chain",
    """(float[N,4,6,6] x) => (float[N,6,6,6] y)
    <float[24,4,3,3] w1, float[12,12,1,1] w2, float[12,12,1,1] w3, float[6,24,1,1] w4,
     int64[5] parts = {0, 2, 12, 6, 6}, int64[4] whole = {0, 24, 6, 6}>
    {
        h = Conv<pads=[1, 1, 1, 1]>(x, w1)
        a, b = Split<axis=1>(h)
        c = Conv(b, w2)
        d = Concat<axis=1>(a, c)
        e = Reshape(d, parts)
        f = Transpose<perm=[0, 2, 1, 3, 4]>(e)
        g = Reshape(f, whole)
        i, j = Split<axis=1>(g)
        k = Conv(j, w3)
        l = Concat<axis=1>(i, k)
        m = Reshape(l, parts)
        n = Transpose<perm=[0, 2, 1, 3, 4]>(m)
        o = Reshape(n, whole)
        y = Conv(o, w4)
    }""",
    opset=14,
)
draw(
    "einsum_layers",
    f"""{_INPUT}
    <float[10,3,4] w1, float[3,4] b1, float[3,6,4] w2, float[2,6] w3, float[6,2] w4>
    {{
        h = Einsum<equation="nld,dhk->nlhk">(x, w1)
        b = Add(h, b1)
        r = Relu(b)
        i = Einsum<equation="nlhk,hek->nle">(r, w2)
        s = Relu(i)
        j = Einsum<equation="od,nld->nlo">(w3, s)
        t = Relu(j)
        y = Einsum<equation="nlo,eo->nle">(t, w4)
    }}""",
)
draw(
    "einsum_attention",
    f"""{_INPUT}
    <float[10,4,3] w1, float[10,4,3] w2, float[10,4,3] w3, float[4,3] b1, float[4,3] b2, float[4,3,6] w4>
    {{
        q = Einsum<equation="nld,dhk->nlhk">(x, w1)
        k = Einsum<equation="nld,dhk->nlhk">(x, w2)
        v = Einsum<equation="nld,dhk->nhlk">(x, w3)
        qb = Add(q, b1)
        kb = Add(k, b2)
        s = Einsum<equation="bqhd,bkhd->bhqk">(qb, kb)
        w = Softmax<axis=-1>(s)
        a = Einsum<equation="bhqk,bhkd->bqhd">(w, v)
        y = Einsum<equation="nlhk,hke->nle">(a, w4)
    }}""",
)
