-- needs: lanes, writes
-- The lists that users are on: who comes and who leaves is gathered, and written by write_lists(),
-- which whoever notes something calls before it ends.

-- The budget of data points. An attribute that has none left is noted in `over`; users for whom it
-- differs wait in `over:<id>`, at the time at which they could go otherwise, until there is room:
-- see budget.lua. Whatever schedules a user asks here; only claim and free know the limits.
local over = nil
local function overs()
  if not over then
    over = {}
    for _, id in ipairs(call('SMEMBERS', P .. 'over')) do over[id] = true end
  end
  return over
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

local function write_lists()
  for name, list in pairs(leaves) do in_pieces('ZREM', name, list) end
  for name, list in pairs(adds) do in_pieces('ZADD', name, list) end
  for id, list in pairs(cleaned) do in_pieces('ZREM', 'dirty:' .. id, list) end
  for id, list in pairs(dirtied) do in_pieces('ZADD', 'dirty:' .. id, list) end
  adds, leaves, cleaned, dirtied = {}, {}, {}, {}
end
