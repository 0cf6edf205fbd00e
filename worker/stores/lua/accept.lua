-- needs: entries, state, rules, due, lanes, lists, writes, deleted, ids, journal
-- Folds one inbox entry into the desired state, schedules its users, then acknowledges it.
-- ARGV: 3 entry id, 4 entry ms, 5 packed {names, {{user, {{name index, value, T, AM, AS, PL},
-- ...}}, ...}}, 6 gap ms, 7 journal bytes, 8 undeclared limit, 9 '1': Braze is said to hold these
-- values already, 10 '1': count memberships that change, by hour, 11 version of the rules.
-- Returns {1, opened, superseded, unchanged, dead, realtime users ready, gatherer 0|1, skipped}; {0}
-- if the entry is no longer pending (somebody applied it), {-1} if the rules have another version.
--
-- Changes of a deleted user are skipped: counted, and journalled without user and values.
--
-- Everything is read and checked before the first write, so that a wrong type changes nothing.
-- If a write fails all the same, the users done so far and the number of their changes are noted
-- under `torn` with their counts written, and passed over when the entry is delivered again:
-- each change is counted once.
local entry = ARGV[3]
if not is_pending(entry) then return {0} end
if is_stale(ARGV[11]) then return {-1} end
local entry_ms, gap = tonumber(ARGV[4]), tonumber(ARGV[6])
local is_held = ARGV[9] == '1'
-- An import of what Braze holds tells of memberships that changed long ago.
local counts_flips, flips = ARGV[10] == '1' and not is_held, {}
local HOUR = 3600000
local flips_key = 'flips:' .. math.floor(now / HOUR)
local envelope = cmsgpack.unpack(ARGV[5])
local names, users = envelope[1], envelope[2]

local function must_be(name, kind)
  local found = call('TYPE', P .. name).ok
  if found ~= kind and found ~= 'none' then
    error({err = 'ERR key ' .. P .. name .. ' is a ' .. found .. ', not a ' .. kind})
  end
  return found
end
for _, name in ipairs({'ledger', 'members', 'attrs', 'names', 'meta', 'rules', 'torn', 'owned',
  'known', 'saved', 'skipped', 'shadows'}) do
  must_be(name, 'hash')
end
for _, name in ipairs(LIST_NAMES) do empty[name] = must_be(name, 'zset') == 'none' end
for id in pairs(overs()) do must_be('over:' .. id, 'zset') end
if counts_flips then must_be(flips_key, 'hash') end
for _, name in ipairs({'journal', 'dead'}) do must_be(name, 'stream') end
must_be('journal:size', 'string')

local states, ids_of_users = {}, {}
for i, item in ipairs(users) do
  states[i] = load(item[1])
  ids_of_users[i] = item[1]
end
local owners = call('HMGET', P .. 'owned', unpack(ids_of_users))
local done = tonumber(string.match(call('HGET', P .. 'torn', entry) or '0', '^%d+'))
local skips, passed = skipped_of(ids_of_users), {}

-- Names become small ids; beyond the limit an undeclared name has none.
local ids = call('HMGET', P .. 'attrs', unpack(names))
for _, id in ipairs(ids) do
  if id then must_be('dirty:' .. id, 'zset') end
end
for i, name in ipairs(names) do
  local id = ids[i]
  if not id and tonumber(call('HGET', P .. 'meta', 'undeclared') or '0') < tonumber(ARGV[8]) then
    id = new_id(name)
    call('HINCRBY', P .. 'meta', 'undeclared', 1)
  end
  ids[i] = id or false
end

local function outranks(ch, x)
  for i = T, PL do
    local a, b = ch[i + 1], x[i]
    if a ~= b then return a > b end
  end
  return nil
end

-- A change that Braze is said to hold already sets what is acknowledged, unless a request of ours
-- has settled that (K), has an unknown end and may land late (S), or is under way. Only for the
-- change that ranks highest: Braze may hold what another one says.
local function believe(id, x)
  if is_held and x[K] == 0 and x[S] == '' then x[A] = wire(id, x[V]) end
end

-- Since when a value differs that this entry brings: now; but a batched one that came before the
-- latest boundary, while nobody was there to fold it, since it came: it has missed its boundary, and
-- goes at once. Unless the user had their object of this window already.
local function since(id, attributes, owner)
  local r = rule(id)
  if r[1] ~= 'b' or owner then return now end
  local every = r[2] > 0 and r[2] or lane_rules().every
  local latest = boundary_after(now, every, lane_rules().offset) - every
  if entry_ms >= latest then return now end
  for other, y in pairs(attributes) do
    if y[K] >= latest and rule(other)[1] == 'b' then return now end
  end
  return entry_ms
end

