-- needs: rules, writes, ids, sweeps
-- Publishes the rules of a partition under a version, and begins what has to follow, in one step.
-- ARGV: 3 the version that there must be, '*' for any, 4 the version that there is from now on,
-- 5 packed lanes {linger, max_wait, every, offset}, 6 packed {{key, packed rule}, ...}, 7 packed
-- {{work, key, value}, ...}, what has to follow, 8 who. Keys without a rule are undeclared. A key
-- that is not declared and shadowed by another one gets its rule once it is seen.
-- Returns 1; 0 and nothing is done if there is another version.
local DECLARED = 7
local known = call('HGET', P .. 'meta', 'registry') or ''
if ARGV[3] ~= '*' and ARGV[3] ~= known then return 0 end

local before, undeclared = {}, 0
local raw = call('HGETALL', P .. 'rules')
for i = 1, #raw, 2 do before[raw[i]] = cmsgpack.unpack(raw[i + 1]) end
local function is_declared(r) return r ~= nil and (r[DECLARED] or 1) == 1 end

-- What was flushed or resynced stays so, whatever is declared.
local function put(id, r)
  local was = before[id]
  r[FLUSHED], r[RESYNCED] = was and was[FLUSHED] or 0, was and was[RESYNCED] or 0
  rules[id] = r
  call('HSET', P .. 'rules', id, cmsgpack.pack(r))
end

call('DEL', P .. 'shadows')
local published = {}
for _, item in ipairs(cmsgpack.unpack(ARGV[6])) do
  local r, id = cmsgpack.unpack(item[2]), call('HGET', P .. 'attrs', item[1])
  for i, default in ipairs(UNDECLARED) do
    if r[i] == nil then r[i] = i == DECLARED and 1 or default end
  end
  if not id and r[DECLARED] == 0 and r[SHADOWED] ~= '' then
    call('HSET', P .. 'shadows', item[1], cmsgpack.pack(r))
  else
    local was_undeclared = id and not is_declared(before[id])
    id = id or new_id(item[1])
    if r[DECLARED] == 1 and was_undeclared then undeclared = undeclared - 1 end
    if r[DECLARED] == 0 and not was_undeclared then undeclared = undeclared + 1 end
    put(id, r)
    published[id] = true
  end
end
for id, r in pairs(before) do
  if id ~= '*' and not published[id] then
    if is_declared(r) then undeclared = undeclared + 1 end
    rules[id] = UNDECLARED
    if (r[FLUSHED] or 0) > 0 or (r[RESYNCED] or 0) > 0 then
      put(id, {unpack(UNDECLARED)})
    else
      call('HDEL', P .. 'rules', id)
    end
  end
end
write_counts('meta', {undeclared = undeclared})
local all = cmsgpack.unpack(ARGV[5])
all[ALL_RESYNCED] = before['*'] and before['*'][ALL_RESYNCED] or 0
call('HSET', P .. 'rules', '*', cmsgpack.pack(all))
call('HSET', P .. 'meta', 'registry', ARGV[4])

-- Of a key that nobody has a value of, nothing follows.
for _, item in ipairs(cmsgpack.unpack(ARGV[7])) do
  local id = call('HGET', P .. 'attrs', item[2])
  if id and tonumber(call('HGET', P .. 'known', id) or '0') > 0 then
    begin_sweep({work = item[1], id = id, key = item[2], value = item[3], by = ARGV[8],
      why = 'registry ' .. ARGV[4]})
  end
end
return 1
