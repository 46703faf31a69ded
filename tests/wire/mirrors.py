"""A front end and a back end in the test's own thread, over real servers."""

from collections.abc import Callable

from cloud_mirror import keys
from cloud_mirror.actions import Response, ToCopy
from cloud_mirror.copy_table import State as CopyState
from cloud_mirror.message import Job
from cloud_mirror.wire.calls import HttpReply
from cloud_mirror.wire.procedures import jobs
from tests.wire.blocking import BlockingShell, never
from tests.wire.caches import Cache
from tests.wire.exchange import Asker, send


class Mirror:
    """A front end and a back end over servers of their own bucket, queue and flushed cache."""

    def __init__(self, shell: BlockingShell, cache: Cache, ask_store: Asker, ask_queue: Asker) -> None:
        self.shell, self.cache, self.ask_store, self.ask_queue = shell, cache, ask_store, ask_queue
        self.services = shell.services
        self.worked: list[CopyState] = []
        shell.meanwhile = self.work

    def work(self, dies: Callable[[CopyState], bool] = never) -> None:
        """Take the jobs that are there, and carry them out, or die over them."""
        queue = self.services.queue
        request = queue.receive_request(self.services.queue_url, 10, 0, 60)
        for delivery in self.ask_queue(request, queue.read_receive):
            job = jobs.read_job(self.services, delivery)
            assert isinstance(job, Job)
            self.worked.append(self.shell.copy(job, delivery.receipt, delivery.receive_count, dies))
        assert self.shell.open_bodies == 0

    def depth(self) -> tuple[int, int]:
        """How many jobs lie in the queue, and how many are being worked on."""
        queue = self.services.queue
        found = dict(self.ask_queue(queue.attributes_request(self.services.queue_url), queue.read_attributes))
        return int(found["ApproximateNumberOfMessages"]), int(found["ApproximateNumberOfMessagesNotVisible"])

    def fetch(self, url: str, response: Response) -> HttpReply:
        """What a client gets that follows the redirect."""
        assert isinstance(response, ToCopy), response
        request = self.services.provider.get_request(keys.object_key(url, response.epoch))
        assert request.url == self.services.manager.location(url, response.epoch)
        return send(request)

    @property
    def uploads(self) -> int:
        """How many uploads are under way."""
        provider = self.services.provider
        return len(self.ask_store(provider.list_uploads_request(""), provider.read_list_uploads).uploads)

    def stored(self) -> list[str]:
        """The keys of all copies in the store."""
        provider = self.services.provider
        page = self.ask_store(provider.list_objects_request(""), provider.read_list_objects)
        assert self.uploads == 0
        return [key for key in page.keys if not key.startswith(keys.PRIVATE_PREFIXES)]
