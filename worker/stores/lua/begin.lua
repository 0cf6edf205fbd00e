-- needs: sweeps, journal
-- Begins what an operator wants done to many users, see sweep.lua.
-- ARGV: 3 work, 4 key, or '' for all, 5 since ms, 6 journal bytes, 7 who, 8 why.
-- Returns the sweep's name; '' and nothing is done for a key that was never seen here.
local key, id = ARGV[4], '*'
if key ~= '' then id = call('HGET', P .. 'attrs', key) end
if not id then return '' end
local name = begin_sweep({work = ARGV[3], id = id, key = key, value = '', since = tonumber(ARGV[5]),
  by = ARGV[7], why = ARGV[8]})
journal(tonumber(ARGV[6]), 'operator', {ARGV[7], ARGV[3] .. ' ' .. key, ARGV[8], {}})
return name
