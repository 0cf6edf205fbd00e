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
ps1:{p}:quiet           string   nobody claims here while it lives; expires  settle; identity
ps1:{p}:gather:<lane>   string   token of the one gatherer of crumbs         look, claim
ps1:{p}:attrs, :names   hash     attribute name <-> small id                 accept, registry
ps1:{p}:rules           hash     id -> rule, `*` -> lanes, packed            registry, begin
ps1:{p}:shadows         hash     key not seen yet, its name another's -> rule registry, accept
ps1:{p}:meta            hash     next_attribute, next_sweep, registry, salt  accept, registry
ps1:{p}:members         hash     id -> users whose desired value is true     accept
ps1:{p}:known           hash     id -> users who have a value of it          accept, delete
ps1:{p}:dirty:<id>      zset     user who differs -> since when, ms          scripts
ps1:{p}:sent            hash     id -> data points acknowledged, ever        settle
ps1:{p}:saved           hash     id -> changes that cost no data point       scripts
ps1:{p}:skipped         hash     id -> changes of a retired key              accept
ps1:{p}:flushed         hash     id -> when it was last delivered, ms        settle
ps1:{p}:sweeps          hash     sweep -> work on many users, packed         registry, begin, sweep
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
ps1:{p}:suppressed      zset     digest of a deleted user -> skipped until   delete, trim
ps1:{p}:forgotten       hash     digest of a deleted user -> when, ms        delete, trim
ps1:{p}:erase           zset     user to be erased from streams -> since ms  delete, erased
ps1:{p}:erasing         hash     users, stream, at, last: how far that is    erasure, erased
ps1:{p}:erasing:lock    string   one worker erases; expires                  erasure
ps1:{p}:forward         zset     user whom Braze is to delete -> due ms      delete, forward_*
ps1:{p}:forwarding      hash     user being asked for -> claim id            delete, forward_*
ps1:{a}:registry        hash     what is published: version, rules, text, fault  publish
ps1:{a}:orders          hash     key -> what an operator ordered of it, JSON publish
ps1:{a}:dest            hash     pause, stop, width, hints, caps             reserve, report
ps1:{a}:permits         zset     requests under way -> when they count lost  reserve, report
ps1:{a}:valve           hash     verdicts and refusals by time; expires      report
ps1:{a}:counts          hash     requests, objects, by status and course     report
ps1:{a}:delete:dest, :permits, :valve, :counts  the same for /users/delete   reserve, report
ps1:{a}:workers         zset     worker process -> last heartbeat ms         workers
ps1:{a}:in_force        hash     worker process -> settings it runs with    in_force
ps1:{a}:server          string   run id for which everybody was told to wait identity
ps1:{a}:ticks           string   when a tick was last worked off, ms         workers
ps1:{a}:notices         list     the latest notices, newest first; capped    notices
ps1:{a}:notices:unsent  list     those that the webhook is to get; capped    notices
ps1:{a}:notices:said    zset     what was said -> until when not again, ms   notices
ps1:{a}:notices:webhook hash     tries, next_at, posts in this minute        notices
ps1:{a}:notices:sender  string   token of the one who posts; expires         notices
ps1:{a}:flips:since     hash     audience -> hour in which it became known   flips
ps1:{a}:check           string   whether the server takes writes; expires    `check`, /readyz
ps1:{a}:mode            hash     live or shadow, since when; how far forgetting is  mode
ps1:{a}:partitions      string   the number of partitions, since the first start
"""

from worker.contract import CHECK_KEY, PARTITIONS_KEY, key

__all__ = [
    "CHECK",
    "COUNTS",
    "DELETE_COUNTS",
    "DELETE_DEST",
    "DELETE_PERMITS",
    "DELETE_VALVE",
    "DEST",
    "FLIPS_SINCE",
    "IN_FORCE",
    "MODE",
    "NOTICES",
    "ORDERS",
    "PARTITIONS_KEY",
    "PERMITS",
    "REGISTRY",
    "SAID",
    "SENDER",
    "SERVER",
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
DELETE_DEST = "ps1:{a}:delete:dest"
DELETE_PERMITS = "ps1:{a}:delete:permits"
DELETE_VALVE = "ps1:{a}:delete:valve"
DELETE_COUNTS = "ps1:{a}:delete:counts"
REGISTRY = "ps1:{a}:registry"
ORDERS = "ps1:{a}:orders"
WORKERS = "ps1:{a}:workers"
IN_FORCE = "ps1:{a}:in_force"
SERVER = "ps1:{a}:server"
TICKS = "ps1:{a}:ticks"
CHECK = CHECK_KEY
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
