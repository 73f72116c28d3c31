"""Loaders: batches of tensors that repeat."""

import dataclasses

import pytest
import torch

import recast
from conftest import CLASSES

SMALL = recast.Preprocessing(size_px=16, crop_pct=1.0)


@pytest.fixture(scope="module")
def dataset(images):
    return recast.Dataset(images, split_seed=7)


def test_a_dataset_has_classes_and_disjoint_splits(dataset):
    assert dataset.classes == CLASSES and dataset.kind == "folder"
    ids = [{id for id, _ in dataset.examples(split)} for split in ("train", "validation", "test")]
    assert sum(map(len, ids)) == 36 == len(set().union(*ids))
    assert dataset.image("train", 0).shape == (3, 32, 32) and dataset.image("train", 0).dtype == torch.uint8
    with pytest.raises(recast.InvalidArgumentError, match="train, validation or test"):
        dataset.examples("dev")


def test_a_dataset_of_some_classes_keeps_the_splits_of_all(images, dataset):
    some = recast.Dataset(images, split_seed=7, classes=["red", "blue"], limit_validation=1)
    assert some.classes == ["blue", "red"] and some.superclasses == {}
    for split in ("train", "validation", "test"):
        of_all = {id for id, label in dataset.examples(split) if dataset.classes[label] in some.classes}
        own = {id for id, _ in some.examples(split)}
        assert own <= of_all and (split == "validation" or own == of_all)
    assert len(some.examples("validation")) == 2
    with pytest.raises(recast.NotFoundError, match="did you mean 'red'"):
        recast.Dataset(images, classes=["rot", "blue"])
    with pytest.raises(recast.UnsupportedError, match="superclass"):
        recast.Dataset(images, superclass="colours")
    with pytest.raises(recast.InvalidArgumentError, match="cache_bytes"):
        recast.DataLoader(dataset, "train", preprocessing=SMALL, cache_bytes=-1)


def test_batches_are_float_pixels_and_integer_labels(dataset):
    loader = recast.DataLoader(dataset, "train", preprocessing=SMALL, batch_size=10)
    batches = list(loader)
    assert len(batches) == len(loader) == -(-loader.rows // 10)
    for pixels, labels in batches:
        assert pixels.dtype == torch.float32 and pixels.shape[1:] == (3, 16, 16) and pixels.is_contiguous()
        assert labels.dtype == torch.int64 and len(labels) == len(pixels)
    assert torch.cat([labels for _, labels in batches]).tolist() == [label for _, label in dataset.examples("train")]


def test_a_split_serves_torchs_own_loader_with_the_same_pixels(dataset):
    split = dataset.split("test", SMALL)
    theirs = torch.utils.data.DataLoader(split, batch_size=4)
    ours = recast.DataLoader(dataset, "test", preprocessing=SMALL, batch_size=4)
    for (a, a_labels), (b, b_labels) in zip(theirs, ours, strict=True):
        assert torch.equal(a, b) and torch.equal(a_labels, b_labels)
    with pytest.raises(IndexError):
        split[len(split)]


def test_an_epoch_repeats_whatever_the_batches_and_threads(dataset):
    def pixels(epoch, **options):
        loader = recast.DataLoader(dataset, "train", preprocessing=SMALL, shuffle=True, augmentation="paper", seed=5,
                                   **options)
        loader.epoch = epoch
        return torch.cat([pixels for pixels, _ in loader])

    first = pixels(0, batch_size=4, threads=1)
    assert torch.equal(first, pixels(0, batch_size=9, threads=3))
    assert not torch.equal(first, pixels(1, batch_size=4))


def test_pixels_are_those_of_torchvision(dataset):
    torchvision = pytest.importorskip("torchvision")
    from PIL import Image
    transforms = torchvision.transforms
    name, _ = dataset.examples("test")[0]
    image = Image.open(f"{dataset.path}/{name}").convert("RGB")
    p = dataclasses.replace(SMALL, size_px=20, crop_pct=0.8)
    expected = transforms.Compose([
        transforms.Resize(25, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(20), transforms.ToTensor(),
        transforms.Normalize(p.mean, p.std)])(image)
    assert torch.allclose(dataset.split("test", p)[0][0], expected, atol=1e-6)


def test_bad_preprocessing_is_named(dataset):
    with pytest.raises(ValueError, match="crop_pct"):
        recast.DataLoader(dataset, "train", preprocessing=recast.Preprocessing(crop_pct=7))


def test_leaving_a_loop_early_ends_its_threads(dataset):
    import threading
    loader = recast.DataLoader(dataset, "train", preprocessing=SMALL, batch_size=2, threads=4)
    for _ in range(20):
        for _batch in loader:
            break
    assert threading.active_count() < 10
