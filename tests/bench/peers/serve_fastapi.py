"""FastAPI as its documentation shows it: typed bodies, models in the thread pool. `uvicorn serve_fastapi:app`"""

import models
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = models.load()


class Row(BaseModel):
    features: list[float]


class Rows(BaseModel):
    features: list[list[float]]


class Texts(BaseModel):
    texts: list[str]


class Question(BaseModel):
    question: str
    documents: list[str]


@app.post("/echo")
async def echo(body: Row) -> Row:
    return body


@app.post("/tabular")
def tabular(body: Rows):
    return {"probabilities": model(body.features).tolist()}


@app.post("/embed")
def embed(body: Texts):
    return {"vectors": model(body.texts).tolist()}


@app.post("/pipeline")
def pipeline(body: Question):
    return {"sources": model(body.question, body.documents)}
