"""Geometry of sliding windows, shared by convolution and pooling: kernel, strides, dilations, padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from worker.engine.formats.operators.call import Call


@final
@dataclass(frozen=True)
class Window:
    """A sliding window over the spatial axes, in ONNX's attributes with their defaults filled in."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def symmetric(self) -> bool:
        """Whether padding is the same at both ends, as torch's own operators take it."""
        return self.begins == self.ends

    @property
    def extents(self) -> tuple[int, ...]:
        """Sizes of the dilated kernel."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def padding(self) -> list[int]:
        """What `torch.nn.functional.pad` takes: last axis first."""
        return [
            size for pair in zip(reversed(self.begins), reversed(self.ends), strict=True) for size in pair
        ]

    def overhang(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """How far the last windows reach over the padded input, each axis, when their number is rounded up.

        A window that would start in the padding at the end is left out, as torch and ONNX agree.
        """
        over = []
        for size, extent, stride, begin, end in zip(
            sizes, self.extents, self.strides, self.begins, self.ends, strict=True
        ):
            padded = size + begin + end
            last = -(-(padded - extent) // stride) * stride
            if last >= size + begin:
                last -= stride
            over.append(max(0, last + extent - padded))
        return tuple(over)


def window(call: Call, sizes: Sequence[int], kernel: Sequence[int], *, crop: bool = False) -> Window:
    """The window of a call over an input of these spatial sizes.

    Where strides are longer than the window, "same" padding is negative: with `crop` it stays so, as ONNX
    Runtime has it in pooling and not in convolution.
    """
    rank = len(kernel)
    strides = call.ints("strides") or (1,) * rank
    dilations = call.ints("dilations") or (1,) * rank
    pads = call.ints("pads") or (0,) * (2 * rank)
    begins, ends = pads[:rank], pads[rank:]
    automatic = call.string("auto_pad", "NOTSET")
    if automatic == "VALID":
        begins = ends = (0,) * rank
    elif automatic in ("SAME_UPPER", "SAME_LOWER"):
        totals = tuple(
            max(-stride if crop else 0, (-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size)
            for size, stride, k, dilation in zip(sizes, strides, kernel, dilations, strict=True)
        )
        begins, ends = split_padding(totals, upper=automatic == "SAME_UPPER")
    return Window(tuple(kernel), strides, dilations, begins, ends)


def split_padding(totals: tuple[int, ...], *, upper: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and after; the odd one goes to the end with `upper`."""
    before = tuple(int((total if upper else total + 1) / 2) for total in totals)
    return before, tuple(total - first for total, first in zip(totals, before, strict=True))
