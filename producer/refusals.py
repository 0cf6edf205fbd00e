"""Why the inbox takes nothing at the moment. Each message says what to do.

ProducerRefused
├── InboxFull      too many envelopes wait; workers must catch up
├── MemoryFull     the server is short of memory
├── ServerAway     no answer, or one that says "not now"; the append may or may not have happened
└── WrongServer    another number of partitions, or refused credentials: waiting does not help

After the first three the caller may repeat with the same ids: nothing is appended twice.
"""


class ProducerRefused(Exception):
    """Not everything was accepted. What was appended before stays so."""

    is_worth_repeating = True


class InboxFull(ProducerRefused):
    """The partition's inbox is at its high-water mark."""


class MemoryFull(ProducerRefused):
    """The server's memory is at its high-water mark."""


class ServerAway(ProducerRefused):
    """The server did not answer, or is not ready to write."""


class WrongServer(ProducerRefused):
    """The settings and the server do not belong together."""

    is_worth_repeating = False
