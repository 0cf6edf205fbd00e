-- needs: clock
-- The right to make one request: GCRA on the server's clock, with reservation of a later slot.
-- KEYS: dest, permits. ARGV: 1 now ms or '', 2 permit id, 3 lane 'r'|'b', 4 requests per second,
-- 5 burst, 6 longest wait ms, 7 ms after which a permit counts as lost, 8 ms after the last
-- success with which a narrowing is over though nobody sent enough to widen it.
-- Returns {granted 0|1, ms to wait, why, reason}. Nothing is granted while the destination is
-- stopped, paused, or narrowed and as many requests are under way as it is wide.
local call, dest = redis.call, KEYS[1]
local now = moment(ARGV[1])
local names = {'stop', 'until', 'reason', 'width', 'tat', 'hint_left', 'hint_reset', 'hint_limit',
  'hint_next_r', 'hint_next_b', 'failures', 'last_fine'}
local got, d = call('HMGET', dest, unpack(names)), {}
for i, name in ipairs(names) do d[name] = got[i] end
local lane, most = ARGV[3], tonumber(ARGV[6])

if d.stop then return {0, 1000, 'stopped', d.stop} end
local paused = tonumber(d['until'] or '0')
if paused > now then return {0, math.ceil(paused - now), 'paused', d.reason or ''} end
call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local width = tonumber(d.width or '0')
-- Destination.is_wide_again decides the same for who only looks.
if width > 0 and tonumber(d.failures or '0') == 0 and d.last_fine
  and now - tonumber(d.last_fine) >= tonumber(ARGV[8]) then
  call('HDEL', dest, 'width', 'reason')
  width = 0
end
if width > 0 and call('ZCARD', KEYS[2]) >= width then return {0, 100, 'narrowed', d.reason or ''} end

local interval, burst = 1000 / tonumber(ARGV[4]), tonumber(ARGV[5])
local tat = math.max(tonumber(d.tat or '0'), now)
local wait = math.max(0, tat + interval - burst * interval - now)
local left, reset = tonumber(d.hint_left or ''), tonumber(d.hint_reset or '0')
local hinted, next_at, spread = left and reset > now, nil, nil
if hinted then
  -- What Braze says is left is spread over the window, a tenth of it at once at most; its last
  -- fifth is kept for realtime. Each lane keeps its own pace, so that neither holds up the other.
  local kept = lane == 'b' and math.floor(tonumber(d.hint_limit or '0') / 5) or 0
  local free = left - kept
  if free < 1 then return {0, math.ceil(reset - now), 'hinted', 'rate_limit_remaining'} end
  spread = (reset - now) / free
  next_at = math.max(tonumber(d['hint_next_' .. lane] or '0'), now)
  local at_once = math.min(burst, math.max(1, math.floor(free / 10)))
  wait = math.max(wait, next_at + spread - at_once * spread - now)
end
if wait > most then return {0, math.ceil(wait), 'rate', ''} end
call('HSET', dest, 'tat', string.format('%.3f', tat + interval))
if hinted then
  call('HSET', dest, 'hint_next_' .. lane, string.format('%.3f', next_at + spread))
  call('HINCRBY', dest, 'hint_left', -1)
end
call('ZADD', KEYS[2], now + wait + tonumber(ARGV[7]), ARGV[2])
return {1, math.ceil(wait), '', ''}
