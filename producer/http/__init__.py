"""The door that Segment knocks on: its HTTP Tracking API and its webhooks.

A map, outer to inner: serve (processes), connection (what uvicorn does not guard), app (routes),
door (one request: log, headers, refusals), tracking and webhook (what each route takes),
bodies, auth, signature, ingest (pure checks), appender (concurrent requests share an append).
"""
