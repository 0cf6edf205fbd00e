"""The end of a command that gives no answer: for people a sentence, for programs a document."""

from typing import Any


class Refused(Exception):
    """Raised anywhere in a command, said once, by `console.cli`, in the same form for all.

    The message is for people; the code and `details` are for programs, and so is `reason`, which
    is the message unless something shorter is given. `exit_code` is 1 for bad news, 2 for wrong
    use, 130 for Ctrl-C.
    """

    def __init__(
        self,
        exit_code: int,
        code: str,
        message: str,
        reason: str | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.code = code
        self._error = {"reason": message if reason is None else reason, **details}
        self._so_far: dict[str, Any] = {}

    def after(self, so_far: dict[str, Any]) -> "Refused":
        """The same, of a command that has done something: that stands beside the error."""
        self._so_far = so_far
        return self

    def as_json(self) -> dict[str, Any]:
        """What is printed with `--json` instead of the answer."""
        return {**self._so_far, "error": {"code": self.code, **self._error}}
