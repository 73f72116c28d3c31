"""Streams and labs from Python: what the program does, with values in place of printed tables."""

import pytest

import recast
from conftest import FAST, program_json


def test_a_stream_is_the_programs(model, images, tmp_path):
    asked = {"increment": 1, "plugs": "ncm", "seed": FAST["seed"]}
    heard = []
    results = model.stream("colours", images, progress=heard.append, **asked)
    assert len(results["steps"]) == 3 and len(results["matrix"][2]) == 3
    assert any("step 3 of 3: top1" in report.text for report in heard if report.event == "note")
    assert [row["version"] for row in model.tasks.log("colours")] == [1, 2, 3]
    assert results["last"] == model.evaluate("colours")["top1"]
    theirs = program_json("stream", model.path, "--task", "other", "--data", images, "--plug", "ncm", "--increment", 1,
                          "--seed", FAST["seed"], "--keep", "none")
    for key in ("top1", "matrix", "average", "forgetting", "forward_transfer", "labels"):
        assert results[key] == theirs[key], key


def test_a_stream_that_was_stopped_goes_on(model, images):
    def enough(report):
        if report.event == "note" and report.text.startswith("step 2 of 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.stream("colours", images, increment=1, plugs="ncm", progress=enough)
    results = model.stream("colours", images, increment=1, plugs="ncm", resume=True)
    assert [step["version"] for step in results["steps"]] == [1, 2, 3]


def test_a_stream_needs_an_increment_and_a_directory_to_write_to(model, images):
    with pytest.raises(recast.InvalidArgumentError, match="increment"):
        model.stream("colours", images, increment=0, plugs="ncm")
    with pytest.raises(recast.InvalidArgumentError, match="blurry"):
        model.stream("colours", images, increment=1, kind="blurry")
    with pytest.raises(recast.UnavailableError, match="reading only"):
        recast.open(model.path, read_only=True).stream("colours", images, increment=1, plugs="ncm")


@pytest.fixture
def lab_file(frozen, images, tmp_path):
    file = tmp_path / "lab.yaml"
    file.write_text(f"title: toy\nmodel: {frozen}\ntasks:\n  colours: {{data: {images}}}\nrecipes:\n"
                    "  ncm: {plug: ncm}\n  head: {plug: linear-probe, epochs: 0}\nseeds: [5, 6]\nbaseline: ncm\n"
                    f"out: {tmp_path / 'out'}\n")
    return file


def test_a_lab_is_run_listed_and_reported(lab_file, tmp_path):
    assert {cell["state"] for cell in recast.lab_list(lab_file)} == {"missing"}
    heard = []
    results = recast.lab_run(lab_file, cells="colours/ncm", progress=heard.append)
    assert results["counts"] == {"cells": 4, "done": 2, "failed": 0, "left": 2} and heard
    results = recast.lab_run(lab_file)
    assert results["counts"]["done"] == 4 and (tmp_path / "out" / "report.html").exists()
    rows = {row["recipe"]: row for row in results["rows"]}
    assert len(rows["head"]["overall"]["top1"]["values"]) == 2
    again = recast.lab_report(lab_file)
    assert again["rows"] == results["rows"]
    assert {cell["state"] for cell in recast.lab_list(lab_file, "recipes.head.epochs=1")} == {"done", "changed"}
    assert recast.lab_list(lab_file, out=tmp_path / "elsewhere")[0]["state"] == "missing"


def test_a_lab_file_that_is_wrong_is_refused(lab_file):
    with pytest.raises(recast.InvalidArgumentError, match="did you mean"):
        recast.lab_run(lab_file, "recipes.ncm.epoch=1")
    with pytest.raises(recast.InvalidArgumentError, match="colour/"):
        recast.lab_list(lab_file, cells="colour/*")
