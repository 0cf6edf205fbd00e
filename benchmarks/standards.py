"""What each measure must reach on two cores, what it aims at, and what peers do there.

Peers' figures are published ones, or were measured on the same kind of machine with one core for
the peer; none of them keeps a durable queue in its path. A measure has figures of its own name.
"""

Figures = dict[str, tuple[float, float]]

# figure -> (floor, aim)
FLOORS: dict[str, Figures] = {
    "throughput, 0 ms Braze, 1 worker": {
        "changes_per_second": (15_000, 30_000),
        "cpu_us_per_change": (60, 40),
        "mean_fill": (74, 75),
        "unchanged_values_sent": (0, 0),
    },
    "throughput, 50-150 ms Braze, 1 worker": {"changes_per_second": (12_000, 25_000)},
    "freshness, 500 changes/s": {
        "p50_ms": (600, 350),
        "p95_ms": (1_200, 600),
        "p99_ms": (2_500, 1_000),
    },
    "requests per second, one process, 100 ms Braze": {"requests_per_second": (500, 1_000)},
    "realtime beside 1,000,000 batched users due": {"p95_beside_quiet": (2, 1)},
    "memory, 1,000,000 users": {"bytes_per_user": (350, 200)},
    "http, single messages, 1 process": {
        "messages_per_second": (1_500, 3_000),
        "messages_per_cpu_second": (1_500, 3_000),
        "not_200": (0, 0),
    },
    "http, batches of 100, 1 process": {
        "messages_per_second": (15_000, 30_000),
        "messages_per_cpu_second": (15_000, 30_000),
        "not_200": (0, 0),
    },
}
SMALLER_IS_BETTER = {
    "cpu_us_per_change", "unchanged_values_sent", "p50_ms", "p95_ms", "p99_ms", "bytes_per_user",
    "p95_beside_quiet", "not_200",
}  # fmt: skip

PEERS: dict[str, dict[str, str]] = {
    "throughput, 0 ms Braze, 1 worker": {
        "changes_per_second": "transform and HTTP only, nothing durable: Segment's framework 22k, "
        "RudderStack 35k, Braze's CSV Lambda 71k; RudderStack's sizing page, whole path, 2 cores: "
        "1.7k",
        "mean_fill": "RudderStack's router 20 by default; Segment 75",
        "unchanged_values_sent": "all peers send them; RudderStack can ask Braze first",
        "objects_per_change": "1.0: one object for each event",
    },
    "throughput, 50-150 ms Braze, 1 worker": {
        "changes_per_second": "at 50 ms: Segment's framework 19k, RudderStack 7.5k to 19k, Braze's "
        "CSV Lambda 19k",
    },
    "at the defaults (100 requests/s, gap 5 s)": {
        "seconds": "Segment Engage is held to 100 requests/s, too",
    },
    "freshness, 500 changes/s": {
        "p50_ms": "Segment gathers 30 s, RudderStack up to 5 s, Braze's CDI 15 min",
    },
    "requests per second, one process, 100 ms Braze": {
        "requests_per_second": "a client that sends one after another: 10",
    },
}
