"""What is timed side by side computes the same thing."""

from pathlib import Path

from benchmarks import mask_speed


def test_engine_and_naive_form_choose_the_same_weights(tmp_path: Path) -> None:
    layers = mask_speed.vgg19(scale=0.05)
    run = mask_speed.engine(mask_speed.write(layers, tmp_path / "vgg.onnx"), tmp_path, 0.9, threads=1)
    plan = run()
    assert len(plan.layers) == len(layers) == 17
    assert mask_speed.agreement(layers, plan, 0.9) > 0.9999
    assert mask_speed.agreement(layers, plan, 0.5) < 0.9


def test_the_full_network_has_twenty_million_weights() -> None:
    widths = [width for width in mask_speed._LAYOUT if width is not None]
    count = sum(9 * a * b for a, b in zip([3, *widths], widths, strict=False)) + 10 * widths[-1]
    assert count == 20_024_000


def test_medians_come_from_interleaved_rounds_without_the_first() -> None:
    order: list[str] = []
    contenders = {name: lambda name=name: order.append(name) for name in "ab"}
    assert mask_speed.timed(contenders, rounds=2).keys() == {"a", "b"}
    assert order == ["a", "b"] * 3
