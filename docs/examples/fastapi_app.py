"""FastAPI with a mirror inside: `uvicorn fastapi_app:app`, beside it `cloud-mirror work`."""

from fastapi import FastAPI, HTTPException

from cloud_mirror.source import SourceError
from cloud_mirror_asyncio import asgi_app
from cloud_mirror_command import config

POOL = "s3_us-west-1"

mirror = asgi_app(config.load())  # cloud-mirror.toml, or what CLOUD_MIRROR_CONFIG names
app = FastAPI(lifespan=mirror.lifespan)  # FastAPI does not start what is mounted in it
app.mount("/mirror", mirror)  # /mirror/v1/redirect/s3/us-west-1/...


@app.get("/where")
async def where(url: str) -> dict[str, str | None]:
    """An answer, and no HTTP: where a copy of the URL is, for an application's own use."""
    pool = mirror.mirror.services[POOL]
    try:
        source = pool.rules.admit(url)  # first of all: is this a URL that may be copied?
    except SourceError as error:
        raise HTTPException(error.reason.status, error.detail) from error
    response = await mirror.mirror.redirect(POOL, source.text)
    return {"location": pool.manager.answer(source.text, response).header("location")}
