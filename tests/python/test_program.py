"""Python and the program are two doors to the same library."""

import numpy
import pytest
import torch

import recast
from conftest import FAST, program, program_json


def test_learning_gives_the_programs_numbers_bit_for_bit(learned, frozen, images, tmp_path):
    import shutil
    shutil.copytree(frozen, tmp_path / "model")
    program("learn", tmp_path / "model", "--task", "colours", "--data", images, "--epochs", FAST["epochs"],
            "--batch-size", FAST["batch_size"], "--seed", FAST["seed"])
    theirs = recast.open(tmp_path / "model").tasks["colours"]
    ours = learned.tasks["colours"]
    assert ours.numbers().keys() == theirs.numbers().keys()
    for name, number in ours.numbers().items():
        assert torch.equal(number, theirs.numbers()[name]), name
    assert ours.record["metrics"]["validation"] == theirs.record["metrics"]["validation"]
    assert ours.record["metrics"]["test"] == theirs.record["metrics"]["test"]


def test_predictions_are_the_programs_bit_for_bit(learned, images):
    files = sorted(images.glob("*/0[0-4].png"))
    ours = learned.predict("colours", files, top=2)
    theirs = program_json("predict", learned.path, "--task", "colours", *files, "--top", "2")
    assert ours["predictions"] == theirs["predictions"]
    assert len(ours["predictions"]) == len(files)


def test_evaluation_is_the_programs(learned):
    ours, theirs = learned.evaluate("colours"), program_json("eval", learned.path, "--task", "colours")
    for key in ("rows", "top1", "top1_interval95", "loss", "per_class", "confusion"):
        assert ours[key] == theirs[key], key


def test_a_loader_gives_the_splits_and_pixels_that_tasks_are_learned_from(learned, images):
    task = learned.tasks["colours"]
    dataset = recast.Dataset(images)
    assert dataset.describe()["sha256"] == task.record["data"]["sha256"]
    loader = learned.loader(dataset, "test", batch_size=4)
    with torch.no_grad():
        right = sum(int((task(pixels).argmax(1) == labels).sum()) for pixels, labels in loader)
    assert right / loader.rows == learned.evaluate("colours")["top1"]


def test_a_task_answers_as_predict_does(learned, images):
    file = next(images.glob("*/03.png"))
    task = learned.tasks["colours"]
    pixels = recast.evaluation_pixels(recast.decode_image(file), task.preprocessing)
    with torch.no_grad():
        logits = task(recast.normalise([pixels], task.preprocessing))[0]
    said = learned.predict("colours", [file])["predictions"][0]["logits"]
    numpy.testing.assert_allclose(logits.numpy(), said, atol=1e-5)
    assert task.labels[int(logits.argmax())] == learned.predict("colours", [file])["predictions"][0]["label"]


def test_tasks_are_listed_versioned_exported_and_imported(learned, model, tmp_path):
    file = tmp_path / "colours.safetensors"
    assert learned.tasks.export("colours", file)["bytes"] == file.stat().st_size
    assert model.tasks.list() == []
    model.tasks.import_(file)
    model.tasks.import_(file)
    assert list(model.tasks) == ["colours"] and "colours" in model.tasks and "colour" not in model.tasks
    assert [version["version"] for version in model.tasks.log("colours")] == [1, 2]
    assert model.tasks.diff("colours:1", "colours:2")["equal"]
    model.tasks.tag("colours:1", "first")
    assert model.tasks.tags("colours") == {"first": 1} and model.tasks["colours:first"].version == 1
    assert model.tasks.rollback("colours", 1)["version"] == 3
    model.tasks.remove("colours")
    assert len(model.tasks) == 0 and len(model.tasks.list(with_removed=True)) == 1
    assert model.tasks.show("colours:2")["plugs"] == learned.tasks.show("colours")["plugs"]


def test_the_doctor_looks_at_the_store_that_it_is_given(learned):
    assert recast.doctor(learned.path)["model"]["tasks"] == 1
    report = recast.doctor(learned.path, store="postgresql://me@127.0.0.1:1/fleet")
    assert not report["healthy"] and any("127.0.0.1:1" in check["text"] for check in report["checks"])


def test_an_exported_graph_answers_as_the_task(learned, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the Python module onnxruntime is missing")
    made = learned.export_onnx(tmp_path / "colours.onnx", "colours")
    session = onnxruntime.InferenceSession(made["file"], providers=["CPUExecutionProvider"])
    pixels = torch.randn(2, 3, 32, 32)
    answer = session.run(["logits"], {"image": pixels.numpy()})[0]
    with torch.no_grad():
        numpy.testing.assert_allclose(answer, learned.tasks["colours"](pixels).numpy(), atol=1e-4)
    inputs = learned.export_onnx_inputs("colours", tmp_path / "colours.safetensors")
    assert inputs["classes"] == 3 and inputs["coefficients"] > 0


def test_the_registry_makes_a_function_of_every_plug_in():
    described = {method["name"]: method for method in program_json("methods")["methods"]}
    assert {method["name"] for method in recast.methods()} == set(described)
    for name, method in described.items():
        made = getattr(recast.plugs, recast.plugs.python_name(name))
        assert method["summary"][1:] in made.__doc__
        for option in method["options"]:
            assert option["help"] in made.__doc__
        assert str(made()) == name  # defaults are not spelled out
    assert str(recast.plugs.lora(rank=8, alias="second")) == "lora:rank=8,as=second"
