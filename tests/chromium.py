"""A real headless Chromium as a test's reader: driven over its DevTools protocol, and ended with the tests.

    with started(profile) as endpoint: …
    async with Browser.connected(endpoint) as browser:
        tab = await browser.open(url, width=360); await tab.value("document.title")

What a page says on its console, what it throws and what its policy refuses is kept in `tab.complaints`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")
PATIENCE = 60.0


def binary() -> str:
    """The path of the browser. Without one the test is skipped, and says so loudly; where engines are required, it fails."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is not None:
        return found
    line = f"NOT TESTED: no browser has seen the page, none of {', '.join(NAMES)} found (apt: chromium-headless-shell)"
    if os.environ.get("CFGSYNC_REQUIRE_ENGINES") == "1":
        pytest.fail(line)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn(line, stacklevel=1)
    pytest.skip(line)


@contextmanager
def started(profile: Path) -> Iterator[str]:
    """A browser of its own, with an empty profile; the address of its DevTools."""
    arguments = [
        "--headless",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "--no-first-run",
        "--disable-gpu",
        "--disable-dev-shm-usage",  # /dev/shm is small in a container
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-extensions",
        "--disable-sync",
        "--force-color-profile=srgb",
        "--hide-scrollbars",
        "--mute-audio",
        "about:blank",
    ]
    if os.geteuid() == 0:
        arguments.insert(0, "--no-sandbox")  # as root it starts in no other way
    # no proxy and no bus of whoever runs the tests
    environment = {
        name: word
        for name, word in os.environ.items()
        if "proxy" not in name.lower() and name != "DBUS_SESSION_BUS_ADDRESS"
    }
    log = profile / "stderr"  # a file: a pipe that nobody reads would hold it up
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [binary(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=environment,
            start_new_session=True,  # what is called by the name may be a shell script that starts the browser
        )
    try:
        yield _endpoint(process, profile / "DevToolsActivePort", log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(
                process.pid, signal.SIGKILL
            )  # it and all that it started, which nobody else has a part in
        process.wait()


def _endpoint(process: subprocess.Popen[bytes], said: Path, log: Path) -> str:
    """What it writes into its profile when it listens: the port, and the path of its DevTools."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        assert process.poll() is None, f"the browser ended: {log.read_text()[-2000:]}"
        lines = said.read_text().split("\n") if said.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.02)
    raise AssertionError(f"the browser never listened: {log.read_text()[-2000:]}")


class Refused(AssertionError):
    """DevTools answered with an error, or a script threw."""


class Browser:
    """One connection to a running browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._tabs: dict[str, Tab] = {}

    @staticmethod
    @asynccontextmanager
    async def connected(endpoint: str) -> AsyncIterator[Browser]:
        """Tabs that were opened are closed at the end."""
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(
                endpoint, max_msg_size=0, timeout=aiohttp.ClientWSTimeout(ws_close=5)
            ) as socket,
        ):
            browser = Browser(socket)
            heard = asyncio.create_task(browser._hear())
            try:
                yield browser
                for tab in list(browser._tabs.values()):
                    await browser.ask("Target.disposeBrowserContext", browserContextId=tab.context)
            finally:
                heard.cancel()

    async def open(
        self,
        url: str,
        *,
        width: int = 1200,
        height: int = 900,
        dark: bool = False,
        scripts: bool = True,
        scale: float = 1.0,
    ) -> Tab:
        """A tab of its own, with nothing remembered; back when its document is loaded."""
        context = (await self.ask("Target.createBrowserContext"))["browserContextId"]
        target = await self.ask("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        tab = Tab(self, attached["sessionId"], context)
        self._tabs[tab.session] = tab
        for domain in ("Page", "Runtime", "Log", "Network"):
            await tab.ask(f"{domain}.enable")
        await tab.ask("Page.setLifecycleEventsEnabled", enabled=True)
        await tab.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await tab.ask("Emulation.setEmulatedMedia", features=[scheme])
        if not scripts:
            await tab.ask("Emulation.setScriptExecutionDisabled", value=True)
        await tab.go(url)
        return tab

    async def ask(self, method: str, session: str | None = None, /, **words: Any) -> Any:
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        message: dict[str, Any] = {"id": number, "method": method, "params": words}
        if session is not None:
            message["sessionId"] = session
        await self._socket.send_str(json.dumps(message))
        async with asyncio.timeout(PATIENCE):
            return await answer

    async def _hear(self) -> None:
        async for message in self._socket:
            words = json.loads(message.data)
            if "id" in words:
                asked = self._asked.pop(words["id"])
                if asked.done():
                    continue
                if "error" in words:
                    asked.set_exception(Refused(words["error"]["message"]))
                else:
                    asked.set_result(words["result"])
            elif (tab := self._tabs.get(words.get("sessionId", ""))) is not None:
                tab.heard(words["method"], words["params"])


class Tab:
    """One page. `requests` are the addresses that it asked for, `complaints` what went wrong in it."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser = browser
        self.session = session
        self.context = context
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        self._loaded: set[str] = set()

    async def ask(self, method: str, **words: Any) -> Any:
        return await self._browser.ask(method, self.session, **words)

    def heard(self, event: str, words: dict[str, Any]) -> None:
        match event:
            case "Page.lifecycleEvent" if words["name"] == "load":
                self._loaded.add(words["loaderId"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(words["exceptionDetails"])[:500])
            case "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(words["args"])[:500])
            case "Log.entryAdded":
                self.complaints.append(f"{words['entry']['text']} {words['entry'].get('url', '')}")
            case "Page.javascriptDialogOpening":
                self.dialogs.append(words["message"])
            case "Network.requestWillBeSent":
                if not words["request"]["url"].startswith("data:"):
                    self.requests.append(words["request"]["url"])

    async def go(self, url: str) -> None:
        """Back when the document there is loaded."""
        said = await self.ask("Page.navigate", url=url)
        assert "errorText" not in said, said
        async with asyncio.timeout(PATIENCE):
            while said["loaderId"] not in self._loaded:
                await asyncio.sleep(0.005)

    async def value(self, expression: str) -> Any:
        """What this is in the page, as JSON; a promise is awaited."""
        said = await self.ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in said:
            raise Refused(json.dumps(said["exceptionDetails"])[:1000])
        return said["result"].get("value")

    async def until(self, expression: str, within: float = PATIENCE) -> Any:
        """Back when this is true in the page."""
        end = time.monotonic() + within
        why = ""
        while time.monotonic() < end:
            try:
                if found := await self.value(expression):
                    return found
            except Refused as error:  # between two documents there is nothing to ask
                why = str(error)
            await asyncio.sleep(0.02)
        shown = await self.value("document.body.innerText")
        raise AssertionError(f"it never became true: {expression}\n{why}\n{shown[:3000]}\n{self.complaints}")

    async def text(self, selector: str = "body") -> str:
        """What a reader sees of it."""
        return str(await self.value(f"document.querySelector({json.dumps(selector)}).innerText"))

    async def press(self, key: str, code: int = 0) -> None:
        """One key, as from a keyboard."""
        for kind in ("rawKeyDown", "keyUp"):
            await self.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)

    async def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """A PNG of the page."""
        shot = await self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
