-- needs: entries, state, lanes, lists, writes, deleted, journal
-- Forgets a user, then acknowledges the inbox entry that asks for it.
-- ARGV: 3 entry id, 4 user, 5 ms for which later changes are skipped, or 0, 6 a salt (the first one
-- given counts), 7 '1': Braze is to delete the profile, too, 8 gap ms, 9 hold ms, 10 journal bytes.
-- Returns {1, attributes, changes skipped, in flight 0|1, when Braze may be asked | 0}, or {0} if
-- the entry is no longer pending.
--
-- A claim that has the user in hand loses it: its place is blank, and settling passes it over. What
-- is on the wire may still land, so Braze is asked only when no request of that claim can, and
-- changes are skipped until then at least.
-- Dead letters and journal entries are too many for one script: `erase` names the user until they
-- have been gone through.
local entry, user = ARGV[3], ARGV[4]
if not is_pending(entry) then return {0} end
local memory, gap, hold = tonumber(ARGV[5]), tonumber(ARGV[8]), tonumber(ARGV[9])

-- All is read before the first write: what cannot be read changes nothing.
for _, name in ipairs({'suppressed', 'forward', 'erase', 'claims'}) do
  call('ZCARD', P .. name)
end
for _, name in ipairs({'members', 'known', 'meta', 'ledger', 'forgotten', 'forwarding'}) do
  call('HLEN', P .. name)
end
local attributes = load(user)
local owner = owner_of(user)
local record = owner and call('HGET', P .. 'claim', owner[1])
local claim, values = nil, {}
if record then
  claim = cmsgpack.unpack(record)
  for place, item in ipairs(claim) do
    if item and item[1] == user then
      values = item[2]
      claim[place] = false
    end
  end
end

local members, known, skipped, due = {}, 0, 0, now
local knew = {}
for id, x in pairs(attributes) do
  known = known + 1
  knew[id] = -1
  if has(x[F], OPEN) then skipped = skipped + 1 end
  if x[V] == 'true' then members[id] = -1 end
  if x[A] ~= '' and x[K] > 0 then due = math.max(due, x[K] + gap) end
  if x[S] ~= '' then due = math.max(due, x[H]) end
  leave(user, 'over:' .. id)
  note_dirty(user, id, x[D], 0)
end
-- A version in flight that has been replaced since is open in the claim only.
for _, value in ipairs(values) do
  local x = attributes[value[1]]
  if value[7] == 1 and not (x and same_rank({0, value[3], value[4], value[5], value[6]}, x)) then
    skipped = skipped + 1
  end
end
if owner then
  local lease = tonumber(call('ZSCORE', P .. 'claims', owner[1]) or now)
  due = math.max(due, lease + hold)
end
for _, name in ipairs(LIST_NAMES) do leave(user, name) end

call('HSETNX', P .. 'meta', 'salt', ARGV[6])
local digest = digest_of(user)
call('DEL', P .. 'u:' .. user)
if owner then call('HDEL', P .. 'owned', user) end
if claim then call('HSET', P .. 'claim', owner[1], cmsgpack.pack(claim)) end
write_lists()
write_counts('members', members)
write_counts('known', knew)
write_counts('ledger', {skipped = skipped, deleted = 1})
-- With the state goes the knowledge of what may land late: until then nothing new may be sent.
local till = math.max(now + memory, due)
if till > now then
  call('ZADD', P .. 'suppressed', 'GT', till, digest)
  call('HSET', P .. 'forgotten', digest, now)
end
call('ZADD', P .. 'erase', now, user)
local asked = 0
if ARGV[7] == '1' then
  -- A request for an earlier deletion may be under way; its end is not the end of this one.
  call('HDEL', P .. 'forwarding', user)
  call('ZADD', P .. 'forward', 'GT', due, user)
  asked = call('ZSCORE', P .. 'forward', user)
end
journal(tonumber(ARGV[10]), 'delete', {entry, digest, known, skipped})
acknowledge(entry)
return {1, known, skipped, claim and 1 or 0, tonumber(asked)}
