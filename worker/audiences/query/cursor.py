"""Moving over the tokens of one text, and refusing what stands there."""

from typing import Never

from worker.audiences.query.errors import QueryError
from worker.audiences.query.functions import Function
from worker.audiences.query.limits import MAX_NESTING
from worker.audiences.query.source import Span, position
from worker.audiences.query.tokens import END_OF_QUERY, Token, TokenKind, shortened, token_at

_CLOSERS = {"(": ")", "{": "}", "[": "]"}
_NAMES = {"(": "parenthesis", "{": "brace", "[": "bracket"}


def written(function: Function) -> str:
    """How a function is used, as a suggestion."""
    return f"It is written like this: {function.usage}"


class Cursor:
    """A place in a text. `token` is the first token that is not used up yet."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._before: Token | None = None
        self._open: list[Token] = []
        self._nesting = 0
        self.token = token_at(text, 0)

    def advance(self) -> Token:
        """Use up a token, and return it."""
        used = self._before = self.token
        self.token = token_at(self.text, used.end)
        return used

    def span_from(self, start: int) -> Span:
        """From there to the end of what was used up last."""
        return Span(start, self._before.end if self._before else start)

    # Brackets and bounds.

    def opening(self, symbol: str, function: Function | None = None) -> None:
        """Use up an opening bracket."""
        if not self.token.is_symbol(symbol):
            self.unexpected((symbol,), function)
        self._open.append(self.advance())

    def closing(self, expected: tuple[str, ...] = (), function: Function | None = None) -> None:
        """Use up what closes the last bracket opened; `expected`: what else might stand here."""
        opened = self._open[-1]
        closer = _CLOSERS[opened.raw]
        if self.token.kind is TokenKind.END:
            at = position(self.text, opened.start)
            self.fail(
                f"The {_NAMES[opened.raw]} opened at line {at.line}, column {at.column} is never "
                "closed.",
                (closer, *expected),
                f"Add `{closer}`.",
            )
        if not self.token.is_symbol(closer):
            self.unexpected((closer, *expected), function)
        self._open.pop()
        self.advance()

    def what_ends(self) -> str:
        """What closes the bracket that is open, or the end."""
        return _CLOSERS[self._open[-1].raw] if self._open else END_OF_QUERY

    def after_condition(self) -> tuple[str, ...]:
        """What may follow a complete condition."""
        return ("AND", "OR", self.what_ends())

    def end(self, expected: tuple[str, ...]) -> None:
        """Insist on the end of the text."""
        if self.token.is_symbol(")", "}", "]"):
            self.fail(
                f"This `{self.token.raw}` closes nothing.",
                (*expected, END_OF_QUERY),
                "Remove it, or add its opening partner before.",
            )
        if self.token.kind is not TokenKind.END:
            self.unexpected((*expected, END_OF_QUERY))

    def deeper(self, levels: int = 1) -> None:
        """Note more levels of nesting; `shallower` takes them back."""
        self._nesting += levels
        if self._nesting > MAX_NESTING:
            self.fail(
                f"The query is nested more than {MAX_NESTING} levels deep.",
                (),
                "Remove parentheses that change nothing, or make part of it an audience of its "
                "own.",
            )

    def shallower(self, levels: int = 1) -> None:
        """Leave levels of nesting."""
        self._nesting -= levels

    # Refusals.

    def found(self) -> str:
        """The token as an error speaks of it."""
        return self.token.raw if self.token.kind is TokenKind.END else f"`{self.quoted_token()}`"

    def quoted_token(self) -> str:
        """The token's text, cut if it is long."""
        return shortened(self.token.raw)

    def fail(
        self,
        message: str,
        expected: tuple[str, ...] = (),
        suggestion: str | None = None,
        at: Token | Span | None = None,
    ) -> Never:
        """Refuse the query at a token (default: the one that stands here).

        What is no token at all has its own message; what would be legal is known here.
        """
        if at is None and self.token.problem is not None:
            raise self.token.problem.expecting(expected)
        if isinstance(at, Span):
            start, end = at
            found = shortened(self.text[start:end])
        else:
            token = at or self.token
            start, end, found = token.start, token.end, shortened(token.raw)
        raise QueryError(self.text, start, end - start, found, expected, message, suggestion)

    def unexpected(
        self,
        expected: tuple[str, ...],
        function: Function | None = None,
        suggestion: str | None = None,
    ) -> Never:
        """Refuse what stands here for want of something else."""
        shown = [f"`{one}`" if one.isascii() and " " not in one else one for one in expected]
        listed = shown[-1] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
        if suggestion is None:
            suggestion = self._quote_hint() or (written(function) if function else None)
        self.fail(f"Here should stand {listed}, not {self.found()}.", expected, suggestion)

    def _quote_hint(self) -> str | None:
        """A string that ends in the middle of a word ended too early, or began too late."""
        before, here = self._before, self.token
        if before is None or before.kind is not TokenKind.STRING:
            return None
        touching = before.end == here.start and here.kind in (TokenKind.NAME, TokenKind.NUMBER)
        if touching or here.kind is TokenKind.STRING or "\n" in before.raw:
            at = position(self.text, before.start)
            return (
                f"The string at line {at.line}, column {at.column} may lack its closing quote; "
                "a quote inside a string is written \\'."
            )
        return None
