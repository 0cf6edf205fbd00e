-- Shared by every script of a partition; put in front of each.
--
-- ARGV[1] prefix of the partition's keys; ARGV[2] now in ms, or '' for the server's clock.
--
-- A user is a hash `u:<user id>`: one packed field for each attribute, under its interned id.
-- Fields of an attribute, in order (trailing defaults are cut off):
--   V desired value, JSON text        T event ms   AM arrival ms   AS arrival sequence   PL place
--   A acknowledged value, '' unknown  K acknowledged at ms         F flags
--     (K 0 beside a value: no request of ours brought it there; an import says that Braze holds
--     it, or it was read from Braze. There is no gap to keep, then.)
--   D differs since ms                C desired changed at ms      E inbox entry ms
--   S value of the last ambiguous send                             H hold until ms
-- A user in flight is a field of `owned`: {claim id, {{id, T, AM, AS, PL}, ...}, claimed at ms},
-- the versions that are being sent. T to PL is the rank.
--
-- A call from Lua costs more than what it does, so lists and counts are gathered and written
-- once for each script, by write_lists() and write_counts().
local P, call = ARGV[1], redis.call
local V, T, AM, AS, PL, A, K, F, D, C, E, S, H = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13
-- OPEN: the desired change has had no end. REFUSED, the highest: Braze refused this version.
local OPEN, REFUSED = 1, 4

local now = tonumber(ARGV[2])
if not now then
  local clock = call('TIME')
  now = clock[1] * 1000 + math.floor(clock[2] / 1000)
end

local function has(flags, flag) return flags % (2 * flag) >= flag end
local function set(flags, flag) return has(flags, flag) and flags or flags + flag end
local function clear(flags, flag) return has(flags, flag) and flags - flag or flags end

-- The fields are taken one by one, from behind the one byte that is the header: a table that has its
-- size from the beginning costs half of one that grows.
local function unpack_attribute(raw)
  local _, v, t, am, as, pl, a, k, f, d, c, e, s, h = cmsgpack.unpack_limit(raw, H, 1)
  return {v, t, am, as, pl, a, k, f or 0, d or 0, c or 0, e or 0, s or '', h or 0}
end

-- The attribute is spent by this: its trailing defaults are gone.
local function pack_attribute(x)
  local last = H
  while last > K and (x[last] == 0 or x[last] == '') do
    x[last] = nil
    last = last - 1
  end
  return cmsgpack.pack(x)
end

-- The user's attributes, {id -> attribute}.
local function load(user)
  local raw = call('HGETALL', P .. 'u:' .. user)
  local attributes = {}
  for i = 1, #raw, 2 do attributes[raw[i]] = unpack_attribute(raw[i + 1]) end
  return attributes
end

-- The claim that has the user in hand, see above; nil if there is none.
local function owner_of(user)
  local raw = call('HGET', P .. 'owned', user)
  return raw and cmsgpack.unpack(raw) or nil
end

-- The rank that the claim sends of this attribute; nil if it sends none.
local function claimed_rank(owner, id)
  if owner then
    for _, version in ipairs(owner[2]) do
      if version[1] == id then return version end
    end
  end
  return nil
end
local function same_rank(version, x)
  return version[2] == x[T] and version[3] == x[AM] and version[4] == x[AS] and version[5] == x[PL]
end

-- rules: id -> {lane 'r'|'b', every ms, exit 'f'|'n', enabled 0|1, Braze's attribute or '' (the
-- key), the value that a retired key stays at or '', declared 0|1, flushed at ms, resynced at ms,
-- the key that is sent under this one's name instead or ''};
-- '*' -> {linger, max_wait, every, offset, resynced at ms}. All are published together, under a
-- version, but for what was flushed and resynced, which is stamped here. Of the keys that have one
-- name at Braze all but one are shadowed and not enabled; `shadows` holds the rules of those that
-- were never seen.
local UNDECLARED = {'r', 0, 'f', 1, '', '', 0, 0, 0, ''}
local UNPUBLISHED = {200, 2000, 3600000, 0} -- the lanes until there are rules
local FLUSHED, RESYNCED, SHADOWED, ALL_RESYNCED = 8, 9, 10, 5
local rules, lanes = {}, nil
-- Who knows another version of the rules must read them again first.
local function is_stale(version) return (call('HGET', P .. 'meta', 'registry') or '') ~= version end
local function rule(id)
  local found = rules[id]
  if not found then
    local raw = call('HGET', P .. 'rules', id)
    found = raw and cmsgpack.unpack(raw) or UNDECLARED
    rules[id] = found
  end
  return found
