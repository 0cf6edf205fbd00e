"""Every Redis key, once. `{p}` is a partition's hash tag, `{a}` the allowance's; 1 the schema.

key                     type     holds                                       written by
ps1:{p}:inbox           stream   envelopes, group `engine`                   producers; accept
ps1:{p}:append:<id>     string   entry id of an appended envelope; expires   producers
ps1:{p}:bell:<task>     string   a doorbell is on its way; expires           producers, workers
ps1:{p}:ledger          hash     exact counters: accepted and each end       producers; scripts
ps1:{p}:door            hash     refused:<code>, skipped:<code>              accept
ps1:{p}:u:<user>        hash     a user's attributes, packed (state.lua)     accept, claim, settle
ps1:{p}:rt:ready, :held zset     user -> due ms, realtime lane               accept, claim, settle
ps1:{p}:bt:ready, :held zset     user -> boundary ms, batched lane           accept, claim, settle
ps1:{p}:claims          zset     claim id -> end of its lease, ms            claim, settle
ps1:{p}:claim           hash     claim id -> exactly what is sent, packed    claim, settle
ps1:{p}:owned           hash     user in flight -> claim id, versions sent   claim, settle
ps1:{p}:quiet           string   nobody claims here while it lives; expires  settle
ps1:{p}:gather:<lane>   string   token of the one gatherer of crumbs         look, claim
ps1:{p}:attrs, :names   hash     attribute name <-> small id                 accept, registry
ps1:{p}:rules           hash     id -> rule, `*` -> lanes, packed            registry
ps1:{p}:meta            hash     next_attribute, undeclared, registry        accept, registry
ps1:{p}:members         hash     id -> users whose desired value is true     accept
ps1:{p}:fresh           hash     <lane><bucket> -> arrivals to acknowledged  settle
ps1:{p}:journal, :size  stream   packed facts of each script call; bounded   scripts
ps1:{p}:dead            stream   dead letters                                accept, settle
ps1:{p}:torn            hash     users done of an entry whose script failed  accept
ps1:{p}:points:<day>    hash     id, `*` -> data points of a UTC day; expires settle
ps1:{p}:flight          hash     claim id -> data points it may need, packed claim, settle, free
ps1:{p}:over            set      ids that have no data points left           claim, free
ps1:{p}:over:<id>       zset     user held for them -> due ms                scripts
ps1:{p}:flips:<hour>    hash     id -> memberships that changed; expires     accept
ps1:{p}:seed            hash     an unfinished reading from Braze; expires   seed
ps1:{a}:dest            hash     pause, stop, width, hints, caps             reserve, report
ps1:{a}:permits         zset     requests under way -> when they count lost  reserve, report
ps1:{a}:valve           hash     verdicts and refusals by time; expires      report
ps1:{a}:counts          hash     requests, objects, by status and course     report
ps1:{a}:workers         zset     worker process -> last heartbeat ms         workers
ps1:{a}:ticks           string   when a tick was last worked off, ms         workers
ps1:{a}:notices         list     the latest notices, newest first; capped    notices
ps1:{a}:notices:unsent  list     those that the webhook is to get; capped    notices
ps1:{a}:notices:said    zset     what was said -> until when not again, ms   notices
ps1:{a}:notices:webhook hash     tries, next_at, posts in this minute        notices
ps1:{a}:notices:sender  string   token of the one who posts; expires         notices
ps1:{a}:flips:since     hash     audience -> hour in which it became known   flips
ps1:{a}:check           string   whether the server takes writes; expires    the command `check`
ps1:{a}:mode            hash     live or shadow, since when; how far forgetting is  mode
ps1:{a}:partitions      string   the number of partitions, since the first start
"""

from worker.contract import PARTITIONS_KEY, key

__all__ = [
    "CHECK",
    "COUNTS",
    "DEST",
    "FLIPS_SINCE",
    "MODE",
    "NOTICES",
    "PARTITIONS_KEY",
    "PERMITS",
    "SAID",
    "SENDER",
    "TICKS",
    "UNSENT",
    "VALVE",
    "WEBHOOK",
    "WORKERS",
    "key",
    "prefix",
]

DEST = "ps1:{a}:dest"
PERMITS = "ps1:{a}:permits"
VALVE = "ps1:{a}:valve"
COUNTS = "ps1:{a}:counts"
WORKERS = "ps1:{a}:workers"
TICKS = "ps1:{a}:ticks"
CHECK = "ps1:{a}:check"
MODE = "ps1:{a}:mode"
NOTICES = "ps1:{a}:notices"
UNSENT = "ps1:{a}:notices:unsent"
SAID = "ps1:{a}:notices:said"
WEBHOOK = "ps1:{a}:notices:webhook"
SENDER = "ps1:{a}:notices:sender"
FLIPS_SINCE = "ps1:{a}:flips:since"


def prefix(partition: int) -> str:
    """What all keys of one partition begin with."""
    return key(partition, "")