-- Folds one change into the user's state; returns how it ended ('o': it is open), how the one
-- ended that was open before (nil if there was none, or if it still is), by how many users the
-- members grew, and whether the user did not have the attribute. `changed` is given the D of each
-- attribute before its first change.
local function fold(attributes, owner, changed, ch)
  local id = ids[ch[1]]
  if not id then return 'x', nil end
  if is_retired(id) then return 'k', nil end
  local x = attributes[id]
  local is_new = x == nil
  if x then
    local higher = outranks(ch, x)
    if higher == nil then
      if not is_held or ch[2] ~= x[V] or claimed_rank(owner, id) then return 'u', nil end
      changed[id] = changed[id] or x[D]
      believe(id, x)
      if differs(id, x) then return 'u', nil end
      local was_open = has(x[F], OPEN)
      x[F], x[D], x[C], x[E] = clear(x[F], OPEN), 0, 0, 0
      return 'u', was_open and 'u' or nil
    end
    if not higher then return 's', nil end
  else
    x = {'', 0, 0, 0, 0, '', 0, 0, 0, 0, 0, '', 0}
    attributes[id] = x
  end
  -- The version that is being sent has its end when its claim is settled.
  local sent = claimed_rank(owner, id)
  local replaced = has(x[F], OPEN) and not (sent and same_rank(sent, x))
  local was_refused = has(x[F], REFUSED)
  local by = (ch[2] == 'true' and 1 or 0) - (x[V] == 'true' and 1 or 0)
  x[V], x[T], x[AM], x[AS], x[PL] = ch[2], ch[3], ch[4], ch[5], ch[6]
  x[C], x[E], x[F] = now, entry_ms, 0
  changed[id] = changed[id] or x[D]
  if not sent then believe(id, x) end
  if sent or differs(id, x) then
    x[F] = OPEN
    if x[D] == 0 or was_refused then x[D] = since(id, attributes, owner) end
    return 'o', replaced and 's' or nil, by, is_new
  end
  x[D], x[C], x[E] = 0, 0, 0
  return 'u', replaced and 's' or nil, by, is_new
end

-- What the user waited for until now; where nobody waits for room in a budget, only whether it did.
local ANYTHING, NOTHING = {listed = 0}, {}
local function was_waiting(attributes)
  if next(overs()) then return waits(attributes, gap) end
  for _, x in pairs(attributes) do
    if x[D] ~= 0 then return ANYTHING end
  end
  return NOTHING
end

local total = {o = 0, s = 0, u = 0, x = 0, k = 0}
local members, letters, outcome = {}, {}, {}
-- For each attribute: users who have it now, changes that cost no data point, changes skipped.
local known, saved, skipped = {}, {}, {}
local function count(counts, id) counts[id] = (counts[id] or 0) + 1 end

-- Counts what became of one change, once its user is written.
local function count_end(ch, how, replaced, by, is_new)
  local id = ids[ch[1]]
  total[how] = total[how] + 1
  if how == 's' or how == 'u' then count(saved, id) end
  if how == 'k' then count(skipped, id) end
  if replaced then
    total[replaced] = total[replaced] + 1
    count(saved, id)
  end
  if by and by ~= 0 then
    members[id] = (members[id] or 0) + by
    count(flips, id)
  end
  if is_new then count(known, id) end
end

-- What fold() says of the changes of the user at hand, by their place: tables for each user cost
-- more than what is in them.
local hows, olds, bys, news = {}, {}, {}, {}
local function apply(i)
  local user, changes = users[i][1], users[i][2]
  if skips[i] then
    total.k = total.k + #changes
    passed[#passed + 1] = {skips[i], #changes}
    return
  end
  local attributes, owner = states[i], owners[i] and cmsgpack.unpack(owners[i])
  local before = not owner and was_waiting(attributes)
  local changed = {}
  for n = 1, #changes do
    hows[n], olds[n], bys[n], news[n] = fold(attributes, owner, changed, changes[n])
  end
  if next(changed) then
    local wait = before and waits(attributes, gap)
    save(user, attributes, changed)
    if before then schedule(user, wait, next(before) ~= nil, before) end
  end
  for n = 1, #changes do
    count_end(changes[n], hows[n], olds[n], bys[n], news[n])
    if hows[n] == 'x' then letters[#letters + 1] = {user, changes[n]} end
  end
  outcome[#outcome + 1] = table.concat(hows, '', 1, #changes)
end

local function write_rest()
  write_lists()
  write_counts('members', members)
  write_counts('known', known)
  write_counts('saved', saved)
  write_counts('skipped', skipped)
  if counts_flips and next(flips) then
    write_counts(flips_key, flips)
    call('PEXPIRE', P .. flips_key, 50 * HOUR)
  end
  write_counts('ledger', {superseded = total.s, unchanged = total.u, dead = total.x,
    skipped = total.k})
  for _, letter in ipairs(letters) do
    local ch = letter[2]
    call('XADD', P .. 'dead', '*', 'kind', 'change', 'reason', 'undeclared_limit', 'user', letter[1],
      'entry', entry, 'values', cmsgpack.pack({{names[ch[1]], ch[2], ch[3], ch[4], ch[5], ch[6]}}))
  end
end

local at = done
local fine, problem = pcall(function()
  for i = done + 1, #users do
    apply(i)
    at = i
  end
end)
write_rest()
if not fine then
  local changes = 0
  for i = 1, at do changes = changes + #users[i][2] end
  if at > 0 then call('HSET', P .. 'torn', entry, at .. ':' .. changes) end
  error(problem)
end
if done > 0 then call('HDEL', P .. 'torn', entry) end
if #outcome > 0 then
  local packed, left_out = ARGV[5], done
  if next(skips) then
    local kept = {}
    for i = done + 1, #users do
      if not skips[i] then kept[#kept + 1] = users[i] end
    end
    packed, left_out = cmsgpack.pack({names, kept}), 0
  end
  journal(tonumber(ARGV[7]), 'accept', {entry, packed, left_out, table.concat(outcome)})
end
if #passed > 0 then journal(tonumber(ARGV[7]), 'skip', {entry, passed}) end
acknowledge(entry)
return {1, total.o, total.s, total.u, total.x, call('ZCARD', P .. 'rt:ready'),
  call('EXISTS', P .. 'gather:r'), total.k}
