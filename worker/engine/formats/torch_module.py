"""A TorchScript module in memory: loading it, calling it without leaving traces, running it for its users."""

import copy
import io
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

import torch

from api_schemas.jobs import InputSpecs
from worker.engine.errors import InvalidModelError, ModelNotRunnableError
from worker.engine.formats.base import Array, Runner
from worker.engine.formats.memory import raise_if_memory
from worker.engine.formats.torch_signature import arguments_of, call_arguments, flattened

_HALVES = (torch.float16, torch.bfloat16)


def load_module(path: Path, device: str) -> torch.jit.ScriptModule:
    """Load a looked-over archive, in evaluation mode. `InvalidModelError` when torch refuses it."""
    module = load_as_saved(path, device)
    for part in module.modules():
        if isinstance(getattr(part, "training", None), bool):
            part.training = False
    return module


def load_as_saved(
    path: Path, device: str, extra: dict[str, str | bytes] | None = None
) -> torch.jit.ScriptModule:
    """The same in the mode it was saved in; `extra` names files beside the model and gets their content."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates TorchScript as a whole
            module: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location=device, _extra_files=extra
            )
    except Exception as error:  # code of the file runs here and may raise anything
        raise_if_memory(error)
        raise InvalidModelError(f"torch cannot load the TorchScript file: {first_line(error)}") from None
    return module


def saved(module: torch.jit.ScriptModule, extra: Mapping[str, str | bytes], *, mobile: bool) -> bytes:
    """The module as torch saves it, for mobile devices with bytecode; the same bytes for the same module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if mobile:
            return bytes(module._save_to_buffer_for_lite_interpreter(_extra_files=dict(extra)))
        buffer = io.BytesIO()
        torch.jit.save(module, buffer, _extra_files=dict(extra))
    return buffer.getvalue()


def first_line(error: BaseException) -> str:
    """The line of a TorchScript error that says what happened; the rest is a stack of the file's own code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "Error:" in line]
    return (told[-1] if told else lines[0] if lines else type(error).__name__)[:300]


def keeps_state(module: torch.jit.ScriptModule) -> bool:
    """True when the code says that a call of forward changes the module."""
    try:
        return "prim::SetAttr" in str(module.inlined_graph)
    except RuntimeError:
        return True


def _state(module: torch.jit.ScriptModule) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()


class Calls:
    """Calls a module so that every call sees it as it was loaded, copying it only when it changes itself."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        self._module = module
        self._copies: bool | None = True if keeps_state(module) else None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """One call of forward without gradients. Raises whatever the module raises."""
        module = self._module if self._copies is False else copy.deepcopy(self._module)
        before = [tensor._version for tensor in _state(module)] if self._copies is None else []
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            output = module(*arguments, **named)
        if self._copies is None:
            self._copies = before != [tensor._version for tensor in _state(module)]
        return output


@final
class TorchscriptRunner(Runner):
    """Runs forward in evaluation mode, always from the state that the file holds; `wide` makes float32 of
    parameters and buffers of half precision."""

    runtime = "torch"

    def __init__(
        self, path: Path, inputs: InputSpecs, device: str, threads: int, *, wide: bool = False
    ) -> None:
        usable = device.startswith("cuda") and torch.cuda.is_available()
        self.device, self.threads = (device if usable else "cpu"), threads
        module = load_module(path, self.device)
        #: Whether tensors of half precision were found, and are float32 now.
        self.widened = wide and any(tensor.dtype in _HALVES for tensor in _state(module))
        if self.widened:
            module = module.float()
        self._arguments = arguments_of(module, inputs)
        self._calls = Calls(module)
        self.input_names = tuple(argument.name for argument in self._arguments if argument.fed)
        self.output_names = ()

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """All tensors and numbers that forward gives, in order; `output_names` is known after a run."""
        named = call_arguments(self._arguments, feeds, torch.device(self.device))
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            outputs = flattened(self._calls(**named))
        except Exception as error:  # code of the file runs here and may raise anything
            raise_if_memory(error)
            raise ModelNotRunnableError(f"torch fails on the model: {first_line(error)}") from None
        finally:
            torch.set_num_threads(before)
        self.output_names = output_names(len(outputs))
        return outputs


def output_names(count: int) -> tuple[str, ...]:
    """TorchScript does not name outputs, so we count them."""
    return ("output",) if count == 1 else tuple(f"output_{index}" for index in range(count))
