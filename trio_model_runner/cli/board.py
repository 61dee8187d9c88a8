"""A round on the screen: a table that fills while the answers come, and stays when the last one is there.

On a terminal the table is drawn again and again, with bars that grow towards the deadline. In a pipe it is
written once, when it is complete. Drawing takes a few milliseconds of the thread that also reads the answers.
So it is done a few times a second, and not once for each answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

import trio
from rich.console import Group
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

from ..values.results import PredictResult, Status
from .output import ascii_only, is_live, layout_width, write
from .stopping import leave_while_stopped
from .table import Row, fit, round_table

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ..values.results import ModelIdentity

__all__ = ["INDENT", "Board"]

INDENT = 2

_FRAME = 1 / 15  # seconds between two drawings
_LINES_ABOVE = 3


class Board:
    """The table of one round; an async context manager within which the results come in.

        async with Board(console, title, models, ...).shown() as board:
            async for result in results:
                board.add(result)

    Args:
        console: where the table is shown.
        title: the name of the round.
        about: more about the round.
        models: the models that take part.
        deadline: seconds that the models have.
        describe: makes a short text of a result.
        names: cells for the models' names.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        about: str,
        models: Sequence[ModelIdentity],
        *,
        deadline: float,
        describe: Callable[[PredictResult[Any]], str],
        names: int,
    ) -> None:
        self._console = console
        self._title, self._about = title, about
        self._models = models
        self._deadline = deadline
        self._describe = describe
        self._names = names
        self._rows: dict[ModelIdentity, Row] = {}
        self._began = trio.current_time()
        self._ended: float | None = None
        self._screen: Live

    def add(self, result: PredictResult[Any]) -> None:
        """Add a result."""
        model = result.model
        self._rows[model] = Row(
            model.name or model.model_id, result.status, result.elapsed, self._describe(result)
        )

    @contextlib.asynccontextmanager
    async def shown(self) -> AsyncIterator[Board]:
        """Show the table while the block lasts, and leave it on the screen after that."""
        live = is_live(self._console) and len(self._models) + _LINES_ABOVE < self._console.height
        if not live:
            yield self
            self._ended = trio.current_time()
            write(self._console, self._draw())
            return
        self._begin()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._redraw)
                nursery.start_soon(leave_while_stopped, lambda: self._screen.stop(), self._begin)
                yield self
                self._ended = trio.current_time()
                nursery.cancel_scope.cancel()
        finally:
            self._screen.stop()

    def _begin(self) -> None:
        """Begin a table below all that is on the screen: an old one would be drawn over what came since."""
        self._screen = Live(
            console=self._console,
            get_renderable=self._draw,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._screen.start()

    async def _redraw(self) -> None:
        while True:
            await trio.sleep(_FRAME)  # the requests leave first
            self._screen.refresh()

    def _draw(self) -> RenderableType:
        passed = (trio.current_time() if self._ended is None else self._ended) - self._began
        rows = [
            self._rows.get(model) or Row(model.name or model.model_id, elapsed=passed)
            for model in self._models
        ]
        succeeded = sum(row.status is Status.SUCCESS for row in rows)
        width = layout_width(self._console)
        plain = ascii_only(self._console)
        told = f"{self._about}   predict {succeeded}/{len(rows)} in {passed:.2f} s"
        heading = Text.assemble(
            (self._title, "bold"),
            "   ",
            (fit(told, width - len(self._title) - 3, ascii_only=plain), "bright_black"),
        )
        table = round_table(
            rows, deadline=self._deadline, width=width - INDENT, names=self._names, ascii_only=plain
        )
        return Group(Text(), heading, Padding(table, (0, 0, 0, INDENT), expand=False))
