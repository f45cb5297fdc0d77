"""FastAPI and ONNX Runtime as most tutorials have it: T on the loop, what takes milliseconds in the thread pool."""

import os
from typing import Any

import nets
import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

app = FastAPI()
tabular, mobile, detector = nets.Plain("T"), nets.Plain("M"), nets.Detector()


class Rows(BaseModel):
    """Be T's question."""

    rows: list[list[float]]


class Values(BaseModel):
    """Be M's question, as JSON."""

    values: list[float]


@app.post("/T")
async def answer_rows(asked: Rows) -> dict[str, Any]:
    """Answer T."""
    return {"scores": tabular(np.array(asked.rows, np.float32)).tolist()}


@app.post("/M")
async def answer_tensor(request: Request) -> Response:
    """Answer M, raw in and out."""
    values = np.frombuffer(await request.body(), np.float32).reshape(1, 3, 224, 224)
    scores = await run_in_threadpool(mobile, values)
    return Response(scores.tobytes(), media_type="application/octet-stream")


@app.post("/Mjson")
async def answer_values(asked: Values) -> dict[str, Any]:
    """Answer M as JSON."""
    scores = await run_in_threadpool(mobile, np.array(asked.values, np.float32).reshape(1, 3, 224, 224))
    return {"scores": scores.tolist()}


@app.post("/D")
async def answer_picture(request: Request) -> dict[str, Any]:
    """Answer D."""
    return await run_in_threadpool(detector, await request.body())


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["BENCH_PORT"]), log_level="warning", access_log=False)
