"""What two connections say at the same time, made into what one would have said.

While a new connection takes the place of an old one, both bring the same updates, each at its own time, and
one may miss what the other brings. So an update may come:

- on the old one before the new one's list, and be in that list, or come again on the new one;
- on the new one alone, since the old one missed it;
- on the old one alone: before the list was made, which has it then; or since the new one missed it.

The rule here: until the new list comes, the old one's updates count. From then on the new one counts. What
the old one said before and the new one says again is left out. What the old one said, and the new one's list
and updates contradict at the end, was missed: then the list must be fetched again.

There is no I/O and no clock here, and nothing about connections.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from .messages import Entry, Init, RunState, Update

__all__ = ["Overlap"]

_Deployment: TypeAlias = tuple[str, str | None]

_MOST_WORDS: Final = 50_000
"""Deployments that are remembered, and words about them; more mean that the list is fetched again."""


class Overlap:
    """What an old and a new connection say, from the moment when the new one is begun."""

    def __init__(self) -> None:
        self._listed = False
        self._to_come: dict[_Deployment, list[Entry]] = {}  # the old one's before the list, in order
        self._to_come_count = 0
        self._old: dict[_Deployment, Entry] = {}  # the old one's last word
        self._new: dict[_Deployment, Entry] = {}  # the new one's last word, its list included
        self._overruled: dict[_Deployment, Entry] = {}  # what counts against the new one's list
        self._too_much = False

    @property
    def missed(self) -> bool:
        """Whether the old connection said something that the new one contradicts, as far as is known now."""
        if self._too_much:
            return True
        words = [*self._old.items(), *self._overruled.items()]
        return not all(_agree(word, self._new.get(deployment)) for deployment, word in words)

    def hear_old(self, update: Update) -> Update | None:
        """The old connection brings an update: what of it counts."""
        for entry in update.entries:
            self._remember(self._old, entry)
            if not self._listed and self._to_come_count < _MOST_WORDS:
                self._to_come_count += 1
                self._to_come.setdefault(_deployment(entry), []).append(entry)
        return None if self._listed else update

    def hear_list(self, init: Init) -> Init:
        """The new connection brings its list: what counts of it, and of the old one's updates."""
        self._listed = True
        self._new = {_deployment(entry): entry for entry in init.entries}
        self._overruled = {
            deployment: word
            for deployment, word in self._old.items()
            if not _agree(word, self._new.get(deployment))
        }
        # In its own place: of a model's two entries the later is the newer one.
        entries = [self._overruled.get(_deployment(entry), entry) for entry in init.entries]
        entries += [word for deployment, word in self._overruled.items() if deployment not in self._new]
        return Init(tuple(entries), corrects=True)

    def hear_new(self, update: Update) -> Update | None:
        """The new connection brings an update: what of it was not heard before."""
        unheard = []
        for entry in update.entries:
            deployment = _deployment(entry)
            self._remember(self._new, entry)
            to_come = self._to_come.get(deployment, [])
            if entry in to_come:
                del to_come[: to_come.index(entry) + 1]
                continue
            to_come.clear()  # it would be older
            self._overruled.pop(deployment, None)
            unheard.append(entry)
        return Update(tuple(unheard)) if unheard or not update.entries else None

    def _remember(self, words: dict[_Deployment, Entry], entry: Entry) -> None:
        deployment = _deployment(entry)
        if deployment in words or len(words) < _MOST_WORDS:
            words[deployment] = entry
        else:
            self._too_much = True


def _deployment(entry: Entry) -> _Deployment:
    return entry.model_id, entry.deployment_id


def _agree(word: Entry, known: Entry | None) -> bool:
    """Whether what one connection said last about a deployment is what the other knows of it."""
    if known is None:  # a list has only what runs
        return word.state is not RunState.RUNNING
    if word.state is not RunState.RUNNING:
        return word.state is known.state
    return word == known
