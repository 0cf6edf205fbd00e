"""The register of metrics: each name once, with its labels, its meaning and what to do.

What is not in it cannot be emitted, nor can a label value that is not foreseen: no metric has
more series than can be counted here, and none tells a user; of keys only declared ones.
docs/metrics.md is written from it. Each metric has one layer that emits it: `server` is the same
from every worker, since it is read from the server at the scrape; `process` is what this one
process has seen. The HTTP producer has a register of its own.
"""

from collections.abc import Iterable

from worker.contract import QUEUE_OF_TASK, Refusal, Skip
from worker.metric import PREFIX, Kind, Label, Layer, Metric, NotRegistered
from worker.pipeline.fold import End
from worker.pipeline.outcome import Course
from worker.pipeline.reply import Trouble
from worker.pipeline.schedule import Lane


def registered(name: str, layer: Layer) -> Metric:
    """The metric of that name, for the layer that emits it. Raises NotRegistered."""
    metric = REGISTER.get(name)
    if metric is None:
        raise NotRegistered(f"{name} is not in worker/observe/metrics.py.")
    if metric.layer is not layer:
        raise NotRegistered(f"{name} is emitted by the {metric.layer}, not by the {layer}.")
    return metric


# --- labels

LANE = Label("lane", tuple(Lane))
END = Label("end", tuple(End))
COURSE = Label("course", tuple(Course))
REFUSED = Label("code", tuple(Refusal), "the codes of [refusals](refusals.md)")
SKIPPED = Label("code", tuple(Skip))
STATUS = Label(
    "status",
    (*(str(status) for status in range(100, 600)), *Trouble),
    "an HTTP status, or " + ", ".join(f"`{trouble}`" for trouble in Trouble),
)
USERS = Label("state", ("waiting", "due", "held", "in_flight"))
STATE = Label("state", ("connected", "shadow", "slowed", "paused", "unreachable"))
MODE = Label("mode", ("live", "shadow", "forgetting"))
BOUND = Label("bound", ("per_day", "per_audience_per_day"))
OUTCOME = Label("outcome", ("delivered", "refused", "retry", "unknown"))
ENVELOPE = Label("outcome", ("applied", "refused", "failed"))
TASK = Label("task", tuple(task.rpartition(".")[2] for task in QUEUE_OF_TASK))
DRAIN = Label(
    "end",
    (
        "done", "time_over", "empty", "busy", "not_due", "stopped", "paused", "narrowed", "hinted",
        "rate", "seats_taken", "server_away", "failed",
    ),
)  # fmt: skip
AUDIENCE = Label(
    "audience", (), "a declared key; the first 50 by name, all others together are `other`", 50
)

# --- what the server knows, the same from every worker

_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 10.0)
_FRESH = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0, 86400.0)


def _server(kind: Kind, name: str, unit: str, meaning: str, todo: str, *labels: Label) -> Metric:
    edges = _FRESH if kind is Kind.HISTOGRAM else ()
    return Metric(PREFIX + name, kind, Layer.SERVER, unit, meaning, todo, labels, edges)


def _process(kind: Kind, name: str, unit: str, meaning: str, todo: str, *labels: Label) -> Metric:
    edges = _SECONDS if kind is Kind.HISTOGRAM else ()
    name = f"{PREFIX}worker_{name}"
    return Metric(name, kind, Layer.PROCESS, unit, meaning, todo, labels, edges)


