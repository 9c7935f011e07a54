"""Fourier transforms and windows against numpy and ONNX Runtime."""

import numpy as np
import pytest

from tests.engine.formats.conformance.suite import by_torch
from tests.engine.formats.operators.nodes import agree, node_model, shaped

_rng = np.random.default_rng(8)


def _ours(name, inputs, shape, attributes, opset=20):
    model = node_model(name, inputs, (1,), attributes, opset)
    return by_torch(shaped(model, [np.empty(shape, np.float32)]))([x for x in inputs if x is not None])[0]


def _parts(values):
    return np.stack([values.real, values.imag], axis=-1)


@pytest.mark.parametrize("length", [None, 4, 11])
@pytest.mark.parametrize("axis", [1, -2])
def test_transforms_of_real_signals(axis, length):
    x = _rng.standard_normal((2, 6, 7, 1)).astype(np.float32)
    inputs = [x, None if length is None else np.array(length), np.array(axis)]
    for onesided, transform in ((0, np.fft.fft), (1, np.fft.rfft)):
        wanted = _parts(transform(x[..., 0], length, axis % 4))
        found = _ours("DFT", inputs, wanted.shape, {"onesided": onesided})
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_there_and_back():
    x = _rng.standard_normal((2, 6, 2)).astype(np.float32)
    there = _ours("DFT", [x, None, np.array(1)], x.shape, {})
    np.testing.assert_allclose(there, _parts(np.fft.fft(x[..., 0] + 1j * x[..., 1], axis=1)), atol=1e-5)
    back = _ours("DFT", [there, None, np.array(1)], x.shape, {"inverse": 1})
    np.testing.assert_allclose(back, x, atol=1e-5)


def test_halves_of_spectra_give_real_signals_back():
    x = _rng.standard_normal((2, 6, 1)).astype(np.float32)
    half = _ours("DFT", [x, None, np.array(1)], (2, 4, 2), {"onesided": 1})
    back = _ours("DFT", [half, np.array(6), np.array(1)], x.shape, {"onesided": 1, "inverse": 1})
    np.testing.assert_allclose(back, x, atol=1e-5)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("windowed", [False, True])
def test_short_time(onesided, windowed):
    x = _rng.standard_normal((2, 20, 1)).astype(np.float32)
    window = np.hanning(8).astype(np.float32) if windowed else None
    inputs = [x, np.array(3), window, np.array(8)]
    frames = np.stack([x[:, start : start + 8, 0] for start in range(0, 13, 3)], axis=1)
    spectra = np.fft.fft(frames * (1 if window is None else window))
    wanted = _parts(spectra[..., :5] if onesided else spectra)
    found = _ours("STFT", inputs, wanted.shape, {"onesided": onesided})
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("size", [5, 10])
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows(name, size, periodic):
    agree(name, [np.array(size)], attributes={"periodic": periodic}, opset=17)


@pytest.mark.parametrize(("bins", "low", "high"), [(8, 0.0, 8192 / 2), (20, 60.0, 3000.0), (40, 0.0, 4000.0)])
def test_mel_weights(bins, low, high):
    numbers = [np.array(bins), np.array(64), np.array(8192)]
    edges = [np.array(low, np.float32), np.array(high, np.float32)]
    agree("MelWeightMatrix", [*numbers, *edges], opset=17)
