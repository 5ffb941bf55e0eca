"""A real headless Chromium for tests of the page: what it drew, complained of and asked the network for."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
MISSING = "" if CHROMIUM and DRIVER else "needs the Debian packages chromium and chromium-driver"
READY = """return document.documentElement.dataset.ready === 'yes'
    && Boolean(document.getElementById('panels').dataset.drawn)"""
FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars")
PATIENCE = 60.0  # seconds, for a machine that others load


class Browser:
    def __init__(self) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(executable_path=str(DRIVER))  # named, so that none is looked for elsewhere
        self.driver = webdriver.Chrome(options=options, service=service)

    def close(self) -> None:
        self.driver.quit()

    def open(self, page: Path, *, width: int = 1280, dark: bool = False) -> None:
        """Show the page and wait until its charts are drawn; the logs start anew."""
        self.screen(width, dark)
        self.driver.get("about:blank")
        self.complaints(), self.requests()
        self.driver.get(page.as_uri())
        self.until(READY)

    def screen(self, width: int, dark: bool = False, media: str = "") -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})

    def run(self, script: str, *given: Any) -> Any:
        return self.driver.execute_script(script, *given)

    def until(self, script: str, *given: Any, again: Callable[[], Any] = lambda: None) -> None:
        """Wait until the script is true; ``again`` is done between the looks."""
        end = time.monotonic() + PATIENCE
        while not self.run(script, *given):
            assert time.monotonic() < end, f"never came true: {script}; {self.complaints()}"
            time.sleep(0.03)
            again()

    def redrawn(self, script: str, *given: Any) -> None:
        """Do something that changes the charts, and wait until they have."""
        turn = "document.getElementById('panels').dataset.drawn"
        before = self.run(f"return {turn}")
        self.run(script, *given)
        self.until(f"return {turn} !== arguments[0]", before)

    def choose(self, name: str, value: str | int, on: bool) -> None:
        self.redrawn(
            "const box = document.querySelector(`#filters input[name='${arguments[0]}'][value='${arguments[1]}']`);"
            "if (box.checked !== arguments[2]) box.click();", name, str(value), on,
        )  # fmt: skip

    def pick(self, element: str, value: str | int) -> None:
        self.run(
            "const one = document.getElementById(arguments[0]); one.value = arguments[1];"
            "one.dispatchEvent(new Event('change', {bubbles: true}));", element, str(value),
        )  # fmt: skip

    def text(self, element: str) -> str:
        return str(self.run("return document.getElementById(arguments[0]).textContent", element))

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def complaints(self) -> list[str]:
        """Warnings, errors and breaches of the policy since the last time one asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses asked for since the last time one asked."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
