#!/usr/bin/env python3
"""What Pillow and torchvision make of images, for parity_test.cc to compare with.

    reference.py photos OUT PHOTO...   decoded photographs and torchvision's evaluation transform of them
    reference.py kinds OUT             small files of every kind of JPEG and PNG that Pillow writes, and their pixels
    reference.py steps OUT PHOTO       torchvision's augmentation steps, on the tensor and on the Pillow image

Arrays go to OUT/NAME.bin as uint8 [3, H, W]; OUT/index.json lists NAME, file and shape.
"""

import json
import pathlib
import sys

import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "golden"))

EVALUATIONS = {  # name: (size, crop share, interpolation), as in parity_test.cc
    "vit": (224, 1.0, "bicubic"),
    "deit": (224, 0.875, "bicubic"),
    "resnet": (224, 0.875, "bilinear"),
    "small": (98, 0.95, "bicubic"),
    "large": (518, 1.0, "bicubic"),
}


class Out:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.index = []

    def add(self, name, rgb, file=""):
        planes = np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))
        assert planes.dtype == np.uint8 and planes.shape[0] == 3, (name, planes.dtype, planes.shape)
        (self.folder / f"{name}.bin").write_bytes(planes.tobytes())
        self.index.append({"name": name, "file": str(file), "shape": planes.shape})

    def close(self):
        (self.folder / "index.json").write_text(json.dumps(self.index))


def photos(out, paths):
    import torchvision_import  # noqa: F401
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    for path in map(pathlib.Path, paths):
        image = Image.open(path).convert("RGB")
        out.add(f"{path.stem}.decoded", image, path)
        for name, (size, crop, interpolation) in EVALUATIONS.items():
            mode = InterpolationMode(interpolation)
            transform = Compose([Resize(int(size / crop), mode, antialias=True), CenterCrop(size)])
            out.add(f"{path.stem}.{name}", transform(image), path)


def on_white(rgba):
    rgb, alpha = rgba[..., :3].astype(np.int64), rgba[..., 3:].astype(np.int64)
    return np.rint((rgb * alpha + 255 * (255 - alpha)) / 255).astype(np.uint8)


def kinds(out):
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:53, 0:71]
    rgb = np.stack([x * 3, y * 4, (x + y) * 2], -1).clip(0, 255).astype(np.uint8)
    rgb[10:30, 20:40] = rng.integers(0, 256, (20, 20, 3))
    alpha = (x * 255 // 70).astype(np.uint8)
    image = Image.fromarray(rgb)

    def write(name, picture, ending, expected=None, **options):
        file = out.folder / f"{name}.{ending}"
        picture.save(file, **options)
        out.add(name, Image.open(file).convert("RGB") if expected is None else expected, file)

    for name, sampling in ("444", 0), ("422", 1), ("420", 2):
        write(f"jpeg_{name}", image, "jpg", quality=83, subsampling=sampling)
        write(f"jpeg_{name}_progressive", image, "jpg", quality=83, subsampling=sampling, progressive=True)
    write("jpeg_grey", image.convert("L"), "jpg")
    write("jpeg_cmyk", image.convert("CMYK"), "jpg")
    write("jpeg_restarts", image, "jpg", restart_marker_blocks=3)
    write("jpeg_one_pixel", image.crop((0, 0, 1, 1)), "jpg")
    write("png_rgb", image, "png")
    write("png_grey", image.convert("L"), "png")
    write("png_bits", image.convert("1"), "png")
    write("png_palette", image.quantize(37), "png")
    write("png_palette_4", image.quantize(11), "png", bits=4)
    rgba = np.concatenate([rgb, alpha[..., None]], -1)
    write("png_rgba", Image.fromarray(rgba), "png", on_white(rgba))
    grey = np.asarray(image.convert("L"))
    grey_rgba = np.stack([grey, grey, grey, alpha], -1)
    write("png_grey_alpha", Image.fromarray(np.stack([grey, alpha], -1)), "png", on_white(grey_rgba))
    palette = image.quantize(16)
    clear = np.asarray(palette) == 3
    expected = np.asarray(palette.convert("RGB")).copy()
    expected[clear] = 255
    write("png_palette_clear", palette, "png", expected, transparency=3)
    deep = rng.integers(0, 65536, (53, 71)).astype(np.uint16)
    high = (deep >> 8).astype(np.uint8)
    write("png_grey_16", Image.fromarray(deep), "png", np.stack([high] * 3, -1))


def steps(out, path):
    import torchvision_import  # noqa: F401
    import torch
    from torchvision.transforms import functional as F

    image = F.center_crop(F.resize(Image.open(path).convert("RGB"), 224), 224)
    tensor = F.pil_to_tensor(image)
    out.add("input", image)
    calls = {
        "brightness_0.6": lambda im: F.adjust_brightness(im, 0.6),
        "brightness_1.4": lambda im: F.adjust_brightness(im, 1.4),
        "contrast_0.6": lambda im: F.adjust_contrast(im, 0.6),
        "contrast_1.4": lambda im: F.adjust_contrast(im, 1.4),
        "saturation_0.6": lambda im: F.adjust_saturation(im, 0.6),
        "saturation_1.4": lambda im: F.adjust_saturation(im, 1.4),
        "hue_-0.2": lambda im: F.adjust_hue(im, -0.2),
        "hue_0.07": lambda im: F.adjust_hue(im, 0.07),
        "flip": F.hflip,
        "affine_10_7_-3_1.1": lambda im: F.affine(im, 10.0, [7, -3], 1.1, [0.0, 0.0]),
        "affine_-6.5_-22_0_0.9": lambda im: F.affine(im, -6.5, [-22, 0], 0.9, [0.0, 0.0]),
        "affine_0_0_0_1": lambda im: F.affine(im, 0.0, [0, 0], 1.0, [0.0, 0.0]),
    }
    for name, call in calls.items():
        out.add(f"{name}.pillow", call(image))
        out.add(f"{name}.tensor", call(tensor).permute(1, 2, 0).numpy())
    assert torch.equal(F.pil_to_tensor(F.hflip(image)), F.hflip(tensor))


def main():
    what, folder, *rest = sys.argv[1:]
    out = Out(folder)
    {"photos": lambda: photos(out, rest), "kinds": lambda: kinds(out), "steps": lambda: steps(out, *rest)}[what]()
    out.close()


if __name__ == "__main__":
    main()
