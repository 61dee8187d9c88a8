"""Answers of a model, turned into a coordinator's types by `cattrs`, strictly.

`cattrs` by itself converts generously: ``float("3")``, ``str(5)``, ``bool("no")``, a list made of the letters
of a text. An answer that fits only after such a conversion does not fit: nobody knows what the model meant.
So a value is taken only as what it is, with the exceptions that the wire and JSON make necessary: a whole
number is a float as well, 0 and 1 are booleans (nodes send ``True`` as INT 1), lists are taken as tuples and
sets, text in ISO 8601 as a date, members of enums come as their values, and keys of objects come as text.

To find out where an answer does not fit costs more than to find out that it does not fit. It costs much more
if a hostile node sends a million misfits. So there are two converters: a quick one, which stops at the first
misfit and does not know its place, and one that explains, and stops after a few misfits.

This module must not know of models or calls. It imports `cattrs`, so import it late.
"""

from __future__ import annotations

import functools
import inspect
import operator
import threading
import typing
from collections.abc import Callable, Iterator, Mapping, Set
from enum import Enum
from typing import Any, Final, Literal

import attrs
import cattrs
from cattrs.cols import mapping_structure_factory
from cattrs.errors import BaseValidationError, ClassValidationError, IterableValidationError

from ..abandoned import stop_if_abandoned
from ..text import named_error
from .for_pydantic import bound_for
from .hashes import Hashes, set_of
from .keys import ReadKey, read_key_as
from .kinds import form_of, is_typed_dict, is_union, length_of, may_be, members_of, plain
from .mappings import maker_of, types_of_items
from .misfits import Misfit, describe_misfits, misfits_of_pydantic
from .strict import (
    PRIMITIVES,
    Hook,
    MisfitError,
    UnsupportedTypeError,
    choice,
    name_of,
    require_members,
    wrong,
)
from .typed_dicts import resolved

__all__ = ["structure_as"]

_ENOUGH: Final = 20
"""After so many misfits the rest of an answer is not looked at. A nested misfit may count several times."""

_LONGEST_REASON: Final = 200
"""How many characters are kept of the text of a coordinator's validator, which may quote the value."""

_OF_FRAMES = ("pyarrow", "pandas")


def structure_as(wanted: Any) -> Callable[[Any], Any]:
    """Make a function that takes a decoded answer and returns it as `wanted`, or raises ValueError.

    The text of the ValueError has places and types, as in ``$.points[3].x: must be float, got str``.

    Raises:
        TypeError: no answer can be turned into a `wanted`.
    """
    try:
        return _structurer(wanted)
    except RecursionError:
        reason = "it holds ever other types; give a function instead"
        raise TypeError(f"returns: no answer can be made a {name_of(wanted)}: {reason}") from None
    except Exception as error:  # a name that can't be resolved, say
        raise TypeError(f"returns: no answer can be made a {name_of(wanted)}: {error}") from error


@functools.lru_cache(maxsize=128)
def _structurer(wanted: Any) -> Callable[[Any], Any]:
    quick = _converter(explaining=False).get_structure_hook(wanted)

    def structure(answer: Any) -> Any:
        try:
            return quick(answer, wanted)
        except UnsupportedTypeError:
            raise
        except Exception as error:
            misfits = _explain(answer, wanted) or [Misfit((), _reason(error))]
            raise ValueError(describe_misfits(misfits)) from None

    return structure


class _Converter(cattrs.Converter):
    """Finds enums that no answer can be a member of, wherever they are in a type, when hooks are made."""

    def get_structure_hook(self, type: Any, cache_result: bool = True) -> Hook:  # noqa: A002 - `cattrs` names it
        """Return the hook for a type."""
        if inspect.isclass(type) and issubclass(type, Enum):
            require_members(type)
        return super().get_structure_hook(type, cache_result)


@functools.cache
def _converter(*, explaining: bool) -> cattrs.Converter:
    """The converter that stops at the first misfit, or the one that knows places and gathers a few."""
    converter = _Converter(detailed_validation=explaining, structure_fallback_factory=_unknown)
    finish = _tallied if explaining else _as_it_is
    for kind, hook in PRIMITIVES.items():
        converter.register_structure_hook(kind, finish(hook))
    selective = _Selective(converter, finish)
    converter.register_structure_hook_factory(selective.must_check, selective.hook)
    return converter


