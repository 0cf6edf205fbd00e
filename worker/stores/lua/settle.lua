-- Ends a claim, or some of its users. Settling what is gone or settled changes nothing; a user
-- that no longer exists is never created.
-- ARGV: 3 claim id, 4 packed {{place in the claim from 1, verdict, reason}, ...}, 5 gap ms, 6 hold
-- ms, 7 journal bytes, 8 request id, 9 verdict for all that is not named, or '',
-- 10 '1': only if the lease is over.
-- Verdicts: 'd' delivered, 'r' surely not accepted, 'u' unknown, 'x' dead.
-- Returns {users settled, values acknowledged, dead, realtime users ready, gatherer 0|1}, or {}.
local claim_id = ARGV[3]
local raw = call('HGET', P .. 'claim', claim_id)
if not raw then return {} end
if ARGV[10] == '1' and tonumber(call('ZSCORE', P .. 'claims', claim_id) or '0') > now then
  return {}
end
local gap, hold = tonumber(ARGV[5]), tonumber(ARGV[6])
local claim = cmsgpack.unpack(raw)
local verdicts = {}
for _, named in ipairs(cmsgpack.unpack(ARGV[4])) do verdicts[named[1]] = named end

local ends = {delivered = 0, superseded = 0, unchanged = 0, dead = 0, values = 0, resent = 0,
  objects = 0}
local fresh, facts = {}, {}

local function dead_letter(user, item, reason)
  local values = {}
  for n, value in ipairs(item) do
    values[n] = {call('HGET', P .. 'names', value[1]) or value[1], value[2], value[3], value[4],
      value[5], value[6]}
  end
  call('XADD', P .. 'dead', '*', 'user', user, 'reason', reason, 'kind', 'object',
    'request', ARGV[8], 'values', cmsgpack.pack(values))
end

local function settle_value(id, x, value, verdict)
  local current, was_open = has(x[F], CURRENT), value[7] == 1
  x[F] = clear(clear(x[F], CURRENT), CLAIMED)
  if verdict == 'd' then
    x[A], x[K] = value[2], now
    if x[H] <= now then x[S], x[H] = '', 0 end
    ends.values = ends.values + 1
    if was_open then
      ends.delivered = ends.delivered + 1
      local lane = rule(id)[1]
      local bucket = lane .. math.floor(math.log(math.max(now - value[8], 1)) / math.log(1.05))
      fresh[bucket] = (fresh[bucket] or 0) + 1
    else
      ends.resent = ends.resent + 1
    end
    if current then x[F] = clear(x[F], OPEN) end
  elseif verdict == 'u' then
    x[A], x[K], x[S] = '', 0, value[2]
    x[H] = math.max(x[H], now + hold)
  end
  if verdict == 'x' then
    if was_open then ends.dead = ends.dead + 1 end
    if current then x[F] = set(clear(x[F], OPEN), REFUSED) end
  elseif verdict ~= 'd' and not current and was_open then
    ends.superseded = ends.superseded + 1
  end
  if not differs(id, x) then
    if has(x[F], OPEN) then
      x[F] = clear(x[F], OPEN)
      ends.unchanged = ends.unchanged + 1
    end
    x[D], x[C], x[E] = 0, 0, 0
  elseif verdict == 'd' and not current then
    x[D] = x[C]
  elseif x[D] == 0 then
    x[D] = now
  end
end

local settled, left = 0, false
for place, item in ipairs(claim) do
  if item then
    local named = verdicts[place]
    local verdict = named and named[2] or ARGV[9]
    if verdict == '' then
      left = true
    else
      local user, reason = item[1], named and named[3] or ''
      local attributes, owner = load(user)
      if owner == claim_id then
        local fields, said = {}, {}
        for n, value in ipairs(item[2]) do
          local x = attributes[value[1]]
          if x then
            settle_value(value[1], x, value, verdict)
            fields[#fields + 1] = value[1]
            fields[#fields + 1] = pack_attribute(x)
          end
          said[n] = {value[1], value[2]}
        end
        call('HDEL', P .. 'u:' .. user, '.')
        if #fields > 0 then call('HSET', P .. 'u:' .. user, unpack(fields)) end
        schedule(user, attributes, gap)
        if verdict == 'x' then dead_letter(user, item[2], reason) end
        if verdict == 'd' then ends.objects = ends.objects + 1 end
        facts[#facts + 1] = {user, verdict, reason, said}
      end
      settled = settled + 1
      claim[place] = false
    end
  end
end
count(ends)
for bucket, by in pairs(fresh) do call('HINCRBY', P .. 'fresh', bucket, by) end
if #facts > 0 then journal(tonumber(ARGV[7]), 'settle', {claim_id, ARGV[8], facts}) end
if left then
  call('HSET', P .. 'claim', claim_id, cmsgpack.pack(claim))
else
  call('HDEL', P .. 'claim', claim_id)
  call('ZREM', P .. 'claims', claim_id)
end
return {settled, ends.values, ends.dead, call('ZCARD', P .. 'rt:ready'),
  call('EXISTS', P .. 'gather:r')}
