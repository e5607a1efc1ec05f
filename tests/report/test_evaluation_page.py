import base64
import io
import os
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from blemish.errors import BlemishError
from blemish.imaging.heatmaps import HeatmapScale
from blemish.imaging.reading import Reading
from blemish.report.evaluation_page import write_report
from blemish.report.gallery import MAX_CARDS, choose

SCALE = HeatmapScale(low=1.0, high=6.0, threshold=2.0)
VOID = {"meta", "img", "link", "br", "input"}


@dataclass(frozen=True)
class Sample:
    path: Path
    defect: str | None = None
    mask: Path | None = None

    @property
    def anomalous(self) -> bool:
        return self.defect is not None


def evaluated(path, score, *, defect=None, mask=None, verdict=None, size=(48, 64)):
    anomaly_map = np.full((16, 16), 1.0, np.float32)
    anomaly_map[4:6, 8:10] = score
    scored = SimpleNamespace(
        is_of=lambda image: True,
        source=str(path),
        score=float(score),
        p_value=0.05,
        verdict=verdict or ("anomalous" if score >= SCALE.threshold else "ok"),
        anomaly_map=anomaly_map,
        size=size,
        ignored=None,
    )
    return SimpleNamespace(sample=Sample(path, defect, mask), scored=scored)


def evaluation_of(images, **changes):
    metrics = {
        "image_auroc": 0.9125, "pixel_auroc": 0.9875, "aupro": 0.8625, "image_ap": 0.7, "f1_max": 0.6,
        "false_alarm_rate": 1 / 3, "detection_rate": 0.5, "images": len(images), "images_per_second": 41.34,
        "ignored": 0.0, "per_defect": {
            "crack": {"images": 2, "image_auroc": 0.8125, "pixel_auroc": None, "detected": 1, "detection_rate": 0.5}
        },
    }  # fmt: skip
    fields = {
        "model": "screws.onnx", "data": "screws/", "images": images, "failed": [], "metrics": metrics,
        "scale": SCALE, "false_alarm_rate": 0.01, "calibration_statement": "At most 1 in 100.",
        "metadata": {"backbone": "lite0", "training": {"images": 256}},
        "reading": Reading(),
    }  # fmt: skip
    return SimpleNamespace(**(fields | changes))


