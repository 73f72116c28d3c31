#!/usr/bin/env python3
"""What Pillow and torchvision make of images, for parity_test.cc to compare with.

    reference.py photos OUT PHOTO...   decoded photographs and torchvision's evaluation transform of them
    reference.py kinds OUT             small files of every kind of JPEG, PNG and WebP, and Pillow's pixels
    reference.py turned OUT            the eight EXIF orientations in each format, and what exif_transpose makes of them
    reference.py read OUT FILE...      Pillow's pixels of files that are there already
    reference.py steps OUT PHOTO       torchvision's augmentation steps, on the tensor and on the Pillow image

Arrays go to OUT/NAME.bin as uint8 [3, H, W]; OUT/index.json lists NAME, file and shape.
"""

import json
import pathlib
import struct
import sys
import zlib

import numpy as np
from PIL import Image, ImageOps

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


def pillow_pixels(file):
    """Upright, on white: what recast documents, of Pillow's own decoding."""
    image = ImageOps.exif_transpose(Image.open(file))
    return np.asarray(image.convert("RGB")) if image.mode == "CMYK" else on_white(np.asarray(image.convert("RGBA")))


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def png_file(samples, depth, colour_type, chunks=(), interlaced=False):
    """A PNG of any kind: samples [H, W, channels] of integers below 2^depth."""

    def rows(part):
        if part.size == 0:
            return b""
        flat = part.reshape(len(part), -1)
        if depth == 16:
            lines = flat.astype(">u2").view(np.uint8).reshape(len(part), -1)
        else:
            bits = np.unpackbits(flat.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
            lines = np.packbits(bits.reshape(len(part), -1), axis=-1)
        return b"".join(b"\0" + line.tobytes() for line in lines)

    passes = [samples[y::dy, x::dx] for y, x, dy, dx in ADAM7] if interlaced else [samples]
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, colour_type, 0, 0, int(interlaced))
    body = png_chunk(b"IHDR", header) + b"".join(png_chunk(*c) for c in chunks)
    body += png_chunk(b"IDAT", zlib.compress(b"".join(map(rows, passes)))) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def sample_picture():
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:53, 0:71]
    rgb = np.stack([x * 3, y * 4, (x + y) * 2], -1).clip(0, 255).astype(np.uint8)
    rgb[10:30, 20:40] = rng.integers(0, 256, (20, 20, 3))
    return rgb


def odd_pngs(out):
    rng = np.random.default_rng(8)
    icc = b"name\0\0" + zlib.compress(b"not a profile" * 20)

    def add(name, depth, colour_type, chunks=(), interlaced=False, pillow=True):
        channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
        samples = rng.integers(0, 2**depth, (29, 37, channels))
        file = out.folder / f"{name}.png"
        file.write_bytes(png_file(samples, depth, colour_type, chunks, interlaced))
        high = np.repeat(samples >> 8, 3, -1).astype(np.uint8)  # where Pillow keeps 16 bits, which it then cuts at 255
        out.add(name, pillow_pixels(file) if pillow else high, file)

    for depth in 1, 2, 4, 8:
        add(f"png_grey_{depth}", depth, 0)
        add(f"png_grey_{depth}_interlaced", depth, 0, interlaced=True)
    for depth in 1, 2, 4:
        palette = rng.integers(0, 256, 3 << depth, dtype=np.uint8).tobytes()
        some_clear = (b"PLTE", palette), (b"tRNS", bytes(range(3, 3 + (10 << depth), 10)))
        add(f"png_palette_{depth}_clear", depth, 3, some_clear)
        add(f"png_palette_{depth}_clear_interlaced", depth, 3, some_clear, True)
    add("png_grey_one_clear", 8, 0, [(b"tRNS", struct.pack(">H", 77))])
    add("png_rgb_one_clear", 8, 2, [(b"tRNS", struct.pack(">HHH", 1, 2, 3))])
    for interlaced in False, True:
        kind = "_interlaced" if interlaced else ""
        add("png_grey_16_noise" + kind, 16, 0, interlaced=interlaced, pillow=False)
        add("png_rgb_16" + kind, 16, 2, interlaced=interlaced)
        add("png_grey_alpha_16" + kind, 16, 4, interlaced=interlaced)
        add("png_rgba_16" + kind, 16, 6, interlaced=interlaced)
        add("png_grey_alpha_8" + kind, 8, 4, interlaced=interlaced)
        add("png_rgba_8" + kind, 8, 6, interlaced=interlaced)
        add("png_rgb_8" + kind, 8, 2, interlaced=interlaced)
    add("png_gamma", 8, 2, [(b"gAMA", struct.pack(">I", 100000))])
    add("png_icc", 8, 2, [(b"iCCP", icc)])
    add("png_one_pixel", 8, 6)


