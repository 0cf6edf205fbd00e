-- needs: clock, pauses
-- What one request taught us about the destination, for all workers at once.
-- KEYS: dest, permits, valve, counts. ARGV: 1 now ms or '', 2 permit id, 3 course, 4 reason,
-- 5 wait ms or -1, 6 verdicts, 7 of them dead, 8 packed hints {limit, remaining, reset in ms} or
-- '', 9 most objects or 0, 10 most bytes or 0, 11 key's fingerprint, 12 valve share, 13 valve's
-- fewest verdicts, 14 valve window ms, 15 objects, 16 status, 17 life of a permit in ms,
-- 18 transient failures after which all workers narrow.
-- Returns {transient failures in a row, 1 if the valve tripped}; 0 failures for a request that
-- began before the last one counted: what all threads run into at once is one trouble.
-- `failing_since` is the first failure in a row; what ends a row after which all had narrowed
-- leaves `failed_from` and `answered`, for whoever tells of it.
local call, dest = redis.call, KEYS[1]
local now = moment(ARGV[1])
local course, reason, wait = ARGV[3], ARGV[4], tonumber(ARGV[5])
local lost_at = tonumber(call('ZSCORE', KEYS[2], ARGV[2]) or '')
local began = lost_at and lost_at - tonumber(ARGV[17]) or now
call('ZREM', KEYS[2], ARGV[2])
call('HINCRBY', KEYS[4], 'requests', 1)
call('HINCRBY', KEYS[4], 'objects', tonumber(ARGV[15]))
call('HINCRBY', KEYS[4], 'status:' .. ARGV[16], 1)
call('HINCRBY', KEYS[4], 'course:' .. course, 1)

-- A stop that only a person lifts is not turned into one that a probe lifts.
local function held_by_hand()
  local stop = call('HGET', dest, 'stop') or ''
  return string.find(stop, '^valve') ~= nil or string.find(stop, '^operator') ~= nil
end

local failures = 0
if course == 'fine' then
  local known = call('HMGET', dest, 'width', 'failures', 'failing_since')
  local width = tonumber(known[1] or '0')
  call('HDEL', dest, 'failures', 'limited', 'failing_since')
  call('HSET', dest, 'last_fine', now)
  if known[3] and tonumber(known[2] or '0') >= tonumber(ARGV[18]) then
    call('HSET', dest, 'failed_from', known[3], 'answered', now)
  end
  if width >= 32 then call('HDEL', dest, 'width', 'reason')
  elseif width > 0 then call('HSET', dest, 'width', width * 2) end
elseif course == 'wait' then
  failures = tonumber(call('HGET', dest, 'limited') or '0')
  if began >= tonumber(call('HGET', dest, 'limited_at') or '0') then
    failures = failures + 1
    call('HSET', dest, 'limited', failures, 'limited_at', now)
  end
  if wait >= 0 then pause_until(dest, now + wait, reason) end
elseif course == 'failing' then
  local few, before = tonumber(ARGV[18]), tonumber(call('HGET', dest, 'failures') or '0')
  if before < few or began >= tonumber(call('HGET', dest, 'failed_at') or '0') then
    failures = before + 1
    call('HSET', dest, 'failures', failures, 'failed_at', now)
    if before == 0 then call('HSET', dest, 'failing_since', now) end
    if failures >= few then call('HSET', dest, 'width', 1, 'reason', reason) end
  end
  call('HSET', dest, 'last_failure', now, 'last_reason', reason)
elseif course == 'stop' and not held_by_hand() then
  call('HSET', dest, 'stop', reason, 'stopped_at', now, 'key', ARGV[11], 'next_probe', now)
end

-- The least of what is said within one window counts; a later reset is a new window, an earlier
-- one a late reply from the window before.
if ARGV[8] ~= '' then
  local limit, remaining, reset_in = unpack(cmsgpack.unpack(ARGV[8]))
  local reset = now + reset_in
  local known = tonumber(call('HGET', dest, 'hint_reset') or '0')
  local left = tonumber(call('HGET', dest, 'hint_left') or '')
  if known <= now or reset > known + 1500 or left == nil then
    call('HSET', dest, 'hint_reset', reset, 'hint_left', remaining, 'hint_limit', limit)
    call('HDEL', dest, 'hint_next_r', 'hint_next_b')
  elseif remaining < left and reset >= known - 1500 then
    call('HSET', dest, 'hint_left', remaining)
  end
end
if tonumber(ARGV[9]) > 0 or tonumber(ARGV[10]) > 0 then call('HSET', dest, 'capped_at', now) end
if tonumber(ARGV[9]) > 0 then
  local cap = tonumber(call('HGET', dest, 'most_objects') or '0')
  if cap == 0 or tonumber(ARGV[9]) < cap then call('HSET', dest, 'most_objects', ARGV[9]) end
end
if tonumber(ARGV[10]) > 0 then
  local cap = tonumber(call('HGET', dest, 'most_bytes') or '0')
  if cap == 0 or tonumber(ARGV[10]) < cap then call('HSET', dest, 'most_bytes', ARGV[10]) end
end

-- The valve: too many refusals within the window pause the destination.
local tripped = 0
local verdicts, dead, window = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[14])
if verdicts > 0 then
  local bucket = math.floor(now / (window / 6))
  call('HINCRBY', KEYS[3], bucket .. ':all', verdicts)
  if dead > 0 then call('HINCRBY', KEYS[3], bucket .. ':dead', dead) end
  if dead > 0 then
    local all, refused = 0, 0
    local raw = call('HGETALL', KEYS[3])
    for i = 1, #raw, 2 do
      local at, kind = string.match(raw[i], '^(%d+):(%a+)$')
      if tonumber(at) <= bucket - 6 then call('HDEL', KEYS[3], raw[i])
      elseif kind == 'all' then all = all + tonumber(raw[i + 1])
      else refused = refused + tonumber(raw[i + 1]) end
    end
    if all >= tonumber(ARGV[13]) and refused > all * tonumber(ARGV[12]) then
      tripped = 1
      call('HSET', dest, 'stop', 'valve', 'stopped_at', now)
    end
  end
  call('PEXPIRE', KEYS[3], window * 2)
end
return {failures, tripped}
