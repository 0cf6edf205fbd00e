-- Publishes a registry, or an operator's order of one key, under the next generation.
-- KEYS: registry, orders. ARGV: 1 the generation that there must be, 2 the registry's digest, or ''
-- if only an order changes, 3 its rules, 4 its text, 5 who, 6 key of an order, or '', 7 the order, ''
-- to take it back, 8 now ms or ''.
-- Returns the new version; '' and nothing is done if there is another generation.
local call, registry = redis.call, KEYS[1]
local generation = tonumber(call('HGET', registry, 'generation') or '0')
if generation ~= tonumber(ARGV[1]) then return '' end
local now = ARGV[8]
if now == '' then
  local clock = call('TIME')
  now = string.format('%d', clock[1] * 1000 + math.floor(clock[2] / 1000))
end
if ARGV[6] ~= '' then
  if ARGV[7] == '' then call('HDEL', KEYS[2], ARGV[6]) else call('HSET', KEYS[2], ARGV[6], ARGV[7]) end
end
local digest = ARGV[2] ~= '' and ARGV[2] or call('HGET', registry, 'digest') or ''
local version = digest .. '-' .. (generation + 1)
if ARGV[2] ~= '' then
  call('HSET', registry, 'digest', digest, 'rules', ARGV[3], 'text', ARGV[4], 'by', ARGV[5],
    'published_at', now, 'replaced', call('HGET', registry, 'version') or '')
  call('HDEL', registry, 'fault', 'fault_at', 'fault_by')
end
call('HSET', registry, 'generation', generation + 1, 'version', version)
return version
