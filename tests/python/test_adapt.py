"""A timm network as a plain torch.nn.Module whose weights recast makes."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrize

import recast
from conftest import CLASSES, adapted, program_json, timm, toy_network


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def fit(module, pixels, labels, steps=4, rate=0.05):
    optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=rate)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = cross_entropy(module(pixels), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_an_adapted_network_starts_with_the_networks_logits(pixels):
    network = toy_network()
    with torch.no_grad():
        assert (recast.adapt(network, target="attn", groups=2)(pixels) - network(pixels)).abs().max() < 1e-5
        assert (recast.adapt(network, target="all", groups=2)(pixels) - network(pixels)).abs().max() < 1e-5
    assert not parametrize.is_parametrized(network)  # a copy was adapted


def test_only_coefficients_and_head_learn(pixels):
    module = adapted()
    before = copy.deepcopy(module.state_dict())
    learning = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert learning == {f"blocks.{n}.attn.qkv.parametrizations.weight.original" for n in range(4)} | {
        "head.weight", "head.bias"}
    losses = fit(module, pixels, torch.arange(6) % 3)
    assert losses[-1] < losses[0]
    moved = {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == learning


def test_a_stored_module_is_a_task_that_the_engine_and_the_program_compute(pixels, tmp_path):
    module = adapted()
    fit(module, pixels, torch.arange(6) % 3)
    model = recast.write_model(module, tmp_path / "model")
    assert recast.save_task(module, model, "colours", CLASSES) == 1
    with torch.no_grad():
        logits = module.eval()(pixels)
        assert (model.tasks["colours"](pixels) - logits).abs().max() < 1e-5
    assert program_json("inspect", model.path)["tasks"] == 1
    again = adapted()
    recast.load_task(again, model, "colours")
    with torch.no_grad():
        assert torch.equal(again.eval()(pixels), logits)


def test_a_task_that_was_learned_here_runs_in_a_timm_network(learned, pixels):
    network = toy_network()
    network.reset_classifier(5)  # the head gets the task's three classes
    module = recast.adapt(network, directory=learned)
    record = recast.load_task(module, learned, "colours")
    with torch.no_grad():
        assert (module.eval()(pixels) - learned.tasks["colours"](pixels)).abs().max() < 1e-5
    assert record["labels"] == CLASSES == learned.tasks["colours"].labels


@pytest.mark.parametrize("plug", ["recast:grain=head", "recast:bits=16", "lora:rank=2", "norm-tuning"])
def test_other_plug_ins_that_make_weights_work_as_well(pixels, tmp_path, plug):
    network = toy_network()
    module = recast.adapt(network, plug, groups=2)
    with torch.no_grad():
        assert (module(pixels) - network(pixels)).abs().max() < 1e-5
    losses = fit(module, pixels, torch.arange(6) % 3, steps=3, rate=0.02)
    assert losses[-1] < losses[0]
    assert all(number.grad is not None for number in recast.coefficients(module).values() if number.requires_grad)
    model = recast.write_model(module, tmp_path / "model")
    recast.save_task(module, model, "colours", CLASSES)
    with torch.no_grad():
        close = 1e-2 if "bits" in plug else 1e-5
        assert (model.tasks["colours"](pixels) - module.eval()(pixels)).abs().max() < close
    recast.load_task(module, model, "colours")
    with torch.no_grad():
        assert (model.tasks["colours"](pixels) - module(pixels)).abs().max() < 1e-5


def test_two_plug_ins_share_a_network(pixels):
    module = recast.adapt(toy_network(), [recast.plugs.recast(), recast.plugs.lora(rank=1, targets="qkv")],
                          groups=2)
    names = {name.split("@")[0] for name in recast.coefficients(module)}
    assert {"recast.c", "lora.a", "lora.b"} <= names
    module(pixels).sum().backward()


def test_a_convolutional_network_keeps_its_statistics(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=3).eval()
    module = recast.adapt(network, image_size=32)
    pixels = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        expected = network(pixels)
        assert (module(pixels) - expected).abs().max() < 1e-5 * expected.abs().max().clamp(min=1)
        module.train()
        assert torch.allclose(module(pixels), network(pixels), atol=1e-5)
    assert {name.split("@")[1].split(".")[0] for name in recast.coefficients(module)} <= {
        "layer1", "layer2", "layer3", "layer4"}


def test_a_network_of_timm_becomes_a_model_directory(pixels, tmp_path):
    network = toy_network()
    model = recast.write_model(network, tmp_path / "model")
    with torch.no_grad():
        theirs = network.forward_head(network.forward_features(pixels), pre_logits=True)
        assert (model.features(pixels) - theirs).abs().max() < 1e-5
    assert model.bank() == {} and model.preprocessing.size_px == 32
    assert model.preprocessing.mean == tuple(network.pretrained_cfg["mean"])
    made = recast.mimic(model.path, tmp_path / "mimicked", target="attn", groups=2)
    assert made["relative_error"] == 0 and made["fingerprint"] == recast.write_model(
        adapted(), tmp_path / "adapted").fingerprint


def test_a_copy_learns_on_its_own(pixels):
    module = adapted()
    other = copy.deepcopy(module)
    fit(other, pixels, torch.arange(6) % 3, steps=1)
    with torch.no_grad():
        assert (module(pixels) - toy_network()(pixels)).abs().max() < 1e-5
        assert not torch.equal(other(pixels), module(pixels))
    module.load_state_dict(other.state_dict())
    with torch.no_grad():
        assert torch.equal(other(pixels), module(pixels))


def test_a_weight_can_be_baked_in(pixels):
    module = adapted()
    with torch.no_grad(), parametrize.cached():
        before = module(pixels)
    for block in module.blocks:
        parametrize.remove_parametrizations(block.attn.qkv, "weight")
    with torch.no_grad():
        assert torch.equal(module(pixels), before)


def test_what_cannot_be_adapted_is_refused_with_the_reason(learned, tmp_path):
    with pytest.raises(recast.UnsupportedError, match="adaptformer"):
        recast.adapt(toy_network(), "adaptformer")
    with pytest.raises(recast.UnsupportedError):
        recast.adapt(torch.nn.Linear(2, 2))
    with pytest.raises(recast.UnsupportedError, match="other features"):
        odd = toy_network()
        for block in odd.blocks:
            block.mlp.act = torch.nn.ReLU()
        recast.adapt(odd, groups=2)
    with pytest.raises(recast.ShapeMismatchError, match="other weights"):
        recast.adapt(toy_network(seed=9), directory=learned)
    with pytest.raises(recast.ShapeMismatchError, match="by recast, those of this network by lora"):
        recast.load_task(recast.adapt(toy_network(), "lora", directory=learned), learned, "colours")
    module = adapted()
    model = recast.write_model(module, tmp_path / "model")
    with torch.no_grad():
        module.norm.weight.add_(1)
    with pytest.raises(recast.ShapeMismatchError, match="norm.weight"):
        recast.save_task(module, model, "colours", CLASSES)
    with pytest.raises(recast.ShapeMismatchError, match="labels"):
        recast.save_task(adapted(), model, "colours", ["one", "two"])
    with pytest.raises(RuntimeError, match="frozen parts"):
        module.blocks[0].attn.qkv.weight = torch.zeros(144, 48)
    with pytest.raises(recast.InvalidArgumentError, match="recast.adapt"):
        recast.coefficients(toy_network())
