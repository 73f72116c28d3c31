"""Errors are Python's, one class for each code of the library's table; Ctrl-C is KeyboardInterrupt."""

import builtins
import os
import re
import signal
import warnings
from pathlib import Path

import pytest
import torch

import recast
from conftest import FAST, ROOT, toy_network
from recast import _core


@pytest.mark.parametrize("row", _core.error_table(), ids=lambda row: row["code"])
def test_every_code_is_raised_as_its_class_and_as_pythons_own(row):
    with pytest.raises(recast.Error, match="what was wrong") as raised:
        _core.raise_error(row["code"], "[test] what was wrong")
    assert raised.value.code == row["code"] and str(raised.value) == "[test] what was wrong"
    assert isinstance(raised.value, getattr(builtins, row["exception"]))
    assert type(raised.value) is getattr(recast, type(raised.value).__name__)
    stub = f"class {type(raised.value).__name__}(Error, {row['exception']}): ..."
    assert stub in (ROOT / "python/recast/errors.pyi").read_text()


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(recast.NotFoundError, match="absent"):
        recast.open(tmp_path / "absent")


def test_the_nearest_name_is_suggested(learned):
    with pytest.raises(LookupError, match="did you mean 'colours'"):
        learned.tasks["colour"]
    with pytest.raises(ValueError, match="did you mean 'lora'"):
        recast.methods("lorra")
    with pytest.raises(recast.InvalidArgumentError, match="rank"):
        recast.plugs.lora(rank=0)
    with pytest.raises(recast.InvalidArgumentError, match="did you mean 'rank'"):
        recast.plugs.lora(rnak=4)


def test_a_setting_of_the_wrong_type_is_a_type_error(learned, images):
    with pytest.raises(TypeError, match="epochs"):
        learned.learn("colours", images, epochs="many")


@pytest.mark.parametrize("pixels, error", [
    (torch.zeros(2, 3, 32), recast.ShapeMismatchError),
    (torch.zeros(2, 1, 32, 32), recast.ShapeMismatchError),
    (torch.zeros(1, 3, 33, 32), recast.ShapeMismatchError),
    (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), recast.InvalidArgumentError),
    (torch.zeros(1, 3, 32, 32).to_sparse(), recast.InvalidArgumentError),
    (torch.zeros(1, 3, 32, 32, device="meta"), recast.InvalidArgumentError),
])
def test_tensors_that_are_no_images_are_refused(learned, pixels, error):
    with pytest.raises(error):
        learned.tasks["colours"](pixels)


def test_tensors_that_are_no_features_are_refused(learned):
    task = learned.tasks["colours"]
    features = torch.randn(2, learned.feature_width)
    assert torch.equal(task.head(features.double()), task.head(features)), "any floating type is taken"
    for wrong in (features.int(), features.to_sparse(), features.to("meta")):
        with pytest.raises(recast.InvalidArgumentError, match="features"):
            task.head(wrong)
    for wrong in (features[0], features[:, 1:], torch.tensor(1.0)):
        with pytest.raises(recast.ShapeMismatchError, match="features"):
            task.head(wrong)


def test_tensors_that_cannot_be_numbers_are_refused(learned):
    task = learned.tasks["colours"]
    name, number = next((name, number) for name, number in task.numbers().items() if isinstance(number, torch.Tensor))
    for wrong in (number.to_sparse(), number.to("meta")):
        with pytest.raises(recast.InvalidArgumentError, match=re.escape(name)):
            task.with_numbers({name: wrong})


def test_pixels_that_are_not_dense_are_refused(learned):
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    for wrong in (image.to_sparse(), image.to("meta")):
        for call in (recast.encode_png, lambda image: recast.evaluation_pixels(image, learned.preprocessing),
                     lambda image: recast.normalise(image[None], learned.preprocessing)):
            with pytest.raises(recast.InvalidArgumentError, match="dense"):
                call(wrong)


def test_a_directory_that_was_opened_for_reading_only_learns_nothing(learned, images):
    reading = recast.open(learned.path, read_only=True)
    with pytest.raises(recast.UnavailableError, match="reading only"):
        reading.learn("other", images, **FAST)
    with pytest.raises(recast.UnavailableError, match="reading only"):
        reading.tasks["colours"].commit("other")
    assert "other" not in recast.open(learned.path).tasks


def test_a_seed_learns_once(model, images):
    with pytest.raises(recast.InvalidArgumentError, match="seed 3 is given twice"):
        model.learn("colours", images, **{**FAST, "seeds": [3, 4, 3]})
    assert "colours" not in model.tasks


def test_a_text_stands_for_a_list_of_one(learned, images):
    task, image = learned.tasks["colours"], next(images.glob("*/*.png"))
    assert learned.predict("colours", image)["predictions"] == learned.predict("colours", [image])["predictions"]
    assert "tap.blocks.0" in task.forward(torch.zeros(1, 3, 32, 32), taps="blocks.0")


def test_an_option_holds_no_other_one():
    for options in ({"targets": "qkv,rank=8"}, {"alias": "a,rank=8"}):
        with pytest.raises(recast.InvalidArgumentError, match="comma"):
            recast.plugs.lora(**options)


