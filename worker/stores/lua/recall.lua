-- needs: state, due, doubts, lists, journal
-- Compares what Braze was sent with what the state says of it: a server that forgot its last moments
-- may remember an older value. What differs becomes unknown, as after an ambiguous end.
-- ARGV: 3 packed {{user, {{attribute, value sent last, ms ago | -1}, ...}}, ...}, 4 hold ms, 5 gap
-- ms, 6 journal bytes. -1: it may have come to Braze later than anything that was sent since.
-- Returns {values that were forgotten, {place of a user whom a claim owns, from 1, ...}}: those are
-- left alone, since what their claim acknowledges may be older than what is told here; tell it again.
--
-- An acknowledged value that is the one sent is right, whoever acknowledged it and when; so is one
-- that was acknowledged after this was sent (a different value comes a gap later, so clocks may be
-- that far apart). A user or attribute that the state does not know is not created.
local hold, gap = tonumber(ARGV[4]), tonumber(ARGV[5])
local given = cmsgpack.unpack(ARGV[3])
local users, wanted, ids = {}, {}, {}
for i, item in ipairs(given) do
  users[i] = item[1]
  for _, value in ipairs(item[2]) do
    if ids[value[1]] == nil then
      ids[value[1]] = false
      wanted[#wanted + 1] = value[1]
    end
  end
end
-- All users are read before the first is written. Ids are looked up by name: they may be others now.
for from = 1, #wanted, 1000 do
  local to = math.min(from + 999, #wanted)
  for n, id in ipairs(call('HMGET', P .. 'attrs', unpack(wanted, from, to))) do
    ids[wanted[from + n - 1]] = id
  end
end
local owners, states = call('HMGET', P .. 'owned', unpack(users)), {}
for i, user in ipairs(users) do states[i] = not owners[i] and load(user) end

local function is_news(x, value)
  if x[A] == value[2] then return false end
  if value[3] < 0 then return true end
  if x[A] == '' then return x[S] ~= value[2] or x[H] <= now end
  return x[K] <= now - value[3]
end

local forgotten, owned, told = 0, {}, {}
for i, item in ipairs(given) do
  local attributes, changed, values = states[i], {}, {}
  if owners[i] then owned[#owned + 1] = i end
  for _, value in ipairs(attributes and item[2] or {}) do
    local id = ids[value[1]]
    local x = id and attributes[id]
    if x and is_news(x, value) then
      if x[A] ~= '' then forgotten = forgotten + 1 end
      changed[id] = x[D]
      x[A], x[K], x[S] = '', 0, value[2]
      x[H] = math.max(x[H], now + hold)
      begin_to_differ(id, x)
      values[#values + 1] = {id, value[2]}
    end
  end
  if #values > 0 then
    schedule(item[1], waits(attributes, gap), true)
    save(item[1], attributes, changed)
    told[#told + 1] = {item[1], values}
  end
end
write_lists()
if #told > 0 then journal(tonumber(ARGV[6]), 'recall', told) end
return {forgotten, owned}