class _KeyMisfitError(MisfitError):
    """A key of an object is not what it must be.

    Attributes:
        key: the key, as it came.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"key {reason}")
        self.key = key


def _unknown(kind: Any) -> Hook:
    """Make the hook for a type that `cattrs` does not know."""
    validate = getattr(kind, "model_validate", None)
    if validate is not None:  # pydantic's models
        return _validated_by(validate, kind)
    if kind is object:
        return lambda value, _: value
    if isinstance(kind, type) and kind.__module__.partition(".")[0] in _OF_FRAMES:
        return _instance
    raise UnsupportedTypeError(f"{name_of(kind)} is not supported; give a function instead")


def _validated_by(validate: Callable[[Any], Any], model: Any) -> Hook:
    """Make the hook for a pydantic model."""
    check = bound_for(model)

    def validated(value: Any, _: Any) -> Any:
        check(value)
        return validate(value)

    return validated


def _with_keys(read: ReadKey, items: Mapping[str, Any]) -> dict[Any, Any]:
    """Turn the keys back, one after the other.

    Raises:
        MisfitError: a key is not what it must be, is there already, or could have been chosen for its hash.
    """
    hashes = Hashes("dict")
    made: dict[Any, Any] = {}
    for text, value in items.items():
        try:
            key = read(text)
        except MisfitError as error:
            raise _KeyMisfitError(text, str(error)) from None
        if key in made:
            raise _KeyMisfitError(text, "means the same as another")
        hashes.note(key)
        made[key] = value
    return made


def _instance(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise wrong(kind, value)
    return value


class _Selective:
    """Puts checks around the hooks that `cattrs` itself makes for lists, objects and unions.

    To make such a hook, the converter is asked again for the same type. Then `must_check` is asked again as
    well. It must say False this once, or this would go on without end.
    """

    def __init__(self, converter: cattrs.Converter, finish: Callable[[Hook], Hook]) -> None:
        self._converter = converter
        self._finish = finish
        self._passing = threading.local()
        self._making = threading.local()

    def must_check(self, kind: Any) -> bool:
        """Say whether values of this type need a check."""
        if getattr(self._passing, "kind", None) is kind:
            self._passing.kind = None
            return False
        return is_union(kind) or typing.get_origin(kind) is Literal or bool(form_of(kind))

    def hook(self, kind: Any) -> Hook:
        """Make the hook for a type that needs a check. A type in itself has the hook that is being made."""
        making: dict[Any, list[Hook]] = self._making.__dict__.setdefault("hooks", {})
        if kind in making:
            made = making[kind]
            return lambda value, _: (made[0] if made else self._converter.get_structure_hook(kind))(
                value, kind
            )
        making[kind] = []
        try:
            making[kind].append(self._hook(kind))
            return making[kind][0]
        finally:
            del making[kind]

    def _hook(self, kind: Any) -> Hook:
        if typing.get_origin(kind) is Literal:
            return self._finish(choice(kind))
        return self._finish(self._union(kind) if is_union(kind) else self._checked(kind))

    def _checked(self, kind: Any) -> Hook:
        form, length, origin = form_of(kind), length_of(kind), typing.get_origin(kind) or kind
        self._resolve(kind)
        if is_typed_dict(origin):
            structure = self._of_typed_dict(kind)
        elif issubclass(origin, Mapping):
            structure = self._of_mapping(kind)
        elif issubclass(origin, Set):
            structure = self._of_set(kind)
        else:
            structure = self._of_named_tuple(kind) if hasattr(kind, "_fields") else self._of_cattrs(kind)
        what = "an object" if form is Mapping else "a list" if length is None else f"a list of {length}"
        expected = f"must be {what}, for {name_of(kind)}"

        def check(value: Any, _: Any) -> Any:
            stop_if_abandoned()
            if not isinstance(value, form):
                raise MisfitError(f"{expected}, got {type(value).__name__}")
            if length is not None and len(value) != length:
                raise MisfitError(f"{expected}, got {len(value)}")
            return structure(value, kind)

        return check

    def _union(self, kind: Any) -> Hook:
        members = members_of(kind)
        expected = f"must be {' or '.join(map(name_of, members))}"
        objects = [member for member in members if form_of(plain(member)) is Mapping]
        hooks: list[tuple[Any, Hook]] = []
        if len(objects) > 1:
            together = functools.reduce(operator.or_, objects)
            hooks.append((together, self._told_apart(together)))
            members = [member for member in members if member not in objects]
        hooks += [(plain(member), self._converter.get_structure_hook(member)) for member in members]

        def structure(value: Any, _: Any) -> Any:
            likely = [(member, hook) for member, hook in hooks if may_be(value, member)]
            likely = [(member, hook) for member, hook in likely if type(value) is member] or likely
            if len(likely) == 1:
                return likely[0][1](value, likely[0][0])
            for candidate, hook in likely:
                try:
                    return hook(value, candidate)
                except Exception:  # noqa: S112 - another member of the union may fit
                    continue
            raise MisfitError(f"{expected}, got {type(value).__name__}")

        return structure

    def _told_apart(self, union: Any) -> Hook:
        """Make the hook for a union of objects. `cattrs` tells them apart by their fields."""
        structure = self._of_cattrs(union)

        def tell(value: Any, _: Any) -> Any:
            try:
                return structure(value, union)
            except (BaseValidationError, MisfitError):
                raise
            except Exception:
                raise MisfitError(f"must be {' or '.join(map(name_of, typing.get_args(union)))}") from None

        return tell

    def _resolve(self, kind: Any) -> None:
        """Find undefined names and unsupported types now; not every release of `cattrs` does."""
        origin = typing.get_origin(kind)
        if origin is not None and attrs.has(origin):
            attrs.resolve_types(origin)
        if origin is tuple:
            for item in typing.get_args(kind):
                if item is not Ellipsis:
                    self._converter.get_structure_hook(item)

    def _of_set(self, kind: Any) -> Hook:
        """Make the hook without the check. It makes a list first: see `hashes`."""
        made = type(self._of_cattrs(kind)([], kind))  # frozenset, say, for an abstract set
        items: Any = list[next(iter(typing.get_args(kind)), Any)]  # type: ignore[misc]
        structure = self._converter.get_structure_hook(items)
        return lambda value, _: made(set_of(structure(value, items)))

    def _of_mapping(self, kind: Any) -> Hook:
        """Make the hook without the check. Values are structured under the texts of their keys."""
        keys, values = types_of_items(kind)
        read, make = read_key_as(keys), maker_of(kind, values)
        by_text: Any = dict[str, values]  # type: ignore[valid-type]
        structure = mapping_structure_factory(
            by_text, self._converter, detailed_validation=self._converter.detailed_validation
        )

        def structure_mapping(value: Any, _: Any) -> Any:
            structured = structure(value, by_text)
            return make(structured if read is None else _with_keys(read, structured))

        return structure_mapping

    def _of_named_tuple(self, kind: Any) -> Hook:
        """Make the hook without the check. `cattrs` does not resolve the names of types in named tuples."""
        hints = typing.get_type_hints(kind)
        as_tuple: Any = tuple[tuple(hints.get(name, Any) for name in kind._fields)]  # type: ignore[misc]
        structure = self._converter.get_structure_hook(as_tuple)
        return lambda value, _: kind._make(structure(value, as_tuple))

    def _of_typed_dict(self, kind: Any) -> Hook:
        """Make the hook without the check. `cattrs` would believe what Python says of the fields."""
        fields = resolved(kind)
        structure = self._of_cattrs(fields)
        return lambda value, _: structure(value, fields)

    def _of_cattrs(self, kind: Any) -> Hook:
        """Make the hook without the check."""
        self._passing.kind = kind
        try:
            return self._converter.get_structure_hook(kind, cache_result=False)
        finally:
            self._passing.kind = None


_tally = threading.local()


def _as_it_is(hook: Hook) -> Hook:
    return hook


def _tallied(hook: Hook) -> Hook:
    """Wrap a hook: it counts the misfits, and looks at nothing once there are enough of them."""

    def structure(value: Any, kind: Any) -> Any:
        if _tally.misfits >= _ENOUGH:
            return None
        try:
            return hook(value, kind)
        except Exception:
            _tally.misfits += 1
            raise

    return structure


def _explain(answer: Any, wanted: Any) -> list[Misfit]:
    _tally.misfits = 0
    try:
        _converter(explaining=True).structure(answer, wanted)
    except Exception as error:
        return list(_misfits(error, ()))
    return []


def _misfits(error: BaseException, place: tuple[str | int, ...]) -> Iterator[Misfit]:
    if isinstance(error, (ClassValidationError, IterableValidationError)):
        inside, here = error.group_exceptions()
        for inner, note in inside:
            step: Any = getattr(note, "name" if isinstance(error, ClassValidationError) else "index")
            yield from _misfits(inner, (*place, step))
        for inner in here:
            yield from _misfits(inner, place)
        return
    if isinstance(error, _KeyMisfitError):
        place = (*place, error.key)
    of_pydantic = misfits_of_pydantic(error)
    if of_pydantic is None:
        yield Misfit(place, _reason(error))
    else:
        yield from (Misfit((*place, *misfit.place), misfit.reason) for misfit in of_pydantic)


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return "it is missing"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, (MisfitError, BaseValidationError)):
        return str(error)
    return named_error(error)[:_LONGEST_REASON]
