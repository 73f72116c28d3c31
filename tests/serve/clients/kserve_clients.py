"""kserve_clients.py KIND FILE: KServe's own clients, unchanged, against a server that must answer as FILE says (see
expected.py). KIND: rest, grpc."""
import asyncio
import base64
import sys

import grpc
import httpx
import numpy
from expected import Expected
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

kind, file = sys.argv[1:]
expected = Expected(file)


def tensor(name, values, binary=True):
    made = InferInput(name, list(values.shape), "BYTES" if values.dtype == object else "FP32")
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def listed_images():
    """Encoded images without binary data: as texts in JSON, as a list of bytes over gRPC."""
    rows = expected.rows["images"].tolist()
    if kind == "grpc":
        return InferInput("image", [len(rows)], "BYTES", data=rows)
    return InferInput("image", [len(rows)], "BYTES", data=[base64.b64encode(row).decode() for row in rows],
                      parameters={"content_type": "base64"})


def request(model, inputs, **more):
    return InferRequest(model_name=model, infer_inputs=inputs, request_id="r-7", **more)


def outputs(answer):
    """Checks what the answer says of itself."""
    assert answer.id == "r-7", answer
    by_name = {output.name: output.as_numpy() for output in answer.outputs}
    return by_name.get


async def inferred(infer):
    for name in expected.models:
        for source in expected.sources(name):
            expected.check(outputs(await infer(request(name, [tensor("image", expected.rows[source])]))), name, source)
    listed = {"images": listed_images(), "pixels": tensor("image", expected.rows["pixels"], False)}
    for source, given in listed.items():
        expected.check(outputs(await infer(request("cars", [given]))), "cars", source)
    tasks = numpy.array(expected.mixed, dtype=object)
    for binary in (True, False):
        images = tensor("image", expected.rows["images"]) if binary else listed_images()
        expected.check(outputs(await infer(request("recast", [images, tensor("task", tasks, binary)]))), expected.mixed)
    images = tensor("image", expected.rows["images"])
    answer = await infer(request("recast", [images], parameters={"task": "leaves"},
                                 request_outputs=[RequestedOutput("features"), RequestedOutput("label")]))
    expected.check(outputs(answer), "leaves", outputs=["features", "label"])
    assert len(answer.outputs) == 2, answer


async def over_http():
    url = f"http://{expected.http}"
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as server:
        assert await server.is_server_live(url) and await server.is_server_ready(url)
        assert await server.is_model_ready(url, "cars") and not await server.is_model_ready(url, "cras")
        await inferred(lambda asked: server.infer(url, asked, model_name=asked.model_name))
        asked = request("cars", [tensor("image", expected.rows["images"])], parameters={"binary_data_output": True})
        headers = {}
        answer = await server.infer(url, asked, model_name="cars", response_headers=headers)
        assert headers["content-type"] == "application/octet-stream", headers
        expected.check(outputs(answer), "cars")
        try:
            await server.infer(url, request("cras", asked.inputs), model_name="cras")
            raise AssertionError("nothing was refused")
        except httpx.HTTPStatusError as error:
            assert error.response.status_code == 404 and "did you mean 'cars'" in str(error), error


async def over_grpc():
    async with InferenceGRPCClient(url=expected.grpc) as server:
        assert await server.is_server_live() and await server.is_server_ready() and await server.is_model_ready("cars")
        await inferred(lambda asked: server.infer(asked, timeout=60))
        try:
            await server.infer(request("cras", [listed_images()]), timeout=20)
            raise AssertionError("nothing was refused")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND and "did you mean 'cars'" in error.details(), error


asyncio.run({"rest": over_http, "grpc": over_grpc}[kind]())
print("passed")
