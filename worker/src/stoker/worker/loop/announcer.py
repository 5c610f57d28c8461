"""What a worker announces: the tasks that it knows, and their description, which is written once for all workers of a template."""

from stoker.app.application import Application
from stoker.app.on_dead import hooks_of
from stoker.queue.broker import Broker
from stoker.queue.scripts import ScriptCall
from stoker.rules.announcement import Announcement, Description, announcement_of, describe, hook_texts
from stoker.rules.partitions import is_first


class Announcer:
    """The announcement of one worker, as it is now: tasks may be declared while it runs. Used by the heartbeat's thread too."""

    def __init__(self, application: Application, template: str, broker: Broker) -> None:
        self._application = application
        self._tasks = application.declarations
        self._template = template
        self._broker = broker
        self._current = announcement_of({}, template)
        self._count: tuple[int, int, str | None] = (-1, -1, None)
        self._described: tuple[Announcement, Description] | None = None
        self.announcement()

    def announcement(self) -> Announcement:
        """The same object until the tasks change."""
        count = len(self._tasks), len(self._application.on_dead), self._application.on_dead_default
        if count != self._count:
            versions = {name: task.policy.version for name, task in list(self._tasks.items())}
            self._current, self._count = announcement_of(versions, self._template, hooks_of(self._application)), count
        return self._current

    def announce_call(self) -> ScriptCall:
        """The script call that announces the names."""
        return self._broker.announce_call(self.announcement())

    def describe_call(self, *, ask: bool = False) -> ScriptCall:
        """The script call that describes the tasks; with `ask` it only asks whether their description is wanted."""
        announcement = self.announcement()
        if not self._described or self._described[0] is not announcement:  # schemas of many tasks take some time
            schemas = {name: schema for name, task in list(self._tasks.items()) if (schema := task.signature.schema())}
            self._described = announcement, describe(schemas, hook_texts(announcement.hooks))
        return self._broker.describe_call(announcement.template, self._described[1], ask=ask)

    @property
    def describes(self) -> bool:
        """Whether its queue is the one that holds the descriptions: the first partition."""
        return is_first(self._broker.keys.queue)
