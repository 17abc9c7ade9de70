from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from spherecv.errors import InvalidArgumentError
from spherecv.evaluate.groups import false_match_rates
from spherecv.evaluate.report import worst_pairs, write_report
from spherecv.evaluate.run import evaluate_lfw


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def experiment(tmp_path, make_people, subject, lfw_pairs):
    people = make_people(tmp_path / "noisy", noise=300)
    return evaluate_lfw(people, lfw_pairs(tmp_path / "pairs.txt", each=15), subject, replicates=10)


def test_the_page_needs_nothing_but_itself(tmp_path, experiment) -> None:
    rows = np.random.default_rng(0).normal(size=(30, 4))
    rates = false_match_rates(rows, ["x"] * 15 + ["<y>"] * 15, 0.4, replicates=5)
    other = replace(experiment, subject={**experiment.subject, "model": "<other>"}, groups=(rates,))
    path = write_report(tmp_path / "report", [experiment, other], command=["spherecv", "evaluate", "lfw", "a b"])
    text = path.read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.sources) >= 5
    assert all(source.startswith("data:image/") for source in page.sources)
    assert "http" not in re.sub(r"data:image/[^\"]+", "", text)
    assert "&lt;other&gt;" in text
    assert "&lt;y&gt;" in text
    assert "<other>" not in text
    quoted = "spherecv evaluate lfw &#x27;a b&#x27;"
    for word in ("AVE", "standard error", quoted, "model_key", "Too few impostor pairs"):
        assert word in text
    names = {file.name for file in path.parent.iterdir()}
    assert names == {
        "report.html", "report.json", "roc.png", "det.png", "histogram-1.png", "histogram-2.png", "groups-2-group.png",
    }  # fmt: skip
    saved = json.loads((path.parent / "report.json").read_text())
    assert saved["experiments"][0]["variants"][0]["folds"]["folds"] == [1, 2, 3, 4]
    assert saved["provenance"]["packages"]["numpy"] == np.__version__


def test_the_page_fits_a_phone(tmp_path, experiment, chromium) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    rows = np.random.default_rng(0).normal(size=(60, 4))
    rates = false_match_rates(rows, ["a", "b", "c", "d"] * 15, 0.4, replicates=5)
    named = {**experiment.subject, "model": "a-name-that-is-longer-than-the-screen-of-a-phone"}
    failures = {"folder/" * 12 + "a.jpg": "no face was found, however long it was looked for"}
    other = replace(experiment, subject=named, groups=(rates,), failures=failures)
    path = write_report(tmp_path / "report", [experiment, other, other], command=["spherecv", "evaluate", "x" * 99])
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 375, "height": 740}, is_mobile=True)
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 375
        assert page.evaluate("window.innerWidth") == 375  # a page without a viewport is laid out at 980
        assert page.evaluate("[...document.images].every((image) => image.getBoundingClientRect().right <= 375)")
        assert page.evaluate("[...document.querySelectorAll('table')].every((t) => t.closest('.wide'))")
        page.goto(write_report(tmp_path / "one", [experiment]).as_uri())
        assert page.evaluate("(w => w.scrollWidth <= w.clientWidth)(document.querySelector('.wide'))")  # two columns
        browser.close()


def test_the_worst_mistakes_come_first(experiment) -> None:
    false, missed = worst_pairs(experiment, 5)
    variant, same = experiment.variants[0], experiment.pairs.same
    accepted = variant.distances <= variant.thresholds
    assert len(false) + len(missed) > 0
    assert not same[false].any()
    assert accepted[false].all()
    assert same[missed].all()
    assert not accepted[missed].any()
    assert (np.diff(variant.distances[false]) >= 0).all()
    assert (np.diff(variant.distances[missed]) <= 0).all()


def test_a_report_of_nothing_is_refused(tmp_path) -> None:
    with pytest.raises(InvalidArgumentError, match="at least one experiment"):
        write_report(tmp_path, [])