METRICS: tuple[Metric, ...] = (
    _server(
        Kind.GAUGE, "server_up", "0 or 1",
        "1 if the server answered this scrape within two seconds. At 0 all other metrics of the "
        "server are missing, so alert on this one.",
        "Look at the server: is it running, reachable from here, loading its file, or overloaded?",
    ),
    _server(
        Kind.COUNTER, "changes_accepted_total", "changes",
        "Changes that producers were told are safe.",
        "Flat while Segment sends: look at the producers, and at the refused messages.",
    ),
    _server(
        Kind.COUNTER, "changes_ended_total", "changes",
        "Accepted changes that had their end, by what it was. Each change has exactly one.",
        "`dead` grows: `persona-sync dead-letters list` says what Braze refuses, and why.",
        END,
    ),
    _server(
        Kind.GAUGE, "changes_pending", "changes",
        "Accepted changes without an end: accepted minus all ends.",
        "Grows for longer than the longest batched interval: look at the inbox, at the users due, "
        "at those held for the budget and at the destination, in this order.",
    ),
    _server(
        Kind.COUNTER, "data_points_total", "values",
        "Attribute values that Braze took; it bills each.",
        "More than changes delivered, by far: look at the values resent.",
    ),
    _server(
        Kind.COUNTER, "objects_delivered_total", "objects",
        "User objects that Braze took.",
        "Nothing by itself; compare it with the objects sent.",
    ),
    _server(
        Kind.COUNTER, "values_resent_total", "values",
        "Values sent once more, after an end that was not known, or after a replay.",
        "Grows steadily: requests time out or break. Look at the requests by status.",
    ),
    _server(
        Kind.COUNTER, "dead_letters_replayed_total", "letters",
        "Dead letters that an operator replayed.",
        "Nothing; it tells who looks at the dead letters when that was.",
    ),
    _server(
        Kind.COUNTER, "dead_letters_dropped_total", "letters",
        "Dead letters that an operator threw away.",
        "Unexpected: somebody ran `persona-sync dead-letters drop`; those values are not sent.",
    ),
    _server(
        Kind.COUNTER, "envelopes_dead_total", "envelopes",
        "Envelopes that could not be applied and went to the dead letters, whole.",
        "Any: a producer of another version, or a bug. The reason is in the dead letter.",
    ),
    _server(
        Kind.COUNTER, "messages_refused_total", "messages",
        "Messages refused at the door; never accepted, and counted nowhere else.",
        "Grows: mend the sender, then send the messages again.",
        REFUSED,
    ),
    _server(
        Kind.COUNTER, "messages_skipped_total", "messages",
        "Messages passed over at the door: nothing is wrong with them.",
        "Nothing. Nearly all of them: is it the right Segment source?",
        SKIPPED,
    ),
    _server(
        Kind.COUNTER, "braze_requests_total", "requests",
        "Requests to Braze by all workers, by the reply's status or by what went wrong.",
        "429: lower PERSONA_SYNC_BRAZE_REQUESTS_PER_SECOND. 401, 403, 404: mend key or endpoint. "
        "5xx and troubles: Braze or the network; the worker goes on by itself.",
        STATUS,
    ),
    _server(
        Kind.COUNTER, "braze_replies_total", "requests",
        "The same requests, by what the reply says about Braze as a whole.",
        "`stop`: see the log for what to do. `failing` and `wait` pass by themselves.",
        COURSE,
    ),
    _server(
        Kind.COUNTER, "braze_objects_sent_total", "objects",
        "User objects in those requests, each time one was sent. Divided by the requests it is "
        "how full they are.",
        "Far more than delivered: objects are sent again. Far below 75 a request under load: "
        "`linger` is too short.",
    ),
    _server(
        Kind.GAUGE, "inbox_entries", "envelopes",
        "Envelopes accepted and not yet applied.",
        "Grows for minutes: no worker is alive, or they are too few. Producers refuse at "
        "PERSONA_SYNC_INBOX_HIGH_WATER.",
    ),
    _server(
        Kind.GAUGE, "lane_users", "users",
        "Users with something to send. `waiting`: for the linger or their boundary; `due`: may "
        "go now; `held`: not before a gap, back-off or hold is over; `in_flight`: in a request.",
        "`due` grows for minutes: the allowance is too small, Braze is slow, or workers are "
        "missing. `held` stays high: many requests have no known end.",
        LANE, USERS,
    ),
    _server(
        Kind.GAUGE, "oldest_ready_seconds", "seconds",
        "How long the ready user that waits longest has been due; 0 if nobody is.",
        "Above 60 in a lane while the destination is connected: add workers or rate. Otherwise "
        "see why the destination is not connected.",
        LANE,
    ),
    _server(
        Kind.HISTOGRAM, "freshness_seconds", "seconds",
        "From the arrival in the inbox to Braze's acknowledgement, of every change delivered; "
        "within 5 %. A batched change waits for its boundary in it.",
        "The realtime p95 is above a few seconds: see what is due, and the destination.",
        LANE,
    ),
    _server(
        Kind.GAUGE, "dead_letters", "letters",
        "Dead letters that are kept.",
        "Above 0: `persona-sync dead-letters list`; mend the cause, then replay or drop them.",
    ),
    _server(
        Kind.COUNTER, "users_deleted_total", "users",
        "Deletions of users that were carried out here.",
        "Unexpected: see who deletes in Segment, or runs `persona-sync forget`.",
    ),
    _server(
        Kind.GAUGE, "users_suppressed", "users",
        "Deleted users whose changes are skipped still.",
        "Nothing; PERSONA_SYNC_DELETION_MEMORY says for how long.",
    ),
    _server(
        Kind.COUNTER, "deletes_taken_total", "users",
        "Deletions of profiles that Braze took.",
        "Flat while users are deleted: is PERSONA_SYNC_FORWARD_DELETES on? See the next two.",
    ),
    _server(
        Kind.GAUGE, "deletes_waiting", "users",
        "Deletions of profiles that Braze has not taken yet.",
        "Stays above 0 for minutes: `persona-sync status` says what they wait for.",
    ),
    _server(
        Kind.GAUGE, "deletes_stopped", "0 or 1",
        "1 if Braze lets us delete no profiles. Everything else goes on.",
        "Make a key with users.delete besides users.track, or look at the dead letters.",
    ),
    _server(
        Kind.GAUGE, "workers_alive", "processes",
        "Worker processes heard of within ten seconds.",
        "Fewer than you run: look at the logs of those missing.",
    ),
    _server(
        Kind.GAUGE, "tick_age_seconds", "seconds",
        "Since the beat's last tick was worked off; infinite if it never was.",
        "Above 30: no beat is running, or no worker has time for it. Batched changes wait.",
    ),
    _server(
        Kind.GAUGE, "destination_state", "0 or 1",
        "1 for the state that Braze is in for all workers, as `persona-sync status` says it; 0 "
        "for the others. `shadow`: nothing is sent to it, and nothing else holds it back.",
        "`unreachable`: the network or Braze; workers try again by themselves. `paused`: see the "
        "next two.",
        STATE,
    ),
    _server(
        Kind.GAUGE, "destination_stopped", "0 or 1",
        "1 if nothing is sent until somebody acts: an operator's pause, the valve, or refused "
        "credentials (those are tried again by themselves).",
        "`persona-sync status` has the reason, the runbook what to do. Nothing is lost meanwhile.",
    ),
    _server(
        Kind.GAUGE, "destination_paused_until_timestamp_seconds", "Unix time",
        "When a pause that ends by itself is over (Braze's limit, or a back-off); 0 without one.",
        "More than some minutes ahead: Braze asked for a long pause. Lower the rate.",
    ),
    _server(
        Kind.GAUGE, "audience_members", "users",
        "Members of an audience, as Segment says. In Braze they are by now, but for the pending.",
        "Falls to 0, or jumps: look at the audience in Segment. `persona-sync audiences disable` "
        "stops it before more is sent.",
        AUDIENCE,
    ),
    _server(
        Kind.GAUGE, "audience_pending_users", "users",
        "Users whose value of it Braze does not hold yet; also while it is disabled.",
        "Does not fall after its boundary: `persona-sync status` says what stands in the way.",
        AUDIENCE,
    ),
    _server(
        Kind.GAUGE, "audience_oldest_pending_seconds", "seconds",
        "How long the oldest of those waits; 0 if nobody does.",
        "Above the interval of the audience (a minute, for realtime ones): see the destination. "
        "Before a campaign: `persona-sync flush KEY`.",
        AUDIENCE,
    ),
    _server(
        Kind.COUNTER, "audience_data_points_total", "values",
        "Values of it that Braze took, ever; it bills each.",
        "One grows much faster than the rest: is its query what was meant?",
        AUDIENCE,
    ),
    _server(
        Kind.COUNTER, "audience_saved_total", "changes",
        "Changes of it that cost no data point: nothing to send any more, or a newer one came.",
        "Nothing; it tells what comparing with what Braze holds is worth.",
        AUDIENCE,
    ),
    _server(
        Kind.GAUGE, "budget_held_users", "users",
        "Users who are held because the data points of the day are spent, counted once for each "
        "audience; they are in no lane.",
        "Above 0: they go on at 00:00 UTC. Was an audience edited? To go on now, raise the bound "
        "and restart the workers.",
    ),
    _server(
        Kind.GAUGE, "budget_data_points_today", "values",
        "Data points of this UTC day of all audiences, counted while there is a budget.",
        "Near the bound long before the day is over: `persona-sync status` says who is held.",
    ),
    _server(
        Kind.GAUGE, "budget_data_points", "values",
        "The bounds of data points for a UTC day: in all, and for each audience; 0 for none.",
        "Nothing; it is what the day's are compared with.",
        BOUND,
    ),
    _server(
        Kind.GAUGE, "mode", "0 or 1",
        "1 for the mode that the workers run in; `forgetting` is on the way from `shadow` to "
        "`live`.",
        "`shadow`: everything is computed and counted, and nothing is sent. Is that meant?",
        MODE,
    ),
    _server(
        Kind.GAUGE, "registry_refused", "0 or 1",
        "1 while a newer audiences.yaml cannot be taken up; the workers run the one before it.",
        "`persona-sync audiences validate` shows each place; mend the file.",
    ),
    _server(
        Kind.GAUGE, "sweeps_unfinished", "sweeps",
        "Work on many users that is under way: resync, flush, retire, what a new registry needs.",
        "Above 0 for hours: `persona-sync status` says how far it is. Is a worker alive?",
    ),
    # --- what this process has seen
    _process(
        Kind.HISTOGRAM, "request_duration_seconds", "seconds",
        "Requests to Braze by this process: from before the connect to the reply's last byte.",
        "Rises: Braze or the way to it is slow. At PERSONA_SYNC_BRAZE_REQUEST_TIMEOUT it is cut.",
        LANE,
    ),
    _process(
        Kind.COUNTER, "requests_total", "requests",
        "Requests by this process, by the worst that became of a user in it: all `delivered`; "
        "some to `retry` (surely not accepted); some `refused` for good; some `unknown`.",
        "One worker has other figures than the rest: look at its network.",
        OUTCOME,
    ),
    _process(
        Kind.COUNTER, "drains_total", "drains",
        "Celery tasks that ended here, by why they did. `time_over`: there was more to do, and "
        "others had to have their turn; `empty`, `busy`, `not_due`: nothing for this one; "
        "`seats_taken`: enough others work on it.",
        "`failed`: a bug, see the log. `server_away`: the server cannot be reached. Nothing but "
        "`time_over`: more workers.",
        TASK, DRAIN,
    ),
    _process(
        Kind.COUNTER, "envelopes_total", "envelopes",
        "Envelopes that this process took from the inbox.",
        "`refused`: see the dead letters. `failed`: it is tried again; the log has the reason.",
        ENVELOPE,
    ),
    _process(
        Kind.COUNTER, "changes_clamped_total", "changes",
        "Changes whose event time was in the future and was moved to now.",
        "Grows: the clock of a sender is ahead.",
    ),
    _process(
        Kind.COUNTER, "claims_void_total", "claims",
        "Claims of lost workers that this process ended; their users are sent again.",
        "More than workers lost: see which are killed, and why (memory?).",
    ),
    _process(
        Kind.COUNTER, "claims_gone_total", "claims",
        "Claims that this process settled too late, after their lease; their users are sent again.",
        "Any, often: this process is frozen or starved. Give it CPU, or fewer threads.",
    ),
    _process(
        Kind.COUNTER, "bells_failed_total", "doorbells",
        "Doorbells that could not be rung; the next tick rings again.",
        "Grows: the broker cannot be reached.",
    ),
)  # fmt: skip


def _by_name(metrics: Iterable[Metric]) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for metric in metrics:
        if found.setdefault(metric.name, metric) is not metric:
            raise NotRegistered(f"{metric.name} is registered twice.")
    return found


REGISTER = _by_name(METRICS)
