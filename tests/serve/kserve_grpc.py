"""kserve_grpc.py PORT: KServe's own gRPC client, unchanged, against a server with the models of linear_service.h, raw and
typed."""
import asyncio
import sys

import grpc
import numpy
from kserve import InferenceGRPCClient, InferInput, InferRequest

ROWS = numpy.arange(12, dtype=numpy.float32).reshape(4, 3)


async def main(port):
    async with InferenceGRPCClient(url=f"127.0.0.1:{port}") as server:
        assert await server.is_server_live() and await server.is_server_ready() and await server.is_model_ready("pair")
        for raw in (True, False):
            rows = InferInput("x", list(ROWS.shape), "FP32")
            rows.set_data_from_numpy(ROWS, binary_data=raw)
            request = InferRequest(model_name="pair", infer_inputs=[rows], request_id="7")
            answer = await server.infer(request, timeout=20)
            assert answer.id == "7" and answer.model_name == "pair", answer
            logits = answer.outputs[0].as_numpy()
            assert (logits == ROWS.sum(1)[:, None] * numpy.array([1, 2])).all(), logits
        try:
            await server.infer(InferRequest(model_name="pear", infer_inputs=[rows]), timeout=20)
            raise AssertionError("nothing was refused")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error


asyncio.run(main(sys.argv[1]))
print("passed")
