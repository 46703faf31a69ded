"""Flask with a mirror inside: `gunicorn --worker-class gthread --threads 64 flask_app:app`, and `cloud-mirror work`."""

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from cloud_mirror_command import config
from cloud_mirror_sync import wsgi_app

mirror = wsgi_app(config.load())  # cloud-mirror.toml, or what CLOUD_MIRROR_CONFIG names
app = Flask(__name__)
app.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]  # Flask's own way of putting something around it
    app.wsgi_app,
    {"/mirror": mirror},  # /mirror/v1/redirect/s3/us-west-1/...
)


@app.get("/hello")
def hello() -> str:
    """The application's own."""
    return "hello"
