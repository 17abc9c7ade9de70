"""The page in a browser: what a person sees and does, by mouse and by keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest

from spherecv.cli.samples import altered_copy, sample_portrait
from spherecv.config import PipelineConfig
from spherecv.serve import ApiKeys, FaceService
from spherecv.serve.keys import new_key
from spherecv.serve.pool import open_pool

sync_api = pytest.importorskip("playwright.sync_api")

# As root in a container, without the machine's network, and with a camera that shows a film.
_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]  # fmt: skip
_PATIENCE_MS = 90_000


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Two photos of one woman, one of another, one of nobody, and a film for the camera."""
    import cv2

    folder = tmp_path_factory.mktemp("pictures")
    eileen, grace = sample_portrait("eileen-collins"), sample_portrait("grace-hopper")
    cv2.imwrite(str(folder / "eileen1.jpg"), eileen)
    cv2.imwrite(str(folder / "eileen2.png"), altered_copy(eileen))
    cv2.imwrite(str(folder / "grace.webp"), grace)
    cv2.imwrite(str(folder / "nobody.jpg"), eileen[300:, :250])
    frame = cv2.imencode(".jpg", cv2.resize(eileen, (640, 480)))[1].tobytes()
    (folder / "camera.mjpeg").write_bytes(frame * 5)
    (folder / "text.jpg").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def browser(pictures, chromium):
    with sync_api.sync_playwright() as playwright:
        arguments = [*_ARGUMENTS, f"--use-file-for-fake-video-capture={pictures / 'camera.mjpeg'}"]
        opened = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def page(browser):
    """A tab of a phone; what the browser complains of fails the test."""
    context = browser.new_context(viewport={"width": 375, "height": 740}, permissions=["camera"])
    context.set_default_timeout(_PATIENCE_MS)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    yield opened
    context.close()
    refused = "Failed to load resource"  # an answer of 4xx is not a fault of the page
    assert [text for text in complaints if refused not in text] == []


@pytest.fixture(scope="module")
def place(net, tmp_path_factory, tools):
    folder = tmp_path_factory.mktemp("page")
    pool = open_pool(PipelineConfig.of(net), workers=1)
    with tools.serving(FaceService.open(pool, folder / "people.db", threshold=0.6)) as client:
        yield str(client.base_url)


def ready(page, place: str) -> None:
    page.goto(place)
    page.wait_for_selector("html[data-ready]", state="attached")


def no_wider_than_the_screen(page) -> bool:
    return page.locator("html").evaluate("(root) => root.scrollWidth <= root.clientWidth")


def test_verify_shows_crops_distance_threshold_and_what_is_not_known(page, place, pictures) -> None:
    ready(page, place)
    assert page.locator("#compare").is_disabled()
    page.set_input_files("#photo-a-file", pictures / "eileen1.jpg")
    page.set_input_files("#photo-b-file", pictures / "eileen2.png")
    page.locator("#verdict.same", has_text="Same person").wait_for()
    figures = page.locator("#figures").inner_text()
    assert "0.600" in figures
    assert figures.count("not known") == 2  # neither a rate nor a probability is made up
    for crop in ("#crop-a[width='336']", "#crop-b[width='336']"):  # 112 pixels of the crop, three times as large
        lit = page.locator(crop).evaluate(
            "(c) => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.reduce((a, b) => a + b, 0)"
        )
        assert lit > 1_000_000, crop
    assert "threshold 0.600" in page.locator("#scale").text_content()
    assert no_wider_than_the_screen(page)
    page.set_input_files("#photo-b-file", pictures / "grace.webp")
    page.locator("#verdict.different").wait_for()
    assert "Different people" in page.locator("#verdict-word").inner_text()
    page.set_input_files("#photo-b-file", pictures / "nobody.jpg")
    page.locator("#verify-status", has_text="No face found in the second photo").wait_for()
    assert page.locator("#verdict").is_hidden()
    page.set_input_files("#photo-a-file", pictures / "text.jpg")
    page.get_by_text("text.jpg is not an image that this browser can open").wait_for()


def test_the_keyboard_is_enough(page, place) -> None:
    ready(page, place)
    page.locator("#tab-verify").focus()
    for key, tab in (("ArrowRight", "gallery"), ("ArrowRight", "camera"), ("ArrowRight", "verify"), ("End", "camera"),
                     ("ArrowLeft", "gallery")):  # fmt: skip
        page.keyboard.press(key)
        assert page.locator("[role=tab][aria-selected=true]").get_attribute("id") == f"tab-{tab}"
        assert page.locator(":focus").get_attribute("id") == f"tab-{tab}"
        assert page.locator(f"#panel-{tab}").is_visible()
    page.keyboard.press("Tab")
    assert page.locator(":focus").get_attribute("id") == "enrol-name"
    for unnamed in page.locator("button, input, select").all():
        named = unnamed.evaluate(
            "(e) => (e.labels && e.labels.length && e.labels[0].textContent) || e.textContent || e.ariaLabel"
        )
        assert named.strip()