end
local function lane_rules()
  if not lanes then
    local raw = call('HGET', P .. 'rules', '*')
    local r = raw and cmsgpack.unpack(raw) or UNPUBLISHED
    lanes = {linger = r[1], max_wait = r[2], every = r[3], offset = r[4],
      resynced = r[ALL_RESYNCED] or 0}
  end
  return lanes
end
local retired = {}
local function is_retired(id)
  local known = retired[id]
  if known == nil then
    known = (rule(id)[6] or '') ~= ''
    retired[id] = known
  end
  return known
end
-- Until when what was acknowledged counts for nothing: it was under another name, or is doubted.
-- That goes for a request begun by then, too, whenever it ends.
local resynced = {}
local function resynced_at(id)
  local at = resynced[id]
  if not at then
    at = math.max(rule(id)[RESYNCED] or 0, lane_rules().resynced)
    resynced[id] = at
  end
  return at
end

-- What Braze is to hold for a desired value: an exit may be written as null.
local function wire(id, value)
  if value == 'false' and rule(id)[3] == 'n' then return 'null' end
  return value
end

-- What Braze is to hold and does not, as far as is known; nil if nothing is to be sent.
local function lacking(id, x)
  if x[F] >= REFUSED then return nil end
  local value = wire(id, x[V])
  if x[A] == '' or value ~= x[A] then return value end
  return nil
end
local function differs(id, x) return lacking(id, x) ~= nil end

-- Earliest moment at which this value may be sent. The same value need not wait.
local function not_before(x, value, gap)
  local at = 0
  if x[A] ~= '' and value ~= x[A] then at = x[K] + gap end
  if x[S] ~= '' and value ~= x[S] and x[H] > at then at = x[H] end
  return at
end

-- What differs now and did not before does so since now; nobody waited for it.
local function begin_to_differ(id, x)
  if x[D] == 0 and differs(id, x) then x[D], x[C], x[E] = now, now, now end
end

-- What was acknowledged is unknown from here on. Another value keeps its distance from the request
-- that brought it all the same, as a hold.
local function forget_acknowledged(id, x, gap)
  if x[A] ~= '' and x[K] > 0 and x[K] + gap > now and x[K] + gap > x[H] then
    x[S], x[H] = x[A], x[K] + gap
  end
  x[A], x[K] = '', 0
  begin_to_differ(id, x)
end

local function boundary_after(at, every, offset)
  return (math.floor((at - offset) / every) + 1) * every + offset
end

local function due_of(id, x)
  local r = rule(id)
  if r[1] == 'r' then
    local due, latest = x[C] + lane_rules().linger, x[D] + lane_rules().max_wait
    return due < latest and due or latest
  end
  local due = boundary_after(x[D], r[2] > 0 and r[2] or lane_rules().every, lane_rules().offset)
  -- An operator had all that waited then brought up to date at once.
  local flushed = r[FLUSHED] or 0
  if x[D] <= flushed and flushed < due then return flushed end
  return due
end

-- Held users come free in steps, so that they fill a request together.
local function rounded(at, step) return math.ceil(at / step) * step end

local function least(a, b) if a == nil or b < a then return b end return a end

-- The budget of data points. An attribute that has none left is noted in `over`; users for whom it
-- differs wait in `over:<id>`, at the time at which they could go otherwise, until there is room:
-- see room() and let_go(). Whatever schedules a user asks here; only claim and free know the limits.
local over = nil
local function overs()
  if not over then
    over = {}
    for _, id in ipairs(call('SMEMBERS', P .. 'over')) do over[id] = true end
  end
  return over
end

