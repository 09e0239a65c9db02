"""A headless Chromium, spoken to through its debugging pipe with the standard library alone.

Protocol: https://chromedevtools.github.io/devtools-protocol/, messages end in a null byte; the browser reads file
descriptor 3 and writes file descriptor 4.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import selectors
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--mute-audio",
    "--remote-debugging-pipe",
)


def find() -> str | None:
    """The path of a Chromium, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page in a headless browser; every message of its console and every request is kept."""

    def __init__(self, program: str, timeout: float = 240.0) -> None:
        self.profile = tempfile.TemporaryDirectory(prefix="accord-browser-", ignore_cleanup_errors=True)
        self.timeout = timeout
        self.buffer, self.number = b"", 0
        self.events: list[dict[str, Any]] = []
        self.left: object = None  # for whoever shares it: what the last one says of the page that is open now
        theirs_in, self.out = os.pipe()
        self.inlet, theirs_out = os.pipe()

        def wire() -> None:  # in the child: to descriptors 3 and 4, which may be taken by the ends themselves
            reading, writing = (fcntl.fcntl(end, fcntl.F_DUPFD, 64) for end in (theirs_in, theirs_out))
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        self.process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self.profile.name}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=wire,
            close_fds=False,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.session = ""
        page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.session = ""
            self.call("Browser.close")
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.out)
            os.close(self.inlet)
            self.profile.cleanup()

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; what comes in between is kept in ``events``."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": arguments}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read(time.monotonic() + self.timeout)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])
            self.events.append(answer)

    def _read(self, deadline: float) -> dict[str, Any]:
        with selectors.DefaultSelector() as ready:
            ready.register(self.inlet, selectors.EVENT_READ)
            while b"\0" not in self.buffer:
                if not ready.select(max(deadline - time.monotonic(), 0)):
                    raise TimeoutError(f"the browser did not answer within {self.timeout} s")
                got = os.read(self.inlet, 1 << 16)
                if not got:
                    raise RuntimeError("the browser has gone")
                self.buffer += got
        raw, self.buffer = self.buffer.split(b"\0", 1)
        return dict(json.loads(raw))

    def open(self, page: Path, width: int, height: int = 900, dark: bool = False, mobile: bool = False) -> None:
        """Open a file at a size; returns when it is loaded."""
        self.events.clear()
        self.left = None
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setTouchEmulationEnabled", enabled=mobile)
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.until("document.readyState === 'complete'")

    def evaluate(self, code: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", code))
        return answer["result"].get("value")

    def until(self, code: str, seconds: float = 30.0) -> None:
        """Wait for an expression to be true."""
        end = time.monotonic() + seconds
        while not self.evaluate(code):
            if time.monotonic() > end:
                raise TimeoutError(f"still not true after {seconds} s: {code}")
            time.sleep(0.05)

    def problems(self) -> list[str]:
        """Errors and warnings of the console, and uncaught exceptions."""
        found = []
        for event in self.events:
            method, body = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(str(body["exceptionDetails"].get("exception", {}).get("description", body)))
            if method == "Runtime.consoleAPICalled" and body["type"] in ("error", "warning", "assert"):
                found.append(str([argument.get("value") for argument in body["args"]]))
            if method == "Log.entryAdded" and body["entry"]["level"] in ("error", "warning"):
                found.append(body["entry"]["text"])
        return found

    def requests(self) -> list[str]:
        """Addresses of everything that was asked for, apart from what the page itself carries."""
        addresses = [
            e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"
        ]
        return [address for address in addresses if not address.startswith(("data:", "blob:"))]

    def picture(self, path: Path, full: bool = True) -> Path:
        """A PNG of the page as it is."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path
