"""The command `timeline`: its options, where it writes, and what it says if there is nothing to draw."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import attrs
import click

from ..options import Command, debug_option
from ..output import abandon_output, clean, is_lost_output
from .measuring import Measures
from .page import Surroundings, draw
from .record import Round, Skipped, read_record

__all__ = ["timeline"]

_MOST_NAMED = 8
_MOST_METHODS = 16  # those beyond are not measured; a record has two or three

_EXAMPLES = """\b
Examples:
  trio-model-runner timeline rounds.jsonl
  trio-model-runner timeline rounds.jsonl* --method tick -o tick.html
  trio-model-runner timeline rounds.jsonl* --parquet rounds.parquet
"""

_FILE = click.Path(dir_okay=False, allow_dash=True, path_type=Path)
_RECORD = click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True, path_type=Path)
_STDIN = Path("/dev/stdin")


class _Unusable(click.ClickException):
    """A file that can't be read or written, or an option that does not fit the record: one line, and 2."""

    exit_code = 2


@click.command(cls=Command, epilog=_EXAMPLES)
@click.argument("record", nargs=-1, required=True, type=_RECORD)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Where the page goes; - is stdout. Without it, beside the first RECORD, ending in .html.",
)
@click.option(
    "--method",
    metavar="NAME",
    help="Show the rounds of this method. Without it, of the one that most often brought no answer.",
)
@click.option(
    "--parquet",
    type=_FILE,
    metavar="FILE",
    help="Instead of a page, write a Parquet table with a row for each result.",
)
@debug_option
def timeline(record: tuple[Path, ...], output: Path | None, method: str | None, parquet: Path | None) -> None:
    """Make a page of a record: which models stopped answering, are late, got slower, or fail.

    RECORD is what a RoundRecorder wrote: all its parts, in any order, gzipped or not; - is standard input.
    The page needs no network and no other file.
    """
    if output is not None and parquet is not None:
        raise _Unusable("-o is for the page, and with --parquet there is none; leave one of them out")
    if parquet is not None and str(parquet) == "-":
        raise _Unusable("--parquet - : a table can't be written to standard output; name a file")
    record = tuple(_STDIN if str(part) == "-" else part for part in record)
    record = _each_once(record)
    if len(record) > 1 and (pipes := [part for part in record if not part.is_file()]):
        raise _Unusable(f"{clean(str(pipes[0]))} is no file, so it must be the only part of the record")
    job = _Job(record, method)
    try:
        with _signals_end():
            if parquet is not None:
                _convert(job, parquet)
            else:
                _make_page(job, output or _beside(record[0]))
    except OSError as error:
        if is_lost_output(error):  # stdout; files have their names
            raise
        raise _Unusable(f"{clean(str(error.filename or ''))}: {error.strerror or error}") from error


def _each_once(paths: Iterable[Path]) -> tuple[Path, ...]:
    """The paths without those of a file that is there already, by whatever name."""
    kept: list[Path] = []
    again: list[str] = []
    for path in paths:
        if any(path.samefile(other) for other in kept):
            again.append(str(path))
        else:
            kept.append(path)
    if again:
        _tell([f"given more than once, and read once: {', '.join(again[:_MOST_NAMED])}"])
    return tuple(kept)


@attrs.define
class _Job:
    """A record to be read, and what is learnt of it on the way.

    Attributes:
        paths: its parts.
        method: the one to be shown; None for any.
        skipped: what could not be read.
        crunch_ids: of which crunches it is, in the order of their first rounds.
        counts: how many rounds there are of each method.
    """

    paths: tuple[Path, ...]
    method: str | None
    skipped: Skipped = attrs.Factory(Skipped)
    crunch_ids: dict[str, None] = attrs.Factory(dict)
    counts: dict[str, int] = attrs.Factory(dict)

    def rounds(self) -> Iterator[Round]:
        """All rounds of the method."""
        for told in read_record(self.paths, self.skipped):
            self.counts[told.method] = self.counts.get(told.method, 0) + 1
            if self.method in (None, told.method):
                if len(self.crunch_ids) < _MOST_METHODS:
                    self.crunch_ids[told.crunch_id] = None
                yield told

    def check_output(self, path: Path) -> None:
        """Refuse to write over the record."""
        if any(path.exists() and path.samefile(part) for part in self.paths):
            raise _Unusable(f"{clean(str(path))} is the record; say where to write with -o")

    def notes(self) -> list[str]:
        """What could not be read, a line each."""
        lines = [f"lines that were left out: {self.skipped}"] if str(self.skipped) else []
        return lines + [
            f"the rest of a file could not be read: {damaged}" for damaged in self.skipped.damaged
        ]

    def check_found(self, *, any_found: bool) -> None:
        """Say why nothing was found, if so."""
        if any_found:
            return
        if self.counts:
            raise _Unusable(f"the record has no rounds of {self.method!r}, but of {_told(self.counts)}")
        raise click.ClickException("there is no round in the record; a RoundRecorder writes a line for each")


def _make_page(job: _Job, output: Path) -> None:
    job.check_output(output)
    measured: dict[str, Measures] = {}
    for told in job.rounds():
        if told.method in measured or len(measured) < _MOST_METHODS:
            measured.setdefault(told.method, Measures(told.method)).add(told)
    notes = job.notes()
    _tell(notes)
    job.check_found(any_found=bool(measured))
    shown = max(measured.values(), key=lambda each: (each.results - each.answers, each.results))
    shown.close()
    others = {method: count for method, count in job.counts.items() if method != shown.method}
    page = draw(shown, Surroundings([*job.crunch_ids], [*others.items()], notes))
    _write(output, page.encode())
    if others and job.method is None:
        _tell([f"the page shows {clean(shown.method)}; --method shows another: {_told(others)}"])
    if str(output) != "-":
        _tell([f"the page is in {clean(str(output))}"])


def _convert(job: _Job, output: Path) -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise _Unusable("--parquet needs pyarrow, which is not installed: pip install pyarrow")
    from .parquet import Table

    job.check_output(output)
    with _named(output), Table(output) as table:
        for told in job.rounds():
            table.add(told)
        _tell(job.notes())
        job.check_found(any_found=table.rows > 0)
    _tell([f"{table.rows:,} results are in {clean(str(output))}"])


@contextmanager
def _signals_end() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the block as Ctrl-C does, so that nothing half-written is left."""

    def end(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _beside(record: Path) -> Path:
    """``rounds.html`` for ``rounds.jsonl`` and for its rotated parts.

    Not ``rounds.jsonl.html``: the next time, ``rounds.jsonl*`` would take it for a part of the record.
    """
    if not record.is_file():
        raise _Unusable(f"{clean(str(record))} is no file that a page could lie beside; say where with -o")
    while record.suffix == ".gz" or record.suffix[1:].isdigit():
        record = record.with_suffix("")
    return record.with_suffix(".html")


def _write(path: Path, page: bytes) -> None:
    if str(path) != "-":
        with _named(path):
            path.write_bytes(page)
        return
    try:
        sys.stdout.buffer.write(page)
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # nobody reads on
        abandon_output()
        raise SystemExit(1) from None


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Have errors name the file: those of writing don't."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _tell(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(clean(line), err=True)


def _told(counts: dict[str, int]) -> str:
    shown = [f"{clean(method)[:40]} ({count:,})" for method, count in counts.items()]
    return ", ".join(shown[:_MOST_METHODS])