local LISTS = {r = {ready = 'rt:ready', held = 'rt:held'}, b = {ready = 'bt:ready', held = 'bt:held'}}
local LIST_NAMES = {'rt:ready', 'rt:held', 'bt:ready', 'bt:held'}

-- Where the user belongs, {list name -> score}; empty for a user who waits for nothing.
-- A user's realtime linger counts from the latest change, at most max_wait from the first.
local function waits(attributes, gap)
  local wait, last, first, is_over = {}, nil, nil, overs()
  for id, x in pairs(attributes) do
    local r = rules[id] or rule(id)
    local value = r[4] == 1 and lacking(id, x)
    if value then
      local free = not_before(x, value, gap)
      if is_over[id] then
        local due = due_of(id, x)
        wait['over:' .. id] = free > due and free or due
      elseif r[1] == 'r' then
        if free > now then
          wait['rt:held'] = least(wait['rt:held'], rounded(free, math.max(lane_rules().linger, 1)))
        else
          if last == nil or x[C] > last then last = x[C] end
          if first == nil or x[D] < first then first = x[D] end
        end
      else
        local due = due_of(id, x)
        if free > now and free > due then
          wait['bt:held'] = least(wait['bt:held'], rounded(free, 1000))
        else
          wait['bt:ready'] = least(wait['bt:ready'], due)
        end
      end
    end
  end
  if last then
    local due, latest = last + lane_rules().linger, first + lane_rules().max_wait
    wait['rt:ready'] = due < latest and due or latest
  end
  return wait
end

-- The server is slow at turning a number into text, and the moments of many users are the same.
local texts = {}
local function text(number)
  local found = texts[number]
  if not found then
    found = string.format('%.17g', number)
    texts[number] = found
  end
  return found
end