def kinds(out):
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:53, 0:71]
    rgb = sample_picture()
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
    write("jpeg_icc", image, "jpg", icc_profile=b"not a profile" * 9000)
    write("jpeg_called_png", image, "png", format="JPEG")
    write("png_called_jpg", image, "jpg", format="PNG")
    write("webp_called_jpg", image, "jpg", format="WEBP")
    write("jpeg_cmyk_progressive", image.convert("CMYK"), "jpg", progressive=True)
    cmyk = (out.folder / "jpeg_cmyk.jpg").read_bytes()
    adobe = cmyk.index(b"\xff\xee\0\x0eAdobe")
    surplus = {kind: (out.folder / f"jpeg_{kind}.jpg").read_bytes() for kind in ("grey", "restarts", "cmyk_progressive")}
    for name, file in (
        *((f"jpeg_{kind}_surplus", file[:-2] + b"\0surplus\xff\0\xff" + file[-2:]) for kind, file in surplus.items()),
        ("jpeg_ycck", cmyk[: adobe + 15] + b"\2" + cmyk[adobe + 16 :]),
        ("jpeg_cmyk_unmarked", cmyk[:adobe] + cmyk[adobe + 16 :]),
    ):
        (out.folder / f"{name}.jpg").write_bytes(file)
        out.add(name, pillow_pixels(out.folder / f"{name}.jpg"), out.folder / f"{name}.jpg")
    for name, options in (
        ("lossy", {"quality": 71}),
        ("lossless", {"lossless": True}),
        ("lossy_icc", {"icc_profile": b"not a profile" * 20}),
    ):
        write(f"webp_{name}", image, "webp", **options)
        write(f"webp_{name}_grey", image.convert("L"), "webp", **options)
        with_alpha = Image.fromarray(np.concatenate([rgb, alpha[..., None]], -1))
        file = out.folder / f"webp_{name}_alpha.webp"
        with_alpha.save(file, **options)
        out.add(file.stem, pillow_pixels(file), file)
    write("webp_one_pixel", image.crop((0, 0, 1, 1)), "webp")
    odd_pngs(out)
    image.save(out.folder / "apng.png", save_all=True, append_images=[ImageOps.invert(image)])
    out.add("apng", image, out.folder / "apng.png")
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


def turned(out):
    image = Image.fromarray(sample_picture())
    for ending, options in ("jpg", {}), ("png", {}), ("webp", {"lossless": True}):
        for orientation in range(10):
            exif = Image.Exif()
            exif[0x010F] = "a maker"
            exif[0x0112] = orientation
            file = out.folder / f"{ending}_{orientation}.{ending}"
            image.save(file, exif=exif, **options)
            out.add(file.stem, pillow_pixels(file), file)
    order = {"II": "<", "MM": ">"}
    for mark in order:  # by hand: both byte orders, and types of number
        for kind, code in (1, "B"), (3, "H"), (4, "I"):
            number = struct.pack(order[mark] + code, 6).ljust(4, b"\0")
            exif = struct.pack(order[mark] + "2sHIHHHI", mark.encode(), 42, 8, 1, 0x0112, kind, 1) + number + bytes(4)
            file = out.folder / f"{mark}_{kind}.jpg"
            image.save(file, exif=b"Exif\0\0" + exif)
            out.add(file.stem, pillow_pixels(file), file)


def read(out, files):
    for file in map(pathlib.Path, files):
        out.add(file.stem, pillow_pixels(file), file)


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
    {
        "photos": lambda: photos(out, rest),
        "kinds": lambda: kinds(out),
        "turned": lambda: turned(out),
        "read": lambda: read(out, rest),
        "steps": lambda: steps(out, *rest),
    }[what]()
    out.close()


if __name__ == "__main__":
    main()
