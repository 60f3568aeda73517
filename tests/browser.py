"""A headless Chromium, driven by its DevTools protocol over two pipes."""

import contextlib
import json
import os
import shutil
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT = 60.0


def find():
    """Chromium on PATH, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Tab:
    """A tab of the browser; `events` is what it has reported."""

    def __init__(self, write, read):
        self._write, self._read, self._buffer = write, read, b""
        self._number, self._session, self.events = 0, {}, []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": session["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **params):
        """The result of a method of the protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params} | self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self):
        while b"\0" not in self._buffer:
            part = os.read(self._read, 1 << 16)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def value(self, expression):
        """What an expression of JavaScript is in the page."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, path, width, height=800, scheme="light"):
        """Loads a file into a window of a size."""
        self.events.clear()
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.ask("Emulation.setEmulatedMedia", features=[feature])
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        self.ask("Page.navigate", url=path.as_uri())
        began = time.monotonic()
        while self.value("document.readyState + location.protocol") != "completefile:":
            assert time.monotonic() - began < TIMEOUT
            time.sleep(0.02)

    def click(self, expression):
        """Clicks on the middle of an element with the mouse."""
        box = self.value(
            f"(() => {{const e = {expression}; e.scrollIntoView({{block: 'center'}});"
            " const b = e.getBoundingClientRect();"
            " return {x: b.x + b.width / 2, y: b.y + b.height / 2};})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **box)

    def press_enter(self):
        """Presses the Enter key."""
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **key)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **key)


@contextlib.contextmanager
def tab(profile):
    """A tab of a browser that keeps its files in a folder."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    options = (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--remote-debugging-pipe", f"--user-data-dir={profile}",
    )  # fmt: skip
    # The protocol's pipes are file descriptors 3 and 4, whatever numbers ours have.
    shell = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
    browser = subprocess.Popen(
        ["bash", "-c", shell, find(), *options],
        pass_fds=(theirs_in, theirs_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        found = Tab(ours_out, ours_in)
        yield found
        found._session = {}
        found.ask("Browser.close")
        browser.wait(TIMEOUT)
    finally:
        if browser.poll() is None:
            browser.kill()
            browser.wait()
        os.close(ours_out)
        os.close(ours_in)