-- Notes the lists that a user belongs to; with was_listed, those it may have to leave, too. An
-- `over:` list is left only if `before`, what the user waited for until now, names it.
-- Only for a user that no claim owns. `empty`: lists that hold nobody, so that nobody has to leave.
local adds, leaves, empty = {}, {}, {}
local function leave(user, name)
  local list = leaves[name]
  if not list then list = {}; leaves[name] = list end
  list[#list + 1] = user
end
local function schedule(user, wait, was_listed, before)
  for name, score in pairs(wait) do
    local list = adds[name]
    if not list then list = {}; adds[name] = list end
    local n = #list
    list[n + 1], list[n + 2] = text(score), user
  end
  if was_listed then
    for _, name in ipairs(LIST_NAMES) do
      if not wait[name] and not empty[name] then leave(user, name) end
    end
    if next(overs()) then
      for name in pairs(before or {}) do
        if not wait[name] and string.sub(name, 1, 5) == 'over:' then leave(user, name) end
      end
    end
  end
end

-- `dirty:<id>` holds exactly the users with D of this attribute, scored by it. Whatever changes D
-- says so here, with what it was; the lists are written by write_lists(). Once for each user and
-- attribute in a script.
local dirtied, cleaned = {}, {}
local function note_dirty(user, id, was, since)
  if was == since then return end
  if since == 0 then
    local list = cleaned[id]
    if list then list[#list + 1] = user else cleaned[id] = {user} end
  else
    local list = dirtied[id]
    if not list then list = {}; dirtied[id] = list end
    local n = #list
    list[n + 1], list[n + 2] = text(since), user
  end
end

-- Writes what changed of a user, {id -> its D before}, and notes each D once that is written. The
-- attributes are spent by this, see pack_attribute().
local fields = {}
local function save(user, attributes, changed)
  local n = 0
  for id in pairs(changed) do
    fields[n + 1], fields[n + 2] = id, pack_attribute(attributes[id])
    n = n + 2
  end
  call('HSET', P .. 'u:' .. user, unpack(fields, 1, n))
  for id, since in pairs(changed) do note_dirty(user, id, since, attributes[id][D] or 0) end
end

-- Lua hands over a bounded number of arguments at once.
local function in_pieces(command, name, list)
  for from = 1, #list, 1000 do
    call(command, P .. name, unpack(list, from, math.min(from + 999, #list)))
  end
end

local function write_lists()
  for name, list in pairs(leaves) do in_pieces('ZREM', name, list) end
  for name, list in pairs(adds) do in_pieces('ZADD', name, list) end
  for id, list in pairs(cleaned) do in_pieces('ZREM', 'dirty:' .. id, list) end
  for id, list in pairs(dirtied) do in_pieces('ZADD', 'dirty:' .. id, list) end
  adds, leaves, cleaned, dirtied = {}, {}, {}, {}
end

local function write_counts(key, counts)
  for name, by in pairs(counts) do
    if by ~= 0 then call('HINCRBY', P .. key, name, by) end
  end
end

-- Data points of today, and what may still be sent of an attribute. A claim books what it sends in
-- `flight` until it ends, so that what Braze acknowledges never goes over the limit.
local DAY = 86400000
local per_day, per_audience = nil, nil
local booked, room_left = nil, {}
local function points() return 'points:' .. math.floor(now / DAY) end
local function spent(id) return tonumber(call('HGET', P .. points(), id) or '0') end
local function in_flight(id)
  if not booked then
    booked = {}
    local claims = call('ZRANGE', P .. 'claims', 0, -1)
    for from = 1, #claims, 1000 do
      local to = math.min(from + 999, #claims)
      for _, raw in ipairs(call('HMGET', P .. 'flight', unpack(claims, from, to))) do
        for name, by in pairs(raw and cmsgpack.unpack(raw) or {}) do
          booked[name] = (booked[name] or 0) + by
        end
      end
    end
  end
  return booked[id] or 0
end
local function left_of(id, limit)
  if not room_left[id] then room_left[id] = limit - spent(id) - in_flight(id) end
  return room_left[id]
end
local function room(id)
  local left = per_day and left_of('*', per_day) or math.huge
  if per_audience and left > 0 then left = math.min(left, left_of(id, per_audience)) end
  return left
end
local function spend(id, by)
  if per_day then room_left['*'] = left_of('*', per_day) - by end
  if per_audience then room_left[id] = left_of(id, per_audience) - by end
end

-- Lets at most `most` users of `over:<id>` go whose time comes until `latest`; returns how many.
-- One that a claim owns only leaves: settling schedules it.
local function let_go(id, most, latest)
  local list, lane = P .. 'over:' .. id, LISTS[rule(id)[1]]
  local found = call('ZRANGEBYSCORE', list, '-inf', latest, 'WITHSCORES', 'LIMIT', 0, most)
  local users = {}
  for i = 1, #found, 2 do users[#users + 1] = found[i] end
  if #users == 0 then return 0 end
  local owners = call('HMGET', P .. 'owned', unpack(users))
  for n, user in ipairs(users) do
    if not owners[n] then
      local at = tonumber(found[2 * n])
      local name = (at > now and rule(id)[1] == 'r') and lane.held or lane.ready
      call('ZADD', P .. name, 'LT', at, user)
    end
  end
  call('ZREM', list, unpack(users))
  return #users
end

-- An attribute that nobody waits for any more is no longer over.
local function forget_if_empty(id)
  if room(id) > 0 and call('EXISTS', P .. 'over:' .. id) == 0 then
    call('SREM', P .. 'over', id)
    over[id] = nil
  end
end

-- Deleted users. `suppressed` names nobody: it holds a salted digest of the user and until when
-- changes are skipped. Who is in `forward` is still to be deleted by Braze, and is skipped, too.
local salt = nil
local function digest_of(user)
  salt = salt or call('HGET', P .. 'meta', 'salt') or ''
  return redis.sha1hex(salt .. user)
end
-- Of a list of users, {place -> digest} of those whose changes are skipped. At most 1,000 users.
local function skipped_of(users)
  local found, digests = {}, {}
  if #users == 0 then return found end
  if call('EXISTS', P .. 'suppressed') == 1 then
    for i, user in ipairs(users) do digests[i] = digest_of(user) end
    for i, till in ipairs(call('ZMSCORE', P .. 'suppressed', unpack(digests))) do
      if till and tonumber(till) > now then found[i] = digests[i] end
    end
  end
  if call('EXISTS', P .. 'forward') == 1 then
    for i, due in ipairs(call('ZMSCORE', P .. 'forward', unpack(users))) do
      if due then found[i] = digest_of(users[i]) end
    end
  end
  return found
end

-- A key that is seen for the first time gets a small id, for ever; and its rule, if its name is
-- another key's.
local function new_id(key)
  local id = tostring(call('HINCRBY', P .. 'meta', 'next_attribute', 1))
  call('HSET', P .. 'attrs', key, id)
  call('HSET', P .. 'names', id, key)
  local shadow = call('HGET', P .. 'shadows', key)
  if shadow then
    rules[id] = nil
    call('HSET', P .. 'rules', id, shadow)
    call('HDEL', P .. 'shadows', key)
  end
  return id
end

-- Work on many users in the background, see sweep.lua: {work, id or '*', key, value, since ms, why,
-- by} and how far it is. What it needs at once for all of them is stamped on the rules. The twenty
-- that were done last are kept.
local SWEEPS_KEPT = 20
local OVER_DIRTY = {reschedule = true, flush = true}
local function stamp(id, place)
  local r = {unpack(rule(id))}
  r[place] = now
  rules[id] = r
  call('HSET', P .. 'rules', id, cmsgpack.pack(r))
end
local function begin_sweep(sweep)
  local id, done = sweep.id, {}
  local raw = call('HGETALL', P .. 'sweeps')
  for i = 1, #raw, 2 do
    local other = cmsgpack.unpack(raw[i + 1])
    if other.done_at > 0 then
      done[#done + 1] = {other.done_at, raw[i]}
    elseif other.work == sweep.work and other.id == id and OVER_DIRTY[sweep.work] then
      call('HDEL', P .. 'sweeps', raw[i]) -- the new one does what was left of it
    end
  end
  table.sort(done, function(a, b) return a[1] < b[1] end)
  for i = 1, #done - SWEEPS_KEPT do call('HDEL', P .. 'sweeps', done[i][2]) end
  if sweep.work == 'flush' then stamp(id, FLUSHED) end
  if sweep.work == 'resync' and id ~= '*' then stamp(id, RESYNCED) end
  if sweep.work == 'resync' and id == '*' then
    local all = cmsgpack.unpack(call('HGET', P .. 'rules', '*') or cmsgpack.pack(UNPUBLISHED))
    all[ALL_RESYNCED] = now
    call('HSET', P .. 'rules', '*', cmsgpack.pack(all))
    lanes = nil
  end
  sweep.since = sweep.since or 0
  sweep.at, sweep.cursor, sweep.run, sweep.done_at = now, '0', '', 0
  sweep.seen, sweep.changed, sweep.points = 0, 0, 0
  sweep.total = OVER_DIRTY[sweep.work] and call('ZCARD', P .. 'dirty:' .. id) or -1
  local name = tostring(call('HINCRBY', P .. 'meta', 'next_sweep', 1))
  call('HSET', P .. 'sweeps', name, cmsgpack.pack(sweep))
  return name
end

-- An inbox entry is worked off once: by whoever finds it pending and acknowledges it in one step.
local function is_pending(entry)
  return #call('XPENDING', P .. 'inbox', 'engine', entry, entry, 1) > 0
end
local function acknowledge(entry)
  call('XACK', P .. 'inbox', 'engine', entry)
  call('XDEL', P .. 'inbox', entry)
end

-- An entry of a stream as {field -> value}; nil if it is gone.
local function entry_of(name, id)
  local found = call('XRANGE', P .. name, id, id)
  if #found == 0 then return nil end
  local fields, flat = {}, found[1][2]
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

-- One packed journal entry for each call, the journal bounded in bytes, oldest first out.
local function journal(limit, kind, body)
  local packed = cmsgpack.pack(body)
  call('XADD', P .. 'journal', '*', 'k', kind, 'b', packed)
  local size = call('INCRBY', P .. 'journal:size', #packed)
  while size > limit do
    local oldest = call('XRANGE', P .. 'journal', '-', '+', 'COUNT', 1)
    if #oldest == 0 then break end
    call('XDEL', P .. 'journal', oldest[1][1])
    size = call('DECRBY', P .. 'journal:size', #oldest[1][2][4])
  end
end
