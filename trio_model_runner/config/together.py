"""All wrong fields of a class of settings, told in one error.

attrs runs the validators of a class one after another, and the first that raises is the only one that anybody
hears of: whoever has five settings wrong would start the program six times. So the last field's validator
runs all of them, when attrs has set every field, and raises one `ConfigError` with all problems.
It must not know any rule.
"""

from __future__ import annotations

from typing import Any

import attrs

from ..errors import ConfigError

__all__ = ["rule_of", "told_together"]

_RULE = "rule"


def told_together(_: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Have the last field's validator run all validators; it is the ``field_transformer`` of a class."""
    checked = [field for field in fields if field.validator is not None]
    bare = [
        field.evolve(validator=None, metadata={**field.metadata, _RULE: field.validator}) for field in fields
    ]
    return [*bare[:-1], bare[-1].evolve(validator=_AllOf(checked))]


def rule_of(field: attrs.Attribute[Any]) -> object:
    """The validator that a field was given; None if it has none."""
    return field.metadata.get(_RULE)


@attrs.frozen
class _AllOf:
    """The validators of all fields of a class."""

    fields: list[attrs.Attribute[Any]]

    def __call__(self, instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Check all fields of `instance`, the attrs way."""
        problems: list[str] = []
        for field in self.fields:
            assert field.validator is not None
            try:
                field.validator(instance, field, getattr(instance, field.name))
            except ConfigError as error:
                only = error
                problems.extend(error.problems)
        if len(problems) == 1:
            raise only  # with its cause
        if problems:
            raise ConfigError(*problems)
