"""The role `notification`: probes, metrics and the consumer of the queue."""

from app.kit import web
from app.kit.runtime import Runtime
from app.notification import queue
from app.notification.mail import make_mailer
from app.notification.service import Notifier
from app.notification.settings import NotificationSettings


async def serve(runtime: Runtime) -> None:
    """Run the role; raises ConfigurationError before it listens when the environment names no queue."""
    settings = NotificationSettings.load()
    messages = queue.connect(str(settings.queue_url))
    notifier = Notifier(runtime.backends.database, messages, make_mailer(settings))
    server = web.HttpServer(runtime, web.create_app(runtime))
    await runtime.serve(server, notifier.run, prepare=messages.ping)
