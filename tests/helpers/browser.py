"""A headless Chromium, driven over its DevTools protocol: pages are opened, looked at, and measured."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio_websocket

__all__ = ["Browser", "open_browser"]

_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",  # root has none, and the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def _program() -> str:
    """The path of the program; the test is skipped without it, and fails where it must be there."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is not None:
        return found
    missing = "there is no chromium here (Debian's package chromium)"
    if os.environ.get("REQUIRE_FOREIGN_SERVERS"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


class Browser:
    """A browser with one page.

    Attributes:
        requested: the URLs of all that was asked for.
        complaints: what the browser's console says.
    """

    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self.requested: list[str] = []
        self.complaints: list[str] = []
        self._connection = connection
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self._loaded = False

    async def start(self) -> None:
        """Open an empty page."""
        target = (await self.ask("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            await self.ask(f"{domain}.enable")

    async def show(self, page: Path, *, width: int, dark: bool) -> None:
        """Open a page in a window of that width."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded = False
        await self.ask("Page.navigate", url=page.as_uri())
        while not self._loaded:
            self._note(json.loads(await self._connection.get_message()))

    async def evaluate(self, script: str) -> Any:
        """What a script in the page results in, as JSON has it."""
        told = await self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def screenshot(self) -> bytes:
        """The whole page, as a PNG."""
        told = await self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(told["data"])

    async def ask(self, method: str, **params: Any) -> Any:
        """Send a command, and return its result."""
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": params}
        if self._session is not None:
            command["sessionId"] = self._session
        await self._connection.send_message(json.dumps(command))
        while True:
            told = json.loads(await self._connection.get_message())
            if told.get("id") == number:
                assert "result" in told, told
                return told["result"]
            self._note(told)

    def _note(self, told: dict[str, Any]) -> None:
        if told["method"] == "Page.loadEventFired":
            self._loaded = True
        elif told["method"] == "Network.requestWillBeSent":
            self.requested.append(told["params"]["request"]["url"])
        elif told["method"] == "Log.entryAdded":
            self.complaints.append(told["params"]["entry"]["text"])


@asynccontextmanager
async def open_browser(profile: Path) -> AsyncIterator[Browser]:
    """Start a browser, and end it with the block.

    Args:
        profile: an empty directory, where it keeps what it must.
    """
    command = [_program(), *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = await trio.lowlevel.open_process(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env={**os.environ, "HOME": str(profile)}
    )
    try:
        assert process.stderr is not None
        with trio.fail_after(60):
            url = await _listening(process.stderr)
        async with (
            trio.open_nursery() as nursery,
            trio_websocket.open_websocket_url(url, max_message_size=64 << 20) as connection,
        ):
            nursery.start_soon(_drain, process.stderr)
            browser = Browser(connection)
            await browser.start()
            yield browser
            nursery.cancel_scope.cancel()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def _listening(stream: trio.abc.ReceiveStream) -> str:
    said = ""
    while "\n" not in said.partition("DevTools listening on ")[2]:
        more = await stream.receive_some()
        assert more, said
        said += bytes(more).decode(errors="replace")
    return said.partition("DevTools listening on ")[2].split()[0]


async def _drain(stream: trio.abc.ReceiveStream) -> None:
    while await stream.receive_some():
        pass
