"""What the clients of the protocol write and read, beside what recast reads and writes.

    triton_bodies.py write FOLDER    bodies of requests as tritonclient writes them, and cases.json: what they hold
    triton_bodies.py check FOLDER    reads the bodies of answers of cases.json as tritonclient does, prints what differs
"""
import json
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import tritonclient.http as http
from tritonclient.utils import np_to_triton_dtype, serialize_byte_tensor

DTYPES = [bool, np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.int32, np.int64, np.float16, np.float32,
          np.float64, ml_dtypes.bfloat16]


def arrays():
    """One of each datatype, with its least and largest values."""
    draws = np.random.default_rng(7)
    for dtype in DTYPES:
        if dtype is bool:
            values = np.array([[True, False, True]])
        elif np.issubdtype(dtype, np.integer):
            limits = np.iinfo(dtype)
            values = np.array([[limits.min, limits.max, 0], [1, 2, 3]], dtype=dtype)
        else:
            values = draws.standard_normal((2, 3)).astype(dtype)
            values[0, 0], values[1, 2] = -0.0, 65504 if dtype is np.float16 else 3.0e38
        yield np_to_triton_dtype(values.dtype), values
    yield "BYTES", np.array(["K\u00e4fer", "", "a\"b\\c\n"], dtype=object).reshape(3, 1)
    yield "FP32", np.zeros((0, 4), dtype=np.float32)
    yield "BYTES", np.empty((0,), dtype=object)


def raw(values):
    if values.dtype == object:
        return serialize_byte_tensor(values).item() if values.size else b""
    return values.tobytes()


def tensor(name, datatype, values, binary):
    made = http.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def requests():
    plain = [(datatype, values) for datatype, values in arrays() if datatype not in ("FP16", "BF16")]
    yield dict(tensors=list(arrays()), binary=lambda i: True)
    yield dict(tensors=plain, binary=lambda i: False)
    yield dict(tensors=plain, binary=lambda i: i % 2 == 0, id="r-1", parameters={"task": "cars", "top_k": 3, "sharp": True},
               timeout=1000, priority=2,
               outputs=[http.InferRequestedOutput("logits"), http.InferRequestedOutput("label", binary_data=False),
                        http.InferRequestedOutput("probabilities", class_count=4)])
    yield dict(tensors=[("BYTES", np.array([b"\xff\xd8\xff\0", b""], dtype=object))], binary=lambda i: True)
    yield dict(tensors=[("FP32", np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32))],
               binary=lambda i: False)


def write(folder):
    cases = []
    for index, request in enumerate(requests()):
        inputs = [tensor(f"x{i}", datatype, values, request["binary"](i))
                  for i, (datatype, values) in enumerate(request["tensors"])]
        body, json_bytes = http.InferenceServerClient.generate_request_body(
            inputs, outputs=request.get("outputs"), request_id=request.get("id", ""), parameters=request.get("parameters"),
            timeout=request.get("timeout"), priority=request.get("priority", 0))
        (folder / f"request-{index}").write_bytes(body)
        cases.append({
            "body": f"request-{index}", "json_bytes": json_bytes, "id": request.get("id", ""),
            "parameters": request.get("parameters", {}) | {key: request[key] for key in ("timeout", "priority")
                                                            if key in request},
            "binary_outputs": "outputs" not in request,
            "outputs": [["logits", True, 0], ["label", False, 0], ["probabilities", True, 4]] if "outputs" in request else [],
            "inputs": [{"name": f"x{i}", "datatype": datatype, "shape": list(values.shape), "bytes": raw(values).hex()}
                       for i, (datatype, values) in enumerate(request["tensors"])]})
    (folder / "cases.json").write_text(json.dumps(cases))


def check(folder):
    wrong = []
    for case in json.loads((folder / "answers.json").read_text()):
        body = (folder / case["body"]).read_bytes()
        result = http.InferenceServerClient.parse_response_body(body, header_length=case["json_bytes"])
        if result.get_response().get("id", "") != case["id"]:
            wrong.append(f"{case['body']}: id {result.get_response().get('id')}")
        for output in case["outputs"]:
            values = result.as_numpy(output["name"])
            if values is None or list(values.shape) != output["shape"]:
                wrong.append(f"{case['body']}: {output['name']} has another shape")
                continue
            if values.dtype == object:
                values = np.array([v.encode() if isinstance(v, str) else v for v in values.ravel()], dtype=object)
            if raw(values).hex() != output["bytes"]:
                wrong.append(f"{case['body']}: {output['name']} ({output['datatype']}) has other values")
    print("\n".join(wrong))
    return bool(wrong)


if __name__ == "__main__":
    if {"write": write, "check": check}[sys.argv[1]](Path(sys.argv[2])):
        sys.exit(1)
    print("passed")
