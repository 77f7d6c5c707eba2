"""Errors of the Responses API: OpenAI's, but that a stream tells of them in its own events."""

from collections.abc import Iterable

from app.dialects.dialect import ErrorAnswer
from app.dialects.openai.errors import OpenAI
from medusa.errors import InvalidRequestError


class UnknownResponseError(Exception):
    """No response that is kept has the id that a client asked for."""


class UnknownPreviousError(InvalidRequestError):
    """What a request is to go on with is not kept."""


class Responses(OpenAI):
    """OpenAI's wire format for responses."""

    def error(self, error: Exception) -> ErrorAnswer:
        """See Dialect."""
        match error:
            case UnknownResponseError():
                answer = super().error(InvalidRequestError(str(error)))
                return ErrorAnswer(404, answer.body)
            case UnknownPreviousError():
                answer = super().error(error)
                code = {"code": "previous_response_not_found"}
                return ErrorAnswer(answer.status, {"error": answer.body["error"] | code})
        return super().error(error)

    def error_frames(self, error: Exception) -> Iterable[bytes]:
        """None: the events that end a stream belong to its response, see ResponseJob."""
        return ()


RESPONSES = Responses()
