"""The engine: audience changes in, the right attribute values out in Braze.

A map, inner to outer; each layer imports only what stands above it here:

contract    what may be put in the inbox, and the names shared with producers
durations   how spans of time are written (`200ms`, `8h`)
metric      what a metric is; shared with the HTTP producer
settings    every setting once; read by stored, bootstrap, celery_app and the producers' entry
audiences   pure: the registry of audiences and traits
pipeline    pure decisions: ingest, fold, schedule, batch, outcome, isolate, retry, facts
stores      the only code that talks to Redis    braze  the only code that talks to Braze
observe     readers of facts: logs, counters
snapshot    one look at the deployment, for `status` and for metrics
sending     one request to Braze, and what all workers learn from its reply
delivery    the users of one claim, and their verdicts     forwarding  profiles to delete
flow        accept, flush, recover: the architecture, read top to bottom
stored      what is kept in Redis, put together
bootstrap   settings -> client, policies -> Flow     celery_app  queues and schedule
tasks       Celery entry points
"""
