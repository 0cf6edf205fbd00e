-- needs: clock
-- In front of every script of a partition: whose keys they are, and how late it is throughout.
--
-- ARGV[1] prefix of the partition's keys; ARGV[2] now in ms, or '' for the server's clock.
local P, call = ARGV[1], redis.call

local now = moment(ARGV[2])
