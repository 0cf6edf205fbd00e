-- needs: writes
-- Forgets that users were deleted, where the time is over for which changes are skipped.
-- ARGV: 3 how many at most. Returns how many.
local over = call('ZRANGEBYSCORE', P .. 'suppressed', '-inf', now, 'LIMIT', 0, tonumber(ARGV[3]))
in_pieces('ZREM', 'suppressed', over)
in_pieces('HDEL', 'forgotten', over)
return #over