def test_a_damaged_image_is_data_corruption(tmp_path):
    with pytest.raises(recast.DataCorruptionError):
        recast.decode_image(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(recast.UnsupportedError, match="no image that is known"):
        recast.decode_image(b"text")
    (tmp_path / "here").write_bytes(b"")
    with pytest.raises(FileExistsError):
        recast.write_model(toy_network(), tmp_path)


def test_ctrl_c_stops_after_the_step_and_the_run_goes_on_to_the_same_bits(model, images, learned):
    steps = []

    def press(report):
        if report.event == "step":
            steps.append(report.done)
        if report.event == "epoch" and report.figures["stage"] == "train":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as stopped:
        model.learn("colours", images, progress=press, **FAST)
    assert any("resume" in note for note in stopped.value.__notes__)
    assert "colours" not in model.tasks
    with pytest.raises(recast.AlreadyExistsError, match="unfinished"):
        model.learn("colours", images, **FAST)
    heard = []
    results = model.learn("colours", images, resume=True, progress=heard.append, **FAST)
    assert sum(report.event == "epoch" and report.figures["stage"] == "train" for report in heard) == 1  # the second one
    whole = learned.tasks["colours"].numbers()
    for name, number in model.tasks["colours"].numbers().items():
        assert torch.equal(number, whole[name]), name
    assert results["test"] == learned.tasks["colours"].record["metrics"]["test"]


def test_what_a_progress_function_raises_comes_out(model, images):
    class Enough(Exception):
        pass

    def enough(report):
        if report.event == "step":
            raise Enough

    with pytest.raises(Enough):
        model.learn("colours", images, progress=enough, **FAST)
    with pytest.raises(Enough):
        recast.mimic(model.path, Path(model.path).parent / "new", groups=2, solver="gradient", steps=50,
                     progress=enough)
    assert not (Path(model.path).parent / "new").exists()


def test_what_makes_figures_doubtful_is_a_warning(model, images, tmp_path):
    import shutil
    shutil.copytree(images, tmp_path / "twice")
    for file in list((tmp_path / "twice" / "red").glob("0*.png")):
        shutil.copy(file, file.with_name("copy_" + file.name))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        model.learn("colours", tmp_path / "twice", **FAST)
    assert any(issubclass(warning.category, recast.RecastWarning) for warning in heard)


def _cannot_be_pickled(learned, images):
    dataset = recast.Dataset(images)
    loader = recast.DataLoader(dataset, "test", preprocessing=learned.preprocessing)
    return {
        "recast.open(path)": learned,
        "recast.open(path).tasks[name]": learned.tasks["colours"],
        "recast.Dataset(path, ...)": dataset,
        "num_workers=0": loader._images,
        "recast.save_task()": recast.adapt(toy_network(), target="attn", groups=2)._recast,
    }


def test_what_cannot_be_pickled_says_what_to_do_instead(learned, images):
    import pickle
    for advice, what in _cannot_be_pickled(learned, images).items():
        with pytest.raises(TypeError, match=re.escape(advice)) as raised:
            pickle.dumps(what)
        assert "\n" not in str(raised.value)


def test_copies_of_tasks_and_datasets_are_made_and_others_say_what_to_do_instead(learned, images):
    import copy
    task = learned.tasks["colours"]
    other = copy.deepcopy(task)
    name, number = next((name, number) for name, number in other.numbers().items() if isinstance(number, torch.Tensor))
    assert torch.equal(number, task.numbers()[name])
    number.add_(1)
    assert not torch.equal(number, task.numbers()[name]), "a copy has numbers of its own"
    assert other.labels == task.labels and other.labels is not task.labels
    dataset = recast.Dataset(images)
    assert copy.deepcopy(dataset).describe() == dataset.describe()
    for advice, what in {"recast.open(path)": learned, "another loader": recast.DataLoader(dataset, "test")}.items():
        with pytest.raises(TypeError, match=re.escape(advice)):
            copy.deepcopy(what)


def test_stubs_name_what_the_module_has():
    import ast
    tree = ast.parse((ROOT / "python/recast/_core.pyi").read_text())

    def names(body):
        found = set()
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            if isinstance(node, ast.AnnAssign):
                found.add(node.target.id)
        return found

    assert names(tree.body) == {name for name in dir(_core) if not name.startswith("__")}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            has = {name for name in vars(getattr(_core, node.name)) if not name.startswith("_")}
            assert {name for name in names(node.body) if not name.startswith("_")} == has, node.name


def test_the_stub_of_plug_ins_is_python_and_complete():
    import ast
    import subprocess
    import sys
    path = os.pathsep.join(path for path in sys.path if path)
    made = subprocess.run([sys.executable, ROOT / "python/stubs/make_plug_stubs.py"], check=True, capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": path}).stdout
    functions = {node.name for node in ast.parse(made).body if isinstance(node, ast.FunctionDef)}
    assert functions >= {recast.plugs.python_name(method["name"]) for method in recast.methods()}
    assert re.search(r"def lora\(\*, rank: int = 4", made)


def test_every_public_name_is_documented():
    for name in recast.__all__:
        value = getattr(recast, name)
        assert (value.__doc__ or "").strip(), name
        if isinstance(value, type) and value.__module__.startswith("recast."):
            for member, what in vars(value).items():
                plain = not member.startswith("_") and (callable(what) or isinstance(what, property))
                assert not plain or (what.__doc__ or "").strip(), f"{name}.{member}"
