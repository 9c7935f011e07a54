"""Refusals of the service; each becomes a problem document (RFC 9457).

ServiceError                    base: a code, a status, a detail
├── BadRequestError             400 invalid_recipe: the body cannot be read at all
├── InvalidRequestError         422 invalid_recipe: it can be read and does not fit
├── InvalidModelError           422 invalid_model
├── NeedsDatasetError           422 needs_dataset
├── NeedsInputsError            422 needs_inputs
├── NeedsLabelsError            422 needs_labels
├── InvalidDatasetError         422 invalid_dataset
├── PickledDataError            422 pickled_data
├── WrongDtypeError             422 wrong_dtype
├── TooFewRowsError             422 too_few_rows
├── LabelsOutOfRangeError       422 labels_out_of_range
├── UnsupportedFormatError      415 unsupported_format
├── MissingError                404 not_found
├── StateError                  409 conflict: not now, or not any more
├── UnauthorizedError           401 unauthorized
├── CrossSiteError              403 unauthorized: a browser came from another site
├── TooLargeError               413 payload_too_large
├── StorageFullError            507 payload_too_large
├── SlowUploadError             408 time_limit
├── RangeError                  416 invalid_recipe
├── NoAnswerError               503 time_limit: no worker answered in time
├── CatalogueError              503 internal: the method catalogue is missing or damaged
└── RejectedModelError          422 with the code with which the inspection failed
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

from api_schemas.errors import ErrorCode, FieldError, JobError, http_status


class ServiceError(Exception):
    """A refusal with everything its problem document needs."""

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL
    status: ClassVar[int | None] = None

    def __init__(
        self,
        detail: str,
        *,
        hint: str | None = None,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.errors = list(errors)
        self.headers = dict(headers or {})

    @property
    def problem_code(self) -> ErrorCode:
        """The stable code of the problem document."""
        return self.code

    @property
    def http_status(self) -> int:
        """The HTTP status of the answer."""
        return self.status or http_status(self.problem_code)


@final
class BadRequestError(ServiceError):
    """The body or a header cannot be parsed."""

    code = ErrorCode.INVALID_RECIPE
    status = 400


@final
class InvalidRequestError(ServiceError):
    """The request does not fit its schema, the method or the model."""

    code = ErrorCode.INVALID_RECIPE

    @classmethod
    def at(cls, pointer: str, message: str, *, hint: str | None = None) -> "InvalidRequestError":
        """A refusal of one field."""
        return cls(message, hint=hint, errors=[FieldError(pointer=pointer, message=message)])


@final
class InvalidModelError(ServiceError):
    """The file holds nothing to prune."""

    code = ErrorCode.INVALID_MODEL


@final
class NeedsDatasetError(ServiceError):
    """The method looks at data and none that fits was given."""

    code = ErrorCode.NEEDS_DATASET


@final
class NeedsInputsError(ServiceError):
    """The file does not say its input shapes."""

    code = ErrorCode.NEEDS_INPUTS


@final
class NeedsLabelsError(ServiceError):
    """The method needs `targets`."""

    code = ErrorCode.NEEDS_LABELS


@final
class InvalidDatasetError(ServiceError):
    """The dataset cannot be used, whatever the model."""

    code = ErrorCode.INVALID_DATASET


@final
class PickledDataError(ServiceError):
    """The dataset holds Python objects."""

    code = ErrorCode.PICKLED_DATA


@final
class WrongDtypeError(ServiceError):
    """An array holds another kind of numbers than the model's input takes."""

    code = ErrorCode.WRONG_DTYPE


@final
class TooFewRowsError(ServiceError):
    """The dataset has too few rows for what is asked."""

    code = ErrorCode.TOO_FEW_ROWS


@final
class LabelsOutOfRangeError(ServiceError):
    """The dataset has classes that the model does not have."""

    code = ErrorCode.LABELS_OUT_OF_RANGE


@final
class UnsupportedFormatError(ServiceError):
    """The file is of no kind that we read."""

    code = ErrorCode.UNSUPPORTED_FORMAT


@final
class MissingError(ServiceError):
    """There is nothing here under that address."""

    code = ErrorCode.NOT_FOUND


@final
class StateError(ServiceError):
    """The thing is not, or no longer, in a state that allows this."""

    code = ErrorCode.CONFLICT


@final
class UnauthorizedError(ServiceError):
    """No valid API key came with the request."""

    code = ErrorCode.UNAUTHORIZED


@final
class CrossSiteError(ServiceError):
    """A browser sent this on behalf of another site."""

    code = ErrorCode.UNAUTHORIZED
    status = 403


@final
class TooLargeError(ServiceError):
    """The upload is over the limit."""

    code = ErrorCode.PAYLOAD_TOO_LARGE


@final
class StorageFullError(ServiceError):
    """The disk has no room for the upload."""

    code = ErrorCode.PAYLOAD_TOO_LARGE
    status = 507


@final
class SlowUploadError(ServiceError):
    """The upload stalled."""

    code = ErrorCode.TIME_LIMIT
    status = 408


@final
class RangeError(ServiceError):
    """The range asked for lies outside the file."""

    code = ErrorCode.INVALID_RECIPE
    status = 416


@final
class NoAnswerError(ServiceError):
    """No worker answered in time."""

    code = ErrorCode.TIME_LIMIT
    status = 503


@final
class CatalogueError(ServiceError):
    """The method catalogue is missing or damaged."""

    code = ErrorCode.INTERNAL
    status = 503


@final
class RejectedModelError(ServiceError):
    """Inspection found that the model cannot be used; its code is the inspection's."""

    status = 422

    def __init__(self, error: JobError) -> None:
        super().__init__(error.message, hint=error.hint)
        self._code = error.code

    @property
    def problem_code(self) -> ErrorCode:
        """The code with which the inspection failed."""
        return self._code

    @property
    def http_status(self) -> int:
        """The code's own status where that is a client error, else 422."""
        own = http_status(self._code)
        return own if own < 500 else 422
