"""Chromium without a window, driven through its DevTools protocol over two pipes."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

FOUND = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--remote-debugging-pipe")


class Chromium:
    """One page of a browser of its own."""

    def __init__(self, profile: Path) -> None:
        inside_in, self.out = os.pipe()
        self.inside, inside_out = os.pipe()
        command = [FOUND, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        shell = ["bash", "-c", f'exec "$0" "$@" 3<&{inside_in} 4>&{inside_out}', *command]
        self.process = subprocess.Popen(shell, pass_fds=(inside_in, inside_out), stderr=subprocess.DEVNULL)
        os.close(inside_in)
        os.close(inside_out)
        self.number, self.rest, self.events, self.session = 0, b"", [], None
        page = next(target for target in self.call("Target.getTargets")["targetInfos"] if target["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Performance.enable", timeDomain="threadTicks")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the protocol; what happens meanwhile is kept in `events`."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters} | ({"sessionId": self.session} if self.session else {})
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while (answer := self.read()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def read(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            piece = os.read(self.inside, 1 << 20)
            assert piece, "Chromium is gone"
            self.rest += piece
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def open(self, page: Path, width: int, height: int = 900) -> None:
        """Opens a file in a window of this size (below 500 pixels: a phone) and waits until it is drawn."""
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        self.call("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self.read())
        self.resolve_config()

    def resolve_config(self) -> None:
        """Waits for two frames."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def seconds(self) -> float:
        """What the page has kept its thread busy since it was opened; other processes do not count, however busy the machine is."""
        metrics = self.call("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")

    def click(self, element: str) -> None:
        """Clicks on the middle of what this JavaScript expression names."""
        middle = "[box.x + box.width / 2, box.y + box.height / 2]"
        scroll = "element.scrollIntoView({ block: 'center', behavior: 'instant' })"
        x, y = self.run(f"((element) => {{ {scroll}; const box = element.getBoundingClientRect(); return {middle}; }})({element})")
        for what in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=what, x=x, y=y, button="left", clickCount=1)
        self.resolve_config()

    def press(self, key: str) -> None:
        """Presses a key."""
        code = {"Enter": 13, "Escape": 27, "ArrowRight": 39}[key]
        for what in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=what, key=key, code=key, windowsVirtualKeyCode=code, **({"text": "\r"} if code == 13 else {})
            )
        self.resolve_config()

    def screenshot(self) -> bytes:
        """What is seen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def close(self) -> None:
        """Ends the browser."""
        self.call("Browser.close")
        self.process.wait(20)
        os.close(self.out)
        os.close(self.inside)
