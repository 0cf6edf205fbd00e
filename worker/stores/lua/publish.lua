-- needs: clock
-- Publishes a registry, or an operator's order of one key, under the next generation.
-- KEYS: registry, orders. ARGV: 1 now ms or '', 2 the generation that there must be, 3 the
-- registry's digest, or '' if only an order changes, 4 its rules, 5 its text, 6 who, 7 key of an
-- order, or '', 8 the order, '' to take it back.
-- Returns the new version; '' and nothing is done if there is another generation.
local call, registry = redis.call, KEYS[1]
local generation = tonumber(call('HGET', registry, 'generation') or '0')
if generation ~= tonumber(ARGV[2]) then return '' end
local now = string.format('%d', moment(ARGV[1]))
if ARGV[7] ~= '' then
  if ARGV[8] == '' then call('HDEL', KEYS[2], ARGV[7]) else call('HSET', KEYS[2], ARGV[7], ARGV[8]) end
end
local digest = ARGV[3] ~= '' and ARGV[3] or call('HGET', registry, 'digest') or ''
local version = digest .. '-' .. (generation + 1)
if ARGV[3] ~= '' then
  call('HSET', registry, 'digest', digest, 'rules', ARGV[4], 'text', ARGV[5], 'by', ARGV[6],
    'published_at', now, 'replaced', call('HGET', registry, 'version') or '')
  call('HDEL', registry, 'fault', 'fault_at', 'fault_by')
end
call('HSET', registry, 'generation', generation + 1, 'version', version)
return version
