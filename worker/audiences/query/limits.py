"""How much a query may be. Beyond it a query is refused with a position, never half read."""

MAX_CHARS = 65_536
"""Characters of one query. A query written by hand or by Segment's builder has a few hundred."""

MAX_NESTING = 100
"""Parentheses, `where` and prefix operators inside each other. Keeps recursion bounded."""

WHERE_LEVELS = 4
"""Levels that one `where` counts for: it needs so much more of the stack than a parenthesis."""

MAX_COMPARISONS = 50
"""Segment's "50 primary expressions"; counted as one per comparison, those in `where` included."""

MAX_DURATION_DAYS = 36_500
"""A hundred years: far beyond any look-back, and safe to add to a date."""

MAX_DIGITS = 30
"""Characters of one number; more is a slip of the keyboard."""

MAX_FILTERS = 100
"""Filters of one chain."""
