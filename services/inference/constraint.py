"""Constraints as llguidance takes them: checked in the API's process, met in the engine's."""

from llguidance import LLMatcher, LLParserLimits

from services.inference.engine import Constraint, Grammar, JsonSchema, Regex

_LARGEST = 1 << 18
# JSON allows any whitespace between its parts, and an unsure model goes on with that for ever.
WHITESPACE = r" |\n[ \t]{0,32}"
# What a message says comes from the caller's own schema; the parser's state would tell them nothing.
LIMITS = LLParserLimits(verbose_errors=False)


class ConstraintError(ValueError):
    """A constraint cannot be met or is not understood; the message is for the caller."""


def grammar(constraint: Constraint) -> str:
    """A constraint as llguidance takes it. Raises ConstraintError for what is not even a schema."""
    match constraint:
        case JsonSchema(text) | Regex(text) | Grammar(text) if len(text) > _LARGEST:
            raise ConstraintError(f"A constraint has at most {_LARGEST} characters.")
        case Regex(pattern):
            return LLMatcher.grammar_from_regex(pattern)
        case Grammar(text):
            return LLMatcher.grammar_from_lark(text)
        case JsonSchema(schema):
            try:
                return LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": WHITESPACE})
            except ValueError as error:
                raise ConstraintError(unusable(constraint, str(error))) from error


def check(constraint: Constraint) -> None:
    """Raise ConstraintError for a constraint that no model could meet. A large schema takes a while."""
    if reason := LLMatcher.validate_grammar(grammar(constraint), limits=LIMITS):
        raise ConstraintError(unusable(constraint, reason))


def unusable(constraint: Constraint, reason: str) -> str:
    """What the caller is told."""
    if isinstance(constraint, Grammar):
        # What stands around the schemas is not the caller's: they would not know it.
        return f"A tool's parameters cannot be used: {reason.partition(': ')[2].partition(chr(10))[0] or reason}"
    what = "JSON schema" if isinstance(constraint, JsonSchema) else "regular expression"
    return f"The {what} cannot be used: {reason.strip()}"
