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
