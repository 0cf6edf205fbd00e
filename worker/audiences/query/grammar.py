"""From tokens to the typed tree, by recursive descent. Types are checked on the way.

```
condition   = conjunction ("OR" conjunction)*
conjunction = operand ("AND" operand)*
operand     = ("NOT" | "ANY" | "ALL")* ( "(" condition ")" | comparison )
comparison  = chain [symbol scalar]           which must end as a condition
chain       = extractor ("." call)*           each call legal after what stands before it
scalar      = string | number | date | chain
```
Prefix operators stack and cover one comparison. Every refusal says what would be legal there.
Recursion is bounded by `limits`: three frames for a parenthesis, about ten for a `where`.
"""

from dataclasses import dataclass, replace
from typing import Never

from worker.audiences.query import wording
from worker.audiences.query.arguments import CONSTANTS, Arguments
from worker.audiences.query.cursor import written
from worker.audiences.query.functions import (
    COMPARATORS,
    EXTRACTORS,
    FUNCTIONS,
    SYMBOLS,
    Function,
    Role,
    Shape,
    legal_after,
    likely,
)
from worker.audiences.query.limits import MAX_COMPARISONS, MAX_FILTERS, WHERE_LEVELS
from worker.audiences.query.tokens import Token, TokenKind, shortened
from worker.audiences.query.tree import (
    AllUsers,
    And,
    AnyUser,
    Between,
    Compare,
    CompareOp,
    Comparison,
    Condition,
    Context,
    DateCompare,
    DateOp,
    Entity,
    Event,
    ExpiresAfter,
    Filter,
    Kind,
    Literal,
    Match,
    MatchOp,
    Not,
    Or,
    Presence,
    PresenceOp,
    Property,
    Reduce,
    Reducer,
    RelativeDate,
    RelativeOp,
    Scalar,
    Sources,
    Stream,
    Trait,
    UniqueCount,
    UniqueList,
    Value,
    ValueType,
    Where,
    Within,
)

Link = Stream | UniqueList | Scalar | Comparison
"""What a chain is after each of its calls."""

