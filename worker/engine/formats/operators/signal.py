"""Fourier transforms, windows and the mel scale."""

import math

import torch
from torch import Tensor

from worker.engine.formats.operators.call import Call, Value
from worker.engine.formats.operators.registry import operator


def _complex(parts: Tensor) -> Tensor:
    """The last axis is a real part alone, or a real and an imaginary part."""
    return parts.squeeze(-1) if parts.shape[-1] == 1 else torch.view_as_complex(parts.contiguous())


@operator("DFT", since=17, sizes=True)
def dft_17(call: Call, x: Value, length: Value = None) -> Tensor:
    """The discrete Fourier transform while its axis was an attribute."""
    return _dft(call, call.tensor_of(x), length, call.int("axis", 1))


@operator("DFT", since=20, sizes=True)
def dft(call: Call, x: Value, length: Value = None, axis: Value = None) -> Tensor:
    """The discrete Fourier transform along an axis."""
    return _dft(call, call.tensor_of(x), length, -2 if axis is None else call.int_of(axis))


def _dft(call: Call, x: Tensor, length: Value, axis: int) -> Tensor:
    signal, place = _complex(x), axis % x.dim()
    size = None if length is None else call.int_of(length)
    onesided, inverse = call.int("onesided", 0), call.int("inverse", 0)
    if inverse and onesided:
        real: Tensor = torch.fft.irfft(signal, size, place)
        return real.unsqueeze(-1)
    if inverse:
        return torch.view_as_real(torch.fft.ifft(signal, size, place))
    return torch.view_as_real(_transformed(signal, size, place, onesided))


def _transformed(signal: Tensor, size: int | None, axis: int, onesided: int) -> Tensor:
    if onesided and not signal.is_complex():
        half: Tensor = torch.fft.rfft(signal, size, axis)
        return half
    found: Tensor = torch.fft.fft(signal, size, axis)
    return found.narrow(axis, 0, found.shape[axis] // 2 + 1) if onesided else found


@operator("STFT", since=17, sizes=True)
def stft(call: Call, signal: Value, step: Value, window: Value = None, length: Value = None) -> Tensor:
    """The Fourier transform of overlapping frames, each weighted by the window."""
    samples = _complex(call.tensor_of(signal))
    weights = None if window is None else call.tensor_of(window)
    size = samples.shape[1] if weights is None else weights.shape[0]
    if length is not None:
        size = call.int_of(length)
    frames = samples.unfold(1, size, call.int_of(step))
    if weights is not None:
        frames = frames * weights
    return torch.view_as_real(_transformed(frames, None, 2, call.int("onesided", 1)))


@operator("HannWindow", since=17, sizes=True)
def hann_window(call: Call, size: Value) -> Tensor:
    """`0.5 - 0.5 cos`."""
    return _window(call, size, (0.5, 0.5))


@operator("HammingWindow", since=17, sizes=True)
def hamming_window(call: Call, size: Value) -> Tensor:
    """`25/46 - 21/46 cos`."""
    return _window(call, size, (25 / 46, 21 / 46))


@operator("BlackmanWindow", since=17, sizes=True)
def blackman_window(call: Call, size: Value) -> Tensor:
    """`0.42 - 0.5 cos + 0.08 cos` of the doubled angle."""
    return _window(call, size, (0.42, 0.5, 0.08))


def _window(call: Call, size: Value, terms: tuple[float, ...]) -> Tensor:
    """Cosines of multiples of the angle with alternating signs, over a period or from end to end."""
    length = call.int_of(size)
    period = length if call.int("periodic", 1) else max(length - 1, 1)
    angle = torch.arange(length, dtype=torch.float64, device=call.device) * (2 * math.pi / period)
    out = torch.zeros_like(angle)
    for multiple, share in enumerate(terms):
        out = out + (-1) ** multiple * share * torch.cos(multiple * angle)
    return out.to(call.dtype(call.int("output_datatype", 1)))


@operator("MelWeightMatrix", since=17)
def mel_weight_matrix(
    call: Call, bins: Tensor, length: Tensor, rate: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """Triangles that gather the bins of a spectrum into bins of equal width on the mel scale."""
    rows = call.int_of(length) // 2 + 1
    edges = _edges(
        call.int_of(bins), call.int_of(length), call.int_of(rate), low.detach().item(), high.detach().item()
    )
    places = torch.arange(rows, dtype=torch.float64).unsqueeze(1)
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    rising = torch.where(middle > left, (places - left) / (middle - left).clamp(min=1), places == middle)
    falling = (right - places) / (right - middle).clamp(min=1)
    weights = torch.where(places <= middle, rising, falling).clamp(min=0)
    inside = (places >= left) & ((places < right) | (places == middle))
    found = torch.where(inside, weights, torch.zeros_like(weights))
    return found.to(call.device, call.dtype(call.int("output_datatype", 1)))


def _edges(bins: int, length: int, rate: int, low: float, high: float) -> Tensor:
    """Bins of the spectrum where the triangles begin, peak and end."""
    bottom, top = (2595 * math.log10(1 + hertz / 700) for hertz in (low, high))
    steps = torch.arange(bins + 2, dtype=torch.float64) * ((top - bottom) / (bins + 2)) + bottom
    hertz = 700 * (torch.pow(10.0, steps / 2595) - 1)
    return ((length + 1) * hertz / rate).floor()
