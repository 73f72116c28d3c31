"""The servers that bench/serve compares with, as a careful PyTorch user writes them: FastAPI on uvicorn, frozen
weights, inference_mode, images decoded beside the thread that computes.

`torch`  RECAST: one ViT of timm whose effective weights are made of coefficients and templates, in place, whenever a
         request is for another task than the one before; then the image, alone, and the task's head.
`peft`   Hugging Face PEFT, LoRA of rank 4 on qkv: whatever waits becomes one batch, rows of any adapters
         (adapter_names=), then each row's head. As many adapters are loaded as --slots says; where there are more
         tasks, the one that was not used for longest gives its place.

Both answer what bench/serving/protocol.py asks. Prints {"http_port": N} once it answers.
"""

import argparse
import asyncio
import json
import os
import queue
import socket
import sys
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench" / "serving"), str(ROOT / "bench"), str(ROOT / "tests" / "golden")]

import numpy

import protocol

RANK = 4
NAME = "task-"  # and a number


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["torch", "peft"])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="model directory with templates")
    parser.add_argument("--numbers", type=Path, required=True, help="of all tasks: coefficients and heads")
    parser.add_argument("--adapters", type=Path, help="peft: A and B of all adapters")
    parser.add_argument("--image-size", type=int, required=True)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=2, help="of all processes together")
    parser.add_argument("--processes", type=int, default=1, help="torch: that share the port")
    parser.add_argument("--slots", type=int, default=128)
    parser.add_argument("--max-batch", type=int, default=8)
    return parser.parse_args()


