"""Bugs to plant, each a change of one place in the engine's text, and the engine with one of them in it.

They are what queues have really got wrong. A proof that does not catch them proves nothing.
"""

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from stoker.queue import scripts
from tests.proof.world import Engine

FOLDER = Path(scripts.__file__).parent


class Bug(NamedTuple):
    """In `file` (below queue/), `right` stands exactly once; `wrong` takes its place."""

    name: str
    file: str
    right: str
    wrong: str


BUGS = (
    Bug(
        "settle does not check the fence",
        "lua/settle.lua",
        "local rank = not seen[id] and owned_rank(owner[index], fence)",
        "local rank = not seen[id] and tonumber(string.match(owner[index] or '', ' (%S+)$') or '')",
    ),
    Bug(
        "a heartbeat does not check the fence",
        "lua/heartbeat.lua",
        "if owned_rank(owner[index], fence) then",
        "if owner[index] then",
    ),
    Bug(
        "a fence is its number alone",
        "broker.py",
        "return os.urandom(4).hex()",
        'return "0"',
    ),
    Bug(
        "a delay is counted by the client's clock",
        "broker.py",
        "to_ms(admission.delay), to_ms(admission.run_at))",
        '0, to_ms(__import__("time").time() + admission.delay if admission.delay else admission.run_at))',
    ),
    Bug(
        "time goes back with the server's clock",
        "lua/_prelude.lua",
        "now = now + little + leap",
        "now = real",
    ),
    Bug(
        "time stands still until a clock set back has caught up",
        "lua/_prelude.lua",
        "now = now + little + leap",
        "now = now + leap",
    ),
    Bug(
        "a leap of the clock ends leases",
        "lua/_prelude.lua",
        "sure, attended = now - doubt, now - leapt",
        "sure, attended = now, now - leapt",
    ),
    Bug(
        "an hour that the clock repeats passes again",
        "lua/_prelude.lua",
        "math.max(0, real - now - little)",
        "math.max(0, real - (mark[2] or real) - little)",
    ),
    Bug(
        "what is sure does not gain on a leap",
        "lua/_prelude.lua",
        "doubt_until > now and math.max(0, doubt - little) + leap or 0",
        "doubt + leap",
    ),
    Bug(
        "one call makes up for all of a leap",
        "lua/_prelude.lua",
        "math.max(0, doubt - little) + leap or 0",
        "math.max(0, doubt - 100 * little) + leap or 0",
    ),
    Bug(
        "a lease is counted from the real clock",
        "lua/fetch.lua",
        "local expiry, leased, owned = now + lease,",
        "local expiry, leased, owned = real + lease,",
    ),
    Bug(
        "a lease is renewed from what is sure",
        "lua/heartbeat.lua",
        "= now + lease, id",
        "= sure + lease, id",
    ),
    Bug(
        "run_at goes by the monotone clock",
        "lua/_prelude.lua",
        "if due > real then",
        "if due > now then",
    ),
    Bug(
        "what is due is found by the monotone clock",
        "lua/_promote.lua",
        "'-inf', real, 'WITHSCORES'",
        "'-inf', now, 'WITHSCORES'",
    ),
    Bug(
        "expires goes by the monotone clock",
        "lua/fetch.lua",
        "local reply = {real, -1, 0,",
        "local reply = {now, -1, 0,",
    ),
    Bug(
        "a step back of the clock prolongs the wait of a retry",
        "lua/settle.lua",
        "call_with('ZADD', delayed, delays)",
        "",
    ),
    Bug(
        "a delay ends with a leap",
        "lua/_promote.lua",
        "'ZRANGEBYSCORE', delayed, '-inf', attended,",
        "'ZRANGEBYSCORE', delayed, '-inf', now,",
    ),
    Bug(
        "a task that was cancelled or delayed again runs when its first delay ends",
        "lua/_promote.lua",
        "if id and not seen[id] and tonumber(redis.call('ZSCORE', scheduled, id)) == tonumber(its) then",
        "if id and not seen[id] and redis.call('ZSCORE', scheduled, id) then",
    ),
    Bug(
        "a result is kept by the monotone clock",
        "lua/settle.lua",
        "push(kept, real + keep, id)",
        "push(kept, now + keep, id)",
    ),
    Bug(
        "the reaper does not count losses",
        "lua/_reclaim.lua",
        "local losses = innocent and before or redis.call('HINCRBY', lost, id, 1)",
        "local losses = innocent and before or before + 1",
    ),
    Bug(
        "an innocent loss is counted",
        "lua/_reclaim.lua",
        "local losses = innocent and before or redis.call(",
        "local losses = redis.call(",
    ),
    Bug(
        "the cause of a loss is forgotten",
        "lua/_reclaim.lua",
        ", message = how, cause = cause, handlers = handlers}",
        ", message = how, handlers = handlers}",
    ),
    Bug(
        "the reaper comes before the lease has ended",
        "lua/reap.lua",
        "'ZRANGEBYSCORE', leases, '-inf', sure,",
        "'ZRANGEBYSCORE', leases, '-inf', sure + 15000,",
    ),
    Bug(
        "the reaper lets a cancelled task keep its failures",
        "lua/_reclaim.lua",
        "for _, column in ipairs({attempts, lost, errors}) do redis.call('HDEL', column, id) end",
        "redis.call('HDEL', lost, id)",
    ),
    Bug(
        "a repeated enqueue makes another task",
        "lua/_admit.lua",
        "if redis.call('HSETNX', tasks, id, envelope) == 0 then",
        "if redis.call('HSET', tasks, id, envelope) < 0 then",
    ),
    Bug(
        "a repeated enqueue of many makes other tasks",
        "lua/enqueue.lua",
        "if there then return false end",
        "",
    ),
    Bug(
        "a queue with failures only looks as if it had none",
        "lua/settle.lua",
        "redis.call('EXISTS', cancels, attempts, lost, errors,",
        "redis.call('EXISTS', cancels, lost,",
    ),
    Bug(
        "who was lost once is not seen as a suspect",
        "lua/fetch.lua",
        "redis.call('EXISTS', suspects, attempts, lost,",
        "redis.call('EXISTS', attempts,",
    ),
    Bug(
        "a result is deleted before it is written",
        "lua/settle.lua",
        "push(result, id, body) else",
        "dropped[#dropped + 1] = id else",
    ),
    Bug(
        "owners are deleted before they are asked",
        "lua/settle.lua",
        "local owner, cancel_asked = columns(owners, ids),",
        "call_with('HDEL', owners, ids) local owner, cancel_asked = columns(owners, ids),",
    ),
    Bug(
        "a retry is not charged",
        "lua/settle.lua",
        "redis.call('HINCRBY', attempts, id, 1)",
        "",
    ),
    Bug(
        "a released task forgets its place in line",
        "lua/settle.lua",
        "elseif verb == 'release' then\n      push(back, rank, id)",
        "elseif verb == 'release' then\n      push(back, rank_at(level, now), id)",
    ),
    Bug(
        "a wish to cancel is forgotten when its task fails",
        "lua/settle.lua",
        "if cancel_asked[index] and verb",
        "if false and verb",
    ),
    Bug(
        "tasks are promoted a millisecond early",
        "lua/_promote.lua",
        "'-inf', real, 'WITHSCORES'",
        "'-inf', real + 1, 'WITHSCORES'",
    ),
    Bug(
        "a promoted task stays scheduled",
        "lua/_promote.lua",
        "call_with('ZREM', scheduled, ids)",
        "",
    ),
    Bug(
        "wake tokens pile up",
        "lua/_prelude.lua",
        "if redis.call('LLEN', wake) == 0 then redis.call('LPUSH', wake, 1) end",
        "redis.call('LPUSH', wake, 1)",
    ),
    Bug(
        "an enqueue wakes nobody",
        "lua/enqueue.lua",
        "if tick > first then wake_one() end",
        "",
    ),
    Bug(
        "a worker gets a second suspect",
        "lua/fetch.lua",
        "local takes_suspect = holds < 3",
        "local takes_suspect = true",
    ),
    Bug(
        "who was lost once is a suspect already",
        "lua/_prelude.lua",
        "local SUSPECT_FROM = 2",
        "local SUSPECT_FROM = 1",
    ),
    Bug(
        "a task on its last life is brought to one that holds others",
        "lua/fetch.lua",
        "if first and holds == 0 then",
        "if first and holds < 3 then",
    ),
    Bug(
        "a task on its last life does not come alone",
        "lua/fetch.lua",
        "elseif not alone and lost_before[index] and on_last_life(lost_before[index], max_lost) then",
        "elseif false then",
    ),
    Bug(
        "a task on its last life has one life too many",
        "lua/_solitude.lua",
        ">= math.max(1, max_lost - 1)",
        ">= max_lost",
    ),
    Bug(
        "nobody is asked to clear for a task on its last life",
        "lua/fetch.lua",
        "      clear = true\n",
        "      clear = false\n",
    ),
    Bug(
        "every worker clears for the same task",
        "lua/_solitude.lua",
        "  if clearer[1] and clearer[1] ~= worker and (tonumber(clearer[2]) or 0) > now then return false end\n",
        "",
    ),
    Bug(
        "a worker that is gone is waited for to clear",
        "lua/_solitude.lua",
        " and (tonumber(clearer[2]) or 0) > now then",
        " then",
    ),
    Bug(
        "a worker that was seen to end still clears",
        "lua/reap_worker.lua",
        "  stop_clearing(ARGV[at])\n",
        "",
    ),
    Bug(
        "a claim outlives the task that held it",
        "lua/settle.lua",
        "free_claims(finished)",
        "",
    ),
    Bug(
        "two tasks claim to be the only one",
        "lua/_admit.lua",
        "local envelope = tonumber(expires) > real and",
        "local envelope = false and",
    ),
    Bug(
        "a task that has expired and waits keeps the next of its kind out",
        "lua/_admit.lua",
        "and not has_expired(holder, envelope) then",
        "then",
    ),
    Bug(
        "a task that runs past its expiry claims nothing",
        "lua/_admit.lua",
        "or redis.call('HEXISTS', owners, id) == 1 then return false end",
        "then return false end",
    ),
    Bug(
        "events are written for nobody",
        "lua/_prelude.lua",
        "watched = mark[3] and tonumber(mark[3]) > sure",
        "watched = true",
    ),
    Bug(
        "a task that is given back is not told",
        "lua/_reclaim.lua",
        "record('reclaimed', id, 'worker', worker)",
        "",
    ),
    Bug(
        "a buried task is told to be retried",
        "lua/settle.lua",
        "bury = 'buried'",
        "bury = 'retried'",
    ),
    Bug(
        "progress does not check the fence",
        "lua/progress.lua",
        "if owned_rank(redis.call('HGET', owners, id), fence) then",
        "if redis.call('HGET', owners, id) then",
    ),
    Bug(
        "the progress of a run outlives it",
        "lua/settle.lua",
        "ipairs({cancels, progress}) do",
        "ipairs({cancels}) do",
    ),
    Bug(
        "a pod takes others with it whose names begin alike",
        "reaping.py",
        "runs_on(_worker_of(fence), host)",
        "_worker_of(fence).startswith(host)",
    ),
    Bug(
        "a loss is not remembered",
        "lua/_reclaim.lua",
        "add_failure(id, {",
        "local _ = ({",
    ),
    Bug(
        "a purge leaves the past of its tasks",
        "lua/purge.lua",
        ", results, history, progress, logs}",
        ", results}",
    ),
    Bug(
        "a task that is lost too often has no handler",
        "lua/_reclaim.lua",
        "too_often and set_off_handlers(id, failure, 'lost', attempt) or nil",
        "nil",
    ),
    Bug(
        "a task that was unclaimed for too long has no handler",
        "lua/_unclaimed.lua",
        "local handlers = set_off_handlers(id, failure, 'unclaimed', attempt)",
        "local handlers = nil",
    ),
    Bug(
        "what a call says of its death is not read",
        "lua/_handlers.lua",
        "local linked = string.find(envelope, LINKED, 1, true)",
        "local linked = false",
    ),
    Bug(
        "a handler is made again by the relay that repeats another",
        "workflows/outbox.py",
        "Keyed(_key(each.key, effect), effect)",
        'Keyed("" if each.key == "handler" else _key(each.key, effect), effect)',
    ),
    Bug(
        "the death of a handler is handled",
        "lua/_handlers.lua",
        " or fields.handles then return end",
        " then return end",
    ),
    Bug(
        "a cancelled task that is lost is handled as dead",
        "lua/_reclaim.lua",
        "      record('cancelled', id, 'worker', worker)",
        "      set_off_handlers(id, failure, 'lost', 1)\n      record('cancelled', id, 'worker', worker)",
    ),
    Bug(
        "an expired task is handled as dead",
        "lua/settle.lua",
        "push(stopped, real, id) given_up[#given_up + 1] = id\n",
        "push(stopped, real, id) given_up[#given_up + 1] = id\n"
        "set_off_handlers(id, '{\"type\":\"Expired\"}', 'failed', 1) --+bury\n",
    ),
    Bug(
        "an older announcement keeps the handler of a name",
        "lua/_handlers.lua",
        "redis.call('HSET', hooks, name, template",
        "redis.call('HSETNX', hooks, name, template",
    ),
    Bug(
        "a name that has no handler any more keeps it",
        "lua/_handlers.lua",
        "if is_stale(found[at],",
        "if false and is_stale(found[at],",
    ),
    Bug(
        "arrivals within a tick are not told apart",
        "lua/_prelude.lua",
        "rank_of(level, tick + 1), id)",
        "rank_of(level, tick - tick % TICKS_PER_MS), id)",
    ),
    Bug(
        "a paused queue is fetched from",
        "lua/fetch.lua",
        "if paused then",
        "if false then",
    ),
    Bug(
        "a redriven task has used up its attempts",
        "lua/redrive.lua",
        "ipairs({attempts, lost, levels})",
        "ipairs({lost, levels})",
    ),
    Bug(
        "a purge leaves the envelopes",
        "lua/purge.lua",
        "COLUMNS = {tasks, attempts,",
        "COLUMNS = {attempts,",
    ),
    Bug(
        "children come before the fence is checked",
        "lua/settle.lua",
        "if reply[index] == 1 and ARGV[",
        "if ARGV[",
    ),
    Bug(
        "a task that has failed has children",
        "lua/settle.lua",
        "+ 2] == 'succeed' then effects",
        "+ 2] ~= '' then effects",
    ),
    Bug(
        "a child ignores who claims to be the only one",
        "lua/_admit.lua",
        "if holder then return {holder}, tick end",
        "",
    ),
    Bug(
        "an entry of the outbox is lost",
        "lua/_effects.lua",
        "redis.call('XADD', outbox, '*', 'body', body)",
        "",
    ),
    Bug(
        "what was relayed is relayed again",
        "lua/_effects.lua",
        "local known = key ~= '' and redis.call('ZSCORE', relayed, key)",
        "local known = false",
    ),
    Bug(
        "a member that is told twice counts twice",
        "lua/_effects.lua",
        "if redis.call('HSETNX', arrivals, id .. US .. at, bytes <= most and value or '') == 0 then return tick end",
        "redis.call('HSET', arrivals, id .. US .. at, bytes <= most and value or '')",
    ),
    Bug(
        "a join does not wait for its last member",
        "lua/_effects.lua",
        "if missing == 0 then return complete",
        "if missing <= 1 then return complete",
    ),
    Bug(
        "a join that has come leaves its count",
        "lua/_effects.lua",
        "redis.call('HDEL', waiting, id)\n  each_batch",
        "each_batch",
    ),
    Bug(
        "a broken group runs when its other members arrive",
        "lua/_effects.lua",
        "local _, _, member, level, placeholder = close_join(id, row)",
        "local _, _, member, level, placeholder = parts(row, 6)",
    ),
    Bug(
        "a join within a group forgets whose member it is",
        "lua/_effects.lua",
        "if member ~= '' then redis.call('HSET', members, id, member) end\n      effects_added",
        "effects_added",
    ),
    Bug(
        "the join of a cancelled member waits for ever",
        "lua/cancel.lua",
        "report_gone_members(stopped, 'cancelled')",
        "call_with('HDEL', members, stopped)",
    ),
    Bug(
        "the join of a member that died with its worker and a wish to cancel waits for ever",
        "lua/_reclaim.lua",
        "report_gone_members(stopped, 'cancelled')",
        "",
    ),
    Bug(
        "the join of a purged member waits for ever",
        "lua/_prelude.lua",
        "local home, join, at = string.match(member, '^(%S+) (%S+) (%d+)$')",
        "local home, join, at = string.match(member, '^(%S+) (%S+) (%d+)$') if why == 'purged' then break end",
    ),
    Bug(
        "an entry leaves the outbox before it has arrived",
        "workflows/outbox.py",
        "effects = await self._effects(entry)",
        "effects = await self._effects(entry); await ask(self._redis, 'XDEL', self._keys.outbox, entry.number)",
    ),
    Bug(
        "members are relayed before their join",
        "workflows/outbox.py",
        "            await self._perform([each for each in effects if not isinstance(each.effect, OpenJoin)])",
        "            await self._perform([each for each in effects if isinstance(each.effect, OpenJoin)])",
    ),
    Bug(
        "who died while it relayed is believed to have arrived",
        "workflows/outbox.py",
        "Keyed(_key(each.key, effect), effect)",
        "Keyed(each.key, effect)",
    ),
    Bug(
        "a launch that is said twice begins twice",
        "lua/_effects.lua",
        "call_with('ZADD', relayed, keep)",
        "",
    ),
    Bug(
        "the end of a run is not noted",
        "lua/timetable.lua",
        "redis.call('HDEL', runs, open[at])",
        "",
    ),
    Bug(
        "a run begins beside one that must not be overlapped",
        "lua/start_runs.lua",
        "elseif verb == 'run' and open and overlap == '0' then",
        "elseif false then",
    ),
    Bug(
        "a moment that is skipped drops the next run",
        "lua/start_runs.lua",
        "if answer ~= 'stale' and verb ~= 'now' then",
        "if answer == 'skipped' then redis.call('ZREM', upcoming, name) elseif answer ~= 'stale' and verb ~= 'now' then",
    ),
    Bug(
        "who was slower starts the same moment again",
        "lua/start_runs.lua",
        "local waits = was[2] == moment and redis.call('ZSCORE', upcoming, name)",
        "local waits = redis.call('ZSCORE', upcoming, name)",
    ),
    Bug(
        "a run is that of a definition that was changed meanwhile",
        "lua/start_runs.lua",
        "redis.sha1hex(was[1]) ~= sha or",
        "",
    ),
    Bug(
        "a run that a person starts moves the clock",
        "lua/start_runs.lua",
        "if answer ~= 'stale' and verb ~= 'now' then",
        "if answer ~= 'stale' then",
    ),
    Bug(
        "missed moments are not counted",
        "lua/start_runs.lua",
        "count('missed', name, tonumber(missed))",
        "",
    ),
    Bug(
        "a paused schedule runs on",
        "lua/set_schedule.lua",
        "redis.call('ZREM', upcoming, name)\n  return news",
        "return news",
    ),
    Bug(
        "a removed schedule leaves its next run",
        "lua/_schedules.lua",
        "redis.call('ZREM', upcoming, name)",
        "",
    ),
    Bug(
        "a schedule that is declared again starts from now",
        "lua/schedules.lua",
        "elseif was[2] ~= timing or not redis.call('ZSCORE', upcoming, name) then",
        "else",
    ),
    Bug(
        "a task is set aside although a living worker knows it",
        "lua/settle.lua",
        "if verb == 'unclaim' and known_elsewhere(now, body) then verb = 'snooze' end --+unclaim",
        "",
    ),
    Bug(
        "a worker that has ended still knows its tasks",
        "lua/_unclaimed.lua",
        "string.format('(%.0f', sure), '+inf'",
        "'-inf', '+inf'",
    ),
    Bug(
        "a worker's own template keeps from it what it does not know",
        "lua/_unclaimed.lua",
        "if template ~= aside.template and knows(",
        "if knows(",
    ),
    Bug(
        "an older version is taken for the task's",
        "lua/_unclaimed.lua",
        "(tonumber(names[name]) or -1) >= version",
        "names[name] ~= nil",
    ),
    Bug(
        "announced names release nothing",
        "lua/announce.lua",
        "if #ids < limit then find(unclaimed_range(name, version)) end",
        "",
    ),
    Bug(
        "announcing an old version releases newer tasks",
        "lua/_unclaimed.lua",
        "'(' .. name .. US .. padded(version) .. ' ' end",
        "'(' .. name .. ' ' end",
    ),
    Bug(
        "tasks that are released wake nobody",
        "lua/announce.lua",
        "if #rows > 0 then wake_one() end",
        "",
    ),
    Bug(
        "a released task is still found under its name",
        "lua/_unclaimed.lua",
        "call_with('HDEL', unclaimed_as, ids)",
        "",
    ),
    Bug(
        "who comes back from the dead is not asked what it knows",
        "lua/heartbeat.lua",
        "was_until <= sure and 1 or 0",
        "was_until == 0 and 1 or 0",
    ),
    Bug(
        "what is unclaimed never stops being demand",
        "lua/announce.lua",
        "redis.call('ZADD', templates, now, template)",
        "",
    ),
    Bug(
        "who sets a task aside is started again for it",
        "lua/_unclaimed.lua",
        "if tonumber(redis.call('ZSCORE', templates, aside.template) or 0) > 0 then",
        "if false then",
    ),
    Bug(
        "what is unclaimed counts as ready",
        "lua/stats.lua",
        "arriving + redis.call('ZCARD', ready)",
        "arriving + redis.call('ZCARD', unclaimed) + redis.call('ZCARD', ready)",
    ),
    Bug(
        "a cancelled task is still unclaimed",
        "lua/_unclaimed.lua",
        "      redis.call('ZREM', unclaimed, id)\n",
        "",
    ),
    Bug(
        "an unclaimed task is buried while it may still be known",
        "lua/_unclaimed.lua",
        "string.format('%.0f', now - age)",
        "string.format('%.0f', now)",
    ),
    Bug(
        "an unclaimed task that is buried keeps its claim",
        "lua/_unclaimed.lua",
        "  free_claims(ids)\n",
        "",
    ),
    Bug(
        "the dead are forgotten too soon",
        "lua/sweep.lua",
        "real - dead_age",
        "real",
    ),
    Bug(
        "a minder that is gone is never replaced",
        "lua/_minding.lua",
        "return mind_until > now and mind_until <=",
        "return mind_until > 0 and mind_until <= mind_until + now and 0 <=",
    ),
    Bug(
        "a task that falls due does not bring the look forward",
        "lua/_minding.lua",
        "if due < 0 or due + now - real >= mind_until - GRACE_MS then return -1 end",
        "do return -1 end",
    ),
    Bug(
        "the minder sleeps past what falls due",
        "lua/mind.lua",
        "if at <= real then is_due(chore) else look = math.min(look, at + now - real) end",
        "if at <= real then is_due(chore) end",
    ),
    Bug(
        "a minder that was replaced goes on",
        "lua/mind.lua",
        "if is_minded(now) and redis.call('HGET', meta, 'minder') ~= worker then return {} end",
        "",
    ),
    Bug(
        "a look does not renew the minder",
        "lua/mind.lua",
        "\nrenew_minder(worker, look)",
        "",
    ),
    Bug(
        "a minder that was seen to end keeps its chores",
        "lua/reap_worker.lua",
        "  stop_minding(ARGV[at])\n",
        "",
    ),
    Bug(
        "what a dead worker left in the outbox stays there",
        "lua/mind.lua",
        "if age and (age < 0 or age >= LEFT_OVER_MS) then",
        "if age and age < 0 then",
    ),
    Bug(
        "nothing but the next fetch makes a worker the minder",
        "lua/heartbeat.lua",
        "take_over(worker, now, -1)",
        "-1",
    ),
    Bug(
        "a newcomer takes the claim of another",
        "lua/claim.lua",
        "if held and held ~= ARGV[2] then return held end",
        "if held == ARGV[1] then return held end",
    ),
    Bug(
        "a takeover takes whoever holds the claim",
        "lua/claim.lua",
        "held ~= ARGV[2]",
        "ARGV[2] == ''",
    ),
    Bug(
        "a deleted TaskQueue releases the claim of its successor",
        "lua/release_claim.lua",
        "or (ARGV[1] ~= '' and held ~= ARGV[1])",
        "",
    ),
    Bug(
        "a queue with workers is forgotten",
        "lua/forget.lua",
        "if redis.call('ZCOUNT', beats, now, '+inf') > 0 then return 'workers' end",
        "",
    ),
    Bug(
        "a queue with tasks is forgotten",
        "lua/forget.lua",
        "tasks, joins, waiting, arrivals) > 0\n",
        "tasks, joins, waiting, arrivals) > 99\n",
    ),
    Bug(
        "a claimed queue is forgotten",
        "lua/forget.lua",
        "if redis.call('HEXISTS', meta, 'claim') == 1 then return 'claim' end",
        "",
    ),
)


@contextmanager
def planted(bug: Bug, folder: Path) -> Iterator[Engine]:
    """The engine with this bug, in a copy below `folder`."""
    copy = folder / "queue"
    shutil.copytree(FOLDER, copy)
    file = copy / bug.file
    text = file.read_text()
    assert text.count(bug.right) == 1, f"{bug.file} has changed: what is to be replaced stands there {text.count(bug.right)} times"
    file.write_text(text.replace(bug.right, bug.wrong))
    scripts.load.cache_clear()
    try:
        with patch("stoker.queue.scripts._FOLDER", copy / "lua"):
            if bug.file == "broker.py":
                yield Engine(broker=_module(file).Broker)
            elif bug.file == "workflows/outbox.py":
                yield Engine(outbox=_module(file).Outbox)
            elif bug.file == "reaping.py":
                with patch("stoker.queue.reads.inspector.reap_host", _module(file).reap_host):
                    yield Engine()
            else:
                yield Engine()
    finally:
        scripts.load.cache_clear()


def _module(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location("stoker.queue.planted", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module
