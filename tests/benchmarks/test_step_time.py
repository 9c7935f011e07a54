"""What is timed side by side trains the same network."""

import pytest

from benchmarks import step_time


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("name", step_time.NETWORKS)
def test_both_take_the_same_steps(name: str, exporter: step_time.Exporter) -> None:
    contenders = step_time.pair(name, exporter, "cpu", reduced=True)
    inputs, labels = step_time.batch(name, 4, "cpu", reduced=True)
    for _ in range(3):
        losses = {key: one.step(inputs, labels) for key, one in contenders.items()}
        assert losses["onnx"] == pytest.approx(losses["native"], rel=1e-3)


def test_rounds_take_turns_and_cold_ones_are_thrown_away() -> None:
    order: list[str] = []
    contenders = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = step_time.timed(contenders, rounds=2, device="cpu")
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}
    assert order == ["b", "a", "a", "b", "b", "a", "a", "b"]
