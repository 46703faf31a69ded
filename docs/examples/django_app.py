"""Django with a mirror beside it: `uvicorn django_app:application`, and `cloud-mirror work`.

A project has settings and URLs in files of their own, and what follows them here in its `asgi.py`.
"""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from cloud_mirror.wire.embedding import Receive, Scope, Send
from cloud_mirror_asyncio import asgi_app
from cloud_mirror_command import config


def hello(request: HttpRequest) -> HttpResponse:
    """The application's own."""
    return HttpResponse(f"hello from {request.path}")


urlpatterns = [path("hello", hello)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="made up; this page has no sessions")

PREFIX = "/mirror"
django = get_asgi_application()
mirror = asgi_app(config.load())


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Django's requests to Django; what lies under the prefix, and the server's start and end, to the mirror."""
    if scope["type"] == "lifespan":  # Django knows nothing of it
        await mirror(scope, receive, send)
    elif scope["path"].startswith(f"{PREFIX}/"):  # /mirror/v1/redirect/s3/us-west-1/...
        await mirror({**scope, "root_path": PREFIX}, receive, send)
    else:
        await django(scope, receive, send)