def test_people_are_enrolled_named_renamed_and_removed_and_their_names_are_text(page, place, pictures) -> None:
    hostile = "<img src=x onerror=alert(1)> & Eileen"
    ready(page, place)
    page.click("#tab-gallery")
    page.locator("#people-empty").wait_for()
    page.fill("#enrol-name", hostile)
    page.set_input_files("#enrol-files", [pictures / "eileen1.jpg"])
    page.click("#enrol button.main")
    page.locator("#people td bdi", has_text=hostile).wait_for()
    page.set_input_files("#photo-who-file", pictures / "eileen2.png")
    page.locator("#who b", has_text=hostile).wait_for()
    page.set_input_files("#photo-who-file", pictures / "grace.webp")
    page.locator("#who .nobody").wait_for()
    assert page.locator("main img").count() == 0
    assert no_wider_than_the_screen(page)
    page.get_by_role("button", name=f"Rename {hostile}").click()
    page.fill("#ask-value", "Eileen")
    page.keyboard.press("Enter")
    page.locator("#people td bdi", has_text="Eileen").wait_for()
    page.fill("#enrol-name", "Eileen")
    page.set_input_files("#enrol-files", [pictures / "eileen2.png"])
    page.select_option("#enrol-exists", "raise")
    page.click("#enrol button.main")
    page.locator("#enrol-status.bad", has_text="Somebody of that name").wait_for()
    page.get_by_role("button", name="Remove Eileen").click()
    page.locator("#ask-ok").click()
    page.locator("#people-empty").wait_for()


def test_a_gallery_that_cannot_be_changed_is_only_asked(page, place) -> None:
    def read_only(route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "read_only": True})

    page.route("**/v1/models", read_only)
    ready(page, place)
    page.click("#tab-gallery")
    page.locator("#gallery-fixed").wait_for()
    assert page.locator("#enrol").is_hidden()
    assert page.locator("#photo-who").is_visible()
    assert page.get_by_role("button", name="Remove").count() == 0


def test_the_camera_finds_faces_until_it_is_left(page, place, pictures) -> None:
    ready(page, place)
    page.click("#photo-a button")
    page.click("#shot-take")
    page.locator("#photo-a.filled").wait_for()
    page.click("#tab-camera")
    page.select_option("#camera-task", "detect")
    page.click("#camera-start")
    page.locator("#camera-faces li", has_text="score").first.wait_for()
    page.locator("#camera-status", has_text="frames a second").wait_for()
    page.click("#tab-verify")
    page.click("#tab-camera")
    assert page.locator("#camera-start").inner_text() == "Start the camera"
    assert page.locator("#camera-video").evaluate("(video) => video.srcObject === null")


@pytest.fixture
def colours(staged, tools, tmp_path):
    """The address of a service that knows Red and Blue, and their pictures, with a colour in a corner for the test."""
    with tools.serving(staged.make(tmp_path / "people.db", workers=2)) as client:
        for name in ("red", "blue"):
            (tmp_path / f"{name}.png").write_bytes(getattr(tools, name))
            sent = client.post("/v1/gallery", files={"img": getattr(tools, name)}, data={"identity": name.title()})
            assert sent.status_code == 201
        yield str(client.base_url), tmp_path


def test_names_belong_to_the_photo_that_is_shown(page, colours) -> None:
    """The answer about the first photo comes when the second is there already."""
    place, folder = colours
    held: list = []
    page.route("**/v1/identify", lambda route: route.continue_() if held else held.append(route))
    ready(page, place)
    page.click("#tab-gallery")
    page.set_input_files("#photo-who-file", folder / "red.png")
    page.wait_for_function("() => document.querySelector('#who-status').textContent.startsWith('Looking')")
    while not held:
        page.wait_for_timeout(20)
    page.set_input_files("#photo-who-file", folder / "blue.png")
    page.locator("#who b", has_text="Blue").wait_for()
    with page.expect_response("**/v1/identify"):
        held[0].continue_()
    page.wait_for_timeout(200)  # time for the mistake
    assert page.locator("#who b").all_inner_texts() == ["Blue"]
    page.click("#tab-verify")
    page.click("#tab-gallery")
    page.context.close()


PAINTED_CAMERA = """
const canvas = document.createElement("canvas");
[canvas.width, canvas.height] = [128, 128];
window.colour = "rgb(90, 90, 90)";
setInterval(() => {
  const context = canvas.getContext("2d");
  context.fillStyle = window.colour;
  context.fillRect(0, 0, 128, 128);
}, 50);
navigator.mediaDevices.getUserMedia = async () => canvas.captureStream(20);
"""


