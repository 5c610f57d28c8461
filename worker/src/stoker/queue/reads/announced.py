"""Reads what the workers of each template have announced (lua/announce.lua, lua/describe.lua)."""

from stoker.queue import scripts
from stoker.queue.keys import Keys
from stoker.queue.scripts import ScriptCall
from stoker.redis.client import RedisClient
from stoker.rules.announcement import MOST_TEMPLATES, AnnouncedTemplate, announced_templates

MOST_BYTES = 4 << 20
"""In one read. 50 templates with the most schemas take 3.2 MB."""


async def read_announcements(redis: RedisClient, keys: Keys) -> list[AnnouncedTemplate]:
    """The latest first. Raises RedisUnavailable or RedisRefused."""
    [flat] = await scripts.run(redis, ScriptCall("announcements", keys, [MOST_TEMPLATES, MOST_BYTES]))
    return announced_templates(flat)
