-- Notes for which server everybody was told to wait. KEYS: server. ARGV: 1 its run id.
redis.call('SET', KEYS[1], ARGV[1])