def test_the_camera_asks_only_when_a_face_is_there(page, colours) -> None:
    """Nobody before the camera: one frame is looked through, and no other until something changes."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.add_init_script(PAINTED_CAMERA)
    ready(page, colours[0])
    page.click("#tab-camera")
    page.wait_for_timeout(500)
    assert {"detect", "identify"}.isdisjoint(asked)  # nor before the camera was started
    page.click("#camera-start")
    page.locator("#camera-status", has_text="No face yet").wait_for()
    page.wait_for_timeout(3000)
    assert asked.count("identify") == 0
    assert asked.count("detect") == 1
    page.evaluate("() => { window.colour = 'rgb(220, 30, 40)'; }")
    page.locator("#camera-faces b", has_text="Red").wait_for()
    assert asked.count("detect") <= 3  # a frame may be caught while the colour changes
    assert no_wider_than_the_screen(page)
    page.evaluate("() => { window.colour = 'rgb(90, 90, 90)'; }")
    page.locator("#camera-status", has_text="No face yet").wait_for()
    before = len(asked)
    page.wait_for_timeout(2500)
    assert len(asked) - before <= 1  # a frame in between, half changed
    page.click("#camera-start")
    page.context.close()


SLOW_CAMERA = """
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
window.opened = [];
navigator.mediaDevices.getUserMedia = async (wish) => {
  await new Promise((resolve) => { window.allow = resolve; });
  const stream = await open(wish);
  window.opened.push(stream);
  return stream;
};
"""


def test_a_camera_that_opens_when_its_tab_was_left_is_closed(page, colours) -> None:
    page.add_init_script(SLOW_CAMERA)
    ready(page, colours[0])
    page.click("#tab-camera")
    page.click("#camera-start")
    page.wait_for_function("() => window.allow")
    page.click("#tab-verify")
    page.evaluate("() => window.allow()")
    page.wait_for_function("() => window.opened.length && window.opened[0].getTracks()[0].readyState === 'ended'")
    assert page.locator("#camera-start").text_content() == "Start the camera"
    page.context.close()


def test_a_key_that_was_not_given_at_first_sets_the_page_up_later(page, staged, tools) -> None:
    key, line = new_key("page")
    with tools.serving(staged.make(), ApiKeys({"page": line.rpartition(":")[2]})) as client:
        page.goto(str(client.base_url))
        page.locator("#key[open]").wait_for()
        page.get_by_role("button", name="Cancel").click()
        page.locator("#notice", has_text="key").wait_for()
        page.click("#key-open")
        page.fill("#key-value", key)
        page.keyboard.press("Enter")
        page.wait_for_selector("html[data-ready]", state="attached")
        assert page.locator("#notice").is_hidden()
        page.evaluate("() => sessionStorage.clear()")
        page.click("#tab-camera")
        page.click("#camera-start")
        page.locator("#key[open]").wait_for()
        page.get_by_role("button", name="Cancel").click()
        page.locator("#camera-status.bad").wait_for()
        page.wait_for_timeout(1500)  # it used to ask again every second
        assert not page.locator("#key").is_visible()
        assert page.locator("#camera-start").inner_text() == "Start the camera"
        page.context.close()


def test_a_key_is_asked_for_and_sent(page, staged, tools) -> None:
    key, line = new_key("page")
    keys = ApiKeys({"page": line.rpartition(":")[2]})
    with tools.serving(staged.make(), keys) as client:
        page.goto(str(client.base_url))
        page.fill("#key-value", "wrong")
        page.keyboard.press("Enter")
        page.locator("#key[open]").wait_for()
        page.fill("#key-value", key)
        page.keyboard.press("Enter")
        page.wait_for_selector("html[data-ready]", state="attached")
        page.click("#tab-gallery")
        page.locator("#gallery-none").wait_for()
        assert key not in page.content()
        page.context.close()  # before the server, which would wait for its connections


def test_every_call_can_be_tried_on_a_page_of_the_service(page, place, pictures) -> None:
    page.goto(place + "/docs")
    page.locator("html[data-ready]").wait_for(state="attached")
    call = page.locator("details", has_text="POST /v1/verify")
    call.locator("summary").click()
    call.locator("[name=img1]").set_input_files(pictures / "eileen1.jpg")
    call.locator("[name=img2]").set_input_files(pictures / "eileen2.png")
    call.get_by_role("button", name="Try it").click()
    call.locator(".status", has_text="200 OK").wait_for()
    assert '"verified": true' in call.locator("pre").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_gallery_page_offers_the_rates(page, place) -> None:
    page.goto(place)
    page.locator("html[data-ready]").wait_for(state="attached")
    offered = [page.locator(f"#{name} option").all_inner_texts() for name in ("who-far", "verify-far")]
    assert offered[0] == offered[1]
    assert offered[0][0].startswith("the service's own")
    assert page.locator("#enrol-exists").input_value() == "add"
