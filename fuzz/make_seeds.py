#!/usr/bin/env python3
"""Writes the seeds of the corpora into fuzz/corpus/TARGET/seed-NAME: small good files and a few bad ones of each kind.

    .venv/bin/python fuzz/make_seeds.py

Needs the Python package Pillow. What the fuzzers found on top of the seeds lies beside them under the
SHA-1 of its content.
"""
import gzip
import io
import json
import struct
from pathlib import Path

from PIL import Image

CORPUS = Path(__file__).resolve().parent / "corpus"
FINGERPRINT = "0123456789abcdef" * 4
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "U16": 2,
          "U32": 4, "U64": 8, "C64": 8, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}  # bytes of an element


def put(target, name, content):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{name}").write_bytes(content if isinstance(content, bytes) else content.encode())


def serialize(shapes, metadata=None):
    """A safetensors file of zeros: `shapes` maps names to (dtype, shape)."""
    header = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, (dtype, shape) in sorted(shapes.items(), key=lambda item: (-DTYPES[item[1][0]], item[0])):
        begin, size = end, DTYPES[dtype]
        for dimension in shape:
            size *= dimension
        end += size
        header[name] = entry(dtype, shape, begin, end)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False)
    return with_header(text + " " * (-len(text.encode()) % 8), bytes(end))


def header_input(file):
    """A file as the target safetensors_header takes it."""
    (length,) = struct.unpack_from("<Q", file)
    return struct.pack(">I", len(file) - 8 - length)[1:] + file[8 : 8 + length]


def put_safetensors(name, file):
    put("safetensors", name, file)
    if len(file) >= 8:
        put("safetensors_header", name, header_input(file))