def save_image(path, *, noise=False, size=(64, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels if noise else pixels // 64 + 100).save(path)
    return path


@pytest.fixture
def images(tmp_path):
    """Five images, one of each outcome and an unsure one, in no particular order."""
    mask = tmp_path / "masks" / "missed.png"
    mask.parent.mkdir()
    painted = np.zeros((48, 64), np.uint8)
    painted[10, 10:50] = 255  # a hairline
    Image.fromarray(painted).save(mask)
    return [
        evaluated(save_image(tmp_path / "good" / "passed.png"), 1.1),
        evaluated(save_image(tmp_path / "crack" / "found.png"), 5.0, defect="crack"),
        evaluated(save_image(tmp_path / "good" / "alarm.png"), 3.0),
        evaluated(save_image(tmp_path / "crack" / "missed.png"), 1.5, defect="crack", mask=mask),
        evaluated(save_image(tmp_path / "good" / "unsure.png"), 1.9, verdict="unsure"),
    ]


class Page(HTMLParser):
    """A parsed report: its cards in order, every attribute that could load something, and its text."""

    def __init__(self, path: Path):
        super().__init__()
        self.cards, self.sources, self.pictures, self.words, self.open = [], [], [], [], []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        attributes = dict(attributes)
        if tag == "article":
            self.cards.append(attributes)
        if tag == "img":
            self.pictures.append(attributes["src"])
        self.sources += [attributes[name] for name in ("src", "href", "xlink:href") if name in attributes]

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def names(self):
        return [card["data-name"].rpartition("/")[2] for card in self.cards]


@pytest.fixture
def page_of(tmp_path):
    def build(evaluation):
        write_report(evaluation, tmp_path / "report.html")
        return Page(tmp_path / "report.html")

    return build


def decoded(picture):
    head, _, data = picture.partition(",")
    assert head in ("data:image/jpeg;base64", "data:image/png;base64")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_the_page_needs_nothing_beside_it(page_of, images):
    page = page_of(evaluation_of(images))
    assert page.open == []
    assert all(source.startswith(("data:", "#")) for source in page.sources)
    assert not re.search(r"@import|url\((?!#)|<link|<script src", page.html)
    addresses = set(re.findall(r"https?://[^\"' ]+", page.html))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "prefers-color-scheme: dark" in page.html
    assert "@media print" in page.html


def test_misses_come_first_then_false_alarms_then_the_rest_by_score(page_of, images):
    page = page_of(evaluation_of(images))
    assert page.names == ["missed.png", "alarm.png", "found.png", "unsure.png", "passed.png"]
    tags = {name: set(card["data-tags"].split()) for name, card in zip(page.names, page.cards, strict=True)}
    assert "missed" in tags["missed.png"]
    assert "false-alarm" in tags["alarm.png"]
    assert "unsure" in tags["unsure.png"]
    assert all(sum(kind in tag for tag in tags.values()) == 1 for kind in ("missed", "false-alarm", "unsure"))
    assert page.cards[1]["data-score"] == "3.0"


def test_an_unsure_verdict_on_a_defect_is_a_miss(page_of, images):
    unsure = evaluated(images[3].sample.path, 1.95, defect="crack", verdict="unsure")
    page = page_of(evaluation_of([*images, unsure]))
    assert {"missed", "unsure"} <= set(page.cards[0]["data-tags"].split())


def test_the_figures_are_those_of_the_evaluation(page_of, images):
    text = page_of(evaluation_of(images)).text
    for words in (
        "image AUROC 0.912", "pixel AUROC 0.988", "AUPRO 0.863", "detection rate 50 %",
        "1 of 2 defective images",
        "false-alarm rate 33.3 %", "1 of 3 good images; asked 1 %", "images 5 3 good, 2 defective",
        "images a second 41.3", "At most 1 in 100.", "lite0", "crack 2 50 % 0.812 –", "onnxruntime",
    ):  # fmt: skip
        assert words in text


def test_pictures_are_image_heatmap_and_mask(page_of, images):
    page = page_of(evaluation_of(images))
    photograph, heatmap, mask = (decoded(picture) for picture in page.pictures[:3])
    assert photograph.size == mask.size == (64, 48)
    assert np.asarray(mask)[10, 10:50].all()
    assert np.asarray(mask).sum() == 40
    assert max(heatmap.size) == 256
    assert len(page.pictures) == 2 * 5 + 1


def test_a_hairline_annotation_is_still_seen_on_the_thumbnail_of_a_large_image(page_of, tmp_path):
    path = save_image(tmp_path / "crack" / "large.png", size=(1600, 1200))
    painted = np.zeros((1200, 1600), np.uint8)
    painted[:, 801] = 255
    Image.fromarray(painted).save(tmp_path / "mask.png")
    item = evaluated(path, 1.5, defect="crack", mask=tmp_path / "mask.png", size=(1200, 1600))
    page = page_of(evaluation_of([item]))
    photograph, heatmap, mask = (decoded(picture) for picture in page.pictures)
    assert photograph.size == heatmap.size == mask.size == (256, 192)
    assert np.asarray(mask).any(axis=1).all()


def test_good_images_alone_make_a_report_that_says_what_is_lacking(page_of, images):
    good = [item for item in images if not item.sample.anomalous]
    lacking = ("image_auroc", "pixel_auroc", "aupro", "image_ap", "f1_max", "detection_rate")
    metrics = evaluation_of(good).metrics | dict.fromkeys(lacking) | {"per_defect": {}}
    text = page_of(evaluation_of(good, metrics=metrics)).text
    assert "image AUROC – no defective test images" in text
    assert "pixel AUROC – no masks in the test set" in text
    assert "detection rate – no defective test images" in text
    assert "no ROC curve: no defective test images" in text


def test_defective_images_alone_make_a_report_that_says_what_is_lacking(page_of, images):
    defective = [item for item in images if item.sample.anomalous]
    metrics = evaluation_of(defective).metrics | {"image_auroc": None, "false_alarm_rate": None}
    text = page_of(evaluation_of(defective, metrics=metrics)).text
    assert "image AUROC – no good test images" in text
    assert "false-alarm rate – no good test images" in text


def test_nothing_to_report_is_refused(tmp_path):
    with pytest.raises(BlemishError, match="nothing to report"):
        write_report(evaluation_of([]), tmp_path / "report.html")


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)<script>.png", "a&b'\"c.png", "Schräube ネジ.png", os.fsdecode(b"\xff.png")],
    ids=["markup", "quotes", "not ascii", "not utf-8"],
)
def test_any_file_name_is_text(page_of, tmp_path, name):
    item = evaluated(save_image(tmp_path / "odd" / name), 1.5, defect="<b>&crack")
    failed = [("<i>x.png", "truncated after 18 KB")]
    page = page_of(evaluation_of([item], failed=failed, model="<u>", metadata={"<s>": ["<s>"]}))
    shown = "\\udcff.png" if "\udcff" in name else name
    assert page.names == [shown]
    assert shown in page.text
    assert {"<i>x.png", "<u>", "<b>&crack"} <= {word.strip() for word in page.words}
    assert page.html.count("<script>") == 1


def test_unreadable_images_are_announced_and_listed(page_of, images):
    text = page_of(evaluation_of(images, failed=[("good/9.png", "truncated after 18 KB")])).text
    assert "1 image could not be read" in text
    assert "good/9.png truncated after 18 KB" in text


@given(st.lists(st.tuples(st.floats(0, 4), st.booleans()), min_size=1, max_size=40), st.integers(1, 45))
@settings(max_examples=60, deadline=None)
def test_what_is_left_out_is_never_a_fault_while_a_faultless_image_is_shown(images, most):
    items = [
        evaluated(Path(f"{index}.png"), score, defect="crack" if defective else None)
        for index, (score, defective) in enumerate(images)
    ]

    def faulty(item):
        return item.sample.anomalous != (item.scored.score >= SCALE.threshold)

    chosen = choose(items, most)
    assert len(chosen) == min(most, len(items))
    assert len({id(item) for item in chosen}) == len(chosen)
    faults = sum(map(faulty, items))
    assert sum(map(faulty, chosen)) == min(faults, most)
    assert all(map(faulty, chosen[:faults]))
    rest = [item.scored.score for item in chosen[faults:]]
    assert rest == sorted(rest, reverse=True)


def test_the_page_says_how_many_images_it_leaves_out(page_of, images, monkeypatch):
    monkeypatch.setattr("blemish.report.gallery.MAX_CARDS", 3)
    page = page_of(evaluation_of(images))
    assert page.names[:2] == ["missed.png", "alarm.png"]
    assert "3 of 5 images are shown" in page.text
    assert "2 are left out" in page.text


def test_four_hundred_images_of_pure_noise_stay_under_20_megabytes(page_of, tmp_path):
    path = save_image(tmp_path / "noise.png", noise=True, size=(256, 256))
    one, five = (len(page_of(evaluation_of([evaluated(path, 5.0, size=(256, 256))] * count)).html) for count in (1, 5))
    assert one + (MAX_CARDS - 1) * (five - one) / 4 < 20e6
