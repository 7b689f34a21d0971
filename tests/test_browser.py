"""A ticket in the browser: the page in a real Chromium, with strokes drawn."""

import functools
import http.server
import importlib.util
import itertools
import re
import shutil
import threading

import numpy as np
import pytest
import scipy.ndimage
from conftest import ROOT

import mpt_keras as mpt
from mpt_keras.experiments.data.digits import digits

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs the package playwright"
)
_CHROMIUM = shutil.which("chromium")
_TICKET = "digits_mpt_1_32"
_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
)
_MOST_BYTES = 60_000
sync_api.expect.set_options(timeout=30_000)  # milliseconds; machines are busy

pytestmark = pytest.mark.skipif(not _CHROMIUM, reason="needs chromium")


def arc(x, y, across, down, begin, end):
    """Points of an ellipse; degrees, clockwise from the right."""
    turns = np.radians(np.linspace(begin, end, 12))
    return [
        (x + across * np.cos(turn), y + down * np.sin(turn)) for turn in turns
    ]


# As people write them, in a square of side 1; of some digits two forms.
DRAWN = {
    "0": [arc(0.5, 0.5, 0.2, 0.32, -90, 270)],
    "1": [[(0.36, 0.42), (0.53, 0.18), (0.52, 0.82)]],
    "2": [
        [
            *arc(0.5, 0.36, 0.19, 0.18, -170, 40),
            *[(0.32, 0.82), (0.72, 0.8)],
        ]
    ],
    "3": [
        [
            *arc(0.47, 0.34, 0.18, 0.16, -150, 90),
            *arc(0.47, 0.66, 0.2, 0.17, -90, 150),
        ]
    ],
    "4": [
        [(0.42, 0.18), (0.3, 0.55), (0.72, 0.55)],
        [(0.62, 0.3), (0.58, 0.85)],
    ],
    "5": [
        [
            (0.66, 0.2),
            (0.38, 0.2),
            (0.36, 0.46),
            *arc(0.48, 0.62, 0.19, 0.19, -120, 150),
        ]
    ],
    "6": [
        [
            (0.6, 0.17),
            (0.44, 0.3),
            (0.35, 0.5),
            *arc(0.5, 0.65, 0.17, 0.17, -170, 190),
        ]
    ],
    "7": [[(0.3, 0.2), (0.7, 0.2), (0.44, 0.83)]],
    "8": [
        arc(0.5, 0.33, 0.14, 0.15, 90, -270)
        + arc(0.5, 0.66, 0.17, 0.18, -90, 270)
    ],
    "9": [[*arc(0.48, 0.36, 0.17, 0.17, 0, -360), (0.64, 0.5), (0.6, 0.84)]],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page, built."""
    spec = importlib.util.spec_from_file_location(
        "build_page", ROOT / "docs/browser/build.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if module.wasm_compiler() is None:
        pytest.skip("needs clang with wasm-ld, or the package ziglang")
    folder = tmp_path_factory.mktemp("page")
    # `export` compares a build for this machine, which need not be fast.
    quick = tmp_path_factory.mktemp("compiler") / "cc"
    quick.write_text('#!/bin/sh\nexec cc "$@" -O0\n')
    quick.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", str(quick))
        module.build(_TICKET, folder)
    return folder


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(folder):
    """Where it is served."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=_CHROMIUM, args=_FLAGS
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Opens the page, as someone whose browser has such options."""
    contexts = []

    def open_page(prepare=lambda page: None, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(error))
        prepare(page)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()


def draw(page, strokes):
    """With the mouse."""
    box = page.locator("#paper").bounding_box()
    for stroke in strokes:
        for i, (x, y) in enumerate(stroke):
            page.mouse.move(
                box["x"] + x * box["width"], box["y"] + y * box["height"]
            )
            if i == 0:
                page.mouse.down()
        page.mouse.up()


def ready(page):
    page.wait_for_function("window.ticket")
    return page


def test_held_out_digits_are_read_as_by_keras(visit):
    page = ready(visit())
    _, (images, labels) = digits()
    found = page.evaluate(
        """images => images.map(image => {
             const { digit, logits } = ticket.classify(image);
             return [digit, ...logits];
           })""",
        images.reshape(len(images), 64).tolist(),
    )
    found = np.array(found)
    model = mpt.load_ticket(_TICKET)
    expected = model.predict(images, batch_size=512, verbose=0)
    assert len(found) == 360
    np.testing.assert_array_equal(found[:, 0], expected.argmax(-1))
    largest = np.abs(expected).max()
    np.testing.assert_allclose(found[:, 1:], expected, 0, 1e-5 * largest)
    correct = np.mean(found[:, 0] == labels)
    assert (
        page.locator("#accuracy").inner_text().startswith(f"{correct:.1%}"[:4])
    )


def test_drawn_digits_are_read(visit):
    page = ready(visit())
    read = {}
    for digit, strokes in DRAWN.items():
        draw(page, strokes)
        read[digit] = page.locator("#digit").inner_text()
        page.get_by_role("button", name="Clear").click()
    assert read == {digit: digit for digit in DRAWN}
    assert not page.errors


def reduced(strokes):
    """What `imageOf` does, by the data set's description, with SciPy."""
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    radius = (high - low).max() / 14
    size = high - low + 2 * radius
    x = low[0] - radius + (np.arange(20) + 0.5) * size[0] / 20
    y = low[1] - radius + (np.arange(32) + 0.5) * size[1] / 32
    at = np.stack(np.meshgrid(x, y), -1)
    bits = np.zeros((32, 32), bool)
    for stroke in strokes:
        for begin, end in itertools.pairwise(stroke):
            along = np.subtract(end, begin)
            share = np.clip((at - begin) @ along / (along @ along), 0, 1)
            away = np.linalg.norm(at - begin - share[..., None] * along, axis=2)
            bits[:, 6:26] |= away <= radius
    count = bits.sum()
    for _ in range((count > 412) + int(count > 560)):
        bits = scipy.ndimage.binary_erosion(bits)
    for _ in range((count < 256) + int(count < 108)):
        bits = scipy.ndimage.binary_dilation(bits)
    # Upright: what is leftmost near the top and near the bottom lines up.
    rows = np.flatnonzero(bits.any(1))
    top, bottom = rows[0] + 2, rows[-1] - 2
    if bottom > top and bits[top].any() and bits[bottom].any():
        slant = (bits[top].argmax() - bits[bottom].argmax()) / (bottom - top)
        moved = np.zeros((32, 96), bool)
        for row in range(32):
            shift = int(np.floor(abs((row - 16) * slant) + 0.5))
            shift = shift if (row - 16) * slant > 0 else -shift
            moved[row, 32 + shift : 64 + shift] = bits[row]
        bits = moved[:, 32:64]
    return bits.reshape(8, 4, 8, 4).sum((1, 3))


def test_strokes_become_images_as_in_the_data_set(visit, rng):
    page = ready(visit())
    drawings = [
        [rng.random((rng.integers(2, 9), 2)).tolist() for _ in range(strokes)]
        for strokes in rng.integers(1, 4, 30)
    ]
    drawings += list(DRAWN.values())
    found = page.evaluate(
        "drawings => drawings.map(one => [...ticket.imageOf(one)])", drawings
    )
    for image, strokes in zip(found, drawings, strict=True):
        np.testing.assert_array_equal(
            np.reshape(image, (8, 8)), reduced(strokes)
        )
    nothing = page.evaluate("[...ticket.imageOf([])]")
    assert nothing == [0] * 64
    dot = page.evaluate("[...ticket.imageOf([[[0.5, 0.5]]])]")
    assert max(dot) == 16


def test_it_says_what_it_took(visit, folder):
    requests = []

    def prepare(page):
        page.on("request", lambda request: requests.append(request.url))

    page = ready(visit(prepare))
    draw(page, DRAWN["3"])
    sync_api.expect(page.locator("#time")).to_have_text(
        re.compile(r"^[\d.,]+ µs$")
    )
    assert 0.1 < number(page, "#time") < 10_000
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    sync_api.expect(page.locator("#loaded")).to_have_text(
        f"{sum(sizes.values()):,}"
    )
    assert number(page, "#wasm") == sizes["ticket.wasm"]
    assert number(page, "#tables") < sizes["ticket.wasm"]
    assert sum(sizes.values()) < _MOST_BYTES
    # Nothing is loaded from elsewhere, and all that was built is needed.
    names = {url.removeprefix(page.url) for url in requests}
    assert names - {"data:,", ""} == set(sizes) - {"index.html"}


def number(page, place):
    text = page.locator(place).inner_text()
    return float(text.removesuffix(" µs").replace(",", ""))


def test_the_keyboard_will_do(visit):
    page = ready(visit())
    draw(page, DRAWN["3"])
    status = page.get_by_role("status")
    sync_api.expect(status).to_have_text(re.compile(r"reads 3 \(\d+\s%\)\.$"))
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert status.inner_text() == page.locator("#digit").inner_text() == ""
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    sync_api.expect(status).to_have_text(
        re.compile(r"reads \d \(\d+\s%\); it was written as \d\.$")
    )
    assert not page.errors


def test_a_finger_on_a_phone(visit):
    page = ready(
        visit(
            viewport={"width": 390, "height": 844},
            has_touch=True,
            is_mobile=True,
            color_scheme="dark",
        )
    )
    paper = page.locator("#paper")
    paper.scroll_into_view_if_needed()
    box = paper.bounding_box()
    touch = page.context.new_cdp_session(page)

    def send(kind, *points):
        touch.send(
            "Input.dispatchTouchEvent",
            {
                "type": kind,
                "touchPoints": [{"x": x, "y": y} for x, y in points],
            },
        )

    (stroke,) = DRAWN["7"]
    before = page.evaluate("scrollY")
    for begin, (x, y) in enumerate(stroke):
        at = (box["x"] + x * box["width"], box["y"] + y * box["height"])
        send("touchMove" if begin else "touchStart", at)
    send("touchEnd")
    sync_api.expect(page.locator("#digit")).to_have_text("7")
    assert page.evaluate("scrollY") == before
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    # What is drawn, and what is seen of it, is light, until the page is.
    for light, scheme in ((True, "dark"), (False, "light")):
        page.emulate_media(color_scheme=scheme)
        for canvas in ("paper", "seen"):
            reds = page.evaluate(_REDS, canvas)
            assert reds
            assert {red > 128 for red in reds} == {light}


# Of the pixels of a canvas that are inked.
_REDS = """id => {
  const { width, height } = document.getElementById(id);
  const { data } = document.getElementById(id).getContext("2d")
    .getImageData(0, 0, width, height);
  const reds = [];
  for (let i = 0; i < data.length; i += 4)
    if (data[i + 3] > 200) reds.push(data[i]);
  return reds;
}"""


# --- Bad input --------------------------------------------------------------


def message(page):
    sync_api.expect(page.get_by_role("alert")).to_be_visible()
    assert not page.locator("#board").is_visible()
    assert not page.errors
    text = page.get_by_role("alert").inner_text()
    assert "\n" not in text
    return text


def test_a_browser_without_webassembly(visit):
    def prepare(page):
        page.add_init_script("delete window.WebAssembly")

    assert "has no WebAssembly" in message(visit(prepare))


def test_a_browser_without_vectors(visit):
    def prepare(page):
        page.add_init_script("WebAssembly.validate = () => false")

    assert "has no vectors (SIMD)" in message(visit(prepare))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"status": 404}, "could not be loaded.*ticket.wasm: status 404"),
        (None, "could not be loaded.*ticket.wasm: no answer"),
        ({"body": b"<html>"}, "does not run here.*ticket.wasm:"),
        ({"body": b""}, "does not run here.*ticket.wasm:"),
    ],
)
def test_a_ticket_that_does_not_load(answer, expected, visit):
    def prepare(page):
        page.route(
            "**/ticket.wasm",
            lambda route: route.fulfill(**answer) if answer else route.abort(),
        )

    assert re.search(expected, message(visit(prepare)))


def test_a_damaged_ticket(visit, folder):
    data = bytearray((folder / "ticket.wasm").read_bytes())
    del data[len(data) // 2 :]

    def prepare(page):
        page.route(
            "**/ticket.wasm", lambda route: route.fulfill(body=bytes(data))
        )

    assert "does not run here" in message(visit(prepare))
