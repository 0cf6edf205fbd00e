"""Messages as an Engage space sends them, and what they mean.

`generate` writes an example file from a seed; `oracle` says whether a Braze holds what the
generator meant. Nothing here imports the product: two parties that agree must not share code.

    dice      chance that is the same on every Python
    people    who is in the space, odd user ids included
    space     audiences, traits, and the life of every person in true order: the truth
    messages  one statement as one line on the wire
    noise     lines that must change nothing: refused, skipped, empty
    disorder  repetition and the order in which lines arrive
    generate  all of it as one file
    profiles  what a sandbox holds, read over HTTP
    oracle    the comparison
"""
