"""The way in: Segment messages become envelopes in the inbox.

Thin, and durable before it answers.
"""
