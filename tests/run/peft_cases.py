"""Adapters of HF PEFT on small random models of transformers and timm, for the tests in C++. Nothing is downloaded.

peft_cases.py make OUT [CASE...]
                         writes for each case, or for these, OUT/CASE/base.safetensors (the checkpoint),
                         memory.safetensors (the same for this script), adapter/ (what PEFT writes), io.safetensors
                         (images, logits of the base, logits with the adapter)
peft_cases.py load OUT   loads every folder OUT/CASE/to_peft/NAME with PEFT on the same base, checks that PEFT takes
                         every tensor and misses none, and writes OUT/CASE/to_peft/NAME.logits.safetensors"""
import json
import os
import shutil
import sys
import warnings
import zlib
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parent.parent / "golden"))

import torch
import torchvision_import  # noqa: F401  before timm and transformers
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

CLASSES = 5
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"]


def hf(kind, **options):
    import transformers

    transformers.logging.set_verbosity_error()
    config = getattr(transformers, kind + "Config")(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=4, num_labels=CLASSES,
        **options)
    return getattr(transformers, kind + "ForImageClassification")(config)


def vit():
    return hf("ViT", intermediate_size=64)


def dinov2():
    return hf("Dinov2", mlp_ratio=2)


def timm():
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2,
                             num_classes=CLASSES)


CASES = {
    "vit": (vit, dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"])),
    "vit_patterns": (vit, dict(
        r=6, lora_alpha=12, use_rslora=True, target_modules=PROJECTIONS, modules_to_save=["classifier"],
        rank_pattern={"layers.1.attention.q_proj": 2, "fc[12]": 3, r"^vit\.layers\.0\..*o_proj": 5},
        alpha_pattern={"v_proj": 3, r"vit.layers.(0|9).mlp.fc2": 16, "layers.1.attention.q_proj": 7})),
    "vit_overlap": (vit, dict(  # two patterns meet one module: the first counts
        r=2, lora_alpha=2, target_modules=["q_proj", "fc1"], modules_to_save=["classifier"],
        rank_pattern={"0.attention.q_proj": 3, "q_proj": 5}, alpha_pattern={"attention.q_proj": 5, "q_proj": 9})),
    "vit_base_head": (vit, dict(
        r=3, lora_alpha=5, target_modules=r"vit\.layers\.\d+\.(attention\.(q|k)_proj|mlp\.fc1)",
        exclude_modules=["layers.0.mlp.fc1"])),
    "vit_all_linear": (vit, dict(  # of which the classifier is one
        r=3, lora_alpha=5, use_rslora=True, target_modules="all-linear", rank_pattern={"classifier": 2},
        alpha_pattern={"classifier": 7})),
    "vit_layer": (vit, dict(r=4, lora_alpha=8, target_modules=["q_proj", "o_proj"], layers_to_transform=[1],
                            modules_to_save=["classifier"])),
    "dinov2": (dinov2, dict(r=3, lora_alpha=5, target_modules=["q_proj", "k_proj", "v_proj", "fc2"],
                            modules_to_save=["classifier"])),
    "dinov2_patches": (dinov2, dict(r=2, lora_alpha=4, target_modules=["projection", "o_proj"],
                                    modules_to_save=["classifier"])),
    "timm": (timm, dict(r=4, lora_alpha=4, target_modules=["attn.qkv", "fc1"], modules_to_save=["head"])),
    "timm_patterns": (timm, dict(
        r=4, lora_alpha=6, use_rslora=True, target_modules=["qkv", "attn.proj", "fc1", "fc2"],
        modules_to_save=["head"], rank_pattern={"blocks.1.attn.qkv": 7}, alpha_pattern={"mlp.fc2": 2})),
}

# How versions of transformers before 5 call the same modules.
OLDER = [("vit.layers.", "vit.encoder.layer."), ("attention.q_proj", "attention.attention.query"),
         ("attention.k_proj", "attention.attention.key"), ("attention.v_proj", "attention.attention.value"),
         ("attention.o_proj", "attention.output.dense"), ("mlp.fc1", "intermediate.dense"),
         ("mlp.fc2", "output.dense"), ("q_proj", "query"), ("v_proj", "value")]


def older(name):
    for new, old in OLDER:
        name = name.replace(new, old)
    return name


@torch.no_grad()
def draw(model, seed):
    """Weights large enough to matter, each from a generator of its own."""
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(zlib.crc32((seed + name).encode())))
        if parameter.dim() > 1 and "token" not in name and "pos" not in name:
            drawn = drawn / parameter[0].numel() ** 0.5
        else:
            drawn = 0.3 * drawn
        gain = parameter.dim() == 1 and not name.endswith("bias") and "token" not in name
        parameter.copy_(drawn + 1 if gain else drawn)


@torch.no_grad()
def logits_of(model, images):
    out = model.eval()(images)
    return (out if isinstance(out, torch.Tensor) else out.logits).contiguous()


def save_checkpoint(model, path):
    if not hasattr(model, "save_pretrained"):
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
        return
    model.save_pretrained(path.parent / "published")
    shutil.move(path.parent / "published" / "model.safetensors", path)


def make(out, *chosen):
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(7))
    for name in chosen or CASES:
        build, options = CASES[name]
        folder = out / name
        folder.mkdir(parents=True)
        model = build()
        draw(model, name)
        save_checkpoint(model, folder / "base.safetensors")
        save_file({key: tensor.clone() for key, tensor in model.state_dict().items()}, folder / "memory.safetensors")
        base_logits = logits_of(model, images)
        torch.manual_seed(zlib.crc32(name.encode()))
        adapted = get_peft_model(model, LoraConfig(init_lora_weights=False, **options))
        with torch.no_grad():
            for key, parameter in adapted.named_parameters():
                if "modules_to_save" in key:
                    parameter.add_(0.2 * torch.randn_like(parameter))
        adapted.save_pretrained(folder / "adapter")
        save_file({"images": images, "base_logits": base_logits, "logits": logits_of(adapted, images)},
                  folder / "io.safetensors")
    if not chosen:
        make_older(out / "vit", out / "vit_older")


def make_older(newer, folder):
    """The folder that PEFT wrote for the same adapter beside transformers 4."""
    shutil.copytree(newer, folder)
    adapter = folder / "adapter"
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file({older(key): tensor for key, tensor in tensors.items()}, adapter / "adapter_model.safetensors",
              metadata={"format": "pt"})
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["target_modules"] = [older(name) for name in config["target_modules"]]
    (adapter / "adapter_config.json").write_text(json.dumps(config))


def load(out):
    for exported in sorted(out.glob("*/to_peft/*/adapter_config.json")):
        folder, case = exported.parent, exported.parent.parent.parent
        model = CASES[case.name][0]()
        model.load_state_dict(load_file(case / "memory.safetensors"))
        adapted = PeftModel.from_pretrained(model, folder)
        given = load_file(folder / "adapter_model.safetensors")
        taken = get_peft_model_state_dict(adapted)
        assert given.keys() == taken.keys(), sorted(given.keys() ^ taken.keys())
        for key, tensor in given.items():
            assert torch.equal(tensor, taken[key]), key
        save_file({"logits": logits_of(adapted, load_file(case / "io.safetensors")["images"])},
                  folder.with_name(folder.name + ".logits.safetensors"))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    {"make": make, "load": load}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
