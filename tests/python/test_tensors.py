"""Tensors cross without a copy, in both directions, with their gradients; other threads go on meanwhile."""

import subprocess
import sys
import threading
import time

import pytest
import torch

import recast
from conftest import adapted


def test_tensors_share_their_memory(learned):
    task = learned.tasks["colours"]
    names = [name for name, number in task.numbers().items() if isinstance(number, torch.Tensor)]
    assert names
    for name in names:
        assert task.numbers()[name].data_ptr() == task.numbers()[name].data_ptr()
    mine = {name: task.numbers()[name].clone() for name in names}
    changed = task.with_numbers(mine)
    assert all(changed.numbers()[name].data_ptr() == mine[name].data_ptr() for name in names)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = changed(pixels)
        for name in names:
            mine[name].zero_()  # the task reads this memory
        after = changed(pixels)
    assert not torch.equal(before, after) and torch.equal(after, torch.zeros_like(after))


def test_a_strided_batch_gives_what_a_dense_one_gives(learned):
    task = learned.tasks["colours"]
    pixels = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(task(pixels), task(pixels.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)))


def test_gradients_flow_through_the_engine_into_numbers_and_pixels(learned):
    task = learned.tasks["colours"]
    numbers = {name: number.clone().requires_grad_() for name, number in task.numbers().items()}
    pixels = torch.randn(2, 3, 32, 32, requires_grad=True)
    task.with_numbers(numbers)(pixels).square().sum().backward()
    assert all(number.grad is not None and number.grad.abs().sum() > 0 for number in numbers.values())
    assert pixels.grad.abs().sum() > 0


def test_a_gradient_is_that_of_finite_differences(learned):
    task = learned.tasks["colours"]
    name = "recast.c@blocks.1.attn.qkv"
    c = task.numbers()[name].clone().requires_grad_()
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))

    def loss(c):
        return task.with_numbers({name: c})(pixels).square().mean()

    loss(c).backward()
    step = torch.zeros_like(c)
    step.view(-1)[0] = 1e-2
    with torch.no_grad():
        slope = (loss(c + step) - loss(c - step)) / 2e-2
    assert c.grad.view(-1)[0].item() == pytest.approx(slope.item(), rel=2e-2, abs=1e-4)


def test_what_a_caller_set_for_his_own_tensors_changes_no_number(learned):
    task = learned.tasks["colours"]
    pixels = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        plain = task(pixels)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(task(pixels), plain)
        with pytest.raises(recast.InvalidArgumentError, match="default dtype is Double"):
            torch.set_default_dtype(torch.float64)
            try:
                task(pixels)
            finally:
                torch.set_default_dtype(torch.float32)
        assert 0 < (task(pixels, bf16=True) - plain).norm() < 0.1 * plain.norm()
    with torch.inference_mode():
        assert learned.evaluate("colours")["rows"] > 0


def test_learning_works_where_gradients_are_off(model, images):
    with torch.no_grad():
        assert model.learn("colours", images, epochs=1, batch_size=8, test=False)["version"] == 1


def test_taps_and_features_have_the_shapes_that_are_promised(learned):
    out = learned.tasks["colours"].forward(torch.randn(2, 3, 32, 32), taps=["blocks.2"])
    assert out["logits"].shape == (2, 3) and out["features"].shape == (2, learned.feature_width)
    assert out["tap.blocks.2"].shape == (2, 17, 48)
    task = learned.tasks["colours"]
    assert torch.equal(task.head(out["features"]), out["logits"])


def test_other_threads_run_while_the_library_computes(learned):
    task, pixels = learned.tasks["colours"], torch.randn(64, 3, 32, 32)
    count, done = 0, threading.Event()

    def work():
        with torch.no_grad():
            for _ in range(20):
                task(pixels)
        done.set()

    worker = threading.Thread(target=work)
    worker.start()
    while not done.is_set():
        count += 1
        time.sleep(0.0005)
    worker.join()
    assert count > 10  # with the lock held there would be one turn a call at most


def test_threads_at_once_get_the_answers_of_one(learned):
    task, pixels = learned.tasks["colours"], torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        expected = task(pixels)
    answers = [None] * 4

    def work(place):
        with torch.no_grad():
            answers[place] = task(pixels)

    workers = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    assert all(torch.equal(answer, expected) for answer in answers)


def test_one_openmp_serves_torch_and_recast():
    look = ("import torch, re, sys; maps = lambda: {l.split()[-1] for l in open('/proc/self/maps') if re.search("
            "'lib[gi]?omp', l)}; before = maps(); import recast; recast.machine(); assert maps() == before, maps() ^ before; "
            "print(len(before))")
    path = [path for path in sys.path if path.endswith("python")]
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {look}"], capture_output=True,
                          text=True)
    assert done.returncode == 0 and int(done.stdout) <= 1, done.stderr


def test_an_adapted_network_makes_weights_in_the_memory_of_its_parameters():
    module = adapted()
    for name, number in recast.coefficients(module).items():
        assert any(number is parameter for parameter in module.parameters()), name
