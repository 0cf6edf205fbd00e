-- needs: entries, deleted, journal
-- Counts what was refused or skipped at the door, then acknowledges the entry.
-- ARGV: 3 entry id, 4 packed {{counter, by}, ...}, 5 packed samples, 6 journal bytes. A deleted user
-- is named in none of them.
-- Returns 1, or 0 if it is no longer pending.
local entry = ARGV[3]
if not is_pending(entry) then return 0 end
local samples, named = cmsgpack.unpack(ARGV[5]), {}
for i, sample in ipairs(samples) do named[i] = sample[2] end
for i in pairs(skipped_of(named)) do samples[i][2] = '' end
for _, item in ipairs(cmsgpack.unpack(ARGV[4])) do
  call('HINCRBY', P .. 'door', item[1], item[2])
end
journal(tonumber(ARGV[6]), 'door', {entry, samples})
acknowledge(entry)
return 1
