"""Reports: what is in them, that they stand alone, and that a browser shows them whole."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium.webdriver import Chrome

from hil.charts import spread
from hil.demo import command_line, main
from hil.lanes import lanes_of
from hil.procedures.run import PROCEDURES
from hil.report import compare_page, index_page, run_page, word_of, write_reports
from hil.tracefile import Check, Trace, TraceError, read_trace
from hil.trendlines import POINTS_MAX, decimated
from tests.hil import traces
from tests.hil.browser import MISPLACED, OVERFLOWING, browser, complaints, needs_browser, url


def parsed(**kind: Any) -> Trace:
    return Trace.model_validate_json(json.dumps(traces.trace(**kind)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with three traces, their reports, and one comparison."""
    folder = tmp_path_factory.mktemp("reports")
    kinds: dict[str, dict[str, Any]] = {"B1": {}, "B2": {"verdict": "known"}, "B10": {"verdict": "fail", "busy": True}}
    for name, kind in kinds.items():
        (folder / f"{name}.json").write_text(json.dumps(traces.trace(name, **kind)))
    names = [str(folder / f"{name}.json") for name in ("B10", "B1", "B2")]
    assert main(["report", *names, "--out", str(folder)]) == 0
    assert main(["compare", names[1], names[0], "--out", str(folder / "compare.html")]) == 0
    return folder


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    with browser() as driver:
        yield driver


def test_a_report_stands_alone(folder: Path) -> None:
    for page in folder.glob("*.html"):
        text = page.read_text()
        assert "<script" not in text
        names = set(re.findall(r'(?:src|href)="([^"#]+)"', text))
        assert all(re.fullmatch(r"B\d+\.(html|png)", name) for name in names), names
        assert not re.search(r"url\((?!#)|@import", text)
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert len(ids) == len(set(ids))
        links = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
        assert links <= set(ids)


def test_a_report_tells_all_checks_faults_alarms_and_the_first_out(folder: Path) -> None:
    trace = traces.trace("B10", verdict="fail", busy=True)
    text = (folder / "B10.html").read_text()
    for told in [
        *(check["text"] for check in trace["checks"]), *(check["bar"] for check in trace["checks"]),
        *(alarm["title"].strip() for alarm in trace["alarms"]), *(event["target"] for event in trace["events"]),
        *(channel["label"] for channel in trace["channels"].values() if not channel["label"].startswith("rack")),
        "✗ fail", "first out: TCS flow below need", "throttling 87 °C", "relief valve 900 kPa, off scale", "rack 4",
        "temperature, °C", "flow, L/min", "time since the start of the scenario, s",
    ]:  # fmt: skip
        assert told in text, told


def test_pictures_are_named_described_and_the_same_each_time(folder: Path) -> None:
    text = (folder / "B1.html").read_text()
    pictures = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    assert len(pictures) >= 8
    for picture in pictures:
        assert re.search(
            r'role="img" aria-labelledby="(\S+) (\S+)"><title id="\1">[^<]+</title><desc id="\2">', picture
        )
    assert text == run_page(read_trace(folder / "B1.json"))


def test_the_overview_counts_verdicts_and_sorts_as_people_do(folder: Path) -> None:
    text = (folder / "index.html").read_text()
    assert re.findall(r'href="(B\d+)\.html"', text) == ["B1", "B2", "B10"]
    assert "1 pass · 1 known · 1 fail" in text
    assert "pumps are not told apart by power yet" in text
    assert (folder / "B2.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("ok", "known", "word"), [(True, "", "pass"), (False, "", "fail"), (False, "x", "known"), (True, "x", "fail")]
)
def test_a_check_that_is_known_is_never_a_pass(ok: bool, known: str, word: str) -> None:
    assert word_of(Check(text="t", ok=ok, known=known)) == word


def test_a_comparison_shows_the_difference_of_each_check() -> None:
    one, other = traces.trace("B1"), traces.trace("B1", seed=8)
    other["checks"][1]["figure"] = 80.2
    other["checks"].append({"text": "only in B", "figure": 1.0, "bar": "any", "ok": True})
    other["channels"]["only_b"] = traces.channel("V", "electrical", "feed B", 400.0, 3)
    text = compare_page(*(Trace.model_validate_json(json.dumps(item)) for item in (one, other)))
    assert re.search(r"hottest chip</td>.*>76\.7</td>.*>80\.2</td>.*>\+3\.5</td>", text)
    assert re.search(r"only in B</td><td>not checked</td>", text)
    assert "not in this run" in text
    assert "feed B" in text


