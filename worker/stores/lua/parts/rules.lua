-- The rules of a partition, each read once for a script.
--
-- rules: id -> {lane 'r'|'b', every ms, exit 'f'|'n', enabled 0|1, Braze's attribute or '' (the
-- key), the value that a retired key stays at or '', declared 0|1, flushed at ms, resynced at ms,
-- the key that is sent under this one's name instead or ''};
-- '*' -> {linger, max_wait, every, offset, resynced at ms}. All are published together, under a
-- version, but for what was flushed and resynced, which is stamped by sweeps.lua. Of the keys that
-- have one name at Braze all but one are shadowed and not enabled; `shadows` holds the rules of
-- those that were never seen.
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
