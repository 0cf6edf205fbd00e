"""Pure: Segment's query language. Text becomes a typed tree, and a tree becomes text.

`parse` is the door; `tree` is what comes out; a text that is refused is an `errors.QueryError`.
"""
