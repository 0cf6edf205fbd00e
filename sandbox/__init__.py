"""A Braze to test against: it follows the public API strictly and misbehaves on request.

Start it with `python -m sandbox`. It imports nothing of the worker, the producer or the console,
so a mistake made there cannot be repeated here. Times in its JSON are UTC epoch seconds.

    server -> app -> faults?  -> mischief -> delivery
                  -> braze    -> limits, track, profiles, readback
                  -> control  -> report, config, faults, profiles
"""
