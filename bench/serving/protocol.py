"""Bodies of the Open Inference Protocol v2 with binary tensors, as far as the bench's client and servers speak it.

A body is JSON, then the bytes of its tensors one behind the other; the header Inference-Header-Content-Length says how
many bytes are JSON. All servers of the bench get the same requests, byte by byte.
"""

import json
import struct

import numpy

HEADER_LENGTH = "Inference-Header-Content-Length"
DTYPES = {"FP32": numpy.float32, "INT64": numpy.int64}


class Payload:
    """One image on the wire, for any task: the end of each request about it."""

    def __init__(self, image, outputs=("logits",), parameters=None):
        """image: the bytes of an image file, or normalised pixels float32 [3, H, W]."""
        if isinstance(image, bytes):
            datatype, shape, data = "BYTES", [1], struct.pack("<I", len(image)) + image
        else:
            datatype, shape, data = "FP32", [1, *image.shape], numpy.ascontiguousarray(image, "<f4").tobytes()
        head = {"inputs": [{"name": "image", "datatype": datatype, "shape": shape,
                            "parameters": {"binary_data_size": len(data)}}],
                "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs]}
        text = json.dumps(head | ({"parameters": parameters} if parameters else {})).encode()
        self.length, self.body = len(text), text + data

    def request(self, task):
        """The bytes of a whole request."""
        return (f"POST /v2/models/{task}/infer HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Type: application/octet-stream\r\nContent-Length: {len(self.body)}\r\n"
                f"{HEADER_LENGTH}: {self.length}\r\n\r\n").encode() + self.body


def decode(body, length):
    """(JSON, tensors by name): numbers as arrays, BYTES of one element as bytes."""
    head = json.loads(body[:length])
    rest, tensors = memoryview(body)[length:], {}
    for tensor in head.get("inputs") or head["outputs"]:
        size = tensor["parameters"]["binary_data_size"]
        data, rest = rest[:size], rest[size:]
        if tensor["datatype"] == "BYTES":
            tensors[tensor["name"]] = bytes(data[4:])
        else:
            tensors[tensor["name"]] = numpy.frombuffer(data, DTYPES[tensor["datatype"]]).reshape(tensor["shape"])
    if len(rest):
        raise ValueError(f"{len(rest)} bytes behind the last tensor")
    return head, tensors


def encode_answer(model, tensors):
    """(body, bytes that are JSON) of float32 arrays by name."""
    data = {name: numpy.ascontiguousarray(values, "<f4").tobytes() for name, values in tensors.items()}
    head = {"model_name": model, "model_version": "1",
            "outputs": [{"name": name, "datatype": "FP32", "shape": list(values.shape),
                         "parameters": {"binary_data_size": len(data[name])}} for name, values in tensors.items()]}
    text = json.dumps(head).encode()
    return text + b"".join(data.values()), len(text)