_SYMBOLS = tuple(SYMBOLS)
_PREFIXES: dict[str, type[Not] | type[AnyUser] | type[AllUsers]] = {
    "NOT": Not,
    "ANY": AnyUser,
    "ALL": AllUsers,
}


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where in the query we are: how many `where` are around, and whether ANY or ALL is."""

    wheres: int = 0
    quantified: bool = False


class Grammar(Arguments):
    """One reading of one text, as an audience or as a trait."""

    def __init__(self, text: str, kind: Kind, is_trait: bool) -> None:
        super().__init__(text)
        self._kind = kind
        self._is_trait = is_trait
        self._comparisons = 0

    def audience(self) -> Condition:
        """The whole text as a condition. Raises QueryError."""
        root = self._condition(_Scope())
        self.end(("AND", "OR"))
        return root

    def trait(self) -> Value:
        """The whole text as a value. Raises QueryError."""
        start = self.token
        if start.is_symbol("(") or start.is_word(*_PREFIXES):
            message = "A computed trait is a value, and this begins a yes-or-no condition."
            self.fail(message, tuple(self._extractors(_Scope())), wording.SOME_VALUE)
        link = self._chain(_Scope())
        if isinstance(link, Comparison):
            self.fail(wording.NO_COMPARISON, (), wording.LEAVE_OUT, at=link.span)
        if isinstance(link, Stream):
            self._not_reduced(link, "a computed trait is one value")
        if self.token.is_symbol(*_SYMBOLS):
            self.fail(wording.NO_COMPARISON, (self.what_ends(),), wording.LEAVE_OUT)
        self.end(())
        return link

    # Junctions.

    def _condition(self, scope: _Scope) -> Condition:
        start = self.token.start
        operands = [self._conjunction(scope)]
        while self.token.is_word("OR"):
            self.advance()
            operands.append(self._conjunction(scope))
        if len(operands) == 1:
            return operands[0]
        return Or(tuple(operands), span=self.span_from(start))

    def _conjunction(self, scope: _Scope) -> Condition:
        start = self.token.start
        operands = [self._operand(scope)]
        while self.token.is_word("AND"):
            self.advance()
            operands.append(self._operand(scope))
        if len(operands) == 1:
            return operands[0]
        return And(tuple(operands), span=self.span_from(start))

    def _operand(self, scope: _Scope) -> Condition:
        prefixes: list[Token] = []
        while self.token.is_word(*_PREFIXES):
            if not self.token.is_word("NOT"):
                self._check_quantifier(scope)
                scope = replace(scope, quantified=True)
            self.deeper()
            prefixes.append(self.advance())
        condition = self._group(scope) if self.token.is_symbol("(") else self._comparison(scope)
        for prefix in reversed(prefixes):
            node = _PREFIXES[prefix.raw.upper()]
            condition = node(condition, span=self.span_from(prefix.start))
        self.shallower(len(prefixes))
        return condition

    def _check_quantifier(self, scope: _Scope) -> None:
        word = self.token.raw.upper()
        if self._kind is not Kind.ACCOUNTS:
            self.fail(
                f"{word} asks about the users of an account, and this is an audience of users.",
                self._starts(scope),
                "Leave it out, or make this an audience of accounts (ACCOUNTS).",
            )
        if scope.quantified or scope.wheres:
            around = "where" if scope.wheres else "ANY or ALL"
            message = f"{word} cannot stand inside {around}, which is already about one user."
            self.fail(message, self._starts(scope))

    def _group(self, scope: _Scope) -> Condition:
        self.deeper()
        self.opening("(")
        condition = self._condition(scope)
        self.closing(("AND", "OR"))
        self.shallower()
        if self.token.is_symbol(".", *_SYMBOLS):
            message = "A group in parentheses is already yes or no; it cannot be used as a value."
            self.fail(message, self.after_condition(), wording.NO_PARENTHESES)
        return condition

    # Comparisons and chains.

    def _comparison(self, scope: _Scope) -> Comparison:
        start = self.token.start
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            message = f"The query has more than {MAX_COMPARISONS} comparisons, Segment's most."
            self.fail(message, (), wording.SPLIT)
        link = self._chain(scope)
        symbol = self.token
        if isinstance(link, Comparison):
            if symbol.is_symbol(*_SYMBOLS):
                message = "This comparison is complete and cannot be compared again."
                self.fail(message, self.after_condition())
            return link
        if not symbol.is_symbol(*_SYMBOLS):
            self._not_compared(link)
        if not isinstance(link, Scalar) or isinstance(link, Literal):
            self._misplaced(link, COMPARATORS[SYMBOLS[symbol.raw]], symbol)
        self.advance()
        value = self._scalar(scope)
        return Compare(link, CompareOp(SYMBOLS[symbol.raw]), value, span=self.span_from(start))

    def _chain(self, scope: _Scope) -> Link:
        start = self.token.start
        link: Link = self._extractor(scope)
        while self.token.is_symbol("."):
            self.advance()
            function = self._function_after(link)
            link = self._call(link, function, scope, start)
        return link

    def _extractor(self, scope: _Scope) -> Stream | Trait | Property | Context | Literal:
        token = self.token
        legal = self._extractors(scope)
        if token.kind is not TokenKind.NAME or token.raw not in legal:
            self._no_extractor(scope, legal)
        function = legal[token.raw]
        self.advance()
        self.opening("(", function)
        made = self._extracted(function, scope)
        self.closing((), function)
        span = self.span_from(token.start)
        if isinstance(made, Stream):
            made = Stream(replace(made.source, span=span))
        return replace(made, span=span)

    def _extracted(
        self, function: Function, scope: _Scope
    ) -> Stream | Trait | Property | Context | Literal:
        match function.name:
            case "event":
                return Stream(Event(self.string(function)))
            case "entity":
                return Stream(Entity(self.string(function)))
            case "trait":
                return Trait(self.string(function))
            case "context":
                return Context(self.string(function))
            case "property":
                of_parent = self.parent(function, scope.wheres > 1)
                return Property(self.string(function), of_parent)
            case _:
                return self.constant_or_fail(function)

    def _function_after(self, link: Link) -> Function:
        """The function after a `.`, if it is legal there."""
        token = self.token
        legal = self._legal_after(link)
        if token.kind is not TokenKind.NAME:
            self.unexpected(tuple(legal) or ("nothing",))
        if token.raw not in FUNCTIONS:
            meant = likely(token.raw, legal)
            self.fail(
                f"There is no function `{self.quoted_token()}`.",
                tuple(legal) or self.after_condition(),
                f"Did you mean `{meant}`?" if meant else None,
            )
        function = FUNCTIONS[token.raw]
        if function.name not in legal:
            self._misplaced(link, function, token)
        return function

    def _call(self, link: Link, function: Function, scope: _Scope, start: int) -> Link:
        """The call of a function that is legal after the link."""
        called = self.advance()
        self.opening("(", function)
        if isinstance(link, Stream) and function.role is Role.FILTER:
            if len(link.filters) == MAX_FILTERS:
                self.fail(f"This chain has more than {MAX_FILTERS} filters.", at=called)
            kept = self._filter(function, scope)
            self.closing((), function)
            kept = replace(kept, span=self.span_from(called.start))
            return Stream(link.source, (*link.filters, kept), span=self.span_from(start))
        made: UniqueList | Scalar | Comparison
        if isinstance(link, Stream):
            made = self._reduced(link, function, scope)
        elif isinstance(link, UniqueList):
            made = UniqueCount(link.stream, link.of)
        elif isinstance(link, Scalar):
            made = self._compared(link, function, scope)
        else:
            self._misplaced(link, function, called)
        self.closing((), function)
        return replace(made, span=self.span_from(start))

    # Calls.

    def _filter(self, function: Function, scope: _Scope) -> Filter:
        match function.name:
            case "where":
                return self._where(scope, function)
            case "sources":
                return self._sources(function)
            case "within":
                of_parent = self.parent(function, scope.wheres > 0)
                return Within(self.duration(function), of_parent)
            case "between":
                of_parent = self.parent(function, scope.wheres > 0)
                first = self.duration(function)
                self.symbol(",", function)
                return Between(first, self.duration(function), of_parent)
            case _:
                return ExpiresAfter(self.duration(function))

    def _where(self, scope: _Scope, function: Function) -> Where:
        inside = replace(scope, wheres=scope.wheres + 1)
        self.deeper(WHERE_LEVELS)
        if self.token.is_symbol(")"):
            self.fail("`where` needs a condition.", self._starts(inside), written(function))
        in_braces = self.token.is_symbol("{")
        if in_braces:
            self.opening("{")
        condition = self._condition(inside)
        if in_braces or not self.token.is_symbol(")"):
            self.closing(("AND", "OR"))
        self.shallower(WHERE_LEVELS)
        return Where(condition)

    def _sources(self, function: Function) -> Sources:
        self.opening("{", function)
        if not self.token.is_word("EXCLUDE"):
            self.unexpected(("exclude:",), function)
        self.advance()
        self.symbol(":", function)
        excluded = self.listed(lambda: self.string(function, "a source id in quotes"), function)
        self.closing((",",), function)
        return Sources(excluded)

    def _reduced(self, stream: Stream, function: Function, scope: _Scope) -> Reduce | UniqueList:
        if function.name == "count":
            if not self.token.is_symbol(")"):
                self.fail(
                    "`count` takes nothing in its parentheses: it counts what the filters left.",
                    (")",),
                    "To count different values: .unique(property('brand')).count()",
                )
            return Reduce(stream, Reducer.COUNT)
        of = self._reduced_property(function, scope)
        if function.name == "unique":
            return UniqueList(stream, of)
        reducer = Reducer(function.name)
        match reducer:
            case Reducer.MAX | Reducer.MIN:
                read_as = self.read_as(function, (ValueType.NUMBER, ValueType.STRING))
                return Reduce(stream, reducer, of, read_as or ValueType.NUMBER)
            case Reducer.MODE:
                read_as = self.read_as(function, tuple(ValueType))
                if self.token.is_symbol(")"):
                    message = "`mode` lacks its second argument: how often a value must occur."
                    self.fail(message, (",",), written(function))
                self.symbol(",", function)
                least = self.whole(function, 1)
                return Reduce(stream, reducer, of, read_as or ValueType.STRING, least)
            case _:
                return Reduce(stream, reducer, of)

    def _reduced_property(self, function: Function, scope: _Scope) -> Property | Context:
        expected = ("property", "context")
        token = self.token
        if token.kind is TokenKind.STRING:
            self.unexpected(expected, function, f"Write property({self.quoted_token()}).")
        if token.kind is not TokenKind.NAME or token.raw not in expected:
            self.unexpected(expected, function)
        # A property is legal here whatever is around, the parent's is not.
        link = self._extractor(replace(scope, wheres=1))
        if self.token.is_symbol(".", *_SYMBOLS):
            message = f"Inside `{function.name}` a property stands alone."
            self.fail(message, (")",), "Conditions on properties belong in .where(...).")
        assert isinstance(link, Property | Context), "only these two names were let through"
        return link

    def _compared(self, subject: Scalar, function: Function, scope: _Scope) -> Comparison:
        match COMPARED[function.name]:
            case PresenceOp() as presence:
                return Presence(subject, presence)
            case CompareOp() as compare:
                return Compare(subject, compare, self._scalar(scope, function))
            case MatchOp() as matching:
                values = self.listed(lambda: self.wrapped_constant(function), function)
                return Match(subject, matching, values)
            case DateOp() as date:
                return DateCompare(subject, date, self.date(function))
            case RelativeOp() as relative:
                return RelativeDate(subject, relative, self.duration(function))

    def _scalar(self, scope: _Scope, function: Function | None = None) -> Scalar:
        """What a comparison compares with."""
        token = self.token
        if value := self.constant():
            return value
        expected = (*CONSTANTS, *self._extractors(scope))
        if token.is_symbol("("):
            message = "A comparison takes one value, and parentheses hold whole conditions."
            self.fail(message, expected, wording.NO_PARENTHESES)
        if token.kind is not TokenKind.NAME:
            message = f"What to compare with is missing; here stands {self.found()}."
            self.fail(message, expected, written(function) if function else None)
        self.check_quotes(expected)
        link = self._chain(scope)
        if isinstance(link, Stream):
            self._not_reduced(link, "a comparison takes one value")
        if not isinstance(link, Scalar):
            message = f"A comparison takes one value, and this is {_shape(link).value}."
            self.fail(message, expected, at=link.span)
        return link

    # What is legal, and refusals.

    def _extractors(self, scope: _Scope) -> dict[str, Function]:
        if scope.wheres:
            return EXTRACTORS
        inside_only = ("property", "context")
        return {name: one for name, one in EXTRACTORS.items() if name not in inside_only}

    def _starts(self, scope: _Scope) -> tuple[str, ...]:
        quantifies = self._kind is Kind.ACCOUNTS and scope == _Scope()
        prefixes = tuple(_PREFIXES) if quantifies else ("NOT",)
        return (*prefixes, "(", *self._extractors(scope))

    def _legal_after(self, link: Link) -> dict[str, Function]:
        legal = legal_after(_shape(link))
        if self._is_trait:
            return legal
        return {name: one for name, one in legal.items() if name != "expires_after"}

    def _no_extractor(self, scope: _Scope, legal: dict[str, Function]) -> Never:
        token = self.token
        starts = self._starts(scope)
        if token.kind is not TokenKind.NAME:
            message, suggestion = wording.not_a_start(token, self.found(), bool(scope.wheres))
            self.fail(message, starts, suggestion)
        if token.raw in FUNCTIONS:
            message, suggestion = wording.wrong_start(FUNCTIONS[token.raw])
            self.fail(message, starts, suggestion)
        if token.is_word("AND", "OR"):
            message = f"Before and after {token.raw.upper()} stands a condition; one is missing."
            self.fail(message, starts)
        message, suggestion = wording.unknown_start(
            self.quoted_token(), likely(token.raw, legal), self.is_called(), bool(scope.wheres)
        )
        self.fail(message, starts, suggestion)

    def _not_compared(self, link: Stream | UniqueList | Scalar) -> Never:
        """An audience needs yes or no, and the chain ended as something else."""
        token, shape = self.token, _shape(link)
        symbols = _SYMBOLS if shape is Shape.SCALAR else ()
        expected = (".", *symbols, *self._legal_after(link))
        is_end = token.kind is TokenKind.END or token.is_word("AND", "OR")
        if not (is_end or token.is_symbol(")", "}", ",", "]")):
            is_word = token.kind is TokenKind.NAME
            message, suggestion = wording.broken_chain(
                self.found(),
                token.raw,
                likely(token.raw, self._legal_after(link)) if is_word else None,
            )
            self.fail(message, expected, suggestion)
        if isinstance(link, Stream):
            self._not_reduced(link, "a condition compares one value")
        is_wrapped = token.is_symbol(")") and self._goes_on_after(token)
        message, suggestion = wording.not_a_condition(self._excerpt(link), shape, is_wrapped)
        self.fail(message, expected, suggestion, at=link.span)

    def _goes_on_after(self, token: Token) -> bool:
        return self.text[token.end : token.end + 80].lstrip()[:1] in tuple("=!<>.")

    def _excerpt(self, link: Link) -> str:
        return shortened(self.text[link.span.start : link.span.end])

    def _not_reduced(self, link: Stream, why: str) -> Never:
        message, suggestion = wording.not_reduced(self._excerpt(link), why)
        legal = tuple(self._legal_after(link))
        self.fail(message, (".", *legal), suggestion, at=link.span)

    def _misplaced(self, link: Link, function: Function, at: Token) -> Never:
        message, suggestion = wording.misplaced(
            _shape(link), function, shortened(at.raw), isinstance(link, Reduce), self._is_trait
        )
        legal = tuple(self._legal_after(link))
        self.fail(message, legal or self.after_condition(), suggestion, at=at)


COMPARED: dict[str, PresenceOp | CompareOp | MatchOp | DateOp | RelativeOp] = {
    operator.value: operator
    for operators in (PresenceOp, CompareOp, MatchOp, DateOp, RelativeOp)
    for operator in operators
}


def _shape(link: Link) -> Shape:
    match link:
        case Stream():
            return Shape.VECTOR
        case UniqueList():
            return Shape.LIST
        case Literal():
            return Shape.CONSTANT
        case Trait() | Property() | Context() | Reduce() | UniqueCount():
            return Shape.SCALAR
        case _:
            return Shape.CONDITION
