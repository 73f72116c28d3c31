"""triton_grpc.py PORT KIND: Triton's own gRPC client, unchanged, against a server with the models of linear_service.h:
"pair" and "five", logits (1, 2, ...) times the sum of a row. KIND: sync, stream, aio, aio_stream."""
import asyncio
import queue
import sys

import numpy
import tritonclient.grpc as client
from tritonclient.utils import InferenceServerException

port, kind = sys.argv[1:]
url = f"127.0.0.1:{port}"
ROWS = numpy.arange(12, dtype=numpy.float32).reshape(4, 3)


def inputs(module=client, rows=ROWS):
    tensor = module.InferInput("x", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    return [tensor]


def check(result, classes=2, rows=ROWS):
    logits = result.as_numpy("logits")
    assert logits.dtype == numpy.float32 and logits.shape == (len(rows), classes), logits
    assert (logits == rows.sum(1)[:, None] * numpy.arange(1, classes + 1)).all(), logits


def refused(call):
    try:
        call()
    except InferenceServerException as error:
        return error.status(), error.message()
    raise AssertionError("nothing was refused")


def sync():
    with client.InferenceServerClient(url) as server:
        assert server.is_server_live() and server.is_server_ready() and server.is_model_ready("pair")
        assert server.get_server_metadata().name == "recast"
        metadata = server.get_model_metadata("five", as_json=True)
        assert metadata["outputs"][0]["shape"] == ["-1", "5"], metadata
        assert [m.name for m in server.get_model_repository_index().models] == ["five", "pair"]
        check(server.infer("pair", inputs(), request_id="7", outputs=[client.InferRequestedOutput("logits")]))
        check(server.infer("five", inputs(), parameters={"top_k": 1, "half": 0.5, "text": "a", "yes": True}), 5)
        check(server.infer("pair", inputs(), client_timeout=20))
        assert server.get_inference_statistics("pair").model_stats[0].inference_count == 8
        server.unload_model("pair")
        states = {m["name"]: m["state"] for m in server.get_model_repository_index(as_json=True)["models"]}
        assert states == {"pair": "UNAVAILABLE", "five": "READY"}, states
        server.load_model("pair")
        status, message = refused(lambda: server.infer("pear", inputs()))
        assert status == "StatusCode.NOT_FOUND" and "did you mean 'pair'" in message, (status, message)
        status, _ = refused(lambda: server.load_model("pair", config="{}"))
        assert status == "StatusCode.INVALID_ARGUMENT", status
        status, _ = refused(lambda: server.get_model_config("pair"))
        assert status == "StatusCode.UNIMPLEMENTED", status
        large = numpy.ones((256, 30_000), dtype=numpy.float32)  # 31 MB
        check(server.infer("pair", inputs(rows=large)), rows=large)
        answers = queue.Queue()
        for _ in range(50):
            server.async_infer("pair", inputs(), lambda result, error: answers.put((result, error)))
        for _ in range(50):
            result, error = answers.get(timeout=20)
            assert error is None, error
            check(result)


def stream():
    with client.InferenceServerClient(url) as server:
        answers = queue.Queue()
        server.start_stream(lambda result, error: answers.put((result, error)))
        for i in range(10):
            server.async_stream_infer("pear" if i == 4 else "pair", inputs(), request_id=str(i))
        for i in range(10):
            result, error = answers.get(timeout=20)
            if i == 4:
                assert "did you mean 'pair'" in error.message(), error
            else:
                assert error is None and result.get_response().id == str(i), (i, error)
                check(result)
        server.stop_stream()


async def aio():
    import tritonclient.grpc.aio as module

    async with module.InferenceServerClient(url) as server:
        assert await server.is_server_live() and await server.is_server_ready() and await server.is_model_ready("pair")
        assert (await server.get_server_metadata()).name == "recast"
        assert (await server.get_model_metadata("five")).name == "five"
        for result in await asyncio.gather(*(server.infer("pair", inputs(module)) for _ in range(50))):
            check(result)
        try:
            await server.infer("pear", inputs(module))
            raise AssertionError("nothing was refused")
        except InferenceServerException as error:
            assert error.status() == "StatusCode.NOT_FOUND", error


async def aio_stream():
    import tritonclient.grpc.aio as module

    async def requests():
        for i in range(10):
            yield {"model_name": "pair", "inputs": inputs(module), "request_id": str(i)}

    async with module.InferenceServerClient(url) as server:
        seen = 0
        async for result, error in server.stream_infer(requests()):
            assert error is None and result.get_response().id == str(seen), error
            check(result)
            seen += 1
        assert seen == 10, seen


if kind.startswith("aio"):
    asyncio.run({"aio": aio, "aio_stream": aio_stream}[kind]())
else:
    {"sync": sync, "stream": stream}[kind]()
print("passed")