def test_texts_of_a_trace_can_not_become_markup() -> None:
    trace = traces.trace("B1")
    bad = "<img src=x onerror=alert(1)>&"
    trace["scenario"] |= {"name": bad, "text": bad, "family": bad}
    trace["checks"][0] |= {"text": bad, "bar": bad, "known": bad}
    trace["events"][0] |= {"fault": bad, "target": bad, "text": bad, "value": bad}
    trace["alarms"][0] |= {"title": bad, "priority": bad}
    trace["channels"]["flow"]["label"] = bad
    trace["first_out"] = trace["modes"][0]["mode"] = trace["modes"][0]["cause"] = trace["writes"][0]["point"] = bad
    checked = Trace.model_validate_json(json.dumps(trace))
    for text in (run_page(checked), index_page([("B1", checked)]), compare_page(checked, checked)):
        assert "<img" not in text


def test_an_empty_run_has_a_report_too() -> None:
    bare = {"schema": 1, "scenario": {"id": "X", "name": "nothing"}, "body": "virtual", "seconds": 1, "verdict": "pass"}
    assert "in virtual time" in run_page(Trace.model_validate_json(json.dumps(bare)))


def test_a_channel_without_a_value_is_left_out() -> None:
    trace = traces.trace("B1")
    trace["channels"]["level"]["v"] = [None] * len(trace["channels"]["level"]["t"])
    assert "reservoir" not in run_page(Trace.model_validate_json(json.dumps(trace)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema": 2}, "schema"),
        ({"verdict": "fine"}, "'pass', 'fail' or 'known'"),
        ({"channels": {"x": {"unit": "", "group": "", "label": "", "t": [1, 2], "v": [1]}}}, "channels.x"),
        ({"channels": {"x": {"unit": "", "group": "", "label": "", "t": [2, 1], "v": [1, 1]}}}, "never fall"),
        ({"seconds": "NaN"}, "seconds"),
    ],
)
def test_a_wrong_trace_is_refused_by_name(
    change: dict[str, Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "B1.json"
    path.write_text(json.dumps(traces.trace("B1") | change))
    assert main(["report", str(path), "--out", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert str(path) in err
    assert told in err
    assert not list(tmp_path.glob("*.html"))


def test_traces_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="name taken"):
        write_reports([tmp_path / "a" / "B1.json", tmp_path / "b" / "B1.json"], tmp_path)


def test_lanes_run_from_cause_to_effect_and_alarms_by_priority() -> None:
    lanes = lanes_of(parsed(busy=True))
    groups = list(dict.fromkeys(lane.group for lane in lanes))
    assert groups == ["Faults", "Mode", "Interlocks", "Alarms", "Writes"]
    alarms = [lane.label.partition(":")[0] for lane in lanes if lane.group == "Alarms"]
    assert alarms[-1].startswith("and ")
    order = ["critical", "high", "medium", "low"]
    assert alarms[:-1] == sorted(alarms[:-1], key=order.index)
    flow = next(lane for lane in lanes if "TCS flow below need" in lane.label and lane.group == "Alarms")
    assert flow.bars == [(2.2, 8.8, False)]
    assert flow.faint == [(8.8, 60.0)]


def test_labels_are_moved_apart_and_stay_inside() -> None:
    places = spread([50.0, 50.0, 51.0, 2.0, 99.0], 10.0, 0.0, 100.0)
    assert all(0 <= place <= 100 for place in places)
    ordered = sorted(places)
    assert all(late - early >= 10 - 1e-9 for early, late in pairwise(ordered))


def test_fewer_points_keep_the_extremes_and_the_gaps() -> None:
    values: list[float | None] = [0.0] * 5000
    values[2345], values[3456], values[4000] = 7.0, -7.0, None
    t, v = decimated([float(index) for index in range(5000)], values)
    assert len(t) <= POINTS_MAX
    assert np.nanmax(v) == 7.0
    assert np.nanmin(v) == -7.0
    assert np.isnan(v).any()


@needs_browser
@pytest.mark.peer
@pytest.mark.parametrize("name", ["B1", "B2", "B10", "compare", "index"])
def test_a_browser_shows_it_whole(name: str, folder: Path, driver: Chrome) -> None:
    driver.get(url(folder / f"{name}.html"))
    assert driver.execute_script(MISPLACED, "svg") == []  # type: ignore[no-untyped-call]
    for width in (1280, 400):
        driver.set_window_size(width, 900)
        assert driver.execute_script(OVERFLOWING) == [], width  # type: ignore[no-untyped-call]
    driver.set_window_size(1280, 900)
    assert complaints(driver) == []
    if name.startswith("B"):
        shown = driver.find_element("css selector", "main table").text
        assert all(check["text"] in shown for check in traces.trace(name)["checks"])


def test_the_commands_of_the_documents_are_understood() -> None:
    text = (Path(__file__).parents[2] / "docs" / "bench.md").read_text()
    commands = re.findall(r"^python -m hil (.+?)(?:  +#.*)?$", text, re.MULTILINE)
    assert len(commands) >= 10
    for command in commands:
        command_line().parse_args(shlex.split(command))
    named = {command.split()[1] for command in commands if command.startswith("procedure")}
    assert named == set(PROCEDURES)