class Network:
    """What both kinds have: timm's ViT without a head, and the tasks' heads."""

    def __init__(self, options):
        import torch
        import torchvision_import  # noqa: F401  before timm and peft
        import timm
        from safetensors.torch import load_file
        from timm.layers import resample_abs_pos_embed
        from torchvision import transforms

        self.torch = torch
        torch.set_num_threads(max(1, options.threads // options.processes))
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[options.dtype]
        self.config = json.loads((options.model / "config.json").read_text())
        patch = self.config["vit"]["patch_px"]
        self.model = timm.create_model(self.config["architecture"], num_classes=0, img_size=options.image_size)
        state = load_file(options.checkpoint)
        side = options.image_size // patch
        state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], new_size=[side, side], num_prefix_tokens=1)
        self.model.load_state_dict(state)
        self.model.eval().requires_grad_(False).to(self.dtype)
        self.numbers = load_file(options.numbers)
        ends = self.numbers["classes"].cumsum(0).tolist()
        self.heads = list(zip([0, *ends[:-1]], ends))
        how = self.config["preprocessing"]
        self.transform = transforms.Compose([
            transforms.Resize(int(options.image_size / how["crop_pct"]), transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(options.image_size), transforms.ToTensor(),
            transforms.Normalize(how["mean"], how["std"])])

    def task(self, name):
        """The row of its numbers."""
        return int(name.removeprefix(NAME)) % len(self.heads)

    def pixels(self, image):
        """[1, 3, H, W] of an image file's bytes or of normalised pixels."""
        from PIL import Image

        if isinstance(image, numpy.ndarray):
            return self.torch.from_numpy(image.copy())  # the request's bytes are read-only
        with Image.open(BytesIO(image)) as file:
            return self.transform(file.convert("RGB")).unsqueeze(0)

    def head(self, task, features):
        begin, end = self.heads[task]
        return self.torch.nn.functional.linear(features.float(), self.numbers["weight"][begin:end],
                                               self.numbers["bias"][begin:end])


class TorchRecast:
    """One model; its weights are those of the task that was asked for last."""

    def __init__(self, options):
        self.network = Network(options)
        torch = self.torch = self.network.torch
        from safetensors.torch import load_file

        bank, self.slots, self.current = load_file(options.model / "bank.safetensors"), [], None
        for group in self.network.config["bank"]["members"]:
            templates = bank[f"{group['name']}.templates"]
            for slot in group["slots"]:
                # W = (1/K) sum_k sum_i c[k, i] T[i] (RECAST, arXiv:2411.16870, section 3).
                coefficients = self.network.numbers[f"c@{slot}"].mean(1).tolist()  # [N, n] of all tasks
                self.slots.append((self.network.model.get_submodule(slot).weight, templates, coefficients))
        self.made = torch.empty_like(templates[0])  # all slots have the same shape
        # One thread computes, in the order of arrival; decoding goes on beside it.
        self.compute, self.decoders = ThreadPoolExecutor(1), ThreadPoolExecutor(options.threads)

    def swap(self, task):
        torch = self.torch
        for weight, templates, coefficients in self.slots:
            into = weight if weight.dtype == templates.dtype else self.made
            torch.mul(templates[0], coefficients[task][0], out=into)
            for template, c in zip(templates[1:], coefficients[task][1:]):
                into.add_(template, alpha=c)
            if into is not weight:
                weight.copy_(into)
        self.current = task

    def logits(self, task, pixels):
        with self.torch.inference_mode():
            if task != self.current:
                self.swap(task)
            return self.network.head(task, self.network.model(pixels.to(self.network.dtype))).numpy()

    async def infer(self, name, image, parameters):
        loop = asyncio.get_running_loop()
        pixels = await loop.run_in_executor(self.decoders, self.network.pixels, image)
        return await loop.run_in_executor(self.compute, self.logits, self.network.task(name), pixels)


class PeftMixed:
    """One model with several adapters, and one thread that takes whatever waits as a batch."""

    def __init__(self, options):
        self.network = Network(options)
        self.torch = self.network.torch
        from peft import LoraConfig, get_peft_model
        from peft.tuners.lora import LoraLayer
        from safetensors.torch import load_file

        config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["qkv"])
        self.model = get_peft_model(self.network.model, config, adapter_name="slot0")
        for slot in range(1, options.slots):
            self.model.add_adapter(f"slot{slot}", config)
        self.model.eval().requires_grad_(False).to(self.network.dtype)
        self.layers = [module for module in self.model.modules() if isinstance(module, LoraLayer)]
        self.adapters = load_file(options.adapters)
        self.free = [f"slot{slot}" for slot in range(options.slots)]
        self.loaded = OrderedDict()  # slot by task, the one not used for longest first
        self.max_batch, self.waiting = min(options.max_batch, options.slots), queue.SimpleQueue()
        self.decoders = ThreadPoolExecutor(options.threads)
        ThreadPoolExecutor(1).submit(self.work)

    def slot(self, task):
        """Where a task's adapter lies; loads it where it does not. Those that were asked for last stay."""
        if task not in self.loaded:
            slot = self.free.pop() if self.free else self.loaded.popitem(last=False)[1]
            row = task % len(self.adapters["A"])
            with self.torch.no_grad():
                for layer, a, b in zip(self.layers, self.adapters["A"][row], self.adapters["B"][row]):
                    layer.lora_A[slot].weight.copy_(a)
                    layer.lora_B[slot].weight.copy_(b)
            self.loaded[task] = slot
        self.loaded.move_to_end(task)
        return self.loaded[task]

    def mixed(self, tasks, pixels):
        names = [self.slot(task) for task in tasks]
        with self.torch.inference_mode():
            features = self.model(self.torch.cat(pixels).to(self.network.dtype), adapter_names=names)
            return [self.network.head(task, row).numpy() for task, row in zip(tasks, features.unsqueeze(1))]

    def alone(self, task, pixels):
        """As PEFT is used for one adapter: what mixed batches are checked against."""
        self.model.set_adapter(self.slot(task))
        with self.torch.inference_mode():
            return [self.network.head(task, self.model(pixels.to(self.network.dtype))).numpy()]

    def take(self):
        """What waits, at most a batch; a row that is to run alone is one."""
        batch = [self.waiting.get()]
        while not batch[-1][2] and len(batch) < self.max_batch and not self.waiting.empty():
            batch.append(self.waiting.get())
        return batch

    def answer(self, batch):
        if len(batch) > 1 and batch[-1][2]:  # the last one runs alone
            return self.answer(batch[:-1]) + self.answer(batch[-1:])
        tasks, pixels, alone = zip(*(row[:3] for row in batch))
        return self.alone(tasks[0], pixels[0]) if alone[0] else self.mixed(tasks, pixels)

    def work(self):
        while True:
            batch = self.take()
            try:
                results = self.answer(batch)
            except Exception as error:  # each of its requests says so
                results = [error] * len(batch)
            for (_, _, _, loop, future), result in zip(batch, results):
                settle = future.set_exception if isinstance(result, Exception) else future.set_result
                loop.call_soon_threadsafe(settle, result)

    async def infer(self, name, image, parameters):
        loop = asyncio.get_running_loop()
        pixels = await loop.run_in_executor(self.decoders, self.network.pixels, image)
        future = loop.create_future()
        self.waiting.put((self.network.task(name), pixels, bool(parameters.get("alone")), loop, future))
        return await future


def make_app(server):
    from fastapi import FastAPI, Request, Response

    app = FastAPI()

    @app.post("/v2/models/{task}/infer")
    async def infer(task: str, request: Request):
        body = await request.body()
        head, tensors = protocol.decode(body, int(request.headers[protocol.HEADER_LENGTH]))
        logits = await server.infer(task, tensors["image"], head.get("parameters", {}))
        answer, length = protocol.encode_answer(task, {"logits": logits})
        return Response(answer, media_type="application/octet-stream", headers={protocol.HEADER_LENGTH: str(length)})

    return app


def serve(options, listening):
    import uvicorn

    server = {"torch": TorchRecast, "peft": PeftMixed}[options.kind](options)
    # Threads that still wait do not hold up the end, and clients that wait for their turn are not sent away after the
    # five seconds that uvicorn gives them.
    config = uvicorn.Config(make_app(server), log_level="warning", access_log=False, timeout_graceful_shutdown=1,
                            timeout_keep_alive=3600)

    class Announcing(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            print(json.dumps({"http_port": listening.getsockname()[1]}), flush=True)

    Announcing(config).run(sockets=[listening])
    os._exit(0)


def main():
    options = arguments()
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    for _ in range(options.processes - 1):  # before torch has threads
        if os.fork() == 0:
            break
    serve(options, listening)


if __name__ == "__main__":
    main()
