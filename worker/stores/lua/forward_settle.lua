-- needs: writes, deleted
-- Ends users of a request to delete. Who is no longer this claim's is passed over.
-- ARGV: 3 claim id, 4 packed {{user, 'd'|'r'|'x', reason}, ...}, 5 ms after which a user is asked
-- for again, 6 ms in which Braze carries a deletion out, 7 '1': changes are skipped for a time.
-- Verdicts: 'd' Braze took it, 'r' not, or nobody knows: again, 'x' refused for good.
-- Returns {taken, again, refused}.
local taken, again, refused = 0, 0, 0
for _, item in ipairs(cmsgpack.unpack(ARGV[4])) do
  local user, verdict, reason = item[1], item[2], item[3]
  if call('HGET', P .. 'forwarding', user) == ARGV[3] then
    call('HDEL', P .. 'forwarding', user)
    if verdict == 'r' then
      call('ZADD', P .. 'forward', now + tonumber(ARGV[5]), user)
      again = again + 1
    else
      call('ZREM', P .. 'forward', user)
      if verdict == 'd' then
        -- A change within this time would be of a profile that is about to go.
        if ARGV[7] == '1' then
          call('ZADD', P .. 'suppressed', 'GT', now + tonumber(ARGV[6]), digest_of(user))
        end
        taken = taken + 1
      else
        call('XADD', P .. 'dead', '*', 'kind', 'deletion', 'reason', reason, 'user', user,
          'request', ARGV[3])
        refused = refused + 1
      end
    end
  end
end
write_counts('ledger', {forwarded = taken, forwards_dead = refused})
return {taken, again, refused}
