-- needs: entries, writes
-- Ends an envelope that cannot be applied: it goes to the dead letters, whole. Changes of it that
-- were applied before the script failed have ends of their own.
-- ARGV: 3 entry id, 4 reason. Returns 1, or 0 if it is no longer pending.
local entry = ARGV[3]
if not is_pending(entry) then return 0 end
local fields = entry_of('inbox', entry)
if fields then
  call('XADD', P .. 'dead', '*', 'kind', 'envelope', 'reason', ARGV[4], 'entry', entry,
    'envelope', fields.e or '', 'changes', fields.n or '0')
  local torn = call('HGET', P .. 'torn', entry) or ':0'
  local applied = tonumber(string.match(torn, ':(%d+)$'))
  -- Whoever appended by hand may have written anything as the number of changes.
  local changes = math.floor(tonumber(fields.n) or 0)
  write_counts('ledger', {dead = changes - applied, envelopes_dead = 1})
end
call('HDEL', P .. 'torn', entry)
acknowledge(entry)
return 1
