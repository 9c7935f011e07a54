"""Errors of the engine. Each has a stable code of the contract; the docstring is the default message.

EngineError
├── UnsupportedFormatError   unsupported_format
├── InvalidModelError        invalid_model
│   ├── NothingPrunableError     no weight that any method here may touch
│   └── ModelNotRunnableError    the runtime refuses the file as it was uploaded
├── InvalidRecipeError       invalid_recipe
├── NeedsDatasetError        needs_dataset: none was given, or it has nothing for an input
│   ├── InvalidDatasetError      invalid_dataset: the file cannot be used, whatever the model
│   ├── PickledDataError         pickled_data
│   ├── WrongDtypeError          wrong_dtype
│   ├── NotFiniteError           not_finite
│   └── TooFewRowsError          too_few_rows
├── NeedsInputsError         needs_inputs
├── NeedsLabelsError         needs_labels
│   └── LabelsOutOfRangeError    labels_out_of_range
├── TooLargeError            payload_too_large
├── PeerLostError            worker_lost: of several processes of a job one is gone
├── OutOfStepError           internal: they do not do the same
└── BrokenPromiseError       internal: our own output failed its verification
"""

from typing import ClassVar

from api_schemas.errors import ErrorCode, JobError


class EngineError(Exception):
    """The engine could not do what was asked."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.hint = hint

    def as_job_error(self) -> JobError:
        """The form in which the error travels to the user."""
        return JobError(code=self.code, message=str(self), hint=self.hint)


class UnsupportedFormatError(EngineError):
    """The file is of no kind that we read."""

    code = ErrorCode.UNSUPPORTED_FORMAT


class InvalidModelError(EngineError):
    """The file cannot be used as a model."""

    code = ErrorCode.INVALID_MODEL


class NothingPrunableError(InvalidModelError):
    """The model holds no weight that can be pruned."""


class ModelNotRunnableError(InvalidModelError):
    """The runtime refuses the model as it was uploaded."""


class InvalidRecipeError(EngineError):
    """The recipe does not fit the model or itself."""

    code = ErrorCode.INVALID_RECIPE


class NeedsDatasetError(EngineError):
    """The recipe looks at data, and none that fits was given."""

    code = ErrorCode.NEEDS_DATASET


class InvalidDatasetError(NeedsDatasetError):
    """The dataset is damaged, or holds what cannot be read."""

    code = ErrorCode.INVALID_DATASET


class PickledDataError(NeedsDatasetError):
    """The dataset holds Python objects, which are never unpickled."""

    code = ErrorCode.PICKLED_DATA


class WrongDtypeError(NeedsDatasetError):
    """An array holds another kind of numbers than the model takes."""

    code = ErrorCode.WRONG_DTYPE


class NotFiniteError(NeedsDatasetError):
    """The dataset holds NaN, infinity, or numbers too large for the model's input."""

    code = ErrorCode.NOT_FINITE


class TooFewRowsError(NeedsDatasetError):
    """The dataset has too few rows for what is asked."""

    code = ErrorCode.TOO_FEW_ROWS


class NeedsInputsError(EngineError):
    """The file does not say its input shapes; give them as `inputs`."""

    code = ErrorCode.NEEDS_INPUTS


class NeedsLabelsError(EngineError):
    """The recipe needs a dataset with `targets`."""

    code = ErrorCode.NEEDS_LABELS


class LabelsOutOfRangeError(NeedsLabelsError):
    """Some labels name classes that the model does not have."""

    code = ErrorCode.LABELS_OUT_OF_RANGE


class TooLargeError(EngineError):
    """The model is larger than a worker takes."""

    code = ErrorCode.PAYLOAD_TOO_LARGE


class PeerLostError(EngineError):
    """Another process of the job is gone."""

    code = ErrorCode.WORKER_LOST


class OutOfStepError(EngineError):
    """The processes of the job do not do the same."""


class BrokenPromiseError(EngineError):
    """The pruned file failed its own verification, so it is not handed out."""
