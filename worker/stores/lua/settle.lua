-- needs: state, rules, due, doubts, lists, writes, points, journal
-- Ends a claim, or some of its users. Settling what is gone or settled changes nothing; a user
-- that no longer exists is never created.
-- ARGV: 3 claim id, 4 packed {{place in the claim from 1, verdict, reason}, ...}, 5 gap ms, 6 hold
-- ms, 7 journal bytes, 8 request id, 9 verdict for all that is not named, or '',
-- 10 '1': only if the lease is over, 11 '1': data points have a budget,
-- 12 ms for which nobody claims here, because of a pause that this request brought, or 0.
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
local sent, saved, is_bounded = {}, {}, ARGV[11] == '1'

local function dead_letter(user, values, reason)
  local named = {}
  for n, value in ipairs(values) do
    named[n] = {call('HGET', P .. 'names', value[1]) or value[1], value[2], value[3], value[4],
      value[5], value[6]}
  end
  call('XADD', P .. 'dead', '*', 'kind', 'object', 'reason', reason, 'user', user,
    'request', ARGV[8], 'values', cmsgpack.pack(named))
end

-- Ages are counted in steps of 5 %.
local STEP = math.log(1.05)
local function count_delivered(id, value)
  ends.values = ends.values + 1
  sent[id] = (sent[id] or 0) + 1
  if value[7] == 0 then
    ends.resent = ends.resent + 1
    return
  end
  ends.delivered = ends.delivered + 1
  local age = math.floor(math.log(math.max(now - value[8], 1)) / STEP)
  local bucket = rule(id)[1] .. text(age)
  fresh[bucket] = (fresh[bucket] or 0) + 1
end

local function count_saved(id, how)
  ends[how] = ends[how] + 1
  saved[id] = (saved[id] or 0) + 1
end

-- `value` is what was sent, x the state now; the desired version may have been replaced since.
local function settle_value(id, x, value, verdict, claimed_at)
  local current = value[3] == x[T] and value[4] == x[AM] and value[5] == x[AS] and value[6] == x[PL]
  local was_open = value[7] == 1
  if verdict == 'd' then
    x[A], x[K] = value[2], now
    if x[H] <= now then x[S], x[H] = '', 0 end
    count_delivered(id, value)
    if current then x[F] = clear(x[F], OPEN) end
    if claimed_at <= resynced_at(id) then forget_acknowledged(id, x, gap) end
  elseif verdict == 'u' then
    x[A], x[K], x[S] = '', 0, value[2]
    x[H] = math.max(x[H], now + hold)
  elseif verdict == 'x' then
    if was_open then ends.dead = ends.dead + 1 end
    if current then x[F] = set(clear(x[F], OPEN), REFUSED) end
  end
  if (verdict == 'r' or verdict == 'u') and was_open and not current then
    count_saved(id, 'superseded')
  end
  if not differs(id, x) then
    if has(x[F], OPEN) then
      x[F] = clear(x[F], OPEN)
      count_saved(id, 'unchanged')
    end
    x[D], x[C], x[E] = 0, 0, 0
  elseif (verdict == 'd' or verdict == 'x') and not current then
    x[D] = x[C]
  elseif x[D] == 0 then
    x[D], x[C] = now, now
  end
end

local function settle_user(user, attributes, values, verdict, claimed_at)
  local changed = {}
  for _, value in ipairs(values) do
    local id = value[1]
    local x = attributes[id]
    if x then
      changed[id] = x[D]
      settle_value(id, x, value, verdict, claimed_at)
    end
  end
  schedule(user, waits(attributes, gap), false)
  if next(changed) then save(user, attributes, changed) end
end

-- The claim alone: the versions beside it are many.
local function claim_of(owner)
  local _, id = cmsgpack.unpack_limit(owner, 1, 1)
  return id
end

-- All users are read before the first is written.
local asked, places, states = {}, {}, {}
for place, item in ipairs(claim) do
  if item and (verdicts[place] or ARGV[9] ~= '') then
    asked[#asked + 1] = item[1]
    places[#places + 1] = place
    states[#places] = load(item[1])
  end
end
local freed, left, claimed_at = {}, false, nil
local owners = #asked > 0 and call('HMGET', P .. 'owned', unpack(asked)) or {}
for n, place in ipairs(places) do
  local user, values = claim[place][1], claim[place][2]
  local named = verdicts[place]
  local verdict, reason = named and named[2] or ARGV[9], named and named[3] or ''
  if owners[n] and claim_of(owners[n]) == claim_id then
    -- All its users were taken at one moment.
    claimed_at = claimed_at or cmsgpack.unpack(owners[n])[3]
    settle_user(user, states[n], values, verdict, claimed_at)
    freed[#freed + 1] = user
    if verdict == 'x' then dead_letter(user, values, reason) end
    if verdict == 'd' then ends.objects = ends.objects + 1 end
    facts[#facts + 1] = {user, verdict, reason, values}
  end
  claim[place] = false
end
for _, item in ipairs(claim) do left = left or item ~= false end
if #freed > 0 then in_pieces('HDEL', 'owned', freed) end
local quiet_ms = tonumber(ARGV[12])
if quiet_ms > 0 and call('PTTL', P .. 'quiet') < quiet_ms then
  call('SET', P .. 'quiet', '1', 'PX', quiet_ms)
end
write_lists()
write_counts('ledger', ends)
write_counts('fresh', fresh)
write_counts('saved', saved)
if next(sent) then
  write_counts('sent', sent)
  local flushed = {}
  for id in pairs(sent) do
    flushed[#flushed + 1] = id
    flushed[#flushed + 1] = now
  end
  in_pieces('HSET', 'flushed', flushed)
  if is_bounded then
    sent['*'] = ends.values
    write_counts(points(), sent)
    call('PEXPIRE', P .. points(), 3 * DAY)
  end
end
if #facts > 0 then journal(tonumber(ARGV[7]), 'settle', {claim_id, ARGV[8], facts}) end
if left then
  call('HSET', P .. 'claim', claim_id, cmsgpack.pack(claim))
else
  call('HDEL', P .. 'claim', claim_id)
  if is_bounded then call('HDEL', P .. 'flight', claim_id) end
  call('ZREM', P .. 'claims', claim_id)
end
return {#places, ends.values, ends.dead, call('ZCARD', P .. 'rt:ready'),
  call('EXISTS', P .. 'gather:r')}