def with_header(header, data=b""):
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text.encode())) + text.encode() + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors_seeds():
    put_safetensors("dtypes", serialize({d: (d, [2]) for d in DTYPES}))
    put_safetensors("shapes", serialize({"scalar": ("F32", []), "empty": ("I8", [3, 0, 2]),
                                         "rank8": ("U8", [1, 2, 1, 2, 1, 2, 1, 2])}))
    put_safetensors("metadata", serialize({"caf\u00e9.\U0001f600 \"q\"": ("F16", [3])},
                                          {"format": "pt", "line": "a\nb\t\"c\"\\", "": "\u20ac"}))
    put_safetensors("none", serialize({}))
    put_safetensors("spaces", with_header(' \n{ "a" : {"dtype":"U8","shape":[1],"data_offsets":[0,1]} }  ', b"x"))
    put_safetensors("escapes", with_header('{"\\u0061\\ud83d\\ude00":{"dtype":"F6_E2M3","shape":[4],'
                                           '"data_offsets":[0,3]}}', b"xyz"))
    put_safetensors("f4", with_header({"a": entry("F4", [3, 2], 0, 3)}, b"xyz"))
    put_safetensors("twice", with_header('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                                         '"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"))
    put_safetensors("overlap", with_header({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, b"xyz"))
    put_safetensors("hole", with_header({"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 2, 3)}, b"xyz"))
    put_safetensors("wraps", with_header({"a": entry("U8", [4194305, 4194305, 211106198978564], 0, 4)}, b"wxyz"))
    put_safetensors("deep", with_header('{"a":' + "[" * 70 + "]" * 70 + "}"))
    put_safetensors("null-metadata", with_header('{"__metadata__":null}'))
    for name, head in {"lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
                       "html": b"\n<!DOCTYPE html><html></html>", "zip": b"PK\3\4\0\0\x08\x08archive/data.pkl",
                       "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\3", "elf": b"\x7fELF\2\1\1\0",
                       "pickle": b"\x80\4\x95\0\0\0\0\0",
                       "pe": b"MZ\x90\0\3\0\0\0\4\0\0\0", "json": b'{"metadata": {"total_size": 1}}'}.items():
        put("safetensors", name, head)


def task_metadata(**changed):
    metadata = {
        "format": "recast-task", "format_version": "1", "task": "pets", "base_fingerprint": FINGERPRINT,
        "created_utc": "2026-01-31T23:59:59Z", "version": "4", "parent_version": "2",
        "labels": '["cat","dog","K\u00e4fer"]',
        "plugs": '[{"alias":"recast","method":"recast","options":{"grain":"slot"}},'
                 '{"alias":"head","method":"linear","options":{}}]',
        "recipe": '{"epochs":3,"name":"fast","rate":0.1}', "metrics": '{"validation":{"top1":0.5}}', "data": "null",
        "follows": "null",
        "scalars": '{"head.seen":{"integer":-5},"head.x@blocks.0#k":{"real":"-0x1.8p+1"},"recast.t":{"text":"\u00e9"}}',
    }
    metadata.update(changed)
    return {key: value for key, value in metadata.items() if value is not None}


def task_seeds():
    variants = {
        "plain": {}, "follows": {"follows": '{"name":"common","version":"3"}',
                                 "shared/scalars": '{"recast.n":{"real":"0x1.fffffffffffffp+1023"}}'},
        "bare": {"scalars": None, "recipe": "null", "metrics": "null", "labels": "[]",
        "plugs": "[]", "created_utc": "",
                 "version": "0", "parent_version": "0"},
        "newer": {"format_version": "2"}, "no-task": {"format": "pt"}, "missing": {"labels": None},
        "unknown": {"extra": "1"}, "odd-names": {"task": "../x"},
        "reals": {"scalars": '{"a.x":{"real":"inf"},"a.y":{"real":"0x0p+0"},"a.z":{"real":"0x0.0000000000001p-1022"}}'},
    }
    for name, changed in variants.items():
        metadata = task_metadata(**changed)
        put("task_file", name, serialize({"recast.c@blocks.0.attn.qkv": ("F32", [4]),
                                          "head.bias": ("F32", [3]),
                                          "shared/recast.memory": ("BOOL", [2])}, metadata))
        put("task_metadata", name, "\n".join(f"{key} {value}" for key, value in metadata.items()))


def config_seeds():
    vit = {"depth": 12, "width": 384, "heads": 6, "mlp_width": 1536, "patch_px": 16, "grid": 14, "register_tokens": 0,
           "class_token": True, "qkv_bias": True, "layer_scale": False, "class_position": True, "norm_eps": 1e-6,
           "pooling": "token", "pos_interpolation": "bicubic_antialias"}
    preprocessing = {"size_px": 224, "crop_pct": 0.9, "interpolation": "bicubic", "mean": [0.5, 0.5, 0.5],
                     "std": [0.5, 0.5, 0.5]}
    config = {"format_version": 1, "architecture": "vit_small_patch16_224", "vit": vit,
    "preprocessing": preprocessing}
    bank = {"target": "attn", "groups": 1, "templates": 2, "sets": 3, "solver": "closed",
            "members": [{"name": "attn.qkv.0", "slots": ["blocks.0.attn.qkv", "blocks.1.attn.qkv"]}]}
    put("model_config", "plain", json.dumps(config))
    put("model_config", "bank", json.dumps(config | {"bank": bank}, indent=2))
    put("model_config", "average", json.dumps(config | {
        "vit": vit | {"class_token": False, "class_position": False, "pooling": "average", "register_tokens": 4}}))
    put("model_config", "newer", json.dumps({"format_version": 2}))
    for name, change in {"float-size": {"size_px": 224.0}, "huge-size": {"size_px": 1e300}, "true": {"size_px": True},
                         "unknown": {"x": 1}, "long-mean": {"mean": [0, 0, 0, 0]}}.items():
        put("model_config", "preprocessing-" + name, json.dumps(config | {"preprocessing": preprocessing | change}))
    stage = {"block": "basic", "blocks": 2, "channels": 64, "kernel": 3, "stride": 1, "expansion": 1}
    cnn = {"stem_channels": 64, "stem_kernel": 7, "stem_stride": 2, "stem_pool": True, "head_channels": 0,
           "stages": [stage, stage | {"channels": 128, "stride": 2}], "shortcut": "projection", "activation": "relu",
           "padding": "symmetric", "norm_eps": 1e-5}
    network = {key: value for key, value in config.items() if key != "vit"} | {"architecture": "resnet10", "cnn": cnn}
    put("model_config", "cnn", json.dumps(network))
    put("model_config", "cnn-inverted", json.dumps(network | {"cnn": cnn | {
        "stages": [stage | {"block": "separable"}, stage | {"block": "inverted", "expansion": 6}], "head_channels": 8,
        "activation": "relu6", "padding": "same"}}))
    put("model_config", "cnn-mixed", json.dumps(network | {"cnn": cnn | {
        "stages": [stage, stage | {"block": "inverted"}]}}))
    put("model_config", "cnn-and-vit", json.dumps(network | {"vit": vit}))
    put("model_config", "heads", json.dumps(config | {"vit": vit | {"heads": 7}}))


def peft_seeds():
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"],
              "modules_to_save": ["classifier"], "bias": "none", "base_model_name_or_path": "some/base"}
    for name, change in {
        "plain": {}, "older": {"r": 8, "lora_alpha": 11.3, "use_rslora": True, "peft_version": "0.7"},
        "patterns": {"rank_pattern": {"layers.0.q_proj": 2, "fc[12]": 3, r"^vit\.layers\.\d+\..*o_proj": 5},
                     "alpha_pattern": {"q_proj": 16, "(a|b)+c{2,3}": 0.5}},
        "expression": {"target_modules": r"vit\.layers\.\d+\.(attention\.(q|k)_proj|mlp\.fc1)",
                       "exclude_modules": ["fc1"]},
        "layers": {"layers_to_transform": [0, 3], "layers_pattern": "layers"}, "one-layer": {"layers_to_transform": 3},
        "all-linear": {"target_modules": "all-linear"}, "ia3": {"peft_type": "IA3"}, "dora": {"use_dora": True},
        "pissa": {"init_lora_weights": "pissa_niter_4"}, "bias": {"bias": "lora_only"}, "huge-rank": {"r": 10**9},
        "no-rank": {"r": 0}, "bomb": {"target_modules": "(a+)+$"}, "states": {"target_modules": "((a{1000}){1000})"},
        "look": {"rank_pattern": {"(?=a)b": 2}}, "class": {"rank_pattern": {"[]^-\\d]{1,}?$": 2}},
        "unknown": {"a_field_of_tomorrow": {"x": [1]}},
    }.items():
        put("peft_config", name, json.dumps(config | change))
    put("peft_config", "twice", '{"peft_type":"LORA","r":1,"r":2}')
    put("peft_config", "empty", "")


def text_seeds():
    for name, text in {
        "values": '{"a":[1,-2,3.5,1e300,-0.0,true,null,"\\u00e9\\ud83d\\ude00\\n"],"b":{}}',
        "number": "18446744073709551615",
        "negative": "-9223372036854775808", "twice": '{"a":1,"a":2}', "deep": "[" * 20 + "]" * 20,
        "overflow": "1e999", "surrogate": '"\\ud800"', "bom": "\ufeff{}", "nul": '"a\0b"', "empty": "",
        "spaces": " \n[ ] ",
    }.items():
        put("json", name, text)
    for name, text in {
        "flat": "task: pets\nepochs: 3\nseeds: [1, 2, 3]\nrate: 1e-3\n", "list": "a:\n  - x\n  - 'y z'\n",
        "empty": "",
        "flow": "{a: b, 'c': [\"d\\n\"]}", "anchor": "a: &x 1\nb: *x\n", "tag": "a: !!python/object:os.system x\n",
        "block": "a: |\n  one\n  two\nb: >-\n  x\n", "nested": "a: {b: {c: d}}\n", "twice": "a: 1\na: 2\n",
        "null": "~",
        "odd": "'a: b': \"\\u00e9 \\x01\"\n? k\n: v\n", "bad": "a: [1, 2\n", "merge": "a: &b {x: 1}\nc:\n  <<: *b\n",
        "documents": "---\na: 1\n---\nb: 2\n", "emptylist": "a: []\n", "emptytext": "a: ''\n",
    }.items():
        put("settings", name, text)
    for name, text in {
        "plain": "path,label\na.png,cat\nb.png,dog\n",
        "split": "label,split,path\ncat,train,a.png\ndog,val,c/d.jpg\n",
        "quotes": 'path,label\r\n"g,h.png","a ""b"""\r\n e f.png , x \r\n', "bom": "\ufeffpath,label\na.png,\u00e9\n",
        "twice": "path,label\na.png,cat\n./a.png,dog\n", "missing": "path,label\nnone.png,cat\n",
        "open": 'path,label\n"a.png,cat\n', "short": "path,label\na.png\n", "nul": "path,label\na.png,c\0t\n",
        "empty": "", "utf16": "\ufeffpath,label".encode("utf-16"),
        "lines": 'path,label\na.png,"two\nlines"\n\n\nb.png,x',
    }.items():
        put("csv", name, text)


def idx_file(shape, data, magic=8):
    return bytes([0, 0, magic, len(shape)]) + b"".join(struct.pack(">I", s) for s in shape) + data


def data_seeds():
    labels, images = idx_file([3], b"\0\7\xff"), idx_file([3, 2, 4], bytes(range(24)))
    for name, pair in {
        "plain": (labels, images), "gzip": (gzip.compress(labels, mtime=0), gzip.compress(images, mtime=0)),
        "members": (labels, gzip.compress(images[:9], mtime=0) + gzip.compress(images[9:], mtime=0)),
        "counts": (idx_file([2], b"\0\7"), images), "short": (labels, images[:-1]),
        "huge": (labels, idx_file([3, 2**32 - 1, 2**32 - 1], b"")),
        "floats": (labels, idx_file([3, 2, 4], b"", 0x0D)),
        "bomb": (labels, gzip.compress(bytes(1 << 20), mtime=0)),
        "cut": (labels, gzip.compress(images, mtime=0)[:-9]),
    }.items():
        put("idx", name, struct.pack(">H", len(pair[0])) + pair[0] + pair[1])
    pixels = bytes(range(256)) * 12
    ten = "\n".join(f"class {i}" for i in range(10)).encode()
    hundred = "\n".join(str(i) for i in range(100)).encode()
    for name, (choice, names, file) in {
        "ten": (0, b"", b"\3" + pixels), "ten-named": (0, ten, b"\x09" + pixels + b"\0" + pixels),
        "test-folder": (5, ten, b"\1" + pixels), "hundred": (2, b"", b"\4\x63" + pixels),
        "hundred-folder": (6, hundred, b"\0\0" + pixels), "odd": (3, b"", b"\0" + pixels),
        "label": (0, b"", b"\x0a" + pixels),
        "short": (0, b"", pixels), "names": (0, b"a\nb\n", b"\0" + pixels), "no-folder": (7, b"", b"\0" + pixels),
    }.items():
        put("cifar", name, bytes([choice]) + struct.pack(">H", len(names)) + names + file)
    for name, (total, stored) in {
        "mask": (10, b"\x09\x02"), "gaps": (1000, b"\x05\xa6\x02"), "none": (70000, b""), "all": (8, b"\xff"),
        "beyond": (10, b"\x09\xfc"), "cut": (1000, b"\x80"), "overlong": (1000, b"\x80\x00"), "of-none": (0, b"\x01"),
    }.items():
        put("positions", name, struct.pack(">I", total)[1:] + stored)


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def image_seeds():
    rgb = Image.new("RGB", (9, 5))
    rgb.putdata([(x * 28, y * 60, (x * y) % 256) for y in range(5) for x in range(9)])
    alpha = rgb.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize((9, 5)))
    jpeg, png = encoded(rgb, "JPEG"), encoded(rgb, "PNG")
    for name, file in {
        "jpeg": jpeg, "jpeg-progressive": encoded(rgb, "JPEG", progressive=True),
        "jpeg-grey": encoded(rgb.convert("L"), "JPEG"), "jpeg-cmyk": encoded(rgb.convert("CMYK"), "JPEG"),
        "jpeg-444": encoded(rgb, "JPEG", subsampling=0, quality=95),
        "jpeg-restart": encoded(rgb.resize((40, 24)), "JPEG", restart_marker_blocks=1),
        "png": png, "png-alpha": encoded(alpha, "PNG"), "png-palette": encoded(rgb.convert("P"), "PNG"),
        "png-grey-alpha": encoded(alpha.convert("LA"), "PNG"), "png-bits": encoded(rgb.convert("1"), "PNG"),
        "png-16": encoded(rgb.convert("I;16"), "PNG"),
        "png-transparent": encoded(rgb.convert("P"), "PNG", transparency=3),
        "webp": encoded(rgb, "WEBP"), "webp-lossless": encoded(alpha, "WEBP", lossless=True),
        "webp-alpha": encoded(alpha, "WEBP", quality=50),
        "webp-animated": encoded(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)], duration=10),
        "gif": encoded(rgb, "GIF"), "bmp": encoded(rgb.resize((2, 2)), "BMP"),
    }.items():
        put("image", name, file)
    for orientation in (1, 3, 6, 8, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        put("image", f"jpeg-orientation-{orientation}", encoded(rgb, "JPEG", exif=exif))
    exif = Image.Exif()
    exif[0x0112] = 6
    put("image", "png-orientation", encoded(rgb, "PNG", exif=exif))
    put("image", "webp-orientation", encoded(rgb, "WEBP", exif=exif))
    put("image", "jpeg-cut", jpeg[:-40])
    put("image", "png-huge", png[:16] + struct.pack(">II", 60000, 60000) + png[24:])
    at = jpeg.index(b"\xff\xc0") + 5
    put("image", "jpeg-huge", jpeg[:at] + b"\xff\xff\xff\xff" + jpeg[at + 4 :])


def infer_body(request, behind=b"", header=True):
    """As the target infer_body takes it: two bytes that say how much is JSON."""
    text = (request if isinstance(request, str) else json.dumps(request)).encode()
    return struct.pack(">H", len(text) if header else 0xFFFF) + text + behind


def serve_seeds():
    def tensor(datatype="FP32", shape=(1,), data=(1,), **parameters):
        found = {"name": "x", "datatype": datatype, "shape": list(shape)}
        found |= {"parameters": parameters} if parameters else {}
        return found if data is None else found | {"data": list(data)}

    def binary(datatype, shape, size, **parameters):
        return tensor(datatype, shape, None, binary_data_size=size, **parameters)

    for datatype, data in {"BOOL": [True, False], "UINT8": [0, 255], "UINT16": [1, 65535], "UINT32": [1, 2**32 - 1],
                           "UINT64": [1, 2**64 - 1], "INT8": [-128, 127], "INT16": [-1, 1], "INT32": [-(2**31), 1],
                           "INT64": [-(2**63), 1], "FP32": [0.1, -3.4028235e38], "FP64": [1e300, -2],
                           "BYTES": ["K\u00e4fer", "a\0\"\n"]}.items():
        put("infer_body", "json-" + datatype, infer_body({"inputs": [tensor(datatype, (2,), data)]}, header=False))
        size = {"BOOL": 1, "BYTES": 4}.get(datatype) or int(datatype.lstrip("UINTFP")) // 8
        put("infer_body", "binary-" + datatype,
            infer_body({"inputs": [binary(datatype, (2,), 2 * size)]}, bytes(2 * size)))
    put("infer_body", "binary-halves", infer_body({"inputs": [binary("FP16", (2,), 4),
                                                              binary("BF16", (1,), 2) | {"name": "y"}]}, b"abcdef"))
    put("infer_body", "binary-texts", infer_body({"inputs": [binary("BYTES", (2,), 11)]}, b"\3\0\0\0abc\0\0\0\0"))
    put("infer_body", "binary-nan", infer_body({"inputs": [binary("FP32", (1,), 4)]}, b"\0\0\xc0\x7f"))
    put("infer_body", "all", infer_body({
        "id": "r-1", "model_name": "cars", "model_version": "3",
        "parameters": {"binary_data_output": True, "task": "cars", "top_k": 5, "x": 0.5},
        "inputs": [tensor("FP32", (2, 2), [[1, 2], [3, 4]]), tensor("BYTES", (1,), ["aGk="], content_type="base64") |
                   {"name": "task"}],
        "outputs": [{"name": "logits", "parameters": {"binary_data": False}},
                    {"name": "label", "parameters": {"classification": 3}}]}, header=False))
    for name, text in {
        "late": '{"inputs":[{"data":[[1],[2]],"shape":[2,1],"name":"x","datatype":"INT8"}]}',
        "minus-zero": '{"inputs":[{"name":"x","datatype":"FP32","shape":[3],"data":[-0,-0.0,-0e9]}]}',
        "overflow": '{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1e999]}]}',
        "empty": '{"inputs":[{"name":"x","datatype":"FP64","shape":[2,0],"data":[[],[]]}]}',
        "mixed": '{"inputs":[{"name":"x","datatype":"FP32","shape":[2,2],"data":[1,[2,3],4]}]}',
        "nulls": '{"id":null,"outputs":null,"inputs":[{"name":"x","datatype":"INT8","shape":[],"data":[1]}]}',
        "huge-shape": '{"inputs":[{"name":"x","datatype":"INT8","shape":[0,4611686018427387904],"data":[]}]}',
        "twice": '{"inputs":[{"name":"x","name":"y","datatype":"INT8","shape":[1],"data":[1]}]}',
        "surrogate": '{"id":"\\ud800","inputs":[]}', "deep": '{"parameters":{"a":' + "[" * 40,
        "shared-memory": '{"inputs":[{"name":"x","datatype":"INT8","shape":[1],'
                         '"parameters":{"shared_memory_region":"r"}}]}',
    }.items():
        put("infer_body", name, infer_body(text, header=False))
    for name, text in {
        "plain": "cars", "version": "cars:3", "tag": "cars:best", "base": "vit@cars:12", "mixed": "recast",
        "escaped": "vit%40cars%3A3", "beside": "cars\n3", "two": "cars:3\n4", "dots": "%2e%2e%2f", "twice": "%252e%252e",
        "nul": "a%00b", "backslash": "..%5cx", "device": "con", "huge": "cars:99999999999999999999", "bidi": "%e2%80%ae",
        "own": "vit@recast", "overlong": "%c0%ae",
    }.items():
        put("model_name", name, text)
    salt, digest = "0123456789abcdef" * 2, FINGERPRINT
    entry = f"  salt: {salt}\n  sha256: {digest}\n"
    for name, text in {
        "plain": f"ci:\n  role: infer\n  tasks: ['*']\n{entry}",
        "all": f"# ours\nci:\n  role: [infer, manage]\n  tasks: [cars*, 'vit@pet?']\n  expires: 2030-01-31T00:00:00Z\n{entry}"
               f"ops:\n  role: read\n  tasks: pets\n{entry}",
        "flow": f"{{null: {{role: read, tasks: x, salt: {salt}, sha256: {digest}}}}}", "empty": "", "twice": "a: 1\na: 2\n",
        "no-role": f"ci:\n  tasks: x\n{entry}", "day": f"ci:\n  role: read\n  tasks: x\n  expires: 2030-02-30T00:00:00Z\n{entry}",
        "list": "- a\n", "anchors": f"a: &x\n  role: infer\n  tasks: [y]\n{entry}b: *x\n",
    }.items():
        put("token_file", name, text)


def message(*fields):
    """A message of Protocol Buffers of (number, value): whole numbers, texts, bytes, or a list of such fields."""
    def varint(n):
        n &= 2**64 - 1
        return bytes([n & 127 | 128]) + varint(n >> 7) if n > 127 else bytes([n])

    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
            continue
        value = message(*value) if isinstance(value, list) else value.encode() if isinstance(value, str) else value
        out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def grpc_seeds():
    def tensor(datatype, shape, *more):
        return (5, [(1, "x"), (2, datatype), (3, bytes(shape)), *more])

    def put_message(name, *fields):
        put("grpc_infer", name, message(*fields))

    lists = {"BOOL": (1, b"\0\1"), "INT8": (2, b"\1\2"), "INT16": (2, b"\1\2"), "INT32": (2, b"\1\xff\xff\xff\xff\x0f"),
             "INT64": (3, b"\1\2"), "UINT8": (4, b"\1\2"), "UINT16": (4, b"\1\2"), "UINT32": (4, b"\1\2"),
             "UINT64": (5, b"\1\2"), "FP32": (6, bytes(8)), "FP64": (7, bytes(16))}
    for datatype, content in lists.items():
        put_message("typed-" + datatype, tensor(datatype, [2], (5, [content])))
        size = {"BOOL": 1}.get(datatype) or int(datatype.lstrip("UINTFP")) // 8
        put_message("raw-" + datatype, tensor(datatype, [2]), (7, bytes(2 * size)))
    put_message("typed-BYTES", tensor("BYTES", [2], (5, [(8, "ab"), (8, b"\xff")])))
    put_message("raw-BYTES", tensor("BYTES", [2]), (7, b"\1\0\0\0a\0\0\0\0"))
    put_message("raw-FP16", tensor("FP16", [1]), (7, b"\0\x3c"))
    parameter = [(1, "k"), (2, [(2, 5)])]
    put_message("all", (1, "cars"), (2, "3"), (3, "r-1"), (4, parameter), (4, [(1, "s"), (2, [(3, "text")])]),
                tensor("INT8", [1], (4, parameter), (5, [(2, b"\7")])), (6, [(1, "label"), (2, parameter)]))
    put_message("mixed", tensor("INT8", [1], (5, [(2, b"\7")])), (7, b"\7"))
    put_message("unpacked", tensor("INT64", [2], (5, [(3, 1), (3, -1)])))
    put_message("wide", tensor("INT8", [1], (5, [(2, 300)])))
    put_message("bare-parameter", tensor("INT8", [0]), (4, [(1, "k")]))
    put("grpc_infer", "empty", b"")
    put("grpc_infer", "tensors", b"\x2a\0" * 500)
    put("grpc_infer", "groups", b"\x7b" * 40 + b"\x7c" * 40)
    put("grpc_infer", "cut", message(tensor("INT8", [1]), (7, b"\7"))[:-1])
    put("grpc_infer", "not-utf8", b"\x0a\2\xc3\x28")


def http_seeds():
    def put_stream(name, text, piece=7):
        put("http_request", name, bytes([piece]) + (text if isinstance(text, bytes) else text.encode()))

    def post(fields, body="", path="/v2/models/cars/infer"):
        return f"POST {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}"

    get = "GET /v2/models/vit%40cars/versions/3/ready?x=1 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer x\r\n\r\n"
    put_stream("get", get)
    put_stream("pipelined", get + post("Content-Length: 2\r\n", "{}") + "HEAD /metrics HTTP/1.0\r\n\r\n" + get, 0)
    put_stream("length", post("Content-Length: 11\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n",
                              "hello world"))
    put_stream("chunks", post("Transfer-Encoding: chunked\r\n", "6\r\nhello \r\n5;x=\"y\"\r\nworld\r\n0\r\nT: 1\r\n\r\n"))
    put_stream("chunks-of-one", post("Transfer-Encoding: chunked\r\n", "1\r\nx\r\n" * 60 + "0\r\n\r\n"))
    put_stream("both-lengths", post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"))
    put_stream("two-lengths", post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"))
    put_stream("negative-chunk", post("Transfer-Encoding: chunked\r\n", "-2\r\nab\r\n0\r\n\r\n"))
    put_stream("huge-chunk", post("Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\nab"))
    put_stream("gzip", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"))
    put_stream("folded", post("X: a\r\n b\r\nContent-Length: 0\r\n"))
    put_stream("absolute", "GET http://h:1/v2 HTTP/1.1\r\nHost: h:1\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")
    put_stream("bare-line-feeds", "GET /v2 HTTP/1.1\nHost: h\n\n")
    put_stream("climbing", "GET /v2/models/%2e%2e%2f..%5cx HTTP/1.1\r\nHost: h\r\n\r\n")
    put_stream("many-fields", post("".join(f"X-{i}: {i}\r\n" for i in range(30))))
    infer = json.dumps({"inputs": [{"name": "x", "datatype": "INT8", "shape": [2], "parameters": {"binary_data_size": 2}}]})
    put_stream("infer", post(f"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: {len(infer)}\r\n"
                             f"Content-Length: {len(infer) + 2}\r\n", infer + "ab", "/v2/models/cars/versions/best/infer"))
    named = json.dumps({"model_name": "cars", "inputs": [{"name": "x", "datatype": "BOOL", "shape": [1], "data": [True]}]})
    put_stream("infer-json", post(f"content-type: application/json; charset=utf-8\r\nContent-Length: {len(named)}\r\n", named))
    load = json.dumps({"parameters": {"config": "{}", "n": 3, "yes": True}})
    put_stream("load", post(f"Content-Length: {len(load)}\r\n", load, "/v2/repository/models/vit%40cars/load"))
    put_stream("unload", post("Content-Length: 0\r\n", "", "/v2/repository/models/cars/unload"))
    put_stream("index", post("Content-Length: 14\r\nContent-Encoding: identity\r\n", '{"ready":true}', "/v2/repository/index"))
    put_stream("tasks", "GET /recast/v1/tasks?after=vit@a&search=b+c%20&limit=5 HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n"
                        "X-Request-Id: order-77\r\n"
                        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n")
    put_stream("tasks-twice", "GET /recast/v1/tasks?limit=5&limit=%zz HTTP/1.1\r\nHost: h\r\nX-Request-Id: a b\r\n\r\n"
                              "GET /recast/v1/tasks/vit@cars:2 HTTP/1.1\r\nHost: h\r\n\r\n"
                              "GET /recast/v1/examples/a%20rose.jpg HTTP/1.1\r\nHost: h\r\n\r\n")
    correction = json.dumps({"label": "rose", "image": "/9j/", "new_label": True})
    for name, origin, body in [("correction", "http://LocalHost:8000", correction),
                               ("correction-elsewhere", "https://evil.example", correction),
                               ("correction-no-base64", "https://localhost:8000", correction.replace("/9j/", "/9j"))]:
        put_stream(name, f"POST /recast/v1/tasks/cars/corrections HTTP/1.1\r\nHost: localhost:8000\r\nOrigin: {origin}\r\n"
                         f"Content-Length: {len(body)}\r\n\r\n{body}")
    put_stream("no-length", post("", "", "/v2/models/cars/infer"))
    put_stream("bad-json-length", post("Inference-Header-Content-Length: -1\r\nContent-Length: 2\r\n", "{}"))
    put_stream("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)))
    put_stream("http2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


def small_seeds():
    for name, text in {"two": "aGk=", "one": "aA==", "three": "aGkh", "empty": "", "loose": "aGl=", "early": "a=Gk",
                       "letters": "+/+/", "short": "aGk", "signs": "aG-_"}.items():
        put("base64", name, text)
    right = "recast_0123456789"
    for name, text in {"right": "Bearer " + right, "spaces": "bEARER   " + right, "wrong": "Bearer x" + right,
                       "behind": f"Bearer {right} ", "scheme": "Basic " + right, "empty": "", "bare": "Bearer ",
                       "tab": "Bearer\t" + right, "two": f"Bearer {right}, Bearer {right}", "long": "Bearer " + "a" * 600,
                       "nul": f"Bearer {right}\0"}.items():
        put("authorization", name, text)


def grpc_call_seeds():
    """As the target grpc_call takes them: which of its messages and how much room in the first byte, pieces in the second."""
    def put_call(name, kind, *fields, room=15, piece=6):
        put("grpc_call", name, bytes([room * 16 + kind, piece]) + message(*fields))

    # The first byte counts modulo the eleven messages.
    def kind(number):
        return next(k for k in range(16) if (15 * 16 + k) % 11 == number)

    parameter = [(1, "config"), (2, [(3, "{}")])]
    put_call("infer", kind(0), (1, "cars"), (5, [(1, "x"), (2, "INT8"), (3, b"\1"), (5, [(2, b"\7")])]), (7, b"\7"))
    put_call("infer-packed", kind(0), (5, [(2, "FP64"), (3, b"\1\x80\1"), (5, [(7, bytes(16)), (4, b"\xff\x7f")])]))
    put_call("live", kind(1))
    put_call("ready", kind(2), (1, 5))
    put_call("metadata", kind(3), (9, "unknown"))
    put_call("model-ready", kind(4), (1, "cars"), (2, "3"))
    put_call("model-metadata", kind(5), (1, "vit@cars"))
    put_call("statistics", kind(6), (1, "cars"), (2, "best"))
    put_call("index", kind(7), (1, ""), (2, 1))
    put_call("load", kind(8), (1, "repository"), (2, "cars"), (3, parameter), (3, [(1, "n"), (2, [(2, -1)])]))
    put_call("unload", kind(9), (2, "cars"), (3, [(1, "unload_dependents"), (2, [(1, 1)])]))
    put_call("health", kind(10), (1, "inference.GRPCInferenceService"))
    put("grpc_call", "groups", bytes([15 * 16 + kind(1), 0]) + b"\x7b" * 20 + b"\x7c" * 20)
    put("grpc_call", "fixed", bytes([15 * 16 + kind(3), 1]) + b"\x4d\0\0\0\0\x51" + bytes(8))
    put("grpc_call", "not-utf8", bytes([15 * 16 + kind(4), 3]) + b"\x0a\2\xc3\x28")
    put("grpc_call", "cut", bytes([15 * 16 + kind(4), 3]) + b"\x0a\5ca")


if __name__ == "__main__":
    safetensors_seeds()
    task_seeds()
    config_seeds()
    peft_seeds()
    text_seeds()
    data_seeds()
    image_seeds()
    serve_seeds()
    grpc_seeds()
    http_seeds()
    small_seeds()
    grpc_call_seeds()
