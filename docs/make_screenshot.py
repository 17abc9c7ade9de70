"""Make the picture of the page in README again: python docs/make_screenshot.py ADDRESS, of a running `spherecv serve`.

Needs playwright and Debian's chromium. The photos are NASA's portrait of Eileen Collins, and the same made worse.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import cv2
from PIL import Image
from playwright.sync_api import sync_playwright

from spherecv.cli.samples import altered_copy, sample_portrait

portrait = sample_portrait("eileen-collins")
with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
    first, second, shot = (str(Path(folder, name)) for name in ("a.png", "b.png", "shot.png"))
    cv2.imwrite(first, portrait)
    cv2.imwrite(second, altered_copy(portrait))
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1000, "height": 900}, color_scheme="light")
    page.goto(sys.argv[1])
    page.set_input_files("#photo-a-file", first)
    page.set_input_files("#photo-b-file", second)
    page.locator("#crop-b[width]").wait_for()
    page.wait_for_timeout(500)
    page.screenshot(path=shot, full_page=True)
    browser.close()
    Image.open(shot).convert("RGB").save(Path(__file__).parent / "service.jpg", quality=82, optimize=True)
